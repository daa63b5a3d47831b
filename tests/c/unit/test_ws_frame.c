/*
 * The WebSocket frame engine and its two helpers (sha1.c, the accept value) against tables and
 * against slow references that say the same in another way: a UTF-8 decoder by code point, an
 * unmasking of one byte at a time.
 */
#include "base/sha1.h"
#include "harness.h"
#include "ws/ws_frame.h"

/* ---- SHA-1 ---- */

static void check_digest(const void *p, size_t n, const char *want)
{
    uint8_t digest[CD_SHA1_SIZE];
    char got[2 * CD_SHA1_SIZE + 1];
    cd_sha1(p, n, digest);
    for (size_t i = 0; i < sizeof digest; i++)
        snprintf(got + 2 * i, 3, "%02x", digest[i]);
    CHECK_STR(got, want);
}

/* The lengths round the ends of a block and of its padding. */
static void test_sha1(void)
{
    static const struct {
        size_t n;
        const char *want;
    } cases[] = {
        {0, "da39a3ee5e6b4b0d3255bfef95601890afd80709"},
        {1, "86f7e437faa5a7fce15d1ddcb9eaeaea377667b8"},
        {55, "c1c8bbdc22796e28c0e15163d20899b65621d65a"},
        {56, "c2db330f6083854c99d4b5bfb6e8f29f201be699"},
        {63, "03f09f5b158a7a8cdad920bddc29b81c18a551f5"},
        {64, "0098ba824b5c16427bd7a1122a5a442a25ec644d"},
        {119, "ee971065aaa017e0632a8ca6c77bb3bf8b1dfc56"},
        {120, "f34c1488385346a55709ba056ddd08280dd4c6d6"},
    };
    char a[120];
    memset(a, 'a', sizeof a);
    check_digest("abc", 3, "a9993e364706816aba3e25717850c26c9cd0d89d");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_digest(a, cases[i].n, cases[i].want);
    size_t million = 1000000;
    char *big = malloc(million);
    memset(big, 'a', million);
    check_digest(big, million, "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
    free(big);
}

/* ---- headers ---- */

/* size: of the header, or CD_FRAMING; at: with so many bytes it is known. */
typedef struct {
    const char *bytes;
    size_t n;
    int size;
    size_t at;
    uint64_t length;
} header_case;

#define BYTES(literal) literal, sizeof literal - 1

static void test_header_cuts(void)
{
    static const header_case cases[] = {
        {BYTES("\x81\x80mask"), 6, 6, 0},
        {BYTES("\x81\xfdmask"), 6, 6, 125},
        {BYTES("\x82\xfe\x00\x7emask"), 8, 8, 126},
        {BYTES("\x82\xfe\xff\xffmask"), 8, 8, 65535},
        {BYTES("\x82\xff\0\0\0\0\0\x01\0\0mask"), 14, 14, 65536},
        {BYTES("\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xffmask"), 14, 14, INT64_MAX},
        {BYTES("\x00\x80mask"), 6, 6, 0},
        {BYTES("\x89\xfdmask"), 6, 6, 125},
        {BYTES("\x82\xfe\x00\x7dmask"), CD_FRAMING, 4, 0},
        {BYTES("\x82\xff\0\0\0\0\0\0\xff\xffmask"), CD_FRAMING, 10, 0},
        {BYTES("\x82\xff\x80\0\0\0\0\x01\0\0mask"), CD_FRAMING, 10, 0},
        {BYTES("\x89\xfe\x00\x7emask"), CD_FRAMING, 2, 0},
        {BYTES("\x81\x05hello"), CD_FRAMING, 2, 0},
        {BYTES("\xc1\x80mask"), CD_FRAMING, 1, 0},
        {BYTES("\x09\x80mask"), CD_FRAMING, 1, 0},
        {BYTES("\x83\x80mask"), CD_FRAMING, 1, 0},
        {BYTES("\x8b\x80mask"), CD_FRAMING, 1, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const header_case *c = &cases[i];
        cd_ws_frame frame;
        for (size_t n = 0; n <= c->n; n++) {
            int size = cd_ws_parse_header((const uint8_t *)c->bytes, n, 0, &frame);
            check_that(size == (n < c->at ? 0 : c->size), __FILE__, __LINE__,
                       "case %zu with %zu bytes: %d", i, n, size);
        }
        if (c->size > 0) {
            CHECK(frame.length == c->length);
            CHECK(memcmp(frame.mask, "mask", 4) == 0);
        }
    }
}

/* Every second byte behind a first one; rsv: what an extension may use. */
static void check_first_byte(unsigned first, uint8_t rsv)
{
    for (unsigned second = 0; second < 256; second++) {
        unsigned opcode = first & 15, length = second & 127;
        bool data = opcode <= 2, control = opcode >= 8 && opcode <= 10;
        unsigned reserved = first & 0x70 & ~(data && opcode > 0 ? rsv : 0u);
        bool good = (data || control) && reserved == 0 && second >= 128 &&
                    !(control && (first < 128 || length > 125));
        uint8_t bytes[6] = {(uint8_t)first, (uint8_t)second};
        cd_ws_frame frame;
        int want = !good ? CD_FRAMING : length < 126 ? 6 : 0;
        /* 126 and 127 zeros are a length that is not the shortest. */
        if (good && length == 126)
            want = CD_FRAMING;
        int got = cd_ws_parse_header(bytes, sizeof bytes, rsv, &frame);
        if (got != want)
            check_that(false, __FILE__, __LINE__, "%02x %02x: %d", first, second, got);
        if (want == 6)
            CHECK(frame.opcode == opcode && frame.fin == first >> 7 && frame.length == length &&
                  frame.rsv1 == (first >> 6 & 1));
    }
}

static void test_header_all(void)
{
    for (unsigned first = 0; first < 256; first++) {
        check_first_byte(first, 0);
        check_first_byte(first, CD_WS_RSV1);
    }
}

static void test_write_header(void)
{
    static const struct {
        uint64_t length;
        const char *want;
        size_t n;
    } cases[] = {
        {0, BYTES("\x82\x00")},
        {125, BYTES("\x82\x7d")},
        {126, BYTES("\x82\x7e\x00\x7e")},
        {65535, BYTES("\x82\x7e\xff\xff")},
        {65536, BYTES("\x82\x7f\0\0\0\0\0\x01\0\0")},
        {0x0123456789abcdef, BYTES("\x82\x7f\x01\x23\x45\x67\x89\xab\xcd\xef")},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t got[CD_WS_MAX_SERVER_HEADER];
        size_t n = cd_ws_write_header(got, CD_WS_BINARY, cases[i].length);
        check_bytes(__FILE__, __LINE__, "header", got, n, cases[i].want, cases[i].n);
    }
    uint8_t close[CD_WS_MAX_SERVER_HEADER];
    CHECK_INT(cd_ws_write_header(close, CD_WS_CLOSE, 2), 2);
    CHECK_INT(close[0], 0x88);
}

/* ---- mask ---- */

static void test_unmask(void)
{
    enum { SIZE = 200 };
    static const uint8_t mask[4] = {0x12, 0x9a, 0x00, 0xff};
    uint8_t from[SIZE], to[SIZE + 1];
    for (unsigned i = 0; i < SIZE; i++)
        from[i] = (uint8_t)(i * 7 + 3);
    bool same = true;
    for (size_t start = 0; start < 9; start++) {
        for (size_t n = 0; n + start <= SIZE; n++) {
            to[n] = 0xee;
            cd_ws_unmask(to, from + start, n, mask, start);
            for (size_t i = 0; i < n; i++)
                same = same && to[i] == (from[start + i] ^ mask[(start + i) % 4]);
            same = same && to[n] == 0xee;
        }
    }
    CHECK(same);
    memcpy(to, from, SIZE);
    cd_ws_unmask(to, to, SIZE, mask, 0);
    cd_ws_unmask(to, to, SIZE, mask, 0);
    CHECK(memcmp(to, from, SIZE) == 0);
    cd_ws_unmask(to, from, 4, mask, UINT64_C(0x7ffffffffffffffd));
    CHECK_INT(to[0], from[0] ^ mask[1]);
}

/* ---- UTF-8 ---- */

/* Length of the character at p by decoding it, 0 when there is no valid one. */
static size_t decode(const uint8_t *p, size_t n)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t size = p[0] < 0x80       ? 1
                  : p[0] >> 5 == 6  ? 2
                  : p[0] >> 4 == 14 ? 3
                  : p[0] >> 3 == 30 ? 4
                                    : 0;
    if (size == 0 || size > n)
        return 0;
    uint32_t code = size == 1 ? p[0] : p[0] & (0xffu >> (size + 1));
    for (size_t i = 1; i < size; i++) {
        if (p[i] >> 6 != 2)
            return 0;
        code = code << 6 | (p[i] & 63);
    }
    bool surrogate = code >= 0xd800 && code <= 0xdfff;
    return code < least[size] || code > 0x10ffff || surrogate ? 0 : size;
}

static bool is_utf8(const uint8_t *p, size_t n)
{
    for (size_t i = 0, size; i < n; i += size) {
        size = decode(p + i, n - i);
        if (size == 0)
            return false;
    }
    return true;
}

/* Every sequence of three bytes, and every lead of four with all that decide. */
static void test_utf8_all(void)
{
    unsigned long wrong = 0;
    for (uint32_t x = 0; x < 1u << 24; x++) {
        uint8_t p[3] = {(uint8_t)(x >> 16), (uint8_t)(x >> 8), (uint8_t)x};
        wrong += (cd_utf8_check(CD_UTF8_START, p, 3) == CD_UTF8_START) != is_utf8(p, 3);
    }
    CHECK_INT(wrong, 0);
    static const uint8_t edge[] = {0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90,
                                   0x9f, 0xa0, 0xbf, 0xc0, 0xff};
    for (unsigned lead = 0; lead < 256; lead++) {
        for (size_t i = 0; i < sizeof edge * sizeof edge * sizeof edge; i++) {
            uint8_t p[4] = {(uint8_t)lead, edge[i % 11], edge[i / 11 % 11], edge[i / 121]};
            wrong += (cd_utf8_check(CD_UTF8_START, p, 4) == CD_UTF8_START) != is_utf8(p, 4);
        }
    }
    CHECK_INT(wrong, 0);
}

/* Text longer than the blocks of the fast path: a fault at every place, a cut at every place. */
static void test_utf8_long(void)
{
    static const char sample[] =
        "plain text that fills the first block of thirty-two, then "
        "\xd0\x9f\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82 \xe6\xbc\xa2\xe5\xad\x97 "
        "\xf0\x9f\x98\x80 and forty more bytes of plain text to end it all..";
    enum { SIZE = sizeof sample - 1 };
    uint8_t p[SIZE];
    memcpy(p, sample, SIZE);
    CHECK_INT(cd_utf8_check(CD_UTF8_START, p, SIZE), CD_UTF8_START);
    for (size_t i = 0; i < SIZE; i++) {
        unsigned state = cd_utf8_check(CD_UTF8_START, p, i);
        CHECK(state != CD_UTF8_BAD);
        CHECK_INT(cd_utf8_check(state, p + i, SIZE - i), CD_UTF8_START);
        uint8_t kept = p[i];
        p[i] = 0xff;
        CHECK_INT(cd_utf8_check(CD_UTF8_START, p, SIZE), CD_UTF8_BAD);
        CHECK_INT(cd_utf8_check(CD_UTF8_START, p, i + 1), CD_UTF8_BAD);
        p[i] = kept;
    }
    CHECK_INT(cd_utf8_check(CD_UTF8_BAD, p, SIZE), CD_UTF8_BAD);
    CHECK_INT(cd_utf8_check(CD_UTF8_START, NULL, 0), CD_UTF8_START);
}

/* ---- close ---- */

static void test_codes(void)
{
    for (int code = 0; code < 65536; code++) {
        bool listed = (code >= 1000 && code <= 1014 && (code < 1004 || code > 1006)) ||
                      (code >= 3000 && code <= 4999);
        if (cd_ws_code_on_wire(code) != listed)
            check_that(false, __FILE__, __LINE__, "code %d", code);
    }
    CHECK(!cd_ws_code_on_wire(-1));
}

static void test_close(void)
{
    static const struct {
        const char *bytes;
        size_t n;
        int result, code;
        const char *reason;
    } cases[] = {
        {BYTES(""), CD_OK, 1005, ""},
        {BYTES("\x03"), 1002, 0, NULL},
        {BYTES("\x03\xe8"), CD_OK, 1000, ""},
        {BYTES("\x03\xe8going"), CD_OK, 1000, "going"},
        {BYTES("\x0f\xa0h\xc3\xa9"), CD_OK, 4000, "h\xc3\xa9"},
        {BYTES("\x03\xec"), 1002, 0, NULL},
        {BYTES("\x03\xee"), 1002, 0, NULL},
        {BYTES("\x00\x00"), 1002, 0, NULL},
        {BYTES("\x13\x88"), 1002, 0, NULL},
        {BYTES("\x03\xe8h\xc3"), 1007, 0, NULL},
        {BYTES("\x03\xe8\xff"), 1007, 0, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int code;
        cd_str reason;
        int result = cd_ws_parse_close((const uint8_t *)cases[i].bytes, cases[i].n, &code, &reason);
        CHECK_INT(result, cases[i].result);
        if (result != CD_OK)
            continue;
        CHECK_INT(code, cases[i].code);
        check_bytes(__FILE__, __LINE__, "reason", reason.p, reason.n, cases[i].reason,
                    strlen(cases[i].reason));
    }
}

int main(void)
{
    test_sha1();
    test_header_cuts();
    test_header_all();
    test_write_header();
    test_unmask();
    test_utf8_all();
    test_utf8_long();
    test_codes();
    test_close();
    return check_summary();
}
