/*
 * response.c - what all versions of HTTP know of a response.
 *
 * The application gives a status, headers and pieces of a body; whether these go together is asked
 * here, once for http1_response.c and http2_response.c: the order of calls, a Content-Length that
 * is a number and is kept, responses that have no body, headers that are the server's own to say.
 * How it is written down is theirs.
 *
 * A body that does not fit its Content-Length is the application's fault and is logged as such;
 * what becomes of the exchange is again the protocol's to decide, because a client must not take
 * half an answer for a whole one and each version has its own way to tell it.
 */
#include "http/response.h"

#include "base/escape.h"
#include "base/header.h"
#include "net/conn.h"
#include "net/server_state.h"

#include <string.h>

const char *cd_response_reason(int status)
{
    /* From the IANA registry of status codes. */
    static const char *const reasons[] = {
        [200] = "OK",
        [201] = "Created",
        [202] = "Accepted",
        [203] = "Non-Authoritative Information",
        [204] = "No Content",
        [205] = "Reset Content",
        [206] = "Partial Content",
        [207] = "Multi-Status",
        [208] = "Already Reported",
        [226] = "IM Used",
        [300] = "Multiple Choices",
        [301] = "Moved Permanently",
        [302] = "Found",
        [303] = "See Other",
        [304] = "Not Modified",
        [305] = "Use Proxy",
        [307] = "Temporary Redirect",
        [308] = "Permanent Redirect",
        [400] = "Bad Request",
        [401] = "Unauthorized",
        [402] = "Payment Required",
        [403] = "Forbidden",
        [404] = "Not Found",
        [405] = "Method Not Allowed",
        [406] = "Not Acceptable",
        [407] = "Proxy Authentication Required",
        [408] = "Request Timeout",
        [409] = "Conflict",
        [410] = "Gone",
        [411] = "Length Required",
        [412] = "Precondition Failed",
        [413] = "Content Too Large",
        [414] = "URI Too Long",
        [415] = "Unsupported Media Type",
        [416] = "Range Not Satisfiable",
        [417] = "Expectation Failed",
        [418] = "I'm a Teapot",
        [421] = "Misdirected Request",
        [422] = "Unprocessable Content",
        [423] = "Locked",
        [424] = "Failed Dependency",
        [425] = "Too Early",
        [426] = "Upgrade Required",
        [428] = "Precondition Required",
        [429] = "Too Many Requests",
        [431] = "Request Header Fields Too Large",
        [451] = "Unavailable For Legal Reasons",
        [500] = "Internal Server Error",
        [501] = "Not Implemented",
        [502] = "Bad Gateway",
        [503] = "Service Unavailable",
        [504] = "Gateway Timeout",
        [505] = "HTTP Version Not Supported",
        [506] = "Variant Also Negotiates",
        [507] = "Insufficient Storage",
        [508] = "Loop Detected",
        [510] = "Not Extended",
        [511] = "Network Authentication Required",
    };
    size_t count = sizeof reasons / sizeof *reasons;
    const char *reason = status >= 0 && (size_t)status < count ? reasons[status] : NULL;
    return reason != NULL ? reason : "";
}

/* ---- headers ---- */

/* Applications write them in lower case, as ASGI says; the two lengths are known to be the same. */
static bool is(cd_str name, cd_str lower)
{
    return memcmp(name.p, lower.p, lower.n) == 0 || cd_str_same(name, lower);
}

enum cd_field cd_response_field(cd_str name)
{
    switch (name.n) {
    case sizeof "date" - 1:
        return is(name, CD_STR("date")) ? CD_FIELD_DATE : CD_FIELD_PLAIN;
    case sizeof "server" - 1:
        return is(name, CD_STR("server")) ? CD_FIELD_SERVER : CD_FIELD_PLAIN;
    case sizeof "upgrade" - 1:
        return is(name, CD_STR("upgrade")) ? CD_FIELD_HOP : CD_FIELD_PLAIN;
    case sizeof "connection" - 1:
        if (is(name, CD_STR("connection")))
            return CD_FIELD_CONNECTION;
        return is(name, CD_STR("keep-alive")) ? CD_FIELD_DROPPED : CD_FIELD_PLAIN;
    case sizeof "content-length" - 1:
        return is(name, CD_STR("content-length")) ? CD_FIELD_LENGTH : CD_FIELD_PLAIN;
    case sizeof "proxy-connection" - 1:
        return is(name, CD_STR("proxy-connection")) ? CD_FIELD_HOP : CD_FIELD_PLAIN;
    case sizeof "transfer-encoding" - 1:
        return is(name, CD_STR("transfer-encoding")) ? CD_FIELD_DROPPED : CD_FIELD_PLAIN;
    default:
        return CD_FIELD_PLAIN;
    }
}

static int note_length(cd_survey *v, const cd_header *header)
{
    uint64_t length = 0;
    if (cd_str_number(cd_str_trim(header->value), &length) < 0)
        return CD_FRAMING;
    if (v->has_length && v->length != length)
        return CD_FRAMING;
    v->has_length = true;
    v->length = length;
    return CD_OK;
}

static int look_at(cd_survey *v, const cd_header *header)
{
    switch (cd_response_field(header->name)) {
    case CD_FIELD_DROPPED:
        return CD_OK;
    case CD_FIELD_LENGTH:
        return note_length(v, header);
    case CD_FIELD_CONNECTION:
        v->close = v->close || cd_str_has_token(header->value, "close");
        return CD_OK;
    case CD_FIELD_DATE:
        v->has_date = true;
        break;
    case CD_FIELD_SERVER:
        v->has_server = true;
        break;
    case CD_FIELD_HOP:
    case CD_FIELD_PLAIN:
        break;
    }
    v->count++;
    v->size += header->name.n + header->value.n;
    return CD_OK;
}

int cd_response_survey(cd_survey *v, const cd_header *headers, size_t count)
{
    *v = (cd_survey){0};
    for (size_t i = 0; i < count; i++)
        if (look_at(v, &headers[i]) < 0)
            return CD_FRAMING;
    return CD_OK;
}

/* ---- start ---- */

int cd_response_check(const cd_stream *s, int status)
{
    if (s->started)
        return CD_ORDER;
    return status < 200 || status > 999 ? CD_STATUS : CD_OK;
}

void cd_response_begin(cd_stream *s, int status, const cd_survey *v)
{
    s->started = 1;
    s->status = status;
    s->bodyless = status == 204 || status == 304 || cd_str_is(s->head.method, "head");
    s->has_length = v->has_length && status != 204; /* RFC 9110, 8.6 */
    s->length = v->length;
    s->has_date = v->has_date;
    s->has_server = v->has_server;
    s->close_after = v->close;
}

/* ---- body ---- */

void cd_response_first_write(cd_stream *s, size_t n, bool more)
{
    /* An empty body gets no Content-Length for HEAD: the application may have left the body out. */
    bool is_told = s->bodyless ? n > 0 && s->status != 204 && s->status != 304 : true;
    if (!s->has_length && !more && is_told) {
        s->has_length = 1;
        s->length = n;
    }
}

bool cd_response_has_trailers(const cd_stream *s)
{
    return s->announced && !s->bodyless &&
           cd_header_lists(s->head.headers, s->head.header_count, "te", "trailers");
}

bool cd_response_fits(cd_stream *s, size_t n, bool more)
{
    if (!s->has_length || s->bodyless)
        return true;
    uint64_t left = s->length - s->sent;
    if (n <= left && (more || n == left))
        return true;
    cd_stream_log(s, CD_ERROR,
                  "Response body %s than its Content-Length of %llu: %.*s %.*s, status %d",
                  more || n > left ? "longer" : "shorter", (unsigned long long)s->length,
                  (int)s->head.method.n, s->head.method.p, cd_log_width(s->head.target),
                  s->head.target.p, s->status);
    return false;
}

/* ---- log lines ---- */

void cd_response_log_unfinished(cd_stream *s)
{
    /* sse-starlette ends its streams in this way when the server stops. */
    bool stops = s->head_sent && s->conn->server->draining;
    cd_stream_log(s, stops ? CD_INFO : CD_ERROR, "Application ended without %s: %.*s %.*s",
                  s->head_sent ? "completing its response" : "a response", (int)s->head.method.n,
                  s->head.method.p, cd_log_width(s->head.target), s->head.target.p);
}

void cd_response_log_timeout(cd_stream *s)
{
    cd_stream_log(s, CD_WARNING, "Application timed out %s: %.*s %.*s (--http-timeout)",
                  s->head_sent ? "while sending its response" : "before its response",
                  (int)s->head.method.n, s->head.method.p, cd_log_width(s->head.target),
                  s->head.target.p);
}

uint8_t *cd_response_put_number(uint8_t *to, uint64_t number)
{
    uint8_t digits[CD_NUMBER_ROOM], *p = digits + sizeof digits;
    do {
        *--p = (uint8_t)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    size_t n = (size_t)(digits + sizeof digits - p);
    memcpy(to, p, n);
    return to + n;
}

void cd_response_log_stuck(cd_stream *s, size_t unread, size_t unsent)
{
    if (!s->blocked || s->stuck)
        return;
    s->stuck = 1;
    cd_stream_log(
        s, CD_INFO,
        "Nobody moves: %.*s %.*s of %s: %zu bytes wait for receive(), while send() waits for "
        "the client to read %zu; one of the two has to read while it sends",
        (int)s->head.method.n, s->head.method.p, cd_log_width(s->head.target), s->head.target.p,
        cd_conn_peer(s->conn), unread, unsent);
}

void cd_response_log_refusal(cd_conn *c, int status, const cd_refusal *refusal)
{
    cd_str said = refusal->said;
    cd_conn_log(c, CD_INFO, "Request of %s refused with %d: %s%s%.*s%s", cd_conn_peer(c), status,
                refusal->why, said.p != NULL ? ": '" : "", cd_log_width(said),
                said.p != NULL ? said.p : "", said.p != NULL ? "'" : "");
}
