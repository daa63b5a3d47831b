/*
 * transport.c - SocketTransport: asyncio's socket transport with the methods through which every
 * byte of a stream goes, in C.
 *
 * State, flow control, closing and errors are asyncio's; these methods work on the same attributes
 * (subclass.c). Reading goes through one buffer of the module, so that bytes of the right size are
 * made at once and not a quarter of a megabyte that is cut down. A buffered protocol brings its own
 * memory, except that TLS of ours (sslproto.c) is handed the bytes. The GIL is kept: the socket
 * does not block.
 *
 * Whatever is not the usual case is left to asyncio's own method: a write that the kernel does not
 * take whole, any but plain bytes, a socket that is no socket.socket, a connection that is lost.
 */
#include "bridge/loop/loop.h"

/* Bytes of one read: a quarter of asyncio's. malloc takes larger objects from new pages every time,
 * which cost more than the bytes: this is twice as fast as 256 KB. */
enum { READ_SIZE = 64 * 1024 };

/* The objects that a call works on. */
typedef struct {
    cdpy_state *state;
    PyObject *self; /* borrowed from the caller */
} transport;

#define GET(t, name) cdpy_slot((t)->self, (t)->state->transport_slots.name)

/* ---- the transport's attributes ---- */

static bool is_plain(const transport *t)
{
    PyObject *sock = GET(t, _sock);
    return GET(t, _conn_lost) == t->state->zero && sock != NULL &&
           Py_TYPE(sock) == (PyTypeObject *)t->state->transport_socket_type;
}

/* Returns the descriptor; -1, with which every call fails, when there is none. */
static int get_fd(const transport *t)
{
    PyObject *number = GET(t, _sock_fd);
    int fd = number == NULL ? -1 : (int)PyLong_AsLong(number);
    PyErr_Clear();
    return fd;
}

/* Calls self._fatal_error(the exception that is set, message), unless the exception ends the
 * program. */
static PyObject *fail(const transport *t, const char *message)
{
    if (cdpy_is_exit(PyErr_Occurred()))
        return NULL;
    PyObject *error = cdpy_error_take();
    PyObject *result = PyObject_CallMethod(t->self, "_fatal_error", "Os", error, message);
    Py_DECREF(error);
    return result;
}

/* ---- reading ---- */

char *cdpy_scratch(cdpy_state *state)
{
    if (state->scratch == NULL && (state->scratch = PyMem_Malloc(CDPY_SCRATCH_SIZE)) == NULL)
        PyErr_NoMemory();
    return state->scratch;
}

/* Handles the result of a receive: treats the end of the stream and errors, and then *handled is
 * the value to return. */
static bool is_settled(const transport *t, long count, PyObject **handled)
{
    if (count > 0)
        return false;
    if (count == 0)
        *handled = PyObject_CallMethodNoArgs(t->self, t->state->s__read_ready__on_eof);
    else if (count == CD_AGAIN)
        *handled = Py_NewRef(Py_None);
    else {
        PyErr_SetFromErrno(PyExc_OSError);
        *handled = fail(t, "Fatal read error on socket transport");
    }
    return true;
}

static PyObject *deliver(const transport *t, PyObject *data)
{
    PyObject *protocol = Py_XNewRef(GET(t, _protocol)), *result = NULL;
    if (protocol != NULL)
        result = PyObject_CallMethodOneArg(protocol, t->state->s_data_received, data);
    Py_XDECREF(protocol);
    return result == NULL ? fail(t, "Fatal error: protocol.data_received() call failed.") : result;
}

/* Gives the bytes to our TLS protocol, as get_buffer() and buffer_updated() would. */
static PyObject *deliver_to_tls(const transport *t, PyObject *protocol, PyObject *data)
{
    Py_INCREF(protocol); /* below */
    PyObject *result = cdpy_sslproto_feed(t->state, protocol, data);
    Py_DECREF(protocol);
    return result == NULL ? fail(t, "Fatal error: protocol.buffer_updated() call failed.") : result;
}

/* Reads into the scratch buffer, which costs a copy but no memory beyond the bytes that came. */
static long read_some(const transport *t, PyObject **data)
{
    char *scratch = cdpy_scratch(t->state);
    if (scratch == NULL)
        return CD_NOMEM;
    long count = cd_fd_receive(get_fd(t), scratch, READ_SIZE);
    if (count > 0 && (*data = PyBytes_FromStringAndSize(scratch, count)) == NULL)
        return CD_NOMEM;
    return count;
}

/* Reads into the bytes object itself; used when the last read was full. */
static long read_much(const transport *t, PyObject **data)
{
    if ((*data = PyBytes_FromStringAndSize(NULL, READ_SIZE)) == NULL)
        return CD_NOMEM;
    long count = cd_fd_receive(get_fd(t), PyBytes_AS_STRING(*data), READ_SIZE);
    bool some = count > 0 && count < READ_SIZE;
    return some && _PyBytes_Resize(data, count) < 0 ? CD_NOMEM : count;
}

/* Reads and passes the bytes on; protocol: our TLS protocol, or NULL. */
static PyObject *read_data(const transport *t, PyObject *protocol)
{
    PyObject *handled = NULL, *data = NULL;
    bool full = GET(t, _last_read_full) == Py_True;
    long count = (full ? read_much : read_some)(t, &data);
    if (full != (count == READ_SIZE))
        cdpy_slot_put(t->self, t->state->transport_slots._last_read_full,
                      full ? Py_False : Py_True);
    if (count == CD_NOMEM)
        return fail(t, "Fatal read error on socket transport");
    if (!is_settled(t, count, &handled))
        handled = protocol == NULL ? deliver(t, data) : deliver_to_tls(t, protocol, data);
    Py_XDECREF(data);
    return handled;
}

static PyObject *data_received(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    transport t = {cdpy_subclass_state(self), self};
    if (is_plain(&t))
        return read_data(&t, NULL);
    return PyObject_CallOneArg(t.state->transport_data_received, self);
}

/* Reads into the protocol's own buffer; takes the reference to it. */
static PyObject *read_into(const transport *t, PyObject *protocol, PyObject *memory)
{
    Py_buffer buffer;
    PyObject *handled = NULL;
    if (PyObject_GetBuffer(memory, &buffer, PyBUF_WRITABLE) < 0) {
        Py_DECREF(memory);
        return fail(t, "Fatal read error on socket transport");
    }
    long count = cd_fd_receive(get_fd(t), buffer.buf, (size_t)buffer.len);
    PyBuffer_Release(&buffer);
    Py_DECREF(memory);
    if (is_settled(t, count, &handled))
        return handled;
    PyObject *number = PyLong_FromLong(count);
    if (number != NULL)
        handled = PyObject_CallMethodOneArg(protocol, t->state->s_buffer_updated, number);
    Py_XDECREF(number);
    return handled == NULL ? fail(t, "Fatal error: protocol.buffer_updated() call failed.")
                           : handled;
}

static PyObject *ask_for_buffer(const transport *t, PyObject *protocol)
{
    PyObject *memory =
        PyObject_CallMethodOneArg(protocol, t->state->s_get_buffer, t->state->minus_one);
    Py_ssize_t size = memory == NULL ? -1 : PyObject_Size(memory);
    if (size == 0)
        PyErr_SetString(PyExc_RuntimeError, "get_buffer() returned an empty buffer");
    if (size > 0)
        return read_into(t, protocol, memory);
    Py_XDECREF(memory);
    return fail(t, "Fatal error: protocol.get_buffer() call failed.");
}

static PyObject *get_buffer(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    transport t = {cdpy_subclass_state(self), self};
    PyObject *protocol = GET(&t, _protocol);
    if (protocol == NULL || !is_plain(&t))
        return PyObject_CallOneArg(t.state->transport_get_buffer, self);
    if (cdpy_sslproto_check(t.state, protocol))
        return read_data(&t, protocol);
    Py_INCREF(protocol); /* below */
    PyObject *result = ask_for_buffer(&t, protocol);
    Py_DECREF(protocol);
    return result;
}

/* Is the attribute our own bound method? */
static bool is_ours(PyObject *callback, PyCFunction function, PyObject *self)
{
    return PyCFunction_Check(callback) && PyCFunction_GET_FUNCTION(callback) == function &&
           PyCFunction_GET_SELF(callback) == self;
}

static PyObject *read_ready(PyObject *self, PyObject *ignored)
{
    transport t = {cdpy_subclass_state(self), self};
    PyObject *callback = GET(&t, _read_ready_cb);
    if (callback == NULL)
        return PyErr_Format(PyExc_AttributeError, "_read_ready_cb");
    if (is_ours(callback, data_received, self))
        return data_received(self, ignored);
    if (is_ours(callback, get_buffer, self))
        return get_buffer(self, ignored);
    Py_INCREF(callback); /* below */
    PyObject *result = PyObject_CallNoArgs(callback);
    Py_DECREF(callback);
    return result;
}

/* ---- writing ---- */

/* May a write be tried at once: is the transport not closing, without buffered data and without a
 * sendfile? */
static bool is_free(const transport *t)
{
    PyObject *buffer = GET(t, _buffer);
    if (GET(t, _eof) != Py_False || GET(t, _empty_waiter) != Py_None || buffer == NULL)
        return false;
    Py_ssize_t size = PyObject_Size(buffer);
    if (size < 0)
        PyErr_Clear(); /* asyncio's method raises the error */
    return size == 0;
}

static PyObject *write_as_asyncio(const transport *t, PyObject *data)
{
    PyObject *args[] = {t->self, data};
    return PyObject_Vectorcall(t->state->transport_write, args, 2, NULL);
}

static PyObject *write_rest(const transport *t, PyObject *data, long sent)
{
    PyObject *all = PyMemoryView_FromObject(data);
    PyObject *rest = all == NULL ? NULL : PySequence_GetSlice(all, sent, PyBytes_GET_SIZE(data));
    PyObject *result = rest == NULL ? NULL : write_as_asyncio(t, rest);
    Py_XDECREF(rest);
    Py_XDECREF(all);
    return result;
}

static PyObject *write_now(const transport *t, PyObject *data)
{
    long sent = cd_fd_send(get_fd(t), PyBytes_AS_STRING(data), (size_t)PyBytes_GET_SIZE(data));
    if (sent == PyBytes_GET_SIZE(data))
        Py_RETURN_NONE;
    if (sent >= 0)
        return write_rest(t, data, sent);
    if (sent == CD_AGAIN)
        return write_as_asyncio(t, data);
    PyErr_SetFromErrno(PyExc_OSError);
    return fail(t, "Fatal write error on socket transport");
}

PyObject *cdpy_transport_write(cdpy_state *state, PyObject *self, PyObject *data)
{
    transport t = {state, self};
    if (PyBytes_CheckExact(data) && PyBytes_GET_SIZE(data) > 0 && is_plain(&t) && is_free(&t))
        return write_now(&t, data);
    return write_as_asyncio(&t, data);
}

static PyObject *transport_write(PyObject *self, PyObject *data)
{
    return cdpy_transport_write(cdpy_subclass_state(self), self, data);
}

/* ---- set up ---- */

/* Does not read sock.family and sock.type, which make enums: the protocol is enough, because only
 * TCP has the option. */
PyObject *cdpy_set_nodelay(PyObject *module, PyObject *sock)
{
    const cdpy_state *state = PyModule_GetState(module);
    if (Py_TYPE(sock) != (PyTypeObject *)state->transport_socket_type)
        return PyObject_CallOneArg(state->transport_set_nodelay, sock);
    PyObject *proto = PyObject_GetAttr(sock, state->s_proto);
    int fd = proto == NULL ? -1 : cdpy_fileno(state, sock);
    if (!PyErr_Occurred() && cd_fd_set_nodelay(fd, PyLong_AsLong(proto)) < 0)
        PyErr_SetFromErrno(PyExc_OSError);
    Py_XDECREF(proto);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef methods[] = {
    {"_read_ready", read_ready, METH_NOARGS, NULL},
    {"_read_ready__data_received", data_received, METH_NOARGS, NULL},
    {"_read_ready__get_buffer", get_buffer, METH_NOARGS, NULL},
    {"write", transport_write, METH_O, "write($self, data, /)\n--\n\nAs asyncio's transport."},
    {NULL, NULL, 0, NULL},
};

static int find_asyncios(cdpy_state *state, PyObject *type)
{
    PyObject *base_events = PyImport_ImportModule("asyncio.base_events");
    if (base_events != NULL)
        state->transport_set_nodelay = PyObject_GetAttrString(base_events, "_set_nodelay");
    Py_XDECREF(base_events);
    PyObject *socket = PyImport_ImportModule("socket");
    if (socket != NULL)
        state->transport_socket_type = PyObject_GetAttrString(socket, "socket");
    Py_XDECREF(socket);
    state->transport_write = PyObject_GetAttrString(type, "write");
    state->transport_data_received = PyObject_GetAttrString(type, "_read_ready__data_received");
    state->transport_get_buffer = PyObject_GetAttrString(type, "_read_ready__get_buffer");
    return state->transport_write && state->transport_data_received &&
                   state->transport_get_buffer && state->transport_socket_type &&
                   state->transport_set_nodelay
               ? 0
               : -1;
}

int cdpy_transport_init(PyObject *module, cdpy_state *state)
{
#define X(name) #name,
    static const char *const names[] = {CDPY_TRANSPORT_SLOTS(X)};
#undef X
    PyObject *type = NULL, *events = PyImport_ImportModule("asyncio.selector_events");
    if (events != NULL)
        type = PyObject_GetAttrString(events, "_SelectorSocketTransport");
    Py_XDECREF(events);
    state->zero = PyLong_FromLong(0);
    state->minus_one = PyLong_FromLong(-1);
    if (type != NULL && state->zero && state->minus_one && find_asyncios(state, type) == 0)
        state->transport_type = cdpy_subclass_new(module, type, "_SelectorSocketTransport", names,
                                                  (Py_ssize_t *)&state->transport_slots,
                                                  sizeof names / sizeof *names, methods);
    Py_XDECREF(type);
    if (state->transport_type == NULL)
        return -1;
    return PyModule_AddObjectRef(module, "SocketTransport", state->transport_type);
}
