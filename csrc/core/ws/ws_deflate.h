/* Messages of permessage-deflate (RFC 7692, 7.2): in piece by piece, out whole. No frames and no
 * connection: ws.c has those. */
#ifndef CD_WS_DEFLATE_H
#define CD_WS_DEFLATE_H

#include "cdaphne.h"
#include "ws/ws_extension.h"

struct z_stream_s;

/* What the sockets of a server share: compressors, and a decompressor for whoever needs one
 * next. */
typedef struct cd_ws_deflate_pool cd_ws_deflate_pool;

/* A pool with nothing in it yet. NULL: no memory. level and mem_level are zlib's, 1 to 9; `memory`
 * bytes may be held for context takeover, 0: no limit. */
cd_ws_deflate_pool *cd_ws_deflate_pool_new(int level, int mem_level, size_t memory);
/* Every socket of it must have been disposed. NULL is allowed. */
void cd_ws_deflate_pool_free(cd_ws_deflate_pool *pool);
/* Is there memory for what one more such socket holds between messages? */
bool cd_ws_deflate_affords(const cd_ws_deflate_pool *pool, const cd_ws_extension *agreed);

/* One socket's side. Embedded; holds memory between messages only with context takeover. */
typedef struct {
    cd_ws_deflate_pool *pool; /* NULL: messages go as they are */
    cd_ws_extension agreed;
    bool inflating;              /* some of a message has come */
    struct z_stream_s *inflater; /* of the message under way; with client_takeover of all */
    struct z_stream_s *deflater; /* with server_takeover, from the first message on */
} cd_ws_deflate;

/* Starts with what was agreed on; agreed.on == false: nothing to be done. */
void cd_ws_deflate_open(cd_ws_deflate *d, cd_ws_deflate_pool *pool, const cd_ws_extension *agreed);
void cd_ws_deflate_dispose(cd_ws_deflate *d);

/*
 * Decompresses: takes bytes off *in and shows in *out what they became, at most
 * CD_WS_INFLATE_STEP bytes, valid until the next call on any socket. To be called until *in is
 * empty and less than that came out. CD_OK, CD_NOMEM, CD_VALUE: not what deflate makes.
 */
enum { CD_WS_INFLATE_STEP = 16384 };
int cd_ws_deflate_inflate(cd_ws_deflate *d, cd_str *in, cd_str *out);

/* What the sender of a message left away (7.2.2): to be decompressed as its last bytes, unless
 * !d->inflating, because it had none at all. */
extern const cd_str cd_ws_deflate_tail;

/* The message has ended: CD_OK, or CD_VALUE: it was cut. */
int cd_ws_deflate_inflated(cd_ws_deflate *d);
/* Nobody wants the rest of the message; nothing more may be decompressed. */
void cd_ws_deflate_drop(cd_ws_deflate *d);

/*
 * Compresses a whole message. Valid until cd_ws_deflate_packed. p == NULL: it would not become
 * smaller, or there is no memory: it goes as it is.
 */
cd_str cd_ws_deflate_pack(cd_ws_deflate *d, cd_str message);
/* The result of cd_ws_deflate_pack was copied. */
void cd_ws_deflate_packed(cd_ws_deflate *d);

#endif
