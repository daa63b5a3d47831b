/* WebSocket (RFC 6455) over an HTTP/1.1 connection. Frames as such are ws_frame.h, the handshake's
 * rules ws_handshake.h. */
#ifndef CD_WS_H
#define CD_WS_H

#include "http/stream.h"
#include "net/conn.h"
#include "ws/ws_extension.h"

/*
 * Looks at a request with an Upgrade header. 0: not a WebSocket handshake, serve it as HTTP. 101: a
 * good one. Else the status to refuse it with, and why: 400, 405 (with Allow: GET), 426 (with
 * Sec-WebSocket-Version: 13). Called by http1 when the head is complete, before the stream is
 * opened. In ws_handshake.c.
 */
int cd_ws_check(const cd_head *head, cd_refusal *r);

/* The same for an Extended CONNECT of HTTP/2 (RFC 8441), which has no key and no Upgrade. */
int cd_ws_check_connect(const cd_head *head, cd_refusal *r);

/* What answers a handshake: the version of HTTP that it came in. Only while stream->conn is set. */
typedef struct cd_ws_carrier {
    /* As the seam's. */
    int (*start)(cd_stream *s, int status, const cd_header *headers, size_t count);
    int (*write)(cd_stream *s, cd_chunk chunk, bool more);
    void (*finish)(cd_stream *s, bool failed);
    /* A constant page; the end of the exchange as an error. Both detach the stream. */
    void (*page)(cd_stream *s, int status);
    void (*cut)(cd_stream *s, bool client_gone);
    /* Sends the head that accepts. s->conn is then what speaks WebSocket. CD_OK or CD_NOMEM. */
    int (*accept)(cd_stream *s, cd_str subprotocol, const cd_ws_extension *extension,
                  const cd_header *headers, size_t count);
} cd_ws_carrier;

extern const cd_ws_carrier cd_ws_http1_carrier;

/*
 * Makes a stream a WebSocket one that waits for the application's answer: kind, subprotocols, ops,
 * connect event, websocket_connect_timeout, access-log line. CD_OK or CD_NOMEM. In ws_accept.c.
 */
int cd_ws_prepare(cd_stream *s, const cd_ws_carrier *carrier);

/*
 * The stream was accepted: the connection speaks WebSocket from here on, also the bytes that were
 * read ahead. The 101 response must be in the connection's output, with what was agreed on.
 * CD_NOMEM: nothing was changed. For ws_accept.c; in ws.c.
 */
int cd_ws_open(cd_stream *s, const cd_ws_extension *extension);

#endif
