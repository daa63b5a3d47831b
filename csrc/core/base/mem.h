/* Allocation for the core. Every allocation goes through here, so that tests can make the n-th one
 * fail. */
#ifndef CD_MEM_H
#define CD_MEM_H

#include <stddef.h>

/* Like malloc, calloc, realloc and free. NULL: no memory, and nothing was changed. */
void *cd_alloc(size_t n);
void *cd_zalloc(size_t n);
void *cd_realloc(void *p, size_t n);
void cd_free(void *p);

/* Allocates and frees blocks that every request needs for a short time; each thread keeps some for
 * the next request. Who gives a block back passes the size it was asked for. p may be NULL. */
void *cd_pool_take(size_t n);
void cd_pool_give(void *p, size_t n);
/* Frees the blocks that this thread keeps. */
void cd_pool_drain(void);

#ifdef CD_DEBUG
/* Tests only: the n-th allocation from now on (1 is the next) and all after it fail; 0 switches it
 * off. */
void cd_alloc_fail_at(long n);
/* Tests only: blocks that are allocated now. */
long cd_alloc_live(void);
#endif

#endif
