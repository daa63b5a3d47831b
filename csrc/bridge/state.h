/*
 * state.h - what all files of csrc/bridge share: the state of the module, and small functions on
 * Python values. loop/loop.h and asgi/asgi.h have what the files of their half share.
 *
 * The loop half is an asyncio event loop that serves without a server; it knows nothing of the ASGI
 * half, and builds without it.
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
#ifndef CDPY_STATE_H
#define CDPY_STATE_H

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

/* ---- module.c: the module and its state ---- */

/*
 * Objects of other modules and our own types, each a strong reference of the module state. An
 * object's type keeps the module alive, so a cdpy_state pointer kept in an object is valid as long
 * as the object is.
 */
#define CDPY_OBJECTS(X)                                                                           \
    X(loop_base_type) /* LoopBase */                                                              \
    X(poller_type)    /* Poller */                                                                \
    X(server_type)    /* Server */                                                                \
    X(tls_type)       /* Tls */                                                                   \
    X(stream_type)                                                                                \
    X(receive_type)                                                                               \
    X(send_type)                                                                                  \
    X(waiter_type)                                                                                \
    X(peer_type)                                                                                  \
    X(client_disconnected) /* ClientDisconnected(OSError) */                                      \
    X(task_type)           /* asyncio.Task */                                                     \
    X(finished_future) /* awaitable.c: the done future that a Task gets; NULL: not needed yet */  \
    X(cancelled_error) /* asyncio.CancelledError */                                               \
    X(invalid_state_error) /* asyncio.InvalidStateError */                                        \
    X(await_on)            /* pyasgi._awaiting.await_on; NULL until it is needed */               \
    X(call_on)             /* pyasgi._awaiting.call_on; NULL until it is needed */                \
    X(own_host)            /* scope.c: the host of own_address as str; NULL: none yet */          \
    X(own_port)            /* scope.c: its port as int; NULL: none yet */                         \
    X(last_client)         /* scope.c: the host of the newest client as str; NULL: none yet */    \
    X(empty_bytes)         /* b"" */                                                              \
    X(empty_text)          /* "" */                                                               \
    X(http_template) /* a scope with all keys and the usual values, copied for each request */    \
    X(websocket_template) /* the same for WebSockets */                                           \
    X(asked_path)         /* scope.c: raw_path of the newest connection's first request */        \
    X(usual_raw_path)     /* raw_path in http_template; NULL: none */                             \
    X(usual_path)         /* path in http_template; NULL: none */                                 \
    X(extensions_last)    /* the newest "extensions" of an HTTP scope; NULL: none yet */          \
    X(asgi_template)      /* "asgi" of the scopes, copied too */                                  \
    X(registry_type)      /* TaskRegistry; NULL from Python 3.14 on */                            \
    X(registry)           /* the registry that is installed, or NULL; NULL from Python 3.14 on */ \
    X(weak_set_type)      /* weakref.WeakSet; NULL from Python 3.14 on */                         \
    X(loop_asyncio_type)  /* asyncio.SelectorEventLoop */                                         \
    X(current_task)       /* asyncio.tasks._current_tasks, a dict; 3.14: _swap_current_task */    \
    X(loop_call_soon)     /* replaced.c: SelectorEventLoop.call_soon, unbound */                  \
    X(loop_call_soon_threadsafe) /* the same for this method, and so on */                        \
    X(loop_call_later)                                                                            \
    X(loop_call_at)                                                                               \
    X(loop_create_task)                                                                           \
    X(loop_create_future)                                                                         \
    X(loop_add_reader)    /* SelectorEventLoop._add_reader */                                     \
    X(loop_add_writer)    /* SelectorEventLoop._add_writer */                                     \
    X(loop_remove_reader) /* SelectorEventLoop._remove_reader */                                  \
    X(loop_remove_writer) /* SelectorEventLoop._remove_writer */                                  \
    X(loop_sock_recv)                                                                             \
    X(loop_sock_recv_into)                                                                        \
    X(loop_sock_sendall)                                                                          \
    X(loop_sock_connect)                                                                          \
    X(loop_accept_connection)  /* _accept_connection */                                           \
    X(loop_check_no_transport) /* _ensure_fd_no_transport */                                      \
    X(sock_type)               /* SockCall */                                                     \
    X(loop_run_in_executor)                                                                       \
    X(hop_type)                /* Hop: takes an executor's result over to the loop's thread */    \
    X(hop_source_type)         /* concurrent.futures.Future */                                    \
    X(hop_wrap_future)         /* asyncio.wrap_future */                                          \
    X(hop_copy_state)          /* asyncio.futures._copy_future_state */                           \
    X(zero)                    /* 0 */                                                            \
    X(minus_one)               /* -1 */                                                           \
    X(transport_type)          /* SocketTransport */                                              \
    X(transport_socket_type)   /* socket.socket */                                                \
    X(transport_write)         /* _SelectorSocketTransport.write, unbound */                      \
    X(transport_data_received) /* _SelectorSocketTransport._read_ready__data_received */          \
    X(transport_get_buffer)    /* _SelectorSocketTransport._read_ready__get_buffer */             \
    X(transport_set_nodelay)   /* asyncio.base_events._set_nodelay */                             \
    X(sslproto_type)           /* SSLProtocol; NULL, as all sslproto_*, until one is needed */    \
    X(sslproto_write_appdata)  /* asyncio's SSLProtocol._write_appdata, unbound */                \
    X(sslproto_do_handshake)   /* asyncio's SSLProtocol._do_handshake, unbound */                 \
    X(sslproto_set_state)      /* asyncio's SSLProtocol._set_state, unbound */                    \
    X(sslproto_object_type)    /* ssl.SSLObject */                                                \
    X(sslproto_error)          /* ssl.SSLError */                                                 \
    X(sslproto_again)          /* the exceptions that mean: try again later */                    \
    X(sslproto_record)         /* the most bytes of a record, as int */                           \
    X(sslproto_unwrapped)      /* SSLProtocolState.UNWRAPPED */                                   \
    X(sslproto_handshaking)    /* SSLProtocolState.DO_HANDSHAKE */                                \
    X(sslproto_wrapped)        /* SSLProtocolState.WRAPPED */                                     \
    X(sslproto_flushing)       /* SSLProtocolState.FLUSHING */                                    \
    X(sslproto_shutting)       /* SSLProtocolState.SHUTDOWN */                                    \
    X(loop_task_names)         /* ("loop",), keyword names of a Task call */                      \
    X(loop_task_name_names)    /* the same with name */                                           \
    X(loop_task_context_names) /* the same with context */                                        \
    X(future_type)             /* asyncio.Future */                                               \
    X(ready_type)              /* ReadyQueue */                                                   \
    X(handle_type)             /* Handle(asyncio.Handle) */                                       \
    X(timer_handle_type)       /* TimerHandle(asyncio.TimerHandle) */                             \
    X(handle_cancel)           /* asyncio.Handle.cancel, unbound */                               \
    X(timer_handle_cancel)     /* asyncio.TimerHandle.cancel, unbound */                          \
    X(handle_format_source)    /* asyncio.format_helpers._format_callback_source */               \
    X(loop_context_names)      /* ("context",), keyword names of a call_soon call */              \
    X(loop_selector_key)       /* selectors.SelectorKey */                                        \
    X(loop_map_type)           /* PollerMap, what Poller.get_map() returns */                     \
    X(fork_end)                /* fork.c: what ends a forked child; NULL: this is none */

/* Attributes of asyncio's classes that C reads by their offsets, see subclass.c. */
#define CDPY_TRANSPORT_SLOTS(X) \
    X(_sock)                    \
    X(_sock_fd)                 \
    X(_protocol)                \
    X(_buffer)                  \
    X(_conn_lost)               \
    X(_eof)                     \
    X(_empty_waiter)            \
    X(_read_ready_cb)           \
    X(_last_read_full) /* ours: True when the last read was full */
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
    X(_incoming_high_water)    \
    X(_handshaken) /* ours: True while the end of a client's handshake is told */
#define X(name) Py_ssize_t name;
typedef struct {
    CDPY_TRANSPORT_SLOTS(X)
} cdpy_transport_slots;
typedef struct {
    CDPY_SSLPROTO_SLOTS(X)
} cdpy_sslproto_slots;
#undef X

/* Dead objects of one layout, kept to be used again. The word behind an object's head links them. */
typedef struct {
    PyObject *first;
    Py_ssize_t count;
} cdpy_freelist;

typedef struct {
#define S(name) PyObject *s_##name;
#define T(name, text) PyObject *s_##name;
#include "bridge/strings.def"
#undef S
#undef T
#define X(name) PyObject *name;
    CDPY_OBJECTS(X)
#undef X
    /* the local address of the newest connection; mostly there is only one */
    cd_addr own_address;
    unsigned extensions_offers;   /* the CDPY_* offers that extensions_last contains */
    PyObject *header_names[256];  /* scope.c: bytes of the common header names by hash */
    bool header_shared[256];      /* do connections often send the same value of this header? */
    PyObject *header_tuples[256]; /* headers that many connections have, by hash; strong */
    cdpy_freelist free_waiters;   /* awaitable.c */
    cdpy_freelist free_streams;   /* stream.c */
    cdpy_freelist free_calls;     /* stream.c: receive and send objects share one */
    cdpy_freelist free_handles, free_timers; /* handle.c */
    size_t registry_users;                   /* registry.c: how many loops are open */
    cdpy_loop *loops;                        /* fork.c: every loop that exists */
    cdpy_transport_slots transport_slots;
    cdpy_sslproto_slots sslproto_slots;
    char *scratch; /* cdpy_scratch() */
} cdpy_state;

extern struct PyModuleDef cdpy_module;

/*
 * Returns the state of the module that made the type of `self`; only for types that cannot be
 * subclassed. NULL only while the collector takes the module down, so only in a dealloc.
 */
static inline cdpy_state *cdpy_state_of(PyObject *self)
{
    PyObject *module = ((PyHeapTypeObject *)Py_TYPE(self))->ht_module;

    return module ? PyModule_GetState(module) : NULL;
}

/* Makes a type of `spec` and stores it in *slot. When `name` is not NULL the module gets it under
 * that name. Returns 0, or -1 with an exception. */
int cdpy_add_type(PyObject *module, PyType_Spec *spec, PyObject **slot, const char *name);

/* Called by module.c's exec slot: each makes the types (and caches) of its file. They return 0, or
 * -1 with an exception. */
int cdpy_ready_init(PyObject *module, cdpy_state *state);
int cdpy_handle_init(PyObject *module, cdpy_state *state);
int cdpy_executor_init(PyObject *module, cdpy_state *state);
int cdpy_transport_init(PyObject *module, cdpy_state *state);
int cdpy_sock_init(PyObject *module, cdpy_state *state);
int cdpy_loop_init(PyObject *module, cdpy_state *state);
int cdpy_awaitable_init(PyObject *module, cdpy_state *state);
int cdpy_stream_init(PyObject *module, cdpy_state *state);
int cdpy_scope_init(PyObject *module, cdpy_state *state);
int cdpy_registry_init(PyObject *module, cdpy_state *state);
int cdpy_server_init(PyObject *module, cdpy_state *state);
int cdpy_tls_init(PyObject *module, cdpy_state *state);

/* Every tp_dealloc of ours: untrack, clear, free, drop the reference to the type. `clear` is the
 * type's tp_clear. */
#define CDPY_DEALLOC(self, clear)            \
    do {                                     \
        PyTypeObject *type_ = Py_TYPE(self); \
        PyObject_GC_UnTrack(self);           \
        (void)(clear)((PyObject *)(self));   \
        type_->tp_free(self);                \
        Py_DECREF(type_);                    \
    } while (0)

/* ---- freelists ---- */

/* The most objects that a freelist keeps. None under ASan, which is to see any use of a freed
 * object. */
#ifdef __SANITIZE_ADDRESS__
#define CDPY_FREELIST 0
#else
#define CDPY_FREELIST 256
#endif

static inline PyObject **cdpy_freelist_link(PyObject *self)
{
    return (PyObject **)(self + 1);
}

/* Takes an object of the list: untracked, with a head and with the fields that its dealloc left.
 * NULL, without an exception: the list is empty. */
static inline void *cdpy_freelist_take(cdpy_freelist *list, PyObject *type)
{
    PyObject *self = list->first;
    if (self == NULL)
        return NULL;
    list->first = *cdpy_freelist_link(self);
    list->count--;
    *cdpy_freelist_link(self) = NULL;
    return PyObject_Init(self, (PyTypeObject *)type);
}

/* The same or, where the list is empty, a new object with undefined fields. NULL: no memory. */
static inline void *cdpy_freelist_new(cdpy_freelist *list, PyObject *type)
{
    void *self = cdpy_freelist_take(list, type);
    return self ? self : PyObject_GC_New(PyObject, (PyTypeObject *)type);
}

/* The end of a dealloc, which has untracked and cleared the object: puts it on the list, frees it
 * when there are `most` already or there is no list, and lets the type go. */
static inline void cdpy_freelist_put(cdpy_freelist *list, PyObject *self, Py_ssize_t most)
{
    PyTypeObject *type = Py_TYPE(self);
    if (list && list->count < most) {
        *cdpy_freelist_link(self) = list->first;
        list->first = self;
        list->count++;
    } else {
        PyObject_GC_Del(self);
    }
    Py_DECREF(type);
}

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

/* ---- coroutine.c: awaitables that must be coroutines ---- */

/* Did receive() or send() return this object? */
static inline bool cdpy_waiter_check(const cdpy_state *state, PyObject *object)
{
    return Py_IS_TYPE(object, (PyTypeObject *)state->waiter_type);
}

/* Returns the coroutine pyasgi._awaiting.await_on(awaitable): for create_task(receive()), and for
 * applications that return no coroutine. */
PyObject *cdpy_wrap_awaitable(cdpy_state *state, PyObject *awaitable);

/*
 * Returns the coroutine pyasgi._awaiting.call_on(callable, event). receive() and send() return it
 * in a thread that does not run the loop, so that asyncio.run_coroutine_threadsafe(send(event),
 * loop) works as with an async def. event may be NULL.
 */
PyObject *cdpy_call_later(cdpy_state *state, PyObject *callable, PyObject *event);

/* ---- convert.c: between Python values and the core's ---- */

/* Looks a key up. 1: *value is a new reference; 0: the dict has no such key; -1: an exception is
 * set. */
int cdpy_get(PyObject *dict, PyObject *key, PyObject **value);

/* Returns the truth of an optional value, 0 when it is absent; -1: an exception is set. */
int cdpy_truth(PyObject *dict, PyObject *key);

/* Stores value and takes its reference, even when it fails. value == NULL is a failure: so the
 * result of an expression can be passed unchecked. Returns 0, or -1 with an exception. */
int cdpy_put(PyObject *dict, PyObject *key, PyObject *value);

/* Is the str `text` the interned `name`? */
static inline bool cdpy_is(PyObject *text, PyObject *name)
{
    if (text == name)
        return true;
    if (!PyUnicode_IS_COMPACT_ASCII(text)) /* a subclass, or not ASCII; the names are ASCII */
        return PyUnicode_Compare(text, name) == 0;
    Py_ssize_t n = PyUnicode_GET_LENGTH(name);
    return PyUnicode_GET_LENGTH(text) == n &&
           memcmp(PyUnicode_1BYTE_DATA(text), PyUnicode_1BYTE_DATA(name), (size_t)n) == 0;
}

/* Is it KeyboardInterrupt or SystemExit, which end the program? `error` may be PyErr_Occurred(). */
static inline bool cdpy_is_exit(PyObject *error)
{
    return PyErr_GivenExceptionMatches(error, PyExc_KeyboardInterrupt) ||
           PyErr_GivenExceptionMatches(error, PyExc_SystemExit);
}

/* Takes the exception that is set, with its traceback, as a new reference. NULL: none is set. */
PyObject *cdpy_error_take(void);
/* Sets that exception again and takes the reference; does nothing for NULL. */
void cdpy_error_put(PyObject *error);

#endif
