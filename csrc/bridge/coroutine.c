/*
 * coroutine.c - awaitables that have to be coroutines.
 *
 * asyncio.create_task() and run_coroutine_threadsafe() take coroutines and nothing else. Ours are
 * two functions of pyasgi/_awaiting.py, which is imported when the first one is needed: few
 * programs do.
 *
 * Both halves of the bridge use them: the loop's create_task() for what receive() returns, the
 * server for applications that return no coroutine and for calls from other threads.
 */
#include "bridge/state.h"

/* ---- coroutines around it ---- */

static PyObject *coroutine_function(PyObject **slot, const char *name)
{
    if (*slot == NULL) {
        PyObject *module = PyImport_ImportModule("pyasgi._awaiting");
        if (module == NULL)
            return NULL;
        *slot = PyObject_GetAttrString(module, name);
        Py_DECREF(module);
    }
    return *slot;
}

PyObject *cdpy_wrap_awaitable(cdpy_state *state, PyObject *awaitable)
{
    PyObject *function = coroutine_function(&state->await_on, "await_on");
    return function ? PyObject_CallOneArg(function, awaitable) : NULL;
}

PyObject *cdpy_call_later(cdpy_state *state, PyObject *callable, PyObject *event)
{
    PyObject *function = coroutine_function(&state->call_on, "call_on");
    return function ? PyObject_CallFunctionObjArgs(function, callable, event, NULL) : NULL;
}
