/*
 * server.c - the life of a server: configuration, and the lists that own connections and streams.
 *
 * What connections and streams may see of it is server_state.h, floors below. The access log, the
 * trusted peers and the like are of floors between, so the state has pointers to them, and the
 * memory is one block that is made and freed here.
 *
 * Graceful shutdown is two functions for the bridge to call with its own deadline in between:
 * cd_server_drain asks everybody to come to an end, cd_server_cancel (stream.c, which knows what is
 * running) ends what did not.
 */
#include "server/server.h"

#include "base/mem.h"
#include "base/nofile.h"
#include "http/stream.h"
#include "http1/http1.h"
#include "log/log.h"
#include "net/conn.h"
#include "net/upcalls.h"
#include "proxy/forwarded.h"
#include "proxy/trust.h"
#include "server/listen.h"
#include "server/pending.h"
#include "ws/ws_deflate.h"

#include <llhttp.h>
#include <stdio.h>
#include <string.h>

/* descriptors left for the application: databases, files, pipes */
enum { DESCRIPTOR_RESERVE = 64 };

const char *cd_llhttp_version(void)
{
#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
    return TEXT(LLHTTP_VERSION_MAJOR) "." TEXT(LLHTTP_VERSION_MINOR) "." TEXT(LLHTTP_VERSION_PATCH);
#undef TEXT
#undef TEXT_OF
}

/* ---- the access log ---- */

static void on_log_end(cd_job *job)
{
    cd_log_flush(cd_container(job, cd_server, log_end)->log);
}

void cd_server_set_access_fd(cd_server *server, int fd)
{
    cd_log_set_fd(server->log, fd);
}

/* ---- headers of every response ---- */

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
    server->deflate = cd_ws_deflate_pool_new((int)limits->websocket_deflate_level,
                                             (int)limits->websocket_deflate_mem_level,
                                             limits->websocket_deflate_memory);
    return server->deflate ? CD_OK : CD_NOMEM;
}

/* ---- life ---- */

/* Allocates a server and the parts that its connections see by a pointer only. */
typedef struct {
    cd_server server;
    cd_log log;
    cd_trust trust;
    cd_forwarding forwarding;
} whole;

static void dispose(cd_server *server)
{
    cd_log_dispose(server->log);
    cd_trust_dispose(server->trust);
    cd_forwarding_dispose(server->forwarding);
    cd_upcalls_dispose(server);
    cd_free(server->server_header);
    cd_ws_deflate_pool_free(server->deflate);
    cd_free(cd_container(server, whole, server));
}

static void on_conn_closed(cd_server *server)
{
    server->conn_count--;
    /* Logs it again only when there were clearly fewer connections for a while: at the limit every
     * end makes room for one. */
    if (server->full_logged && 2 * server->conn_count < cd_server_max_connections(server))
        server->full_logged = false;
    cd_list_for (l, &server->listeners)
        cd_listener_resume(cd_listener_of(l));
}

/* Allocates the server and does everything that cannot fail. NULL: no memory. */
static cd_server *new_server(cd_loop *loop, const cd_config *config)
{
    whole *all = cd_zalloc(sizeof *all);
    if (all == NULL)
        return NULL;
    cd_server *server = &all->server;
    server->loop = loop;
    server->limits = config->limits;
    server->first_protocol = &cd_http1_protocol;
    server->conn_closed = on_conn_closed;
#define CD_FLAG(name, ...) server->name = config->name;
#include "options.def"
    server->log = &all->log;
    server->trust = &all->trust;
    server->forwarding = &all->forwarding;
    cd_list_init(&server->listeners);
    cd_list_init(&server->conns);
    cd_list_init(&server->pendings);
    cd_list_init(&server->streams);
    cd_upcalls_init(server);
    cd_job_init(&server->log_end, on_log_end);
    return server;
}

cd_server *cd_server_new(cd_loop *loop, const cd_config *config, const cd_ops *ops, void *data)
{
    cd_server *server = new_server(loop, config);
    if (server == NULL)
        return NULL;
    server->ops = ops;
    server->data = data;
    if (cd_log_init(server->log, config) < 0 ||
        cd_trust_init(server->trust, config->forwarded_allow_ips, NULL, 0) < 0 ||
        cd_forwarding_init(server->forwarding, config) < 0 ||
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
    cd_list_for (l, &server->conns) {
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

bool cd_server_trusts(cd_server *server, const cd_addr *peer, const char *header)
{
    if (cd_trust_addr(server->trust, peer))
        return true;
    cd_strangers_name(server, peer, header);
    return false;
}

size_t cd_server_max_connections(const cd_server *server)
{
    if (server->limits.max_connections > 0)
        return server->limits.max_connections;
    size_t most = cd_nofile_most();
    return most < 2 * DESCRIPTOR_RESERVE ? DESCRIPTOR_RESERVE : most - DESCRIPTOR_RESERVE;
}

void cd_server_free(cd_server *server)
{
    if (server == NULL)
        return;
    cd_server_stop_listening(server);
    cd_pendings_close(server);
    cd_list_for (l, &server->conns)
        cd_conn_abort(cd_container(l, cd_conn, link));
    cd_list_for (l, &server->streams)
        cd_stream_finish(cd_container(l, cd_stream, link), true);
    cd_loop_dispatch(server->loop);
    cd_log_flush(server->log);
    cd_job_cancel(&server->log_end);
    cd_loop_leave(server->loop);
    dispose(server);
    CD_LIVE(servers, -1);
}
