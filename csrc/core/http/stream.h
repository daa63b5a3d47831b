/*
 * A stream as the core's files see it: the common part of an HTTP/1 exchange, an HTTP/2 stream and
 * a WebSocket. It has two sides. The wire side is `conn`; it becomes NULL when the exchange is over
 * or the connection has gone. The application side ends with cd_stream_finish. When both have
 * ended, on_gone is posted and the stream is freed.
 */
#ifndef CD_STREAM_H
#define CD_STREAM_H

#include "base/arena.h"
#include "base/buf.h"
#include "cdaphne.h"
#include "loop/loop.h"
#include "loop/timer.h"

typedef struct cd_conn cd_conn;

/* Why a request is refused, for the log; the peer gets the status only. */
typedef struct {
    const char *why; /* a constant text */
    /* the part of the request that is wrong, valid until the end of the turn; or empty */
    cd_str said;
} cd_refusal;

/*
 * What differs between the kinds of streams. Arguments and results are those of the seam's
 * functions with the same names. All but `message` are called only while conn != NULL.
 */
typedef struct {
    int (*start)(cd_stream *s, int status, const cd_header *headers, size_t count);
    int (*write)(cd_stream *s, cd_chunk chunk, bool more);
    /* Present if s->head.can says so, else NULL. For file, count > 0. */
    int (*hint)(cd_stream *s, const cd_str *links, size_t count);
    int (*trailers)(cd_stream *s, const cd_header *trailers, size_t count, bool more);
    int (*file)(cd_stream *s, int fd, uint64_t offset, size_t count, bool more);
    /* The application took some input, or found none: the place for flow-control credit and
     * 100-continue. */
    void (*pulled)(cd_stream *s);
    void (*abort)(cd_stream *s);
    /* The application has ended, the wire side has not. */
    void (*finish)(cd_stream *s, bool failed);
    /* The stream's timer fired (poll phase). */
    void (*timeout)(cd_stream *s);
    /* The rest is for WebSockets only, else NULL. */
    /* Takes the next message off s->in, or with event == NULL only tells whether there is one. May
     * be called when conn is NULL. */
    bool (*message)(cd_stream *s, cd_event *event);
    int (*accept)(cd_stream *s, cd_str subprotocol, const cd_header *headers, size_t count);
    int (*send)(cd_stream *s, bool text, cd_chunk chunk);
    int (*close)(cd_stream *s, int code, cd_str reason);
} cd_stream_ops;

/* Callbacks that wait for the dispatch phase. */
enum { CD_POST_OPEN = 1, CD_POST_READY = 2, CD_POST_DRAIN = 4, CD_POST_CANCEL = 8 };

struct cd_stream {
    const cd_stream_ops *ops;
    cd_conn *conn; /* NULL: the wire side has ended */
    /* answers the handshake of a WebSocket that is not accepted yet, see ws.h */
    const struct cd_ws_carrier *carrier;
    struct cd_server *server;
    void (*dispose)(cd_stream *s); /* NULL, or called before the stream is freed */
    void *data;                    /* the bridge's pointer, see cd_stream_set_data */
    size_t size;                   /* bytes allocated: this struct may begin a larger one */
    cd_list link;                  /* in server->streams */
    cd_job job;
    /* for http_timeout, websocket_timeout and websocket_connect_timeout; for
     * application_close_timeout once the wire side has ended */
    cd_timer timer;
    cd_arena arena;
    cd_head head;
    double opened; /* when the head was complete, in the loop's time */

    /* Application side. */
    unsigned posted : 4;     /* CD_POST_* */
    unsigned access_due : 5; /* one bit for each cd_action that on_access has still to be told of */
    unsigned opened_up : 1;  /* on_open was called */
    unsigned busy : 1;       /* a callback of the bridge is running: the stream must not be freed */
    unsigned finished : 1;   /* cd_stream_finish was called */
    unsigned starved : 1;    /* cd_stream_next had nothing: on_ready is owed */
    unsigned blocked : 1;    /* CD_AGAIN was returned: on_drain is owed */
    unsigned stuck : 1;      /* the log already says that both sides wait for each other */
    unsigned cancel_why : 2;

    /* Input: body bytes for HTTP, records of ws.c for WebSocket. */
    cd_buf in;
    size_t taken; /* bytes of `in` that the last event points to; the next pull drops them */
    unsigned connect_due : 1;   /* websocket.connect has still to be delivered */
    unsigned body_complete : 1; /* the wire side has delivered the whole body */
    unsigned body_begun : 1;    /* an event of the body was delivered */
    unsigned end_taken : 1;     /* the event with more == false was delivered */
    unsigned disconnect_due : 1;
    unsigned disconnect_taken : 1;
    int close_code;      /* code of the disconnect event */
    cd_str close_reason; /* in the arena */

    /* Response. */
    unsigned started : 1;    /* start was taken */
    unsigned head_sent : 1;  /* the head is in the connection's output */
    unsigned complete : 1;   /* the last write was taken (of trailers, if they were announced) */
    unsigned announced : 1;  /* trailers will follow the last write */
    unsigned body_ended : 1; /* the last write of the body was taken */
    unsigned trailing : 1;   /* trailers are sent, because the client accepts them */
    unsigned chunked : 1, has_length : 1, bodyless : 1;
    unsigned expect_continue : 1; /* 100 Continue is owed to the peer */
    unsigned close_after : 1;     /* no keep-alive after this response */
    unsigned has_date : 1, has_server : 1;
    int status;
    uint64_t length;      /* announced Content-Length */
    uint64_t sent;        /* body bytes taken so far */
    cd_str response_head; /* in the arena; held back until the first write */
};

/* Makes a stream with an empty arena and puts it on the server's list. NULL: no memory. The
 * protocol fills head, then posts CD_POST_OPEN. `size` is sizeof(cd_stream), or that of a larger
 * struct that begins with one. */
cd_stream *cd_stream_new(cd_conn *conn, const cd_stream_ops *ops, size_t size);

void cd_stream_post(cd_stream *s, unsigned what);

/* Called when there is new input, the end of the body or a disconnect: posts CD_POST_READY if the
 * application waits for it. */
void cd_stream_wake(cd_stream *s);

/* Queues the one disconnect event and wakes the application. The reason is copied into the arena,
 * or dropped if there is no memory. Later calls do nothing. */
void cd_stream_disconnect(cd_stream *s, int code, cd_str reason);

/* The client seems to have left: tells the application, which may still write. */
void cd_stream_leave(cd_stream *s);

/*
 * Ends the wire side: conn becomes NULL, a disconnect is queued, waiting senders are woken.
 * `client_gone`: the application is cancelled if it has not ended after application_close_timeout.
 * Without it (the response is complete) the application may run on.
 */
void cd_stream_detach(cd_stream *s, bool client_gone);

/* Copies a text into the stream's arena. p == NULL: no memory. */
cd_str cd_stream_dup(cd_stream *s, cd_str text);

/* Writes a log line about this stream, as cd_conn_log does for a connection. It is told in the
 * context of the stream's application. */
void cd_stream_log(cd_stream *s, enum cd_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Passes an event to the access log. */
void cd_stream_access(cd_stream *s, enum cd_action action);

#endif
