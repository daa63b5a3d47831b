/*
 * http1_ws.c - the carrier of a WebSocket handshake over HTTP/1.1.
 *
 * ws_accept.c asks a carrier for the answer to a handshake. A denial is an ordinary response, which
 * http1_response.c writes. An acceptance is the 101 response that is written here, in daphne's
 * order (Server, Upgrade, Connection, subprotocol, extension, Sec-WebSocket-Accept, then the
 * application's headers). There is no Date: no cache keeps a 101.
 *
 * HTTP/2 has a carrier of its own in http2_tunnel.c.
 */
#include "base/header.h"
#include "http1/http1.h"
#include "net/server_state.h"
#include "ws/ws.h"
#include "ws/ws_handshake.h"

static int put(cd_conn *c, cd_str text)
{
    return cd_conn_put(c, text.p, text.n);
}

static int put_header(cd_conn *c, cd_str name, cd_str value)
{
    if (put(c, name) < 0 || put(c, CD_STR(": ")) < 0 || put(c, value) < 0)
        return CD_NOMEM;
    return put(c, CD_STR("\r\n"));
}

static int put_accept(cd_stream *s)
{
    char value[CD_WS_ACCEPT_SIZE];
    const cd_header *key =
        cd_header_find(s->head.headers, s->head.header_count, "sec-websocket-key", NULL);
    cd_ws_accept_value(cd_str_trim(key->value), value);
    return put_header(s->conn, CD_STR("Sec-WebSocket-Accept"), (cd_str){value, sizeof value});
}

static int put_extension(cd_conn *c, const cd_ws_extension *extension)
{
    char value[CD_WS_EXTENSION_SIZE];
    if (!extension->on)
        return CD_OK;
    size_t n = cd_ws_extension_answer(extension, value);
    return put_header(c, CD_STR("Sec-WebSocket-Extensions"), (cd_str){value, n});
}

static int accept_http1(cd_stream *s, cd_str subprotocol, const cd_ws_extension *extension,
                        const cd_header *headers, size_t count)
{
    cd_conn *c = s->conn;
    cd_server *server = s->server;
    bool own_server = cd_header_find(headers, count, "server", NULL) != NULL;
    s->status = 101;
    if (put(c, CD_STR("HTTP/1.1 101 Switching Protocols\r\n")) < 0)
        return CD_NOMEM;
    if (server->server_header && !own_server &&
        cd_conn_put(c, server->server_header, server->server_header_length) < 0)
        return CD_NOMEM;
    if (put(c, CD_STR("Upgrade: websocket\r\nConnection: Upgrade\r\n")) < 0)
        return CD_NOMEM;
    if (subprotocol.n > 0 && put_header(c, CD_STR("Sec-WebSocket-Protocol"), subprotocol) < 0)
        return CD_NOMEM;
    if (put_extension(c, extension) < 0 || put_accept(s) < 0)
        return CD_NOMEM;
    for (size_t i = 0; i < count; i++) {
        if (put_header(c, headers[i].name, headers[i].value) < 0)
            return CD_NOMEM;
    }
    return put(c, CD_STR("\r\n"));
}

const cd_ws_carrier cd_ws_http1_carrier = {
    .start = cd_http1_start,
    .write = cd_http1_write,
    .finish = cd_http1_finish,
    .page = cd_http1_page,
    .cut = cd_http1_cut,
    .accept = accept_http1,
};
