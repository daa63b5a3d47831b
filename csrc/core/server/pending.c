/*
 * pending.c - between accept and the first byte of TLS or HTTP: the PROXY header.
 *
 * What stands here is no connection for anybody else yet, so that none of the layers above must
 * know of PROXY: they get a descriptor on which the header never was. For that the socket is looked
 * at with MSG_PEEK, and what surely is header is taken off it; of a header that comes in pieces the
 * pieces are kept here, up to the bound of its version, because what stays in the socket would wake
 * us all the time.
 *
 * Only where the header is optional bytes can come that may or may not begin one ("PR": PROXY or
 * PRI). They must stay in the socket, so we look again a little later, each time twice as long.
 *
 * Whoever is not on the list of trusted peers may not send a header. Every refusal closes the
 * connection before anything was sent, with one line in the log; a peer that leaves without a word
 * (a load balancer's check) gets none.
 */
#include "server/pending.h"

#include "base/mem.h"
#include "net/conn.h"
#include "net/upcalls.h"
#include "proxy/proxy.h"
#include "proxy/trust.h"
#include "server/listen.h"
#include "tls/tls.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FIRST_LOOK 0.01 /* seconds until the next look at bytes that may still become anything */

enum { UNTRUSTED_MOST = 12 }; /* as many bytes as are needed to recognize a header */

typedef struct {
    cd_list link; /* in server->pendings */
    cd_server *server;
    cd_listen how;
    cd_addr client, local;
    ev_io io;
    cd_timer timer;
    cd_buf head;     /* the part of the header that was read from the socket */
    double deadline; /* in the loop's time; 0: none */
    double again;    /* seconds until the next look; 0: when the socket is readable */
    int fd;
    bool trusted;
} pending;

/* ---- the end ---- */

static void release(pending *p)
{
    ev_io_stop(p->server->loop->ev, &p->io);
    cd_timer_dispose(&p->timer);
    cd_list_remove(&p->link);
    cd_buf_dispose(&p->head);
    cd_tls_free(p->how.tls);
    cd_free(p);
    CD_LIVE(connections, -1);
}

static void drop(pending *p)
{
    cd_server *server = p->server;
    close(p->fd);
    release(p);
    server->conn_closed(server);
}

static void log_refusal(cd_server *server, const cd_addr *client, const char *what, const char *why)
{
    cd_server_log(server, CD_INFO, "Connection of %s refused: %s%s", cd_addr_name(client), what,
                  why);
}

static void refuse(pending *p, const char *what, const char *why)
{
    log_refusal(p->server, &p->client, what, why);
    drop(p);
}

static void refuse_untrusted(cd_server *server, const cd_addr *client)
{
    log_refusal(server, client, "a PROXY header is believed of trusted peers only",
                " (--forwarded-allow-ips)");
}

/* Opens the connection on a descriptor that nothing watches, with what the header told. */
static void pass_on(pending *p, const cd_proxy_header *h)
{
    cd_server *server = p->server;
    if (h->told) {
        p->client = h->client;
        p->local = h->server;
    }
    server->conn_count--; /* the connection counts itself from here on */
    cd_conn *c = cd_listen_open(server, &p->how, p->fd, &p->client, &p->local,
                                cd_proxy_tells(&h->facts) ? &h->facts : NULL);
    if (c == NULL)
        server->conn_count++;
    if (c != NULL && server->draining)
        c->protocol->drain(c);
    release(p);
    if (c == NULL)
        server->conn_closed(server);
}

/* ---- looking ---- */

static void set_timer(pending *p)
{
    double now = cd_loop_now(p->server->loop), first = p->deadline;
    if (p->again > 0 && (first == 0 || now + p->again < first))
        first = now + p->again;
    if (first == 0)
        cd_timer_stop(&p->timer);
    else
        cd_timer_set(&p->timer, first > now ? first - now : 1e-3);
}

/* The bytes must stay in the socket, so only time can tell more. */
static void look_later(pending *p)
{
    ev_io_stop(p->server->loop->ev, &p->io);
    p->again = p->again == 0 ? FIRST_LOOK : p->again < 1 ? 2 * p->again : p->again;
    set_timer(p);
}

/* Removes the n bytes of the header from the socket. False: the peer has gone. */
static bool take(pending *p, size_t n)
{
    /* to the place where they are already, so the texts of the header stay valid */
    uint8_t *at = p->server->loop->scratch;
    while (n > 0) {
        ssize_t taken = recv(p->fd, at, n, 0);
        if (taken <= 0)
            return false;
        at += taken;
        n -= (size_t)taken;
    }
    return true;
}

/* The header has begun or is required, and `fresh` bytes of it have come. */
static void keep(pending *p, size_t fresh)
{
    if (cd_buf_append(&p->head, p->server->loop->scratch, fresh) < 0 || !take(p, fresh)) {
        drop(p);
        return;
    }
    p->again = 0;
    ev_io_start(p->server->loop->ev, &p->io);
}

static void decide(pending *p, enum cd_proxy_verdict verdict, const cd_proxy_header *h,
                   size_t fresh)
{
    bool optional = p->how.proxy == CD_PROXY_OPTIONAL;
    if (!p->trusted && h->begun) {
        refuse_untrusted(p->server, &p->client);
        drop(p);
    } else if (verdict == CD_PROXY_NONE && optional) {
        pass_on(p, h);
    } else if (verdict == CD_PROXY_NONE) {
        refuse(p, "it does not begin with a PROXY header", "");
    } else if (verdict == CD_PROXY_BAD) {
        refuse(p, "its PROXY header is bad: ", h->why);
    } else if (verdict == CD_PROXY_MORE && optional && !h->begun) {
        look_later(p);
    } else if (verdict == CD_PROXY_MORE) {
        keep(p, fresh);
    } else if (take(p, h->size - cd_buf_length(&p->head))) {
        pass_on(p, h);
    } else {
        drop(p);
    }
}

/* The bytes that were kept and those in the socket, in one piece; in the scratch buffer when none
 * were kept. */
static const uint8_t *join(pending *p, size_t fresh)
{
    if (cd_buf_length(&p->head) == 0)
        return p->server->loop->scratch;
    uint8_t *room = cd_buf_reserve(&p->head, fresh);
    if (room == NULL)
        return NULL;
    memcpy(room, p->server->loop->scratch, fresh); /* decide() commits them */
    return cd_buf_data(&p->head);
}

static void look(pending *p)
{
    enum { V1_MOST = 107 };
    cd_proxy_header h;
    size_t held = cd_buf_length(&p->head), most = p->server->limits.max_proxy_size;
    size_t room = p->trusted ? (most > V1_MOST ? most : V1_MOST) : UNTRUSTED_MOST;
    if (room > CD_SCRATCH_SIZE)
        room = CD_SCRATCH_SIZE;
    ssize_t n = recv(p->fd, p->server->loop->scratch, room - held, MSG_PEEK);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return;
    const uint8_t *bytes = n > 0 ? join(p, (size_t)n) : NULL;
    if (bytes == NULL)
        drop(p);
    else
        decide(p, cd_proxy_read(bytes, held + (size_t)n, most, &h), &h, (size_t)n);
}

static void on_readable(struct ev_loop *ev, ev_io *io, int events)
{
    (void)ev, (void)events;
    look(cd_container(io, pending, io));
}

static void on_timer(cd_timer *timer)
{
    pending *p = cd_container(timer, pending, timer);
    const cd_proxy_header none = {.size = 0};
    if (p->deadline == 0 || cd_loop_now(p->server->loop) < p->deadline) {
        set_timer(p);
        if (p->again > 0)
            look(p);
    } else if (p->how.proxy == CD_PROXY_OPTIONAL && cd_buf_length(&p->head) == 0) {
        pass_on(p, &none); /* a slow client, and HTTP has its own timers */
    } else {
        refuse(p, "its PROXY header did not come in time", " (--proxy-timeout)");
    }
}

/* ---- the beginning, and the end of all ---- */

void cd_pending_new(cd_server *server, const cd_listen *how, int fd, const cd_addr *client,
                    const cd_addr *local)
{
    bool trusted = cd_trust_addr(server->trust, client);
    if (!trusted && how->proxy == CD_PROXY_REQUIRED)
        refuse_untrusted(server, client);
    pending *p = trusted || how->proxy != CD_PROXY_REQUIRED ? cd_zalloc(sizeof *p) : NULL;
    if (p == NULL) {
        close(fd);
        return;
    }
    p->server = server;
    p->how = *how;
    if (how->tls != NULL)
        cd_tls_hold(how->tls);
    p->client = *client;
    p->local = *local;
    p->fd = fd;
    p->trusted = trusted;
    cd_list_append(&server->pendings, &p->link);
    server->conn_count++;
    CD_LIVE(connections, 1);
    cd_timer_init(&p->timer, server->loop, on_timer);
    if (server->limits.proxy_timeout > 0)
        p->deadline = cd_loop_now(server->loop) + server->limits.proxy_timeout;
    set_timer(p);
    ev_io_init(&p->io, on_readable, fd, EV_READ);
    ev_io_start(server->loop->ev, &p->io);
}

void cd_pendings_drain(cd_server *server)
{
    cd_list_for_leaving (l, &server->pendings) {
        look(cd_container(l, pending, link));
    }
    cd_list_for (l, &server->pendings) {
        pending *p = cd_container(l, pending, link);
        double end = cd_loop_now(server->loop) + server->limits.drain_timeout;
        if (p->deadline == 0 || end < p->deadline)
            p->deadline = end;
        set_timer(p);
    }
}

void cd_pendings_close(cd_server *server)
{
    while (!cd_list_empty(&server->pendings))
        drop(cd_container(server->pendings.next, pending, link));
}

void cd_pendings_forsake(cd_server *server)
{
    cd_list_for (l, &server->pendings)
        close(cd_container(l, pending, link)->fd);
}
