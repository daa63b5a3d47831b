/*
 * proxy.c - reads a PROXY header (haproxy.org, proxy-protocol.txt) from the bytes that have come so
 * far.
 *
 * A pure function over bytes: no socket, no state, no allocation. The caller asks again with more
 * bytes until the answer is another than MORE. Nothing is answered early that later bytes could
 * change, and everything is bounded: version 1 by its 107 bytes, version 2 by `most`.
 *
 * Strict, because the header decides who the client is: one space between fields, addresses and
 * ports as inet_ntop writes them, no datagrams, no families of tomorrow. LOCAL and UNKNOWN keep the
 * addresses of the connection; what their payload says is not looked at.
 *
 * Of the TLVs those are kept that tell something about the client's own connection to the proxy:
 * TLS, its version, cipher and certificate, ALPN, the name it asked for. A checksum is verified
 * where there is one; other types are skipped. One that could contradict an earlier one of its type
 * makes the header bad, as none of the protocol's types has a use for a second.
 */
#include "proxy/proxy.h"

#include "base/header.h"
#include "base/mem.h"

#include <arpa/inet.h>
#include <string.h>

enum {
    V1_MOST = 107,
    V2_FIXED = 16,
    /* Bytes of the two addresses and their ports. */
    INET_SIZE = 12,
    INET6_SIZE = 36,
    UNIX_SIZE = 216,
    UNIX_PATH = 108,
};

enum {
    TLV_ALPN = 0x01,
    TLV_AUTHORITY = 0x02,
    TLV_CRC32C = 0x03,
    TLV_SSL = 0x20,
    TLV_SSL_VERSION = 0x21,
    TLV_SSL_CN = 0x22,
    TLV_SSL_CIPHER = 0x23,
};

static const char v1_signature[] = "PROXY ";
static const uint8_t v2_signature[12] = "\r\n\r\n\0\r\nQUIT\n";

static enum cd_proxy_verdict bad(cd_proxy_header *h, const char *why)
{
    h->why = why;
    return CD_PROXY_BAD;
}

/* ---- version 1: a line ---- */

/* Takes the field up to the next space or the end; false when there is none. */
static bool take_field(cd_str *line, cd_str *field)
{
    const char *space = line->n > 0 ? memchr(line->p, ' ', line->n) : NULL;
    size_t n = space != NULL ? (size_t)(space - line->p) : line->n;
    *field = (cd_str){line->p, n};
    n += space != NULL;
    line->p += n;
    line->n -= n;
    return field->n > 0;
}

static bool take_address(cd_str *line, int family, cd_addr *addr)
{
    cd_str field;
    uint8_t bytes[sizeof(struct in6_addr)];
    if (!take_field(line, &field) || field.n >= INET6_ADDRSTRLEN)
        return false;
    memcpy(addr->host, field.p, field.n);
    addr->host[field.n] = '\0';
    if (memchr(field.p, '\0', field.n) != NULL || inet_pton(family, addr->host, bytes) != 1)
        return false;
    return inet_ntop(family, bytes, addr->host, sizeof addr->host) != NULL;
}

static bool take_port(cd_str *line, cd_addr *addr)
{
    cd_str field;
    uint64_t port = 0;
    if (!take_field(line, &field) || cd_str_number(field, &port) < 0 || port > 65535)
        return false;
    addr->port = (int)port;
    return field.n == 1 || field.p[0] != '0';
}

static enum cd_proxy_verdict read_line(cd_str line, cd_proxy_header *h)
{
    cd_str family;
    line.p += sizeof v1_signature - 1;
    line.n -= sizeof v1_signature - 1;
    take_field(&line, &family);
    bool four = cd_str_equal(family, CD_STR("TCP4"));
    if (cd_str_equal(family, CD_STR("UNKNOWN")))
        return CD_PROXY_DONE;
    if (!four && !cd_str_equal(family, CD_STR("TCP6")))
        return bad(h, "its family is not TCP4, TCP6 or UNKNOWN");
    int af = four ? AF_INET : AF_INET6;
    if (!take_address(&line, af, &h->client) || !take_address(&line, af, &h->server))
        return bad(h, "an address in it is none");
    if (!take_port(&line, &h->client) || line.n == 0 || !take_port(&line, &h->server) ||
        line.p[-1] == ' ')
        return bad(h, "a port in it is none");
    h->told = true;
    return CD_PROXY_DONE;
}

static enum cd_proxy_verdict read_v1(const uint8_t *p, size_t n, cd_proxy_header *h)
{
    size_t look = n < V1_MOST ? n : V1_MOST;
    const uint8_t *end = memchr(p, '\n', look);
    if (end == NULL)
        return n < V1_MOST ? CD_PROXY_MORE : bad(h, "its line does not end");
    h->size = (size_t)(end - p) + 1;
    if (end[-1] != '\r')
        return bad(h, "its line does not end with CR LF");
    return read_line((cd_str){(const char *)p, h->size - 2}, h);
}

/* ---- version 2: binary ---- */

static unsigned number16(const uint8_t *p)
{
    return (unsigned)p[0] << 8 | p[1];
}

static uint32_t number32(const uint8_t *p)
{
    return (uint32_t)number16(p) << 16 | number16(p + 2);
}

/* CRC-32C (RFC 3720, appendix B.4) with four bytes at `hole` read as zeros. */
static uint32_t checksum(const uint8_t *p, size_t n, size_t hole)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < n; i++) {
        crc ^= i - hole < 4 ? 0 : p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

static void read_inet(cd_addr *addr, int family, const uint8_t *address, const uint8_t *port)
{
    inet_ntop(family, address, addr->host, sizeof addr->host);
    addr->port = (int)number16(port);
}

/* A client on a unix socket has no name, like one that connects to us itself. But it did not
 * connect to us, so the list's "unix:" does not include it. */
static void read_unix(cd_proxy_header *h, const uint8_t *p)
{
    size_t n = strnlen((const char *)p + UNIX_PATH, UNIX_PATH - 1);
    h->client.port = h->server.port = CD_PORT_ELSEWHERE;
    memcpy(h->server.host, p + UNIX_PATH, n);
}

/* Reads addresses from the `size` bytes at p. Returns how many of the bytes belong to them, or
 * -1. */
static int read_addresses(cd_proxy_header *h, unsigned family, const uint8_t *p, size_t size)
{
    enum { STREAM = 1, INET = 1, INET6 = 2, UNIX = 3 };
    static const int sizes[] = {[INET] = INET_SIZE, [INET6] = INET6_SIZE, [UNIX] = UNIX_SIZE};
    unsigned kind = family >> 4;
    if ((family & 15) != STREAM || kind < INET || kind > UNIX || size < (size_t)sizes[kind])
        return -1;
    if (kind == INET) {
        read_inet(&h->client, AF_INET, p, p + 8);
        read_inet(&h->server, AF_INET, p + 4, p + 10);
    } else if (kind == INET6) {
        read_inet(&h->client, AF_INET6, p, p + 32);
        read_inet(&h->server, AF_INET6, p + 16, p + 34);
    } else {
        read_unix(h, p);
    }
    h->told = true;
    return sizes[kind];
}

typedef struct {
    unsigned type;
    const uint8_t *p;
    size_t n;
} tlv;

/* Takes the next TLV off [*at, end). Returns 1, 0 at the end, or -1 when it is longer than the
 * bytes left. */
static int next_tlv(const uint8_t **at, const uint8_t *end, tlv *t)
{
    size_t left = (size_t)(end - *at);
    if (left == 0)
        return 0;
    if (left < 3 || left - 3 < number16(*at + 1))
        return -1;
    *t = (tlv){**at, *at + 3, number16(*at + 1)};
    *at += 3 + t->n;
    return 1;
}

static cd_str text_of(const tlv *t)
{
    return (cd_str){(const char *)t->p, t->n};
}

static enum cd_proxy_verdict read_ssl(cd_proxy_header *h, const tlv *outer)
{
    enum { FIXED = 5, CLIENT_SSL = 1, CERT_CONN = 2, CERT_SESS = 4 };
    if (outer->n < FIXED)
        return bad(h, "its TLS part is cut short");
    cd_proxy_facts *facts = &h->facts;
    const uint8_t *at = outer->p + FIXED, *end = outer->p + outer->n;
    bool cert = (outer->p[0] & (CERT_CONN | CERT_SESS)) != 0;
    facts->tls = outer->p[0] & CLIENT_SSL;
    facts->cert = cert;
    facts->cert_good = cert && number32(outer->p + 1) == 0;
    tlv t;
    int code;
    while ((code = next_tlv(&at, end, &t)) > 0) {
        if (t.type == TLV_SSL_VERSION)
            facts->tls_version = text_of(&t);
        else if (t.type == TLV_SSL_CIPHER)
            facts->cipher = text_of(&t);
        else if (t.type == TLV_SSL_CN)
            facts->client_name = text_of(&t);
    }
    return code < 0 ? bad(h, "its TLS part runs over its end") : CD_PROXY_DONE;
}

/* Is it the first TLV of its type? Only for types that are read; each has a bit in *seen. */
static bool is_first(const tlv *t, unsigned *seen)
{
    unsigned bit = t->type == TLV_ALPN        ? 1
                   : t->type == TLV_AUTHORITY ? 2
                   : t->type == TLV_CRC32C    ? 4
                   : t->type == TLV_SSL       ? 8
                                              : 0;
    bool first = (*seen & bit) == 0;
    *seen |= bit;
    return first;
}

static enum cd_proxy_verdict read_tlv(const uint8_t *p, cd_proxy_header *h, const tlv *t)
{
    if (t->type == TLV_ALPN)
        h->facts.alpn = text_of(t);
    else if (t->type == TLV_AUTHORITY)
        h->facts.authority = text_of(t);
    else if (t->type == TLV_SSL)
        return read_ssl(h, t);
    else if (t->type == TLV_CRC32C &&
             (t->n != 4 || number32(t->p) != checksum(p, h->size, (size_t)(t->p - p))))
        return bad(h, "its checksum is wrong");
    return CD_PROXY_DONE;
}

static enum cd_proxy_verdict read_payload(const uint8_t *p, cd_proxy_header *h)
{
    enum { UNSPEC = 0 };
    unsigned family = p[13];
    if (family == UNSPEC)
        return CD_PROXY_DONE;
    int size = read_addresses(h, family, p + V2_FIXED, h->size - V2_FIXED);
    if (size < 0)
        return bad(h, "its addresses are not of TCP or unix sockets, or are cut short");
    const uint8_t *at = p + V2_FIXED + size;
    enum cd_proxy_verdict verdict = CD_PROXY_DONE;
    tlv t;
    unsigned seen = 0;
    int code = 0;
    while (verdict == CD_PROXY_DONE && (code = next_tlv(&at, p + h->size, &t)) > 0)
        verdict = is_first(&t, &seen) ? read_tlv(p, h, &t) : bad(h, "a TLV in it comes twice");
    return code < 0 ? bad(h, "a TLV runs over its end") : verdict;
}

static enum cd_proxy_verdict read_v2(const uint8_t *p, size_t n, size_t most, cd_proxy_header *h)
{
    enum { LOCAL = 0x20, PROXY = 0x21 };
    if (n > 12 && p[12] != LOCAL && p[12] != PROXY)
        return bad(h, "its version or command is unknown");
    if (n < V2_FIXED)
        return CD_PROXY_MORE;
    h->size = V2_FIXED + number16(p + 14);
    if (h->size > most)
        return bad(h, "it is too long (--max-proxy-size)");
    if (n < h->size)
        return CD_PROXY_MORE;
    return p[12] == LOCAL ? CD_PROXY_DONE : read_payload(p, h);
}

/* ---- both ---- */

static bool begins(const uint8_t *p, size_t n, const void *signature, size_t size)
{
    return memcmp(p, signature, n < size ? n : size) == 0;
}

enum cd_proxy_verdict cd_proxy_read(const uint8_t *p, size_t n, size_t most, cd_proxy_header *h)
{
    enum { V1_SIZE = sizeof v1_signature - 1, V2_SIZE = sizeof v2_signature };
    *h = (cd_proxy_header){.size = 0};
    if (n == 0)
        return CD_PROXY_MORE;
    if (begins(p, n, v1_signature, V1_SIZE)) {
        h->begun = n >= V1_SIZE;
        return h->begun ? read_v1(p, n, h) : CD_PROXY_MORE;
    }
    if (!begins(p, n, v2_signature, V2_SIZE))
        return CD_PROXY_NONE;
    h->begun = n >= V2_SIZE;
    return h->begun ? read_v2(p, n, most, h) : CD_PROXY_MORE;
}

bool cd_proxy_tells(const cd_proxy_facts *facts)
{
    return facts->tls || facts->alpn.p != NULL || facts->authority.p != NULL;
}

static cd_str put(char **to, cd_str text)
{
    cd_str copy = {*to, text.n};
    if (text.p == NULL)
        return text;
    memcpy(*to, text.p, text.n);
    *to += text.n;
    return copy;
}

cd_proxy_facts *cd_proxy_facts_new(const cd_proxy_facts *facts)
{
    cd_proxy_facts *copy = cd_alloc(sizeof *copy + facts->alpn.n + facts->authority.n +
                                    facts->tls_version.n + facts->cipher.n + facts->client_name.n);
    if (copy == NULL)
        return NULL;
    char *to = (char *)(copy + 1);
    *copy = *facts;
    copy->alpn = put(&to, facts->alpn);
    copy->authority = put(&to, facts->authority);
    copy->tls_version = put(&to, facts->tls_version);
    copy->cipher = put(&to, facts->cipher);
    copy->client_name = put(&to, facts->client_name);
    return copy;
}
