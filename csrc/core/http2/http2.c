/*
 * http2.c - HTTP/2 on a connection: nghttp2's callbacks in one direction, the connection's events
 * in the other.
 *
 * nghttp2 keeps the rules of RFC 9113; what it finds wrong it answers itself, with RST_STREAM or
 * GOAWAY. Its callbacks only fill: fields and body go into the stream, on_open and on_ready are
 * posted. They never end the connection, because nghttp2 stands on it: what must happen is noted in
 * `failed` and `verdict` and done once it has returned.
 *
 * Output is made when the connection is about to be written (fill): frames of all streams that
 * answered in this turn, up to write_high_water, and more as the transport takes it.
 *
 * Flow control of input. A stream's window is given back when the application takes the body. The
 * connection's is given back at once, so that a slow application does not stop the others, as long
 * as no more than http2_connection_window is unread; beyond that it waits as well. A body whose
 * client has gone is unread until its application has ended: resetting streams frees no memory.
 *
 * A stream counts against http2_max_streams until its response is complete or its application has
 * ended: one that the client reset counts as long as the application works for it, and so does one
 * with a body that was not read. Fresh streams beyond that are refused: the peer may try again.
 *
 * Drain: one GOAWAY that names no stream, so that requests on their way are served, then after
 * drain_timeout the one that does; the connection closes when the last stream has ended.
 */
#include "http2/http2.h"

#include "base/header.h"
#include "base/mem.h"
#include "http/response.h"
#include "net/server_state.h"
#include "ws/ws.h"

#include <string.h>

enum { WINDOW_MOST = 0x7fffffff };

/* In nghttp2 since 1.57, and in older versions that distributions have patched. */
void nghttp2_option_set_stream_reset_rate_limit(nghttp2_option *option, uint64_t burst,
                                                uint64_t rate) __attribute__((weak));

/* ---- ends ---- */

bool cd_http2_failed(cd_http2 *h, int rc)
{
    if (rc != 0)
        cd_conn_abort(h->conn);
    return rc != 0;
}

static void return_window(cd_http2 *h, size_t n)
{
    size_t most = h->conn->server->limits.http2_connection_window;
    h->withheld += n;
    if (h->withheld == 0 || h->unread > most || h->session_broken)
        return;
    if (nghttp2_session_consume_connection(h->session, h->withheld) != 0)
        h->failed = 1;
    h->withheld = 0;
}

void cd_http2_give_back(cd_http2 *h, int32_t id, size_t n)
{
    h->unread -= n;
    if (h->session_broken)
        return;
    if (id != 0 && nghttp2_session_consume_stream(h->session, id, n) != 0)
        h->failed = 1;
    return_window(h, 0);
    cd_conn_flush_later(h->conn);
}

static size_t unread(const cd_http2_stream *st)
{
    return cd_buf_length(&st->base.in) - st->base.taken;
}

void cd_http2_credit(cd_http2_stream *st)
{
    cd_http2 *h = st->wire.http2;
    size_t n = (size_t)(st->received - st->credited) - unread(st);
    if (n == 0)
        return;
    st->credited += n;
    h->unread -= n;
    if (!st->base.body_complete && nghttp2_session_consume_stream(h->session, st->wire.id, n) != 0)
        h->failed = 1;
    return_window(h, 0);
    if (h->failed)
        cd_conn_abort(h->conn);
    else if (nghttp2_session_want_write(h->session))
        cd_conn_flush_later(h->conn);
}

/* Gives up the client's count of live streams when the exchange is over, not when the stream is
 * freed a turn later: the client may have sent its next request in answer to the response. */
static void uncount(cd_http2_stream *st)
{
    if (st->counted && st->wire.http2 != NULL)
        st->wire.http2->live--;
    st->counted = false;
}

/* Gives the connection's window back what the application never took. */
static void release_unread(cd_http2_stream *st)
{
    size_t n = (size_t)(st->received - st->credited);
    st->credited = st->received;
    if (n > 0 && st->wire.http2 != NULL)
        cd_http2_give_back(st->wire.http2, 0, n);
}

void cd_http2_end_exchange(cd_http2_stream *st, bool client_gone)
{
    cd_http2_drop_output(&st->wire, st->base.server);
    if (st->base.head.kind == CD_HTTP)
        cd_stream_access(&st->base, CD_COMPLETE);
    cd_stream_detach(&st->base, client_gone);
    bool holds_nothing = cd_buf_length(&st->base.in) == st->base.taken;
    if (st->base.finished || (st->base.complete && !client_gone && holds_nothing))
        uncount(st);
}

/* A stream that the bridge does not know yet. */
static void drop_stream(cd_http2_stream *st)
{
    st->base.finished = 1;
    cd_stream_detach(&st->base, false);
    uncount(st);
}

static void on_dispose(cd_stream *s)
{
    cd_http2_stream *st = cd_http2_of(s);
    cd_list_remove(&st->link);
    cd_output_dispose(&st->wire.out, s->server);
    release_unread(st);
    uncount(st);
}

static void end_stream(cd_http2_stream *st, bool client_gone)
{
    if (st->opened)
        cd_http2_end_exchange(st, client_gone);
    else
        drop_stream(st);
}

static void end_streams(cd_http2 *h)
{
    cd_list_for (l, &h->streams) {
        cd_http2_stream *st = cd_container(l, cd_http2_stream, link);
        if (st->base.conn == h->conn)
            end_stream(st, true);
    }
    h->head = NULL;
}

/* Takes what nghttp2 has to send into the connection's output, up to a mark. False: no memory. */
static bool take_output(cd_http2 *h, size_t most)
{
    cd_output *out = &h->conn->out;
    if (h->session_broken)
        return false;
    while (out->size < most) {
        const uint8_t *p;
        ssize_t n = nghttp2_session_mem_send(h->session, &p);
        if (n == 0)
            return true;
        uint8_t *room = n < 0 ? NULL : cd_output_reserve(out, (size_t)n);
        if (room == NULL)
            return false;
        memcpy(room, p, (size_t)n);
        cd_output_commit(out, (size_t)n);
    }
    return true;
}

/* Ends the connection with GOAWAY, and with it its streams. */
static void say_goodbye(cd_http2 *h, uint32_t code, const char *why)
{
    cd_conn *c = h->conn;
    h->why = why;
    end_streams(h);
    cd_http2_end_tunnels(h);
    if (nghttp2_session_terminate_session(h->session, code) != 0 || !take_output(h, SIZE_MAX))
        cd_conn_abort(c);
    else
        cd_conn_close(c, true);
}

/* ---- deadlines ---- */

static void rearm(cd_http2 *h)
{
    double first = h->head_at;
    cd_http2_sooner(&first, h->drain_at);
    cd_http2_sooner(&first, h->sweep_at);
    cd_http2_sooner(&first, h->half_at);
    if (h->active == 0)
        cd_http2_sooner(&first, h->idle_at);
    if (first == h->armed_at)
        return;
    h->armed_at = first;
    double left = first - cd_loop_now(h->conn->loop);
    cd_conn_deadline(h->conn, first == 0 ? 0 : left > 0 ? left : 1e-3);
}

/* ---- nghttp2's callbacks: heads ---- */

static int reset(cd_http2 *h, int32_t id, uint32_t code, const char *why, cd_str said)
{
    cd_http2_explain(h, id, code, &(cd_refusal){why, said});
    return nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, id, code) == 0
               ? 0
               : NGHTTP2_ERR_CALLBACK_FAILURE;
}

static cd_http2_wire *wire_of(cd_http2 *h, int32_t id)
{
    return nghttp2_session_get_stream_user_data(h->session, id);
}

static cd_http2_stream *stream_of(cd_http2 *h, int32_t id)
{
    cd_http2_wire *w = wire_of(h, id);
    return w == NULL || w->tunnel != NULL ? NULL : cd_http2_of(w->stream);
}

static cd_http2_tunnel *tunnel_of(cd_http2 *h, int32_t id)
{
    cd_http2_wire *w = wire_of(h, id);
    return w == NULL ? NULL : w->tunnel;
}

static cd_http2_stream *new_stream(cd_http2 *h, int32_t id)
{
    cd_stream *s = cd_stream_new(h->conn, &cd_http2_stream_ops, sizeof(cd_http2_stream));
    if (s == NULL)
        return NULL;
    cd_http2_stream *st = cd_http2_of(s);
    s->dispose = on_dispose;
    st->wire.http2 = h;
    st->wire.id = id;
    st->wire.stream = s;
    cd_list_append(&h->streams, &st->link);
    h->live++;
    st->counted = true;
    return st;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user_data)
{
    cd_http2 *h = user_data;
    int32_t id = frame->hd.stream_id;
    h->head = NULL;
    h->head_id = id;
    h->head_size = h->field_count = 0;
    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    h->active++;
    /* No application is run for streams that the last GOAWAY, which may still wait to be sent,
     * excludes. */
    if (h->drain == CD_HTTP2_LAST || h->live >= h->conn->server->limits.http2_max_streams)
        return reset(h, id, NGHTTP2_REFUSED_STREAM,
                     h->drain == CD_HTTP2_LAST ? "the server is stopping"
                                               : "more streams than http2_max_streams",
                     (cd_str){NULL, 0});
    h->head = new_stream(h, id);
    if (h->head == NULL || nghttp2_session_set_stream_user_data(session, id, &h->head->wire) != 0)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_size, const uint8_t *value, size_t value_size, uint8_t flags,
                     void *user_data)
{
    (void)session, (void)flags;
    cd_http2 *h = user_data;
    cd_str n = {(const char *)name, name_size}, v = {(const char *)value, value_size};
    if (h->head != NULL)
        return cd_http2_take_field(h, n, v) == CD_OK ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
    h->head_size += name_size + value_size;
    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST &&
        h->head_size > h->conn->server->limits.max_trailer_size) {
        h->head_size = 0;
        return reset(h, frame->hd.stream_id, NGHTTP2_ENHANCE_YOUR_CALM,
                     "trailer section longer than max_trailer_size", (cd_str){NULL, 0});
    }
    return 0;
}

/* An invalid field is not simply ignored: it may be an attempt at request smuggling. */
static int on_invalid_header(nghttp2_session *session, const nghttp2_frame *frame,
                             const uint8_t *name, size_t name_size, const uint8_t *value,
                             size_t value_size, uint8_t flags, void *user_data)
{
    (void)session, (void)value, (void)value_size, (void)flags;
    int rc =
        reset(user_data, frame->hd.stream_id, NGHTTP2_PROTOCOL_ERROR,
              "a header field that HTTP/2 does not allow", (cd_str){(const char *)name, name_size});
    return rc == 0 ? NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE : rc;
}

static int refuse(cd_http2 *h, cd_http2_stream *st, int status)
{
    int32_t id = st->wire.id;
    bool bodyless = cd_str_equal(st->base.head.method, CD_STR("HEAD"));
    nghttp2_session_set_stream_user_data(h->session, id, NULL);
    drop_stream(st);
    if (status == CD_NOMEM)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    if (status == CD_FRAMING)
        return reset(h, id, NGHTTP2_PROTOCOL_ERROR, st->refusal.why, st->refusal.said);
    cd_response_log_refusal(h->conn, status, &st->refusal);
    return cd_http2_submit_page(h, id, status, bodyless) == CD_OK ? 0
                                                                  : NGHTTP2_ERR_CALLBACK_FAILURE;
}

/* Unless the client says otherwise, all streams share the connection evenly: with the default of
 * RFC 9218 a long response would hold up every later one. */
static bool share_evenly(cd_http2 *h, cd_http2_stream *st)
{
    static const nghttp2_extpri fair = {.urgency = NGHTTP2_EXTPRI_DEFAULT_URGENCY, .inc = 1};
    const cd_head *head = &st->base.head;
    for (size_t i = 0; i < head->header_count; i++)
        if (cd_str_equal(head->headers[i].name, CD_STR("priority")))
            return true;
    return nghttp2_session_change_extpri_stream_priority(h->session, st->wire.id, &fair, 0) == 0;
}

static int end_head(cd_http2 *h, bool has_body)
{
    cd_http2_stream *st = h->head;
    const cd_limits *limits = &h->conn->server->limits;
    h->head = NULL;
    st->base.opened = cd_loop_now(h->conn->loop);
    int status = cd_http2_read_head(h, st, has_body);
    if (status != 0)
        return refuse(h, st, status);
    if (!share_evenly(h, st))
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    st->opened = true;
    st->base.body_complete = !has_body;
    if (st->websocket) {
        if (cd_ws_prepare(&st->base, &cd_http2_carrier) < 0)
            return NGHTTP2_ERR_CALLBACK_FAILURE;
        cd_stream_post(&st->base, CD_POST_OPEN);
        return 0;
    }
    if (has_body && !st->base.expect_continue) {
        st->body_check = cd_http2_due(h, limits->body_timeout);
        cd_http2_sooner(&h->sweep_at, st->body_check);
    }
    if (limits->http_timeout > 0)
        cd_timer_set(&st->base.timer, limits->http_timeout);
    cd_stream_post(&st->base, CD_POST_OPEN);
    return 0;
}

/* ---- nghttp2's callbacks: the rest ---- */

static void end_body(cd_http2 *h, int32_t id)
{
    cd_http2_stream *st = stream_of(h, id);
    cd_http2_note_end(h, id);
    if (tunnel_of(h, id) != NULL)
        cd_http2_tunnel_end(tunnel_of(h, id));
    if (st == NULL)
        return;
    st->base.body_complete = 1;
    st->body_check = 0;
    if (!st->websocket) /* what comes before it is accepted waits for its tunnel */
        cd_stream_wake(&st->base);
}

static int on_headers(cd_http2 *h, const nghttp2_frame *frame)
{
    bool last = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
    if (h->head != NULL && h->head->wire.id == frame->hd.stream_id) {
        if (last)
            cd_http2_note_end(h, frame->hd.stream_id);
        return end_head(h, !last);
    }
    if (last)
        end_body(h, frame->hd.stream_id);
    return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user_data)
{
    (void)session;
    cd_http2 *h = user_data;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        return on_headers(h, frame);
    case NGHTTP2_DATA:
        if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
            end_body(h, frame->hd.stream_id);
        break;
    case NGHTTP2_RST_STREAM:
        cd_http2_note_end(h, frame->hd.stream_id);
        cd_http2_count_reset(h);
        break;
    default:
        break;
    }
    return 0;
}

static int too_large(cd_http2 *h, cd_http2_stream *st)
{
    int code = st->base.head_sent ? cd_http2_cut(st, NGHTTP2_CANCEL, true) : cd_http2_page(st, 413);
    cd_response_log_refusal(h->conn, 413, &(cd_refusal){.why = "body above max_body_size"});
    return code == CD_OK ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *p, size_t n,
                   void *user_data)
{
    (void)session, (void)flags;
    cd_http2 *h = user_data;
    cd_http2_stream *st = stream_of(h, id);
    size_t most = h->conn->server->limits.max_body_size;
    cd_http2_tunnel *t = tunnel_of(h, id);
    if (t != NULL) {
        h->unread += n;
        return_window(h, n);
        return cd_http2_tunnel_data(t, p, n) < 0 || h->failed ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
    }
    if (st == NULL) {
        return_window(h, n);
        cd_http2_take_orphan_data(h, id, n);
        return h->failed ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
    }
    st->received += n;
    st->window_received += n;
    h->unread += n;
    if (cd_buf_append(&st->base.in, p, n) < 0)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    return_window(h, n);
    if (h->failed)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    if (most > 0 && st->received > most && !st->websocket)
        return too_large(h, st);
    if (!st->websocket)
        cd_stream_wake(&st->base);
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *user_data)
{
    (void)session;
    cd_http2 *h = user_data;
    cd_http2_stream *st = stream_of(h, id);
    cd_http2_end_orphan(h, id);
    if (--h->active == 0)
        h->idle_at = cd_http2_due(h, h->conn->server->limits.keep_alive_timeout);
    if (tunnel_of(h, id) != NULL)
        cd_http2_tunnel_gone(tunnel_of(h, id));
    if (id == h->head_id) /* the end of its header block is not reported */
        h->head = NULL;
    if (st == NULL)
        return 0;
    end_stream(st, code != NGHTTP2_NO_ERROR || !st->base.complete);
    return 0;
}

/* The response is sent, perhaps before the request has come completely. */
static void end_response(cd_http2 *h, int32_t id)
{
    cd_http2_stream *st = stream_of(h, id);
    cd_http2_add_orphan(h, id);
    if (st == NULL)
        return;
    nghttp2_session_set_stream_user_data(h->session, id, NULL);
    cd_http2_end_exchange(st, false);
}

static int on_error(nghttp2_session *session, int error, const char *text, size_t n,
                    void *user_data)
{
    (void)session, (void)error;
    cd_http2_note_detail(user_data, text, n);
    return 0;
}

/* Notes what nghttp2 finds wrong with a frame. */
static int on_invalid_frame(nghttp2_session *session, const nghttp2_frame *frame, int error,
                            void *user_data)
{
    (void)session;
    cd_http2_explain_frame(user_data, frame->hd.stream_id, error);
    return 0;
}

static int on_sent(nghttp2_session *session, const nghttp2_frame *frame, void *user_data)
{
    cd_http2 *h = user_data;
    cd_http2_explain_sent(h, frame);
    bool response = frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS;
    /* INTERNAL_ERROR is what our application did. */
    if (frame->hd.type == NGHTTP2_RST_STREAM && frame->rst_stream.error_code != NGHTTP2_NO_ERROR &&
        frame->rst_stream.error_code != NGHTTP2_INTERNAL_ERROR)
        cd_http2_count_reset(h);
    if (response && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) &&
        nghttp2_session_get_stream_remote_close(session, frame->hd.stream_id) == 0)
        end_response(h, frame->hd.stream_id);
    return 0;
}

/* ---- the connection's events ---- */

/* Called when nghttp2 has returned: acts on what its callbacks noted. False: the connection has
 * ended. */
static bool settle(cd_http2 *h)
{
    cd_conn *c = h->conn;
    if (h->failed) {
        cd_conn_abort(c);
        return false;
    }
    if (h->verdict != NGHTTP2_NO_ERROR) {
        say_goodbye(h, h->verdict, h->why);
        return false;
    }
    bool served = c->ended && h->active == 0;
    if (served ||
        (!nghttp2_session_want_read(h->session) && !nghttp2_session_want_write(h->session))) {
        end_streams(h);
        cd_http2_end_tunnels(h);
        cd_conn_close(c, true);
        return false;
    }
    rearm(h);
    return true;
}

static void flooded(cd_http2 *h)
{
    cd_conn_log(h->conn, CD_INFO,
                "Connection of %s closed: more than http2_queue_depth answers "
                "wait for it to read",
                cd_conn_peer(h->conn));
    cd_conn_abort(h->conn);
}

/* False: the connection has ended. */
static bool receive(cd_http2 *h, const uint8_t *p, size_t n)
{
    cd_conn *c = h->conn;
    const cd_limits *limits = &c->server->limits;
    ssize_t used = nghttp2_session_mem_recv(h->session, p, n);
    size_t queued = nghttp2_session_get_outbound_queue_size(h->session);
    if (used == NGHTTP2_ERR_BAD_CLIENT_MAGIC)
        say_goodbye(h, NGHTTP2_PROTOCOL_ERROR, "it does not begin as HTTP/2 does");
    else if (used == NGHTTP2_ERR_FLOODED ||
             queued > limits->http2_queue_depth + 2 * limits->http2_max_streams)
        flooded(h);
    else if (used == NGHTTP2_ERR_NOMEM || used == NGHTTP2_ERR_CALLBACK_FAILURE)
        cd_conn_abort(c);
    else if (used < 0) /* too many of CONTINUATION, or of settings, depending on its version */
        say_goodbye(h, NGHTTP2_ENHANCE_YOUR_CALM, nghttp2_strerror((int)used));
    return c->state == CD_CONN_OPEN;
}

/* nghttp2 gets one frame at a time, so that each is judged by what those before it did. */
static size_t on_input(cd_conn *c, const uint8_t *p, size_t n)
{
    cd_http2 *h = c->self;
    const uint8_t *end = p + n, *slice;
    size_t size;
    while ((size = cd_http2_next_frame(h, &p, end, &slice)) > 0) {
        if (!receive(h, slice, size))
            return n;
        if (h->failed || h->verdict != NGHTTP2_NO_ERROR)
            break;
    }
    if (settle(h) && nghttp2_session_want_write(h->session))
        cd_conn_flush_later(c);
    return n;
}

static void on_fill(cd_conn *c)
{
    cd_http2 *h = c->self;
    if (!take_output(h, c->server->limits.write_high_water)) {
        cd_conn_abort(c);
        return;
    }
    if (h->waiting > 0)
        cd_http2_sooner(&h->sweep_at, cd_http2_due(h, c->server->limits.write_timeout));
    settle(h);
}

static void on_eof(cd_conn *c, bool is_reset)
{
    if (!is_reset && cd_http2_half_close(c->self)) {
        rearm(c->self);
        return;
    }
    end_streams(c->self);
    cd_http2_end_tunnels(c->self);
    if (is_reset)
        cd_conn_abort(c);
    else
        cd_conn_close(c, false);
}

static void on_flushed(cd_conn *c)
{
    (void)c;
}

/* Sends the last GOAWAY, which names the newest stream that is served. */
static void say_last(cd_http2 *h)
{
    int32_t last = nghttp2_session_get_last_proc_stream_id(h->session);
    h->drain = CD_HTTP2_LAST;
    h->drain_at = 0;
    if (!cd_http2_failed(h, nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE, last,
                                                  NGHTTP2_NO_ERROR, NULL, 0)))
        cd_conn_flush_later(h->conn);
}

static void on_drain(cd_conn *c)
{
    cd_http2 *h = c->self;
    if (h->drain != CD_HTTP2_SERVING)
        return;
    h->drain = CD_HTTP2_NOTICE;
    h->drain_at = cd_http2_due(h, c->server->limits.drain_timeout);
    cd_http2_hurry_orphans(h);
    if (h->drain_at == 0)
        say_last(h);
    else if (!cd_http2_failed(h, nghttp2_submit_shutdown_notice(h->session))) {
        rearm(h);
        cd_conn_flush_later(c);
    }
}

static void on_timeout(cd_conn *c)
{
    cd_http2 *h = c->self;
    double now = cd_loop_now(c->loop);
    h->armed_at = 0;
    if (h->head_at != 0 && now >= h->head_at) {
        say_goodbye(h, NGHTTP2_PROTOCOL_ERROR, "head not complete within head_timeout");
        return;
    }
    if (h->half_at != 0 && now >= h->half_at && !cd_http2_half_tick(h)) {
        on_eof(c, true);
        return;
    }
    if (h->active == 0 && h->idle_at != 0 && now >= h->idle_at && c->out.size == 0) {
        say_goodbye(h, NGHTTP2_NO_ERROR, NULL);
        return;
    }
    if (h->active == 0 && h->idle_at != 0 && now >= h->idle_at)
        h->idle_at = cd_http2_due(h, c->server->limits.keep_alive_timeout);
    if (h->drain_at != 0 && now >= h->drain_at)
        say_last(h);
    if (c->state == CD_CONN_OPEN && h->sweep_at != 0 && now >= h->sweep_at)
        cd_http2_sweep(h);
    if (c->state == CD_CONN_OPEN)
        settle(h);
}

static void on_close(cd_conn *c)
{
    cd_http2 *h = c->self;
    end_streams(h);
    cd_http2_end_tunnels(h);
    while (!cd_list_empty(&h->streams)) {
        cd_http2_stream *st = cd_container(h->streams.next, cd_http2_stream, link);
        st->wire.http2 = NULL;
        cd_list_remove(&st->link);
    }
    while (!cd_list_empty(&h->orphans))
        cd_http2_end_orphan(h, 0);
    cd_http2_drop_session(h);
    cd_free(h->fields);
    cd_free(h);
    c->self = NULL;
}

static const cd_protocol_ops protocol = {
    .input = on_input,
    .eof = on_eof,
    .fill = on_fill,
    .flushed = on_flushed,
    .drained = on_flushed,
    .timeout = on_timeout,
    .drain = on_drain,
    .close = on_close,
};

/* ---- the beginning ---- */

static void set_options(nghttp2_option *o, const cd_limits *limits)
{
    nghttp2_option_set_no_auto_window_update(o, 1);
    nghttp2_option_set_max_outbound_ack(o, limits->http2_queue_depth);
    nghttp2_option_set_builtin_recv_extension_type(o, NGHTTP2_PRIORITY_UPDATE);
    if (nghttp2_option_set_stream_reset_rate_limit != NULL) /* ours counts both directions */
        nghttp2_option_set_stream_reset_rate_limit(o, 2 * limits->http2_reset_burst + 1,
                                                   2 * limits->http2_reset_rate + 1);
}

static void set_callbacks(nghttp2_session_callbacks *cb)
{
    nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_invalid_header_callback(cb, on_invalid_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_sent);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(cb, on_invalid_frame);
    nghttp2_session_callbacks_set_error_callback2(cb, on_error);
    nghttp2_session_callbacks_set_send_data_callback(cb, cd_http2_send_data);
}

static int new_session(cd_http2 *h)
{
    nghttp2_mem mem = cd_http2_mem(h);
    nghttp2_session_callbacks *cb = NULL;
    nghttp2_option *option = NULL;
    int rc = NGHTTP2_ERR_NOMEM;
    if (nghttp2_session_callbacks_new(&cb) == 0 && nghttp2_option_new(&option) == 0) {
        set_callbacks(cb);
        set_options(option, &h->conn->server->limits);
        rc = nghttp2_session_server_new3(&h->session, cb, h, option, &mem);
    }
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(cb);
    return rc == 0 ? CD_OK : CD_NOMEM;
}

static uint32_t at_most(size_t n, uint32_t most)
{
    return n < most ? (uint32_t)n : most;
}

static int greet(cd_http2 *h)
{
    const cd_limits *limits = &h->conn->server->limits;
    int32_t window = (int32_t)at_most(limits->http2_connection_window, WINDOW_MOST);
    nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, at_most(limits->http2_max_streams, WINDOW_MOST)},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, at_most(limits->http2_stream_window, WINDOW_MOST)},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, at_most(limits->max_head_size, UINT32_MAX)},
        {NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1},
        {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
    };
    if (nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, settings,
                                sizeof settings / sizeof *settings) != 0)
        return CD_NOMEM;
    return nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0, window) == 0
               ? CD_OK
               : CD_NOMEM;
}

/* The server was stopping before it knew that it speaks HTTP/2 here. */
static int greet_late(cd_http2 *h)
{
    h->drain = CD_HTTP2_NOTICE;
    h->drain_at = cd_loop_now(h->conn->loop) + h->conn->server->limits.drain_timeout;
    return nghttp2_submit_shutdown_notice(h->session) == 0 ? CD_OK : CD_NOMEM;
}

int cd_http2_open(cd_conn *c)
{
    cd_http2 *h = cd_zalloc(sizeof *h);
    if (h == NULL)
        return CD_NOMEM;
    h->conn = c;
    h->preface_left = NGHTTP2_CLIENT_MAGIC_LEN;
    cd_list_init(&h->streams);
    cd_list_init(&h->blocks);
    cd_list_init(&h->orphans);
    cd_list_init(&h->tunnels);
    if (new_session(h) < 0 || greet(h) < 0 || (c->server->draining && greet_late(h) < 0)) {
        cd_http2_drop_session(h);
        cd_free(h);
        return CD_NOMEM;
    }
    cd_conn_become(c, &protocol, h);
    h->head_at = h->idle_at = cd_http2_due(h, c->server->limits.head_timeout);
    cd_conn_flush_later(c);
    rearm(h);
    return CD_OK;
}

/* Without on_begin_headers: nghttp2 calls none for it. */
static int open_first(cd_http2 *h, const cd_head *head, cd_str settings)
{
    bool is_head = cd_str_is(head->method, "head");
    h->active++;
    cd_http2_note_open(h, 1);
    cd_http2_note_end(h, 1);
    h->head = new_stream(h, 1);
    if (h->head == NULL ||
        nghttp2_session_upgrade2(h->session, (const uint8_t *)settings.p, settings.n, is_head,
                                 NULL) != 0 ||
        nghttp2_session_set_stream_user_data(h->session, 1, &h->head->wire) != 0 ||
        cd_http2_take_head(h, head) < 0)
        return CD_NOMEM;
    return end_head(h, false) == 0 && !h->failed ? CD_OK : CD_NOMEM;
}

int cd_http2_upgrade(cd_conn *c, const cd_head *head, cd_str settings)
{
    if (cd_http2_open(c) < 0 || open_first(c->self, head, settings) < 0)
        return CD_NOMEM;
    rearm(c->self);
    return CD_OK;
}
