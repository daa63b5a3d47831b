/*
 * mem.c - the core's allocator: malloc, with two things that only tests use.
 *
 * A failed allocation must close a connection and never the process, and the only way to know that
 * it does is to make every single allocation fail once. cd_alloc_fail_at() does that for the C
 * tests: they run a scenario again and again, failing one allocation later each time.
 * cd_alloc_live() then tells whether anything was left behind.
 *
 * No pools here: glibc's thread cache serves what a request needs (a stream, an arena block, an
 * output buffer) in tens of nanoseconds, and unlike a pool it lets ASan see a use after free.
 *
 * One loop runs on one thread, but a process may have several loops, hence the atomics; they are
 * not on the path of a release build.
 */
#include "mem.h"

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

#else

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

#endif
