/*
 * An open WebSocket: messages in and out, the close handshake, pings.
 *
 * Input. Frames are parsed where the transport put them. A message that lies there whole is
 * unmasked straight into the stream's input; one that comes in pieces is put together in `message`
 * first. So the stream's input holds complete messages only: a record (length and kind) and the
 * payload each, which outlive the connection. What one peer can make us hold is
 * websocket_high_water of unread messages, the message that reached it, one that is being put
 * together, and one read: at websocket_high_water reading stops until the application has taken
 * half of it. Limits are judged on the announced length, before a byte is kept. An empty fragment
 * counts as a byte of its message, so nobody can send them for ever. Of a compressed message only
 * what it became is kept, and that is what the limit of messages is held against.
 *
 * The end. Both sides say close, then the server closes the connection (RFC 6455, 7.1.1). The
 * application's disconnect carries the code of the peer's close frame, whoever began (7.1.5): 1005
 * when it had none, 1006 when none came: end of file, pong timeout, and also after a fault of the
 * peer, although our close frame named it (1002, 1007, 1009). Only a server that shuts down tells
 * its application 1001 at once. While we wait for the peer's close frame, data frames are dropped.
 *
 * Life. Every byte from the peer proves that it lives. After ping_interval of silence a ping goes
 * out, one at a time; nothing within ping_timeout after it ends the connection. While reading
 * stands still for a slow application, nothing can be heard and nobody is suspected. Pongs wait
 * while the peer does not read, and then only the newest does (5.5.3).
 */
#include "ws/ws.h"

#include "base/mem.h"
#include "http/response.h"
#include "net/upcalls.h"
#include "ws/ws_deflate.h"
#include "ws/ws_frame.h"

#include <assert.h>
#include <string.h>

/* Precedes each message in the stream's input: its length times two, plus one for text. */
typedef uint64_t record;

enum ws_state {
    OPEN,      /* messages go both ways */
    ANSWERING, /* the peer closed or failed; our close frame waits for the application */
    CLOSING,   /* our close frame is out, the peer's has not come */
    CLOSED,    /* nothing goes either way; the connection is ending */
};

struct cd_ws {
    cd_stream *stream; /* NULL when it was told the end */
    enum ws_state state;
    unsigned in_frame : 1;   /* `frame` is valid, `left` bytes of its payload are still to come */
    unsigned paused : 1;     /* the application has enough to read */
    unsigned pinged : 1;     /* a ping was sent, and nothing has come since */
    unsigned pong_due : 1;   /* `pong` waits for the output to run empty */
    unsigned app_closed : 1; /* the application closed */
    unsigned packed : 1;     /* the message under way is compressed */
    uint8_t opcode;          /* opcode of the message under way; 0: none */
    uint8_t header_size;     /* bytes of an incomplete frame header, which are in `header` */
    uint8_t header[CD_WS_MAX_CLIENT_HEADER];
    cd_ws_frame frame;
    uint64_t left;
    int answer;     /* code of the close frame that waits */
    uint64_t size;  /* size of the message under way, for its limit */
    unsigned utf8;  /* state of its UTF-8 check */
    cd_buf message; /* its record (not filled in yet) and its payload so far */
    cd_buf control; /* payload of the control frame under way */
    cd_buf pong;    /* payload of the newest ping that was not answered */
    double heard;   /* when the last byte came */
    cd_ws_deflate deflate;
};

enum {
    BULK = 65536, /* with as many bytes of a frame still to come, reads are larger */
    /* how many times the received bytes of a message may be allocated because a frame announces
     * more */
    TRUST = 16,
};

static const cd_str no_reason = {NULL, 0};

static struct cd_ws *ws_of(const cd_conn *c)
{
    return c->self;
}

static void set_state(struct cd_ws *ws, enum ws_state state)
{
    assert(state > ws->state);
    ws->state = state;
}

/* Drops the message under way, which will never be complete. */
static void drop_message(struct cd_ws *ws)
{
    cd_buf_dispose(&ws->message);
    cd_ws_deflate_drop(&ws->deflate);
}

/* ---- the end ---- */

/* Tells the stream that the WebSocket has ended. */
static void tell_end(struct cd_ws *ws, int code, cd_str reason)
{
    cd_stream *s = ws->stream;
    if (s == NULL)
        return;
    ws->stream = NULL;
    cd_stream_disconnect(s, code, reason);
    cd_stream_detach(s, true);
}

static void end(cd_conn *c, int code, cd_str reason)
{
    set_state(ws_of(c), CLOSED);
    tell_end(ws_of(c), code, reason);
    cd_conn_close(c, true);
}

/* Sends a control frame. CD_NOMEM: the connection was aborted, and its cd_ws was freed. */
static int put_control(cd_conn *c, enum cd_ws_opcode opcode, const uint8_t *payload, size_t n)
{
    uint8_t *room = cd_conn_reserve(c, CD_WS_MAX_SERVER_HEADER + n);
    if (room == NULL) {
        cd_conn_abort(c);
        return CD_NOMEM;
    }
    size_t header = cd_ws_write_header(room, opcode, n);
    if (n > 0)
        memcpy(room + header, payload, n);
    cd_conn_commit(c, header + n);
    return CD_OK;
}

/* Sends a close frame; an empty one when code is CD_WS_NO_CODE. */
static int put_close(cd_conn *c, int code, cd_str reason)
{
    uint8_t payload[CD_WS_MAX_CONTROL] = {(uint8_t)(code >> 8), (uint8_t)code};
    if (code == CD_WS_NO_CODE)
        return put_control(c, CD_WS_CLOSE, NULL, 0);
    if (reason.n > 0)
        memcpy(payload + 2, reason.p, reason.n);
    return put_control(c, CD_WS_CLOSE, payload, 2 + reason.n);
}

static void read_on(cd_conn *c)
{
    struct cd_ws *ws = c->self;
    ws->paused = 0;
    ws->heard = cd_loop_now(c->loop);
    if (ws->pinged)
        cd_conn_deadline(c, c->server->limits.ping_timeout);
    /* this comes first: a tunnel reads on in this dispatch, and may be at its end */
    cd_conn_resume(c);
    cd_conn_want_read(c, true);
}

/* Begins the close handshake from our side. */
static int start_close(cd_conn *c, int code, cd_str reason)
{
    struct cd_ws *ws = c->self;
    if (put_close(c, code, reason) < 0)
        return CD_NOMEM;
    set_state(ws, CLOSING);
    cd_timer_stop(&ws->stream->timer);
    drop_message(ws);
    if (ws->paused)
        read_on(c);
    cd_conn_deadline(c, c->server->limits.websocket_close_timeout);
    return CD_OK;
}

/* Sends our last frame. The stream has its code already. */
static void answer(cd_conn *c)
{
    if (put_close(c, ws_of(c)->answer, no_reason) == CD_OK)
        end(c, CD_WS_ABNORMAL, no_reason);
}

/*
 * The peer closed, or broke a rule: nothing more is read from it. What it sent before is still
 * worth an answer: a client that sends a question and a close frame in one go gets both answered.
 * So our close frame (`code`) waits, for websocket_close_timeout at most, until the application has
 * come to the disconnect (5.5.1 allows it), unless the application has nothing from the peer in
 * hand.
 */
static void begin_answer(cd_conn *c, int code, int code_for_app, cd_str reason)
{
    struct cd_ws *ws = c->self;
    cd_stream *s = ws->stream;
    double patience = c->server->limits.websocket_close_timeout;
    cd_stream_disconnect(s, code_for_app, reason);
    drop_message(ws);
    ws->answer = code;
    if (cd_buf_length(&s->in) == 0 || patience == 0) {
        answer(c);
        return;
    }
    set_state(ws, ANSWERING);
    cd_timer_stop(&s->timer);
    cd_conn_deadline(c, patience);
}

/* Ends the WebSocket because the peer broke a rule. Always returns false, for the callers to
 * return; the cd_ws may be freed. */
static bool fail(cd_conn *c, int code)
{
    if (ws_of(c)->state == OPEN)
        begin_answer(c, code, CD_WS_ABNORMAL, no_reason);
    else
        end(c, CD_WS_ABNORMAL, no_reason);
    return false;
}

static bool fail_protocol(cd_conn *c, const char *what)
{
    cd_conn_log(c, CD_DEBUG_LEVEL, "WebSocket of %s failed with 1002: %s", cd_conn_peer(c), what);
    return fail(c, CD_WS_PROTOCOL_ERROR);
}

static bool fail_text(cd_conn *c)
{
    cd_conn_log(c, CD_DEBUG_LEVEL, "WebSocket of %s failed with 1007: text is not UTF-8",
                cd_conn_peer(c));
    return fail(c, CD_WS_BAD_DATA);
}

static bool fail_size(cd_conn *c, const char *what, uint64_t size, const char *flag, size_t limit)
{
    cd_conn_log(c, CD_INFO, "WebSocket of %s failed with 1009: %s of %llu bytes (%s is %zu)",
                cd_conn_peer(c), what, (unsigned long long)size, flag, limit);
    return fail(c, CD_WS_TOO_BIG);
}

static bool fail_deflate(cd_conn *c)
{
    cd_conn_log(c, CD_DEBUG_LEVEL, "WebSocket of %s failed with 1007: malformed compressed data",
                cd_conn_peer(c));
    return fail(c, CD_WS_BAD_DATA);
}

static bool no_memory(cd_conn *c)
{
    cd_conn_abort(c);
    return false;
}

/* ---- messages in ---- */

static size_t unread(const cd_stream *s)
{
    return cd_buf_length(&s->in) - s->taken;
}

/* Tells the stream that its input has one more message. */
static void deliver(cd_conn *c)
{
    struct cd_ws *ws = c->self;
    ws->opcode = 0;
    cd_stream_wake(ws->stream);
    if (unread(ws->stream) >= c->server->limits.websocket_high_water) {
        ws->paused = 1;
        cd_conn_want_read(c, false);
    }
}

static void write_record(uint8_t *to, uint64_t length, bool text)
{
    record r = length << 1 | text;
    memcpy(to, &r, sizeof r);
}

/* Delivers a message of one frame whose n bytes of payload have all come. */
static bool take_whole(cd_conn *c, const uint8_t *p, size_t n)
{
    struct cd_ws *ws = c->self;
    cd_buf *in = &ws->stream->in;
    bool text = ws->opcode == CD_WS_TEXT;
    uint8_t *room = cd_buf_reserve(in, sizeof(record) + n);
    if (room == NULL)
        return no_memory(c);
    write_record(room, n, text);
    cd_ws_unmask(room + sizeof(record), p, n, ws->frame.mask, 0);
    if (text && cd_utf8_check(CD_UTF8_START, room + sizeof(record), n) != CD_UTF8_START)
        return fail_text(c);
    cd_buf_commit(in, sizeof(record) + n);
    deliver(c);
    return true;
}

/* Makes room for n bytes of payload behind `head`, and for more of the frame, so that a long one is
 * not copied whenever its buffer doubles. */
static uint8_t *make_room(struct cd_ws *ws, size_t head, size_t n)
{
    size_t come = cd_buf_length(&ws->message) + n, more = (size_t)ws->left - n;
    return cd_buf_reserve(&ws->message, head + n + cd_least(more, TRUST * come));
}

static bool take_part(cd_conn *c, const uint8_t *p, size_t n)
{
    struct cd_ws *ws = c->self;
    size_t head = cd_buf_length(&ws->message) == 0 ? sizeof(record) : 0;
    uint8_t *room = make_room(ws, head, n);
    if (room == NULL)
        return no_memory(c);
    memset(room, 0, head);
    cd_ws_unmask(room + head, p, n, ws->frame.mask, ws->frame.length - ws->left);
    if (ws->opcode == CD_WS_TEXT) {
        ws->utf8 = cd_utf8_check(ws->utf8, room + head, n);
        if (ws->utf8 == CD_UTF8_BAD)
            return fail_text(c);
    }
    cd_buf_commit(&ws->message, head + n);
    return true;
}

/* Takes the decompressed bytes of a piece of a message, perhaps none. */
static bool take_inflated(cd_conn *c, cd_str plain)
{
    struct cd_ws *ws = c->self;
    size_t limit = c->server->limits.websocket_max_message_size;
    size_t head = cd_buf_length(&ws->message) == 0 ? sizeof(record) : 0;
    size_t size = cd_buf_length(&ws->message) + head - sizeof(record) + plain.n;
    if (limit && size > limit)
        return fail_size(c, "compressed message", size, "--websocket-max-message-size", limit);
    uint8_t *room = cd_buf_reserve(&ws->message, head + plain.n);
    if (room == NULL)
        return no_memory(c);
    memset(room, 0, head);
    memcpy(room + head, plain.p, plain.n);
    if (ws->opcode == CD_WS_TEXT) {
        ws->utf8 = cd_utf8_check(ws->utf8, room + head, plain.n);
        if (ws->utf8 == CD_UTF8_BAD)
            return fail_text(c);
    }
    cd_buf_commit(&ws->message, head + plain.n);
    return true;
}

static bool inflate_piece(cd_conn *c, cd_str packed)
{
    cd_str plain;
    do {
        int code = cd_ws_deflate_inflate(&ws_of(c)->deflate, &packed, &plain);
        if (code != CD_OK)
            return code == CD_NOMEM ? no_memory(c) : fail_deflate(c);
        if (!take_inflated(c, plain))
            return false;
    } while (packed.n > 0 || plain.n == CD_WS_INFLATE_STEP);
    return true;
}

/* Takes n bytes of a frame of a compressed message. */
static bool take_packed(cd_conn *c, const uint8_t *p, size_t n)
{
    struct cd_ws *ws = c->self;
    uint64_t offset = ws->frame.length - ws->left;
    uint8_t piece[2048];
    while (n > 0) {
        size_t k = n < sizeof piece ? n : sizeof piece;
        cd_ws_unmask(piece, p, k, ws->frame.mask, offset);
        if (!inflate_piece(c, (cd_str){(const char *)piece, k}))
            return false;
        p += k;
        n -= k;
        offset += k;
    }
    return true;
}

/* A compressed message without any bytes is an empty message: zlib produces that for two flushes in
 * a row. */
static bool finish_packed(cd_conn *c)
{
    cd_ws_deflate *d = &ws_of(c)->deflate;
    if (!d->inflating)
        return take_inflated(c, (cd_str){"", 0});
    if (!inflate_piece(c, cd_ws_deflate_tail))
        return false;
    return cd_ws_deflate_inflated(d) == CD_OK ? true : fail_deflate(c);
}

/* Ends a message that came in pieces, or compressed. */
static bool finish_message(cd_conn *c)
{
    struct cd_ws *ws = c->self;
    cd_buf *in = &ws->stream->in;
    bool text = ws->opcode == CD_WS_TEXT;
    if (ws->packed && !finish_packed(c))
        return false;
    if (text && ws->utf8 != CD_UTF8_START)
        return fail_text(c);
    size_t size = cd_buf_length(&ws->message);
    write_record(cd_buf_data(&ws->message), size - sizeof(record), text);
    if (cd_buf_length(in) == 0) {
        *in = ws->message;
        cd_buf_init(&ws->message);
    } else {
        if (cd_buf_append(in, cd_buf_data(&ws->message), size) < 0)
            return no_memory(c);
        cd_buf_dispose(&ws->message);
    }
    deliver(c);
    return true;
}

/* Takes n bytes of the frame's payload, perhaps none. */
static bool take_data(cd_conn *c, const uint8_t *p, size_t n)
{
    struct cd_ws *ws = c->self;
    cd_ws_frame *frame = &ws->frame;
    bool open = ws->state == OPEN, last = n == ws->left;
    bool whole =
        frame->fin && frame->opcode != CD_WS_CONTINUATION && n == frame->length && !ws->packed;
    if (open && !(whole ? take_whole : ws->packed ? take_packed : take_part)(c, p, n))
        return false;
    ws->left -= n;
    ws->in_frame = !last;
    c->large_reads = ws->left > BULK;
    return open && last && frame->fin && !whole ? finish_message(c) : true;
}

/* ---- control frames in ---- */

static bool answer_ping(cd_conn *c)
{
    struct cd_ws *ws = c->self;
    size_t n = cd_buf_length(&ws->control);
    if (c->out.size == 0 || c->out.size < c->server->limits.write_low_water)
        return put_control(c, CD_WS_PONG, n ? cd_buf_data(&ws->control) : NULL, n) == CD_OK;
    cd_buf_dispose(&ws->pong);
    ws->pong = ws->control;
    ws->pong_due = 1;
    cd_buf_init(&ws->control);
    return true;
}

static void flush_pong(cd_conn *c)
{
    struct cd_ws *ws = c->self;
    cd_buf pong = ws->pong;
    if (!ws->pong_due || ws->state != OPEN)
        return;
    ws->pong_due = 0;
    cd_buf_init(&ws->pong);
    size_t n = cd_buf_length(&pong);
    put_control(c, CD_WS_PONG, n ? cd_buf_data(&pong) : NULL, n);
    cd_buf_dispose(&pong);
}

/* Handles a close frame: it answers ours, or begins the close handshake and is answered with the
 * same code (5.5.1). */
static bool take_close(cd_conn *c)
{
    struct cd_ws *ws = c->self;
    size_t n = cd_buf_length(&ws->control);
    cd_str reason;
    int code, fault = cd_ws_parse_close(n ? cd_buf_data(&ws->control) : NULL, n, &code, &reason);
    if (fault == CD_WS_BAD_DATA)
        return fail_text(c);
    if (fault != CD_OK)
        return fail_protocol(c, "malformed close frame");
    if (ws->state == OPEN)
        begin_answer(c, code, code, reason);
    else
        end(c, code, reason);
    return false;
}

static bool finish_control(cd_conn *c)
{
    struct cd_ws *ws = c->self;
    if (ws->frame.opcode == CD_WS_CLOSE)
        return take_close(c);
    if (ws->frame.opcode == CD_WS_PING && ws->state == OPEN && !answer_ping(c))
        return false;
    cd_buf_dispose(&ws->control);
    return true;
}

static bool take_control(cd_conn *c, const uint8_t *p, size_t n)
{
    struct cd_ws *ws = c->self;
    if (n > 0) {
        uint8_t *room = cd_buf_reserve(&ws->control, n);
        if (room == NULL)
            return no_memory(c);
        cd_ws_unmask(room, p, n, ws->frame.mask, ws->frame.length - ws->left);
        cd_buf_commit(&ws->control, n);
    }
    ws->left -= n;
    ws->in_frame = ws->left > 0;
    return ws->in_frame ? true : finish_control(c);
}

/* ---- frames in ---- */

/* The limit is for the decompressed message, which take_inflated checks. Compression makes random
 * data a little longer, so compressed bytes may be an eighth more than the limit. */
static bool beyond(const struct cd_ws *ws, uint64_t size, size_t limit)
{
    return limit > 0 && size > limit && !(ws->packed && size - limit <= limit / 8 + 64);
}

/* Is the frame allowed here, and within the limits? Counts it. */
static bool check_data_frame(cd_conn *c)
{
    struct cd_ws *ws = c->self;
    const cd_limits *limits = &c->server->limits;
    const cd_ws_frame *frame = &ws->frame;
    bool continues = frame->opcode == CD_WS_CONTINUATION;
    if (continues != (ws->opcode != 0))
        return fail_protocol(c,
                             continues ? "continuation of no message" : "message within a message");
    if (!continues) {
        ws->opcode = frame->opcode;
        ws->size = 0;
        ws->utf8 = CD_UTF8_START;
        ws->packed = frame->rsv1;
    }
    if (beyond(ws, frame->length, limits->websocket_max_frame_size))
        return fail_size(c, "frame", frame->length, "--websocket-max-frame-size",
                         limits->websocket_max_frame_size);
    ws->size += frame->length > 0 || frame->fin ? frame->length : 1;
    if (beyond(ws, ws->size, limits->websocket_max_message_size))
        return fail_size(c, "message", ws->size, "--websocket-max-message-size",
                         limits->websocket_max_message_size);
    return true;
}

static bool take_payload(cd_conn *c, const uint8_t *p, size_t n)
{
    return cd_ws_is_control(ws_of(c)->frame.opcode) ? take_control(c, p, n) : take_data(c, p, n);
}

static bool begin_frame(cd_conn *c)
{
    struct cd_ws *ws = c->self;
    ws->left = ws->frame.length;
    ws->in_frame = 1;
    if (ws->state == OPEN && !cd_ws_is_control(ws->frame.opcode) && !check_data_frame(c))
        return false;
    return ws->left > 0 ? true : take_payload(c, ws->header, 0);
}

/* Reads a frame header, which may come in pieces; returns how many bytes of p it used. */
static size_t take_header(cd_conn *c, const uint8_t *p, size_t n)
{
    struct cd_ws *ws = c->self;
    size_t held = ws->header_size, have = n;
    const uint8_t *from = p;
    if (held > 0) {
        have = held + n < sizeof ws->header ? held + n : sizeof ws->header;
        memcpy(ws->header + held, p, have - held);
        from = ws->header;
    }
    int size = cd_ws_parse_header(from, have, ws->deflate.agreed.on ? CD_WS_RSV1 : 0, &ws->frame);
    if (size < 0) {
        fail_protocol(c, "frame header not allowed");
        return n;
    }
    if (size == 0) {
        if (held == 0)
            memcpy(ws->header, p, have);
        ws->header_size = (uint8_t)have;
        return have - held;
    }
    ws->header_size = 0;
    begin_frame(c);
    return (size_t)size - held;
}

static void hear(cd_conn *c)
{
    struct cd_ws *ws = c->self;
    ws->heard = cd_loop_now(c->loop);
    if (ws->pinged) {
        ws->pinged = 0;
        if (ws->state == OPEN)
            cd_conn_deadline(c, c->server->limits.ping_interval);
    }
}

/* When the connection is not open any more, ws may be freed: so the state of c is checked first. */
static size_t on_input(cd_conn *c, const uint8_t *p, size_t n)
{
    struct cd_ws *ws = c->self;
    size_t i = 0;
    hear(c);
    while (i < n && c->state == CD_CONN_OPEN && !ws->paused) {
        if (ws->state == ANSWERING)
            return n; /* nothing comes after a close frame or a fault */
        if (!ws->in_frame) {
            i += take_header(c, p + i, n - i);
            continue;
        }
        size_t k = n - i < ws->left ? n - i : (size_t)ws->left;
        take_payload(c, p + i, k);
        i += k;
    }
    return i;
}

/* ---- the connection's other news ---- */

static void on_eof(cd_conn *c, bool reset)
{
    if (ws_of(c)->state == ANSWERING && !reset) {
        answer(c);
        return;
    }
    tell_end(ws_of(c), CD_WS_ABNORMAL, no_reason);
    if (reset)
        cd_conn_abort(c);
    else
        cd_conn_close(c, false);
}

static void on_drained(cd_conn *c)
{
    cd_stream *s = ws_of(c)->stream;
    if (s && s->blocked) {
        s->blocked = 0;
        cd_stream_post(s, CD_POST_DRAIN);
    }
}

/* ping_interval or ping_timeout may have passed. */
static void look_for_life(cd_conn *c)
{
    struct cd_ws *ws = c->self;
    const cd_limits *limits = &c->server->limits;
    double silence = cd_loop_now(c->loop) - ws->heard;
    if (ws->paused) {
        if (ws->stream != NULL)
            cd_response_log_stuck(ws->stream, unread(ws->stream), c->out.size);
        cd_conn_deadline(c, limits->ping_interval);
    } else if (ws->pinged) {
        cd_conn_log(c, CD_INFO,
                    "WebSocket of %s ended: no answer to a ping in %g s (--ping-timeout)",
                    cd_conn_peer(c), limits->ping_timeout);
        cd_conn_abort(c);
    } else if (silence < limits->ping_interval) {
        cd_conn_deadline(c, limits->ping_interval - silence);
    } else if (put_control(c, CD_WS_PING, NULL, 0) == CD_OK) {
        ws->pinged = limits->ping_timeout > 0;
        cd_conn_deadline(c, ws->pinged ? limits->ping_timeout : limits->ping_interval);
    }
}

static void on_timeout(cd_conn *c)
{
    if (ws_of(c)->state == OPEN)
        look_for_life(c);
    else if (ws_of(c)->state == ANSWERING)
        answer(c);
    else if (c->out.size > 0)
        cd_conn_abort(c); /* it does not even read */
    else
        end(c, CD_WS_ABNORMAL, no_reason);
}

static void on_drain(cd_conn *c)
{
    cd_stream *s = ws_of(c)->stream;
    if (ws_of(c)->state == OPEN && start_close(c, CD_WS_GOING_AWAY, no_reason) == CD_OK)
        cd_stream_disconnect(s, CD_WS_GOING_AWAY, no_reason);
}

static void on_close(cd_conn *c)
{
    struct cd_ws *ws = c->self;
    tell_end(ws, CD_WS_ABNORMAL, no_reason);
    cd_buf_dispose(&ws->message);
    cd_ws_deflate_dispose(&ws->deflate);
    cd_buf_dispose(&ws->control);
    cd_buf_dispose(&ws->pong);
    cd_free(ws);
    c->self = NULL;
}

static const cd_protocol_ops protocol = {
    .input = on_input,
    .eof = on_eof,
    .flushed = flush_pong,
    .drained = on_drained,
    .timeout = on_timeout,
    .drain = on_drain,
    .close = on_close,
};

/* ---- the stream's side ---- */

static int again(cd_stream *s, int status, const cd_header *headers, size_t count)
{
    (void)s;
    (void)status;
    (void)headers;
    (void)count;
    return CD_ORDER;
}

static int write_accepted(cd_stream *s, cd_chunk chunk, bool more)
{
    (void)s;
    (void)chunk;
    (void)more;
    return CD_ORDER;
}

static int accept_again(cd_stream *s, cd_str subprotocol, const cd_header *headers, size_t count)
{
    (void)subprotocol;
    return again(s, 0, headers, count);
}

/* Needs no connection: received messages are delivered even when the peer has gone. */
static bool next_message(cd_stream *s, cd_event *event)
{
    record r;
    if (event == NULL)
        return unread(s) > 0;
    if (s->taken > 0)
        cd_buf_consume(&s->in, s->taken);
    s->taken = 0;
    if (unread(s) == 0)
        return false;
    memcpy(&r, cd_buf_data(&s->in), sizeof r);
    event->kind = r & 1 ? CD_EVENT_TEXT : CD_EVENT_BYTES;
    event->data = (cd_str){(const char *)cd_buf_data(&s->in) + sizeof r, (size_t)(r >> 1)};
    s->taken = sizeof r + event->data.n;
    return true;
}

static void on_pulled(cd_stream *s)
{
    struct cd_ws *ws = s->conn->self;
    if (ws->state == ANSWERING && s->disconnect_taken)
        answer(s->conn);
    else if (ws->paused && unread(s) <= s->server->limits.websocket_high_water / 2)
        read_on(s->conn);
}

/* Sends the payload behind the header that was committed. When that fails the connection is
 * aborted, because it must not be left with half a frame. */
static int put_pinned(cd_conn *c, cd_chunk chunk)
{
    if (cd_conn_put_chunk(c, chunk) == CD_OK)
        return cd_conn_after_write(c);
    cd_conn_abort(c);
    return CD_NOMEM;
}

/* Returns the compressed message, valid until cd_ws_deflate_packed; p == NULL: it is sent as it
 * is. */
static cd_str pack(cd_conn *c, cd_chunk chunk)
{
    cd_ws_deflate *d = &ws_of(c)->deflate;
    bool worth = d->agreed.on && chunk.n >= c->server->limits.websocket_deflate_min_size;
    return worth ? cd_ws_deflate_pack(d, (cd_str){chunk.p, chunk.n}) : (cd_str){NULL, 0};
}

static int send_packed(cd_conn *c, enum cd_ws_opcode opcode, cd_str packed, void *token)
{
    uint8_t *room = cd_conn_reserve(c, CD_WS_MAX_SERVER_HEADER + packed.n);
    if (room == NULL || (token && cd_server_reserve_release(c->server) < 0)) {
        cd_ws_deflate_packed(&ws_of(c)->deflate);
        cd_conn_abort(c);
        return CD_NOMEM;
    }
    size_t size = cd_ws_write_header(room, opcode, packed.n);
    room[0] |= CD_WS_RSV1;
    memcpy(room + size, packed.p, packed.n);
    cd_ws_deflate_packed(&ws_of(c)->deflate);
    cd_conn_commit(c, size + packed.n);
    if (token)
        cd_server_release(c->server, token);
    return cd_conn_after_write(c);
}

static int send_message(cd_stream *s, bool text, cd_chunk chunk)
{
    cd_conn *c = s->conn;
    bool copied = chunk.token == NULL || chunk.n < c->server->limits.pin_size;
    if (ws_of(c)->state > ANSWERING)
        return CD_GONE;
    cd_str packed = pack(c, chunk);
    if (packed.p)
        return send_packed(c, text ? CD_WS_TEXT : CD_WS_BINARY, packed, chunk.token);
    uint8_t *room = cd_conn_reserve(c, CD_WS_MAX_SERVER_HEADER + (copied ? chunk.n : 0));
    if (room == NULL || (copied && chunk.token && cd_server_reserve_release(c->server) < 0)) {
        cd_conn_abort(c);
        return CD_NOMEM;
    }
    size_t size = cd_ws_write_header(room, text ? CD_WS_TEXT : CD_WS_BINARY, chunk.n);
    if (copied && chunk.n > 0)
        memcpy(room + size, chunk.p, chunk.n);
    cd_conn_commit(c, copied ? size + chunk.n : size);
    if (!copied)
        return put_pinned(c, chunk);
    if (chunk.token)
        cd_server_release(c->server, chunk.token);
    return cd_conn_after_write(c);
}

/* Cuts a reason to the whole characters that a close frame has room for. */
static cd_str fitting(cd_str text)
{
    if (text.n <= CD_WS_MAX_REASON)
        return text;
    text.n = CD_WS_MAX_REASON;
    /* the cut is within a character */
    while (text.n > 0 && ((uint8_t)text.p[text.n] & 0xc0) == 0x80)
        text.n--;
    return text;
}

static int close_accepted(cd_stream *s, int code, cd_str reason)
{
    struct cd_ws *ws = s->conn->self;
    if (ws->state > ANSWERING)
        return ws->app_closed ? CD_ORDER : CD_GONE;
    if (!cd_ws_code_on_wire(code))
        return CD_STATUS;
    if (cd_utf8_check(CD_UTF8_START, (const uint8_t *)reason.p, reason.n) != CD_UTF8_START)
        return CD_VALUE;
    reason = fitting(reason);
    ws->app_closed = 1;
    if (ws->state == OPEN)
        return start_close(s->conn, code, reason);
    if (put_close(s->conn, code, reason) < 0)
        return CD_NOMEM;
    end(s->conn, CD_WS_ABNORMAL, no_reason); /* the stream has its code already */
    return CD_OK;
}

static void finish(cd_stream *s, bool failed)
{
    struct cd_ws *ws = s->conn->self;
    cd_buf_dispose(&s->in);
    s->taken = 0;
    if (ws->state == OPEN) {
        start_close(s->conn, failed ? CD_WS_INTERNAL_ERROR : CD_WS_NORMAL, no_reason);
    } else if (ws->state == ANSWERING) {
        if (failed)
            ws->answer = CD_WS_INTERNAL_ERROR;
        answer(s->conn);
    }
}

static void on_abort(cd_stream *s)
{
    cd_conn_abort(s->conn);
}

/* websocket_timeout has passed: closes the WebSocket. */
static void on_age(cd_stream *s)
{
    static const char reason[] = "maximum age reached";
    start_close(s->conn, CD_WS_NORMAL, (cd_str){reason, sizeof reason - 1});
}

static const cd_stream_ops stream_ops = {
    .start = again,
    .write = write_accepted,
    .pulled = on_pulled,
    .abort = on_abort,
    .finish = finish,
    .timeout = on_age,
    .message = next_message,
    .accept = accept_again,
    .send = send_message,
    .close = close_accepted,
};

int cd_ws_open(cd_stream *s, const cd_ws_extension *extension)
{
    cd_conn *c = s->conn;
    struct cd_ws *ws = cd_zalloc(sizeof *ws);
    if (ws == NULL)
        return CD_NOMEM;
    ws->stream = s;
    ws->heard = cd_loop_now(c->loop);
    cd_ws_deflate_open(&ws->deflate, s->server->deflate, extension);
    cd_conn_become(c, &protocol, ws);
    s->ops = &stream_ops;
    cd_timer_set(&s->timer, s->server->limits.websocket_timeout);
    cd_stream_access(s, CD_CONNECTED);
    cd_conn_deadline(c, s->server->limits.ping_interval);
    cd_conn_want_read(c, true);
    cd_conn_resume(c);
    if (s->server->draining)
        on_drain(c);
    return CD_OK;
}
