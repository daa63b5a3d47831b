/* Descriptors of others (asyncio's add_reader): a part of cd_loop. */
#ifndef CD_WATCH_H
#define CD_WATCH_H

#include "base/list.h"
#include "cdaphne.h"

#include <ev.h>
#include <sys/epoll.h>
#include <sys/types.h>

typedef struct {
    int set;                    /* epoll descriptor of all watched descriptors, and of bell */
    int bell;                   /* an eventfd; each write is one edge, so that nobody reads it */
    ev_io io;                   /* on the set: it is readable when one of them has something */
    cd_watch **table;           /* by descriptor */
    int size;                   /* of the table */
    int count;                  /* watches there are */
    struct epoll_event *events; /* room for count events, or more */
    int room;
    cd_list fired; /* watches that fired in this poll */
    pid_t owner;   /* a forked child shares the set, and must not change it */
} cd_watches;

/* Opens the set; loop->ev is there. CD_OK or CD_SYSTEM. */
int cd_watches_open(cd_loop *loop);
/* Every watch has been freed. */
void cd_watches_close(cd_loop *loop);

/* Events that a sleep brings; if there are more, the next look has them. */
enum { CD_WATCHES_FIRST = 32 };

/* Lists what is ready now. */
void cd_watches_look(cd_watches *all);
/* Waits for the set itself, at most `timeout` seconds (negative: for ever): the number of events, 0
 * when the time is up, -1 after a signal. Watches may come and go meanwhile; so lists nothing. */
int cd_watches_sleep(const cd_watches *all, struct epoll_event *first, double timeout);
/* Lists what a sleep brought. */
void cd_watches_note(cd_watches *all, const struct epoll_event *first, int count);
/* Makes who waits for the set return. From any thread and from signal handlers. */
void cd_watches_ring(const cd_watches *all);

#endif
