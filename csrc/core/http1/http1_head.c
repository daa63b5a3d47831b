/*
 * http1_head.c - from the bytes of a request head to a checked cd_head.
 *
 * llhttp has split the head; here its fields become slices of one copy in the stream's arena, and
 * what llhttp lets pass although a server may not is refused: HTTP/0.9 with headers, other
 * protocols' version names, doubled or malformed Host, transfer codings beyond a single chunked,
 * targets that are not one of the four forms of RFC 9112, 3.2. Whoever sends such a request gets a
 * 4xx or 5xx and the connection ends: two parties that read one head in two ways is what request
 * smuggling lives on.
 *
 * Everything is checked here and nothing is repaired, with two exceptions that the RFC demands: the
 * host of an absolute target wins over the Host field (RFC 9112, 3.2.2), so the application sees it
 * there; and an expectation in HTTP/1.0 is ignored (RFC 9110, 10.1.1).
 *
 * CONNECT is answered with 501: tunnels are another program's work.
 */
#include "base/header.h"
#include "http/target.h"
#include "http1/http1.h"
#include "net/server_state.h"
#include "proxy/proxy.h"

#include <string.h>

/* Room for the head of an ordinary response, and for a decoded path. */
enum { RESPONSE_ROOM = 256 };

/* What the fields say about framing and routing, collected in one pass. */
typedef struct {
    cd_header *host, *expect, *coding;
    size_t hosts, codings, expects;
} findings;

static int refuse(cd_http1 *h, int status, const char *why)
{
    h->refusal.why = why;
    return status;
}

static int refuse_text(cd_http1 *h, int status, const char *why, cd_str said)
{
    h->refusal = (cd_refusal){why, said};
    return status;
}

/* ---- bytes into the arena ---- */

static size_t head_end(const cd_http1 *h)
{
    /* At least " HTTP/1.1" follows the target; without fields the head ends there. */
    size_t end = (size_t)h->target + h->target_size + sizeof " HTTP/1.1" - 1;
    if (h->field_count > 0) {
        const cd_http1_field *last = &h->fields[h->field_count - 1];
        end = (size_t)last->value + last->value_size;
        if (last->value_size == 0)
            end = (size_t)last->name + last->name_size;
    }
    return end;
}

/* The table has one entry more than fields: an absolute target may have to add a Host. */
static size_t table_size(const cd_http1 *h)
{
    return (h->field_count + 1) * sizeof(cd_header);
}

/* Makes one copy of the head: bytes of earlier reads are in h->head, the others in the slice. */
static char *copy_head(cd_http1 *h, cd_stream *s, size_t end)
{
    size_t before = cd_buf_length(&h->head);
    cd_arena_expect(&s->arena, end + table_size(h) + RESPONSE_ROOM);
    char *bytes = cd_arena_alloc(&s->arena, end);
    if (bytes == NULL)
        return NULL;
    if (before > end)
        before = end;
    if (before > 0)
        memcpy(bytes, cd_buf_data(&h->head), before);
    if (end > before)
        memcpy(bytes + before, h->slice, end - before);
    return bytes;
}

static cd_header *copy_fields(cd_http1 *h, cd_stream *s, char *bytes)
{
    cd_header *headers = cd_arena_alloc(&s->arena, table_size(h));
    if (headers == NULL)
        return NULL;
    for (uint32_t i = 0; i < h->field_count; i++) {
        const cd_http1_field *field = &h->fields[i];
        char *name = bytes + field->name;
        cd_str_lower(name, field->name_size);
        headers[i].name = (cd_str){name, field->name_size};
        headers[i].value = cd_str_trim((cd_str){bytes + field->value, field->value_size});
    }
    return headers;
}

/* ---- checks ---- */

static void look_at(findings *f, cd_header *header)
{
    switch (header->name.n) {
    case sizeof "host" - 1:
        if (cd_str_is(header->name, "host") && f->hosts++ == 0)
            f->host = header;
        break;
    case sizeof "expect" - 1:
        if (cd_str_is(header->name, "expect") && f->expects++ == 0)
            f->expect = header;
        break;
    case sizeof "transfer-encoding" - 1:
        if (cd_str_is(header->name, "transfer-encoding") && f->codings++ == 0)
            f->coding = header;
        break;
    default:
        break;
    }
}

static int check_fields(cd_http1 *h, cd_header *headers, findings *f)
{
    for (uint32_t i = 0; i < h->field_count; i++) {
        if (!cd_is_field_value(headers[i].value))
            return refuse_text(h, 400, "control byte in the value of a header", headers[i].name);
        look_at(f, &headers[i]);
    }
    return 0;
}

static int check_request_line(cd_http1 *h, const char *bytes)
{
    const char *version = bytes + h->target + h->target_size;
    if (bytes[h->target - 2] == ' ')
        return refuse(h, 400, "more than one space in the request line");
    if (memcmp(version, " HTTP/", sizeof " HTTP/" - 1) != 0)
        return refuse(h, 400, "another protocol than HTTP in the request line");
    if (h->parser.method == HTTP_CONNECT)
        return refuse(h, 501, "CONNECT");
    return 0;
}

static int check_coding(cd_http1 *h, const findings *f)
{
    static const char why[] = "Transfer-Encoding other than chunked";
    if (f->codings == 0)
        return 0;
    if (h->parser.http_minor == 0)
        return refuse(h, 400, "Transfer-Encoding in HTTP/1.0");
    if (h->parser.flags & F_CONTENT_LENGTH)
        return refuse(h, 400, "Transfer-Encoding with Content-Length");
    if (f->codings == 1 && cd_str_is(f->coding->value, "chunked"))
        return 0;
    /* "gzip, chunked" is well-formed and merely unknown (RFC 9112, 6.1); anything else leaves the
     * length in doubt. */
    cd_str list = f->coding->value, element = {NULL, 0};
    size_t chunked = 0;
    while (cd_str_next_element(&list, &element))
        chunked += cd_str_is(element, "chunked");
    bool known_length = f->codings == 1 && chunked == 1 && cd_str_is(element, "chunked");
    return refuse_text(h, known_length ? 501 : 400, why, f->coding->value);
}

static int check_host(cd_http1 *h, const findings *f)
{
    if (f->hosts > 1)
        return refuse(h, 400, "more than one Host");
    if (f->hosts == 0)
        return h->parser.http_minor == 0 ? 0 : refuse(h, 400, "no Host");
    /* An empty Host belongs to targets without an authority, and is valid (RFC 9112, 3.2). */
    if (f->host->value.n == 0 || cd_is_host(f->host->value))
        return 0;
    return refuse_text(h, 400, "malformed Host", f->host->value);
}

static int check_expect(cd_http1 *h, cd_stream *s, const findings *f)
{
    bool none = f->expects == 0 || (f->expects == 1 && f->expect->value.n == 0);
    if (none || h->parser.http_minor == 0)
        return 0;
    if (f->expects > 1 || !cd_str_is(f->expect->value, "100-continue"))
        return refuse_text(h, 417, "unknown expectation", f->expect->value);
    s->expect_continue = h->content_length > 0;
    return 0;
}

/* ---- the target ---- */

static bool begins(cd_str s, const char *prefix, size_t n)
{
    return s.n >= n && cd_str_is((cd_str){s.p, n}, prefix);
}

/* Returns the length of "http://" or the like, 0 when there is none. WebSocket clients send their
 * own schemes to a proxy. */
static size_t scheme_size(cd_str target)
{
    static const char *const schemes[] = {"http://", "https://", "ws://", "wss://"};
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        size_t n = strlen(schemes[i]);
        if (begins(target, schemes[i], n))
            return n;
    }
    return 0;
}

/* Removes scheme and authority from an absolute target; the authority takes the place of Host. */
static int take_authority(cd_http1 *h, cd_head *head, cd_header *headers, cd_str *rest, findings *f)
{
    size_t scheme = scheme_size(*rest), n = scheme;
    while (n < rest->n && rest->p[n] != '/' && rest->p[n] != '?')
        n++;
    cd_str authority = {rest->p + scheme, n - scheme};
    if (scheme == 0)
        return refuse_text(h, 400, "target that is neither a path nor a URL of HTTP", *rest);
    if (!cd_is_host(authority))
        return refuse_text(h, 400, "malformed host in the target", authority);
    if (f->host == NULL) {
        f->host = &headers[head->header_count++];
        f->host->name = CD_STR("host");
    }
    f->host->value = authority;
    rest->p += n;
    rest->n -= n;
    return 0;
}

static int read_target(cd_http1 *h, cd_stream *s, cd_header *headers, findings *f)
{
    cd_str rest = s->head.target;
    if (!cd_target_is_clean(rest))
        return refuse_text(h, 400, "target with a byte that no target may have", rest);
    if (rest.n == 1 && rest.p[0] == '*') {
        if (h->parser.method != HTTP_OPTIONS)
            return refuse(h, 400, "target * is for OPTIONS only");
    } else if (rest.p[0] != '/') {
        int status = take_authority(h, &s->head, headers, &rest, f);
        if (status != 0)
            return status;
    }
    return cd_target_split(s, rest);
}

/* ---- all of it ---- */

static cd_str method_name(const llhttp_t *parser)
{
    const char *name = llhttp_method_name((llhttp_method_t)parser->method);
    return (cd_str){name, strlen(name)};
}

int cd_http1_read_head(cd_http1 *h, cd_stream *s)
{
    findings f = {0};
    cd_head *head = &s->head;
    /* This must come first: llhttp takes "GET /x" for HTTP/0.9 with headers and a body, and then
     * nothing is where the code below looks for it. */
    if (h->parser.http_major != 1)
        return refuse(h, h->parser.http_major == 0 ? 400 : 505,
                      "HTTP version other than 1.0 and 1.1");
    char *bytes = copy_head(h, s, head_end(h));
    cd_header *headers = bytes == NULL ? NULL : copy_fields(h, s, bytes);
    if (headers == NULL)
        return CD_NOMEM;
    head->kind = CD_HTTP;
    head->http_major = h->parser.http_major;
    head->http_minor = h->parser.http_minor;
    head->can = h->parser.http_minor == 0 ? CD_CAN_FILE : CD_CAN_ALL;
    head->method = method_name(&h->parser);
    head->target = (cd_str){bytes + h->target, h->target_size};
    head->headers = headers;
    head->header_count = h->field_count;
    int status = check_request_line(h, bytes);
    if (status == 0)
        status = check_fields(h, headers, &f);
    if (status == 0)
        status = check_coding(h, &f);
    if (status == 0)
        status = check_host(h, &f);
    if (status == 0)
        status = check_expect(h, s, &f);
    return status != 0 ? status : read_target(h, s, headers, &f);
}

const char *cd_http1_other_protocol(const uint8_t *p, size_t n)
{
    enum { HANDSHAKE = 0x16 }; /* RFC 8446, 5.1 */
    cd_proxy_header h;
    if (n > 0 && p[0] == HANDSHAKE)
        return "it speaks TLS, and this port does not";
    cd_proxy_read(p, n, SIZE_MAX, &h);
    return h.begun ? "a PROXY header, which this port does not expect (--proxy-protocol)" : NULL;
}
