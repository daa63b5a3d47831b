/*
 * frames.c - what frames.h says. A client's frames have one mask for all, so that a trace can be
 * compared with a text.
 */
#include "frames.h"

#include "ws/ws_frame.h"

static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};

void add_frame(text *t, uint8_t first, const char *p, size_t n)
{
    uint8_t head[CD_WS_MAX_SERVER_HEADER];
    if (first == RAW) {
        text_add(t, p, n);
        return;
    }
    size_t size = cd_ws_write_header(head, CD_WS_TEXT, n);
    head[0] = first;
    head[1] |= 0x80;
    text_add(t, head, size);
    text_add(t, mask, 4);
    for (size_t i = 0; i < n; i++) {
        char c = (char)(p[i] ^ mask[i % 4]);
        text_add(t, &c, 1);
    }
}

void add_output(text *t, uint8_t first, const char *p, size_t n)
{
    uint8_t head[CD_WS_MAX_SERVER_HEADER];
    size_t size = cd_ws_write_header(head, CD_WS_TEXT, n);
    head[0] = first;
    text_add(t, head, size);
    text_add(t, p, n);
}

void feed_frame(wire *w, uint8_t first, const char *p, size_t n)
{
    text t = {0};
    add_frame(&t, first, p, n);
    wire_feed(w, t.p, t.n);
    text_free(&t);
}
