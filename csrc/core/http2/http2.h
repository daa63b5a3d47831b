/*
 * HTTP/2 (RFC 9113) over a connection. nghttp2 handles frames, HPACK, stream states and windows,
 * and does no I/O of its own. http2.c drives it and the connection, http2_head.c makes a checked
 * head out of a header block, http2_response.c writes responses, http2_guard.c limits what a peer
 * may cost us.
 */
#ifndef CD_HTTP2_H
#define CD_HTTP2_H

#include "http/stream.h"
#include "net/conn.h"

#include <nghttp2/nghttp2.h>

typedef struct cd_http2 cd_http2;
typedef struct cd_http2_tunnel cd_http2_tunnel;

/* The source of DATA frames. It belongs to a request's stream or to a WebSocket's tunnel. */
typedef struct {
    cd_http2 *http2; /* NULL: the connection has gone */
    int32_t id;
    cd_output out; /* output that is not in a frame yet */
    /* the stream whose application is told when `out` has drained; may be NULL */
    cd_stream *stream;
    cd_http2_tunnel *tunnel; /* the tunnel that owns the output; NULL: a request does */
    uint64_t moved;          /* bytes put into frames since write_check was set */
    uint64_t others_moved;   /* http2->moved at that time */
    double write_check;      /* when to look whether the peer still reads; 0: never */
    /* `out` or the end of the stream waits, and is counted in http2->waiting */
    unsigned waits : 1;
    /* nghttp2 has no data for this stream and must be told when `out` has some */
    unsigned deferred : 1;
    unsigned ending : 1;  /* `out` is complete: its end is the end of the stream */
    unsigned feeding : 1; /* HEADERS were submitted, and nghttp2 makes DATA frames of `out` */
    unsigned ended : 1;   /* the last DATA frame was made */
} cd_http2_wire;

/* A request. It begins with its cd_stream, and is freed with it. */
typedef struct {
    cd_stream base;
    cd_http2_wire wire;
    cd_list link; /* in http2->streams, until it is freed */
    /* Request. */
    cd_str authority, protocol; /* pseudo fields for which cd_head has no place */
    int fault;                  /* status to refuse it with; 0: none */
    cd_refusal refusal;         /* why */
    bool opened;                /* its head was valid, and an application is run for it */
    bool websocket;             /* it is an Extended CONNECT for a WebSocket */
    bool counted;               /* it counts in http2->live */
    uint64_t received;          /* body bytes received */
    uint64_t credited;          /* body bytes given back to the stream's window */
    uint64_t window_received;   /* body bytes received since body_check was set */
    double body_check;          /* when to look at the rate of the body; 0: not now */
    /* Response. */
    nghttp2_nv *fields; /* in the arena; held back until the first write */
    size_t field_count;
    nghttp2_nv *trailers; /* in the arena */
    size_t trailer_count;
} cd_http2_stream;

/* A stream without an application: its response is sent while its body still comes, or its response
 * is a page of the server's that is being sent. */
typedef struct {
    cd_list link; /* in http2->orphans */
    int32_t id;
    double until; /* when it is reset or looked at; 0: never */
    uint32_t code;
    bool renewed;   /* its window was renewed after the response */
    size_t taken;   /* body bytes received since `until` was set */
    size_t dropped; /* all body bytes that were dropped */
} cd_http2_orphan;

/* A token bucket: limits how many events are accepted at once, and how many a second. */
typedef struct {
    double left, since;
} cd_http2_bucket;

enum cd_http2_drain {
    CD_HTTP2_SERVING, /* no GOAWAY was sent */
    /* a first GOAWAY was sent, which announces the last one: new streams are still served */
    CD_HTTP2_NOTICE,
    /* the last GOAWAY was sent: the connection closes when the open streams have ended */
    CD_HTTP2_LAST,
};

struct cd_http2 {
    nghttp2_session *session;
    cd_list blocks; /* the memory blocks of the session */
    cd_conn *conn;
    cd_list streams; /* cd_http2_stream.link: streams with an application or open on the wire */
    size_t live;     /* how many streams have `counted` set */
    cd_list orphans; /* cd_http2_orphan.link */
    cd_list tunnels; /* the tunnels whose streams are open */
    size_t active;   /* streams open on the wire */
    size_t unread;   /* body bytes received and not taken by applications, of all streams */
    size_t withheld; /* bytes of the connection's window that are withheld because of `unread` */
    uint64_t moved;  /* bytes put into DATA frames */
    size_t waiting;  /* wires whose output is not empty */
    /* The header block under way. */
    int32_t head_id;
    cd_http2_stream *head; /* NULL: the block is of a refused stream, or has trailers */
    cd_header *fields;     /* names and values in head's arena */
    size_t field_count, field_room, head_size;
    /* Deadlines in the loop's time; 0: none. head_at is for the preface or the header block under
     * way. */
    double head_at, idle_at, drain_at, sweep_at;
    double half_at,
        /* for a client that has shut down its sending side: the next look, and the last */
        half_until;
    uint64_t half_moved; /* `moved` at the last look */
    double armed_at;     /* the earliest deadline, to which the connection's is set */
    cd_http2_bucket resets, controls;
    enum cd_http2_drain drain;
    /* The position in the input, which is cut into frames. */
    uint8_t frame_head[9], frame_head_size; /* the beginning of a frame header that is incomplete */
    uint32_t frame_left;                    /* bytes of payload still to come */
    bool ends_block;                        /* the end of this frame completes a header block */
    uint8_t preface_left;
    /* The newest stream of the peer, and one bit for each of the last 64 streams (bit 0: the
     * newest): was it opened, has the peer ended it? */
    int32_t newest;
    uint64_t opened, ended, told; /* told: the log already says why we reset it */
    /* why the connection ends, for the log: a constant text; or NULL */
    const char *why;
    char detail[120]; /* what nghttp2 says about the frame that it refuses; or "" */
    /* error code of the GOAWAY that ends the connection as soon as nghttp2 has returned */
    uint32_t verdict;
    unsigned failed : 1; /* there was no memory in a callback: the connection is to be aborted */
    unsigned session_broken
        : 1; /* the session had no memory: its functions must not be called any more */
};

/* Changes the connection's protocol to HTTP/2: queues SETTINGS and frees http1's state. Returns
 * CD_OK, or CD_NOMEM and then nothing was changed. */
int cd_http2_open(cd_conn *c);

/* The same after "Upgrade: h2c": the HTTP/1.1 request with that head becomes stream 1. Returns
 * CD_OK, or CD_NOMEM and then the connection must be aborted. */
int cd_http2_upgrade(cd_conn *c, const cd_head *head, cd_str settings);

/* ---- http2.c, for its files ---- */

extern const cd_stream_ops cd_http2_stream_ops;

/* Ends the exchange on the wire: access-log event, detach. */
void cd_http2_end_exchange(cd_http2_stream *st, bool client_gone);

/* Gives the bytes that the application took back to the windows of the stream and of the
 * connection. */
void cd_http2_credit(cd_http2_stream *st);

static inline cd_http2_stream *cd_http2_of(cd_stream *s)
{
    return cd_container(s, cd_http2_stream, base);
}

/* Did a function of nghttp2 fail? The only reason is lack of memory, and the connection is aborted.
 * Not to be called inside nghttp2's callbacks. */
bool cd_http2_failed(cd_http2 *h, int rc);

/* Returns the deadline that is so many seconds away; 0 when seconds is 0. */
static inline double cd_http2_due(const cd_http2 *h, double seconds)
{
    return seconds > 0 ? cd_loop_now(h->conn->loop) + seconds : 0;
}

/* Moves *at to the other deadline if that is earlier. */
static inline void cd_http2_sooner(double *at, double other)
{
    if (other != 0 && (*at == 0 || other < *at))
        *at = other;
}

/* ---- http2_mem.c ---- */

/* The allocator for nghttp2_session_server_new3. When there is no memory it sets `failed` and
 * `session_broken`. */
nghttp2_mem cd_http2_mem(cd_http2 *h);
/* Frees the session in any state. */
void cd_http2_drop_session(cd_http2 *h);

/* ---- http2_fault.c ---- */

/* Logs why we reset a stream of the peer's. */
void cd_http2_explain(cd_http2 *h, int32_t id, uint32_t code, const cd_refusal *refusal);
/* The same for an error that nghttp2 found. Its description of the error, which comes first, is
 * noted by cd_http2_note_detail. */
void cd_http2_explain_frame(cd_http2 *h, int32_t id, int error);
void cd_http2_note_detail(cd_http2 *h, const char *text, size_t n);
/* Called when RST_STREAM or GOAWAY is sent: logs it, unless the reason was logged already. */
void cd_http2_explain_sent(cd_http2 *h, const nghttp2_frame *frame);

/* ---- http2_head.c ---- */

/* Takes one field of the header block under way. Returns CD_OK or CD_NOMEM. */
int cd_http2_take_field(cd_http2 *h, cd_str name, cd_str value);
/* Called when the header block is complete: fills st->base.head. Returns 0; a status to refuse the
 * request with; CD_NOMEM; or CD_FRAMING: the stream must be reset, because no response is
 * possible. */
int cd_http2_read_head(cd_http2 *h, cd_http2_stream *st, bool has_body);

/* ---- http2_upgrade.c ---- */

/* Does the request, which must have no body, ask for HTTP/2? If so, *settings is set to the payload
 * of its HTTP2-Settings, in the stream's arena; else it is not changed. Returns CD_OK or
 * CD_NOMEM. */
int cd_http2_read_upgrade(cd_stream *s, cd_str *settings);
/* Takes the fields of an HTTP/1.1 head as those of h->head. Returns CD_OK or CD_NOMEM. */
int cd_http2_take_head(cd_http2 *h, const cd_head *head);

/* ---- http2_response.c ---- */

extern const nghttp2_send_data_callback cd_http2_send_data;

/* Queues a constant page as the response. Returns CD_OK or CD_NOMEM. May be called inside nghttp2's
 * callbacks. */
int cd_http2_submit_page(cd_http2 *h, int32_t id, int status, bool bodyless);
/* The same, and ends the exchange; only while nothing of the response was sent. */
int cd_http2_page(cd_http2_stream *st, int status);
/* Ends the exchange and resets the stream. Returns CD_OK or CD_NOMEM. */
int cd_http2_cut(cd_http2_stream *st, uint32_t code, bool client_gone);
/* Must be called when something was added to w->out, or w->ending was set. */
void cd_http2_wake_wire(cd_http2_wire *w);
/* Drops the output that waits and releases its tokens. */
void cd_http2_drop_output(cd_http2_wire *w, cd_server *server);

/* Queues the head of the response; DATA frames are made from w, NULL: there is no body. Returns 0
 * or an error of nghttp2's. */
int cd_http2_submit(cd_http2_stream *st, cd_http2_wire *w);
/* Resets the stream with RST_STREAM. No application has it any more. */
int cd_http2_reset_wire(cd_http2_wire *w, uint32_t code);
/* Gives n bytes, which were read or dropped, back to the windows of the connection and of stream
 * `id`; id == 0: of the connection only. */
void cd_http2_give_back(cd_http2 *h, int32_t id, size_t n);

/* ---- http2_tunnel.c ---- */

extern const struct cd_ws_carrier cd_http2_carrier;

/* Tell a tunnel that DATA has come, that the peer has ended its side, that there is room to write
 * again, that the stream has ended. */
int cd_http2_tunnel_data(cd_http2_tunnel *t, const uint8_t *p, size_t n);
void cd_http2_tunnel_end(cd_http2_tunnel *t);
void cd_http2_tunnel_drained(cd_http2_tunnel *t);
void cd_http2_tunnel_gone(cd_http2_tunnel *t);
/* Resets the tunnel's stream. */
void cd_http2_tunnel_cut(cd_http2_tunnel *t, uint32_t code);
/* Calls cd_http2_look_at_output for all tunnels. */
void cd_http2_sweep_tunnels(cd_http2 *h, double now);
/* Resets the tunnels that the client has not ended. */
void cd_http2_cut_tunnels(cd_http2 *h);
/* Ends all tunnels, because the connection ends. */
void cd_http2_end_tunnels(cd_http2 *h);

/* ---- http2_half.c ---- */

/* Called when the client has shut down its sending side. False: the client has left, or there is
 * nothing left to serve. */
bool cd_http2_half_close(cd_http2 *h);
/* Called at half_at. False: the client has left. */
bool cd_http2_half_tick(cd_http2 *h);

/* ---- http2_guard.c ---- */

/*
 * Takes from *p, up to `end`, the bytes to give to nghttp2 next: sets *slice, which does not go
 * beyond the end of a frame, and returns its size; 0: nothing yet. A frame header is given whole,
 * and is judged before: may the stream have such a frame, does the frame carry anything? If not,
 * h->verdict is set.
 */
size_t cd_http2_next_frame(cd_http2 *h, const uint8_t **p, const uint8_t *end,
                           const uint8_t **slice);
/* Note that a stream was opened by other means than HEADERS; that the peer has ended one, with
 * END_STREAM or RST_STREAM. */
void cd_http2_note_open(cd_http2 *h, int32_t id);
void cd_http2_note_end(cd_http2 *h, int32_t id);
/* The response of a stream is sent, and its body has not ended: the body will be dropped. */
void cd_http2_add_orphan(cd_http2 *h, int32_t id);
/* A page is being sent, which must not wait for ever for a client that gives no window. Returns
 * CD_OK or CD_NOMEM. */
int cd_http2_expect_page(cd_http2 *h, int32_t id);
/* Note that n bytes of the body have come; that the body has ended. */
void cd_http2_take_orphan_data(cd_http2 *h, int32_t id, size_t n);
void cd_http2_end_orphan(cd_http2 *h, int32_t id);
/* The client has shut down its sending side, so no body will end any more. */
void cd_http2_drop_orphans(cd_http2 *h);
/* The server stops: clients that send nothing get linger_timeout. */
void cd_http2_hurry_orphans(cd_http2 *h);
/* Returns the place of a stream's bit in told, opened and ended, counted from the newest stream;
 * -1: it has none any more. */
int cd_http2_age(const cd_http2 *h, int32_t id);
/* Counts a stream that was reset by the peer or because of the peer's error. */
void cd_http2_count_reset(cd_http2 *h);
/* Looks for bodies and responses that do not move, and sets sweep_at. Poll phase. */
void cd_http2_sweep(cd_http2 *h);
/* The same for the output of one wire. */
void cd_http2_look_at_output(cd_http2_wire *w, double now);

#endif
