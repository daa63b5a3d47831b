/*
 * Tests of what a response may have besides start and write: early hints, trailers, files. On
 * HTTP/1, and on the parts below it that HTTP/2 shares.
 *
 * A file is the rig's: a..z again and again, so a slice of it is known by where it begins. Short
 * slices are copied, longer ones go to the transport, by its sendfile or, in some of the cuts, by
 * reads of the connection's.
 */
#include "harness.h"

#define ROWS(table) (sizeof(table) / sizeof *(table))
#define CHECK_ALL(table)                     \
    for (size_t i = 0; i < ROWS(table); i++) \
    check_simple(&(table)[i])
#define GET "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
#define TE "GET / HTTP/1.1\r\nHost: a\r\nTE: gzip;q=0.5, trailers\r\n\r\n"
#define OPEN "1 open 1.1 GET / [host: a]\n"
#define OPEN_TE "1 open 1.1 GET / [host: a] [te: gzip;q=0.5, trailers]\n"
#define OK "HTTP/1.1 200 OK\r\n"
#define CHUNKED OK "transfer-encoding: chunked\r\n\r\n"
#define HINT(links) "HTTP/1.1 103 Early Hints\r\n" links "\r\n"
#define LINK(value) "link: " value "\r\n"

static const simple_case hints[] = {
    {.name = "hints",
     .script = "hint </a>; hint </b>\\x3brel=preload| </c>; start 200; last hello",
     .input = GET,
     .trace = OPEN "access complete / 200 5\n1 gone\n",
     .output = HINT(LINK("</a>")) HINT(LINK("</b>;rel=preload") LINK("</c>")) OK
     "content-length: 5\r\n\r\nhello"},
    {.name = "hints behind the start, which is held",
     .script = "start 200; hint </a>| </b>; last hello",
     .input = GET,
     .output = HINT(LINK("</a>") LINK("</b>")) OK "content-length: 5\r\n\r\nhello"},
    {.name = "hint without a link",
     .script = "hint ; start 200; last hello",
     .input = GET,
     .output = OK "content-length: 5\r\n\r\nhello"},
    {.name = "hint that is too late",
     .script = "start 200; write he; hint </a>; last llo; hint </a>",
     .input = GET,
     .trace = OPEN "1 hint -> ORDER\n1 hint -> ORDER\naccess complete / 200 5\n1 gone\n",
     .output = CHUNKED "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"},
    {.name = "hint, then no answer",
     .script = "hint </a>; fail",
     .input = GET,
     .output = HINT(LINK("</a>")) "HTTP/1.1 500 Internal Server Error\r\n"
                                  "content-type: text/plain; charset=utf-8\r\n"
                                  "content-length: 26\r\nconnection: close\r\n\r\n"
                                  "500 Internal Server Error\n"},
    {.name = "hint on a WebSocket",
     .script = "hint </a>; start 403; last no",
     .input = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
              "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
     .output = "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno"},
};

static const simple_case trailers[] = {
    {.name = "trailers",
     .script = "start 200 trailer: x-a; announce; write he; last llo; trailers x-a: 1| x-b: 2;"
               "lasttrailers x-c: 3",
     .input = TE,
     .trace = OPEN_TE "access complete / 200 5\n1 gone\n",
     .output = OK "trailer: x-a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n"
                  "x-a: 1\r\nx-b: 2\r\nx-c: 3\r\n\r\n"},
    {.name = "trailers of one write",
     .script = "start 200; announce; last hello; lasttrailers x-a: 1",
     .input = TE TE,
     .output =
         CHUNKED "5\r\nhello\r\n0\r\nx-a: 1\r\n\r\n" CHUNKED "5\r\nhello\r\n0\r\nx-a: 1\r\n\r\n"},
    {.name = "trailers of an empty body",
     .script = "start 200; announce; last ; lasttrailers ",
     .input = TE,
     .output = CHUNKED "0\r\n\r\n"},
    {.name = "trailers and a Content-Length",
     .script = "start 200 content-length: 5; announce; write he; last llo; lasttrailers x-a: 1",
     .input = TE,
     .output = CHUNKED "2\r\nhe\r\n3\r\nllo\r\n0\r\nx-a: 1\r\n\r\n"},
    {.name = "trailers and a Content-Length that is not kept",
     .script = "start 200 content-length: 6; announce; write he; last llo",
     .input = TE,
     .trace = OPEN_TE "1 last -> LENGTH\naccess complete / 200 2\nlog 40 Response body shorter "
                      "than its Content-Length of 6: GET /, status 200\n1 gone\n",
     .output = ""},
    {.name = "trailers that nobody asked for",
     .script = "start 200; announce; last hello; trailers x-a: 1; lasttrailers x-b: 2",
     .input = GET GET,
     .output = OK "content-length: 5\r\n\r\nhello" OK "content-length: 5\r\n\r\nhello"},
    {.name = "trailers in HTTP/1.0",
     .script = "start 200; announce; last hello; lasttrailers x-b: 2",
     .input = "GET / HTTP/1.0\r\nTE: trailers\r\n\r\n",
     .output = "HTTP/1.0 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello"},
    {.name = "trailers for HEAD",
     .script = "start 200; announce; last hello; lasttrailers x-b: 2",
     .input = "HEAD / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n",
     .output = OK "content-length: 5\r\n\r\n"},
    {.name = "trailers of a 304",
     .script = "start 304; announce; last ; lasttrailers x-b: 2",
     .input = TE,
     .output = "HTTP/1.1 304 Not Modified\r\n\r\n"},
    {.name = "trailers that do not belong there",
     .script = "start 200; announce; last x; trailers Content-Length: 5; trailers host: b;"
               "trailers a b: c; trailers x: a\\rb; lasttrailers x-a: 1",
     .input = TE,
     .trace = OPEN_TE "1 trailers -> FRAMING\n1 trailers -> FRAMING\n1 trailers -> NAME\n"
                      "1 trailers -> VALUE\naccess complete / 200 1\n1 gone\n",
     .output = CHUNKED "1\r\nx\r\n0\r\nx-a: 1\r\n\r\n"},
    {.name = "trailers out of order",
     .script = "announce; start 200; trailers x: 1; announce; trailers x: 1; write a; announce;"
               "trailers x: 1; last b; write c; last d; lasttrailers x: 2; lasttrailers x: 3",
     .input = TE,
     .trace = OPEN_TE "1 announce -> ORDER\n1 trailers -> ORDER\n1 trailers -> ORDER\n"
                      "1 announce -> ORDER\n1 trailers -> ORDER\n1 write -> ORDER\n"
                      "1 last -> ORDER\n1 lasttrailers -> ORDER\naccess complete / 200 2\n"
                      "1 gone\n",
     .output = CHUNKED "1\r\na\r\n1\r\nb\r\n0\r\nx: 2\r\n\r\n"},
    {.name = "trailers that do not come",
     .script = "start 200; announce; last hello",
     .input = TE,
     .trace = OPEN_TE "access complete / 200 5\n"
                      "log 40 Application ended without completing its response: GET /\n1 gone\n"},
    {.name = "trailers of a WebSocket's denial",
     .script = "start 403; announce; last no",
     .input = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
              "TE: trailers\r\nSec-WebSocket-Version: 13\r\n"
              "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
     .output = "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno"},
};

static const simple_case small_files[] = {
    {.name = "a small file",
     .script = "start 200; lastfile 0 26",
     .input = GET GET,
     .output = OK "content-length: 26\r\n\r\nabcdefghijklmnopqrstuvwxyz" OK
                  "content-length: 26\r\n\r\nabcdefghijklmnopqrstuvwxyz"},
    {.name = "small files and bytes",
     .script = "start 200; file 3 2; write !; file 26002 3; file 0 0; lastfile 99999 1",
     .input = GET,
     .trace = OPEN "access complete / 200 7\n1 gone\n",
     .output = CHUNKED "2\r\nde\r\n1\r\n!\r\n3\r\ncde\r\n1\r\nd\r\n0\r\n\r\n"},
    {.name = "an empty file",
     .script = "start 200; lastfile 5 0",
     .input = GET,
     .output = OK "content-length: 0\r\n\r\n"},
    {.name = "a small file beyond the end",
     .script = "start 200; file 99999 2; last x",
     .input = GET,
     .trace = OPEN "1 file -> SYSTEM\naccess complete / 200 1\n1 gone\n",
     .output = OK "content-length: 1\r\n\r\nx"},
    {.name = "a file and a Content-Length",
     .script = "start 200 content-length: 3; lastfile 1 2",
     .input = GET,
     .trace = OPEN "1 lastfile -> LENGTH\naccess complete / 200 0\nlog 40 Response body "
                   "shorter than its Content-Length of 3: GET /, status 200\n1 gone\n",
     .output = ""},
    {.name = "a large file and a Content-Length",
     .script = "start 200 content-length: 3; lastfile 1 20000",
     .input = GET,
     .trace = OPEN "1 lastfile -> LENGTH\naccess complete / 200 0\nlog 40 Response body "
                   "longer than its Content-Length of 3: GET /, status 200\n1 gone\n",
     .output = ""},
    {.name = "a file too large for anything",
     .script = "start 200; lastfile 0 18446744073709551615",
     .input = GET,
     .trace = OPEN "1 lastfile -> LENGTH\naccess complete / 500 26\n"
                   "log 40 Application ended without a response: GET /\n1 gone\n"},
    {.name = "files for HEAD",
     .script = "start 200; lastfile 0 90000",
     .input = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\nHEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
     .output = OK "content-length: 90000\r\n\r\n" OK "content-length: 90000\r\n\r\n"},
    {.name = "small files for HEAD",
     .script = "start 200; file 0 5; lastfile 0 5",
     .input = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
     .output = OK "\r\n"},
    {.name = "a file for 304",
     .script = "start 304 content-length: 7; lastfile 0 90000",
     .input = GET,
     .trace = OPEN "access complete / 304 0\n1 gone\n",
     .output = "HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n"},
    {.name = "a file for 204",
     .script = "start 204; lastfile 0 90000",
     .input = GET,
     .output = "HTTP/1.1 204 No Content\r\n\r\n"},
    {.name = "files out of order",
     .script = "lastfile 0 5; lastfile 0 90000; start 200; last x; lastfile 0 5; file 0 90000",
     .input = GET,
     .trace = OPEN "1 lastfile -> ORDER\n1 lastfile -> ORDER\n1 lastfile -> ORDER\n"
                   "1 file -> ORDER\naccess complete / 200 1\n1 gone\n",
     .output = OK "content-length: 1\r\n\r\nx"},
    {.name = "a file on a WebSocket",
     .script = "accept; file 0 5; close 1000",
     .input = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
              "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
     .trace = NULL},
};

/* ---- larger files ---- */

typedef struct {
    const char *name, *script, *input;
    /* The output: text, where #FROM+N; stands for a slice of the file. */
    const char *output, *trace;
} file_case;

static void add_slice(text *t, size_t from, size_t n)
{
    for (size_t i = from; i < from + n; i++) {
        char c = (char)('a' + i % 26);
        text_add(t, &c, 1);
    }
}

static void expand(text *t, const char *p)
{
    text_add(t, "", 0);
    for (; *p != '\0'; p++) {
        char *rest;
        if (*p != '#') {
            text_add(t, p, 1);
            continue;
        }
        size_t from = strtoul(p + 1, &rest, 10);
        add_slice(t, from, strtoul(rest + 1, &rest, 10));
        p = rest;
    }
}

static const file_case files[] = {
    {.name = "a file",
     .script = "start 200; lastfile 0 100000",
     .input = GET,
     .output = OK "content-length: 100000\r\n\r\n#0+100000;",
     .trace = OPEN "access complete / 200 100000\n1 gone\n"},
    {.name = "files in a row, and pipelining",
     .script = "start 200 content-length: 60005; file 5 30000; write hello; lastfile 70000 30000",
     .input = GET GET GET,
     .output = OK "content-length: 60005\r\n\r\n#5+30000;hello#70000+30000;" OK
                  "content-length: 60005\r\n\r\n#5+30000;hello#70000+30000;" OK
                  "content-length: 60005\r\n\r\n#5+30000;hello#70000+30000;"},
    {.name = "files, pinned bytes and copied ones in chunks",
     .script = "start 200; file 1 20000; pin 9000; write x; file 2 20000; lastpin 9000",
     .input = GET,
     .output = CHUNKED "4e20\r\n#1+20000;\r\n2328\r\n#0+9000;\r\n1\r\nx\r\n4e20\r\n#2+20000;\r\n"
                       "2328\r\n#0+9000;\r\n0\r\n\r\n"},
    {.name = "file with trailers",
     .script = "start 200; announce; lastfile 1 20000; lasttrailers x-a: 1",
     .input = TE,
     .output = CHUNKED "4e20\r\n#1+20000;\r\n0\r\nx-a: 1\r\n\r\n"},
    {.name = "a file of HTTP/1.0",
     .script = "start 200; file 1 20000; last",
     .input = "GET / HTTP/1.0\r\n\r\n",
     .output = "HTTP/1.0 200 OK\r\nconnection: close\r\n\r\n#1+20000;"},
    {.name = "more than write_high_water",
     .script = "start 200; file 0 60000; file 0 60000; file 0 60000; lastfile 3 60000",
     .input = GET,
     .output = CHUNKED "ea60\r\n#0+60000;\r\nea60\r\n#0+60000;\r\nea60\r\n#0+60000;\r\nea60\r\n"
                       "#3+60000;\r\n0\r\n\r\n"},
};

static void run_file(rig *r, const void *arg)
{
    const file_case *c = arg;
    r->script = c->script;
    wire_text(wire_open(r), c->input);
}

static void check_file(const file_case *c)
{
    text want = {0};
    expand(&want, c->output);
    check_scenario(c->name, run_file, c, c->trace, want.p, want.n);
    text_free(&want);
}

static const char *state_of(const wire *w)
{
    if (w == NULL || w->was_reset)
        return "reset";
    return w->closed ? "closed" : w->fin ? "fin" : "open";
}

static void note_state(rig *r, const wire *w)
{
    text_format(&r->trace, "wire %s\n", state_of(w));
}

/* The response was complete for the application when the file was cut. */
static void run_cut_file(rig *r, const void *arg)
{
    (void)arg;
    r->script = "start 200; lastfile 0 100000; size 30000";
    wire *w = wire_open(r);
    wire_room(w, 0);
    wire_text(w, GET);
    wire_room(w, SIZE_MAX);
    note_state(r, w);
}

static void run_lost_client(rig *r, const void *arg)
{
    r->script = arg;
    wire *w = wire_open(r);
    wire_room(w, 50000);
    wire_text(w, GET);
    wire_reset(w);
    note_state(r, w);
}

static void run_stalled_client(rig *r, const void *arg)
{
    (void)arg;
    r->script = "start 200; lastfile 0 100000";
    wire *w = wire_open(r);
    wire_room(w, 50000);
    wire_text(w, GET);
    rig_advance(r, 30);
    wire_room(w, 20000);
    rig_advance(r, 31);
    note_state(r, w);
    rig_advance(r, 61);
    note_state(r, w);
}

static void run_shutdown(rig *r, const void *arg)
{
    r->script = "start 200; lastfile 0 100000";
    wire *w = wire_open(r);
    wire_room(w, 50000);
    wire_text(w, GET);
    cd_server_drain(r->server);
    rig_settle(r);
    if (arg != NULL)
        cd_server_cancel(r->server);
    wire_room(w, SIZE_MAX);
    note_state(r, w);
}

static void run_abort(rig *r, const void *arg)
{
    r->script = arg;
    wire *w = wire_open(r);
    wire_room(w, 50000);
    wire_text(w, GET);
    rig_advance(r, 6);
    note_state(r, w);
}

/* It waits above the high-water mark until the peer has taken enough. */
static void run_slow_client(rig *r, const void *arg)
{
    (void)arg;
    r->script = "start 200; file 0 100000; write x; last";
    wire *w = wire_open(r);
    wire_room(w, 10000);
    wire_text(w, GET);
    text_format(&r->trace, "%d gone\n", r->gone);
    wire_room(w, 70000);
    text_format(&r->trace, "%d gone\n", r->gone);
    wire_room(w, SIZE_MAX);
    note_state(r, w);
}

static void check_ends(void)
{
    cd_config config = {.access_fd = -1};
    config.limits = cd_config_default.limits;
    config.limits.http_timeout = 5;
#define LOST OPEN "access complete / 200 100000\n1 gone\nwire reset\n"
    check_scenario("a file that becomes shorter", run_cut_file, NULL,
                   OPEN "access complete / 200 100000\n1 gone\nlog 40 Connection of 192.0.2.7 "
                        "aborted: a file became shorter, with 70000 bytes still to be sent\n"
                        "wire reset\n",
                   NULL, 0);
    check_scenario("a client that leaves", run_lost_client, "start 200; lastfile 0 100000", LOST,
                   NULL, 0);
    check_scenario("a client that leaves a waiting application", run_lost_client,
                   "start 200; file 0 90000; file 0 90000; last",
                   OPEN "1 last -> GONE\naccess complete / 200 180000\n1 gone\nwire reset\n", NULL,
                   0);
    check_scenario("a client that stops reading", run_stalled_client, NULL,
                   OPEN "access complete / 200 100000\n1 gone\nwire open\nwire reset\n", NULL, 0);
    check_scenario("a file at shutdown", run_shutdown, NULL, NULL, NULL, 0);
    check_scenario("a file that is cut at shutdown", run_shutdown, "", NULL, NULL, 0);
    check_scenario("an abort", run_abort, "start 200; file 0 90000; abort",
                   OPEN "access complete / 200 90000\n1 gone\nwire reset\n", NULL, 0);
    check_scenario("a slow client", run_slow_client, NULL,
                   OPEN "0 gone\n0 gone\naccess complete / 200 100001\n1 gone\nwire open\n", NULL,
                   0);
    rig_configure(&config);
    check_scenario("http_timeout in a file", run_abort, "start 200; file 0 90000; last", NULL, NULL,
                   0);
    rig_configure(NULL);
}

/* ---- turns and descriptors ---- */

/* One that takes a large file does not keep the others waiting for all of it. */
static void test_fairness(void)
{
    rig *r = rig_new(CUT_WHOLE, 1);
    r->script = "size 8000000; start 200; lastfile 0 8000000";
    wire *greedy = wire_open(r), *modest = wire_open(r);
    text_add(&greedy->input, GET, sizeof GET - 1);
    rig_turn(r);
    CHECK(greedy->output.n > 500000 && greedy->output.n < 2200000);
    r->script = "start 200; last hello";
    text_add(&modest->input, GET, sizeof GET - 1);
    rig_turn(r);
    CHECK_STR(wire_output(modest), OK "content-length: 5\r\n\r\nhello");
    CHECK(greedy->output.n < 4300000);
    rig_settle(r);
    CHECK_INT(greedy->output.n, sizeof OK "content-length: 8000000\r\n\r\n" - 1 + 8000000);
    rig_free(r);
}

/* However many files an application or a pipelining client asks for, few are open at once. */
static void test_descriptors(const char *script)
{
    rig *r = rig_new(CUT_WHOLE, 1);
    r->script = script;
    wire *w = wire_open(r);
    wire_room(w, 0);
    for (int i = 0; i < 200; i++)
        text_add(&w->input, GET, sizeof GET - 1);
    rig_settle(r);
    CHECK(w->transport.conn->out.tail - w->transport.conn->out.head <= 8);
    wire_room(w, SIZE_MAX);
    rig_free(r);
}

int main(void)
{
    CHECK_ALL(hints);
    CHECK_ALL(trailers);
    CHECK_ALL(small_files);
    for (size_t i = 0; i < ROWS(files); i++)
        check_file(&files[i]);
    check_ends();
    test_fairness();
    test_descriptors("start 200; lastfile 0 8192");
    test_descriptors("start 200; lastfile 0 8193");
    test_descriptors("start 200; file 0 9000; file 0 9000; file 0 100; file 0 9000; file 0 9000;"
                     "file 0 9000; file 0 9000; file 0 9000; file 0 9000; file 0 9000;"
                     "file 0 9000; last");
    return check_summary();
}
