/* Peers that send proxy headers and are not trusted. Each is named in the log once. */
#ifndef CD_STRANGERS_H
#define CD_STRANGERS_H

#include "net/server_state.h"
#include "proxy/trust.h"

enum { CD_STRANGERS_NAMED = 16 };

typedef struct cd_strangers {
    cd_ip named[CD_STRANGERS_NAMED];
    unsigned count;
    /* heads that are still to be searched for proxy headers while those are off */
    unsigned looks_left;
} cd_strangers;

void cd_strangers_init(cd_strangers *s);

/* Logs that a peer which is not trusted sent this proxy header. */
void cd_strangers_name(cd_server *server, const cd_addr *peer, const char *header);

/* To be called while proxy headers are off: looks for them in the first heads of a server, and logs
 * them. */
void cd_strangers_look(cd_server *server, const cd_head *head);

#endif
