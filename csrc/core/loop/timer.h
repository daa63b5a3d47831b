/*
 * Deadlines. A connection moves its deadline with every request, so moving one must cost nothing:
 * when the deadline moves away, the libev timer behind it is left alone, and looks at the deadline
 * again when it fires.
 */
#ifndef CD_TIMER_H
#define CD_TIMER_H

#include "loop/loop.h"

typedef struct cd_timer cd_timer;

struct cd_timer {
    ev_timer watcher;
    cd_loop *loop;
    double deadline; /* in the loop's time (cd_loop_now); 0: off */
    void (*fire)(cd_timer *timer);
};

/* Prepares a timer. fire is called in the poll phase: it may post jobs and must not call the
 * bridge. */
void cd_timer_init(cd_timer *t, cd_loop *loop, void (*fire)(cd_timer *));
/* Makes the timer fire once, `seconds` from now, in place of any earlier deadline. seconds <= 0
 * switches it off. */
void cd_timer_set(cd_timer *t, double seconds);
void cd_timer_stop(cd_timer *t);
/* Must be called before the timer's memory is freed. */
void cd_timer_dispose(cd_timer *t);

#endif
