/*
 * turn.c - run_forever() and _run_once(): a turn of the event loop in C, and turn after turn.
 *
 * A turn is asyncio's: sort out cancelled timers, poll (which is also where the servers' work is
 * done, see poller.c), queue what is ready and due, then run what stands in the queue now; what is
 * queued meanwhile waits for the next turn.
 *
 * asyncio's run_forever() calls _run_once() in a Python loop. As long as run_forever() is ours and
 * nobody has put another _run_once() there, one call takes as many turns as there are until stop(),
 * an exception or debug mode. A _run_once() of somebody else's, or one that is called from inside
 * a callback, takes one.
 *
 * asyncio's own _run_once() runs instead in debug mode, for a loop whose selector was replaced, for
 * a class that has its own _process_events() or the like, and where asyncio's methods were replaced
 * (see loop.c).
 *
 * A callback, a task or an application may take a turn from inside: nest_asyncio makes
 * asyncio.run() do so. No state of a turn lives longer than a call that others may make, and the
 * queue is looked at afresh after every callback.
 */
#include "bridge/loop/loop.h"

#include <math.h>

/* ---- one turn ---- */

/* Computes how long the poll may wait, in seconds: 0: not at all; negative: without an end. Returns
 * 0 or -1. */
static int timeout_of(cdpy_loop *loop, double *timeout)
{
    static const double longest = 24 * 3600; /* asyncio.base_events.MAXIMUM_SELECT_TIMEOUT */
    double when, now;
    *timeout = 0;
    if (cdpy_ready_count(loop->ready) > 0 || loop->stopping)
        return 0;
    int found = cdpy_timers_first(loop, &when);
    if (found <= 0) {
        *timeout = -1;
        return found;
    }
    if (cdpy_loop_time(loop, &now) < 0)
        return -1;
    *timeout = fmin(fmax(when - now, 0), longest);
    return 0;
}

static int queue_due(cdpy_loop *loop)
{
    double now;
    if (PyList_GET_SIZE(loop->scheduled) == 0)
        return 0;
    if (cdpy_loop_time(loop, &now) < 0)
        return -1;
    return cdpy_timers_due(loop, now + loop->clock_resolution);
}

static int run_handle(cdpy_state *state, PyObject *handle)
{
    int cancelled = cdpy_handle_cancelled(state, handle);
    return cancelled == 0 ? cdpy_handle_run(state, handle) : cancelled < 0 ? -1 : 0;
}

/* Runs the handles that are queued now. A callback may clear the queue: close() does. */
static int run_ready(cdpy_loop *loop)
{
    cdpy_state *state = loop->state;
    PyObject *handle;
    for (size_t left = cdpy_ready_count(loop->ready); left > 0; left--) {
        if ((handle = cdpy_ready_take(loop->ready)) == NULL)
            break;
        int result = run_handle(state, handle);
        if (loop->inherited)
            result = cdpy_fork_end(loop);
        Py_DECREF(handle);
        if (result < 0)
            return -1;
    }
    return 0;
}

static int take_turn(cdpy_loop *loop)
{
    double timeout;
    if (cdpy_timers_tidy(loop) < 0 || timeout_of(loop, &timeout) < 0)
        return -1;
    if (cdpy_poller_turn(loop->selector, timeout) < 0 || queue_due(loop) < 0)
        return -1;
    return run_ready(loop);
}

/* ---- a turn inside a task ---- */

/*
 * asyncio refuses to step a task while another one is current. A task that runs the loop again
 * (nest_asyncio allows it) waits for that turn, and so is not current while others run.
 */
#if PY_VERSION_HEX >= 0x030E0000
static PyObject *swap_task(cdpy_loop *loop, PyObject *task)
{
    PyObject *args[] = {(PyObject *)loop, task ? task : Py_None};
    return PyObject_Vectorcall(loop->state->current_task, args, 2, NULL);
}
#else
static PyObject *swap_task(cdpy_loop *loop, PyObject *task)
{
    PyObject *tasks = loop->state->current_task, *key = (PyObject *)loop;
    PyObject *before = Py_XNewRef(PyDict_GetItemWithError(tasks, key));
    int result = PyErr_Occurred() ? -1 : 0;
    if (result == 0 && task)
        result = PyDict_SetItem(tasks, key, task);
    else if (result == 0 && before)
        result = PyDict_DelItem(tasks, key);
    if (result < 0)
        Py_CLEAR(before);
    else if (before == NULL)
        before = Py_NewRef(Py_None);
    return before;
}
#endif

int cdpy_set_task_aside(cdpy_loop *loop, PyObject **task)
{
    *task = NULL;
    if (loop->thread == 0 || !cdpy_loop_mine(loop))
        return 0;
    *task = swap_task(loop, NULL);
    if (*task == Py_None)
        Py_CLEAR(*task);
    return PyErr_Occurred() ? -1 : 0;
}

int cdpy_put_task_back(cdpy_loop *loop, PyObject *task)
{
    if (task == NULL)
        return 0;
    PyObject *error = cdpy_error_take();
    PyObject *none = swap_task(loop, task);
    Py_DECREF(task);
    if (none == NULL) {
        Py_XDECREF(error);
        return -1;
    }
    Py_DECREF(none);
    cdpy_error_put(error);
    return 0;
}

/* ---- turn after turn ---- */

static bool is_plain(const cdpy_loop *loop)
{
    return loop->plain && !loop->slow && cdpy_poller_serves(loop->selector, loop) &&
           PyList_CheckExact(loop->scheduled);
}

/* asyncio's turn runs as many handles as there were at its start. It finds an empty queue when one
 * of them has taken turns itself, or has come back in a forked child: then the turn ends without an
 * error. */
static PyObject *run_as_asyncio(cdpy_loop *loop)
{
    PyObject *result = cdpy_loop_call_base(loop, loop->state->s__run_once);
    if (result != NULL || !PyErr_ExceptionMatches(PyExc_IndexError) ||
        cdpy_ready_count(loop->ready) > 0)
        return result;
    PyErr_Clear();
    Py_RETURN_NONE;
}

static PyObject *run_asyncios(cdpy_loop *loop)
{
    PyObject *result = run_as_asyncio(loop);
    if (!loop->inherited)
        return result;
    Py_XDECREF(result);
    (void)cdpy_fork_end(loop);
    return NULL;
}

static PyObject *run_once(cdpy_loop *loop)
{
    bool many = loop->forever;
    if (!is_plain(loop))
        return run_asyncios(loop);
    loop->forever = false; /* a _run_once() from inside takes one turn only */
    int result;
    do
        result = take_turn(loop);
    while (result == 0 && many && !loop->stopping && is_plain(loop));
    loop->forever = many;
    if (result < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyObject *cdpy_loop_run_once(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    cdpy_loop *loop = (cdpy_loop *)self;
    PyObject *task;
    if (cdpy_set_task_aside(loop, &task) < 0)
        return NULL;
    PyObject *result = run_once(loop);
    if (cdpy_put_task_back(loop, task) < 0)
        Py_CLEAR(result);
    return result;
}

/* Is self._run_once the method of this file? */
static bool runs_ours(PyObject *self, const cdpy_state *state)
{
    PyObject *method = PyObject_GetAttr(self, state->s__run_once);
    bool ours = method != NULL && PyCFunction_Check(method) &&
                PyCFunction_GET_FUNCTION(method) == cdpy_loop_run_once;
    Py_XDECREF(method);
    PyErr_Clear(); /* without the attribute asyncio raises the error */
    return ours;
}

PyObject *cdpy_loop_run_forever(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    cdpy_loop *loop = (cdpy_loop *)self;
    bool outermost = loop->thread == 0; /* else asyncio raises */
    if (outermost)
        loop->forever = runs_ours(self, loop->state);
    PyObject *result = cdpy_loop_call_base(loop, loop->state->s_run_forever);
    if (outermost)
        loop->forever = false;
    return result;
}
