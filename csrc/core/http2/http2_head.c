/*
 * http2_head.c - from a header block to a checked cd_head.
 *
 * nghttp2 has decoded the block and refused what breaks RFC 9113, 8: pseudo fields that are
 * unknown, doubled, missing or late, upper-case names, control bytes, fields of a connection, TE
 * other than trailers, a Content-Length that is no number. Here the fields are copied into the
 * stream's arena as they come, within the limits; and at the end the head is made that HTTP/1 would
 * have made of the same request, with the same checks: :authority is the Host, first of all, crumbs
 * of a cookie are one field again (8.2.3), a method must be one that we know.
 *
 * A block beyond a limit is still decoded, because the peer's and our HPACK tables must stay the
 * same, but nothing of it is kept.
 *
 * A request that can be answered is refused with the status HTTP/1 has for it. Two names for the
 * host are worse: somebody in between may have routed by the other one, so the stream is reset.
 */
#include "base/header.h"
#include "base/mem.h"
#include "http/target.h"
#include "http2/http2.h"
#include "net/server_state.h"
#include "ws/ws.h"

#include <llhttp.h>
#include <string.h>

enum {
    FIELDS_KEPT = 32,    /* room for fields that a connection keeps between requests */
    FIELD_OVERHEAD = 32, /* RFC 9113, 6.5.2 */
};

static int refuse(cd_http2_stream *st, int status, const char *why)
{
    st->refusal.why = why;
    return status;
}

static int refuse_text(cd_http2_stream *st, int status, const char *why, cd_str said)
{
    st->refusal = (cd_refusal){why, said};
    return status;
}

/* ---- field by field ---- */

static int grow(cd_http2 *h)
{
    size_t room = h->field_room ? 2 * h->field_room : FIELDS_KEPT;
    cd_header *fields = cd_realloc(h->fields, room * sizeof *fields);
    if (fields == NULL)
        return CD_NOMEM;
    h->fields = fields;
    h->field_room = room;
    return CD_OK;
}

static cd_str *pseudo(cd_http2_stream *st, cd_str name)
{
    if (cd_str_is(name, ":path"))
        return &st->base.head.target;
    if (cd_str_is(name, ":method"))
        return &st->base.head.method;
    if (cd_str_is(name, ":authority"))
        return &st->authority;
    return cd_str_is(name, ":protocol") ? &st->protocol : NULL; /* :scheme is the transport's */
}

static int take_pseudo(cd_http2_stream *st, cd_str name, cd_str value)
{
    cd_str *slot = pseudo(st, name);
    if (slot == NULL)
        return CD_OK;
    *slot = cd_stream_dup(&st->base, value);
    return slot->p == NULL ? CD_NOMEM : CD_OK;
}

static int keep(cd_http2 *h, cd_str name, cd_str value)
{
    if (h->field_count == h->field_room && grow(h) < 0)
        return CD_NOMEM;
    char *bytes = cd_arena_alloc(&h->head->base.arena, name.n + value.n);
    if (bytes == NULL)
        return CD_NOMEM;
    memcpy(bytes, name.p, name.n);
    if (value.n > 0)
        memcpy(bytes + name.n, value.p, value.n);
    h->fields[h->field_count++] =
        (cd_header){{bytes, name.n}, cd_str_trim((cd_str){bytes + name.n, value.n})};
    return CD_OK;
}

int cd_http2_take_field(cd_http2 *h, cd_str name, cd_str value)
{
    cd_http2_stream *st = h->head;
    const cd_limits *limits = &h->conn->server->limits;
    bool is_pseudo = name.n > 0 && name.p[0] == ':';
    h->head_size += name.n + value.n + FIELD_OVERHEAD;
    if (st->fault != 0)
        return CD_OK;
    if (is_pseudo && cd_str_is(name, ":path") && value.n > limits->max_target_size)
        st->fault = refuse(st, 414, "target longer than max_target_size");
    else if (h->head_size > limits->max_head_size)
        st->fault = refuse(st, 431, "head longer than max_head_size");
    else if (!is_pseudo && h->field_count >= limits->max_header_count)
        st->fault = refuse(st, 431, "more headers than max_header_count");
    if (st->fault != 0)
        return CD_OK;
    return is_pseudo ? take_pseudo(st, name, value) : keep(h, name, value);
}

/* ---- the table ---- */

/* What the fields say, collected in one pass. */
typedef struct {
    cd_str host, expect, length;
    size_t hosts, expects, lengths, crumbs, cookie_size;
} findings;

static void note(cd_str *slot, size_t *count, cd_str value)
{
    if ((*count)++ == 0)
        *slot = value;
}

static void look_at(findings *f, const cd_header *field)
{
    switch (field->name.n) {
    case sizeof "host" - 1:
        if (cd_str_is(field->name, "host"))
            note(&f->host, &f->hosts, field->value);
        break;
    case sizeof "cookie" - 1: /* and of "expect" */
        if (cd_str_is(field->name, "cookie")) {
            f->crumbs++;
            f->cookie_size += field->value.n + sizeof "; " - 1;
        } else if (cd_str_is(field->name, "expect")) {
            note(&f->expect, &f->expects, field->value);
        }
        break;
    case sizeof "content-length" - 1:
        if (cd_str_is(field->name, "content-length"))
            note(&f->length, &f->lengths, field->value);
        break;
    default:
        break;
    }
}

static cd_str join_crumbs(cd_http2 *h, cd_http2_stream *st, const findings *f)
{
    char *bytes = cd_arena_alloc(&st->base.arena, f->cookie_size), *to = bytes;
    for (size_t i = 0; bytes != NULL && i < h->field_count; i++) {
        cd_str value = h->fields[i].value;
        if (!cd_str_is(h->fields[i].name, "cookie"))
            continue;
        if (to != bytes) {
            *to++ = ';';
            *to++ = ' ';
        }
        if (value.n > 0)
            memcpy(to, value.p, value.n);
        to += value.n;
    }
    return (cd_str){bytes, (size_t)(to - bytes)};
}

/* The fields as the application sees them: the host first, one cookie. */
static int make_table(cd_http2 *h, cd_http2_stream *st, const findings *f)
{
    cd_head *head = &st->base.head;
    cd_header *to = cd_arena_alloc(&st->base.arena, (h->field_count + 1) * sizeof *to);
    cd_str cookie = {NULL, 0};
    bool authority = st->authority.p != NULL, joined = false;
    if (to == NULL)
        return CD_NOMEM;
    if (f->crumbs > 1) {
        cookie = join_crumbs(h, st, f);
        if (cookie.p == NULL)
            return CD_NOMEM;
    }
    head->headers = to;
    if (authority)
        *to++ = (cd_header){CD_STR("host"), st->authority};
    for (size_t i = 0; i < h->field_count; i++) {
        cd_header field = h->fields[i];
        if (authority && cd_str_is(field.name, "host"))
            continue;
        if (cookie.p != NULL && cd_str_is(field.name, "cookie")) {
            if (joined)
                continue;
            field.value = cookie;
            joined = true;
        }
        *to++ = field;
    }
    head->header_count = (size_t)(to - head->headers);
    return CD_OK;
}

/* ---- checks ---- */

/* The parser of HTTP/1 has a list of the known methods; it counts here, too. */
static bool is_known_method(cd_str method)
{
#define KNOWN(number, name, text)                                               \
    if (method.n == sizeof #text - 1 && memcmp(method.p, #text, method.n) == 0) \
        return true;
    HTTP_METHOD_MAP(KNOWN)
#undef KNOWN
    return false;
}

static int check_host(cd_http2_stream *st, const findings *f)
{
    cd_str host = f->host;
    if (st->authority.p != NULL) {
        if (f->hosts > 0 && !cd_str_same(host, st->authority))
            return refuse_text(st, CD_FRAMING, ":authority and Host differ", host);
        host = st->authority;
    }
    return cd_is_host(host) ? 0 : refuse_text(st, 400, "no host, or a malformed one", host);
}

static int check_expect(cd_http2_stream *st, const findings *f, bool has_body)
{
    if (f->expects == 0 || (f->expects == 1 && f->expect.n == 0))
        return 0;
    if (f->expects > 1 || !cd_str_is(f->expect, "100-continue"))
        return refuse_text(st, 417, "unknown expectation", f->expect);
    st->base.expect_continue = has_body;
    return 0;
}

static int check_length(cd_http2 *h, cd_http2_stream *st, const findings *f)
{
    size_t most = h->conn->server->limits.max_body_size;
    uint64_t length;
    if (f->lengths == 0)
        return 0;
    if (cd_str_number(f->length, &length) < 0)
        return refuse_text(st, CD_FRAMING, "Content-Length is no number", f->length);
    if (most > 0 && length > most)
        return refuse(st, 413, "Content-Length above max_body_size");
    return 0;
}

/* Plain CONNECT is for proxies, as in HTTP/1; the extended one opens a WebSocket. */
static int check_method(cd_http2_stream *st)
{
    cd_str method = st->base.head.method;
    if (!is_known_method(method))
        return refuse_text(st, 501, "unknown method", method);
    if (!cd_str_is(method, "connect"))
        return 0;
    if (!cd_str_is(st->protocol, "websocket"))
        return refuse(st, 501, "CONNECT");
    st->websocket = true;
    int status = cd_ws_check_connect(&st->base.head, &st->refusal);
    return status == 101 ? 0 : status;
}

static int read_target(cd_http2_stream *st)
{
    cd_head *head = &st->base.head;
    bool asterisk = head->target.n == 1 && head->target.p[0] == '*';
    if (!cd_target_is_clean(head->target))
        return refuse_text(st, 400, "target with a byte that no target may have", head->target);
    if (asterisk && !cd_str_is(head->method, "options"))
        return refuse(st, 400, "target * is for OPTIONS only");
    if (!asterisk && head->target.p[0] != '/')
        return refuse_text(st, 400, "target that does not begin with a slash", head->target);
    return cd_target_split(&st->base, head->target);
}

int cd_http2_read_head(cd_http2 *h, cd_http2_stream *st, bool has_body)
{
    findings f = {0};
    cd_head *head = &st->base.head;
    head->kind = CD_HTTP;
    head->http_major = 2;
    head->can = CD_CAN_ALL;
    for (size_t i = 0; i < h->field_count; i++)
        look_at(&f, &h->fields[i]);
    if (st->fault != 0)
        return st->fault;
    if (make_table(h, st, &f) < 0)
        return CD_NOMEM;
    int status = check_host(st, &f);
    if (status == 0)
        status = check_method(st);
    if (status == 0)
        status = check_length(h, st, &f);
    if (status == 0)
        status = check_expect(st, &f, has_body);
    return status != 0 ? status : read_target(st);
}
