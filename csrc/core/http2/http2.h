/*
 * HTTP/2 (RFC 9113) over a connection: nghttp2 is the engine for frames, HPACK, stream states and
 * windows, and does no I/O of its own. http2.c drives it and the connection, http2_head.c makes a
 * checked head out of a header block, http2_response.c is the stream's side, http2_guard.c what a
 * peer may cost us.
 */
#ifndef CD_HTTP2_H
#define CD_HTTP2_H

#include "http/stream.h"
#include "net/conn.h"

#include <nghttp2/nghttp2.h>

typedef struct cd_http2 cd_http2;
typedef struct cd_http2_tunnel cd_http2_tunnel;

/* What DATA frames are made of: belongs to a request's stream, or to a WebSocket's tunnel. */
typedef struct {
    cd_http2 *http2; /* NULL: the connection has gone */
    int32_t id;
    cd_output out;           /* not yet in a frame */
    cd_stream *stream;       /* whose application is told when `out` has drained; may be NULL */
    cd_http2_tunnel *tunnel; /* whose output it is; NULL: a request\'s */
    uint64_t moved;          /* bytes put in frames since write_check was set */
    uint64_t others_moved;   /* http2->moved at that time */
    double write_check;      /* when a stall is looked for; 0: never */
    unsigned waits : 1;      /* `out`, or its end, waits and is counted in http2->waiting */
    unsigned deferred : 1;   /* nghttp2 waits to be told that `out` has something */
    unsigned ending : 1;     /* nothing is added to `out` any more: its end is the stream's end */
    unsigned feeding : 1;    /* HEADERS were submitted, and DATA is made of it */
    unsigned ended : 1;      /* the last DATA is made */
} cd_http2_wire;

/* A request. Begins with its cd_stream, and is freed as one. */
typedef struct {
    cd_stream base;
    cd_http2_wire wire;
    cd_list link; /* in http2->streams, until freed */
    /* Request. */
    cd_str authority, protocol; /* pseudo fields that are in no head */
    int fault;                  /* status to refuse it with; 0: none */
    cd_refusal refusal;         /* why */
    bool opened;                /* its head was good: an application hears of it */
    bool websocket;             /* an Extended CONNECT for one */
    bool counted;               /* in http2->live */
    uint64_t received;          /* body bytes, all in all */
    uint64_t credited;          /* of them, given back to the stream's window */
    uint64_t window_received;   /* since body_check was set */
    double body_check;          /* when the body's rate is looked at; 0: not now */
    /* Response. */
    nghttp2_nv *fields; /* in the arena; held until the first write */
    size_t field_count;
    nghttp2_nv *trailers; /* in the arena */
    size_t trailer_count;
} cd_http2_stream;

/* A stream that is nobody's any more: its response is out while its body is still coming, or is a
 * page of ours on its way. */
typedef struct {
    cd_list link; /* in http2->rests */
    int32_t id;
    double until; /* then it is reset, or looked at; 0: never */
    uint32_t code;
    bool renewed;   /* a window was given back behind the response */
    size_t taken;   /* bytes that came since `until` was set */
    size_t dropped; /* all in all */
} cd_http2_rest;

/* So many of something at once, and so many a second. */
typedef struct {
    double left, since;
} cd_http2_bucket;

enum cd_http2_drain {
    CD_HTTP2_SERVING, /* no GOAWAY of ours */
    CD_HTTP2_NOTICE,  /* GOAWAY sent that announces another: new streams are still served */
    CD_HTTP2_LAST,    /* the last one sent: closes when the streams under way have ended */
};

struct cd_http2 {
    nghttp2_session *session;
    cd_list blocks; /* its memory */
    cd_conn *conn;
    cd_list streams; /* cd_http2_stream.link: those with an application or on the wire */
    size_t live;     /* how many */
    cd_list rests;   /* cd_http2_rest.link */
    cd_list tunnels; /* their streams are open */
    size_t active;   /* streams open on the wire */
    size_t unread;   /* body bytes received and not taken, of all streams */
    size_t withheld; /* of the connection's window, because of `unread` */
    uint64_t moved;  /* bytes put in DATA frames */
    size_t waiting;  /* wires whose output is not empty */
    /* The header block under way. */
    int32_t head_id;
    cd_http2_stream *head; /* NULL: of a refused stream, or trailers */
    cd_header *fields;     /* names and values in head's arena */
    size_t field_count, field_room, head_size;
    /* Deadlines, absolute; 0: none. head_at: the preface, or the header block under way. */
    double head_at, idle_at, drain_at, sweep_at;
    double half_at,
        half_until;      /* the client has shut down its sending side: next look, last look */
    uint64_t half_moved; /* `moved` at the last look */
    double armed_at;     /* the first of them, which the connection's deadline is set to */
    cd_http2_bucket resets, controls;
    enum cd_http2_drain drain;
    /* Where its input is cut into frames. */
    uint8_t frame_head[9], frame_head_size; /* of one that has not come whole */
    uint32_t frame_left;                    /* payload still to come */
    bool ends_block;                        /* with it a header block is complete */
    uint8_t preface_left;
    /* The newest stream of the peer, and a bit for each of the last 64 (bit 0: the newest): was it
     * opened, has the peer ended it? */
    int32_t newest;
    uint64_t opened, ended, told; /* told: the log has why we reset it */
    const char *why;              /* the connection ends, for the log: a constant text; or NULL */
    char detail[120];             /* nghttp2's words about the frame that it refuses; or "" */
    uint32_t verdict; /* error of the GOAWAY that ends the connection once nghttp2 has returned */
    unsigned failed : 1; /* no memory in a callback: abort then */
    unsigned spoilt : 1; /* the session had no memory: its functions are not called any more */
};

/* The connection's protocol is HTTP/2 from here on: SETTINGS are queued, http1's state is gone.
 * CD_OK; CD_NOMEM and nothing was changed. */
int cd_http2_open(cd_conn *c);

/* The same after "Upgrade: h2c": a request of HTTP/1.1 with that head becomes stream 1. CD_OK;
 * CD_NOMEM and the connection has to be aborted. */
int cd_http2_upgrade(cd_conn *c, const cd_head *head, cd_str settings);

/* ---- http2.c, for its files ---- */

extern const cd_stream_ops cd_http2_stream_ops;

/* The exchange is over on the wire: access-log event, detach. */
void cd_http2_end_exchange(cd_http2_stream *st, bool client_gone);

/* The stream's window, and the connection's, get back what the application took. */
void cd_http2_credit(cd_http2_stream *st);

static inline cd_http2_stream *cd_http2_of(cd_stream *s)
{
    return cd_container(s, cd_http2_stream, base);
}

/* Did a function of nghttp2 fail? For want of memory, then, and the connection is aborted. Not
 * inside of nghttp2's callbacks. */
bool cd_http2_failed(cd_http2 *h, int rc);

/* A deadline in so many seconds; 0 when they are 0. */
static inline double cd_http2_due(const cd_http2 *h, double seconds)
{
    return seconds > 0 ? cd_loop_now(h->conn->loop) + seconds : 0;
}

/* The earlier of two deadlines into *at. */
static inline void cd_http2_sooner(double *at, double other)
{
    if (other != 0 && (*at == 0 || other < *at))
        *at = other;
}

/* ---- http2_mem.c ---- */

/* For nghttp2_session_server_new3; notes in `failed` and `spoilt` when there is none left. */
nghttp2_mem cd_http2_mem(cd_http2 *h);
/* Frees the session, whatever state it is in. */
void cd_http2_drop_session(cd_http2 *h);

/* ---- http2_fault.c ---- */

/* Logs why a stream of the peer's is reset. */
void cd_http2_explain(cd_http2 *h, int32_t id, uint32_t code, const cd_refusal *refusal);
/* The same for what nghttp2 finds wrong: an error of its, and its words, which come before. */
void cd_http2_explain_frame(cd_http2 *h, int32_t id, int error);
void cd_http2_note_detail(cd_http2 *h, const char *text, size_t n);
/* RST_STREAM or GOAWAY is on its way: logs it, if nobody has said why. */
void cd_http2_explain_sent(cd_http2 *h, const nghttp2_frame *frame);

/* ---- http2_head.c ---- */

/* One field of the block under way: CD_OK or CD_NOMEM. */
int cd_http2_take_field(cd_http2 *h, cd_str name, cd_str value);
/* The block is complete: fills st->base.head. 0; a status to refuse it with; CD_NOMEM; CD_FRAMING:
 * reset it, no response can repair it. */
int cd_http2_read_head(cd_http2 *h, cd_http2_stream *st, bool has_body);

/* ---- http2_upgrade.c ---- */

/* Does the request, one without a body, ask for HTTP/2? Then *settings is the payload of its
 * HTTP2-Settings, in the stream's arena; else it stays as it is. CD_OK or CD_NOMEM. */
int cd_http2_read_upgrade(cd_stream *s, cd_str *settings);
/* The fields of a head of HTTP/1.1 as those of h->head. CD_OK or CD_NOMEM. */
int cd_http2_take_head(cd_http2 *h, const cd_head *head);

/* ---- http2_response.c ---- */

extern const nghttp2_send_data_callback cd_http2_send_data;

/* Queues a constant page as the response. CD_OK or CD_NOMEM. Also inside of nghttp2's callbacks. */
int cd_http2_submit_page(cd_http2 *h, int32_t id, int status, bool bodyless);
/* The same, and ends the exchange; only while nothing was sent. */
int cd_http2_page(cd_http2_stream *st, int status);
/* Ends the exchange and resets the stream. CD_OK or CD_NOMEM. */
int cd_http2_cut(cd_http2_stream *st, uint32_t code, bool client_gone);
/* Something was added to wire->out, or wire->ending set. */
void cd_http2_wake_wire(cd_http2_wire *w);
/* What waits is dropped, its tokens released. */
void cd_http2_drop_output(cd_http2_wire *w, cd_server *server);

/* Queues the response's head; DATA comes from w, NULL: none. 0 or an error of nghttp2's. */
int cd_http2_submit(cd_http2_stream *st, cd_http2_wire *w);
/* The stream ends with RST_STREAM, and is nobody's any more. */
int cd_http2_reset_wire(cd_http2_wire *w, uint32_t code);
/* n bytes that came were read or dropped; id: the stream whose window gets them back, or 0. */
void cd_http2_give_back(cd_http2 *h, int32_t id, size_t n);

/* ---- http2_tunnel.c ---- */

extern const struct cd_ws_carrier cd_http2_carrier;

/* DATA came, its end; there is room to write again; the stream has ended. */
int cd_http2_tunnel_data(cd_http2_tunnel *t, const uint8_t *p, size_t n);
void cd_http2_tunnel_end(cd_http2_tunnel *t);
void cd_http2_tunnel_drained(cd_http2_tunnel *t);
void cd_http2_tunnel_gone(cd_http2_tunnel *t);
/* Its stream is reset. */
void cd_http2_tunnel_cut(cd_http2_tunnel *t, uint32_t code);
/* cd_http2_look_at_output for all of them. */
void cd_http2_sweep_tunnels(cd_http2 *h, double now);
/* Resets those that the client has not ended. */
void cd_http2_cut_tunnels(cd_http2 *h);
/* The connection around them ends. */
void cd_http2_end_tunnels(cd_http2 *h);

/* ---- http2_half.c ---- */

/* The client has shut down its sending side. False: there is nobody to be served, or nothing to
 * serve. */
bool cd_http2_half_close(cd_http2 *h);
/* At half_at. False: it has left. */
bool cd_http2_half_tick(cd_http2 *h);

/* ---- http2_guard.c ---- */

/*
 * Takes from *p, up to `end`, what to give to nghttp2 next: *slice, not beyond the end of a frame;
 * returns its size, 0: nothing yet. A frame's head is given whole, and judged before: may its
 * stream have it, does it carry anything? h->verdict when not.
 */
size_t cd_http2_next_frame(cd_http2 *h, const uint8_t **p, const uint8_t *end,
                           const uint8_t **slice);
/* A stream was opened otherwise than with HEADERS; the peer has ended one, with END_STREAM or
 * RST_STREAM. */
void cd_http2_note_open(cd_http2 *h, int32_t id);
void cd_http2_note_end(cd_http2 *h, int32_t id);
/* The response of a stream is out, and its body has not ended. */
void cd_http2_expect_rest(cd_http2 *h, int32_t id);
/* A page is on its way, which also a client without a window has to take. CD_OK or CD_NOMEM. */
int cd_http2_expect_page(cd_http2 *h, int32_t id);
/* n bytes of the body came; it has ended. */
void cd_http2_take_rest(cd_http2 *h, int32_t id, size_t n);
void cd_http2_end_rest(cd_http2 *h, int32_t id);
/* The client has shut down its sending side: no body will end any more. */
void cd_http2_drop_rests(cd_http2 *h);
/* The server stops: clients that are silent get linger_timeout. */
void cd_http2_hurry_rests(cd_http2 *h);
/* Has a stream's bit (told, opened, ended) a place? Then how far from the newest; else -1. */
int cd_http2_age(const cd_http2 *h, int32_t id);
/* A stream was reset, by the peer or through its fault. */
void cd_http2_count_reset(cd_http2 *h);
/* Looks at bodies and responses that are not moving; sets sweep_at. Poll phase. */
void cd_http2_sweep(cd_http2 *h);
/* The same for what one wire has to send. */
void cd_http2_look_at_output(cd_http2_wire *w, double now);

#endif
