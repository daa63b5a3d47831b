/* Parses and writes WebSocket frames (RFC 6455, 5 and 8.1): bytes in, bytes out, without a
 * connection and without memory of its own. */
#ifndef CD_WS_FRAME_H
#define CD_WS_FRAME_H

#include "cdaphne.h"

enum cd_ws_opcode {
    CD_WS_CONTINUATION = 0,
    CD_WS_TEXT = 1,
    CD_WS_BINARY = 2,
    CD_WS_CLOSE = 8,
    CD_WS_PING = 9,
    CD_WS_PONG = 10,
};

/* Close codes that the server itself uses (RFC 6455, 7.4.1). */
enum cd_ws_code {
    CD_WS_NORMAL = 1000,
    CD_WS_GOING_AWAY = 1001,
    CD_WS_PROTOCOL_ERROR = 1002,
    CD_WS_NO_CODE = 1005,  /* must not be sent */
    CD_WS_ABNORMAL = 1006, /* must not be sent */
    CD_WS_BAD_DATA = 1007,
    CD_WS_TOO_BIG = 1009,
    CD_WS_INTERNAL_ERROR = 1011,
};

enum {
    CD_WS_MAX_CLIENT_HEADER = 14, /* 2 + 8 of length + 4 of mask */
    CD_WS_MAX_SERVER_HEADER = 10,
    CD_WS_MAX_CONTROL = 125, /* payload of a control frame */
    CD_WS_MAX_REASON = 123,
    CD_WS_RSV1 = 0x40, /* bit of a header's first byte: the message is compressed (RFC 7692, 6) */
};

typedef struct {
    uint64_t length; /* length of the payload; below 2^63 */
    uint8_t mask[4];
    uint8_t opcode;
    bool fin, rsv1;
} cd_ws_frame;

static inline bool cd_ws_is_control(uint8_t opcode)
{
    return opcode >= CD_WS_CLOSE;
}

/*
 * Parses the header of a client's frame. `rsv` is the reserved bit to which an extension gave a
 * meaning: 0 or CD_WS_RSV1. Returns the size of the header; 0 when the n bytes do not have all of
 * it; or, as soon as the bytes prove it, CD_FRAMING for what a client must not send (1002). *frame
 * is valid only when the size is returned.
 */
int cd_ws_parse_header(const uint8_t *p, size_t n, uint8_t rsv, cd_ws_frame *frame);

/* Writes the header of a server's frame, which is final and not masked. Returns its size, at most
 * CD_WS_MAX_SERVER_HEADER. */
size_t cd_ws_write_header(uint8_t *to, enum cd_ws_opcode opcode, uint64_t length);

/*
 * Copies n bytes of payload and removes the mask. `offset` is the number of bytes of the same frame
 * before these. `to` and `from` may be the same, else they must not overlap.
 */
void cd_ws_unmask(uint8_t *to, const uint8_t *from, size_t n, const uint8_t mask[4],
                  uint64_t offset);

/*
 * Checks UTF-8 (RFC 3629) piece by piece: it accepts no overlong forms, no surrogates and nothing
 * above U+10FFFF. The state begins as CD_UTF8_START, returns to it after each complete character,
 * and stays CD_UTF8_BAD once the text cannot become valid.
 */
enum { CD_UTF8_BAD = 0, CD_UTF8_START = 6 };
unsigned cd_utf8_check(unsigned state, const uint8_t *p, size_t n);

/* May a close frame of a peer or of the application have this code (RFC 6455, 7.4)? */
bool cd_ws_code_on_wire(int code);

/*
 * Parses the payload of a peer's close frame, at most CD_WS_MAX_CONTROL bytes. Returns CD_OK and
 * sets *code (CD_WS_NO_CODE when the payload is empty) and *reason, which points into p; else the
 * code to fail the connection with, 1002 or 1007.
 */
int cd_ws_parse_close(const uint8_t *p, size_t n, int *code, cd_str *reason);

#endif
