/*
 * Fuzzes an HTTP/2 connection. The first byte says what the applications do, whether limits are
 * low, and whether the peer ends with FIN; the second how the input is cut; the rest is what the
 * peer sends behind its preface, or with UPGRADE all that it sends: HTTP/1.1 and "Upgrade: h2c".
 *
 * Beside the sanitizers: nothing is left when the rig is freed, and no callback comes out of phase.
 * What the peer is answered may depend on the cuts here, because windows and resets do.
 */
#include "harness.h"

#include <nghttp2/nghttp2.h>

enum { SCRIPTS = 8, MOST = 4096, UPGRADE = 0x20, LOW_LIMITS = 0x40, FIN = 0x80 };

static const char *const scripts[SCRIPTS] = {
    "body;start 200;last hello",
    "start 200;echo",
    "start 200;last hello;leave",
    "go;body;start 200;pin 9000;lastpin 90000",
    "hint <x>;start 200;announce;write he;last llo;lasttrailers a: b",
    "start 200;write x;fail",
    "accept;bytes 9;bytes 90000;wsecho",
    "wsecho",
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void configure(bool low)
{
    cd_config config = {.access_fd = -1, .http2 = true, .http2_upgrade = true};
    cd_limits *l = &config.limits;
    *l = cd_config_default.limits;
    if (low) {
        l->max_head_size = 300;
        l->max_header_count = 4;
        l->max_trailer_size = 20;
        l->max_body_size = 600;
        l->write_high_water = 256;
        l->write_low_water = 64;
        l->http2_max_streams = 3;
        l->http2_stream_window = 100;
        l->http2_reset_burst = 3;
        l->http2_control_burst = 8;
        l->http2_queue_depth = 8;
        l->http_timeout = 100;
    }
    rig_configure(&config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char preface[] = NGHTTP2_CLIENT_MAGIC;
    if (size < 2 || size > MOST)
        return 0;
    configure(data[0] & LOW_LIMITS);
    rig *r = rig_new(data[1] ? CUT_RANDOM : CUT_WHOLE, data[1]);
    if (r == NULL)
        abort();
    r->script = scripts[data[0] % SCRIPTS];
    wire *w = wire_open(r);
    if (!(data[0] & UPGRADE))
        wire_feed(w, preface, sizeof preface - 1);
    wire_feed(w, data + 2, size - 2);
    rig_go(r);
    if (data[0] & FIN)
        wire_eof(w);
    rig_advance(r, 31);
    rig_advance(r, 80);
    rig_free(r);
    if (check_failures() > 0)
        abort();
    return 0;
}
