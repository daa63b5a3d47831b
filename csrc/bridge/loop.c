/*
 * loop.c - LoopBase, the part of pyasgi.loop.EventLoop that is C: it stands before
 * asyncio.SelectorEventLoop in the bases.
 *
 * It owns the core's loop, and does the four things asyncio's classes cannot do for the bridge: set
 * one call_soon() aside (so that a Task can be started at once on Python 3.11), run a callback as a
 * Handle would but now, take a Waiter in create_task(), and wake the poller from any thread without
 * a byte through a socket. Everything else is asyncio's own code, called through unbound functions
 * that are looked up once.
 *
 * asyncio's debug mode switches the short cuts off: every callback then goes through a Handle of
 * asyncio, which checks threads, keeps tracebacks and times it. Waiting for descriptors is
 * poller.c's.
 */
#include "bridge.h"

#include <errno.h>
#include <string.h>

/* Most positional arguments of a call that is passed on without allocating. */
enum { ON_STACK = 8 };

/* ---- passing on to asyncio ---- */

/* function(self, *args, **names), for the arguments of a METH_FASTCALL | METH_KEYWORDS method. */
static PyObject *pass_on(PyObject *function, PyObject *self, PyObject *const *args,
                         Py_ssize_t count, PyObject *names)
{
    PyObject *few[ON_STACK], **all = few;
    size_t total = (size_t)count + (names == NULL ? 0 : (size_t)PyTuple_GET_SIZE(names));
    if (total >= ON_STACK)
        all = PyMem_Malloc((total + 1) * sizeof *all);
    if (all == NULL)
        return PyErr_NoMemory();
    all[0] = self;
    if (total > 0)
        memcpy(all + 1, args, total * sizeof *all);
    PyObject *result = PyObject_Vectorcall(function, all, (size_t)count + 1, names);
    if (all != few)
        PyMem_Free(all);
    return result;
}

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

static bool names_context_only(PyObject *names)
{
    return names == NULL ||
           (PyTuple_GET_SIZE(names) == 1 &&
            PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "context") == 0);
}

/* A Task's first step: no arguments, at most a context, from the thread of the loop. */
static bool is_first_step(const cdpy_loop *loop, Py_ssize_t count, PyObject *names)
{
    return loop->armed && !loop->debug && count == 1 && names_context_only(names) &&
           cdpy_loop_mine(loop);
}

static PyObject *capture(cdpy_loop *loop, PyObject *const *args, PyObject *names)
{
    loop->armed = false;
    loop->captured =
        Py_NewRef(args[0]); /* both: whoever calls cdpy_loop_take_capture, or loop_clear */
    if (names != NULL && args[1] != Py_None)
        loop->captured_context = Py_NewRef(args[1]);
    Py_RETURN_NONE;
}

static PyObject *loop_call_soon(PyObject *self, PyObject *const *args, Py_ssize_t count,
                                PyObject *names)
{
    cdpy_loop *loop = (cdpy_loop *)self;
    if (loop->armed && is_first_step(loop, count, names))
        return capture(loop, args, names);
    return pass_on(loop->state->loop_call_soon, self, args, count, names);
}

/* ---- callbacks from the bridge ---- */

int cdpy_call_soon(cdpy_loop *loop, PyObject *callback, PyObject *arg, PyObject *context)
{
    cdpy_state *state = loop->state;
    PyObject *function =
        cdpy_loop_mine(loop) ? state->loop_call_soon : state->loop_call_soon_threadsafe;
    PyObject *args[] = {(PyObject *)loop, callback, arg, context};
    PyObject *names = context == NULL ? NULL : state->loop_context_names;
    PyObject *handle = PyObject_Vectorcall(function, args, 3, names);
    Py_XDECREF(handle);
    return handle == NULL ? -1 : 0;
}

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
        result == NULL ? cdpy_error_take() : NULL; /* leaving a context wants none set */
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
    if (own == NULL || loop->debug || PyContext_Enter(own) < 0)
        step_later(loop, callback, arg, context);
    else
        step_in(loop, callback, arg, own);
    Py_XDECREF(own);
}

/* What ends the program; of several the first. */
static void set_fatal(cdpy_loop *loop, PyObject *exception)
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
    if (PyErr_GivenExceptionMatches(exception, PyExc_KeyboardInterrupt) ||
        PyErr_GivenExceptionMatches(exception, PyExc_SystemExit)) {
        set_fatal(loop, exception);
        Py_DECREF(exception);
        return;
    }
    PyObject *result = tell_handler(loop, exception, message);
    Py_DECREF(exception);
    if (result == NULL) { /* asyncio lets only what ends the program out of its handler */
        exception = cdpy_error_take();
        set_fatal(loop, exception);
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

cd_loop *cdpy_loop_core(PyObject *loop)
{
    return ((cdpy_loop *)loop)->core;
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
}

/* ---- asyncio's methods with something of ours before them ---- */

static PyObject *loop_create_task(PyObject *self, PyObject *const *args, Py_ssize_t count,
                                  PyObject *names)
{
    cdpy_state *state = ((cdpy_loop *)self)->state;
    if (count != 1 || !cdpy_waiter_check(state, args[0]))
        return pass_on(state->loop_create_task, self, args, count, names);
    PyObject *coroutine = cdpy_wrap_awaitable(state, args[0]);
    if (coroutine == NULL)
        return NULL;
    PyObject *copy[ON_STACK] = {coroutine};
    Py_ssize_t named = names == NULL ? 0 : PyTuple_GET_SIZE(names);
    PyObject *task = NULL;
    if (named < ON_STACK) {
        memcpy(copy + 1, args + 1, (size_t)named * sizeof *copy);
        task = pass_on(state->loop_create_task, self, copy, 1, names);
    } else {
        PyErr_SetString(PyExc_TypeError, "create_task() got too many keyword arguments");
    }
    Py_DECREF(coroutine);
    return task;
}

static PyObject *loop_run_forever(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    cdpy_loop *loop = (cdpy_loop *)self;
    bool outermost =
        loop->thread == 0; /* else asyncio raises, and the one that runs stays the owner */
    if (outermost)
        loop->thread = PyThread_get_thread_ident();
    PyObject *result = PyObject_CallOneArg(loop->state->loop_run_forever, self);
    if (outermost)
        loop->thread = 0;
    return result;
}

static PyObject *loop_set_debug(PyObject *self, PyObject *enabled)
{
    cdpy_loop *loop = (cdpy_loop *)self;
    int debug = PyObject_IsTrue(enabled);
    if (debug < 0)
        return NULL;
    loop->debug = debug;
    PyObject *args[] = {self, enabled};
    return PyObject_Vectorcall(loop->state->loop_set_debug, args, 2, NULL);
}

static PyObject *loop_close(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    cdpy_loop *loop = (cdpy_loop *)self;
    /* A running loop has its own refusal, which comes first. */
    if (loop->thread == 0 && cdpy_loop_check_servers(loop) < 0)
        return NULL;
    return PyObject_CallOneArg(loop->state->loop_close, self);
}

static PyObject *loop_write_to_self(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    cd_loop *core = ((cdpy_loop *)self)->core;
    if (core != NULL)
        cd_loop_wake(core);
    Py_RETURN_NONE;
}

/* ---- life ---- */

static cdpy_loop *loop_alloc(PyTypeObject *type, cdpy_state *state)
{
    cdpy_loop *loop = (cdpy_loop *)type->tp_alloc(type, 0);
    if (loop == NULL)
        return NULL;
    loop->state = state;
    errno = 0;
    loop->core = cd_loop_new();
    if (loop->core != NULL)
        return loop;
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

/* Arguments are for __init__ of the classes behind us. */
static PyObject *loop_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
                          PyObject *Py_UNUSED(kwargs))
{
    PyObject *module = PyType_GetModuleByDef(type, &cdpy_module);
    return module == NULL ? NULL : (PyObject *)loop_alloc(type, PyModule_GetState(module));
}

static int loop_traverse(PyObject *self, visitproc visit, void *arg)
{
    cdpy_loop *loop = (cdpy_loop *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(loop->captured);
    Py_VISIT(loop->captured_context);
    Py_VISIT(loop->fatal);
    return 0;
}

static int loop_clear(PyObject *self)
{
    cdpy_loop *loop = (cdpy_loop *)self;
    Py_CLEAR(loop->captured);
    Py_CLEAR(loop->captured_context);
    Py_CLEAR(loop->fatal);
    return 0;
}

/* Not in loop_clear: servers and a Poller hold us, so here they are gone and have let the core's
 * loop go. */
static void loop_dealloc(PyObject *self)
{
    cdpy_loop_free_core((cdpy_loop *)self);
    CDPY_DEALLOC(self, loop_clear);
}

PyDoc_STRVAR(
    call_soon_doc,
    "call_soon($self, callback, /, *args, context=None)\n--\n\nAs asyncio.loop.call_soon().");
PyDoc_STRVAR(create_task_doc,
             "create_task($self, coro, /, **kwargs)\n--\n\n"
             "As asyncio.loop.create_task(); also takes what receive() and send() return.");
PyDoc_STRVAR(run_forever_doc, "run_forever($self, /)\n--\n\nAs asyncio.loop.run_forever().");
PyDoc_STRVAR(set_debug_doc, "set_debug($self, enabled, /)\n--\n\nAs asyncio.loop.set_debug().");
PyDoc_STRVAR(
    loop_close_doc,
    "close($self, /)\n--\n\n"
    "As asyncio.loop.close(). RuntimeError while a Server on this loop has not been closed.");

static PyMethodDef loop_methods[] = {
    {"call_soon", (PyCFunction)(void (*)(void))loop_call_soon, METH_FASTCALL | METH_KEYWORDS,
     call_soon_doc},
    {"create_task", (PyCFunction)(void (*)(void))loop_create_task, METH_FASTCALL | METH_KEYWORDS,
     create_task_doc},
    {"run_forever", loop_run_forever, METH_NOARGS, run_forever_doc},
    {"set_debug", loop_set_debug, METH_O, set_debug_doc},
    {"close", loop_close, METH_NOARGS, loop_close_doc},
    {"_write_to_self", loop_write_to_self, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(
    loop_doc,
    "Base of pyasgi.loop.EventLoop, to stand before asyncio.SelectorEventLoop; of no use alone.\n\n"
    "OSError when the system has no descriptor left.");

static PyType_Slot loop_slots[] = {
    {Py_tp_doc, (void *)loop_doc},
    {Py_tp_new, loop_new},
    {Py_tp_traverse, loop_traverse},
    {Py_tp_clear, loop_clear},
    {Py_tp_dealloc, loop_dealloc},
    {Py_tp_methods, loop_methods},
    {0, NULL},
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

/* asyncio's own methods, as functions to call with the loop. */
static int find_methods(cdpy_state *state)
{
    struct {
        PyObject **slot;
        const char *name;
    } methods[] = {
        {&state->loop_call_soon, "call_soon"},
        {&state->loop_call_soon_threadsafe, "call_soon_threadsafe"},
        {&state->loop_create_task, "create_task"},
        {&state->loop_run_forever, "run_forever"},
        {&state->loop_set_debug, "set_debug"},
        {&state->loop_close, "close"},
    };
    PyObject *base = import_from("asyncio", "SelectorEventLoop");
    int result = base == NULL ? -1 : 0;
    for (size_t i = 0; result == 0 && i < sizeof methods / sizeof *methods; i++) {
        *methods[i].slot = PyObject_GetAttrString(base, methods[i].name);
        result = *methods[i].slot == NULL ? -1 : 0;
    }
    Py_XDECREF(base);
    return result;
}

int cdpy_loop_init(PyObject *module, cdpy_state *state)
{
    if (find_methods(state) < 0)
        return -1;
    state->loop_selector_key = import_from("selectors", "SelectorKey");
    state->loop_context_names = Py_BuildValue("(O)", state->s_context);
    if (state->loop_selector_key == NULL || state->loop_context_names == NULL)
        return -1;
    if (cdpy_add_type(module, &loop_spec, &state->loop_base_type, "LoopBase") < 0)
        return -1;
    return cdpy_poller_init(module, state);
}
