/*
 * extension.c - the events of ASGI's extensions: early hints, trailers, files, debug.
 *
 * None of them is offered unless the operator named it: a framework that sees one may use it at
 * once (Starlette sends files by pathsend and templates' contexts by debug), and middleware that
 * only knows http.response.start and .body then drops the event, or fails. What has no such events
 * (tls), and what other servers always offer (websocket.http.response), needs no name.
 *
 * What a scope advertises is what was named and what its stream can do, which the core says
 * (cd_head.can), so there is one truth for both: put_extensions in scope.c and cdpy_extension_send
 * read the same bits. An event that the scope did not advertise is refused.
 *
 * Files are opened (pathsend) or duplicated (zerocopysend) here, checked, and given to the core,
 * which owns its descriptor from then on; the application's own stays the application's. All that
 * can be wrong with a file is found before a byte of it is sent: whatever raises has sent nothing.
 * Opening may wait for a disk, with the GIL held, like every other file operation of an asyncio
 * application that does not use threads.
 *
 * The specification tells servers not to have http.response.debug in production. So it is there
 * only while the server logs at debug level, and what the application says goes into that log.
 */
#include "bridge/asgi/asgi.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DEBUG_LENGTH = 1000 }; /* characters of a debug event that are logged */

/* In the order of CDPY_PATHSEND and so on. The events are called "http.response." and the name. */
static const char *const names[] = {"pathsend", "zerocopysend", "trailers", "early_hint", "debug"};
enum { NAMES = sizeof(names) / sizeof(names[0]) };

static PyObject *order_error(const char *why, PyObject *type)
{
    return PyErr_Format(PyExc_ValueError, "%U: %s", type, why);
}

/* ---- http.response.early_hint ---- */

/* Reads links from `list`, a list or tuple that keeps their bytes. Returns 0, or -1 with an
 * exception. */
static int read_links(cd_str *links, PyObject *list)
{
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(list); i++) {
        PyObject *value = PySequence_Fast_GET_ITEM(list, i);
        if (!PyBytes_Check(value)) {
            PyErr_Format(PyExc_TypeError, "links must be bytes, not %.200s",
                         Py_TYPE(value)->tp_name);
            return -1;
        }
        links[i] = (cd_str){PyBytes_AS_STRING(value), (size_t)PyBytes_GET_SIZE(value)};
        cd_header header = {CD_STR("link"), links[i]};
        if (cd_header_check(&header) != CD_OK) {
            PyErr_Format(PyExc_ValueError, "Link %R has control characters", value);
            return -1;
        }
    }
    return 0;
}

/* Returns the links as a list or tuple, or NULL with an exception. */
static PyObject *links_of(cdpy_state *state, PyObject *event)
{
    PyObject *given;
    int found = cdpy_get(event, state->s_links, &given);
    if (found == 0)
        PyErr_SetString(PyExc_ValueError, "http.response.early_hint must have links");
    if (found < 1)
        return NULL;
    PyObject *list = PySequence_Fast(given, "links must be an iterable of bytes");
    Py_DECREF(given);
    return list;
}

static PyObject *send_hint(cdpy_stream *stream, PyObject *event, PyObject *type)
{
    PyObject *list, *result = NULL;
    if (stream->body_begun)
        return order_error("the response is on its way already", type);
    list = links_of(stream->server->state, event);
    if (list == NULL)
        return NULL;
    size_t count = (size_t)PySequence_Fast_GET_SIZE(list);
    cd_str *links = PyMem_New(cd_str, count);
    if (links == NULL)
        PyErr_NoMemory();
    else if (read_links(links, list) == 0) {
        int code = stream->core ? cd_stream_hint(stream->core, links, count) : CD_GONE;
        result = cdpy_answer(stream, code, true, "http.response.early_hint");
    }
    PyMem_Free(links);
    Py_DECREF(list);
    return result;
}

/* ---- http.response.trailers ---- */

static int check_trailers(const cdpy_headers *trailers)
{
    for (size_t i = 0; i < trailers->count; i++) {
        const cd_header *field = &trailers->list[i];
        if (cd_trailer_check(field) != CD_OK) {
            PyObject *name = PyBytes_FromStringAndSize(field->name.p, (Py_ssize_t)field->name.n);
            if (name)
                PyErr_Format(PyExc_ValueError,
                             "Header %R cannot be a trailer: send it in http.response.start", name);
            Py_XDECREF(name);
            return -1;
        }
    }
    return 0;
}

static PyObject *send_trailers(cdpy_stream *stream, PyObject *event, PyObject *type)
{
    cdpy_state *state = stream->server->state;
    cdpy_headers trailers;
    PyObject *result = NULL;
    if (!stream->announced)
        return order_error("http.response.start did not announce trailers", type);
    if (!stream->body_ended)
        return order_error("the body is not complete", type);
    int more = cdpy_truth(event, state->s_more_trailers);
    if (more < 0)
        return NULL;
    if (cdpy_headers_init(&trailers, event, state->s_headers) == 0 &&
        check_trailers(&trailers) == 0) {
        int code = stream->core
                       ? cd_stream_trailers(stream->core, trailers.list, trailers.count, more)
                       : CD_GONE;
        result = cdpy_answer(stream, code, more, "http.response.trailers");
        stream->complete = result && !more;
    }
    cdpy_headers_dispose(&trailers);
    return result;
}

/* ---- files ---- */

/* A file to send. */
typedef struct {
    int fd; /* ours until the core has it; -1: none */
    uint64_t offset, count;
    bool more;
} part;

static int system_error(int error, PyObject *path)
{
    errno = error;
    PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, path);
    return -1;
}

/* Regular files only: their size is known and they are always ready. */
static int size_of(int fd, PyObject *path, uint64_t *size)
{
    struct stat status;
    if (fstat(fd, &status) < 0)
        return system_error(errno, path);
    if (!S_ISREG(status.st_mode))
        return system_error(S_ISDIR(status.st_mode) ? EISDIR : EINVAL, path);
    *size = (uint64_t)status.st_size;
    return 0;
}

static PyObject *send_part(cdpy_stream *stream, part *file, const char *what)
{
    int code = CD_GONE;
    if (stream->core)
        code = cd_stream_file(stream->core, file->fd, file->offset, file->count, file->more);
    if (code == CD_OK || code == CD_AGAIN)
        file->fd = -1; /* else the caller closes it */
    PyObject *result = cdpy_answer(stream, code, file->more, what);
    if (result)
        cdpy_body_sent(stream, file->more);
    return result;
}

static void close_part(part *file)
{
    if (file->fd >= 0)
        close(file->fd);
}

/* The specification demands an absolute path. A relative one is accepted, because Starlette passes
 * on what its application gave it, and that worked before it saw the extension. */
static int open_path(part *file, PyObject *path)
{
    PyObject *bytes;
    if (!PyUnicode_Check(path)) {
        PyErr_Format(PyExc_TypeError, "path must be str, not %.200s", Py_TYPE(path)->tp_name);
        return -1;
    }
    if (PyUnicode_FSConverter(path, &bytes) == 0) /* also refuses NUL */
        return -1;
    /* O_NONBLOCK: a FIFO is opened at once, and then refused. */
    file->fd = open(PyBytes_AS_STRING(bytes), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    int error = errno;
    Py_DECREF(bytes);
    return file->fd < 0 ? system_error(error, path) : size_of(file->fd, path, &file->count);
}

static PyObject *send_path(cdpy_stream *stream, PyObject *event, PyObject *type)
{
    part file = {-1, 0, 0, false};
    PyObject *path, *result = NULL;
    if (!stream->started)
        return order_error("the response has not been started", type);
    if (stream->body_begun)
        return order_error("it is the whole body and cannot follow another piece of it", type);
    int found = cdpy_get(event, stream->server->state->s_path, &path);
    if (found == 0)
        PyErr_SetString(PyExc_ValueError, "http.response.pathsend must have a path");
    if (found < 1)
        return NULL;
    if (open_path(&file, path) == 0)
        result = send_part(stream, &file, "http.response.pathsend");
    close_part(&file);
    Py_DECREF(path);
    return result;
}

/* Reads an optional whole number of an event. Returns 1; 0 when it is absent or None; -1 with an
 * exception. */
static int number_of(PyObject *event, PyObject *key, uint64_t *number)
{
    PyObject *given;
    int found = cdpy_get(event, key, &given), overflow = 0;
    if (found < 1)
        return found;
    if (given != Py_None && !PyLong_Check(given)) {
        PyErr_Format(PyExc_TypeError, "%U must be int or None, not %.200s", key,
                     Py_TYPE(given)->tp_name);
        found = -1;
    } else if (given != Py_None) {
        long long value = PyLong_AsLongLongAndOverflow(given, &overflow);

        if (value < 0 || overflow) {
            PyErr_Format(PyExc_ValueError, "%U must be a number of bytes, not %S", key, given);
            found = -1;
        }
        *number = (uint64_t)value;
    }
    if (given == Py_None)
        found = 0;
    Py_DECREF(given);
    return found;
}

/* Finds where the next read would begin: a Python file object reads ahead, so it must be asked. */
static int tell(cdpy_state *state, PyObject *object, int fd, uint64_t *offset)
{
    long long at;

    if (PyLong_Check(object) || !PyObject_HasAttr(object, state->s_tell)) {
        at = lseek(fd, 0, SEEK_CUR);
        if (at < 0)
            return system_error(errno, NULL);
    } else {
        PyObject *position = PyObject_CallMethodNoArgs(object, state->s_tell);
        at = position ? PyLong_AsLongLong(position) : -1;
        Py_XDECREF(position);
        if (at < 0 && PyErr_Occurred())
            return -1;
    }
    *offset = (uint64_t)at;
    return 0;
}

static int seek(cdpy_state *state, PyObject *object, int fd, uint64_t to)
{
    PyObject *position, *result;
    if (PyLong_Check(object) || !PyObject_HasAttr(object, state->s_seek))
        return lseek(fd, (off_t)to, SEEK_SET) < 0 ? system_error(errno, NULL) : 0;
    position = PyLong_FromUnsignedLongLong(to);
    result = position ? PyObject_CallMethodOneArg(object, state->s_seek, position) : NULL;
    Py_XDECREF(position);
    Py_XDECREF(result);
    return result ? 0 : -1;
}

/* Reads offset and count of the event, or takes the position and what follows it in the file.
 * *moves: the position must be moved. */
static int range_of(cdpy_state *state, PyObject *event, PyObject *object, part *file, bool *moves)
{
    uint64_t size;
    if (size_of(file->fd, NULL, &size) < 0)
        return -1;
    int has_offset = number_of(event, state->s_offset, &file->offset);
    int has_count = number_of(event, state->s_count, &file->count);
    if (has_offset < 0 || has_count < 0)
        return -1;
    if (has_offset == 0 && tell(state, object, file->fd, &file->offset) < 0)
        return -1;
    uint64_t left = file->offset < size ? size - file->offset : 0;
    if (has_count == 0)
        file->count = left;
    if (file->count > left) {
        PyErr_Format(PyExc_ValueError, "the file has only %llu bytes from %llu on, not %llu",
                     (unsigned long long)left, (unsigned long long)file->offset,
                     (unsigned long long)file->count);
        return -1;
    }
    *moves = has_offset == 0;
    return 0;
}

/* Duplicates the descriptor of the application's file, so that the application may close its
 * own. */
static int duplicate(part *file, PyObject *object)
{
    int fd = PyObject_AsFileDescriptor(object);
    if (fd < 0)
        return -1;
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0 && ((flags & O_ACCMODE) == O_WRONLY || (flags & O_PATH)))
        return system_error(EBADF, NULL); /* it cannot be read */
    file->fd = flags < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return file->fd < 0 ? system_error(errno, NULL) : 0;
}

static PyObject *send_file(cdpy_stream *stream, PyObject *event, PyObject *object)
{
    cdpy_state *state = stream->server->state;
    part file = {-1, 0, 0, false};
    PyObject *result = NULL;
    bool moves;
    int more = cdpy_truth(event, state->s_more_body);
    file.more = more == 1;
    if (more >= 0 && duplicate(&file, object) == 0 &&
        range_of(state, event, object, &file, &moves) == 0) {
        /* This comes first, because a failure has then sent nothing. The duplicate shares the
         * position. */
        if (!moves || seek(state, object, file.fd, file.offset + file.count) == 0)
            result = send_part(stream, &file, "http.response.zerocopysend");
    }
    close_part(&file);
    return result;
}

static PyObject *send_descriptor(cdpy_stream *stream, PyObject *event, PyObject *type)
{
    PyObject *object, *result;
    if (!stream->started)
        return order_error("the response has not been started", type);
    if (stream->body_ended)
        return order_error("the body is complete", type);
    int found = cdpy_get(event, stream->server->state->s_file, &object);
    if (found == 0)
        PyErr_SetString(PyExc_ValueError, "http.response.zerocopysend must have a file");
    if (found < 1)
        return NULL;
    result = send_file(stream, event, object);
    Py_DECREF(object);
    return result;
}

/* ---- http.response.debug ---- */

/* Makes the line "<http GET /path from 127.0.0.1:4711> http.response.debug: {...}", which is cut
 * when it is long. */
static int log_debug(cdpy_stream *stream, PyObject *info)
{
    PyObject *text = PyObject_Repr(info);
    PyObject *start = text ? PyUnicode_Substring(text, 0, DEBUG_LENGTH) : NULL;
    PyObject *line =
        start ? PyUnicode_FromFormat("%R http.response.debug: %U%s", (PyObject *)stream, start,
                                     PyUnicode_GET_LENGTH(text) > DEBUG_LENGTH ? "... (cut)" : "")
              : NULL;
    Py_XDECREF(text);
    Py_XDECREF(start);
    if (line == NULL)
        return -1;
    cdpy_application_log(stream->server, CD_DEBUG_LEVEL, line);
    Py_DECREF(line);
    return 0;
}

static PyObject *send_debug(cdpy_stream *stream, PyObject *event, PyObject *type)
{
    PyObject *info;
    if (stream->started || stream->debugged)
        return order_error("it must be sent once, before http.response.start", type);
    int found = cdpy_get(event, stream->server->state->s_info, &info);
    if (found < 0)
        return NULL;
    if (found == 0 || !PyDict_Check(info)) {
        PyErr_Format(PyExc_TypeError, "info must be a dict, not %.200s",
                     found ? Py_TYPE(info)->tp_name : "absent");
        Py_XDECREF(info);
        return NULL;
    }
    int failed = log_debug(stream, info);
    Py_DECREF(info);
    if (failed)
        return NULL;
    stream->debugged = true;
    return Py_NewRef(stream->server->finished);
}

/* ---- all of them ---- */

PyObject *cdpy_extension_names(void)
{
    PyObject *tuple = PyTuple_New(NAMES);
    for (Py_ssize_t i = 0; tuple && i < NAMES; i++) {
        PyObject *name = PyUnicode_FromString(names[i]);
        PyTuple_SET_ITEM(tuple, i, name);
        if (name == NULL)
            Py_CLEAR(tuple);
    }
    return tuple;
}

/* Returns the extension's bit; 0 with an exception. */
static unsigned bit_of(PyObject *name)
{
    for (int i = 0; PyUnicode_Check(name) && i < NAMES; i++) {
        if (PyUnicode_CompareWithASCIIString(name, names[i]) == 0)
            return 1u << i;
    }
    PyErr_Format(PyExc_ValueError, "there is no extension %R that could be offered", name);
    return 0;
}

int cdpy_extension_parse(PyObject *given, unsigned *offers)
{
    PyObject *list = PySequence_Fast(given, "extensions must be an iterable of names");
    unsigned bit = 1;
    if (list == NULL)
        return -1;
    for (Py_ssize_t i = 0; bit && i < PySequence_Fast_GET_SIZE(list); i++)
        *offers |= bit = bit_of(PySequence_Fast_GET_ITEM(list, i));
    Py_DECREF(list);
    return bit ? 0 : -1;
}

unsigned cdpy_extension_offers(const cdpy_server *server, const cd_head *head)
{
    if (server->offers == 0 || head->kind != CD_HTTP)
        return 0;
    unsigned can = CDPY_DEBUG | (head->can & CD_CAN_TRAILERS ? CDPY_TRAILERS : 0) |
                   (head->can & CD_CAN_HINT ? CDPY_EARLY_HINT : 0) |
                   (head->can & CD_CAN_FILE ? CDPY_PATHSEND | CDPY_ZEROCOPYSEND : 0);
    return server->offers & can;
}

typedef PyObject *sender(cdpy_stream *stream, PyObject *event, PyObject *type);

/* Returns the function for an event of this type; NULL: there is none. *bit is its CDPY_PATHSEND or
 * the like. */
static sender *sender_of(const cdpy_state *s, PyObject *type, unsigned *bit)
{
    const struct {
        PyObject *type;
        unsigned bit;
        sender *send;
    } events[] = {
        {s->s_http_response_pathsend, CDPY_PATHSEND, send_path},
        {s->s_http_response_zerocopysend, CDPY_ZEROCOPYSEND, send_descriptor},
        {s->s_http_response_trailers, CDPY_TRAILERS, send_trailers},
        {s->s_http_response_early_hint, CDPY_EARLY_HINT, send_hint},
        {s->s_http_response_debug, CDPY_DEBUG, send_debug},
    };

    for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
        if (cdpy_is(type, events[i].type)) {
            *bit = events[i].bit;
            return events[i].send;
        }
    }
    return NULL;
}

static const char *name_of(unsigned bit)
{
    int i = 0;
    while (bit >>= 1)
        i++;
    return names[i];
}

static PyObject *refuse(const cdpy_stream *stream, unsigned bit, PyObject *type)
{
    if (stream->server->offers & bit)
        return order_error("it is not in the extensions of this scope", type);
    return PyErr_Format(PyExc_ValueError,
                        "%U: it is not in the extensions of this scope (--extension %s)", type,
                        name_of(bit));
}

PyObject *cdpy_extension_send(cdpy_stream *stream, PyObject *event, PyObject *type)
{
    unsigned bit = 0;
    sender *send = sender_of(stream->server->state, type, &bit);
    if (send == NULL)
        return PyErr_Format(PyExc_ValueError, "Cannot handle message type %U!", type);
    if (!(stream->offers & bit))
        return refuse(stream, bit, type);
    if (stream->complete) /* ignored, as a body is */
        return cdpy_answer(stream, CD_GONE, false, "send()");
    return send(stream, event, type);
}

/* Returns the extensions whose events may be missing in the response. */
static unsigned suspects(const cdpy_stream *stream)
{
    if (stream->announced && stream->body_ended)
        return stream->offers & CDPY_TRAILERS;
    return stream->offers & (CDPY_PATHSEND | CDPY_ZEROCOPYSEND);
}

void cdpy_extension_suspect(cdpy_stream *stream)
{
    unsigned bits = suspects(stream);
    const char *name = bits ? name_of(bits & -bits) : NULL; /* the first of them */
    if (name == NULL)
        return;
    PyObject *line = PyUnicode_FromFormat(
        "The response may have been an http.response.%s that middleware dropped: if that does not "
        "know this extension, leave --extension %s out",
        name, name);
    cdpy_application_log(stream->server, CD_ERROR, line);
    Py_XDECREF(line);
}
