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
 * asyncio's own _run_once() runs instead in debug mode, for a loop whose selector was replaced and
 * for a class that has its own _process_events() or the like.
 */
#include "bridge.h"

#include <math.h>

/* ---- one turn ---- */

/* Seconds the poll may take: 0 not at all, negative for ever. 0 or -1. */
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

/* Runs what is queued now. A callback may clear the queue: close() does. */
static int run_ready(cdpy_loop *loop)
{
    cdpy_state *state = loop->state;
    PyObject *handle;
    for (size_t left = cdpy_ready_count(loop->ready); left > 0; left--) {
        if ((handle = cdpy_ready_take(loop->ready)) == NULL)
            break;
        int result = run_handle(state, handle);
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

/* ---- turn after turn ---- */

static bool is_plain(const cdpy_loop *loop)
{
    return loop->plain && !loop->debug && cdpy_poller_serves(loop->selector, loop) &&
           PyList_CheckExact(loop->scheduled);
}

PyObject *cdpy_loop_run_once(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    cdpy_loop *loop = (cdpy_loop *)self;
    bool many = loop->forever;
    if (!is_plain(loop))
        return PyObject_CallOneArg(loop->state->loop_run_once, self);
    loop->forever = false; /* for a call from inside */
    int result;
    do
        result = take_turn(loop);
    while (result == 0 && many && !loop->stopping && is_plain(loop));
    loop->forever = many;
    if (result < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* Is self._run_once what this file has? */
static bool runs_ours(PyObject *self, const cdpy_state *state)
{
    PyObject *method = PyObject_GetAttr(self, state->s__run_once);
    bool ours = method != NULL && PyCFunction_Check(method) &&
                PyCFunction_GET_FUNCTION(method) == cdpy_loop_run_once;
    Py_XDECREF(method);
    PyErr_Clear(); /* without the attribute asyncio says so */
    return ours;
}

PyObject *cdpy_loop_run_forever(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    cdpy_loop *loop = (cdpy_loop *)self;
    bool outermost =
        loop->thread == 0; /* else asyncio raises, and the one that runs stays the owner */
    if (outermost) {
        loop->thread = PyThread_get_thread_ident();
        loop->forever = runs_ours(self, loop->state);
    }
    PyObject *result = PyObject_CallOneArg(loop->state->loop_run_forever, self);
    if (outermost) {
        loop->thread = 0;
        loop->forever = false;
    }
    return result;
}
