/* What the files of the ASGI server share, one section for each. See state.h for who owns what. */
#ifndef CDPY_ASGI_H
#define CDPY_ASGI_H

#include "bridge/loop/loop.h"

/* ---- awaitable.c: Waiter, what receive() and send() return ---- */

enum cdpy_waiter_kind { CDPY_RECEIVE, CDPY_SEND, CDPY_FINISHED };

enum cdpy_waiter_phase {
    /* receive only: nobody has asked yet, so it is on no list; like a coroutine not started */
    CDPY_IDLE,
    CDPY_PENDING,   /* on the stream's list */
    CDPY_READY,     /* receive only: its event is at the front of the stream, or in `value` */
    CDPY_DONE,      /* `value` is the result */
    CDPY_CANCELLED, /* `value` is the message or NULL */
};

struct cdpy_waiter {
    PyObject_HEAD
    cdpy_loop *loop;     /* strong */
    cdpy_stream *stream; /* strong; NULL: on no stream any more, an unfinished one pends for ever */
    cdpy_waiter *prev, *next; /* the list, while PENDING or READY; the freelist by `next` */
    PyObject *value;
    PyObject *callback, *context; /* the first callback: nearly always the only one */
    PyObject *more;               /* list of (callback, context), or NULL */
    PyObject *weakrefs;
    unsigned char kind, phase;
    bool linked;   /* on a list */
    bool held;     /* the list has a strong reference */
    bool blocking; /* _asyncio_future_blocking */
};

/* New references, or NULL with an exception. */
PyObject *cdpy_waiter_new(cdpy_stream *stream, enum cdpy_waiter_kind kind);
PyObject *cdpy_waiter_finished(cdpy_state *state,
                               cdpy_loop *loop); /* shared by a server for every send that fits */

/* The stream may have something for its first receive waiter. `direct`: called by the core,
 * callbacks may be stepped. */
void cdpy_receive_ready(cdpy_stream *stream, bool direct);
/* Every send waiter of the stream is done. */
void cdpy_send_ready(cdpy_stream *stream, bool direct);
/* Takes every receive waiter off; they pend for ever. */
void cdpy_waiters_detach(cdpy_stream *stream);

/* ---- stream.c: the Python side of a stream, its receive and send objects ---- */

typedef struct {
    cdpy_waiter *first, *last;
} cdpy_waiters;

struct cdpy_stream {
    PyObject_HEAD
    vectorcallfunc vectorcall; /* the stream is the done callback of its task */
    cd_stream *core;           /* NULL: finished */
    cdpy_server *server;       /* strong */
    PyObject *task;            /* strong while it runs */
    PyObject *context; /* the application's contextvars.Context, while it is needed; or NULL */
    cdpy_stream *prev, *next; /* the server's list, while it runs; `next` links the freelist too */
    cdpy_waiters receiving, sending;
    PyObject *returned;  /* list of events that were taken and given back, or NULL */
    const cd_head *head; /* as long as core is not NULL */
    enum cd_kind kind;
    unsigned offers;   /* CDPY_PATHSEND and so on: what the scope offered */
    bool started;      /* http: response started. websocket: accepted */
    bool denied;       /* websocket: denial response started */
    bool announced;    /* trailers will follow the body */
    bool body_begun;   /* a piece of the response's body was sent */
    bool body_ended;   /* the last one was */
    bool debugged;     /* http.response.debug was sent */
    bool complete;     /* response complete; websocket closed */
    bool disconnected; /* the one disconnect event was handed out */
    bool cancelled;    /* on_cancel has spoken */
    bool outstayed;    /* and again: send() raises when the client has gone */
    bool dropping;     /* the next turn of the loop ends the send waiters */
};

/* receive and send: callables that hold their stream. */
struct cdpy_call {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    cdpy_stream *stream; /* strong */
    cdpy_call *next;     /* in the freelist */
    PyObject *weakrefs;
};

cdpy_stream *cdpy_stream_new(cdpy_server *server, cd_stream *core, const cd_head *head);
PyObject *cdpy_receive_new(cdpy_stream *stream);
PyObject *cdpy_send_new(cdpy_stream *stream);

/* Pulls the next event: 1 and a new dict, 0 and NULL for nothing, -1 with an exception. http.c and
 * websocket.c make it. */
int cdpy_stream_pull(cdpy_stream *stream, PyObject **event);
bool cdpy_stream_readable(const cdpy_stream *stream);
/* Puts a pulled event back, for the next pull; takes the reference. */
void cdpy_stream_return(cdpy_stream *stream, PyObject *event);
/*
 * What send() returns for the core's answer to a message: a new awaitable, or NULL with an
 * exception, whose sentence begins with `what`. CD_AGAIN waits for room if `waits`; CD_GONE is no
 * error, see stream.c.
 */
PyObject *cdpy_answer(cdpy_stream *stream, int code, bool waits, const char *what);
/*
 * Enters the context of the stream's application: a new reference for cdpy_stream_exit, which must
 * follow. NULL, and no exception, when there is none or it is entered already: then what follows
 * runs where it is called.
 */
PyObject *cdpy_stream_enter(cdpy_stream *stream);
void cdpy_stream_exit(cdpy_stream *stream, PyObject *context);
/* Somebody waits and nothing is there: the core reads on, answers Expect: 100-continue, and will
 * call on_ready. */
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
    PyObject *certificate;    /* str: what the last TLS peer was shown; or NULL */
    PyObject *finished;       /* the shared awaitable */
    PyObject *task_kwargs[2]; /* application.c: of the Task call; NULL: in use, or none yet */
    cdpy_stream *streams;     /* those whose application runs */
    cdpy_guest guest;         /* of the loop, while it is open */
    cd_server *forsaken;      /* what `core` was in the parent of a forked process */
    size_t tasks;
    size_t pin_size;
    unsigned offers; /* the extensions that scopes may offer */
};

/* ---- application.c: one run of the application ---- */

/* Calls the application and starts its task. In dispatch. */
void cdpy_application_run(cdpy_stream *stream, const cd_head *head);
/* Looks at a task that is done: reports its exception, then ends the stream. */
void cdpy_application_done(cdpy_stream *stream, PyObject *task);
/* It has ended, or is to count as ended: the core is told. Nothing on a second call. */
void cdpy_application_ended(cdpy_stream *stream, bool failed);
/* A line for on_log; a NULL line comes with an exception, which is reported. */
void cdpy_application_log(cdpy_server *server, enum cd_level level, PyObject *line);

/* ---- config.c: Server's keyword arguments ---- */

/* Fills server and config from kwargs (may be NULL). *owner and kwargs keep strings of config
 * alive; *prefixes is for PyMem_Free. 0 or -1 with an exception. */
int cdpy_parse_options(cdpy_server *server, cd_config *config, PyObject *kwargs, PyObject **owner,
                       const char ***prefixes);
/* 0, or -1 with a ValueError of what the core's check says is wrong. */
int cdpy_check_text(const char *text, int (*check)(const char *, char *, size_t));
/* The same for a row of limits.def; also a TypeError. */
int cdpy_check_limit(const char *name, PyObject *value);

/* ---- scope.c: cd_head -> scope dict ---- */

/* A connection's cache, in head->cache: its two addresses as str and int, and the headers of its
 * last request. */
PyObject *cdpy_scope_new(cdpy_server *server, const cd_head *head);
/* "host:port" of the client as the scope has it, or None. */
PyObject *cdpy_client_text(const cd_head *head);

/* ---- tls.c: Tls ---- */

/* The core's object of a Tls, borrowed; NULL with a TypeError for anything else. */
cd_tls *cdpy_tls_core(cdpy_state *state, PyObject *object);
/* A new dict for the scope's extension; client_cert_chain is a tuple in it. None when the core has
 * nothing to tell. NULL with an exception. */
PyObject *cdpy_tls_extension(cdpy_server *server, const cd_head *head);

/* ---- http.c, websocket.c: events of each protocol ---- */

/* A send(event): a new awaitable, or NULL with an exception. `type` is event["type"], a str. */
PyObject *cdpy_http_send(cdpy_stream *stream, PyObject *event, PyObject *type);
PyObject *cdpy_websocket_send(cdpy_stream *stream, PyObject *event, PyObject *type);

/* The dict of one event of the core. */
PyObject *cdpy_http_event(cdpy_state *state, const cd_event *event);
PyObject *cdpy_websocket_event(cdpy_state *state, const cd_event *event);

/* http.response.start and .body, which websocket.http.response.start and .body share. */
PyObject *cdpy_response_start(cdpy_stream *stream, PyObject *event);
PyObject *cdpy_response_body(cdpy_stream *stream, PyObject *event);
/* A piece of the body was taken by the core. */
void cdpy_body_sent(cdpy_stream *stream, bool more);

/* ---- extension.c: events of the extensions ---- */

/* The extensions that an application can meet unprepared, in the order of their names. */
enum {
    CDPY_PATHSEND = 1,
    CDPY_ZEROCOPYSEND = 2,
    CDPY_TRAILERS = 4,
    CDPY_EARLY_HINT = 8,
    CDPY_DEBUG = 16,
};

/* Their names, as Server's argument has them: a tuple of str. */
PyObject *cdpy_extension_names(void);
/* Reads that argument. 0, or -1 with an exception. */
int cdpy_extension_parse(PyObject *names, unsigned *offers);
/* Those that the request at hand can have. */
unsigned cdpy_extension_offers(const cdpy_server *server, const cd_head *head);
/* As cdpy_http_send, for a type that is none of the specification's own. */
PyObject *cdpy_extension_send(cdpy_stream *stream, PyObject *event, PyObject *type);
/* Names in the log what a response that did not come may have been lost in. */
void cdpy_extension_suspect(cdpy_stream *stream);

/* ---- event.c: headers and payloads between Python and the core ---- */

/* Headers of an event as the core wants them. Zero it before use, dispose in any case. */
typedef struct {
    cd_header *list;
    size_t count;
    PyObject *source;    /* what the slices point into */
    cd_header small[24]; /* list, when they fit */
} cdpy_headers;
int cdpy_headers_init(cdpy_headers *headers, PyObject *event, PyObject *key);
void cdpy_headers_dispose(cdpy_headers *headers);

/* A body or message as a chunk of the core. `pin` is what must outlive it and becomes the token
 * when it is large. */
typedef struct {
    cd_chunk chunk;
    PyObject *pin;
} cdpy_payload;
int cdpy_payload_bytes(cdpy_payload *payload, PyObject *value, const char *what, size_t pin_size);
int cdpy_payload_text(cdpy_payload *payload, PyObject *value, size_t pin_size);
/* After the core's answer: gives the pin to it (CD_OK, CD_AGAIN with a token) or drops it. */
void cdpy_payload_settle(cdpy_payload *payload, int code);

/* Sets the exception of a CD_* code; `what` begins the sentence. Always NULL. */
PyObject *cdpy_raise(cdpy_state *state, int code, const char *what);

#endif
