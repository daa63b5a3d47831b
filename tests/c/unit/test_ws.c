/*
 * WebSockets over the memory transport, from the request to the last event: what the application
 * sees, and every byte that the peer sees. Cases with one connection and one input are rows of a
 * table; those where time passes, the peer does not read, or several things happen in turn are
 * scenarios. All of them run whole, byte by byte, in random cuts, and with every allocation failing
 * once.
 */
#include "frames.h"
#include "harness.h"

#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define OPENED_WITH(more)                                                                 \
    "1 open ws 1.1 GET /ws" more " [host: h] [upgrade: websocket] [connection: Upgrade] " \
    "[sec-websocket-version: 13] [sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==]"
#define OPENED OPENED_WITH("") "\n"
#define CONNECTED OPENED "1 connect\naccess connecting /ws 101 0\naccess connected /ws 101 0\n"
#define GONE "access disconnected /ws 101 0\n1 gone\n"
#define TEXT10 "0123456789"
#define TEXT100 TEXT10 TEXT10 TEXT10 TEXT10 TEXT10 TEXT10 TEXT10 TEXT10 TEXT10 TEXT10
#define SWITCHED                                                                        \
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" \
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"

/* ---- one connection, one input ---- */

enum { MAX_FRAMES = 12 };

typedef struct {
    const char *name, *script;
    frame in[MAX_FRAMES]; /* after the request, ended by {0, NULL, 0} */
    bool eof;
    const char *trace;     /* after CONNECTED */
    frame out[MAX_FRAMES]; /* after SWITCHED */
} ws_case;

static void run_case(rig *r, const void *arg)
{
    const ws_case *c = arg;
    text input = {0};
    r->script = c->script ? c->script : "wsecho";
    wire *w = wire_open(r);
    text_add(&input, REQUEST, sizeof REQUEST - 1);
    for (const frame *f = c->in; f->p; f++)
        add_frame(&input, f->first, f->p, f->n);
    wire_feed(w, input.p, input.n);
    if (c->eof)
        wire_eof(w);
    text_free(&input);
}

static void check_case(const ws_case *c)
{
    text output = {0}, trace = {0};
    text_add(&output, SWITCHED, sizeof SWITCHED - 1);
    for (const frame *f = c->out; f->p; f++)
        add_output(&output, f->first, f->p, f->n);
    text_format(&trace, "%s%s", CONNECTED, c->trace);
    check_scenario(c->name, run_case, c, trace.p, output.p, output.n);
    text_free(&output);
    text_free(&trace);
}

#define FAULT(code) "1 disconnect " code "\n" GONE

static const ws_case messages[] = {
    {"text",
     NULL,
     {F(TEXT, "hello"), F(CLOSE, "\x03\xe8")},
     false,
     "1 text hello\n1 disconnect 1000\n" GONE,
     {F(TEXT, "hello"), F(CLOSE, "\x03\xe8")}},
    {"binary",
     NULL,
     {F(BINARY, "\x00\xff\x80"), F(CLOSE, "\x03\xe8")},
     false,
     "1 bytes \\x00\\xff\\x80\n1 disconnect 1000\n" GONE,
     {F(BINARY, "\x00\xff\x80"), F(CLOSE, "\x03\xe8")}},
    {"empty messages",
     NULL,
     {F(TEXT, ""), F(BINARY, ""), F(CLOSE, "\x03\xe8")},
     false,
     "1 text\n1 bytes\n1 disconnect 1000\n" GONE,
     {F(TEXT, ""), F(BINARY, ""), F(CLOSE, "\x03\xe8")}},
    {"fragments",
     NULL,
     {F(TEXT_PART, "Hel"), F(PART, "lo "), F(LAST, "you"), F(BINARY_PART, "a"), F(LAST, "b"),
      F(CLOSE, "\x03\xe8")},
     false,
     "1 text Hello you\n1 bytes ab\n1 disconnect 1000\n" GONE,
     {F(TEXT, "Hello you"), F(BINARY, "ab"), F(CLOSE, "\x03\xe8")}},
    {"empty fragments",
     NULL,
     {F(TEXT_PART, ""), F(PART, ""), F(LAST, ""), F(TEXT_PART, ""), F(LAST, "x"),
      F(BINARY_PART, "y"), F(LAST, ""), F(CLOSE, "\x03\xe8")},
     false,
     "1 text\n1 text x\n1 bytes y\n1 disconnect 1000\n" GONE,
     {F(TEXT, ""), F(TEXT, "x"), F(BINARY, "y"), F(CLOSE, "\x03\xe8")}},
    {"control frames in between",
     "pull; accept; wsecho",
     {F(TEXT_PART, "a"), F(PING, "p1"), F(PART, "b"), F(PONG, "unasked"), F(PING, ""), F(LAST, "c"),
      F(CLOSE, "\x03\xe8")},
     false,
     "1 text abc\n1 disconnect 1000\n" GONE,
     {F(PONG, "p1"), F(PONG, ""), F(TEXT, "abc"), F(CLOSE, "\x03\xe8")}},
    {"UTF-8 cut in characters",
     NULL,
     {F(TEXT_PART, "\xe6"), F(PART, "\xbc"), F(PART, "\xa2\xf0\x9f"), F(LAST, "\x98\x80"),
      F(CLOSE, "\x03\xe8")},
     false,
     "1 text \\xe6\\xbc\\xa2\\xf0\\x9f\\x98\\x80\n1 disconnect 1000\n" GONE,
     {F(TEXT, "\xe6\xbc\xa2\xf0\x9f\x98\x80"), F(CLOSE, "\x03\xe8")}},
    {"bytes need not be UTF-8",
     NULL,
     {F(BINARY_PART, "\xff"), F(LAST, "\xc0"), F(CLOSE, "")},
     false,
     "1 bytes \\xff\\xc0\n1 disconnect 1005\n" GONE,
     {F(BINARY, "\xff\xc0"), F(CLOSE, "")}},
};

/* The peer's faults. Our close frame names them, the application gets 1006. */
static const ws_case faults[] = {
    {"bad UTF-8 in one frame",
     NULL,
     {F(TEXT, "ab\xff")},
     false,
     FAULT("1006"),
     {F(CLOSE, "\x03\xef")}},
    {"bad UTF-8 long before the end of the frame",
     NULL,
     {F(RAW, "\x81\xfe\x10\x00\x37\xfa\x21\x3d\xf7\x7a")},
     false,
     FAULT("1006"),
     {F(CLOSE, "\x03\xef")}},
    {"bad UTF-8 across frames",
     NULL,
     {F(TEXT_PART, "\xe6"), F(PART, "x")},
     false,
     FAULT("1006"),
     {F(CLOSE, "\x03\xef")}},
    {"character cut by the end",
     NULL,
     {F(TEXT_PART, "a"), F(LAST, "\xe6\xbc")},
     false,
     FAULT("1006"),
     {F(CLOSE, "\x03\xef")}},
    {"character cut by the end of one frame",
     NULL,
     {F(TEXT, "\xe6\xbc")},
     false,
     FAULT("1006"),
     {F(CLOSE, "\x03\xef")}},
    {"RSV", NULL, {F(0xc1, "x")}, false, FAULT("1006"), {F(CLOSE, "\x03\xea")}},
    {"reserved opcode", NULL, {F(0x83, "x")}, false, FAULT("1006"), {F(CLOSE, "\x03\xea")}},
    {"reserved control opcode", NULL, {F(0x8b, "")}, false, FAULT("1006"), {F(CLOSE, "\x03\xea")}},
    {"not masked", NULL, {F(RAW, "\x81\x02hi")}, false, FAULT("1006"), {F(CLOSE, "\x03\xea")}},
    {"fragmented ping", NULL, {F(0x09, "x")}, false, FAULT("1006"), {F(CLOSE, "\x03\xea")}},
    {"long ping", NULL, {F(RAW, "\x89\xfe\x00\x7e")}, false, FAULT("1006"), {F(CLOSE, "\x03\xea")}},
    {"length not minimal",
     NULL,
     {F(RAW, "\x82\xfe\x00\x7d")},
     false,
     FAULT("1006"),
     {F(CLOSE, "\x03\xea")}},
    {"length with the top bit",
     NULL,
     {F(RAW, "\x82\xff\x80\0\0\0\0\0\0\x01")},
     false,
     FAULT("1006"),
     {F(CLOSE, "\x03\xea")}},
    {"continuation of nothing",
     NULL,
     {F(TEXT, "x"), F(LAST, "y")},
     false,
     "1 text x\n" FAULT("1006"),
     {F(TEXT, "x"), F(CLOSE, "\x03\xea")}},
    {"message in a message",
     NULL,
     {F(TEXT_PART, "x"), F(TEXT, "y")},
     false,
     FAULT("1006"),
     {F(CLOSE, "\x03\xea")}},
    {"nothing is read after a fault",
     NULL,
     {F(TEXT, "x"), F(0x83, "y"), F(TEXT, "z")},
     false,
     "1 text x\n" FAULT("1006"),
     {F(TEXT, "x"), F(CLOSE, "\x03\xea")}},
    {"close with one byte", NULL, {F(CLOSE, "\x03")}, false, FAULT("1006"), {F(CLOSE, "\x03\xea")}},
    {"close with 1005", NULL, {F(CLOSE, "\x03\xed")}, false, FAULT("1006"), {F(CLOSE, "\x03\xea")}},
    {"close with a bad reason",
     NULL,
     {F(CLOSE, "\x03\xe8\xc3")},
     false,
     FAULT("1006"),
     {F(CLOSE, "\x03\xef")}},
    {"frame too large, as announced",
     NULL,
     {F(RAW, "\x82\xff\x00\x00\x01\x00\x00\x00\x00\x00"), F(RAW, "mask")},
     false,
     FAULT("1006"),
     {F(CLOSE, "\x03\xf1")}},
};

static const ws_case ends[] = {
    {"peer closes with a reason",
     NULL,
     {F(CLOSE, "\x0f\xa1"
               "bye \xc3\xa9"),
      F(TEXT, "late")},
     false,
     "1 disconnect 4001 bye \\xc3\\xa9\n" GONE,
     {F(CLOSE, "\x0f\xa1")}},
    {"peer closes without a code",
     NULL,
     {F(CLOSE, "")},
     false,
     "1 disconnect 1005\n" GONE,
     {F(CLOSE, "")}},
    {"end of file",
     NULL,
     {F(TEXT, "a")},
     true,
     "1 text a\n1 disconnect 1006\n" GONE,
     {F(TEXT, "a")}},
    {"end of file in a frame",
     NULL,
     {F(RAW, "\x81\x85mask12")},
     true,
     "1 disconnect 1006\n" GONE,
     {{0}}},
    {"application closes",
     "pull; accept; text a; close 3001 so long; leave",
     {F(TEXT, "dropped"), F(PING, "dropped"), F(TEXT_PART, "cut"), F(CLOSE, "\x0b\xb9")},
     false,
     "1 disconnect 3001\n" GONE,
     {F(TEXT, "a"), F(CLOSE, "\x0b\xb9so long")}},
    {"both close",
     "pull; accept; close 1000; leave",
     {F(CLOSE, "\x0f\xa0mine")},
     false,
     "1 disconnect 4000 mine\n" GONE,
     {F(CLOSE, "\x03\xe8")}},
    {"the answer has no code",
     "pull; accept; close 1000; leave",
     {F(CLOSE, "")},
     false,
     "1 disconnect 1005\n" GONE,
     {F(CLOSE, "\x03\xe8")}},
    {"the answer is malformed",
     "pull; accept; close 1000; leave",
     {F(CLOSE, "\x01")},
     false,
     "1 disconnect 1006\n" GONE,
     {F(CLOSE, "\x03\xe8")}},
    {"end of file instead of the answer",
     "pull; accept; close 1000; leave",
     {{0}},
     true,
     "1 disconnect 1006\n" GONE,
     {F(CLOSE, "\x03\xe8")}},
    {"application closes with 1002",
     "pull; accept; close 1002; leave",
     {F(CLOSE, "\x03\xea")},
     false,
     "1 disconnect 1002\n" GONE,
     {F(CLOSE, "\x03\xea")}},
    {"a reason of 124 bytes is cut",
     "pull; accept; close 4003 " TEXT100 "0123456789012345678901ab; leave",
     {F(CLOSE, "")},
     false,
     "1 disconnect 1005\n" GONE,
     {F(CLOSE, "\x0f\xa3" TEXT100 "0123456789012345678901a")}},
    {"and not within a character",
     "pull; accept; close 4003 " TEXT100 "012345678901234567890\xe2\x82\xac!; leave",
     {F(CLOSE, "")},
     false,
     "1 disconnect 1005\n" GONE,
     {F(CLOSE, "\x0f\xa3" TEXT100 "012345678901234567890")}},
    {"a reason of 123 bytes is not",
     "pull; accept; close 4003 " TEXT100 "01234567890123456789\xe2\x82\xac; leave",
     {F(CLOSE, "")},
     false,
     "1 disconnect 1005\n" GONE,
     {F(CLOSE, "\x0f\xa3" TEXT100 "01234567890123456789\xe2\x82\xac")}},
    {"what an application may not close with",
     "pull; accept; pull; close 1004; close 1005; close 999; close 1000 \\xff; "
     "close 1011 it broke; text late; leave",
     {F(TEXT, "go"), F(CLOSE, "\x03\xf3")},
     false,
     "1 text go\n1 close -> STATUS\n1 close -> STATUS\n1 close -> STATUS\n1 close -> VALUE\n"
     "1 text -> GONE\n1 disconnect 1011\n" GONE,
     {F(CLOSE, "\x03\xf3it broke")}},
};

/* ---- the handshake ---- */

#define PAGE(status, size, more)                                                              \
    "HTTP/1.1 " status "\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: " size \
    "\r\n" more "\r\n" status "\n"
#define CLOSING "connection: close\r\n"
#define ANSWERED(status, size)                                                        \
    "access connecting /ws " status " " size "\naccess rejected /ws " status " " size \
    "\naccess disconnected /ws " status " " size "\n"
#define DENIED(status, size) ANSWERED(status, size) "1 gone\n"

static const simple_case handshakes[] = {
    {"closed before accept", "pull; close 4000 no; text late; close 1000; leave", REQUEST, 0,
     OPENED "1 connect\n1 text -> GONE\n1 close -> GONE\n1 disconnect 1006\n" DENIED("403", "14"),
     PAGE("403 Forbidden", "14", CLOSING), 0, false},
    {"failed before accept", "pull; fail", REQUEST, 0, OPENED "1 connect\n" DENIED("500", "26"),
     PAGE("500 Internal Server Error", "26", CLOSING), 0, false},
    {"ended before accept", "", REQUEST, 0,
     OPENED ANSWERED(
         "403",
         "14") "log 30 Application ended without accepting or closing: WebSocket /ws\n1 gone\n",
     PAGE("403 Forbidden", "14", CLOSING), 0, false},
    {"denied by a response",
     "pull; start 401 www-authenticate: Basic; close 1000; accept; text x; "
     "write ab; last c; leave",
     REQUEST, 0,
     OPENED
     "1 connect\n1 close -> ORDER\n1 accept -> ORDER\n1 text -> ORDER\n1 disconnect 1006\n" DENIED(
         "401", "3"),
     "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Basic\r\ntransfer-encoding: "
     "chunked\r\n" CLOSING "\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
     0, false},
    {"a denial that fails before its head", "pull; start 401; fail", REQUEST, 0,
     OPENED "1 connect\n" DENIED("500", "26"), PAGE("500 Internal Server Error", "26", CLOSING), 0,
     false},
    {"subprotocol and headers", "pull; accept b| set-cookie: a=1| x-y: z; fail",
     REQUEST_OF("/ws", "Sec-WebSocket-Protocol: a, b\r\n"), 0,
     OPENED_WITH(" a,b") " [sec-websocket-protocol: a, b]\n"
                         "1 connect\naccess connecting /ws 101 0\naccess connected /ws 101 0\n",
     NULL, 0, false},
    {"what accept refuses",
     "pull; accept c; accept B; accept b| sec-websocket-protocol: b; "
     "accept b| connection: close; close 1000; leave",
     REQUEST_OF("/ws", "Sec-WebSocket-Protocol: a, b\r\n"), 0,
     OPENED_WITH(" a,b") " [sec-websocket-protocol: a, b]\n"
                         "1 connect\n1 accept -> VALUE\n1 accept -> VALUE\n"
                         "1 accept -> NAME\n1 accept -> NAME\n"
                         "1 disconnect 1006\n" DENIED("403", "14"),
     NULL, 0, false},
    {"out of order",
     "text x; pull; accept; accept; start 200; write x; close 1000; close 1000; leave",
     REQUEST "\x88\x80\0\0\0\0", sizeof REQUEST + 5,
     OPENED "1 text -> ORDER\n1 connect\n1 accept -> ORDER\n1 start -> ORDER\n1 write -> ORDER\n1 "
            "close -> ORDER\n"
            "access connecting /ws 101 0\naccess connected /ws 101 0\n1 disconnect 1005\n" GONE,
     SWITCHED "\x88\x02\x03\xe8", 0, false},
    {"ends after accept", "pull; accept", REQUEST "\x88\x80\0\0\0\0", sizeof REQUEST + 5,
     OPENED "1 connect\naccess connecting /ws 101 0\naccess connected /ws 101 0\n" GONE,
     SWITCHED "\x88\x02\x03\xe8", 0, false},
    {"fails after accept", "pull; accept; pull; fail", REQUEST "\x81\x80\0\0\0\0\x88\x80\0\0\0\0",
     sizeof REQUEST + 11, CONNECTED "1 text\n" GONE, SWITCHED "\x88\x02\x03\xf3", 0, false},
    {"aborts", "pull; accept; abort; text x; leave", REQUEST, 0,
     OPENED "1 connect\n1 text -> GONE\n1 disconnect 1006\naccess connecting /ws 101 0\n"
            "access connected /ws 101 0\n" GONE,
     "", 0, false},
    {"aborts before accept", "pull; abort; accept; leave", REQUEST, 0,
     OPENED "1 connect\n1 accept -> GONE\n1 disconnect 1006\naccess connecting /ws 0 0\n"
            "access disconnected /ws 0 0\n1 gone\n",
     "", 0, false},
    {"POST", "",
     "POST /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
     "Content-Length: 0\r\n\r\n",
     0, "", PAGE("405 Method Not Allowed", "23", "allow: GET\r\n" CLOSING), 0, false},
    {"version 8", "",
     "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
     "Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
     0, "",
     PAGE("426 Upgrade Required", "21",
          "upgrade: websocket\r\nsec-websocket-version: 13\r\nconnection: upgrade, close\r\n"),
     0, false},
    {"no key", "",
     "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
     "Sec-WebSocket-Version: 13\r\n\r\n",
     0, "", PAGE("400 Bad Request", "16", CLOSING), 0, false},
};

/* What a 101 response says, in order. */
static void run_accept_head(rig *r, const void *arg)
{
    r->script = "pull; accept b| set-cookie: a=1| SERVER: mine; leave";
    wire *w = wire_open(r);
    wire_text(w, REQUEST_OF("/ws", "Sec-WebSocket-Protocol: a, b\r\n"));
    (void)arg;
    wire_eof(w);
}

/* ---- scenarios ---- */

static wire *open_ws(rig *r, const char *script)
{
    r->script = script;
    wire *w = wire_open(r);
    wire_text(w, REQUEST);
    wire_take(w);
    return w;
}

static void feed_close(wire *w)
{
    FEED(w, CLOSE, "\x03\xe8");
}

static bool alive(const wire *w)
{
    return w != NULL && !w->closed;
}

static char *alphabet(size_t n, size_t period)
{
    char *p = malloc(n + 1);
    for (size_t i = 0; i < n; i++)
        p[i] = (char)('a' + i % period);
    return p;
}

/* One payload as a message in two frames and as one in one frame. */
static void run_sizes(rig *r, const void *arg)
{
    size_t n = *(const size_t *)arg;
    char *p = alphabet(n, 23);
    wire *w = open_ws(r, "wsecho");
    feed_frame(w, BINARY_PART, p, n / 2);
    feed_frame(w, LAST, p + n / 2, n - n / 2);
    feed_frame(w, TEXT, p, n);
    feed_close(w);
    free(p);
}

static void run_pinned(rig *r, const void *arg)
{
    (void)arg;
    wire *w =
        open_ws(r, "pull; accept; go; bytes 10; bytes 10000; text hi; bytes 70000; bytes 0; leave");
    rig_go(r);
    feed_close(w);
}

/* The application does not receive: reading stops, memory is bounded, nothing is lost. */
static void run_slow_application(rig *r, const void *arg)
{
    (void)arg;
    char p[200];
    memset(p, 'x', sizeof p);
    wire *w = open_ws(r, "pull; accept; go; wsecho");
    text t = {0};
    for (int i = 0; i < 50; i++)
        add_frame(&t, TEXT, p, sizeof p);
    add_frame(&t, CLOSE, "\x03\xe8", 2);
    wire_feed(w, t.p, t.n);
    text_free(&t);
    if (alive(w)) {
        CHECK(!(w->want & CD_READ));
        CHECK(r->apps != NULL);
    }
    rig_go(r);
}

static void check_input(rig *r, size_t most)
{
    for (cd_list *l = r->server->streams.next; l != &r->server->streams; l = l->next)
        CHECK(cd_buf_length(&cd_container(l, cd_stream, link)->in) <= most);
}

/* While it stands still, the peer is not suspected; afterwards it is. */
static void run_slow_application_pings(rig *r, const void *arg)
{
    (void)arg;
    wire *w = open_ws(r, "pull; accept; go; pull; pull; pull; go; leave");
    for (int i = 0; i < 5; i++)
        FEED(w, BINARY, "0123456789012345678901234567890123456789");
    check_input(r, 2 * 48);
    for (int i = 0; i < 10; i++)
        rig_advance(r, 21);
    rig_go(r);
    rig_advance(r, 21);
    rig_go(r);
    rig_advance(r, 21);
    rig_advance(r, 31);
}

/* The peer does not read: send waits above write_high_water. */
static void run_slow_peer(rig *r, const void *arg)
{
    (void)arg;
    wire *w = open_ws(r, "pull; accept; go; bytes 60000; bytes 60000; text third; leave");
    if (w)
        w->room = 0;
    rig_go(r);
    wire_room(w, 100);
    wire_room(w, SIZE_MAX);
    feed_close(w);
}

static void run_blocked_then_gone(rig *r, const void *arg)
{
    (void)arg;
    r->script = "pull; accept; go; bytes 70000; text late; leave";
    wire *w = wire_open(r);
    wire_text(w, REQUEST);
    if (w)
        w->room = 0;
    rig_go(r);
    wire_reset(w);
}

/* A flood of pings that nobody reads the answers of: some, and then the newest. */
static void run_ping_flood(rig *r, const void *arg)
{
    (void)arg;
    wire *w = open_ws(r, "pull; accept; leave");
    if (w)
        w->room = 0;
    for (int i = 0; i < 40; i++) {
        char number[24];
        snprintf(number, sizeof number, "ping %03d", i);
        feed_frame(w, PING, number, 8);
    }
    if (alive(w))
        CHECK(w->transport.conn->out.size <= 110);
    wire_room(w, SIZE_MAX);
    feed_close(w);
}

/* Silence, ping, pong; half a frame counts as life; silence, ping, the end. */
static void run_pings(rig *r, const void *arg)
{
    (void)arg;
    wire *w = open_ws(r, "wsecho");
    rig_advance(r, 19);
    CHECK_STR(wire_output(w), "");
    rig_advance(r, 1.5);
    FEED(w, PONG, "");
    rig_advance(r, 19);
    wire_feed(w, "\x81", 1);
    rig_advance(r, 19);
    wire_take(w);
    rig_advance(r, 1.5);
    if (alive(w))
        check_bytes(__FILE__, __LINE__, "a ping", wire_output(w), w->output.n, "\x89\x00", 2);
    rig_advance(r, 29);
    if (alive(w))
        check_bytes(__FILE__, __LINE__, "one ping", wire_output(w), w->output.n, "\x89\x00", 2);
    rig_advance(r, 1.5);
    if (w)
        CHECK(w->closed);
}

static void run_age(rig *r, const void *arg)
{
    (void)arg;
    wire *w = open_ws(r, "wsecho");
    for (int i = 0; i < 9; i++) {
        FEED(w, PING, "");
        rig_advance(r, 11);
    }
    wire_take(w);
    rig_advance(r, 11);
    feed_close(w);
}

static void run_no_answer(rig *r, const void *arg)
{
    const bool *reads = arg;
    wire *w = open_ws(r, "pull; accept; go; close 3000; leave");
    if (w && !*reads)
        w->room = 0;
    rig_go(r);
    rig_advance(r, 4.5);
    if (w && r->apps)
        CHECK(alive(w));
    rig_advance(r, 1);
    rig_advance(r, 2.5);
    if (w)
        CHECK(w->closed);
}

static void run_drain(rig *r, const void *arg)
{
    (void)arg;
    wire *w = open_ws(r, "pull; accept; go; text late; close 1000; leave");
    FEED(w, TEXT, "a");
    cd_server_drain(r->server);
    rig_settle(r);
    rig_go(r);
    FEED(w, CLOSE, "\x03\xe9");
}

static void run_drain_before_accept(rig *r, const void *arg)
{
    (void)arg;
    wire *w = open_ws(r, "pull; go; accept; leave");
    cd_server_drain(r->server);
    rig_settle(r);
    rig_go(r);
    FEED(w, CLOSE, "\x03\xe9");
}

/* What was received is delivered, also when the connection has been freed long ago. */
static void run_unread(rig *r, const void *arg)
{
    (void)arg;
    wire *w = open_ws(r, "pull; accept; go; leave");
    FEED(w, TEXT, "a");
    FEED(w, BINARY, "b");
    FEED(w, CLOSE,
         "\x0f\xa0"
         "done");
    wire_eof(w);
    if (w)
        CHECK(w->closed);
    rig_go(r);
}

/* The peer closes while the application works on a message: the answer waits, but not for ever. */
static void run_busy(rig *r, const void *arg)
{
    const double *seconds = arg;
    wire *w = open_ws(r, "pull; accept; pull; go; text result; leave");
    FEED(w, TEXT, "question");
    feed_close(w);
    rig_advance(r, *seconds);
    rig_go(r);
}

/* Frames may follow the request at once (they should not); they wait for the accept. */
static void run_early(rig *r, const void *arg)
{
    (void)arg;
    r->script = "go; wsecho";
    wire *w = wire_open(r);
    text t = {0};
    text_add(&t, REQUEST, sizeof REQUEST - 1);
    add_frame(&t, TEXT, "early", 5);
    wire_feed(w, t.p, t.n);
    text_free(&t);
    rig_go(r);
    FEED(w, TEXT, "late");
    feed_close(w);
}

static void run_connect_timeout(rig *r, const void *arg)
{
    (void)arg;
    wire *w = open_ws(r, "go");
    rig_advance(r, 5.5);
    wire_eof(w);
    rig_advance(r, 9);
    if (w && r->gone < r->opened)
        CHECK_INT(r->opened - r->gone, 1);
    rig_advance(r, 1.5);
}

static void run_leaves_before_accept(rig *r, const void *arg)
{
    (void)arg;
    wire *w = open_ws(r, "pull; go; accept; leave");
    wire_eof(w);
    rig_go(r);
}

static void run_reset(rig *r, const void *arg)
{
    (void)arg;
    wire *w = open_ws(r, "wsecho");
    FEED(w, TEXT_PART, "half");
    wire_reset(w);
}

static void feed_limit(rig *r, const frame *frames)
{
    r->level = CD_INFO;
    wire *w = open_ws(r, "wsecho");
    for (const frame *f = frames; f->p; f++)
        feed_frame(w, f->first, f->p, f->n);
}

static void run_limits(rig *r, const void *arg)
{
    feed_limit(r, arg);
}

static cd_config defaults(void)
{
    cd_config config = {.access_fd = -1};
    config.limits = cd_config_default.limits;
    return config;
}

static void check_limits(void)
{
    static const frame fits[] = {
        F(BINARY, "12345"), F(BINARY_PART, "12345"), F(LAST, "67890"), F(CLOSE, ""), {0}};
    static const frame frame_limit[] = {F(BINARY, "123456"), {0}};
    static const frame message_limit[] = {
        F(BINARY_PART, "12345"), F(PART, "12345"), F(LAST, "1"), {0}};
    static const frame empty_limit[] = {F(BINARY_PART, ""), F(PART, ""), F(PART, ""), F(PART, ""),
                                        F(PART, ""),        F(PART, ""), F(PART, ""), F(PART, ""),
                                        F(PART, ""),        F(PART, ""), F(PART, ""), {0}};
#define TOO_BIG(what) \
    CONNECTED "log 20 WebSocket of 192.0.2.7 failed with 1009: " what "\n" FAULT("1006")
    cd_config config = defaults();
    config.limits.websocket_max_frame_size = 5;
    config.limits.websocket_max_message_size = 10;
    rig_configure(&config);
    check_scenario("within the limits", run_limits, fits,
                   CONNECTED "1 bytes 12345\n1 bytes 1234567890\n1 disconnect 1005\n" GONE, NULL,
                   0);
    check_scenario("frame limit", run_limits, frame_limit,
                   TOO_BIG("frame of 6 bytes (--websocket-max-frame-size is 5)"),
                   "\x88\x02\x03\xf1", 4);
    check_scenario("message limit", run_limits, message_limit,
                   TOO_BIG("message of 11 bytes (--websocket-max-message-size is 10)"),
                   "\x88\x02\x03\xf1", 4);
    check_scenario("empty fragments", run_limits, empty_limit,
                   TOO_BIG("message of 11 bytes (--websocket-max-message-size is 10)"),
                   "\x88\x02\x03\xf1", 4);
    rig_configure(NULL);
}

/* Round the borders of the length forms, there and back. */
static void check_sizes(void)
{
    static const size_t sizes[] = {125, 126, 127, 4000, 65535, 65536, 100000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char *p = alphabet(sizes[i], 23);
        text output = {0};
        add_output(&output, BINARY, p, sizes[i]);
        add_output(&output, TEXT, p, sizes[i]);
        add_output(&output, CLOSE, "\x03\xe8", 2);
        check_scenario("sizes", run_sizes, &sizes[i], NULL, output.p, output.n);
        text_free(&output);
        free(p);
    }
}

/* The harness sends bytes with a token: some are copied, some pinned, and all come out in order. */
static void check_pinned(void)
{
    char *p = alphabet(70000, 26);
    text output = {0};
    add_output(&output, BINARY, p, 10);
    add_output(&output, BINARY, p, 10000);
    add_output(&output, TEXT, "hi", 2);
    add_output(&output, BINARY, p, 70000);
    add_output(&output, BINARY, p, 0);
    add_output(&output, CLOSE, "\x03\xe8", 2);
    check_scenario("pinned", run_pinned, NULL, CONNECTED "1 disconnect 1000\n" GONE, output.p,
                   output.n);
    text_free(&output);
    add_output(&output, BINARY, p, 60000);
    add_output(&output, BINARY, p, 60000);
    add_output(&output, TEXT, "third", 5);
    add_output(&output, CLOSE, "\x03\xe8", 2);
    check_scenario("slow peer", run_slow_peer, NULL, CONNECTED "1 disconnect 1000\n" GONE, output.p,
                   output.n);
    text_free(&output);
    free(p);
}

static void check_slow_application(void)
{
    char p[201];
    memset(p, 'x', sizeof p);
    p[200] = '\0';
    text trace = {0}, output = {0};
    text_format(&trace, "%s", CONNECTED);
    for (int i = 0; i < 50; i++) {
        text_format(&trace, "1 text %s\n", p);
        add_output(&output, TEXT, p, 200);
    }
    text_format(&trace, "1 disconnect 1000\n%s", GONE);
    add_output(&output, CLOSE, "\x03\xe8", 2);
    check_scenario("slow application", run_slow_application, NULL, trace.p, output.p, output.n);
    text_free(&trace);
    text_free(&output);
}

static void check_ping_flood(void)
{
    text output = {0};
    for (int i = 0; i < 40; i++) {
        char number[24];
        snprintf(number, sizeof number, "ping %03d", i);
        if (i < 10 || i == 39)
            add_output(&output, PONG, number, 8);
    }
    add_output(&output, CLOSE, "\x03\xe8", 2);
    check_scenario("ping flood", run_ping_flood, NULL, CONNECTED "1 disconnect 1000\n" GONE,
                   output.p, output.n);
    text_free(&output);
}

static void check_flow(void)
{
    cd_config config = defaults();
    config.limits.websocket_high_water = 1000;
    rig_configure(&config);
    check_slow_application();
    config.limits.websocket_high_water = 90;
    rig_configure(&config);
#define SLOW "1 bytes 0123456789012345678901234567890123456789\n"
    check_scenario("slow application and pings", run_slow_application_pings, NULL,
                   CONNECTED SLOW SLOW SLOW SLOW SLOW "1 disconnect 1006\n" GONE, NULL, 0);
    config = defaults();
    config.limits.write_low_water = 100;
    rig_configure(&config);
    check_ping_flood();
    rig_configure(NULL);
    check_pinned();
    check_scenario("blocked, then gone", run_blocked_then_gone, NULL,
                   CONNECTED "1 text -> GONE\n1 disconnect 1006\n" GONE, NULL, 0);
}

static void check_time(void)
{
    static const bool reads[] = {true, false};
    check_scenario("pings", run_pings, NULL, CONNECTED "1 disconnect 1006\n" GONE, NULL, 0);
    check_scenario("no answer to close", run_no_answer, &reads[0],
                   CONNECTED "1 disconnect 1006\n" GONE, "\x88\x02\x0b\xb8", 4);
    check_scenario("no answer and no reading", run_no_answer, &reads[1],
                   CONNECTED "1 disconnect 1006\n" GONE, "", 0);
    check_scenario("connect timeout", run_connect_timeout, NULL,
                   OPENED
                   "access connecting /ws 0 0\nlog 30 Application neither accepted nor closed in "
                   "time (--websocket_connect_timeout): WebSocket /ws\naccess rejected /ws 503 24\n"
                   "access disconnected /ws 503 24\n1 cancel client-gone\n1 gone\n",
                   PAGE("503 Service Unavailable", "24", CLOSING),
                   sizeof PAGE("503 Service Unavailable", "24", CLOSING) - 1);
    cd_config config = defaults();
    config.limits.websocket_timeout = 105;
    rig_configure(&config);
    check_scenario("age", run_age, NULL, CONNECTED "1 disconnect 1000\n" GONE,
                   "\x88\x15\x03\xe8maximum age reached", 23);
    rig_configure(NULL);
}

static void check_order(void)
{
    check_scenario("drain", run_drain, NULL,
                   CONNECTED "1 text -> GONE\n1 close -> GONE\n1 text a\n1 disconnect 1001\n" GONE,
                   "\x88\x02\x03\xe9", 4);
    check_scenario("drain before accept", run_drain_before_accept, NULL,
                   OPENED "1 connect\naccess connecting /ws 0 0\n1 disconnect 1001\n"
                          "access connected /ws 101 0\n" GONE,
                   SWITCHED "\x88\x02\x03\xe9", sizeof SWITCHED "\x88\x02\x03\xe9" - 1);
    check_scenario("unread when the connection ends", run_unread, NULL,
                   CONNECTED "access disconnected /ws 101 0\n1 text a\n1 bytes b\n"
                             "1 disconnect 4000 done\n1 gone\n",
                   "\x88\x02\x0f\xa0", 4);
    static const double soon = 4, late = 6;
    check_scenario("closed while busy", run_busy, &soon,
                   CONNECTED "1 text question\n1 disconnect 1000\n" GONE,
                   "\x81\x06result\x88\x02\x03\xe8", 12);
    check_scenario("closed while busy for long", run_busy, &late,
                   CONNECTED "1 text question\naccess disconnected /ws 101 0\n1 text -> GONE\n"
                             "1 disconnect 1000\n1 gone\n",
                   "\x88\x02\x03\xe8", 4);
    check_scenario("early frames", run_early, NULL,
                   OPENED "access connecting /ws 0 0\n1 connect\naccess connected /ws 101 0\n"
                          "1 text early\n1 text late\n1 disconnect 1000\n" GONE,
                   NULL, 0);
    check_scenario("leaves before accept", run_leaves_before_accept, NULL,
                   OPENED "1 connect\naccess connecting /ws 0 0\naccess disconnected /ws 0 0\n"
                          "1 accept -> GONE\n1 disconnect 1006\n1 gone\n",
                   "", 0);
    check_scenario("reset", run_reset, NULL, CONNECTED "1 disconnect 1006\n" GONE, NULL, 0);
}

static void check_head(void)
{
    cd_config config = defaults();
    config.server_header = "cdaphne";
    config.date_header = true;
    rig_configure(&config);
    static const char want[] =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Protocol: b\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
        "set-cookie: a=1\r\nSERVER: mine\r\n\r\n";
    check_scenario(
        "101 with the application's headers", run_accept_head, NULL,
        OPENED_WITH(" a,b") " [sec-websocket-protocol: a, b]\n"
                            "1 connect\naccess connecting /ws 101 0\naccess connected /ws 101 0\n"
                            "1 disconnect 1006\n" GONE,
        want, sizeof want - 1);
    rig_configure(NULL);
}

/* ---- cost ---- */

static double cpu_seconds(void)
{
    struct timespec t;
    syscall(SYS_clock_gettime, CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* A message of n fragments of one byte, once. */
static double fragments_cost(size_t n)
{
    text t = {0};
    add_frame(&t, BINARY_PART, "x", 1);
    for (size_t i = 0; i < n; i++)
        add_frame(&t, PART, "x", 1);
    rig *r = rig_new(CUT_WHOLE, 1);
    wire *w = open_ws(r, "wsecho");
    double start = cpu_seconds();
    wire_feed(w, t.p, t.n);
    double cost = cpu_seconds() - start;
    CHECK(alive(w));
    text_free(&t);
    rig_free(r);
    return cost;
}

/* Reassembly is linear: twice the fragments cost twice the time, not four times. The best of five,
 * because others run here too. */
static void check_cost(void)
{
    double best[2] = {1e9, 1e9};
    for (int i = 0; i < 10; i++) {
        double cost = fragments_cost(i % 2 ? 200000 : 100000);
        if (cost < best[i % 2])
            best[i % 2] = cost;
    }
    check_that(best[1] < 3 * best[0], __FILE__, __LINE__, "100000 fragments: %g s, 200000: %g s",
               best[0], best[1]);
}

int main(void)
{
    for (size_t i = 0; i < sizeof messages / sizeof *messages; i++)
        check_case(&messages[i]);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        check_case(&faults[i]);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        check_case(&ends[i]);
    for (size_t i = 0; i < sizeof handshakes / sizeof *handshakes; i++)
        check_simple(&handshakes[i]);
    check_head();
    check_limits();
    check_sizes();
    check_flow();
    check_time();
    check_order();
    check_cost();
    return check_summary();
}
