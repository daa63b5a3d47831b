/* Accepted connections whose PROXY header has not come yet. */
#ifndef CD_PENDING_H
#define CD_PENDING_H

#include "server/server.h"

/*
 * Reads the PROXY header from the connected socket fd, which it owns from here on, then opens the
 * connection (cd_listen_open). The socket counts as a connection from now on.
 */
void cd_pending_new(cd_server *server, const cd_listen *how, int fd, const cd_addr *client,
                    const cd_addr *local);

/* To be called when the graceful shutdown begins: headers that have come are read, the other
 * connections get as long as an idle one. */
void cd_pendings_drain(cd_server *server);
/* Only closes their descriptors: for cd_server_forsake. */
void cd_pendings_forsake(cd_server *server);
/* Closes all of them. */
void cd_pendings_close(cd_server *server);

#endif
