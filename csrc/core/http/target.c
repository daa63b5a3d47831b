/*
 * target.c - from a request target to the path and query that the application sees.
 *
 * HTTP/1 and HTTP/2 bring the same bytes in two ways: behind the method, or as :path. What may be
 * in them, where the query begins and how a path is decoded is decided here for both, so that one
 * URL is one path whatever the client speaks.
 *
 * Nothing is repaired: a path's "//", dot segments and bad escapes are the application's business.
 */
#include "http/target.h"

#include "base/header.h"

#include <string.h>

bool cd_target_is_clean(cd_str s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c <= 0x20 || c >= 0x7f || c == '#')
            return false;
    }
    return s.n > 0;
}

int cd_target_split(cd_stream *s, cd_str rest)
{
    cd_head *head = &s->head;
    const char *mark = rest.n > 0 ? memchr(rest.p, '?', rest.n) : NULL;
    size_t path = mark ? (size_t)(mark - rest.p) : rest.n;
    head->raw_path = (cd_str){rest.p, path};
    if (mark != NULL)
        head->query = (cd_str){mark + 1, rest.n - path - 1};
    if (path == 0) /* "http://host" and "http://host?query" */
        head->raw_path =
            head->query.n == 0 && cd_str_is(head->method, "options") ? CD_STR("*") : CD_STR("/");
    head->path = head->raw_path;
    if (memchr(head->raw_path.p, '%', head->raw_path.n) == NULL)
        return 0;
    char *decoded = cd_arena_alloc(&s->arena, head->raw_path.n);
    if (decoded == NULL)
        return CD_NOMEM;
    head->path = (cd_str){decoded, cd_percent_decode(decoded, head->raw_path)};
    return 0;
}
