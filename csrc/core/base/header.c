/*
 * header.c - syntax of header fields, and the questions that framing, handshakes and responses ask
 * of them.
 *
 * Every byte of a peer or an application that becomes part of a head passes one of the predicates
 * here, so that what is a token, a field value or a host is decided in one place, by tables: a head
 * is a few hundred bytes and each is looked at once.
 *
 * What this file does not do: framing itself (http1_head.c for requests, http1_response.c for
 * responses) and the meaning of any field.
 *
 * A list element is found by splitting at commas; quoted strings with commas in them do not occur
 * in the fields that are split here (Connection, Upgrade, Transfer-Encoding,
 * Sec-WebSocket-Protocol).
 */
#include "base/header.h"

#include <string.h>

enum { TOKEN = 1, VALUE = 2, HOST = 4, HEX = 8 };

#define T (TOKEN | VALUE)
#define H (TOKEN | VALUE | HOST)
#define X (TOKEN | VALUE | HOST | HEX)
#define V VALUE
#define O (VALUE | HOST)

/*
 * TOKEN: tchar of RFC 9110, 5.6.2. VALUE: HTAB, 0x20 to 0x7e, obs-text. HOST: unreserved and
 * sub-delims of RFC 3986, 3.2.2, without the comma (two hosts in one field), and '%'.
 */
/* clang-format off */
static const unsigned char classes[256] = {
    /* 00 */ 0, 0, 0, 0, 0, 0, 0, 0, 0, V, 0, 0, 0, 0, 0, 0,
    /* 10 */ 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    /*         !  "  #  $  %  &  '  (  )  *  +  ,  -  .  / */
    /* 20 */ V, H, V, T, H, H, H, H, O, O, H, H, V, H, H, V,
    /*      0  1  2  3  4  5  6  7  8  9  :  ;  <  =  >  ? */
    /* 30 */ X, X, X, X, X, X, X, X, X, X, V, O, V, O, V, V,
    /*      @  A  B  C  D  E  F  G ... */
    /* 40 */ V, X, X, X, X, X, X, H, H, H, H, H, H, H, H, H,
    /*                                     [  \  ]  ^  _ */
    /* 50 */ H, H, H, H, H, H, H, H, H, H, H, V, V, V, T, H,
    /*      `  a  b  c  d  e  f  g ... */
    /* 60 */ T, X, X, X, X, X, X, H, H, H, H, H, H, H, H, H,
    /*                                     {  |  }  ~  DEL */
    /* 70 */ H, H, H, H, H, H, H, H, H, H, H, V, T, V, H, 0,
    /* 80 */ V, V, V, V, V, V, V, V, V, V, V, V, V, V, V, V,
    /* 90 */ V, V, V, V, V, V, V, V, V, V, V, V, V, V, V, V,
    /* a0 */ V, V, V, V, V, V, V, V, V, V, V, V, V, V, V, V,
    /* b0 */ V, V, V, V, V, V, V, V, V, V, V, V, V, V, V, V,
    /* c0 */ V, V, V, V, V, V, V, V, V, V, V, V, V, V, V, V,
    /* d0 */ V, V, V, V, V, V, V, V, V, V, V, V, V, V, V, V,
    /* e0 */ V, V, V, V, V, V, V, V, V, V, V, V, V, V, V, V,
    /* f0 */ V, V, V, V, V, V, V, V, V, V, V, V, V, V, V, V,
};
/* clang-format on */

#undef T
#undef H
#undef X
#undef V
#undef O

static bool all(cd_str s, unsigned class)
{
    for (size_t i = 0; i < s.n; i++)
        if (!(classes[(unsigned char)s.p[i]] & class))
            return false;
    return true;
}

static unsigned char lower(unsigned char c)
{
    return c >= 'A' && c <= 'Z' ? c | 0x20 : c;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

void cd_str_lower(char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (char)lower((unsigned char)p[i]);
}

bool cd_str_is(cd_str s, const char *literal)
{
    for (size_t i = 0; i < s.n; i++)
        if (literal[i] == '\0' || lower((unsigned char)s.p[i]) != (unsigned char)literal[i])
            return false;
    return literal[s.n] == '\0';
}

bool cd_str_same(cd_str a, cd_str b)
{
    size_t i = 0;
    while (i < a.n && i < b.n && lower((unsigned char)a.p[i]) == lower((unsigned char)b.p[i]))
        i++;
    return i == a.n && i == b.n;
}

cd_str cd_str_trim(cd_str s)
{
    while (s.n > 0 && is_blank(s.p[0])) {
        s.p++;
        s.n--;
    }
    while (s.n > 0 && is_blank(s.p[s.n - 1]))
        s.n--;
    return s;
}

bool cd_str_next_element(cd_str *list, cd_str *element)
{
    while (list->n > 0) {
        const char *comma = memchr(list->p, ',', list->n);
        size_t n = comma ? (size_t)(comma - list->p) : list->n;
        *element = cd_str_trim((cd_str){list->p, n});
        n += comma != NULL;
        list->p += n;
        list->n -= n;
        if (element->n > 0)
            return true;
    }
    return false;
}

bool cd_str_has_token(cd_str list, const char *token)
{
    cd_str element;
    while (cd_str_next_element(&list, &element))
        if (cd_str_is(element, token))
            return true;
    return false;
}

int cd_str_number(cd_str s, uint64_t *value)
{
    uint64_t number = 0;
    for (size_t i = 0; i < s.n; i++) {
        unsigned digit = (unsigned)(unsigned char)s.p[i] - '0';
        if (digit > 9 || number > (UINT64_MAX - digit) / 10)
            return CD_FRAMING;
        number = number * 10 + digit;
    }
    *value = number;
    return s.n > 0 ? CD_OK : CD_FRAMING;
}

bool cd_is_token(cd_str s)
{
    return s.n > 0 && all(s, TOKEN);
}

/* Does a word of eight bytes have a byte below 0x20, or 0x7f? Wrong only for HTAB. */
static bool has_control(uint64_t word)
{
    static const uint64_t ones = 0x0101010101010101u, highs = 0x8080808080808080u;
    uint64_t del = word ^ 0x7f * ones;
    return (((word - 0x20 * ones) & ~word) | ((del - ones) & ~del)) & highs;
}

/* Every value of every request passes here: eight bytes at a time. */
bool cd_is_field_value(cd_str s)
{
    while (s.n >= sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, s.p, sizeof word);
        if (has_control(word) && !all((cd_str){s.p, sizeof word}, VALUE))
            return false;
        s.p += sizeof word;
        s.n -= sizeof word;
    }
    return all(s, VALUE);
}

int cd_header_check(const cd_header *header)
{
    if (!cd_is_token(header->name))
        return CD_NAME;
    return cd_is_field_value(header->value) ? CD_OK : CD_VALUE;
}

/*
 * What RFC 9110, 6.5.1 keeps out of trailers: framing, routing, the connection, how the content is
 * to be read or cached, whether it may be seen at all.
 */
static const char *const head_only[] = {
    "age",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "date",
    "expires",
    "host",
    "keep-alive",
    "location",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "retry-after",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "www-authenticate",
};

int cd_trailer_check(const cd_header *trailer)
{
    for (size_t i = 0; i < sizeof head_only / sizeof *head_only; i++)
        if (cd_str_is(trailer->name, head_only[i]))
            return CD_FRAMING;
    return cd_header_check(trailer);
}

/* Every '%' begins an escape of two hexadecimal digits. */
static bool has_good_escapes(cd_str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] == '%' && (s.n - i < 3 || !all((cd_str){s.p + i + 1, 2}, HEX)))
            return false;
    return true;
}

/* The part inside the brackets: bytes of an IPv6 address, perhaps with a zone, which should not be
 * there (RFC 6874, 1) and which http.client of Python and Node.js send. IPvFuture is refused (there
 * is none). */
static bool is_ipv6(cd_str s)
{
    size_t colons = 0;
    const char *zone = s.n > 0 ? memchr(s.p, '%', s.n) : NULL;
    if (zone != NULL) {
        cd_str name = {zone + 1, s.n - (size_t)(zone - s.p) - 1};
        if (name.n == 0 || !all(name, HOST))
            return false;
        s.n = (size_t)(zone - s.p);
    }
    for (size_t i = 0; i < s.n; i++) {
        colons += s.p[i] == ':';
        if (s.p[i] != ':' && s.p[i] != '.' && !(classes[(unsigned char)s.p[i]] & HEX))
            return false;
    }
    return colons >= 2;
}

static bool is_port(cd_str s)
{
    uint64_t port = 0;
    return s.n == 0 || (cd_str_number(s, &port) == CD_OK && port <= 65535);
}

bool cd_is_host(cd_str s)
{
    const char *end;
    if (s.n > 0 && s.p[0] == '[') {
        end = memchr(s.p, ']', s.n);
        if (end == NULL || !is_ipv6((cd_str){s.p + 1, (size_t)(end - s.p) - 1}))
            return false;
        end++;
    } else {
        end = memchr(s.p, ':', s.n);
        if (end == NULL)
            end = s.p + s.n;
        cd_str name = {s.p, (size_t)(end - s.p)};
        if (name.n == 0 || !all(name, HOST) || !has_good_escapes(name))
            return false;
    }
    cd_str rest = {end, s.n - (size_t)(end - s.p)};
    return rest.n == 0 || (rest.p[0] == ':' && is_port((cd_str){rest.p + 1, rest.n - 1}));
}

const cd_header *cd_header_find(const cd_header *headers, size_t n, const char *name, size_t *count)
{
    const cd_header *first = NULL;
    size_t found = 0;
    for (size_t i = 0; i < n; i++) {
        if (!cd_str_is(headers[i].name, name))
            continue;
        if (found++ == 0)
            first = &headers[i];
    }
    if (count != NULL)
        *count = found;
    return first;
}

bool cd_header_lists(const cd_header *headers, size_t n, const char *name, const char *token)
{
    for (size_t i = 0; i < n; i++)
        if (cd_str_is(headers[i].name, name) && cd_str_has_token(headers[i].value, token))
            return true;
    return false;
}

static unsigned hex_digit(char c)
{
    return c <= '9' ? (unsigned)(c - '0') : (unsigned)(lower((unsigned char)c) - 'a' + 10);
}

size_t cd_percent_decode(char *to, cd_str s)
{
    char *p = to;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '%' && s.n - i > 2 && all((cd_str){s.p + i + 1, 2}, HEX)) {
            *p++ = (char)(hex_digit(s.p[i + 1]) << 4 | hex_digit(s.p[i + 2]));
            i += 2;
        } else {
            *p++ = s.p[i];
        }
    }
    return (size_t)(p - to);
}
