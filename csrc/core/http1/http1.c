/*
 * http1.c - the connection and request side of HTTP/1: parser, body, pipelining, timers.
 *
 * llhttp, with every lenient flag off, finds the borders of fields, chunks and messages; its
 * callbacks only note offsets and count. Chunk lines reach it through http1_chunk.c. When a head is
 * complete http1_head.c makes a stream's head of it and on_open is posted, before the body has
 * come: bodies are streamed. One request is under way at a time. The parser stops at the end of a
 * message and goes on when the response is complete, so responses are in order by themselves, and
 * pipelined requests wait unparsed in the connection's input, up to read_ahead_size.
 *
 * Reading stays armed while an application computes, because that is how its client's leaving is
 * noticed, and stops only while unread body stands above body_high_water. A client that shuts down
 * its sending side may still wait for answers: see http1_half.c.
 *
 * Everything a peer can make us hold is bounded: the head by bytes and fields, the target, a body
 * by the high-water mark, chunk lines and trailers by their own limits, the rest of an unread body
 * by discard_size. And everything it can make us wait for has a deadline: the head, a body's
 * minimum rate, the pause between two requests.
 *
 * A fault of the peer is answered with a constant page and the end of the connection; nothing
 * behind it is parsed any more.
 */
#include "http1/http1.h"

#include "base/header.h"
#include "base/mem.h"
#include "http/response.h"
#include "http2/http2.h"
#include "net/server_state.h"
#include "ws/ws.h"

#include <string.h>

enum { FIELDS_KEPT = 32 }; /* room for header offsets that a connection keeps between requests */

static const llhttp_settings_t settings;
static const cd_stream_ops http1_stream_ops;

/* ---- life of a message ---- */

static void reset_message(cd_conn *c)
{
    cd_http1 *h = c->self;
    llhttp_init(&h->parser, HTTP_REQUEST, &settings);
    h->parser.data = c;
    h->field_count = 0;
    h->target_size = 0;
    h->fault = 0;
    h->refusal = (cd_refusal){.why = NULL};
    h->content_length = h->body_size = h->received = 0;
    h->chunk = h->chunk_extra = 0;
    h->chunk_state = 0;
    h->settings = (cd_str){NULL, 0};
    h->trailer_size = h->discarded = 0;
    h->phase = CD_HTTP1_IDLE;
    h->field_open = h->complete = 0;
}

static int on_connect(cd_conn *c)
{
    cd_http1 *h = cd_zalloc(sizeof *h);
    if (h == NULL)
        return CD_NOMEM;
    c->self = h;
    cd_buf_init(&h->head);
    h->fresh = 1;
    reset_message(c);
    cd_conn_deadline(c, c->server->limits.head_timeout);
    return CD_OK;
}

/* Frees what the parser holds. */
static void dispose(cd_http1 *h)
{
    cd_buf_dispose(&h->head);
    cd_free(h->fields);
    h->fields = NULL;
    h->field_size = 0;
}

/* Must not be called while the parser runs. */
static void on_free(cd_conn *c)
{
    if (c->self == NULL)
        return;
    dispose(c->self);
    cd_free(c->self);
    c->self = NULL;
}

/* The connection is free for the next request. Pipelined requests are served at once, but not
 * without an end: others must get their turn. */
static void next_request(cd_conn *c)
{
    cd_http1 *h = c->self;
    h->stream = NULL;
    reset_message(c);
    if (h->field_size > FIELDS_KEPT) {
        cd_free(h->fields);
        h->fields = NULL;
        h->field_size = 0;
    }
    if (cd_buf_length(&c->in) == 0) {
        h->served = 0;
        cd_conn_deadline(c, c->server->limits.keep_alive_timeout);
        if (c->ended)
            cd_conn_close(c, false);
        return;
    }
    cd_conn_deadline(c, 0);
    if (cd_conn_pressure(c) == CD_AGAIN)
        return; /* on_drained continues */
    if (++h->served < c->server->limits.pipeline_depth) {
        cd_conn_resume(c);
    } else {
        h->served = 0;
        cd_conn_resume_later(c);
    }
}

static void start_window(cd_conn *c)
{
    cd_http1_of(c)->received = 0;
    cd_conn_deadline(c, c->server->limits.body_timeout);
}

void cd_http1_responded(cd_stream *s)
{
    cd_conn *c = s->conn;
    cd_http1 *h = c->self;
    if (s->head.kind == CD_HTTP)
        cd_stream_access(s, CD_COMPLETE);
    h->stream = NULL;
    cd_stream_detach(s, false);
    if (s->close_after || c->server->draining) {
        cd_conn_close(c, true);
    } else if (h->phase == CD_HTTP1_WAIT) {
        next_request(c);
    } else if (cd_http1_unread_body(h) > c->server->limits.discard_size) {
        cd_conn_close(c, true);
    } else {
        h->phase = CD_HTTP1_DISCARD;
        cd_conn_want_read(c, true);
        start_window(c);
    }
}

/* ---- faults ---- */

static int fault(cd_http1 *h, int status, const char *why)
{
    h->fault = status;
    h->refusal.why = why;
    return -1;
}

/* The request cannot go on: it gets the right answer if that is still possible, else the connection
 * ends. */
static void fail(cd_conn *c)
{
    cd_http1 *h = c->self;
    int status = h->fault;
    if (status == CD_NOMEM) {
        cd_conn_abort(c);
        return;
    }
    cd_response_log_refusal(c, status, &h->refusal);
    if (h->phase == CD_HTTP1_DISCARD)
        cd_conn_close(c, true);
    else if (h->stream == NULL)
        cd_http1_refuse(c, status);
    else if (!h->stream->head_sent)
        cd_http1_page(h->stream, status);
    else
        cd_http1_cut(h->stream, true);
}

static bool is_token_byte(const char *p)
{
    return cd_is_token((cd_str){p, 1});
}

/* Translates llhttp's error into a status. The reasons are its own constant texts. */
static void note_parse_error(cd_conn *c, enum llhttp_errno code, const uint8_t *p, size_t n)
{
    cd_http1 *h = c->self;
    bool begins = h->fresh && cd_buf_length(&h->head) == 0;
    const char *reason = llhttp_get_error_reason(&h->parser);
    const char *other = begins ? cd_http1_other_protocol(p, n) : NULL;
    int status = 400;
    if (h->fault != 0)
        return;
    if (code == HPE_PAUSED_H2_UPGRADE) {
        status = 505;
        reason = c->server->http2 ? "HTTP/2 where HTTP/1 was agreed on or has begun"
                                  : "HTTP/2, which is switched off (--no-http2)";
    } else if (code == HPE_INVALID_VERSION && strcmp(reason, "Invalid HTTP version") == 0)
        status = 505;
    else if (code == HPE_INVALID_METHOD && is_token_byte(llhttp_get_error_pos(&h->parser)))
        status = 501; /* a token, but no method that we know (RFC 9110, 15.6.2) */
    fault(h, status, other != NULL ? other : reason);
}

/* ---- the parser's callbacks: head ---- */

static cd_conn *conn_of(llhttp_t *parser)
{
    return parser->data;
}

static uint32_t offset_of(const cd_http1 *h, const char *at)
{
    return (uint32_t)(cd_buf_length(&h->head) + (size_t)((const uint8_t *)at - h->slice));
}

/* A span may come in pieces, which are adjacent because folded lines are refused. */
static bool extend(const cd_http1 *h, uint32_t *start, uint32_t *size, const char *at, size_t n)
{
    uint32_t offset = offset_of(h, at);
    if (*size == 0)
        *start = offset;
    if (offset != *start + *size)
        return false;
    *size += (uint32_t)n;
    return true;
}

static int on_url(llhttp_t *parser, const char *at, size_t n)
{
    cd_conn *c = conn_of(parser);
    cd_http1 *h = c->self;
    if (!extend(h, &h->target, &h->target_size, at, n))
        return fault(h, 400, "target in pieces");
    if (h->target_size > c->server->limits.max_target_size)
        return fault(h, 414, "target longer than max_target_size");
    return 0;
}

static int grow_fields(cd_http1 *h)
{
    uint32_t size = h->field_size ? 2 * h->field_size : FIELDS_KEPT;
    cd_http1_field *fields = cd_realloc(h->fields, size * sizeof *fields);
    if (fields == NULL)
        return fault(h, CD_NOMEM, "out of memory");
    h->fields = fields;
    h->field_size = size;
    return 0;
}

static int open_field(cd_conn *c)
{
    cd_http1 *h = c->self;
    if (h->field_count >= c->server->limits.max_header_count)
        return fault(h, 431, "more headers than max_header_count");
    if (h->field_count == h->field_size && grow_fields(h) < 0)
        return -1;
    h->fields[h->field_count] = (cd_http1_field){0};
    h->field_open = 1;
    return 0;
}

static bool in_trailer(const cd_http1 *h)
{
    return h->phase == CD_HTTP1_BODY || h->phase == CD_HTTP1_DISCARD;
}

static int on_header_field(llhttp_t *parser, const char *at, size_t n)
{
    cd_conn *c = conn_of(parser);
    cd_http1 *h = c->self;
    if (in_trailer(h))
        return 0;
    if (!h->field_open && open_field(c) < 0)
        return -1;
    cd_http1_field *field = &h->fields[h->field_count];
    return extend(h, &field->name, &field->name_size, at, n) ? 0
                                                             : fault(h, 400, "malformed header");
}

static int on_header_value(llhttp_t *parser, const char *at, size_t n)
{
    cd_conn *c = conn_of(parser);
    cd_http1 *h = c->self;
    if (in_trailer(h))
        return 0;
    cd_http1_field *field = &h->fields[h->field_count];
    return extend(h, &field->value, &field->value_size, at, n) ? 0 : fault(h, 400, "folded header");
}

static int on_header_value_complete(llhttp_t *parser)
{
    cd_conn *c = conn_of(parser);
    cd_http1 *h = c->self;
    if (in_trailer(h))
        return 0;
    if (!h->field_open)
        return fault(h, 400, "malformed header");
    h->field_open = 0;
    h->field_count++;
    return 0;
}

/* HTTP/2 by Upgrade is obsolete, and not allowed over TLS, which has ALPN (RFC 7540, 3.2). */
static bool may_become_http2(const cd_conn *c)
{
    const cd_http1 *h = c->self;
    return c->server->http2_upgrade && c->server->http2 && !c->server->draining &&
           !c->transport->secure && h->parser.http_minor == 1 && h->content_length == 0;
}

/* Returns 0 for an ordinary request, for one that asks for HTTP/2 (h->settings is set), and for a
 * WebSocket handshake, which turned the stream into a WebSocket. Else the status to refuse the
 * request with. */
static int check_upgrade(cd_conn *c, cd_stream *s)
{
    cd_http1 *h = c->self;
    int status = cd_ws_check(&s->head, &h->refusal);
    if (status == 0 && may_become_http2(c))
        return cd_http2_read_upgrade(s, &h->settings);
    if (status != 101)
        return status;
    return cd_ws_prepare(s, &cd_ws_http1_carrier) < 0 ? CD_NOMEM : 0;
}

static int check_head(cd_conn *c, cd_stream *s, bool upgrade)
{
    cd_http1 *h = c->self;
    size_t most = c->server->limits.max_body_size;
    int status = cd_http1_read_head(h, s);
    if (status != 0)
        return status;
    bool chunked = h->parser.flags & F_CHUNKED;
    if (!chunked && h->content_length == UINT64_MAX) { /* means: chunked */
        h->refusal.why = "Content-Length that no body can have";
        return 413;
    }
    if (most > 0 && !chunked && h->content_length > most) {
        h->refusal.why = "Content-Length above max_body_size";
        return 413;
    }
    return upgrade ? check_upgrade(c, s) : 0;
}

/* A stream that the bridge does not know yet. */
static void drop_stream(cd_stream *s)
{
    s->finished = 1;
    cd_stream_detach(s, false);
}

static int open_stream(cd_conn *c, bool upgrade)
{
    cd_http1 *h = c->self;
    cd_stream *s = cd_stream_new(c, &http1_stream_ops, sizeof(cd_stream));
    int status = s == NULL ? CD_NOMEM : check_head(c, s, upgrade);
    if (status != 0) {
        if (s != NULL)
            drop_stream(s);
        return fault(h, status, h->refusal.why);
    }
    h->stream = s;
    h->phase = CD_HTTP1_BODY;
    if (h->settings.p != NULL)
        /* the bridge never hears of this stream; it will hear of the HTTP/2 stream that takes its
         * place when the parser has returned */
        return 0;
    if (s->head.kind == CD_HTTP && c->server->limits.http_timeout > 0)
        cd_timer_set(&s->timer, c->server->limits.http_timeout);
    cd_stream_post(s, CD_POST_OPEN);
    return 0;
}

static int on_headers_complete(llhttp_t *parser)
{
    cd_conn *c = conn_of(parser);
    cd_http1 *h = c->self;
    bool upgrade = parser->flags & F_UPGRADE;
    /* llhttp would stop at CONNECT and at any Upgrade, also h2c; which to follow is decided here */
    parser->upgrade = 0;
    h->keep_alive = llhttp_should_keep_alive(parser) & 1;
    h->content_length = parser->flags & F_CHUNKED ? UINT64_MAX : parser->content_length;
    if (open_stream(c, upgrade) < 0)
        return -1;
    /* Pausing tells where the head ends: from there on we read the chunk lines. A message without a
     * body ends here, too. */
    return h->content_length > 0 ? HPE_PAUSED : 0;
}

/* ---- the parser's callbacks: body ---- */

static int take_body(cd_conn *c, const char *at, size_t n)
{
    cd_http1 *h = c->self;
    if (h->stream == NULL) {
        h->discarded += n;
        if (h->discarded > c->server->limits.discard_size)
            return fault(h, 413, "rest of an unread body above discard_size");
        return 0;
    }
    if (cd_buf_append(&h->stream->in, at, n) < 0)
        return fault(h, CD_NOMEM, "out of memory");
    return 0;
}

static int on_body(llhttp_t *parser, const char *at, size_t n)
{
    cd_conn *c = conn_of(parser);
    cd_http1 *h = c->self;
    h->body_size += n;
    h->slice_body = true;
    h->received += n;
    return take_body(c, at, n);
}

static int on_message_complete(llhttp_t *parser)
{
    cd_http1_of(conn_of(parser))->complete = 1;
    return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_url = on_url,
    .on_header_field = on_header_field,
    .on_header_value = on_header_value,
    .on_header_value_complete = on_header_value_complete,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

/* ---- input ---- */

/* Returns how many of n bytes the parser may see: a head is no longer than max_head_size. */
static size_t head_room(const cd_conn *c, size_t n)
{
    size_t room = c->server->limits.max_head_size;
    if (room > UINT32_MAX / 2) /* the offsets of fields have 32 bits */
        room = UINT32_MAX / 2;
    size_t before = cd_buf_length(&cd_http1_of(c)->head);
    room = room > before ? room - before : 0;
    return n < room ? n : room;
}

static void keep_head(cd_conn *c, const uint8_t *p, size_t n)
{
    cd_http1 *h = c->self;
    bool first = cd_buf_length(&h->head) == 0;
    if (cd_buf_append(&h->head, p, n) < 0) {
        cd_conn_abort(c);
        return;
    }
    if (first && !h->fresh) /* a new connection has had its deadline since it was accepted */
        cd_conn_deadline(c, c->server->limits.head_timeout);
}

/* The head is complete; the body, if there is one, begins behind it. */
static void begin_body(cd_conn *c)
{
    cd_http1 *h = c->self;
    cd_buf_dispose(&h->head);
    h->fresh = 0;
    if (h->complete || h->stream->expect_continue)
        cd_conn_deadline(c, 0);
    else
        start_window(c);
}

static void upgrade(cd_conn *c)
{
    static const char answer[] = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
                                 "Upgrade: h2c\r\n\r\n";
    cd_http1 *h = c->self;
    cd_stream *s = h->stream;
    h->stream = NULL;
    if (cd_conn_put(c, answer, sizeof answer - 1) < 0 ||
        cd_http2_upgrade(c, &s->head, h->settings) < 0)
        cd_conn_abort(c);
    drop_stream(s);
}

static void end_message(cd_conn *c)
{
    cd_http1 *h = c->self;
    cd_stream *s = h->stream;
    if (h->settings.p != NULL) {
        upgrade(c);
        return;
    }
    if (h->phase == CD_HTTP1_DISCARD) {
        next_request(c);
        return;
    }
    h->phase = CD_HTTP1_WAIT;
    h->asked = cd_loop_now(c->loop);
    cd_conn_deadline(c, 0);
    cd_conn_want_read(c, true);
    s->body_complete = 1;
    if (s->head.kind == CD_HTTP)
        cd_stream_wake(s);
}

static void end_body_slice(cd_conn *c)
{
    cd_http1 *h = c->self;
    cd_stream *s = h->stream;
    if (s == NULL || h->complete || !h->slice_body)
        return;
    cd_stream_wake(s);
    if (cd_buf_length(&s->in) >= c->server->limits.body_high_water) {
        cd_conn_want_read(c, false);
        cd_conn_deadline(c, c->server->limits.body_timeout);
    }
}

/* A request line without a version (HTTP/0.9). Its sender expects an answer now and sends nothing
 * more. */
static bool is_version_0_9(const llhttp_t *parser)
{
    return parser->http_major == 0 && parser->http_minor == 9;
}

static size_t parsed_size(const cd_http1 *h, const uint8_t *p)
{
    return (size_t)((const uint8_t *)llhttp_get_error_pos(&h->parser) - p);
}

static const char preface[] = NGHTTP2_CLIENT_MAGIC; /* RFC 9113, 3.4 */

/* The parser stopped behind n bytes that begin the preface of HTTP/2: are they all that has come so
 * far? */
static bool begins_http2(const cd_conn *c, enum llhttp_errno code, size_t n)
{
    const cd_http1 *h = c->self;
    return code == HPE_PAUSED_H2_UPGRADE && c->server->http2 && h->fresh &&
           c->transport->alpn != CD_ALPN_HTTP1 && cd_buf_length(&h->head) + n == sizeof preface - 1;
}

static void switch_protocol(cd_conn *c)
{
    if (cd_http2_open(c) < 0)
        cd_conn_abort(c);
    else
        c->protocol->input(c, (const uint8_t *)preface, sizeof preface - 1);
}

/* Gives the parser bytes of one message; returns how many belong to it. */
static size_t parse(cd_conn *c, const uint8_t *p, size_t n)
{
    cd_http1 *h = c->self;
    bool in_head = h->phase <= CD_HTTP1_HEAD;
    if (in_head) {
        h->phase = CD_HTTP1_HEAD;
        n = head_room(c, n);
    }
    if (n == 0) {
        fault(h, 431, "head longer than max_head_size");
        fail(c);
        return 0;
    }
    h->slice = p;
    h->slice_body = false;
    enum llhttp_errno code = llhttp_execute(&h->parser, (const char *)p, n);
    size_t parsed = code == HPE_OK ? n : parsed_size(h, p);
    if (code == HPE_PAUSED) {
        n = parsed;
        llhttp_resume(&h->parser);
    } else if (begins_http2(c, code, parsed)) {
        switch_protocol(c); /* h was freed */
        return parsed;
    } else if (code != HPE_OK) {
        note_parse_error(c, code, p, n);
        fail(c);
        return n;
    }
    if (h->phase == CD_HTTP1_HEAD && is_version_0_9(&h->parser)) {
        fault(h, 400, "HTTP version other than 1.0 and 1.1");
        fail(c);
        return n;
    }
    if (h->phase == CD_HTTP1_HEAD)
        keep_head(c, p, n);
    else if (in_head)
        begin_body(c);
    else
        end_body_slice(c);
    if (h->complete && c->state == CD_CONN_OPEN)
        end_message(c);
    return n;
}

/* The same for bytes of a chunked body. */
static size_t parse_chunks(cd_conn *c, const uint8_t *p, size_t n)
{
    cd_http1 *h = c->self;
    cd_str piece;
    size_t used = cd_http1_next_piece(c, p, n, &piece);
    if (h->fault != 0) {
        fail(c);
        return n;
    }
    if (piece.n == 0)
        return used;
    size_t parsed = parse(c, (const uint8_t *)piece.p, piece.n);
    return piece.p == (const char *)p ? parsed : used;
}

static size_t parse_next(cd_conn *c, const uint8_t *p, size_t n)
{
    bool chunked = cd_http1_of(c)->content_length == UINT64_MAX;
    return chunked ? parse_chunks(c, p, n) : parse(c, p, n);
}

/* TLS agreed on HTTP/2: then anything but the preface is an error of HTTP/2's. */
static size_t input_of_http2(cd_conn *c, const uint8_t *p, size_t n)
{
    if (cd_http2_open(c) == CD_OK)
        return c->protocol->input(c, p, n);
    cd_conn_abort(c);
    return n;
}

/* What follows the last request of a connection is ignored. Behind a handshake it may be the first
 * frames, which wait. */
static bool is_last_request(const cd_http1 *h)
{
    return !h->keep_alive && h->stream->head.kind == CD_HTTP;
}

static size_t on_input(cd_conn *c, const uint8_t *p, size_t n)
{
    cd_http1 *h = c->self;
    size_t used = 0;
    if (h->fresh && c->transport->alpn == CD_ALPN_H2)
        return input_of_http2(c, p, n);
    while (used < n && c->state == CD_CONN_OPEN) {
        if (h->phase == CD_HTTP1_WAIT)
            return is_last_request(h) ? n : used;
        if (h->phase == CD_HTTP1_IDLE && cd_conn_pressure(c) == CD_AGAIN)
            return used;
        used += parse_next(c, p + used, n - used);
        if (c->protocol != &cd_http1_protocol)
            break;
    }
    if (used < n && c->state == CD_CONN_OPEN)
        return used + c->protocol->input(c, p + used, n - used);
    return used;
}

/* ---- other events of the connection ---- */

static void client_gone(cd_conn *c)
{
    cd_stream *s = cd_http1_of(c)->stream;
    cd_http1_of(c)->stream = NULL;
    if (s == NULL)
        return;
    cd_stream_access(s, s->head.kind == CD_HTTP ? CD_COMPLETE : CD_DISCONNECTED);
    cd_stream_detach(s, true);
}

static void on_eof(cd_conn *c, bool reset)
{
    cd_http1 *h = c->self;
    if (!reset && cd_http1_half_close(c))
        return;
    bool cut = h->stream != NULL && h->stream->head_sent;
    client_gone(c);
    if (reset || cut)
        cd_conn_abort(c); /* a response that breaks off must not look like a complete one */
    else
        cd_conn_close(c, false);
}

static void on_flushed(cd_conn *c)
{
    (void)c;
}

static void on_drained(cd_conn *c)
{
    cd_http1 *h = c->self;
    if (h->stream != NULL && h->stream->blocked) {
        h->stream->blocked = 0;
        cd_stream_post(h->stream, CD_POST_DRAIN);
    }
    if (h->phase == CD_HTTP1_IDLE)
        cd_conn_resume(c);
}

/* body_timeout has passed, but it was the application that did not read. */
static void look_at_pause(cd_conn *c)
{
    cd_stream *s = cd_http1_of(c)->stream;
    cd_response_log_stuck(s, cd_buf_length(&s->in) - s->taken, c->out.size);
    cd_conn_deadline(c, c->server->limits.body_timeout);
}

static bool body_is_slow(cd_conn *c)
{
    cd_limits *limits = &c->server->limits;
    if ((double)cd_http1_of(c)->received < limits->body_timeout * (double)limits->body_min_rate)
        return true;
    start_window(c);
    return false;
}

static void on_timeout(cd_conn *c)
{
    cd_http1 *h = c->self;
    switch ((enum cd_http1_phase)h->phase) {
    case CD_HTTP1_IDLE:
        /* A peer that still reads the last response is not idle; write_timeout watches that. */
        if (c->out.size > 0 && !c->server->draining)
            cd_conn_deadline(c, c->server->limits.keep_alive_timeout);
        else
            cd_conn_close(c, false);
        break;
    case CD_HTTP1_HEAD:
        fault(h, 408, "head not complete within head_timeout");
        fail(c);
        break;
    case CD_HTTP1_BODY:
    case CD_HTTP1_DISCARD:
        if (!c->want_read) {
            look_at_pause(c);
            break;
        }
        if (!body_is_slow(c))
            break;
        fault(h, 408, "body slower than body_min_rate");
        fail(c);
        break;
    case CD_HTTP1_WAIT:
        cd_http1_half_tick(c);
        break;
    }
}

/* A request that comes within this time is answered, and then the connection is closed, too. */
static void close_unless_asked(cd_conn *c, double seconds)
{
    if (seconds > 0 && c->out.size == 0)
        cd_conn_deadline(c, seconds);
    else
        cd_conn_close(c, false);
}

static void on_drain(cd_conn *c)
{
    cd_http1 *h = c->self;
    cd_limits *limits = &c->server->limits;
    if (h->phase == CD_HTTP1_IDLE)
        /* The next request may be under way. No client repeats its first request by itself. */
        close_unless_asked(c, h->fresh ? limits->linger_timeout : limits->drain_timeout);
    else if (h->phase == CD_HTTP1_DISCARD)
        cd_conn_close(c, true);
}

static void on_close(cd_conn *c)
{
    client_gone(c);
    dispose(c->self); /* the parser may be running: everything else is freed with the connection */
}

const cd_protocol_ops cd_http1_protocol = {
    .open = on_connect,
    .input = on_input,
    .eof = on_eof,
    .flushed = on_flushed,
    .drained = on_drained,
    .timeout = on_timeout,
    .drain = on_drain,
    .close = on_close,
    .free = on_free,
};

/* ---- what the application asks of the request ---- */

/*
 * The application asks for the body, and the peer may wait for 100 Continue: from now on
 * body_timeout counts. It is not sent when the peer is sending already (RFC 9110, 10.1.1), and
 * cannot be once the response has begun.
 */
static void expect_body(cd_stream *s)
{
    static const char line[] = "HTTP/1.1 100 Continue\r\n\r\n";
    cd_conn *c = s->conn;
    s->expect_continue = 0;
    start_window(c);
    if (!s->head_sent && cd_http1_of(c)->body_size == 0 &&
        cd_conn_put(c, line, sizeof line - 1) < 0)
        cd_conn_abort(c);
}

static void on_pulled(cd_stream *s)
{
    cd_conn *c = s->conn;
    if (s->expect_continue && cd_http1_of(c)->phase == CD_HTTP1_BODY && c->state == CD_CONN_OPEN)
        expect_body(s);
    if (cd_http1_of(c)->phase != CD_HTTP1_BODY || c->state != CD_CONN_OPEN)
        return;
    if (!c->want_read && cd_buf_length(&s->in) - s->taken < c->server->limits.body_high_water) {
        cd_conn_want_read(c, true);
        start_window(c);
    }
}

static void on_abort(cd_stream *s)
{
    cd_http1_cut(s, false);
}

/* http_timeout: the application has not answered in time. */
static void on_stream_timeout(cd_stream *s)
{
    cd_response_log_timeout(s);
    if (s->head_sent)
        cd_http1_cut(s, true);
    else
        cd_http1_page(s, 503);
}

static const cd_stream_ops http1_stream_ops = {
    .start = cd_http1_start,
    .write = cd_http1_write,
    .hint = cd_http1_hint,
    .trailers = cd_http1_trailers,
    .file = cd_http1_file,
    .pulled = on_pulled,
    .abort = on_abort,
    .finish = cd_http1_finish,
    .timeout = on_stream_timeout,
};
