/* Listening sockets of a server; cd_server_listen and cd_server_stop_listening are its functions.
 */
#ifndef CD_LISTEN_H
#define CD_LISTEN_H

#include "server.h"

typedef struct cd_listener cd_listener;

/* Goes on accepting after a stop at max_connections or a lack of descriptors. */
void cd_listener_resume(cd_listener *l);
/* The listener that a node of server->listeners belongs to. */
cd_listener *cd_listener_of(cd_list *link);

#endif
