/* Frames of both sides by hand, and a handshake, for the tests of WebSockets. */
#ifndef FRAMES_H
#define FRAMES_H

#include "harness.h"

#define REQUEST_OF(path, more)                                                          \
    "GET " path " HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" \
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" more "\r\n"
#define REQUEST REQUEST_OF("/ws", "")

typedef struct {
    uint8_t first;
    const char *p;
    size_t n;
} frame;

#define F(first, literal) {first, literal, sizeof literal - 1}

enum { TEXT = 0x81, BINARY = 0x82, CLOSE = 0x88, PING = 0x89, PONG = 0x8a };
enum { TEXT_PART = 0x01, BINARY_PART = 0x02, PART = 0x00, LAST = 0x80, RAW = 0xff };

/* A client's frame; RAW: the bytes as they are. */
void add_frame(text *t, uint8_t first, const char *p, size_t n);
/* A server's frame. */
void add_output(text *t, uint8_t first, const char *p, size_t n);
/* A client's frame is sent. */
void feed_frame(wire *w, uint8_t first, const char *p, size_t n);

#define FEED(wire, first, literal) feed_frame(wire, first, literal, sizeof literal - 1)

#endif
