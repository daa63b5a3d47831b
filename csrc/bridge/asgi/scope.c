/*
 * scope.c - builds the scope dict of a request from its cd_head.
 *
 * A scope is a copy of a template that has every key already, so its table never grows while it is
 * filled. Everything mutable in it is fresh (the dict, its lists, the dicts of asgi and
 * extensions); what is shared between scopes cannot be changed: str, bytes, int and tuples of them.
 *
 * That allows two caches. A connection has one (Peer, in head->cache): the two addresses as Python
 * objects, and the path of the last request, which the next one often repeats; one that several ask
 * for is in the template. And all connections have one of header tuples: what browsers say of
 * themselves, of the host and of how they got here is the same on thousands of them, so an idle
 * WebSocket holds few headers of its own. Headers that tell who somebody is, or what only they
 * know, are never in it.
 *
 * Names with "_" are dropped: CGI-style environments cannot tell X_Real_IP from X-Real-IP, so a
 * client could slip one past a proxy that sets the other. What trusted proxies say (head->origin)
 * comes from the core; Daphne-Root-Path is daphne's own, and believed of the same peers.
 */
#include "bridge/asgi/asgi.h"

#include <string.h>

enum { SHARED_VALUE = 160 }; /* longest value that connections share */

/* Names of which all requests share one bytes object. Their values are shared, too. */
static const char *const shared_names[] = {
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "cache-control",
    "connection",
    "content-encoding",
    "content-type",
    "dnt",
    "host",
    "origin",
    "pragma",
    "priority",
    "sec-ch-ua",
    "sec-ch-ua-mobile",
    "sec-ch-ua-platform",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "sec-fetch-user",
    "sec-websocket-extensions",
    "sec-websocket-version",
    "te",
    "transfer-encoding",
    "upgrade",
    "upgrade-insecure-requests",
    "user-agent",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-requested-with",
};

/* The same, but every request has its own value. */
static const char *const private_names[] = {
    "access-control-request-headers",
    "access-control-request-method",
    "authorization",
    "content-length",
    "cookie",
    "date",
    "expect",
    "forwarded",
    "from",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "range",
    "referer",
    "sec-websocket-key",
    "sec-websocket-protocol", /* where browsers can put a token */
    "traceparent",
    "via",
    "x-csrftoken",
    "x-forwarded-for",
    "x-real-ip",
    "x-request-id",
};

typedef struct {
    PyObject_HEAD
    PyObject *client_host, *client_port, *server_host, *server_port;
    PyObject *tls;             /* the tls extension; NULL: not TLS, or not asked yet */
    PyObject *path, *raw_path; /* of the last request */
} peer;

/* ---- small conversions ---- */

static PyObject *bytes_of(cd_str text)
{
    return PyBytes_FromStringAndSize(text.p, (Py_ssize_t)text.n);
}

static bool same_bytes(PyObject *bytes, cd_str text)
{
    return (size_t)PyBytes_GET_SIZE(bytes) == text.n &&
           memcmp(PyBytes_AS_STRING(bytes), text.p ? text.p : "", text.n) == 0;
}

static bool equal(cd_str text, const char *other)
{
    return text.n == strlen(other) && memcmp(text.p, other, text.n) == 0;
}

/* Hashes a name; n is not 0, because every name is a token. The factors were found by trying: no
 * two of the names above have the same hash. */
static int name_hash(const char *p, size_t n)
{
    const unsigned char *u = (const unsigned char *)p;
    return (int)((n * 62 + u[0] * 46 + u[n / 2] * 7 + u[n * 3 / 4] * 63 + u[n - 1] * 53) & 255);
}

static int intern_names(cdpy_state *state, const char *const *names, size_t count, bool shared)
{
    for (size_t i = 0; i < count; i++) {
        int hash = name_hash(names[i], strlen(names[i]));
        if (state->header_names[hash]) {
            PyErr_Format(PyExc_SystemError, "name_hash() takes %s for %S", names[i],
                         state->header_names[hash]);
            return -1;
        }
        if ((state->header_names[hash] = PyBytes_FromString(names[i])) == NULL)
            return -1;
        state->header_shared[hash] = shared;
    }
    return 0;
}

static PyObject *name_of(cdpy_state *state, cd_str name)
{
    PyObject *known = name.n ? state->header_names[name_hash(name.p, name.n)] : NULL;
    return known && same_bytes(known, name) ? Py_NewRef(known) : bytes_of(name);
}

static PyObject *method_of(cdpy_state *state, cd_str method)
{
#define KNOWN(word)           \
    if (equal(method, #word)) \
    return Py_NewRef(state->s_##word)
    KNOWN(GET);
    KNOWN(POST);
    KNOWN(HEAD);
    KNOWN(PUT);
    KNOWN(PATCH);
    KNOWN(DELETE);
    KNOWN(OPTIONS);
#undef KNOWN
    return PyUnicode_DecodeLatin1(method.p, (Py_ssize_t)method.n, NULL);
}

static PyObject *version_of(cdpy_state *state, const cd_head *head)
{
    if (head->http_major >= 2)
        return Py_NewRef(state->s_two);
    return Py_NewRef(head->http_minor ? state->s_one_one : state->s_one_zero);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Percent-decoded, then UTF-8; broken sequences become U+FFFD, broken escapes stay. */
static PyObject *unquoted(cd_str text)
{
    char *decoded = PyMem_Malloc(text.n + 1);
    size_t n = 0;
    if (decoded == NULL)
        return PyErr_NoMemory();
    for (size_t i = 0; i < text.n; i++) {
        int high = text.p[i] == '%' && i + 2 < text.n ? hex_digit(text.p[i + 1]) : -1;
        int low = high >= 0 ? hex_digit(text.p[i + 2]) : -1;
        decoded[n++] = low >= 0 ? (char)(high << 4 | low) : text.p[i];
        i += low >= 0 ? 2 : 0;
    }
    PyObject *result = PyUnicode_DecodeUTF8(decoded, (Py_ssize_t)n, "replace");
    PyMem_Free(decoded);
    return result;
}

/* ---- the connection's cache ---- */

static void peer_dealloc(PyObject *op)
{
    peer *self = (peer *)op;
    PyTypeObject *type = Py_TYPE(op);
    Py_XDECREF(self->client_host);
    Py_XDECREF(self->client_port);
    Py_XDECREF(self->server_host);
    Py_XDECREF(self->server_port);
    Py_XDECREF(self->tls);
    Py_XDECREF(self->path);
    Py_XDECREF(self->raw_path);
    CDPY_LIVE(peers, -1);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyType_Slot peer_slots[] = {
    {Py_tp_doc, "What scopes of one connection share."},
    {Py_tp_dealloc, peer_dealloc},
    {0, NULL},
};

/* It holds no object that could refer back, so the collector need not know it. */
static PyType_Spec peer_spec = {
    .name = "pyasgi._core.Peer",
    .basicsize = sizeof(peer),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = peer_slots,
};

static PyObject *host_text(const cd_addr *addr)
{
    return PyUnicode_DecodeFSDefault(addr->host);
}

static PyObject *port_number(const cd_addr *addr)
{
    return addr->port < 0 ? Py_NewRef(Py_None) : PyLong_FromLong(addr->port);
}

/* Returns the host of the last client again, if it is the same: behind a proxy it always is. */
static PyObject *client_host(cdpy_state *state, const cd_addr *client)
{
    PyObject *last = state->last_client;
    if (last && PyUnicode_IS_COMPACT_ASCII(last) &&
        strcmp((const char *)PyUnicode_1BYTE_DATA(last), client->host) == 0)
        return Py_NewRef(last);
    PyObject *host = host_text(client);
    Py_XSETREF(state->last_client, Py_XNewRef(host));
    return host;
}

/* All connections of a listener share its address, which saves 100 bytes for each idle one. */
static int share_own(cdpy_state *state, peer *self, const cd_addr *own)
{
    const cd_addr *last = &state->own_address;
    if (state->own_port == NULL || last->port != own->port || strcmp(last->host, own->host) != 0) {
        Py_CLEAR(state->own_port);
        Py_XSETREF(state->own_host, host_text(own));
        state->own_port = state->own_host ? port_number(own) : NULL;
        cd_addr_copy(&state->own_address, own);
    }
    self->server_host = Py_XNewRef(state->own_host);
    self->server_port = Py_XNewRef(state->own_port);
    return self->server_port ? 0 : -1;
}

static peer *peer_new(cdpy_state *state, const cd_head *head)
{
    PyTypeObject *type = (PyTypeObject *)state->peer_type;
    peer *self = (peer *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    CDPY_LIVE(peers, 1);
    self->client_host = client_host(state, head->client);
    self->client_port = port_number(head->client);
    if (self->client_host && self->client_port && share_own(state, self, head->server) == 0)
        return self;
    Py_DECREF(self);
    return NULL;
}

/* Returns the connection's cache, a new reference. Without a slot for it (the connection has gone
 * already) it serves this request alone; so also for a WebSocket, which is the last request of its
 * connection. */
static peer *peer_of(cdpy_state *state, const cd_head *head)
{
    if (head->cache == NULL || (head->kind == CD_WEBSOCKET && *head->cache == NULL))
        return peer_new(state, head);
    if (*head->cache == NULL)
        *head->cache = peer_new(state, head); /* the core's reference: ops.release */
    return (peer *)Py_XNewRef((PyObject *)*head->cache);
}

/* ---- headers ---- */

static PyObject *header_tuple(cdpy_state *state, const cd_header *header)
{
    PyObject *tuple = PyTuple_New(2);
    if (tuple == NULL)
        return NULL;
    PyObject *name = name_of(state, header->name), *value = bytes_of(header->value);
    PyTuple_SET_ITEM(tuple, 0, name);
    PyTuple_SET_ITEM(tuple, 1, value);
    if (name == NULL || value == NULL)
        Py_CLEAR(tuple);
    else
        PyObject_GC_UnTrack(
            tuple); /* two bytes can be in no cycle; the collector would find out only later */
    return tuple;
}

static size_t value_hash(int name, cd_str value)
{
    uint64_t ends[2] = {0, 0}, mixed;
    size_t n = value.n < sizeof(uint64_t) ? value.n : sizeof(uint64_t);
    if (n > 0) {
        memcpy(&ends[0], value.p, n);
        memcpy(&ends[1], value.p + value.n - n, n);
    }
    mixed = (ends[0] ^ ends[1] * 31 ^ value.n << 8 ^ (uint64_t)name) * 0x9E3779B97F4A7C15u;
    return (size_t)(mixed >> 56); /* as many as header_tuples has */
}

static bool is_shared(const cdpy_state *state, int hash, const cd_header *header)
{
    return state->header_shared[hash] && header->value.n <= SHARED_VALUE &&
           same_bytes(state->header_names[hash], header->name);
}

/* Returns a new reference to the tuple of a header, which other requests may share. */
static PyObject *shared_tuple(cdpy_state *state, const cd_header *header)
{
    int hash = name_hash(header->name.p, header->name.n);
    if (!is_shared(state, hash, header))
        return header_tuple(state, header);
    PyObject **slot = &state->header_tuples[value_hash(hash, header->value)];
    if (*slot && PyTuple_GET_ITEM(*slot, 0) == state->header_names[hash] &&
        same_bytes(PyTuple_GET_ITEM(*slot, 1), header->value))
        return Py_NewRef(*slot);
    PyObject *tuple = header_tuple(state, header);
    if (tuple)
        Py_XSETREF(*slot, Py_NewRef(tuple)); /* module_clear */
    return tuple;
}

/* Makes the list of headers. *root_path gets the value of Daphne-Root-Path, which the list leaves
 * out. */
static PyObject *headers_of(cdpy_state *state, const cd_head *head, cd_str *root_path)
{
    PyObject *list = PyList_New((Py_ssize_t)head->header_count);
    Py_ssize_t kept = 0;
    for (size_t i = 0; list && i < head->header_count; i++) {
        const cd_header *header = &head->headers[i];
        if (memchr(header->name.p, '_', header->name.n))
            continue;
        if (equal(header->name, "daphne-root-path")) {
            *root_path = header->value;
            continue;
        }
        PyObject *tuple = shared_tuple(state, header);
        if (tuple == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, kept++, tuple);
    }
    if (list && kept < PyList_GET_SIZE(list) &&
        PyList_SetSlice(list, kept, PyList_GET_SIZE(list), NULL) < 0)
        Py_CLEAR(list);
    return list;
}

/* ---- addresses ---- */

/* Returns [host, port], or None for a unix socket, which has no port. ASGI would allow [path, None]
 * for the server's end, but frameworks make host names and ports of it: Django's get_port() is
 * "None" then, and Wagtail, which needs a number, answers 500; Starlette's URLs have no host that
 * can be read. */
static PyObject *address_list(PyObject *host, PyObject *port)
{
    if (port == Py_None)
        return Py_NewRef(Py_None);
    PyObject *list = host && port ? PyList_New(2) : NULL;

    if (list == NULL)
        return NULL;
    PyList_SET_ITEM(list, 0, Py_NewRef(host));
    PyList_SET_ITEM(list, 1, Py_NewRef(port));
    return list;
}

static PyObject *text_of(cd_str text)
{
    return PyUnicode_DecodeUTF8(text.p, (Py_ssize_t)text.n, "replace");
}

/* Returns the address that a proxy told; None: it told none. */
static PyObject *told_address(cd_str host, int port)
{
    if (host.p == NULL)
        return Py_NewRef(Py_None);
    PyObject *text = text_of(host), *number = PyLong_FromLong(port);
    PyObject *list = address_list(text, number);

    Py_XDECREF(text);
    Py_XDECREF(number);
    return list;
}

static PyObject *client_of(const cd_head *head, const peer *cache)
{
    if (head->origin)
        return told_address(head->origin->client, head->origin->client_port);
    return address_list(cache->client_host, cache->client_port);
}

static PyObject *server_of(const cd_head *head, const peer *cache)
{
    if (head->origin && head->origin->host.p)
        return told_address(head->origin->host, head->origin->host_port);
    return address_list(cache->server_host, cache->server_port);
}

static PyObject *usual_scheme(const cdpy_state *state, enum cd_kind kind)
{
    return kind == CD_HTTP ? state->s_http : state->s_ws;
}

static PyObject *scheme_of(cdpy_state *state, const cd_head *head)
{
    bool secure = cd_head_secure(head);
    if (head->kind == CD_WEBSOCKET)
        return Py_NewRef(secure ? state->s_wss : state->s_ws);
    return Py_NewRef(secure ? state->s_https : state->s_http);
}

static PyObject *root_path_of(cdpy_server *server, const cd_head *head, cd_str told)
{
    if (told.p && cd_server_trusts(server->core, head->client, "Daphne-Root-Path"))
        return unquoted(told);
    if (head->origin && head->origin->prefix.p)
        return text_of(head->origin->prefix);
    return Py_NewRef(server->root_path);
}

/* ---- the scope ---- */

/* Stores a path in the template when two connections have asked for it, one after the other. */
static int make_usual(cdpy_state *s, cd_str raw_path, const peer *cache)
{
    if (raw_path.n > SHARED_VALUE)
        return 0;
    if (s->asked_path == NULL || !same_bytes(s->asked_path, raw_path)) {
        Py_XSETREF(s->asked_path, Py_NewRef(cache->raw_path)); /* module_clear; so the next two */
        return 0;
    }
    Py_CLEAR(s->usual_raw_path);
    if (PyDict_SetItem(s->http_template, s->s_path, cache->path) < 0 ||
        PyDict_SetItem(s->http_template, s->s_raw_path, cache->raw_path) < 0)
        return -1;
    Py_XSETREF(s->usual_path, Py_NewRef(cache->path));
    s->usual_raw_path = Py_NewRef(cache->raw_path);
    return 0;
}

static int cache_path(cdpy_state *s, const cd_head *head, peer *cache)
{
    bool usual = s->usual_raw_path && same_bytes(s->usual_raw_path, head->raw_path);
    PyObject *raw = usual ? Py_NewRef(s->usual_raw_path) : bytes_of(head->raw_path);
    PyObject *path = usual
                         ? Py_NewRef(s->usual_path)
                         : PyUnicode_DecodeUTF8(head->path.p, (Py_ssize_t)head->path.n, "replace");
    if (raw == NULL || path == NULL) {
        Py_XDECREF(raw);
        Py_XDECREF(path);
        return -1;
    }
    Py_XSETREF(cache->raw_path, raw);
    Py_XSETREF(cache->path, path);
    return usual ? 0 : make_usual(s, head->raw_path, cache);
}

static int put_path(cdpy_state *state, PyObject *scope, const cd_head *head, peer *cache)
{
    bool known = cache->raw_path && same_bytes(cache->raw_path, head->raw_path);
    if (!known && cache_path(state, head, cache) < 0)
        return -1;
    if (head->kind == CD_HTTP && cache->raw_path == state->usual_raw_path && known)
        return 0; /* the scope is a copy of the template */
    if (PyDict_SetItem(scope, state->s_path, cache->path) < 0)
        return -1;
    return PyDict_SetItem(scope, state->s_raw_path, cache->raw_path);
}

static PyObject *subprotocols_of(const cd_head *head)
{
    PyObject *list = PyList_New((Py_ssize_t)head->subprotocol_count);
    for (size_t i = 0; list && i < head->subprotocol_count; i++) {
        cd_str name = head->subprotocols[i];
        PyObject *text = PyUnicode_DecodeLatin1(name.p, (Py_ssize_t)name.n, NULL);
        PyList_SET_ITEM(list, (Py_ssize_t)i, text);
        if (text == NULL)
            Py_CLEAR(list);
    }
    return list;
}

/* Makes a copy for this scope; the connection keeps the original. */
static int put_tls(cdpy_server *server, PyObject *extensions, const cd_head *head, peer *cache)
{
    cdpy_state *s = server->state;
    if (cache->tls == NULL)
        cache->tls = cdpy_tls_extension(server, head);
    if (cache->tls == NULL || cache->tls == Py_None)
        return cache->tls ? 0 : -1;
    PyObject *copy = PyDict_Copy(cache->tls);
    PyObject *chain = PyDict_GetItemWithError(cache->tls, s->s_client_cert_chain);
    if (copy && cdpy_put(copy, s->s_client_cert_chain, chain ? PySequence_List(chain) : NULL) < 0)
        Py_CLEAR(copy);
    return cdpy_put(extensions, s->s_tls, copy);
}

/* Copies the last extensions, if nobody else holds any of its dicts and all are still empty: that
 * costs a quarter of making new ones. NULL without an exception: that is not so. */
static PyObject *reused_extensions(const cdpy_state *state, unsigned offers)
{
    PyObject *key, *value;
    Py_ssize_t at = 0;
    if (state->extensions_last == NULL || state->extensions_offers != offers)
        return NULL;
    while (PyDict_Next(state->extensions_last, &at, &key, &value)) {
        if (Py_REFCNT(value) != 1 || PyDict_GET_SIZE(value) != 0)
            return NULL;
    }
    return PyDict_Copy(state->extensions_last);
}

/* Offers exactly the events that extension.c accepts. */
static PyObject *new_extensions(const cdpy_state *s, const cd_head *head, unsigned offers)
{
    const struct {
        bool offered;
        PyObject *name;
    } rows[] = {
        {head->kind == CD_WEBSOCKET, s->s_websocket_http_response},
        {offers & CDPY_PATHSEND, s->s_http_response_pathsend},
        {offers & CDPY_ZEROCOPYSEND, s->s_http_response_zerocopysend},
        {offers & CDPY_TRAILERS, s->s_http_response_trailers},
        {offers & CDPY_EARLY_HINT, s->s_http_response_early_hint},
        {offers & CDPY_DEBUG, s->s_http_response_debug},
    };
    PyObject *extensions = PyDict_New();

    for (size_t i = 0; extensions && i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].offered && cdpy_put(extensions, rows[i].name, PyDict_New()) < 0)
            Py_CLEAR(extensions);
    }
    return extensions;
}

static PyObject *extensions_of(cdpy_server *server, const cd_head *head)
{
    cdpy_state *state = server->state;
    unsigned offers = cdpy_extension_offers(server, head);
    bool reusable = offers != 0;
    PyObject *extensions = reusable ? reused_extensions(state, offers) : NULL;
    if (extensions || PyErr_Occurred())
        return extensions;
    extensions = new_extensions(state, head, offers);
    if (extensions && reusable) {
        Py_XSETREF(state->extensions_last, PyDict_Copy(extensions));
        state->extensions_offers = offers;
        if (state->extensions_last == NULL)
            Py_CLEAR(extensions);
    }
    return extensions;
}

static int put_extensions(cdpy_server *server, PyObject *scope, const cd_head *head, peer *cache)
{
    PyObject *extensions = extensions_of(server, head);
    if (extensions && head->tls && put_tls(server, extensions, head, cache) < 0)
        Py_CLEAR(extensions);
    return cdpy_put(scope, server->state->s_extensions, extensions);
}

/* Stores a value that the template does not have already. Takes the reference; NULL means that an
 * exception is set. */
static int put_unless(PyObject *usual, PyObject *scope, PyObject *key, PyObject *value)
{
    if (value != usual)
        return cdpy_put(scope, key, value);
    Py_DECREF(value);
    return 0;
}

static int fill(cdpy_server *server, PyObject *scope, const cd_head *head, peer *cache)
{
    cdpy_state *s = server->state;
    cd_str root_path = {NULL, 0};
    if (cdpy_put(scope, s->s_headers, headers_of(s, head, &root_path)) < 0 ||
        cdpy_put(scope, s->s_asgi, PyDict_Copy(s->asgi_template)) < 0 ||
        put_unless(s->s_one_one, scope, s->s_http_version, version_of(s, head)) < 0 ||
        put_unless(usual_scheme(s, head->kind), scope, s->s_scheme, scheme_of(s, head)) < 0 ||
        put_unless(s->empty_bytes, scope, s->s_query_string, bytes_of(head->query)) < 0 ||
        put_unless(s->empty_text, scope, s->s_root_path, root_path_of(server, head, root_path)) <
            0 ||
        cdpy_put(scope, s->s_client, client_of(head, cache)) < 0 ||
        cdpy_put(scope, s->s_server, server_of(head, cache)) < 0 ||
        put_path(s, scope, head, cache) < 0 || put_extensions(server, scope, head, cache) < 0)
        return -1;
    if (head->kind == CD_HTTP &&
        put_unless(s->s_GET, scope, s->s_method, method_of(s, head->method)) < 0)
        return -1;
    if (head->kind == CD_WEBSOCKET && cdpy_put(scope, s->s_subprotocols, subprotocols_of(head)) < 0)
        return -1;
    return server->lifespan_state ? cdpy_put(scope, s->s_state, PyDict_Copy(server->lifespan_state))
                                  : 0;
}

PyObject *cdpy_scope_new(cdpy_server *server, const cd_head *head)
{
    cdpy_state *state = server->state;
    peer *cache = peer_of(state, head);
    PyObject *template = head->kind == CD_HTTP ? state->http_template : state->websocket_template;
    PyObject *scope = cache ? PyDict_Copy(template) : NULL;
    if (scope && fill(server, scope, head, cache) < 0)
        Py_CLEAR(scope);
    Py_XDECREF(cache);
    return scope;
}

PyObject *cdpy_client_text(const cd_head *head)
{
    int port;
    cd_str host = cd_head_client(head, &port);
    if (host.p == NULL)
        return Py_NewRef(Py_None);
    PyObject *address = text_of(host), *text = NULL;
    if (address)
        text = PyUnicode_FromFormat("%U:%d", address, port);
    Py_XDECREF(address);
    return text;
}

/* ---- templates ---- */

/* The template has every key, so that the table of a copy never grows; the values None are set in
 * each scope. */
static PyObject *template_of(cdpy_state *s, enum cd_kind kind)
{
    bool http = kind == CD_HTTP;
    PyObject *const pairs[][2] = {
        {s->s_type, http ? s->s_http : s->s_websocket},
        {s->s_asgi, Py_None},
        {s->s_http_version, s->s_one_one},
        {http ? s->s_method : s->s_subprotocols, http ? s->s_GET : Py_None},
        {s->s_scheme, usual_scheme(s, kind)},
        {s->s_path, Py_None},
        {s->s_raw_path, Py_None},
        {s->s_query_string, s->empty_bytes},
        {s->s_root_path, s->empty_text},
        {s->s_headers, Py_None},
        {s->s_client, Py_None},
        {s->s_server, Py_None},
        {s->s_extensions, Py_None},
    };
    PyObject *template = PyDict_New();

    for (size_t i = 0; template && i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        if (PyDict_SetItem(template, pairs[i][0], pairs[i][1]) < 0)
            Py_CLEAR(template);
    }
    return template;
}

#define INTERN(state, names, shared) \
    intern_names(state, names, sizeof(names) / sizeof((names)[0]), shared)

int cdpy_scope_init(PyObject *module, cdpy_state *s)
{
    s->empty_bytes = PyBytes_FromStringAndSize(NULL, 0);
    s->empty_text = PyUnicode_FromStringAndSize(NULL, 0);
    if (s->empty_bytes == NULL || s->empty_text == NULL)
        return -1;
    s->asgi_template = Py_BuildValue("{ssss}", "version", "3.0", "spec_version", "2.3");
    s->http_template = template_of(s, CD_HTTP);
    s->websocket_template = template_of(s, CD_WEBSOCKET);
    if (s->asgi_template == NULL || s->http_template == NULL || s->websocket_template == NULL)
        return -1;
    if (INTERN(s, shared_names, true) < 0 || INTERN(s, private_names, false) < 0)
        return -1;
    return cdpy_add_type(module, &peer_spec, &s->peer_type, NULL);
}
