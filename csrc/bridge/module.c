/*
 * module.c - the module pyasgi._core: its state, its functions, and the order in which the files
 * set up their types.
 *
 * Multi-phase initialisation, all state in the module, no static types: so the extension works in
 * subinterpreters, and a module that is dropped takes everything of it along. The freelists belong
 * to the state; they are closed when the collector clears the module, and objects that die later
 * free themselves.
 */
#include "bridge/asgi/asgi.h"

#include <stddef.h>
#include <string.h>

#ifdef CD_DEBUG
cdpy_live cdpy_live_counts;
#endif

int cdpy_add_type(PyObject *module, PyType_Spec *spec, PyObject **slot, const char *name)
{
    *slot = PyType_FromModuleAndSpec(module, spec, NULL);
    if (*slot == NULL)
        return -1;
    return name ? PyModule_AddObjectRef(module, name, *slot) : 0;
}

/* ---- functions ---- */

/* The tuple of rows that each were built by Py_BuildValue; takes them, and one that is NULL is an
 * exception. */
static PyObject *table(PyObject **rows, size_t count)
{
    PyObject *result = PyTuple_New((Py_ssize_t)count);
    bool whole = result != NULL;
    for (size_t i = 0; i < count; i++) {
        whole = whole && rows[i] != NULL;
        if (result)
            PyTuple_SET_ITEM(result, (Py_ssize_t)i, rows[i]);
        else
            Py_XDECREF(rows[i]);
    }
    if (!whole)
        Py_CLEAR(result);
    return result;
}

static PyObject *limits(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    PyObject *rows[] = {
#define CD_TIME(name, value, doc) \
    Py_BuildValue("(ssdss)", #name, "time", (double)value, "seconds", doc),
#define CD_SIZE(name, value, least, most, unit, doc)                                         \
    Py_BuildValue("(ssLssLL)", #name, "size", (long long)value, unit, doc, (long long)least, \
                  (long long)most),
#include "limits.def"
    };
    return table(rows, sizeof rows / sizeof rows[0]);
}

static PyObject *options(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    PyObject *rows[] = {
#define CD_FLAG(name, value, needs, group, doc) \
    Py_BuildValue("(ssOsss)", #name, "flag", value ? Py_True : Py_False, group, doc, needs),
#define CD_TEXT(name, value, check, words, metavar, group, doc) \
    Py_BuildValue("(ssssssss)", #name, "text", value, group, doc, "", words, metavar),
#include "options.def"
    };
    return table(rows, sizeof rows / sizeof rows[0]);
}

static PyObject *versions(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return Py_BuildValue("{ssssssssss}", "libev", cd_libev_version(), "llhttp", cd_llhttp_version(),
                         "nghttp2", cd_nghttp2_version(), "OpenSSL", cd_openssl_version(), "zlib",
                         cd_zlib_version());
}

static PyObject *extensions(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return cdpy_extension_names();
}

static PyObject *check_setting(PyObject *Py_UNUSED(module), PyObject *args)
{
    const char *name;
    PyObject *value;
    if (!PyArg_ParseTuple(args, "sO:check_setting", &name, &value) ||
        cdpy_check_setting(name, value) < 0)
        return NULL;
    Py_RETURN_NONE;
}

#ifdef CD_DEBUG
static PyObject *debug_live(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    const cd_live *core = &cd_live_counts;
    const cdpy_live *bridge = &cdpy_live_counts;
    return Py_BuildValue("{slslslslslslslslslslslslsl}", "loops", core->loops, "servers",
                         core->servers, "connections", core->connections, "streams", core->streams,
                         "chunks", core->chunks, "watches", core->watches, "buffers", core->buffers,
                         "tls", core->tls, "stream objects", bridge->streams, "receive and send",
                         bridge->calls, "waiters", bridge->waiters, "peers", bridge->peers, "pins",
                         bridge->pins);
}
#endif

static PyMethodDef functions[] = {
    {"limits", limits, METH_NOARGS, "Every row of limits.def."},
    {"options", options, METH_NOARGS, "Every row of options.def."},
    {"versions", versions, METH_NOARGS, "Versions of the libraries inside."},
    {"extensions", extensions, METH_NOARGS, "Names of the extensions that Server can offer."},
    {"check_setting", check_setting, METH_VARARGS, "ValueError for a bad limit or option."},
    {"set_nodelay", cdpy_set_nodelay, METH_O, "asyncio's _set_nodelay."},
    {"forsake", cdpy_forsake, METH_O,
     "Lets go of the parent's loops and servers; they are returned."},
    {"ssl_protocol", cdpy_ssl_protocol, METH_NOARGS, "asyncio's SSLProtocol, with a C hot path."},
#ifdef CD_DEBUG
    {"debug_live", debug_live, METH_NOARGS, "Live objects by kind."},
#endif
    {NULL, NULL, 0, NULL},
};

/* ---- state ---- */

static int intern_strings(cdpy_state *state)
{
#define S(name) T(name, #name)
#define T(name, text)                                                 \
    if ((state->s_##name = PyUnicode_InternFromString(text)) == NULL) \
        return -1;
#include "bridge/strings.def"
#undef S
#undef T
    return 0;
}

static PyObject *imported(const char *module_name, const char *name)
{
    PyObject *module = PyImport_ImportModule(module_name);
    PyObject *object = module ? PyObject_GetAttrString(module, name) : NULL;
    Py_XDECREF(module);
    return object;
}

static int import_asyncio(cdpy_state *state)
{
    PyObject *later = PyImport_ImportModule("pyasgi._later");
    if (later == NULL)
        return -1;
    Py_DECREF(later);
    state->task_type = imported("asyncio", "Task");
    state->future_type = imported("asyncio", "Future");
    state->cancelled_error = imported("asyncio", "CancelledError");
    state->invalid_state_error = imported("asyncio", "InvalidStateError");
    return state->task_type && state->future_type && state->cancelled_error &&
                   state->invalid_state_error
               ? 0
               : -1;
}

static int make_exception(PyObject *module, cdpy_state *state)
{
    state->client_disconnected = PyErr_NewExceptionWithDoc(
        "pyasgi._core.ClientDisconnected", "Raised by send() when the client has gone.",
        PyExc_OSError, NULL);
    if (state->client_disconnected == NULL)
        return -1;
    return PyModule_AddObjectRef(module, "ClientDisconnected", state->client_disconnected);
}

/* One function for each file that makes types; later ones may need the types of earlier ones. */
static int (*const parts[])(PyObject *module, cdpy_state *state) = {
    cdpy_ready_init,  cdpy_handle_init, cdpy_executor_init, cdpy_transport_init,
    cdpy_sock_init,   cdpy_loop_init,   cdpy_registry_init, cdpy_awaitable_init,
    cdpy_stream_init, cdpy_scope_init,  cdpy_server_init,   cdpy_tls_init,
};

static int module_exec(PyObject *module)
{
    cdpy_state *state = PyModule_GetState(module);
    if (intern_strings(state) < 0 || import_asyncio(state) < 0 || make_exception(module, state) < 0)
        return -1;
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        if (parts[i](module, state) < 0)
            return -1;
    }
    return PyModule_AddStringConstant(module, "version", CD_VERSION);
}

static int module_traverse(PyObject *module, visitproc visit, void *arg)
{
    cdpy_state *state = PyModule_GetState(module);
    if (state == NULL)
        return 0;
#define X(name) Py_VISIT(state->name);
    CDPY_OBJECTS(X)
#undef X
    return 0;
}

/* Frees the objects on the freelists, which take no more. */
static void close_freelists(cdpy_state *state)
{
    cdpy_freelist *const lists[] = {&state->free_waiters, &state->free_streams, &state->free_calls,
                                    &state->free_handles, &state->free_timers};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        while (lists[i]->first) {
            PyObject *self = lists[i]->first;
            lists[i]->first = *cdpy_freelist_link(self);
            PyObject_GC_Del(self);
        }
        lists[i]->count = PY_SSIZE_T_MAX;
    }
}

static int module_clear(PyObject *module)
{
    cdpy_state *state = PyModule_GetState(module);
    if (state == NULL)
        return 0;
    close_freelists(state);
    PyMem_Free(state->scratch);
    state->scratch = NULL;
#define X(name) Py_CLEAR(state->name);
    CDPY_OBJECTS(X)
#undef X
#define S(name) Py_CLEAR(state->s_##name);
#define T(name, text) Py_CLEAR(state->s_##name);
#include "bridge/strings.def"
#undef S
#undef T
    for (size_t i = 0; i < sizeof(state->header_names) / sizeof(state->header_names[0]); i++)
        Py_CLEAR(state->header_names[i]);
    for (size_t i = 0; i < sizeof(state->header_tuples) / sizeof(state->header_tuples[0]); i++)
        Py_CLEAR(state->header_tuples[i]);
    return 0;
}

static void module_free(void *module)
{
    (void)module_clear(module);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, module_exec},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
    {0, NULL},
};

struct PyModuleDef cdpy_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "pyasgi._core",
    .m_doc = "asyncio's event loop on libev, and the ASGI server on it.",
    .m_size = sizeof(cdpy_state),
    .m_methods = functions,
    .m_slots = slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__core(void);

PyMODINIT_FUNC PyInit__core(void)
{
    return PyModuleDef_Init(&cdpy_module);
}
