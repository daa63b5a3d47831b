/*
 * Fuzzes permessage-deflate from the offer to the last message. The first byte says whether context
 * takeover is on, the second how the input is cut; then comes the value of Sec-WebSocket-Extensions
 * up to a line feed, then what the peer sends after the handshake. Messages are sent back, so
 * what was inflated is deflated again. Seeds have frames with a mask of zeros.
 *
 * Beside the sanitizers it is checked that nothing is left when the rig is freed, and that the
 * events do not depend on the cuts.
 */
#include "frames.h"
#include "harness.h"

enum { MOST = 4096 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What the application saw, in a text of the caller. */
static void run(const uint8_t *data, size_t size, enum cut cut, text *trace)
{
    const uint8_t *end = memchr(data + 2, '\n', size - 2);
    size_t offer = end ? (size_t)(end - data) - 2 : size - 2;
    rig *r = rig_new(cut, data[1]);
    text head = {0};
    if (r == NULL)
        abort();
    r->script = "wsecho";
    wire *w = wire_open(r);
    text_format(&head, REQUEST_OF("/ws", "Sec-WebSocket-Extensions: %.*s\r\n"), (int)offer,
                (const char *)data + 2);
    wire_feed(w, head.p, head.n);
    text_free(&head);
    if (end)
        wire_feed(w, end + 1, size - offer - 3);
    rig_advance(r, 3);
    rig_advance(r, 3);
    const char *events = rig_trace(r);
    text_add(trace, events, strlen(events));
    rig_free(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static cd_config config;
    if (size < 2 || size > MOST)
        return 0;
    config.access_fd = -1;
    config.websocket_deflate = true;
    config.websocket_deflate_context_takeover = data[0] & 1;
    config.limits = cd_config_default.limits;
    config.limits.websocket_deflate_min_size = 1;
    config.limits.websocket_max_frame_size = 2000;
    config.limits.websocket_max_message_size = 20000;
    config.limits.websocket_high_water = 600;
    config.limits.ping_interval = config.limits.ping_timeout = 2;
    config.limits.websocket_close_timeout = 2;
    rig_configure(&config);
    text whole = {0}, cut = {0};
    run(data, size, CUT_WHOLE, &whole);
    run(data, size, data[1] ? CUT_RANDOM : CUT_BYTES, &cut);
    if (whole.n != cut.n || memcmp(whole.p, cut.p, whole.n) != 0) {
        fprintf(stderr, "whole:\n%s\ncut:\n%s\n", whole.p, cut.p);
        abort();
    }
    text_free(&whole);
    text_free(&cut);
    if (check_failures() > 0)
        abort();
    return 0;
}
