/*
 * http1_half.c - a client that has shut down its sending side.
 *
 * It may wait for its answer (nc -N, Go's CloseWrite, old health checkers), or have left: a FIN
 * looks the same, and only what is sent to it tells, because the kernel of a client that has left
 * answers with RST. An application that is told of a disconnect gives up (Django cancels the view),
 * so it is told when the client is known to have left, not before:
 *
 * - A unix socket tells at once.
 * - What the application writes is sent as ever, and tells. As long as output waits, it is watched
 *   by write_timeout.
 * - Between two chunks of a response, a zero is sent, the first digit of the next chunk's size.
 * - Before the response, after a moment in which it may come, 100 Continue is sent, which a client
 *   of HTTP/1.1 has to skip (RFC 9110, 15.2).
 * - Where neither can be sent (HTTP/1.0, the middle of a Content-Length), a FIN that came with the
 *   request is taken for that of a client that waits, a later one for that of a client that has
 *   left. Then the application is told, but what it writes is still sent.
 *
 * A client of which nothing is known after half_close_timeout counts as gone, and a request that is
 * cut by the FIN as well. Requests behind the one that is answered are answered in their turn, then
 * the connection closes.
 */
#include "http1/http1.h"
#include "net/server_state.h"

/* In seconds. MOMENT: how long an answer may take without a probe. TICK: the time between two looks
 * after that. LATE: where no probe is possible, a FIN that comes so long after its request means that
 * the client has left. */
static const double MOMENT = 0.2, TICK = 0.1, LATE = 0.25;

static const char interim[] = "HTTP/1.1 100 Continue\r\n\r\n";

static void gone(cd_conn *c)
{
    c->protocol->eof(c, true);
}

/* Is there a request to be answered, or input that may hold one? */
static bool is_waited_for(const cd_conn *c)
{
    const cd_http1 *h = c->self;
    if (h->phase == CD_HTTP1_IDLE)
        return cd_buf_length(&c->in) > 0;
    return h->phase == CD_HTTP1_WAIT && h->stream->head.kind == CD_HTTP;
}

static void put_probe(cd_conn *c, const char *p, size_t n)
{
    cd_http1_of(c)->probed = 1;
    if (cd_conn_put(c, p, n) < 0)
        cd_conn_abort(c);
}

/* `first`: the FIN has just come. */
static void probe(cd_conn *c, bool first)
{
    cd_http1 *h = c->self;
    cd_stream *s = h->stream;
    if (s->head_sent && s->chunked && !s->body_ended) {
        put_probe(c, "0", 1);
    } else if (!s->head_sent && s->head.http_minor > 0) {
        if (!first)
            put_probe(c, interim, sizeof interim - 1);
    } else if (cd_loop_now(c->loop) - h->asked > LATE && first) {
        h->probed = 1;
        cd_stream_leave(s);
    }
}

bool cd_http1_half_close(cd_conn *c)
{
    cd_http1 *h = c->self;
    double patience = c->server->limits.half_close_timeout;
    if (patience == 0 || !is_waited_for(c) || cd_conn_broken(c))
        return false;
    if (h->phase == CD_HTTP1_IDLE)
        return true;
    h->half_until = cd_loop_now(c->loop) + patience;
    h->half_sent = h->stream->sent;
    h->probed = 0;
    cd_conn_deadline(c, MOMENT);
    if (c->out.size == 0)
        probe(c, true);
    return true;
}

void cd_http1_half_tick(cd_conn *c)
{
    cd_http1 *h = c->self;
    double now = cd_loop_now(c->loop);
    if (cd_conn_broken(c)) {
        gone(c);
        return;
    }
    if (h->stream->sent != h->half_sent || c->out.size > 0) {
        h->half_sent = h->stream->sent;
        h->half_until = now + c->server->limits.half_close_timeout;
    } else if (now >= h->half_until) {
        gone(c);
        return;
    } else if (!h->probed) {
        probe(c, false);
    }
    if (c->state == CD_CONN_OPEN)
        cd_conn_deadline(c, TICK);
}
