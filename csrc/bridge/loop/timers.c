/*
 * timers.c - the timers of a loop: a heap of TimerHandles in the list that asyncio calls
 * loop._scheduled.
 *
 * It is the heap of Python's heapq, in the same order, so asyncio's code may push to it and pop
 * from it (it does in debug mode) and programs may look into it. Two handles of ours are compared
 * by their times, anything else by Python's `<`, which can run any code: the list is looked at
 * afresh after each such comparison.
 *
 * A cancelled timer stays where it is until it comes to the front, or until so many are cancelled
 * that asyncio, too, would sort them out: thousands of timeouts that are cancelled in time cost a
 * flag each and not a search.
 */
#include "bridge/loop/loop.h"

/* asyncio.base_events._MIN_SCHEDULED_TIMER_HANDLES and _MIN_CANCELLED_TIMER_HANDLES_FRACTION: from
 * this many timers on, once more than this share is cancelled. */
enum { FEW_TIMERS = 100 };
static const double MOST_CANCELLED = 0.5;

/* ---- the heap ---- */

static int less_as_python(PyObject *heap, PyObject *a, PyObject *b)
{
    Py_ssize_t size = PyList_GET_SIZE(heap);
    Py_INCREF(a); /* both: below */
    Py_INCREF(b);
    int result = PyObject_RichCompareBool(a, b, Py_LT);
    Py_DECREF(a);
    Py_DECREF(b);
    if (result >= 0 && size != PyList_GET_SIZE(heap)) {
        PyErr_SetString(PyExc_RuntimeError, "loop._scheduled changed size during a comparison");
        return -1;
    }
    return result;
}

/* Is heap[i] < heap[j]? -1 with an exception. */
static int less(const cdpy_state *state, PyObject *heap, Py_ssize_t i, Py_ssize_t j)
{
    PyObject *a = PyList_GET_ITEM(heap, i), *b = PyList_GET_ITEM(heap, j);
    double when_a, when_b;
    if (cdpy_timer_when(state, a, &when_a) && cdpy_timer_when(state, b, &when_b))
        return when_a < when_b;
    return less_as_python(heap, a, b);
}

static void swap(PyObject *heap, Py_ssize_t i, Py_ssize_t j)
{
    PyObject *a = PyList_GET_ITEM(heap, i);
    PyList_SET_ITEM(heap, i, PyList_GET_ITEM(heap, j));
    PyList_SET_ITEM(heap, j, a);
}

/* Moves the item at i towards the front while it is less, but not before `first`. */
static int rise(const cdpy_state *state, PyObject *heap, Py_ssize_t first, Py_ssize_t i)
{
    while (i > first) {
        Py_ssize_t parent = (i - 1) / 2;
        int before = less(state, heap, i, parent);
        if (before <= 0)
            return before;
        swap(heap, i, parent);
        i = parent;
    }
    return 0;
}

/* Returns the place where sink() would put the item at i, if all handles on the way are ours: then
 * no Python code runs, so the item need not be moved step by step. */
static Py_ssize_t sink_past_ours(const cdpy_state *state, PyObject *heap, Py_ssize_t i)
{
    PyObject **items = ((PyListObject *)heap)->ob_item, *item = items[i];
    Py_ssize_t size = PyList_GET_SIZE(heap), child;
    double left, right;
    while ((child = 2 * i + 1) + 1 < size && cdpy_timer_when(state, items[child], &left) &&
           cdpy_timer_when(state, items[child + 1], &right)) {
        child += !(left < right);
        items[i] = items[child];
        i = child;
    }
    items[i] = item;
    return i;
}

/* Moves the item at i to a leaf, always along the lesser child, and from there back up. */
static int sink(const cdpy_state *state, PyObject *heap, Py_ssize_t i)
{
    Py_ssize_t first = i, size = PyList_GET_SIZE(heap);
    i = sink_past_ours(state, heap, i);
    while (2 * i + 1 < size) {
        Py_ssize_t child = 2 * i + 1;
        if (child + 1 < size) {
            int left = less(state, heap, child, child + 1);
            if (left < 0)
                return -1;
            child += !left;
        }
        swap(heap, i, child);
        i = child;
    }
    return rise(state, heap, first, i);
}

static int push(const cdpy_state *state, PyObject *heap, PyObject *handle)
{
    if (PyList_Append(heap, handle) < 0)
        return -1;
    return rise(state, heap, 0, PyList_GET_SIZE(heap) - 1);
}

/* Returns the first timer, a new reference; NULL with an exception. */
static PyObject *pop(const cdpy_state *state, PyObject *heap)
{
    Py_ssize_t last = PyList_GET_SIZE(heap) - 1;
    swap(heap, 0, last);
    PyObject *first = Py_NewRef(PyList_GET_ITEM(heap, last));
    if (PyList_SetSlice(heap, last, PY_SSIZE_T_MAX, NULL) < 0 ||
        (last > 0 && sink(state, heap, 0) < 0))
        Py_CLEAR(first);
    return first;
}

/* ---- the loop's timers ---- */

int cdpy_timers_add(cdpy_loop *loop, PyObject *handle)
{
    if (push(loop->state, loop->scheduled, handle) < 0)
        return -1;
    return cdpy_timer_set_scheduled(loop->state, handle, true);
}

static PyObject *first_of(const cdpy_loop *loop)
{
    return PyList_GET_SIZE(loop->scheduled) > 0 ? PyList_GET_ITEM(loop->scheduled, 0) : NULL;
}

/* Removes the first timer. */
static PyObject *take_first(cdpy_loop *loop)
{
    PyObject *handle = pop(loop->state, loop->scheduled);
    if (handle != NULL && cdpy_timer_set_scheduled(loop->state, handle, false) < 0)
        Py_CLEAR(handle);
    return handle;
}

static int drop_cancelled_first(cdpy_loop *loop)
{
    PyObject *first;
    while ((first = first_of(loop)) != NULL) {
        int cancelled = cdpy_handle_cancelled(loop->state, first);
        if (cancelled <= 0)
            return cancelled;
        loop->timer_cancelled_count--;
        first = take_first(loop);
        if (first == NULL)
            return -1;
        Py_DECREF(first);
    }
    return 0;
}

/* Puts the handle on `kept` unless it is cancelled. */
static int keep(cdpy_loop *loop, PyObject *kept, PyObject *handle)
{
    int cancelled = cdpy_handle_cancelled(loop->state, handle);
    if (cancelled > 0)
        return cdpy_timer_set_scheduled(loop->state, handle, false);
    return cancelled < 0 ? -1 : push(loop->state, kept, handle);
}

static int drop_all_cancelled(cdpy_loop *loop)
{
    PyObject *kept = PyList_New(0), *all = Py_NewRef(loop->scheduled);
    int result = kept == NULL ? -1 : 0;
    for (Py_ssize_t i = 0; result == 0 && i < PyList_GET_SIZE(all); i++) {
        PyObject *handle = Py_NewRef(PyList_GET_ITEM(all, i));
        result = keep(loop, kept, handle);
        Py_DECREF(handle);
    }
    if (result == 0) {
        Py_SETREF(loop->scheduled, Py_NewRef(kept));
        loop->timer_cancelled_count = 0;
    }
    Py_DECREF(all);
    Py_XDECREF(kept);
    return result;
}

int cdpy_timers_tidy(cdpy_loop *loop)
{
    Py_ssize_t count = PyList_GET_SIZE(loop->scheduled);
    if (count > FEW_TIMERS && (double)loop->timer_cancelled_count / (double)count > MOST_CANCELLED)
        return drop_all_cancelled(loop);
    return drop_cancelled_first(loop);
}

/* Stores handle._when. Returns 0 or -1. */
static int when_of(const cdpy_state *state, PyObject *handle, double *when)
{
    if (cdpy_timer_when(state, handle, when))
        return 0;
    PyObject *value = PyObject_GetAttr(handle, state->s__when);
    *when = value == NULL ? -1 : PyFloat_AsDouble(value);
    Py_XDECREF(value);
    return *when == -1 && PyErr_Occurred() ? -1 : 0;
}

int cdpy_timers_first(cdpy_loop *loop, double *when)
{
    PyObject *first = first_of(loop);
    if (first == NULL)
        return 0;
    return when_of(loop->state, first, when) < 0 ? -1 : 1;
}

int cdpy_timers_due(cdpy_loop *loop, double now)
{
    double when;
    int found;
    while ((found = cdpy_timers_first(loop, &when)) > 0 && when < now) {
        PyObject *handle = take_first(loop);
        int result = handle == NULL ? -1 : cdpy_ready_push(loop->ready, handle);
        Py_XDECREF(handle);
        if (result < 0)
            return -1;
    }
    return found < 0 ? -1 : 0;
}
