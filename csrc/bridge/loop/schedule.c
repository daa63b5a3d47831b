/*
 * schedule.c - call_soon(), call_soon_threadsafe(), call_later() and call_at().
 *
 * Each makes a handle (handle.c) and puts it on the loop's queue (ready.c) or among its timers
 * (timers.c). What is unusual goes to asyncio's own method, which does it or says what is wrong: a
 * keyword other than context, a closed loop, and everything in debug mode, in which asyncio checks
 * thread and callback and keeps tracebacks.
 *
 * call_soon_threadsafe() needs no queue of its own. The queue is touched with the GIL held, and the
 * loop lets go of the GIL between looking at the queue and sleeping only when it says so first:
 * hence the eventfd is written to only while the loop really sleeps. A hand-over to a busy loop
 * costs no system call.
 */
#include "bridge/loop/loop.h"

#include <string.h>

/* Most positional arguments of a call that is passed on without allocating. */
enum { ON_STACK = 8 };

PyObject *cdpy_pass_on(PyObject *function, PyObject *self, PyObject *const *args, Py_ssize_t count,
                       PyObject *names)
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

/* ---- arguments ---- */

/* Are there no keywords, or only `context`? */
static bool names_context_only(const cdpy_state *state, PyObject *names)
{
    if (names == NULL)
        return true;
    if (PyTuple_GET_SIZE(names) != 1)
        return false;
    return cdpy_is(PyTuple_GET_ITEM(names, 0), state->s_context);
}

/* Returns the context that was given; NULL: the current one. */
static PyObject *context_of(PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    if (names == NULL || PyTuple_GET_SIZE(names) == 0 || args[count] == Py_None)
        return NULL;
    return args[count];
}

PyObject *cdpy_tuple_of(PyObject *const *args, Py_ssize_t count)
{
    PyObject *tuple = PyTuple_New(count);
    for (Py_ssize_t i = 0; tuple != NULL && i < count; i++)
        PyTuple_SET_ITEM(tuple, i, Py_NewRef(args[i])); /* the tuple's dealloc */
    return tuple;
}

static bool is_usual(const cdpy_loop *loop, Py_ssize_t count, Py_ssize_t least, PyObject *names)
{
    return !loop->slow && !loop->closed && count >= least &&
           (names == NULL || names_context_only(loop->state, names));
}

/* ---- as soon as possible ---- */

static PyObject *queue(cdpy_loop *loop, PyObject *const *args, Py_ssize_t count, PyObject *context)
{
    PyObject *rest = cdpy_tuple_of(args + 1, count - 1);
    PyObject *handle = rest == NULL ? NULL : cdpy_handle_new(loop, args[0], rest, context);
    if (handle != NULL && cdpy_ready_push(loop->ready, handle) < 0)
        Py_CLEAR(handle);
    return handle;
}

/* Is it a Task's first step: no arguments, at most a context, and called in the thread of the
 * loop? */
static bool is_first_step(const cdpy_loop *loop, Py_ssize_t count)
{
    return loop->armed && count == 1 && cdpy_loop_mine(loop);
}

/*
 * In a forked child nothing runs the queue. But when the end of a task queued its callbacks and
 * raised an exception, the task's own would be lost.
 */
static bool is_late(const cdpy_loop *loop, Py_ssize_t count, PyObject *names)
{
    return loop->inherited && count >= 1 && names_context_only(loop->state, names);
}

static PyObject *capture(cdpy_loop *loop, PyObject *callback, PyObject *context)
{
    loop->armed = false;
    loop->captured = Py_NewRef(callback); /* whoever calls cdpy_loop_take_capture, or loop_clear */
    loop->captured_context = Py_XNewRef(context); /* likewise */
    Py_RETURN_NONE;
}

PyObject *cdpy_loop_call_soon(PyObject *self, PyObject *const *args, Py_ssize_t count,
                              PyObject *names)
{
    cdpy_loop *loop = (cdpy_loop *)self;
    if (!is_usual(loop, count, 1, names) && !is_late(loop, count, names))
        return cdpy_pass_on(loop->state->loop_call_soon, self, args, count, names);
    PyObject *context = context_of(args, count, names);
    if (is_first_step(loop, count))
        return capture(loop, args[0], context);
    return queue(loop, args, count, context);
}

static void wake(cdpy_loop *loop)
{
    if (loop->sleeping && loop->core != NULL)
        cd_loop_wake(loop->core);
}

PyObject *cdpy_loop_call_soon_threadsafe(PyObject *self, PyObject *const *args, Py_ssize_t count,
                                         PyObject *names)
{
    cdpy_loop *loop = (cdpy_loop *)self;
    if (!is_usual(loop, count, 1, names))
        return cdpy_pass_on(loop->state->loop_call_soon_threadsafe, self, args, count, names);
    PyObject *handle = queue(loop, args, count, context_of(args, count, names));
    if (handle != NULL)
        wake(loop);
    return handle;
}

int cdpy_call_soon(cdpy_loop *loop, PyObject *callback, PyObject *arg, PyObject *context)
{
    PyObject *args[] = {callback, arg, context};
    PyObject *names = context == NULL ? NULL : loop->state->loop_context_names;
    PyObject *handle = cdpy_loop_mine(loop)
                           ? cdpy_loop_call_soon((PyObject *)loop, args, 2, names)
                           : cdpy_loop_call_soon_threadsafe((PyObject *)loop, args, 2, names);
    Py_XDECREF(handle);
    return handle == NULL ? -1 : 0;
}

/* ---- at a time ---- */

/* args: callback and its arguments. */
static PyObject *add_timer(cdpy_loop *loop, PyObject *when, PyObject *const *args, Py_ssize_t count,
                           PyObject *context)
{
    PyObject *rest = cdpy_tuple_of(args + 1, count - 1);
    PyObject *handle =
        rest == NULL ? NULL : cdpy_timer_handle_new(loop, when, args[0], rest, context);
    if (handle != NULL && cdpy_timers_add(loop, handle) < 0)
        Py_CLEAR(handle);
    return handle;
}

PyObject *cdpy_loop_call_at(PyObject *self, PyObject *const *args, Py_ssize_t count,
                            PyObject *names)
{
    cdpy_loop *loop = (cdpy_loop *)self;
    if (!is_usual(loop, count, 2, names) || args[0] == Py_None)
        return cdpy_pass_on(loop->state->loop_call_at, self, args, count, names);
    return add_timer(loop, args[0], args + 1, count - 1, context_of(args, count, names));
}

/* Returns self.time() + delay. */
static PyObject *time_after(cdpy_loop *loop, PyObject *delay)
{
    double now;
    if (cdpy_loop_time(loop, &now) < 0)
        return NULL;
    if (PyFloat_CheckExact(delay))
        return PyFloat_FromDouble(now + PyFloat_AS_DOUBLE(delay));
    PyObject *time = PyFloat_FromDouble(now);
    PyObject *when = time == NULL ? NULL : PyNumber_Add(time, delay);
    Py_XDECREF(time);
    return when;
}

PyObject *cdpy_loop_call_later(PyObject *self, PyObject *const *args, Py_ssize_t count,
                               PyObject *names)
{
    cdpy_loop *loop = (cdpy_loop *)self;
    if (!is_usual(loop, count, 2, names) || args[0] == Py_None || !loop->own_call_at)
        return cdpy_pass_on(loop->state->loop_call_later, self, args, count, names);
    PyObject *when = time_after(loop, args[0]);
    PyObject *handle =
        when == NULL ? NULL
                     : add_timer(loop, when, args + 1, count - 1, context_of(args, count, names));
    Py_XDECREF(when);
    return handle;
}
