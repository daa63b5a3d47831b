/*
 * application.c - one run of the application: from the call to the end of its task.
 *
 * cdpy_application_run is called in dispatch when a request's head is complete. It makes scope,
 * receive and send, calls the application in a copy of the server's context, and runs the first
 * step of its task at once ("eager start"): an application that answers without waiting costs no
 * turn of the loop. From Python 3.12 on asyncio.Task does that by itself; on 3.11 the step that the
 * Task hands to call_soon is captured by LoopBase and run here.
 *
 * A task ends in one of two ways: within that call, which is seen at once, or later, through its
 * done callback. Either way its exception is reported once, the core is told (cd_stream_finish),
 * and the stream object lets the task go.
 *
 * What the bridge says of a request, its exception, cancellation and access events, it says in the
 * context of its application: filters of logs find their contextvars, and error trackers know what
 * they have seen. Lines of the core come in none: they wait for the dispatch and have no stream.
 *
 * Exceptions of the application go to the server's on_exception; KeyboardInterrupt and SystemExit
 * come out of Poller.select, as out of any asyncio callback.
 */
#include "bridge/asgi/asgi.h"

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

void cdpy_application_ended(cdpy_stream *stream, bool failed)
{
    cd_stream *core = stream->core;
    if (core == NULL)
        return;
    bool unfinished = !failed && !stream->complete && cd_stream_unfinished(core);
    stream->core = NULL;
    stream->head = NULL;
    unlink_stream(stream);
    cd_stream_finish(core, failed);
    if (unfinished)
        cdpy_extension_suspect(stream);
    /* Finishes what a child task of the application may still wait for. */
    cdpy_send_ready(stream, false);
    if (cdpy_stream_readable(stream))
        cdpy_receive_ready(stream, false);
    else
        cdpy_waiters_detach(stream);
}

static bool client_has_gone(const cdpy_stream *stream)
{
    return stream->disconnected || (stream->core && cd_stream_gone(stream->core));
}

/* Reports the application's exception, which is set, and takes it. */
static void report(cdpy_stream *stream)
{
    cdpy_server *server = stream->server;
    PyObject *error = cdpy_error_take();
    PyObject *done = NULL;
    if (server->loop->inherited) /* the child reports it when it ends */
        cdpy_loop_set_fatal(server->loop, error);
    if (server->loop->inherited ||
        PyErr_GivenExceptionMatches(error, server->state->cancelled_error))
        done = Py_NewRef(Py_None);
    else if (server->on_exception && !cdpy_is_exit(error))
        done = PyObject_CallFunctionObjArgs(server->on_exception, error,
                                            client_has_gone(stream) ? Py_True : Py_False, NULL);
    else
        cdpy_error_put(Py_NewRef(error));
    if (done == NULL)
        cdpy_loop_report(server->loop, "Exception inside application");
    Py_XDECREF(done);
    Py_DECREF(error);
}

void cdpy_application_log(cdpy_server *server, enum cd_level level, PyObject *line)
{
    if (server->on_log == NULL || server->loop->inherited)
        return;
    PyObject *result = line ? PyObject_CallFunction(server->on_log, "iO", (int)level, line) : NULL;
    if (result == NULL)
        cdpy_loop_report(server->loop, "A log line could not be written");
    Py_XDECREF(result);
}

/* The application was cancelled, but not by us and not because its client had gone: without a log
 * line nobody would know where the 500 comes from. */
static void log_cancelled(cdpy_stream *stream)
{
    if (stream->core == NULL || stream->cancelled || stream->disconnected || stream->complete)
        return;
    PyObject *line =
        PyUnicode_FromFormat("Application was cancelled before its end: %R", (PyObject *)stream);

    cdpy_application_log(stream->server, CD_WARNING, line);
    Py_XDECREF(line);
}

/* `error` is the result of exception() of a task that is done: NULL with an exception when it was
 * cancelled. Takes the reference. */
static void look_at_end(cdpy_stream *stream, PyObject *error)
{
    bool failed = error != Py_None;
    if (error == NULL) {
        report(stream); /* cancelled: exception() raises it */
        log_cancelled(stream);
    } else if (failed && !cdpy_is_exit(error)) {
        cdpy_error_put(Py_NewRef(error));
        report(stream);
    } /* the loop raised KeyboardInterrupt and SystemExit already, when the task raised them */
    Py_XDECREF(error);
    cdpy_application_ended(stream, failed);
}

/* The context is entered only if the end has to be logged. */
static void end_task(cdpy_stream *stream, PyObject *error)
{
    PyObject *pending = error == NULL ? cdpy_error_take() : NULL;
    Py_INCREF(stream);
    Py_CLEAR(stream->task);
    PyObject *context = error == Py_None ? NULL : cdpy_stream_enter(stream);
    cdpy_error_put(pending);
    look_at_end(stream, error);
    cdpy_stream_exit(stream, context);
    Py_DECREF(stream);
}

/* There is no task: the exception that is set ends the application. */
static void end_unstarted(cdpy_stream *stream)
{
    PyObject *error = cdpy_error_take();
    PyObject *context = cdpy_stream_enter(stream);
    cdpy_error_put(error);
    report(stream);
    cdpy_application_ended(stream, true);
    cdpy_stream_exit(stream, context);
}

void cdpy_application_done(cdpy_stream *stream, PyObject *task)
{
    end_task(stream, PyObject_CallMethodNoArgs(task, stream->server->state->s_exception));
}

/* ---- the start of an application ---- */

/* Calls application(scope, receive, send). Returns a new coroutine, or NULL with an exception. */
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

/*
 * Returns the keyword arguments of a Task call: a server has one dict of each kind, in which only
 * the context changes. Vectorcall would make a dict each time, because Task has no vectorcall of
 * its own; and without a name Python 3.11 would format one. Together this saves 7 % of a small
 * request.
 */
static PyObject *new_kwargs(cdpy_server *server, PyObject *name)
{
    cdpy_state *state = server->state;
    PyObject *kwargs = PyDict_New();
    if (kwargs && (PyDict_SetItem(kwargs, state->s_loop, (PyObject *)server->loop) < 0 ||
                   PyDict_SetItem(kwargs, state->s_name, name) < 0))
        Py_CLEAR(kwargs);
#if PY_VERSION_HEX >= 0x030C0000
    /* Without the short cuts a Handle runs the first step, too, because monitors want to see it. */
    if (kwargs && !server->loop->slow && PyDict_SetItem(kwargs, state->s_eager_start, Py_True) < 0)
        Py_CLEAR(kwargs);
#endif
    return kwargs;
}

static PyObject *new_task(cdpy_stream *stream, PyObject *coroutine, PyObject *context)
{
    cdpy_server *server = stream->server;
    cdpy_state *state = server->state;
    PyObject *name = stream->kind == CD_HTTP ? state->s_http : state->s_websocket;
    PyObject **kept = &server->task_kwargs[stream->kind == CD_HTTP];
    if (server->loop->slow)
        Py_CLEAR(*kept);
    PyObject *kwargs = *kept ? *kept : new_kwargs(server, name);
    PyObject *args = PyTuple_Pack(1, coroutine), *task = NULL;
    bool keep = !server->loop->slow;

    *kept = NULL; /* the call may start another request's task */
    if (args && kwargs && PyDict_SetItem(kwargs, state->s_context, context) == 0)
        task = PyObject_Call(state->task_type, args, kwargs);
    Py_XDECREF(args);
    PyObject *error = task ? NULL : cdpy_error_take();
    if (kwargs && PyDict_SetItem(kwargs, state->s_context, Py_None) < 0) {
        PyErr_Clear();
        Py_CLEAR(kwargs);
    }
    if (!keep)
        Py_CLEAR(kwargs);
    Py_XSETREF(*kept, kwargs);
    cdpy_error_put(error);
    return task;
}

#if PY_VERSION_HEX >= 0x030C0000
static PyObject *start_task(cdpy_stream *stream, PyObject *coroutine, PyObject *context)
{
    return new_task(stream, coroutine, context);
}
#else
/* Runs the first step that the Task gave to call_soon. Returns -1 with KeyboardInterrupt or
 * SystemExit; a task keeps other exceptions. */
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

static PyObject *start_task(cdpy_stream *stream, PyObject *coroutine, PyObject *context)
{
    cdpy_loop *loop = stream->server->loop;
    PyObject *step, *step_context;
    cdpy_loop_arm_capture(loop);
    PyObject *task = new_task(stream, coroutine, context);
    PyObject *error = task ? NULL : cdpy_error_take();
    int captured = cdpy_loop_take_capture(loop, &step, &step_context);
    if (task && captured && run_first_step(step, step_context ? step_context : context) < 0)
        cdpy_loop_report(loop, "Exception in the first step of an application");
    Py_XDECREF(step);
    Py_XDECREF(step_context);
    cdpy_error_put(error);
    return task;
}
#endif

/* True: the task was done, and its end was treated. Most tasks are done when their response is
 * complete, and then one call can tell the core both. */
static bool end_if_complete(cdpy_stream *stream, PyObject *task)
{
    cdpy_state *state = stream->server->state;
    if (!stream->complete)
        return false;
    PyObject *error = PyObject_CallMethodNoArgs(task, state->s_exception);
    if (error == NULL && PyErr_ExceptionMatches(state->invalid_state_error)) {
        PyErr_Clear();
        return false;
    }
    end_task(stream, error);
    return true;
}

/* Returns 1 when the task is done; 0 when it goes on, and will call the stream; -1 with an
 * exception. */
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

static void follow(cdpy_stream *stream, PyObject *task, PyObject *context)
{
    stream->task = Py_NewRef(task);
    if (end_if_complete(stream, task))
        return;
    int done = follow_task(stream, task, context);
    if (done == 1) {
        cdpy_application_done(stream, task);
    } else if (done < 0) {
        Py_CLEAR(stream->task);
        end_unstarted(stream);
    }
}

static void start(cdpy_stream *stream, PyObject *coroutine, PyObject *context)
{
    PyObject *task = start_task(stream, coroutine, context);
    if (task) {
        follow(stream, task, context);
        Py_DECREF(task);
    } else {
        end_unstarted(stream);
    }
}

void cdpy_application_run(cdpy_stream *stream, const cd_head *head)
{
    link_stream(stream);
    PyObject *scope = cdpy_scope_new(stream->server, head);
    PyObject *receive = scope ? cdpy_receive_new(stream) : NULL;
    PyObject *send = receive ? cdpy_send_new(stream) : NULL;
    PyObject *context = send ? PyContext_Copy(stream->server->context) : NULL;
    PyObject *args[] = {scope, receive, send};

    stream->context = Py_XNewRef(context);
    PyObject *coroutine = context ? call_application(stream, args, context) : NULL;

    /* The coroutine's frame has its own references now; objects that it drops early should be freed
     * early. */
    Py_XDECREF(scope);
    Py_XDECREF(receive);
    Py_XDECREF(send);
    if (coroutine) {
        start(stream, coroutine, context);
    } else {
        end_unstarted(stream);
    }
    Py_XDECREF(coroutine);
    Py_XDECREF(context);
}
