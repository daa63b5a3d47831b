/*
 * arena.c - allocations that end together.
 *
 * A stream's head is a dozen slices, a header table and what was copied for the close reason: one
 * lifetime, so one chain of blocks and one walk to free it. The first block fits the head of an
 * ordinary browser request, so a request costs one malloc here.
 *
 * Nothing is ever given back singly, and nothing is zeroed.
 */
#include "arena.h"

#include "mem.h"

#include <stdalign.h>
#include <stdint.h>

enum { BLOCK_SIZE = 2048 };

struct cd_arena_block {
    cd_arena_block *next;
    alignas(max_align_t) unsigned char bytes[];
};

void cd_arena_init(cd_arena *a)
{
    *a = (cd_arena){0};
}

void cd_arena_dispose(cd_arena *a)
{
    while (a->blocks != NULL) {
        cd_arena_block *next = a->blocks->next;
        cd_free(a->blocks);
        a->blocks = next;
    }
    cd_arena_init(a);
}

static int add_block(cd_arena *a, size_t n)
{
    size_t size = n > BLOCK_SIZE ? n : BLOCK_SIZE;
    cd_arena_block *block = cd_alloc(sizeof *block + size);
    if (block == NULL)
        return -1;
    block->next = a->blocks;
    a->blocks = block;
    a->used = 0;
    a->size = size;
    return 0;
}

void *cd_arena_alloc(cd_arena *a, size_t n)
{
    size_t aligned = alignof(max_align_t);
    if (n > SIZE_MAX / 2)
        return NULL;
    n = (n + aligned - 1) / aligned * aligned;
    if (a->size - a->used < n || a->blocks == NULL) {
        if (add_block(a, n) < 0)
            return NULL;
    }
    void *p = a->blocks->bytes + a->used;
    a->used += n;
    return p;
}
