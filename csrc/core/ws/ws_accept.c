/*
 * A WebSocket from its request to the application's answer.
 *
 * Until then it is still a request of HTTP: the answer may be an ordinary response (denial, ASGI's
 * websocket.http.response), and http1 or http2, the carrier, watches whether the client leaves. For
 * an application that gives no answer the carrier's constant ones are sent: 403 when it closes or
 * ends, 500 when it fails, 503 when it takes longer than websocket_connect_timeout. All of them end
 * the connection: a client that asked for a WebSocket has no second request.
 *
 * Accepting agrees on an extension, has the carrier send the head that says yes, and hands
 * connection and stream over to ws.c.
 */
#include "ws/ws.h"

#include "base/escape.h"
#include "base/header.h"
#include "log/log.h"
#include "net/server_state.h"
#include "ws/ws_deflate.h"
#include "ws/ws_handshake.h"

enum { ALIGNMENT = 64 }; /* alignment of the copies in shrink_head */

/* ---- no ---- */

/* Sends the application's own response, which denies the handshake. */
static int start(cd_stream *s, int status, const cd_header *headers, size_t count)
{
    int code = s->carrier->start(s, status, headers, count);
    if (code == CD_OK) {
        cd_timer_set(&s->timer, s->server->limits.http_timeout);
        cd_stream_access(s, CD_REJECTED);
    }
    return code;
}

static void deny(cd_stream *s, int status)
{
    s->status = status;
    cd_stream_access(s, CD_REJECTED);
    s->carrier->page(s, status);
}

static int close_unaccepted(cd_stream *s, int code, cd_str reason)
{
    (void)code; /* there is no close frame that could carry them */
    (void)reason;
    if (s->started)
        return CD_ORDER;
    deny(s, 403);
    return CD_OK;
}

static void log_path(cd_stream *s, const char *what)
{
    cd_stream_log(s, CD_WARNING, "%s: WebSocket %.*s", what, cd_log_width(s->head.raw_path),
                  s->head.raw_path.p);
}

static void finish(cd_stream *s, bool failed)
{
    if (s->started) {
        s->carrier->finish(s, failed);
        return;
    }
    if (!failed)
        log_path(s, "Application ended without accepting or closing");
    deny(s, failed ? 500 : 403);
}

static void on_timeout(cd_stream *s)
{
    if (!s->started) {
        log_path(s,
                 "Application neither accepted nor closed in time (--websocket_connect_timeout)");
        deny(s, 503);
        return;
    }
    log_path(s, "Application timed out while denying (--http-timeout)");
    if (s->head_sent)
        s->carrier->cut(s, true);
    else
        s->carrier->page(s, 503);
}

static int write_denial(cd_stream *s, cd_chunk chunk, bool more)
{
    return s->carrier->write(s, chunk, more);
}

static void on_abort(cd_stream *s)
{
    s->carrier->cut(s, false);
}

static void on_pulled(cd_stream *s)
{
    (void)s; /* the request has no body: there is no credit to return */
}

static bool no_message(cd_stream *s, cd_event *event)
{
    (void)s;
    (void)event;
    return false;
}

/* ---- yes ---- */

/* Fails on the first header that the application may not set. */
static int check_headers(const cd_header *headers, size_t count)
{
    int code = CD_OK;
    for (size_t i = 0; i < count && code == CD_OK; i++)
        code = cd_ws_check_header(&headers[i]);
    return code;
}

/* Allows context takeover only while there is memory for it. */
static cd_ws_extension negotiate(const cd_stream *s)
{
    const cd_server *server = s->server;
    unsigned bits = (unsigned)server->limits.websocket_deflate_window_bits;
    if (server->deflate == NULL)
        return (cd_ws_extension){.on = false};
    cd_ws_extension e = cd_ws_extension_negotiate(s->head.headers, s->head.header_count, bits,
                                                  server->websocket_deflate_context_takeover);
    if (!cd_ws_deflate_affords(server->deflate, &e))
        e = cd_ws_extension_negotiate(s->head.headers, s->head.header_count, bits, false);
    return e;
}

static size_t offset_in(cd_str whole, cd_str part)
{
    bool inside = part.p >= whole.p && part.p + part.n <= whole.p + whole.n;
    return inside ? (size_t)(part.p - whole.p) : SIZE_MAX;
}

/* A slice of the target becomes a slice of the kept target; any other text is copied. */
static cd_str moved(cd_stream *s, cd_str part, cd_str target)
{
    size_t offset = offset_in(target, part);
    if (part.n == 0 || offset == SIZE_MAX)
        return cd_stream_dup(s, part);
    return (cd_str){s->head.target.p + offset, part.n};
}

/*
 * An accepted WebSocket lives for days, and nobody asks for the headers of its handshake any more:
 * only what logs tell of is kept. That is a tenth of what an idle one costs, with a browser's
 * headers a third. Without memory all stays.
 */
static void shrink_head(cd_stream *s)
{
    cd_head *head = &s->head, old = s->head;
    cd_arena all = s->arena;
    if (head->origin != NULL || cd_log_format_headers(s->server->log->format))
        return;
    cd_arena_init(&s->arena);
    cd_arena_expect(&s->arena, old.method.n + old.target.n + old.path.n + ALIGNMENT);
    head->method = cd_stream_dup(s, old.method);
    head->target = cd_stream_dup(s, old.target);
    if (head->target.p != NULL) {
        head->raw_path = moved(s, old.raw_path, old.target);
        head->path = moved(s, old.path, old.target);
        head->query = moved(s, old.query, old.target);
    }
    head->headers = NULL;
    head->subprotocols = NULL;
    head->header_count = head->subprotocol_count = 0;
    if (head->method.p && head->target.p && head->raw_path.p && head->path.p && head->query.p) {
        cd_arena_dispose(&all);
        return;
    }
    cd_arena_dispose(&s->arena);
    s->arena = all;
    *head = old;
}

static int on_accept(cd_stream *s, cd_str subprotocol, const cd_header *headers, size_t count)
{
    if (s->started)
        return CD_ORDER;
    if (subprotocol.n > 0 && !cd_ws_is_offered(&s->head, subprotocol))
        return CD_VALUE;
    int code = check_headers(headers, count);
    if (code != CD_OK)
        return code;
    cd_ws_extension extension = negotiate(s);
    code = s->carrier->accept(s, subprotocol, &extension, headers, count);
    if (code == CD_OK)
        shrink_head(s);
    if (code < 0 || cd_ws_open(s, &extension) < 0) {
        s->carrier->cut(s, false);
        return CD_NOMEM;
    }
    return CD_OK;
}

static int send_unaccepted(cd_stream *s, bool text, cd_chunk chunk)
{
    (void)s;
    (void)text;
    (void)chunk;
    return CD_ORDER;
}

static const cd_stream_ops unaccepted = {
    .start = start,
    .write = write_denial,
    .pulled = on_pulled,
    .abort = on_abort,
    .finish = finish,
    .timeout = on_timeout,
    .message = no_message,
    .accept = on_accept,
    .send = send_unaccepted,
    .close = close_unaccepted,
};

int cd_ws_prepare(cd_stream *s, const cd_ws_carrier *carrier)
{
    if (cd_ws_list_subprotocols(&s->head, &s->arena) < 0)
        return CD_NOMEM;
    s->head.kind = CD_WEBSOCKET;
    s->head.can = 0;
    s->ops = &unaccepted;
    s->carrier = carrier;
    s->connect_due = 1;
    cd_timer_set(&s->timer, s->server->limits.websocket_connect_timeout);
    cd_stream_access(s, CD_CONNECTING);
    return CD_OK;
}
