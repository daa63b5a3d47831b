/*
 * config.c - the keyword arguments of Server: the rows of limits.def and options.def by their
 * names, and the few arguments beside them.
 *
 * Every refusal names the argument and what it may be, because its words reach an operator who
 * typed a flag. Sizes may be any Python int: what does not fit a size_t is as good as the largest
 * that does.
 */
#include "bridge/asgi/asgi.h"

#include <math.h>
#include <string.h>

/* A row of CD_SIZE. */
typedef struct {
    const char *name;
    long long least, most;
} range;

static int refuse(const char *name, const char *wanted, PyObject *value)
{
    PyErr_Format(PyExc_TypeError, "%s must be %s, not %.200s", name, wanted,
                 Py_TYPE(value)->tp_name);
    return -1;
}

static int refuse_size(range allowed, PyObject *value)
{
    if (allowed.most == CD_NO_MOST)
        PyErr_Format(PyExc_ValueError, "%s must be at least %lld, not %S", allowed.name,
                     allowed.least, value);
    else
        PyErr_Format(PyExc_ValueError, "%s must be %lld to %lld, not %S", allowed.name,
                     allowed.least, allowed.most, value);
    return -1;
}

static int parse_time(double *field, const char *name, PyObject *value)
{
    double seconds;
    if (!PyLong_Check(value) && !PyFloat_Check(value))
        return refuse(name, "a number of seconds", value);
    seconds = PyFloat_AsDouble(value);
    if (seconds == -1.0 && PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_OverflowError))
        return -1;
    if (PyErr_Occurred() || !isfinite(seconds) || seconds < 0) {
        PyErr_Format(PyExc_ValueError,
                     "%s must be a finite number of seconds, 0 for no limit, not %R", name, value);
        return -1;
    }
    *field = seconds;
    return 0;
}

static int parse_size(size_t *field, range allowed, PyObject *value)
{
    int overflow;
    if (!PyLong_Check(value) || PyBool_Check(value))
        return refuse(allowed.name, "int", value);
    long long size = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (size == -1 && PyErr_Occurred())
        return -1;
    if (overflow > 0 || size > PY_SSIZE_T_MAX / 4)
        size = PY_SSIZE_T_MAX / 4; /* the core may add to it */
    if (overflow < 0 || size < allowed.least || size > allowed.most)
        return refuse_size(allowed, value);
    *field = (size_t)size;
    return 0;
}

static int parse_flag(bool *field, PyObject *value)
{
    int truth = PyObject_IsTrue(value);
    *field = truth == 1;
    return truth < 0 ? -1 : 0;
}

static int check_text(const char *text, int (*check)(const char *, char *, size_t))
{
    char problem[256];
    int code = check(text, problem, sizeof(problem));
    if (code == CD_NOMEM)
        PyErr_NoMemory();
    else if (code != CD_OK)
        PyErr_SetString(PyExc_ValueError, problem);
    return code == CD_OK ? 0 : -1;
}

/* The text stays the caller's, whose kwargs hold it until the core has copied it. */
static int parse_text(const char **field, const char *name, PyObject *value,
                      int (*check)(const char *, char *, size_t))
{
    if (!PyUnicode_Check(value))
        return refuse(name, "str or None", value);
    *field = PyUnicode_AsUTF8(value);
    return *field == NULL ? -1 : check_text(*field, check);
}

/* 1: it was a row of options.def, for which None is the default; 0: it is none; -1: exception. */
static int parse_option(cd_config *config, const char *key, PyObject *value)
{
#define CD_FLAG(name, ...)       \
    if (strcmp(key, #name) == 0) \
        return value != Py_None && parse_flag(&config->name, value) < 0 ? -1 : 1;
#define CD_TEXT(name, number, check, ...) \
    if (strcmp(key, #name) == 0)          \
        return value != Py_None && parse_text(&config->name, #name, value, check) < 0 ? -1 : 1;
#include "options.def"
    return 0;
}

/* 1: it was a row of limits.def or options.def; 0: it is none; -1: exception. */
static int parse_setting(cd_config *config, const char *key, PyObject *value)
{
#define CD_TIME(name, ...)       \
    if (strcmp(key, #name) == 0) \
        return parse_time(&config->limits.name, #name, value) < 0 ? -1 : 1;
#define CD_SIZE(name, number, least, most, ...) \
    if (strcmp(key, #name) == 0)                \
        return parse_size(&config->limits.name, (range){#name, least, most}, value) < 0 ? -1 : 1;
#include "limits.def"
    return parse_option(config, key, value);
}

int cdpy_check_setting(const char *name, PyObject *value)
{
    cd_config unused;
    int known = parse_setting(&unused, name, value);
    if (known == 0)
        PyErr_Format(PyExc_ValueError, "there is no setting '%s'", name);
    return known == 1 ? 0 : -1;
}

/* A low-water mark above the high one is lowered: the high one alone was what the caller set. */
static void order_marks(cd_limits *limits)
{
    if (limits->write_low_water >= limits->write_high_water)
        limits->write_low_water = limits->write_high_water / 2;
}

static int parse_settings(cd_config *config, PyObject *kwargs)
{
    PyObject *key, *value;
    Py_ssize_t at = 0;
    while (PyDict_Next(kwargs, &at, &key, &value)) {
        const char *name = PyUnicode_AsUTF8(key);
        int known = name ? parse_setting(config, name, value) : -1;
        if (known < 0)
            return -1;
        if (known == 0) {
            PyErr_Format(PyExc_TypeError, "Server() has no argument '%s'", name);
            return -1;
        }
    }
    order_marks(&config->limits);
    return 0;
}

/* ---- what is no row ---- */

/* Moves kwargs[name] into *value (new reference); NULL when it is absent or None. */
static int pop(PyObject *kwargs, const char *name, PyObject **value)
{
    PyObject *key = PyUnicode_FromString(name);
    int found = key ? cdpy_get(kwargs, key, value) : -1;
    if (found == 1 && PyDict_DelItem(kwargs, key) < 0)
        found = -1;
    Py_XDECREF(key);
    if (*value == Py_None)
        Py_CLEAR(*value);
    return found < 0 ? -1 : 0;
}

static int pop_callable(PyObject *kwargs, const char *name, PyObject **value)
{
    if (pop(kwargs, name, value) < 0)
        return -1;
    return *value && !PyCallable_Check(*value) ? refuse(name, "callable or None", *value) : 0;
}

static int pop_context(PyObject *kwargs, PyObject **value)
{
    if (pop(kwargs, "context", value) < 0)
        return -1;
    if (*value == NULL)
        *value = PyContext_CopyCurrent();
    if (*value == NULL)
        return -1;
    return PyContext_CheckExact(*value) ? 0 : refuse("context", "contextvars.Context", *value);
}

static int pop_root_path(PyObject *kwargs, PyObject **value)
{
    if (pop(kwargs, "root_path", value) < 0)
        return -1;
    if (*value == NULL)
        *value = PyUnicode_FromStringAndSize(NULL, 0);
    if (*value == NULL)
        return -1;
    return PyUnicode_Check(*value) ? 0 : refuse("root_path", "str", *value);
}

static int pop_state(PyObject *kwargs, PyObject **value)
{
    if (pop(kwargs, "state", value) < 0)
        return -1;
    return *value && !PyDict_Check(*value) ? refuse("state", "dict or None", *value) : 0;
}

/* The names stay the tuple's, which kwargs hold until the core has copied them. */
static int read_proxy_headers(PyObject *names, cd_config *config)
{
    const char **const slots[] = {&config->forwarded_for, &config->forwarded_port,
                                  &config->forwarded_proto};
    if (!PyTuple_Check(names) || PyTuple_GET_SIZE(names) != 3)
        return refuse("proxy_headers", "three header names", names);
    for (Py_ssize_t i = 0; i < 3; i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        if (name == Py_None)
            continue;
        if (!PyBytes_CheckExact(name))
            return refuse("proxy_headers", "bytes or None", name);
        *slots[i] = PyBytes_AS_STRING(name);
    }
    return 0;
}

static int pop_proxy_headers(PyObject *kwargs, cd_config *config)
{
    PyObject *names = NULL;
    int result = pop(kwargs, "proxy_headers", &names);
    if (result == 0 && names)
        result = read_proxy_headers(names, config);
    Py_XDECREF(names);
    return result;
}

static int pop_extensions(PyObject *kwargs, unsigned *offers)
{
    PyObject *names = NULL;
    int result = pop(kwargs, "extensions", &names);
    if (result == 0 && names)
        result = cdpy_extension_parse(names, offers);
    Py_XDECREF(names);
    return result;
}

static int pop_fd(PyObject *kwargs, int *fd)
{
    PyObject *value = NULL;
    int result = pop(kwargs, "access_fd", &value);
    *fd = -1;
    if (result == 0 && value) {
        long number = PyLong_AsLong(value);
        *fd = (int)number;
        if (number == -1 && PyErr_Occurred())
            result = -1;
        else if (number < -1 || number > INT_MAX) {
            PyErr_Format(PyExc_ValueError, "access_fd must be a descriptor or -1, not %S", value);
            result = -1;
        }
    }
    Py_XDECREF(value);
    return result;
}

/* *owner keeps the bytes of *text alive. */
static int pop_server_header(PyObject *kwargs, const char **text, PyObject **owner)
{
    *text = NULL;
    if (pop(kwargs, "server_header", owner) < 0)
        return -1;
    if (*owner == NULL)
        return 0;
    if (!PyBytes_Check(*owner))
        return refuse("server_header", "bytes or None", *owner);
    cd_header header = {CD_STR("server"),
                        {PyBytes_AS_STRING(*owner), (size_t)PyBytes_GET_SIZE(*owner)}};
    if (cd_header_check(&header) != CD_OK) {
        PyErr_Format(PyExc_ValueError, "server_header must have no control characters, not %R",
                     *owner);
        return -1;
    }
    *text = PyBytes_AS_STRING(*owner);
    return 0;
}

/* ---- access log: the texts stay the caller's, whose kwargs hold them until the core has copied
 * ---- */

static int pop_text(PyObject *kwargs, const char *name, const char **text)
{
    PyObject *value = NULL;
    if (pop(kwargs, name, &value) < 0)
        return -1;
    if (value == NULL)
        return 0;
    int result = PyUnicode_Check(value) ? 0 : refuse(name, "str or None", value);
    if (result == 0 && (*text = PyUnicode_AsUTF8(value)) == NULL)
        result = -1;
    Py_DECREF(value);
    return result;
}

static int read_prefixes(PyObject *tuple, const char ***prefixes)
{
    if (!PyTuple_Check(tuple))
        return refuse("access_exclude", "a tuple of str", tuple);
    Py_ssize_t count = PyTuple_GET_SIZE(tuple);
    *prefixes = PyMem_Calloc((size_t)count + 1, sizeof(char *));
    if (*prefixes == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *prefix = PyTuple_GET_ITEM(tuple, i);
        if (!PyUnicode_Check(prefix))
            return refuse("access_exclude", "a tuple of str", prefix);
        if (((*prefixes)[i] = PyUnicode_AsUTF8(prefix)) == NULL)
            return -1;
    }
    return 0;
}

static int pop_access_exclude(PyObject *kwargs, const char ***prefixes)
{
    PyObject *tuple = NULL;
    int result = pop(kwargs, "access_exclude", &tuple);
    if (result == 0 && tuple)
        result = read_prefixes(tuple, prefixes);
    Py_XDECREF(tuple);
    return result;
}

static int pop_access(PyObject *kwargs, cd_config *config, const char ***prefixes)
{
    if (pop_fd(kwargs, &config->access_fd) < 0 || pop_access_exclude(kwargs, prefixes) < 0 ||
        pop_text(kwargs, "access_syslog", &config->access_syslog) < 0 ||
        pop_text(kwargs, "access_tag", &config->access_tag) < 0)
        return -1;
    config->access_exclude = *prefixes;
    if (config->access_syslog && config->access_tag == NULL)
        config->access_tag = " ";
    return 0;
}

int cdpy_parse_options(cdpy_server *server, cd_config *config, PyObject *kwargs, PyObject **owner,
                       const char ***prefixes)
{
    PyObject *rest = kwargs ? PyDict_Copy(kwargs) : PyDict_New();
    int result = -1;
    if (rest == NULL)
        return -1;
    if (pop_callable(rest, "on_log", &server->on_log) == 0 &&
        pop_callable(rest, "on_access", &server->on_access) == 0 &&
        pop_callable(rest, "on_exception", &server->on_exception) == 0 &&
        pop_context(rest, &server->context) == 0 && pop_root_path(rest, &server->root_path) == 0 &&
        pop_state(rest, &server->lifespan_state) == 0 && pop_proxy_headers(rest, config) == 0 &&
        pop_access(rest, config, prefixes) == 0 && pop_extensions(rest, &server->offers) == 0 &&
        pop_server_header(rest, &config->server_header, owner) == 0)
        result = parse_settings(config, rest);
    Py_DECREF(rest);
    return result;
}
