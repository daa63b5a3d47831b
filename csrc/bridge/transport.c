/*
 * transport.c - reading and writing of asyncio's socket transports: the methods through which every
 * byte of a stream goes, put into a subclass of asyncio's class (pyasgi.loop).
 *
 * State, flow control, closing and errors are asyncio's; these methods work on the same attributes.
 * Reading goes through one buffer of the module, so that bytes of the right size are made at once
 * and not a quarter of a megabyte that is cut down. The GIL is kept: the socket does not block.
 *
 * A write that the kernel does not take whole, and any but plain bytes on a plain socket.socket,
 * is left to asyncio's own method. So is a buffered protocol, which brings its own memory.
 */
#include "bridge.h"

#include <errno.h>

/* asyncio's max_size: what one call reads. */
enum { READ_SIZE = 256 * 1024 };

/* What a call works on. */
typedef struct {
    cdpy_state *state;
    PyObject *self; /* borrowed from the caller */
    int fd;
} transport;

/* ---- the transport's attributes ---- */

/* 1 when the attribute is true, 0, or -1. */
static int is_true(PyObject *self, PyObject *name)
{
    PyObject *value = PyObject_GetAttr(self, name);
    int result = value == NULL ? -1 : PyObject_IsTrue(value);
    Py_XDECREF(value);
    return result;
}

/* 1 when the attribute is `expected`, 0, or -1. */
static int is_object(PyObject *self, PyObject *name, PyObject *expected)
{
    PyObject *value = PyObject_GetAttr(self, name);
    Py_XDECREF(value);
    return value == NULL ? -1 : value == expected;
}

static int get_fd(transport *t)
{
    PyObject *number = PyObject_GetAttr(t->self, t->state->s__sock_fd);
    long fd = number == NULL ? -1 : PyLong_AsLong(number);
    Py_XDECREF(number);
    t->fd = (int)fd;
    return fd < 0 && PyErr_Occurred() ? -1 : 0;
}

/* 1 when it has a plain socket, open still, 0 when not, -1. *t borrows from `self`. */
static int look_at(transport *t, PyObject *module, PyObject *self)
{
    t->state = PyModule_GetState(module);
    t->self = self;
    PyObject *sock = PyObject_GetAttr(self, t->state->s__sock);
    int plain = sock == NULL ? -1 : 0;
    if (plain == 0)
        plain = Py_TYPE(sock) == (PyTypeObject *)t->state->transport_socket_type;
    Py_XDECREF(sock);
    return plain > 0 && get_fd(t) < 0 ? -1 : plain;
}

/* self._fatal_error(the exception that is set, message), unless it is one that ends the program. */
static PyObject *fail(const transport *t, const char *message)
{
    if (PyErr_ExceptionMatches(PyExc_SystemExit) || PyErr_ExceptionMatches(PyExc_KeyboardInterrupt))
        return NULL;
    PyObject *error = cdpy_error_take();
    PyObject *result = PyObject_CallMethod(t->self, "_fatal_error", "Os", error, message);
    Py_DECREF(error);
    return result;
}

/* ---- reading ---- */

/* What came: bytes, empty at the end of the stream. NULL: an exception, or without one nothing yet.
 */
static PyObject *receive(const transport *t)
{
    cdpy_state *state = t->state;
    if (state->scratch == NULL && (state->scratch = PyMem_Malloc(READ_SIZE)) == NULL)
        return PyErr_NoMemory();
    long count = cd_fd_receive(t->fd, state->scratch, READ_SIZE);
    if (count >= 0)
        return PyBytes_FromStringAndSize(state->scratch, count);
    return count == CD_AGAIN ? NULL : PyErr_SetFromErrno(PyExc_OSError);
}

static PyObject *deliver(const transport *t, PyObject *data)
{
    PyObject *result = NULL, *protocol = PyObject_GetAttr(t->self, t->state->s__protocol);
    if (protocol != NULL)
        result = PyObject_CallMethodOneArg(protocol, t->state->s_data_received, data);
    Py_XDECREF(protocol);
    return result == NULL ? fail(t, "Fatal error: protocol.data_received() call failed.") : result;
}

static PyObject *read_data(const transport *t)
{
    PyObject *data = receive(t), *result;
    if (data == NULL && PyErr_Occurred())
        return fail(t, "Fatal read error on socket transport");
    if (data == NULL)
        Py_RETURN_NONE;
    if (PyBytes_GET_SIZE(data) > 0)
        result = deliver(t, data);
    else
        result = PyObject_CallMethodNoArgs(t->self, t->state->s__read_ready__on_eof);
    Py_DECREF(data);
    return result;
}

static PyObject *transport_data_received(PyObject *module, PyObject *self)
{
    cdpy_state *state = PyModule_GetState(module);
    transport t;
    int lost = is_true(self, state->s__conn_lost);
    if (lost != 0)
        return lost < 0 ? NULL : Py_NewRef(Py_None);
    int plain = look_at(&t, module, self);
    if (plain < 0)
        return NULL;
    return plain ? read_data(&t) : PyObject_CallOneArg(state->transport_data_received, self);
}

static PyObject *transport_read_ready(PyObject *module, PyObject *self)
{
    cdpy_state *state = PyModule_GetState(module);
    PyObject *callback = PyObject_GetAttr(self, state->s__read_ready_cb);
    PyObject *result = NULL;
    if (callback == NULL)
        return NULL;
    if (PyMethod_Check(callback) &&
        PyMethod_GET_FUNCTION(callback) == state->transport_data_received_ours)
        result = transport_data_received(module, self);
    else
        result = PyObject_CallNoArgs(callback);
    Py_DECREF(callback);
    return result;
}

/* ---- writing ---- */

/* 1 when nothing stands before a write: open, nothing buffered, no sendfile; 0, or -1. */
static int is_free(const transport *t)
{
    const cdpy_state *state = t->state;
    int busy = is_true(t->self, state->s__eof);
    if (busy == 0)
        busy = is_true(t->self, state->s__conn_lost);
    if (busy == 0)
        busy = is_true(t->self, state->s__buffer);
    return busy == 0 ? is_object(t->self, state->s__empty_waiter, Py_None) : busy < 0 ? -1 : 0;
}

static PyObject *write_as_asyncio(const cdpy_state *state, PyObject *self, PyObject *data)
{
    PyObject *args[] = {self, data};
    return PyObject_Vectorcall(state->transport_write, args, 2, NULL);
}

static PyObject *write_rest(const transport *t, PyObject *data, long sent)
{
    PyObject *all = PyMemoryView_FromObject(data);
    PyObject *rest = all == NULL ? NULL : PySequence_GetSlice(all, sent, PyBytes_GET_SIZE(data));
    PyObject *result = rest == NULL ? NULL : write_as_asyncio(t->state, t->self, rest);
    Py_XDECREF(rest);
    Py_XDECREF(all);
    return result;
}

static PyObject *write_now(const transport *t, PyObject *data)
{
    long sent = cd_fd_send(t->fd, PyBytes_AS_STRING(data), (size_t)PyBytes_GET_SIZE(data));
    if (sent == PyBytes_GET_SIZE(data))
        Py_RETURN_NONE;
    if (sent >= 0)
        return write_rest(t, data, sent);
    if (sent == CD_AGAIN)
        return write_as_asyncio(t->state, t->self, data);
    PyErr_SetFromErrno(PyExc_OSError);
    return fail(t, "Fatal write error on socket transport");
}

static PyObject *transport_write(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    transport t;
    if (count != 2)
        return PyErr_Format(PyExc_TypeError, "write() takes 1 argument, got %zd", count - 1);
    PyObject *self = args[0], *data = args[1];
    int plain = look_at(&t, module, self);
    if (plain > 0)
        plain = PyBytes_CheckExact(data) && PyBytes_GET_SIZE(data) > 0 ? is_free(&t) : 0;
    if (plain < 0)
        return NULL;
    return plain ? write_now(&t, data) : write_as_asyncio(t.state, self, data);
}

/* ---- set up ---- */

static PyMethodDef methods[] = {
    {"transport_read_ready", transport_read_ready, METH_O,
     "_read_ready() of asyncio's socket transport."},
    {"transport_data_received", transport_data_received, METH_O,
     "_read_ready__data_received() of asyncio's socket transport."},
    {"transport_write", (PyCFunction)(void (*)(void))transport_write, METH_FASTCALL,
     "write() of asyncio's socket transport."},
};

/* Adds it to the module as a function that binds in a class. Borrowed, or NULL. */
static PyObject *add_method(PyObject *module, PyMethodDef *method)
{
    PyObject *function = PyCFunction_NewEx(method, module, NULL);
    PyObject *binding = function == NULL ? NULL : PyInstanceMethod_New(function);
    if (binding != NULL && PyModule_AddObjectRef(module, method->ml_name, binding) < 0)
        Py_CLEAR(binding);
    Py_XDECREF(binding); /* the module has it */
    Py_XDECREF(function);
    return binding == NULL ? NULL : function;
}

static int find_asyncios(cdpy_state *state)
{
    PyObject *type = NULL, *events = PyImport_ImportModule("asyncio.selector_events");
    PyObject *socket = PyImport_ImportModule("socket");
    if (events != NULL)
        type = PyObject_GetAttrString(events, "_SelectorSocketTransport");
    if (type != NULL) {
        state->transport_write = PyObject_GetAttrString(type, "write");
        state->transport_data_received = PyObject_GetAttrString(type, "_read_ready__data_received");
    }
    if (socket != NULL)
        state->transport_socket_type = PyObject_GetAttrString(socket, "socket");
    Py_XDECREF(socket);
    Py_XDECREF(type);
    Py_XDECREF(events);
    return state->transport_write && state->transport_data_received && state->transport_socket_type
               ? 0
               : -1;
}

int cdpy_transport_init(PyObject *module, cdpy_state *state)
{
    PyObject *functions[3];
    for (size_t i = 0; i < 3; i++)
        if ((functions[i] = add_method(module, &methods[i])) == NULL)
            return -1;
    state->transport_data_received_ours = Py_NewRef(functions[1]); /* module_clear */
    return find_asyncios(state);
}
