/*
 * replaced.c - asyncio's own methods, which stand behind ours, and whether others have replaced
 * them.
 *
 * Ours stand first in the bases, so what a monitor puts in the place of BaseEventLoop.call_soon or
 * Handle._run would never be called. Each new loop therefore looks whether asyncio's methods still
 * are asyncio's: functions of a module of that package, which a wrapper is not, whatever name it
 * gives itself. If one is not, the loop goes asyncio's way in everything, as in debug mode: slower,
 * and through whatever was put there. The loop's `replaced` names them.
 *
 * What is replaced later, on the classes, under a loop that exists already, is not seen by that
 * loop. Looking at each call would cost more than the calls.
 */
#include "bridge/loop/loop.h"

/* C calls asyncio's methods through slots of the state; NULL: there are none. */
typedef struct {
    PyObject **slot;
    const char *name;
} method;

#define METHODS 24

static size_t list_methods(cdpy_state *state, method *methods)
{
    const method all[METHODS] = {
        {&state->loop_call_soon, "call_soon"},
        {&state->loop_call_soon_threadsafe, "call_soon_threadsafe"},
        {&state->loop_call_later, "call_later"},
        {&state->loop_call_at, "call_at"},
        {&state->loop_create_task, "create_task"},
        {&state->loop_create_future, "create_future"},
        {&state->loop_add_reader, "_add_reader"},
        {&state->loop_add_writer, "_add_writer"},
        {&state->loop_remove_reader, "_remove_reader"},
        {&state->loop_remove_writer, "_remove_writer"},
        {&state->loop_sock_recv, "sock_recv"},
        {&state->loop_sock_recv_into, "sock_recv_into"},
        {&state->loop_sock_sendall, "sock_sendall"},
        {&state->loop_sock_connect, "sock_connect"},
        {&state->loop_accept_connection, "_accept_connection"},
        {&state->loop_check_no_transport, "_ensure_fd_no_transport"},
        {&state->loop_run_in_executor, "run_in_executor"},
        {NULL, "run_forever"},
        {NULL, "_run_once"},
        {NULL, "_process_events"},
        {NULL, "_add_callback"},
        {NULL, "_timer_handle_cancelled"},
        {NULL, "time"},
        {NULL, "close"},
    };
    memcpy(methods, all, sizeof all);
    return METHODS;
}

/* Attributes of asyncio that are compared, too: the functions of the classes, and what
 * create_task() makes. */
static int check_function(PyObject *function, const char *name, PyObject *names)
{
    PyObject *module = NULL, *text;
    if (PyFunction_Check(function))
        module = PyDict_GetItemString(PyFunction_GET_GLOBALS(function), "__name__");
    if (module != NULL && PyUnicode_Check(module)) {
        const char *utf8 = PyUnicode_AsUTF8(module);
        if (utf8 == NULL)
            return -1;
        if (strncmp(utf8, "asyncio.", 8) == 0)
            return 0;
    }
    if ((text = PyUnicode_FromString(name)) == NULL)
        return -1;
    int result = PyList_Append(names, text);
    Py_DECREF(text);
    return result;
}

static int look_at_methods(cdpy_state *state, PyObject *names)
{
    method methods[METHODS];
    size_t count = list_methods(state, methods);
    for (size_t i = 0; i < count; i++) {
        PyObject *function = PyObject_GetAttrString(state->loop_asyncio_type, methods[i].name);
        if (function == NULL || check_function(function, methods[i].name, names) < 0) {
            Py_XDECREF(function);
            return -1;
        }
        if (methods[i].slot != NULL)
            Py_XSETREF(*methods[i].slot, function);
        else
            Py_DECREF(function);
    }
    return 0;
}

/* Handle._run and the like. */
static int look_at_handles(const cdpy_state *state, PyObject *names)
{
    static const struct {
        bool timer;
        const char *attribute, *name;
    } steps[] = {
        {false, "__init__", "Handle.__init__"}, {false, "_run", "Handle._run"},
        {false, "cancel", "Handle.cancel"},     {true, "_run", "TimerHandle._run"},
        {true, "cancel", "TimerHandle.cancel"},
    };
    int result = 0;
    for (size_t i = 0; result == 0 && i < sizeof steps / sizeof *steps; i++) {
        PyObject *type = steps[i].timer ? state->timer_handle_type : state->handle_type;
        PyObject *base = (PyObject *)((PyTypeObject *)type)->tp_base;
        PyObject *function = PyObject_GetAttrString(base, steps[i].attribute);
        result = function == NULL ? -1 : check_function(function, steps[i].name, names);
        Py_XDECREF(function);
    }
    return result;
}

/* asyncio.tasks.Task and asyncio.futures.Future, which its create_task() and create_future() look
 * up at each call. */
static int look_at_class(const char *module, const char *name, PyObject *ours, PyObject *names)
{
    PyObject *theirs = NULL, *asyncio = PyImport_ImportModule(module);
    if (asyncio != NULL)
        theirs = PyObject_GetAttrString(asyncio, name);
    int result = theirs == NULL ? -1 : 0;
    if (result == 0 && theirs != ours) {
        PyObject *text = PyUnicode_FromString(name);
        result = text == NULL ? -1 : PyList_Append(names, text);
        Py_XDECREF(text);
    }
    Py_XDECREF(theirs);
    Py_XDECREF(asyncio);
    return result;
}

PyObject *cdpy_replaced(cdpy_state *state)
{
    PyObject *names = PyList_New(0), *tuple = NULL;
    if (names != NULL && look_at_methods(state, names) == 0 && look_at_handles(state, names) == 0 &&
        look_at_class("asyncio.tasks", "Task", state->task_type, names) == 0 &&
        look_at_class("asyncio.futures", "Future", state->future_type, names) == 0)
        tuple = PyList_AsTuple(names);
    Py_XDECREF(names);
    return tuple;
}

PyObject *cdpy_loop_call_base(cdpy_loop *loop, PyObject *name)
{
    PyObject *function = PyObject_GetAttr(loop->state->loop_asyncio_type, name);
    PyObject *result = function == NULL ? NULL : PyObject_CallOneArg(function, (PyObject *)loop);
    Py_XDECREF(function);
    return result;
}
