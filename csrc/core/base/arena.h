/*
 * Memory that is freed all at once: a chain of blocks. For what lives as long as a stream: its head
 * and header table. The struct is embedded; the blocks are its own.
 */
#ifndef CD_ARENA_H
#define CD_ARENA_H

#include <stddef.h>

typedef struct cd_arena_block cd_arena_block;

typedef struct {
    cd_arena_block *blocks;
    size_t used, size; /* of the newest block */
    size_t expected;   /* size of the next block; 0: the usual one */
} cd_arena;

void cd_arena_init(cd_arena *a);
/* The next block is for about n bytes: what the caller is going to ask for. */
void cd_arena_expect(cd_arena *a, size_t n);
void cd_arena_dispose(cd_arena *a);
/* n bytes, aligned for anything, not zeroed; NULL: no memory. n == 0 gives a valid pointer. */
void *cd_arena_alloc(cd_arena *a, size_t n);

#endif
