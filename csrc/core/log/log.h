/* Access log: which requests have a line, and where the lines go, in batches. */
#ifndef CD_LOG_H
#define CD_LOG_H

#include "base/buf.h"
#include "cdaphne.h"
#include "log/log_format.h"

#include <sys/socket.h>

typedef struct cd_log {
    int fd;                       /* -1: off; not owned */
    cd_log_format *format;        /* owned */
    cd_buf pending;               /* lines of this turn */
    size_t dropped;               /* lines lost because the descriptor does not take them */
    char **exclude;               /* path prefixes without a line; owned, ends with NULL */
    char *syslog;                 /* "<134>", before the date of a datagram; NULL: lines. Owned. */
    char *tag;                    /* " cdaphne[1]: ", behind the date. Owned. */
    struct sockaddr_storage peer; /* of a datagram socket: the kernel forgets one that ended */
    socklen_t peer_size;
} cd_log;

/* CD_OK or CD_NOMEM. The format was checked before, by cd_log_format_new. */
int cd_log_init(cd_log *log, const cd_config *config);
void cd_log_dispose(cd_log *log);
/* Another descriptor from now on; what is pending goes to the old one. */
void cd_log_set_fd(cd_log *log, int fd);

/* Is there to be a line for this path? */
bool cd_log_wants(const cd_log *log, cd_str raw_path);

/* Appends one line; without memory the line is counted as dropped. */
void cd_log_access(cd_log *log, const cd_access *access);
/* Writes what is pending. Called once per turn. */
void cd_log_flush(cd_log *log);

#endif
