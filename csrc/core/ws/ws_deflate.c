/*
 * Compression and decompression of messages with zlib, for many sockets with little memory.
 *
 * Out. Without context takeover a message is compressed by itself, so one compressor for each size
 * of window serves all sockets, and what it makes of a message does not depend on who gets it. The
 * last result is kept together with its message: a group of a thousand sockets that is sent the
 * same text costs one compression and a thousand comparisons, also when each of them was given a
 * text of its own (Channels). Messages are compared whole: an equal address means nothing, as freed
 * memory comes back for the next text.
 *
 * In. A socket has a decompressor while a message is under way; one waits for the next to come.
 * Output is made in steps, so that a bomb costs one step more than the limit that ws.c holds it to.
 * Blocks with BFINAL may come and are no end (7.2.3.5); the window outlives them, hence
 * inflateResetKeep, and a message must end where a block does.
 *
 * With context takeover each socket has both for itself, which is all that the memory limit counts.
 *
 * A window of 8 bits: zlib has none for raw streams, but its compressor with 9 never looks back
 * further than 512 - 262 = 250 bytes (MAX_DIST), so what it makes fits into 256. test_ws_deflate.c
 * holds the zlib that is there to it.
 *
 * Level 1 with mem_level 5, on JSON of 4 KB: 28 % in 27 us; level 6 has 26 % in 40 us, and the
 * larger tables of mem_level 8 win nothing (zlib 1.2.13). 64 bytes do not get smaller, 512 become
 * 44 %.
 */
#include "ws/ws_deflate.h"

#include "base/mem.h"

#include <assert.h>
#include <limits.h>
#include <string.h>

#define ZLIB_CONST
#include <zlib.h>

enum {
    TAIL = 4,          /* the bytes 00 00 ff ff of a sync flush, which are not sent (7.2.1) */
    CACHE_SIZE = 65536 /* longest message whose result is kept */
};

/* A message and its compressed form. */
typedef struct {
    /* n == 0: nothing is kept; packed_n == 0: the message did not get smaller */
    size_t n, packed_n;
    uint8_t bits;
    uint8_t message[CACHE_SIZE];
    uint8_t packed[CACHE_SIZE + TAIL];
} cache;

struct cd_ws_deflate_pool {
    int level, mem_level;
    size_t memory, held; /* memory for context takeover: the limit, and how much is in use */
    z_stream *deflaters[CD_DEFLATE_MAX_BITS + 1]; /* indexed by the bits of their window */
    z_stream *inflater;                           /* a decompressor that nobody uses now */
    cache *cache;
    uint8_t *large; /* the result for a message longer than CACHE_SIZE, until it is sent */
    uint8_t step[CD_WS_INFLATE_STEP];
};

const cd_str cd_ws_deflate_tail = {"\0\0\xff\xff", TAIL};

const char *cd_zlib_version(void)
{
    return zlibVersion();
}

/* ---- zlib's streams ---- */

static void *allocate(void *opaque, unsigned count, unsigned size)
{
    (void)opaque;
    return cd_alloc((size_t)count * size);
}

static void release(void *opaque, void *p)
{
    (void)opaque;
    cd_free(p);
}

static z_stream *new_stream(void)
{
    z_stream *z = cd_zalloc(sizeof *z);
    if (z == NULL)
        return NULL;
    z->zalloc = allocate;
    z->zfree = release;
    return z;
}

static int zlib_bits(uint8_t bits)
{
    return bits > CD_DEFLATE_MIN_BITS ? -bits : -(CD_DEFLATE_MIN_BITS + 1);
}

static z_stream *new_deflater(const cd_ws_deflate_pool *pool, uint8_t bits)
{
    z_stream *z = new_stream();
    if (z && deflateInit2(z, pool->level, Z_DEFLATED, zlib_bits(bits), pool->mem_level,
                          Z_DEFAULT_STRATEGY) != Z_OK) {
        cd_free(z);
        return NULL;
    }
    return z;
}

static z_stream *new_inflater(uint8_t bits)
{
    z_stream *z = new_stream();
    if (z && inflateInit2(z, zlib_bits(bits)) != Z_OK) {
        cd_free(z);
        return NULL;
    }
    return z;
}

static void free_deflater(z_stream *z)
{
    if (z != NULL)
        deflateEnd(z);
    cd_free(z);
}

static void free_inflater(z_stream *z)
{
    if (z != NULL)
        inflateEnd(z);
    cd_free(z);
}

/* ---- pool ---- */

cd_ws_deflate_pool *cd_ws_deflate_pool_new(int level, int mem_level, size_t memory)
{
    cd_ws_deflate_pool *pool = cd_zalloc(sizeof *pool);
    if (pool == NULL)
        return NULL;
    pool->level = level;
    pool->mem_level = mem_level;
    pool->memory = memory;
    return pool;
}

void cd_ws_deflate_pool_free(cd_ws_deflate_pool *pool)
{
    if (pool == NULL)
        return;
    assert(pool->held == 0);
    for (size_t i = 0; i <= CD_DEFLATE_MAX_BITS; i++)
        free_deflater(pool->deflaters[i]);
    free_inflater(pool->inflater);
    cd_free(pool->cache);
    cd_free(pool->large);
    cd_free(pool);
}

/* Returns the memory that a WebSocket holds between messages, from zconf.h and the states of
 * deflate.h and inflate.h. */
static size_t context_size(const cd_ws_deflate_pool *pool, const cd_ws_extension *agreed)
{
    enum { DEFLATER = 6144, INFLATER = 7168 };
    size_t size = 0;
    if (agreed->server_takeover)
        size += ((size_t)4 << agreed->server_bits) + ((size_t)512 << pool->mem_level) + DEFLATER;
    if (agreed->client_takeover)
        size += ((size_t)1 << agreed->client_bits) + INFLATER;
    return size;
}

bool cd_ws_deflate_affords(const cd_ws_deflate_pool *pool, const cd_ws_extension *agreed)
{
    return pool->memory == 0 || pool->held + context_size(pool, agreed) <= pool->memory;
}

/* ---- one socket ---- */

void cd_ws_deflate_open(cd_ws_deflate *d, cd_ws_deflate_pool *pool, const cd_ws_extension *agreed)
{
    *d = (cd_ws_deflate){.agreed = *agreed};
    if (!agreed->on)
        return;
    d->pool = pool;
    pool->held += context_size(pool, agreed);
}

void cd_ws_deflate_dispose(cd_ws_deflate *d)
{
    if (d->pool == NULL)
        return;
    d->pool->held -= context_size(d->pool, &d->agreed);
    free_deflater(d->deflater);
    free_inflater(d->inflater);
    *d = (cd_ws_deflate){0};
}

/* ---- in ---- */

static int get_inflater(cd_ws_deflate *d)
{
    cd_ws_deflate_pool *pool = d->pool;
    d->inflating = true;
    if (d->inflater != NULL)
        return CD_OK;
    d->inflater = pool->inflater;
    pool->inflater = NULL;
    if (d->inflater == NULL)
        d->inflater = new_inflater(d->agreed.client_bits);
    else
        inflateReset2(d->inflater, zlib_bits(d->agreed.client_bits));
    return d->inflater ? CD_OK : CD_NOMEM;
}

int cd_ws_deflate_inflate(cd_ws_deflate *d, cd_str *in, cd_str *out)
{
    uint8_t *to = d->pool->step;
    *out = (cd_str){(const char *)to, 0};
    if (get_inflater(d) < 0)
        return CD_NOMEM;
    z_stream *z = d->inflater;
    z->next_in = (const Bytef *)in->p;
    z->avail_in = in->n < UINT_MAX ? (uInt)in->n : UINT_MAX;
    z->next_out = to;
    z->avail_out = CD_WS_INFLATE_STEP;
    int code = inflate(z, Z_SYNC_FLUSH);
    size_t used = (size_t)((const char *)z->next_in - in->p);
    *in = (cd_str){in->p + used, in->n - used};
    out->n = CD_WS_INFLATE_STEP - z->avail_out;
    if (code == Z_STREAM_END)
        code = inflateResetKeep(z);
    if (code == Z_MEM_ERROR)
        return CD_NOMEM;
    /* Z_BUF_ERROR: there was nothing to do, as when the last call's output exactly filled the
     * step. */
    return code == Z_OK || (code == Z_BUF_ERROR && in->n == 0) ? CD_OK : CD_VALUE;
}

void cd_ws_deflate_drop(cd_ws_deflate *d)
{
    if (d->inflater == NULL)
        return;
    if (d->pool->inflater == NULL)
        d->pool->inflater = d->inflater;
    else
        free_inflater(d->inflater);
    d->inflater = NULL;
}

int cd_ws_deflate_inflated(cd_ws_deflate *d)
{
    enum { BETWEEN_BLOCKS = 128 }; /* in data_type, see inflate() in zlib.h */
    int code = d->inflating && !(d->inflater->data_type & BETWEEN_BLOCKS) ? CD_VALUE : CD_OK;
    d->inflating = false;
    if (!d->agreed.client_takeover)
        cd_ws_deflate_drop(d);
    return code;
}

/* ---- out ---- */

static z_stream *get_deflater(cd_ws_deflate *d)
{
    uint8_t bits = d->agreed.server_bits;
    z_stream **slot = d->agreed.server_takeover ? &d->deflater : &d->pool->deflaters[bits];
    if (*slot == NULL)
        *slot = new_deflater(d->pool, bits);
    else if (!d->agreed.server_takeover)
        deflateReset(*slot);
    return *slot;
}

/* Compresses n bytes; `to` has room for n + TAIL bytes. Returns the size; 0: it is not less than
 * n. */
static size_t pack(cd_ws_deflate *d, cd_str message, uint8_t *to)
{
    z_stream *z = get_deflater(d);
    if (z == NULL)
        return 0;
    size_t room = message.n + TAIL;
    z->next_in = (const Bytef *)message.p;
    z->avail_in = (uInt)message.n;
    z->next_out = to;
    z->avail_out = (uInt)room;
    deflate(z, Z_SYNC_FLUSH);
    if (z->avail_out > 0)
        return room - z->avail_out - TAIL;
    deflateReset(z); /* the peer's window will not contain this message */
    return 0;
}

void cd_ws_deflate_packed(cd_ws_deflate *d)
{
    cd_free(d->pool->large);
    d->pool->large = NULL;
}

static cd_str result(const uint8_t *p, size_t n)
{
    return (cd_str){n > 0 ? (const char *)p : NULL, n};
}

/* Measured with 4 KB to a thousand WebSockets: 1 to 3 us each, and 25 to 30 us when each gets
 * another text. */
static cd_str pack_cached(cd_ws_deflate *d, cd_str message)
{
    cd_ws_deflate_pool *pool = d->pool;
    bool alone = d->agreed.server_takeover;
    if (pool->cache == NULL && (pool->cache = cd_alloc(sizeof *pool->cache)) == NULL)
        return result(NULL, 0);
    cache *k = pool->cache;
    if (!alone && k->n == message.n && k->bits == d->agreed.server_bits &&
        memcmp(k->message, message.p, message.n) == 0)
        return result(k->packed, k->packed_n);
    k->n = 0;
    k->packed_n = pack(d, message, k->packed);
    if (!alone) {
        k->n = message.n;
        k->bits = d->agreed.server_bits;
        memcpy(k->message, message.p, message.n);
    }
    return result(k->packed, k->packed_n);
}

cd_str cd_ws_deflate_pack(cd_ws_deflate *d, cd_str message)
{
    if (message.n == 0 || message.n > INT_MAX)
        return result(NULL, 0);
    if (message.n <= CACHE_SIZE)
        return pack_cached(d, message);
    size_t n = 0;
    if ((d->pool->large = cd_alloc(message.n + TAIL)) != NULL)
        n = pack(d, message, d->pool->large);
    if (n == 0)
        cd_ws_deflate_packed(d);
    return result(d->pool->large, n);
}
