/*
 * Tests of HTTP/2 over time: windows, back-pressure, deadlines, floods, shutdown.
 *
 * Limits are lowered where a scenario would otherwise take thousands of frames: it is run again for
 * every single allocation.
 */
#include "h2client.h"

#define HELLO "body;start 200;last hello"
#define OPEN "1 open 2.0 GET / [host: a]\n"
#define OPEN_POST "1 open 2.0 POST / [host: a]\n"
#define EMPTY "1 body \n1 end\n"
#define DONE "access complete / 200 5\n1 gone\n"
#define HELLO_HEARD "s1 head 200 [content-length: 5]\ns1 body hello\ns1 end\n"

static cd_config config;

static cd_limits *configure(void)
{
    config = (cd_config){.access_fd = -1, .http2 = true};
    config.limits = cd_config_default.limits;
    return &config.limits;
}

static void check(const char *name, scenario *run, const char *trace)
{
    rig_configure(&config);
    check_scenario(name, run, NULL, trace, NULL, 0);
}

static int32_t get(h2client *c)
{
    return h2_request(c, "GET", "/", "", NULL);
}

static int32_t post(h2client *c, const char *body)
{
    return h2_request(c, "POST", "/", "", body);
}

/* ---- deadlines of the connection ---- */

static void run_idle(rig *r, const void *arg)
{
    (void)arg;
    r->script = HELLO;
    h2client *c = h2_open(r, 0);
    h2_pump(c);
    rig_advance(r, 29);
    h2_pump(c);
    text_format(&r->trace, "--\n");
    rig_advance(r, 2);
    h2_pump(c);
    h2_free(c);
}

static void run_kept(rig *r, const void *arg)
{
    (void)arg;
    r->script = HELLO;
    h2client *c = h2_open(r, 0);
    get(c);
    h2_pump(c);
    rig_advance(r, 74);
    h2_pump(c);
    text_format(&r->trace, "--\n");
    rig_advance(r, 2);
    h2_pump(c);
    h2_free(c);
}

static void run_slow_head(rig *r, const void *arg)
{
    (void)arg;
    static const uint8_t block[] = {0x82, 0x86, 0x84, 0x01, 1, 'a'}; /* GET http / a */
    static const uint8_t field[] = {0, 1, 'b', 1, 'c'};
    r->script = HELLO;
    h2client *c = h2_open(r, 0);
    h2_pump(c);
    h2_frame(c, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_STREAM, 1, block, sizeof block);
    h2_pump(c);
    for (int i = 0; i < 4; i++) { /* a field now and then does not help */
        rig_advance(r, 8);
        h2_frame(c, NGHTTP2_CONTINUATION, 0, 1, field, sizeof field);
        h2_pump(c);
    }
    h2_free(c);
}

static void test_deadlines(void)
{
    configure();
    check("nothing is asked", run_idle, "--\ngoaway 0\nclosed\n");
    check("idle", run_kept, OPEN EMPTY DONE HELLO_HEARD "--\ngoaway 0\nclosed\n");
    check("a head that takes too long", run_slow_head, "goaway 1\nclosed\n");
}

/* ---- bodies ---- */

static void run_unread_body(rig *r, const void *arg)
{
    (void)arg;
    static char bytes[5000];
    r->script = "go;body;start 200;last hello";
    h2client *c = h2_open(r, 0);
    int32_t id = post(c, "");
    h2_pump(c);
    memset(bytes, 'x', sizeof bytes);
    for (int i = 0; i < 2; i++)
        h2_body(c, id, bytes, sizeof bytes, i == 1);
    h2_pump(c); /* no more than the window has come */
    text_format(&r->trace, "go\n");
    rig_go(r);
    h2_pump(c);
    h2_free(c);
}

/* One application does not read; the others' bodies come. */
static void run_slow_reader(rig *r, const void *arg)
{
    (void)arg;
    static char bytes[5000];
    r->script = "go;body;start 200;last hello";
    h2client *c = h2_open(r, 0);
    int32_t first = post(c, "");
    h2_pump(c);
    r->script = HELLO;
    memset(bytes, 'x', sizeof bytes);
    h2_body(c, first, bytes, sizeof bytes, true);
    h2_pump(c);
    for (int i = 0; i < 3; i++) {
        int32_t id = post(c, "");
        h2_pump(c);
        h2_body(c, id, bytes, sizeof bytes, true);
        h2_pump(c);
    }
    text_format(&r->trace, "go\n");
    rig_go(r);
    h2_pump(c);
    h2_free(c);
}

static void run_slow_body(rig *r, const void *arg)
{
    (void)arg;
    r->script = HELLO;
    h2client *c = h2_open(r, 0);
    int32_t id = post(c, "");
    h2_pump(c);
    for (int i = 0; i < 3; i++) {
        rig_advance(r, 8);
        h2_body(c, id, "x", 1, false);
        h2_pump(c);
    }
    h2_free(c);
}

static void run_fast_enough(rig *r, const void *arg)
{
    (void)arg;
    char bytes[5000] = {0};
    r->script = HELLO;
    h2client *c = h2_open(r, 0);
    int32_t id = post(c, "");
    h2_pump(c);
    for (int i = 0; i < 5; i++) {
        rig_advance(r, 19);
        h2_body(c, id, bytes, sizeof bytes, i == 4);
        h2_pump(c);
    }
    h2_free(c);
}

static void run_expect(rig *r, const void *arg)
{
    r->script = arg == NULL ? "go;body;start 200;last hello" : arg;
    h2client *c = h2_open(r, 0);
    int32_t id = h2_request(c, "POST", "/", "expect: 100-continue", "");
    h2_pump(c);
    rig_advance(r, 100);
    rig_go(r);
    h2_pump(c);
    h2_body(c, id, "question", 8, true);
    h2_pump(c);
    h2_free(c);
}

static void run_unwanted(rig *r, const void *arg)
{
    (void)arg;
    r->script = "start 200;last hello;leave";
    h2client *c = h2_open(r, 0);
    int32_t id = post(c, "");
    h2_pump(c);
    text_format(&r->trace, "--\n");
    h2_body(c, id, "question", 8, true);
    h2_pump(c);
    h2_free(c);
}

static void run_unwanted_long(rig *r, const void *arg)
{
    (void)arg;
    char bytes[300] = {0};
    r->script = "start 200;last hello;leave";
    h2client *c = h2_open(r, 0);
    h2_pump(c);
    int32_t id = post(c, "");
    h2_pump(c);
    h2_body(c, id, bytes, sizeof bytes, true);
    h2_pump(c);
    id = h2_request(c, "POST", "/", "content-length: 300", "");
    h2_pump(c);
    for (int i = 0; i < 2; i++) { /* the second window comes behind the response */
        text_format(&r->trace, "--\n");
        h2_body(c, id, bytes, 100, false);
        h2_pump(c);
    }
    h2_free(c);
}

/* The window is used up before the response. */
static void run_unwanted_late(rig *r, const void *arg)
{
    (void)arg;
    char bytes[300] = {0};
    r->script = "go;start 200;last hello";
    h2client *c = h2_open(r, 0);
    h2_pump(c);
    int32_t id = post(c, "");
    h2_pump(c);
    h2_body(c, id, bytes, 100, false);
    h2_pump(c);
    rig_go(r);
    h2_pump(c);
    text_format(&r->trace, "--\n");
    h2_body(c, id, bytes, 100, false);
    h2_pump(c);
    h2_free(c);
}

static void run_unwanted_drain(rig *r, const void *arg)
{
    (void)arg;
    r->script = "start 200;last hello;leave";
    h2client *c = h2_open(r, 0);
    post(c, "");
    h2_pump(c);
    cd_server_drain(r->server);
    h2_pump(c);
    text_format(&r->trace, "--\n");
    rig_advance(r, 3);
    h2_pump(c);
    h2_free(c);
}

static void run_unwanted_slow(rig *r, const void *arg)
{
    (void)arg;
    r->script = "start 200;last hello;leave";
    h2client *c = h2_open(r, 0);
    int32_t id = post(c, "");
    h2_pump(c);
    h2_body(c, id, "x", 1, false);
    h2_pump(c);
    rig_advance(r, 21);
    h2_pump(c);
    h2_free(c);
}

static void run_length(rig *r, const void *arg)
{
    r->script = "leave";
    h2client *c = h2_open(r, 0);
    int32_t id = h2_request(c, "POST", "/", "content-length: 5", "");
    h2_pump(c);
    h2_body(c, id, arg, strlen(arg), true);
    h2_pump(c);
    h2_free(c);
}

static void run_large(rig *r, const void *arg)
{
    r->script = HELLO;
    h2client *c = h2_open(r, 0);
    int32_t id = h2_request(c, "POST", "/", arg, "");
    h2_pump(c);
    h2_body(c, id, "hello, world", 12, true);
    h2_pump(c);
    h2_free(c);
}

static void run_length_cases(void)
{
    configure();
    rig_configure(&config);
    check_scenario("body shorter than content-length", run_length, "four",
                   "1 open 2.0 POST / [host: a] [content-length: 5]\n1 body four\n1 disconnect\n"
                   "access complete / 0 0\n1 gone\ns1 reset 1\n",
                   NULL, 0);
    configure()->max_body_size = 10;
    rig_configure(&config);
    check_scenario("content-length above max_body_size", run_large, "content-length: 12",
                   "s1 head 413 [content-type: text/plain; charset=utf-8] [content-length: 22]\n"
                   "s1 body 413 Content Too Large\\n\ns1 end\n",
                   NULL, 0);
}

static void test_bodies(void)
{
    cd_limits *l = configure();
    l->http2_stream_window = 1000;
    check("the window stops a body that nobody reads", run_unread_body,
          OPEN_POST "go\n1 body (10000 bytes, 4118176bad223b65)\n1 end\n" DONE HELLO_HEARD);
    l = configure();
    l->http2_stream_window = 5000;
    l->http2_connection_window = 65535;
    check("a slow application stops nobody else", run_slow_reader,
          "1 open 2.0 POST / [host: a]\n2 open 2.0 POST / [host: a]\n"
          "2 body (5000 bytes, 5d45fa080be4e345)\n2 end\naccess complete / 200 5\n2 gone\n"
          "s3 head 200 [content-length: 5]\ns3 body hello\ns3 end\n"
          "3 open 2.0 POST / [host: a]\n3 body (5000 bytes, 5d45fa080be4e345)\n3 end\n"
          "access complete / 200 5\n3 gone\ns5 head 200 [content-length: 5]\ns5 body hello\n"
          "s5 end\n4 open 2.0 POST / [host: a]\n4 body (5000 bytes, 5d45fa080be4e345)\n4 end\n"
          "access complete / 200 5\n4 gone\ns7 head 200 [content-length: 5]\ns7 body hello\n"
          "s7 end\ngo\n1 body (5000 bytes, 5d45fa080be4e345)\n1 end\naccess complete / 200 5\n"
          "1 gone\ns1 head 200 [content-length: 5]\ns1 body hello\ns1 end\n");
    configure();
    check("a slow body", run_slow_body,
          "1 open 2.0 POST / [host: a]\n1 body xx\n1 disconnect\n1 start -> GONE\n"
          "1 last -> GONE\naccess complete / 408 20\n1 gone\n"
          "s1 head 408 [content-type: text/plain; charset=utf-8] [content-length: 20]\n"
          "s1 body 408 Request Timeout\\n\ns1 end\n");
    check("a body that is fast enough", run_fast_enough,
          "1 open 2.0 POST / [host: a]\n1 body (25000 bytes, f6ed36f09550fa45)\n1 end\n"
          "access complete / 200 5\n1 gone\ns1 head 200 [content-length: 5]\ns1 body hello\n"
          "s1 end\n");
    check("expect", run_expect,
          "1 open 2.0 POST / [host: a] [expect: 100-continue]\ns1 head 100\n1 body question\n"
          "1 end\naccess complete / 200 5\n1 gone\ns1 head 200 [content-length: 5]\n"
          "s1 body hello\ns1 end\n");
    rig_configure(&config);
    check_scenario(
        "expect, and the answer comes first", run_expect, "start 200;last hello;leave",
        "1 open 2.0 POST / [host: a] [expect: 100-continue]\n1 disconnect\n"
        "access complete / 200 5\n1 gone\ns1 head 200 [content-length: 5]\ns1 body hello\n"
        "s1 end\ns1 reset 0\n",
        NULL, 0);
    check("the body is not wanted", run_unwanted,
          OPEN_POST "1 disconnect\naccess complete / 200 5\n1 gone\n" HELLO_HEARD "--\n");
    configure()->http2_stream_window = 100;
    check("the body is not wanted, and comes whole", run_unwanted_long,
          "1 open 2.0 POST / [host: a]\n1 disconnect\naccess complete / 200 5\n1 gone\n"
          "s1 head 200 [content-length: 5]\ns1 body hello\ns1 end\n"
          "2 open 2.0 POST / [host: a] [content-length: 300]\n2 disconnect\n"
          "access complete / 200 5\n2 gone\ns3 head 200 [content-length: 5]\ns3 body hello\n"
          "s3 end\n--\n--\n");
    l = configure();
    l->http2_stream_window = 100;
    l->linger_size = 50;
    check("the body is not wanted, and is long", run_unwanted_long,
          "1 open 2.0 POST / [host: a]\n1 disconnect\naccess complete / 200 5\n1 gone\n"
          "s1 head 200 [content-length: 5]\ns1 body hello\ns1 end\ns1 reset 0\n"
          "2 open 2.0 POST / [host: a] [content-length: 300]\n2 disconnect\n"
          "access complete / 200 5\n2 gone\ns3 head 200 [content-length: 5]\ns3 body hello\n"
          "s3 end\n--\n--\ns3 reset 0\n");
    check("the body is not wanted, and fills the window", run_unwanted_late,
          OPEN_POST "access complete / 200 5\n1 gone\n" HELLO_HEARD "--\ns1 reset 0\n");
    configure();
    check("a body that is not wanted holds up no stop", run_unwanted_drain,
          OPEN_POST "1 disconnect\naccess complete / 200 5\n1 gone\n" HELLO_HEARD
                    "--\ns1 reset 0\ngoaway soon\ngoaway 0\nclosed\n");
    check("the body is not wanted, and does not end", run_unwanted_slow,
          "1 open 2.0 POST / [host: a]\n1 disconnect\naccess complete / 200 5\n1 gone\n"
          "s1 head 200 [content-length: 5]\ns1 body hello\ns1 end\ns1 reset 0\n");
    run_length_cases();
}

/* ---- responses and windows ---- */

static void run_closed_window(rig *r, const void *arg)
{
    (void)arg;
    r->script = "body;start 200;pin 50000;pin 50000;lastpin 50000";
    h2client *c = h2_open(r, H2_NO_WINDOW);
    get(c);
    h2_pump(c);
    text_format(&r->trace, "--\n");
    rig_advance(r, 61); /* it has taken a lot in the first minute */
    h2_pump(c);
    text_format(&r->trace, "--\n");
    rig_advance(r, 61);
    h2_pump(c);
    h2_free(c);
}

static void run_dribble(rig *r, const void *arg)
{
    (void)arg;
    r->script = "body;start 200;pin 50000;pin 50000;lastpin 50000";
    h2client *c = h2_open_window(r, H2_NO_WINDOW, 1);
    int32_t id = get(c);
    h2_pump(c);
    for (int i = 0; i < 7 && c != NULL; i++) {
        rig_advance(r, 10);
        nghttp2_submit_window_update(h2_session(c), 0, id, 1);
        h2_pump(c);
    }
    h2_free(c);
}

/* The stream's window is open, but others use the connection's up: it only waits for its turn. */
static void run_turn(rig *r, const void *arg)
{
    (void)arg;
    r->script = "go;body;start 200;lastpin 60000";
    h2client *c = h2_open_window(r, H2_NO_WINDOW, 1 << 20);
    get(c);
    get(c);
    h2_pump(c);
    rig_go(r);
    h2_pump(c);
    for (int i = 0; i < 8 && c != NULL; i++) {
        rig_advance(r, 30);
        nghttp2_submit_window_update(h2_session(c), 0, 0, 9000);
        h2_pump(c);
    }
    h2_free(c);
}

static void run_backpressure(rig *r, const void *arg)
{
    (void)arg;
    r->script = "body;start 200;pin 50000;pin 50000;pin 50000;lastpin 50000";
    h2client *c = h2_open(r, 0);
    get(c);
    wire_room(c == NULL ? NULL : h2_wire(c), 30000);
    h2_pump(c);
    text_format(&r->trace, "%d released\n", r->released);
    wire_room(c == NULL ? NULL : h2_wire(c), SIZE_MAX);
    h2_pump(c);
    h2_free(c);
}

static void run_reset_response(rig *r, const void *arg)
{
    (void)arg;
    r->script = "body;start 200;pin 50000;pin 50000;lastpin 50000;leave";
    h2client *c = h2_open(r, H2_NO_WINDOW);
    int32_t id = get(c);
    h2_pump(c);
    h2_reset(c, id, NGHTTP2_CANCEL);
    h2_pump(c);
    h2_free(c);
}

static void run_two(rig *r, const void *arg)
{
    (void)arg;
    r->script = "go;body;start 200;lastpin 40000";
    h2client *c = h2_open(r, H2_NO_WINDOW);
    get(c);
    get(c);
    h2_pump(c);
    rig_go(r);
    h2_pump(c); /* 65535 bytes of window, evenly */
    h2_free(c);
}

static void test_windows(void)
{
    configure();
    check("a window that is never opened", run_closed_window,
          "1 open 2.0 GET / [host: a]\n1 body \n1 end\ns1 head 200\n"
          "s1 body (65535 bytes, 9ccc07a8228f2771)\n--\n--\naccess complete / 200 150000\n"
          "1 gone\ns1 reset 11\n");
    check("a window of single bytes", run_dribble,
          "1 open 2.0 GET / [host: a]\n1 body \n1 end\ns1 head 200\ns1 body a\ns1 body b\n"
          "s1 body c\ns1 body d\ns1 body e\ns1 body f\n1 lastpin -> GONE\n"
          "access complete / 200 100000\n1 gone\ns1 reset 11\n");
    check("a stream that waits for its turn", run_turn,
          "1 open 2.0 GET / [host: a]\n2 open 2.0 GET / [host: a]\n2 body \n2 end\n1 body \n"
          "1 end\ns1 head 200 [content-length: 60000]\n"
          "s1 body (32768 bytes, 7cfc175620bfdb45)\ns3 head 200 [content-length: 60000]\n"
          "s3 body (32767 bytes, 2a020b25461b834f)\ns3 body (9000 bytes, af2b5ea1903dd6fd)\n"
          "s1 body (9000 bytes, d218600b38b38691)\ns3 body (9000 bytes, af806d94a34d5f9d)\n"
          "s1 body (9000 bytes, d633e2b3f269fa01)\ns3 body (9000 bytes, f818c8d1a9588e6d)\n"
          "s1 body (9000 bytes, 6fcf247ad4a0af41)\naccess complete / 200 60000\n2 gone\n"
          "access complete / 200 60000\n1 gone\ns1 body (232 bytes, 5bf76515c91f2989)\ns1 end\n"
          "s3 body (233 bytes, c613003337c41867)\ns3 end\n");
    check("back-pressure", run_backpressure,
          "1 open 2.0 GET / [host: a]\n1 body \n1 end\ns1 head 200\n"
          "s1 body (29911 bytes, aad923b9b25323d7)\n1 released\naccess complete / 200 200000\n"
          "1 gone\ns1 body (170089 bytes, 299bcd4482c6efc7)\ns1 end\n");
    check("a response that the client does not want any more", run_reset_response,
          "1 open 2.0 GET / [host: a]\n1 body \n1 end\ns1 head 200\n"
          "s1 body (65535 bytes, 9ccc07a8228f2771)\n1 disconnect\n"
          "access complete / 200 150000\n1 gone\n");
    check("two responses share", run_two,
          "1 open 2.0 GET / [host: a]\n2 open 2.0 GET / [host: a]\n2 body \n2 end\n1 body \n"
          "1 end\ns1 head 200 [content-length: 40000]\n"
          "s1 body (32768 bytes, 7cfc175620bfdb45)\ns3 head 200 [content-length: 40000]\n"
          "s3 body (32767 bytes, 2a020b25461b834f)\n");
}

/* ---- floods ---- */

static void run_rapid_reset(rig *r, const void *arg)
{
    (void)arg;
    r->script = "leave";
    h2client *c = h2_open(r, 0);
    h2_pump(c);
    for (int i = 0; i < 8; i++) {
        int32_t id = get(c);
        h2_pump(c);
        h2_reset(c, id, NGHTTP2_CANCEL);
        h2_pump(c);
    }
    h2_free(c);
}

/* The server resets, because the client breaks a rule (CVE-2025-8671). */
static void run_made_you_reset(rig *r, const void *arg)
{
    (void)arg;
    static const uint8_t too_much[4] = {0x7f, 0xff, 0xff, 0xff};
    r->script = "leave";
    h2client *c = h2_open(r, 0);
    h2_pump(c);
    for (int i = 0; i < 8; i++) {
        int32_t id = get(c);
        h2_frame(c, NGHTTP2_WINDOW_UPDATE, 0, id, too_much, sizeof too_much);
        h2_pump(c);
    }
    h2_free(c);
}

typedef struct {
    int type, flags, stream;
    const char *payload;
    size_t n;
} frame;

static void run_flood(rig *r, const void *arg)
{
    const frame *f = arg;
    r->script = "leave";
    h2client *c = h2_open(r, H2_DEAF);
    if (f->stream > 0)
        post(c, "");
    h2_pump(c);
    for (int i = 0; i < 8; i++) {
        h2_frame(c, f->type, f->flags, f->stream, f->payload, f->n);
        h2_pump(c);
    }
    h2_free(c);
}

static void test_floods(void)
{
    static const frame ping = {NGHTTP2_PING, 0, 0, "12345678", 8};
    static const frame settings = {NGHTTP2_SETTINGS, 0, 0, "", 0};
    static const frame empty = {NGHTTP2_DATA, 0, 1, "", 0};
    static const frame unknown = {0x77, 0, 0, "", 0};
    static const frame priority = {NGHTTP2_PRIORITY, 0, 3, "\0\0\0\0\0", 5};
    cd_limits *l = configure();
    l->http2_reset_burst = 4;
    l->http2_reset_rate = 0; /* the real time that a run takes must not count */
    check("rapid reset", run_rapid_reset,
          "1 open 2.0 GET / [host: a]\n1 body \n1 end\n1 disconnect\naccess complete / 0 0\n"
          "1 gone\n2 open 2.0 GET / [host: a]\n2 body \n2 end\n2 disconnect\n"
          "access complete / 0 0\n2 gone\n3 open 2.0 GET / [host: a]\n3 body \n3 end\n"
          "3 disconnect\naccess complete / 0 0\n3 gone\n4 open 2.0 GET / [host: a]\n4 body \n"
          "4 end\n4 disconnect\naccess complete / 0 0\n4 gone\n5 open 2.0 GET / [host: a]\n"
          "5 body \n5 end\n5 disconnect\naccess complete / 0 0\n5 gone\ngoaway 11\nclosed\n");
    check("MadeYouReset", run_made_you_reset,
          "1 open 2.0 GET / [host: a]\n1 body \n1 end\n1 disconnect\naccess complete / 0 0\n"
          "1 gone\ns1 reset 3\n2 open 2.0 GET / [host: a]\n2 body \n2 end\n2 disconnect\n"
          "access complete / 0 0\n2 gone\ns3 reset 3\n3 open 2.0 GET / [host: a]\n3 body \n"
          "3 end\n3 disconnect\naccess complete / 0 0\n3 gone\ns5 reset 3\n"
          "4 open 2.0 GET / [host: a]\n4 body \n4 end\n4 disconnect\naccess complete / 0 0\n"
          "4 gone\ns7 reset 3\n5 open 2.0 GET / [host: a]\n5 body \n5 end\n5 disconnect\n"
          "access complete / 0 0\n5 gone\ns9 reset 3\ngoaway 11\nclosed\n");
    l = configure();
    l->http2_control_burst = 4;
    l->http2_control_rate = 0;
    rig_configure(&config);
    check_scenario("PING", run_flood, &ping, "goaway 11\nclosed\n", NULL, 0);
    check_scenario("SETTINGS", run_flood, &settings, "goaway 11\nclosed\n", NULL, 0);
    check_scenario("unknown frames", run_flood, &unknown, "goaway 11\nclosed\n", NULL, 0);
    check_scenario("PRIORITY", run_flood, &priority,
                   OPEN_POST "1 disconnect\naccess complete / 0 0\n1 gone\ngoaway 11\nclosed\n",
                   NULL, 0);
    check_scenario("empty DATA", run_flood, &empty,
                   OPEN_POST "1 disconnect\naccess complete / 0 0\n1 gone\ngoaway 11\nclosed\n",
                   NULL, 0);
}

/* ---- limits ---- */

static void run_many_headers(rig *r, const void *arg)
{
    const char *field = arg;
    text t = {0};
    r->script = HELLO;
    h2client *c = h2_open(r, 0);
    for (int i = 0; i < 9; i++)
        text_format(&t, "%s%s", i ? "| " : "", field);
    h2_request(c, "GET", "/", t.p, NULL);
    get(c);
    h2_pump(c);
    text_free(&t);
    h2_free(c);
}

/* A stream counts until its application has ended, whatever its client did. */
static void run_refused(rig *r, const void *arg)
{
    (void)arg;
    r->script = "leave;go";
    h2client *c = h2_open(r, 0);
    for (int i = 0; i < 3; i++) {
        int32_t id = get(c);
        h2_pump(c);
        h2_reset(c, id, NGHTTP2_CANCEL);
        h2_pump(c);
    }
    text_format(&r->trace, "go\n");
    rig_go(r);
    r->script = HELLO;
    get(c);
    h2_pump(c);
    h2_free(c);
}

static void run_unread_answers(rig *r, const void *arg)
{
    (void)arg;
    r->script = "leave";
    h2client *c = h2_open(r, H2_DEAF);
    h2_pump(c);
    wire_room(c == NULL ? NULL : h2_wire(c), 0);
    for (int i = 0; i < 30; i++)
        h2_frame(c, NGHTTP2_PING, 0, 0, "12345678", 8);
    h2_pump(c);
    h2_free(c);
}

static void test_limits(void)
{
    cd_limits *l = configure();
    l->max_header_count = 8;
    rig_configure(&config);
    check_scenario("more headers than max_header_count", run_many_headers, "x: y",
                   "1 open 2.0 GET / [host: a]\n1 body \n1 end\naccess complete / 200 5\n1 gone\n"
                   "s1 head 431 [content-type: text/plain; charset=utf-8] [content-length: 36]\n"
                   "s1 body 431 Request Header Fields Too Large\\n\ns1 end\n"
                   "s3 head 200 [content-length: 5]\ns3 body hello\ns3 end\n",
                   NULL, 0);
    l = configure();
    l->max_head_size = 300;
    rig_configure(&config);
    check_scenario("head longer than max_head_size", run_many_headers, "x: y",
                   "1 open 2.0 GET / [host: a]\n1 body \n1 end\naccess complete / 200 5\n1 gone\n"
                   "s1 head 431 [content-type: text/plain; charset=utf-8] [content-length: 36]\n"
                   "s1 body 431 Request Header Fields Too Large\\n\ns1 end\n"
                   "s3 head 200 [content-length: 5]\ns3 body hello\ns3 end\n",
                   NULL, 0);
    l = configure();
    l->http2_max_streams = 2;
    check("streams that outlive their clients", run_refused,
          "1 open 2.0 GET / [host: a]\n1 body \n1 end\n1 disconnect\naccess complete / 0 0\n"
          "2 open 2.0 GET / [host: a]\n2 body \n2 end\n2 disconnect\naccess complete / 0 0\n"
          "s5 reset 7\ngo\n2 gone\n1 gone\n3 open 2.0 GET / [host: a]\n3 body \n3 end\n"
          "access complete / 200 5\n3 gone\ns7 head 200 [content-length: 5]\ns7 body hello\n"
          "s7 end\n");
    l = configure();
    l->http2_queue_depth = 5;
    l->http2_max_streams = 2;
    l->write_high_water = 32;
    check("answers that nobody reads", run_unread_answers, "cut\n");
}

/* ---- timeouts of an application, clients that leave ---- */

static void run_timeout(rig *r, const void *arg)
{
    r->script = arg;
    h2client *c = h2_open(r, 0);
    get(c);
    h2_pump(c);
    rig_advance(r, 6);
    h2_pump(c);
    r->script = HELLO;
    get(c);
    h2_pump(c);
    h2_free(c);
}

static void run_leaving(rig *r, const void *arg)
{
    r->script = "body;start 200;write he;leave;write x";
    h2client *c = h2_open(r, 0);
    get(c);
    h2_pump(c);
    if (arg == NULL)
        wire_eof(c == NULL ? NULL : h2_wire(c));
    wire_reset(c == NULL ? NULL : h2_wire(c));
    rig_advance(r, 1);
    h2_free(c);
}

/* The client says that it sends no more, and waits for its answers. */
static void run_half_close(rig *r, const void *arg)
{
    r->script = "go;body;start 200;write he;go;last llo";
    h2client *c = h2_open(r, 0);
    get(c);
    get(c);
    h2_pump(c);
    r->script = "body;start 200;last hello";
    post(c, "");
    h2_pump(c);
    wire_eof(c == NULL ? NULL : h2_wire(c));
    rig_advance(r, arg == NULL ? 1 : 61);
    rig_go(r);
    rig_advance(r, 1);
    rig_go(r);
    h2_pump(c);
    h2_free(c);
}

static void run_goaway(rig *r, const void *arg)
{
    (void)arg;
    r->script = "go;body;start 200;last hello";
    h2client *c = h2_open(r, 0);
    get(c);
    h2_pump(c);
    if (c != NULL)
        nghttp2_submit_goaway(h2_session(c), 0, 0, NGHTTP2_NO_ERROR, NULL, 0);
    h2_pump(c);
    rig_go(r);
    h2_pump(c);
    h2_free(c);
}

static void test_endings(void)
{
    configure()->http_timeout = 5;
    rig_configure(&config);
    check_scenario(
        "http_timeout before the response", run_timeout, "leave",
        "1 open 2.0 GET / [host: a]\n1 body \n1 end\n"
        "log 30 Application timed out before its response: GET / (--http-timeout)\n"
        "1 disconnect\naccess complete / 503 24\n1 gone\n"
        "s1 head 503 [content-type: text/plain; charset=utf-8] [content-length: 24]\n"
        "s1 body 503 Service Unavailable\\n\ns1 end\n2 open 2.0 GET / [host: a]\n2 body \n"
        "2 end\naccess complete / 200 5\n2 gone\ns3 head 200 [content-length: 5]\n"
        "s3 body hello\ns3 end\n",
        NULL, 0);
    check_scenario(
        "http_timeout within the response", run_timeout, "start 200;write x;leave",
        "1 open 2.0 GET / [host: a]\n1 body \n1 end\ns1 head 200\ns1 body x\n"
        "log 30 Application timed out while sending its response: GET / (--http-timeout)\n"
        "1 disconnect\naccess complete / 200 1\n1 gone\ns1 reset 2\n"
        "2 open 2.0 GET / [host: a]\n2 body \n2 end\naccess complete / 200 5\n2 gone\n"
        "s3 head 200 [content-length: 5]\ns3 body hello\ns3 end\n",
        NULL, 0);
    configure();
    rig_configure(&config);
    check_scenario(
        "the client says FIN", run_leaving, NULL,
        "1 open 2.0 GET / [host: a]\n1 body \n1 end\ns1 head 200\ns1 body he\n1 disconnect\n"
        "1 write -> GONE\naccess complete / 200 2\n1 gone\n",
        NULL, 0);
    check_scenario(
        "the client says FIN and waits", run_half_close, NULL,
        "1 open 2.0 GET / [host: a]\n2 open 2.0 GET / [host: a]\n"
        "3 open 2.0 POST / [host: a]\n3 disconnect\n3 start -> GONE\n3 last -> GONE\n"
        "access complete / 0 0\n3 gone\n"
        "2 body \n2 end\n1 body \n1 end\naccess complete / 200 5\n2 gone\naccess complete / 200 5\n"
        "1 gone\ns1 head 200\ns1 body hello\ns1 end\ns3 head 200\ns3 body hello\ns3 end\n"
        "s5 reset 8\nclosed\n",
        NULL, 0);
    check_scenario(
        "the client says FIN and waits for ever", run_half_close, "",
        "1 open 2.0 GET / [host: a]\n2 open 2.0 GET / [host: a]\n"
        "3 open 2.0 POST / [host: a]\n3 disconnect\n3 start -> GONE\n3 last -> GONE\n"
        "access complete / 0 0\n3 gone\n"
        "access complete / 0 0\naccess complete / 0 0\n2 disconnect\n2 start -> GONE\n"
        "2 write -> GONE\n1 disconnect\n1 start -> GONE\n1 write -> GONE\n2 last -> GONE\n"
        "1 last -> GONE\n2 gone\n1 gone\ns5 reset 8\ncut\n",
        NULL, 0);
    check_scenario(
        "the connection dies", run_leaving, "",
        "1 open 2.0 GET / [host: a]\n1 body \n1 end\ns1 head 200\ns1 body he\n1 disconnect\n"
        "1 write -> GONE\naccess complete / 200 2\n1 gone\n",
        NULL, 0);
    check("the client says GOAWAY", run_goaway,
          "1 open 2.0 GET / [host: a]\n1 body \n1 end\naccess complete / 200 5\n1 gone\n"
          "s1 head 200 [content-length: 5]\ns1 body hello\ns1 end\nclosed\n");
}

/* ---- shutdown ---- */

static void run_drain_idle(rig *r, const void *arg)
{
    r->script = HELLO;
    h2client *c = h2_open(r, arg == NULL ? 0 : H2_DEAF);
    get(c);
    h2_pump(c);
    cd_server_drain(r->server);
    rig_settle(r);
    h2_pump(c);
    get(c); /* was on its way */
    h2_pump(c);
    rig_advance(r, 1);
    h2_pump(c);
    h2_free(c);
}

static void run_drain_busy(rig *r, const void *arg)
{
    (void)arg;
    r->script = "go;body;start 200;last hello";
    h2client *c = h2_open(r, 0);
    get(c);
    h2_pump(c);
    cd_server_drain(r->server);
    rig_advance(r, 1);
    h2_pump(c);
    text_format(&r->trace, "go\n");
    rig_go(r);
    h2_pump(c);
    h2_free(c);
}

static void run_cancel(rig *r, const void *arg)
{
    (void)arg;
    r->script = "go";
    h2client *c = h2_open(r, 0);
    get(c);
    h2_pump(c);
    cd_server_drain(r->server);
    rig_advance(r, 1);
    cd_server_cancel(r->server);
    rig_settle(r);
    h2_pump(c);
    h2_free(c);
}

static void test_shutdown(void)
{
    configure();
    check("drain, idle", run_drain_idle,
          "1 open 2.0 GET / [host: a]\n1 body \n1 end\naccess complete / 200 5\n1 gone\n"
          "s1 head 200 [content-length: 5]\ns1 body hello\ns1 end\ngoaway soon\ngoaway 0\n"
          "closed\n");
    rig_configure(&config);
    check_scenario(
        "drain, and a request is on its way", run_drain_idle, "",
        "1 open 2.0 GET / [host: a]\n1 body \n1 end\naccess complete / 200 5\n1 gone\n"
        "goaway soon\n2 open 2.0 GET / [host: a]\n2 body \n2 end\naccess complete / 200 5\n"
        "2 gone\ngoaway 0\nclosed\n",
        NULL, 0);
    check("drain, busy", run_drain_busy,
          "1 open 2.0 GET / [host: a]\ngoaway soon\ngoaway 0\ngo\n1 body \n1 end\n"
          "access complete / 200 5\n1 gone\ns1 head 200 [content-length: 5]\ns1 body hello\n"
          "s1 end\nclosed\n");
    configure()->drain_timeout = 0;
    check("drain without a notice", run_drain_busy,
          "1 open 2.0 GET / [host: a]\ngoaway 0\ngo\n1 body \n1 end\naccess complete / 200 5\n"
          "1 gone\ns1 head 200 [content-length: 5]\ns1 body hello\ns1 end\nclosed\n");
    configure();
    rig_configure(&config);
    check("cancel", run_cancel,
          "1 open 2.0 GET / [host: a]\n1 cancel shutdown\naccess complete / 0 0\n"
          "log 30 Cut at shutdown: request /, running for 1.0 s (--graceful-timeout)\n1 gone\n"
          "goaway soon\ngoaway 0\ncut\n");
}

/* ---- WebSocket (RFC 8441) ---- */

#define CONNECT                                                                                \
    ":method: CONNECT| :protocol: websocket| :scheme: http| :path: /chat?a=b| :authority: a| " \
    "sec-websocket-version: 13"

static void run_websocket(rig *r, const void *arg)
{
    static const char hi[] = "\x81\x82\0\0\0\0hi", bye[] = "\x88\x82\0\0\0\0\x03\xe8";
    r->script = arg;
    h2client *c = h2_open(r, 0);
    int32_t id = h2_fields(c, CONNECT "| sec-websocket-protocol: x, chat", false);
    h2_pump(c);
    h2_body(c, id, hi, sizeof hi - 1, false);
    h2_pump(c);
    h2_body(c, id, bye, sizeof bye - 1, true);
    h2_pump(c);
    rig_advance(r, 3);
    h2_pump(c);
    r->script = HELLO;
    get(c);
    h2_pump(c);
    h2_free(c);
}

static void run_websocket_reset(rig *r, const void *arg)
{
    r->script = "wsecho";
    h2client *c = h2_open(r, 0);
    int32_t id = h2_fields(c, CONNECT, false);
    h2_pump(c);
    if (arg == NULL)
        h2_reset(c, id, NGHTTP2_CANCEL);
    else
        wire_reset(c == NULL ? NULL : h2_wire(c));
    h2_pump(c);
    h2_free(c);
}

static void run_websocket_drain(rig *r, const void *arg)
{
    (void)arg;
    r->script = "wsecho";
    h2client *c = h2_open(r, 0);
    h2_fields(c, CONNECT, false);
    h2_pump(c);
    cd_server_drain(r->server);
    rig_advance(r, 10);
    h2_pump(c);
    h2_free(c);
}

static void run_websocket_large(rig *r, const void *arg)
{
    (void)arg;
    r->script = "accept;bytes 50000;bytes 50000;bytes 50000;leave";
    h2client *c = h2_open(r, H2_NO_WINDOW);
    int32_t id = h2_fields(c, CONNECT, false);
    h2_pump(c);
    for (int i = 0; i < 4 && c != NULL; i++) {
        nghttp2_submit_window_update(h2_session(c), 0, 0, 30000);
        nghttp2_submit_window_update(h2_session(c), 0, id, 30000);
        h2_pump(c);
    }
    h2_free(c);
}

static void test_websocket(void)
{
    configure();
    rig_configure(&config);
    check_scenario(
        "an echo", run_websocket, "wsecho",
        "1 open ws 2.0 CONNECT /chat?a=b x,chat [host: a] [sec-websocket-version: 13] "
        "[sec-websocket-protocol: x, chat]\n"
        "1 connect\naccess connecting /chat?a=b 200 0\naccess connected /chat?a=b 200 0\n"
        "s1 head 200\n1 text hi\ns1 body \\x81\\x02hi\n1 disconnect 1000\n"
        "access disconnected /chat?a=b 200 0\n1 gone\ns1 body \\x88\\x02\\x03\\xe8\ns1 end\n"
        "2 open 2.0 GET / [host: a]\n2 body \n2 end\naccess complete / 200 5\n2 gone\n"
        "s3 head 200 [content-length: 5]\ns3 body hello\ns3 end\n",
        NULL, 0);
    check_scenario(
        "a subprotocol", run_websocket, "accept chat| a: b;text x;close 1000;leave",
        "1 open ws 2.0 CONNECT /chat?a=b x,chat [host: a] [sec-websocket-version: 13] "
        "[sec-websocket-protocol: x, chat]\n"
        "1 connect\naccess connecting /chat?a=b 200 0\naccess connected /chat?a=b 200 0\n"
        "s1 head 200 [sec-websocket-protocol: chat] [a: b]\n"
        "s1 body \\x81\\x01x\\x88\\x02\\x03\\xe8\n1 disconnect 1000\n"
        "access disconnected /chat?a=b 200 0\n1 gone\ns1 end\n2 open 2.0 GET / [host: a]\n"
        "2 body \n2 end\naccess complete / 200 5\n2 gone\ns3 head 200 [content-length: 5]\n"
        "s3 body hello\ns3 end\n",
        NULL, 0);
    check_scenario(
        "denied", run_websocket, "close 1000",
        "1 open ws 2.0 CONNECT /chat?a=b x,chat [host: a] [sec-websocket-version: 13] "
        "[sec-websocket-protocol: x, chat]\n"
        "access connecting /chat?a=b 403 14\naccess rejected /chat?a=b 403 14\n"
        "access disconnected /chat?a=b 403 14\n1 gone\n"
        "s1 head 403 [content-type: text/plain; charset=utf-8] [content-length: 14]\n"
        "s1 body 403 Forbidden\\n\ns1 end\n2 open 2.0 GET / [host: a]\n2 body \n2 end\n"
        "access complete / 200 5\n2 gone\ns3 head 200 [content-length: 5]\ns3 body hello\n"
        "s3 end\n",
        NULL, 0);
    check_scenario("denied with a response", run_websocket, "start 401 a: b;last no",
                   "1 open ws 2.0 CONNECT /chat?a=b x,chat [host: a] [sec-websocket-version: 13] "
                   "[sec-websocket-protocol: x, chat]\n"
                   "access connecting /chat?a=b 401 2\naccess rejected /chat?a=b 401 2\n"
                   "access disconnected /chat?a=b 401 2\n1 gone\n"
                   "s1 head 401 [a: b] [content-length: 2]\ns1 body no\ns1 end\n"
                   "2 open 2.0 GET / [host: a]\n2 body \n2 end\naccess complete / 200 5\n2 gone\n"
                   "s3 head 200 [content-length: 5]\ns3 body hello\ns3 end\n",
                   NULL, 0);
    check_scenario(
        "the application fails", run_websocket, "fail",
        "1 open ws 2.0 CONNECT /chat?a=b x,chat [host: a] [sec-websocket-version: 13] "
        "[sec-websocket-protocol: x, chat]\n"
        "access connecting /chat?a=b 500 26\naccess rejected /chat?a=b 500 26\n"
        "access disconnected /chat?a=b 500 26\n1 gone\n"
        "s1 head 500 [content-type: text/plain; charset=utf-8] [content-length: 26]\n"
        "s1 body 500 Internal Server Error\\n\ns1 end\n2 open 2.0 GET / [host: a]\n2 body \n"
        "2 end\naccess complete / 200 5\n2 gone\ns3 head 200 [content-length: 5]\n"
        "s3 body hello\ns3 end\n",
        NULL, 0);
    check("the stream is reset", run_websocket_reset,
          "1 open ws 2.0 CONNECT /chat?a=b [host: a] [sec-websocket-version: 13]\n1 connect\n"
          "access connecting /chat?a=b 200 0\naccess connected /chat?a=b 200 0\ns1 head 200\n"
          "1 disconnect 1006\naccess disconnected /chat?a=b 200 0\n1 gone\n");
    check_scenario(
        "the connection around it dies", run_websocket_reset, "",
        "1 open ws 2.0 CONNECT /chat?a=b [host: a] [sec-websocket-version: 13]\n1 connect\n"
        "access connecting /chat?a=b 200 0\naccess connected /chat?a=b 200 0\ns1 head 200\n"
        "1 disconnect 1006\naccess disconnected /chat?a=b 200 0\n1 gone\ncut\n",
        NULL, 0);
    check("a shutdown", run_websocket_drain,
          "1 open ws 2.0 CONNECT /chat?a=b [host: a] [sec-websocket-version: 13]\n1 connect\n"
          "access connecting /chat?a=b 200 0\naccess connected /chat?a=b 200 0\ns1 head 200\n"
          "1 disconnect 1001\naccess disconnected /chat?a=b 200 0\n1 gone\n"
          "s1 body \\x88\\x02\\x03\\xe9\ns1 end\ngoaway soon\ngoaway 0\n");
    check("large messages", run_websocket_large,
          "1 open ws 2.0 CONNECT /chat?a=b [host: a] [sec-websocket-version: 13]\n1 connect\n"
          "access connecting /chat?a=b 200 0\naccess connected /chat?a=b 200 0\ns1 head 200\n"
          "s1 body (65535 bytes, 628d1fa5abc0c545)\ns1 body (30000 bytes, a1337063f7faa2a9)\n"
          "s1 body (30000 bytes, 1fb3af7acd8c0820)\ns1 body (24477 bytes, 816ca0fbbfaf8809)\n");
}

int main(void)
{
    test_deadlines();
    test_bodies();
    test_windows();
    test_floods();
    test_limits();
    test_endings();
    test_shutdown();
    test_websocket();
    return check_summary();
}
