/*
 * log.c - the access log: which requests have a line, and how the lines leave.
 *
 * Lines collect during a turn of the loop and leave in one write. A descriptor that does not take
 * them (a full non-blocking pipe, a full disk) may hold back a megabyte; what comes on top is
 * counted, and the count is logged when there is room again. A slow log never stops the server.
 *
 * With a syslog head every line is a datagram of its own to a connected, non-blocking socket
 * (RFC 3164: head, date, tag, line). A system log that was restarted has left its old socket
 * behind; the socket is then connected again to the address it had.
 *
 * Not here: what a line says (log_format.c), and the reopening of files, which happens beneath the
 * descriptor, in Python.
 */
#include "log/log.h"

#include "base/date.h"
#include "base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PENDING_MOST = 1 << 20, DATAGRAM_MOST = 8192 };

/* ---- life ---- */

/* Copies a text; *copy stays NULL for NULL. */
static int copy_text(char **copy, const char *text)
{
    if (text == NULL)
        return CD_OK;
    size_t n = strlen(text) + 1;
    *copy = cd_alloc(n);
    if (*copy == NULL)
        return CD_NOMEM;
    memcpy(*copy, text, n);
    return CD_OK;
}

static int copy_list(char ***copy, const char *const *list)
{
    size_t n = 0;
    while (list != NULL && list[n] != NULL)
        n++;
    *copy = cd_zalloc((n + 1) * sizeof **copy);
    if (*copy == NULL)
        return CD_NOMEM;
    for (size_t i = 0; i < n; i++) {
        if (copy_text(&(*copy)[i], list[i]) < 0)
            return CD_NOMEM;
    }
    return CD_OK;
}

int cd_log_init(cd_log *log, const cd_config *config)
{
    *log = (cd_log){.fd = -1};
    cd_buf_init(&log->pending);
    const char *format = config->access_log_format;
    log->format = cd_log_format_new(format ? format : cd_config_default.access_log_format, NULL, 0);
    if (log->format == NULL || copy_list(&log->exclude, config->access_exclude) < 0 ||
        copy_text(&log->syslog, config->access_syslog) < 0 ||
        copy_text(&log->tag, config->access_tag) < 0) {
        cd_log_dispose(log);
        return CD_NOMEM;
    }
    cd_log_set_fd(log, config->access_fd);
    return CD_OK;
}

void cd_log_set_fd(cd_log *log, int fd)
{
    cd_log_flush(log);
    log->fd = fd;
    log->peer_size = sizeof log->peer;
    if (log->syslog == NULL || getpeername(fd, (struct sockaddr *)&log->peer, &log->peer_size) < 0)
        log->peer_size = 0;
}

void cd_log_dispose(cd_log *log)
{
    cd_log_flush(log);
    cd_buf_dispose(&log->pending);
    cd_log_format_free(log->format);
    for (char **prefix = log->exclude; prefix != NULL && *prefix != NULL; prefix++)
        cd_free(*prefix);
    cd_free(log->exclude);
    cd_free(log->syslog);
    cd_free(log->tag);
    *log = (cd_log){.fd = -1};
}

/* ---- entries ---- */

bool cd_log_wants(const cd_log *log, cd_str raw_path)
{
    for (char **prefix = log->exclude; *prefix != NULL; prefix++) {
        size_t n = strlen(*prefix);
        if (raw_path.n >= n && memcmp(raw_path.p, *prefix, n) == 0)
            return false;
    }
    return true;
}

void cd_log_access(cd_log *log, const cd_access *access)
{
    if (log->fd < 0)
        return;
    cd_log_entry entry = {.access = access, .time = (int64_t)time(NULL)};
    entry.client = cd_head_client(access->head, &entry.client_port);
    if (cd_buf_length(&log->pending) >= PENDING_MOST ||
        cd_log_format_write(log->format, &log->pending, &entry) < 0)
        log->dropped++;
}

/* ---- leaving ---- */

static bool is_full(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == ENOSPC || error == ENOBUFS;
}

/* Connects to the same address again; the socket of a system log that ended is dead. */
static bool reconnect(const cd_log *log)
{
    return log->peer_size > 0 &&
           connect(log->fd, (const struct sockaddr *)&log->peer, log->peer_size) == 0;
}

/* Returns CD_OK, CD_AGAIN when there is no room now, CD_GONE when nobody reads. */
static int send_datagram(const cd_log *log, const char *line, size_t n)
{
    char text[DATAGRAM_MOST], date[32];
    time_t now = time(NULL);
    struct tm tm;
    localtime_r(&now, &tm);
    cd_date(date, sizeof date, "%b %e %H:%M:%S", &tm);
    int size = snprintf(text, sizeof text, "%s%s%s%.*s", log->syslog, date, log->tag, (int)n, line);
    size_t length = size < (int)sizeof text ? (size_t)size : sizeof text - 1;
    if (send(log->fd, text, length, MSG_NOSIGNAL) >= 0)
        return CD_OK;
    if (is_full(errno))
        return CD_AGAIN;
    if (reconnect(log) && send(log->fd, text, length, MSG_NOSIGNAL) >= 0)
        return CD_OK;
    return CD_GONE;
}

static void flush_datagrams(cd_log *log)
{
    while (cd_buf_length(&log->pending) > 0) {
        const char *line = (const char *)cd_buf_data(&log->pending);
        const char *end = memchr(line, '\n', cd_buf_length(&log->pending));
        size_t n = (size_t)(end - line);
        int code = send_datagram(log, line, n);
        if (code == CD_AGAIN)
            return;
        if (code == CD_GONE)
            log->dropped++;
        cd_buf_consume(&log->pending, n + 1);
    }
}

static void flush_lines(cd_log *log)
{
    while (cd_buf_length(&log->pending) > 0) {
        ssize_t n = write(log->fd, cd_buf_data(&log->pending), cd_buf_length(&log->pending));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && is_full(errno))
            return;
        if (n < 0) {
            cd_buf_dispose(&log->pending); /* nobody reads any more: EPIPE, EBADF, EIO */
            return;
        }
        cd_buf_consume(&log->pending, (size_t)n);
    }
}

static void tell_dropped(cd_log *log)
{
    char line[64];
    int n = snprintf(line, sizeof line, "# access log lines lost: %zu\n", log->dropped);
    if (log->syslog != NULL ? send_datagram(log, line, (size_t)n - 1) == CD_OK
                            : write(log->fd, line, (size_t)n) == n)
        log->dropped = 0;
}

void cd_log_flush(cd_log *log)
{
    if (log->fd < 0)
        return;
    if (log->syslog != NULL)
        flush_datagrams(log);
    else
        flush_lines(log);
    if (log->dropped > 0 && cd_buf_length(&log->pending) == 0)
        tell_dropped(log);
}
