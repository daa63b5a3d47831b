/*
 * websocket.c - the events of WebSocket: what receive() gives and what send() takes.
 *
 * As in http.c an event is checked whole before the core hears of it, and a refused one leaves
 * nothing behind. A message has either text or bytes; an empty one is a message too.
 * websocket.receive has only the key that applies, as daphne's has.
 *
 * After websocket.close there is nobody any more who could get a message, as after the client has
 * gone: what follows is dropped (cdpy_answer). Consumers close twice, reject and then send, or send
 * in their disconnect handlers, and an exception would keep them from cleaning up.
 */
#include "bridge/asgi/asgi.h"

enum { NORMAL_CLOSURE = 1000 }; /* RFC 6455, 7.4.1 */

/* ---- receive ---- */

static PyObject *text_of(cd_str text)
{
    return PyUnicode_DecodeUTF8(text.p, (Py_ssize_t)text.n, "strict");
}

static int fill(cdpy_state *s, PyObject *dict, const cd_event *event)
{
    cd_str data = event->data;
    switch (event->kind) {
    case CD_EVENT_CONNECT:
        return PyDict_SetItem(dict, s->s_type, s->s_websocket_connect);
    case CD_EVENT_TEXT:
        if (PyDict_SetItem(dict, s->s_type, s->s_websocket_receive) < 0)
            return -1;
        return cdpy_put(dict, s->s_text, text_of(data));
    case CD_EVENT_BYTES:
        if (PyDict_SetItem(dict, s->s_type, s->s_websocket_receive) < 0)
            return -1;
        return cdpy_put(dict, s->s_bytes, PyBytes_FromStringAndSize(data.p, (Py_ssize_t)data.n));
    default:
        if (PyDict_SetItem(dict, s->s_type, s->s_websocket_disconnect) < 0 ||
            cdpy_put(dict, s->s_code, PyLong_FromLong(event->code)) < 0)
            return -1;
        return cdpy_put(dict, s->s_reason, text_of(data));
    }
}

PyObject *cdpy_websocket_event(cdpy_state *state, const cd_event *event)
{
    PyObject *dict = PyDict_New();
    if (dict && fill(state, dict, event) < 0)
        Py_CLEAR(dict);
    return dict;
}

/* ---- send ---- */

/* Reads an optional str of an event as UTF-8; *owner keeps it alive. Returns -1 with an
 * exception. */
static int optional_text(PyObject *event, PyObject *key, cd_str *text, PyObject **owner)
{
    Py_ssize_t n;
    *text = (cd_str){NULL, 0};
    if (cdpy_get(event, key, owner) < 0)
        return -1;
    if (*owner == NULL || *owner == Py_None)
        return 0;
    if (!PyUnicode_Check(*owner)) {
        PyErr_Format(PyExc_TypeError, "%U must be str or None, not %.200s", key,
                     Py_TYPE(*owner)->tp_name);
        return -1;
    }
    text->p = PyUnicode_AsUTF8AndSize(*owner, &n);
    text->n = (size_t)n;
    return text->p ? 0 : -1;
}

static PyObject *accept_socket(cdpy_stream *stream, PyObject *event)
{
    cdpy_state *state = stream->server->state;
    PyObject *owner = NULL, *result = NULL;
    cdpy_headers headers;
    cd_str subprotocol;
    int code = CD_GONE;
    if (cdpy_headers_init(&headers, event, state->s_headers) < 0 ||
        optional_text(event, state->s_subprotocol, &subprotocol, &owner) < 0)
        goto done;
    if (stream->core)
        code = cd_ws_accept(stream->core, subprotocol, headers.list, headers.count);
    if (code == CD_VALUE) {
        PyErr_Format(PyExc_ValueError, "subprotocol must be one that the client offered, not %R",
                     owner);
    } else if (code == CD_NAME) {
        PyErr_SetString(
            PyExc_ValueError,
            "headers of websocket.accept may not contain those of the "
            "handshake itself (sec-websocket-*, connection, upgrade, content-length, ...); "
            "the subprotocol has its own key");
    } else {
        result = cdpy_answer(stream, code, false, "websocket.accept");
        stream->started = result != NULL;
    }
done:
    cdpy_headers_dispose(&headers);
    Py_XDECREF(owner);
    return result;
}

static int both_or_neither(bool both)
{
    PyErr_SetString(PyExc_ValueError,
                    both ? "Got invalid WebSocket reply message - contains both bytes and text keys"
                         : "Got invalid WebSocket reply message - contains neither bytes nor text");
    return -1;
}

/* Finds which one of text and bytes is not None; exactly one must be. */
static int message_of(cdpy_stream *stream, PyObject *event, cdpy_payload *payload, bool *is_text)
{
    cdpy_state *state = stream->server->state;
    PyObject *text = NULL, *bytes = NULL;
    int result = -1;
    if (cdpy_get(event, state->s_text, &text) < 0)
        goto done;
    /* An event with text mostly has no other key than type. */
    if ((text == NULL || PyDict_GET_SIZE(event) > 2) && cdpy_get(event, state->s_bytes, &bytes) < 0)
        goto done;
    bool has_text = text && text != Py_None, has_bytes = bytes && bytes != Py_None;
    *is_text = has_text;
    if (has_text == has_bytes)
        result = both_or_neither(has_text);
    else if (has_text)
        result = cdpy_payload_text(payload, text, stream->server->pin_size);
    else
        result = cdpy_payload_bytes(payload, bytes, "bytes", stream->server->pin_size);
done:
    Py_XDECREF(text);
    Py_XDECREF(bytes);
    return result;
}

static PyObject *send_message(cdpy_stream *stream, PyObject *event)
{
    cdpy_payload payload;
    bool is_text;
    int code = CD_GONE;
    if (message_of(stream, event, &payload, &is_text) < 0)
        return NULL;
    if (stream->core)
        code = cd_ws_send(stream->core, is_text, payload.chunk);
    cdpy_payload_settle(&payload, code);
    return cdpy_answer(stream, code, true, "websocket.send");
}

/* Returns the close code, or -1 with an exception. */
static int close_code_of(cdpy_state *state, PyObject *event)
{
    PyObject *given;
    int found = cdpy_get(event, state->s_code, &given);
    int overflow = 0;
    long code = -1;
    if (found < 0)
        return -1;
    if (found == 0 || given == Py_None)
        code = NORMAL_CLOSURE;
    else if (!PyLong_Check(given))
        PyErr_Format(PyExc_TypeError, "code must be int, not %.200s", Py_TYPE(given)->tp_name);
    else if ((code = PyLong_AsLongAndOverflow(given, &overflow)) < 0 || code > 65535)
        PyErr_Format(PyExc_ValueError, "code must be a close code (1000 to 4999), not %S", given);
    Py_XDECREF(given);
    return PyErr_Occurred() ? -1 : (int)code;
}

static PyObject *close_socket(cdpy_stream *stream, PyObject *event)
{
    cdpy_state *state = stream->server->state;
    PyObject *owner = NULL, *result = NULL;
    cd_str reason;
    int given = close_code_of(state, event);
    if (given >= 0 && optional_text(event, state->s_reason, &reason, &owner) == 0) {
        int code = stream->core ? cd_ws_close(stream->core, given, reason) : CD_GONE;
        if (code == CD_STATUS)
            PyErr_Format(PyExc_ValueError,
                         "code must be 1000 to 1003, 1007 to 1014 or 3000 to 4999, not %d", given);
        else
            result = cdpy_answer(stream, code, false, "websocket.close");
        stream->complete = result != NULL;
    }
    Py_XDECREF(owner);
    return result;
}

/* Handles the response that denies the handshake. */
static PyObject *deny(cdpy_stream *stream, PyObject *event, PyObject *type, bool start)
{
    PyObject *result;
    if (stream->started)
        return PyErr_Format(PyExc_RuntimeError, "WebSocket has been accepted, but got %U", type);
    if (start && stream->denied)
        return PyErr_Format(PyExc_ValueError, "HTTP response has already been started");
    if (!start && !stream->denied)
        return PyErr_Format(PyExc_ValueError, "HTTP response has not yet been started but got %U",
                            type);
    if (!start)
        return cdpy_response_body(stream, event);
    result = cdpy_response_start(stream, event);
    stream->denied = stream->started;
    stream->started = false;
    return result;
}

static PyObject *send_in_order(cdpy_stream *stream, PyObject *event, PyObject *type)
{
    cdpy_state *s = stream->server->state;
    if (cdpy_is(type, s->s_websocket_send)) {
        if (!stream->started)
            return PyErr_Format(PyExc_ValueError,
                                "Socket has not been accepted, so cannot send over it");
        return send_message(stream, event);
    }
    if (cdpy_is(type, s->s_websocket_close) && !stream->denied)
        return close_socket(stream, event);
    if (stream->denied && !cdpy_is(type, s->s_websocket_http_response_start) &&
        !cdpy_is(type, s->s_websocket_http_response_body))
        return PyErr_Format(PyExc_RuntimeError,
                            "The handshake is being denied by websocket.http.response, but got %U",
                            type);
    if (cdpy_is(type, s->s_websocket_accept)) {
        if (stream->started)
            return PyErr_Format(PyExc_RuntimeError, "WebSocket has already been accepted");
        return accept_socket(stream, event);
    }
    return deny(stream, event, type, cdpy_is(type, s->s_websocket_http_response_start));
}

static bool is_known(const cdpy_state *s, PyObject *type)
{
    return cdpy_is(type, s->s_websocket_send) || cdpy_is(type, s->s_websocket_accept) ||
           cdpy_is(type, s->s_websocket_close) ||
           cdpy_is(type, s->s_websocket_http_response_start) ||
           cdpy_is(type, s->s_websocket_http_response_body);
}

PyObject *cdpy_websocket_send(cdpy_stream *stream, PyObject *event, PyObject *type)
{
    cdpy_state *state = stream->server->state;
    if (!is_known(state, type))
        return PyErr_Format(PyExc_ValueError, "Cannot handle message type %U!", type);
    if (stream->complete)
        return cdpy_answer(stream, CD_GONE, false, "send()");
    return send_in_order(stream, event, type);
}
