/* WebSocket (RFC 6455) on a connection or on an HTTP/2 stream. ws_frame.h parses the frames,
 * ws_handshake.h has the rules of the handshake. */
#ifndef CD_WS_H
#define CD_WS_H

#include "http/stream.h"
#include "net/conn.h"
#include "ws/ws_extension.h"

/*
 * Judges a request with an Upgrade header. 0: it is no WebSocket handshake and is served as HTTP.
 * 101: it is a valid one. Else the status to refuse it with, and *r says why: 400, 405 (with Allow:
 * GET) or 426 (with Sec-WebSocket-Version: 13). http1 calls it when the head is complete, before
 * the stream is opened. In ws_handshake.c.
 */
int cd_ws_check(const cd_head *head, cd_refusal *r);

/* The same for an Extended CONNECT of HTTP/2 (RFC 8441), which has neither a key nor an Upgrade
 * header. */
int cd_ws_check_connect(const cd_head *head, cd_refusal *r);

/* Answers a handshake in the version of HTTP in which it came. Only called while stream->conn is
 * set. */
typedef struct cd_ws_carrier {
    /* The same as the seam's functions. */
    int (*start)(cd_stream *s, int status, const cd_header *headers, size_t count);
    int (*write)(cd_stream *s, cd_chunk chunk, bool more);
    void (*finish)(cd_stream *s, bool failed);
    /* Answers with a constant page; ends the exchange with an error. Both detach the stream. */
    void (*page)(cd_stream *s, int status);
    void (*cut)(cd_stream *s, bool client_gone);
    /* Sends the head that accepts. Afterwards s->conn is the connection that speaks WebSocket.
     * Returns CD_OK or CD_NOMEM. */
    int (*accept)(cd_stream *s, cd_str subprotocol, const cd_ws_extension *extension,
                  const cd_header *headers, size_t count);
} cd_ws_carrier;

extern const cd_ws_carrier cd_ws_http1_carrier;

/*
 * Turns a stream into a WebSocket that waits for the application's answer: sets kind, subprotocols,
 * ops, the connect event and websocket_connect_timeout, and writes the access-log line. Returns
 * CD_OK or CD_NOMEM. In ws_accept.c.
 */
int cd_ws_prepare(cd_stream *s, const cd_ws_carrier *carrier);

/*
 * To be called when the stream was accepted: the connection speaks WebSocket from here on,
 * beginning with the bytes that were read ahead. The 101 response, with the agreed extension, must
 * be in the connection's output. CD_NOMEM: nothing was changed. For ws_accept.c; in ws.c.
 */
int cd_ws_open(cd_stream *s, const cd_ws_extension *extension);

#endif
