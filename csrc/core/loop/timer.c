/*
 * timer.c - deadlines that are cheap to move.
 *
 * Nearly every deadline is moved or dropped before it passes: a keep-alive connection sets one
 * after each response and takes it back with the next request. So cd_timer_set writes one number
 * when the libev timer would fire early enough anyway; when it does fire and the deadline has moved
 * on, it is started again for the rest. Under load a connection touches libev's heap once per
 * keep-alive timeout instead of twice per request.
 *
 * Timers come last in a poll, behind everything that was read in it. An application that blocks the
 * loop for a minute makes every deadline pass, but what the peers sent meanwhile came in time.
 *
 * Deadlines count from the loop's time, which is the time of the last poll. Nothing here is exact
 * to less than a turn of the loop.
 */
#include "loop/timer.h"

static void start(cd_timer *t)
{
    ev_timer_stop(t->loop->ev, &t->watcher);
    double wait = t->deadline - cd_loop_now(t->loop);
    ev_timer_set(&t->watcher, wait > 0 ? wait : 0, 0);
    ev_timer_start(t->loop->ev, &t->watcher);
}

static void on_timer(struct ev_loop *ev, ev_timer *watcher, int events)
{
    (void)ev, (void)events;
    cd_timer *t = cd_container(watcher, cd_timer, watcher);
    if (t->deadline == 0)
        return;
    if (cd_loop_now(t->loop) < t->deadline) {
        start(t);
        return;
    }
    t->deadline = 0;
    t->fire(t);
}

void cd_timer_init(cd_timer *t, cd_loop *loop, void (*fire)(cd_timer *))
{
    ev_init(&t->watcher, on_timer);
    ev_set_priority(&t->watcher, EV_MINPRI);
    t->loop = loop;
    t->deadline = 0;
    t->fire = fire;
}

void cd_timer_set(cd_timer *t, double seconds)
{
    if (seconds <= 0) {
        cd_timer_stop(t);
        return;
    }
    t->deadline = cd_loop_now(t->loop) + seconds;
    bool early_enough =
        ev_is_active(&t->watcher) && ev_timer_remaining(t->loop->ev, &t->watcher) <= seconds;
    if (!early_enough)
        start(t);
}

void cd_timer_stop(cd_timer *t)
{
    t->deadline = 0;
}

void cd_timer_dispose(cd_timer *t)
{
    ev_timer_stop(t->loop->ev, &t->watcher);
    t->deadline = 0;
}
