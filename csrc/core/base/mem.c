/*
 * mem.c - the core's allocator: malloc, with two things that only tests use.
 *
 * A failed allocation must close a connection and never the process, and the only way to know that
 * it does is to make every single allocation fail once. cd_alloc_fail_at() does that for the C
 * tests: they run a scenario again and again, failing one allocation later each time.
 * cd_alloc_live() then tells whether anything was left behind.
 *
 * What a request needs (a stream, an arena block, an output buffer) comes from a pool. glibc's
 * thread cache holds seven blocks of a size and gives calloc() none of them, so with more requests
 * than that in one turn of the loop its slow paths took 700 of 27,500 instructions for each. The
 * pool is the thread's own, as a loop is; what another thread gives back stays in that thread's,
 * and none keeps more than KEPT_MOST. With CD_DEBUG there is no pool: ASan shall see a use after
 * free, and the tests count blocks.
 *
 * One loop runs on one thread, but a process may have several loops, hence the atomics; they are
 * not on the path of a release build.
 */
#include "base/mem.h"

#include "cdaphne.h"

#include <stdlib.h>

#ifdef CD_DEBUG
#include <stdatomic.h>

cd_live cd_live_counts;

static atomic_long fail_countdown;
static atomic_long live;

static bool must_fail(void)
{
    long left = atomic_load(&fail_countdown);
    if (left == 0)
        return false;
    if (left > 1)
        atomic_fetch_sub(&fail_countdown, 1);
    return left == 1;
}

static void *count(void *p)
{
    if (p != NULL)
        atomic_fetch_add(&live, 1);
    return p;
}

void *cd_alloc(size_t n)
{
    return must_fail() ? NULL : count(malloc(n ? n : 1));
}

void *cd_zalloc(size_t n)
{
    return must_fail() ? NULL : count(calloc(1, n ? n : 1));
}

void *cd_realloc(void *p, size_t n)
{
    if (must_fail())
        return NULL;
    void *fresh = realloc(p, n);
    return p == NULL ? count(fresh) : fresh;
}

void cd_free(void *p)
{
    if (p != NULL)
        atomic_fetch_sub(&live, 1);
    free(p);
}

void cd_alloc_fail_at(long n)
{
    atomic_store(&fail_countdown, n);
}

long cd_alloc_live(void)
{
    return atomic_load(&live);
}

void *cd_pool_take(size_t n)
{
    return cd_alloc(n);
}

void cd_pool_give(void *p, size_t n)
{
    (void)n;
    cd_free(p);
}

void cd_pool_drain(void)
{
}

#else

/* Sizes are multiples of STEP, so that little is lost on blocks that stay for long. */
enum { STEP = 64, KINDS = 17, KEPT_MOST = 256 * 1024 };

typedef struct block {
    struct block *next;
} block;

static _Thread_local struct {
    block *kept[KINDS]; /* by size, in steps */
    size_t size;        /* size of all blocks that are kept */
} pool;

void *cd_alloc(size_t n)
{
    return malloc(n);
}

void *cd_zalloc(size_t n)
{
    return calloc(1, n);
}

void *cd_realloc(void *p, size_t n)
{
    return realloc(p, n);
}

void cd_free(void *p)
{
    free(p);
}

void *cd_pool_take(size_t n)
{
    size_t kind = (n + STEP - 1) / STEP;
    if (kind >= KINDS)
        return malloc(n);
    block *taken = pool.kept[kind];
    if (taken == NULL)
        return malloc(kind * STEP);
    pool.kept[kind] = taken->next;
    pool.size -= kind * STEP;
    return taken;
}

void cd_pool_give(void *p, size_t n)
{
    size_t kind = (n + STEP - 1) / STEP;
    block *given = p;
    if (given == NULL || kind >= KINDS || pool.size + kind * STEP > KEPT_MOST) {
        free(p);
        return;
    }
    given->next = pool.kept[kind];
    pool.kept[kind] = given;
    pool.size += kind * STEP;
}

void cd_pool_drain(void)
{
    for (size_t kind = 0; kind < KINDS; kind++) {
        while (pool.kept[kind] != NULL) {
            block *next = pool.kept[kind]->next;
            free(pool.kept[kind]);
            pool.kept[kind] = next;
        }
    }
    pool.size = 0;
}

#endif
