/* Peers whose word is not taken although they speak as proxies do: each is named in the log
 * once. */
#ifndef CD_STRANGERS_H
#define CD_STRANGERS_H

#include "net/server_state.h"
#include "proxy/trust.h"

enum { CD_STRANGERS_NAMED = 16 };

typedef struct cd_strangers {
    cd_ip named[CD_STRANGERS_NAMED];
    unsigned count;
    unsigned looks_left; /* heads to be looked at while proxy headers are off */
} cd_strangers;

void cd_strangers_init(cd_strangers *s);

/* A header of a proxy's came from a peer that is not trusted. */
void cd_strangers_name(cd_server *server, const cd_addr *peer, const char *header);

/* Proxy headers are off: does this head, one of the server's first, have any? */
void cd_strangers_look(cd_server *server, const cd_head *head);

#endif
