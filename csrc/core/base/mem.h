/* Allocation for the core. Every allocation goes through here, so that tests can make the n-th one
 * fail. */
#ifndef CD_MEM_H
#define CD_MEM_H

#include <stddef.h>

/* As malloc, calloc, realloc and free. NULL: no memory; nothing was changed. */
void *cd_alloc(size_t n);
void *cd_zalloc(size_t n);
void *cd_realloc(void *p, size_t n);
void cd_free(void *p);

/* The same for what every request needs for a moment. Whoever gives a block back knows how large it
 * was asked for; p may be NULL. */
void *cd_pool_take(size_t n);
void cd_pool_give(void *p, size_t n);
/* Frees what this thread's pool keeps. */
void cd_pool_drain(void);

#ifdef CD_DEBUG
/* Tests only: the n-th allocation from now on (1 is the next) and all after it fail; 0 switches it
 * off. */
void cd_alloc_fail_at(long n);
/* Tests only: blocks that are allocated now. */
long cd_alloc_live(void);
#endif

#endif
