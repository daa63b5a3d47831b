/* Accepted connections whose PROXY header has not come yet. */
#ifndef CD_PENDING_H
#define CD_PENDING_H

#include "server/server.h"

/*
 * Reads the header that `how` asks for off the connected socket fd, which it owns from here on,
 * then opens the connection (cd_listen_open). It counts as a connection from now on.
 */
void cd_pending_new(cd_server *server, const cd_listen *how, int fd, const cd_addr *client,
                    const cd_addr *local);

/* Graceful shutdown: what has come is read, the rest gets as long as an idle connection. */
void cd_pendings_drain(cd_server *server);
/* Closes their descriptors and does nothing else: for cd_server_forsake. */
void cd_pendings_forsake(cd_server *server);
/* Ends them all. */
void cd_pendings_close(cd_server *server);

#endif
