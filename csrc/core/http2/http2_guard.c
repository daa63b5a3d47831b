/*
 * http2_guard.c - what a peer may cost us on an HTTP/2 connection, in time and in number.
 *
 * A peer can open streams and reset them, or make us reset them, without ever coming near the limit
 * of concurrent streams (CVE-2023-44487, CVE-2025-8671), and it can send frames that carry nothing:
 * each kind has a bucket that fills at a rate. An empty bucket ends the connection with
 * ENHANCE_YOUR_CALM.
 *
 * conn.c sees a peer that does not read. It cannot see one that reads but opens its windows by a
 * byte at a time, or never, and so makes us keep what applications wrote (CVE-2019-9511, 9517). So
 * each stream that has something to send is looked at every write_timeout: it must have moved
 * write_min_rate, unless its windows are open and it only waits for its turn among the others.
 * Likewise a body must keep up body_min_rate, unless it is the application that does not read.
 *
 * The looking is one sweep over the streams of a connection, on the connection's one deadline: a
 * stream that ends in time, as nearly all do, costs no timer.
 */
#include "http2/http2.h"

#include "base/mem.h"
#include "http/response.h"
#include "net/server_state.h"

#include <string.h>

enum { FRAME_HEAD = sizeof((cd_http2 *)NULL)->frame_head };

static bool take(cd_http2_bucket *b, size_t burst, size_t rate, double now)
{
    if (b->since == 0)
        b->left = (double)burst;
    else
        b->left += (now - b->since) * (double)rate;
    if (b->left > (double)burst)
        b->left = (double)burst;
    b->since = now;
    if (b->left < 1)
        return false;
    b->left -= 1;
    return true;
}

static void sentence(cd_http2 *h, uint32_t error, const char *why)
{
    if (h->verdict == NGHTTP2_NO_ERROR)
        h->why = why;
    h->verdict = error;
}

void cd_http2_count_reset(cd_http2 *h)
{
    const cd_limits *limits = &h->conn->server->limits;
    if (!take(&h->resets, limits->http2_reset_burst, limits->http2_reset_rate,
              cd_loop_now(h->conn->loop)))
        sentence(h, NGHTTP2_ENHANCE_YOUR_CALM,
                 "more streams reset than http2_reset_burst and http2_reset_rate");
}

/* ---- frames ---- */

typedef struct {
    uint32_t length;
    uint8_t type, flags;
    int32_t stream_id;
} frame_head;

static bool carries_nothing(const frame_head *hd)
{
    switch (hd->type) {
    case NGHTTP2_DATA:
        return hd->length == 0 && !(hd->flags & NGHTTP2_FLAG_END_STREAM);
    case NGHTTP2_PING:
    case NGHTTP2_SETTINGS:
        return !(hd->flags & NGHTTP2_FLAG_ACK);
    case NGHTTP2_CONTINUATION:
        return hd->length == 0;
    case NGHTTP2_HEADERS:
    case NGHTTP2_RST_STREAM: /* has a bucket of its own */
    case NGHTTP2_WINDOW_UPDATE:
    case NGHTTP2_GOAWAY:
        return false;
    default:
        return true; /* priorities and unknown frames */
    }
}

int cd_http2_age(const cd_http2 *h, int32_t id)
{
    int32_t age = (h->newest - id) / 2;
    return id > 0 && id % 2 == 1 && id <= h->newest && age < 64 ? (int)age : -1;
}

/* Notes an opened stream whatever becomes of it: nghttp2 refuses some without calling us. */
void cd_http2_note_open(cd_http2 *h, int32_t id)
{
    uint32_t step = ((uint32_t)id - (uint32_t)h->newest + 1) / 2;
    h->opened = step < 64 ? h->opened << step : 0;
    h->ended = step < 64 ? h->ended << step : 0;
    h->told = step < 64 ? h->told << step : 0;
    h->opened |= 1;
    h->newest = id;
}

void cd_http2_note_end(cd_http2 *h, int32_t id)
{
    int age = cd_http2_age(h, id);
    if (age >= 0)
        h->ended |= (uint64_t)1 << age;
}

/*
 * nghttp2 forgets a stream when it is closed, and then ignores what still comes for it: it may have
 * been sent before our RST_STREAM arrived. Of a stream that the peer itself has ended, or never
 * opened, nothing can come (RFC 9113, 5.1 and 5.1.1).
 */
static void judge_stream(cd_http2 *h, const frame_head *hd)
{
    int age = cd_http2_age(h, hd->stream_id);
    if (age < 0 || nghttp2_session_get_stream_remote_close(h->session, hd->stream_id) >= 0)
        return;
    if (!(h->opened >> age & 1))
        sentence(h, NGHTTP2_PROTOCOL_ERROR, "a stream's number is below an earlier one's");
    else if (h->ended >> age & 1)
        sentence(h, NGHTTP2_STREAM_CLOSED, "a frame for a stream that it had ended");
}

static void judge_frame(cd_http2 *h, const frame_head *hd)
{
    const cd_limits *limits = &h->conn->server->limits;
    if (hd->type == NGHTTP2_DATA || hd->type == NGHTTP2_HEADERS)
        judge_stream(h, hd);
    if (hd->type == NGHTTP2_HEADERS && hd->stream_id % 2 == 1 && hd->stream_id > h->newest)
        cd_http2_note_open(h, hd->stream_id);
    if (hd->type == NGHTTP2_PRIORITY && hd->stream_id == 0) /* nghttp2 skips all of them */
        sentence(h, NGHTTP2_PROTOCOL_ERROR, "PRIORITY without a stream");
    if (carries_nothing(hd) && !take(&h->controls, limits->http2_control_burst,
                                     limits->http2_control_rate, cd_loop_now(h->conn->loop)))
        sentence(h, NGHTTP2_ENHANCE_YOUR_CALM,
                 "more frames without content than http2_control_burst and http2_control_rate");
}

static uint32_t number(const uint8_t *p, size_t n)
{
    uint32_t value = 0;
    for (size_t i = 0; i < n; i++)
        value = value << 8 | p[i];
    return value;
}

/* A header block is under way until its last frame is complete, whatever becomes of its stream. */
static void begin_block(cd_http2 *h, const frame_head *hd)
{
    if (hd->type == NGHTTP2_HEADERS && h->head_at == 0)
        h->head_at = cd_http2_due(h, h->conn->server->limits.head_timeout);
    h->ends_block = (hd->type == NGHTTP2_HEADERS || hd->type == NGHTTP2_CONTINUATION) &&
                    hd->flags & NGHTTP2_FLAG_END_HEADERS;
}

static void end_frame(cd_http2 *h)
{
    if (h->frame_left == 0 && h->ends_block)
        h->head_at = 0;
}

static void begin_frame(cd_http2 *h, const uint8_t *head)
{
    frame_head hd = {number(head, 3), head[3], head[4],
                     (int32_t)(number(head + 5, 4) & 0x7fffffff)};
    judge_frame(h, &hd);
    begin_block(h, &hd);
    h->frame_head_size = 0;
    h->frame_left = hd.length;
}

/* A head that comes in pieces waits here: nghttp2 takes each piece of a CONTINUATION's head for
 * another CONTINUATION, and counts (1.52 of Debian). */
static size_t gather_head(cd_http2 *h, const uint8_t **p, const uint8_t *end)
{
    size_t k = cd_least(FRAME_HEAD - h->frame_head_size, (size_t)(end - *p));
    memcpy(h->frame_head + h->frame_head_size, *p, k);
    *p += k;
    h->frame_head_size = (uint8_t)(h->frame_head_size + k);
    if (h->frame_head_size < FRAME_HEAD)
        return 0;
    begin_frame(h, h->frame_head);
    end_frame(h);
    return FRAME_HEAD;
}

size_t cd_http2_next_frame(cd_http2 *h, const uint8_t **p, const uint8_t *end,
                           const uint8_t **slice)
{
    size_t n = (size_t)(end - *p), size = cd_least(h->preface_left, n);
    *slice = *p;
    if (n == 0)
        return 0;
    if (size > 0) {
        h->preface_left = (uint8_t)(h->preface_left - size);
        if (h->preface_left == 0)
            h->head_at = 0;
        *p += size;
        return size;
    }
    if (h->frame_left == 0) {
        if (n < FRAME_HEAD || h->frame_head_size > 0) {
            *slice = h->frame_head;
            return gather_head(h, p, end);
        }
        begin_frame(h, *p);
        size = FRAME_HEAD;
    }
    size_t payload = cd_least(h->frame_left, n - size);
    h->frame_left -= (uint32_t)payload;
    *p += size + payload;
    end_frame(h);
    return size + payload;
}

/* ---- bodies that nobody reads ---- */

/*
 * Some clients that are still sending take a RST_STREAM behind a complete response for a failure
 * and drop the response (curl up to 8.0), although RFC 9113, 8.1 allows it. So the body is dropped
 * and the window kept open, up to linger_size. Only then is the stream reset, and not before the
 * client has used up a window that it got after the response: a client that has sent that much has
 * also read that far. A client that sends nothing, or is slow, is reset after body_timeout.
 */
static size_t window_left(cd_http2 *h, int32_t id)
{
    int32_t size = nghttp2_session_get_stream_effective_local_window_size(h->session, id);
    int32_t used = nghttp2_session_get_stream_effective_recv_data_length(h->session, id);
    int32_t soon = (int32_t)nghttp2_session_get_local_settings(
        h->session, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE);
    size_t ours = h->conn->server->limits.http2_stream_window;
    if (size > 0 && soon == NGHTTP2_INITIAL_WINDOW_SIZE && (size_t)size < ours)
        return ours - (size_t)used; /* it has not acknowledged our settings yet, but will */
    return size > used ? (size_t)(size - used) : 0;
}

static void reset_orphan(cd_http2 *h, int32_t id, uint32_t code)
{
    if (nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, id, code) != 0)
        h->failed = 1;
    cd_conn_flush_later(h->conn);
}

static cd_http2_orphan *add_orphan(cd_http2 *h, int32_t id, double seconds, uint32_t code)
{
    cd_http2_orphan *orphan = cd_alloc(sizeof *orphan);
    if (orphan == NULL)
        return NULL;
    *orphan = (cd_http2_orphan){.id = id};
    orphan->until = cd_http2_due(h, seconds);
    orphan->code = code;
    cd_http2_sooner(&h->sweep_at, orphan->until);
    cd_list_append(&h->orphans, &orphan->link);
    return orphan;
}

int cd_http2_expect_page(cd_http2 *h, int32_t id)
{
    double patience = h->conn->server->limits.write_timeout;
    return add_orphan(h, id, patience, NGHTTP2_ENHANCE_YOUR_CALM) != NULL ? CD_OK : CD_NOMEM;
}

static cd_http2_orphan *find_orphan(cd_http2 *h, int32_t id)
{
    cd_list_for (l, &h->orphans) {
        cd_http2_orphan *orphan = cd_container(l, cd_http2_orphan, link);
        if (id == 0 || orphan->id == id)
            return orphan;
    }
    return NULL;
}

/* Its response is sent: it is not a page that waits for the client. */
static bool is_answered(const cd_http2_orphan *orphan)
{
    return orphan->code == NGHTTP2_NO_ERROR;
}

/* When the window is used up it is renewed, or the stream reset; it is renewed earlier, too, so
 * that the client need not wait. */
static void renew_window(cd_http2 *h, cd_http2_orphan *orphan)
{
    int32_t used = nghttp2_session_get_stream_effective_recv_data_length(h->session, orphan->id);
    size_t left = window_left(h, orphan->id);
    bool enough = orphan->dropped >= h->conn->server->limits.linger_size;
    if (left > 0 && (enough || used <= 0 || left > (size_t)used))
        return;
    if (used <= 0 || (enough && orphan->renewed))
        reset_orphan(h, orphan->id, orphan->code);
    else if (nghttp2_submit_window_update(h->session, NGHTTP2_FLAG_NONE, orphan->id, used) != 0)
        h->failed = 1;
    orphan->renewed = true;
    cd_conn_flush_later(h->conn);
}

/* How long a client may send nothing. */
static double patience(const cd_http2 *h)
{
    const cd_limits *limits = &h->conn->server->limits;
    if (h->drain == CD_HTTP2_SERVING)
        return limits->body_timeout;
    return limits->linger_timeout > 0 ? limits->linger_timeout : 1e-3;
}

void cd_http2_add_orphan(cd_http2 *h, int32_t id)
{
    cd_http2_end_orphan(h, id); /* the page is out */
    cd_http2_orphan *orphan =
        h->conn->ended ? NULL : add_orphan(h, id, patience(h), NGHTTP2_NO_ERROR);
    if (orphan == NULL)
        reset_orphan(h, id, NGHTTP2_NO_ERROR);
    else
        renew_window(h, orphan);
}

void cd_http2_take_orphan_data(cd_http2 *h, int32_t id, size_t n)
{
    cd_http2_orphan *orphan = find_orphan(h, id);
    if (orphan == NULL || !is_answered(orphan))
        return;
    orphan->taken += n;
    orphan->dropped += n;
    renew_window(h, orphan);
}

void cd_http2_end_orphan(cd_http2 *h, int32_t id)
{
    cd_http2_orphan *orphan = find_orphan(h, id);
    if (orphan == NULL)
        return;
    cd_list_remove(&orphan->link);
    cd_free(orphan);
}

void cd_http2_drop_orphans(cd_http2 *h)
{
    cd_list_for (l, &h->orphans) {
        cd_http2_orphan *orphan = cd_container(l, cd_http2_orphan, link);
        if (is_answered(orphan) && orphan->until != 0)
            reset_orphan(h, orphan->id, orphan->code);
        if (is_answered(orphan))
            orphan->until = 0;
    }
}

void cd_http2_hurry_orphans(cd_http2 *h)
{
    cd_list_for (l, &h->orphans) {
        cd_http2_orphan *orphan = cd_container(l, cd_http2_orphan, link);
        if (is_answered(orphan) && orphan->until != 0)
            cd_http2_sooner(&orphan->until, cd_http2_due(h, patience(h)));
        cd_http2_sooner(&h->sweep_at, orphan->until);
    }
}

static bool orphan_is_slow(const cd_http2 *h, const cd_http2_orphan *orphan)
{
    const cd_limits *limits = &h->conn->server->limits;
    return !is_answered(orphan) || h->drain != CD_HTTP2_SERVING ||
           (double)orphan->taken < limits->body_timeout * (double)limits->body_min_rate;
}

static void sweep_orphans(cd_http2 *h, double now)
{
    cd_list_for (l, &h->orphans) {
        cd_http2_orphan *orphan = cd_container(l, cd_http2_orphan, link);
        if (orphan->until != 0 && now >= orphan->until) {
            bool slow = orphan_is_slow(h, orphan);
            orphan->until = slow ? 0 : cd_http2_due(h, patience(h));
            orphan->taken = 0;
            if (slow)
                reset_orphan(h, orphan->id, orphan->code);
        }
        cd_http2_sooner(&h->sweep_at, orphan->until);
    }
}

/* ---- what does not move ---- */

static size_t unread(const cd_http2_stream *st)
{
    return cd_buf_length(&st->base.in) - st->base.taken;
}

static bool body_is_slow(const cd_http2_stream *st)
{
    const cd_limits *limits = &st->base.server->limits;
    if (unread(st) >= limits->http2_stream_window / 2 ||
        st->wire.http2->withheld >= limits->http2_connection_window / 2)
        return false; /* it may have had to stop */
    return (double)st->window_received < limits->body_timeout * (double)limits->body_min_rate;
}

static bool is_stalled(const cd_http2_wire *w)
{
    cd_http2 *h = w->http2;
    const cd_limits *limits = &h->conn->server->limits;
    double least = limits->write_timeout * (double)limits->write_min_rate;
    if (w->moved > 0 && (double)w->moved >= least)
        return false;
    if (nghttp2_session_get_stream_remote_window_size(h->session, w->id) <= 0)
        return true;
    if (nghttp2_session_get_remote_window_size(h->session) > 0)
        return false; /* its turn has not come */
    uint64_t others = h->moved - w->others_moved;
    return others == 0 || (double)others < least;
}

static void end_slow_body(cd_http2_stream *st)
{
    cd_response_log_refusal(st->base.conn, 408,
                            &(cd_refusal){.why = "body slower than body_min_rate"});
    if (st->base.head_sent)
        cd_http2_cut(st, NGHTTP2_ENHANCE_YOUR_CALM, true);
    else
        cd_http2_page(st, 408);
}

static void end_stalled(cd_http2_wire *w)
{
    cd_conn *c = w->http2->conn;
    cd_conn_log(c, CD_INFO,
                "Stream of %s reset: it took %llu bytes in %g s, with %zu waiting "
                "(--write-timeout)",
                cd_conn_peer(c), (unsigned long long)w->moved, c->server->limits.write_timeout,
                w->out.size);
    if (w->tunnel != NULL)
        cd_http2_tunnel_cut(w->tunnel, NGHTTP2_ENHANCE_YOUR_CALM);
    else
        cd_http2_cut(cd_http2_of(w->stream), NGHTTP2_ENHANCE_YOUR_CALM, true);
}

static void look_at_body(cd_http2_stream *st, double now)
{
    if (st->base.body_complete || now < st->body_check)
        return;
    if (body_is_slow(st)) {
        end_slow_body(st);
        return;
    }
    if (st->base.blocked && unread(st) >= st->base.server->limits.http2_stream_window / 2)
        cd_response_log_stuck(&st->base, unread(st), st->wire.out.size);
    st->window_received = 0;
    st->body_check = cd_http2_due(st->wire.http2, st->base.server->limits.body_timeout);
}

void cd_http2_look_at_output(cd_http2_wire *w, double now)
{
    cd_http2 *h = w->http2;
    if (w->write_check == 0)
        return;
    if (now >= w->write_check) {
        if (is_stalled(w)) {
            end_stalled(w);
            return;
        }
        w->moved = 0;
        w->others_moved = h->moved;
        w->write_check = cd_http2_due(h, h->conn->server->limits.write_timeout);
    }
    cd_http2_sooner(&h->sweep_at, w->write_check);
}

void cd_http2_sweep(cd_http2 *h)
{
    double now = cd_loop_now(h->conn->loop);
    h->sweep_at = 0;
    sweep_orphans(h, now);
    cd_list_for (l, &h->streams) {
        cd_http2_stream *st = cd_container(l, cd_http2_stream, link);
        if (st->base.conn == h->conn && st->body_check != 0)
            look_at_body(st, now);
        if (st->base.conn == h->conn)
            cd_http2_look_at_output(&st->wire, now);
        if (st->base.conn == h->conn)
            cd_http2_sooner(&h->sweep_at, st->base.body_complete ? 0 : st->body_check);
    }
    cd_http2_sweep_tunnels(h, now);
}
