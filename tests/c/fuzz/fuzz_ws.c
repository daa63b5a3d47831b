/*
 * Fuzzes an open WebSocket. The first byte says what the application does and whether the peer ends
 * with FIN, the second how the input is cut; the rest is what the peer sends after the handshake.
 * Seeds have frames with a mask of zeros, so that the fuzzer sees payloads as they are.
 *
 * Beside the sanitizers two things are checked: that nothing is left when the rig is freed, and,
 * for applications that only react, that the events do not depend on the cuts (nor the output,
 * where the application sends nothing itself).
 */
#include "harness.h"

#define REQUEST                                                                    \
    "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" \
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

enum { LISTENING = 0, ECHOING = 1, SCRIPTS = 6, MOST = 4096 };

static const char *const scripts[SCRIPTS] = {
    "pull; accept; leave",
    "wsecho",
    "pull; accept; pull; close 3000 enough; leave",
    "pull; accept; pull; pull",
    "pull; accept; go; leave",
    "pull; accept; pull; bytes 20000; text x; fail",
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What the application saw and what the peer saw, in texts of the caller. */
static void run(const uint8_t *data, size_t size, enum cut cut, text *trace, text *output)
{
    rig *r = rig_new(cut, data[1]);
    if (r == NULL)
        abort();
    r->script = scripts[data[0] % SCRIPTS];
    wire *w = wire_open(r);
    wire_text(w, REQUEST);
    wire_feed(w, data + 2, size - 2);
    if (data[0] & 0x80)
        wire_eof(w);
    rig_go(r);
    rig_advance(r, 3); /* a ping, or the close handshake gives up */
    rig_advance(r, 3);
    const char *events = rig_trace(r);
    text_add(trace, events, strlen(events));
    text_add(output, w->output.p, w->output.n);
    rig_free(r);
}

static void must_match(const text *a, const text *b)
{
    if (a->n == b->n && memcmp(a->p, b->p, a->n) == 0)
        return;
    fprintf(stderr, "whole:\n%s\ncut:\n%s\n", a->p, b->p);
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static cd_config config;
    if (size < 2 || size > MOST)
        return 0;
    config.access_fd = -1;
    config.limits = cd_config_default.limits;
    config.limits.websocket_max_frame_size = 2000;
    config.limits.websocket_max_message_size = 2500;
    config.limits.websocket_high_water = 600;
    /* Short, because libFuzzer's -timeout reads the clock that rig_advance moves. */
    config.limits.ping_interval = config.limits.ping_timeout = 2;
    config.limits.websocket_close_timeout = 2;
    rig_configure(&config);
    text whole = {0}, cut = {0}, whole_output = {0}, cut_output = {0};
    run(data, size, CUT_WHOLE, &whole, &whole_output);
    run(data, size, data[1] ? CUT_RANDOM : CUT_BYTES, &cut, &cut_output);
    if (data[0] % SCRIPTS <= ECHOING)
        must_match(&whole, &cut);
    if (data[0] % SCRIPTS == LISTENING)
        must_match(&whole_output, &cut_output);
    text_free(&whole);
    text_free(&cut);
    text_free(&whole_output);
    text_free(&cut_output);
    if (check_failures() > 0)
        abort();
    return 0;
}
