/*
 * permessage-deflate: which offers are taken, what becomes of messages both ways, and how it all
 * looks on the wire. The peer is zlib itself, as strict as it can be made.
 */
#include "frames.h"
#include "harness.h"
#include "ws/ws_deflate.h"
#include "ws/ws_frame.h"

#include <zlib.h>

/* ---- negotiation ---- */

typedef struct {
    const char *offers; /* header values, one a line */
    unsigned bits;
    bool takeover;
    const char *answer; /* NULL: no extension */
} negotiation;

#define PMD "permessage-deflate"
#define LEAN PMD "; client_no_context_takeover"

static const negotiation negotiations[] = {
    /* What was not offered is not answered, but for what saves the server a window (7.1.1.2). */
    {PMD, 12, false, LEAN},
    {PMD, 15, true, PMD},
    {PMD, 9, true, PMD},
    {PMD "; client_max_window_bits", 12, false, LEAN "; client_max_window_bits=12"},
    {PMD "; client_max_window_bits", 15, true, PMD "; client_max_window_bits=15"},
    {PMD "; server_max_window_bits=15", 12, false, LEAN "; server_max_window_bits=12"},
    {PMD "; server_max_window_bits=10", 12, true, PMD "; server_max_window_bits=10"},
    {PMD "; client_max_window_bits=10; server_max_window_bits=9", 12, true,
     PMD "; server_max_window_bits=9; client_max_window_bits=10"},
    {PMD ";client_max_window_bits = \"15\" ;\tserver_max_window_bits=\"15\"", 12, false,
     LEAN "; server_max_window_bits=12; client_max_window_bits=12"},
    {PMD "; server_max_window_bits=8; client_max_window_bits=8", 12, false,
     LEAN "; server_max_window_bits=8; client_max_window_bits=8"},
    /* A client that did not say 8 may not be able to. */
    {PMD "; client_max_window_bits", 8, false, LEAN "; client_max_window_bits=9"},
    {PMD "; server_no_context_takeover", 12, true, PMD "; server_no_context_takeover"},
    {PMD "; client_no_context_takeover", 12, true, PMD "; client_no_context_takeover"},
    {PMD "; client_no_context_takeover; server_no_context_takeover", 12, false,
     PMD "; server_no_context_takeover; client_no_context_takeover"},
    {PMD "; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=15; "
         "client_max_window_bits=15",
     15, true,
     PMD "; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=15; "
         "client_max_window_bits=15"},
    /* The first that can be kept to. */
    {"x-webkit-deflate-frame, " PMD "; server_max_window_bits=7, " PMD
     "; server_max_window_bits=10, " PMD,
     12, false, LEAN "; server_max_window_bits=10"},
    {PMD "; foo, " PMD ", " PMD "; server_max_window_bits=10", 12, false, LEAN},
    {"foo; bar=\"a, b\"\n, ,\n" PMD "; client_max_window_bits=11", 12, true,
     PMD "; client_max_window_bits=11"},
    {"Permessage-Deflate; Server_Max_Window_Bits=9", 12, false, LEAN "; server_max_window_bits=9"},
    /* None. */
    {"", 12, false, NULL},
    {"permessage-bzip2", 12, false, NULL},
    {PMD "s", 12, false, NULL},
    {PMD "=1", 12, false, NULL},
    {PMD ";", 12, false, NULL},
    {PMD "; foo", 12, false, NULL},
    {PMD "; server_max_window_bits", 12, false, NULL},
    {PMD "; server_max_window_bits=", 12, false, NULL},
    {PMD "; server_max_window_bits=0", 12, false, NULL},
    {PMD "; server_max_window_bits=7", 12, false, NULL},
    {PMD "; server_max_window_bits=16", 12, false, NULL},
    {PMD "; server_max_window_bits=99", 12, false, NULL},
    {PMD "; server_max_window_bits=4294967304", 12, false, NULL},
    {PMD "; server_max_window_bits=-9", 12, false, NULL},
    {PMD "; server_max_window_bits=09", 12, false, NULL},
    {PMD "; server_max_window_bits=9x", 12, false, NULL},
    {PMD "; server_max_window_bits=\"10", 12, false, NULL},
    {PMD "; server_max_window_bits=\"\"", 12, false, NULL},
    {PMD "; server_max_window_bits=\"", 12, false, NULL},
    {PMD "; server_max_window_bits=10; server_max_window_bits=10", 12, false, NULL},
    {PMD "; client_max_window_bits=", 12, false, NULL},
    {PMD "; client_max_window_bits=7", 12, false, NULL},
    {PMD "; client_max_window_bits=16", 12, false, NULL},
    {PMD "; client_max_window_bits; client_max_window_bits", 12, false, NULL},
    {PMD "; client_max_window_bits; client_max_window_bits=9", 12, false, NULL},
    {PMD "; server_no_context_takeover=1", 12, false, NULL},
    {PMD "; server_no_context_takeover; server_no_context_takeover", 12, false, NULL},
    {PMD "; client_no_context_takeover=", 12, false, NULL},
    {PMD "; client_no_context_takeover; client_no_context_takeover", 12, false, NULL},
    /* Quotes hide what is inside of them, also when they never end. */
    {"foo; bar=\"a, " PMD ", b\"", 12, false, NULL},
    {"foo; bar=\"a\\\", " PMD ", b\"", 12, false, NULL},
    {"foo; bar=\"a, " PMD, 12, false, NULL},
};

static void check_negotiation(const negotiation *c)
{
    cd_header headers[8];
    size_t count = 0;
    for (const char *p = c->offers; p; count++) {
        const char *end = strchr(p, '\n');
        headers[count] =
            (cd_header){{"sec-websocket-extensions", 24}, {p, end ? (size_t)(end - p) : strlen(p)}};
        p = end ? end + 1 : NULL;
    }
    headers[count++] = (cd_header){{"sec-websocket-protocol", 22}, {PMD, sizeof PMD - 1}};
    cd_ws_extension e = cd_ws_extension_negotiate(headers, count, c->bits, c->takeover);
    char answer[CD_WS_EXTENSION_SIZE] = "nothing";
    if (e.on)
        CHECK_INT(cd_ws_extension_answer(&e, answer), strlen(answer));
    check_that(strcmp(answer, c->answer ? c->answer : "nothing") == 0, __FILE__, __LINE__, "%s: %s",
               c->offers, answer);
}

/* The window is as small as the operator wants it, whether the answer says so or not. */
static void test_negotiated_window(void)
{
    cd_header header = {{"sec-websocket-extensions", 24}, {PMD, sizeof PMD - 1}};
    cd_ws_extension lean = cd_ws_extension_negotiate(&header, 1, 10, false);
    CHECK_INT(lean.server_bits, 10);
    CHECK(!lean.server_takeover);
    CHECK(!lean.client_takeover);
    CHECK_INT(lean.client_bits, 15);
    cd_ws_extension fat = cd_ws_extension_negotiate(&header, 1, 10, true);
    CHECK_INT(fat.server_bits, 10);
    CHECK(fat.server_takeover);
    CHECK(fat.client_takeover);
}

static void test_negotiation(void)
{
    for (size_t i = 0; i < sizeof negotiations / sizeof *negotiations; i++)
        check_negotiation(&negotiations[i]);
    text many = {0};
    text_format(&many, "a");
    for (int i = 0; i < 2000; i++)
        text_format(&many, ", " PMD "; server_max_window_bits=7");
    negotiation c = {many.p, 12, false, NULL};
    check_negotiation(&c);
    text_free(&many);
}

/* ---- messages ---- */

static cd_ws_extension agreement(uint8_t server_bits, uint8_t client_bits, bool takeover)
{
    return (cd_ws_extension){.on = true,
                             .server_takeover = takeover,
                             .client_takeover = takeover,
                             .server_bits = server_bits,
                             .client_bits = client_bits};
}

/* Text that is easy to compress, and with distances of all sizes in it. */
static char *words(size_t n)
{
    char *p = malloc(n + 1);
    unsigned seed = 1;
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1103515245 + 12345;
        size_t back = seed >> 7 & 4095;
        p[i] = seed >> 28 && back < i ? p[i - back - 1] : (char)('a' + (seed >> 20) % 26);
    }
    p[n] = '\0';
    return p;
}

static char *noise(size_t n)
{
    char *p = malloc(n + 1);
    unsigned seed = 7;
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1103515245 + 12345;
        p[i] = (char)(seed >> 16);
    }
    return p;
}

/* What a strict peer makes of it: `window` is all that it remembers, a byte at a time is all that
 * it takes, so every distance beyond the window is an error. */
static void inflate_strictly(z_stream *z, cd_str packed, text *plain)
{
    text in = {0};
    text_add(&in, packed.p, packed.n);
    text_add(&in, "\0\0\xff\xff", 4);
    z->next_in = (Bytef *)in.p;
    z->avail_in = (uInt)in.n;
    int code = Z_OK;
    while (code == Z_OK) {
        char c;
        z->next_out = (Bytef *)&c;
        z->avail_out = 1;
        code = inflate(z, Z_SYNC_FLUSH);
        if (z->avail_out == 0)
            text_add(plain, &c, 1);
    }
    CHECK_INT(code, Z_BUF_ERROR);
    CHECK_INT(z->avail_in, 0);
    text_free(&in);
}

static void check_packed(cd_ws_deflate *d, z_stream *peer, const char *p, size_t n)
{
    cd_str packed = cd_ws_deflate_pack(d, (cd_str){p, n});
    CHECK(packed.p != NULL && packed.n < n);
    if (packed.p == NULL)
        return;
    text plain = {0};
    inflate_strictly(peer, packed, &plain);
    check_bytes(__FILE__, __LINE__, "message", plain.p, plain.n, p, n);
    text_free(&plain);
    cd_ws_deflate_packed(d);
}

/* Every window, level and table: no byte is looked for outside of what was agreed on. */
static void test_windows(void)
{
    char *p = words(80000);
    for (uint8_t bits = 8; bits <= 15; bits++) {
        for (int level = 1; level <= 9; level += 2) {
            cd_ws_deflate_pool *pool = cd_ws_deflate_pool_new(level, 10 - level, 0);
            for (int takeover = 0; takeover < 2; takeover++) {
                cd_ws_deflate d;
                z_stream peer = {0};
                inflateInit2(&peer, -bits);
                cd_ws_extension e = agreement(bits, 15, takeover);
                cd_ws_deflate_open(&d, pool, &e);
                static const size_t sizes[] = {500, 700, 20000, 80000, 65536};
                for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
                    check_packed(&d, &peer, p, sizes[i]);
                    if (!takeover)
                        inflateReset(&peer);
                }
                inflateEnd(&peer);
                cd_ws_deflate_dispose(&d);
            }
            cd_ws_deflate_pool_free(pool);
        }
    }
    free(p);
}

/* The same message again is the same bytes, and another message in the same place is not. */
static void test_cache(void)
{
    cd_ws_deflate_pool *pool = cd_ws_deflate_pool_new(1, 5, 0);
    cd_ws_deflate d[3];
    cd_ws_extension wide = agreement(12, 12, false), narrow = agreement(9, 12, false);
    cd_ws_deflate_open(&d[0], pool, &wide);
    cd_ws_deflate_open(&d[1], pool, &wide);
    cd_ws_deflate_open(&d[2], pool, &narrow);
    char *p = words(5000), *same = words(5000);
    z_stream peer = {0};
    inflateInit2(&peer, -9);
    for (int i = 0; i < 6; i++) {
        /* 12 bits make distances that a window of 9 would not have. */
        inflateReset2(&peer, i % 3 < 2 ? -12 : -9);
        check_packed(&d[i % 3], &peer, i < 3 ? p : same, 5000);
    }
    for (int i = 0; i < 20; i++) {
        same[i * 200] ^= 1;
        inflateReset2(&peer, -12);
        check_packed(&d[i % 2], &peer, same, 5000 - (size_t)i);
    }
    inflateEnd(&peer);
    cd_str first = cd_ws_deflate_pack(&d[0], (cd_str){p, 5000});
    const char *at = first.p;
    CHECK(cd_ws_deflate_pack(&d[1], (cd_str){p, 5000}).p == at);
    free(p);
    free(same);
    for (int i = 0; i < 3; i++)
        cd_ws_deflate_dispose(&d[i]);
    cd_ws_deflate_pool_free(pool);
}

/* What does not get smaller goes as it is, and does not spoil the window of the next. */
static void test_not_smaller(void)
{
    static const size_t sizes[] = {0, 1, 2, 500, 70000};
    char *p = words(3000), *random = noise(70000);
    for (int takeover = 0; takeover < 2; takeover++) {
        cd_ws_deflate_pool *pool = cd_ws_deflate_pool_new(6, 8, 0);
        cd_ws_deflate d;
        z_stream peer = {0};
        inflateInit2(&peer, -12);
        cd_ws_extension e = agreement(12, 12, takeover);
        cd_ws_deflate_open(&d, pool, &e);
        check_packed(&d, &peer, p, 3000);
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            CHECK(cd_ws_deflate_pack(&d, (cd_str){random, sizes[i]}).p == NULL);
            CHECK(cd_ws_deflate_pack(&d, (cd_str){random, sizes[i]}).p == NULL);
            check_packed(&d, &peer, p + i, 3000 - i);
        }
        inflateEnd(&peer);
        cd_ws_deflate_dispose(&d);
        cd_ws_deflate_pool_free(pool);
    }
    free(p);
    free(random);
}

/* With takeover a message that came before costs next to nothing, without it is all paid again. */
static void test_takeover(void)
{
    char *p = words(3000);
    size_t sizes[2];
    for (int takeover = 0; takeover < 2; takeover++) {
        cd_ws_deflate_pool *pool = cd_ws_deflate_pool_new(6, 8, 0);
        cd_ws_deflate d;
        cd_ws_extension e = agreement(12, 12, takeover);
        cd_ws_deflate_open(&d, pool, &e);
        cd_ws_deflate_pack(&d, (cd_str){p, 3000});
        sizes[takeover] = cd_ws_deflate_pack(&d, (cd_str){p, 3000}).n;
        cd_ws_deflate_dispose(&d);
        cd_ws_deflate_pool_free(pool);
    }
    free(p);
    CHECK(sizes[1] < 50 && sizes[0] > 10 * sizes[1]);
}

/* Everything that is held between messages is counted, as zlib takes it. */
static void test_memory(void)
{
    cd_ws_deflate_pool *pool = cd_ws_deflate_pool_new(1, 5, 110000);
    cd_ws_extension lean = agreement(12, 12, false), fat = agreement(12, 12, true);
    cd_ws_deflate d[3];
    CHECK(cd_ws_deflate_affords(pool, &fat));
    cd_ws_deflate_open(&d[0], pool, &fat);
    CHECK(cd_ws_deflate_affords(pool, &fat));
    cd_ws_deflate_open(&d[1], pool, &fat);
    CHECK(!cd_ws_deflate_affords(pool, &fat));
    CHECK(cd_ws_deflate_affords(pool, &lean));
    cd_ws_deflate_dispose(&d[0]);
    CHECK(cd_ws_deflate_affords(pool, &fat));
    cd_ws_deflate_dispose(&d[1]);
    cd_ws_deflate_pool_free(pool);
    pool = cd_ws_deflate_pool_new(1, 5, 0);
    for (int i = 0; i < 3; i++) {
        CHECK(cd_ws_deflate_affords(pool, &fat));
        cd_ws_deflate_open(&d[i], pool, &fat);
    }
    for (int i = 0; i < 3; i++)
        cd_ws_deflate_dispose(&d[i]);
    cd_ws_deflate_pool_free(pool);
}

/* Without memory messages go as they are; nothing is left behind. */
static void test_no_memory(void)
{
    char *p = words(70000);
    for (int takeover = 0; takeover < 2; takeover++) {
        for (long n = 1; n < 20; n++) {
            cd_ws_deflate_pool *pool = cd_ws_deflate_pool_new(1, 5, 0);
            cd_ws_deflate d;
            cd_ws_extension e = agreement(12, 12, takeover);
            cd_ws_deflate_open(&d, pool, &e);
            cd_alloc_fail_at(n);
            cd_ws_deflate_pack(&d, (cd_str){p, 3000});
            cd_ws_deflate_pack(&d, (cd_str){p, 70000});
            cd_ws_deflate_packed(&d);
            cd_str in = {"\xf2\x48\xcd\xc9\xc9\x07\x00", 7}, out;
            int code = cd_ws_deflate_inflate(&d, &in, &out);
            CHECK(code == CD_OK || code == CD_NOMEM);
            cd_alloc_fail_at(0);
            cd_ws_deflate_drop(&d);
            cd_ws_deflate_dispose(&d);
            cd_ws_deflate_pool_free(pool);
            CHECK_INT(cd_alloc_live(), 0);
        }
    }
    free(p);
}

/* ---- on the wire ---- */

#define OFFER(more) "Sec-WebSocket-Extensions: permessage-deflate" more "\r\n"
#define OPENED(more)                                                              \
    "1 open ws 1.1 GET /ws [host: h] [upgrade: websocket] [connection: Upgrade] " \
    "[sec-websocket-version: 13] [sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==] "  \
    "[sec-websocket-extensions: permessage-deflate" more "]\n1 connect\n"         \
    "access connecting /ws 101 0\naccess connected /ws 101 0\n"
#define GONE "access disconnected /ws 101 0\n1 gone\n"
#define FAULT "1 disconnect 1006\n" GONE
#define SWITCHED(answer)                                                                \
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" \
    "Sec-WebSocket-Extensions: " answer                                                 \
    "\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"

enum { RSV1 = 0x40, PACKED = TEXT | RSV1, PACKED_PART = TEXT_PART | RSV1, MAX_FRAMES = 12 };
enum { PACKED_BYTES = BINARY | RSV1 };

typedef struct {
    const char *name;
    frame in[MAX_FRAMES];
    const char *trace;
    frame out[MAX_FRAMES];
    const char *script; /* NULL: wsecho */
} wire_case;

#define BYE F(CLOSE, "\x03\xe8")
#define BYE_TRACE "1 disconnect 1000\n" GONE
#define HELLO "\xf2\x48\xcd\xc9\xc9\x07\x00"

/* min_size is 5 here. The compressed forms of "Hello" are those of RFC 7692, 7.2.3. */
static const wire_case cases[] = {
    {"one block",
     {F(PACKED, HELLO), BYE},
     "1 text Hello\n" BYE_TRACE,
     {F(TEXT, "Hello"), BYE},
     NULL},
    {"worth it",
     {F(PACKED, "\x4a\x4c\xc4\x04\x00\x00"), BYE}, /* zlib's of 20 times a */
     "1 text aaaaaaaaaaaaaaaaaaaa\n" BYE_TRACE,
     {F(PACKED, "\x4a\x4c\xc4\x04\x00\x00"), BYE},
     NULL},
    {"bytes",
     {F(PACKED_BYTES, "\x4a\x4c\xc4\x04\x00\x00"), BYE},
     "1 bytes aaaaaaaaaaaaaaaaaaaa\n" BYE_TRACE,
     {F(PACKED_BYTES, "\x4a\x4c\xc4\x04\x00\x00"), BYE},
     NULL},
    {"fragments",
     {F(PACKED_PART, "\xf2\x48\xcd"), F(PING, "now"), F(PART, ""), F(LAST, "\xc9\xc9\x07\x00"),
      F(PACKED_PART, ""), F(PART, HELLO), F(LAST, ""), BYE},
     "1 text Hello\n1 text Hello\n" BYE_TRACE,
     {F(PONG, "now"), F(TEXT, "Hello"), F(TEXT, "Hello"), BYE},
     "pull; accept; wsecho"},
    {"a block with BFINAL",
     {F(PACKED, "\xf3\x48\xcd\xc9\xc9\x07\x00\x00"), F(PACKED, HELLO), BYE},
     "1 text Hello\n1 text Hello\n" BYE_TRACE,
     {F(TEXT, "Hello"), F(TEXT, "Hello"), BYE},
     NULL},
    {"a block that is stored",
     {F(PACKED, "\x00\x05\x00\xfa\xffHello\x00"), BYE},
     "1 text Hello\n" BYE_TRACE,
     {F(TEXT, "Hello"), BYE},
     NULL},
    {"two blocks",
     {F(PACKED, "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"), BYE},
     "1 text Hello\n" BYE_TRACE,
     {F(TEXT, "Hello"), BYE},
     NULL},
    {"empty messages",
     {F(PACKED, "\x00"), F(PACKED, ""), F(PACKED_PART, ""), F(LAST, ""), F(PACKED_BYTES, "\x00"),
      F(TEXT, ""), BYE},
     "1 text\n1 text\n1 text\n1 bytes\n1 text\n" BYE_TRACE,
     {F(TEXT, ""), F(TEXT, ""), F(TEXT, ""), F(BINARY, ""), F(TEXT, ""), BYE},
     NULL},
    {"compressed or not, in turn",
     {F(PACKED, HELLO), F(TEXT, "plain"), F(TEXT_PART, "pl"), F(LAST, "ain"), F(PACKED, HELLO),
      BYE},
     "1 text Hello\n1 text plain\n1 text plain\n1 text Hello\n" BYE_TRACE,
     {F(TEXT, "Hello"), F(TEXT, "plain"), F(TEXT, "plain"), F(TEXT, "Hello"), BYE},
     NULL},
    {"RSV1 on a continuation",
     {F(PACKED_PART, "\xf2"), F(LAST | RSV1, "\x48")},
     FAULT,
     {F(CLOSE, "\x03\xea")},
     NULL},
    {"RSV1 on a ping", {F(PING | RSV1, "")}, FAULT, {F(CLOSE, "\x03\xea")}, NULL},
    {"RSV1 on a close frame", {F(CLOSE | RSV1, "")}, FAULT, {F(CLOSE, "\x03\xea")}, NULL},
    {"RSV2", {F(PACKED | 0x20, HELLO)}, FAULT, {F(CLOSE, "\x03\xea")}, NULL},
    {"no such block", {F(PACKED, "\x07")}, FAULT, {F(CLOSE, "\x03\xef")}, NULL},
    {"cut in a block", {F(PACKED, "\xf2\x48\xcd")}, FAULT, {F(CLOSE, "\x03\xef")}, NULL},
    {"cut in the header of a block",
     {F(PACKED_BYTES, "\x00\x05")},
     FAULT,
     {F(CLOSE, "\x03\xef")},
     NULL},
    {"looks back before the message",
     {F(PACKED, HELLO), F(PACKED, "\xf2\x00\x11\x00\x00")}, /* a match in what no longer counts */
     "1 text Hello\n" FAULT,
     {F(TEXT, "Hello"), F(CLOSE, "\x03\xef")},
     NULL},
    {"text that is not UTF-8",
     {F(PACKED, "\x00\x02\x00\xfd\xff\xc3(\x00")},
     FAULT,
     {F(CLOSE, "\x03\xef")},
     NULL},
    {"a character that is cut by the end",
     {F(PACKED, "\x00\x01\x00\xfe\xff\xc3\x00")},
     FAULT,
     {F(CLOSE, "\x03\xef")},
     NULL},
    {"bytes need not be UTF-8",
     {F(PACKED_BYTES, "\x00\x02\x00\xfd\xff\xc3(\x00"), BYE},
     "1 bytes \\xc3(\n" BYE_TRACE,
     {F(BINARY, "\xc3("), BYE},
     NULL},
    {"closed in a message", {F(PACKED_PART, "\xf2\x48"), BYE}, BYE_TRACE, {BYE}, NULL},
    {"dropped while closing",
     {F(PACKED_PART, "\xf2\x48"), F(LAST, "\xff\xff\xff"), F(PACKED, "\x07"), BYE},
     BYE_TRACE,
     {BYE},
     "pull; accept; close 1000; leave"},
};

typedef struct {
    const char *offer;
    const wire_case *c;
} wire_run;

static void run_wire(rig *r, const void *arg)
{
    const wire_run *run = arg;
    text input = {0};
    r->script = run->c->script ? run->c->script : "wsecho";
    wire *w = wire_open(r);
    text_format(&input, REQUEST_OF("/ws", "%s"), run->offer);
    for (const frame *f = run->c->in; f->p; f++)
        add_frame(&input, f->first, f->p, f->n);
    wire_feed(w, input.p, input.n);
    text_free(&input);
}

static void check_wire(const wire_case *c, const char *offer, const char *opened,
                       const char *switched)
{
    text output = {0}, trace = {0};
    wire_run run = {offer, c};
    text_format(&output, "%s", switched);
    for (const frame *f = c->out; f->p; f++)
        add_output(&output, f->first, f->p, f->n);
    text_format(&trace, "%s%s", opened, c->trace);
    check_scenario(c->name, run_wire, &run, trace.p, output.p, output.n);
    text_free(&output);
    text_free(&trace);
}

static cd_config defaults(void)
{
    cd_config config = {.access_fd = -1, .websocket_deflate = true};
    config.limits = cd_config_default.limits;
    config.limits.websocket_deflate_min_size = 5;
    return config;
}

/* With takeover the window has what came before, in both directions. */
static const wire_case takeover_case = {
    "the window lives on",
    {F(PACKED, HELLO), F(PACKED, "\xf2\x00\x11\x00\x00"), F(PACKED, "\x00"), F(PACKED, ""), BYE},
    "1 text Hello\n1 text Hello\n1 text\n1 text\n" BYE_TRACE,
    {F(TEXT, "Hello"), F(TEXT, "Hello"), F(TEXT, ""), F(TEXT, ""), BYE},
    NULL,
};

static void test_wire(void)
{
    cd_config config = defaults();
    rig_configure(&config);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_wire(&cases[i], OFFER(""), OPENED(""), SWITCHED(LEAN));
    check_wire(&cases[1], OFFER("; client_max_window_bits"), OPENED("; client_max_window_bits"),
               SWITCHED(LEAN "; client_max_window_bits=12"));
    config.websocket_deflate_context_takeover = true;
    rig_configure(&config);
    check_wire(&takeover_case, OFFER(""), OPENED(""), SWITCHED(PMD));
    config.limits.websocket_deflate_memory = 1;
    rig_configure(&config);
    check_wire(&cases[0], OFFER(""), OPENED(""), SWITCHED(LEAN));
    rig_configure(NULL);
}

/* A bomb: what it announces is small, what it becomes is not. Nothing beyond the limit is kept. */
static void test_bomb(void)
{
    uint8_t bomb[4096];
    static char zeros[1 << 20];
    z_stream z = {.next_in = (Bytef *)zeros,
                  .avail_in = sizeof zeros,
                  .next_out = bomb,
                  .avail_out = sizeof bomb};
    deflateInit2(&z, 9, Z_DEFLATED, -15, 9, Z_DEFAULT_STRATEGY);
    CHECK_INT(deflate(&z, Z_SYNC_FLUSH), Z_OK);
    size_t n = sizeof bomb - z.avail_out - 4;
    deflateEnd(&z);
    cd_config config = defaults();
    config.limits.websocket_max_message_size = 40000;
    config.limits.websocket_max_frame_size = 40000;
    rig_configure(&config);
    wire_case c = {
        "bomb", {{PACKED_BYTES, (const char *)bomb, n}}, FAULT, {F(CLOSE, "\x03\xf1")}, NULL};
    check_wire(&c, OFFER(""), OPENED(""), SWITCHED(LEAN));
    rig_configure(NULL);
}

/* The limits are the message's own length, to the byte, however badly it was compressed. */
static void test_limits(void)
{
    enum { SIZE = 150 };
    cd_config config = defaults();
    config.limits.websocket_max_message_size = config.limits.websocket_max_frame_size = SIZE;
    config.limits.websocket_deflate_min_size = 100000;
    rig_configure(&config);
    for (size_t n = SIZE - 1; n <= SIZE + 1; n++) {
        char *p = noise(n), stored[SIZE + 64];
        uint16_t length = (uint16_t)n, inverse = (uint16_t)~length;
        text trace = {0};
        stored[0] = 0;
        memcpy(stored + 1, &length, 2);
        memcpy(stored + 3, &inverse, 2);
        memcpy(stored + 5, p, n);
        stored[5 + n] = 0;
        text_format(&trace, "1 bytes ");
        text_escape(&trace, p, n);
        text_format(&trace, "\n" BYE_TRACE);
        wire_case fits = {
            "fits", {{PACKED_BYTES, stored, n + 6}, BYE}, trace.p, {{BINARY, p, n}, BYE}, NULL};
        wire_case too_big = {
            "too big", {{PACKED_BYTES, stored, n + 6}}, FAULT, {F(CLOSE, "\x03\xf1")}, NULL};
        check_wire(n <= SIZE ? &fits : &too_big, OFFER(""), OPENED(""), SWITCHED(LEAN));
        text_free(&trace);
        free(p);
    }
    /* Blocks of nothing for ever. */
    text nothing = {0};
    for (int i = 0; i < 40; i++)
        text_add(&nothing, "\0\0\0\xff\xff", 5);
    wire_case c = {"nothing for ever",
                   {{BINARY_PART | RSV1, nothing.p, 200}, {PART, nothing.p, 200}},
                   FAULT,
                   {F(CLOSE, "\x03\xf1")},
                   NULL};
    check_wire(&c, OFFER(""), OPENED(""), SWITCHED(LEAN));
    text_free(&nothing);
    rig_configure(NULL);
}

/* Large messages of the harness, with and without token, there and back. */
static void run_large(rig *r, const void *arg)
{
    (void)arg;
    r->script = "pull; accept; bytes 10; bytes 10000; bytes 10000; text hi; bytes 70000; bytes 0; "
                "leave";
    wire *w = wire_open(r);
    wire_text(w, REQUEST_OF("/ws", OFFER("")));
    FEED(w, CLOSE, "\x03\xe8");
}

static void test_large(void)
{
    cd_config config = defaults();
    for (int takeover = 0; takeover < 2; takeover++) {
        config.websocket_deflate_context_takeover = takeover;
        rig_configure(&config);
        check_scenario("large messages", run_large, NULL, OPENED("") BYE_TRACE, NULL, 0);
    }
    rig_configure(NULL);
}

int main(void)
{
    test_negotiation();
    test_negotiated_window();
    test_windows();
    test_cache();
    test_not_smaller();
    test_takeover();
    test_memory();
    test_no_memory();
    test_wire();
    test_bomb();
    test_limits();
    test_large();
    return check_summary();
}
