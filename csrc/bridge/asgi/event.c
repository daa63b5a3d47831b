/*
 * event.c - between the values of an event and the core's: headers, payloads, return codes.
 *
 * Headers and payloads are borrowed, not copied, while the core looks at them: what the slices
 * point into is kept alive by a strong reference in the struct. Headers of the usual form (a list
 * or tuple of lists or tuples) are read in place; anything else that iterates is first turned into
 * that form, which may run Python code, so it happens before the first slice is made.
 *
 * A payload is pinned only when nobody can change it: bytes, str, and memoryviews of bytes. A
 * bytearray (or a view of one) is copied, because an application that gets the buffer back from
 * send() fills it again while the kernel still reads it.
 *
 * All exceptions that stand for a CD_* code are made here.
 */
#include "bridge/asgi/asgi.h"

#include <errno.h>

/* ---- return codes ---- */

static PyObject *raise_gone(cdpy_state *state, const char *what)
{
    return PyErr_Format(state->client_disconnected, "%s: the client has gone", what);
}

PyObject *cdpy_raise(cdpy_state *state, int code, const char *what)
{
    switch (code) {
    case CD_GONE:
        return raise_gone(state, what);
    case CD_NOMEM:
        return PyErr_NoMemory();
    case CD_SYSTEM:
        return PyErr_SetFromErrno(PyExc_OSError);
    case CD_ORDER:
        return PyErr_Format(
            PyExc_RuntimeError,
            "%s: the server has already answered this request in the application's place", what);
    case CD_LENGTH:
        return PyErr_Format(PyExc_RuntimeError,
                            "%s: the body is longer or shorter than the response's Content-Length; "
                            "the connection was cut",
                            what);
    case CD_FRAMING:
        return PyErr_Format(PyExc_ValueError, "%s: Content-Length must be one whole number", what);
    case CD_STATUS:
        return PyErr_Format(PyExc_ValueError, "%s: the status or close code is out of range", what);
    case CD_NAME:
        return PyErr_Format(PyExc_ValueError, "%s: a header name is not a token", what);
    case CD_VALUE:
        return PyErr_Format(PyExc_ValueError, "%s: a value has control characters or is too long",
                            what);
    default:
        return PyErr_Format(PyExc_SystemError, "%s: unknown code %d of the core", what, code);
    }
}

/* ---- headers ---- */

static bool is_row(PyObject *object)
{
    return PyList_CheckExact(object) || PyTuple_CheckExact(object);
}

/* Is it a list or tuple of lists or tuples? Then reading it runs no Python code. */
static bool is_table(PyObject *object)
{
    if (!is_row(object))
        return false;
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(object); i++) {
        if (!is_row(PySequence_Fast_GET_ITEM(object, i)))
            return false;
    }
    return true;
}

static PyObject *table_of(PyObject *rows)
{
    PyObject *iterator = PyObject_GetIter(rows);
    PyObject *table = iterator ? PyList_New(0) : NULL;
    PyObject *row;
    while (table && (row = PyIter_Next(iterator)) != NULL) {
        PyObject *pair = PySequence_Tuple(row);
        if (pair == NULL || PyList_Append(table, pair) < 0)
            Py_CLEAR(table);
        Py_XDECREF(pair);
        Py_DECREF(row);
    }
    Py_XDECREF(iterator);
    if (PyErr_Occurred())
        Py_CLEAR(table);
    if (table == NULL && PyErr_ExceptionMatches(PyExc_TypeError))
        PyErr_Format(PyExc_TypeError, "headers must be pairs of (name, value), not %.200s",
                     Py_TYPE(rows)->tp_name);
    return table;
}

static int slice_of(cd_str *slice, PyObject *value, const char *which)
{
    if (!PyBytes_Check(value)) {
        PyErr_Format(PyExc_ValueError, "Header %s '%S' expected to be `bytes`, but got `%S`", which,
                     value, (PyObject *)Py_TYPE(value));
        return -1;
    }
    *slice = (cd_str){PyBytes_AS_STRING(value), (size_t)PyBytes_GET_SIZE(value)};
    return 0;
}

static int check_header(const cd_header *header, PyObject *name, PyObject *value)
{
    switch (cd_header_check(header)) {
    case CD_OK:
        return 0;
    case CD_NAME:
        PyErr_Format(PyExc_ValueError, "Header name %R is not a token", name);
        return -1;
    default:
        PyErr_Format(PyExc_ValueError, "Header value %R of %R has control characters", value, name);
        return -1;
    }
}

static int read_row(cd_header *header, PyObject *row)
{
    if (PySequence_Fast_GET_SIZE(row) != 2) {
        PyErr_Format(PyExc_ValueError, "headers must be pairs of (name, value), got %R", row);
        return -1;
    }
    PyObject *name = PySequence_Fast_GET_ITEM(row, 0), *value = PySequence_Fast_GET_ITEM(row, 1);
    if (slice_of(&header->name, name, "name") < 0 || slice_of(&header->value, value, "value") < 0)
        return -1;
    return check_header(header, name, value);
}

int cdpy_headers_init(cdpy_headers *headers, PyObject *event, PyObject *key)
{
    PyObject *given;
    headers->list = headers->small;
    headers->count = 0;
    headers->source = NULL;
    if (cdpy_get(event, key, &given) < 1)
        return PyErr_Occurred() ? -1 : 0;
    if (is_table(given))
        headers->source = given;
    else {
        headers->source = table_of(given);
        Py_DECREF(given);
        if (headers->source == NULL)
            return -1;
    }
    size_t count = (size_t)PySequence_Fast_GET_SIZE(headers->source);
    if (count > sizeof(headers->small) / sizeof(headers->small[0])) {
        headers->list = PyMem_New(cd_header, count);
        if (headers->list == NULL) {
            PyErr_NoMemory();
            return -1;
        }
    }
    for (; headers->count < count; headers->count++) {
        PyObject *row = PySequence_Fast_GET_ITEM(headers->source, (Py_ssize_t)headers->count);
        if (read_row(&headers->list[headers->count], row) < 0)
            return -1;
    }
    return 0;
}

void cdpy_headers_dispose(cdpy_headers *headers)
{
    if (headers->list != headers->small)
        PyMem_Free(headers->list);
    Py_CLEAR(headers->source);
}

/* ---- payloads ---- */

static void set_payload(cdpy_payload *payload, PyObject *pin, const char *p, Py_ssize_t n,
                        size_t pin_size)
{
    payload->pin = Py_NewRef(pin); /* cdpy_payload_settle, or ops.release */
    payload->chunk = (cd_chunk){p, (size_t)n, (size_t)n >= pin_size && n > 0 ? pin : NULL};
}

/* Is it bytes, or a view of bytes? Nobody can change these. */
static bool is_constant(const Py_buffer *view)
{
    return view->obj && PyBytes_CheckExact(view->obj) && view->readonly;
}

static int payload_of_view(cdpy_payload *payload, PyObject *view, size_t pin_size)
{
    const Py_buffer *buffer = PyMemoryView_GET_BUFFER(view);
    if (is_constant(buffer) && PyBuffer_IsContiguous(buffer, 'C')) {
        set_payload(payload, view, buffer->buf, buffer->len, pin_size);
        return 0;
    }
    PyObject *copy = PyBytes_FromObject(view);
    if (copy == NULL)
        return -1;
    set_payload(payload, copy, PyBytes_AS_STRING(copy), PyBytes_GET_SIZE(copy), pin_size);
    Py_DECREF(copy);
    return 0;
}

int cdpy_payload_bytes(cdpy_payload *payload, PyObject *value, const char *what, size_t pin_size)
{
    if (PyBytes_Check(value)) {
        set_payload(payload, value, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value), pin_size);
        return 0;
    }
    if (!PyByteArray_Check(value) && !PyMemoryView_Check(value)) {
        PyErr_Format(PyExc_TypeError, "%s must be bytes, bytearray or memoryview, not %.200s", what,
                     Py_TYPE(value)->tp_name);
        return -1;
    }
    PyObject *view = PyMemoryView_FromObject(value);
    if (view == NULL)
        return -1;
    int result = payload_of_view(payload, view, pin_size);
    Py_DECREF(view);
    return result;
}

int cdpy_payload_text(cdpy_payload *payload, PyObject *value, size_t pin_size)
{
    Py_ssize_t n;
    if (!PyUnicode_Check(value)) {
        PyErr_Format(PyExc_TypeError, "text must be str, not %.200s", Py_TYPE(value)->tp_name);
        return -1;
    }
    /* The UTF-8 form lives in the str, for ASCII it is the str: so the str is what must be
     * pinned. */
    const char *p = PyUnicode_AsUTF8AndSize(value, &n);
    if (p == NULL)
        return -1;
    set_payload(payload, value, p, n, pin_size);
    return 0;
}

void cdpy_payload_settle(cdpy_payload *payload, int code)
{
    bool taken = payload->chunk.token && (code == CD_OK || code == CD_AGAIN);
    if (taken)
        CDPY_LIVE(pins, 1); /* the core's now: ops.release */
    else
        Py_DECREF(payload->pin);
    payload->pin = NULL;
}
