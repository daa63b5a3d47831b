/*
 * loop.c - LoopBase, the part of pyasgi.loop.EventLoop that is C: it stands before
 * asyncio.SelectorEventLoop in the bases.
 *
 * It owns the core's loop and the attributes that asyncio's code and ours share: _ready,
 * _scheduled, _stopping, _debug and so on are descriptors here, and so the same thing whoever reads
 * or sets them. Its methods are spread over files: callbacks and timers are in schedule.c, turns in
 * turn.c, descriptors in readers.c, sock_recv() and its kin in sock.c, executors in executor.c.
 * What is left is tasks, and what the bridge needs of a loop: one call_soon() set aside (so that a
 * Task can be started at once on Python 3.11), a callback run as a Handle would but now, a Waiter
 * taken by create_task().
 *
 * Everything else is asyncio's own code, called through unbound functions that are looked up once.
 * asyncio's debug mode switches all short cuts off: every callback then goes through a Handle of
 * asyncio, which checks threads, keeps tracebacks and times it. So does a loop that finds asyncio's
 * methods replaced (replaced.c). Waiting is poller.c's.
 */
#include "bridge/loop/loop.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

enum { MOST_KEYWORDS = 8 };

#if PY_VERSION_HEX >= 0x030E0000
#define CURRENT_TASK "_swap_current_task"
#else
#define CURRENT_TASK "_current_tasks"
#endif

/* ---- the capture slot ---- */

void cdpy_loop_arm_capture(cdpy_loop *loop)
{
    loop->armed = true;
}

int cdpy_loop_take_capture(cdpy_loop *loop, PyObject **callback, PyObject **context)
{
    *callback = loop->captured;
    *context = loop->captured_context;
    loop->captured = loop->captured_context = NULL;
    loop->armed = false;
    return *callback != NULL;
}

/* ---- callbacks from the bridge ---- */

static void step_later(cdpy_loop *loop, PyObject *callback, PyObject *arg, PyObject *context)
{
    PyErr_Clear();
    if (cdpy_call_soon(loop, callback, arg, context) < 0)
        cdpy_loop_report(loop, "Cannot schedule a callback");
}

static void step_in(cdpy_loop *loop, PyObject *callback, PyObject *arg, PyObject *context)
{
    PyObject *result = PyObject_CallOneArg(callback, arg);
    PyObject *error =
        result == NULL ? cdpy_error_take() : NULL; /* leaving a context requires that none is set */
    Py_XDECREF(result);
    if (PyContext_Exit(context) < 0)
        cdpy_loop_report(loop, "A callback left another context than it was given");
    if (error == NULL)
        return;
    cdpy_error_put(error);
    cdpy_loop_report(loop, "Exception in callback");
}

void cdpy_step(cdpy_loop *loop, PyObject *callback, PyObject *arg, PyObject *context)
{
    PyObject *own = context == NULL ? PyContext_CopyCurrent() : Py_NewRef(context);
    if (own == NULL || loop->slow || PyContext_Enter(own) < 0)
        step_later(loop, callback, arg, context);
    else
        step_in(loop, callback, arg, own);
    Py_XDECREF(own);
}

void cdpy_loop_set_fatal(cdpy_loop *loop, PyObject *exception)
{
    if (loop->fatal == NULL)
        loop->fatal = Py_NewRef(exception); /* raise_fatal in poller.c, or loop_clear */
}

static PyObject *tell_handler(cdpy_loop *loop, PyObject *exception, const char *message)
{
    cdpy_state *state = loop->state;
    PyObject *result = NULL;
    PyObject *context =
        Py_BuildValue("{OsOO}", state->s_message, message, state->s_exception, exception);
    if (context != NULL)
        result =
            PyObject_CallMethodOneArg((PyObject *)loop, state->s_call_exception_handler, context);
    Py_XDECREF(context);
    return result;
}

void cdpy_loop_report(cdpy_loop *loop, const char *message)
{
    PyObject *exception = cdpy_error_take();
    if (loop->inherited || cdpy_is_exit(exception)) {
        cdpy_loop_set_fatal(loop, exception);
        Py_DECREF(exception);
        return;
    }
    PyObject *result = tell_handler(loop, exception, message);
    Py_DECREF(exception);
    if (result == NULL) { /* asyncio's handler raises only exceptions that end the program */
        exception = cdpy_error_take();
        cdpy_loop_set_fatal(loop, exception);
        Py_DECREF(exception);
    }
    Py_XDECREF(result);
}

/* ---- what the other files ask ---- */

cdpy_loop *cdpy_loop_check(cdpy_state *state, PyObject *loop)
{
    if (!PyObject_TypeCheck(loop, (PyTypeObject *)state->loop_base_type)) {
        PyErr_Format(PyExc_TypeError, "loop must be a pyasgi.loop.EventLoop, not %.200s",
                     Py_TYPE(loop)->tp_name);
        return NULL;
    }
    if (((cdpy_loop *)loop)->core == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "Event loop is closed");
        return NULL;
    }
    return (cdpy_loop *)loop;
}

int cdpy_loop_check_servers(const cdpy_loop *loop)
{
    if (loop->servers == 0)
        return 0;
    PyErr_Format(
        PyExc_RuntimeError,
        "cannot close the event loop: %zu server(s) on it are still open, close them first",
        loop->servers);
    return -1;
}

void cdpy_loop_free_core(cdpy_loop *loop)
{
    cd_loop *core = loop->core;
    loop->core = NULL;
    cd_loop_free(core);
    if (loop->registers)
        cdpy_registry_leave(loop->state);
    loop->registers = false;
}

/* ---- asyncio's methods with something of ours before them ---- */

/* Returns the keyword names of the Task call: loop, then those that create_task() got. NULL:
 * asyncio's create_task() must be called. */
static PyObject *task_names(const cdpy_state *state, PyObject *names)
{
    if (names == NULL || PyTuple_GET_SIZE(names) == 0)
        return state->loop_task_names;
    PyObject *name = PyTuple_GET_ITEM(names, 0);
    if (PyTuple_GET_SIZE(names) == 1 && name == state->s_name)
        return state->loop_task_name_names;
    if (PyTuple_GET_SIZE(names) == 1 && name == state->s_context)
        return state->loop_task_context_names;
    return NULL;
}

/* May create_task() call Task directly? */
static bool makes_plain_tasks(const cdpy_loop *loop)
{
    return !loop->slow && !loop->closed &&
           (loop->task_factory == NULL || loop->task_factory == Py_None);
}

/* Like asyncio's create_task(), for anything but a Waiter. args: the coroutine, then the values of
 * names. */
static PyObject *make_task(cdpy_loop *loop, PyObject *const *args, PyObject *names)
{
    cdpy_state *state = loop->state;
    PyObject *all = makes_plain_tasks(loop) ? task_names(state, names) : NULL;
    if (all == NULL)
        return cdpy_pass_on(state->loop_create_task, (PyObject *)loop, args, 1, names);
    PyObject *task_args[] = {args[0], (PyObject *)loop, NULL};
    if (PyTuple_GET_SIZE(all) == 2)
        task_args[2] = args[1];
    return PyObject_Vectorcall(state->task_type, task_args, 1, all);
}

static PyObject *loop_create_task(PyObject *self, PyObject *const *args, Py_ssize_t count,
                                  PyObject *names)
{
    cdpy_loop *loop = (cdpy_loop *)self;
    cdpy_state *state = loop->state;
    if (count != 1)
        return cdpy_pass_on(state->loop_create_task, self, args, count, names);
    if (!cdpy_waiter_check(state, args[0]))
        return make_task(loop, args, names);
    PyObject *coroutine = cdpy_wrap_awaitable(state, args[0]);
    if (coroutine == NULL)
        return NULL;
    PyObject *copy[MOST_KEYWORDS] = {coroutine};
    Py_ssize_t named = names == NULL ? 0 : PyTuple_GET_SIZE(names);
    PyObject *task = NULL;
    if (named < MOST_KEYWORDS) {
        memcpy(copy + 1, args + 1, (size_t)named * sizeof *copy);
        task = make_task(loop, copy, names);
    } else {
        PyErr_SetString(PyExc_TypeError, "create_task() got too many keyword arguments");
    }
    Py_DECREF(coroutine);
    return task;
}

static PyObject *loop_create_future(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    cdpy_loop *loop = (cdpy_loop *)self;
    if (loop->slow)
        return PyObject_CallOneArg(loop->state->loop_create_future, self);
    PyObject *args[] = {self};
    return PyObject_Vectorcall(loop->state->future_type, args, 0, loop->state->loop_task_names);
}

static PyObject *loop_get_debug(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    const cdpy_loop *loop = (cdpy_loop *)self;
    return Py_NewRef(loop->debug_value == NULL ? Py_False : loop->debug_value);
}

static PyObject *loop_is_closed(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(((cdpy_loop *)self)->closed);
}

static PyObject *loop_time(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    cdpy_loop *loop = (cdpy_loop *)self;
    if (loop->slow)
        return cdpy_loop_call_base(loop, loop->state->s_time);
    return PyFloat_FromDouble(cd_clock());
}

int cdpy_loop_time(cdpy_loop *loop, double *now)
{
    if (loop->own_time) {
        *now = cd_clock();
        return 0;
    }
    PyObject *value = PyObject_CallMethodNoArgs((PyObject *)loop, loop->state->s_time);
    *now = value == NULL ? -1 : PyFloat_AsDouble(value);
    Py_XDECREF(value);
    return *now == -1 && PyErr_Occurred() ? -1 : 0;
}

static PyObject *loop_close(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    cdpy_loop *loop = (cdpy_loop *)self;
    /* A running loop refuses by itself, which comes first. */
    if (loop->thread == 0 && cdpy_loop_check_servers(loop) < 0)
        return NULL;
    return cdpy_loop_call_base(loop, loop->state->s_close);
}

static PyObject *loop_write_to_self(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    cd_loop *core = ((cdpy_loop *)self)->core;
    if (core != NULL)
        cd_loop_wake(core);
    Py_RETURN_NONE;
}

/* ---- attributes that asyncio's code and ours share ---- */

static PyObject *get_debug_value(PyObject *self, void *Py_UNUSED(closure))
{
    return loop_get_debug(self, NULL);
}

static int set_debug_value(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    cdpy_loop *loop = (cdpy_loop *)self;
    int debug = value == NULL ? 0 : PyObject_IsTrue(value);
    if (debug < 0)
        return -1;
    loop->debug = debug;
    loop->slow = debug || PyTuple_GET_SIZE(loop->replaced) > 0;
    Py_XSETREF(loop->debug_value, Py_XNewRef(value));
    return 0;
}

static PyObject *get_ready(PyObject *self, void *Py_UNUSED(closure))
{
    return Py_NewRef((PyObject *)((cdpy_loop *)self)->ready);
}

/* The queue stays ours and takes the items of the other one. */
static int set_ready(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    if (value != NULL)
        return cdpy_ready_assign(((cdpy_loop *)self)->ready, value);
    PyErr_SetString(PyExc_AttributeError, "_ready cannot be deleted");
    return -1;
}

static PyObject *get_scheduled(PyObject *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(((cdpy_loop *)self)->scheduled);
}

static int set_scheduled(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    if (value == NULL || !PyList_CheckExact(value)) {
        PyErr_SetString(PyExc_TypeError, "_scheduled must be a list");
        return -1;
    }
    Py_SETREF(((cdpy_loop *)self)->scheduled, Py_NewRef(value));
    return 0;
}

/* Programs may set their own time() on a loop. */
static int loop_setattro(PyObject *self, PyObject *name, PyObject *value)
{
    cdpy_loop *loop = (cdpy_loop *)self;
    if (name == loop->state->s_time)
        loop->own_time = false;
    else if (name == loop->state->s_call_at)
        loop->own_call_at = false;
    return PyObject_GenericSetAttr(self, name, value);
}

/* Set by the code that runs the loop: asyncio's run_forever(), or what others put in its place. */
static PyObject *get_thread(PyObject *self, void *Py_UNUSED(closure))
{
    unsigned long thread = ((cdpy_loop *)self)->thread;
    return thread == 0 ? Py_NewRef(Py_None) : PyLong_FromUnsignedLong(thread);
}

static int set_thread(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    unsigned long thread = 0;
    if (value != NULL && value != Py_None)
        thread = PyLong_AsUnsignedLong(value);
    if (thread == (unsigned long)-1 && PyErr_Occurred())
        return -1;
    ((cdpy_loop *)self)->thread = thread;
    return 0;
}

static PyGetSetDef loop_getset[] = {
    {"_thread_id", get_thread, set_thread, NULL, NULL},
    {"_debug", get_debug_value, set_debug_value, NULL, NULL},
    {"_ready", get_ready, set_ready, NULL, NULL},
    {"_scheduled", get_scheduled, set_scheduled, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef loop_members[] = {
    {"replaced", CDPY_T_OBJECT, offsetof(cdpy_loop, replaced), CDPY_READONLY,
     "Names of asyncio's methods that others had replaced when the loop was made."},
    {"_selector", CDPY_T_OBJECT, offsetof(cdpy_loop, selector), 0, NULL},
    {"_default_executor", CDPY_T_OBJECT, offsetof(cdpy_loop, executor), 0, NULL},
    {"_executor_shutdown_called", CDPY_T_BOOL, offsetof(cdpy_loop, executor_shutdown), 0, NULL},
    {"_task_factory", CDPY_T_OBJECT, offsetof(cdpy_loop, task_factory), 0, NULL},
    {"_timer_cancelled_count", CDPY_T_PYSSIZET, offsetof(cdpy_loop, timer_cancelled_count), 0,
     NULL},
    {"_clock_resolution", CDPY_T_DOUBLE, offsetof(cdpy_loop, clock_resolution), 0, NULL},
    {"_stopping", CDPY_T_BOOL, offsetof(cdpy_loop, stopping), 0, NULL},
    {"_closed", CDPY_T_BOOL, offsetof(cdpy_loop, closed), 0, NULL},
    {"_inherited", CDPY_T_BOOL, offsetof(cdpy_loop, inherited), CDPY_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

/* ---- life ---- */

static cdpy_loop *loop_alloc(PyTypeObject *type, cdpy_state *state)
{
    cdpy_loop *loop = (cdpy_loop *)type->tp_alloc(type, 0);
    if (loop == NULL)
        return NULL;
    loop->state = state;
    loop->ready = cdpy_ready_new(state);
    loop->scheduled = PyList_New(0);
    loop->replaced = cdpy_replaced(state);
    loop->slow = loop->replaced != NULL && PyTuple_GET_SIZE(loop->replaced) > 0;
    if (loop->ready == NULL || loop->scheduled == NULL || loop->replaced == NULL) {
        Py_DECREF(loop);
        return NULL;
    }
    errno = 0;
    loop->core = cd_loop_new();
    if (loop->core != NULL) {
        cdpy_fork_add_loop(loop);
        return loop;
    }
    if (errno != 0)
        PyErr_SetFromErrno(PyExc_OSError);
    else
        PyErr_NoMemory();
    Py_DECREF(loop);
    return NULL;
}

cdpy_loop *cdpy_loop_bare(cdpy_state *state)
{
    return loop_alloc((PyTypeObject *)state->loop_base_type, state);
}

/* Does the class have the same attribute as `base`? -1 with an exception. */
static int inherits(PyTypeObject *type, PyObject *base, const char *name)
{
    PyObject *theirs = NULL, *own = PyObject_GetAttrString((PyObject *)type, name);
    if (own != NULL)
        theirs = PyObject_GetAttrString(base, name);
    int result = own == NULL || theirs == NULL ? -1 : own == theirs;
    Py_XDECREF(own);
    Py_XDECREF(theirs);
    return result;
}

/* Finds out which methods a class derived from EventLoop overrides. */
static int look_at_class(cdpy_loop *loop, PyTypeObject *type)
{
    static const char *const steps[] = {"_process_events", "_add_callback",
                                        "_timer_handle_cancelled"};
    int same = 1;
    for (size_t i = 0; same > 0 && i < sizeof steps / sizeof *steps; i++)
        same = inherits(type, loop->state->loop_asyncio_type, steps[i]);
    loop->plain = same > 0;
    if (same >= 0)
        same = inherits(type, loop->state->loop_base_type, "call_at");
    loop->own_call_at = same > 0;
    if (same >= 0)
        same = inherits(type, loop->state->loop_base_type, "time");
    loop->own_time = same > 0;
    return same < 0 ? -1 : 0;
}

/* The arguments are for __init__ of the base classes that follow. */
static PyObject *loop_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
                          PyObject *Py_UNUSED(kwargs))
{
    PyObject *module = PyType_GetModuleByDef(type, &cdpy_module);
    cdpy_loop *loop = module == NULL ? NULL : loop_alloc(type, PyModule_GetState(module));
    if (loop == NULL)
        return NULL;
    if ((PyObject *)type != loop->state->loop_base_type && look_at_class(loop, type) < 0)
        Py_CLEAR(loop);
    if (loop != NULL && cdpy_registry_enter(loop->state) < 0)
        Py_CLEAR(loop);
    else if (loop != NULL)
        loop->registers = true;
    return (PyObject *)loop;
}

static int loop_traverse(PyObject *self, visitproc visit, void *arg)
{
    cdpy_loop *loop = (cdpy_loop *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(loop->captured);
    Py_VISIT(loop->captured_context);
    Py_VISIT(loop->fatal);
    Py_VISIT(loop->ready);
    Py_VISIT(loop->scheduled);
    Py_VISIT(loop->selector);
    Py_VISIT(loop->task_factory);
    Py_VISIT(loop->executor);
    Py_VISIT(loop->debug_value);
    return 0;
}

static int loop_clear(PyObject *self)
{
    cdpy_loop *loop = (cdpy_loop *)self;
    Py_CLEAR(loop->captured);
    Py_CLEAR(loop->captured_context);
    Py_CLEAR(loop->fatal);
    Py_CLEAR(loop->selector);
    Py_CLEAR(loop->task_factory);
    Py_CLEAR(loop->executor);
    Py_CLEAR(loop->debug_value);
    cdpy_ready_drop(loop->ready); /* it and the list are kept, because methods use them */
    return loop->scheduled == NULL ? 0 : PyList_SetSlice(loop->scheduled, 0, PY_SSIZE_T_MAX, NULL);
}

/* Not in loop_clear: servers and a Poller hold the loop, so only here they are gone and have given
 * the core's loop back. */
static void loop_dealloc(PyObject *self)
{
    cdpy_loop *loop = (cdpy_loop *)self;
    PyObject_GC_UnTrack(self);
    cdpy_fork_remove_loop(loop);
    cdpy_loop_free_core(loop);
    Py_CLEAR(loop->scheduled);
    Py_CLEAR(loop->replaced);
    (void)loop_clear(self);
    Py_XDECREF(loop->ready);
    PyTypeObject *type = Py_TYPE(self);
    type->tp_free(self);
    Py_DECREF(type);
}

PyDoc_STRVAR(
    call_soon_doc,
    "call_soon($self, callback, /, *args, context=None)\n--\n\nAs asyncio.loop.call_soon().");
PyDoc_STRVAR(call_soon_threadsafe_doc,
             "call_soon_threadsafe($self, callback, /, *args, context=None)\n--\n\n"
             "As asyncio.loop.call_soon_threadsafe().");
PyDoc_STRVAR(call_later_doc, "call_later($self, delay, callback, /, *args, context=None)\n--\n\n"
                             "As asyncio.loop.call_later().");
PyDoc_STRVAR(call_at_doc, "call_at($self, when, callback, /, *args, context=None)\n--\n\n"
                          "As asyncio.loop.call_at().");
PyDoc_STRVAR(sock_recv_doc, "sock_recv($self, sock, n, /)\n--\n\nAs asyncio.loop.sock_recv().");
PyDoc_STRVAR(sock_recv_into_doc,
             "sock_recv_into($self, sock, buf, /)\n--\n\nAs asyncio.loop.sock_recv_into().");
PyDoc_STRVAR(sock_sendall_doc,
             "sock_sendall($self, sock, data, /)\n--\n\nAs asyncio.loop.sock_sendall().");
PyDoc_STRVAR(sock_connect_doc, "sock_connect($self, sock, address, /)\n--\n\n"
                               "As asyncio.loop.sock_connect().");
PyDoc_STRVAR(run_in_executor_doc, "run_in_executor($self, executor, func, /, *args)\n--\n\n"
                                  "As asyncio.loop.run_in_executor().");
PyDoc_STRVAR(create_task_doc,
             "create_task($self, coro, /, **kwargs)\n--\n\n"
             "As asyncio.loop.create_task(); also takes what receive() and send() return.");
PyDoc_STRVAR(run_forever_doc, "run_forever($self, /)\n--\n\nAs asyncio.loop.run_forever().");
PyDoc_STRVAR(create_future_doc, "create_future($self, /)\n--\n\nAs asyncio.loop.create_future().");
PyDoc_STRVAR(get_debug_doc, "get_debug($self, /)\n--\n\nAs asyncio.loop.get_debug().");
PyDoc_STRVAR(is_closed_doc, "is_closed($self, /)\n--\n\nAs asyncio.loop.is_closed().");
PyDoc_STRVAR(time_doc, "time($self, /)\n--\n\nAs asyncio.loop.time(): seconds, monotonic.");
PyDoc_STRVAR(
    loop_close_doc,
    "close($self, /)\n--\n\n"
    "As asyncio.loop.close(). RuntimeError while a Server on this loop has not been closed.");

#define LOOP_CALL(name, function, doc) \
    {name, (PyCFunction)(void (*)(void))function, METH_FASTCALL | METH_KEYWORDS, doc}

static PyMethodDef loop_methods[] = {
    LOOP_CALL("call_soon", cdpy_loop_call_soon, call_soon_doc),
    LOOP_CALL("call_soon_threadsafe", cdpy_loop_call_soon_threadsafe, call_soon_threadsafe_doc),
    LOOP_CALL("call_later", cdpy_loop_call_later, call_later_doc),
    LOOP_CALL("call_at", cdpy_loop_call_at, call_at_doc),
    LOOP_CALL("_add_reader", cdpy_loop_add_reader, NULL),
    LOOP_CALL("_add_writer", cdpy_loop_add_writer, NULL),
    {"_remove_reader", cdpy_loop_remove_reader, METH_O, NULL},
    {"_remove_writer", cdpy_loop_remove_writer, METH_O, NULL},
    LOOP_CALL("sock_recv", cdpy_loop_sock_recv, sock_recv_doc),
    LOOP_CALL("sock_recv_into", cdpy_loop_sock_recv_into, sock_recv_into_doc),
    LOOP_CALL("sock_sendall", cdpy_loop_sock_sendall, sock_sendall_doc),
    LOOP_CALL("sock_connect", cdpy_loop_sock_connect, sock_connect_doc),
    LOOP_CALL("_accept_connection", cdpy_loop_accept_connection, NULL),
    {"_ensure_fd_no_transport", cdpy_loop_ensure_no_transport, METH_O, NULL},
    LOOP_CALL("run_in_executor", cdpy_loop_run_in_executor, run_in_executor_doc),
    LOOP_CALL("create_task", loop_create_task, create_task_doc),
    {"create_future", loop_create_future, METH_NOARGS, create_future_doc},
    {"run_forever", cdpy_loop_run_forever, METH_NOARGS, run_forever_doc},
    {"_run_once", cdpy_loop_run_once, METH_NOARGS, NULL},
    {"get_debug", loop_get_debug, METH_NOARGS, get_debug_doc},
    {"is_closed", loop_is_closed, METH_NOARGS, is_closed_doc},
    {"time", loop_time, METH_NOARGS, time_doc},
    {"close", loop_close, METH_NOARGS, loop_close_doc},
    {"_write_to_self", loop_write_to_self, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(
    loop_doc,
    "Base of pyasgi.loop.EventLoop, to stand before asyncio.SelectorEventLoop; of no use alone.\n\n"
    "OSError when the system has no descriptor left.");

static PyType_Slot loop_slots[] = {
    {Py_tp_doc, (void *)loop_doc},   {Py_tp_new, loop_new},
    {Py_tp_traverse, loop_traverse}, {Py_tp_clear, loop_clear},
    {Py_tp_dealloc, loop_dealloc},   {Py_tp_methods, loop_methods},
    {Py_tp_getset, loop_getset},     {Py_tp_members, loop_members},
    {Py_tp_setattro, loop_setattro}, {0, NULL},
};

static PyType_Spec loop_spec = {
    .name = "pyasgi._core.LoopBase",
    .basicsize = sizeof(cdpy_loop),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = loop_slots,
};

static PyObject *import_from(const char *module_name, const char *name)
{
    PyObject *module = PyImport_ImportModule(module_name);
    PyObject *object = module == NULL ? NULL : PyObject_GetAttrString(module, name);
    Py_XDECREF(module);
    return object;
}

int cdpy_loop_init(PyObject *module, cdpy_state *state)
{
    state->loop_asyncio_type = import_from("asyncio", "SelectorEventLoop");
    state->current_task = import_from("asyncio.tasks", CURRENT_TASK);
    state->loop_selector_key = import_from("selectors", "SelectorKey");
    state->loop_context_names = Py_BuildValue("(O)", state->s_context);
    state->loop_task_names = Py_BuildValue("(O)", state->s_loop);
    state->loop_task_name_names = Py_BuildValue("(OO)", state->s_loop, state->s_name);
    state->loop_task_context_names = Py_BuildValue("(OO)", state->s_loop, state->s_context);
    if (state->loop_asyncio_type == NULL || state->current_task == NULL ||
        state->loop_selector_key == NULL || state->loop_context_names == NULL ||
        state->loop_task_names == NULL || state->loop_task_name_names == NULL ||
        state->loop_task_context_names == NULL)
        return -1;
    if (cdpy_add_type(module, &loop_spec, &state->loop_base_type, "LoopBase") < 0)
        return -1;
    return cdpy_poller_init(module, state);
}
