/*
 * http2_mem.c - memory for an nghttp2 session, which can be freed without its help.
 *
 * nghttp2 does not get over every failed allocation: 1.52 frees a DATA item twice when the queue of
 * its priority cannot grow, once at once and once with the session. So all blocks of a session are
 * on a list, and after the first failure the session is not taken apart by nghttp2 but dropped as a
 * whole, block by block. Nothing is freed twice and nothing stays.
 *
 * A block costs 16 bytes more and a few writes; a request takes about eight.
 */
#include "http2/http2.h"

#include "base/mem.h"

#include <stdalign.h>

typedef struct {
    alignas(max_align_t) cd_list link;
} block;

static void *hand_out(cd_http2 *h, block *b)
{
    if (b == NULL) {
        h->failed = 1;
        h->session_broken = 1;
        return NULL;
    }
    cd_list_append(&h->blocks, &b->link);
    return b + 1;
}

static block *block_of(void *p)
{
    return (block *)p - 1;
}

static void *engine_malloc(size_t n, void *h)
{
    return hand_out(h, n > SIZE_MAX / 2 ? NULL : cd_alloc(sizeof(block) + n));
}

static void *engine_calloc(size_t count, size_t n, void *h)
{
    bool huge = n > 0 && count > SIZE_MAX / 2 / n;
    return hand_out(h, huge ? NULL : cd_zalloc(sizeof(block) + count * n));
}

static void engine_free(void *p, void *h)
{
    (void)h;
    if (p == NULL)
        return;
    cd_list_remove(&block_of(p)->link);
    cd_free(block_of(p));
}

static void *engine_realloc(void *p, size_t n, void *arg)
{
    cd_http2 *h = arg;
    if (p == NULL)
        return engine_malloc(n, h);
    block *old = block_of(p);
    cd_list_remove(&old->link);
    block *b = n > SIZE_MAX / 2 ? NULL : cd_realloc(old, sizeof *b + n);
    if (b == NULL)
        cd_list_append(&h->blocks, &old->link);
    return hand_out(h, b);
}

nghttp2_mem cd_http2_mem(cd_http2 *h)
{
    return (nghttp2_mem){h, engine_malloc, engine_free, engine_calloc, engine_realloc};
}

void cd_http2_drop_session(cd_http2 *h)
{
    if (!h->session_broken)
        nghttp2_session_del(h->session);
    h->session = NULL;
    while (!cd_list_empty(&h->blocks)) {
        block *b = cd_container(h->blocks.next, block, link);
        cd_list_remove(&b->link);
        cd_free(b);
    }
}

const char *cd_nghttp2_version(void)
{
    return nghttp2_version(0)->version_str;
}
