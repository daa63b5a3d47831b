/*
 * buf.c - a byte queue in one heap block.
 *
 * Output waits in one, and so does input that a protocol cannot take yet. The block doubles, and
 * goes back to the heap as soon as the queue is empty: thousands of idle connections must not keep
 * the memory of their last request. Consuming moves an index; bytes are moved to the front only
 * when room is needed at the end, so a byte moves less than twice on average.
 *
 * It knows nothing of connections; how much may queue is the business of whoever appends.
 */
#include "base/buf.h"

#include "base/mem.h"
#include "cdaphne.h"

#include <string.h>

/* A small message fits, and so does the head of most responses. */
enum { FIRST_SIZE = 256, MOVED_SIZE = 4096 /* from here on realloc may grow it in place */ };

void cd_buf_init(cd_buf *b)
{
    *b = (cd_buf){0};
}

void cd_buf_dispose(cd_buf *b)
{
    if (b->block != NULL)
        CD_LIVE(buffers, -1);
    cd_pool_give(b->block, b->size);
    cd_buf_init(b);
}

/* Moves the bytes to a block of `size` and frees the old one. NULL: no memory, and nothing was
 * changed. */
static uint8_t *larger(cd_buf *b, size_t length, size_t size)
{
    if (b->size >= MOVED_SIZE) {
        memmove(b->block, cd_buf_data(b), length);
        b->start = 0;
        b->end = length;
        return cd_realloc(b->block, size); /* a large block moves by its page table */
    }
    uint8_t *block = cd_pool_take(size);
    if (block != NULL && length > 0)
        memcpy(block, cd_buf_data(b), length);
    if (block != NULL)
        cd_pool_give(b->block, b->size);
    return block;
}

static int grow(cd_buf *b, size_t n)
{
    size_t length = cd_buf_length(b);
    size_t size = b->size ? b->size : FIRST_SIZE;
    if (n > SIZE_MAX / 2 - length)
        return CD_NOMEM;
    while (size < length + n)
        size *= 2;
    bool first = b->block == NULL;
    uint8_t *block = larger(b, length, size);
    if (block == NULL)
        return CD_NOMEM;
    if (first)
        CD_LIVE(buffers, 1);
    *b = (cd_buf){.block = block, .end = length, .size = size};
    return CD_OK;
}

uint8_t *cd_buf_reserve(cd_buf *b, size_t n)
{
    if (b->size - b->end >= n && b->block != NULL)
        return b->block + b->end;
    size_t length = cd_buf_length(b);
    if (b->start >= length && b->size >= length + n && b->block != NULL) {
        memmove(b->block, cd_buf_data(b), length);
        b->start = 0;
        b->end = length;
    } else if (grow(b, n) < 0) {
        return NULL;
    }
    return b->block + b->end;
}

void cd_buf_commit(cd_buf *b, size_t n)
{
    b->end += n;
}

int cd_buf_append(cd_buf *b, const void *p, size_t n)
{
    if (n == 0)
        return CD_OK;
    uint8_t *room = cd_buf_reserve(b, n);
    if (room == NULL)
        return CD_NOMEM;
    memcpy(room, p, n);
    cd_buf_commit(b, n);
    return CD_OK;
}

void cd_buf_consume(cd_buf *b, size_t n)
{
    b->start += n;
    if (b->start == b->end)
        cd_buf_dispose(b);
}
