/*
 * server.c - Server: the core's callbacks, the type, and the ends it can come to.
 *
 * The callbacks translate and hand on: a request to application.c, "there is something to read" and
 * "there is room to write" to the waiters in awaitable.c, log lines and access events to the
 * Python callables that Server was given. They are called in dispatch only, where no task runs.
 *
 * Exceptions have nowhere to go in a callback of the core: ours go to cdpy_loop_report.
 *
 * The core's server lives until close(). Streams hold the Server, and the core holds the streams,
 * so a Server with anything under way cannot vanish; one that is dropped unclosed warns.
 */
#include "bridge/asgi/asgi.h"

#include <stddef.h>
#include <string.h>

/* ---- the core's callbacks ---- */

static void on_open(void *data, cd_stream *core, const cd_head *head)
{
    cdpy_server *server = data;
    cdpy_stream *stream = server->core ? cdpy_stream_new(server, core, head) : NULL;
    if (stream == NULL) {
        if (server->core)
            cdpy_loop_report(server->loop, "A request could not be started");
        cd_stream_finish(core, true);
        return;
    }
    cd_stream_set_data(core, Py_NewRef((PyObject *)stream)); /* on_gone */
    cdpy_application_run(stream, head);
    cdpy_fork_check(server->loop);
    Py_DECREF(stream);
}

static void on_ready(cd_stream *Py_UNUSED(core), void *data)
{
    cdpy_stream *stream = data;
    if (stream == NULL || stream->core == NULL)
        return;
    Py_INCREF(stream);
    cdpy_receive_ready(stream, true);
    cdpy_fork_check(stream->server->loop);
    Py_DECREF(stream);
}

static void on_drain(cd_stream *Py_UNUSED(core), void *data)
{
    cdpy_stream *stream = data;
    if (stream == NULL || stream->core == NULL)
        return;
    Py_INCREF(stream);
    cdpy_send_ready(stream, true);
    cdpy_fork_check(stream->server->loop);
    Py_DECREF(stream);
}

static void on_log(void *data, void *about, enum cd_level level, cd_str text)
{
    cdpy_stream *stream = about;
    Py_XINCREF((PyObject *)stream);
    PyObject *context = stream ? cdpy_stream_enter(stream) : NULL;
    PyObject *line = PyUnicode_DecodeUTF8(text.p, (Py_ssize_t)text.n, "backslashreplace");
    cdpy_application_log(data, level, line);
    Py_XDECREF(line);
    if (stream)
        cdpy_stream_exit(stream, context);
    Py_XDECREF((PyObject *)stream);
    cdpy_fork_check(((cdpy_server *)data)->loop);
}

/* The application answers, or has accepted, and never asked whether its client is still there. Most
 * that stream are written so, and it is no reason for a warning. */
static bool only_sends(const cdpy_stream *stream)
{
    return (stream->started || stream->denied) && !stream->disconnected;
}

/* Applications that a shutdown cancels are logged by the core. */
static void log_killed(cdpy_stream *stream)
{
    enum cd_level level = only_sends(stream) ? CD_DEBUG_LEVEL : CD_WARNING;
    PyObject *line =
        PyUnicode_FromFormat("Application instance %R for connection %R took too long to "
                             "shut down and was killed.",
                             stream->task, (PyObject *)stream);
    cdpy_application_log(stream->server, level, line);
    Py_XDECREF(line);
}

static void log_ignored(cdpy_stream *stream)
{
    PyObject *line = PyUnicode_FromFormat("Application instance %R for connection %R still runs "
                                          "after its cancellation: its send() raises from now on.",
                                          stream->task, (PyObject *)stream);
    cdpy_application_log(stream->server, CD_INFO, line);
    Py_XDECREF(line);
}

static void cancel_task(cdpy_stream *stream)
{
    PyObject *task = Py_NewRef(stream->task);
    PyObject *result = PyObject_CallMethodNoArgs(task, stream->server->state->s_cancel);
    if (result == NULL)
        cdpy_loop_report(stream->server->loop, "An application could not be cancelled");
    Py_XDECREF(result);
    Py_DECREF(task);
}

static void cancel(cdpy_stream *stream, enum cd_cancel why)
{
    bool again = stream->cancelled;
    stream->cancelled = true;
    if (again && why == CD_CANCEL_CLIENT_GONE) {
        stream->send_raises = true;
        log_ignored(stream);
        return;
    }
    if (why == CD_CANCEL_CLIENT_GONE)
        log_killed(stream);
    if (!again)
        cancel_task(stream);
}

static void on_cancel(cd_stream *Py_UNUSED(core), void *data, enum cd_cancel why)
{
    cdpy_stream *stream = data;
    if (stream == NULL || stream->core == NULL || stream->task == NULL)
        return;
    Py_INCREF(stream);
    PyObject *context = cdpy_stream_enter(stream);
    cancel(stream, why);
    cdpy_fork_check(stream->server->loop);
    cdpy_stream_exit(stream, context);
    Py_DECREF(stream);
}

static void on_gone(cd_stream *Py_UNUSED(core), void *data)
{
    cdpy_stream *stream = data;
    if (stream == NULL)
        return;
    cdpy_application_ended(stream,
                           true); /* nothing, unless the server is closed under the application */
    Py_CLEAR(stream->context);    /* it may hold what holds the stream */
    Py_DECREF(stream);            /* on_open */
}

static void release(void *data, void *token)
{
#ifdef CD_DEBUG
    cdpy_server *server = data;
    if (!Py_IS_TYPE((PyObject *)token, (PyTypeObject *)server->state->peer_type))
        CDPY_LIVE(pins, -1);
#else
    (void)data;
#endif
    Py_DECREF((PyObject *)token); /* cdpy_payload_settle, or peer_of in scope.c */
}

/* ---- access events ---- */

static PyObject *latin(cd_str text)
{
    return PyUnicode_DecodeLatin1(text.p, (Py_ssize_t)text.n, NULL);
}

static PyObject *details_of(cdpy_state *s, const cd_access *access)
{
    const cd_head *head = access->head;
    bool http = access->action == CD_COMPLETE;
    PyObject *dict = PyDict_New();
    if (dict == NULL ||
        cdpy_put(dict, s->s_path, latin(http ? head->target : head->raw_path)) < 0 ||
        cdpy_put(dict, s->s_client, cdpy_client_text(head)) < 0)
        goto fail;
    if (http && (cdpy_put(dict, s->s_method, latin(head->method)) < 0 ||
                 cdpy_put(dict, s->s_status, PyLong_FromLong(access->status)) < 0 ||
                 cdpy_put(dict, s->s_time_taken, PyFloat_FromDouble(access->duration)) < 0 ||
                 cdpy_put(dict, s->s_size, PyLong_FromUnsignedLongLong(access->size)) < 0))
        goto fail;
    return dict;
fail:
    Py_XDECREF(dict);
    return NULL;
}

static PyObject *action_name(cdpy_state *s, enum cd_action action)
{
    PyObject *const names[] = {s->s_complete, s->s_connecting, s->s_connected, s->s_rejected,
                               s->s_disconnected};
    return names[action];
}

static void tell_access(cdpy_server *server, const cd_access *access)
{
    cdpy_state *s = server->state;
    PyObject *protocol = access->action == CD_COMPLETE ? s->s_http : s->s_websocket;
    PyObject *details = details_of(s, access);
    PyObject *result = NULL;
    if (details)
        result = PyObject_CallFunctionObjArgs(server->on_access, protocol,
                                              action_name(s, access->action), details, NULL);
    if (result == NULL)
        cdpy_loop_report(server->loop, "An access log entry could not be written");
    cdpy_fork_check(server->loop);
    Py_XDECREF(details);
    Py_XDECREF(result);
}

static void on_access(void *data, const cd_access *access)
{
    cdpy_stream *stream = access->data;
    PyObject *context = stream ? cdpy_stream_enter(stream) : NULL;
    tell_access(data, access);
    if (stream)
        cdpy_stream_exit(stream, context);
}

static const cd_ops *ops_for(bool with_access)
{
    static const cd_ops plain = {on_open, on_ready, on_drain, on_cancel,
                                 on_gone, release,  on_log,   NULL};
    static const cd_ops all = {on_open, on_ready, on_drain, on_cancel,
                               on_gone, release,  on_log,   on_access};
    return with_access ? &all : &plain;
}

/* ---- Server ---- */

static PyObject *server_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
                            PyObject *Py_UNUSED(kwargs))
{
    PyObject *module = PyType_GetModuleByDef(type, &cdpy_module);
    cdpy_server *self = module ? (cdpy_server *)type->tp_alloc(type, 0) : NULL;
    if (self)
        self->state = PyModule_GetState(module);
    return (PyObject *)self;
}

/* In a forked child the server counts as closed and its requests have ended; but nothing is
 * freed. */
static void forsake(cdpy_guest *guest)
{
    cdpy_server *self = (cdpy_server *)((char *)guest - offsetof(cdpy_server, guest));
    Py_INCREF((PyObject *)self); /* for ever */
    for (cdpy_stream *stream = self->streams; stream != NULL; stream = stream->next) {
        stream->core = NULL;
        stream->head = NULL;
    }
    cd_server_forsake(self->core);
    self->forsaken = self->core;
    self->core = NULL;
}

static int open_core(cdpy_server *self, const cd_config *config)
{
    self->finished = cdpy_waiter_finished(self->state, self->loop);
    if (self->finished == NULL)
        return -1;
    self->pin_size = config->limits.pin_size;
    self->core = cd_server_new(self->loop->core, config, ops_for(self->on_access != NULL), self);
    if (self->core == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    self->loop->servers++; /* close_core */
    cdpy_fork_add_guest(self->loop, &self->guest, forsake);
    return 0;
}

static int server_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    cdpy_server *self = (cdpy_server *)op;
    cd_config config = cd_config_default;
    PyObject *owner = NULL, *loop, *app;
    const char **prefixes = NULL;
    if (self->loop) {
        PyErr_SetString(PyExc_RuntimeError, "Server.__init__() was called twice");
        return -1;
    }
    if (!PyArg_ParseTuple(args, "OO:Server", &loop, &app))
        return -1;
    if (cdpy_loop_check(self->state, loop) == NULL)
        return -1;
    if (!PyCallable_Check(app)) {
        PyErr_Format(PyExc_TypeError, "app must be callable, not %.200s", Py_TYPE(app)->tp_name);
        return -1;
    }
    self->loop = (cdpy_loop *)Py_NewRef(loop);
    self->app = Py_NewRef(app);
    int result = cdpy_parse_options(self, &config, kwargs, &owner, &prefixes);
    if (result == 0)
        result = open_core(self, &config);
    Py_XDECREF(owner);
    PyMem_Free(prefixes);
    return result;
}

/* Is the server open, and is this the thread of its loop? */
static bool usable(const cdpy_server *self)
{
    if (self->core && cdpy_loop_mine(self->loop))
        return true;
    PyErr_SetString(PyExc_RuntimeError, self->core ? "A Server is for the thread that runs its loop"
                                                   : "Server is closed");
    return false;
}

static int proxy_mode(const char *word, enum cd_proxy_mode *mode)
{
    static const char *const words[] = {"off", "optional", "required"};
    for (int i = CD_PROXY_OFF; i <= CD_PROXY_REQUIRED; i++) {
        if (strcmp(word, words[i]) == 0) {
            *mode = (enum cd_proxy_mode)i;
            return 0;
        }
    }
    PyErr_Format(PyExc_ValueError, "proxy is '%.100s'; give off, optional or required", word);
    return -1;
}

static PyObject *server_listen(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"", "tls", "proxy", NULL};
    cdpy_server *self = (cdpy_server *)op;
    PyObject *descriptor, *tls = Py_None;
    const char *proxy = "off";
    cd_listen how = {.tls = NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$Os:listen", names, &descriptor, &tls,
                                     &proxy))
        return NULL;
    int fd = PyObject_AsFileDescriptor(descriptor);
    if (fd < 0 || !usable(self) || proxy_mode(proxy, &how.proxy) < 0)
        return NULL;
    if (tls != Py_None && (how.tls = cdpy_tls_core(self->state, tls)) == NULL)
        return NULL;
    int code = cd_server_listen(self->core, fd, &how);
    if (code != CD_OK)
        return cdpy_raise(self->state, code, "listen()");
    Py_RETURN_NONE;
}

static PyObject *server_drain(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    cdpy_server *self = (cdpy_server *)op;
    if (!usable(self))
        return NULL;
    cd_server_drain(self->core);
    Py_RETURN_NONE;
}

static PyObject *server_cancel(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    cdpy_server *self = (cdpy_server *)op;
    if (!usable(self))
        return NULL;
    cd_server_cancel(self->core);
    Py_RETURN_NONE;
}

static PyObject *server_set_access_fd(PyObject *op, PyObject *arg)
{
    cdpy_server *self = (cdpy_server *)op;
    long fd = PyLong_AsLong(arg);
    if (fd == -1 && PyErr_Occurred())
        return NULL;
    if (fd < -1 || fd > INT_MAX)
        return PyErr_Format(PyExc_ValueError, "fd must be a descriptor or -1, not %S", arg);
    if (!usable(self))
        return NULL;
    cd_server_set_access_fd(self->core, (int)fd);
    Py_RETURN_NONE;
}

/* The application is cancelled, and its stream ends now: the core is freed before the loop turns
 * again. */
static void cut(cdpy_stream *stream)
{
    Py_INCREF(stream);
    if (stream->task)
        cancel_task(stream);
    cdpy_application_ended(stream, true);
    Py_DECREF(stream);
}

static void close_core(cdpy_server *self)
{
    cd_server *core = self->core;
    if (core == NULL)
        return;
    while (self->streams)
        cut(self->streams);
    self->core = NULL;
    cdpy_fork_remove_guest(self->loop, &self->guest);
    self->loop->dispatching =
        true; /* the last callbacks, also those of other servers on the loop */
    cd_server_free(core);
    self->loop->dispatching = false;
    self->loop->servers--;
}

static PyObject *server_close(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    cdpy_server *self = (cdpy_server *)op;
    if (self->core == NULL)
        Py_RETURN_NONE;
    if (!usable(self))
        return NULL;
    if (cdpy_loop_in_dispatch(self->loop))
        return PyErr_Format(PyExc_RuntimeError,
                            "close() is called from a callback of the server; use loop.call_soon");
    close_core(self);
    Py_RETURN_NONE;
}

static PyObject *get_connections(PyObject *op, void *Py_UNUSED(closure))
{
    cdpy_server *self = (cdpy_server *)op;
    return PyLong_FromSize_t(self->core ? cd_server_connections(self->core) : 0);
}

static PyObject *get_streams(PyObject *op, void *Py_UNUSED(closure))
{
    cdpy_server *self = (cdpy_server *)op;
    return PyLong_FromSize_t(self->core ? cd_server_streams(self->core) : 0);
}

static PyObject *get_tasks(PyObject *op, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(((cdpy_server *)op)->tasks);
}

static int server_traverse(PyObject *op, visitproc visit, void *arg)
{
    cdpy_server *self = (cdpy_server *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->loop);
    Py_VISIT(self->app);
    Py_VISIT(self->on_log);
    Py_VISIT(self->on_access);
    Py_VISIT(self->on_exception);
    Py_VISIT(self->lifespan_state);
    Py_VISIT(self->context);
    Py_VISIT(self->finished);
    Py_VISIT(self->task_kwargs[0]);
    Py_VISIT(self->task_kwargs[1]);
    return 0;
}

static int server_clear(PyObject *op)
{
    cdpy_server *self = (cdpy_server *)op;
    Py_CLEAR(self->app);
    Py_CLEAR(self->on_log);
    Py_CLEAR(self->on_access);
    Py_CLEAR(self->on_exception);
    Py_CLEAR(self->lifespan_state);
    Py_CLEAR(self->context);
    Py_CLEAR(self->task_kwargs[0]);
    Py_CLEAR(self->task_kwargs[1]);
    return 0;
}

/*
 * Nobody can close the server any more, so it is closed here; but not while its loop runs on
 * another thread (the collector runs on any thread): then it is kept for ever.
 */
static void server_finalize(PyObject *op)
{
    cdpy_server *self = (cdpy_server *)op;
    if (self->core == NULL)
        return;
    PyObject *pending = cdpy_error_take();
    if (PyErr_WarnFormat(PyExc_ResourceWarning, 1, "unclosed server %R", op) < 0)
        PyErr_WriteUnraisable(op);
    if (cdpy_loop_mine(self->loop) && !cdpy_loop_in_dispatch(self->loop))
        close_core(self);
    else
        Py_INCREF(op);
    cdpy_error_put(pending);
}

static void server_dealloc(PyObject *op)
{
    cdpy_server *self = (cdpy_server *)op;
    PyTypeObject *type = Py_TYPE(op);
    if (PyObject_CallFinalizerFromDealloc(op) < 0)
        return;
    PyObject_GC_UnTrack(op);
    (void)server_clear(op);
    Py_CLEAR(self->finished);
    Py_CLEAR(self->certificate);
    Py_CLEAR(self->root_path);
    Py_CLEAR(self->loop);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyMethodDef server_methods[] = {
    {"listen", (PyCFunction)(void (*)(void))server_listen, METH_VARARGS | METH_KEYWORDS,
     "listen($self, fd, /, *, tls=None, proxy='off')\n--\n\nAccept on this listening, non-blocking "
     "socket, and own it. OSError."},
    {"drain", server_drain, METH_NOARGS, "drain($self, /)\n--\n\nBegin the graceful shutdown."},
    {"cancel", server_cancel, METH_NOARGS, "cancel($self, /)\n--\n\nCancel what still runs."},
    {"close", server_close, METH_NOARGS,
     "close($self, /)\n--\n\nCut what is left; may be repeated."},
    {"set_access_fd", server_set_access_fd, METH_O,
     "set_access_fd($self, fd, /)\n--\n\nWhere the access log goes from now on, -1 for nowhere."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef server_getset[] = {
    {"connections", get_connections, NULL, "Open connections.", NULL},
    {"streams", get_streams, NULL, "Requests and WebSockets that are not over.", NULL},
    {"tasks", get_tasks, NULL, "Applications that are running.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot server_slots[] = {
    {Py_tp_doc, "An ASGI server on an event loop; see _core.pyi."},
    {Py_tp_new, server_new},
    {Py_tp_init, server_init},
    {Py_tp_dealloc, server_dealloc},
    {Py_tp_finalize, server_finalize},
    {Py_tp_traverse, server_traverse},
    {Py_tp_clear, server_clear},
    {Py_tp_methods, server_methods},
    {Py_tp_getset, server_getset},
    {0, NULL},
};

static PyType_Spec server_spec = {
    .name = "pyasgi._core.Server",
    .basicsize = sizeof(cdpy_server),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = server_slots,
};

int cdpy_server_init(PyObject *module, cdpy_state *state)
{
    return cdpy_add_type(module, &server_spec, &state->server_type, "Server");
}
