/* What the files of the ASGI server share, one section for each. See state.h for who owns what. */
#ifndef CDPY_ASGI_H
#define CDPY_ASGI_H

#include "bridge/loop/loop.h"

/* ---- awaitable.c: Waiter, what receive() and send() return ---- */

enum cdpy_waiter_kind { CDPY_RECEIVE, CDPY_SEND, CDPY_FINISHED };

enum cdpy_waiter_phase {
    /* receive only: nobody waits yet, so it is on no list; like a coroutine that was not started */
    CDPY_IDLE,
    CDPY_PENDING,   /* on the stream's list */
    CDPY_READY,     /* receive only: its event is at the front of the stream, or in `value` */
    CDPY_DONE,      /* `value` is the result */
    CDPY_CANCELLED, /* `value` is the message or NULL */
};

struct cdpy_waiter {
    PyObject_HEAD
    cdpy_loop *loop; /* strong */
    /* strong; NULL: it has no stream any more, and stays pending for ever unless it is done */
    cdpy_stream *stream;
    /* links of the list, while PENDING or READY */
    cdpy_waiter *prev, *next;
    PyObject *value;
    PyObject *callback, *context; /* the first callback, nearly always the only one */
    PyObject *more;               /* list of (callback, context), or NULL */
    PyObject *weakrefs;
    unsigned char kind, phase;
    bool linked;   /* it is on a list */
    bool held;     /* the list has a strong reference */
    bool blocking; /* _asyncio_future_blocking */
};

/* Make waiters: new references, or NULL with an exception. */
PyObject *cdpy_waiter_new(cdpy_stream *stream, enum cdpy_waiter_kind kind);
PyObject *cdpy_waiter_finished(cdpy_state *state,
                               cdpy_loop *loop); /* shared by a server for every send that fits */

/* Called when the stream may have an event for its first receive waiter. `direct`: the core calls,
 * so callbacks may be called at once (cdpy_step). */
void cdpy_receive_ready(cdpy_stream *stream, bool direct);
/* Finishes every send waiter of the stream. */
void cdpy_send_ready(cdpy_stream *stream, bool direct);
/* Removes every receive waiter from the stream; they stay pending for ever. */
void cdpy_waiters_detach(cdpy_stream *stream);

/* ---- stream.c: the Python side of a stream, its receive and send objects ---- */

typedef struct {
    cdpy_waiter *first, *last;
} cdpy_waiters;

struct cdpy_stream {
    PyObject_HEAD
    vectorcallfunc vectorcall; /* the stream itself is the done callback of its task */
    cd_stream *core;           /* NULL: finished */
    cdpy_server *server;       /* strong */
    PyObject *task;            /* strong, while it runs */
    PyObject *context; /* the application's contextvars.Context, as long as it is needed; or NULL */
    /* the server's list, while the application runs */
    cdpy_stream *prev, *next;
    cdpy_waiters receiving, sending;
    PyObject *returned;  /* list of events that were taken from the core and given back; or NULL */
    const cd_head *head; /* valid as long as core is not NULL */
    enum cd_kind kind;
    unsigned offers;   /* CDPY_PATHSEND and so on: the extensions that the scope offered */
    bool started;      /* http: response started. websocket: accepted */
    bool denied;       /* websocket: denial response started */
    bool announced;    /* trailers will follow the body */
    bool body_begun;   /* a piece of the response's body was sent */
    bool body_ended;   /* the last piece of the body was sent */
    bool debugged;     /* http.response.debug was sent */
    bool complete;     /* response complete; websocket closed */
    bool disconnected; /* the one disconnect event was delivered */
    bool cancelled;    /* on_cancel was called */
    /* on_cancel was called again for a client that has gone: from now on send() raises */
    bool send_raises;
    bool dropping; /* the send waiters will be finished in the next turn of the loop */
};

/* The receive and send objects: callables that hold their stream. */
struct cdpy_call {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    cdpy_stream *stream; /* strong */
    PyObject *weakrefs;
};

cdpy_stream *cdpy_stream_new(cdpy_server *server, cd_stream *core, const cd_head *head);
PyObject *cdpy_receive_new(cdpy_stream *stream);
PyObject *cdpy_send_new(cdpy_stream *stream);

/* Pulls the next event. 1: *event is a new dict; 0: there is none, *event is NULL; -1: an exception
 * is set. http.c and websocket.c make the dict. */
int cdpy_stream_pull(cdpy_stream *stream, PyObject **event);
bool cdpy_stream_readable(const cdpy_stream *stream);
/* Puts a pulled event back, for the next pull, and takes the reference. */
void cdpy_stream_return(cdpy_stream *stream, PyObject *event);
/*
 * Makes what send() returns from the core's result: a new awaitable, or NULL with an exception,
 * whose text begins with `what`. After CD_AGAIN the awaitable waits for room if `waits` is set.
 * CD_GONE is no error, see stream.c.
 */
PyObject *cdpy_answer(cdpy_stream *stream, int code, bool waits, const char *what);
/*
 * Enters the context of the stream's application. Returns a new reference, with which
 * cdpy_stream_exit must be called. NULL without an exception: there is no context, or it is entered
 * already; then the following code runs in the caller's.
 */
PyObject *cdpy_stream_enter(cdpy_stream *stream);
void cdpy_stream_exit(cdpy_stream *stream, PyObject *context);
/* Called when the application waits and there is no event: the core reads on, answers "Expect:
 * 100-continue", and will call on_ready. */
void cdpy_stream_ask(cdpy_stream *stream);

/* ---- server.c: Server and the core's callbacks ---- */

struct cdpy_server {
    PyObject_HEAD
    cdpy_state *state;
    cd_server *core; /* NULL: closed */
    cdpy_loop *loop; /* strong */
    PyObject *app, *on_log, *on_access, *on_exception;
    PyObject *lifespan_state; /* dict or NULL */
    PyObject *context;        /* contextvars.Context */
    PyObject *root_path;      /* str */
    PyObject *certificate;    /* str: the certificate that the newest TLS peer was shown; or NULL */
    PyObject *finished;       /* the awaitable that all finished send() calls return */
    /* application.c: keyword arguments of the Task call; NULL: in use, or not made yet */
    PyObject *task_kwargs[2];
    cdpy_stream *streams; /* the streams whose applications run */
    cdpy_guest guest;     /* makes it a guest of the loop, while it is open */
    cd_server *forsaken;  /* what `core` was in the parent of a forked process */
    size_t tasks;
    size_t pin_size;
    unsigned offers; /* the extensions that scopes may offer, CDPY_PATHSEND and so on */
};

/* ---- application.c: one run of the application ---- */

/* Calls the application and starts its task. Only called in dispatch. */
void cdpy_application_run(cdpy_stream *stream, const cd_head *head);
/* Called for a task that is done: reports its exception, then ends the stream. */
void cdpy_application_done(cdpy_stream *stream, PyObject *task);
/* Tells the core that the application has ended, or is to count as ended. A second call does
 * nothing. */
void cdpy_application_ended(cdpy_stream *stream, bool failed);
/* Passes a line to on_log. line == NULL: an exception is set, and is reported. */
void cdpy_application_log(cdpy_server *server, enum cd_level level, PyObject *line);

/* ---- config.c: Server's keyword arguments ---- */

/* Fills server and config, which has the defaults already, from kwargs, which may be NULL. *owner
 * and kwargs hold the strings of config; *prefixes must be freed with PyMem_Free. Returns 0, or -1
 * with an exception. */
int cdpy_parse_options(cdpy_server *server, cd_config *config, PyObject *kwargs, PyObject **owner,
                       const char ***prefixes);
/* Checks a value for a row of limits.def or options.def. Returns 0, or -1 with a ValueError or
 * TypeError that says what is wrong. */
int cdpy_check_setting(const char *name, PyObject *value);

/* ---- scope.c: cd_head -> scope dict ---- */

/* Makes the scope of a request: a new dict, or NULL with an exception. A cache in head->cache keeps
 * the connection's two addresses as str and int, and the headers of its last request. */
PyObject *cdpy_scope_new(cdpy_server *server, const cd_head *head);
/* Returns "host:port" of the client as in the scope, or None; a new reference, or NULL with an
 * exception. */
PyObject *cdpy_client_text(const cd_head *head);

/* ---- tls.c: Tls ---- */

/* Returns the core's object of a Tls, borrowed; NULL with a TypeError when the object is none. */
cd_tls *cdpy_tls_core(cdpy_state *state, PyObject *object);
/* Returns a new dict for the scope's tls extension, with client_cert_chain as a tuple; None when
 * the core has no facts; NULL with an exception. */
PyObject *cdpy_tls_extension(cdpy_server *server, const cd_head *head);

/* ---- http.c, websocket.c: events of each protocol ---- */

/* Handles send(event). Returns a new awaitable, or NULL with an exception. `type` is event["type"],
 * a str. */
PyObject *cdpy_http_send(cdpy_stream *stream, PyObject *event, PyObject *type);
PyObject *cdpy_websocket_send(cdpy_stream *stream, PyObject *event, PyObject *type);

/* Makes the dict of an event of the core: a new reference, or NULL with an exception. */
PyObject *cdpy_http_event(cdpy_state *state, const cd_event *event);
PyObject *cdpy_websocket_event(cdpy_state *state, const cd_event *event);

/* Handle http.response.start and .body, and websocket.http.response.start and .body. */
PyObject *cdpy_response_start(cdpy_stream *stream, PyObject *event);
PyObject *cdpy_response_body(cdpy_stream *stream, PyObject *event);
/* Called when the core has taken a piece of the body. */
void cdpy_body_sent(cdpy_stream *stream, bool more);

/* ---- extension.c: events of the extensions ---- */

/* The extensions that are offered only when the operator names them, in the order of extension.c's
 * names. */
enum {
    CDPY_PATHSEND = 1,
    CDPY_ZEROCOPYSEND = 2,
    CDPY_TRAILERS = 4,
    CDPY_EARLY_HINT = 8,
    CDPY_DEBUG = 16,
};

/* Returns a new tuple of their names, as in Server's argument. */
PyObject *cdpy_extension_names(void);
/* Reads that argument. Returns 0, or -1 with an exception. */
int cdpy_extension_parse(PyObject *names, unsigned *offers);
/* Returns the extensions that this request can use. */
unsigned cdpy_extension_offers(const cdpy_server *server, const cd_head *head);
/* The same as cdpy_http_send, for event types of extensions. */
PyObject *cdpy_extension_send(cdpy_stream *stream, PyObject *event, PyObject *type);
/* Called when a response did not come: logs the extension whose event middleware may have
 * dropped. */
void cdpy_extension_suspect(cdpy_stream *stream);

/* ---- event.c: headers and payloads between Python and the core ---- */

/* The headers of an event in the form that the core takes. Zero it before use, and dispose of it in
 * any case. */
typedef struct {
    cd_header *list;
    size_t count;
    PyObject *source;    /* holds the bytes that the slices point to */
    cd_header small[24]; /* used as `list` when they fit */
} cdpy_headers;
int cdpy_headers_init(cdpy_headers *headers, PyObject *event, PyObject *key);
void cdpy_headers_dispose(cdpy_headers *headers);

/* A body or message as a chunk for the core. `pin` holds its bytes; when the chunk is large it
 * becomes the token. */
typedef struct {
    cd_chunk chunk;
    PyObject *pin;
} cdpy_payload;
int cdpy_payload_bytes(cdpy_payload *payload, PyObject *value, const char *what, size_t pin_size);
int cdpy_payload_text(cdpy_payload *payload, PyObject *value, size_t pin_size);
/* Called with the core's result: gives the pin to the core (CD_OK or CD_AGAIN with a token) or
 * drops it. */
void cdpy_payload_settle(cdpy_payload *payload, int code);

/* Sets the exception for a CD_* code; its text begins with `what`. Always returns NULL. */
PyObject *cdpy_raise(cdpy_state *state, int code, const char *what);

#endif
