/* Compression of messages by permessage-deflate (RFC 7692, 7.2). Incoming messages are decompressed
 * piece by piece, outgoing ones compressed whole. ws.c has the frames and the connection. */
#ifndef CD_WS_DEFLATE_H
#define CD_WS_DEFLATE_H

#include "cdaphne.h"
#include "ws/ws_extension.h"

struct z_stream_s;

/* What the WebSockets of a server share: compressors, and a decompressor that one after the other
 * uses. */
typedef struct cd_ws_deflate_pool cd_ws_deflate_pool;

/* Makes an empty pool. NULL: no memory. level and mem_level are zlib's, 1 to 9. At most `memory`
 * bytes may be held for context takeover; 0: no limit. */
cd_ws_deflate_pool *cd_ws_deflate_pool_new(int level, int mem_level, size_t memory);
/* Frees a pool. Its WebSockets must have been disposed of before. NULL is allowed. */
void cd_ws_deflate_pool_free(cd_ws_deflate_pool *pool);
/* Does the pool's limit have room for what one more WebSocket with these settings holds between
 * messages? */
bool cd_ws_deflate_affords(const cd_ws_deflate_pool *pool, const cd_ws_extension *agreed);

/* The state of one WebSocket. It is embedded in its owner and holds memory between messages only
 * with context takeover. */
typedef struct {
    cd_ws_deflate_pool *pool; /* NULL: messages are not compressed */
    cd_ws_extension agreed;
    bool inflating; /* a part of a message has come */
    /* for the message under way; with client_takeover for all messages */
    struct z_stream_s *inflater;
    struct z_stream_s *deflater; /* only with server_takeover, from the first message on */
} cd_ws_deflate;

/* Starts compression as agreed; with agreed.on == false it does nothing. */
void cd_ws_deflate_open(cd_ws_deflate *d, cd_ws_deflate_pool *pool, const cd_ws_extension *agreed);
void cd_ws_deflate_dispose(cd_ws_deflate *d);

/*
 * Decompresses: takes bytes off *in and sets *out to the result, at most CD_WS_INFLATE_STEP bytes,
 * valid until the next call for any WebSocket. Call it again until *in is empty and *out is shorter
 * than that. Returns CD_OK, CD_NOMEM, or CD_VALUE when the input is not valid.
 */
enum { CD_WS_INFLATE_STEP = 16384 };
int cd_ws_deflate_inflate(cd_ws_deflate *d, cd_str *in, cd_str *out);

/* The bytes that the sender leaves out at the end of a message (7.2.2). They must be decompressed
 * behind its last bytes; but not when !d->inflating, because the message had no bytes at all. */
extern const cd_str cd_ws_deflate_tail;

/* Ends a message. Returns CD_OK, or CD_VALUE when the message is incomplete. */
int cd_ws_deflate_inflated(cd_ws_deflate *d);
/* Gives up the message; nothing more of it may be decompressed. */
void cd_ws_deflate_drop(cd_ws_deflate *d);

/*
 * Compresses a whole message. The result is valid until cd_ws_deflate_packed. p == NULL: the
 * message would not become smaller, or there is no memory; it is to be sent as it is.
 */
cd_str cd_ws_deflate_pack(cd_ws_deflate *d, cd_str message);
/* Must be called when the result of cd_ws_deflate_pack was copied. */
void cd_ws_deflate_packed(cd_ws_deflate *d);

#endif
