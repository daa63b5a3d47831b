/*
 * Fuzzes record boundaries: HTTP/1 through TLS, in records and segments of the fuzzer's choice. The
 * first byte says what the applications do and which version of TLS, the second how the segments
 * are cut, the third how large records are and whether a byte on the wire is spoilt; the rest is
 * what the peer sends.
 *
 * Beside the sanitizers this is checked: without a spoilt byte the peer reads the same as over a
 * plain wire, whatever the boundaries.
 */
#include "tls_client.h"

enum { SCRIPTS = 5, MOST = 2048, HEAD = 3, TLS13 = 0x40, SPOIL = 0x80 };

static const char *const scripts[SCRIPTS] = {
    "body; start 200; last hello",
    "body; start 200 content-length: 2| connection: close; last ok",
    "start 200; pin 20000; write x; lastpin 9000",
    "body; start 200; pin 70000; lastpin 1",
    "body; fail",
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void plain(const uint8_t *data, size_t size, text *output)
{
    rig *r = rig_new(CUT_WHOLE, 1);
    if (r == NULL)
        abort();
    r->script = scripts[data[0] % SCRIPTS];
    wire *w = wire_open(r);
    wire_feed(w, data + HEAD, size - HEAD);
    text_add(output, wire_output(w), w->output.n);
    rig_free(r);
}

static void encrypted(const uint8_t *data, size_t size, cd_tls *tls, text *output)
{
    rig *r = rig_new(data[1] == 0 ? CUT_WHOLE : data[1] == 1 ? CUT_BYTES : CUT_RANDOM, data[1]);
    if (r == NULL)
        abort();
    r->script = scripts[data[0] % SCRIPTS];
    tls_client *t = tls_open(r, tls, "one.test", data[0] & TLS13 ? TLS1_3_VERSION : TLS1_2_VERSION);
    if (data[2] & SPOIL)
        tls_send_raw(t, data + HEAD, size - HEAD);
    tls_send(t, data + HEAD, size - HEAD, 1 + (data[2] & 0x7fu) * (data[2] & 0x7fu));
    text_add(output, tls_output(t), t->output.n);
    tls_close(t);
    rig_settle(r);
    rig_free(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"one.test", NULL};
    static cd_tls *tls;
    if (size < HEAD || size > MOST)
        return 0;
    if (tls == NULL)
        tls = tls_for(names);
    text want = {0}, got = {0};
    plain(data, size, &want);
    encrypted(data, size, tls, &got);
    bool same = want.n == got.n && memcmp(want.p, got.p, got.n) == 0;
    if (!(data[2] & SPOIL) && !same) {
        fprintf(stderr, "plain:\n%s\nTLS:\n%s\n", want.p, got.p);
        abort();
    }
    text_free(&want);
    text_free(&got);
    if (check_failures() > 0)
        abort();
    return 0;
}
