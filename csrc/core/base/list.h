/*
 * Intrusive doubly linked lists. A node is owned by the struct it is part of; a list owns nothing.
 * A node that is in no list points at itself, so that unlinking twice does no harm.
 */
#ifndef CD_LIST_H
#define CD_LIST_H

#include <stdbool.h>
#include <stddef.h>

typedef struct cd_list {
    struct cd_list *next, *prev;
} cd_list;

#define cd_container(node, type, member) ((type *)((char *)(node) - offsetof(type, member)))

/* Visits the nodes of a list, each as `l`, which must stay in the list meanwhile. */
#define cd_list_for(l, list) for (cd_list *l = (list)->next; l != (list); l = l->next)

/* The same where the node that is visited may leave the list; no other one may. */
#define cd_list_for_leaving(l, list)                                  \
    for (cd_list *l = (list)->next, *l##_next = l->next; l != (list); \
         l = l##_next, l##_next = l->next)

static inline void cd_list_init(cd_list *l)
{
    l->next = l->prev = l;
}

static inline bool cd_list_empty(const cd_list *l)
{
    return l->next == l;
}

static inline void cd_list_append(cd_list *l, cd_list *node)
{
    node->prev = l->prev;
    node->next = l;
    l->prev->next = node;
    l->prev = node;
}

static inline void cd_list_remove(cd_list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    cd_list_init(node);
}

/* Moves everything from one list to the end of another; `from` is empty afterwards. */
static inline void cd_list_move(cd_list *to, cd_list *from)
{
    if (cd_list_empty(from))
        return;
    from->next->prev = to->prev;
    from->prev->next = to;
    to->prev->next = from->next;
    to->prev = from->prev;
    cd_list_init(from);
}

#endif
