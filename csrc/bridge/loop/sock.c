/*
 * sock.c - sock_recv(), sock_recv_into(), sock_sendall() and sock_connect(), each a coroutine
 * written in C.
 *
 * As in asyncio nothing happens until the coroutine is awaited; then the call is tried at once, and
 * only if it would block is the descriptor watched, with the coroutine itself as the handle's
 * callback and a future for the task to wait on. What asyncio spends on a wait besides (two more
 * callbacks, a functools.partial, the BlockingIOError, a look into the table of transports by way
 * of its KeyError) is most of the cost of a round trip.
 *
 * The watch ends with the operation, or when the coroutine is thrown into, closed or forgotten. A
 * handle that somebody else has replaced on the descriptor is theirs to remove, as in asyncio.
 *
 * Whatever is not the usual case is asyncio's own coroutine: debug mode, a socket that blocks or is
 * no socket.socket, an odd number of bytes, an address that has to be looked up. So are
 * sock_accept() and datagrams.
 */
#include "bridge/loop/loop.h"

#include <errno.h>
#include <stddef.h>

enum kind { RECV, RECV_INTO, SENDALL, CONNECT, KINDS };
enum phase { NEW, TRYING, WAITING, ENDED };

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall; /* the coroutine itself is the callback of its handle */
    cdpy_loop *loop;           /* strong, as all of these */
    PyObject *sock;
    PyObject *memory;  /* the argument: number of bytes, buffer to fill, data to send, address */
    PyObject *number;  /* the descriptor, while it is watched */
    PyObject *handle;  /* the handle that watches it */
    PyObject *future;  /* the future that the task waits for */
    PyObject *waiting; /* its iterator */
    Py_buffer data;    /* the data of a running SENDALL; data.obj NULL: none */
    Py_ssize_t sent;
    cd_endpoint ip; /* the address of CONNECT */
    enum kind kind;
    enum phase phase;
} sock_call;

/* ---- trying ---- */

static PyObject *result_of(long count)
{
    if (count >= 0)
        return PyLong_FromLong(count);
    return count == CD_AGAIN ? NULL : PyErr_SetFromErrno(PyExc_OSError);
}

static PyObject *receive(const sock_call *s, int fd)
{
    char *scratch = cdpy_scratch(s->loop->state);
    if (scratch == NULL)
        return NULL;
    long count = cd_fd_receive(fd, scratch, PyLong_AsSize_t(s->memory));
    return count >= 0 ? PyBytes_FromStringAndSize(scratch, count) : result_of(count);
}

static PyObject *receive_into(const sock_call *s, int fd)
{
    Py_buffer buffer;
    if (PyObject_GetBuffer(s->memory, &buffer, PyBUF_WRITABLE) < 0)
        return NULL;
    long count = cd_fd_receive(fd, buffer.buf, (size_t)buffer.len);
    PyBuffer_Release(&buffer);
    return result_of(count);
}

static PyObject *send_rest(sock_call *s, int fd)
{
    if (s->data.obj == NULL && PyObject_GetBuffer(s->memory, &s->data, PyBUF_SIMPLE) < 0)
        return NULL;
    Py_ssize_t left = s->data.len - s->sent;
    long count = cd_fd_send(fd, (const char *)s->data.buf + s->sent, (size_t)left);
    if (count < 0)
        return result_of(count);
    s->sent += count;
    return s->sent == s->data.len ? Py_NewRef(Py_None) : NULL;
}

static PyObject *start_to_connect(const sock_call *s, int fd)
{
    if (PySys_Audit("socket.connect", "OO", s->sock, s->memory) < 0)
        return NULL;
    int result = cd_fd_connect(fd, &s->ip);
    if (result == CD_OK)
        return Py_NewRef(Py_None);
    return result == CD_AGAIN ? NULL : PyErr_SetFromErrno(PyExc_OSError);
}

static PyObject *end_of_connect(const sock_call *s, int fd)
{
    int number = cd_fd_connected(fd);
    if (number == 0)
        Py_RETURN_NONE;
    PyObject *text = PyUnicode_FromFormat("Connect call failed %S", s->memory);
    PyObject *error =
        text == NULL ? NULL : PyObject_CallFunction(PyExc_OSError, "iO", number, text);
    if (error != NULL)
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_XDECREF(error);
    Py_XDECREF(text);
    return NULL;
}

/* Returns the result; NULL with an exception, or without one: not yet. */
static PyObject *attempt(sock_call *s)
{
    int fd = cdpy_fileno(s->loop->state, s->sock);
    if (fd < 0 && PyErr_Occurred())
        return NULL;
    switch (s->kind) {
    case RECV:
        return receive(s, fd);
    case RECV_INTO:
        return receive_into(s, fd);
    case SENDALL:
        return send_rest(s, fd);
    default:
        return s->phase == WAITING ? end_of_connect(s, fd) : start_to_connect(s, fd);
    }
}

/* ---- watching ---- */

static bool waits_to_write(const sock_call *s)
{
    return s->kind == SENDALL || s->kind == CONNECT;
}

/* 0 or -1. */
static int watch(sock_call *s)
{
    PyObject *loop = (PyObject *)s->loop;
    s->number = PyObject_CallMethodNoArgs(s->sock, s->loop->state->s_fileno);
    if (s->number == NULL || cdpy_loop_check_transports(s->loop, s->number) < 0)
        return -1;
    PyObject *args[] = {s->number, (PyObject *)s};
    s->handle = waits_to_write(s) ? cdpy_loop_add_writer(loop, args, 2, NULL)
                                  : cdpy_loop_add_reader(loop, args, 2, NULL);
    return s->handle == NULL ? -1 : 0;
}

static void unwatch(sock_call *s)
{
    PyObject *handle = s->handle, *loop = (PyObject *)s->loop, *result = NULL;
    if (handle == NULL)
        return;
    s->handle = NULL;
    int cancelled = cdpy_handle_cancelled(s->loop->state, handle);
    if (cancelled == 0)
        result = waits_to_write(s) ? cdpy_loop_remove_writer(loop, s->number)
                                   : cdpy_loop_remove_reader(loop, s->number);
    if (result == NULL && cancelled <= 0)
        PyErr_WriteUnraisable(handle);
    Py_XDECREF(result);
    Py_DECREF(handle);
}

/* Ends the call, in whatever way; an exception that is set is kept. */
static void end(sock_call *s)
{
    PyObject *error = cdpy_error_take();
    s->phase = ENDED;
    unwatch(s);
    if (s->data.obj != NULL)
        PyBuffer_Release(&s->data);
    Py_CLEAR(s->sock);
    Py_CLEAR(s->memory);
    Py_CLEAR(s->number);
    Py_CLEAR(s->waiting);
    Py_CLEAR(s->future);
    cdpy_error_put(error);
}

/* Calls future.set_result(result), or if it is NULL set_exception() with the exception that is set.
 * Takes the reference. */
static PyObject *settle(sock_call *s, PyObject *result)
{
    const cdpy_state *state = s->loop->state;
    if (result == NULL && cdpy_is_exit(PyErr_Occurred()))
        return NULL;
    PyObject *name = result == NULL ? state->s_set_exception : state->s_set_result;
    PyObject *value = result == NULL ? cdpy_error_take() : result;
    PyObject *future = Py_NewRef(s->future); /* below; the coroutine may be closed meanwhile */
    unwatch(s);
    PyObject *told = PyObject_CallMethodOneArg(future, name, value);
    Py_DECREF(value);
    Py_DECREF(future);
    return told;
}

/* Called when the descriptor is ready. */
static PyObject *sock_call_ready(PyObject *self, PyObject *const *Py_UNUSED(args),
                                 size_t Py_UNUSED(flagged), PyObject *Py_UNUSED(names))
{
    sock_call *s = (sock_call *)self;
    if (s->phase != WAITING || s->handle == NULL)
        Py_RETURN_NONE;
    PyObject *done = PyObject_CallMethodNoArgs(s->future, s->loop->state->s_done);
    if (done != Py_False)
        return done; /* cancelled, or an exception */
    Py_DECREF(done);
    PyObject *result = attempt(s);
    if (result == NULL && !PyErr_Occurred())
        Py_RETURN_NONE;
    return settle(s, result);
}

/* ---- as a coroutine ---- */

static int make_future(sock_call *s)
{
    s->future = PyObject_CallMethodNoArgs((PyObject *)s->loop, s->loop->state->s_create_future);
    s->waiting = s->future == NULL ? NULL : PyObject_GetIter(s->future);
    return s->waiting == NULL ? -1 : 0;
}

/* Passes the call on to the future's iterator. */
static PySendResult go_on(sock_call *s, PyObject *value, PyObject **result)
{
    PySendResult status = PyIter_Send(s->waiting, value, result);
    if (status != PYGEN_NEXT)
        end(s);
    return status;
}

static PySendResult start(sock_call *s, PyObject **result)
{
    s->phase = TRYING; /* GetBuffer and fileno() may be Python's */
    *result = attempt(s);
    if (*result == NULL && !PyErr_Occurred() && make_future(s) == 0 && watch(s) == 0) {
        s->phase = WAITING;
        return go_on(s, Py_None, result);
    }
    end(s);
    return *result == NULL ? PYGEN_ERROR : PYGEN_RETURN;
}

static PySendResult sock_call_send(PyObject *self, PyObject *value, PyObject **result)
{
    sock_call *s = (sock_call *)self;
    *result = NULL;
    if (s->phase == NEW)
        return start(s, result);
    if (s->phase == WAITING)
        return go_on(s, value, result);
    PyErr_SetString(PyExc_RuntimeError, s->phase == ENDED ? "cannot reuse already awaited coroutine"
                                                          : "coroutine is being awaited already");
    return PYGEN_ERROR;
}

static PyObject *send_by_exception(PyObject *self, PyObject *value)
{
    PyObject *result;
    if (sock_call_send(self, value, &result) == PYGEN_RETURN) {
        PyErr_SetObject(PyExc_StopIteration, result); /* bytes, int or None: none is unpacked */
        Py_CLEAR(result);
    }
    return result;
}

static PyObject *sock_call_next(PyObject *self)
{
    return send_by_exception(self, Py_None);
}

static PyObject *sock_call_throw(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    sock_call *s = (sock_call *)self;
    if (s->phase == NEW && make_future(s) < 0)
        return NULL;
    if (s->waiting == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
        return NULL;
    }
    PyObject *throw = PyObject_GetAttr(s->waiting, s->loop->state->s_throw), *result = NULL;
    if (throw != NULL)
        result = PyObject_Vectorcall(throw, args, (size_t)count, NULL);
    Py_XDECREF(throw);
    if (result == NULL)
        end(s);
    return result;
}

static PyObject *sock_call_close(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    end((sock_call *)self);
    Py_RETURN_NONE;
}

static PyObject *await_itself(PyObject *self)
{
    return Py_NewRef(self);
}

/* ---- making ---- */

static const char *const kind_names[KINDS] = {"sock_recv", "sock_recv_into", "sock_sendall",
                                              "sock_connect"};

/* Returns 1 for a plain non-blocking socket, else 0, or -1. */
static int is_usual(const cdpy_loop *loop, PyObject *sock)
{
    if (loop->slow || !loop->plain ||
        Py_TYPE(sock) != (PyTypeObject *)loop->state->transport_socket_type)
        return 0;
    PyObject *timeout = PyObject_CallMethodNoArgs(sock, loop->state->s_gettimeout);
    if (timeout == NULL)
        return -1;
    bool never_blocks = PyFloat_CheckExact(timeout) && PyFloat_AS_DOUBLE(timeout) == 0;
    Py_DECREF(timeout);
    return never_blocks;
}

/* Is it a number of bytes that fits into the scratch buffer? */
static bool is_size(PyObject *memory)
{
    int overflow = 0;
    long size = PyLong_CheckExact(memory) ? PyLong_AsLongAndOverflow(memory, &overflow) : 0;
    return overflow == 0 && size > 0 && size <= CDPY_SCRATCH_SIZE;
}

/* Gets the memory to write into; for anything else asyncio reports the error. */
static bool is_writable(PyObject *memory)
{
    if (PyByteArray_CheckExact(memory))
        return true;
    return PyMemoryView_Check(memory) && !PyMemoryView_GET_BUFFER(memory)->readonly &&
           PyBuffer_IsContiguous(PyMemoryView_GET_BUFFER(memory), 'C');
}

static bool is_usual_argument(enum kind kind, PyObject *memory)
{
    if (kind == RECV)
        return is_size(memory);
    return kind == SENDALL || is_writable(memory);
}

static PyObject *sock_call_new(cdpy_loop *loop, enum kind kind, PyObject *sock, PyObject *memory)
{
    PyTypeObject *type = (PyTypeObject *)loop->state->sock_type;
    sock_call *s = (sock_call *)type->tp_alloc(type, 0);
    if (s == NULL)
        return NULL;
    s->vectorcall = sock_call_ready;
    s->loop =
        (cdpy_loop *)Py_NewRef((PyObject *)loop); /* sock_call_dealloc; the other two: end() */
    s->sock = Py_NewRef(sock);
    s->memory = Py_NewRef(memory);
    s->kind = kind;
    return (PyObject *)s;
}

static PyObject *make(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names,
                      enum kind kind)
{
    cdpy_loop *loop = (cdpy_loop *)self;
    PyObject *asyncios[] = {loop->state->loop_sock_recv, loop->state->loop_sock_recv_into,
                            loop->state->loop_sock_sendall};
    int usual = 0;
    if (count == 2 && names == NULL && is_usual_argument(kind, args[1]))
        usual = is_usual(loop, args[0]);
    if (usual < 0)
        return NULL;
    return usual ? sock_call_new(loop, kind, args[0], args[1])
                 : cdpy_pass_on(asyncios[kind], self, args, count, names);
}

PyObject *cdpy_loop_sock_recv(PyObject *self, PyObject *const *args, Py_ssize_t count,
                              PyObject *names)
{
    return make(self, args, count, names, RECV);
}

PyObject *cdpy_loop_sock_recv_into(PyObject *self, PyObject *const *args, Py_ssize_t count,
                                   PyObject *names)
{
    return make(self, args, count, names, RECV_INTO);
}

PyObject *cdpy_loop_sock_sendall(PyObject *self, PyObject *const *args, Py_ssize_t count,
                                 PyObject *names)
{
    return make(self, args, count, names, SENDALL);
}

/* Can the socket connect to the address without a look-up? 1, 0, or -1. */
static int find_address(const cdpy_loop *loop, PyObject *sock, PyObject *address, cd_endpoint *ip)
{
    if (!cdpy_endpoint_parse(address, ip))
        return 0;
    int fd = cdpy_fileno(loop->state, sock);
    return PyErr_Occurred() ? -1 : cd_fd_can_reach(fd, ip);
}

PyObject *cdpy_loop_sock_connect(PyObject *self, PyObject *const *args, Py_ssize_t count,
                                 PyObject *names)
{
    cdpy_loop *loop = (cdpy_loop *)self;
    cd_endpoint ip;
    int usual = count == 2 && names == NULL ? is_usual(loop, args[0]) : 0;
    if (usual > 0)
        usual = find_address(loop, args[0], args[1], &ip);
    if (usual < 0)
        return NULL;
    if (usual == 0)
        return cdpy_pass_on(loop->state->loop_sock_connect, self, args, count, names);
    PyObject *call = sock_call_new(loop, CONNECT, args[0], args[1]);
    if (call != NULL)
        ((sock_call *)call)->ip = ip;
    return call;
}

/* ---- life ---- */

static int sock_call_traverse(PyObject *self, visitproc visit, void *arg)
{
    const sock_call *s = (sock_call *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(s->loop);
    Py_VISIT(s->sock);
    Py_VISIT(s->memory);
    Py_VISIT(s->number);
    Py_VISIT(s->handle);
    Py_VISIT(s->future);
    Py_VISIT(s->waiting);
    Py_VISIT(s->data.obj);
    return 0;
}

/* The loop may be part of the same garbage, so it is not called. */
static int sock_call_clear(PyObject *self)
{
    Py_CLEAR(((sock_call *)self)->handle);
    end((sock_call *)self);
    return 0;
}

/* Warns as Python does for its own coroutines. */
static void sock_call_finalize(PyObject *self)
{
    const sock_call *s = (sock_call *)self;
    if (s->phase != NEW)
        return;
    PyObject *error = cdpy_error_take();
    if (PyErr_WarnFormat(PyExc_RuntimeWarning, 1, "coroutine '%s' was never awaited",
                         kind_names[s->kind]) < 0)
        PyErr_WriteUnraisable(self);
    cdpy_error_put(error);
}

static void sock_call_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    if (PyObject_CallFinalizerFromDealloc(self) < 0)
        return;
    PyObject_GC_UnTrack(self);
    end((sock_call *)self);
    Py_XDECREF(((sock_call *)self)->loop);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *get_name(PyObject *self, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(kind_names[((sock_call *)self)->kind]);
}

static PyMethodDef methods[] = {
    {"send", send_by_exception, METH_O, NULL},
    {"throw", (PyCFunction)(void (*)(void))sock_call_throw, METH_FASTCALL, NULL},
    {"close", sock_call_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getset[] = {
    {"__name__", get_name, NULL, NULL, NULL},
    {"__qualname__", get_name, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef members[] = {
    {"__vectorcalloffset__", CDPY_T_PYSSIZET, offsetof(sock_call, vectorcall), CDPY_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "What sock_recv(), sock_sendall() and so on return: a coroutine."},
    {Py_tp_call, PyVectorcall_Call},
    {Py_am_await, await_itself},
    {Py_am_send, sock_call_send},
    {Py_tp_iternext, sock_call_next},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {Py_tp_members, members},
    {Py_tp_traverse, sock_call_traverse},
    {Py_tp_clear, sock_call_clear},
    {Py_tp_finalize, sock_call_finalize},
    {Py_tp_dealloc, sock_call_dealloc},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pyasgi._core.SockCall",
    .basicsize = sizeof(sock_call),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL |
             Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

int cdpy_sock_init(PyObject *module, cdpy_state *state)
{
    return cdpy_add_type(module, &spec, &state->sock_type, NULL);
}
