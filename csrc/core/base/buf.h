/*
 * A byte queue: append at the end, consume from the front. One heap block that doubles, given back
 * when it runs empty, so an idle connection holds none. The struct is embedded; the block is its
 * own.
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
/* Room for n bytes at the end; NULL: no memory. Pointers into the buffer are void afterwards. Then
 * cd_buf_commit what was used. */
uint8_t *cd_buf_reserve(cd_buf *b, size_t n);
void cd_buf_commit(cd_buf *b, size_t n);
/* CD_OK or CD_NOMEM. */
int cd_buf_append(cd_buf *b, const void *p, size_t n);
/* Drops n bytes from the front; the block goes when none is left. */
void cd_buf_consume(cd_buf *b, size_t n);

#endif
