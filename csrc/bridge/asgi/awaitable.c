/*
 * awaitable.c - Waiter, the one type of what receive() and send() return.
 *
 * It counts as a future (asyncio.isfuture), so asyncio.wait, gather, shield, wait_for and
 * ensure_future take it as it is, without a Task around it; and `await` drives it through am_send
 * without a StopIteration. It is no coroutine for asyncio.iscoroutine, because asyncio.wait refuses
 * those; LoopBase.create_task wraps it for whoever wants a task.
 *
 * A receive waiter does not carry its event: it is READY when the stream has one, and pulls it only
 * when result() is called or the awaiter goes on. Whatever ends it before that (cancel, a task
 * thrown away, the last reference gone) leaves the event in the stream for the next receive(). It
 * joins the stream's queue when somebody first asks it anything: until then it is like a coroutine
 * that nobody awaits, and holds nobody up.
 *
 * The list owns a waiter only while it has callbacks, which is while somebody waits; without them
 * it is forgotten with its last reference. Callbacks are taken off one by one before they are
 * called, so what they do to the list is harmless.
 *
 * That holds as well for the one case where a waiter must hold its event: when another one waits
 * behind it.
 *
 * It does not know what an event is (stream.c) nor when a stream can be written again (the core).
 */
#include "bridge/asgi/asgi.h"

#include <stddef.h>

/* ---- the two lists of a stream ---- */

static cdpy_waiters *list_of(cdpy_waiter *self)
{
    return self->kind == CDPY_RECEIVE ? &self->stream->receiving : &self->stream->sending;
}

static void link_last(cdpy_waiter *self)
{
    cdpy_waiters *list = list_of(self);
    self->prev = list->last;
    self->next = NULL;
    *(list->last ? &list->last->next : &list->first) = self;
    list->last = self;
    self->linked = true;
}

/* Drops the list's reference, too: the caller has one of its own. */
static void unlink_from(cdpy_waiter *self, cdpy_waiters *list)
{
    *(self->prev ? &self->prev->next : &list->first) = self->next;
    *(self->next ? &self->next->prev : &list->last) = self->prev;
    self->prev = self->next = NULL;
    self->linked = false;
    if (self->held) {
        self->held = false;
        Py_DECREF(self);
    }
}

static void hold(cdpy_waiter *self)
{
    if (self->linked && !self->held) {
        self->held = true;
        Py_INCREF(self); /* unlink_from or drop_held */
    }
}

static void drop_held(cdpy_waiter *self)
{
    if (self->held && self->callback == NULL) {
        self->held = false;
        Py_DECREF(self);
    }
}

/* ---- callbacks ---- */

/* Moves the first callback out; the next one becomes the first. */
static void take_callback(cdpy_waiter *self, PyObject **callback, PyObject **context)
{
    *callback = self->callback;
    *context = self->context;
    self->callback = self->context = NULL;
    if (self->more == NULL)
        return;
    PyObject *pair = Py_NewRef(PyList_GET_ITEM(self->more, 0));
    self->callback = Py_NewRef(PyTuple_GET_ITEM(pair, 0));
    self->context = Py_NewRef(PyTuple_GET_ITEM(pair, 1));
    Py_DECREF(pair);
    if (PyList_GET_SIZE(self->more) == 1)
        Py_CLEAR(self->more);
    else if (PyList_SetSlice(self->more, 0, 1, NULL) < 0)
        PyErr_Clear(); /* to shrink a list allocates nothing */
}

static int add_callback(cdpy_waiter *self, PyObject *callback, PyObject *context)
{
    if (self->callback == NULL) {
        self->callback = Py_NewRef(callback);
        self->context = Py_NewRef(context);
        return 0;
    }
    if (self->more == NULL && (self->more = PyList_New(0)) == NULL)
        return -1;
    PyObject *pair = PyTuple_Pack(2, callback, context);
    int failed = pair == NULL || PyList_Append(self->more, pair) < 0;
    Py_XDECREF(pair);
    if (PyList_GET_SIZE(self->more) == 0)
        Py_CLEAR(self->more);
    return failed ? -1 : 0;
}

/* Is it the callback with which a Task of asyncio's C code waits? */
static bool is_wakeup(const cdpy_state *state, PyObject *callback)
{
    PyObject *task = PyCFunction_CheckExact(callback) ? PyCFunction_GET_SELF(callback) : NULL;
    return task && Py_IS_TYPE(task, (PyTypeObject *)state->task_type) &&
           strcmp(((PyCFunctionObject *)callback)->m_ml->ml_name, "task_wakeup") == 0;
}

/* Makes a future of asyncio's own with the result None. It has no loop: `bool` stands in for one
 * and says that it is not in debug mode. NULL with an exception. */
static PyObject *new_finished_future(const cdpy_state *state)
{
    PyObject *types = PyImport_ImportModule("types"), *result = NULL;
    PyObject *get_debug = Py_BuildValue("{sO}", "get_debug", (PyObject *)&PyBool_Type);
    PyObject *make = types ? PyObject_GetAttrString(types, "SimpleNamespace") : NULL;
    PyObject *nothing = PyTuple_New(0);
    PyObject *loop = make && nothing && get_debug ? PyObject_Call(make, nothing, get_debug) : NULL;
    PyObject *kwargs = loop ? Py_BuildValue("{sO}", "loop", loop) : NULL;
    PyObject *future = kwargs ? PyObject_Call(state->future_type, nothing, kwargs) : NULL;
    if (future)
        result = PyObject_CallMethod(future, "set_result", "O", Py_None);
    if (result == NULL)
        Py_CLEAR(future);
    Py_XDECREF(result);
    Py_XDECREF(kwargs);
    Py_XDECREF(loop);
    Py_XDECREF(nothing);
    Py_XDECREF(make);
    Py_XDECREF(get_debug);
    Py_XDECREF(types);
    return future;
}

/*
 * Returns the future with which a callback is called at once; borrowed. A Task reads the outcome of
 * asyncio's own futures without a call, but that of others through result(), by a name that it
 * makes anew each time: 1,200 instructions, a tenth of a WebSocket's echo. It only needs to know
 * whether there is an exception, because its coroutine gets the result from us. So if there is none
 * it gets a future with the result None. (From Python 3.14 on a Task also notes whom it waits for.)
 */
static PyObject *told(cdpy_waiter *self, PyObject *callback)
{
    cdpy_state *state = self->loop->state;
    if (PY_VERSION_HEX >= 0x030E0000 || self->phase > CDPY_DONE || !is_wakeup(state, callback))
        return (PyObject *)self;
    if (state->finished_future == NULL &&
        (state->finished_future = new_finished_future(state)) == NULL) {
        PyErr_Clear();
        return (PyObject *)self;
    }
    return state->finished_future;
}

/* `direct` may be set only in a callback of the core: no task is running there, so one may be
 * stepped. */
static void wake(cdpy_waiter *self, bool direct)
{
    Py_INCREF(self);
    while (self->callback && self->phase >= CDPY_READY) {
        PyObject *callback, *context;
        take_callback(self, &callback, &context);
        if (direct)
            cdpy_step(self->loop, callback, told(self, callback), context);
        else if (cdpy_call_soon(self->loop, callback, (PyObject *)self, context) < 0)
            cdpy_loop_report(self->loop,
                             "A callback of receive() or send() could not be scheduled");
        Py_DECREF(callback);
        Py_DECREF(context);
    }
    drop_held(self);
    Py_DECREF(self);
}

/* ---- becoming ready ---- */

static void settle(cdpy_waiter *self, enum cdpy_waiter_phase phase, PyObject *value)
{
    self->phase = (unsigned char)phase;
    self->value = Py_XNewRef(value);
}

/* READY: pulls the event into `value`. Returns 0, also when there is no event after all; -1 with an
 * exception. */
static int pull_event(cdpy_waiter *self)
{
    int got = cdpy_stream_pull(self->stream, &self->value);
    if (got == 0)
        self->phase = CDPY_PENDING;
    return got < 0 ? -1 : 0;
}

/*
 * Another waiter waits behind the first one, which is ready, and whose owner was told or never
 * asked to be. It takes its event out of the stream, like a future that holds its result (gather()
 * reads results only when it has them all).
 */
static int make_way(cdpy_waiter *first)
{
    cdpy_stream *stream = first->stream;
    int result;
    Py_INCREF(first);
    result = pull_event(first);
    if (first->value)
        unlink_from(first, &stream->receiving);
    Py_DECREF(first);
    return result;
}

static bool blocks_the_way(const cdpy_waiter *first)
{
    return first && first->phase == CDPY_READY && first->callback == NULL;
}

/* Wakes the first waiter when there is an event for it. True: it has left the front, and the next
 * one may be woken. */
static bool wake_first(cdpy_stream *stream, bool direct)
{
    cdpy_waiter *first = stream->receiving.first;
    if (first == NULL || first->phase != CDPY_PENDING)
        return false;
    if (!cdpy_stream_readable(stream)) {
        cdpy_stream_ask(stream);
        return false;
    }
    first->phase = CDPY_READY;
    wake(first, direct);
    first = stream->receiving.first;
    if (first == NULL || first->next == NULL || !blocks_the_way(first))
        return false;
    if (make_way(first) < 0)
        cdpy_loop_report(stream->server->loop, "An event of receive() was lost");
    return true;
}

/* The last reference to a waiter was dropped on another thread, but the core may be called only on
 * the loop's. */
static void ready_later(cdpy_stream *stream)
{
    cdpy_loop *loop = stream->server->loop;
    if (stream->receiving.first && cdpy_call_soon(loop, (PyObject *)stream, Py_None, NULL) < 0)
        cdpy_loop_report(loop, "A receive() could not be woken");
}

void cdpy_receive_ready(cdpy_stream *stream, bool direct)
{
    Py_INCREF(stream);
    if (cdpy_loop_mine(stream->server->loop)) {
        while (wake_first(stream, direct))
            ;
    } else {
        ready_later(stream);
    }
    Py_DECREF(stream);
}

/* Takes the waiter off its stream, so that the next one has its turn. */
static void leave(cdpy_waiter *self)
{
    cdpy_stream *stream = self->stream;
    if (stream == NULL)
        return;
    if (self->linked)
        unlink_from(self, list_of(self));
    if (self->phase == CDPY_READY && self->value) {
        cdpy_stream_return(stream, self->value);
        self->value = NULL;
    }
    self->stream = NULL;
    if (self->kind == CDPY_RECEIVE && stream->core == NULL && !cdpy_stream_readable(stream))
        cdpy_waiters_detach(stream);
    else if (self->kind == CDPY_RECEIVE)
        cdpy_receive_ready(stream, false);
    Py_DECREF(stream);
}

/* READY -> DONE. Returns 0, also when there is no event after all and it is PENDING again; -1 with
 * an exception. */
static int take_event(cdpy_waiter *self)
{
    if (self->value == NULL && pull_event(self) < 0)
        return -1;
    if (self->phase == CDPY_READY) {
        self->phase = CDPY_DONE;
        leave(self);
    }
    return 0;
}

/* IDLE -> PENDING or READY. */
static int join(cdpy_waiter *self)
{
    cdpy_stream *stream = self->stream;
    cdpy_waiter *first = stream->receiving.first;
    if (blocks_the_way(first) && make_way(first) < 0)
        return -1;
    self->phase = CDPY_PENDING;
    if (stream->core == NULL && !cdpy_stream_readable(stream)) {
        leave(self); /* nothing will ever come */
        return 0;
    }
    link_last(self);
    cdpy_receive_ready(stream, false);
    return 0;
}

static int ask(cdpy_waiter *self)
{
    return self->phase == CDPY_IDLE ? join(self) : 0;
}

void cdpy_send_ready(cdpy_stream *stream, bool direct)
{
    cdpy_waiters list = stream->sending;
    /* All leave the stream first: a waiter that is woken may send again and be back on the list. */
    stream->sending = (cdpy_waiters){NULL, NULL};
    for (cdpy_waiter *each = list.first; each; each = each->next) {
        each->linked = false;
        if (!each->held)
            Py_INCREF(each); /* the loop below */
        each->held = false;
    }
    while (list.first) {
        cdpy_waiter *self = list.first;
        list.first = self->next;
        self->prev = self->next = NULL;
        if (self->phase == CDPY_PENDING) {
            settle(self, CDPY_DONE, Py_None);
            Py_CLEAR(self->stream);
            wake(self, direct);
        }
        Py_DECREF(self);
    }
}

void cdpy_waiters_detach(cdpy_stream *stream)
{
    while (stream->receiving.first) {
        cdpy_waiter *self = stream->receiving.first;
        Py_INCREF(self);
        unlink_from(self, &stream->receiving);
        self->phase = CDPY_PENDING;
        Py_CLEAR(self->stream);
        Py_DECREF(self);
    }
}

/* ---- life ---- */

static cdpy_waiter *allocate(cdpy_state *state)
{
    cdpy_waiter *self = cdpy_freelist_new(&state->free_waiters, state->waiter_type);
    if (self == NULL)
        return NULL;
    memset((char *)self + offsetof(cdpy_waiter, loop), 0,
           sizeof(*self) - offsetof(cdpy_waiter, loop));
    CDPY_LIVE(waiters, 1);
    return self;
}

PyObject *cdpy_waiter_new(cdpy_stream *stream, enum cdpy_waiter_kind kind)
{
    cdpy_waiter *self = allocate(stream->server->state);
    if (self == NULL)
        return NULL;
    self->loop = (cdpy_loop *)Py_NewRef((PyObject *)stream->server->loop);
    self->stream = (cdpy_stream *)Py_NewRef((PyObject *)stream);
    self->kind = (unsigned char)kind;
    self->phase = kind == CDPY_RECEIVE ? CDPY_IDLE : CDPY_PENDING;
    if (kind == CDPY_SEND)
        link_last(self);
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

PyObject *cdpy_waiter_finished(cdpy_state *state, cdpy_loop *loop)
{
    cdpy_waiter *self = allocate(state);
    if (self == NULL)
        return NULL;
    self->loop = (cdpy_loop *)Py_NewRef((PyObject *)loop);
    self->kind = CDPY_FINISHED;
    settle(self, CDPY_DONE, Py_None);
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

static int waiter_traverse(PyObject *op, visitproc visit, void *arg)
{
    cdpy_waiter *self = (cdpy_waiter *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->loop);
    Py_VISIT(self->stream);
    Py_VISIT(self->value);
    Py_VISIT(self->callback);
    Py_VISIT(self->context);
    Py_VISIT(self->more);
    return 0;
}

static int waiter_clear(PyObject *op)
{
    cdpy_waiter *self = (cdpy_waiter *)op;
    Py_CLEAR(self->callback);
    Py_CLEAR(self->context);
    Py_CLEAR(self->more);
    leave(self); /* before the value is dropped, because it may give it back */
    Py_CLEAR(self->value);
    return 0; /* the loop is kept: methods use it, and no cycle runs only through it */
}

static void waiter_dealloc(PyObject *op)
{
    cdpy_waiter *self = (cdpy_waiter *)op;
    cdpy_state *state = cdpy_state_of(op);
    PyObject_GC_UnTrack(op);
    if (self->weakrefs)
        PyObject_ClearWeakRefs(op);
    PyObject *pending = cdpy_error_take(); /* leave() may wake the next waiter */
    waiter_clear(op);
    Py_CLEAR(self->loop);
    cdpy_error_put(pending);
    CDPY_LIVE(waiters, -1);
    cdpy_freelist_put(state ? &state->free_waiters : NULL, op, CDPY_FREELIST);
}

/* ---- await ---- */

static PyObject *raise_cancelled(cdpy_waiter *self)
{
    cdpy_state *state = self->loop->state;
    if (self->value == NULL || self->value == Py_None)
        PyErr_SetNone(state->cancelled_error);
    else
        PyErr_SetObject(state->cancelled_error, self->value);
    return NULL;
}

/* Returns the outcome of a waiter that is past READY: a new reference, or NULL with its
 * exception. */
static PyObject *outcome(cdpy_waiter *self)
{
    if (self->phase == CDPY_CANCELLED)
        return raise_cancelled(self);
    return Py_NewRef(self->value);
}

static PySendResult waiter_send(PyObject *op, PyObject *Py_UNUSED(value), PyObject **result)
{
    cdpy_waiter *self = (cdpy_waiter *)op;
    *result = NULL;
    if (ask(self) < 0 || (self->phase == CDPY_READY && take_event(self) < 0))
        return PYGEN_ERROR;
    if (self->phase == CDPY_PENDING) {
        self->blocking = true;
        *result = Py_NewRef(op);
        return PYGEN_NEXT;
    }
    *result = outcome(self);
    return *result ? PYGEN_RETURN : PYGEN_ERROR;
}

static PyObject *waiter_next(PyObject *op)
{
    PyObject *result;
    if (waiter_send(op, Py_None, &result) == PYGEN_RETURN) {
        if (result != Py_None)
            PyErr_SetObject(PyExc_StopIteration, result); /* None or a dict: neither is unpacked */
        Py_CLEAR(result);
    }
    return result;
}

/* An exception is thrown into the awaiting coroutine. The stream is not touched: the event stays in
 * it. */
static PyObject *waiter_throw(PyObject *Py_UNUSED(op), PyObject *const *args, Py_ssize_t count)
{
    if (count < 1 || count > 3)
        return PyErr_Format(PyExc_TypeError, "throw() takes 1 to 3 arguments, got %zd", count);
    PyObject *kind = args[0];
    PyObject *value = count > 1 && args[1] != Py_None ? args[1] : NULL;
    PyObject *traceback = count > 2 && args[2] != Py_None ? args[2] : NULL;

    if (PyExceptionInstance_Check(kind)) {
        value = kind;
        kind = PyExceptionInstance_Class(kind);
    } else if (!PyExceptionClass_Check(kind)) {
        return PyErr_Format(PyExc_TypeError, "throw() takes an exception, not %.200s",
                            Py_TYPE(kind)->tp_name);
    }
    if (traceback && !PyTraceBack_Check(traceback))
        return PyErr_Format(PyExc_TypeError, "throw() third argument must be a traceback");
    PyErr_Restore(Py_NewRef(kind), Py_XNewRef(value), Py_XNewRef(traceback));
    return NULL;
}

static PyObject *waiter_close(PyObject *Py_UNUSED(op), PyObject *Py_UNUSED(ignored))
{
    Py_RETURN_NONE;
}

/* ---- what asyncio expects of a future ---- */

static PyObject *waiter_done(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    cdpy_waiter *self = (cdpy_waiter *)op;
    if (ask(self) < 0)
        return NULL;
    return PyBool_FromLong(self->phase >= CDPY_READY);
}

static PyObject *waiter_result(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    cdpy_waiter *self = (cdpy_waiter *)op;
    if (ask(self) < 0 || (self->phase == CDPY_READY && take_event(self) < 0))
        return NULL;
    if (self->phase == CDPY_PENDING)
        return PyErr_Format(self->loop->state->invalid_state_error, "Result is not ready.");
    return outcome(self);
}

static PyObject *waiter_exception(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    cdpy_waiter *self = (cdpy_waiter *)op;
    if (ask(self) < 0)
        return NULL;
    if (self->phase == CDPY_PENDING)
        return PyErr_Format(self->loop->state->invalid_state_error, "Exception is not ready.");
    if (self->phase == CDPY_CANCELLED)
        return raise_cancelled(self);
    Py_RETURN_NONE;
}

static PyObject *waiter_cancelled(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(((cdpy_waiter *)op)->phase == CDPY_CANCELLED);
}

/* READY counts as cancellable: nobody has got its event, which stays for the next receive(). */
static PyObject *waiter_cancel(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"msg", NULL};
    cdpy_waiter *self = (cdpy_waiter *)op;
    PyObject *message = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:cancel", names, &message))
        return NULL;
    if (self->phase >= CDPY_DONE)
        Py_RETURN_FALSE;
    self->blocking = false;
    leave(self);
    settle(self, CDPY_CANCELLED, message);
    wake(self, false);
    Py_RETURN_TRUE;
}

/* Called for every await that waits, so its one keyword is looked for by hand. */
static PyObject *waiter_add_done_callback(PyObject *op, PyObject *const *args, Py_ssize_t count,
                                          PyObject *names)
{
    cdpy_waiter *self = (cdpy_waiter *)op;
    PyObject *context = Py_None;
    if (names && PyTuple_GET_SIZE(names) == 1 &&
        PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "context") == 0)
        context = args[count];
    else if (names && PyTuple_GET_SIZE(names) > 0)
        return PyErr_Format(PyExc_TypeError, "add_done_callback() takes only the keyword context");
    if (count != 1)
        return PyErr_Format(PyExc_TypeError, "add_done_callback() takes one callback, got %zd",
                            count);
    PyObject *callback = args[0];
    if (ask(self) < 0)
        return NULL;
    context = context == Py_None ? PyContext_CopyCurrent() : Py_NewRef(context);
    if (context == NULL)
        return NULL;
    int failed;
    if (self->phase >= CDPY_READY) {
        failed = cdpy_call_soon(self->loop, callback, op, context);
    } else {
        failed = add_callback(self, callback, context);
        if (!failed)
            hold(self);
    }
    Py_DECREF(context);
    if (failed)
        return NULL;
    Py_RETURN_NONE;
}

/* Returns the callbacks that are not `callback`, as a list of pairs; to compare them may run any
 * code. */
static PyObject *others(PyObject *pairs, PyObject *callback)
{
    PyObject *kept = PyList_New(0);
    for (Py_ssize_t i = 0; kept && i < PyList_GET_SIZE(pairs); i++) {
        PyObject *pair = PyList_GET_ITEM(pairs, i);
        int same = PyObject_RichCompareBool(PyTuple_GET_ITEM(pair, 0), callback, Py_EQ);
        if (same < 0 || (same == 0 && PyList_Append(kept, pair) < 0))
            Py_CLEAR(kept);
    }
    return kept;
}

static PyObject *pairs_of(cdpy_waiter *self)
{
    PyObject *pairs = PyList_New(0);
    PyObject *first = pairs ? PyTuple_Pack(2, self->callback, self->context) : NULL;
    if (first == NULL || PyList_Append(pairs, first) < 0)
        Py_CLEAR(pairs);
    Py_XDECREF(first);
    if (pairs && self->more && PyList_SetSlice(pairs, 1, 1, self->more) < 0)
        Py_CLEAR(pairs);
    return pairs;
}

static void replace_callbacks(cdpy_waiter *self, PyObject *pairs)
{
    PyObject *callback = self->callback, *context = self->context, *more = self->more;
    self->callback = self->context = self->more = NULL;
    if (PyList_GET_SIZE(pairs) > 0) {
        PyObject *ignored_callback, *ignored_context;
        /* take_callback moves pair 0 to the front. */
        self->more = Py_NewRef(pairs);
        take_callback(self, &ignored_callback, &ignored_context);
    }
    drop_held(self);
    Py_XDECREF(callback);
    Py_XDECREF(context);
    Py_XDECREF(more);
}

static PyObject *waiter_remove_done_callback(PyObject *op, PyObject *callback)
{
    cdpy_waiter *self = (cdpy_waiter *)op;
    PyObject *pairs = NULL, *kept = NULL, *removed = NULL;
    if (self->callback == NULL)
        return PyLong_FromLong(0);
    if ((pairs = pairs_of(self)) == NULL || (kept = others(pairs, callback)) == NULL)
        goto done;
    removed = PyLong_FromSsize_t(PyList_GET_SIZE(pairs) - PyList_GET_SIZE(kept));
    /* The comparison may have woken the waiter: then there is nothing left to put back. */
    if (removed && self->callback)
        replace_callbacks(self, kept);
done:
    Py_XDECREF(pairs);
    Py_XDECREF(kept);
    return removed;
}

static PyObject *waiter_get_loop(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef((PyObject *)((cdpy_waiter *)op)->loop);
}

/* asyncio.gather asks for it. */
static PyObject *waiter_make_cancelled_error(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    raise_cancelled((cdpy_waiter *)op);
    return cdpy_error_take();
}

static PyObject *get_cancel_message(PyObject *op, void *Py_UNUSED(closure))
{
    cdpy_waiter *self = (cdpy_waiter *)op;
    return Py_NewRef(self->phase == CDPY_CANCELLED && self->value ? self->value : Py_None);
}

static PyObject *get_blocking(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((cdpy_waiter *)op)->blocking);
}

static int set_blocking(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    cdpy_waiter *self = (cdpy_waiter *)op;
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "_asyncio_future_blocking cannot be deleted");
        return -1;
    }
    int truth = PyObject_IsTrue(value);
    if (truth < 0)
        return -1;
    /* The finished waiter is shared and never blocks. */
    self->blocking = truth && self->kind != CDPY_FINISHED;
    return 0;
}

static PyObject *waiter_repr(PyObject *op)
{
    static const char *const kinds[] = {"receive", "send", "send"};
    static const char *const phases[] = {"not awaited", "pending", "ready", "done", "cancelled"};
    cdpy_waiter *self = (cdpy_waiter *)op;
    return PyUnicode_FromFormat("<%s() %s>", kinds[self->kind], phases[self->phase]);
}

static PyMethodDef waiter_methods[] = {
    {"throw", (PyCFunction)(void (*)(void))waiter_throw, METH_FASTCALL, NULL},
    {"close", waiter_close, METH_NOARGS, NULL},
    {"done", waiter_done, METH_NOARGS,
     "Is there a result? That of a receive() is not taken from the stream by asking."},
    {"result", waiter_result, METH_NOARGS,
     "The event of a receive(), taken now; None of a send()."},
    {"exception", waiter_exception, METH_NOARGS, "None, when it is done."},
    {"cancelled", waiter_cancelled, METH_NOARGS, NULL},
    {"cancel", (PyCFunction)(void (*)(void))waiter_cancel, METH_VARARGS | METH_KEYWORDS,
     "Cancel; the event of a receive() that was not taken stays for the next one."},
    {"add_done_callback", (PyCFunction)(void (*)(void))waiter_add_done_callback,
     METH_FASTCALL | METH_KEYWORDS, NULL},
    {"remove_done_callback", waiter_remove_done_callback, METH_O, NULL},
    {"get_loop", waiter_get_loop, METH_NOARGS, NULL},
    {"_make_cancelled_error", waiter_make_cancelled_error, METH_NOARGS, NULL},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef waiter_getset[] = {
    {"_asyncio_future_blocking", get_blocking, set_blocking, NULL, NULL},
    {"_cancel_message", get_cancel_message, NULL, NULL, NULL},
    {"_loop", (getter)(void (*)(void))waiter_get_loop, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef waiter_members[] = {
    {"__weaklistoffset__", CDPY_T_PYSSIZET, offsetof(cdpy_waiter, weakrefs), CDPY_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot waiter_slots[] = {
    {Py_tp_doc, "What receive() and send() return: awaitable, and a future for asyncio."},
    {Py_tp_dealloc, waiter_dealloc},
    {Py_tp_traverse, waiter_traverse},
    {Py_tp_clear, waiter_clear},
    {Py_tp_repr, waiter_repr},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, waiter_next},
    {Py_am_await, PyObject_SelfIter},
    {Py_am_send, waiter_send},
    {Py_tp_methods, waiter_methods},
    {Py_tp_getset, waiter_getset},
    {Py_tp_members, waiter_members},
    {0, NULL},
};

static PyType_Spec waiter_spec = {
    .name = "pyasgi._core.Waiter",
    .basicsize = sizeof(cdpy_waiter),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = waiter_slots,
};

int cdpy_awaitable_init(PyObject *module, cdpy_state *state)
{
    return cdpy_add_type(module, &waiter_spec, &state->waiter_type, NULL);
}
