/*
 * http2_response.c - the stream's side of HTTP/2: responses, and what the application asks of a
 * request.
 *
 * As in HTTP/1 a response is held from its start to its first write, which may be the last and then
 * tells the Content-Length. Its body waits in the stream's own output; frames are made of it when
 * the connection is about to write, so that all streams that answered in one turn leave in one
 * write, in nghttp2's order of priorities and within the peer's windows. DATA is copied once, from
 * there to the connection's output: a body pinned by the application would have to be cut into
 * frames and outlive a reset, and TLS wants its records in one piece anyway.
 *
 * send() waits when the stream's output stands at write_high_water. The connection's output is
 * bounded too, by fill in http2.c.
 *
 * A body that does not fit its Content-Length, and a response that breaks off, end with RST_STREAM:
 * the client must never take half an answer for a whole one. The connection goes on, except without
 * memory: then nobody knows what nghttp2 still can.
 */
#include "base/date.h"
#include "base/header.h"
#include "http/response.h"
#include "http2/http2.h"
#include "net/upcalls.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    OWN_FIELDS = 4, /* :status, content-length, date, server */
    FRAME_HEADER = 9,
    PAGE_ROOM = 64,
};

static const char date_name[] = "date: ", server_name[] = "server: ";

/* ---- DATA ---- */

static ssize_t read_data(nghttp2_session *session, int32_t id, uint8_t *buf, size_t length,
                         uint32_t *flags, nghttp2_data_source *source, void *user_data)
{
    (void)buf, (void)user_data;
    cd_http2_wire *w = source->ptr;
    size_t n = w->out.size < length ? w->out.size : length;
    bool last = w->ending && n == w->out.size;
    if (n == 0 && !last) {
        w->deferred = 1;
        return NGHTTP2_ERR_DEFERRED;
    }
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (last)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    w->ended = last;
    if (last && w->stream != NULL && w->stream->trailing) {
        cd_http2_stream *st = cd_http2_of(w->stream);
        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        if (nghttp2_submit_trailer(session, id, st->trailers, st->trailer_count) != 0)
            return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    return (ssize_t)n;
}

/* Counts n bytes that have left the wire's output. */
static void moved(cd_http2_wire *w, size_t n)
{
    cd_stream *s = w->stream;
    w->moved += n;
    w->http2->moved += n;
    if (w->out.size == 0 && w->waits && (!w->ending || w->ended)) {
        w->waits = 0;
        w->http2->waiting--;
        w->write_check = 0;
    }
    if (w->tunnel != NULL)
        cd_http2_tunnel_drained(w->tunnel);
    if (s != NULL && s->blocked && w->out.size <= s->server->limits.write_low_water) {
        s->blocked = 0;
        cd_stream_post(s, CD_POST_DRAIN);
    }
}

static int send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *header,
                     size_t length, nghttp2_data_source *source, void *user_data)
{
    (void)session, (void)frame;
    cd_http2 *h = user_data;
    cd_http2_wire *w = source->ptr;
    cd_conn *c = h->conn;
    uint8_t *room = cd_output_reserve(&c->out, FRAME_HEADER + length);
    if (room == NULL)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    memcpy(room, header, FRAME_HEADER);
    if (cd_output_take(&w->out, c->server, room + FRAME_HEADER, length) < 0) {
        cd_conn_log(c, CD_ERROR, "Stream of %s reset: a file became shorter or cannot be read",
                    cd_conn_peer(c));
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    cd_output_commit(&c->out, FRAME_HEADER + length);
    moved(w, length);
    /* nghttp2 calls this for as many frames as the peer's window has room for (curl: 32 MB) without
     * returning in between, unless it is told to. */
    return c->out.size < c->server->limits.write_high_water ? 0 : NGHTTP2_ERR_PAUSE;
}

const nghttp2_send_data_callback cd_http2_send_data = send_data;

void cd_http2_wake_wire(cd_http2_wire *w)
{
    cd_http2 *h = w->http2;
    bool is_end = w->ending && w->feeding; /* also a frame without bytes needs an open window */
    if ((w->out.size > 0 || is_end) && !w->waits) {
        w->waits = 1;
        h->waiting++;
        w->moved = 0;
        w->others_moved = h->moved;
        w->write_check = cd_http2_due(h, h->conn->server->limits.write_timeout);
    }
    if (w->deferred) {
        w->deferred = 0;
        nghttp2_session_resume_data(h->session, w->id);
    }
    cd_conn_flush_later(h->conn);
}

void cd_http2_drop_output(cd_http2_wire *w, cd_server *server)
{
    cd_output_dispose(&w->out, server);
    if (w->waits && w->http2 != NULL)
        w->http2->waiting--;
    w->waits = 0;
    w->write_check = 0;
}

/* ---- heads ---- */

static nghttp2_nv field(cd_str name, cd_str value)
{
    return (nghttp2_nv){(uint8_t *)name.p, (uint8_t *)value.p, name.n, value.n,
                        NGHTTP2_NV_FLAG_NONE};
}

static bool is_dropped(cd_str name)
{
    switch (cd_response_field(name)) {
    case CD_FIELD_DROPPED:
    case CD_FIELD_HOP:
    case CD_FIELD_LENGTH:
    case CD_FIELD_CONNECTION:
        return true;
    default:
        return false;
    }
}

/* Copies the application's fields with names in lower case and values without surrounding blanks,
 * as RFC 9113, 8.2.1 demands. The first place is for :status. */
static void copy_fields(cd_http2_stream *st, const cd_header *headers, size_t count, char *bytes)
{
    for (size_t i = 0; i < count; i++) {
        cd_str name = headers[i].name, value = cd_str_trim(headers[i].value);
        if (is_dropped(name))
            continue;
        char *to = bytes;
        memcpy(to, name.p, name.n);
        cd_str_lower(to, name.n);
        bytes += name.n;
        if (value.n > 0)
            memcpy(bytes, value.p, value.n);
        st->fields[st->field_count++] = field((cd_str){to, name.n}, (cd_str){bytes, value.n});
        bytes += value.n;
    }
}

static int on_start(cd_stream *s, int status, const cd_header *headers, size_t count)
{
    cd_http2_stream *st = cd_http2_of(s);
    cd_survey v;
    int code = cd_response_check(s, status);
    if (code == CD_OK)
        code = cd_response_survey(&v, headers, count);
    if (code != CD_OK)
        return code;
    size_t table = (v.count + OWN_FIELDS) * sizeof *st->fields;
    st->fields = cd_arena_alloc(&s->arena, table + v.size);
    if (st->fields == NULL) {
        cd_conn_abort(s->conn);
        return CD_NOMEM;
    }
    st->field_count = 1;
    copy_fields(st, headers, count, (char *)st->fields + table);
    cd_response_begin(s, status, &v);
    return CD_OK;
}

static size_t write_number(char to[CD_NUMBER_ROOM], uint64_t number)
{
    return (size_t)(cd_response_put_number((uint8_t *)to, number) - (uint8_t *)to);
}

static void write_status(char to[3], int status)
{
    to[0] = (char)('0' + status / 100);
    to[1] = (char)('0' + status / 10 % 10);
    to[2] = (char)('0' + status % 10);
}

/* Adds Date and Server, unless the application set them. */
static size_t own_fields(nghttp2_nv *to, cd_server *server, bool date, bool name)
{
    nghttp2_nv *start = to;
    if (date && server->date_header) {
        const char *text = cd_date_header(&server->date) + sizeof date_name - 1;
        *to++ = field(CD_STR("date"), (cd_str){text, strlen(text) - 2});
    }
    if (name && server->server_header != NULL)
        *to++ = field(CD_STR("server"),
                      (cd_str){server->server_header + sizeof server_name - 1,
                               server->server_header_length - (sizeof server_name - 1) - 2});
    return (size_t)(to - start);
}

int cd_http2_submit(cd_http2_stream *st, cd_http2_wire *w)
{
    cd_stream *s = &st->base;
    nghttp2_data_provider provider = {{.ptr = w}, read_data};
    char status[3], length[CD_NUMBER_ROOM];
    nghttp2_nv *fields = st->fields;
    size_t count = st->field_count;
    write_status(status, s->status);
    fields[0] = field(CD_STR(":status"), (cd_str){status, sizeof status});
    if (s->has_length) {
        size_t n = write_number(length, s->length);
        fields[count++] = field(CD_STR("content-length"), (cd_str){length, n});
    }
    count += own_fields(fields + count, s->server, !s->has_date, !s->has_server);
    s->head_sent = 1;
    if (w != NULL)
        w->feeding = 1;
    return nghttp2_submit_response(st->wire.http2->session, st->wire.id, fields, count,
                                   w != NULL ? &provider : NULL);
}

/* ---- body ---- */

/* A chunk of which no byte is sent. */
static int drop(cd_server *server, void *token)
{
    if (token == NULL)
        return CD_OK;
    if (cd_server_reserve_release(server) < 0)
        return CD_NOMEM;
    cd_server_release(server, token);
    return CD_OK;
}

/* Takes all or nothing; bytes that the body has no room for are released at once. */
static int queue(cd_http2_stream *st, cd_chunk chunk, const cd_file_part *file)
{
    cd_http2_wire *w = &st->wire;
    cd_server *server = st->base.server;
    bool nothing = st->base.bodyless || chunk.n == 0;
    if (file != NULL && nothing)
        close(file->fd);
    if (nothing)
        return drop(server, chunk.token);
    if (file != NULL)
        return cd_output_file(&w->out, file->fd, file->offset, chunk.n);
    if (chunk.token != NULL)
        return cd_output_pin(&w->out, server, chunk);
    uint8_t *room = cd_output_reserve(&w->out, chunk.n);
    if (room == NULL)
        return CD_NOMEM;
    memcpy(room, chunk.p, chunk.n);
    cd_output_commit(&w->out, chunk.n);
    return CD_OK;
}

/* Returns CD_AGAIN when enough output waits in the stream; before that it tries to write at
 * once. */
static int after_write(cd_http2_stream *st)
{
    cd_stream *s = &st->base;
    if (st->wire.out.size < s->server->limits.write_high_water)
        return CD_OK;
    cd_conn_push(s->conn, st->wire.out.size);
    if (s->conn == NULL || st->wire.out.size < s->server->limits.write_high_water)
        return CD_OK;
    return CD_AGAIN;
}

static void on_abort(cd_stream *s)
{
    cd_http2 *h = cd_http2_of(s)->wire.http2;
    cd_http2_failed(h, cd_http2_cut(cd_http2_of(s), NGHTTP2_INTERNAL_ERROR, false));
}

static int end_response(cd_http2_stream *st)
{
    st->base.complete = 1;
    st->wire.ending = 1;
    cd_http2_wake_wire(&st->wire);
    return CD_OK; /* also above the high-water mark: there is nothing more to wait for */
}

/* Submits the head with the first piece, of n bytes. The head ends the stream only if the
 * application has nothing more to say; else the application would be told that its client has left.
 * False: no memory. */
static bool begin(cd_http2_stream *st, size_t n, bool more)
{
    cd_stream *s = &st->base;
    bool has_data = s->announced || more || (!s->bodyless && n > 0);
    return !cd_http2_failed(st->wire.http2, cd_http2_submit(st, has_data ? &st->wire : NULL));
}

static int write_piece(cd_stream *s, cd_chunk chunk, const cd_file_part *file, bool more)
{
    cd_http2_stream *st = cd_http2_of(s);
    size_t n = chunk.n;
    if (!s->started || s->complete || s->body_ended)
        return CD_ORDER;
    if (!s->head_sent)
        s->trailing = cd_response_has_trailers(s);
    if (!s->head_sent && !s->trailing)
        cd_response_first_write(s, n, more);
    if (!cd_response_fits(s, n, more)) {
        on_abort(s);
        return CD_LENGTH;
    }
    if (!s->head_sent && !begin(st, n, more))
        return CD_NOMEM;
    if (queue(st, chunk, file) < 0) {
        cd_conn_abort(s->conn);
        return CD_NOMEM;
    }
    s->sent += s->bodyless ? 0 : n;
    s->body_ended = !more && s->announced;
    if (!more && !s->announced)
        return end_response(st);
    cd_http2_wake_wire(&st->wire);
    return more ? after_write(st) : CD_OK;
}

static int on_write(cd_stream *s, cd_chunk chunk, bool more)
{
    return write_piece(s, chunk, NULL, more);
}

static int on_file(cd_stream *s, int fd, uint64_t offset, size_t count, bool more)
{
    cd_file_part file = {fd, offset};
    return write_piece(s, (cd_chunk){NULL, count, NULL}, &file, more);
}

/* ---- before and behind the body ---- */

static int submit_hint(cd_http2_stream *st, const cd_str *links, size_t count)
{
    nghttp2_nv *fields = cd_arena_alloc(&st->base.arena, (count + 1) * sizeof *fields);
    if (fields == NULL)
        return NGHTTP2_ERR_NOMEM;
    fields[0] = field(CD_STR(":status"), CD_STR("103"));
    for (size_t i = 0; i < count; i++) {
        fields[i + 1] = field(CD_STR("link"), cd_str_trim(links[i]));
    }
    return nghttp2_submit_headers(st->wire.http2->session, NGHTTP2_FLAG_NONE, st->wire.id, NULL,
                                  fields, count + 1, NULL);
}

static int on_hint(cd_stream *s, const cd_str *links, size_t count)
{
    cd_http2_stream *st = cd_http2_of(s);
    if (cd_http2_failed(st->wire.http2, submit_hint(st, links, count)))
        return CD_NOMEM;
    cd_conn_flush_later(s->conn);
    return CD_OK;
}

/* They go out in one block, behind the last byte of the body. */
static int keep_trailers(cd_http2_stream *st, const cd_header *trailers, size_t count)
{
    size_t size = (st->trailer_count + count) * sizeof *st->trailers;
    nghttp2_nv *all = cd_arena_alloc(&st->base.arena, size);
    if (all == NULL)
        return CD_NOMEM;
    if (st->trailer_count > 0)
        memcpy(all, st->trailers, st->trailer_count * sizeof *all);
    st->trailers = all;
    for (size_t i = 0; i < count; i++) {
        cd_str name = cd_stream_dup(&st->base, trailers[i].name);
        cd_str value = cd_stream_dup(&st->base, cd_str_trim(trailers[i].value));
        if (name.p == NULL || value.p == NULL)
            return CD_NOMEM;
        cd_str_lower((char *)name.p, name.n);
        all[st->trailer_count++] = field(name, value);
    }
    return CD_OK;
}

static int on_trailers(cd_stream *s, const cd_header *trailers, size_t count, bool more)
{
    cd_http2_stream *st = cd_http2_of(s);
    if (s->trailing && keep_trailers(st, trailers, count) < 0) {
        cd_conn_abort(s->conn);
        return CD_NOMEM;
    }
    return more ? CD_OK : end_response(st);
}

/* ---- ends that are not the application's ---- */

static int write_page(char to[PAGE_ROOM], int status)
{
    return snprintf(to, PAGE_ROOM, "%d %s\n", status, cd_response_reason(status));
}

/* The page is so short that the source need not keep it: the status is enough to make it. */
static ssize_t read_page(nghttp2_session *session, int32_t id, uint8_t *buf, size_t length,
                         uint32_t *flags, nghttp2_data_source *source, void *user_data)
{
    (void)session, (void)id, (void)user_data;
    char text[PAGE_ROOM];
    size_t n = (size_t)write_page(text, source->fd >> 8), from = source->fd & 0xff;
    size_t k = n - from < length ? n - from : length;
    memcpy(buf, text + from, k);
    source->fd += (int)k;
    if (from + k == n)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)k;
}

int cd_http2_submit_page(cd_http2 *h, int32_t id, int status, bool bodyless)
{
    char text[PAGE_ROOM], digits[3], length[CD_NUMBER_ROOM];
    nghttp2_nv fields[OWN_FIELDS + 3];
    size_t count = 0, n = write_number(length, (size_t)write_page(text, status));
    nghttp2_data_provider provider = {{.fd = status << 8}, read_page};
    write_status(digits, status);
    fields[count++] = field(CD_STR(":status"), (cd_str){digits, sizeof digits});
    count += own_fields(fields + count, h->conn->server, true, true);
    fields[count++] = field(CD_STR("content-type"), CD_STR("text/plain; charset=utf-8"));
    fields[count++] = field(CD_STR("content-length"), (cd_str){length, n});
    cd_conn_flush_later(h->conn);
    if (nghttp2_submit_response(h->session, id, fields, count, bodyless ? NULL : &provider) != 0)
        return CD_NOMEM;
    return bodyless ? CD_OK : cd_http2_expect_page(h, id);
}

int cd_http2_page(cd_http2_stream *st, int status)
{
    cd_stream *s = &st->base;
    cd_http2 *h = st->wire.http2;
    bool bodyless = cd_str_is(s->head.method, "head");
    char text[PAGE_ROOM];
    nghttp2_session_set_stream_user_data(h->session, st->wire.id, NULL);
    int code = cd_http2_submit_page(h, st->wire.id, status, bodyless);
    s->status = status;
    s->sent = bodyless ? 0 : (uint64_t)write_page(text, status);
    cd_http2_end_exchange(st, true);
    return code;
}

int cd_http2_reset_wire(cd_http2_wire *w, uint32_t code)
{
    cd_http2 *h = w->http2;
    nghttp2_session_set_stream_user_data(h->session, w->id, NULL);
    cd_http2_drop_output(w, h->conn->server);
    cd_conn_flush_later(h->conn);
    return nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, w->id, code);
}

int cd_http2_cut(cd_http2_stream *st, uint32_t code, bool client_gone)
{
    int rc = cd_http2_reset_wire(&st->wire, code);
    cd_http2_end_exchange(st, client_gone);
    return rc == 0 ? CD_OK : CD_NOMEM;
}

/* Answers with the right status if that is still possible, else resets the stream; for callers
 * outside of nghttp2. */
static void end_with(cd_http2_stream *st, int status, bool client_gone)
{
    cd_http2 *h = st->wire.http2;
    int code = st->base.head_sent ? cd_http2_cut(st, NGHTTP2_INTERNAL_ERROR, client_gone)
                                  : cd_http2_page(st, status);
    cd_http2_failed(h, code);
}

static void on_finish(cd_stream *s, bool failed)
{
    if (s->complete)
        return;
    if (!failed)
        cd_response_log_unfinished(s);
    end_with(cd_http2_of(s), 500, false);
}

/* http_timeout has passed. A complete response only waits for its client. */
static void on_timeout(cd_stream *s)
{
    if (s->complete)
        return;
    cd_response_log_timeout(s);
    end_with(cd_http2_of(s), 503, true);
}

/* ---- what the application asks of the request ---- */

/* Tells a peer that waits for 100 Continue; from now on body_timeout counts. */
static void expect_body(cd_http2_stream *st)
{
    cd_stream *s = &st->base;
    cd_http2 *h = st->wire.http2;
    nghttp2_nv status = field(CD_STR(":status"), CD_STR("100"));
    s->expect_continue = 0;
    if (s->body_complete)
        return;
    st->window_received = 0;
    st->body_check = cd_http2_due(h, s->server->limits.body_timeout);
    cd_http2_sooner(&h->sweep_at, st->body_check);
    if (s->head_sent || st->received > 0)
        return;
    int rc =
        nghttp2_submit_headers(h->session, NGHTTP2_FLAG_NONE, st->wire.id, NULL, &status, 1, NULL);
    cd_conn_flush_later(h->conn);
    cd_http2_failed(h, rc);
}

static void on_pulled(cd_stream *s)
{
    cd_http2_stream *st = cd_http2_of(s);
    if (s->expect_continue)
        expect_body(st);
    if (s->conn != NULL)
        cd_http2_credit(st);
}

const cd_stream_ops cd_http2_stream_ops = {
    .start = on_start,
    .write = on_write,
    .hint = on_hint,
    .trailers = on_trailers,
    .file = on_file,
    .pulled = on_pulled,
    .abort = on_abort,
    .finish = on_finish,
    .timeout = on_timeout,
};
