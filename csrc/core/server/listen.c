/*
 * listen.c - accepting connections.
 *
 * A listener takes a batch of connections per turn and leaves the rest to the next one, so that a
 * burst of new peers does not starve those who are being served. It stops accepting in two cases,
 * and lets the kernel's backlog hold the peers: at max_connections, until a connection ends; and
 * when the process or the system is out of descriptors, until one ends or a short pause is over.
 * Neither spins.
 *
 * A drain takes in who is in the backlog before the socket closes: no request is lost at a restart.
 *
 * Sockets are made, bound and listening when they come here: that is the bridge's side, where names
 * and permissions live. Accepted sockets inherit TCP_NODELAY from the listening one, which saves a
 * system call per connection.
 */
#include "server/listen.h"

#include "base/mem.h"
#include "base/nofile.h"
#include "net/conn.h"
#include "net/upcalls.h"
#include "proxy/proxy.h"
#include "server/pending.h"
#include "tls/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { BATCH = 64 };
#define PAUSE 0.1 /* seconds without accepting when descriptors ran out */

struct cd_listener {
    cd_list link; /* in server->listeners */
    ev_io io;
    ev_timer pause;
    cd_server *server;
    cd_listen how; /* with one reference to how.tls */
    cd_addr addr;
    bool wildcard; /* bound to a wildcard address: each connection has its own local address */
    bool told;     /* the log already says that accept fails */
    int fd;
};

typedef union {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    struct sockaddr_un un;
    struct sockaddr_storage storage;
} address;

static void describe(cd_addr *to, const address *from, socklen_t length)
{
    *to = (cd_addr){.port = CD_PORT_UNIX};
    if (from->any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &from->in.sin_addr, to->host, sizeof to->host);
        to->port = ntohs(from->in.sin_port);
    } else if (from->any.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &from->in6.sin6_addr, to->host, sizeof to->host);
        to->port = ntohs(from->in6.sin6_port);
    } else if (from->any.sa_family == AF_UNIX && length > offsetof(struct sockaddr_un, sun_path)) {
        size_t n = strnlen(from->un.sun_path, length - offsetof(struct sockaddr_un, sun_path));
        memcpy(to->host, from->un.sun_path, n < sizeof to->host ? n : sizeof to->host - 1);
    }
}

static bool is_wildcard(const address *a)
{
    if (a->any.sa_family == AF_INET)
        return a->in.sin_addr.s_addr == htonl(INADDR_ANY);
    return a->any.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&a->in6.sin6_addr);
}

static int local_address(int fd, cd_addr *to, bool *wildcard)
{
    address a;
    socklen_t length = sizeof a;
    memset(&a, 0, sizeof a);
    if (getsockname(fd, &a.any, &length) < 0)
        return CD_SYSTEM;
    describe(to, &a, length);
    if (wildcard != NULL)
        *wildcard = is_wildcard(&a);
    return CD_OK;
}

static cd_conn *open_over(cd_server *server, cd_transport *transport, const cd_addr *client,
                          const cd_addr *local, cd_proxy_facts *facts)
{
    cd_conn *c = cd_conn_open(server, transport, client, local);
    if (c == NULL)
        transport->ops->close(transport, true);
    else
        c->proxied = facts;
    return c;
}

cd_conn *cd_listen_open(cd_server *server, const cd_listen *how, int fd, const cd_addr *client,
                        const cd_addr *local, const cd_proxy_facts *facts)
{
    cd_proxy_facts *copy = facts != NULL ? cd_proxy_facts_new(facts) : NULL;
    cd_transport *transport = NULL;
    cd_conn *c = NULL;
    if (facts == NULL || copy != NULL)
        transport =
            how->tls != NULL ? cd_tls_accept(server, fd, how->tls) : cd_tcp_new(server->loop, fd);
    if (transport == NULL)
        close(fd);
    else
        c = open_over(server, transport, client, local, copy);
    if (c == NULL)
        cd_free(copy);
    return c;
}

static void open_connection(cd_listener *l, int fd, const address *peer, socklen_t length)
{
    cd_addr client, local = l->addr;
    describe(&client, peer, length);
    if (l->wildcard)
        local_address(fd, &local, NULL);
    if (l->how.proxy == CD_PROXY_OFF)
        cd_listen_open(l->server, &l->how, fd, &client, &local, NULL);
    else
        cd_pending_new(l->server, &l->how, fd, &client, &local);
}

static void stop(cd_listener *l)
{
    ev_io_stop(l->server->loop->ev, &l->io);
}

void cd_listener_resume(cd_listener *l)
{
    ev_timer_stop(l->server->loop->ev, &l->pause);
    ev_io_start(l->server->loop->ev, &l->io);
}

cd_listener *cd_listener_of(cd_list *link)
{
    return cd_container(link, cd_listener, link);
}

static void log_full(cd_server *server)
{
    bool by_flag = server->limits.max_connections > 0;
    if (server->full_logged)
        return;
    server->full_logged = true;
    cd_server_log(
        server, CD_WARNING, "%zu connections are open, as many as %s: new ones wait in the backlog",
        server->conn_count,
        by_flag ? "--max-connections allows" : "the limit of file descriptors allows (ulimit -n)");
}

static void on_pause_over(struct ev_loop *ev, ev_timer *timer, int events)
{
    (void)ev, (void)events;
    cd_listener_resume(cd_container(timer, cd_listener, pause));
}

static void accept_failed(cd_listener *l)
{
    /* A peer that left while it waited, or a signal: the next one may be fine. */
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ECONNABORTED || errno == EINTR)
        return;
    if (!l->told)
        cd_server_log(l->server, CD_WARNING,
                      "accept failed: %s; new connections wait in the backlog", strerror(errno));
    l->told = true;
    stop(l);
    ev_timer_set(&l->pause, PAUSE, 0);
    ev_timer_start(l->server->loop->ev, &l->pause);
}

/* Takes up to `most` peers off the backlog. False: there were no more. */
static bool take_backlog(cd_listener *l, size_t most)
{
    for (size_t i = 0; i < most; i++) {
        if (l->server->conn_count >= cd_server_max_connections(l->server))
            return true;
        address peer;
        socklen_t length = sizeof peer;
        int fd = cd_nofile_accept(l->fd, &peer.any, &length);
        if (fd < 0) {
            accept_failed(l);
            return false;
        }
        l->told = false;
        open_connection(l, fd, &peer, length);
    }
    return true;
}

static void on_connection(struct ev_loop *ev, ev_io *io, int events)
{
    (void)ev, (void)events;
    cd_listener *l = cd_container(io, cd_listener, io);
    /* counts double: its first request is probably there, so the next poll looks before it
     * sleeps */
    l->server->loop->seen += 2;
    bool more = take_backlog(l, BATCH);
    if (more && l->server->conn_count >= cd_server_max_connections(l->server)) {
        log_full(l->server);
        stop(l);
    }
}

int cd_server_listen(cd_server *server, int fd, const cd_listen *how)
{
    cd_listener *l = cd_zalloc(sizeof *l);
    if (l == NULL)
        return CD_NOMEM;
    if (local_address(fd, &l->addr, &l->wildcard) < 0) {
        cd_free(l);
        return CD_SYSTEM;
    }
    int on = 1;
    if (l->addr.port >= 0)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    l->how = how != NULL ? *how : (cd_listen){.tls = NULL};
    if (l->how.tls != NULL) {
        cd_tls_hold(l->how.tls);
        cd_tls_set_ticket_lifetime(l->how.tls, server->limits.tls_ticket_lifetime);
    }
    l->server = server;
    l->fd = fd;
    cd_list_append(&server->listeners, &l->link);
    ev_init(&l->pause, on_pause_over);
    ev_io_init(&l->io, on_connection, fd, EV_READ);
    ev_io_start(server->loop->ev, &l->io);
    return CD_OK;
}

void cd_server_stop_listening(cd_server *server)
{
    while (!cd_list_empty(&server->listeners)) {
        cd_listener *l = cd_listener_of(server->listeners.next);
        /* close() would reset the peers that wait, and they may have sent requests already */
        if (server->draining)
            take_backlog(l, SIZE_MAX);
        stop(l);
        ev_timer_stop(server->loop->ev, &l->pause);
        cd_list_remove(&l->link);
        close(l->fd);
        cd_tls_free(l->how.tls);
        cd_free(l);
    }
}

void cd_listeners_forsake(cd_server *server)
{
    cd_list_for (l, &server->listeners)
        close(cd_listener_of(l)->fd);
}
