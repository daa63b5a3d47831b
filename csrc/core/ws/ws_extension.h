/* Negotiates permessage-deflate (RFC 7692, 5 and 7.1) from the header fields of a handshake, in
 * whatever protocol they came. It needs no connection, no memory and no zlib. */
#ifndef CD_WS_EXTENSION_H
#define CD_WS_EXTENSION_H

#include "cdaphne.h"

enum {
    CD_DEFLATE_MIN_BITS = 8,
    CD_DEFLATE_MAX_BITS = 15,
    CD_WS_EXTENSION_SIZE = 160, /* longer than the longest answer */
};

/* What both sides agreed on. The server may do less than its answer says; so the first fields say
 * what it does, and those with `_said` what stands in the answer. */
typedef struct {
    bool on;
    bool server_takeover, client_takeover; /* the window is kept from message to message */
    uint8_t server_bits, client_bits;      /* size of the window, as a power of two */
    bool no_server_takeover_said : 1;
    bool no_client_takeover_said : 1;
    bool server_bits_said : 1;
    bool client_bits_said : 1;
} cd_ws_extension;

/*
 * Accepts the first offer of permessage-deflate that the server can fulfil, with windows of at most
 * `bits`, and with context takeover only if `takeover` is set. on == false: there was none. Offers
 * with a parameter that is unknown, malformed, out of range or given twice do not count.
 */
cd_ws_extension cd_ws_extension_negotiate(const cd_header *headers, size_t count, unsigned bits,
                                          bool takeover);

/* Writes the value of Sec-WebSocket-Extensions that accepts the offer, and returns its length. */
size_t cd_ws_extension_answer(const cd_ws_extension *extension, char to[CD_WS_EXTENSION_SIZE]);

#endif
