/*
 * stream.c - what all streams share: the two sides of their life, the queue of callbacks, and the
 * order of events.
 *
 * A stream has a wire side and an application side, and either may end first: a client leaves while
 * the application computes, or the application has answered and goes on working. The stream is
 * freed when both have ended, after on_gone.
 *
 * receive() is a FIFO (ASGI): what was queued is delivered in order, also after the response is
 * complete or the client has gone (but see skip_empty_body); then one disconnect; then nothing, for
 * ever. Body bytes are handed out in slices of request_buffer_size; a slice stays in place until
 * the next pull, because the bridge reads it without a copy of ours. What a WebSocket queues is
 * known to ws.c only.
 *
 * Parsers call cd_stream_post and cd_stream_wake; the callbacks themselves are called by the
 * stream's job, in dispatch. A callback may dispatch again (an application that runs the running
 * loop does), also this stream's own callbacks: then only the outermost job frees it.
 */
#include "http/stream.h"

#include "base/escape.h"
#include "base/mem.h"
#include "log/log.h"
#include "net/conn.h"
#include "net/upcalls.h"
#include "proxy/forwarded.h"
#include "proxy/proxy.h"
#include "proxy/trust.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { SMALL_FILE = 8192 };

/* ---- life ---- */

static void on_timer(cd_timer *timer)
{
    cd_stream *s = cd_container(timer, cd_stream, timer);
    if (s->conn != NULL) {
        s->ops->timeout(s);
        return;
    }
    s->cancel_why = CD_CANCEL_CLIENT_GONE;
    cd_stream_post(s, CD_POST_CANCEL);
    cd_timer_set(timer, s->server->limits.application_close_timeout);
}

static void dispose(cd_stream *s)
{
    cd_server *server = s->server;
    if (s->dispose != NULL)
        s->dispose(s);
    cd_timer_dispose(&s->timer);
    cd_job_cancel(&s->job);
    cd_list_remove(&s->link);
    cd_buf_dispose(&s->in);
    cd_arena_dispose(&s->arena);
    cd_pool_give(s, s->size);
    server->stream_count--;
    CD_LIVE(streams, -1);
}

static void report_access(cd_stream *s)
{
    unsigned due = s->access_due;
    if (due == 0)
        return;
    s->access_due = 0;
    for (int action = CD_COMPLETE; action <= CD_DISCONNECTED; action++) {
        cd_access access = {.action = (enum cd_action)action,
                            .head = &s->head,
                            .data = s->data,
                            .status = s->status,
                            .size = s->sent,
                            .duration = cd_clock() - s->opened};
        if (due & 1u << action)
            s->server->ops->on_access(s->server->data, &access);
    }
}

/* Finds out who the client is. Returns CD_OK or CD_NOMEM. */
static int read_forwarded(cd_stream *s)
{
    cd_forwarding *f = s->server->forwarding;
    if (f->address.p == NULL) {
        if (f->strangers.looks_left > 0)
            cd_strangers_look(s->server, &s->head);
        return CD_OK;
    }
    int code = cd_forwarded_read(f, s->server->trust, &s->head, &s->arena);
    if (code == CD_FORWARDED_STRANGER)
        cd_strangers_name(s->server, s->head.client, "Proxy headers");
    return code < 0 ? code : CD_OK;
}

/* Runs the application, unless there was no memory to find out who the client is. */
static void open_up(cd_stream *s)
{
    struct cd_server *server = s->server;
    if (read_forwarded(s) < 0) {
        s->finished = 1;
        cd_stream_abort(s);
        return;
    }
    s->opened_up = 1;
    server->ops->on_open(server->data, s, &s->head);
}

static void call_back(cd_stream *s)
{
    const cd_ops *ops = s->server->ops;
    unsigned posted = s->posted;
    s->posted = 0;
    if (posted & CD_POST_OPEN)
        open_up(s);
    if ((posted & CD_POST_READY) && !s->finished)
        ops->on_ready(s, s->data);
    if ((posted & CD_POST_DRAIN) && !s->finished)
        ops->on_drain(s, s->data);
    if ((posted & CD_POST_CANCEL) && !s->finished)
        ops->on_cancel(s, s->data, (enum cd_cancel)s->cancel_why);
}

static void on_job(cd_job *job)
{
    cd_stream *s = cd_container(job, cd_stream, job);
    bool outermost = !s->busy;
    s->busy = 1;
    call_back(s);
    report_access(s);
    if (!outermost)
        return;
    s->busy = 0;
    if (!s->finished || s->conn != NULL || s->posted != 0 || s->access_due != 0)
        return;
    s->busy = 1;
    if (s->opened_up) {
        cd_server_tell_lines(s->server); /* while there is somebody for them to be about */
        s->server->ops->on_gone(s, s->data);
    }
    dispose(s);
}

cd_stream *cd_stream_new(cd_conn *conn, const cd_stream_ops *ops, size_t size)
{
    cd_stream *s = cd_pool_take(size);
    if (s == NULL)
        return NULL;
    memset(s, 0, size);
    s->size = size;
    s->ops = ops;
    s->conn = conn;
    s->server = conn->server;
    s->head.client = conn->client;
    s->head.server = conn->server_addr;
    s->head.proxied = conn->proxied;
    s->head.cache = &conn->cache;
    s->head.tls = (conn->transport != NULL && conn->transport->secure) ||
                  (conn->proxied != NULL && conn->proxied->tls);
    s->opened = cd_loop_now(conn->loop);
    cd_list_append(&s->server->streams, &s->link);
    s->server->stream_count++;
    cd_job_init(&s->job, on_job);
    cd_timer_init(&s->timer, conn->loop, on_timer);
    cd_arena_init(&s->arena);
    CD_LIVE(streams, 1);
    return s;
}

cd_tls_facts *cd_head_tls(const cd_head *head)
{
    cd_conn *c = cd_container(head, cd_stream, head)->conn;
    if (c == NULL || c->transport == NULL)
        return NULL;
    if (c->transport->ops->facts != NULL)
        return c->transport->ops->facts(c->transport);
    return c->proxied != NULL ? cd_proxy_tls(c->proxied) : NULL;
}

void cd_stream_post(cd_stream *s, unsigned what)
{
    s->posted |= what & 15u;
    cd_job_post(s->server->loop, &s->job);
}

void cd_stream_wake(cd_stream *s)
{
    if (!s->starved)
        return;
    s->starved = 0;
    cd_stream_post(s, CD_POST_READY);
}

cd_str cd_stream_dup(cd_stream *s, cd_str text)
{
    char *copy = cd_arena_alloc(&s->arena, text.n);
    if (copy == NULL)
        return (cd_str){NULL, 0};
    if (text.n > 0)
        memcpy(copy, text.p, text.n);
    return (cd_str){copy, text.n};
}

void cd_stream_disconnect(cd_stream *s, int code, cd_str reason)
{
    if (s->disconnect_due)
        return;
    s->disconnect_due = 1;
    s->close_code = code;
    s->close_reason = cd_stream_dup(s, reason);
    if (s->close_reason.p == NULL)
        s->close_reason.n = 0;
    cd_stream_wake(s);
}

static const cd_addr *kept_address(cd_stream *s, const cd_addr *addr)
{
    static const cd_addr unknown = {.port = 0}; /* an address that no list of proxies trusts */
    cd_addr *copy = cd_arena_alloc(&s->arena, cd_addr_size(addr));
    if (copy == NULL)
        return &unknown;
    cd_addr_copy(copy, addr);
    return copy;
}

/* Scope and access log still need the addresses when the connection has gone. */
static void keep_addresses(cd_stream *s)
{
    s->head.client = kept_address(s, s->head.client);
    s->head.server = kept_address(s, s->head.server);
}

/*
 * A client may leave while the application works on a request without a body. Then the end of that
 * body is not delivered: an application that only asks whether the client is still there
 * (Starlette's is_disconnected) must get the disconnect at once. A body is kept; so is its end for
 * an application that has not begun, because a client that does not wait for an answer still wants
 * its request done.
 */
static void skip_empty_body(cd_stream *s)
{
    bool empty = s->body_complete && !s->body_begun && cd_buf_length(&s->in) == 0;
    if (empty && s->opened_up)
        s->end_taken = 1;
}

void cd_stream_leave(cd_stream *s)
{
    skip_empty_body(s);
    cd_stream_disconnect(s, 1006, (cd_str){NULL, 0});
}

void cd_stream_detach(cd_stream *s, bool client_gone)
{
    if (s->conn == NULL)
        return;
    if (s->head.kind == CD_WEBSOCKET)
        /* also for one that was never accepted, like daphne */
        cd_stream_access(s, CD_DISCONNECTED);
    if (!s->finished || s->access_due || s->busy)
        keep_addresses(s);
    s->head.cache = NULL;
    s->head.proxied = NULL;
    s->conn = NULL;
    cd_timer_stop(&s->timer);
    cd_stream_disconnect(s, 1006, (cd_str){NULL, 0});
    if (s->blocked)
        cd_stream_post(s, CD_POST_DRAIN);
    if (client_gone && !s->finished) {
        skip_empty_body(s);
        cd_timer_set(&s->timer, s->server->limits.application_close_timeout);
    }
    cd_stream_post(s, 0);
}

bool cd_stream_unfinished(const cd_stream *s)
{
    return s->conn != NULL && !s->complete;
}

void cd_stream_finish(cd_stream *s, bool failed)
{
    if (s->finished)
        return;
    s->finished = 1;
    if (s->conn != NULL)
        s->ops->finish(s, failed);
    cd_stream_post(s, 0);
}

void cd_stream_set_data(cd_stream *s, void *data)
{
    s->data = data;
}

/* ---- events ---- */

static bool body_readable(const cd_stream *s)
{
    return cd_buf_length(&s->in) > s->taken || (s->body_complete && !s->end_taken);
}

static void take_body(cd_stream *s, cd_event *event)
{
    size_t length = cd_buf_length(&s->in);
    size_t n = length < s->server->limits.request_buffer_size
                   ? length
                   : s->server->limits.request_buffer_size;
    event->kind = CD_EVENT_REQUEST;
    event->data = (cd_str){n > 0 ? (const char *)cd_buf_data(&s->in) : NULL, n};
    event->more = !(s->body_complete && n == length);
    s->body_begun = 1;
    s->end_taken = !event->more;
    s->taken = n;
}

static bool input_readable(const cd_stream *s)
{
    return s->ops->message != NULL ? s->ops->message((cd_stream *)s, NULL) : body_readable(s);
}

static bool take_input(cd_stream *s, cd_event *event)
{
    if (s->ops->message != NULL)
        return s->ops->message(s, event);
    if (!body_readable(s))
        return false;
    take_body(s, event);
    return true;
}

bool cd_stream_readable(const cd_stream *s)
{
    return s->connect_due || input_readable(s) || (s->disconnect_due && !s->disconnect_taken);
}

static bool take_disconnect(cd_stream *s, cd_event *event)
{
    if (!s->disconnect_due || s->disconnect_taken)
        return false;
    s->disconnect_taken = 1;
    event->kind = CD_EVENT_DISCONNECT;
    event->code = s->close_code;
    event->data = s->close_reason;
    return true;
}

static bool take(cd_stream *s, cd_event *event)
{
    if (s->connect_due) {
        s->connect_due = 0;
        event->kind = CD_EVENT_CONNECT;
        return true;
    }
    return take_input(s, event) || take_disconnect(s, event);
}

bool cd_stream_next(cd_stream *s, cd_event *event)
{
    *event = (cd_event){0};
    if (s->ops->message == NULL && s->taken > 0) {
        cd_buf_consume(&s->in, s->taken);
        s->taken = 0;
    }
    bool got = take(s, event);
    s->starved = !got;
    if (s->conn != NULL)
        s->ops->pulled(s);
    return got;
}

/* ---- output ---- */

int cd_stream_start(cd_stream *s, int status, const cd_header *headers, size_t count)
{
    return s->conn == NULL ? CD_GONE : s->ops->start(s, status, headers, count);
}

static int remember_pressure(cd_stream *s, int code)
{
    s->blocked = code == CD_AGAIN;
    return code;
}

/* The result of a call that comes after the wire side has ended. */
static int after_end(const cd_stream *s)
{
    return s->complete ? CD_ORDER : CD_GONE;
}

int cd_stream_write(cd_stream *s, cd_chunk chunk, bool more)
{
    if (s->conn == NULL)
        return after_end(s);
    return remember_pressure(s, s->ops->write(s, chunk, more));
}

int cd_stream_hint(cd_stream *s, const cd_str *links, size_t count)
{
    if (s->ops->hint == NULL || s->head_sent)
        return CD_ORDER;
    if (s->conn == NULL)
        return after_end(s);
    return count == 0 ? CD_OK : remember_pressure(s, s->ops->hint(s, links, count));
}

int cd_stream_announce(cd_stream *s)
{
    if (s->conn == NULL)
        return after_end(s);
    if (s->ops->trailers == NULL || !s->started || s->head_sent)
        return CD_ORDER;
    s->announced = 1;
    return CD_OK;
}

int cd_stream_trailers(cd_stream *s, const cd_header *trailers, size_t count, bool more)
{
    if (s->conn == NULL)
        return after_end(s);
    if (!s->announced || !s->body_ended)
        return CD_ORDER;
    return remember_pressure(s, s->ops->trailers(s, trailers, count, more));
}

/*
 * A small file is read and copied: that is one packet and no sendfile. It also bounds the
 * descriptors that a connection can hold, to as many as larger files fit below write_high_water.
 */
static int write_small_file(cd_stream *s, int fd, uint64_t offset, size_t count, bool more)
{
    char bytes[SMALL_FILE];
    size_t n = 0;
    while (n < count) {
        ssize_t got = pread(fd, bytes + n, count - n, (off_t)(offset + n));
        if (got < 0 && errno == EINTR)
            continue;
        if (got == 0)
            errno = EIO; /* it has become shorter */
        if (got <= 0)
            return CD_SYSTEM;
        n += (size_t)got;
    }
    int code = s->ops->write(s, (cd_chunk){bytes, n, NULL}, more);
    if (code == CD_OK || code == CD_AGAIN)
        close(fd);
    return code;
}

static int write_file(cd_stream *s, int fd, uint64_t offset, uint64_t count, bool more)
{
    if (s->ops->file == NULL)
        return CD_ORDER;
    if (count > SIZE_MAX / 2)
        return CD_LENGTH;
    if (count == 0 || (count <= SMALL_FILE && !s->bodyless))
        return write_small_file(s, fd, offset, (size_t)count, more);
    return s->ops->file(s, fd, offset, (size_t)count, more);
}

int cd_stream_file(cd_stream *s, int fd, uint64_t offset, uint64_t count, bool more)
{
    if (s->conn == NULL)
        return after_end(s);
    return remember_pressure(s, write_file(s, fd, offset, count, more));
}

bool cd_stream_gone(const cd_stream *s)
{
    return s->conn == NULL && !s->complete;
}

void cd_stream_abort(cd_stream *s)
{
    if (s->conn != NULL)
        s->ops->abort(s);
}

int cd_ws_accept(cd_stream *s, cd_str subprotocol, const cd_header *headers, size_t count)
{
    if (s->ops->accept == NULL)
        return CD_ORDER;
    return s->conn == NULL ? CD_GONE : s->ops->accept(s, subprotocol, headers, count);
}

int cd_ws_send(cd_stream *s, bool text, cd_chunk chunk)
{
    if (s->ops->send == NULL)
        return CD_ORDER;
    return s->conn == NULL ? CD_GONE : remember_pressure(s, s->ops->send(s, text, chunk));
}

int cd_ws_close(cd_stream *s, int code, cd_str reason)
{
    if (s->ops->close == NULL)
        return CD_ORDER;
    return s->conn == NULL ? CD_GONE : s->ops->close(s, code, reason);
}

/* ---- log ---- */

void cd_stream_log(cd_stream *s, enum cd_level level, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    cd_server_put_line(s->server, s->data, level, format, args);
    va_end(args);
}

void cd_stream_access(cd_stream *s, enum cd_action action)
{
    cd_server *server = s->server;
    if (!cd_log_wants(server->log, s->head.raw_path))
        return;
    if (server->ops->on_access != NULL) {
        s->access_due |= 1u << action & 31u;
        cd_stream_post(s, 0);
    } else if (server->log->fd >= 0) {
        cd_access access = {
            .action = action, .head = &s->head, .status = s->status, .size = s->sent};
        if (cd_log_format_timed(server->log->format))
            access.duration = cd_clock() - s->opened;
        cd_log_access(server->log, &access);
        cd_job_end(server->loop, &server->log_end);
    }
}

/* ---- shutdown ---- */

static void cut(cd_stream *s)
{
    if (s->finished)
        return;
    s->cancel_why = CD_CANCEL_SHUTDOWN;
    cd_stream_post(s, CD_POST_CANCEL);
    cd_stream_log(s, CD_WARNING,
                  "Cut at shutdown: %s %.*s, running for %.1f s (--graceful-timeout)",
                  s->head.kind == CD_WEBSOCKET ? "WebSocket" : "request",
                  cd_log_width(s->head.raw_path), s->head.raw_path.p, cd_clock() - s->opened);
    cd_stream_abort(s);
}

/* The application has answered, and its client has not read all of the answer. */
static void cut_output(cd_conn *c)
{
    if (c->out.size > 0)
        cd_conn_log(c, CD_WARNING,
                    "Cut at shutdown: connection of %s, with %zu bytes waiting for it "
                    "(--graceful-timeout)",
                    cd_conn_peer(c), c->out.size);
    cd_conn_abort(c);
}

/* Streams still running were logged by cut(); cut_output() logs the rest. */
void cd_server_cancel(cd_server *server)
{
    cd_list_for (l, &server->streams)
        cut(cd_container(l, cd_stream, link));
    cd_list_for (l, &server->conns)
        cut_output(cd_container(l, cd_conn, link));
}
