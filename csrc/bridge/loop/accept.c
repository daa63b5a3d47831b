/*
 * accept.c - _accept_connection(), the callback of create_server()'s listeners: accepts what there
 * is, and makes a socket.socket and a task of each connection.
 *
 * The connection comes non-blocking out of accept4() and the end of the queue is no exception,
 * which are two system calls and most of the Python of each. What becomes of a connection is
 * asyncio's _accept_connection2(). Errors of accept() and whatever else is not the usual case are
 * asyncio's altogether.
 */
#include "bridge/loop/loop.h"

#include <unistd.h>

/* The arguments that _start_serving() registers. */
enum {
    PROTOCOL_FACTORY,
    SOCK,
    SSLCONTEXT,
    SERVER,
    BACKLOG,
    HANDSHAKE_TIMEOUT,
    SHUTDOWN_TIMEOUT,
    ARGUMENTS
};

static bool is_usual(const cdpy_loop *loop, PyObject *const *args, Py_ssize_t count,
                     PyObject *names)
{
    return loop->plain && !loop->slow && names == NULL && count == ARGUMENTS &&
           Py_TYPE(args[SOCK]) == (PyTypeObject *)loop->state->transport_socket_type &&
           PyLong_CheckExact(args[BACKLOG]);
}

static PyObject *peer_of(const cdpy_state *state, PyObject *sock, const cd_endpoint *from)
{
    return from->host[0] != '\0' ? cdpy_endpoint_tuple(from)
                                 : PyObject_CallMethodNoArgs(sock, state->s_getpeername);
}

/* socket.socket(family, type, proto, fileno); takes the descriptor. */
static PyObject *make_socket(const cdpy_state *state, PyObject *listener, int fd,
                             const cd_endpoint *from)
{
    PyObject *sock = NULL, *proto = PyObject_GetAttr(listener, state->s_proto);
    if (proto != NULL)
        sock = PyObject_CallFunction(state->transport_socket_type, "iiOi", from->family, from->type,
                                     proto, fd);
    Py_XDECREF(proto);
    if (sock == NULL)
        close(fd);
    return sock;
}

/* Calls create_task(_accept_connection2(...)). Returns 0 or -1. */
static int serve(cdpy_loop *loop, PyObject *const *args, PyObject *sock, PyObject *peer)
{
    PyObject *self = (PyObject *)loop, *coroutine = NULL, *task = NULL;
    PyObject *extra = PyDict_New();
    if (extra != NULL && PyDict_SetItem(extra, loop->state->s_peername, peer) == 0) {
        PyObject *all[] = {self,
                           args[PROTOCOL_FACTORY],
                           sock,
                           extra,
                           args[SSLCONTEXT],
                           args[SERVER],
                           args[HANDSHAKE_TIMEOUT],
                           args[SHUTDOWN_TIMEOUT]};
        coroutine = PyObject_VectorcallMethod(loop->state->s__accept_connection2, all, 8, NULL);
    }
    if (coroutine != NULL)
        task = PyObject_CallMethodOneArg(self, loop->state->s_create_task, coroutine);
    Py_XDECREF(task);
    Py_XDECREF(coroutine);
    Py_XDECREF(extra);
    return task == NULL ? -1 : 0;
}

/* Takes the descriptor. Returns 0 or -1. */
static int take(cdpy_loop *loop, PyObject *const *args, int fd, const cd_endpoint *from)
{
    int result = -1;
    PyObject *sock = make_socket(loop->state, args[SOCK], fd, from);
    PyObject *peer = sock == NULL ? NULL : peer_of(loop->state, sock, from);
    if (peer != NULL)
        result = serve(loop, args, sock, peer);
    Py_XDECREF(peer);
    Py_XDECREF(sock);
    return result;
}

PyObject *cdpy_loop_accept_connection(PyObject *self, PyObject *const *args, Py_ssize_t count,
                                      PyObject *names)
{
    cdpy_loop *loop = (cdpy_loop *)self;
    long left = is_usual(loop, args, count, names) ? PyLong_AsLong(args[BACKLOG]) : -1;
    int fd = CD_SYSTEM;
    cd_endpoint from;
    while (left-- > 0 && (fd = cd_fd_accept(cdpy_fileno(loop->state, args[SOCK]), &from)) >= 0)
        if (take(loop, args, fd, &from) < 0)
            return NULL;
    if (PyErr_Occurred())
        return NULL;
    if (fd != CD_SYSTEM)
        Py_RETURN_NONE;
    /* After an error asyncio's method runs: it tries again and treats the error. */
    return cdpy_pass_on(loop->state->loop_accept_connection, self, args, count, names);
}
