/*
 * http2_tunnel.c - a WebSocket over HTTP/2 (RFC 8441): a stream as the transport of a connection.
 *
 * An Extended CONNECT that the application accepts gets a connection of its own, whose transport is
 * not a socket but the stream: what ws.c writes goes into the stream's output and from there into
 * DATA frames, what DATA brings is read from a buffer here. So ws.c, its timers, its back-pressure
 * and its end are the same as over HTTP/1. That connection is in the server's list, so that a
 * shutdown finds it, but does not count as one.
 *
 * The stream's window is given back as ws.c reads, so a slow application stops its own peer only.
 * FIN is END_STREAM, a reset is RST_STREAM. Reading and writing are posted to dispatch, because the
 * scratch buffer that a read goes through is taken while the frames of the outer connection are
 * parsed.
 *
 * A tunnel ends when both its connection and its stream have ended.
 */
#include "http2/http2.h"

#include "base/header.h"
#include "base/mem.h"
#include "net/server_state.h"
#include "ws/ws.h"

#include <string.h>

struct cd_http2_tunnel {
    cd_transport base;
    cd_http2_wire wire;
    cd_list link; /* in http2->tunnels */
    cd_job job;
    cd_loop *loop;
    cd_buf in; /* received, not yet read */
    int want;
    unsigned ended : 1;  /* END_STREAM came */
    unsigned gone : 1;   /* the stream has ended otherwise, or the connection around it */
    unsigned closed : 1; /* the connection on top has closed it */
};

typedef struct cd_http2_tunnel tunnel;

static tunnel *self(cd_transport *t)
{
    return cd_container(t, tunnel, base);
}

static void dispose(tunnel *t)
{
    cd_job_cancel(&t->job);
    cd_list_remove(&t->link);
    cd_buf_dispose(&t->in);
    cd_free(t);
}

/* ---- the transport ---- */

static int possible(const tunnel *t)
{
    size_t most = t->base.conn->server->limits.write_high_water;
    bool readable = cd_buf_length(&t->in) > 0 || t->ended || t->gone;
    bool writable = t->wire.out.size < most || t->gone;
    return t->want & ((readable ? CD_READ : 0) | (writable ? CD_WRITE : 0));
}

static void on_job(cd_job *job)
{
    tunnel *t = cd_container(job, tunnel, job);
    if (t->closed)
        return;
    cd_conn *c = t->base.conn;
    int events = possible(t);
    if (events != 0)
        cd_conn_on_io(c, events);
    if (c->state != CD_CONN_CLOSED && possible(t) != 0)
        cd_job_defer(t->loop, &t->job);
}

static void look(tunnel *t)
{
    if (!t->closed && possible(t) != 0)
        cd_job_post(t->loop, &t->job);
}

static ssize_t tunnel_read(cd_transport *transport, void *p, size_t n)
{
    tunnel *t = self(transport);
    size_t length = cd_buf_length(&t->in);
    if (length == 0)
        return t->gone ? CD_GONE : t->ended ? 0 : CD_AGAIN;
    n = n < length ? n : length;
    memcpy(p, cd_buf_data(&t->in), n);
    cd_buf_consume(&t->in, n);
    if (t->wire.http2 != NULL)
        cd_http2_give_back(t->wire.http2, t->ended ? 0 : t->wire.id, n);
    return (ssize_t)n;
}

static ssize_t tunnel_writev(cd_transport *transport, const struct iovec *iov, int count)
{
    tunnel *t = self(transport);
    size_t most = t->base.conn->server->limits.write_high_water, taken = 0;
    if (t->gone)
        return CD_GONE;
    for (int i = 0; i < count && t->wire.out.size < most; i++) {
        uint8_t *room = cd_output_reserve(&t->wire.out, iov[i].iov_len);
        if (room == NULL)
            return taken > 0 ? (ssize_t)taken : CD_GONE;
        memcpy(room, iov[i].iov_base, iov[i].iov_len);
        cd_output_commit(&t->wire.out, iov[i].iov_len);
        taken += iov[i].iov_len;
    }
    if (taken > 0)
        cd_http2_wake_wire(&t->wire);
    return taken > 0 ? (ssize_t)taken : CD_AGAIN;
}

static void tunnel_want(cd_transport *transport, int events)
{
    self(transport)->want = events;
    if (events != 0)
        look(self(transport));
}

static void tunnel_shutdown(cd_transport *transport)
{
    tunnel *t = self(transport);
    if (t->wire.http2 == NULL || t->wire.ending)
        return;
    t->wire.ending = 1;
    cd_http2_wake_wire(&t->wire);
}

static void tunnel_close(cd_transport *transport, bool reset)
{
    tunnel *t = self(transport);
    cd_http2 *h = t->wire.http2;
    t->closed = 1;
    cd_job_cancel(&t->job);
    if (h == NULL) {
        dispose(t);
        return;
    }
    cd_http2_give_back(h, 0, cd_buf_length(&t->in));
    cd_buf_dispose(&t->in);
    if (!reset) {
        tunnel_shutdown(transport);
        return; /* until the stream has ended too */
    }
    cd_http2_reset_wire(&t->wire, NGHTTP2_CANCEL);
    dispose(t);
}

static const cd_transport_ops tunnel_ops = {
    .read = tunnel_read,
    .writev = tunnel_writev,
    .want = tunnel_want,
    .shutdown = tunnel_shutdown,
    .close = tunnel_close,
};

/* ---- the stream's news ---- */

int cd_http2_tunnel_data(tunnel *t, const uint8_t *p, size_t n)
{
    if (t->closed) {
        cd_http2_give_back(t->wire.http2, 0, n);
        return CD_OK;
    }
    if (cd_buf_append(&t->in, p, n) < 0)
        return CD_NOMEM;
    look(t);
    return CD_OK;
}

void cd_http2_tunnel_end(tunnel *t)
{
    t->ended = 1;
    look(t);
}

void cd_http2_tunnel_drained(tunnel *t)
{
    look(t);
}

void cd_http2_tunnel_gone(tunnel *t)
{
    cd_http2 *h = t->wire.http2;
    cd_http2_give_back(h, 0, cd_buf_length(&t->in));
    cd_http2_drop_output(&t->wire, h->conn->server);
    t->wire.http2 = NULL;
    cd_list_remove(&t->link);
    if (t->closed) {
        dispose(t);
        return;
    }
    t->gone = !(t->ended && t->wire.ending);
    look(t); /* it is looked at again when its application has taken enough to read on */
}

void cd_http2_tunnel_cut(tunnel *t, uint32_t code)
{
    cd_http2_reset_wire(&t->wire, code);
    cd_http2_tunnel_gone(t);
}

void cd_http2_cut_tunnels(cd_http2 *h)
{
    cd_list_for_leaving (l, &h->tunnels) {
        tunnel *t = cd_container(l, tunnel, link);
        if (!t->ended)
            cd_http2_tunnel_cut(t, NGHTTP2_CANCEL);
    }
}

void cd_http2_sweep_tunnels(cd_http2 *h, double now)
{
    cd_list_for_leaving (l, &h->tunnels) {
        cd_http2_look_at_output(&cd_container(l, tunnel, link)->wire, now);
    }
}

/* ---- accepting ---- */

static tunnel *new_tunnel(cd_http2_stream *st)
{
    cd_conn *outer = st->base.conn;
    tunnel *t = cd_zalloc(sizeof *t);
    if (t == NULL)
        return NULL;
    t->base.ops = &tunnel_ops;
    t->base.secure = outer->transport->secure;
    t->loop = outer->loop;
    t->wire.http2 = st->wire.http2;
    t->wire.id = st->wire.id;
    t->wire.tunnel = t;
    t->ended = st->base.body_complete;
    cd_list_init(&t->link);
    cd_job_init(&t->job, on_job);
    return t;
}

/* Opens the connection on top, which owns the stream from here on. */
static cd_conn *open_inner(cd_http2_stream *st, tunnel *t)
{
    cd_stream *s = &st->base;
    cd_http2 *h = st->wire.http2;
    cd_conn *c = cd_conn_open_tunnel(s->server, &t->base, s->head.client, s->head.server);
    if (c == NULL)
        return NULL;
    cd_list_append(&h->tunnels, &t->link);
    t->in = s->in;
    cd_buf_init(&s->in);
    st->credited = st->received;
    nghttp2_session_set_stream_user_data(h->session, st->wire.id, &t->wire);
    s->conn = c;
    s->head.client = c->client;
    s->head.server = c->server_addr;
    s->head.cache = &c->cache;
    s->head_sent = 0;
    return c;
}

static int open_tunnel(cd_http2_stream *st)
{
    tunnel *t = new_tunnel(st);
    if (t == NULL)
        return CD_NOMEM;
    cd_conn_flush_later(st->base.conn);
    if (cd_http2_submit(st, &t->wire) != 0 || open_inner(st, t) == NULL) {
        cd_free(t);
        return CD_NOMEM;
    }
    return CD_OK;
}

void cd_http2_end_tunnels(cd_http2 *h)
{
    while (!cd_list_empty(&h->tunnels))
        cd_http2_tunnel_gone(cd_container(h->tunnels.next, tunnel, link));
}

/* The handshake's fields, then the application's. */
static int start_accept(cd_stream *s, cd_str subprotocol, const cd_ws_extension *extension,
                        const cd_header *headers, size_t count)
{
    char value[CD_WS_EXTENSION_SIZE];
    size_t n = 0;
    cd_header *all = cd_arena_alloc(&s->arena, (count + 2) * sizeof *all);
    if (all == NULL)
        return CD_NOMEM;
    if (subprotocol.n > 0)
        all[n++] = (cd_header){CD_STR("sec-websocket-protocol"), subprotocol};
    if (extension->on)
        all[n++] = (cd_header){CD_STR("sec-websocket-extensions"),
                               {value, cd_ws_extension_answer(extension, value)}};
    if (count > 0)
        memcpy(all + n, headers, count * sizeof *all);
    return cd_http2_stream_ops.start(s, 200, all, n + count);
}

static int accept_stream(cd_stream *s, cd_str subprotocol, const cd_ws_extension *extension,
                         const cd_header *headers, size_t count)
{
    if (start_accept(s, subprotocol, extension, headers, count) < 0)
        return CD_NOMEM;
    s->started = 0; /* there is no body for the application to write */
    return open_tunnel(cd_http2_of(s));
}

static void page(cd_stream *s, int status)
{
    cd_http2 *h = cd_http2_of(s)->wire.http2;
    cd_http2_failed(h, cd_http2_page(cd_http2_of(s), status));
}

static void cut(cd_stream *s, bool client_gone)
{
    cd_http2_stream *st = cd_http2_of(s);
    cd_http2 *h = st->wire.http2;
    cd_conn *c = s->conn;
    if (c == NULL)
        return;
    if (c == h->conn) {
        cd_http2_failed(h, cd_http2_cut(st, NGHTTP2_INTERNAL_ERROR, client_gone));
        return;
    }
    cd_stream_detach(s, client_gone);
    cd_conn_abort(c);
}

static int start(cd_stream *s, int status, const cd_header *headers, size_t count)
{
    return cd_http2_stream_ops.start(s, status, headers, count);
}

static int write_denial(cd_stream *s, cd_chunk chunk, bool more)
{
    return cd_http2_stream_ops.write(s, chunk, more);
}

static void finish(cd_stream *s, bool failed)
{
    cd_http2_stream_ops.finish(s, failed);
}

const cd_ws_carrier cd_http2_carrier = {
    .start = start,
    .write = write_denial,
    .finish = finish,
    .page = page,
    .cut = cut,
    .accept = accept_stream,
};
