/*
 * A byte queue: bytes are appended at the end and consumed from the front. Its one heap block
 * doubles when it is full and is freed when it runs empty, so an idle connection holds none. The
 * struct is embedded in its owner and owns the block.
 */
#ifndef CD_BUF_H
#define CD_BUF_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint8_t *block;
    size_t start, end, size; /* the bytes are block[start..end) */
} cd_buf;

/* The smaller of two sizes. */
static inline size_t cd_least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline size_t cd_buf_length(const cd_buf *b)
{
    return b->end - b->start;
}

static inline uint8_t *cd_buf_data(const cd_buf *b)
{
    return b->block + b->start;
}

void cd_buf_init(cd_buf *b);
/* Frees the block; the buffer is empty and usable afterwards. */
void cd_buf_dispose(cd_buf *b);
/* Returns room for n bytes at the end, or NULL when there is no memory. Pointers into the buffer
 * are invalid afterwards. Call cd_buf_commit with the number of bytes that were filled. */
uint8_t *cd_buf_reserve(cd_buf *b, size_t n);
void cd_buf_commit(cd_buf *b, size_t n);
/* Copies n bytes to the end. Returns CD_OK or CD_NOMEM. */
int cd_buf_append(cd_buf *b, const void *p, size_t n);
/* Drops n bytes from the front; the block is freed when none is left. */
void cd_buf_consume(cd_buf *b, size_t n);

#endif
