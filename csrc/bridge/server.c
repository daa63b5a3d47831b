/*
 * server.c - Server: the core's callbacks, and the life of an application's task.
 *
 * on_open is called in dispatch when a request's head is complete. It makes the scope, receive and
 * send, calls the application in a copy of the server's context and runs the first step of its task
 * at once ("eager start"): an application that answers without waiting costs no turn of the loop.
 * From Python 3.12 on asyncio.Task does that by itself; on 3.11 the step that the Task hands to
 * call_soon is captured by LoopBase and run here.
 *
 * A task ends in one of two ways: within on_open, which is seen at once, or later, through its done
 * callback. Either way its exception is logged once, the core is told (cd_stream_finish), and the
 * stream object lets the task go.
 *
 * Exceptions have nowhere to go in a callback of the core: those of the application go to
 * on_exception, our own to cdpy_loop_report, and KeyboardInterrupt and SystemExit of the
 * application come out of Poller.select, as out of any asyncio callback.
 */
#include "bridge.h"

/* ---- the end of an application ---- */

static void link_stream(cdpy_stream *stream)
{
    cdpy_server *server = stream->server;

    stream->next = server->streams;
    if (stream->next)
        stream->next->prev = stream;
    server->streams = stream;
    server->tasks++;
}

static void unlink_stream(cdpy_stream *stream)
{
    cdpy_server *server = stream->server;

    *(stream->prev ? &stream->prev->next : &server->streams) = stream->next;
    if (stream->next)
        stream->next->prev = stream->prev;
    stream->prev = stream->next = NULL;
    server->tasks--;
}

void cdpy_server_ended(cdpy_stream *stream, bool failed)
{
    cd_stream *core = stream->core;

    if (core == NULL)
        return;
    stream->core = NULL;
    stream->head = NULL;
    unlink_stream(stream);
    cd_stream_finish(core, failed);
    /* What a child task of the application may still be waiting for. */
    cdpy_send_ready(stream, true, false);
    if (cdpy_stream_readable(stream))
        cdpy_receive_ready(stream, false);
    else
        cdpy_waiters_detach(stream);
}

static bool is_exit(PyObject *error)
{
    return PyErr_GivenExceptionMatches(error, PyExc_KeyboardInterrupt) ||
           PyErr_GivenExceptionMatches(error, PyExc_SystemExit);
}

/* Takes the exception that is set: the application's. */
static void report(cdpy_server *server)
{
    PyObject *error = cdpy_error_take();
    PyObject *done = NULL;

    if (PyErr_GivenExceptionMatches(error, server->state->cancelled_error))
        done = Py_NewRef(Py_None);
    else if (server->on_exception && !is_exit(error))
        done = PyObject_CallOneArg(server->on_exception, error);
    else
        cdpy_error_put(Py_NewRef(error));
    if (done == NULL)
        cdpy_loop_report(server->loop, "Exception inside application");
    Py_XDECREF(done);
    Py_DECREF(error);
}

void cdpy_server_task_done(cdpy_stream *stream, PyObject *task)
{
    cdpy_state *state = stream->server->state;
    PyObject *error = PyObject_CallMethodNoArgs(task, state->s_exception);
    bool failed = error != Py_None;

    Py_INCREF(stream);
    Py_CLEAR(stream->task);
    if (error == NULL) {
        report(stream->server); /* cancelled: exception() raises it */
    } else if (failed && !is_exit(error)) {
        cdpy_error_put(Py_NewRef(error));
        report(stream->server);
    } /* KeyboardInterrupt and SystemExit came out of the loop when the task raised them */
    Py_XDECREF(error);
    cdpy_server_ended(stream, failed);
    Py_DECREF(stream);
}

/* ---- the start of an application ---- */

/* A new coroutine, or NULL with an exception: what application(scope, receive, send) returned. */
static PyObject *call_application(cdpy_stream *stream, PyObject *const *args, PyObject *context)
{
    cdpy_server *server = stream->server;

    if (PyContext_Enter(context) < 0)
        return NULL;
    PyObject *result = PyObject_Vectorcall(server->app, args, 3, NULL);
    PyObject *error = result ? NULL : cdpy_error_take();
    if (PyContext_Exit(context) < 0)
        Py_CLEAR(result);
    cdpy_error_put(error);
    if (result == NULL || PyCoro_CheckExact(result))
        return result;
    PyAsyncMethods *async = Py_TYPE(result)->tp_as_async;
    PyObject *coroutine = NULL;
    if (async && async->am_await)
        coroutine = cdpy_wrap_awaitable(server->state, result);
    else
        PyErr_Format(PyExc_TypeError,
                     "The application returned %.200s, which cannot be awaited: %R",
                     Py_TYPE(result)->tp_name, server->app);
    Py_DECREF(result);
    return coroutine;
}

#if PY_VERSION_HEX >= 0x030C0000
static PyObject *start_task(cdpy_server *server, PyObject *coroutine, PyObject *context)
{
    PyObject *args[] = {NULL, coroutine, (PyObject *)server->loop, context, Py_True};

    return PyObject_Vectorcall(server->state->task_type, args + 1,
                               1 | PY_VECTORCALL_ARGUMENTS_OFFSET, server->state->task_kwnames);
}

static PyObject *task_names(const cdpy_state *state)
{
    return PyTuple_Pack(3, state->s_loop, state->s_context, state->s_eager_start);
}
#else
/* Runs the first step that the Task gave to call_soon. -1 with KeyboardInterrupt or SystemExit; a
 * task keeps the others. */
static int run_first_step(PyObject *step, PyObject *context)
{
    if (PyContext_Enter(context) < 0)
        return -1;
    PyObject *result = PyObject_CallNoArgs(step);
    PyObject *error = result ? NULL : cdpy_error_take();
    Py_XDECREF(result);
    if (PyContext_Exit(context) < 0 && error)
        PyErr_Clear(); /* the first one counts */
    cdpy_error_put(error);
    return PyErr_Occurred() ? -1 : 0;
}

static PyObject *start_task(cdpy_server *server, PyObject *coroutine, PyObject *context)
{
    PyObject *args[] = {NULL, coroutine, (PyObject *)server->loop, context};
    PyObject *step, *step_context;

    cdpy_loop_arm_capture(server->loop);
    PyObject *task =
        PyObject_Vectorcall(server->state->task_type, args + 1, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET,
                            server->state->task_kwnames);
    PyObject *error = task ? NULL : cdpy_error_take();
    int captured = cdpy_loop_take_capture(server->loop, &step, &step_context);
    if (task && captured && run_first_step(step, step_context ? step_context : context) < 0)
        cdpy_loop_report(server->loop, "Exception in the first step of an application");
    Py_XDECREF(step);
    Py_XDECREF(step_context);
    cdpy_error_put(error);
    return task;
}

static PyObject *task_names(const cdpy_state *state)
{
    return PyTuple_Pack(2, state->s_loop, state->s_context);
}
#endif

/* 1: the task is done; 0: it goes on, and will call the stream; -1 with an exception. */
static int follow_task(cdpy_stream *stream, PyObject *task, PyObject *context)
{
    cdpy_state *state = stream->server->state;
    PyObject *done = PyObject_CallMethodNoArgs(task, state->s_done);
    int is_done = done ? PyObject_IsTrue(done) : -1;

    Py_XDECREF(done);
    if (is_done != 0)
        return is_done;
    PyObject *args[] = {task, (PyObject *)stream, context};
    PyObject *result =
        PyObject_VectorcallMethod(state->s_add_done_callback, args, 2, state->loop_context_names);
    Py_XDECREF(result);
    return result ? 0 : -1;
}

static void start(cdpy_stream *stream, PyObject *coroutine, PyObject *context)
{
    PyObject *task = start_task(stream->server, coroutine, context);
    int done = -1;

    if (task) {
        stream->task = Py_NewRef(task);
        done = follow_task(stream, task, context);
    }
    if (done == 1) {
        cdpy_server_task_done(stream, task);
    } else if (done < 0) {
        report(stream->server);
        Py_CLEAR(stream->task);
        cdpy_server_ended(stream, true);
    }
    Py_XDECREF(task);
}

static void run_application(cdpy_stream *stream, const cd_head *head)
{
    PyObject *scope = cdpy_scope_new(stream->server, head);
    PyObject *receive = scope ? cdpy_receive_new(stream) : NULL;
    PyObject *send = receive ? cdpy_send_new(stream) : NULL;
    PyObject *context = send ? PyContext_Copy(stream->server->context) : NULL;
    PyObject *args[] = {scope, receive, send};
    PyObject *coroutine = context ? call_application(stream, args, context) : NULL;

    /* The frame has its own now; what it drops early should be free early. */
    Py_XDECREF(scope);
    Py_XDECREF(receive);
    Py_XDECREF(send);
    if (coroutine) {
        start(stream, coroutine, context);
    } else {
        report(stream->server);
        cdpy_server_ended(stream, true);
    }
    Py_XDECREF(coroutine);
    Py_XDECREF(context);
}

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
    link_stream(stream);
    cd_stream_set_data(core, Py_NewRef((PyObject *)stream)); /* on_gone */
    run_application(stream, head);
    Py_DECREF(stream);
}

static void on_ready(cd_stream *Py_UNUSED(core), void *data)
{
    cdpy_stream *stream = data;

    if (stream == NULL || stream->core == NULL)
        return;
    Py_INCREF(stream);
    cdpy_receive_ready(stream, true);
    Py_DECREF(stream);
}

static void on_drain(cd_stream *Py_UNUSED(core), void *data)
{
    cdpy_stream *stream = data;

    if (stream == NULL || stream->core == NULL)
        return;
    Py_INCREF(stream);
    cdpy_send_ready(stream, false, true);
    Py_DECREF(stream);
}

static void write_log(cdpy_server *server, enum cd_level level, PyObject *line)
{
    if (server->on_log == NULL)
        return;
    PyObject *result = line ? PyObject_CallFunction(server->on_log, "iO", (int)level, line) : NULL;
    if (result == NULL)
        cdpy_loop_report(server->loop, "A log line could not be written");
    Py_XDECREF(result);
}

static void on_log(void *data, enum cd_level level, cd_str text)
{
    PyObject *line = PyUnicode_DecodeUTF8(text.p, (Py_ssize_t)text.n, "backslashreplace");

    write_log(data, level, line);
    Py_XDECREF(line);
}

/* The core has a line of its own for those that a shutdown cuts. */
static void log_outstayed(cdpy_stream *stream)
{
    PyObject *line =
        PyUnicode_FromFormat("Application instance %R for connection %R took too long to "
                             "shut down and was killed.",
                             stream->task, (PyObject *)stream);

    write_log(stream->server, CD_WARNING, line);
    Py_XDECREF(line);
}

static void on_cancel(cd_stream *Py_UNUSED(core), void *data, enum cd_cancel why)
{
    cdpy_stream *stream = data;

    if (stream == NULL || stream->core == NULL || stream->task == NULL || stream->cancelled)
        return;
    stream->cancelled = true;
    Py_INCREF(stream);
    PyObject *task = Py_NewRef(stream->task);
    if (why == CD_CANCEL_OUTSTAYED)
        log_outstayed(stream);
    PyObject *result = PyObject_CallMethodNoArgs(task, stream->server->state->s_cancel);
    if (result == NULL)
        cdpy_loop_report(stream->server->loop, "An application could not be cancelled");
    Py_XDECREF(result);
    Py_DECREF(task);
    Py_DECREF(stream);
}

static void on_gone(cd_stream *Py_UNUSED(core), void *data)
{
    cdpy_stream *stream = data;

    if (stream == NULL)
        return;
    cdpy_server_ended(stream,
                      true); /* nothing, unless the server is closed under the application */
    Py_DECREF(stream);       /* on_open */
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

static PyObject *details_of(const cdpy_server *server, const cd_access *access)
{
    cdpy_state *s = server->state;
    const cd_head *head = access->head;
    bool http = access->action == CD_COMPLETE;
    PyObject *dict = PyDict_New();

    if (dict == NULL ||
        cdpy_put(dict, s->s_path, latin(http ? head->target : head->raw_path)) < 0 ||
        cdpy_put(dict, s->s_client, cdpy_client_text(server, head)) < 0)
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

static void on_access(void *data, const cd_access *access)
{
    cdpy_server *server = data;
    cdpy_state *s = server->state;
    PyObject *protocol = access->action == CD_COMPLETE ? s->s_http : s->s_websocket;
    PyObject *details = details_of(server, access);
    PyObject *result = NULL;

    if (details)
        result = PyObject_CallFunctionObjArgs(server->on_access, protocol,
                                              action_name(s, access->action), details, NULL);
    if (result == NULL)
        cdpy_loop_report(server->loop, "An access log entry could not be written");
    Py_XDECREF(details);
    Py_XDECREF(result);
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
    return 0;
}

static int server_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    cdpy_server *self = (cdpy_server *)op;
    cd_config config = {.access_fd = -1};
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

/* Is it open, and this the thread of its loop? */
static bool usable(const cdpy_server *self)
{
    if (self->core && cdpy_loop_mine(self->loop))
        return true;
    PyErr_SetString(PyExc_RuntimeError, self->core ? "A Server is for the thread that runs its loop"
                                                   : "Server is closed");
    return false;
}

static PyObject *server_listen(PyObject *op, PyObject *arg)
{
    cdpy_server *self = (cdpy_server *)op;
    int fd = PyObject_AsFileDescriptor(arg);

    if (fd < 0 || !usable(self))
        return NULL;
    int code = cd_server_listen(self->core, fd, false);
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

/* The application is told by its cancellation, and its stream is over now: the core goes before the
 * loop turns again. */
static void cut(cdpy_stream *stream)
{
    cdpy_server *server = stream->server;

    Py_INCREF(stream);
    if (stream->task) {
        PyObject *result = PyObject_CallMethodNoArgs(stream->task, server->state->s_cancel);

        if (result == NULL)
            cdpy_loop_report(server->loop, "An application could not be cancelled");
        Py_XDECREF(result);
    }
    cdpy_server_ended(stream, true);
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
    return 0;
}

/*
 * Nobody can close it any more, so we do; but not under a loop that turns on another thread (the
 * collector runs on any): then it stays for ever.
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
    Py_CLEAR(self->root_path);
    Py_CLEAR(self->forwarded_for);
    Py_CLEAR(self->forwarded_port);
    Py_CLEAR(self->forwarded_proto);
    Py_CLEAR(self->loop);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyMethodDef server_methods[] = {
    {"listen", server_listen, METH_O,
     "listen($self, fd, /)\n--\n\nAccept on this listening, non-blocking socket, and own it. "
     "OSError."},
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
    state->task_kwnames = task_names(state);
    if (state->task_kwnames == NULL)
        return -1;
    return cdpy_add_type(module, &server_spec, &state->server_type, "Server");
}
