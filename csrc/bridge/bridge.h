/*
 * bridge.h - what the files of csrc/bridge share: the module state, the object structs, one section
 * per file.
 *
 * The bridge is the only C that includes Python.h. Every object here lives on the thread that runs
 * its loop and is touched with the GIL held; a call from another thread is refused or handed over
 * to the loop (see cdpy_loop_mine).
 *
 * Who owns what:
 *
 * | thing                 | owner                                    | ends                                       |
 * |-----------------------|------------------------------------------|--------------------------------------------|
 * | cd_loop               | cdpy_loop (LoopBase)                     | its close(), refused while servers != 0    |
 * | cd_server             | cdpy_server                              | its close(); it holds the loop             |
 * | cdpy_stream           | refcount; the core has one as its `data` | on_gone drops the core's                   |
 * | cdpy_stream.core      | core                                     | set NULL before cd_stream_finish           |
 * | receive, send objects | the application; each holds the stream   | live on after the stream, then do nothing  |
 * | waiter on a list      | the list, while it has callbacks         | taken off: ready, cancelled, dropped, gone |
 * | chunk token           | core: one strong reference to any object | ops.release: Py_DECREF                     |
 * | connection cache      | core: one strong reference to a Peer     | ops.release: Py_DECREF                     |
 */
#ifndef CDPY_BRIDGE_H
#define CDPY_BRIDGE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#if PY_VERSION_HEX >= 0x030C0000
#define CDPY_T_PYSSIZET Py_T_PYSSIZET
#define CDPY_T_OBJECT _Py_T_OBJECT
#define CDPY_T_DOUBLE Py_T_DOUBLE
#define CDPY_T_BOOL Py_T_BOOL
#define CDPY_READONLY Py_READONLY
#else
#include <structmember.h>
#define CDPY_T_PYSSIZET T_PYSSIZET
#define CDPY_T_OBJECT T_OBJECT
#define CDPY_T_DOUBLE T_DOUBLE
#define CDPY_T_BOOL T_BOOL
#define CDPY_READONLY READONLY
#endif

#include "cdaphne.h"

#include <string.h>

typedef struct cdpy_loop cdpy_loop;
typedef struct cdpy_server cdpy_server;
typedef struct cdpy_stream cdpy_stream;
typedef struct cdpy_waiter cdpy_waiter;
typedef struct cdpy_call cdpy_call;
typedef struct cdpy_ready cdpy_ready;

/* ---- module.c: the module and its state ------------------------------------------------------ */

/*
 * Objects of other modules and our own types, each a strong reference of the module state. An
 * object's type keeps the module alive, so a cdpy_state pointer kept in an object is valid as long
 * as the object is.
 */
#define CDPY_OBJECTS(X)                                                                            \
    X(loop_base_type) /* LoopBase */                                                               \
    X(poller_type)    /* Poller */                                                                 \
    X(server_type)    /* Server */                                                                 \
    X(tls_type)       /* Tls */                                                                    \
    X(stream_type)                                                                                 \
    X(receive_type)                                                                                \
    X(send_type)                                                                                   \
    X(waiter_type)                                                                                 \
    X(peer_type)                                                                                   \
    X(client_disconnected) /* ClientDisconnected(OSError) */                                       \
    X(task_type)           /* asyncio.Task */                                                      \
    X(finished_future)     /* awaitable.c: what a Task is told of; NULL: not needed yet */         \
    X(cancelled_error)     /* asyncio.CancelledError */                                            \
    X(invalid_state_error) /* asyncio.InvalidStateError */                                         \
    X(await_on)            /* pyasgi._awaiting.await_on and call_on; NULL until they are needed */ \
    X(call_on)                                                                                     \
    X(own_host) /* scope.c: own_address as str and int; NULL: none yet */                          \
    X(own_port)                                                                                    \
    X(last_client) /* scope.c: its host as str; NULL: none yet */                                  \
    X(empty_bytes) /* b"" and "" */                                                                \
    X(empty_text)                                                                                  \
    X(http_template) /* scopes with every key and the usual values, copied for each request */     \
    X(websocket_template)                                                                          \
    X(asked_path)     /* scope.c: raw_path that a connection asked for first, last of all */       \
    X(usual_raw_path) /* what http_template has; NULL: none */                                     \
    X(usual_path)                                                                                  \
    X(extensions_last)   /* "extensions" of an HTTP scope, NULL before the first */                \
    X(asgi_template)     /* their "asgi" dict, copied too */                                       \
    X(registry_type)     /* TaskRegistry; NULL from Python 3.14 on, and so the next two */         \
    X(registry)          /* the one that is installed, or NULL */                                  \
    X(weak_set_type)     /* weakref.WeakSet */                                                     \
    X(loop_asyncio_type) /* asyncio.SelectorEventLoop */                                           \
    X(current_task)      /* asyncio.tasks._current_tasks, a dict; 3.14: _swap_current_task */      \
    X(loop_call_soon)    /* replaced.c: SelectorEventLoop's, unbound; so the next five */          \
    X(loop_call_soon_threadsafe)                                                                   \
    X(loop_call_later)                                                                             \
    X(loop_call_at)                                                                                \
    X(loop_create_task)                                                                            \
    X(loop_create_future)                                                                          \
    X(loop_add_reader) /* with an underscore before it; so the next three */                       \
    X(loop_add_writer)                                                                             \
    X(loop_remove_reader)                                                                          \
    X(loop_remove_writer)                                                                          \
    X(loop_sock_recv)                                                                              \
    X(loop_sock_recv_into)                                                                         \
    X(loop_sock_sendall)                                                                           \
    X(loop_sock_connect)                                                                           \
    X(loop_accept_connection)  /* _accept_connection */                                            \
    X(loop_check_no_transport) /* _ensure_fd_no_transport */                                       \
    X(sock_type)               /* SockCall */                                                      \
    X(loop_run_in_executor)                                                                        \
    X(hop_type)        /* Hop */                                                                   \
    X(hop_source_type) /* concurrent.futures.Future */                                             \
    X(hop_wrap_future) /* asyncio.wrap_future */                                                   \
    X(hop_copy_state)  /* asyncio.futures._copy_future_state */                                    \
    X(zero)            /* 0 and -1 */                                                              \
    X(minus_one)                                                                                   \
    X(transport_type)          /* SocketTransport */                                               \
    X(transport_socket_type)   /* socket.socket */                                                 \
    X(transport_write)         /* of asyncio's _SelectorSocketTransport, unbound */                \
    X(transport_data_received) /* its _read_ready__data_received */                                \
    X(transport_get_buffer)    /* its _read_ready__get_buffer */                                   \
    X(transport_set_nodelay)   /* asyncio.base_events._set_nodelay */                              \
    X(sslproto_type)           /* SSLProtocol; NULL: nobody needs one yet, so the next ones */     \
    X(sslproto_write_appdata)  /* asyncio's _write_appdata, unbound */                             \
    X(sslproto_do_handshake)   /* its _do_handshake, and its _set_state */                         \
    X(sslproto_set_state)                                                                          \
    X(sslproto_object_type) /* ssl.SSLObject */                                                    \
    X(sslproto_error)       /* ssl.SSLError */                                                     \
    X(sslproto_again)       /* the exceptions that mean: later */                                  \
    X(sslproto_record)      /* most bytes of a record, as int */                                   \
    X(sslproto_unwrapped)   /* SSLProtocolState.UNWRAPPED; so the next four */                     \
    X(sslproto_handshaking)                                                                        \
    X(sslproto_wrapped)                                                                            \
    X(sslproto_flushing)                                                                           \
    X(sslproto_shutting)                                                                           \
    X(loop_task_names) /* ("loop",), keyword names of a Task call; with name, with context */      \
    X(loop_task_name_names)                                                                        \
    X(loop_task_context_names)                                                                     \
    X(future_type)       /* asyncio.Future */                                                      \
    X(ready_type)        /* ReadyQueue */                                                          \
    X(handle_type)       /* Handle(asyncio.Handle) */                                              \
    X(timer_handle_type) /* TimerHandle(asyncio.TimerHandle) */                                    \
    X(handle_cancel)     /* asyncio.Handle.cancel, unbound; so the next */                         \
    X(timer_handle_cancel)                                                                         \
    X(handle_format_source) /* asyncio.format_helpers._format_callback_source */                   \
    X(loop_context_names)   /* ("context",), keyword names of a call_soon */                       \
    X(loop_selector_key)    /* selectors.SelectorKey */                                            \
    X(loop_map_type)        /* PollerMap, what Poller.get_map() returns */                         \
    X(fork_end)             /* fork.c: ends a forked child; NULL: this is none */

/* Attributes of asyncio's classes that C looks at by their offsets, see slots.c. */
#define CDPY_TRANSPORT_SLOTS(X) \
    X(_sock)                    \
    X(_sock_fd)                 \
    X(_protocol)                \
    X(_buffer)                  \
    X(_conn_lost)               \
    X(_eof)                     \
    X(_empty_waiter)            \
    X(_read_ready_cb)
#define CDPY_SSLPROTO_SLOTS(X) \
    X(_ssl_buffer)             \
    X(_state)                  \
    X(_sslobj)                 \
    X(_server_side)            \
    X(_incoming)               \
    X(_outgoing)               \
    X(_transport)              \
    X(_app_protocol)           \
    X(_app_protocol_is_buffer) \
    X(_app_reading_paused)     \
    X(_app_writing_paused)     \
    X(_ssl_reading_paused)     \
    X(_ssl_writing_paused)     \
    X(_write_backlog)          \
    X(_write_buffer_size)      \
    X(_outgoing_high_water)    \
    X(_incoming_high_water)
#define X(name) Py_ssize_t name;
typedef struct {
    CDPY_TRANSPORT_SLOTS(X)
} cdpy_transport_slots;
typedef struct {
    CDPY_SSLPROTO_SLOTS(X)
} cdpy_sslproto_slots;
#undef X

/* handle.c: a freelist. */
typedef struct {
    void *first;
    Py_ssize_t count;
} cdpy_handles;

typedef struct {
#define S(name) PyObject *s_##name;
#define T(name, text) PyObject *s_##name;
#include "strings.def"
#undef S
#undef T
#define X(name) PyObject *name;
    CDPY_OBJECTS(X)
#undef X
    cd_addr own_address;          /* the one that was connected to last, mostly the only one */
    unsigned extensions_offers;   /* what extensions_last has */
    PyObject *header_names[256];  /* scope.c: bytes of the common header names by hash */
    bool header_shared[256];      /* have all connections the same values of it? */
    PyObject *header_tuples[256]; /* headers that many connections have, by hash; strong */
    cdpy_waiter *waiter_free;     /* awaitable.c: freelist and its length */
    Py_ssize_t waiter_free_count;
    cdpy_call *call_free; /* stream.c: receive and send objects share one */
    Py_ssize_t call_free_count;
    cdpy_stream *stream_free;
    Py_ssize_t stream_free_count;
    cdpy_handles spare_handles, spare_timers;
    size_t registry_users; /* registry.c: loops that are open */
    cdpy_loop *loops;      /* fork.c: those there are, whoever holds them */
    cdpy_transport_slots transport_slots;
    cdpy_sslproto_slots sslproto_slots;
    const PyObject *sslproto_shaken; /* whose handshake has just come to its end, or NULL */
    char *scratch;                   /* cdpy_scratch() */
    bool bulky;                      /* the last read of a SocketTransport was full */
} cdpy_state;

/* Most objects a freelist keeps. Under ASan none: it is to see what is used after it was freed. */
#ifdef __SANITIZE_ADDRESS__
#define CDPY_FREELIST 0
#else
#define CDPY_FREELIST 256
#endif

extern struct PyModuleDef cdpy_module;

/*
 * The state of the module that made the type of `self`, for the types that cannot be subclassed.
 * NULL only while the collector takes the module down, so only in a dealloc.
 */
static inline cdpy_state *cdpy_state_of(PyObject *self)
{
    PyObject *module = ((PyHeapTypeObject *)Py_TYPE(self))->ht_module;

    return module ? PyModule_GetState(module) : NULL;
}

/* Makes a type of `spec` and keeps it in *slot; added to the module under its name when `name` is
 * not NULL. 0 or -1. */
int cdpy_add_type(PyObject *module, PyType_Spec *spec, PyObject **slot, const char *name);

/* Empty the freelists, for good. */
void cdpy_awaitable_free(cdpy_state *state);
void cdpy_stream_free(cdpy_state *state);
void cdpy_handle_free(cdpy_state *state);

/* Called by module.c's exec slot: each makes the types (and caches) of its file. 0 or -1 with an
 * exception. */
int cdpy_ready_init(PyObject *module, cdpy_state *state);
int cdpy_handle_init(PyObject *module, cdpy_state *state);
int cdpy_hop_init(PyObject *module, cdpy_state *state);
int cdpy_transport_init(PyObject *module, cdpy_state *state);
int cdpy_sock_init(PyObject *module, cdpy_state *state);
int cdpy_loop_init(PyObject *module, cdpy_state *state);
int cdpy_awaitable_init(PyObject *module, cdpy_state *state);
int cdpy_stream_init(PyObject *module, cdpy_state *state);
int cdpy_scope_init(PyObject *module, cdpy_state *state);
int cdpy_registry_init(PyObject *module, cdpy_state *state);
int cdpy_server_init(PyObject *module, cdpy_state *state);
int cdpy_tls_init(PyObject *module, cdpy_state *state);

/* The only way an object of ours dies: untrack, clear, free, let the type go. `clear` is the type's
 * tp_clear. */
#define CDPY_DEALLOC(self, clear)            \
    do {                                     \
        PyTypeObject *type_ = Py_TYPE(self); \
        PyObject_GC_UnTrack(self);           \
        (void)(clear)((PyObject *)(self));   \
        type_->tp_free(self);                \
        Py_DECREF(type_);                    \
    } while (0)

#ifdef CD_DEBUG
/* Live Python-side objects, for _core.debug_live(). */
typedef struct {
    long streams, calls, waiters, peers, pins;
} cdpy_live;
extern cdpy_live cdpy_live_counts;
#define CDPY_LIVE(kind, step) (cdpy_live_counts.kind += (step))
#else
#define CDPY_LIVE(kind, step) ((void)0)
#endif

/* ---- slots.c: classes derived from asyncio's --------------------------------------------------
 */

/*
 * class name(base) with `names` as its slots and with the methods; their offsets go to the array.
 * A new reference, or NULL with an exception.
 */
PyObject *cdpy_slots_class(PyObject *module, PyObject *base, const char *name,
                           const char *const *names, Py_ssize_t *offsets, size_t count,
                           PyMethodDef *methods);

/* The state of the module that made the class of `self` or one it is derived from. */
cdpy_state *cdpy_slots_state(PyObject *self);

/* What is in a slot, borrowed; NULL: nothing. */
static inline PyObject *cdpy_slot(PyObject *self, Py_ssize_t offset)
{
    return *(PyObject **)((char *)self + offset);
}

static inline void cdpy_slot_put(PyObject *self, Py_ssize_t offset, PyObject *value)
{
    Py_XSETREF(*(PyObject **)((char *)self + offset), Py_NewRef(value));
}

/* ---- transport.c, sslproto.c: stream transports ------------------------------------------------
 */

/*
 * Memory of the module for CDPY_SCRATCH_SIZE bytes, or NULL with MemoryError. What is read goes
 * here first; it must be taken out before anything is called that may run Python code, because
 * another thread's loop uses it too.
 */
enum { CDPY_SCRATCH_SIZE = 256 * 1024 }; /* asyncio's max_size of one call */
char *cdpy_scratch(cdpy_state *state);

/* asyncio's _set_nodelay(sock). */
PyObject *cdpy_set_nodelay(PyObject *module, PyObject *sock);

/* transport.write(data), of a SocketTransport. */
PyObject *cdpy_transport_write(cdpy_state *state, PyObject *self, PyObject *data);

/* The class, made at the first call: that takes ssl, which few servers need. */
PyObject *cdpy_ssl_protocol(PyObject *module, PyObject *ignored);

/* Is it an SSLProtocol of ours? */
static inline bool cdpy_sslproto_check(const cdpy_state *state, PyObject *protocol)
{
    return Py_IS_TYPE(protocol, (PyTypeObject *)state->sslproto_type);
}

/* The bytes that came for it. None, or NULL with an exception. */
PyObject *cdpy_sslproto_feed(cdpy_state *state, PyObject *self, PyObject *data);

/* ---- loop.c: LoopBase, Poller ---------------------------------------------------------------- */

/*
 * What stands on a loop and has pointers to the core of its own: a server. It is embedded in its
 * object. In a forked child forsake() takes these pointers away; it must not free anything.
 */
typedef struct cdpy_guest cdpy_guest;
struct cdpy_guest {
    cdpy_guest *prev, *next; /* the loop's list, while it stands there */
    void (*forsake)(cdpy_guest *guest);
};

struct cdpy_loop {
    PyObject_HEAD
    cdpy_state *state;  /* set by tp_new: subclasses make PyType_GetModuleState useless */
    cd_loop *core;      /* NULL after close() */
    PyObject *captured; /* callback and context of the one call_soon that was captured */
    PyObject *captured_context;
    PyObject *fatal; /* KeyboardInterrupt or SystemExit out of a dispatch: Poller.select raises it
                        after it */
    unsigned long thread; /* _thread_id: of the thread that runs it; 0: nobody does */
    size_t servers; /* servers on this loop: server.c counts, close() refuses while it is not 0 */
    cdpy_ready *ready;                /* strong, never NULL; _ready */
    PyObject *scheduled;              /* list, a heap of timers: _scheduled */
    PyObject *selector;               /* _selector: the Poller, None once closed */
    PyObject *task_factory;           /* _task_factory */
    PyObject *executor;               /* _default_executor */
    PyObject *debug_value;            /* _debug: what set_debug() was given */
    PyObject *replaced;               /* a tuple, never NULL: see replaced.c */
    Py_ssize_t timer_cancelled_count; /* of the timers in `scheduled` */
    double clock_resolution;          /* seconds */
    bool armed;                       /* the next call_soon is captured */
    bool debug;                       /* asyncio's debug mode */
    bool slow;                        /* that, or `replaced` has names: no short cuts */
    bool dispatching;                 /* inside cd_loop_dispatch */
    bool polled;                      /* has had its Poller: there can be one */
    bool sleeping;                    /* blocked in the kernel, without the GIL */
    bool forever;                     /* the next _run_once() takes turns until stop() */
    bool plain;             /* the class overrides nothing that turn.c does in asyncio's place */
    bool own_call_at;       /* nor call_at() */
    bool own_time;          /* nor time(), and no instance has one */
    bool registers;         /* cdpy_registry_leave is owed */
    bool served;            /* inherited, and a server was on it */
    char inherited;         /* of the process that this one was forked from; closed, too */
    cdpy_loop *prev, *next; /* state->loops */
    cdpy_guest *guests;     /* what stands on it */
    cd_loop *forsaken;      /* what `core` was in the parent */
    char stopping;          /* _stopping and _closed, which asyncio's code sets */
    char closed;
    char executor_shutdown; /* _executor_shutdown_called */
};

/* NULL with a TypeError when `loop` is no LoopBase, with a RuntimeError when it is closed.
 * Borrowed. */
cdpy_loop *cdpy_loop_check(cdpy_state *state, PyObject *loop);

/* A loop that is no asyncio loop, for a Poller of its own: a new reference, or NULL with an
 * exception. */
cdpy_loop *cdpy_loop_bare(cdpy_state *state);

/* 0, or -1 with a RuntimeError: servers are still open on it. */
int cdpy_loop_check_servers(const cdpy_loop *loop);

/* registry.c: asyncio's set of tasks is faster from the first enter to the last leave. 0, or -1
 * with an exception. */
int cdpy_registry_enter(cdpy_state *state);
void cdpy_registry_leave(cdpy_state *state);

/* What close() does in the end: every server is closed, every watch freed. */
void cdpy_loop_free_core(cdpy_loop *loop);

/* fork.c: every loop there is, and every guest of a loop, is on a list from its beginning to its end.
 * add_guest() sets what forsake() will be called in a forked child. */
void cdpy_fork_add_loop(cdpy_loop *loop);
void cdpy_fork_remove_loop(cdpy_loop *loop);
void cdpy_fork_add_guest(cdpy_loop *loop, cdpy_guest *guest, void (*forsake)(cdpy_guest *));
void cdpy_fork_remove_guest(cdpy_loop *loop, cdpy_guest *guest);

/* The module's function forsake(end). */
PyObject *cdpy_forsake(PyObject *module, PyObject *end);

/*
 * Application code has come back, in a forked child, to the loop that called it in the parent. When
 * servers were on the loop the child ends here; else -1, with the exception that is set or a
 * RuntimeError.
 */
int cdpy_fork_end(cdpy_loop *loop);

/* The same, for callbacks of the core, after they called Python code. */
static inline void cdpy_fork_check(cdpy_loop *loop)
{
    if (loop->inherited)
        (void)cdpy_fork_end(loop);
}

/* poller.c: Poller. Called by cdpy_loop_init. */
int cdpy_poller_init(PyObject *module, cdpy_state *state);

static inline bool cdpy_loop_in_dispatch(const cdpy_loop *loop)
{
    return loop->dispatching;
}

/* Is this the thread that runs the loop? Before the loop has run, any thread is. */
static inline bool cdpy_loop_mine(const cdpy_loop *loop)
{
    return loop->thread == 0 || loop->thread == PyThread_get_thread_ident();
}

/* Methods of LoopBase that are in schedule.c and turn.c. */
PyObject *cdpy_loop_call_soon(PyObject *self, PyObject *const *args, Py_ssize_t count,
                              PyObject *names);
PyObject *cdpy_loop_call_soon_threadsafe(PyObject *self, PyObject *const *args, Py_ssize_t count,
                                         PyObject *names);
PyObject *cdpy_loop_call_later(PyObject *self, PyObject *const *args, Py_ssize_t count,
                               PyObject *names);
PyObject *cdpy_loop_call_at(PyObject *self, PyObject *const *args, Py_ssize_t count,
                            PyObject *names);
PyObject *cdpy_loop_run_once(PyObject *self, PyObject *ignored);
PyObject *cdpy_loop_run_forever(PyObject *self, PyObject *ignored);

/*
 * turn.c: the current task, if there is one, is none until it is put back: around a turn that is
 * taken from inside a task. *task is for the second call, NULL for none. 0, or -1 with an
 * exception; the second keeps an exception that is set.
 */
int cdpy_set_task_aside(cdpy_loop *loop, PyObject **task);
int cdpy_put_task_back(cdpy_loop *loop, PyObject *task);

/* replaced.c: looks up asyncio's methods, and returns a new tuple of the names of those that are
 * not asyncio's own; or NULL with an exception. */
PyObject *cdpy_replaced(cdpy_state *state);
/* SelectorEventLoop.name(loop). */
PyObject *cdpy_loop_call_base(cdpy_loop *loop, PyObject *name);

/* function(self, *args, **names), for the arguments of a METH_FASTCALL | METH_KEYWORDS method. */
PyObject *cdpy_pass_on(PyObject *function, PyObject *self, PyObject *const *args, Py_ssize_t count,
                       PyObject *names);

/* loop.time() in seconds. 0 or -1. */
int cdpy_loop_time(cdpy_loop *loop, double *now);

/* A tuple of the arguments, or NULL with an exception. */
PyObject *cdpy_tuple_of(PyObject *const *args, Py_ssize_t count);

/* ... and in fds.c, sock.c, accept.c and hop.c. */
PyObject *cdpy_loop_add_reader(PyObject *self, PyObject *const *args, Py_ssize_t count,
                               PyObject *names);
PyObject *cdpy_loop_add_writer(PyObject *self, PyObject *const *args, Py_ssize_t count,
                               PyObject *names);
PyObject *cdpy_loop_remove_reader(PyObject *self, PyObject *fileobj);
PyObject *cdpy_loop_remove_writer(PyObject *self, PyObject *fileobj);
PyObject *cdpy_loop_sock_recv(PyObject *self, PyObject *const *args, Py_ssize_t count,
                              PyObject *names);
PyObject *cdpy_loop_sock_recv_into(PyObject *self, PyObject *const *args, Py_ssize_t count,
                                   PyObject *names);
PyObject *cdpy_loop_sock_sendall(PyObject *self, PyObject *const *args, Py_ssize_t count,
                                 PyObject *names);
PyObject *cdpy_loop_sock_connect(PyObject *self, PyObject *const *args, Py_ssize_t count,
                                 PyObject *names);
PyObject *cdpy_loop_accept_connection(PyObject *self, PyObject *const *args, Py_ssize_t count,
                                      PyObject *names);
PyObject *cdpy_loop_ensure_no_transport(PyObject *self, PyObject *fileobj);
/* sock.fileno(); -1: it is closed, or with an exception. */
int cdpy_fileno(const cdpy_state *state, PyObject *sock);
/* RuntimeError when a transport has the descriptor, an int. 0 or -1. */
int cdpy_loop_check_transports(cdpy_loop *loop, PyObject *number);

/* address.c: a tuple (host, port), or of four for IPv6, as the core has it; false for anything
 * else, without an exception. */
bool cdpy_endpoint_parse(PyObject *address, cd_endpoint *ip);
/* The other way round. NULL with an exception. */
PyObject *cdpy_endpoint_tuple(const cd_endpoint *ip);

PyObject *cdpy_loop_run_in_executor(PyObject *self, PyObject *const *args, Py_ssize_t count,
                                    PyObject *names);

/* poller.c: can a turn of this loop use this selector without its select()? */
bool cdpy_poller_serves(PyObject *selector, const cdpy_loop *loop);
/*
 * Polls for at most `timeout` seconds (negative: for ever), dispatches the core's callbacks and
 * queues the handles of the descriptors that are ready. 0, or -1 with an exception.
 */
int cdpy_poller_turn(PyObject *selector, double timeout);
/* What is registered for a file object: its descriptor, events and data, a new reference; data
 * NULL: nothing. 0, or -1 with an exception. */
int cdpy_poller_get(PyObject *selector, PyObject *fileobj, int *fd, int *events, PyObject **data);
/* Registers, changes, or for events == 0 forgets. 0, or -1 with an exception. */
int cdpy_poller_put(PyObject *selector, PyObject *fileobj, int fd, int events, PyObject *data);

/* ---- ready.c: ReadyQueue --------------------------------------------------------------------- */

cdpy_ready *cdpy_ready_new(cdpy_state *state);
/* 0, or -1 without memory. */
int cdpy_ready_push(cdpy_ready *queue, PyObject *handle);
/* The oldest handle, the caller's reference; NULL without an exception: none. */
PyObject *cdpy_ready_take(cdpy_ready *queue);
size_t cdpy_ready_count(const cdpy_ready *queue);
/* Lets every handle go; NULL is allowed. */
void cdpy_ready_drop(cdpy_ready *queue);
/* Empties it, and keeps the references for ever: to let them go could run Python code. */
void cdpy_ready_forsake(cdpy_ready *queue);
/* Replaces what is queued by the items of an iterable. 0 or -1. */
int cdpy_ready_assign(cdpy_ready *queue, PyObject *handles);

/* ---- handle.c: Handle, TimerHandle ----------------------------------------------------------- */

/* asyncio.Handle, and TimerHandle with the last two. Any of them may be NULL. */
struct cdpy_handle {
    PyObject_HEAD
    PyObject *args; /* tuple */
    PyObject *callback, *cancelled, *context, *loop, *repr, *source_traceback;
#if PY_VERSION_HEX < 0x030C0000
    PyObject *weakrefs; /* later Pythons have it before the header */
#endif
    PyObject *scheduled, *when;
};

/* New references, or NULL with an exception. They take the reference to `args`, a tuple; context
 * NULL: the current one. */
PyObject *cdpy_handle_new(cdpy_loop *loop, PyObject *callback, PyObject *args, PyObject *context);
PyObject *cdpy_timer_handle_new(cdpy_loop *loop, PyObject *when, PyObject *callback, PyObject *args,
                                PyObject *context);

/* Of ours and of asyncio's handles: 1, 0, or -1 with an exception. */
int cdpy_handle_cancelled(const cdpy_state *state, PyObject *handle);

/* Calls it in its context. 0, also when it raised (call_exception_handler() was told), or -1 with
 * an exception that leaves the loop. */
int cdpy_handle_run(cdpy_state *state, PyObject *handle);

/* handle.cancel(), whatever it is. 0 or -1. */
int cdpy_handle_cancel(const cdpy_state *state, PyObject *handle);

static inline bool cdpy_is_timer(const cdpy_state *state, PyObject *handle)
{
    return Py_IS_TYPE(handle, (PyTypeObject *)state->timer_handle_type);
}

/* The time of a timer of ours that has a float for it; else false and nothing is set. */
static inline bool cdpy_timer_when(const cdpy_state *state, PyObject *handle, double *when)
{
    PyObject *value = cdpy_is_timer(state, handle) ? ((struct cdpy_handle *)handle)->when : NULL;
    if (value == NULL || !PyFloat_CheckExact(value))
        return false;
    *when = PyFloat_AS_DOUBLE(value);
    return true;
}

/* handle._scheduled = scheduled. 0 or -1. */
int cdpy_timer_set_scheduled(const cdpy_state *state, PyObject *handle, bool scheduled);

/* ---- timers.c: loop._scheduled --------------------------------------------------------------- */

/* All: 0 or -1 with an exception. */
int cdpy_timers_add(cdpy_loop *loop, PyObject *handle);
/* Lets cancelled timers go where asyncio does. */
int cdpy_timers_tidy(cdpy_loop *loop);
/* 1 and the time of the first one; 0: there is none. */
int cdpy_timers_first(cdpy_loop *loop, double *when);
/* Moves those before `now` to the ready queue. */
int cdpy_timers_due(cdpy_loop *loop, double now);

/* ---- loop.c again ---------------------------------------------------------------------------- */

/* From now to take(): the next loop.call_soon(callback, context=context) without arguments is set
 * aside instead of queued. */
void cdpy_loop_arm_capture(cdpy_loop *loop);

/* Disarms. 1: *callback and *context are new references (*context may be NULL); 0: nothing was
 * captured, both NULL. */
int cdpy_loop_take_capture(cdpy_loop *loop, PyObject **callback, PyObject **context);

/*
 * loop.call_soon(callback, arg, context=context); context NULL: the current one. From a thread that
 * does not run the loop: call_soon_threadsafe. 0, or -1 with an exception (loop closed, no memory).
 */
int cdpy_call_soon(cdpy_loop *loop, PyObject *callback, PyObject *arg, PyObject *context);

/*
 * callback(arg) in context, now: what the loop would do with a handle. Only from a callback of the
 * core, where no task is running. Falls back to cdpy_call_soon in debug mode and when the context
 * is entered already. An exception goes to cdpy_loop_report, so none is set on return.
 */
void cdpy_step(cdpy_loop *loop, PyObject *callback, PyObject *arg, PyObject *context);

/* Keeps what ends the program, until the dispatch is over; of several the first. */
void cdpy_loop_set_fatal(cdpy_loop *loop, PyObject *exception);

/*
 * Takes the exception that is set and has nowhere to go: KeyboardInterrupt and SystemExit become
 * loop->fatal, anything else goes to loop.call_exception_handler({"message": message, "exception":
 * ...}). None is set on return.
 */
void cdpy_loop_report(cdpy_loop *loop, const char *message);

/* ---- awaitable.c: Waiter, what receive() and send() return ----------------------------------- */

enum cdpy_waiter_kind { CDPY_RECEIVE, CDPY_SEND, CDPY_FINISHED };

enum cdpy_waiter_phase {
    CDPY_IDLE,      /* receive only: nobody has asked yet, so it is on no list; like a coroutine not
                       started */
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

static inline bool cdpy_waiter_check(const cdpy_state *state, PyObject *object)
{
    return Py_IS_TYPE(object, (PyTypeObject *)state->waiter_type);
}

/* The coroutine pyasgi._awaiting.await_on(awaitable): for create_task(receive()), and for
 * applications that return no coroutine. */
PyObject *cdpy_wrap_awaitable(cdpy_state *state, PyObject *awaitable);

/*
 * The coroutine pyasgi._awaiting.call_on(callable, event): what receive() and send() give a thread
 * that does not run the loop, so that asyncio.run_coroutine_threadsafe(send(event), loop) does what
 * it does with an async def. event may be NULL.
 */
PyObject *cdpy_call_later(cdpy_state *state, PyObject *callable, PyObject *event);

/* The stream may have something for its first receive waiter. `direct`: called by the core,
 * callbacks may be stepped. */
void cdpy_receive_ready(cdpy_stream *stream, bool direct);
/* Every send waiter of the stream is done. */
void cdpy_send_ready(cdpy_stream *stream, bool direct);
/* Takes every receive waiter off; they pend for ever. */
void cdpy_waiters_detach(cdpy_stream *stream);

/* ---- stream.c: the Python side of a stream, its receive and send objects --------------------- */

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

/* ---- server.c: Server and the core's callbacks ----------------------------------------------- */

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

/* ---- application.c: one run of the application ----------------------------------------------- */

/* Calls the application and starts its task. In dispatch. */
void cdpy_application_run(cdpy_stream *stream, const cd_head *head);
/* Looks at a task that is done: reports its exception, then ends the stream. */
void cdpy_application_done(cdpy_stream *stream, PyObject *task);
/* It has ended, or is to count as ended: the core is told. Nothing on a second call. */
void cdpy_application_ended(cdpy_stream *stream, bool failed);
/* A line for on_log; a NULL line comes with an exception, which is reported. */
void cdpy_application_log(cdpy_server *server, enum cd_level level, PyObject *line);

/* ---- config.c: Server's keyword arguments ---------------------------------------------------- */

/* Fills server and config from kwargs (may be NULL). *owner and kwargs keep strings of config
 * alive; *prefixes is for PyMem_Free. 0 or -1 with an exception. */
int cdpy_parse_options(cdpy_server *server, cd_config *config, PyObject *kwargs, PyObject **owner,
                       const char ***prefixes);
/* 0, or -1 with a ValueError of what the core's check says is wrong. */
int cdpy_check_text(const char *text, int (*check)(const char *, char *, size_t));
/* The same for a row of limits.def; also a TypeError. */
int cdpy_check_limit(const char *name, PyObject *value);

/* ---- scope.c: cd_head -> scope dict ---------------------------------------------------------- */

/* A connection's cache, in head->cache: its two addresses as str and int, and the headers of its
 * last request. */
PyObject *cdpy_scope_new(cdpy_server *server, const cd_head *head);
/* "host:port" of the client as the scope has it, or None. */
PyObject *cdpy_client_text(const cd_head *head);

/* ---- tls.c: Tls ------------------------------------------------------------------------------ */

/* The core's object of a Tls, borrowed; NULL with a TypeError for anything else. */
cd_tls *cdpy_tls_core(cdpy_state *state, PyObject *object);
/* A new dict for the scope's extension; client_cert_chain is a tuple in it. None when the core has
 * nothing to tell. NULL with an exception. */
PyObject *cdpy_tls_extension(cdpy_server *server, const cd_head *head);

/* ---- http.c, websocket.c: events of each protocol -------------------------------------------- */

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

/* ---- extension.c: events of the extensions --------------------------------------------------- */

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

/* ---- convert.c: between Python values and the core's ----------------------------------------- */

/* 1: *value is a new reference; 0: the dict has no such key; -1: exception. */
int cdpy_get(PyObject *dict, PyObject *key, PyObject **value);

/* The truth of an optional value; absent is false. -1: exception. */
int cdpy_truth(PyObject *dict, PyObject *key);

/* Stores value and takes its reference, also when it fails; a NULL value is a failure of the
 * caller's expression. 0 or -1. */
int cdpy_put(PyObject *dict, PyObject *key, PyObject *value);

/* Is the str `text` the interned `name`? */
static inline bool cdpy_is(PyObject *text, PyObject *name)
{
    if (text == name)
        return true;
    if (!PyUnicode_IS_COMPACT_ASCII(text)) /* of a subclass, or of no ASCII: all names are */
        return PyUnicode_Compare(text, name) == 0;
    Py_ssize_t n = PyUnicode_GET_LENGTH(name);
    return PyUnicode_GET_LENGTH(text) == n &&
           memcmp(PyUnicode_1BYTE_DATA(text), PyUnicode_1BYTE_DATA(name), (size_t)n) == 0;
}

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

/* Takes the exception that is set, with its traceback: a new reference, or NULL when none is. */
PyObject *cdpy_error_take(void);
/* Sets it again (and lets the reference go); nothing for NULL. */
void cdpy_error_put(PyObject *error);

/* Sets the exception of a CD_* code; `what` begins the sentence. Always NULL. */
PyObject *cdpy_raise(cdpy_state *state, int code, const char *what);

#endif
