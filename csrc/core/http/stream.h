/*
 * A stream as the core's files see it: the common part of an HTTP/1 exchange, an HTTP/2 stream and
 * a WebSocket. It has two sides. The wire side is `conn`, NULL once the exchange is over or the
 * connection gone. The application side ends with cd_stream_finish. When both have ended, on_gone
 * is posted and the stream freed.
 */
#ifndef CD_STREAM_H
#define CD_STREAM_H

#include "base/arena.h"
#include "base/buf.h"
#include "cdaphne.h"
#include "loop/loop.h"
#include "loop/timer.h"

typedef struct cd_conn cd_conn;

/* Why a request is refused: what the log says beside the status that the peer gets. */
typedef struct {
    const char *why; /* a constant text */
    cd_str said;     /* the peer's words that are meant, until the end of the turn; or nothing */
} cd_refusal;

/*
 * What differs between kinds of stream. Arguments and results as the seam's functions of the same
 * name. But for message, only called while conn != NULL.
 */
typedef struct {
    int (*start)(cd_stream *s, int status, const cd_header *headers, size_t count);
    int (*write)(cd_stream *s, cd_chunk chunk, bool more);
    /* What s->head.can promises; NULL where it promises nothing. file: count > 0. */
    int (*hint)(cd_stream *s, const cd_str *links, size_t count);
    int (*trailers)(cd_stream *s, const cd_header *trailers, size_t count, bool more);
    int (*file)(cd_stream *s, int fd, uint64_t offset, size_t count, bool more);
    /* The application took from the input, or found it empty: flow-control credit, 100-continue. */
    void (*pulled)(cd_stream *s);
    void (*abort)(cd_stream *s);
    /* The application has ended while the wire goes on. */
    void (*finish)(cd_stream *s, bool failed);
    /* The stream's timer fired (poll phase). */
    void (*timeout)(cd_stream *s);
    /* WebSocket only, else NULL. */
    /* Takes the next message off s->in, or tells whether there is one (event == NULL). Also called
     * when conn is NULL. */
    bool (*message)(cd_stream *s, cd_event *event);
    int (*accept)(cd_stream *s, cd_str subprotocol, const cd_header *headers, size_t count);
    int (*send)(cd_stream *s, bool text, cd_chunk chunk);
    int (*close)(cd_stream *s, int code, cd_str reason);
} cd_stream_ops;

/* Callbacks that wait for dispatch. */
enum { CD_POST_OPEN = 1, CD_POST_READY = 2, CD_POST_DRAIN = 4, CD_POST_CANCEL = 8 };

struct cd_stream {
    const cd_stream_ops *ops;
    cd_conn *conn;                       /* NULL: the wire side has ended */
    const struct cd_ws_carrier *carrier; /* of a WebSocket that was not accepted yet, see ws.h */
    struct cd_server *server;
    void (*dispose)(cd_stream *s); /* NULL, or called before the stream is freed */
    void *data;                    /* the bridge's */
    size_t size;                   /* of this and what it begins */
    cd_list link;                  /* in server->streams */
    cd_job job;
    /* http_timeout, WebSocket age and connect; application_close_timeout once the wire has ended */
    cd_timer timer;
    cd_arena arena;
    cd_head head;
    double opened; /* loop time of the complete head */

    /* Application side. */
    unsigned posted : 4;     /* CD_POST_* */
    unsigned access_due : 5; /* a bit per cd_action that on_access is to hear of */
    unsigned opened_up : 1;  /* on_open was called */
    unsigned busy : 1;       /* a callback of the bridge is on the stack: it is not freed */
    unsigned finished : 1;   /* cd_stream_finish was called */
    unsigned starved : 1;    /* cd_stream_next had nothing: on_ready is owed */
    unsigned blocked : 1;    /* CD_AGAIN was returned: on_drain is owed */
    unsigned stuck : 1;      /* the log has that nobody moves */
    unsigned cancel_why : 2;

    /* Input: for HTTP the body bytes; for WebSocket records of ws.c. */
    cd_buf in;
    size_t taken; /* bytes of `in` that the last event showed; dropped by the next pull */
    unsigned connect_due : 1;   /* websocket.connect not delivered */
    unsigned body_complete : 1; /* the wire side has delivered the whole body */
    unsigned body_begun : 1;    /* an event of the body was delivered */
    unsigned end_taken : 1;     /* the one with more == false was */
    unsigned disconnect_due : 1;
    unsigned disconnect_taken : 1;
    int close_code;      /* of the disconnect */
    cd_str close_reason; /* in the arena */

    /* Response. */
    unsigned started : 1;    /* start was taken */
    unsigned head_sent : 1;  /* and is in the connection's output */
    unsigned complete : 1;   /* the last write was taken, of trailers where there are any */
    unsigned announced : 1;  /* trailers will follow the last write */
    unsigned body_ended : 1; /* that last write was taken */
    unsigned trailing : 1;   /* trailers go out: the client can take them */
    unsigned chunked : 1, has_length : 1, bodyless : 1;
    unsigned expect_continue : 1; /* 100 Continue is owed to the peer */
    unsigned close_after : 1;     /* no keep-alive after this response */
    unsigned has_date : 1, has_server : 1;
    int status;
    uint64_t length;      /* announced Content-Length */
    uint64_t sent;        /* body bytes taken so far */
    cd_str response_head; /* in the arena; held until the first write */
};

/* A stream with its arena empty, on the server's list. NULL: no memory. The protocol fills head,
 * then posts CD_POST_OPEN. `size`: sizeof(cd_stream), or of what begins with one. */
cd_stream *cd_stream_new(cd_conn *conn, const cd_stream_ops *ops, size_t size);

void cd_stream_post(cd_stream *s, unsigned what);

/* There is new input, end of body or a disconnect: posts CD_POST_READY if the application waits for
 * it. */
void cd_stream_wake(cd_stream *s);

/* Queues the one disconnect event (reason is copied into the arena; dropped if there is no memory)
 * and wakes. Later calls do nothing. */
void cd_stream_disconnect(cd_stream *s, int code, cd_str reason);

/* The client seems to have left: the application is told, and may still write. */
void cd_stream_leave(cd_stream *s);

/*
 * The wire side ends: conn becomes NULL, a disconnect is queued, waiting senders are woken.
 * `client_gone`: the application gets application_close_timeout to end by itself, then it is
 * cancelled (after a completed response it may run on).
 */
void cd_stream_detach(cd_stream *s, bool client_gone);

/* Copies into the stream's arena; p == NULL on no memory. */
cd_str cd_stream_dup(cd_stream *s, cd_str text);

/* Hands an access-log event to the log. */
void cd_stream_access(cd_stream *s, enum cd_action action);

#endif
