/*
 * server.c - configuration, the lists that own connections and streams, and what they share: the
 * Date header, the queue of log lines, the tokens that go back to the bridge.
 *
 * Log lines and tokens are queued because they end in callbacks, and those belong to dispatch; both
 * are made in the poll phase too. A token's place in the queue is reserved when the token comes in
 * (cd_server_expect_release), so that giving it back cannot fail.
 *
 * Graceful shutdown is two functions for the bridge to call with its own deadline in between:
 * cd_server_drain asks everybody to come to an end, cd_server_cancel (stream.c, which knows what is
 * running) ends what did not.
 */
#include "server.h"

#include "conn.h"
#include "date.h"
#include "listen.h"
#include "mem.h"
#include "pending.h"
#include "stream.h"

#include <llhttp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { DESCRIPTOR_RESERVE = 64 }; /* descriptors left to the application: databases, files, pipes */

void cd_limits_init(cd_limits *limits)
{
    *limits = (cd_limits){
#define CD_TIME(name, value, doc) .name = value,
#define CD_SIZE(name, value, unit, doc) .name = value,
#include "limits.def"
#undef CD_TIME
#undef CD_SIZE
    };
}

const char *cd_llhttp_version(void)
{
#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
    return TEXT(LLHTTP_VERSION_MAJOR) "." TEXT(LLHTTP_VERSION_MINOR) "." TEXT(LLHTTP_VERSION_PATCH);
#undef TEXT
#undef TEXT_OF
}

/* ---- tokens on their way back ---- */

int cd_server_expect_release(cd_server *server)
{
    if (server->release_owed == server->release_size) {
        size_t size = server->release_size ? 2 * server->release_size : 64;
        void **releases = cd_realloc(server->releases, size * sizeof *releases);
        if (releases == NULL)
            return CD_NOMEM;
        server->releases = releases;
        server->release_size = size;
    }
    server->release_owed++;
    return CD_OK;
}

void cd_server_release(cd_server *server, void *token)
{
    if (token == NULL) {
        server->release_owed--;
        return;
    }
    server->releases[server->release_count++] = token;
    cd_job_post(server->loop, &server->release_job);
}

static void on_release_job(cd_job *job)
{
    cd_server *server = cd_container(job, cd_server, release_job);
    while (server->release_count > 0) {
        void *token = server->releases[--server->release_count];
        server->release_owed--;
        server->ops->release(server->data, token);
    }
}

/* ---- log lines ---- */

typedef struct {
    enum cd_level level;
    size_t n;
} line_head;

void cd_server_log(cd_server *server, enum cd_level level, const char *format, ...)
{
    char raw[512], line[4 * sizeof raw];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(raw, sizeof raw, format, args);
    va_end(args);
    if (n < 0)
        return;
    size_t length = (size_t)n < sizeof raw ? (size_t)n : sizeof raw - 1;
    line_head head = {level, cd_log_escape(line, raw, length)};
    uint8_t *room = cd_buf_reserve(&server->lines, sizeof head + head.n);
    if (room == NULL)
        return;
    memcpy(room, &head, sizeof head);
    memcpy(room + sizeof head, line, head.n);
    cd_buf_commit(&server->lines, sizeof head + head.n);
    cd_job_post(server->loop, &server->line_job);
}

static void on_line_job(cd_job *job)
{
    cd_server *server = cd_container(job, cd_server, line_job);
    cd_buf lines = server->lines;
    cd_buf_init(&server->lines);
    while (cd_buf_length(&lines) > 0) {
        line_head head;
        memcpy(&head, cd_buf_data(&lines), sizeof head);
        cd_str line = {(const char *)cd_buf_data(&lines) + sizeof head, head.n};
        server->ops->on_log(server->data, head.level, line);
        cd_buf_consume(&lines, sizeof head + head.n);
    }
}

static void on_log_end(cd_job *job)
{
    cd_log_flush(&cd_container(job, cd_server, log_end)->log);
}

void cd_server_set_access_fd(cd_server *server, int fd)
{
    cd_log_set_fd(&server->log, fd);
}

/* ---- headers of every response ---- */

const char *cd_server_date(cd_server *server)
{
    int64_t second = (int64_t)time(NULL);
    if (second != server->date_second) {
        struct tm tm;
        time_t t = (time_t)second;
        gmtime_r(&t, &tm);
        cd_date(server->date, sizeof server->date, "date: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm);
        server->date_second = second;
    }
    return server->date;
}

static int make_server_header(cd_server *server, const char *value)
{
    static const char name[] = "server: ";
    if (value == NULL || *value == '\0')
        return CD_OK;
    size_t n = sizeof name - 1 + strlen(value) + 2;
    server->server_header = cd_alloc(n + 1);
    if (server->server_header == NULL)
        return CD_NOMEM;
    snprintf(server->server_header, n + 1, "%s%s\r\n", name, value);
    server->server_header_length = n;
    return CD_OK;
}

static int make_deflate(cd_server *server, const cd_config *config)
{
    const cd_limits *limits = &config->limits;
    if (!config->websocket_deflate)
        return CD_OK;
    server->deflate_takeover = config->websocket_deflate_context_takeover;
    server->deflate = cd_ws_deflate_pool_new((int)limits->websocket_deflate_level,
                                             (int)limits->websocket_deflate_mem_level,
                                             limits->websocket_deflate_memory);
    return server->deflate ? CD_OK : CD_NOMEM;
}

/* ---- life ---- */

static void dispose(cd_server *server)
{
    cd_log_dispose(&server->log);
    cd_trust_dispose(&server->trust);
    cd_forwarding_dispose(&server->forwarding);
    cd_buf_dispose(&server->lines);
    cd_free(server->releases);
    cd_free(server->server_header);
    cd_ws_deflate_pool_free(server->deflate);
    cd_free(server);
}

cd_server *cd_server_new(cd_loop *loop, const cd_config *config, const cd_ops *ops, void *data)
{
    cd_server *server = cd_zalloc(sizeof *server);
    if (server == NULL)
        return NULL;
    server->loop = loop;
    server->limits = config->limits;
    server->ops = ops;
    server->data = data;
    server->date_header = config->date_header;
    server->http2 = config->http2;
    server->http2_upgrade = config->http2 && config->http2_upgrade;
    cd_list_init(&server->listeners);
    cd_list_init(&server->conns);
    cd_list_init(&server->pendings);
    cd_list_init(&server->streams);
    cd_job_init(&server->release_job, on_release_job);
    cd_job_init(&server->line_job, on_line_job);
    cd_job_init(&server->log_end, on_log_end);
    if (cd_log_init(&server->log, config) < 0 ||
        cd_trust_init(&server->trust, config->trust, NULL, 0) < 0 ||
        cd_forwarding_init(&server->forwarding, config) < 0 ||
        make_server_header(server, config->server_header) < 0 || make_deflate(server, config) < 0) {
        dispose(server);
        return NULL;
    }
    cd_loop_enter(loop);
    CD_LIVE(servers, 1);
    return server;
}

void cd_server_drain(cd_server *server)
{
    server->draining = true;
    cd_server_stop_listening(server);
    cd_pendings_drain(server);
    for (cd_list *l = server->conns.next; l != &server->conns; l = l->next) {
        cd_conn *c = cd_container(l, cd_conn, link);
        if (c->state == CD_CONN_OPEN)
            c->protocol->drain(c);
    }
}

size_t cd_server_connections(const cd_server *server)
{
    return server->conn_count;
}

size_t cd_server_streams(const cd_server *server)
{
    return server->stream_count;
}

bool cd_server_trusts(const cd_server *server, const cd_addr *peer)
{
    return cd_trust_addr(&server->trust, peer);
}

size_t cd_server_max_connections(const cd_server *server)
{
    struct rlimit limit;
    if (server->limits.max_connections > 0)
        return server->limits.max_connections;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur < 2 * DESCRIPTOR_RESERVE)
        return DESCRIPTOR_RESERVE;
    return (size_t)limit.rlim_cur - DESCRIPTOR_RESERVE;
}

void cd_server_conn_closed(cd_server *server)
{
    server->conn_count--;
    for (cd_list *l = server->listeners.next; l != &server->listeners; l = l->next)
        cd_listener_resume(cd_listener_of(l));
}

void cd_server_free(cd_server *server)
{
    if (server == NULL)
        return;
    cd_server_stop_listening(server);
    cd_pendings_close(server);
    for (cd_list *l = server->conns.next; l != &server->conns; l = l->next)
        cd_conn_abort(cd_container(l, cd_conn, link));
    for (cd_list *l = server->streams.next; l != &server->streams; l = l->next)
        cd_stream_finish(cd_container(l, cd_stream, link), true);
    cd_loop_dispatch(server->loop);
    cd_log_flush(&server->log);
    cd_job_cancel(&server->release_job);
    cd_job_cancel(&server->line_job);
    cd_job_cancel(&server->log_end);
    cd_loop_leave(server->loop);
    dispose(server);
    CD_LIVE(servers, -1);
}
