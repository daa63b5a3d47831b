/*
 * sslproto.c - SSLProtocol: asyncio's TLS between a transport and a protocol, with the methods
 * through which every byte goes, in C.
 *
 * What a handshake leads to, shutdown, flow control and errors are asyncio's, and the records are
 * made by the SSLObject of the application's own SSLContext; these methods work on the same
 * attributes (subclass.c) and call the same objects. What they save is Python's share: attributes,
 * frames, the memoryview for each read, and above all the SSLWantReadError that ends each of
 * asyncio's reads, which costs as much as decrypting a small record. Here nothing is read when
 * nothing is there: SSL_read() takes a whole record out of the BIO and leaves no part of one
 * behind, so after a read an empty BIO means an empty SSL.
 *
 * Bytes of a SocketTransport (transport.c) come by cdpy_sslproto_feed() and leave by its write();
 * with any other transport the two are asyncio's and all else is the same.
 *
 * Whatever is not the usual case is left to asyncio's own method: a buffered protocol, an SSLObject
 * of a class of its own, a write that waits behind another one.
 */
#include "bridge/loop/loop.h"

/* RFC 8446, 5.1: the longest plaintext of a record, which is what one SSL_read() can return. */
enum { RECORD_SIZE = 1 << 14 };

/* What get_buffer() gives a transport that is no SocketTransport; asyncio's is 256 KiB. */
enum { BUFFER_SIZE = 1 << 15 };

/* The objects that a call works on. */
typedef struct {
    cdpy_state *state;
    PyObject *self; /* borrowed from the caller */
} tls;

#define GET(t, name) cdpy_slot((t)->self, (t)->state->sslproto_slots.name)

/* ---- calls ---- */

/* Calls self.name(). Returns 0 or -1. */
static int tell(const tls *t, PyObject *name)
{
    PyObject *result = PyObject_CallMethodNoArgs(t->self, name);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Returns the contents of a slot for the time of a call: a new reference, or NULL with an
 * exception. */
static PyObject *hold(PyObject *object)
{
    if (object == NULL)
        PyErr_SetString(PyExc_AttributeError, "SSLProtocol has not been initialised");
    return Py_XNewRef(object);
}

/* Returns the number of bytes in a BIO; -1 with an exception. */
static Py_ssize_t pending(const tls *t, PyObject *bio)
{
    PyObject *number = bio == NULL ? NULL : PyObject_GetAttr(bio, t->state->s_pending);
    Py_ssize_t count = number == NULL ? -1 : PyLong_AsSsize_t(number);
    Py_XDECREF(number);
    if (count < 0 && !PyErr_Occurred())
        PyErr_SetString(PyExc_ValueError, "a BIO has a negative number of bytes");
    return count;
}

/* Do the SSLObject's methods only call those of the object inside? */
static bool is_plain(const tls *t)
{
    PyObject *sslobj = GET(t, _sslobj);
    return sslobj != NULL && Py_TYPE(sslobj) == (PyTypeObject *)t->state->sslproto_object_type;
}

/* Returns the object inside: a new reference, or NULL with an exception. */
static PyObject *engine(const tls *t)
{
    PyObject *sslobj = hold(GET(t, _sslobj));
    PyObject *inside = sslobj == NULL ? NULL : PyObject_GetAttr(sslobj, t->state->s__sslobj);
    Py_XDECREF(sslobj);
    return inside;
}

/* Passes the exception that is set to self._fatal_error(), as `except Exception` would. Returns 0,
 * or -1 with an exception that goes on. */
static int fail(const tls *t)
{
    if (!PyErr_ExceptionMatches(PyExc_Exception))
        return -1;
    PyObject *error = cdpy_error_take();
    PyObject *result =
        PyObject_CallMethod(t->self, "_fatal_error", "Os", error, "Fatal error on SSL protocol");
    Py_DECREF(error);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* ---- out ---- */

/* Calls transport.write(data). Returns 0 or -1. */
static int put(const tls *t, PyObject *data)
{
    PyObject *transport = hold(GET(t, _transport)), *result = NULL;
    if (transport != NULL && Py_IS_TYPE(transport, (PyTypeObject *)t->state->transport_type))
        result = cdpy_transport_write(t->state, transport, data);
    else if (transport != NULL)
        result = PyObject_CallMethodOneArg(transport, t->state->s_write, data);
    Py_XDECREF(result);
    Py_XDECREF(transport);
    return result == NULL ? -1 : 0;
}

/* Is a high-water mark above 0? */
static bool is_above_zero(PyObject *mark)
{
    long value = mark == NULL ? 0 : PyLong_AsLong(mark);
    PyErr_Clear(); /* asyncio's method raises the error */
    return value > 0;
}

/* Has _control_app_writing() nothing to do, because the BIO is empty? */
static bool is_flowing(const tls *t)
{
    return GET(t, _write_buffer_size) == t->state->zero &&
           GET(t, _app_writing_paused) == Py_False && is_above_zero(GET(t, _outgoing_high_water));
}

/* Writes the contents of the BIO to the transport. Returns 0 or -1. */
static int send_records(const tls *t)
{
    if (GET(t, _ssl_writing_paused) != Py_False)
        return tell(t, t->state->s__control_app_writing);
    PyObject *bio = hold(GET(t, _outgoing));
    PyObject *data = bio == NULL ? NULL : PyObject_CallMethodNoArgs(bio, t->state->s_read);
    Py_ssize_t size = data == NULL ? -1 : PyObject_Size(data);
    Py_XDECREF(bio);
    int result = size > 0 ? put(t, data) : (int)size;
    Py_XDECREF(data);
    if (result < 0 || is_flowing(t))
        return result;
    return tell(t, t->state->s__control_app_writing);
}

/* Encrypts from `*done` on, as far as the SSLObject takes it now. Returns 1 when all is encrypted,
 * else 0, or -1. */
static int encrypt(const tls *t, PyObject *data, Py_ssize_t *done)
{
    Py_ssize_t size = PyBytes_GET_SIZE(data);
    PyObject *object = engine(t), *rest = object == NULL ? NULL : Py_NewRef(data), *number;
    while (rest != NULL && (number = PyObject_CallMethodOneArg(object, t->state->s_write, rest))) {
        *done += PyLong_AsSsize_t(number);
        Py_DECREF(number);
        if (*done >= size)
            break;
        Py_SETREF(rest, PyMemoryView_FromObject(data));
        if (rest != NULL)
            Py_SETREF(rest, PySequence_GetSlice(rest, *done, size));
    }
    Py_XDECREF(rest);
    Py_XDECREF(object);
    if (!PyErr_Occurred())
        return 1;
    if (!PyErr_ExceptionMatches(t->state->sslproto_again))
        return -1;
    PyErr_Clear();
    return 0;
}

static PyObject *write_as_asyncio(const tls *t, PyObject *list)
{
    PyObject *args[] = {t->self, list};
    return PyObject_Vectorcall(t->state->sslproto_write_appdata, args, 2, NULL);
}

/* Puts the data that the SSLObject did not take into asyncio's backlog. */
static PyObject *write_rest(const tls *t, PyObject *data, Py_ssize_t done)
{
    PyObject *all = PyMemoryView_FromObject(data);
    PyObject *rest = all == NULL ? NULL : PySequence_GetSlice(all, done, PyBytes_GET_SIZE(data));
    PyObject *list = rest == NULL ? NULL : PyTuple_Pack(1, rest);
    PyObject *result = list == NULL ? NULL : write_as_asyncio(t, list);
    Py_XDECREF(list);
    Py_XDECREF(rest);
    Py_XDECREF(all);
    return result;
}

/* Is TLS established, and does nothing wait before the data to be written? */
static bool is_free(const tls *t)
{
    PyObject *backlog = GET(t, _write_backlog);
    return GET(t, _state) == t->state->sslproto_wrapped && is_plain(t) && backlog != NULL &&
           GET(t, _write_buffer_size) == t->state->zero && PyObject_Size(backlog) == 0;
}

/* Returns the only item of a tuple if it is bytes; else NULL. */
static PyObject *only_bytes(PyObject *list)
{
    PyObject *data = NULL;
    if (PyTuple_CheckExact(list) && PyTuple_GET_SIZE(list) == 1)
        data = PyTuple_GET_ITEM(list, 0);
    return data != NULL && PyBytes_CheckExact(data) && PyBytes_GET_SIZE(data) > 0 ? data : NULL;
}

static PyObject *write_appdata(PyObject *self, PyObject *list)
{
    tls t = {cdpy_subclass_state(self), self};
    Py_ssize_t done = 0;
    PyObject *data = only_bytes(list);
    if (data == NULL || !is_free(&t))
        return write_as_asyncio(&t, list);
    int all = encrypt(&t, data, &done);
    if (all == 0)
        return write_rest(&t, data, done);
    if ((all < 0 || send_records(&t) < 0) && fail(&t) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *process_outgoing(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    tls t = {cdpy_subclass_state(self), self};
    if (send_records(&t) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* ---- in ---- */

/* Can a read return data? 1, 0, or -1. */
static int is_readable(const tls *t, PyObject *object)
{
    Py_ssize_t count = pending(t, GET(t, _incoming));
    if (count != 0)
        return count < 0 ? -1 : 1;
    PyObject *number = PyObject_CallMethodNoArgs(object, t->state->s_pending);
    int result = number == NULL ? -1 : PyObject_IsTrue(number);
    Py_XDECREF(number);
    return result;
}

/* Adds a chunk to those read before; takes the reference. Returns 0 or -1. */
static int add_chunk(PyObject **chunks, PyObject *chunk)
{
    int result = 0;
    if (*chunks == NULL)
        *chunks = PyList_New(0);
    if (*chunks == NULL || PyList_Append(*chunks, chunk) < 0)
        result = -1;
    Py_DECREF(chunk);
    return result;
}

/* Reads everything into a list, which stays NULL when there is nothing. Returns 1 when the peer has
 * closed TLS, else 0, or -1. */
static int decrypt(const tls *t, PyObject **chunks)
{
    PyObject *object = engine(t);
    int more = object == NULL ? -1 : is_readable(t, object), closed = 0;
    while (more > 0 && !closed) {
        PyObject *chunk =
            PyObject_CallMethodOneArg(object, t->state->s_read, t->state->sslproto_record);
        Py_ssize_t size = chunk == NULL ? -1 : PyObject_Size(chunk);
        if (size > 0) {
            more = add_chunk(chunks, chunk);
            if (more == 0)
                more = pending(t, GET(t, _incoming)) != 0;
            continue;
        }
        closed = size == 0;
        more = 0;
        Py_XDECREF(chunk);
    }
    Py_XDECREF(object);
    if (!PyErr_Occurred())
        return closed;
    if (!PyErr_ExceptionMatches(t->state->sslproto_again))
        return -1;
    PyErr_Clear();
    return 0;
}

/* Calls protocol.data_received() with all chunks joined. Returns 0 or -1. */
static int deliver(const tls *t, PyObject *chunks)
{
    PyObject *protocol = hold(GET(t, _app_protocol)), *data = NULL, *result = NULL;
    if (protocol == NULL)
        return -1;
    if (PyList_GET_SIZE(chunks) == 1) {
        data = Py_NewRef(PyList_GET_ITEM(chunks, 0));
    } else {
        PyObject *nothing = PyBytes_FromStringAndSize(NULL, 0);
        data = nothing == NULL ? NULL : PyObject_CallMethod(nothing, "join", "O", chunks);
        Py_XDECREF(nothing);
    }
    if (data != NULL)
        result = PyObject_CallMethodOneArg(protocol, t->state->s_data_received, data);
    Py_XDECREF(result);
    Py_XDECREF(data);
    Py_DECREF(protocol);
    return result == NULL ? -1 : 0;
}

static int read_records(const tls *t)
{
    PyObject *chunks = NULL;
    int closed = decrypt(t, &chunks), result = closed < 0 ? -1 : 0;
    if (result == 0 && chunks != NULL)
        result = deliver(t, chunks);
    Py_XDECREF(chunks);
    if (result == 0 && closed)
        result = tell(t, t->state->s__call_eof_received);
    if (result == 0 && closed)
        result = tell(t, t->state->s__start_shutdown);
    return result;
}

static int read_by_kind(const tls *t)
{
    if (GET(t, _app_protocol_is_buffer) != Py_False)
        return tell(t, t->state->s__do_read__buffered);
    return is_plain(t) ? read_records(t) : tell(t, t->state->s__do_read__copied);
}

/* Sends what the application wrote meanwhile, and messages of TLS itself. */
static int answer(const tls *t)
{
    PyObject *backlog = GET(t, _write_backlog);
    Py_ssize_t size = backlog == NULL ? -1 : PyObject_Size(backlog);
    if (size != 0)
        return tell(t, t->state->s__do_write);
    return GET(t, _handshaken) == Py_True ? 0 : send_records(t); /* end_handshake() */
}

/* Stops the transport's reading when too much is left, and starts it again. */
static int control_reading(const tls *t)
{
    Py_ssize_t size = pending(t, GET(t, _incoming));
    if (size < 0)
        return -1;
    if (size == 0 && GET(t, _ssl_reading_paused) == Py_False &&
        is_above_zero(GET(t, _incoming_high_water)))
        return 0;
    return tell(t, t->state->s__control_ssl_reading);
}

/* Returns 0, or -1 with an exception. */
static int read_and_answer(const tls *t)
{
    PyObject *phase = GET(t, _state);
    int result = 0;
    if (phase != t->state->sslproto_wrapped && phase != t->state->sslproto_flushing)
        return 0;
    if (GET(t, _app_reading_paused) == Py_False)
        result = read_by_kind(t) < 0 ? -1 : answer(t);
    if (result == 0)
        result = control_reading(t);
    return result < 0 ? fail(t) : 0;
}

static PyObject *do_read(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    tls t = {cdpy_subclass_state(self), self};
    if (read_and_answer(&t) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* ---- handshake ---- */

/* Only if asyncio allows the change of state; else asyncio's method raises the error. */
static PyObject *set_state(PyObject *self, PyObject *phase)
{
    cdpy_state *state = cdpy_subclass_state(self);
    const PyObject *old = cdpy_slot(self, state->sslproto_slots._state);
    bool next = (old == state->sslproto_unwrapped && phase == state->sslproto_handshaking) ||
                (old == state->sslproto_handshaking && phase == state->sslproto_wrapped) ||
                (old == state->sslproto_wrapped && phase == state->sslproto_flushing) ||
                (old == state->sslproto_flushing && phase == state->sslproto_shutting);
    if (!next && phase != state->sslproto_unwrapped)
        return PyObject_CallFunctionObjArgs(state->sslproto_set_state, self, phase, NULL);
    cdpy_slot_put(self, state->sslproto_slots._state, phase);
    Py_RETURN_NONE;
}

static PyObject *send_last(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    tls t = {cdpy_subclass_state(self), self};
    PyObject *transport = GET(&t, _transport);
    if (transport != NULL && transport != Py_None && send_records(&t) < 0 && fail(&t) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* Calls self._loop.call_soon(self._send_last). Returns 0 or -1. */
static int send_last_soon(const tls *t)
{
    PyObject *handle = NULL, *method = PyObject_GetAttr(t->self, t->state->s__send_last);
    PyObject *loop = method == NULL ? NULL : PyObject_GetAttr(t->self, t->state->s__loop);
    if (loop != NULL)
        handle = PyObject_CallMethodOneArg(loop, t->state->s_call_soon, method);
    Py_XDECREF(loop);
    Py_XDECREF(method);
    Py_XDECREF(handle);
    return handle == NULL ? -1 : 0;
}

/*
 * The client's last handshake messages wait for one turn of the loop: code that waited for the
 * handshake mostly writes at once, and then both are sent together. What connection_made() writes
 * takes them along without waiting. The server's are sent at once: a client that leaves at once
 * should have its tickets.
 */
static int end_handshake(const tls *t, PyObject *error)
{
    bool client = GET(t, _server_side) == Py_False;
    cdpy_slot_put(t->self, t->state->sslproto_slots._handshaken, client ? Py_True : Py_False);
    PyObject *result =
        PyObject_CallMethodOneArg(t->self, t->state->s__on_handshake_complete, error);
    cdpy_slot_put(t->self, t->state->sslproto_slots._handshaken, Py_False);
    Py_XDECREF(result);
    if (result == NULL || !client)
        return result == NULL ? -1 : 0;
    Py_ssize_t left = pending(t, GET(t, _outgoing));
    return left > 0 ? send_last_soon(t) : (int)left;
}

/* Passes an SSLError to _on_handshake_complete(), as `except` would. Returns 0 or -1. */
static int end_in_error(const tls *t)
{
    if (!PyErr_ExceptionMatches(t->state->sslproto_error))
        return -1;
    PyObject *error = cdpy_error_take();
    int result = end_handshake(t, error);
    Py_DECREF(error);
    return result;
}

/* Returns 0, or -1 with an exception. */
static int shake_hands(const tls *t)
{
    PyObject *object = engine(t);
    if (object == NULL)
        return -1;
    PyObject *done = PyObject_CallMethodNoArgs(object, t->state->s_do_handshake);
    Py_DECREF(object);
    Py_XDECREF(done);
    if (done != NULL)
        return end_handshake(t, Py_None);
    if (!PyErr_ExceptionMatches(t->state->sslproto_again))
        return end_in_error(t);
    PyErr_Clear();
    return send_records(t);
}

static PyObject *do_handshake(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    tls t = {cdpy_subclass_state(self), self};
    if (!is_plain(&t))
        return PyObject_CallOneArg(t.state->sslproto_do_handshake, self);
    if (shake_hands(&t) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* ---- what comes ---- */

/* Does what buffer_updated() does when the bytes are in the BIO. Returns 0 or -1. */
static int go_on(const tls *t)
{
    const cdpy_state *state = t->state;
    PyObject *phase = GET(t, _state);
    if (phase == state->sslproto_wrapped)
        return read_and_answer(t);
    if (phase == state->sslproto_handshaking)
        return tell(t, state->s__do_handshake);
    if (phase == state->sslproto_flushing)
        return tell(t, state->s__do_flush);
    return phase == state->sslproto_shutting ? tell(t, state->s__do_shutdown) : 0;
}

PyObject *cdpy_sslproto_feed(cdpy_state *state, PyObject *self, PyObject *data)
{
    tls t = {state, self};
    PyObject *bio = hold(GET(&t, _incoming)), *result = NULL;
    if (bio != NULL)
        result = PyObject_CallMethodOneArg(bio, state->s_write, data);
    Py_XDECREF(bio);
    Py_XDECREF(result);
    if (result == NULL || go_on(&t) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* ---- set up ---- */

static PyMethodDef methods[] = {
    {"_write_appdata", write_appdata, METH_O, NULL},
    {"_process_outgoing", process_outgoing, METH_NOARGS, NULL},
    {"_do_read", do_read, METH_NOARGS, NULL},
    {"_do_handshake", do_handshake, METH_NOARGS, NULL},
    {"_set_state", set_state, METH_O, NULL},
    {"_send_last", send_last, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static int find_phases(cdpy_state *state, PyObject *sslproto)
{
    struct {
        PyObject **slot;
        const char *name;
    } phases[] = {
        {&state->sslproto_unwrapped, "UNWRAPPED"}, {&state->sslproto_handshaking, "DO_HANDSHAKE"},
        {&state->sslproto_wrapped, "WRAPPED"},     {&state->sslproto_flushing, "FLUSHING"},
        {&state->sslproto_shutting, "SHUTDOWN"},
    };
    PyObject *type = PyObject_GetAttrString(sslproto, "SSLProtocolState");
    int result = type == NULL ? -1 : 0;
    for (size_t i = 0; result == 0 && i < sizeof phases / sizeof *phases; i++) {
        *phases[i].slot = PyObject_GetAttrString(type, phases[i].name);
        result = *phases[i].slot == NULL ? -1 : 0;
    }
    Py_XDECREF(type);
    return result;
}

static int find_asyncios(cdpy_state *state, PyObject *sslproto, PyObject *type)
{
    PyObject *ssl = PyImport_ImportModule("ssl");
    if (ssl != NULL) {
        state->sslproto_object_type = PyObject_GetAttrString(ssl, "SSLObject");
        state->sslproto_error = PyObject_GetAttrString(ssl, "SSLError");
    }
    Py_XDECREF(ssl);
    state->sslproto_again = PyObject_GetAttrString(sslproto, "SSLAgainErrors");
    state->sslproto_write_appdata = PyObject_GetAttrString(type, "_write_appdata");
    state->sslproto_do_handshake = PyObject_GetAttrString(type, "_do_handshake");
    state->sslproto_set_state = PyObject_GetAttrString(type, "_set_state");
    state->sslproto_record = PyLong_FromLong(RECORD_SIZE);
    if (!state->sslproto_object_type || !state->sslproto_error || !state->sslproto_again ||
        !state->sslproto_write_appdata || !state->sslproto_do_handshake ||
        !state->sslproto_set_state || !state->sslproto_record)
        return -1;
    return find_phases(state, sslproto);
}

/*
 * The constructor allocates a buffer of max_size bytes for get_buffer(), which a SocketTransport
 * never calls: so it gets the shortest one, and get_buffer() allocates another when it is called.
 */
static PyObject *max_size(PyObject *self, void *Py_UNUSED(closure))
{
    cdpy_state *state = cdpy_subclass_state(self);
    if (state == NULL)
        return NULL;
    bool constructed = cdpy_slot(self, state->sslproto_slots._ssl_buffer) != NULL;
    return PyLong_FromLong(constructed ? BUFFER_SIZE : 1);
}

static int add_max_size(PyObject *type)
{
    static PyGetSetDef getset = {.name = "max_size", .get = max_size};
    PyObject *descriptor = PyDescr_NewGetSet((PyTypeObject *)type, &getset);
    int result = descriptor == NULL ? -1 : PyObject_SetAttrString(type, getset.name, descriptor);
    Py_XDECREF(descriptor);
    return result;
}

static int make_class(PyObject *module, cdpy_state *state, PyObject *sslproto, PyObject *type)
{
#define X(name) #name,
    static const char *const names[] = {CDPY_SSLPROTO_SLOTS(X)};
#undef X
    if (find_asyncios(state, sslproto, type) < 0)
        return -1;
    state->sslproto_type =
        cdpy_subclass_new(module, type, "SSLProtocol", names, (Py_ssize_t *)&state->sslproto_slots,
                          sizeof names / sizeof *names, methods);
    return state->sslproto_type == NULL ? -1 : add_max_size(state->sslproto_type);
}

/*
 * Imports both modules first: meanwhile another thread may come here and make the class; after that
 * none does.
 */
static int make_once(PyObject *module, cdpy_state *state, PyObject *sslproto)
{
    PyObject *type = PyObject_GetAttrString(sslproto, "SSLProtocol");
    PyObject *ssl = PyImport_ImportModule("ssl");
    int result = type == NULL || ssl == NULL ? -1 : 0;
    if (result == 0 && state->sslproto_type == NULL)
        result = make_class(module, state, sslproto, type);
    Py_XDECREF(ssl);
    Py_XDECREF(type);
    return result;
}

PyObject *cdpy_ssl_protocol(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    cdpy_state *state = PyModule_GetState(module);
    if (state->sslproto_type == NULL) {
        PyObject *sslproto = PyImport_ImportModule("asyncio.sslproto");
        int made = sslproto == NULL ? -1 : make_once(module, state, sslproto);
        Py_XDECREF(sslproto);
        if (made < 0)
            return NULL;
    }
    return Py_NewRef(state->sslproto_type);
}
