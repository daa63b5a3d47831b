/* The format of an access-log line: a template, taken apart once, filled in for every request. */
#ifndef CD_LOG_FORMAT_H
#define CD_LOG_FORMAT_H

#include "base/buf.h"
#include "cdaphne.h"

typedef struct cd_log_format cd_log_format;

/* What the fields of a line are filled from. */
typedef struct {
    const cd_access *access;
    cd_str client; /* address of the client; p == NULL: a unix socket */
    int client_port;
    int64_t time; /* seconds since the epoch */
} cd_log_entry;

/*
 * Makes a format from "daphne", "combined", "json" or a template. NULL: no memory, or else
 * `problem` (`size` bytes; may be NULL) says in one line what is wrong with the template.
 */
cd_log_format *cd_log_format_new(const char *text, char *problem, size_t size);
/* NULL is allowed. */
void cd_log_format_free(cd_log_format *format);

/* Does a line show how long the request took? Only then access->duration is read. */
bool cd_log_format_timed(const cd_log_format *format);
/* Does a line show request headers? */
bool cd_log_format_headers(const cd_log_format *format);

/* Appends one line with its line end. Returns CD_OK, or CD_NOMEM and then nothing was appended. */
int cd_log_format_write(cd_log_format *format, cd_buf *out, const cd_log_entry *entry);

#endif
