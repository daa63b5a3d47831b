/*
 * HTTP/1.0 and HTTP/1.1 (RFC 9112) over a connection. Four files: http1.c drives the parser and the
 * connection, http1_head.c makes a checked head out of the bytes, http1_chunk.c reads the lines of
 * chunks, http1_response.c writes.
 */
#ifndef CD_HTTP1_H
#define CD_HTTP1_H

#include "conn.h"
#include "stream.h"

extern const cd_protocol_ops cd_http1_protocol;

enum cd_http1_phase {
    CD_HTTP1_IDLE, /* between requests, nothing of the next one has come */
    CD_HTTP1_HEAD, /* part of a head has come */
    CD_HTTP1_BODY, /* the stream is open, its body is being received */
    CD_HTTP1_WAIT, /* the request is complete, its response is not; further input stays where it is
                    */
    CD_HTTP1_DISCARD, /* the response is complete, the rest of the request's body is dropped */
};

/* Makes c->http1 of a fresh connection and sets its head deadline. CD_OK or CD_NOMEM. */
int cd_http1_open(cd_conn *c);

/* Frees what the parser holds: at the end, and when HTTP/2 takes the connection over. */
void cd_http1_dispose(cd_conn *c);

/* Frees c->http1 too, if it is there. Never while the parser runs. */
void cd_http1_free(cd_conn *c);

/* ---- http1_head.c ---- */

/*
 * Fills s->head from h->head and h->slice when the parser is at the end of the head, and checks it.
 * 0: good; else the status to refuse it with (h->why says why), or CD_NOMEM.
 */
int cd_http1_read_head(cd_http1 *h, cd_stream *s);

/* ---- http1_chunk.c ---- */

/*
 * Takes bytes of a chunked body off p, n > 0 of them; returns how many. What the parser is to have
 * for them is *piece: the same bytes, or a chunk's line as the parser likes it, or nothing yet. A
 * fault is noted in c->http1.
 */
size_t cd_http1_next_piece(cd_conn *c, const uint8_t *p, size_t n, cd_str *piece);

/* ---- http1_response.c: for http1's own streams and for denied WebSocket handshakes (stream->conn
 * must be set) ---- */

/* As the seam's cd_stream_start, cd_stream_write and cd_stream_finish. */
int cd_http1_start(cd_stream *s, int status, const cd_header *headers, size_t count);
int cd_http1_write(cd_stream *s, cd_chunk chunk, bool more);
void cd_http1_finish(cd_stream *s, bool failed);
/* As cd_stream_ops of the same names. */
int cd_http1_hint(cd_stream *s, const cd_str *links, size_t count);
int cd_http1_trailers(cd_stream *s, const cd_header *trailers, size_t count, bool more);
int cd_http1_file(cd_stream *s, int fd, uint64_t offset, size_t count, bool more);

/*
 * Answers with a constant page, ends the exchange and closes the connection. Only while
 * !s->head_sent. The access-log event is made here for HTTP, by the caller for WebSocket.
 */
void cd_http1_page(cd_stream *s, int status);

/* The same for a request that got no stream. */
void cd_http1_refuse(cd_conn *c, int status);

/* Ends the exchange (access-log event, detach) and aborts the connection. */
void cd_http1_cut(cd_stream *s, bool client_gone);

/* ---- http1.c, for http1_response.c ---- */

/* What the peer still has to send of the body it announced; 0 when it is chunked. */
static inline uint64_t cd_http1_unread_body(const cd_http1 *h)
{
    return h->content_length == UINT64_MAX ? 0 : h->content_length - h->body_size;
}

/* The last byte of the response is queued: what becomes of the connection? */
void cd_http1_responded(cd_stream *s);

#endif
