/*
 * arena.c - allocations that end together.
 *
 * A stream's head is a dozen slices, a header table and what was copied for the close reason: one
 * lifetime, so one chain of blocks and one walk to free it. Whoever fills it says first how much it
 * will take, so a request costs one malloc here, and a WebSocket that stays for days holds no more
 * than its head (2 KB blocks were a quarter of what an idle one cost).
 *
 * Nothing is ever given back singly, and nothing is zeroed.
 */
#include "base/arena.h"

#include "base/mem.h"

#include <stdalign.h>
#include <stdint.h>

enum { BLOCK_SIZE = 512 };

struct cd_arena_block {
    cd_arena_block *next;
    size_t size;
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
        cd_pool_give(a->blocks, a->blocks->size);
        a->blocks = next;
    }
    cd_arena_init(a);
}

static size_t aligned(size_t n)
{
    size_t to = alignof(max_align_t);
    return (n + to - 1) / to * to;
}

void cd_arena_expect(cd_arena *a, size_t n)
{
    a->expected = aligned(n);
}

static int add_block(cd_arena *a, size_t n)
{
    size_t usual = a->expected > 0 ? a->expected : BLOCK_SIZE;
    size_t size = n > usual ? n : usual;
    cd_arena_block *block = cd_pool_take(sizeof *block + size);
    if (block == NULL)
        return -1;
    block->size = sizeof *block + size;
    block->next = a->blocks;
    a->blocks = block;
    a->used = a->expected = 0;
    a->size = size;
    return 0;
}

void *cd_arena_alloc(cd_arena *a, size_t n)
{
    if (n > SIZE_MAX / 2)
        return NULL;
    n = aligned(n);
    if (a->size - a->used < n || a->blocks == NULL) {
        if (add_block(a, n) < 0)
            return NULL;
    }
    void *p = a->blocks->bytes + a->used;
    a->used += n;
    return p;
}
