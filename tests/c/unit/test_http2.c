/*
 * Tests of HTTP/2: http2*.c, and what of http1.c finds the preface.
 *
 * The client is nghttp2's (h2client.h). Every scenario runs whole, byte by byte, in random cuts and
 * with every allocation failing; the trace has both ends.
 */
#include "h2client.h"

#define HELLO "body;start 200;last hello"
#define ACCESS "access complete "

static cd_config config = {.access_fd = -1, .http2 = true};

static void configure(void)
{
    config = (cd_config){.access_fd = -1, .http2 = true};
    config.limits = cd_config_default.limits;
    rig_configure(&config);
}

/* ---- one request ---- */

typedef struct {
    const char *name, *script, *method, *path, *headers, *body, *trace;
} request_case;

static void run_request(rig *r, const void *arg)
{
    const request_case *k = arg;
    r->script = k->script;
    h2client *c = h2_open(r, 0);
    h2_request(c, k->method, k->path, k->headers, k->body);
    h2_pump(c);
    h2_free(c);
}

#define OPEN "1 open 2.0 GET / [host: a]\n"
#define OPEN_POST "1 open 2.0 POST / [host: a]\n"
#define EMPTY "1 body \n1 end\n"
#define DONE "access complete / 200 5\n1 gone\n"
#define HELLO_HEARD "s1 head 200 [content-length: 5]\ns1 body hello\ns1 end\n"
#define PAGE(status, size, text)                                                                \
    "s1 head " status " [content-type: text/plain; charset=utf-8] [content-length: " size "]\n" \
    "s1 body " text "\\n\ns1 end\n"

static const request_case requests[] = {
    {"GET", HELLO, "GET", "/x?y=1", "", NULL,
     "1 open 2.0 GET /x?y=1 [host: a]\n" EMPTY
     "access complete /x?y=1 200 5\n1 gone\n" HELLO_HEARD},
    {"POST", "start 200 content-length: 8;echo", "POST", "/", "", "question",
     OPEN_POST "1 body question\n1 end\naccess complete / 200 8\n1 gone\n"
               "s1 head 200 [content-length: 8]\ns1 body question\ns1 end\n"},
    {"percent escapes", HELLO, "GET", "/a%20b%2", "", NULL,
     "1 open 2.0 GET /a b%2 [host: a]\n" EMPTY
     "access complete /a%20b%2 200 5\n1 gone\n" HELLO_HEARD},
    {"cookie crumbs", HELLO, "GET", "/", "cookie: a=1| x: y| cookie: b=2| cookie: c", NULL,
     "1 open 2.0 GET / [host: a] [cookie: a=1; b=2; c] [x: y]\n" EMPTY DONE HELLO_HEARD},
    {"the same host twice", HELLO, "GET", "/", "x: y| host: a", NULL,
     "1 open 2.0 GET / [host: a] [x: y]\n" EMPTY DONE HELLO_HEARD},
    {"trailers of the request", HELLO, "GET", "/", "te: trailers", NULL,
     "1 open 2.0 GET / [host: a] [te: trailers]\n" EMPTY DONE HELLO_HEARD},
    {"HEAD", "body;start 200 content-length: 5;last hello", "HEAD", "/", "", NULL,
     "1 open 2.0 HEAD / [host: a]\n" EMPTY "access complete / 200 0\n1 gone\n"
     "s1 head 200 [content-length: 5]\ns1 end\n"},
    {"204", "body;start 204 content-length: 0;last", "GET", "/", "", NULL,
     OPEN EMPTY "access complete / 204 0\n1 gone\ns1 head 204\ns1 end\n"},
    {"304", "body;start 304 content-length: 7;last", "GET", "/", "", NULL,
     OPEN EMPTY "access complete / 304 0\n1 gone\ns1 head 304 [content-length: 7]\ns1 end\n"},
    {"empty body", "body;start 200;last", "GET", "/", "", NULL,
     OPEN EMPTY "access complete / 200 0\n1 gone\ns1 head 200 [content-length: 0]\ns1 end\n"},
    {"in pieces", "body;start 200;write he;write l;last lo", "GET", "/", "", NULL,
     OPEN EMPTY DONE "s1 head 200\ns1 body hello\ns1 end\n"},
    {"fields of a connection",
     "body;start 200 Connection: close| Keep-Alive: 5| Upgrade: h2c| "
     "Transfer-Encoding: chunked| X-Y: Z;last hello",
     "GET", "/", "", NULL,
     OPEN EMPTY DONE "s1 head 200 [x-y: Z] [content-length: 5]\ns1 body hello\ns1 end\n"},
    {"a pinned body", "body;start 200;lastpin 50000", "GET", "/", "", NULL,
     OPEN EMPTY "access complete / 200 50000\n1 gone\ns1 head 200 [content-length: 50000]\n"
                "s1 body (50000 bytes, 1fad4e9e26da2ddd)\ns1 end\n"},
    {"HEAD with a pinned body", "body;start 200;lastpin 50000", "HEAD", "/", "", NULL,
     "1 open 2.0 HEAD / [host: a]\n" EMPTY "access complete / 200 0\n1 gone\n"
     "s1 head 200 [content-length: 50000]\ns1 end\n"},
    {"hints", "body;hint </a.css>| </b.js>;start 200;last hello", "GET", "/", "", NULL,
     OPEN EMPTY DONE "s1 head 103 [link: </a.css>] [link: </b.js>]\n" HELLO_HEARD},
    {"trailers", "body;start 200;announce;write he;last llo;trailers a: b| C: d;lasttrailers e: f",
     "GET", "/", "te: trailers", NULL,
     "1 open 2.0 GET / [host: a] [te: trailers]\n" EMPTY DONE
     "s1 head 200\ns1 body hello\ns1 head [a: b] [c: d] [e: f]\ns1 end\n"},
    {"trailers that nobody reads", "body;start 200;announce;last hello;lasttrailers a: b", "GET",
     "/", "", NULL, OPEN EMPTY DONE HELLO_HEARD},
    {"trailers of HEAD", "body;start 200;announce;last hello;lasttrailers a: b", "HEAD", "/",
     "te: trailers", NULL,
     "1 open 2.0 HEAD / [host: a] [te: trailers]\n" EMPTY "access complete / 200 0\n1 gone\n"
     "s1 head 200 [content-length: 5]\ns1 end\n"},
    /* faults of the application */
    {"no response", "body", "GET", "/", "", NULL,
     OPEN EMPTY "access complete / 500 26\n"
                "log 40 Application ended without a response: GET /\n1 gone\n" PAGE(
                    "500", "26", "500 Internal Server Error")},
    {"an exception", "body;fail", "GET", "/", "", NULL,
     OPEN EMPTY
     "access complete / 500 26\n1 gone\n" PAGE("500", "26", "500 Internal Server Error")},
    {"a response cut short", "body;start 200;write he;fail", "GET", "/", "", NULL,
     OPEN EMPTY "access complete / 200 2\n1 gone\ns1 reset 2\n"},
    {"too long", "body;start 200 content-length: 4;last hello", "GET", "/", "", NULL,
     OPEN EMPTY "1 last -> LENGTH\naccess complete / 200 0\n"
                "log 40 Response body longer than its Content-Length of 4: GET /, status 200\n1 "
                "gone\ns1 reset 2\n"},
    {"too short", "body;start 200 content-length: 6;last hello", "GET", "/", "", NULL,
     OPEN EMPTY "1 last -> LENGTH\naccess complete / 200 0\n"
                "log 40 Response body shorter than its Content-Length of 6: GET /, status 200\n1 "
                "gone\ns1 reset 2\n"},
    {"abort", "body;start 200;write he;abort;write x", "GET", "/", "", NULL,
     OPEN EMPTY "1 write -> GONE\naccess complete / 200 2\n1 gone\ns1 reset 2\n"},
    {"order", "write x;start 200;start 200;last hello;last x;leave", "GET", "/", "", NULL,
     OPEN "1 write -> ORDER\n1 start -> ORDER\n1 last -> ORDER\n" EMPTY
          "1 disconnect\n" DONE HELLO_HEARD},
    {"status", "start 100;start 200;last hello", "GET", "/", "", NULL,
     OPEN "1 start -> STATUS\n" DONE HELLO_HEARD},
    /* faults of the peer that have an answer */
    {"unknown method", HELLO, "BREW", "/", "", NULL, PAGE("501", "20", "501 Not Implemented")},
    {"malformed host", HELLO, "GET", "/", "host: a b", NULL, "s1 reset 1\n"},
    {"expectation", HELLO, "POST", "/", "expect: more", NULL,
     PAGE("417", "23", "417 Expectation Failed")},
    {"* of GET", HELLO, "GET", "*", "", NULL, "s1 reset 1\n"},
    {"fragment", HELLO, "GET", "/a#b", "", NULL, PAGE("400", "16", "400 Bad Request")},
    {"the same host in capitals", HELLO, "GET", "/", "host: A", NULL, OPEN EMPTY DONE HELLO_HEARD},
    /* faults that have none: somebody may be smuggling */
    {"another host", HELLO, "GET", "/", "host: b", NULL, "s1 reset 1\n"},
    {"connection", HELLO, "GET", "/", "connection: close", NULL, "s1 reset 1\n"},
    {"keep-alive", HELLO, "GET", "/", "keep-alive: 1", NULL, "s1 reset 1\n"},
    {"proxy-connection", HELLO, "GET", "/", "proxy-connection: close", NULL, "s1 reset 1\n"},
    {"transfer-encoding", HELLO, "POST", "/", "transfer-encoding: chunked", "x", "s1 reset 1\n"},
    {"upgrade", HELLO, "GET", "/", "upgrade: h2c", NULL, "s1 reset 1\n"},
    {"te: gzip", HELLO, "GET", "/", "te: gzip", NULL, "s1 reset 1\n"},
    {"two content-length", HELLO, "POST", "/", "content-length: 1| content-length: 1", "x",
     "s1 reset 1\n"},
    {"content-length +1", HELLO, "POST", "/", "content-length: +1", "x", "s1 reset 1\n"},
    {"CR in a value", HELLO, "GET", "/", "a: b\rc", NULL, "s1 reset 1\n"},
    {"LF in a value", HELLO, "GET", "/", "a: b\nc", NULL, "s1 reset 1\n"},
    {"0x0b in a value", HELLO, "GET", "/",
     "a: b\x0b"
     "c",
     NULL, "s1 reset 1\n"},
    {"0x1c in a value", HELLO, "GET", "/",
     "a: b\x1c"
     "c",
     NULL, "s1 reset 1\n"},
    {"0x7f in a value", HELLO, "GET", "/",
     "a: b\x7f"
     "c",
     NULL, "s1 reset 1\n"},
    {"CR in a name", HELLO, "GET", "/", "a\rb: c", NULL, "s1 reset 1\n"},
    {"space in a name", HELLO, "GET", "/", "a b: c", NULL, "s1 reset 1\n"},
    {"space in the path", HELLO, "GET", "/a b", "", NULL, "s1 reset 1\n"},
    {"relative path", HELLO, "GET", "x", "", NULL, "s1 reset 1\n"},
    {"pseudo field behind the others", HELLO, "GET", "/", "a: b| :path: /", NULL, "s1 reset 1\n"},
    {"two :authority", HELLO, "GET", "/", ":authority: a", NULL, "s1 reset 1\n"},
    {"unknown pseudo field", HELLO, "GET", "/", ":x: a", NULL, "s1 reset 1\n"},
    {"response's pseudo field", HELLO, "GET", "/", ":status: 200", NULL, "s1 reset 1\n"},
};

static void test_requests(void)
{
    configure();
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++)
        check_scenario(requests[i].name, run_request, &requests[i], requests[i].trace, NULL, 0);
}

/* ---- a request of HTTP/1.1 that asks for HTTP/2 ---- */

#define LISTED "Connection: Upgrade, HTTP2-Settings\r\n"
#define ASKS "Upgrade: h2c\r\n"
#define SETTINGS "HTTP2-Settings: AAMAAABkAAQAAP__AAIAAAAA\r\n"
#define HOST "Host: a\r\n"

typedef struct {
    const char *name, *script, *request, *trace;
    bool eager;
} upgrade_case;

static void run_upgrade(rig *r, const void *arg)
{
    const upgrade_case *k = arg;
    r->script = k->script;
    h2client *c = h2_upgrade(r, k->request, k->eager);
    h2_pump(c);
    r->script = HELLO;
    h2_request(c, "GET", "/next", "", NULL);
    h2_pump(c);
    h2_free(c);
}

#define NEXT                                                                 \
    "2 open 2.0 GET /next [host: a]\n2 body \n2 end\n"                       \
    "access complete /next 200 5\n2 gone\ns3 head 200 [content-length: 5]\n" \
    "s3 body hello\ns3 end\n"

static const upgrade_case upgrades[] = {
    {"GET", HELLO, "GET / HTTP/1.1\r\n" HOST LISTED ASKS SETTINGS "\r\n",
     OPEN EMPTY DONE HELLO_HEARD NEXT, false},
    {"before the answer", HELLO, "GET / HTTP/1.1\r\n" HOST LISTED ASKS SETTINGS "\r\n",
     OPEN EMPTY DONE HELLO_HEARD NEXT, true},
    {"fields", HELLO,
     "GET /%20?x=y HTTP/1.1\r\nKeep-Alive: 5\r\nA: b\r\n" HOST "Upgrade: x, H2C\r\n" SETTINGS
     "Cookie: a=1\r\nConnection: http2-settings\r\nCookie: b=2\r\nConnection: upgrade\r\n\r\n",
     "1 open 2.0 GET / ?x=y [a: b] [host: a] [cookie: a=1; b=2]\n" EMPTY
     "access complete /%20?x=y 200 5\n1 gone\n" HELLO_HEARD NEXT,
     false},
    {"HEAD", "body;start 200 content-length: 5;last hello",
     "HEAD / HTTP/1.1\r\n" HOST LISTED ASKS SETTINGS "\r\n",
     "1 open 2.0 HEAD / [host: a]\n" EMPTY "access complete / 200 0\n1 gone\n"
     "s1 head 200 [content-length: 5]\ns1 end\n" NEXT,
     false},
    {"an empty body", HELLO,
     "POST / HTTP/1.1\r\n" HOST LISTED ASKS SETTINGS "Content-Length: 0\r\n\r\n",
     "1 open 2.0 POST / [host: a] [content-length: 0]\n" EMPTY DONE HELLO_HEARD NEXT, false},
    {"no settings at all", HELLO,
     "OPTIONS * HTTP/1.1\r\n" HOST LISTED ASKS "HTTP2-Settings:\r\n\r\n",
     "1 open 2.0 OPTIONS * [host: a]\n" EMPTY "access complete * 200 5\n1 gone\n" HELLO_HEARD NEXT,
     false},
    {"a pinned body", "body;start 200;lastpin 50000",
     "GET / HTTP/1.1\r\n" HOST LISTED ASKS SETTINGS "\r\n",
     OPEN EMPTY "access complete / 200 50000\n1 gone\ns1 head 200 [content-length: 50000]\n"
                "s1 body (50000 bytes, 1fad4e9e26da2ddd)\ns1 end\n" NEXT,
     false},
    {"an exception", "body;fail", "GET / HTTP/1.1\r\n" HOST LISTED ASKS SETTINGS "\r\n",
     OPEN EMPTY "access complete / 500 26\n1 gone\n" PAGE("500", "26", "500 Internal Server Error")
         NEXT,
     false},
};

/* What is not as it should be is answered in HTTP/1.1. */
static const struct {
    const char *name, *request;
} no_upgrades[] = {
    {"a body", "POST / HTTP/1.1\r\n" HOST LISTED ASKS SETTINGS "Content-Length: 2\r\n\r\nhi"},
    {"a chunked body",
     "POST / HTTP/1.1\r\n" HOST LISTED ASKS SETTINGS "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
    {"h2", "GET / HTTP/1.1\r\n" HOST LISTED "Upgrade: h2\r\n" SETTINGS "\r\n"},
    {"h2c twice", "GET / HTTP/1.1\r\n" HOST LISTED "Upgrade: h2c, h2c\r\n" SETTINGS "\r\n"},
    {"two Upgrade", "GET / HTTP/1.1\r\n" HOST LISTED ASKS ASKS SETTINGS "\r\n"},
    {"no HTTP2-Settings", "GET / HTTP/1.1\r\n" HOST LISTED ASKS "\r\n"},
    {"two HTTP2-Settings", "GET / HTTP/1.1\r\n" HOST LISTED ASKS SETTINGS SETTINGS "\r\n"},
    {"HTTP2-Settings not listed",
     "GET / HTTP/1.1\r\n" HOST "Connection: Upgrade\r\n" ASKS SETTINGS "\r\n"},
    {"Upgrade not listed",
     "GET / HTTP/1.1\r\n" HOST "Connection: HTTP2-Settings\r\n" ASKS SETTINGS "\r\n"},
    {"no base64url", "GET / HTTP/1.1\r\n" HOST LISTED ASKS "HTTP2-Settings: AAMAAAB+\r\n\r\n"},
    {"padding", "GET / HTTP/1.1\r\n" HOST LISTED ASKS "HTTP2-Settings: AAMAAA==\r\n\r\n"},
    {"half a setting", "GET / HTTP/1.1\r\n" HOST LISTED ASKS "HTTP2-Settings: AAMA\r\n\r\n"},
    {"push of 2", "GET / HTTP/1.1\r\n" HOST LISTED ASKS "HTTP2-Settings: AAIAAAAC\r\n\r\n"},
    {"window of 2^31", "GET / HTTP/1.1\r\n" HOST LISTED ASKS "HTTP2-Settings: AASAAAAA\r\n\r\n"},
    {"frames of 100", "GET / HTTP/1.1\r\n" HOST LISTED ASKS "HTTP2-Settings: AAUAAABk\r\n\r\n"},
    {"absolute target", "GET http://a/ HTTP/1.1\r\n" HOST LISTED ASKS SETTINGS "\r\n"},
};

static void check_no_upgrade(const char *name, const char *request)
{
    simple_case k = {.name = name,
                     .script = HELLO,
                     .input = request,
                     .output = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"};
    check_simple(&k);
}

static void test_many_settings(void)
{
    text t = {0};
    text_format(&t, "GET / HTTP/1.1\r\n" HOST LISTED ASKS "HTTP2-Settings: ");
    for (int i = 0; i < NGHTTP2_DEFAULT_MAX_SETTINGS + 1; i++)
        text_format(&t, "AAMAAABk");
    text_format(&t, "\r\n\r\n");
    check_no_upgrade("too many settings", t.p);
    text_free(&t);
}

/* The 101 is never answered with a preface. */
static void run_silent(rig *r, const void *arg)
{
    r->script = HELLO;
    wire *w = wire_open(r);
    wire_text(w, arg);
    rig_advance(r, 31);
    text_format(&r->trace, "%s\n", w == NULL || w->closed || w->fin ? "closed" : "open");
}

static void test_upgrades(void)
{
    configure();
    check_no_upgrade("switched off", upgrades[0].request);
    config.http2_upgrade = true;
    rig_configure(&config);
    for (size_t i = 0; i < sizeof upgrades / sizeof *upgrades; i++)
        check_scenario(upgrades[i].name, run_upgrade, &upgrades[i], upgrades[i].trace, NULL, 0);
    check_scenario("no preface", run_silent, upgrades[0].request, OPEN EMPTY DONE "closed\n", NULL,
                   0);
    for (size_t i = 0; i < sizeof no_upgrades / sizeof *no_upgrades; i++)
        check_no_upgrade(no_upgrades[i].name, no_upgrades[i].request);
    test_many_settings();
    config.http2 = false;
    rig_configure(&config);
    check_no_upgrade("HTTP/2 switched off", upgrades[0].request);
}

int main(void)
{
    test_requests();
    test_upgrades();
    return check_summary();
}
