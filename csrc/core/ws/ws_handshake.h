/* The opening handshake (RFC 6455, 4.2) as questions to a request head and one answer: no
 * connection, no I/O. */
#ifndef CD_WS_HANDSHAKE_H
#define CD_WS_HANDSHAKE_H

#include "base/arena.h"
#include "cdaphne.h"

enum { CD_WS_ACCEPT_SIZE = 28 };

/* The value of Sec-WebSocket-Accept for a key; not NUL-terminated. */
void cd_ws_accept_value(cd_str key, char value[CD_WS_ACCEPT_SIZE]);

/* Lists what the head offers in Sec-WebSocket-Protocol, in order, in the arena. CD_OK or
 * CD_NOMEM. */
int cd_ws_list_subprotocols(cd_head *head, cd_arena *arena);

/* Was it offered? Needs the list. */
bool cd_ws_is_offered(const cd_head *head, cd_str subprotocol);

/* May the application add this header to the 101 response? CD_OK; CD_NAME or CD_VALUE: malformed,
 * or the server's own to say. */
int cd_ws_check_header(const cd_header *header);

#endif
