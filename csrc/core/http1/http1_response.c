/*
 * http1_response.c - the response side of HTTP/1: heads, framing, constant pages.
 *
 * A response is held from its start to its first write, because only then is it known how the body
 * will be framed: by the application's Content-Length; by one of ours if the first write is the
 * last; else by chunks, or for HTTP/1.0 by the end of the connection. Head and first piece then
 * leave in one write. Names and values of the application go out as they are; they have passed
 * cd_header_check. What concerns the connection is ours: its Transfer-Encoding and Keep-Alive are
 * dropped, of its Connection only "close" is heard.
 *
 * Early hints go out before the held head; trailers stand behind the last chunk, which then is all
 * that ends a body.
 *
 * A body that does not fit its Content-Length, and a response that breaks off, end with a reset:
 * the client must never take half an answer for a whole one. Only when the server stops, an event
 * stream is cut by closing: what was written arrives, and its missing last chunk tells the rest.
 *
 * Heads are assembled with memcpy in the place they are sent from. No snprintf: it alone would cost
 * a tenth of a small request.
 */
#include "base/date.h"
#include "base/header.h"
#include "http/response.h"
#include "http1/http1.h"
#include "net/upcalls.h"

#include <string.h>
#include <unistd.h>

/* Room for the bytes around a piece of body, without the application's headers. */
enum {
    FIELDS_ROOM = sizeof "content-length: \r\nconnection: keep-alive\r\ntransfer-encoding: "
                         "chunked\r\n\r\n" +
        CD_NUMBER_ROOM,
    DATE_ROOM = 37,
    CHUNK_ROOM = CD_NUMBER_ROOM + sizeof "\r\n\r\n0\r\n\r\n",
};

/* ---- assembling ---- */

static uint8_t *put(uint8_t *to, const void *p, size_t n)
{
    if (n > 0)
        memcpy(to, p, n);
    return to + n;
}

static uint8_t *put_str(uint8_t *to, cd_str text)
{
    return put(to, text.p, text.n);
}

static uint8_t *put_hex(uint8_t *to, uint64_t number)
{
    uint8_t digits[CD_NUMBER_ROOM], *p = digits + sizeof digits;
    do {
        *--p = (uint8_t)"0123456789abcdef"[number & 15];
        number >>= 4;
    } while (number > 0);
    return put(to, p, (size_t)(digits + sizeof digits - p));
}

/* HTTP/1.0 clients are answered in their own version, as daphne does (RFC 9112, 2.3 allows it). */
static uint8_t *put_status_line(uint8_t *to, bool is_old, int status, const char *reason)
{
    to = is_old ? put_str(to, CD_STR("HTTP/1.0 ")) : put_str(to, CD_STR("HTTP/1.1 "));
    to = cd_response_put_number(to, (uint64_t)status);
    *to++ = ' ';
    to = put(to, reason, strlen(reason));
    return put_str(to, CD_STR("\r\n"));
}

static uint8_t *put_field(uint8_t *to, cd_str name, cd_str value)
{
    to = put_str(to, name);
    to = put_str(to, CD_STR(": "));
    to = put_str(to, value);
    return put_str(to, CD_STR("\r\n"));
}

static uint8_t *put_date_and_server(uint8_t *to, cd_server *server, bool date, bool name)
{
    if (date)
        to = put(to, cd_date_header(&server->date), DATE_ROOM);
    return name ? put(to, server->server_header, server->server_header_length) : to;
}

/* ---- start ---- */

static uint8_t *put_headers(uint8_t *to, const cd_header *headers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        enum cd_field field = cd_response_field(headers[i].name);
        if (field == CD_FIELD_DROPPED || field == CD_FIELD_LENGTH || field == CD_FIELD_CONNECTION)
            continue;
        to = put_field(to, headers[i].name, headers[i].value);
    }
    return to;
}

int cd_http1_start(cd_stream *s, int status, const cd_header *headers, size_t count)
{
    const char *reason = cd_response_reason(status);
    cd_survey v;
    int code = cd_response_check(s, status);
    if (code == CD_OK)
        code = cd_response_survey(&v, headers, count);
    if (code != CD_OK)
        return code;
    size_t room =
        sizeof "HTTP/1.1 000 \r\n" - 1 + strlen(reason) + v.size + v.count * (sizeof ": \r\n" - 1);
    uint8_t *head = cd_arena_alloc(&s->arena, room);
    if (head == NULL) {
        cd_http1_cut(s, false);
        return CD_NOMEM;
    }
    uint8_t *end =
        put_headers(put_status_line(head, s->head.http_minor == 0, status, reason), headers, count);
    s->response_head = (cd_str){(const char *)head, (size_t)(end - head)};
    cd_response_begin(s, status, &v);
    return CD_OK;
}

/* ---- the first write ---- */

/* Will there be another request on this connection? This is decided once, when the head is
 * written. */
static bool must_close(cd_stream *s, bool more)
{
    cd_conn *c = s->conn;
    cd_http1 *h = c->self;
    if (s->close_after || !h->keep_alive || c->server->draining || s->head.kind != CD_HTTP)
        return true;
    if (h->phase != CD_HTTP1_BODY)
        return c->ended && cd_buf_length(&c->in) == 0;
    /* A client that got no 100 Continue may send its body or not, so the body could not be told
     * from the next request. */
    return s->expect_continue ||
           (!more && cd_http1_unread_body(h) > c->server->limits.discard_size);
}

static void choose_framing(cd_stream *s, size_t n, bool more)
{
    bool is_old = s->head.http_minor == 0;
    s->close_after = must_close(s, more);
    s->chunked = s->trailing = s->head.http_minor > 0 && cd_response_has_trailers(s);
    if (s->trailing)
        return;
    cd_response_first_write(s, n, more);
    if (s->has_length || s->bodyless)
        return;
    s->chunked = !is_old;
    s->close_after |= is_old;
}

static size_t head_room(const cd_stream *s)
{
    if (s->head_sent)
        return CHUNK_ROOM;
    return s->response_head.n + FIELDS_ROOM + DATE_ROOM + s->server->server_header_length +
           CHUNK_ROOM;
}

static uint8_t *put_head(uint8_t *to, cd_stream *s)
{
    cd_server *server = s->server;
    to = put(to, s->response_head.p, s->response_head.n);
    if (s->chunked) {
        to = put_str(to, CD_STR("transfer-encoding: chunked\r\n"));
    } else if (s->has_length) {
        to = put_str(to, CD_STR("content-length: "));
        to = cd_response_put_number(to, s->length);
        to = put_str(to, CD_STR("\r\n"));
    }
    to = put_date_and_server(to, server, server->date_header && !s->has_date,
                             server->server_header != NULL && !s->has_server);
    if (s->close_after)
        to = put_str(to, CD_STR("connection: close\r\n"));
    else if (s->head.http_minor == 0)
        to = put_str(to, CD_STR("connection: keep-alive\r\n"));
    s->head_sent = 1;
    return put_str(to, CD_STR("\r\n"));
}

/* ---- writing ---- */

static int queue_pinned(cd_conn *c, cd_chunk chunk, const cd_file_part *file)
{
    return file != NULL ? cd_conn_put_file(c, file->fd, file->offset, chunk.n)
                        : cd_conn_put_chunk(c, chunk);
}

/* Queues head, chunk line, body and line end together. All room is made first, and a pinned chunk
 * or a file is taken last, so that either everything is taken or nothing. */
static int queue(cd_stream *s, cd_chunk chunk, const cd_file_part *file, bool more)
{
    cd_conn *c = s->conn;
    bool pinned = file != NULL || (chunk.token != NULL && chunk.n > 0);
    uint8_t *room = cd_conn_reserve(c, head_room(s) + (pinned ? 0 : chunk.n));
    if (room == NULL)
        return CD_NOMEM;
    uint8_t *p = s->head_sent ? room : put_head(room, s);
    if (s->chunked && chunk.n > 0)
        p = put_str(put_hex(p, chunk.n), CD_STR("\r\n"));
    if (!pinned)
        p = put(p, chunk.p, chunk.n);
    cd_conn_commit(c, (size_t)(p - room));
    if (pinned && queue_pinned(c, chunk, file) < 0)
        return CD_NOMEM;
    if (!s->chunked)
        return CD_OK;
    /* The line end of the data, the last chunk, the end of the trailers. */
    static const char tail[] = "\r\n0\r\n\r\n";
    size_t end = s->trailing ? sizeof tail - 3 : sizeof tail - 1;
    size_t from = chunk.n > 0 ? 0 : 2, to = more ? 2 : end;
    return from < to ? cd_conn_put(c, tail + from, to - from) : CD_OK;
}

/* A piece of body of which no byte is sent: head or end of the body may be, and the token is
 * released at once. */
static int queue_nothing(cd_stream *s, void *token, bool more)
{
    cd_server *server = s->server;
    if (token != NULL && cd_server_reserve_release(server) < 0)
        return CD_NOMEM;
    int code = queue(s, (cd_chunk){NULL, 0, NULL}, NULL, more);
    if (token != NULL)
        cd_server_release(server, code < 0 ? NULL : token);
    return code;
}

static int end_response(cd_stream *s)
{
    s->complete = 1;
    cd_http1_responded(s);
    return CD_OK; /* also above the high-water mark: there is nothing more to wait for */
}

static int no_memory(cd_stream *s)
{
    cd_http1_cut(s, false);
    return CD_NOMEM;
}

static int write_piece(cd_stream *s, cd_chunk chunk, const cd_file_part *file, bool more)
{
    size_t n = chunk.n;
    if (!s->started || s->complete || s->body_ended)
        return CD_ORDER;
    if (!s->head_sent)
        choose_framing(s, n, more);
    if (!cd_response_fits(s, n, more)) {
        cd_http1_cut(s, false);
        return CD_LENGTH;
    }
    if (n == 0 || s->bodyless) {
        if (queue_nothing(s, chunk.token, more) < 0)
            return no_memory(s);
        if (file != NULL)
            close(file->fd);
    } else if (queue(s, chunk, file, more) < 0) {
        return no_memory(s);
    } else {
        s->sent += n;
    }
    if (more)
        return cd_conn_after_write(s->conn);
    s->body_ended = s->announced;
    return s->announced ? CD_OK : end_response(s);
}

int cd_http1_write(cd_stream *s, cd_chunk chunk, bool more)
{
    return write_piece(s, chunk, NULL, more);
}

int cd_http1_file(cd_stream *s, int fd, uint64_t offset, size_t count, bool more)
{
    cd_file_part file = {fd, offset};
    return write_piece(s, (cd_chunk){NULL, count, NULL}, &file, more);
}

/* ---- before and behind the body ---- */

int cd_http1_hint(cd_stream *s, const cd_str *links, size_t count)
{
    cd_conn *c = s->conn;
    size_t size = sizeof "HTTP/1.1 103 Early Hints\r\n\r\n";
    for (size_t i = 0; i < count; i++)
        size += links[i].n + sizeof "link: \r\n";
    uint8_t *room = cd_conn_reserve(c, size);
    if (room == NULL)
        return no_memory(s);
    uint8_t *p = put_str(room, CD_STR("HTTP/1.1 103 Early Hints\r\n"));
    for (size_t i = 0; i < count; i++)
        p = put_field(p, CD_STR("link"), links[i]);
    p = put_str(p, CD_STR("\r\n"));
    cd_conn_commit(c, (size_t)(p - room));
    return cd_conn_after_write(c);
}

static int queue_trailers(cd_stream *s, const cd_header *trailers, size_t count, bool more)
{
    size_t size = sizeof "\r\n";
    for (size_t i = 0; i < count; i++)
        size += trailers[i].name.n + trailers[i].value.n + sizeof ": \r\n";
    uint8_t *room = cd_conn_reserve(s->conn, size);
    if (room == NULL)
        return CD_NOMEM;
    uint8_t *p = room;
    for (size_t i = 0; i < count; i++)
        p = put_field(p, trailers[i].name, trailers[i].value);
    if (!more)
        p = put_str(p, CD_STR("\r\n"));
    cd_conn_commit(s->conn, (size_t)(p - room));
    return CD_OK;
}

int cd_http1_trailers(cd_stream *s, const cd_header *trailers, size_t count, bool more)
{
    if (s->trailing && queue_trailers(s, trailers, count, more) < 0)
        return no_memory(s);
    return more ? cd_conn_after_write(s->conn) : end_response(s);
}

/* ---- ends that are not the application's ---- */

static size_t page_size(const char *reason)
{
    return sizeof "000 \n" - 1 + strlen(reason);
}

static uint8_t *put_page_fields(uint8_t *to, int status)
{
    if (status == 405)
        to = put_str(to,
                     CD_STR("allow: GET\r\n")); /* only WebSocket handshakes are refused with it */
    if (status == 426)
        to = put_str(
            to, CD_STR("upgrade: websocket\r\nsec-websocket-version: 13\r\nconnection: upgrade, "
                       "close\r\n\r\n"));
    else
        to = put_str(to, CD_STR("connection: close\r\n\r\n"));
    return to;
}

/* A complete response of constant text, with nothing of the request in it. */
static int queue_page(cd_conn *c, int status, bool is_old, bool bodyless)
{
    enum { ROOM = 256 };
    const char *reason = cd_response_reason(status);
    cd_server *server = c->server;
    size_t size = page_size(reason);
    uint8_t *room = cd_conn_reserve(c, ROOM + DATE_ROOM + server->server_header_length + 2 * size);
    if (room == NULL)
        return CD_NOMEM;
    uint8_t *p = put_status_line(room, is_old, status, reason);
    p = put_date_and_server(p, server, server->date_header, server->server_header != NULL);
    p = put_str(p, CD_STR("content-type: text/plain; charset=utf-8\r\ncontent-length: "));
    p = put_str(cd_response_put_number(p, size), CD_STR("\r\n"));
    p = put_page_fields(p, status);
    if (!bodyless) {
        p = cd_response_put_number(p, (uint64_t)status);
        *p++ = ' ';
        p = put(p, reason, strlen(reason));
        *p++ = '\n';
    }
    cd_conn_commit(c, (size_t)(p - room));
    return CD_OK;
}

void cd_http1_refuse(cd_conn *c, int status)
{
    if (queue_page(c, status, false, cd_http1_of(c)->parser.method == HTTP_HEAD) < 0)
        cd_conn_abort(c);
    else
        cd_conn_close(c, true);
}

static void end_exchange(cd_stream *s, bool client_gone)
{
    cd_http1_of(s->conn)->stream = NULL;
    if (s->head.kind == CD_HTTP)
        cd_stream_access(s, CD_COMPLETE);
    cd_stream_detach(s, client_gone);
}

void cd_http1_page(cd_stream *s, int status)
{
    cd_conn *c = s->conn;
    bool bodyless = cd_str_is(s->head.method, "head");
    if (queue_page(c, status, s->head.http_minor == 0, bodyless) < 0) {
        cd_http1_cut(s, true);
        return;
    }
    s->status = status;
    s->sent = bodyless ? 0 : page_size(cd_response_reason(status));
    end_exchange(s, true);
    cd_conn_close(c, true);
}

void cd_http1_cut(cd_stream *s, bool client_gone)
{
    cd_conn *c = s->conn;
    end_exchange(s, client_gone);
    cd_conn_abort(c);
}

static void close_before_last_chunk(cd_stream *s)
{
    cd_conn *c = s->conn;
    end_exchange(s, false);
    cd_conn_close(c, true);
}

void cd_http1_finish(cd_stream *s, bool failed)
{
    if (!failed)
        cd_response_log_unfinished(s);
    if (!s->head_sent)
        cd_http1_page(s, 500);
    else if (s->conn->server->draining && s->chunked)
        close_before_last_chunk(s);
    else
        cd_http1_cut(s, false);
}
