/* Access log in daphne's format, written in batches, and escaping of text that came from a peer. */
#ifndef CD_LOG_H
#define CD_LOG_H

#include "buf.h"
#include "cdaphne.h"

typedef struct {
    int fd;         /* -1: off; not owned */
    cd_buf pending; /* lines of this turn */
    size_t dropped; /* lines lost because the descriptor does not take them */
    int64_t second; /* of `stamp` */
    char stamp[32]; /* "dd/Mon/yyyy:HH:MM:SS", local time */
} cd_log;

void cd_log_init(cd_log *log, int fd);
void cd_log_dispose(cd_log *log);
/* Appends one line; without memory the line is counted as dropped. */
void cd_log_access(cd_log *log, const cd_access *access);
/* Writes what is pending. Called once per turn. */
void cd_log_flush(cd_log *log);

/*
 * Copies text so that it is one line of printable ASCII: other bytes become \xNN, a backslash
 * becomes \\. Returns bytes written, at most 4 * n; nothing is NUL-terminated.
 */
size_t cd_log_escape(char *to, const char *text, size_t n);

#endif
