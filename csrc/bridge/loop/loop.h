/* What the files of the event loop share, one section for each. See state.h for who owns what. */
#ifndef CDPY_LOOP_H
#define CDPY_LOOP_H

#include "bridge/state.h"

/* ---- loop.c: LoopBase, Poller ---- */

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
    /* KeyboardInterrupt or SystemExit out of a dispatch: Poller.select raises it after it */
    PyObject *fatal;
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

/* fork.c: every loop there is, and every guest of a loop, is on a list from its beginning to its
 * end. add_guest() sets what forsake() will be called in a forked child. */
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

/* ... and in readers.c, sock.c, accept.c and executor.c. */
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

/* ---- loop.c again ---- */

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

/* ---- ready.c: ReadyQueue ---- */

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

/* ---- handle.c: Handle, TimerHandle ---- */

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

/* ---- timers.c: loop._scheduled ---- */

/* All: 0 or -1 with an exception. */
int cdpy_timers_add(cdpy_loop *loop, PyObject *handle);
/* Lets cancelled timers go where asyncio does. */
int cdpy_timers_tidy(cdpy_loop *loop);
/* 1 and the time of the first one; 0: there is none. */
int cdpy_timers_first(cdpy_loop *loop, double *when);
/* Moves those before `now` to the ready queue. */
int cdpy_timers_due(cdpy_loop *loop, double now);

/* ---- subclass.c: classes derived from asyncio's ---- */

/*
 * class name(base) with `names` as its slots and with the methods; their offsets go to the array.
 * A new reference, or NULL with an exception.
 */
PyObject *cdpy_subclass_new(PyObject *module, PyObject *base, const char *name,
                            const char *const *names, Py_ssize_t *offsets, size_t count,
                            PyMethodDef *methods);

/* The state of the module that made the class of `self` or one it is derived from. */
cdpy_state *cdpy_subclass_state(PyObject *self);

/* What is in a slot, borrowed; NULL: nothing. */
static inline PyObject *cdpy_slot(PyObject *self, Py_ssize_t offset)
{
    return *(PyObject **)((char *)self + offset);
}

static inline void cdpy_slot_put(PyObject *self, Py_ssize_t offset, PyObject *value)
{
    Py_XSETREF(*(PyObject **)((char *)self + offset), Py_NewRef(value));
}

/* ---- transport.c, sslproto.c: stream transports ---- */

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

#endif
