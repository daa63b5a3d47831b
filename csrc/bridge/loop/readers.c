/*
 * readers.c - _add_reader(), _remove_reader(), _add_writer() and _remove_writer(), on which
 * asyncio's add_reader(), transports, sock_recv() and so on stand.
 *
 * What is kept for a descriptor is what asyncio keeps: the Poller's data is the pair (handle for
 * reading or None, handle for writing or None). So asyncio's own methods, which run in debug mode
 * and for a loop whose selector was replaced, find what these have left and the other way round.
 *
 * What happens when a descriptor is ready is poller.c's.
 */
#include "bridge/loop/loop.h"

int cdpy_fileno(const cdpy_state *state, PyObject *sock)
{
    PyObject *number = PyObject_CallMethodNoArgs(sock, state->s_fileno);
    int fd = number == NULL ? -1 : (int)PyLong_AsLong(number);
    Py_XDECREF(number);
    return fd;
}

/* What is registered for a descriptor. */
typedef struct {
    int fd, events;
    PyObject *data; /* a new reference, NULL: nothing is registered */
} entry;

static bool is_usual(const cdpy_loop *loop, PyObject *names)
{
    return loop->plain && !loop->slow && !loop->closed && names == NULL &&
           cdpy_poller_serves(loop->selector, loop);
}

/* Returns 1 when it is what asyncio registers, or nothing; 0 when it is not; -1 with an
 * exception. */
static int look_up(const cdpy_loop *loop, PyObject *fileobj, entry *found)
{
    if (cdpy_poller_get(loop->selector, fileobj, &found->fd, &found->events, &found->data) < 0)
        return -1;
    if (found->data == NULL ||
        (PyTuple_CheckExact(found->data) && PyTuple_GET_SIZE(found->data) == 2))
        return 1;
    Py_CLEAR(found->data);
    return 0;
}

static int side_of(int event)
{
    return event == CD_READ ? 0 : 1;
}

/* Returns the pair with the handle (or None) in the event's place. */
static PyObject *pair_with(const entry *old, int event, PyObject *handle)
{
    PyObject *other =
        old->data == NULL ? Py_None : PyTuple_GET_ITEM(old->data, side_of(event) ? 0 : 1);
    return event == CD_READ ? PyTuple_Pack(2, handle, other) : PyTuple_Pack(2, other, handle);
}

/* Cancels the handle that was registered for the event. Returns 1, 0 when there was none, or -1. */
static int cancel_old(const cdpy_loop *loop, const entry *old, int event)
{
    PyObject *handle = old->data == NULL ? Py_None : PyTuple_GET_ITEM(old->data, side_of(event));
    if (handle == Py_None)
        return 0;
    return cdpy_handle_cancel(loop->state, handle) < 0 ? -1 : 1;
}

/* Registers the handle in place of the old one. Returns 0 or -1. */
static int put(const cdpy_loop *loop, PyObject *fileobj, const entry *old, int event,
               PyObject *handle)
{
    int events = handle == Py_None ? old->events & ~event : old->events | event;
    PyObject *pair = pair_with(old, event, handle);
    int result =
        pair == NULL ? -1 : cdpy_poller_put(loop->selector, fileobj, old->fd, events, pair);
    Py_XDECREF(pair);
    return result;
}

static PyObject *handle_for(cdpy_loop *loop, PyObject *const *args, Py_ssize_t count)
{
    PyObject *rest = cdpy_tuple_of(args + 1, count - 1);
    return rest == NULL ? NULL : cdpy_handle_new(loop, args[0], rest, NULL);
}

static PyObject *add(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names,
                     int event)
{
    cdpy_loop *loop = (cdpy_loop *)self;
    PyObject *asyncios =
        event == CD_READ ? loop->state->loop_add_reader : loop->state->loop_add_writer;
    entry old = {0};
    int found = count >= 2 && is_usual(loop, names) ? look_up(loop, args[0], &old) : 0;
    if (found <= 0)
        return found < 0 ? NULL : cdpy_pass_on(asyncios, self, args, count, names);
    PyObject *handle = handle_for(loop, args + 1, count - 1);
    if (handle != NULL &&
        (put(loop, args[0], &old, event, handle) < 0 || cancel_old(loop, &old, event) < 0))
        Py_CLEAR(handle);
    Py_XDECREF(old.data);
    return handle;
}

static PyObject *take_off(PyObject *self, PyObject *fileobj, int event)
{
    cdpy_loop *loop = (cdpy_loop *)self;
    PyObject *asyncios =
        event == CD_READ ? loop->state->loop_remove_reader : loop->state->loop_remove_writer;
    entry old = {0};
    int found = is_usual(loop, NULL) ? look_up(loop, fileobj, &old) : 0;
    if (found <= 0)
        return found < 0 ? NULL : cdpy_pass_on(asyncios, self, &fileobj, 1, NULL);
    if (old.data == NULL)
        Py_RETURN_FALSE;
    int cancelled = put(loop, fileobj, &old, event, Py_None);
    if (cancelled == 0)
        cancelled = cancel_old(loop, &old, event);
    Py_DECREF(old.data);
    return cancelled < 0 ? NULL : PyBool_FromLong(cancelled);
}

/* WeakValueDictionary keeps its references in the dict `data`: a descriptor that is not there has
 * no transport. */
int cdpy_loop_check_transports(cdpy_loop *loop, PyObject *number)
{
    const cdpy_state *state = loop->state;
    PyObject *data = NULL, *result = NULL;
    PyObject *transports = PyObject_GetAttr((PyObject *)loop, state->s__transports);
    if (transports != NULL)
        data = PyObject_GetAttr(transports, state->s_data);
    int found = data == NULL ? -1 : 1;
    if (data != NULL && PyDict_CheckExact(data) && PyLong_CheckExact(number))
        found = PyDict_Contains(data, number);
    if (found > 0)
        result = PyObject_CallFunctionObjArgs(state->loop_check_no_transport, (PyObject *)loop,
                                              number, NULL);
    Py_XDECREF(transports);
    Py_XDECREF(data);
    if (found > 0 && result == NULL)
        found = -1;
    Py_XDECREF(result);
    return found < 0 ? -1 : 0;
}

PyObject *cdpy_loop_ensure_no_transport(PyObject *self, PyObject *fileobj)
{
    cdpy_loop *loop = (cdpy_loop *)self;
    PyObject *number = NULL;
    if (PyLong_CheckExact(fileobj))
        number = Py_NewRef(fileobj);
    else if (Py_TYPE(fileobj) == (PyTypeObject *)loop->state->transport_socket_type)
        number = PyObject_CallMethodNoArgs(fileobj, loop->state->s_fileno);
    else
        return cdpy_pass_on(loop->state->loop_check_no_transport, self, &fileobj, 1, NULL);
    int result = number == NULL ? -1 : cdpy_loop_check_transports(loop, number);
    Py_XDECREF(number);
    if (result < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyObject *cdpy_loop_add_reader(PyObject *self, PyObject *const *args, Py_ssize_t count,
                               PyObject *names)
{
    return add(self, args, count, names, CD_READ);
}

PyObject *cdpy_loop_add_writer(PyObject *self, PyObject *const *args, Py_ssize_t count,
                               PyObject *names)
{
    return add(self, args, count, names, CD_WRITE);
}

PyObject *cdpy_loop_remove_reader(PyObject *self, PyObject *fileobj)
{
    return take_off(self, fileobj, CD_READ);
}

PyObject *cdpy_loop_remove_writer(PyObject *self, PyObject *fileobj)
{
    return take_off(self, fileobj, CD_WRITE);
}
