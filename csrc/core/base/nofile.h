/* Open descriptors beyond the soft limit (RLIMIT_NOFILE), up to the hard one. */
#ifndef CD_NOFILE_H
#define CD_NOFILE_H

#include <stddef.h>
#include <sys/socket.h>

/* How many descriptors the server can have: the hard limit. */
size_t cd_nofile_most(void);

/* Like accept4() with SOCK_NONBLOCK, but it works up to the hard limit. -1: errno. */
int cd_nofile_accept(int fd, struct sockaddr *peer, socklen_t *length);

/* Moves a descriptor above the soft limit when more than half of the numbers below it are used, so
 * that the application does not run short of them. Returns the new number (the old one is closed),
 * or fd itself. */
int cd_nofile_lift(int fd);

#endif
