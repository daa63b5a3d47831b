/*
 * Tests of HTTP/1 over time: timers, keep-alive, pipelining, flow control, shutdown, and peers that
 * leave.
 *
 * A row is a conversation: what the peer and the clock do, in order. The trace ends with the state
 * of the wire: open, fin (the server said FIN and lingers), closed, or reset.
 */
#include "harness.h"
#include "http1/http1.h"

#define ROWS(table) (sizeof(table) / sizeof *(table))
#define HEAD "GET / HTTP/1.1\r\nHost: a\r\n"
#define GET HEAD "\r\n"
#define POST "POST / HTTP/1.1\r\nHost: a\r\n"
#define OPEN "open 1.1 GET / [host: a]\n"
#define HELLO "body;start 200;last hello"
#define OUT(size, body) "HTTP/1.1 200 OK\r\ncontent-length: " size "\r\n\r\n" body
#define OUT_CLOSE(size, body) \
    "HTTP/1.1 200 OK\r\ncontent-length: " size "\r\nconnection: close\r\n\r\n" body
#define HELLO_OUT OUT("5", "hello")
#define CHUNKED_OUT "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
#define PAGE(status, size, reason)                                                  \
    "HTTP/1.1 " status " " reason "\r\ncontent-type: text/plain; charset=utf-8\r\n" \
    "content-length: " size "\r\nconnection: close\r\n\r\n" status " " reason "\n"
#define PAGE408 PAGE("408", "20", "Request Timeout")
#define GONE(n) n " body \n" n " end\naccess complete / 200 5\n" n " gone\n"

enum kind { END, FEED, FILL, WAIT, GO, EOF_, RESET, ROOM, DRAIN, CANCEL };

typedef struct {
    enum kind kind;
    const char *text; /* FEED */
    double n;         /* FILL: bytes of 'x'; WAIT: seconds; ROOM: bytes, negative for no limit */
} step;

#define SAY(what) {FEED, what, 0}
#define SECONDS(n) {WAIT, NULL, n}
#define BYTES(n) {FILL, NULL, n}
#define DO(kind) {kind, NULL, 0}
#define TAKE(n) {ROOM, NULL, n}

typedef struct {
    const char *name, *script;
    step steps[16];
    const char *trace, *output;
} conversation;

static void fill(wire *w, size_t n)
{
    char *bytes = malloc(n);
    memset(bytes, 'x', n);
    wire_feed(w, bytes, n);
    free(bytes);
}

static void take_step(rig *r, wire *w, const step *s)
{
    switch (s->kind) {
    case FEED:
        wire_text(w, s->text);
        break;
    case FILL:
        fill(w, (size_t)s->n);
        break;
    case WAIT:
        rig_advance(r, s->n);
        break;
    case GO:
        rig_go(r);
        break;
    case EOF_:
        wire_eof(w);
        break;
    case RESET:
        wire_reset(w);
        break;
    case ROOM:
        wire_room(w, s->n < 0 ? SIZE_MAX : (size_t)s->n);
        break;
    case DRAIN:
        cd_server_drain(r->server);
        rig_settle(r);
        break;
    case CANCEL:
        cd_server_cancel(r->server);
        rig_settle(r);
        break;
    case END:
        break;
    }
}

static const char *state_of(const wire *w)
{
    if (w == NULL || w->was_reset)
        return "reset";
    return w->closed ? "closed" : w->fin ? "fin" : "open";
}

static void run_conversation(rig *r, const void *arg)
{
    const conversation *c = arg;
    r->script = c->script;
    wire *w = wire_open(r);
    for (const step *s = c->steps; s->kind != END; s++)
        take_step(r, w, s);
    rig_trace(r); /* flushes pieces of a body before the line of ours */
    text_format(&r->trace, "wire %s\n", state_of(w));
}

static const conversation timers[] = {
    {"silence is waited for", HELLO, {SECONDS(29)}, "wire open\n", ""},
    {"silence is closed quietly", HELLO, {SECONDS(31)}, "wire closed\n", ""},
    {"slowloris",
     HELLO,
     {SAY("G"), SECONDS(10), SAY("E"), SECONDS(10), SAY("T"), SECONDS(11), SAY(" "), SECONDS(1)},
     "wire fin\n",
     PAGE408},
    {"head in time",
     HELLO,
     {SAY("GET /"), SECONDS(29), SAY(" HTTP/1.1\r\nHost: a\r\n\r\n")},
     "1 " OPEN GONE("1") "wire open\n",
     HELLO_OUT},
    {"keep-alive",
     HELLO,
     {SAY(GET), SECONDS(74), SAY(GET)},
     "1 " OPEN GONE("1") "2 " OPEN GONE("2") "wire open\n",
     HELLO_OUT HELLO_OUT},
    {"keep-alive ends",
     HELLO,
     {SAY(GET), SECONDS(76), SAY(GET)},
     "1 " OPEN GONE("1") "wire closed\n",
     HELLO_OUT},
    {"second head has its own time",
     HELLO,
     {SAY(GET), SECONDS(70), SAY("GET"), SECONDS(29)},
     "1 " OPEN GONE("1") "wire open\n",
     HELLO_OUT},
    {"second head too slow",
     HELLO,
     {SAY(GET), SECONDS(70), SAY("GET"), SECONDS(31)},
     "1 " OPEN GONE("1") "wire fin\n",
     HELLO_OUT PAGE408},
    {"linger ends",
     HELLO,
     {SAY("BREW\r\n"), SECONDS(1.5), SECONDS(1)},
     "wire closed\n",
     PAGE("501", "20", "Not Implemented")},
    {"linger ends with EOF",
     HELLO,
     {SAY("BREW\r\n"), SAY("more"), DO(EOF_)},
     "wire closed\n",
     PAGE("501", "20", "Not Implemented")},
    {"slow body",
     "body;go",
     {SAY(POST "Content-Length: 9999\r\n\r\nab"), SECONDS(21)},
     "1 open 1.1 POST / [host: a] [content-length: 9999]\n1 body ab\n1 disconnect\n"
     "access complete / 408 20\nwire fin\n",
     PAGE408},
    {"slow body to an application that answers",
     "start 200;write hello;body;go",
     {SAY(POST "Content-Length: 9999\r\n\r\nab"), SECONDS(21)},
     "1 open 1.1 POST / [host: a] [content-length: 9999]\n1 body ab\n1 disconnect\n"
     "access complete / 200 5\nwire reset\n",
     CHUNKED_OUT "5\r\nhello\r\n"},
    {"body at its least rate",
     HELLO,
     {SAY(POST "Content-Length: 9700\r\n\r\n"), BYTES(4850), SECONDS(20.5), BYTES(4849),
      SECONDS(20.5), SECONDS(19), SAY("x")},
     NULL,
     HELLO_OUT},
    {"nobody reads the body",
     "go;" HELLO,
     {SAY(POST "Content-Length: 200000\r\n\r\n"), BYTES(199999), SECONDS(1000), DO(GO), SAY("x")},
     NULL,
     HELLO_OUT},
    {"application that takes long",
     "go;" HELLO,
     {SAY(GET), SECONDS(100000), DO(GO)},
     "1 " OPEN GONE("1") "wire open\n",
     HELLO_OUT},
};

static const conversation peers[] = {
    {"reset while it computes",
     "leave;start 200",
     {SAY(GET), DO(RESET)},
     "1 " OPEN
     "1 body \n1 end\n1 disconnect\n1 start -> GONE\naccess complete / 0 0\n1 gone\nwire reset\n",
     ""},
    {"client leaves, application stays",
     "body;go",
     {SAY(GET), DO(EOF_), DO(RESET), SECONDS(1), SECONDS(8), SECONDS(2)},
     "1 " OPEN "1 body \n1 end\naccess complete / 0 0\n1 cancel client-gone\n1 gone\nwire reset\n",
     ""},
    {"client leaves in the response",
     "start 200;write hello;leave;last x",
     {SAY(GET), DO(EOF_), DO(RESET), SECONDS(1)},
     "1 " OPEN "1 body \n1 end\n1 disconnect\n1 last -> GONE\naccess complete / 200 5\n1 gone\n"
     "wire reset\n",
     CHUNKED_OUT "5\r\nhello\r\n0"},
    {"client leaves behind pipelined requests",
     "go;" HELLO,
     {SAY(GET GET GET), DO(EOF_), DO(RESET), SECONDS(1), DO(GO)},
     "1 " OPEN "access complete / 0 0\n1 disconnect\n1 start -> GONE\n1 last -> GONE\n1 gone\n"
     "wire reset\n",
     ""},
    {"EOF between requests",
     HELLO,
     {SAY(GET), DO(EOF_)},
     "1 " OPEN GONE("1") "wire closed\n",
     HELLO_OUT},
    {"reset between requests",
     HELLO,
     {SAY(GET), DO(RESET)},
     "1 " OPEN GONE("1") "wire reset\n",
     HELLO_OUT},
};

static const conversation order[] = {
    {"three at once",
     HELLO,
     {SAY(GET GET GET)},
     "1 " OPEN GONE("1") "2 " OPEN GONE("2") "3 " OPEN GONE("3") "wire open\n",
     HELLO_OUT HELLO_OUT HELLO_OUT},
    {"the next waits for the response",
     "go;" HELLO,
     {SAY(GET GET), DO(GO)},
     "1 " OPEN GONE("1") "2 " OPEN "wire open\n",
     HELLO_OUT},
    {"bodies in between",
     "body;start 200;last hello",
     {SAY(POST "Content-Length: 3\r\n\r\nabc" POST
               "Transfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n" GET)},
     "1 open 1.1 POST / [host: a] [content-length: 3]\n1 body abc\n1 end\naccess complete / 200 "
     "5\n1 gone\n"
     "2 open 1.1 POST / [host: a] [transfer-encoding: chunked]\n2 body de\n2 end\n"
     "access complete / 200 5\n2 gone\n3 " OPEN GONE("3") "wire open\n",
     HELLO_OUT HELLO_OUT HELLO_OUT},
    {"more than pipeline_depth",
     HELLO,
     {SAY(GET GET GET GET GET GET GET GET GET GET GET GET GET GET GET GET GET GET GET GET)},
     NULL,
     HELLO_OUT HELLO_OUT HELLO_OUT HELLO_OUT HELLO_OUT HELLO_OUT HELLO_OUT HELLO_OUT HELLO_OUT
         HELLO_OUT HELLO_OUT HELLO_OUT HELLO_OUT HELLO_OUT HELLO_OUT HELLO_OUT HELLO_OUT HELLO_OUT
             HELLO_OUT HELLO_OUT},
    {"the next waits for the output",
     "start 200;lastpin 70000",
     {TAKE(0), SAY(GET GET)},
     "1 " OPEN "access complete / 200 70000\n1 gone\nwire open\n",
     ""},
    {"and goes on when it is taken",
     "start 200;lastpin 70000",
     {TAKE(0), SAY(GET GET), TAKE(-1)},
     "1 " OPEN "access complete / 200 70000\n1 gone\n2 " OPEN
     "access complete / 200 70000\n2 gone\nwire open\n",
     NULL},
    {"slow reader is not idle",
     "start 200;lastpin 70000",
     {TAKE(0), SAY(GET), TAKE(40000), SECONDS(50), TAKE(20000), SECONDS(50), TAKE(-1), SAY(GET)},
     NULL,
     NULL},
    {"a bad one after a good one",
     HELLO,
     {SAY(GET "BREW / HTTP/1.1\r\n\r\n" GET)},
     "1 " OPEN GONE("1") "wire fin\n",
     HELLO_OUT PAGE("501", "20", "Not Implemented")},
    {"1.0 keep-alive",
     HELLO,
     {SAY("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n")},
     NULL,
     "HTTP/1.0 200 OK\r\ncontent-length: 5\r\nconnection: keep-alive\r\n\r\nhello"
     "HTTP/1.0 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello"},
    {"back-pressure",
     "start 200;pin 70000;write x;pin 70000;last y",
     {TAKE(0), SAY(GET), TAKE(-1)},
     "1 " OPEN "access complete / 200 140002\n1 gone\nwire open\n",
     NULL},
    {"send waits",
     "start 200;pin 70000;write x;last y",
     {TAKE(0), SAY(GET)},
     "1 " OPEN "wire open\n",
     ""},
    {"send waits until low water",
     "start 200;pin 70000;write x;last y",
     {TAKE(0), SAY(GET), TAKE(50000)},
     "1 " OPEN "wire open\n",
     NULL},
    {"send goes on at low water",
     "start 200;pin 70000;write x;last y",
     {TAKE(0), SAY(GET), TAKE(60000)},
     "1 " OPEN "access complete / 200 70002\n1 gone\nwire open\n",
     NULL},
    {"who waits hears of the end",
     "start 200;pin 70000;write x;last y",
     {TAKE(0), SAY(GET), DO(EOF_), DO(RESET), SECONDS(1)},
     "1 " OPEN "1 write -> GONE\n1 last -> GONE\naccess complete / 200 70000\n1 gone\nwire reset\n",
     ""},
};

#define CONTINUE "HTTP/1.1 100 Continue\r\n\r\n"
#define OLD "GET / HTTP/1.0\r\nHost: a\r\n\r\n"
#define OPEN_OLD "open 1.0 GET / [host: a]\n"

/* The client says that it sends no more, and waits for its answers. */
static const conversation half_closes[] = {
    {"at once", HELLO, {SAY(GET), DO(EOF_)}, "1 " OPEN GONE("1") "wire closed\n", HELLO_OUT},
    {"soon answered",
     "go;" HELLO,
     {SAY(GET), DO(EOF_), SECONDS(0.1), DO(GO)},
     "1 " OPEN GONE("1") "wire closed\n",
     OUT_CLOSE("5", "hello")},
    {"answered late",
     "go;" HELLO,
     {SAY(GET), DO(EOF_), SECONDS(0.25), SECONDS(50), DO(GO)},
     "1 " OPEN GONE("1") "wire closed\n",
     CONTINUE OUT_CLOSE("5", "hello")},
    {"never answered",
     "leave",
     {SAY(GET), DO(EOF_), SECONDS(59), SECONDS(2)},
     "1 " OPEN "1 body \n1 end\n1 disconnect\naccess complete / 0 0\n1 gone\nwire reset\n",
     CONTINUE},
    {"while it listens",
     "body;go;start 200;write hello;go;last x",
     {SAY(GET), DO(EOF_), SECONDS(1), DO(GO), SECONDS(50), DO(GO)},
     "1 " OPEN "1 body \n1 end\naccess complete / 200 6\n1 gone\nwire closed\n",
     CONTINUE "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
              "5\r\nhello\r\n1\r\nx\r\n0\r\n\r\n"},
    {"between two chunks",
     "start 200;write hello;go;write a;go;last",
     {SAY(GET), DO(EOF_), SECONDS(1), DO(GO), SECONDS(50), DO(GO)},
     "1 " OPEN "access complete / 200 6\n1 gone\nwire closed\n",
     CHUNKED_OUT "5\r\nhello\r\n01\r\na\r\n0\r\n\r\n"},
    {"before the last chunk",
     "start 200;write hello;go;last",
     {SAY(GET), DO(EOF_), DO(GO)},
     "1 " OPEN "access complete / 200 5\n1 gone\nwire closed\n",
     CHUNKED_OUT "5\r\nhello\r\n00\r\n\r\n"},
    {"before the trailers",
     "start 200;announce;write hello;last;go;lasttrailers a: b",
     {SAY(HEAD "TE: trailers\r\n\r\n"), DO(EOF_), SECONDS(1), DO(GO)},
     NULL,
     CHUNKED_OUT "5\r\nhello\r\n0\r\na: b\r\n\r\n"},
    {"while output waits",
     "start 200;pin 70000;lastpin 30000",
     {TAKE(0), SAY(GET), DO(EOF_), SECONDS(50), TAKE(-1)},
     "1 " OPEN "access complete / 200 100000\n1 gone\nwire closed\n",
     NULL},
    {"behind three requests",
     "go;" HELLO,
     {SAY(GET GET GET), DO(EOF_), DO(GO), DO(GO), DO(GO)},
     "1 " OPEN GONE("1") "2 " OPEN GONE("2") "3 " OPEN GONE("3") "wire closed\n",
     HELLO_OUT HELLO_OUT OUT_CLOSE("5", "hello")},
    {"in the second request",
     "go;" HELLO,
     {SAY(GET "GET / HT"), DO(EOF_), DO(GO)},
     "1 " OPEN GONE("1") "wire closed\n",
     HELLO_OUT},
    {"behind many",
     HELLO,
     {SAY(GET GET GET GET GET GET GET GET GET GET GET GET GET GET GET GET GET GET), DO(EOF_)},
     NULL,
     NULL},
    {"of HTTP/1.0",
     "body;go;start 200;last hello",
     {SAY(OLD), DO(EOF_), SECONDS(50), DO(GO)},
     "1 " OPEN_OLD "1 body \n1 end\naccess complete / 200 5\n1 gone\nwire closed\n",
     "HTTP/1.0 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello"},
    {"of HTTP/1.0, late",
     "leave;go;start 200;last hello",
     {SAY(OLD), SECONDS(1), DO(EOF_), DO(GO)},
     "1 " OPEN_OLD "1 body \n1 end\n1 disconnect\naccess complete / 200 5\n1 gone\nwire closed\n",
     "HTTP/1.0 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello"},
    {"late, in the middle of a length",
     "start 200 content-length: 10;write hello;leave;go;last world",
     {SAY(GET), SECONDS(1), DO(EOF_), DO(GO)},
     "1 " OPEN "1 body \n1 end\n1 disconnect\naccess complete / 200 10\n1 gone\nwire closed\n",
     "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhelloworld"},
    {"behind a body",
     "body;go;start 200;last hello",
     {SAY(POST "Content-Length: 5\r\n\r\nhello"), DO(EOF_), DO(GO)},
     "1 open 1.1 POST / [host: a] [content-length: 5]\n1 body hello\n1 end\n"
     "access complete / 200 5\n1 gone\nwire closed\n",
     OUT_CLOSE("5", "hello")},
};

static const conversation rests[] = {
    {"an unread body is dropped",
     "start 200;last hello",
     {SAY(POST "Content-Length: 1000\r\n\r\n"), BYTES(1000), SAY(GET)},
     "1 open 1.1 POST / [host: a] [content-length: 1000]\naccess complete / 200 5\n1 gone\n2 " OPEN
     "access complete / 200 5\n2 gone\nwire open\n",
     HELLO_OUT HELLO_OUT},
    {"an unread chunked body is dropped",
     "start 200;last hello",
     {SAY(POST "Transfer-Encoding: chunked\r\n\r\n"), SAY("5\r\nhello\r\n0\r\nX: y\r\n\r\n" GET)},
     NULL,
     HELLO_OUT HELLO_OUT},
    {"a large unread body is not",
     "start 200;last hello",
     {SAY(POST "Content-Length: 300000\r\n\r\n"), BYTES(1000)},
     "1 open 1.1 POST / [host: a] [content-length: 300000]\naccess complete / 200 5\n1 gone\nwire "
     "fin\n",
     OUT_CLOSE("5", "hello")},
    {"large, and answered in pieces",
     "start 200;write hello;last ",
     {SAY(POST "Content-Length: 300000\r\n\r\n"), BYTES(1000)},
     "1 open 1.1 POST / [host: a] [content-length: 300000]\naccess complete / 200 5\n1 gone\nwire "
     "fin\n",
     CHUNKED_OUT "5\r\nhello\r\n0\r\n\r\n"},
    {"an endless chunked body is not",
     "start 200;last hello",
     {SAY(POST "Transfer-Encoding: chunked\r\n\r\n"), SAY("fffffff\r\n"), BYTES(262145), SAY("x")},
     "1 open 1.1 POST / [host: a] [transfer-encoding: chunked]\naccess complete / 200 5\n1 "
     "gone\nwire fin\n",
     HELLO_OUT},
    {"a rest that does not come",
     "start 200;last hello",
     {SAY(POST "Content-Length: 10\r\n\r\n"), SECONDS(21)},
     "1 open 1.1 POST / [host: a] [content-length: 10]\naccess complete / 200 5\n1 gone\nwire "
     "fin\n",
     HELLO_OUT},
    {"EOF in the rest",
     "start 200;last hello",
     {SAY(POST "Content-Length: 10\r\n\r\n"), DO(EOF_)},
     "1 open 1.1 POST / [host: a] [content-length: 10]\naccess complete / 200 5\n1 gone\nwire "
     "closed\n",
     HELLO_OUT},
    {"bad chunk in the rest",
     "start 200;last hello",
     {SAY(POST "Transfer-Encoding: chunked\r\n\r\n"), SAY("x\r\n")},
     "1 open 1.1 POST / [host: a] [transfer-encoding: chunked]\naccess complete / 200 5\n1 "
     "gone\nwire fin\n",
     HELLO_OUT},
    {"answer first, read later",
     "start 200;write he;go;body;last llo",
     {SAY(POST "Content-Length: 300000\r\n\r\n"), BYTES(300000), DO(GO), SAY(GET)},
     NULL,
     NULL},
};

#define EXPECT POST "Content-Length: 3\r\nExpect: 100-continue\r\n\r\n"
#define OPEN_EXPECT "1 open 1.1 POST / [host: a] [content-length: 3] [expect: 100-continue]\n"
#define CONTINUE "HTTP/1.1 100 Continue\r\n\r\n"

static const conversation expectations[] = {
    {"100 when the body is asked for",
     HELLO,
     {SAY(EXPECT), SAY("abc"), SAY(GET)},
     OPEN_EXPECT
     "1 body abc\n1 end\naccess complete / 200 5\n1 gone\n2 " OPEN GONE("2") "wire open\n",
     CONTINUE HELLO_OUT HELLO_OUT},
    {"100 not before", "go;" HELLO, {SAY(EXPECT)}, OPEN_EXPECT "wire open\n", ""},
    {"no deadline before",
     "go;" HELLO,
     {SAY(EXPECT), SECONDS(100), DO(GO), SAY("abc")},
     OPEN_EXPECT "1 body abc\n1 end\naccess complete / 200 5\n1 gone\nwire open\n",
     CONTINUE HELLO_OUT},
    {"but after",
     "go;body;go",
     {SAY(EXPECT), SECONDS(100), DO(GO), SECONDS(21)},
     OPEN_EXPECT "1 disconnect\naccess complete / 408 20\nwire fin\n",
     CONTINUE PAGE408},
    {"none when it is not",
     "start 200;last hello",
     {SAY(EXPECT)},
     OPEN_EXPECT "access complete / 200 5\n1 gone\nwire fin\n",
     OUT_CLOSE("5", "hello")},
    {"none after the response began",
     "start 200;write he;body;go",
     {SAY(EXPECT), SAY("abc")},
     OPEN_EXPECT "1 body abc\n1 end\nwire open\n",
     "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n2\r\nhe\r\n"},
    {"one 100 only",
     "pull;pull;pull;go",
     {SAY(EXPECT), SAY("a"), SAY("b"), SAY("c")},
     OPEN_EXPECT "1 body abc\n1 end\nwire open\n",
     CONTINUE},
    {"the peer does not wait",
     "go;" HELLO,
     {SAY(EXPECT), SAY("abc"), DO(GO)},
     OPEN_EXPECT "1 body abc\n1 end\naccess complete / 200 5\n1 gone\nwire open\n",
     HELLO_OUT},
    {"time runs although nothing was sent",
     "start 200;write he;body;go",
     {SAY(EXPECT), SECONDS(21)},
     OPEN_EXPECT "1 disconnect\naccess complete / 200 2\nwire reset\n",
     NULL},
    {"time runs for a peer that did not wait",
     "go;body;go",
     {SAY(EXPECT), SAY("a"), DO(GO), SECONDS(21)},
     OPEN_EXPECT "1 body a\n1 disconnect\naccess complete / 408 20\nwire fin\n",
     PAGE408},
    {"1.0 has no expectations",
     HELLO,
     {SAY("POST / HTTP/1.0\r\nContent-Length: 3\r\nExpect: x\r\n\r\n"), SAY("abc")},
     NULL,
     "HTTP/1.0 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello"},
};

static const conversation breaks[] = {
    {"longer later",
     "start 200 content-length: 4;write he;write lloo;last x",
     {SAY(GET)},
     "1 " OPEN "1 write -> LENGTH\n1 last -> GONE\naccess complete / 200 2\n"
     "log 40 Response body longer than its Content-Length of 4: GET /, status 200\n1 gone\nwire "
     "reset\n",
     NULL},
    {"shorter later",
     "start 200 content-length: 4;write he;last l",
     {SAY(GET)},
     "1 " OPEN "1 last -> LENGTH\naccess complete / 200 2\n"
     "log 40 Response body shorter than its Content-Length of 4: GET /, status 200\n1 gone\nwire "
     "reset\n",
     NULL},
    {"raises in the response",
     "start 200;write hello;go;fail",
     {SAY(GET), DO(GO)},
     "1 " OPEN "access complete / 200 5\n1 gone\nwire reset\n",
     CHUNKED_OUT "5\r\nhello\r\n"},
    {"returns in the response",
     "start 200;write hello;go",
     {SAY(GET), DO(GO)},
     "1 " OPEN "log 40 Application ended without completing its response: GET /\n"
     "access complete / 200 5\n1 gone\nwire reset\n",
     CHUNKED_OUT "5\r\nhello\r\n"},
    {"returns in the response when the server stops",
     "start 200;write hello;go",
     {SAY(GET), DO(DRAIN), DO(GO)},
     "1 " OPEN "access complete / 200 5\n1 gone\nwire fin\n",
     CHUNKED_OUT "5\r\nhello\r\n"},
    {"aborts",
     "abort;leave",
     {SAY(GET)},
     "1 " OPEN "1 body \n1 end\n1 disconnect\naccess complete / 0 0\n1 gone\nwire reset\n",
     ""},
    {"aborts its response",
     "start 200;write hello;go;abort;last x",
     {SAY(GET), DO(GO)},
     "1 " OPEN "1 last -> GONE\naccess complete / 200 5\n1 gone\nwire reset\n",
     CHUNKED_OUT "5\r\nhello\r\n"},
    {"an aborter may stay",
     "abort;go",
     {SAY(GET), SECONDS(100)},
     "1 " OPEN "access complete / 0 0\nwire reset\n",
     ""},
    {"an answerer may stay",
     HELLO ";go;leave",
     {SAY(GET), SECONDS(50), SAY(GET), SECONDS(50), DO(GO)},
     "1 " OPEN "1 body \n1 end\naccess complete / 200 5\n2 " OPEN
     "2 body \n2 end\naccess complete / 200 5\n2 disconnect\n1 disconnect\n2 gone\n1 gone\nwire "
     "open\n",
     HELLO_OUT HELLO_OUT},
};

static const conversation shutdowns[] = {
    {"fresh",
     HELLO,
     {DO(DRAIN), SAY(GET)},
     "1 " OPEN GONE("1") "wire fin\n",
     OUT_CLOSE("5", "hello")},
    {"fresh and silent", HELLO, {DO(DRAIN), SECONDS(1)}, "wire open\n", ""},
    {"fresh for too long", HELLO, {DO(DRAIN), SECONDS(3)}, "wire closed\n", ""},
    {"idle after a request",
     HELLO,
     {SAY(GET), DO(DRAIN), SECONDS(0.2)},
     "1 " OPEN GONE("1") "wire closed\n",
     HELLO_OUT},
    {"cut with output left",
     HELLO,
     {TAKE(10), SAY(GET), DO(DRAIN), DO(CANCEL)},
     "1 " OPEN GONE(
         "1") "log 30 Cut at shutdown: connection of 192.0.2.7, with 33 bytes waiting for it "
              "(--graceful-timeout)\nwire reset\n",
     NULL},
    {"the next request is under way",
     HELLO,
     {SAY(GET), DO(DRAIN), SAY(GET)},
     "1 " OPEN GONE("1") "2 " OPEN GONE("2") "wire fin\n",
     HELLO_OUT OUT_CLOSE("5", "hello")},
    {"still reading the last response",
     HELLO,
     {TAKE(10), SAY(GET), DO(DRAIN), SECONDS(0.2), TAKE(-1)},
     "1 " OPEN GONE("1") "wire closed\n",
     HELLO_OUT},
    {"running",
     "go;" HELLO,
     {SAY(GET GET), DO(DRAIN), DO(GO)},
     "1 " OPEN GONE("1") "wire fin\n",
     OUT_CLOSE("5", "hello")},
    {"answering",
     "start 200;write hello;go;last ",
     {SAY(GET), DO(DRAIN), DO(GO)},
     "1 " OPEN "access complete / 200 5\n1 gone\nwire fin\n",
     CHUNKED_OUT "5\r\nhello\r\n0\r\n\r\n"},
    {"half a head",
     HELLO,
     {SAY(HEAD), DO(DRAIN), SAY("\r\n")},
     "1 " OPEN GONE("1") "wire fin\n",
     OUT_CLOSE("5", "hello")},
    {"half a body",
     HELLO,
     {SAY(POST "Content-Length: 3\r\n\r\na"), DO(DRAIN), SAY("bc")},
     NULL,
     OUT_CLOSE("5", "hello")},
    {"unread rest",
     "start 200;last hello",
     {SAY(POST "Content-Length: 3\r\n\r\n"), DO(DRAIN)},
     NULL,
     HELLO_OUT},
    {"cancelled", "body;go", {SAY(GET), DO(DRAIN), DO(CANCEL)}, NULL, ""},
};

static void check_all(const conversation *rows, size_t count)
{
    for (size_t i = 0; i < count; i++)
        check_scenario(rows[i].name, run_conversation, &rows[i], rows[i].trace, rows[i].output,
                       rows[i].output ? strlen(rows[i].output) : 0);
}

#define CHECK_ALL(table) check_all(table, ROWS(table))

/* An application that takes a turn from inside a callback: what the callback stands on must outlive
 * the connection and the application's end. */
static const conversation turns_inside[] = {
    {"in on_open", "inside;inside;leave", {SAY(GET)}, NULL, ""},
    {"in on_ready",
     "body;inside;inside;inside",
     {SAY(POST "Content-Length: 3\r\n\r\n"), SAY("abc")},
     NULL,
     NULL},
    {"with an answer", "body;inside;start 200;last hello", {SAY(GET)}, NULL, NULL},
    {"behind the answer", "body;start 200;last hello;inside;inside", {SAY(GET)}, NULL, NULL},
    {"of two, one after the other", "body;inside;leave", {SAY(GET GET)}, NULL, NULL},
};

static const conversation http_timeouts[] = {
    {"503",
     "body;go",
     {SAY(GET), SECONDS(4), SECONDS(2)},
     "1 " OPEN "1 body \n1 end\n"
     "log 30 Application timed out before its response: GET / (--http-timeout)\n"
     "access complete / 503 24\nwire fin\n",
     PAGE("503", "24", "Service Unavailable")},
    {"503 instead of a held start",
     "start 200 x: y;leave;write x",
     {SAY(GET), SECONDS(6)},
     "1 " OPEN "1 body \n1 end\n"
     "log 30 Application timed out before its response: GET / (--http-timeout)\n"
     "1 disconnect\n1 write -> GONE\naccess complete / 503 24\n1 gone\nwire fin\n",
     PAGE("503", "24", "Service Unavailable")},
    {"then cancel",
     "body;go",
     {SAY(GET), SECONDS(6), SECONDS(11)},
     "1 " OPEN "1 body \n1 end\n"
     "log 30 Application timed out before its response: GET / (--http-timeout)\n"
     "access complete / 503 24\n"
     "1 cancel client-gone\n1 gone\nwire closed\n",
     PAGE("503", "24", "Service Unavailable")},
    {"in the response",
     "start 200;write hello;leave",
     {SAY(GET), SECONDS(6)},
     "1 " OPEN "1 body \n1 end\n"
     "log 30 Application timed out while sending its response: GET / (--http-timeout)\n"
     "1 disconnect\naccess complete / 200 5\n1 gone\nwire reset\n",
     CHUNKED_OUT "5\r\nhello\r\n"},
    {"answered in time",
     HELLO ";go",
     {SAY(GET), SECONDS(60)},
     "1 " OPEN "1 body \n1 end\naccess complete / 200 5\nwire open\n",
     HELLO_OUT},
};

#define CHUNKS POST "Transfer-Encoding: chunked\r\n\r\n"
#define OPEN_CHUNKS "1 open 1.1 POST / [host: a] [transfer-encoding: chunked]\n"
#define TOO_LARGE PAGE("413", "22", "Content Too Large")
#define PAGE400 PAGE("400", "16", "Bad Request")

static const conversation body_limits[] = {
    {"10 bytes", HELLO, {SAY(CHUNKS "5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n")}, NULL, HELLO_OUT},
    {"11 bytes",
     "body;go",
     {SAY(CHUNKS "5\r\nhello\r\n"), SAY("6\r\nworld!\r\n0\r\n\r\n")},
     NULL,
     TOO_LARGE},
    {"11 bytes of Content-Length",
     "body;go",
     {SAY(POST "Content-Length: 11\r\n\r\n")},
     "wire fin\n",
     TOO_LARGE},
    {"with Expect",
     "body;go",
     {SAY(POST "Expect: 100-continue\r\nContent-Length: 11\r\n\r\n")},
     "wire fin\n",
     TOO_LARGE},
    {"extensions",
     HELLO,
     {SAY(CHUNKS "1;aaaaaaaa\r\nx\r\n1;bbbbbbbbb\r\ny\r\n0\r\n\r\n")},
     NULL,
     HELLO_OUT},
    {"too many extensions",
     "body;go",
     {SAY(CHUNKS "1;aaaaaaaaa\r\nx\r\n1;bbbbbbbbbbbbbb\r\ny\r\n0\r\n\r\n")},
     OPEN_CHUNKS "1 body x\n1 disconnect\naccess complete / 400 16\nwire fin\n",
     PAGE400},
    {"endless extension",
     "body;go",
     {SAY(CHUNKS "1;"), BYTES(5000)},
     OPEN_CHUNKS "1 disconnect\naccess complete / 400 16\nwire fin\n",
     PAGE400},
    {"endless zeros",
     "body;go",
     {SAY(CHUNKS "0000000000000000000000000000000000000000000")},
     OPEN_CHUNKS "1 disconnect\naccess complete / 400 16\nwire fin\n",
     PAGE400},
    {"extension of the last chunk",
     "body;go",
     {SAY(CHUNKS "1\r\nx\r\n0;aaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n\r\n")},
     OPEN_CHUNKS "1 body x\n1 disconnect\naccess complete / 400 16\nwire fin\n",
     PAGE400},
    {"trailers", HELLO, {SAY(CHUNKS "1\r\nx\r\n0\r\nA: b\r\nC: d\r\nE:\r\n\r\n")}, NULL, HELLO_OUT},
    {"too many trailers",
     "body;go",
     {SAY(CHUNKS "1\r\nx\r\n0\r\nA: b\r\nC: d\r\nE: f\r\nG: h\r\nI: j\r\nK: l\r\n\r\n")},
     OPEN_CHUNKS "1 body x\n1 disconnect\naccess complete / 400 16\nwire fin\n",
     PAGE400},
    {"endless trailer",
     "body;go",
     {SAY(CHUNKS "1\r\nx\r\n0\r\nA: "), BYTES(5000)},
     OPEN_CHUNKS "1 body x\n1 disconnect\naccess complete / 400 16\nwire fin\n",
     PAGE400},
    {"endless blanks in a trailer",
     "body;go",
     {SAY(CHUNKS
          "1\r\nx\r\n0\r\nA:                                                               ")},
     OPEN_CHUNKS "1 body x\n1 disconnect\naccess complete / 400 16\nwire fin\n",
     PAGE400},
    {"too large after the response began",
     "start 200;write hello;body;go",
     {SAY(CHUNKS "5\r\nhello\r\n"), SAY("6\r\nworld!\r\n0\r\n\r\n")},
     OPEN_CHUNKS "1 body hello\n1 disconnect\naccess complete / 200 5\nwire reset\n",
     NULL},
};

/* With linger_timeout and drain_timeout 0. */
static const conversation no_patience[] = {
    {"no lingering",
     HELLO,
     {SAY(HEAD "Connection: close\r\n\r\n")},
     "1 open 1.1 GET / [host: a] [connection: close]\n" GONE("1") "wire closed\n",
     OUT_CLOSE("5", "hello")},
    {"idle", HELLO, {SAY(GET), DO(DRAIN)}, "1 " OPEN GONE("1") "wire closed\n", HELLO_OUT},
    {"fresh", HELLO, {DO(DRAIN)}, "wire closed\n", ""},
};

static cd_config defaults(void)
{
    cd_config config = {.access_fd = -1};
    config.limits = cd_config_default.limits;
    return config;
}

static void test_limits(void)
{
    cd_config config = defaults();
    config.limits.http_timeout = 5;
    rig_configure(&config);
    CHECK_ALL(http_timeouts);
    config = defaults();
    config.limits.max_body_size = 10;
    config.limits.max_chunk_extension_size = 20;
    config.limits.max_trailer_size = 20;
    rig_configure(&config);
    CHECK_ALL(body_limits);
    config = defaults();
    config.limits.linger_timeout = config.limits.drain_timeout = 0;
    rig_configure(&config);
    CHECK_ALL(no_patience);
    rig_configure(NULL);
}

/* ---- what a table cannot say ---- */

static void test_common_headers(void)
{
    cd_config config = defaults();
    config.date_header = true;
    config.server_header = "test/1";
    rig_configure(&config);
    rig *r = rig_new(CUT_WHOLE, 1);
    r->script = HELLO;
    wire *w = wire_open(r);
    wire_text(w, GET);
    static const char before[] = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ndate: ";
    static const char after[] = " GMT\r\nserver: test/1\r\n\r\nhello";
    const char *out = wire_output(w);
    CHECK(strncmp(out, before, sizeof before - 1) == 0);
    CHECK_STR(out + sizeof before - 1 + 25, after);
    wire_take(w);
    r->script = "start 200 Date: now| SERVER: mine;last hello";
    wire_text(w, GET);
    CHECK_STR(wire_output(w),
              "HTTP/1.1 200 OK\r\nDate: now\r\nSERVER: mine\r\ncontent-length: 5\r\n\r\nhello");
    wire_take(w);
    wire_text(w, "BREW");
    CHECK(strstr(wire_output(w), "\r\ndate: ") != NULL);
    CHECK(strstr(wire_output(w), "\r\nserver: test/1\r\n") != NULL);
    rig_free(r);
    rig_configure(NULL);
}

static void test_lenient_flags(void)
{
    rig *r = rig_new(CUT_WHOLE, 1);
    r->script = HELLO;
    wire *w = wire_open(r);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(cd_http1_of(w->transport.conn)->parser.lenient_flags, 0);
        wire_text(w, GET);
    }
    rig_free(r);
}

/* However much a peer sends to an application that reads nothing, little of it is taken off the
 * wire. */
static void test_upload_is_bounded(void)
{
    rig *r = rig_new(CUT_WHOLE, 1);
    r->script = "go;body;start 200;last hello";
    wire *w = wire_open(r);
    wire_text(w, POST "Content-Length: 10000000\r\n\r\n");
    fill(w, 10000000);
    CHECK(w->input_start < 2 * 65536 + 1000);
    CHECK_INT(w->want, 0);
    rig_go(r);
    CHECK_INT(w->input_start, w->input.n);
    CHECK_STR(wire_output(w), HELLO_OUT);
    rig_free(r);
}

static void test_pipelining_is_bounded(void)
{
    rig *r = rig_new(CUT_WHOLE, 1);
    r->script = "go";
    wire *w = wire_open(r);
    wire_text(w, GET);
    for (int i = 0; i < 20000; i++)
        text_add(&w->input, GET, sizeof GET - 1);
    rig_settle(r);
    CHECK(w->input_start < 2 * 65536);
    CHECK_INT(w->want, 0);
    rig_free(r);
}

/* request_buffer_size caps an event; the last one says that it is. */
static void test_event_size(void)
{
    cd_config config = defaults();
    config.limits.request_buffer_size = 4;
    rig_configure(&config);
    rig *r = rig_new(CUT_WHOLE, 1);
    r->script = "pull;go;pull;go;pull;go";
    wire *w = wire_open(r);
    wire_text(w, POST "Content-Length: 8\r\n\r\nabcdefgh");
    CHECK(strstr(rig_trace(r), "1 body abcd\n") != NULL);
    rig_go(r);
    CHECK(strstr(rig_trace(r), "1 body efgh\n1 end\n") != NULL);
    rig_free(r);
    rig_configure(NULL);
}

/* A client of many small pipelined requests does not keep another one waiting for all of them. */
static void test_fairness(void)
{
    rig *r = rig_new(CUT_WHOLE, 1);
    r->script = HELLO;
    wire *greedy = wire_open(r), *modest = wire_open(r);
    for (int i = 0; i < 100; i++)
        text_add(&greedy->input, GET, sizeof GET - 1);
    rig_turn(r);
    text_add(&modest->input, GET, sizeof GET - 1);
    rig_turn(r);
    CHECK(r->opened < 100);
    CHECK_STR(wire_output(modest), HELLO_OUT);
    rig_settle(r);
    CHECK_INT(r->opened, 101);
    rig_free(r);
}

static void test_wall_clock(void)
{
    rig *r = rig_new(CUT_WHOLE, 1);
    r->script = HELLO;
    wire *w = wire_open(r);
    wire_text(w, GET);
    rig_shift_wall_clock(-7200);
    rig_advance(r, 74);
    CHECK_STR(state_of(w), "open");
    rig_advance(r, 2);
    CHECK_STR(state_of(w), "closed");
    rig_shift_wall_clock(7200);
    rig_free(r);
}

int main(void)
{
    CHECK_ALL(timers);
    CHECK_ALL(peers);
    CHECK_ALL(order);
    CHECK_ALL(half_closes);
    CHECK_ALL(rests);
    CHECK_ALL(expectations);
    CHECK_ALL(breaks);
    CHECK_ALL(shutdowns);
    CHECK_ALL(turns_inside);
    test_limits();
    test_common_headers();
    test_lenient_flags();
    test_upload_is_bounded();
    test_pipelining_is_bounded();
    test_event_size();
    test_fairness();
    test_wall_clock();
    return check_summary();
}
