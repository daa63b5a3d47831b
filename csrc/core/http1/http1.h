/*
 * HTTP/1.0 and HTTP/1.1 (RFC 9112) over a connection. Five files: http1.c drives the parser and the
 * connection, http1_head.c makes a checked head out of the bytes, http1_chunk.c reads the lines of
 * chunks, http1_half.c deals with a client that has shut down its sending side, http1_response.c
 * writes.
 */
#ifndef CD_HTTP1_H
#define CD_HTTP1_H

#include "http/stream.h"
#include "net/conn.h"

#include <llhttp.h>

extern const cd_protocol_ops cd_http1_protocol;

enum cd_http1_phase {
    CD_HTTP1_IDLE, /* between requests: no byte of the next one has come */
    CD_HTTP1_HEAD, /* a part of a head has come */
    CD_HTTP1_BODY, /* the stream is open, its body is being received */
    /* the request is complete, its response is not; further input is not parsed yet */
    CD_HTTP1_WAIT,
    CD_HTTP1_DISCARD, /* the response is complete, and the rest of the request's body is dropped */
};

/* The position of a header field in the bytes of a head. */
typedef struct {
    uint32_t name, name_size, value, value_size;
} cd_http1_field;

/* The HTTP/1 state of a connection. */
typedef struct {
    llhttp_t parser;
    struct cd_stream *stream; /* the request that is received or answered; NULL between requests */
    cd_buf head;              /* the bytes of an unfinished head from earlier reads */
    const uint8_t *slice;     /* the bytes that the parser works on, while it runs */
    bool slice_body;          /* the slice contained bytes of the body */
    cd_http1_field *fields;   /* their offsets count from the first byte of the head */
    uint32_t field_count, field_size;
    uint32_t target, target_size;
    int fault;               /* status to refuse the request with, or CD_NOMEM; 0: none */
    cd_refusal refusal;      /* why it is refused */
    uint64_t content_length; /* as announced; UINT64_MAX: the body is chunked */
    uint64_t body_size;      /* body bytes parsed so far */
    uint64_t received;       /* body bytes parsed since the timer last looked */
    /* the size of the chunk as far as it is read; then how much of the chunk and its line end is
     * still to come */
    uint64_t chunk;
    size_t chunk_extra;  /* bytes in chunk lines that are not necessary */
    char chunk_line[18]; /* the chunk line that the parser gets: 16 digits, CRLF */
    cd_str
        /* the HTTP2-Settings of a request that asks for HTTP/2, in its stream's arena; p NULL:
         * none */
        settings;
    size_t trailer_size;
    size_t discarded;   /* body bytes dropped after the response */
    size_t served;      /* pipelined requests answered in a row */
    unsigned phase : 3; /* enum cd_http1_phase */
    unsigned chunk_state : 4;
    unsigned fresh : 1;      /* no byte has come on this connection yet */
    unsigned field_open : 1; /* fields[field_count] is being filled */
    unsigned keep_alive : 1; /* the request allows keep-alive */
    unsigned complete : 1;   /* the parser has seen the end of the message */
    /* a client that shut down its sending side was sent bytes that show whether it has left */
    unsigned probed : 1;
    double asked;       /* when the request was complete, in the loop's time */
    double half_until;  /* when a client that shut down its sending side counts as gone */
    uint64_t half_sent; /* bytes that had been sent to it at the last look */
} cd_http1;

static inline cd_http1 *cd_http1_of(const cd_conn *c)
{
    return c->self;
}

/* ---- http1_head.c ---- */

/*
 * Fills s->head from h->head and h->slice when the parser is at the end of the head, and checks it.
 * Returns 0 when it is valid; else the status to refuse it with (h->refusal says why), or CD_NOMEM.
 */
int cd_http1_read_head(cd_http1 *h, cd_stream *s);

/* ---- http1_chunk.c ---- */

/*
 * Takes some of the n > 0 bytes of a chunked body at p and returns how many. *piece is what the
 * parser is to get for them: the same bytes, a chunk line in the form that the parser accepts, or
 * nothing yet. A fault is noted in the connection's cd_http1.
 */
size_t cd_http1_next_piece(cd_conn *c, const uint8_t *p, size_t n, cd_str *piece);

/* Returns the name of the protocol, "TLS" and the like, when a connection begins with another one
 * than HTTP/1; else NULL. For the log. */
const char *cd_http1_other_protocol(const uint8_t *p, size_t n);

/* ---- http1_half.c ---- */

/* Called when the client has shut down its sending side. False: the client has left, or there is
 * nothing left to serve. */
bool cd_http1_half_close(cd_conn *c);
/* Looks, in the phase CD_HTTP1_WAIT, whether such a client has left. */
void cd_http1_half_tick(cd_conn *c);

/* ---- http1_response.c: for http1's own streams and for denied WebSocket handshakes (stream->conn
 * must be set) ---- */

/* The same as the seam's cd_stream_start, cd_stream_write and cd_stream_finish. */
int cd_http1_start(cd_stream *s, int status, const cd_header *headers, size_t count);
int cd_http1_write(cd_stream *s, cd_chunk chunk, bool more);
void cd_http1_finish(cd_stream *s, bool failed);
/* The same as the members of cd_stream_ops. */
int cd_http1_hint(cd_stream *s, const cd_str *links, size_t count);
int cd_http1_trailers(cd_stream *s, const cd_header *trailers, size_t count, bool more);
int cd_http1_file(cd_stream *s, int fd, uint64_t offset, size_t count, bool more);

/*
 * Answers with a constant page, ends the exchange and closes the connection. Only while
 * !s->head_sent. For HTTP the access-log event is made here, for WebSocket by the caller.
 */
void cd_http1_page(cd_stream *s, int status);

/* The same for a request without a stream. */
void cd_http1_refuse(cd_conn *c, int status);

/* Ends the exchange (access-log event, detach) and aborts the connection. */
void cd_http1_cut(cd_stream *s, bool client_gone);

/* ---- http1.c, for http1_response.c ---- */

/* How many bytes of the announced body the peer still has to send; 0 when the body is chunked. */
static inline uint64_t cd_http1_unread_body(const cd_http1 *h)
{
    return h->content_length == UINT64_MAX ? 0 : h->content_length - h->body_size;
}

/* Called when the last byte of the response is queued: decides what the connection does next. */
void cd_http1_responded(cd_stream *s);

#endif
