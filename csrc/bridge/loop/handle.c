/*
 * handle.c - Handle and TimerHandle: what call_soon() and its kin return, made, cancelled and run
 * in C.
 *
 * They are subclasses of asyncio.Handle and asyncio.TimerHandle and keep everything in the slots
 * which those classes have, so isinstance(), the attributes, repr(), comparison and whatever a
 * library does with asyncio's handles works, because it is asyncio's. Only cancel() is replaced.
 * The slots lie behind the object header like the members of a struct; import fails with the name
 * of the one that does not lie where it is expected.
 *
 * A slot that other code has emptied or filled with something odd makes no difference: then
 * asyncio's own method runs. So it does for handles that are not ours (debug mode and
 * add_signal_handler() make asyncio's).
 *
 * When they are run is turn.c's.
 */
#include "bridge/loop/loop.h"

#include <stddef.h>

typedef struct cdpy_handle handle;

/* More are kept than of other objects: a burst of callbacks that are allocated anew makes work for
 * the garbage collector, which took a quarter of the time of call_later() where it was measured. */
enum { SPARE = CDPY_FREELIST * 4 };

#define PLAIN_SIZE offsetof(handle, scheduled)

static bool is_ours(const cdpy_state *state, PyObject *op)
{
    return Py_IS_TYPE(op, (PyTypeObject *)state->handle_type) || cdpy_is_timer(state, op);
}

/* ---- making ---- */

static handle *allocate(PyObject *type, cdpy_freelist *list)
{
    handle *h = cdpy_freelist_take(list, type);
    if (h == NULL)
        return (handle *)((PyTypeObject *)type)->tp_alloc((PyTypeObject *)type, 0);
    PyObject_GC_Track(h);
    return h;
}

/* Sets all members but the times. Takes the reference to args. */
static PyObject *fill(handle *h, cdpy_loop *loop, PyObject *callback, PyObject *args,
                      PyObject *context)
{
    if (h == NULL) {
        Py_DECREF(args);
        return NULL;
    }
    h->args = args;
    h->callback = Py_NewRef(callback); /* handle_clear, as the others */
    h->cancelled = Py_NewRef(Py_False);
    h->context = context == NULL ? PyContext_CopyCurrent() : Py_NewRef(context);
    h->loop = Py_NewRef((PyObject *)loop);
    h->repr = Py_NewRef(Py_None);
    h->source_traceback = Py_NewRef(Py_None);
    if (h->context == NULL)
        Py_CLEAR(h);
    return (PyObject *)h;
}

PyObject *cdpy_handle_new(cdpy_loop *loop, PyObject *callback, PyObject *args, PyObject *context)
{
    cdpy_state *state = loop->state;
    handle *h = allocate(state->handle_type, &state->free_handles);
    return fill(h, loop, callback, args, context);
}

PyObject *cdpy_timer_handle_new(cdpy_loop *loop, PyObject *when, PyObject *callback, PyObject *args,
                                PyObject *context)
{
    cdpy_state *state = loop->state;
    handle *h = allocate(state->timer_handle_type, &state->free_timers);
    if (fill(h, loop, callback, args, context) == NULL)
        return NULL;
    h->when = Py_NewRef(when);
    h->scheduled = Py_NewRef(Py_False);
    return (PyObject *)h;
}

/* ---- times ---- */

int cdpy_timer_set_scheduled(const cdpy_state *state, PyObject *op, bool scheduled)
{
    PyObject *value = scheduled ? Py_True : Py_False;
    if (!cdpy_is_timer(state, op))
        return PyObject_SetAttr(op, state->s__scheduled, value);
    Py_XSETREF(((handle *)op)->scheduled, Py_NewRef(value));
    return 0;
}

/* ---- cancelling ---- */

int cdpy_handle_cancelled(const cdpy_state *state, PyObject *op)
{
    PyObject *value = is_ours(state, op) ? ((handle *)op)->cancelled : NULL;
    if (value == Py_False || value == Py_True)
        return value == Py_True;
    value = PyObject_GetAttr(op, state->s__cancelled);
    int result = value == NULL ? -1 : PyObject_IsTrue(value);
    Py_XDECREF(value);
    return result;
}

/* Stores the text that the log of slow callbacks needs of a cancelled handle. */
static int keep_repr(handle *h)
{
    PyObject *repr = PyObject_Repr((PyObject *)h);
    if (repr == NULL)
        return -1;
    Py_XSETREF(h->repr, repr);
    return 0;
}

/* Returns the loop that made the handle; NULL when somebody has put another one there. */
static cdpy_loop *loop_of(const cdpy_state *state, const handle *h)
{
    if (h->loop == NULL || !PyObject_TypeCheck(h->loop, (PyTypeObject *)state->loop_base_type))
        return NULL;
    return (cdpy_loop *)h->loop;
}

static PyObject *cancel(handle *h, const cdpy_loop *loop)
{
    Py_XSETREF(h->cancelled, Py_NewRef(Py_True));
    if (loop->debug && keep_repr(h) < 0)
        return NULL;
    Py_XSETREF(h->callback, Py_NewRef(Py_None));
    Py_XSETREF(h->args, Py_NewRef(Py_None));
    Py_RETURN_NONE;
}

static PyObject *handle_cancel(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    handle *h = (handle *)self;
    cdpy_state *state = cdpy_state_of(self);
    cdpy_loop *loop = loop_of(state, h);
    if (loop == NULL)
        return PyObject_CallOneArg(state->handle_cancel, self);
    if (h->cancelled == Py_True)
        Py_RETURN_NONE;
    return cancel(h, loop);
}

static PyObject *timer_cancel(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    handle *h = (handle *)self;
    cdpy_state *state = cdpy_state_of(self);
    cdpy_loop *loop = loop_of(state, h);
    if (loop == NULL)
        return PyObject_CallOneArg(state->timer_handle_cancel, self);
    if (h->cancelled == Py_True)
        Py_RETURN_NONE;
    if (h->scheduled == Py_True)
        loop->timer_cancelled_count++;
    return cancel(h, loop);
}

int cdpy_handle_cancel(const cdpy_state *state, PyObject *op)
{
    PyObject *result = Py_IS_TYPE(op, (PyTypeObject *)state->handle_type)
                           ? handle_cancel(op, NULL)
                           : PyObject_CallMethodNoArgs(op, state->s_cancel);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* ---- running ---- */

/* "Exception in callback f() at file:line", as Handle._run says it. */
static PyObject *describe(cdpy_state *state, const handle *h)
{
    PyObject *args[] = {h->callback ? h->callback : Py_None, h->args ? h->args : Py_None};
    PyObject *source = PyObject_Vectorcall(state->handle_format_source, args, 2, NULL);
    PyObject *message =
        source == NULL ? NULL : PyUnicode_FromFormat("Exception in callback %S", source);
    Py_XDECREF(source);
    return message;
}

/* Reports the exception that is set. Returns 0, or -1 with an exception that leaves the loop. */
static int report(cdpy_state *state, handle *h)
{
    if (cdpy_is_exit(PyErr_Occurred()))
        return -1;
    PyObject *error = cdpy_error_take();
    PyObject *message = describe(state, h), *context = NULL, *result = NULL;
    if (message != NULL)
        context = Py_BuildValue("{OOOOsO}", state->s_message, message, state->s_exception, error,
                                "handle", h);
    if (context != NULL)
        result = PyObject_CallMethodOneArg(h->loop, state->s_call_exception_handler, context);
    Py_XDECREF(context);
    Py_XDECREF(message);
    Py_DECREF(error);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Calls callback(*args) inside the context. Returns a new reference, or NULL with an exception. */
static PyObject *call_in(PyObject *context, PyObject *callback, PyObject *args)
{
    if (PyContext_Enter(context) < 0)
        return NULL;
    PyObject *result = PyObject_Vectorcall(callback, &PyTuple_GET_ITEM(args, 0),
                                           (size_t)PyTuple_GET_SIZE(args), NULL);
    PyObject *error = result == NULL ? cdpy_error_take() : NULL;
    if (PyContext_Exit(context) < 0) {
        Py_CLEAR(result);
        Py_XDECREF(error);
        return NULL;
    }
    cdpy_error_put(error);
    return result;
}

static bool is_complete(const handle *h)
{
    return h->callback != NULL && h->args != NULL && PyTuple_CheckExact(h->args) &&
           h->context != NULL && PyContext_CheckExact(h->context) && h->loop != NULL &&
           h->source_traceback == Py_None;
}

static int run_as_asyncio(const cdpy_state *state, PyObject *op)
{
    PyObject *result = PyObject_CallMethodNoArgs(op, state->s__run);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int cdpy_handle_run(cdpy_state *state, PyObject *op)
{
    handle *h = (handle *)op;
    if (!is_ours(state, op) || !is_complete(h))
        return run_as_asyncio(state, op);
    /* The callback may cancel its own handle, which drops all three. */
    PyObject *callback = Py_NewRef(h->callback), *args = Py_NewRef(h->args);
    PyObject *context = Py_NewRef(h->context);
    PyObject *result = call_in(context, callback, args);
    int status = result == NULL ? report(state, h) : 0;
    Py_XDECREF(result);
    Py_DECREF(callback);
    Py_DECREF(args);
    Py_DECREF(context);
    return status;
}

/* ---- life ---- */

static int plain_traverse(PyObject *self, visitproc visit, void *arg)
{
    const handle *h = (handle *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(h->args);
    Py_VISIT(h->callback);
    Py_VISIT(h->context);
    Py_VISIT(h->loop);
    Py_VISIT(h->repr);
    Py_VISIT(h->source_traceback);
    Py_VISIT(h->cancelled);
    return 0;
}

static int timer_traverse(PyObject *self, visitproc visit, void *arg)
{
    const handle *h = (handle *)self;
    Py_VISIT(h->scheduled);
    Py_VISIT(h->when);
    return plain_traverse(self, visit, arg);
}

static int plain_clear(PyObject *self)
{
    handle *h = (handle *)self;
    Py_CLEAR(h->args);
    Py_CLEAR(h->callback);
    Py_CLEAR(h->context);
    Py_CLEAR(h->loop);
    Py_CLEAR(h->repr);
    Py_CLEAR(h->source_traceback);
    Py_CLEAR(h->cancelled);
    return 0;
}

static int timer_clear(PyObject *self)
{
    handle *h = (handle *)self;
    Py_CLEAR(h->scheduled);
    Py_CLEAR(h->when);
    return plain_clear(self);
}

static void forget_weak(PyObject *self)
{
    PyObject **weak = (PyObject **)((char *)self + Py_TYPE(self)->tp_weaklistoffset);
    if (*weak != NULL)
        PyObject_ClearWeakRefs(self);
}

static void plain_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    Py_TRASHCAN_BEGIN(self, plain_dealloc);
    forget_weak(self);
    cdpy_state *state = cdpy_state_of(self);
    (void)plain_clear(self);
    cdpy_freelist_put(state == NULL ? NULL : &state->free_handles, self, SPARE);
    Py_TRASHCAN_END;
}

static void timer_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    Py_TRASHCAN_BEGIN(self, timer_dealloc);
    forget_weak(self);
    cdpy_state *state = cdpy_state_of(self);
    (void)timer_clear(self);
    cdpy_freelist_put(state == NULL ? NULL : &state->free_timers, self, SPARE);
    Py_TRASHCAN_END;
}

/* ---- types ---- */

PyDoc_STRVAR(cancel_doc, "cancel($self, /)\n--\n\nAs asyncio.Handle.cancel().");

static PyMethodDef plain_methods[] = {
    {"cancel", handle_cancel, METH_NOARGS, cancel_doc},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef timer_methods[] = {
    {"cancel", timer_cancel, METH_NOARGS, cancel_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot plain_slots[] = {
    {Py_tp_doc, "asyncio.Handle, made and run in C."},
    {Py_tp_methods, plain_methods},
    {Py_tp_traverse, plain_traverse},
    {Py_tp_clear, plain_clear},
    {Py_tp_dealloc, plain_dealloc},
    {0, NULL},
};

static PyType_Slot timer_slots[] = {
    {Py_tp_doc, "asyncio.TimerHandle, made and run in C."},
    {Py_tp_methods, timer_methods},
    {Py_tp_traverse, timer_traverse},
    {Py_tp_clear, timer_clear},
    {Py_tp_dealloc, timer_dealloc},
    {0, NULL},
};

#define HANDLE_FLAGS (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION)

static PyType_Spec plain_spec = {
    .name = "pyasgi._core.Handle",
    .basicsize = PLAIN_SIZE,
    .flags = HANDLE_FLAGS,
    .slots = plain_slots,
};

static PyType_Spec timer_spec = {
    .name = "pyasgi._core.TimerHandle",
    .basicsize = sizeof(handle),
    .flags = HANDLE_FLAGS,
    .slots = timer_slots,
};

/* Is the slot of asyncio's class at the place of our member? 0, or -1 with an ImportError. */
static int check_slot(PyObject *type, const char *name, size_t offset)
{
    PyObject *descriptor = PyObject_GetAttrString(type, name);
    if (descriptor == NULL)
        PyErr_Clear();
    bool found = descriptor != NULL && Py_IS_TYPE(descriptor, &PyMemberDescr_Type) &&
                 (size_t)((PyMemberDescrObject *)descriptor)->d_member->offset == offset;
    Py_XDECREF(descriptor);
    if (found)
        return 0;
    PyErr_Format(PyExc_ImportError, "%R of this Python keeps %s where pyasgi does not expect it",
                 type, name);
    return -1;
}

static int check_size(PyObject *type, size_t size)
{
    if ((size_t)((PyTypeObject *)type)->tp_basicsize == size)
        return 0;
    PyErr_Format(PyExc_ImportError, "%R of this Python has %zd bytes, not %zu as pyasgi expects",
                 type, ((PyTypeObject *)type)->tp_basicsize, size);
    return -1;
}

static int check_layout(PyObject *plain, PyObject *timer)
{
    static const struct {
        const char *name;
        size_t offset;
    } slots[] = {
        {"_args", offsetof(handle, args)},
        {"_callback", offsetof(handle, callback)},
        {"_cancelled", offsetof(handle, cancelled)},
        {"_context", offsetof(handle, context)},
        {"_loop", offsetof(handle, loop)},
        {"_repr", offsetof(handle, repr)},
        {"_source_traceback", offsetof(handle, source_traceback)},
        {"_scheduled", offsetof(handle, scheduled)},
        {"_when", offsetof(handle, when)},
    };
    for (size_t i = 0; i < sizeof slots / sizeof *slots; i++)
        if (check_slot(timer, slots[i].name, slots[i].offset) < 0)
            return -1;
    return check_size(plain, PLAIN_SIZE) < 0 ? -1 : check_size(timer, sizeof(handle));
}

/* Makes the type, and keeps its base's cancel() for the rare case. */
static int derive(PyObject *module, PyType_Spec *spec, PyObject *base, PyObject **type,
                  PyObject **base_cancel)
{
    *base_cancel = PyObject_GetAttrString(base, "cancel");
    *type = PyType_FromModuleAndSpec(module, spec, base);
    return *type == NULL || *base_cancel == NULL ? -1 : 0;
}

static int make_types(PyObject *module, cdpy_state *state, PyObject *asyncio)
{
    PyObject *timer = NULL, *plain = PyObject_GetAttrString(asyncio, "Handle");
    int result = -1;
    if (plain != NULL)
        timer = PyObject_GetAttrString(asyncio, "TimerHandle");
    if (timer != NULL)
        result = check_layout(plain, timer);
    if (result == 0)
        result = derive(module, &plain_spec, plain, &state->handle_type, &state->handle_cancel);
    if (result == 0)
        result = derive(module, &timer_spec, timer, &state->timer_handle_type,
                        &state->timer_handle_cancel);
    Py_XDECREF(timer);
    Py_XDECREF(plain);
    return result;
}

int cdpy_handle_init(PyObject *module, cdpy_state *state)
{
    PyObject *helpers = PyImport_ImportModule("asyncio.format_helpers");
    if (helpers == NULL)
        return -1;
    state->handle_format_source = PyObject_GetAttrString(helpers, "_format_callback_source");
    Py_DECREF(helpers);
    PyObject *asyncio = PyImport_ImportModule("asyncio");
    if (asyncio == NULL || state->handle_format_source == NULL) {
        Py_XDECREF(asyncio);
        return -1;
    }
    int result = make_types(module, state, asyncio);
    Py_DECREF(asyncio);
    return result;
}
