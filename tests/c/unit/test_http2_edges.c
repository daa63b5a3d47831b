/*
 * Tests of HTTP/2 at its edges: what a peer can hold with closed windows, requests that were
 * refused before anybody heard of them, the end of a tunnel that nobody reads.
 *
 * Limits are lowered where a scenario would otherwise take thousands of frames: it is run again for
 * every single allocation.
 */
#include "h2client.h"

#define HELLO "body;start 200;last hello"
#define OPEN "1 open 2.0 GET / [host: a]\n1 body \n1 end\n"
#define CONNECT                                                                        \
    ":method: CONNECT| :protocol: websocket| :scheme: http| :path: /| :authority: a| " \
    "sec-websocket-version: 13"
#define OPEN_WS                                                                  \
    "1 open ws 2.0 CONNECT / [host: a] [sec-websocket-version: 13]\n1 connect\n" \
    "access connecting / 200 0\naccess connected / 200 0\n"

static cd_config config;

static cd_limits *configure(void)
{
    config = (cd_config){.access_fd = -1, .http2 = true};
    config.limits = cd_config_default.limits;
    return &config.limits;
}

static void check(const char *name, scenario *run, const void *arg, const char *trace)
{
    rig_configure(&config);
    check_scenario(name, run, arg, trace, NULL, 0);
}

static void pass(rig *r, h2client *c, double seconds)
{
    rig_advance(r, seconds);
    h2_pump(c);
}

/* ---- windows that stay closed ---- */

/* The body fits into the window; its end, a frame without bytes, does not. */
static void run_end_only(rig *r, const void *arg)
{
    r->script = arg;
    h2client *c = h2_open_window(r, H2_NO_WINDOW, 5);
    h2_request(c, "GET", "/", "", NULL);
    h2_pump(c);
    rig_go(r);
    h2_pump(c);
    pass(r, c, 61);
    text_format(&r->trace, "--\n");
    pass(r, c, 76);
    h2_free(c);
}

/* A page of ours waits too. */
static void run_page(rig *r, const void *arg)
{
    (void)arg;
    h2client *c = h2_open_window(r, H2_NO_WINDOW, 3);
    h2_request(c, "BREW", "/", "", NULL);
    h2_pump(c);
    pass(r, c, 61);
    text_format(&r->trace, "--\n");
    pass(r, c, 76);
    h2_free(c);
}

static void run_tunnel(rig *r, const void *arg)
{
    r->script = arg;
    h2client *c = h2_open_window(r, H2_NO_WINDOW, 0);
    h2_fields(c, CONNECT, false);
    h2_pump(c);
    for (int i = 0; i < 3; i++)
        pass(r, c, 30);
    text_format(&r->trace, "--\n");
    pass(r, c, 76);
    h2_free(c);
}

/* The connection's window is used up by others whose applications do not read. */
static void run_body_behind_others(rig *r, const void *arg)
{
    (void)arg;
    static char bytes[40000];
    r->script = "go;body;start 200;last hello";
    h2client *c = h2_open(r, 0);
    for (int i = 0; i < 2; i++) {
        int32_t id = h2_request(c, "POST", "/", "", "");
        h2_pump(c);
        h2_body(c, id, bytes, sizeof bytes, true);
        h2_pump(c);
    }
    r->script = HELLO;
    int32_t id = h2_request(c, "POST", "/", "", "");
    h2_pump(c);
    for (int i = 0; i < 2; i++)
        h2_body(c, id, bytes, sizeof bytes, i == 1);
    h2_pump(c);
    pass(r, c, 21);
    pass(r, c, 21);
    text_format(&r->trace, "go\n");
    rig_go(r);
    h2_pump(c);
    h2_free(c);
}

/* Bodies of streams that the client has reset, while their applications go on without reading. */
static void run_reset_unread(rig *r, const void *arg)
{
    static char bytes[40000];
    r->script = arg;
    h2client *c = h2_open(r, 0);
    for (int i = 0; i < 2; i++) {
        int32_t id = h2_request(c, "POST", "/", "", "");
        h2_pump(c);
        h2_body(c, id, bytes, sizeof bytes, false);
        h2_pump(c);
        h2_reset(c, id, NGHTTP2_CANCEL);
        h2_pump(c);
    }
    r->script = "body;body";
    int32_t id = h2_request(c, "POST", "/", "", "");
    h2_pump(c);
    for (int i = 0; i < 2; i++)
        h2_body(c, id, bytes, sizeof bytes, i == 1);
    h2_pump(c);
    text_format(&r->trace, "go\n");
    rig_go(r);
    h2_pump(c);
    h2_free(c);
}

static void run_slow_block(rig *r, const void *arg)
{
    static const uint8_t block[] = {0x82, 0x86, 0x84, 0x01, 1, 'a'}; /* GET http / a */
    static const uint8_t field[] = {0, 1, 'b', 1, 'c'};
    r->script = HELLO;
    h2client *c = h2_open(r, H2_DEAF);
    h2_pump(c);
    h2_frame(c, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_STREAM, 1, block, sizeof block);
    h2_frame(c, NGHTTP2_CONTINUATION, 0, 1, arg, sizeof field);
    h2_pump(c);
    for (int i = 0; i < 4; i++) {
        pass(r, c, 8);
        h2_frame(c, NGHTTP2_CONTINUATION, 0, 1, field, sizeof field);
        h2_pump(c);
    }
    h2_free(c);
}

static void test_heads(void)
{
    static const uint8_t upper[] = {0, 1, 'B', 1, 'c'};
    configure();
    check("a slow head whose stream is gone", run_slow_block, upper, "goaway 1\nclosed\n");
}

static void test_windows(void)
{
    cd_limits *l = configure();
    check("only the end waits for a window", run_end_only, "body;start 200;write hello;go;last ",
          OPEN "s1 head 200\ns1 body hello\naccess complete / 200 5\n1 gone\ns1 reset 11\n"
               "--\ngoaway 0\nclosed\n");
    check("a page that nobody reads", run_page, NULL,
          "s1 head 501 [content-type: text/plain; charset=utf-8] [content-length: 20]\n"
          "s1 body 501\ns1 reset 11\n--\ngoaway 0\nclosed\n");
    check("a tunnel that nobody reads", run_tunnel, "accept;text x;close 1000;leave",
          OPEN_WS "s1 head 200\n1 disconnect 1006\naccess disconnected / 200 0\n1 gone\n"
                  "s1 reset 11\n--\ngoaway 0\nclosed\n");
    l->http2_stream_window = 40000;
    l->http2_connection_window = 65535;
    check("a body that others hold up is not slow", run_body_behind_others, NULL,
          "1 open 2.0 POST / [host: a]\n2 open 2.0 POST / [host: a]\n3 open 2.0 POST / [host: a]\n"
          "go\n2 body (40000 bytes, 600f98ab98233825)\n2 end\n"
          "1 body (40000 bytes, 600f98ab98233825)\n1 end\naccess complete / 200 5\n2 gone\n"
          "access complete / 200 5\n1 gone\n3 body (80000 bytes, 9b85a68c78294d25)\n3 end\n"
          "access complete / 200 5\n3 gone\ns1 head 200 [content-length: 5]\ns1 body hello\n"
          "s1 end\ns3 head 200 [content-length: 5]\ns3 body hello\ns3 end\n"
          "s5 head 200 [content-length: 5]\ns5 body hello\ns5 end\n");
    check("bodies of reset streams stay unread", run_reset_unread, "go;leave",
          "1 open 2.0 POST / [host: a]\naccess complete / 0 0\n2 open 2.0 POST / [host: a]\n"
          "access complete / 0 0\n3 open 2.0 POST / [host: a]\ngo\n"
          "2 body (40000 bytes, 600f98ab98233825)\n2 disconnect\n"
          "1 body (40000 bytes, 600f98ab98233825)\n1 disconnect\n2 gone\n1 gone\n"
          "3 body (80000 bytes, 9b85a68c78294d25)\n3 end\n");
}

/* ---- responses ---- */

static void run_head(rig *r, const void *arg)
{
    r->script = arg;
    h2client *c = h2_open(r, 0);
    h2_request(c, "HEAD", "/", "", NULL);
    h2_pump(c);
    pass(r, c, 11);
    rig_go(r);
    h2_pump(c);
    h2_free(c);
}

static void run_fields(rig *r, const void *arg)
{
    r->script = arg;
    h2client *c = h2_open(r, 0);
    h2_request(c, "GET", "/", "te: trailers", NULL);
    h2_pump(c);
    h2_free(c);
}

static void test_responses(void)
{
    configure();
    check("HEAD, and the application goes on writing", run_head,
          "body;start 200;write a;go;write b;last c",
          "1 open 2.0 HEAD / [host: a]\n1 body \n1 end\ns1 head 200\naccess complete / 200 0\n"
          "1 gone\ns1 end\n");
    check("no space around values", run_fields,
          "body;hint  <a> ;start 200 A:  b | c: \t;announce;last hello;lasttrailers D:  e ",
          "1 open 2.0 GET / [host: a] [te: trailers]\n1 body \n1 end\naccess complete / 200 5\n"
          "1 gone\ns1 head 103 [link: <a>]\ns1 head 200 [a: b] [c: ]\ns1 body hello\n"
          "s1 head [d: e]\ns1 end\n");
}

/* ---- refused requests ---- */

static const uint8_t block[] = {0x82, 0x86, 0x84, 0x01, 1, 'a'}; /* GET http / a */

/* The stream has ended before its head has. */
static void run_cut_head(rig *r, const void *arg)
{
    (void)arg;
    static const uint8_t field[] = {0, 1, 'b', 1, 'c'};
    r->script = "leave;go";
    h2client *c = h2_open(r, H2_DEAF);
    h2_frame(c, NGHTTP2_HEADERS, 5, 1, block, sizeof block);
    h2_frame(c, NGHTTP2_RST_STREAM, 0, 1, "\0\0\0\x8", 4);
    h2_pump(c);
    h2_frame(c, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_STREAM, 3, block, sizeof block);
    h2_pump(c);
    h2_frame(c, NGHTTP2_CONTINUATION, NGHTTP2_FLAG_END_HEADERS, 3, field, sizeof field);
    h2_pump(c);
    pass(r, c, 31);
    rig_go(r);
    r->script = HELLO;
    h2_frame(c, NGHTTP2_HEADERS, 5, 5, block, sizeof block);
    h2_pump(c);
    h2_free(c);
}

/* It has not heard of the limit yet, and sends the body of a request that was one too many. */
static void run_too_many(rig *r, const void *arg)
{
    (void)arg;
    r->script = HELLO;
    h2client *c = h2_open(r, H2_DEAF);
    h2_frame(c, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 1, block, sizeof block);
    h2_frame(c, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 3, block, sizeof block);
    h2_frame(c, NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, 1, "x", 1);
    h2_pump(c);
    h2_frame(c, NGHTTP2_HEADERS, 5, 5, block, sizeof block);
    h2_frame(c, NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, 3, "x", 1);
    h2_pump(c);
    h2_free(c);
}

static void test_refused(void)
{
    configure()->http2_max_streams = 1;
    check("a head of a stream that was refused meanwhile", run_cut_head, NULL,
          "1 open 2.0 GET / [host: a]\n1 body \n1 end\n1 disconnect\naccess complete / 0 0\n"
          "1 cancel client-gone\n1 gone\n2 open 2.0 GET / [host: a]\n2 body \n2 end\n"
          "access complete / 200 5\n2 gone\n");
    check("the body of a stream that was refused", run_too_many, NULL,
          "1 open 2.0 GET / [host: a]\n1 body x\n1 end\naccess complete / 200 5\n1 gone\n"
          "2 open 2.0 GET / [host: a]\n2 body \n2 end\naccess complete / 200 5\n2 gone\n");
}

/* ---- ends ---- */

/* It is full of messages that its application does not take, and then its client leaves. */
static void run_full_tunnel(rig *r, const void *arg)
{
    static const char hi[] = "\x81\x82\0\0\0\0hi\x81\x82\0\0\0\0ho";
    r->script = "pull;accept;go;leave";
    h2client *c = h2_open(r, 0);
    int32_t id = h2_fields(c, CONNECT, false);
    h2_pump(c);
    h2_body(c, id, hi, sizeof hi - 1, false);
    h2_pump(c);
    if (arg == NULL)
        h2_reset(c, id, NGHTTP2_CANCEL);
    else
        wire_reset(c == NULL ? NULL : h2_wire(c));
    h2_pump(c);
    text_format(&r->trace, "go\n");
    rig_go(r);
    h2_pump(c);
    h2_free(c);
}

/* The same, and it says goodbye before it leaves. */
static void run_polite_tunnel(rig *r, const void *arg)
{
    (void)arg;
    static const char all[] = "\x81\x82\0\0\0\0hi\x81\x82\0\0\0\0ho\x88\x82\0\0\0\0\x03\xe8";
    r->script = "pull;accept;go;leave";
    h2client *c = h2_open(r, 0);
    int32_t id = h2_fields(c, CONNECT, false);
    h2_pump(c);
    h2_body(c, id, all, sizeof all - 1, true);
    h2_pump(c);
    text_format(&r->trace, "go\n");
    rig_go(r);
    h2_pump(c);
    h2_free(c);
}

/* The preface comes when the server has begun to stop. */
static void run_late(rig *r, const void *arg)
{
    (void)arg;
    r->script = HELLO;
    h2client *c = h2_open(r, 0);
    cd_server_drain(r->server);
    h2_request(c, "GET", "/", "", NULL);
    h2_pump(c);
    pass(r, c, 1);
    h2_free(c);
}

/* A request comes while the last GOAWAY, which leaves it out, waits to be sent. */
static void run_behind_last(rig *r, const void *arg)
{
    r->script = arg;
    h2client *c = h2_open(r, 0);
    if (c == NULL)
        return;
    h2_pump(c);
    wire_room(h2_wire(c), 0);
    h2_request(c, "GET", "/", "", NULL);
    h2_pump(c);
    cd_server_drain(r->server);
    rig_settle(r);
    h2_request(c, "POST", "/", "", "once");
    h2_pump(c);
    wire_room(h2_wire(c), SIZE_MAX);
    h2_pump(c);
    h2_free(c);
}

static void test_ends(void)
{
    configure()->websocket_high_water = 2;
    check("a full tunnel is reset", run_full_tunnel, NULL,
          OPEN_WS "s1 head 200\ngo\n1 text hi\n1 text ho\n1 disconnect 1006\n"
                  "access disconnected / 200 0\n1 gone\n");
    check("a full tunnel's connection dies", run_full_tunnel, "",
          OPEN_WS "s1 head 200\ncut\ngo\n1 text hi\n1 text ho\n1 disconnect 1006\n"
                  "access disconnected / 200 0\n1 gone\n");
    check("a full tunnel is closed", run_polite_tunnel, NULL,
          OPEN_WS "s1 head 200\ngo\n1 text hi\n1 text ho\n1 disconnect 1000\n"
                  "access disconnected / 200 0\n1 gone\ns1 body \\x88\\x02\\x03\\xe8\ns1 end\n");
    configure();
    check("a client that comes late", run_late, NULL,
          OPEN "access complete / 200 5\n1 gone\n"
               "s1 head 200 [content-length: 5]\ns1 body hello\ns1 end\ngoaway soon\ngoaway 0\n"
               "closed\n");
    cd_limits *l = configure();
    l->drain_timeout = 0;
    l->write_high_water = 16;
    check("a request that the last GOAWAY leaves out", run_behind_last,
          "body;start 200;write a page that is longer than the mark;last ",
          OPEN
          "access complete / 200 35\n1 gone\ns1 head 200\n"
          "s1 body a page that is longer than the mark\ns1 end\ns3 reset 7\ngoaway 0\nclosed\n");
}

int main(void)
{
    test_heads();
    test_windows();
    test_responses();
    test_refused();
    test_ends();
    return check_summary();
}
