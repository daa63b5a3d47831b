/* Watched descriptors that are not the core's (asyncio's add_reader). A part of cd_loop. */
#ifndef CD_WATCH_H
#define CD_WATCH_H

#include "base/list.h"
#include "cdaphne.h"

#include <ev.h>
#include <sys/epoll.h>
#include <sys/types.h>

typedef struct {
    int set; /* epoll descriptor that watches all of them, and `bell` */
    /* an eventfd that ends a sleep; it is edge-triggered, so nobody need read it */
    int bell;
    ev_io io;                   /* watches `set`, which is readable when one of them has an event */
    cd_watch **table;           /* the watches, by descriptor */
    int size;                   /* entries of the table */
    int count;                  /* how many watches there are */
    struct epoll_event *events; /* has room for `count` events or more */
    int room;
    cd_list fired; /* the watches that fired in this poll */
    /* the process that made the set: a forked child shares it and must not change it */
    pid_t owner;
} cd_watches;

/* Opens the set. loop->ev must have been made. Returns CD_OK or CD_SYSTEM. */
int cd_watches_open(cd_loop *loop);
/* Closes the set. Every watch must have been freed. */
void cd_watches_close(cd_loop *loop);

/* How many events one sleep can return; the next look finds the others. */
enum { CD_WATCHES_FIRST = 32 };

/* Puts the watches that are ready now on the list `fired`. */
void cd_watches_look(cd_watches *all);
/* Waits for the set at most `timeout` seconds (negative: without an end). Returns the number of
 * events, 0 when the time is up, or -1 after a signal. Watches may be made and freed meanwhile, so
 * it changes no list. */
int cd_watches_sleep(const cd_watches *all, struct epoll_event *first, double timeout);
/* Puts the watches of the events that a sleep returned on the list `fired`. */
void cd_watches_note(cd_watches *all, const struct epoll_event *first, int count);
/* Ends a sleep on the set. May be called from any thread and from signal handlers. */
void cd_watches_ring(const cd_watches *all);

#endif
