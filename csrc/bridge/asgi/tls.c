/*
 * tls.c - Tls: the certificates and settings of a TLS listener, as a Python object, and what TLS
 * negotiated with a peer, as the scope has it.
 *
 * The object is a handle on the core's cd_tls and holds nothing else; what its files were called is
 * known to pyasgi/tls.py, which gives all of it again for a reload. Listeners and handshakes hold
 * the cd_tls themselves, so a Tls may go while it is in use.
 *
 * Paths are bytes, as the file system has them. What is wrong with a file is a ValueError of one
 * line, in words for the operator; warnings are lines, too.
 */
#include "bridge/asgi/asgi.h"

#include <string.h>

enum { PROBLEM = 2048 };

typedef struct {
    PyObject_HEAD
    cd_tls *core;
    PyObject *warnings; /* list of str, of the last load */
} tls;

/* The arguments of a call in the core's form. The Python objects keep the texts alive. */
typedef struct {
    cd_tls_config config;
    cd_tls_pair *pairs;
    const char **ocsp_files;
} arguments;

/* ---- arguments ---- */

/* "O&": bytes without a NUL, or None. */
static int to_path(PyObject *value, void *to)
{
    char *path = NULL;
    if (value != Py_None && PyBytes_AsStringAndSize(value, &path, NULL) < 0)
        return 0;
    *(const char **)to = path;
    return 1;
}

static int to_verify(PyObject *value, void *to)
{
    static const char *const words[] = {
        [CD_TLS_NONE] = "none",
        [CD_TLS_OPTIONAL] = "optional",
        [CD_TLS_REQUIRED] = "required",
        [CD_TLS_REPORT] = "report",
    };

    for (size_t i = 0; PyUnicode_Check(value) && i < sizeof(words) / sizeof(words[0]); i++) {
        if (PyUnicode_CompareWithASCIIString(value, words[i]) == 0) {
            *(enum cd_tls_verify *)to = (enum cd_tls_verify)i;
            return 1;
        }
    }
    PyErr_Format(PyExc_ValueError, "verify is %R; give none, optional, required or report", value);
    return 0;
}

static int read_pairs(arguments *a, PyObject *certificates)
{
    Py_ssize_t count = PyTuple_GET_SIZE(certificates);
    if (count == 0) {
        PyErr_SetString(PyExc_ValueError, "TLS needs a certificate");
        return -1;
    }
    a->pairs = PyMem_Calloc((size_t)count, sizeof(a->pairs[0]));
    if (a->pairs == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        cd_tls_pair *pair = &a->pairs[i];
        PyObject *item = PyTuple_GET_ITEM(certificates, i);
        if (!PyTuple_Check(item) || !PyArg_ParseTuple(item, "yyO&:certificate", &pair->certificate,
                                                      &pair->key, to_path, &pair->chain)) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_TypeError, "a certificate is (certificate, key, chain)");
            return -1;
        }
    }
    a->config.pairs = a->pairs;
    a->config.pair_count = (size_t)count;
    return 0;
}

static int read_ocsp(arguments *a, PyObject *files)
{
    Py_ssize_t count = files ? PyTuple_GET_SIZE(files) : 0;
    if (count == 0)
        return 0;
    a->ocsp_files = PyMem_Calloc((size_t)count, sizeof(a->ocsp_files[0]));
    if (a->ocsp_files == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        if (!to_path(PyTuple_GET_ITEM(files, i), &a->ocsp_files[i]))
            return -1;
    }
    a->config.ocsp_files = a->ocsp_files;
    a->config.ocsp_count = (size_t)count;
    return 0;
}

static int parse(arguments *a, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"certificates", "password",    "verify",  "ca_file",
                            "crl_file",     "ocsp_files",  "ciphers", "ciphersuites",
                            "dh_file",      "min_version", NULL};
    cd_tls_config *c = &a->config;
    PyObject *certificates, *ocsp = NULL;
    c->min_version = 0x0303;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!|$zO&O&O&O!zzO&i:Tls", names, &PyTuple_Type,
                                     &certificates, &c->password, to_verify, &c->verify, to_path,
                                     &c->ca_file, to_path, &c->crl_file, &PyTuple_Type, &ocsp,
                                     &c->ciphers, &c->ciphersuites, to_path, &c->dh_file,
                                     &c->min_version))
        return -1;
    return read_pairs(a, certificates) < 0 ? -1 : read_ocsp(a, ocsp);
}

static void dispose(arguments *a)
{
    PyMem_Free(a->pairs);
    PyMem_Free(a->ocsp_files);
}

/* ---- the object ---- */

/* Stores the core's lines as warnings, or raises them as an exception. */
static int settle(tls *self, int code, const char *problem)
{
    if (code == CD_NOMEM) {
        PyErr_NoMemory();
        return -1;
    }
    PyObject *text = PyUnicode_DecodeFSDefault(problem); /* it names files */
    if (text && code != CD_OK)
        PyErr_SetObject(PyExc_ValueError, text);
    PyObject *lines = text && code == CD_OK ? PyUnicode_Splitlines(text, 0) : NULL;
    Py_XDECREF(text);
    if (lines == NULL)
        return -1;
    Py_XSETREF(self->warnings, lines);
    return 0;
}

static int tls_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    tls *self = (tls *)op;
    arguments a = {0};
    char problem[PROBLEM];
    int result = -1;
    if (self->core)
        PyErr_SetString(PyExc_RuntimeError, "Tls.__init__() was called twice");
    else if (parse(&a, args, kwargs) == 0)
        result =
            settle(self, cd_tls_new(&self->core, &a.config, problem, sizeof(problem)), problem);
    dispose(&a);
    return result;
}

static PyObject *tls_reload(PyObject *op, PyObject *args, PyObject *kwargs)
{
    tls *self = (tls *)op;
    arguments a = {0};
    char problem[PROBLEM];
    int result = -1;
    if (self->core == NULL)
        PyErr_SetString(PyExc_RuntimeError, "Tls.__init__() was not called");
    else if (parse(&a, args, kwargs) == 0)
        result =
            settle(self, cd_tls_reload(self->core, &a.config, problem, sizeof(problem)), problem);
    dispose(&a);
    if (result < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *get_warnings(PyObject *op, void *Py_UNUSED(closure))
{
    tls *self = (tls *)op;
    return self->warnings ? PySequence_List(self->warnings) : PyList_New(0);
}

static void tls_dealloc(PyObject *op)
{
    tls *self = (tls *)op;
    PyTypeObject *type = Py_TYPE(op);
    cd_tls_free(self->core);
    Py_XDECREF(self->warnings);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyMethodDef tls_methods[] = {
    {"reload", (PyCFunction)(void (*)(void))tls_reload, METH_VARARGS | METH_KEYWORDS,
     "reload($self, certificates, /, **settings)\n--\n\nLoad anew, with the constructor's "
     "arguments."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef tls_getset[] = {
    {"warnings", get_warnings, NULL, "What the last load warned of.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot tls_slots[] = {
    {Py_tp_doc, "Certificates and settings of a TLS listener; see _core.pyi."},
    {Py_tp_init, tls_init},
    {Py_tp_dealloc, tls_dealloc},
    {Py_tp_methods, tls_methods},
    {Py_tp_getset, tls_getset},
    {0, NULL},
};

static PyType_Spec tls_spec = {
    .name = "pyasgi._core.Tls",
    .basicsize = sizeof(tls),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = tls_slots,
};

int cdpy_tls_init(PyObject *module, cdpy_state *state)
{
    return cdpy_add_type(module, &tls_spec, &state->tls_type, "Tls");
}

cd_tls *cdpy_tls_core(cdpy_state *state, PyObject *object)
{
    if (Py_IS_TYPE(object, (PyTypeObject *)state->tls_type))
        return ((tls *)object)->core;
    PyErr_Format(PyExc_TypeError, "tls must be Tls or None, not %.200s", Py_TYPE(object)->tp_name);
    return NULL;
}

/* ---- the scope's extension ---- */

static PyObject *text_or_none(cd_str text)
{
    return text.p ? PyUnicode_DecodeUTF8(text.p, (Py_ssize_t)text.n, "replace")
                  : Py_NewRef(Py_None);
}

/* The server's own certificate is one str for all connections that were shown it. */
static PyObject *server_certificate(cdpy_server *server, cd_str pem)
{
    Py_ssize_t size;
    const char *last =
        server->certificate ? PyUnicode_AsUTF8AndSize(server->certificate, &size) : NULL;
    if (last && (size_t)size == pem.n && memcmp(last, pem.p, pem.n) == 0)
        return Py_NewRef(server->certificate);
    PyObject *text = text_or_none(pem);
    if (text && pem.p)
        Py_XSETREF(server->certificate, Py_NewRef(text));
    return text;
}

static PyObject *chain_of(const cd_tls_facts *facts)
{
    PyObject *chain = PyTuple_New((Py_ssize_t)facts->client_chain_count);
    for (size_t i = 0; chain && i < facts->client_chain_count; i++) {
        PyObject *pem = text_or_none(facts->client_chain[i]);
        PyTuple_SET_ITEM(chain, (Py_ssize_t)i, pem);
        if (pem == NULL)
            Py_CLEAR(chain);
    }
    return chain;
}

static PyObject *number_or_none(int number)
{
    return number ? PyLong_FromLong(number) : Py_NewRef(Py_None);
}

PyObject *cdpy_tls_extension(cdpy_server *server, const cd_head *head)
{
    cdpy_state *s = server->state;
    cd_tls_facts *facts = cd_head_tls(head);
    PyObject *dict = facts ? PyDict_New() : NULL;
    if (facts == NULL)
        return Py_NewRef(Py_None);
    if (dict &&
        (cdpy_put(dict, s->s_server_cert, server_certificate(server, facts->server_cert)) < 0 ||
         cdpy_put(dict, s->s_client_cert_chain, chain_of(facts)) < 0 ||
         cdpy_put(dict, s->s_client_cert_name, text_or_none(facts->client_name)) < 0 ||
         cdpy_put(dict, s->s_client_cert_error, text_or_none(facts->client_error)) < 0 ||
         cdpy_put(dict, s->s_tls_version, number_or_none(facts->version)) < 0 ||
         cdpy_put(dict, s->s_cipher_suite, number_or_none(facts->cipher)) < 0))
        Py_CLEAR(dict);
    cd_tls_facts_free(facts);
    return dict;
}
