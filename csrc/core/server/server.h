/* What the files of the server share: listeners, accepted connections, the end of all. */
#ifndef CD_SERVER_H
#define CD_SERVER_H

#include "net/server_state.h"

/* Closes the listening sockets (listen.c). */
void cd_server_stop_listening(cd_server *server);

/* How many connections there may be: max_connections, or fewer when the descriptors do not
 * suffice. */
size_t cd_server_max_connections(const cd_server *server);

#endif
