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
    CD_HTTP1_IDLE, /* between requests, nothing of the next one has come */
    CD_HTTP1_HEAD, /* part of a head has come */
    CD_HTTP1_BODY, /* the stream is open, its body is being received */
    /* the request is complete, its response is not; further input stays where it is */
    CD_HTTP1_WAIT,
    CD_HTTP1_DISCARD, /* the response is complete, the rest of the request's body is dropped */
};

/* Where a header field lies in the bytes of a head. */
typedef struct {
    uint32_t name, name_size, value, value_size;
} cd_http1_field;

/* HTTP/1 state of a connection. */
typedef struct {
    llhttp_t parser;
    struct cd_stream *stream; /* the request being received or answered; NULL between requests */
    cd_buf head;              /* what earlier reads brought of an unfinished head */
    const uint8_t *slice;     /* the bytes under the parser, while it runs */
    bool slice_body;          /* some of the slice was body */
    cd_http1_field *fields;   /* offsets count from the first byte of the head */
    uint32_t field_count, field_size;
    uint32_t target, target_size;
    int fault;               /* status to refuse the request with, or CD_NOMEM; 0: none */
    cd_refusal refusal;      /* why */
    uint64_t content_length; /* announced; UINT64_MAX: chunked */
    uint64_t body_size;      /* body bytes parsed so far */
    uint64_t received;       /* body bytes since the timer last looked */
    uint64_t chunk;          /* its size so far, then what is left of it and its line end */
    size_t chunk_extra;      /* bytes that the chunk lines could do without */
    char chunk_line[18];     /* 16 digits, CRLF: what the parser is given for one */
    cd_str
        settings; /* of the HTTP/2 that the request asks for, in its stream's arena; p NULL: none */
    size_t trailer_size;
    size_t discarded;   /* body bytes dropped after the response */
    size_t served;      /* pipelined requests answered in a row */
    unsigned phase : 3; /* enum cd_http1_phase */
    unsigned chunk_state : 4;
    unsigned fresh : 1;      /* no byte has come on this connection */
    unsigned field_open : 1; /* fields[field_count] is being filled */
    unsigned keep_alive : 1; /* the request allows it */
    unsigned complete : 1;   /* the parser has seen the end of the message */
    unsigned probed : 1; /* the client, which has ended, was sent what reveals whether it left */
    double asked;        /* when the request was complete */
    double half_until;   /* when such a client counts as gone */
    uint64_t half_sent;  /* what had been sent at the last look */
} cd_http1;

static inline cd_http1 *cd_http1_of(const cd_conn *c)
{
    return c->self;
}

/* ---- http1_head.c ---- */

/*
 * Fills s->head from h->head and h->slice when the parser is at the end of the head, and checks it.
 * 0: good; else the status to refuse it with (h->refusal says why), or CD_NOMEM.
 */
int cd_http1_read_head(cd_http1 *h, cd_stream *s);

/* ---- http1_chunk.c ---- */

/*
 * Takes bytes of a chunked body off p, n > 0 of them; returns how many. What the parser is to have
 * for them is *piece: the same bytes, or a chunk's line as the parser likes it, or nothing yet. A
 * fault is noted in c->http1.
 */
size_t cd_http1_next_piece(cd_conn *c, const uint8_t *p, size_t n, cd_str *piece);

/* The protocol that a connection begins with when it is another than HTTP/1: "TLS" and the like,
 * for the log; or NULL. */
const char *cd_http1_other_protocol(const uint8_t *p, size_t n);

/* ---- http1_half.c ---- */

/* The client has shut down its sending side. False: there is nobody to be served, or nothing to
 * serve. */
bool cd_http1_half_close(cd_conn *c);
/* Then, in the phase WAIT: has it left? */
void cd_http1_half_tick(cd_conn *c);

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
