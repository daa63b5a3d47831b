/*
 * Tests of HTTP/1: http1.c, http1_head.c, http1_response.c and what of stream.c and conn.c they
 * rest on.
 *
 * Every row runs whole, byte by byte, in random cuts, and with every allocation failing
 * (harness.h). The first table is what must be refused: the answer is the constant page and the end
 * of the connection, and the application never hears of it.
 */
#include "harness.h"
#include "http1/http1.h"

#define HEAD "GET / HTTP/1.1\r\nHost: a\r\n"
#define POST "POST / HTTP/1.1\r\nHost: a\r\n"
#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"
#define OPEN "1 open 1.1 GET / [host: a]\n"
#define OPEN_POST "1 open 1.1 POST / [host: a]"
#define HELLO "body;start 200;last hello"
#define HELLO_OUT "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
#define HELLO_CLOSE "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello"
#define EMPTY_BODY "1 body \n1 end\n"
#define PAGE(status, size, reason)                                                  \
    "HTTP/1.1 " status " " reason "\r\ncontent-type: text/plain; charset=utf-8\r\n" \
    "content-length: " size "\r\nconnection: close\r\n\r\n" status " " reason "\n"
#define PAGE400 PAGE("400", "16", "Bad Request")
#define ROWS(table) (sizeof(table) / sizeof *(table))

/* ---- refused ---- */

typedef struct {
    const char *name, *input;
    int status;
} refusal;

#define NUL "\xfe" /* stands for a NUL byte in the input of a refusal */

static const refusal refusals[] = {
    /* Two servers might disagree where these messages end (RFC 9112, 6.3 and 11.2). */
    {"two equal Content-Length", POST "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400},
    {"two Content-Length", POST "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400},
    {"list of Content-Length", POST "Content-Length: 5, 5\r\n\r\nhello", 400},
    {"CL and TE", POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
    {"TE and CL", POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400},
    {"Content-Length +5", POST "Content-Length: +5\r\n\r\nhello", 400},
    {"Content-Length -5", POST "Content-Length: -5\r\n\r\nhello", 400},
    {"Content-Length 0x5", POST "Content-Length: 0x5\r\n\r\nhello", 400},
    {"Content-Length 1_0", POST "Content-Length: 1_0\r\n\r\nhello", 400},
    {"Content-Length 5 5", POST "Content-Length: 5 5\r\n\r\nhello", 400},
    {"empty Content-Length", POST "Content-Length:\r\n\r\n", 400},
    {"huge Content-Length", POST "Content-Length: 99999999999999999999\r\n\r\n", 400},
    {"space before colon", POST "Content-Length : 5\r\n\r\nhello", 400},
    {"leading space", "POST / HTTP/1.1\r\n Content-Length: 5\r\nHost: a\r\n\r\nhello", 400},
    {"obs-fold", HEAD "X: a\r\n b\r\n\r\n", 400},
    {"obs-fold of TE", POST "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400},
    {"chunked, identity", POST "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400},
    {"identity", POST "Transfer-Encoding: identity\r\n\r\n", 400},
    {"xchunked", POST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400},
    {"chunked, xchunked", POST "Transfer-Encoding: chunked, xchunked\r\n\r\n0\r\n\r\n", 400},
    {"chunked twice", POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
    {"chunked, chunked", POST "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400},
    {"gzip, chunked", POST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501},
    {"empty TE", POST "Transfer-Encoding:\r\n\r\n", 400},
    {"vertical tab round TE", POST "Transfer-Encoding: \vchunked\r\n\r\n", 400},
    {"quoted TE", POST "Transfer-Encoding: \"chunked\"\r\n\r\n", 400},
    {"TE in 1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
    {"line ended by LF", "GET / HTTP/1.1\nHost: a\r\n\r\n", 400},
    {"header ended by LF", "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400},
    {"header ended by CR", "GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n", 400},
    {"CR in a value", HEAD "X: a\rTransfer-Encoding: chunked\r\n\r\n", 400},
    {"head ended by CR X", HEAD "\rX", 400},
    {"head ended by LF", HEAD "\n", 400},
    {"0.9 with headers", "GET /x\nHost: a\r\nContent-Length: 5\r\n\r\nhello", 400},
    {"0.9", "GET /x\r\n\r\n", 400},
    {"0.9, its sender waits", "GET /x\r\n", 400},
    {"0.9 and a space", "GET /x \r\n\r\n", 400},
    {"HTTP/0.9", "GET / HTTP/0.9\r\nHost: a\r\n\r\n", 400},
    {"HTTP/2.0", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505},
    {"HTTP/1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505},
    {"HTTP/11", "GET / HTTP/11\r\nHost: a\r\n\r\n", 400},
    {"HTTP/1.1x", "GET / HTTP/1.1x\r\nHost: a\r\n\r\n", 400},
    {"http/1.1", "GET / http/1.1\r\nHost: a\r\n\r\n", 400},
    {"RTSP", "OPTIONS / RTSP/1.0\r\nHost: a\r\n\r\n", 400},
    {"ICE", "SOURCE / ICE/1.0\r\nHost: a\r\n\r\n", 400},
    {"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
    {"TLS", "\x16\x03\x01" NUL "\xa5\x01" NUL, 400},
    {"unknown method", "BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 501},
    {"lower-case method", "get / HTTP/1.1\r\nHost: a\r\n\r\n", 501},
    {"empty method", " / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"CONNECT", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 501},
    {"zero-length name", HEAD ": x\r\n\r\n", 400},
    {"no colon", HEAD "nocolon\r\n\r\n", 400},
    {"space in a name", HEAD "X Y: z\r\n\r\n", 400},
    {"LF in a name", HEAD "X\nY: z\r\n\r\n", 400},
    {"non-ASCII name", HEAD "X\xc3\xa9: z\r\n\r\n", 400},
    {"NUL in a value", HEAD "X: a" NUL "b\r\n\r\n", 400},
    {"0x0b in a value",
     HEAD "X: a\x0b"
          "b\r\n\r\n",
     400},
    {"0x0c in a value",
     HEAD "X: a\x0c"
          "b\r\n\r\n",
     400},
    {"0x1c in a value",
     HEAD "X: a\x1c"
          "b\r\n\r\n",
     400},
    {"0x1d in a value",
     HEAD "X: a\x1d"
          "b\r\n\r\n",
     400},
    {"0x1e in a value",
     HEAD "X: a\x1e"
          "b\r\n\r\n",
     400},
    {"0x7f in a value",
     HEAD "X: a\x7f"
          "b\r\n\r\n",
     400},
    {"0x01 in a value", HEAD "X: \x01\r\n\r\n", 400},
    {"no Host", "GET / HTTP/1.1\r\n\r\n", 400},
    {"two Hosts", HEAD "Host: a\r\n\r\n", 400},
    {"two Hosts in 1.0", "GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n", 400},
    {"Host a@b", "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400},
    {"Host a/b", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400},
    {"Host a b", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400},
    {"Host [::1%]", "GET / HTTP/1.1\r\nHost: [::1%]\r\n\r\n", 400},
    {"Host [::1", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400},
    {"Host a,b", "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", 400},
    {"Host with NUL", "GET / HTTP/1.1\r\nHost: a" NUL "b\r\n\r\n", 400},
    {"malformed Host in 1.0", "GET / HTTP/1.0\r\nHost: a b\r\n\r\n", 400},
    {"Host <script>", "GET / HTTP/1.1\r\nHost: <script>\r\n\r\n", 400},
    {"fragment", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"relative target", "GET foo HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"authority target", "GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"GET *", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"OPTIONS *a", "OPTIONS *a HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"query target", "GET ?a HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"ftp target", "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"userinfo", "GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"no authority", "GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"no authority, no Host", "GET ws:///x HTTP/1.1\r\nHost:\r\n\r\n", 400},
    {"absolute target without Host", "GET http://a/ HTTP/1.1\r\n\r\n", 400},
    {"space in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"two spaces behind the target", "GET /  HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"space behind the version", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400},
    {"tab for a space", "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"tab in the target", "GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"control in the target", "GET /a\x01 HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"DEL in the target", "GET /a\x7f HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"non-ASCII target", "GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"NUL in the target", "GET /" NUL " HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"unknown expectation", POST "Expect: 200-ok\r\nContent-Length: 1\r\n\r\nx", 417},
    {"two expectations", POST "Expect: 100-continue\r\nExpect: 100-continue\r\n\r\n", 417},
    {"broken handshake",
     HEAD "Upgrade: websocket\r\nConnection: Upgrade\r\n"
          "Sec-WebSocket-Version: 13\r\n\r\n",
     400},
    {"only blank", "   \r\n", 400},
};

static const char *const reasons[] = {
    [400] = "Bad Request",           [408] = "Request Timeout",
    [413] = "Content Too Large",     [414] = "URI Too Long",
    [417] = "Expectation Failed",    [431] = "Request Header Fields Too Large",
    [500] = "Internal Server Error", [501] = "Not Implemented",
    [503] = "Service Unavailable",   [505] = "HTTP Version Not Supported",
};

static void page(text *t, int status)
{
    text_format(t,
                "HTTP/1.1 %d %s\r\ncontent-type: text/plain; charset=utf-8\r\n"
                "content-length: %zu\r\nconnection: close\r\n\r\n%d %s\n",
                status, reasons[status], strlen(reasons[status]) + 5, status, reasons[status]);
}

static void run_refusal(rig *r, const void *arg)
{
    const refusal *row = arg;
    r->script = HELLO;
    wire *w = wire_open(r);
    text input = {0};
    text_add(&input, row->input, strlen(row->input));
    for (size_t i = 0; i < input.n; i++)
        if (input.p[i] == NUL[0])
            input.p[i] = '\0';
    wire_feed(w, input.p, input.n);
    text_free(&input);
    wire_text(w, HEAD "\r\n"); /* must not be parsed any more */
    wire_eof(w);
}

static void check_refusal(const refusal *row)
{
    text want = {0};
    page(&want, row->status);
    check_scenario(row->name, run_refusal, row, "", want.p, want.n);
    text_free(&want);
}

static void test_refusals(void)
{
    for (size_t i = 0; i < ROWS(refusals); i++)
        check_refusal(&refusals[i]);
}

/* ---- limits of the head ---- */

static char *repeat(const char *before, const char *piece, size_t count, const char *after)
{
    text t = {0};
    text_add(&t, before, strlen(before));
    for (size_t i = 0; i < count; i++)
        text_add(&t, piece, strlen(piece));
    text_add(&t, after, strlen(after));
    return t.p;
}

static void check_limit(const char *name, char *input, int status)
{
    if (status != 200) {
        refusal row = {name, input, status};
        check_refusal(&row);
    } else {
        simple_case c = {.name = name, .script = HELLO, .input = input, .output = HELLO_OUT};
        check_simple(&c);
    }
    free(input);
}

static cd_config small_limits(void)
{
    cd_config config = {.access_fd = -1};
    config.limits = cd_config_default.limits;
    config.limits.max_head_size = 200;
    config.limits.max_target_size = 50;
    config.limits.max_header_count = 5;
    config.limits.max_trailer_size = 30;
    config.limits.max_chunk_extension_size = 20;
    config.limits.max_body_size = 100;
    return config;
}

static void test_head_limits(void)
{
    cd_config config = small_limits();
    rig_configure(&config);
    /* HEAD, "X: ", the end of the line and of the head are 32 bytes. */
    check_limit("head of 200 bytes", repeat(HEAD "X: ", "x", 168, "\r\n\r\n"), 200);
    check_limit("head of 201 bytes", repeat(HEAD "X: ", "x", 169, "\r\n\r\n"), 431);
    check_limit("endless value", repeat(HEAD "X: ", "x", 5000, ""), 431);
    check_limit("endless blanks", repeat(HEAD "X:", " ", 5000, ""), 431);
    check_limit("endless name", repeat(HEAD, "x", 5000, ""), 431);
    check_limit("endless CRLF", repeat("", "\r\n", 5000, ""), 431);
    check_limit("target of 50 bytes", repeat("GET /", "x", 49, " HTTP/1.1\r\nHost: a\r\n\r\n"),
                200);
    check_limit("target of 51 bytes", repeat("GET /", "x", 50, " HTTP/1.1\r\nHost: a\r\n\r\n"),
                414);
    check_limit("endless target", repeat("GET /", "x", 5000, ""), 414);
    check_limit("5 headers", repeat(HEAD, "X: y\r\n", 4, "\r\n"), 200);
    check_limit("6 headers", repeat(HEAD, "X: y\r\n", 5, "\r\n"), 431);
    check_limit("endless headers", repeat(HEAD, "X: y\r\n", 1000, ""), 431);
    check_limit("Content-Length 101", repeat(POST "Content-Length: 101\r\n\r\n", "x", 1, ""), 413);
    check_limit("Content-Length of all ones",
                repeat(POST "Content-Length: 18446744073709551615\r\n\r\n", "x", 1, ""), 413);
    check_limit("Content-Length 100", repeat(POST "Content-Length: 100\r\n\r\n", "x", 100, ""),
                200);
    rig_configure(NULL);
}

/* ---- heads that are served ---- */

typedef struct {
    const char *name, *input, *open;
} acceptance;

static const acceptance acceptances[] = {
    {"names and values", HEAD "X-A:b\r\nx-b: \t c d\t \r\nEMPTY:\r\nX-A: e\r\n\r\n",
     "1 open 1.1 GET / [host: a] [x-a: b] [x-b: c d] [empty: ] [x-a: e]\n"},
    {"obs-text", HEAD "X: \x80\x85\xff\r\n\r\n",
     "1 open 1.1 GET / [host: a] [x: \\x80\\x85\\xff]\n"},
    {"every tchar", HEAD "!#$%&'*+-.^_`|~09azAZ: x\r\n\r\n",
     "1 open 1.1 GET / [host: a] [!#$%&'*+-.^_`|~09azaz: x]\n"},
    {"path and query", "GET /a%20b/%2f%C3%A9%zz?c=%20&d?e HTTP/1.1\r\nHost: a\r\n\r\n",
     "1 open 1.1 GET /a b//\\xc3\\xa9%zz?c=%20&d?e [host: a]\n"},
    {"empty query", "GET /? HTTP/1.1\r\nHost: a\r\n\r\n", "1 open 1.1 GET / [host: a]\n"},
    {"two slashes", "GET //x/../y HTTP/1.1\r\nHost: a\r\n\r\n",
     "1 open 1.1 GET //x/../y [host: a]\n"},
    {"absolute target", "GET http://B:80/x?y HTTP/1.1\r\nHost: a\r\n\r\n",
     "1 open 1.1 GET /x?y [host: B:80]\n"},
    {"absolute https", "GET HTTPS://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
     "1 open 1.1 GET / [host: b]\n"},
    {"absolute without path", "GET http://b HTTP/1.1\r\nHost: a\r\n\r\n",
     "1 open 1.1 GET / [host: b]\n"},
    {"absolute with query only", "GET http://b?c HTTP/1.1\r\nHost: a\r\n\r\n",
     "1 open 1.1 GET /?c [host: b]\n"},
    {"OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "1 open 1.1 OPTIONS * [host: a]\n"},
    {"absolute of a WebSocket", "GET ws://b/x HTTP/1.1\r\nHost: a\r\n\r\n",
     "1 open 1.1 GET /x [host: b]\n"},
    {"absolute with an empty Host", "GET wss://b/x HTTP/1.1\r\nHost:\r\n\r\n",
     "1 open 1.1 GET /x [host: b]\n"},
    {"empty Host", "GET /x HTTP/1.1\r\nHost: \r\n\r\n", "1 open 1.1 GET /x [host: ]\n"},
    {"Host with a zone", "GET /x HTTP/1.1\r\nHost: [fe80::1%25eth0]:80\r\n\r\n",
     "1 open 1.1 GET /x [host: [fe80::1%25eth0]:80]\n"},
    {"empty Expect", "GET /x HTTP/1.1\r\nHost: a\r\nExpect:\r\n\r\n",
     "1 open 1.1 GET /x [host: a] [expect: ]\n"},
    {"OPTIONS absolute", "OPTIONS http://b HTTP/1.1\r\nHost: a\r\n\r\n",
     "1 open 1.1 OPTIONS * [host: b]\n"},
    {"leading CRLF", "\r\n\r\n" HEAD "\r\n", OPEN},
    {"IPv6 Host", "GET / HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n",
     "1 open 1.1 GET / [host: [::1]:8000]\n"},
    {"h2c", HEAD "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: x\r\n\r\n",
     "1 open 1.1 GET / [host: a] [upgrade: h2c] [connection: Upgrade, HTTP2-Settings]"
     " [http2-settings: x]\n"},
    {"Upgrade without Connection", HEAD "Upgrade: foo/1\r\n\r\n",
     "1 open 1.1 GET / [host: a] [upgrade: foo/1]\n"},
    {"expectation without a body", HEAD "Expect: 100-continue\r\n\r\n",
     "1 open 1.1 GET / [host: a] [expect: 100-continue]\n"},
    {"PATCH", "PATCH / HTTP/1.1\r\nHost: a\r\n\r\n", "1 open 1.1 PATCH / [host: a]\n"},
    {"underscores", HEAD "X_A: b\r\n\r\n", "1 open 1.1 GET / [host: a] [x_a: b]\n"},
};

static void test_acceptances(void)
{
    for (size_t i = 0; i < ROWS(acceptances); i++) {
        const acceptance *row = &acceptances[i];
        text trace = {0};
        text_format(&trace, "%s" EMPTY_BODY, row->open);
        simple_case c = {.name = row->name,
                         .script = "body;start 200;last hello;go",
                         .input = row->input,
                         .output = HELLO_OUT};
        check_simple(&c);
        rig *r = rig_new(CUT_WHOLE, 1);
        r->script = "body;go";
        wire_text(wire_open(r), row->input);
        CHECK_STR(rig_trace(r), trace.p);
        rig_free(r);
        text_free(&trace);
    }
}

/* ---- bodies and responses, one request each ---- */

static const simple_case cases[] = {
    {.name = "GET",
     .script = HELLO ";leave",
     .input = HEAD "\r\n",
     .trace = OPEN EMPTY_BODY "1 disconnect\naccess complete / 200 5\n1 gone\n",
     .output = HELLO_OUT},
    {.name = "no body is read",
     .script = "start 200;last hello",
     .input = HEAD "\r\n",
     .trace = OPEN "access complete / 200 5\n1 gone\n",
     .output = HELLO_OUT},
    {.name = "Content-Length body",
     .script = "start 200 content-length: 11;echo",
     .input = POST "Content-Length: 11\r\n\r\nhello world",
     .trace = OPEN_POST " [content-length: 11]\n1 body hello world\n1 end\n"
                        "access complete / 200 11\n1 gone\n",
     .output = "HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nhello world"},
    {.name = "body",
     .script = "body;start 200;last x;leave",
     .input = POST "Content-Length: 11\r\n\r\nhello world",
     .trace = OPEN_POST " [content-length: 11]\n1 body hello world\n1 end\n1 disconnect\n"
                        "access complete / 200 1\n1 gone\n",
     .output = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx"},
    {.name = "chunked body",
     .script = HELLO ";leave",
     .input = CHUNKED "5\r\nhello\r\n1\r\n \r\n005\r\nworld\r\n0\r\n\r\n",
     .trace = OPEN_POST " [transfer-encoding: chunked]\n1 body hello world\n1 end\n1 disconnect\n"
                        "access complete / 200 5\n1 gone\n",
     .output = HELLO_OUT},
    {.name = "Chunked in capitals",
     .script = HELLO ";leave",
     .input = POST "Transfer-Encoding: Chunked\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n",
     .trace = OPEN_POST " [transfer-encoding: Chunked]\n1 body 0123456789\n1 end\n1 disconnect\n"
                        "access complete / 200 5\n1 gone\n",
     .output = HELLO_OUT},
    {.name = "empty chunked body",
     .script = HELLO ";leave",
     .input = CHUNKED "0\r\n\r\n",
     .trace = OPEN_POST " [transfer-encoding: chunked]\n1 body \n1 end\n1 disconnect\n"
                        "access complete / 200 5\n1 gone\n",
     .output = HELLO_OUT},
    {.name = "chunk extensions",
     .script = HELLO ";leave",
     .input = CHUNKED "5;a=b;c=\"d\"\r\nhello\r\n0;x\r\n\r\n",
     .trace = OPEN_POST " [transfer-encoding: chunked]\n1 body hello\n1 end\n1 disconnect\n"
                        "access complete / 200 5\n1 gone\n",
     .output = HELLO_OUT},
    {.name = "blanks in chunk extensions",
     .script = HELLO ";leave",
     .input = CHUNKED "1; some; a=b\r\nh\r\n1 ;a\r\ne\r\n1;a =b\r\nl\r\n1\t;\ta\t=\tb\t;c\r\nl\r\n"
                      "1 ; a = \"x\\\" ;\\\\\xff\t\" ; c=\"\"\r\no\r\n00 ; x\r\nX: y\r\n\r\n",
     .trace = OPEN_POST " [transfer-encoding: chunked]\n1 body hello\n1 end\n1 disconnect\n"
                        "access complete / 200 5\n1 gone\n",
     .output = HELLO_OUT},
    {.name = "trailers are dropped",
     .script = HELLO ";leave",
     .input = CHUNKED "5\r\nhello\r\n0\r\nHost: b\r\nX: y\r\nContent-Length: 7\r\n\r\n",
     .output = NULL},
/* bad chunks: the application is there already and hears of a disconnect, never of an end */
#define BROKEN(name_, chunks, body)                                             \
    {.name = name_,                                                             \
     .script = "body;go",                                                       \
     .input = CHUNKED chunks,                                                   \
     .output = PAGE400,                                                         \
     .trace = OPEN_POST " [transfer-encoding: chunked]\n" body "1 disconnect\n" \
                        "access complete / 400 16\n"}
    BROKEN("data longer than its chunk", "5\r\nhelloXX0\r\n\r\n", "1 body hello\n"),
    BROKEN("chunk size +1", "+1\r\nx\r\n0\r\n\r\n", ""),
    BROKEN("chunk size 0x1", "0x1\r\nx\r\n0\r\n\r\n", ""),
    BROKEN("chunk size with a blank", " 1\r\nx\r\n0\r\n\r\n", ""),
    BROKEN("chunk size and a blank", "1 \r\nx\r\n0\r\n\r\n", ""),
    BROKEN("chunk size 1_0", "1_0\r\nx\r\n0\r\n\r\n", ""),
    BROKEN("chunk size overflow", "fffffffffffffffff\r\nx", ""),
    BROKEN("empty chunk size", "\r\nx\r\n0\r\n\r\n", ""),
    BROKEN("chunk line ended by LF", "1\nx\r\n0\r\n\r\n", ""),
    BROKEN("LF in an extension", "1;a\nb\r\nx\r\n0\r\n\r\n", ""),
    BROKEN("CR in an extension", "1;a\rb\r\nx\r\n0\r\n\r\n", ""),
    BROKEN("LF in a quoted extension", "1;a=\"\n\"\r\nx\r\n0\r\n\r\n", ""),
    BROKEN("CR in a quoted extension", "1;a=\"\r\"\r\nx\r\n0\r\n\r\n", ""),
    BROKEN("NUL in a quoted extension", "1;a=\"\x01\"\r\nx\r\n0\r\n\r\n", ""),
    BROKEN("escaped CR in an extension", "1;a=\"\\\r\n\"\r\nx\r\n0\r\n\r\n", ""),
    BROKEN("folded extension", "1;a\r\n ;b\r\nx\r\n0\r\n\r\n", "1 body  \n"),
    BROKEN("CR twice", "1;a\r\r\nx\r\n0\r\n\r\n", ""),
    BROKEN("CR twice behind the size", "1\r\r\nx\r\n0\r\n\r\n", ""),
    BROKEN("quoted name", "1;\"a\"\r\nx\r\n0\r\n\r\n", ""),
    BROKEN("open quotes", "1;a=\"\r\nx\r\n0\r\n\r\n", ""),
    BROKEN("text behind quotes", "1;a=\"b\"c\r\nx\r\n0\r\n\r\n", ""),
    BROKEN("quotes in a value", "1;a=b\"c\"\r\nx\r\n0\r\n\r\n", ""),
    BROKEN("'=' twice", "1;a=b=c\r\nx\r\n0\r\n\r\n", ""),
    BROKEN("no name", "1;\r\nx\r\n0\r\n\r\n", ""),
    BROKEN("no value", "1;a=\r\nx\r\n0\r\n\r\n", ""),
    BROKEN("a blank behind an extension", "1;a \r\nx\r\n0\r\n\r\n", ""),
    BROKEN("two names", "1;a b\r\nx\r\n0\r\n\r\n", ""),
    BROKEN("two sizes", "1 1;a\r\nx\r\n0\r\n\r\n", ""),
    BROKEN("'=' behind the size", "1=1\r\nx\r\n0\r\n\r\n", ""),
    BROKEN("comma behind the size", "1,1\r\nx\r\n0\r\n\r\n", ""),
    BROKEN("control byte in an extension", "1;a\vb\r\nx\r\n0\r\n\r\n", ""),
    BROKEN("high byte in an extension", "1;\xe4=1\r\nx\r\n0\r\n\r\n", ""),
    BROKEN("largest size and one", "8000000000000000\r\nx", ""),
    BROKEN("CRLF in a quoted extension", "1;a=\"\r\n\"\r\nx\r\n0\r\n\r\n", ""),
    BROKEN("data ended by LF", "1\r\nx\n0\r\n\r\n", "1 body x\n"),
    BROKEN("bad trailer", "1\r\nx\r\n0\r\nX Y: z\r\n\r\n", "1 body x\n"),
    BROKEN("folded trailer", "1\r\nx\r\n0\r\nX: y\r\n z\r\n\r\n", "1 body x\n"),
#undef BROKEN
    /* the end of the peer */
    {.name = "EOF at once", .script = HELLO, .input = "", .trace = "", .output = "", .eof = true},
    {.name = "EOF in a head",
     .script = HELLO,
     .input = "GET / HT",
     .trace = "",
     .output = "",
     .eof = true},
    {.name = "EOF in a body",
     .script = "body;go",
     .input = POST "Content-Length: 5\r\n\r\nhel",
     .trace = OPEN_POST " [content-length: 5]\n1 body hel\n1 disconnect\n"
                        "access complete / 0 0\n",
     .output = "",
     .eof = true},
    {.name = "EOF in a chunk",
     .script = "body",
     .input = CHUNKED "5\r\nhel",
     .output = "",
     .eof = true},
    {.name = "EOF before the last chunk",
     .script = "body",
     .input = CHUNKED "5\r\nhello\r\n",
     .trace = OPEN_POST " [transfer-encoding: chunked]\n1 body hello\n1 disconnect\n"
                        "access complete / 0 0\n1 gone\n",
     .output = "",
     .eof = true},
    {.name = "EOF before the empty line",
     .script = "body",
     .input = CHUNKED "5\r\nhello\r\n0\r\n",
     .trace = OPEN_POST " [transfer-encoding: chunked]\n1 body hello\n1 disconnect\n"
                        "access complete / 0 0\n1 gone\n",
     .output = "",
     .eof = true},
    {.name = "EOF while it computes",
     .script = "body;start 200;last x",
     .input = HEAD "\r\n",
     .trace = OPEN EMPTY_BODY "access complete / 200 1\n1 gone\n",
     .output = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx",
     .eof = true},
    /* responses */
    {.name = "Content-Length kept",
     .script = "start 200 Content-Length: 5| X: y;write he;last llo",
     .input = HEAD "\r\n",
     .output = "HTTP/1.1 200 OK\r\nX: y\r\ncontent-length: 5\r\n\r\nhello"},
    {.name = "equal Content-Lengths",
     .script = "start 200 content-length: 5| content-length: 5;last hello",
     .input = HEAD "\r\n",
     .output = HELLO_OUT},
    {.name = "chunked",
     .script = "start 200;write hello;write ;write  world;last ",
     .input = HEAD "\r\n",
     .output = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
               "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"},
    {.name = "chunked with a last piece",
     .script = "start 200;write hello;last world",
     .input = HEAD "\r\n",
     .output = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
               "5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n"},
    {.name = "empty",
     .script = "start 200;last ",
     .input = HEAD "\r\n",
     .output = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"},
    {.name = "1.0",
     .script = HELLO,
     .input = "GET / HTTP/1.0\r\n\r\n",
     .output = "HTTP/1.0 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello"},
    {.name = "1.0 keep-alive",
     .script = HELLO,
     .input = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
     .output = "HTTP/1.0 200 OK\r\ncontent-length: 5\r\nconnection: keep-alive\r\n\r\nhello"},
    {.name = "1.0 in pieces",
     .script = "start 200;write hello;last world",
     .input = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
     .output = "HTTP/1.0 200 OK\r\nconnection: close\r\n\r\nhelloworld"},
    {.name = "1.0 absolute without Host",
     .script = "body;go",
     .input = "GET http://b/ HTTP/1.0\r\n\r\n",
     .trace = "1 open 1.0 GET / [host: b]\n" EMPTY_BODY},
    {.name = "Connection: close",
     .script = HELLO,
     .input = HEAD "Connection: close\r\n\r\n" HEAD "\r\n",
     .trace = "1 open 1.1 GET / [host: a] [connection: close]\n" EMPTY_BODY
              "access complete / 200 5\n1 gone\n",
     .output = HELLO_CLOSE},
    {.name = "Connection: close, te",
     .script = HELLO,
     .input = HEAD "Connection: te, close\r\n\r\n",
     .output = HELLO_CLOSE},
    {.name = "the application closes",
     .script = "start 200 connection: Close;last hello",
     .input = HEAD "\r\n" HEAD "\r\n",
     .output = HELLO_CLOSE},
    {.name = "dropped headers",
     .script =
         "start 200 Transfer-Encoding: chunked| Keep-Alive: x| connection: keep-alive;last hello",
     .input = HEAD "\r\n",
     .output = HELLO_OUT},
    {.name = "HEAD",
     .script = "start 200;last hello",
     .input = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
     .trace = "1 open 1.1 HEAD / [host: a]\naccess complete / 200 0\n1 gone\n",
     .output = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"},
    {.name = "HEAD without a body",
     .script = "start 200;last ",
     .input = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
     .output = "HTTP/1.1 200 OK\r\n\r\n"},
    {.name = "HEAD with Content-Length",
     .script = "start 200 content-length: 77;last ",
     .input = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
     .output = "HTTP/1.1 200 OK\r\ncontent-length: 77\r\n\r\n"},
    {.name = "HEAD in pieces",
     .script = "start 200;pin 10;write x;lastpin 20000",
     .input = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
     .output = "HTTP/1.1 200 OK\r\n\r\n"},
    {.name = "204",
     .script = "start 204 content-length: 5;last hello",
     .input = HEAD "\r\n",
     .output = "HTTP/1.1 204 No Content\r\n\r\n"},
    {.name = "204 in pieces",
     .script = "start 204;write x;last ",
     .input = HEAD "\r\n",
     .output = "HTTP/1.1 204 No Content\r\n\r\n"},
    {.name = "304",
     .script = "start 304 etag: x;last ",
     .input = HEAD "\r\n",
     .output = "HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n"},
    {.name = "304 with Content-Length",
     .script = "start 304 content-length: 9;last ",
     .input = HEAD "\r\n",
     .output = "HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n"},
    {.name = "unknown status",
     .script = "start 799;last ",
     .input = HEAD "\r\n",
     .output = "HTTP/1.1 799 \r\ncontent-length: 0\r\n\r\n"},
    {.name = "two pieces pinned",
     .script = "start 200;pin 3;lastpin 3",
     .input = HEAD "\r\n",
     .output =
         "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\nabc\r\n0\r\n\r\n"},
    {.name = "one piece pinned",
     .script = "start 200;lastpin 3",
     .input = HEAD "\r\n",
     .output = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"},
    {.name = "nothing pinned",
     .script = "start 200;lastpin 0",
     .input = HEAD "\r\n",
     .output = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"},
    /* wrong order, bad values: nothing of it on the wire, and the application may go on */
    {.name = "write before start",
     .script = "write x;" HELLO,
     .input = HEAD "\r\n",
     .output = HELLO_OUT,
     .trace = OPEN "1 write -> ORDER\n" EMPTY_BODY "access complete / 200 5\n1 gone\n"},
    {.name = "two starts",
     .script = "start 201;start 200;last hello",
     .input = HEAD "\r\n",
     .trace = OPEN "1 start -> ORDER\naccess complete / 201 5\n1 gone\n",
     .output = "HTTP/1.1 201 Created\r\ncontent-length: 5\r\n\r\nhello"},
    {.name = "write after the end",
     .script = HELLO ";write x;last y",
     .input = HEAD "\r\n",
     .trace =
         OPEN EMPTY_BODY "1 write -> ORDER\n1 last -> ORDER\naccess complete / 200 5\n1 gone\n",
     .output = HELLO_OUT},
    {.name = "bad statuses",
     .script = "start 199;start 1000;start 0;start -5;" HELLO,
     .input = HEAD "\r\n",
     .trace = OPEN
     "1 start -> STATUS\n1 start -> STATUS\n1 start -> STATUS\n1 start -> STATUS\n" EMPTY_BODY
     "access complete / 200 5\n1 gone\n",
     .output = HELLO_OUT},
    {.name = "bad lengths",
     .script = "start 200 content-length: x;start 200 content-length: 1| content-length: 2;" HELLO,
     .input = HEAD "\r\n",
     .output = HELLO_OUT,
     .trace = OPEN "1 start -> FRAMING\n1 start -> FRAMING\n" EMPTY_BODY
                   "access complete / 200 5\n1 gone\n"},
    {.name = "bad headers",
     .script = "start 200 a b: c;start 200 a: b\\r\\nc;start 200 a: \\x00;start 200 a\\n: b;" HELLO,
     .input = HEAD "\r\n",
     .output = HELLO_OUT,
     .trace = OPEN
     "1 header -> NAME\n1 header -> VALUE\n1 header -> VALUE\n1 header -> NAME\n" EMPTY_BODY
     "access complete / 200 5\n1 gone\n"},
    {.name = "no WebSocket",
     .script = "accept;text x;close 1000;" HELLO,
     .input = HEAD "\r\n",
     .trace = OPEN "1 accept -> ORDER\n1 text -> ORDER\n1 close -> ORDER\n" EMPTY_BODY
                   "access complete / 200 5\n1 gone\n",
     .output = HELLO_OUT},
    /* ends that are not the application's */
    {.name = "raises before the start",
     .script = "body;fail",
     .input = HEAD "\r\n",
     .trace = OPEN EMPTY_BODY "access complete / 500 26\n1 gone\n",
     .output = PAGE("500", "26", "Internal Server Error")},
    {.name = "raises after the start",
     .script = "start 200 x: y;fail",
     .input = HEAD "\r\n",
     .trace = OPEN "access complete / 500 26\n1 gone\n",
     .output = PAGE("500", "26", "Internal Server Error")},
    {.name = "raises for HEAD",
     .script = "fail",
     .input = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
     .output = "HTTP/1.1 500 Internal Server Error\r\ncontent-type: text/plain; charset=utf-8\r\n"
               "content-length: 26\r\nconnection: close\r\n\r\n"},
    {.name = "returns without a response",
     .script = "body",
     .input = HEAD "\r\n",
     .trace = OPEN EMPTY_BODY "access complete / 500 26\n"
                              "log 40 Application ended without a response: GET /\n1 gone\n",
     .output = PAGE("500", "26", "Internal Server Error")},
    {.name = "longer at once",
     .script = "start 200 content-length: 4;last hello;last x",
     .input = HEAD "\r\n",
     .trace = OPEN
     "1 last -> LENGTH\n1 last -> GONE\naccess complete / 200 0\n"
     "log 40 Response body longer than its Content-Length of 4: GET /, status 200\n1 gone\n",
     .output = ""},
    {.name = "shorter at once",
     .script = "start 200 content-length: 6;last hello",
     .input = HEAD "\r\n",
     .trace = OPEN
     "1 last -> LENGTH\naccess complete / 200 0\n"
     "log 40 Response body shorter than its Content-Length of 6: GET /, status 200\n1 gone\n",
     .output = ""},
};

static void run_case(const simple_case *c)
{
    check_simple(c);
}

static void test_cases(void)
{
    for (size_t i = 0; i < ROWS(cases); i++)
        run_case(&cases[i]);
}

/* What does not fit the first blocks of memory: more fields than are kept, a response head larger
 * than an arena's block. */
static void test_large_heads(void)
{
    char *input = repeat(HEAD, "X: y\r\n", 200, "\r\n" HEAD "\r\n");
    simple_case many = {
        .name = "200 headers", .script = HELLO, .input = input, .output = HELLO_OUT HELLO_OUT};
    check_simple(&many);
    free(input);
    char *script = repeat("start 200 x: ", "y", 5000, ";last hello");
    char *output =
        repeat("HTTP/1.1 200 OK\r\nx: ", "y", 5000, "\r\ncontent-length: 5\r\n\r\nhello");
    simple_case large = {
        .name = "5000 bytes of head", .script = script, .input = HEAD "\r\n", .output = output};
    check_simple(&large);
    free(script);
    free(output);
}

int main(void)
{
    test_refusals();
    test_head_limits();
    test_large_heads();
    test_acceptances();
    test_cases();
    return check_summary();
}
