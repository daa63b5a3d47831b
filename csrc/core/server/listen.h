/* The listening sockets of a server. cd_server_listen and cd_server_stop_listening are defined here
 * too. */
#ifndef CD_LISTEN_H
#define CD_LISTEN_H

#include "net/conn.h"
#include "server/server.h"

typedef struct cd_listener cd_listener;

/* Accepts again, after max_connections or a lack of descriptors had stopped it. */
void cd_listener_resume(cd_listener *l);
/* Only closes the descriptors of all listeners: for cd_server_forsake. */
void cd_listeners_forsake(cd_server *server);
/* Returns the listener that a node of server->listeners belongs to. */
cd_listener *cd_listener_of(cd_list *link);

/* Opens a connection on the socket fd, which it owns from here on, as `how` says. The facts are
 * copied; they may be NULL. NULL: no memory, and fd was closed. */
cd_conn *cd_listen_open(cd_server *server, const cd_listen *how, int fd, const cd_addr *client,
                        const cd_addr *local, const cd_proxy_facts *facts);

#endif
