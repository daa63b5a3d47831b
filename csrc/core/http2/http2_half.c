/*
 * http2_half.c - a client of HTTP/2 that has shut down the sending side of its connection.
 *
 * Requests that came whole, with END_STREAM, are answered as far as the windows that the client has
 * given reach; then the connection closes. Whatever it had not ended (a body, a WebSocket) is cut
 * by the FIN. A PING tells whether it has left: then its kernel answers with RST. And one that
 * takes nothing for half_close_timeout counts as gone.
 */
#include "http2/http2.h"
#include "net/server_state.h"

static const double TICK = 0.1;

static int cut_unfinished(cd_http2 *h)
{
    cd_list_for (l, &h->streams) {
        cd_http2_stream *st = cd_container(l, cd_http2_stream, link);
        bool whole = st->base.body_complete && !st->websocket;
        if (st->base.conn == h->conn && st->opened && !whole &&
            cd_http2_cut(st, NGHTTP2_CANCEL, true) < 0)
            return CD_NOMEM;
    }
    cd_http2_cut_tunnels(h);
    cd_http2_drop_orphans(h);
    return h->failed ? CD_NOMEM : CD_OK;
}

static bool is_waited_for(const cd_http2 *h)
{
    cd_list_for (l, &h->streams) {
        const cd_http2_stream *st = cd_container(l, cd_http2_stream, link);
        if (st->base.conn == h->conn && st->base.body_complete && !st->websocket)
            return true;
    }
    return false;
}

bool cd_http2_half_close(cd_http2 *h)
{
    double patience = h->conn->server->limits.half_close_timeout;
    if (patience == 0 || !is_waited_for(h) || cd_conn_broken(h->conn))
        return false;
    if (cut_unfinished(h) < 0 || nghttp2_submit_ping(h->session, NGHTTP2_FLAG_NONE, NULL) != 0)
        return false;
    h->half_until = cd_http2_due(h, patience);
    h->half_moved = h->moved;
    h->half_at = cd_http2_due(h, TICK);
    cd_conn_flush_later(h->conn);
    return true;
}

bool cd_http2_half_tick(cd_http2 *h)
{
    if (cd_conn_broken(h->conn))
        return false;
    if (h->moved != h->half_moved || h->conn->out.size > 0) {
        h->half_moved = h->moved;
        h->half_until = cd_http2_due(h, h->conn->server->limits.half_close_timeout);
    } else if (cd_loop_now(h->conn->loop) >= h->half_until) {
        return false;
    }
    h->half_at = cd_http2_due(h, TICK);
    return true;
}
