/*
 * forwarded.c - who a request came from when proxies passed it on.
 *
 * Each proxy writes the address it was called from at the end of a list. So the list is believed
 * from its right end for as long as the addresses are those of trusted proxies; the first other
 * one is the client, and what stands left of it is the client's own word. When all are trusted the
 * leftmost is the client. Whether the peer itself is trusted comes before everything.
 *
 * X-Forwarded-Proto, -Host and -Prefix are single values or lists in step with the addresses: the
 * element as far from the right end as the client's address counts, or the nearest there is.
 * Without an address nothing else is believed, as in daphne. X-Forwarded-Port is the client's
 * port, again as in daphne.
 *
 * Of X-Forwarded-For and Forwarded the first one counts when both are there: most proxies write
 * only that, and pass on whatever Forwarded a client made up. --proxy-headers-host Forwarded is for
 * a proxy that writes the other one, and then X-Forwarded-* is what a client may have made up.
 *
 * An identifier that is no address ("unknown", "_hidden", rubbish) ends the walk: nobody knows the
 * client then, and head->origin says so. It must not become the address of the proxy, which an
 * application may trust more than strangers. The same for a Forwarded that does not parse.
 */
#include "proxy/forwarded.h"

#include "base/header.h"
#include "base/mem.h"

#include <string.h>

/* An element of a chain: what one proxy said. */
typedef struct {
    cd_str node, proto, host;
} hop;

/* A position in the elements of all header lines of one name. */
typedef struct {
    const cd_head *head;
    cd_str name;
    size_t at; /* index of the next header to read */
    cd_str rest;
    bool pairs;      /* the elements have the form of RFC 7239 */
    bool broken;     /* an element does not parse */
    bool nomem;      /* there was no memory for a copy of a value */
    cd_arena *arena; /* NULL: values are not copied */
} cursor;

/* ---- settings ---- */

static int copy_name(cd_str *name, const char *text)
{
    if (text == NULL || *text == '\0')
        return CD_OK;
    size_t n = strlen(text);
    char *copy = cd_alloc(n);
    if (copy == NULL)
        return CD_NOMEM;
    memcpy(copy, text, n);
    cd_str_lower(copy, n);
    *name = (cd_str){copy, n};
    return CD_OK;
}

int cd_forwarding_init(cd_forwarding *f, const cd_config *config)
{
    *f = (cd_forwarding){.hops = config->limits.proxy_max_hops};
    cd_strangers_init(&f->strangers);
    if (copy_name(&f->address, config->forwarded_for) < 0 ||
        copy_name(&f->port, config->forwarded_port) < 0 ||
        copy_name(&f->proto, config->forwarded_proto) < 0) {
        cd_forwarding_dispose(f);
        return CD_NOMEM;
    }
    f->rfc7239 = cd_str_is(f->address, "forwarded");
    return CD_OK;
}

void cd_forwarding_dispose(cd_forwarding *f)
{
    cd_free((char *)f->address.p);
    cd_free((char *)f->port.p);
    cd_free((char *)f->proto.p);
    *f = (cd_forwarding){.hops = 0};
}

/* ---- lines and elements ---- */

static bool named(const cd_header *header, cd_str name)
{
    return header->name.n == name.n && name.n > 0 && memcmp(header->name.p, name.p, name.n) == 0;
}

static bool next_line(cursor *c)
{
    while (c->at < c->head->header_count) {
        const cd_header *header = &c->head->headers[c->at++];
        if (named(header, c->name)) {
            c->rest = header->value;
            return true;
        }
    }
    return false;
}

static bool next_element(cursor *c, cd_str *element)
{
    while (!cd_str_next_element(&c->rest, element))
        if (!next_line(c))
            return false;
    return true;
}

static bool has_line(const cd_head *head, cd_str name)
{
    cursor c = {.head = head, .name = name};
    return next_line(&c);
}

/* Returns the element that is `hops` from the right end, or the leftmost; p == NULL: there is
 * none. */
static cd_str from_right(const cd_head *head, cd_str name, size_t hops)
{
    const cursor start = {.head = head, .name = name};
    cursor c = start;
    cd_str element = {NULL, 0};
    size_t count = 0;
    while (next_element(&c, &element))
        count++;
    c = start;
    for (size_t i = 0; count > 0 && i <= (count > hops ? count - hops : 0); i++)
        next_element(&c, &element);
    return element;
}

/* ---- RFC 7239, 4: elements of pairs ---- */

static char skip_blanks(cd_str *rest)
{
    while (rest->n > 0 && (rest->p[0] == ' ' || rest->p[0] == '\t')) {
        rest->p++;
        rest->n--;
    }
    return rest->n > 0 ? rest->p[0] : '\0';
}

static void advance(cd_str *rest, size_t n)
{
    rest->p += n;
    rest->n -= n;
}

static cd_str take_token(cd_str *rest)
{
    size_t n = 0;
    while (n < rest->n && cd_is_token((cd_str){rest->p + n, 1}))
        n++;
    cd_str token = {rest->p, n};
    advance(rest, n);
    return token;
}

/* Removes the backslashes of RFC 9110, 5.6.4. */
static cd_str unescaped(cursor *c, cd_str text)
{
    if (c->arena == NULL || memchr(text.p, '\\', text.n) == NULL)
        return text;
    char *copy = cd_arena_alloc(c->arena, text.n);
    size_t n = 0;
    c->nomem |= copy == NULL;
    for (size_t i = 0; copy != NULL && i < text.n; i++) {
        i += text.p[i] == '\\';
        copy[n++] = text.p[i];
    }
    return (cd_str){copy, n};
}

/* The cursor stands behind the opening quote. */
static cd_str take_quoted(cursor *c)
{
    cd_str *rest = &c->rest;
    size_t n = 0;
    while (n < rest->n && rest->p[n] != '"')
        n += rest->p[n] == '\\' ? 2 : 1;
    if (n >= rest->n) {
        c->broken = true;
        return (cd_str){NULL, 0};
    }
    cd_str text = {rest->p, n};
    advance(rest, n + 1);
    return unescaped(c, text);
}

/* Addresses with ':' and '[' must be quoted, but not every proxy does it. */
static cd_str take_value(cursor *c)
{
    cd_str *rest = &c->rest;
    size_t n = 0;
    if (rest->n > 0 && rest->p[0] == '"') {
        advance(rest, 1);
        return take_quoted(c);
    }
    while (n < rest->n && (cd_is_token((cd_str){rest->p + n, 1}) || strchr(":[]", rest->p[n])))
        n++;
    cd_str value = {rest->p, n};
    advance(rest, n);
    return value;
}

/* An element may have a parameter once. Other parameters than these three are ignored. */
static void take_pair(cursor *c, hop *h)
{
    cd_str name = take_token(&c->rest);
    if (name.n == 0 || c->rest.n == 0 || c->rest.p[0] != '=') {
        c->broken = true;
        return;
    }
    advance(&c->rest, 1);
    cd_str value = take_value(c), other = {NULL, 0};
    cd_str *slot = cd_str_is(name, "for")     ? &h->node
                   : cd_str_is(name, "proto") ? &h->proto
                   : cd_str_is(name, "host")  ? &h->host
                                              : &other;
    if (value.n == 0 || slot->n > 0)
        c->broken = true;
    *slot = value;
}

static bool next_pairs(cursor *c, hop *h)
{
    *h = (hop){.node = {NULL, 0}};
    while (skip_blanks(&c->rest) == ',' || c->rest.n == 0) {
        if (c->rest.n > 0)
            advance(&c->rest, 1);
        else if (!next_line(c))
            return false;
    }
    do {
        take_pair(c, h);
        if (skip_blanks(&c->rest) != ';')
            break;
        advance(&c->rest, 1);
        skip_blanks(&c->rest);
    } while (!c->broken);
    if (c->rest.n > 0 && c->rest.p[0] != ',')
        c->broken = true;
    return !c->broken && !c->nomem;
}

static bool next_hop(cursor *c, hop *h)
{
    if (c->pairs)
        return next_pairs(c, h);
    *h = (hop){.node = {NULL, 0}};
    return next_element(c, &h->node);
}

/* ---- addresses ---- */

static int port_of(cd_str text)
{
    uint64_t port = 0;
    return cd_str_number(text, &port) == CD_OK && port <= 65535 ? (int)port : 0;
}

/*
 * An address with or without a port: 192.0.2.1, 192.0.2.1:80, 2001:db8::1, [2001:db8::1]:80. The
 * port may be obfuscated (RFC 7239, 6.3) and is 0 then. False when there is no address.
 */
static bool read_node(cd_str node, cd_str *host, int *port, cd_ip *ip)
{
    const char *end;
    *host = node;
    *port = 0;
    if (node.n > 0 && node.p[0] == '[') {
        end = memchr(node.p, ']', node.n);
        if (end == NULL)
            return false;
        *host = (cd_str){node.p + 1, (size_t)(end - node.p) - 1};
        end++;
    } else {
        if (cd_ip_read(node, ip))
            return true;
        end = node.n > 0 ? memchr(node.p, ':', node.n) : NULL;
        if (end == NULL)
            return false;
        host->n = (size_t)(end - node.p);
    }
    cd_str rest = {end, node.n - (size_t)(end - node.p)};
    if (rest.n > 0 && rest.p[0] != ':')
        return false;
    if (rest.n > 0)
        *port = port_of((cd_str){rest.p + 1, rest.n - 1});
    return cd_ip_read(*host, ip);
}

/* ---- the walk ---- */

/* The client of a chain, and what was told with it. */
typedef struct {
    cd_str host; /* p == NULL: not an address */
    int port;
    size_t hops; /* elements from the client's to the right end; 0: there are none */
    cd_str proto, server;
} chain;

/* When a list does not parse, none of its elements counts. */
static size_t count_hops(cursor *c)
{
    cursor look = *c;
    hop h;
    size_t count = 0;
    look.arena = NULL;
    while (next_hop(&look, &h))
        count++;
    c->broken = look.broken;
    return look.broken ? 0 : count;
}

static void take_hop(chain *found, const hop *h, const cd_trust *trust, size_t hops)
{
    cd_str host;
    int port;
    cd_ip ip;
    bool known = read_node(h->node, &host, &port, &ip);
    if (found->hops == 0 || !known || !cd_trust_ip(trust, &ip)) {
        *found = (chain){known ? host : (cd_str){NULL, 0}, port, hops, h->proto, h->host};
        return;
    }
    /* A proxy on this side of the client: it may tell what the first one left out. */
    if (found->proto.p == NULL)
        found->proto = h->proto;
    if (found->server.p == NULL)
        found->server = h->host;
}

/* Reads from left to right, which finds the last untrusted element without a list of the others. */
static chain walk(cursor *c, const cd_trust *trust, size_t most)
{
    size_t total = count_hops(c);
    chain found = {.hops = 0};
    hop h;
    for (size_t i = 0; i < total && next_hop(c, &h); i++)
        if (total - i <= most || i == total - 1)
            take_hop(&found, &h, trust, total - i);
    return found;
}

/* ---- what the application sees ---- */

static int is_secure(cd_str proto)
{
    if (cd_str_is(proto, "https") || cd_str_is(proto, "wss"))
        return 1;
    return cd_str_is(proto, "http") || cd_str_is(proto, "ws") ? 0 : -1;
}

static void set_server(cd_origin *o, cd_str text, bool secure)
{
    if (text.p == NULL || !cd_is_host(text))
        return;
    const char *end = text.p[0] == '[' ? memchr(text.p, ']', text.n) : memchr(text.p, ':', text.n);
    o->host = text;
    o->host_port = secure ? 443 : 80;
    if (end == NULL)
        return;
    o->host.n = (size_t)(end - text.p);
    if (*end == ']') {
        o->host = (cd_str){text.p + 1, o->host.n - 1};
        end++;
    }
    size_t n = text.n - (size_t)(end - text.p);
    if (n > 1)
        o->host_port = port_of((cd_str){end + 1, n - 1});
}

/* Can the application put this path before its own? It is not empty, and never "//host". */
static int set_prefix(cd_origin *o, cd_str text, cd_arena *arena)
{
    if (text.p == NULL)
        return CD_OK;
    char *decoded = cd_arena_alloc(arena, text.n);
    if (decoded == NULL)
        return CD_NOMEM;
    cd_str path = {decoded, cd_percent_decode(decoded, text)};
    while (path.n > 0 && path.p[path.n - 1] == '/')
        path.n--;
    if (path.n < 2 || path.p[0] != '/' || path.p[1] == '/' || path.p[1] == '\\' ||
        !cd_is_field_value(path))
        return CD_OK;
    o->prefix = path;
    return CD_OK;
}

static int read_x_forwarded(const cd_forwarding *f, const cd_head *head, cd_arena *arena,
                            cd_origin *o, chain *found)
{
    if (o->client_port == 0)
        o->client_port = port_of(from_right(head, f->port, found->hops));
    found->proto = from_right(head, f->proto, found->hops);
    found->server = from_right(head, CD_STR("x-forwarded-host"), found->hops);
    return set_prefix(o, from_right(head, CD_STR("x-forwarded-prefix"), found->hops), arena);
}

int cd_forwarded_read(const cd_forwarding *f, const cd_trust *trust, cd_head *head, cd_arena *arena)
{
    cursor c = {.head = head, .name = f->address, .pairs = f->rfc7239, .arena = arena};
    if (!f->rfc7239 && !has_line(head, f->address)) {
        c.name = CD_STR("forwarded");
        c.pairs = true;
    }
    if (!has_line(head, c.name))
        return CD_OK;
    if (!cd_trust_addr(trust, head->client))
        return CD_FORWARDED_STRANGER;
    chain found = walk(&c, trust, f->hops);
    if (found.hops == 0 && !c.broken && !c.nomem)
        return CD_OK; /* lines without an element */
    cd_origin *o = c.nomem ? NULL : cd_arena_alloc(arena, sizeof *o);
    if (o == NULL)
        return CD_NOMEM;
    *o = (cd_origin){.client = found.host, .client_port = found.port, .secure = -1};
    if (!c.pairs && read_x_forwarded(f, head, arena, o, &found) < 0)
        return CD_NOMEM;
    o->secure = is_secure(found.proto);
    set_server(o, found.server, o->secure >= 0 ? o->secure : head->tls);
    head->origin = o;
    return CD_OK;
}

/* ---- for scope and logs ---- */

cd_str cd_head_client(const cd_head *head, int *port)
{
    if (head->origin != NULL) {
        *port = head->origin->client_port;
        return head->origin->client;
    }
    *port = head->client->port;
    if (head->client->host[0] == '\0')
        return (cd_str){NULL, 0};
    return (cd_str){head->client->host, strlen(head->client->host)};
}

bool cd_head_secure(const cd_head *head)
{
    return head->origin != NULL && head->origin->secure >= 0 ? head->origin->secure == 1
                                                             : head->tls;
}
