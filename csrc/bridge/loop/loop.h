/* What the files of the event loop share, one section for each. See state.h for who owns what. */
#ifndef CDPY_LOOP_H
#define CDPY_LOOP_H

#include "bridge/state.h"

/* ---- loop.c: LoopBase, Poller ---- */

/*
 * An object that uses a loop and has its own pointers into the core: a server. The struct is
 * embedded in the object. In a forked child forsake() sets these pointers to NULL; it must not free
 * anything.
 */
typedef struct cdpy_guest cdpy_guest;
struct cdpy_guest {
    cdpy_guest *prev, *next; /* the loop's list of guests */
    void (*forsake)(cdpy_guest *guest);
};

struct cdpy_loop {
    PyObject_HEAD
    cdpy_state *state;  /* set by tp_new: subclasses make PyType_GetModuleState useless */
    cd_loop *core;      /* NULL after close() */
    PyObject *captured; /* callback and context of the call_soon that was captured */
    PyObject *captured_context;
    /* KeyboardInterrupt or SystemExit raised in a dispatch; Poller.select raises it afterwards */
    PyObject *fatal;
    unsigned long thread; /* _thread_id: the thread that runs the loop; 0: none does */
    /* how many servers use the loop (server.c counts); close() refuses while it is not 0 */
    size_t servers;
    cdpy_ready *ready;                /* _ready; strong, never NULL */
    PyObject *scheduled;              /* list, a heap of timers: _scheduled */
    PyObject *selector;               /* _selector: the Poller, None once closed */
    PyObject *task_factory;           /* _task_factory */
    PyObject *executor;               /* _default_executor */
    PyObject *debug_value;            /* _debug: what set_debug() was given */
    PyObject *replaced;               /* a tuple, never NULL: see replaced.c */
    Py_ssize_t timer_cancelled_count; /* how many timers in `scheduled` are cancelled */
    double clock_resolution;          /* seconds */
    bool armed;                       /* the next call_soon is captured */
    bool debug;                       /* asyncio's debug mode */
    /* `debug` is set or `replaced` has names: no short cuts are taken */
    bool slow;
    bool dispatching; /* inside cd_loop_dispatch */
    bool polled;      /* its Poller was made; there can be one only */
    bool sleeping;    /* blocked in the kernel, without the GIL */
    bool forever;     /* the next _run_once() runs until stop() is called */
    bool plain;       /* the class overrides nothing that turn.c does itself */
    bool own_call_at; /* the class does not override call_at() */
    bool own_time;    /* neither the class nor the instance overrides time() */
    bool registers;   /* cdpy_registry_leave must be called */
    bool served;      /* the loop was inherited, and a server used it */
    /* the loop belongs to the parent of this forked process; it counts as closed */
    char inherited;
    cdpy_loop *prev, *next; /* state->loops */
    cdpy_guest *guests;     /* the objects that use the loop */
    cd_loop *forsaken;      /* the value of `core` in the parent process */
    char stopping;          /* _stopping and _closed, which asyncio's code sets */
    char closed;
    char executor_shutdown; /* _executor_shutdown_called */
};

/* Returns the loop, borrowed; NULL with a TypeError when the object is no LoopBase, or with a
 * RuntimeError when it is closed. */
cdpy_loop *cdpy_loop_check(cdpy_state *state, PyObject *loop);

/* Makes a loop that is no asyncio loop, for a Poller that stands alone. Returns a new reference, or
 * NULL with an exception. */
cdpy_loop *cdpy_loop_bare(cdpy_state *state);

/* Returns 0, or -1 with a RuntimeError when servers still use the loop. */
int cdpy_loop_check_servers(const cdpy_loop *loop);

/* registry.c: replaces asyncio's set of tasks by a faster one, from the first enter to the last
 * leave. Returns 0, or -1 with an exception. */
int cdpy_registry_enter(cdpy_state *state);
void cdpy_registry_leave(cdpy_state *state);

/* The end of close(): frees the core's loop. Every server must be closed and every watch freed. */
void cdpy_loop_free_core(cdpy_loop *loop);

/* fork.c: keeps lists of all loops, and of the guests of each loop. add_guest() sets the forsake()
 * that is called in a forked child. */
void cdpy_fork_add_loop(cdpy_loop *loop);
void cdpy_fork_remove_loop(cdpy_loop *loop);
void cdpy_fork_add_guest(cdpy_loop *loop, cdpy_guest *guest, void (*forsake)(cdpy_guest *));
void cdpy_fork_remove_guest(cdpy_loop *loop, cdpy_guest *guest);

/* The module's function forsake(end), see fork.c. */
PyObject *cdpy_forsake(PyObject *module, PyObject *end);

/*
 * Called when application code returns, in a forked child, to the loop that called it in the
 * parent. If the loop had servers the child ends here; else returns -1, with the exception that is
 * set or a RuntimeError.
 */
int cdpy_fork_end(cdpy_loop *loop);

/* The same for the core's callbacks, after they called Python code. */
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

/* Does this thread run the loop? Before the loop has run, every thread counts as the one. */
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
 * turn.c: for a turn of the loop that is taken inside a task. The first function clears asyncio's
 * current task and stores it in *task (NULL: there was none); the second sets it again, and keeps
 * an exception that is set. They return 0, or -1 with an exception.
 */
int cdpy_set_task_aside(cdpy_loop *loop, PyObject **task);
int cdpy_put_task_back(cdpy_loop *loop, PyObject *task);

/* replaced.c: looks asyncio's methods up, and returns a new tuple with the names of those that
 * somebody replaced; or NULL with an exception. */
PyObject *cdpy_replaced(cdpy_state *state);
/* Calls SelectorEventLoop.name(loop). */
PyObject *cdpy_loop_call_base(cdpy_loop *loop, PyObject *name);

/* Calls function(self, *args, **names) with the arguments of a METH_FASTCALL | METH_KEYWORDS
 * method. */
PyObject *cdpy_pass_on(PyObject *function, PyObject *self, PyObject *const *args, Py_ssize_t count,
                       PyObject *names);

/* Stores loop.time() in *now. Returns 0, or -1 with an exception. */
int cdpy_loop_time(cdpy_loop *loop, double *now);

/* Returns a new tuple of the arguments, or NULL with an exception. */
PyObject *cdpy_tuple_of(PyObject *const *args, Py_ssize_t count);

/* Methods of LoopBase that are in readers.c, sock.c, accept.c and executor.c. */
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
/* Returns sock.fileno(); -1: the socket is closed, or an exception is set. */
int cdpy_fileno(const cdpy_state *state, PyObject *sock);
/* Sets a RuntimeError when a transport uses the descriptor, an int. Returns 0, or -1 with an
 * exception. */
int cdpy_loop_check_transports(cdpy_loop *loop, PyObject *number);

/* address.c: converts an address tuple (host, port), for IPv6 also one of four items. False,
 * without an exception: it is anything else. */
bool cdpy_endpoint_parse(PyObject *address, cd_endpoint *ip);
/* Converts it back. A new reference, or NULL with an exception. */
PyObject *cdpy_endpoint_tuple(const cd_endpoint *ip);

PyObject *cdpy_loop_run_in_executor(PyObject *self, PyObject *const *args, Py_ssize_t count,
                                    PyObject *names);

/* poller.c: may a turn of this loop use this selector's C functions and not call select()? */
bool cdpy_poller_serves(PyObject *selector, const cdpy_loop *loop);
/*
 * Polls for at most `timeout` seconds (negative: without an end), dispatches the core's callbacks,
 * and queues the handles of the descriptors that are ready. Returns 0, or -1 with an exception.
 */
int cdpy_poller_turn(PyObject *selector, double timeout);
/* Finds what is registered for a file object: its descriptor, its events and its data, a new
 * reference; data NULL: nothing is. Returns 0, or -1 with an exception. */
int cdpy_poller_get(PyObject *selector, PyObject *fileobj, int *fd, int *events, PyObject **data);
/* Registers a file object or changes its events; with events == 0 removes it. Returns 0, or -1 with
 * an exception. */
int cdpy_poller_put(PyObject *selector, PyObject *fileobj, int fd, int events, PyObject *data);

/* ---- loop.c again ---- */

/* Until take(): the next loop.call_soon(callback, context=context) without arguments is stored and
 * not queued. */
void cdpy_loop_arm_capture(cdpy_loop *loop);

/* Ends that. 1: *callback and *context are new references (*context may be NULL); 0: nothing was
 * captured, both are NULL. */
int cdpy_loop_take_capture(cdpy_loop *loop, PyObject **callback, PyObject **context);

/*
 * Calls loop.call_soon(callback, arg, context=context); context NULL: the current one. In a thread
 * that does not run the loop it calls call_soon_threadsafe. Returns 0, or -1 with an exception (the
 * loop is closed, no memory).
 */
int cdpy_call_soon(cdpy_loop *loop, PyObject *callback, PyObject *arg, PyObject *context);

/*
 * Calls callback(arg) in the context at once, as the loop would call a handle. Only to be called
 * from a callback of the core, where no task is running. In debug mode, and when the context is
 * entered already, it calls cdpy_call_soon. Exceptions go to cdpy_loop_report, so none is set on
 * return.
 */
void cdpy_step(cdpy_loop *loop, PyObject *callback, PyObject *arg, PyObject *context);

/* Keeps an exception that ends the program until the dispatch is over; the first one counts. */
void cdpy_loop_set_fatal(cdpy_loop *loop, PyObject *exception);

/*
 * Reports the exception that is set: KeyboardInterrupt and SystemExit become loop->fatal, any other
 * goes to loop.call_exception_handler({"message": message, "exception": ...}). None is set on
 * return.
 */
void cdpy_loop_report(cdpy_loop *loop, const char *message);

/* ---- ready.c: ReadyQueue ---- */

cdpy_ready *cdpy_ready_new(cdpy_state *state);
/* Appends a handle. Returns 0, or -1 with a MemoryError. */
int cdpy_ready_push(cdpy_ready *queue, PyObject *handle);
/* Removes the oldest handle; the reference is the caller's. NULL without an exception: the queue is
 * empty. */
PyObject *cdpy_ready_take(cdpy_ready *queue);
size_t cdpy_ready_count(const cdpy_ready *queue);
/* Drops every handle and frees the queue. NULL is allowed. */
void cdpy_ready_drop(cdpy_ready *queue);
/* Empties the queue without dropping the references, because that could run Python code. */
void cdpy_ready_forsake(cdpy_ready *queue);
/* Replaces the contents by the items of an iterable. Returns 0, or -1 with an exception. */
int cdpy_ready_assign(cdpy_ready *queue, PyObject *handles);

/* ---- handle.c: Handle, TimerHandle ---- */

/* The attributes of asyncio.Handle; TimerHandle has the last two as well. Any of them may be
 * NULL. */
struct cdpy_handle {
    PyObject_HEAD
    PyObject *args; /* tuple */
    PyObject *callback, *cancelled, *context, *loop, *repr, *source_traceback;
#if PY_VERSION_HEX < 0x030C0000
    PyObject *weakrefs; /* later Pythons have it before the header */
#endif
    PyObject *scheduled, *when;
};

/* Make handles: new references, or NULL with an exception. They take the reference to `args`, a
 * tuple. context NULL: the current one. */
PyObject *cdpy_handle_new(cdpy_loop *loop, PyObject *callback, PyObject *args, PyObject *context);
PyObject *cdpy_timer_handle_new(cdpy_loop *loop, PyObject *when, PyObject *callback, PyObject *args,
                                PyObject *context);

/* Is the handle, ours or asyncio's, cancelled? 1, 0, or -1 with an exception. */
int cdpy_handle_cancelled(const cdpy_state *state, PyObject *handle);

/* Calls the handle's callback in its context. Returns 0, also when the callback raised
 * (call_exception_handler() was called), or -1 with an exception that must leave the loop. */
int cdpy_handle_run(cdpy_state *state, PyObject *handle);

/* Calls handle.cancel() of any kind of handle. Returns 0, or -1 with an exception. */
int cdpy_handle_cancel(const cdpy_state *state, PyObject *handle);

static inline bool cdpy_is_timer(const cdpy_state *state, PyObject *handle)
{
    return Py_IS_TYPE(handle, (PyTypeObject *)state->timer_handle_type);
}

/* Stores the time of a timer in *when. False, and nothing is stored: it is none of our timers, or
 * its time is no float. */
static inline bool cdpy_timer_when(const cdpy_state *state, PyObject *handle, double *when)
{
    PyObject *value = cdpy_is_timer(state, handle) ? ((struct cdpy_handle *)handle)->when : NULL;
    if (value == NULL || !PyFloat_CheckExact(value))
        return false;
    *when = PyFloat_AS_DOUBLE(value);
    return true;
}

/* Sets handle._scheduled. Returns 0, or -1 with an exception. */
int cdpy_timer_set_scheduled(const cdpy_state *state, PyObject *handle, bool scheduled);

/* ---- timers.c: loop._scheduled ---- */

/* All of them return 0, or -1 with an exception. This one adds a timer. */
int cdpy_timers_add(cdpy_loop *loop, PyObject *handle);
/* Removes cancelled timers when asyncio would. */
int cdpy_timers_tidy(cdpy_loop *loop);
/* Finds the first timer. 1: *when is its time; 0: there is none. */
int cdpy_timers_first(cdpy_loop *loop, double *when);
/* Moves the timers that are due at `now` to the ready queue. */
int cdpy_timers_due(cdpy_loop *loop, double now);

/* ---- subclass.c: classes derived from asyncio's ---- */

/*
 * Makes class name(base) with `names` as its slots, and with the methods. The offsets of the slots
 * are stored in the array. Returns a new reference, or NULL with an exception.
 */
PyObject *cdpy_subclass_new(PyObject *module, PyObject *base, const char *name,
                            const char *const *names, Py_ssize_t *offsets, size_t count,
                            PyMethodDef *methods);

/* Returns the state of the module that made the class of `self` or one of its base classes. */
cdpy_state *cdpy_subclass_state(PyObject *self);

/* Returns the contents of a slot, borrowed; NULL: it is empty. */
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
 * Returns CDPY_SCRATCH_SIZE bytes that belong to the module, or NULL with a MemoryError. Reads go
 * here first. The bytes must be copied before anything is called that may run Python code, because
 * another thread's loop uses the memory too.
 */
enum { CDPY_SCRATCH_SIZE = 256 * 1024 }; /* asyncio's max_size of one call */
char *cdpy_scratch(cdpy_state *state);

/* Calls asyncio's _set_nodelay(sock). */
PyObject *cdpy_set_nodelay(PyObject *module, PyObject *sock);

/* Calls transport.write(data) of a SocketTransport. */
PyObject *cdpy_transport_write(cdpy_state *state, PyObject *self, PyObject *data);

/* Returns the class SSLProtocol. It is made at the first call, because that imports ssl, which few
 * servers need. */
PyObject *cdpy_ssl_protocol(PyObject *module, PyObject *ignored);

/* Is the protocol an SSLProtocol of ours? */
static inline bool cdpy_sslproto_check(const cdpy_state *state, PyObject *protocol)
{
    return Py_IS_TYPE(protocol, (PyTypeObject *)state->sslproto_type);
}

/* Gives the protocol the bytes that came for it. Returns None, or NULL with an exception. */
PyObject *cdpy_sslproto_feed(cdpy_state *state, PyObject *self, PyObject *data);

#endif
