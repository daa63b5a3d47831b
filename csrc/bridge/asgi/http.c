/*
 * http.c - the events of HTTP: what receive() gives and what send() takes.
 *
 * The checks of an event's fields are here, because only here can an exception say what the
 * application sent; what is legal on the wire (header names, Content-Length, order against
 * timeouts) is the core's to know. The order of start and body is tracked here as well, for the
 * sake of daphne's messages. Nothing of a refused event is sent, so the application may try again.
 *
 * What extensions add is in extension.c. When the client has gone all is checked and noted as ever,
 * and nothing sent (cdpy_answer).
 *
 * The denial response of a WebSocket (websocket.http.response.*) is the same two events under other
 * names.
 */
#include "bridge/asgi/asgi.h"

/* ---- receive ---- */

static int fill_request(cdpy_state *s, PyObject *dict, const cd_event *event)
{
    cd_str data = event->data;
    if (PyDict_SetItem(dict, s->s_type, s->s_http_request) < 0 ||
        cdpy_put(dict, s->s_body, PyBytes_FromStringAndSize(data.p, (Py_ssize_t)data.n)) < 0)
        return -1;
    return PyDict_SetItem(dict, s->s_more_body, event->more ? Py_True : Py_False);
}

PyObject *cdpy_http_event(cdpy_state *state, const cd_event *event)
{
    PyObject *dict = PyDict_New();
    int failed;
    if (dict == NULL)
        return NULL;
    if (event->kind == CD_EVENT_REQUEST)
        failed = fill_request(state, dict, event);
    else
        failed = PyDict_SetItem(dict, state->s_type, state->s_http_disconnect);
    if (failed)
        Py_CLEAR(dict);
    return dict;
}

/* ---- send ---- */

/* Returns the status, or -1 with an exception. */
static int status_of(cdpy_state *state, PyObject *event)
{
    PyObject *given;
    int found = cdpy_get(event, state->s_status, &given);
    if (found < 0)
        return -1;
    if (found == 0 || given == Py_None) {
        Py_XDECREF(given);
        PyErr_SetString(PyExc_ValueError,
                        "Specifying a status code is required for a Response message.");
        return -1;
    }
    int overflow = 0;
    long status = -1;
    if (PyLong_Check(given))
        status = PyLong_AsLongAndOverflow(given, &overflow);
    if (!PyLong_Check(given))
        PyErr_Format(PyExc_TypeError, "status must be int, not %.200s", Py_TYPE(given)->tp_name);
    else if (status < 200 || status > 999)
        PyErr_Format(PyExc_ValueError, "status must be from 200 to 999, not %S", given);
    Py_DECREF(given);
    return PyErr_Occurred() ? -1 : (int)status;
}

/* Does the response announce trailers? -1 with an exception, also when nobody would send them.
 * `known`: keys of the event that have been found; when it has no others, none need be looked
 * for. */
static int trailers_of(cdpy_stream *stream, PyObject *event, Py_ssize_t known)
{
    if (PyDict_GET_SIZE(event) <= known)
        return 0;
    int trailers = cdpy_truth(event, stream->server->state->s_trailers);

    if (trailers == 1 && !(stream->offers & CDPY_TRAILERS)) {
        PyErr_Format(
            PyExc_ValueError,
            "trailers is true, but the scope's extensions have no http.response.trailers%s",
            stream->server->offers & CDPY_TRAILERS ? "" : " (--extension trailers)");
        return -1;
    }
    return trailers;
}

PyObject *cdpy_response_start(cdpy_stream *stream, PyObject *event)
{
    enum { TYPE_AND_STATUS = 2 };
    cdpy_state *state = stream->server->state;
    cdpy_headers headers;
    int status = status_of(state, event);
    int trailers = -1;
    int code = CD_OK;

    if (status < 0)
        return NULL;
    if (cdpy_headers_init(&headers, event, state->s_headers) == 0)
        trailers = trailers_of(stream, event, TYPE_AND_STATUS + (headers.source != NULL));
    if (trailers < 0) {
        cdpy_headers_dispose(&headers);
        return NULL;
    }
    /* Reading the headers may have run code of the application: it may be over by now. */
    if (stream->core == NULL)
        code = CD_GONE;
    else
        code = cd_stream_start(stream->core, status, headers.list, headers.count);
    cdpy_headers_dispose(&headers);
    if (code == CD_OK && trailers)
        code = cd_stream_announce(stream->core);
    PyObject *result = cdpy_answer(stream, code, false, "http.response.start");
    if (result) {
        stream->started = true;
        stream->announced = trailers;
    }
    return result;
}

/* Returns the truth of more_body, which is looked up only when there are more keys than type and
 * body; -1 with an exception. */
static int body_of(cdpy_stream *stream, PyObject *event, cdpy_payload *payload)
{
    cdpy_state *state = stream->server->state;
    PyObject *given;
    int found = cdpy_get(event, state->s_body, &given);
    if (found == 0)
        given = Py_NewRef(state->empty_bytes);
    if (given == NULL)
        return -1;
    int more = PyDict_GET_SIZE(event) <= 1 + found ? 0 : cdpy_truth(event, state->s_more_body);
    if (more >= 0 && cdpy_payload_bytes(payload, given, "body", stream->server->pin_size) < 0)
        more = -1;
    Py_DECREF(given);
    return more;
}

void cdpy_body_sent(cdpy_stream *stream, bool more)
{
    stream->body_begun = true;
    stream->body_ended = !more;
    stream->complete = !more && !stream->announced;
}

PyObject *cdpy_response_body(cdpy_stream *stream, PyObject *event)
{
    cdpy_payload payload;
    int more = body_of(stream, event, &payload);
    int code = CD_GONE;
    if (more < 0)
        return NULL;
    if (stream->core)
        code = cd_stream_write(stream->core, payload.chunk, more);
    cdpy_payload_settle(&payload, code);
    /* After the last piece the application need not wait for a slow client. */
    PyObject *result = cdpy_answer(stream, code, more, "http.response.body");
    if (result)
        cdpy_body_sent(stream, more);
    return result;
}

PyObject *cdpy_http_send(cdpy_stream *stream, PyObject *event, PyObject *type)
{
    cdpy_state *state = stream->server->state;
    bool start = cdpy_is(type, state->s_http_response_start);
    if (!start && !cdpy_is(type, state->s_http_response_body))
        return cdpy_extension_send(stream, event, type);
    if (stream->complete) /* what follows the last body is ignored (ASGI, Response Body) */
        return cdpy_answer(stream, CD_GONE, false, "send()");
    if (start && stream->started)
        return PyErr_Format(PyExc_ValueError, "HTTP response has already been started");
    if (!start && !stream->started)
        return PyErr_Format(PyExc_ValueError, "HTTP response has not yet been started but got %U",
                            type);
    if (stream->body_ended)
        return PyErr_Format(PyExc_ValueError,
                            "HTTP response waits for its http.response.trailers but got %U", type);
    return start ? cdpy_response_start(stream, event) : cdpy_response_body(stream, event);
}
