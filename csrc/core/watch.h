/* Descriptors of others (asyncio's add_reader): a part of cd_loop. */
#ifndef CD_WATCH_H
#define CD_WATCH_H

#include "cdaphne.h"
#include "list.h"

#include <ev.h>
#include <sys/epoll.h>
#include <sys/types.h>

typedef struct {
    int set;                    /* epoll descriptor of all watched descriptors */
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

#endif
