/* Listening sockets of a server; cd_server_listen and cd_server_stop_listening are its
 * functions. */
#ifndef CD_LISTEN_H
#define CD_LISTEN_H

#include "net/conn.h"
#include "server/server.h"

typedef struct cd_listener cd_listener;

/* Goes on accepting after a stop at max_connections or a lack of descriptors. */
void cd_listener_resume(cd_listener *l);
/* Closes the descriptors of all listeners and does nothing else: for cd_server_forsake. */
void cd_listeners_forsake(cd_server *server);
/* The listener that a node of server->listeners belongs to. */
cd_listener *cd_listener_of(cd_list *link);

/* Opens a connection as `how` says on the socket fd, which it owns; facts are copied, or NULL.
 * NULL: no memory, and fd is closed. */
cd_conn *cd_listen_open(cd_server *server, const cd_listen *how, int fd, const cd_addr *client,
                        const cd_addr *local, const cd_proxy_facts *facts);

#endif
