/*
 * Deadlines. A connection moves its deadline with every request, so moving one must cost nothing:
 * the libev timer behind it is left where it is when the deadline moves away, and looks again when
 * it fires.
 */
#ifndef CD_TIMER_H
#define CD_TIMER_H

#include "loop/loop.h"

typedef struct cd_timer cd_timer;

struct cd_timer {
    ev_timer watcher;
    cd_loop *loop;
    double deadline; /* in the loop's time; 0: off */
    void (*fire)(cd_timer *timer);
};

/* fire is called in the poll phase: it may post jobs, not call the bridge. */
void cd_timer_init(cd_timer *t, cd_loop *loop, void (*fire)(cd_timer *));
/* Fires once, `seconds` from now; replaces the deadline there was. seconds <= 0 switches the timer
 * off. */
void cd_timer_set(cd_timer *t, double seconds);
void cd_timer_stop(cd_timer *t);
/* Must be called before the memory goes. */
void cd_timer_dispose(cd_timer *t);

#endif
