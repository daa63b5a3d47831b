/*
 * What the log says of requests that are refused and of what HTTP/2 resets: one line each, with the
 * peer, the status or error code, and the reason in plain words. That they are refused, and how, is
 * tested where the protocols are.
 */
#include "h2client.h"

#define HEAD "GET / HTTP/1.1\r\nHost: a\r\n"
#define ROWS(table) (sizeof(table) / sizeof *(table))
#define REFUSED "log 20 Request of 192.0.2.7 refused with "
#define RESET "log 10 Stream of 192.0.2.7 reset with "

/* ---- HTTP/1 ---- */

typedef struct {
    const char *name, *input, *trace;
} row;

static const row rows[] = {
    {"unknown method", "BREW / HTTP/1.1\r\nHost: a\r\n\r\n",
     REFUSED "501: Invalid method encountered\n"},
    {"no Host", "GET / HTTP/1.1\r\n\r\n", REFUSED "400: no Host\n"},
    {"two Hosts", HEAD "Host: a\r\n\r\n", REFUSED "400: more than one Host\n"},
    {"bad Host", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", REFUSED "400: malformed Host: 'a b'\n"},
    {"Host with rubbish", "GET / HTTP/1.1\r\nHost: \x80\r\n\r\n",
     REFUSED "400: malformed Host: '\\\\x80'\n"},
    {"bad authority", "GET ws://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
     REFUSED "400: malformed host in the target: 'u:p@a'\n"},
    {"other scheme", "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
     REFUSED "400: target that is neither a path nor a URL of HTTP: 'ftp://a/'\n"},
    {"fragment", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
     REFUSED "400: target with a byte that no target may have: '/a#b'\n"},
    {"expectation", HEAD "Expect: more\r\n\r\n", REFUSED "417: unknown expectation: 'more'\n"},
    {"coding", HEAD "Transfer-Encoding: gzip, chunked\r\n\r\n",
     REFUSED "501: Transfer-Encoding other than chunked: 'gzip, chunked'\n"},
    {"handshake", HEAD "Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
     REFUSED "400: WebSocket handshake without Sec-WebSocket-Key\n"},
    {"TLS", "\x16\x03\x01\xa5\x01\xfc\x03\x03",
     REFUSED "400: it speaks TLS, and this port does not\n"},
    {"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
     REFUSED "505: HTTP/2, which is switched off (--no-http2)\n"},
};

static void run_row(rig *r, const void *arg)
{
    const row *k = arg;
    r->script = "body;start 200;last hello";
    r->level = CD_DEBUG_LEVEL;
    wire *w = wire_open(r);
    wire_text(w, k->input);
    wire_eof(w);
}

static void test_http1(void)
{
    rig_configure(NULL);
    for (size_t i = 0; i < ROWS(rows); i++) {
        check_scenario(rows[i].name, run_row, &rows[i], rows[i].trace, NULL, 0);
    }
}

/* It is known by its first bytes, if they come together. */
static void test_proxy_header(void)
{
    static const row k = {"", "PROXY TCP4 192.0.2.9 192.0.2.8 1 2\r\n" HEAD "\r\n", ""};
    rig *r = rig_new(CUT_WHOLE, 0);
    run_row(r, &k);
    CHECK_STR(rig_trace(r), REFUSED "501: a PROXY header, which this port does not expect "
                                    "(--proxy-protocol)\n");
    rig_free(r);
}

/* A text of the peer's is cut, and cannot begin a line of its own. */
static void test_long_text(void)
{
    text input = {0};
    rig *r = rig_new(CUT_WHOLE, 0);
    text_format(&input, "GET / HTTP/1.1\r\nHost: ");
    for (int i = 0; i < 3000; i++)
        text_format(&input, "a b");
    text_format(&input, "\r\n\r\n");
    row k = {.input = input.p};
    run_row(r, &k);
    CHECK(strlen(rig_trace(r)) < 300);
    CHECK(strchr(rig_trace(r), '\n') == rig_trace(r) + strlen(rig_trace(r)) - 1);
    text_free(&input);
    rig_free(r);
}

/* ---- HTTP/2 ---- */

typedef struct {
    const char *name, *method, *path, *headers, *trace;
} request;

static const request requests[] = {
    {"unknown method", "BREW", "/", "", REFUSED "501: unknown method: 'BREW'\n"},
    {"fragment", "GET", "/a#b", "",
     REFUSED "400: target with a byte that no target may have: '/a#b'\n"},
    {"expectation", "POST", "/", "expect: more", REFUSED "417: unknown expectation: 'more'\n"},
    {"another host", "GET", "/", "host: b",
     RESET "PROTOCOL_ERROR: :authority and Host differ: 'b'\ns1 reset 1\n"},
    {"field of a connection", "GET", "/", "connection: close",
     RESET "PROTOCOL_ERROR: Invalid HTTP header field was received: 'connection'\ns1 reset 1\n"},
    {"pseudo field behind the others", "GET", "/", "a: b| :path: /",
     RESET "PROTOCOL_ERROR: Invalid HTTP header field was received: ':path'\ns1 reset 1\n"},
};

static void run_request(rig *r, const void *arg)
{
    const request *k = arg;
    r->script = "body;start 200;last hello";
    r->level = CD_DEBUG_LEVEL;
    h2client *c = h2_open(r, 0);
    h2_request(c, k->method, k->path, k->headers, NULL);
    h2_pump(c);
    h2_free(c);
}

static void test_http2(void)
{
    cd_config config = {.access_fd = -1, .http2 = true};
    config.limits = cd_config_default.limits;
    rig_configure(&config);
    for (size_t i = 0; i < ROWS(requests); i++) {
        rig *r = rig_new(CUT_WHOLE, 0);
        run_request(r, &requests[i]);
        size_t n = strlen(requests[i].trace);
        check_that(strncmp(rig_trace(r), requests[i].trace, n) == 0, __FILE__, __LINE__, "%s: %s",
                   requests[i].name, rig_trace(r));
        rig_free(r);
        check_scenario(requests[i].name, run_request, &requests[i], NULL, NULL, 0);
    }
}

/* What nghttp2 finds: a SETTINGS frame on a stream, a frame beyond the limit. */
static void test_http2_connection(void)
{
    static const struct {
        const char *frame;
        size_t n;
        const char *trace;
    } cases[] = {
        {"\0\0\0\x04\0\0\0\0\x01", 9, "closed with PROTOCOL_ERROR: SETTINGS: stream_id != 0\n"},
        {"\x7f\xff\xff\0\0\0\0\0\x01", 9, "closed with FRAME_SIZE_ERROR"},
        {"\0\0\x05\x02\0\0\0\0\0\0\0\0\0\0", 14,
         "closed with PROTOCOL_ERROR: PRIORITY without a stream\n"},
    };
    for (size_t i = 0; i < ROWS(cases); i++) {
        rig *r = rig_new(CUT_WHOLE, 0);
        r->level = CD_DEBUG_LEVEL;
        wire *w = wire_open(r);
        wire_text(w, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        wire_feed(w, "\0\0\0\x04\0\0\0\0\0", 9);
        wire_feed(w, cases[i].frame, cases[i].n);
        const char *trace = rig_trace(r);
        check_that(strncmp(trace, "log 20 Connection of 192.0.2.7 ", 31) == 0 &&
                       strncmp(trace + 31, cases[i].trace, strlen(cases[i].trace)) == 0,
                   __FILE__, __LINE__, "%zu: %s", i, trace);
        CHECK(strchr(trace, '\n') == trace + strlen(trace) - 1);
        rig_free(r);
    }
}

int main(void)
{
    test_http1();
    test_proxy_header();
    test_long_text();
    test_http2();
    test_http2_connection();
    return check_summary();
}
