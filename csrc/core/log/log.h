/* The access log: decides which requests get a line, and writes the lines in batches. */
#ifndef CD_LOG_H
#define CD_LOG_H

#include "base/buf.h"
#include "cdaphne.h"
#include "log/log_format.h"

#include <sys/socket.h>

typedef struct cd_log {
    int fd;                /* -1: off; not owned */
    cd_log_format *format; /* owned */
    cd_buf pending;        /* lines of this turn */
    size_t dropped;        /* lines lost because the descriptor did not take them */
    char **exclude;        /* paths that begin so get no line; owned, ends with NULL */
    /* "<134>", the beginning of each datagram; NULL: lines to a file. Owned. */
    char *syslog;
    char *tag; /* " cdaphne[1]: ", follows the date. Owned. */
    /* peer of a datagram socket: the kernel forgets it when it has ended */
    struct sockaddr_storage peer;
    socklen_t peer_size;
} cd_log;

/* Returns CD_OK or CD_NOMEM. The format must have been checked by cd_log_format_new. */
int cd_log_init(cd_log *log, const cd_config *config);
void cd_log_dispose(cd_log *log);
/* Changes the descriptor; pending lines are written to the old one. */
void cd_log_set_fd(cd_log *log, int fd);

/* Does a request with this path get a line? */
bool cd_log_wants(const cd_log *log, cd_str raw_path);

/* Appends one line; without memory the line is counted as dropped. */
void cd_log_access(cd_log *log, const cd_access *access);
/* Writes the pending lines. Called once a turn. */
void cd_log_flush(cd_log *log);

#endif
