/*
 * stream.c - the Python side of a stream, and the receive and send callables of its application.
 *
 * A stream object ties four things together: the core's stream, the application's task, the
 * waiters, and the server. It is also the done callback of its task, which saves an object per
 * request. The task and everything it holds go when it ends; the core's stream is let go at that
 * moment too (`core` NULL), while on_gone comes later. So an ended request leaves no cycle behind.
 *
 * A message to a client that has gone is checked as always, and then dropped without a word: before
 * and after the disconnect event was handed out, after websocket.close, and after the application
 * ended (its children may keep receive and send). The application learns from receive() that its
 * client has left, and can clean up in its own order. So a dropped send() is no end, and two things
 * keep one that sends for ever from harm: each dropped send() gives the loop a turn, and the core
 * asks for the application's cancellation when it outstays application_close_timeout. Only one that
 * still runs after as long again gets ClientDisconnected from send().
 *
 * receive() gives one disconnect event, also to a child that outlives its application, and after it
 * waits for ever.
 *
 * receive and send count as coroutine functions, so asgiref's async_to_sync(send) takes them
 * without complaint.
 */
#include "bridge/asgi/asgi.h"

#include <stddef.h>

/* ---- the stream ---- */

static PyObject *stream_call(PyObject *op, PyObject *const *args, size_t nargsf, PyObject *names)
{
    if (PyVectorcall_NARGS(nargsf) != 1 || names)
        return PyErr_Format(PyExc_TypeError, "a stream is called with its task");
    cdpy_stream *self = (cdpy_stream *)op;
    if (args[0] == Py_None) {
        cdpy_receive_ready(self, false);
    } else if (args[0] == Py_True) {
        self->dropping = false;
        cdpy_send_ready(self, false);
    } else {
        cdpy_application_done(self, args[0]);
    }
    Py_RETURN_NONE;
}

cdpy_stream *cdpy_stream_new(cdpy_server *server, cd_stream *core, const cd_head *head)
{
    cdpy_state *state = server->state;
    cdpy_stream *self = cdpy_freelist_new(&state->free_streams, state->stream_type);
    if (self == NULL)
        return NULL;
    memset((char *)self + offsetof(cdpy_stream, vectorcall), 0,
           sizeof(*self) - offsetof(cdpy_stream, vectorcall));
    self->vectorcall = stream_call;
    self->core = core;
    self->head = head;
    self->kind = head->kind;
    self->offers = cdpy_extension_offers(server, head);
    self->server = (cdpy_server *)Py_NewRef((PyObject *)server);
    CDPY_LIVE(streams, 1);
    PyObject_GC_Track(self);
    return self;
}

bool cdpy_stream_readable(const cdpy_stream *stream)
{
    if (stream->returned)
        return true;
    return stream->core ? cd_stream_readable(stream->core) : !stream->disconnected;
}

void cdpy_stream_ask(cdpy_stream *stream)
{
    cd_event event;
    if (stream->core)
        (void)cd_stream_next(stream->core, &event); /* false: it was not readable */
}

void cdpy_stream_return(cdpy_stream *stream, PyObject *event)
{
    if (stream->returned == NULL)
        stream->returned = PyList_New(0);
    if (stream->returned == NULL || PyList_Append(stream->returned, event) < 0) {
        Py_CLEAR(stream->returned);
        cdpy_loop_report(stream->server->loop, "An event of receive() was lost");
    }
    Py_DECREF(event);
}

/* Returns the oldest event that was given back, or NULL with an exception. */
static PyObject *take_returned(cdpy_stream *stream)
{
    PyObject *event = Py_NewRef(PyList_GET_ITEM(stream->returned, 0));
    if (PyList_GET_SIZE(stream->returned) == 1)
        Py_CLEAR(stream->returned);
    else if (PyList_SetSlice(stream->returned, 0, 1, NULL) < 0)
        Py_CLEAR(event);
    return event;
}

/* Returns a disconnect: the application has ended before it saw one, and a child task of it asks
 * now. */
static PyObject *late_disconnect(cdpy_stream *stream)
{
    cd_event event = {.kind = CD_EVENT_DISCONNECT, .code = 1006};
    if (stream->kind == CD_HTTP)
        return cdpy_http_event(stream->server->state, &event);
    return cdpy_websocket_event(stream->server->state, &event);
}

int cdpy_stream_pull(cdpy_stream *stream, PyObject **event)
{
    cd_event taken;
    *event = NULL;
    if (stream->returned) {
        *event = take_returned(stream);
        return *event ? 1 : -1;
    }
    if (stream->core == NULL) {
        if (stream->disconnected)
            return 0;
        stream->disconnected = true;
        *event = late_disconnect(stream);
        return *event ? 1 : -1;
    }
    if (!cd_stream_next(stream->core, &taken))
        return 0;
    if (taken.kind == CD_EVENT_DISCONNECT)
        stream->disconnected = true;
    *event = stream->kind == CD_HTTP ? cdpy_http_event(stream->server->state, &taken)
                                     : cdpy_websocket_event(stream->server->state, &taken);
    if (*event)
        return 1;
    /* The event is lost, so the stream is aborted: an application must never get a body or a
     * dialogue with a gap. */
    cd_stream_abort(stream->core);
    return -1;
}

/* Makes what send() returns when nothing is sent: an awaitable that the next turn of the loop
 * finishes. */
static PyObject *dropped(cdpy_stream *stream)
{
    PyObject *waiter = cdpy_waiter_new(stream, CDPY_SEND);
    if (waiter && !stream->dropping) {
        if (cdpy_call_soon(stream->server->loop, (PyObject *)stream, Py_True, NULL) < 0)
            Py_CLEAR(waiter);
        else
            stream->dropping = true;
    }
    return waiter;
}

PyObject *cdpy_answer(cdpy_stream *stream, int code, bool waits, const char *what)
{
    cdpy_server *server = stream->server;
    if (code == CD_GONE && !stream->send_raises)
        return dropped(stream);
    if (code == CD_AGAIN && waits)
        return cdpy_waiter_new(stream, CDPY_SEND);
    if (code == CD_OK || code == CD_AGAIN)
        return Py_NewRef(server->finished);
    return cdpy_raise(server->state, code, what);
}

PyObject *cdpy_stream_enter(cdpy_stream *stream)
{
    if (stream->context == NULL)
        return NULL;
    if (PyContext_Enter(stream->context) == 0)
        return Py_NewRef(stream->context); /* cdpy_stream_exit */
    PyErr_Clear();                         /* the only possible error: it is entered already */
    return NULL;
}

void cdpy_stream_exit(cdpy_stream *stream, PyObject *context)
{
    if (context && PyContext_Exit(context) < 0)
        cdpy_loop_report(stream->server->loop, "A callback left another context than it was given");
    Py_XDECREF(context);
}

static PyObject *stream_repr(PyObject *op)
{
    cdpy_stream *self = (cdpy_stream *)op;
    const char *kind = self->kind == CD_HTTP ? "http" : "websocket";
    if (self->core == NULL)
        return PyUnicode_FromFormat("<%s ended>", kind);
    PyObject *target =
        PyUnicode_DecodeLatin1(self->head->target.p, (Py_ssize_t)self->head->target.n, NULL);
    PyObject *method =
        PyUnicode_DecodeLatin1(self->head->method.p, (Py_ssize_t)self->head->method.n, NULL);
    PyObject *client = cdpy_client_text(self->head);
    PyObject *text = NULL;
    if (target && method && client)
        text = PyUnicode_FromFormat("<%s %U %U from %S>", kind, method, target, client);
    Py_XDECREF(target);
    Py_XDECREF(method);
    Py_XDECREF(client);
    return text;
}

static int visit_held(const cdpy_waiters *list, visitproc visit, void *arg)
{
    for (cdpy_waiter *each = list->first; each; each = each->next) {
        if (each->held)
            Py_VISIT(each);
    }
    return 0;
}

static int stream_traverse(PyObject *op, visitproc visit, void *arg)
{
    cdpy_stream *self = (cdpy_stream *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->server);
    Py_VISIT(self->task);
    Py_VISIT(self->context);
    Py_VISIT(self->returned);
    int stop = visit_held(&self->receiving, visit, arg);
    return stop ? stop : visit_held(&self->sending, visit, arg);
}

static int stream_clear(PyObject *op)
{
    cdpy_stream *self = (cdpy_stream *)op;
    cdpy_waiters_detach(self);
    Py_CLEAR(self->task);
    Py_CLEAR(self->context);
    Py_CLEAR(self->returned);
    return 0; /* the server is kept: waiters of the stream may still use it */
}

static void stream_dealloc(PyObject *op)
{
    cdpy_stream *self = (cdpy_stream *)op;
    cdpy_state *state = cdpy_state_of(op);
    PyObject_GC_UnTrack(op);
    stream_clear(op);
    Py_CLEAR(self->server);
    CDPY_LIVE(streams, -1);
    cdpy_freelist_put(state ? &state->free_streams : NULL, op, CDPY_FREELIST);
}

static PyMemberDef stream_members[] = {
    {"__vectorcalloffset__", CDPY_T_PYSSIZET, offsetof(cdpy_stream, vectorcall), CDPY_READONLY,
     NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot stream_slots[] = {
    {Py_tp_doc, "One HTTP request or WebSocket."},
    {Py_tp_dealloc, stream_dealloc},
    {Py_tp_traverse, stream_traverse},
    {Py_tp_clear, stream_clear},
    {Py_tp_repr, stream_repr},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_members, stream_members},
    {0, NULL},
};

static PyType_Spec stream_spec = {
    .name = "pyasgi._core.Stream",
    .basicsize = sizeof(cdpy_stream),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL |
             Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = stream_slots,
};

/* ---- receive and send ---- */

static PyObject *call_new(cdpy_stream *stream, PyObject *type, vectorcallfunc vectorcall)
{
    cdpy_call *self = cdpy_freelist_new(&stream->server->state->free_calls, type);
    if (self == NULL)
        return NULL;
    self->vectorcall = vectorcall;
    self->stream = (cdpy_stream *)Py_NewRef((PyObject *)stream);
    self->weakrefs = NULL;
    CDPY_LIVE(calls, 1);
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

static PyObject *receive_call(PyObject *op, PyObject *const *Py_UNUSED(args), size_t nargsf,
                              PyObject *names)
{
    cdpy_stream *stream = ((cdpy_call *)op)->stream;
    if (PyVectorcall_NARGS(nargsf) != 0 || names)
        return PyErr_Format(PyExc_TypeError, "receive() takes no arguments");
    if (!cdpy_loop_mine(stream->server->loop))
        return cdpy_call_later(stream->server->state, op, NULL);
    return cdpy_waiter_new(stream, CDPY_RECEIVE);
}

static PyObject *send_event(cdpy_stream *stream, PyObject *event)
{
    cdpy_state *state = stream->server->state;
    PyObject *type, *result;
    if (!PyDict_Check(event))
        return PyErr_Format(PyExc_TypeError, "send() takes a dict, not %.200s: %.200R",
                            Py_TYPE(event)->tp_name, event);
    int found = cdpy_get(event, state->s_type, &type);
    if (found < 0)
        return NULL;
    if (found == 0)
        return PyErr_Format(PyExc_ValueError, "Message has no type defined");
    if (PyUnicode_Check(type))
        result = stream->kind == CD_HTTP ? cdpy_http_send(stream, event, type)
                                         : cdpy_websocket_send(stream, event, type);
    else
        result = PyErr_Format(PyExc_TypeError, "The type of a message must be str, not %.200s",
                              Py_TYPE(type)->tp_name);
    Py_DECREF(type);
    return result;
}

static PyObject *send_call(PyObject *op, PyObject *const *args, size_t nargsf, PyObject *names)
{
    cdpy_stream *stream = ((cdpy_call *)op)->stream;
    Py_ssize_t count = PyVectorcall_NARGS(nargsf);
    /* The specification calls the argument event or message, and it may be passed by keyword. */
    if (count + (names ? PyTuple_GET_SIZE(names) : 0) != 1)
        return PyErr_Format(PyExc_TypeError, "send() takes one event");
    if (!cdpy_loop_mine(stream->server->loop))
        return cdpy_call_later(stream->server->state, op, args[0]);
    return send_event(stream, args[0]);
}

PyObject *cdpy_receive_new(cdpy_stream *stream)
{
    return call_new(stream, stream->server->state->receive_type, receive_call);
}

PyObject *cdpy_send_new(cdpy_stream *stream)
{
    return call_new(stream, stream->server->state->send_type, send_call);
}

static PyObject *call_repr(PyObject *op)
{
    cdpy_call *self = (cdpy_call *)op;
    const char *name = self->vectorcall == send_call ? "send" : "receive";
    return PyUnicode_FromFormat("<%s of %R>", name, (PyObject *)self->stream);
}

static PyObject *get_name(PyObject *op, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(((cdpy_call *)op)->vectorcall == send_call ? "send" : "receive");
}

/* typing.get_type_hints() needs a dict. */
static PyObject *get_annotations(PyObject *Py_UNUSED(op), void *Py_UNUSED(closure))
{
    return PyDict_New();
}

static PyObject *new_signature(PyObject *inspect, const char *parameter)
{
    enum { POSITIONAL_OR_KEYWORD = 1 };
    PyObject *list = PyList_New(0), *signature = NULL;
    PyObject *each = parameter ? PyObject_CallMethod(inspect, "Parameter", "si", parameter,
                                                     POSITIONAL_OR_KEYWORD)
                               : NULL;

    if (list && (each == NULL || PyList_Append(list, each) == 0) && !PyErr_Occurred())
        signature = PyObject_CallMethod(inspect, "Signature", "O", list);
    Py_XDECREF(each);
    Py_XDECREF(list);
    return signature;
}

/*
 * Frameworks that inject arguments, and mocks, ask what a callable takes. inspect.signature() finds
 * that in no slot of a C type, only in this attribute; whoever asks has imported inspect.
 */
static PyObject *get_signature(PyObject *op, void *Py_UNUSED(closure))
{
    const char *parameter = ((cdpy_call *)op)->vectorcall == send_call ? "event" : NULL;
    PyObject *inspect = PyImport_ImportModule("inspect");
    PyObject *signature = inspect ? new_signature(inspect, parameter) : NULL;
    Py_XDECREF(inspect);
    return signature;
}

static int call_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((cdpy_call *)op)->stream);
    return 0;
}

static void call_dealloc(PyObject *op)
{
    cdpy_call *self = (cdpy_call *)op;
    cdpy_state *state = cdpy_state_of(op);
    PyObject_GC_UnTrack(op);
    if (self->weakrefs)
        PyObject_ClearWeakRefs(op);
    Py_CLEAR(self->stream);
    CDPY_LIVE(calls, -1);
    cdpy_freelist_put(state ? &state->free_calls : NULL, op, CDPY_FREELIST);
}

static PyMemberDef call_members[] = {
    {"__vectorcalloffset__", CDPY_T_PYSSIZET, offsetof(cdpy_call, vectorcall), CDPY_READONLY, NULL},
    {"__weaklistoffset__", CDPY_T_PYSSIZET, offsetof(cdpy_call, weakrefs), CDPY_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef call_getset[] = {
    {"__name__", get_name, NULL, NULL, NULL},
    {"__qualname__", get_name, NULL, NULL, NULL},
    {"__annotations__", get_annotations, NULL, NULL, NULL},
    {"__signature__", get_signature, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

/* There is no tp_clear: the stream breaks every cycle. */
static PyType_Slot call_slots[] = {
    {Py_tp_doc, "The receive or send of one application run."},
    {Py_tp_dealloc, call_dealloc},
    {Py_tp_traverse, call_traverse},
    {Py_tp_repr, call_repr},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_members, call_members},
    {Py_tp_getset, call_getset},
    {0, NULL},
};

static PyType_Spec receive_spec = {
    .name = "pyasgi._core.Receive",
    .basicsize = sizeof(cdpy_call),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = call_slots,
};

static PyType_Spec send_spec = {
    .name = "pyasgi._core.Send",
    .basicsize = sizeof(cdpy_call),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = call_slots,
};

/*
 * Sets the mark of a coroutine function on the type; instances inherit it. From Python 3.12 on
 * inspect has a public function for it; before, asyncio.iscoroutinefunction looks for an attribute
 * that no function of asyncio sets.
 */
static int mark_coroutine_function(PyObject *type)
{
#if PY_VERSION_HEX >= 0x030C0000
    PyObject *inspect = PyImport_ImportModule("inspect");
    PyObject *marked =
        inspect ? PyObject_CallMethod(inspect, "markcoroutinefunction", "O", type) : NULL;
    Py_XDECREF(inspect);
    Py_XDECREF(marked);
    return marked ? 0 : -1;
#else
    PyObject *coroutines = PyImport_ImportModule("asyncio.coroutines");
    PyObject *mark = coroutines ? PyObject_GetAttrString(coroutines, "_is_coroutine") : NULL;
    int result = mark ? PyObject_SetAttrString(type, "_is_coroutine", mark) : -1;
    Py_XDECREF(coroutines);
    Py_XDECREF(mark);
    return result;
#endif
}

int cdpy_stream_init(PyObject *module, cdpy_state *state)
{
    if (cdpy_add_type(module, &stream_spec, &state->stream_type, NULL) < 0 ||
        cdpy_add_type(module, &receive_spec, &state->receive_type, NULL) < 0 ||
        cdpy_add_type(module, &send_spec, &state->send_type, NULL) < 0)
        return -1;
    return mark_coroutine_function(state->receive_type) < 0
               ? -1
               : mark_coroutine_function(state->send_type);
}
