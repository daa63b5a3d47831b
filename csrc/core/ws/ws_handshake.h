/* The rules of the opening handshake (RFC 6455, 4.2). They need a request head only: no connection,
 * no I/O. */
#ifndef CD_WS_HANDSHAKE_H
#define CD_WS_HANDSHAKE_H

#include "base/arena.h"
#include "cdaphne.h"

enum { CD_WS_ACCEPT_SIZE = 28 };

/* Computes the value of Sec-WebSocket-Accept for a key; it is not NUL-terminated. */
void cd_ws_accept_value(cd_str key, char value[CD_WS_ACCEPT_SIZE]);

/* Lists the subprotocols of Sec-WebSocket-Protocol in head->subprotocols, in order, in the arena.
 * Returns CD_OK or CD_NOMEM. */
int cd_ws_list_subprotocols(cd_head *head, cd_arena *arena);

/* Was this subprotocol offered? Call cd_ws_list_subprotocols before. */
bool cd_ws_is_offered(const cd_head *head, cd_str subprotocol);

/* May the application add this header to the 101 response? CD_OK: yes. CD_NAME or CD_VALUE: it is
 * malformed, or only the server may set it. */
int cd_ws_check_header(const cd_header *header);

#endif
