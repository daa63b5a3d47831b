/*
 * An arena: a chain of memory blocks that are freed all at once. It holds what lives as long as a
 * stream, its head and header table. The struct is embedded in its owner and owns the blocks.
 */
#ifndef CD_ARENA_H
#define CD_ARENA_H

#include <stddef.h>

typedef struct cd_arena_block cd_arena_block;

typedef struct {
    cd_arena_block *blocks;
    size_t used, size; /* bytes of the newest block */
    size_t expected;   /* size of the next block; 0: the usual one */
} cd_arena;

void cd_arena_init(cd_arena *a);
/* Makes the next block n bytes large: the caller is going to ask for about as many. */
void cd_arena_expect(cd_arena *a, size_t n);
void cd_arena_dispose(cd_arena *a);
/* Returns n bytes, aligned for any type and not zeroed. NULL: no memory. n == 0 gives a valid
 * pointer. */
void *cd_arena_alloc(cd_arena *a, size_t n);

#endif
