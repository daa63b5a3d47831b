/*
 * log.c - the access log in daphne's format, and the escaping of text that peers sent.
 *
 *     127.0.0.1:52000 - - [23/Nov/2026:14:41:10] "GET /path?query" 200 1234
 *
 * Local time without a zone, the client without brackets, a WebSocket as WSCONNECTING, WSCONNECT,
 * WSREJECT or WSDISCONNECT: people have scripts that read these lines. Unlike daphne's, a line is
 * always one line: control characters and bytes above 0x7e are written as \xNN, so a peer cannot
 * forge entries or talk to a terminal.
 *
 * Lines collect during a turn of the loop and leave in one write. A descriptor that does not take
 * them (a full non-blocking pipe, a full disk) may hold back a megabyte; what comes on top is
 * counted, and the count is logged when there is room again. A slow log never stops the server.
 */
#include "log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PENDING_MOST = 1 << 20 };

void cd_log_init(cd_log *log, int fd)
{
    *log = (cd_log){.fd = fd, .second = -1};
    cd_buf_init(&log->pending);
}

void cd_log_dispose(cd_log *log)
{
    cd_log_flush(log);
    cd_buf_dispose(&log->pending);
}

size_t cd_log_escape(char *to, const char *text, size_t n)
{
    static const char hex[] = "0123456789abcdef";
    char *p = to;
    for (size_t i = 0; i < n; i++) {
        unsigned char byte = (unsigned char)text[i];
        if (byte >= 0x20 && byte < 0x7f && byte != '\\') {
            *p++ = (char)byte;
            continue;
        }
        *p++ = '\\';
        if (byte == '\\') {
            *p++ = '\\';
            continue;
        }
        *p++ = 'x';
        *p++ = hex[byte >> 4];
        *p++ = hex[byte & 15];
    }
    return (size_t)(p - to);
}

static const char *stamp(cd_log *log)
{
    int64_t second = (int64_t)time(NULL);
    if (second != log->second) {
        time_t t = (time_t)second;
        struct tm tm;
        localtime_r(&t, &tm);
        strftime(log->stamp, sizeof log->stamp, "%d/%b/%Y:%H:%M:%S", &tm);
        log->second = second;
    }
    return log->stamp;
}

static const char *verb(enum cd_action action)
{
    switch (action) {
    case CD_CONNECTING:
        return "WSCONNECTING";
    case CD_CONNECTED:
        return "WSCONNECT";
    case CD_REJECTED:
        return "WSREJECT";
    case CD_DISCONNECTED:
        return "WSDISCONNECT";
    case CD_COMPLETE:
        break;
    }
    return NULL;
}

/* "host:port", or None where there is no such thing, as daphne has it. */
static int client_text(char *to, size_t size, const cd_addr *client)
{
    if (client->port < 0)
        return snprintf(to, size, "None");
    return snprintf(to, size, "%s:%d", client->host, client->port);
}

static size_t request_text(char *to, const cd_access *access)
{
    const char *name = verb(access->action);
    cd_str method = name != NULL ? (cd_str){name, strlen(name)} : access->head->method;
    cd_str target = name != NULL ? access->head->raw_path : access->head->target;
    size_t n = cd_log_escape(to, method.p, method.n);
    to[n++] = ' ';
    return n + cd_log_escape(to + n, target.p, target.n);
}

static size_t result_text(char *to, size_t size, const cd_access *access)
{
    char status[16] = "-", length[24] = "-";
    if (access->action == CD_COMPLETE && access->status > 0)
        snprintf(status, sizeof status, "%d", access->status);
    if (access->action == CD_COMPLETE && access->size > 0)
        snprintf(length, sizeof length, "%llu", (unsigned long long)access->size);
    return (size_t)snprintf(to, size, "\" %s %s\n", status, length);
}

static size_t room_for(const cd_access *access)
{
    return 4 * (access->head->target.n + access->head->method.n) + 320;
}

void cd_log_access(cd_log *log, const cd_access *access)
{
    char client[128];
    if (log->fd < 0)
        return;
    char *line = NULL;
    if (cd_buf_length(&log->pending) < PENDING_MOST)
        line = (char *)cd_buf_reserve(&log->pending, room_for(access));
    if (line == NULL) {
        log->dropped++;
        return;
    }
    client_text(client, sizeof client, access->head->client);
    size_t n = (size_t)snprintf(line, 256, "%s - - [%s] \"", client, stamp(log));
    n += request_text(line + n, access);
    n += result_text(line + n, 64, access);
    cd_buf_commit(&log->pending, n);
}

static void tell_dropped(cd_log *log)
{
    char line[64];
    int n = snprintf(line, sizeof line, "# %zu access log lines lost\n", log->dropped);
    if (write(log->fd, line, (size_t)n) == n)
        log->dropped = 0;
}

void cd_log_flush(cd_log *log)
{
    while (log->fd >= 0 && cd_buf_length(&log->pending) > 0) {
        ssize_t n = write(log->fd, cd_buf_data(&log->pending), cd_buf_length(&log->pending));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOSPC))
            return;
        if (n < 0) {
            cd_buf_dispose(&log->pending); /* nobody is there to read: EPIPE, EBADF, EIO */
            return;
        }
        cd_buf_consume(&log->pending, (size_t)n);
    }
    if (log->dropped > 0 && log->fd >= 0)
        tell_dropped(log);
}
