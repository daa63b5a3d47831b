/*
 * executor.c - run_in_executor(): from a worker thread back to the loop.
 *
 * The executor's Future (concurrent.futures) and the loop's are tied together by a Hop, which is
 * the done callback of both and the handle's callback on the loop. It does what the closures of
 * asyncio.wrap_future() do: a result goes over by call_soon_threadsafe(), a cancellation of the
 * loop's future goes to the executor's. Results of several threads that come while the loop is busy
 * go over in one turn, without a system call.
 *
 * Anything but a plain result is copied by asyncio's own function. A loop without an executor yet,
 * a shut down one and debug mode are asyncio's, and so are executors whose submit() returns another
 * kind of future.
 */
#include "bridge/loop/loop.h"

#include <stddef.h>

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    cdpy_loop *loop;  /* strong, as the other two */
    PyObject *source; /* concurrent.futures.Future */
    PyObject *target; /* asyncio.Future */
} hop;

/* ---- the three ways it is called ---- */

/* Returns 1 when object.name() is true, else 0; -1 with an exception. */
static int ask(PyObject *object, PyObject *name)
{
    PyObject *answer = PyObject_CallMethodNoArgs(object, name);
    int result = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    return result;
}

/* Called when the target is done. */
static PyObject *pass_cancellation(hop *h)
{
    int cancelled = ask(h->target, h->loop->state->s_cancelled);
    if (cancelled > 0)
        return PyObject_CallMethodNoArgs(h->source, h->loop->state->s_cancel);
    if (cancelled < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* Called in a worker thread when the source is done. */
static PyObject *cross(hop *h)
{
    if (h->loop->closed)
        Py_RETURN_NONE; /* nobody waits for the result */
    return PyObject_CallMethodOneArg((PyObject *)h->loop, h->loop->state->s_call_soon_threadsafe,
                                     (PyObject *)h);
}

/* Returns 1 and *result when the source has a result, 0 when it has something else, -1 with an
 * exception. A FINISHED state never changes, so it is read without the lock. */
static int plain_result(const cdpy_state *state, PyObject *source, PyObject **result)
{
    PyObject *error = NULL, *phase = PyObject_GetAttr(source, state->s__state);
    int plain = phase == NULL ? -1 : PyObject_RichCompareBool(phase, state->s_FINISHED, Py_EQ);
    if (plain > 0)
        plain =
            (error = PyObject_GetAttr(source, state->s__exception)) == NULL ? -1 : error == Py_None;
    if (plain > 0)
        plain = (*result = PyObject_GetAttr(source, state->s__result)) == NULL ? -1 : 1;
    Py_XDECREF(error);
    Py_XDECREF(phase);
    return plain;
}

/* Called on the loop's thread. */
static PyObject *arrive(hop *h)
{
    cdpy_state *state = h->loop->state;
    PyObject *result = NULL;
    int cancelled = ask(h->target, state->s_cancelled);
    if (cancelled != 0)
        return cancelled < 0 ? NULL : Py_NewRef(Py_None);
    int plain = plain_result(state, h->source, &result);
    if (plain < 0)
        return NULL;
    if (plain == 0) {
        PyObject *args[] = {h->source, h->target};
        return PyObject_Vectorcall(state->hop_copy_state, args, 2, NULL);
    }
    PyObject *done = PyObject_CallMethodOneArg(h->target, state->s_set_result, result);
    Py_DECREF(result);
    return done;
}

static PyObject *hop_call(PyObject *self, PyObject *const *args, size_t flagged, PyObject *names)
{
    hop *h = (hop *)self;
    Py_ssize_t count = PyVectorcall_NARGS(flagged);
    if (names == NULL && count == 0)
        return arrive(h);
    if (names == NULL && count == 1 && args[0] == h->target)
        return pass_cancellation(h);
    if (names == NULL && count == 1 && args[0] == h->source)
        return cross(h);
    PyErr_SetString(PyExc_TypeError, "a Hop is called by its futures and by the loop only");
    return NULL;
}

/* ---- run_in_executor ---- */

static hop *hop_new(cdpy_loop *loop, PyObject *source, PyObject *target)
{
    PyTypeObject *type = (PyTypeObject *)loop->state->hop_type;
    hop *h = (hop *)type->tp_alloc(type, 0);
    if (h == NULL)
        return NULL;
    h->vectorcall = hop_call;
    h->loop = (cdpy_loop *)Py_NewRef((PyObject *)loop); /* hop_clear, so the other two */
    h->source = Py_NewRef(source);
    h->target = Py_NewRef(target);
    return h;
}

static int add_callback(const cdpy_state *state, PyObject *future, PyObject *callback)
{
    PyObject *result = PyObject_CallMethodOneArg(future, state->s_add_done_callback, callback);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* asyncio.wrap_future(source, loop=loop); takes the reference. */
static PyObject *wrap(cdpy_loop *loop, PyObject *source)
{
    cdpy_state *state = loop->state;
    PyObject *target = NULL;
    if (source == NULL)
        return NULL;
    if (Py_TYPE(source) != (PyTypeObject *)state->hop_source_type) {
        PyObject *args[] = {source, (PyObject *)loop};
        target = PyObject_Vectorcall(state->hop_wrap_future, args, 1, state->loop_task_names);
    } else if ((target = PyObject_CallMethodNoArgs((PyObject *)loop, state->s_create_future))) {
        hop *h = hop_new(loop, source, target);
        if (h == NULL || add_callback(state, target, (PyObject *)h) < 0 ||
            add_callback(state, source, (PyObject *)h) < 0)
            Py_CLEAR(target);
        Py_XDECREF(h);
    }
    Py_DECREF(source);
    return target;
}

/* Returns the executor for an argument, borrowed; NULL: asyncio must make one, or report why it
 * cannot. */
static PyObject *executor_for(const cdpy_loop *loop, PyObject *given)
{
    if (given != Py_None)
        return given;
    if (loop->executor_shutdown || loop->executor == Py_None)
        return NULL;
    return loop->executor;
}

PyObject *cdpy_loop_run_in_executor(PyObject *self, PyObject *const *args, Py_ssize_t count,
                                    PyObject *names)
{
    cdpy_loop *loop = (cdpy_loop *)self;
    PyObject *executor = NULL;
    if (names == NULL && count >= 2 && !loop->slow && !loop->closed)
        executor = executor_for(loop, args[0]);
    if (executor == NULL)
        return cdpy_pass_on(loop->state->loop_run_in_executor, self, args, count, names);
    PyObject *submit = PyObject_GetAttr(executor, loop->state->s_submit);
    PyObject *source = NULL;
    if (submit != NULL)
        source = PyObject_Vectorcall(submit, args + 1, (size_t)count - 1, NULL);
    Py_XDECREF(submit);
    return wrap(loop, source);
}

/* ---- life ---- */

static int hop_traverse(PyObject *self, visitproc visit, void *arg)
{
    const hop *h = (hop *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(h->loop);
    Py_VISIT(h->source);
    Py_VISIT(h->target);
    return 0;
}

/* The loop is kept, because calls use it. */
static int hop_clear(PyObject *self)
{
    hop *h = (hop *)self;
    Py_CLEAR(h->source);
    Py_CLEAR(h->target);
    return 0;
}

static void hop_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)hop_clear(self);
    Py_XDECREF(((hop *)self)->loop);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMemberDef hop_members[] = {
    {"__vectorcalloffset__", CDPY_T_PYSSIZET, offsetof(hop, vectorcall), CDPY_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot hop_slots[] = {
    {Py_tp_doc, "Carries the result of an executor's future to the loop's."},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_members, hop_members},
    {Py_tp_traverse, hop_traverse},
    {Py_tp_clear, hop_clear},
    {Py_tp_dealloc, hop_dealloc},
    {0, NULL},
};

static PyType_Spec hop_spec = {
    .name = "pyasgi._core.Hop",
    .basicsize = sizeof(hop),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL |
             Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = hop_slots,
};

int cdpy_executor_init(PyObject *module, cdpy_state *state)
{
    PyObject *futures = PyImport_ImportModule("asyncio.futures");
    if (futures != NULL) {
        state->hop_wrap_future = PyObject_GetAttrString(futures, "wrap_future");
        state->hop_copy_state = PyObject_GetAttrString(futures, "_copy_future_state");
        Py_DECREF(futures);
    }
    PyObject *source = PyImport_ImportModule("concurrent.futures");
    if (source != NULL) {
        state->hop_source_type = PyObject_GetAttrString(source, "Future");
        Py_DECREF(source);
    }
    if (!state->hop_wrap_future || !state->hop_copy_state || !state->hop_source_type)
        return -1;
    return cdpy_add_type(module, &hop_spec, &state->hop_type, NULL);
}
