/* Descriptors beyond the soft limit of open files. */
#ifndef CD_NOFILE_H
#define CD_NOFILE_H

#include <stddef.h>
#include <sys/socket.h>

/* Descriptors that the server can have: the hard limit. */
size_t cd_nofile_most(void);

/* accept4() of a non-blocking socket, which works as long as the hard limit allows. -1: errno. */
int cd_nofile_accept(int fd, struct sockaddr *peer, socklen_t *length);

/* The same file under a number that the application is not short of; the old number is free. */
int cd_nofile_lift(int fd);

#endif
