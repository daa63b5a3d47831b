/*
 * Where threads meet in the core: cd_loop_wake() from many at once, and watches that others change
 * while the loop sleeps. A mutex stands for the GIL, which the hooks of cd_loop_poll() give up and
 * take. The loop sleeps without an end, so a wake that is lost hangs the program; `make tsan` runs
 * it under ThreadSanitizer, which sees a race also when it does no harm. Each case runs twice:
 * without a server the loop waits for its watches' set, with one it waits in libev.
 */
#include "harness.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

enum { THREADS = 4, ROUNDS = 200 };

typedef struct {
    pthread_mutex_t gil;
    cd_loop *loop;
    int said;     /* under gil */
    int finished; /* threads, under gil */
    int failed;   /* under gil; CHECK() counts for one thread only */
} meeting;

static void give_up(void *arg)
{
    pthread_mutex_unlock(&((meeting *)arg)->gil);
}

static void take(void *arg)
{
    pthread_mutex_lock(&((meeting *)arg)->gil);
}

/* As call_soon_threadsafe(): what is to be done is written down first. */
static void *say(void *arg)
{
    meeting *m = arg;
    for (int i = 0; i < ROUNDS; i++) {
        take(m);
        m->said++;
        m->finished += i == ROUNDS - 1;
        cd_loop_wake(m->loop);
        give_up(m);
    }
    return NULL;
}

/* As a hop to an executor that comes back: nobody holds the GIL when the wake is called. */
static void *say_outside(void *arg)
{
    meeting *m = arg;
    for (int i = 0; i < ROUNDS; i++) {
        take(m);
        m->said++;
        m->finished += i == ROUNDS - 1;
        give_up(m);
        cd_loop_wake(m->loop);
        sched_yield();
    }
    return NULL;
}

/* As add_reader() and remove_reader() from a thread that is not the loop's. */
static void *watch(void *arg)
{
    meeting *m = arg;
    int ends[2];
    if (pipe(ends) < 0)
        abort();
    for (int i = 0; i < ROUNDS; i++) {
        take(m);
        cd_watch *w = cd_watch_new(m->loop, ends[1], CD_READ, NULL);
        give_up(m);
        sched_yield();
        take(m);
        /* It fires: the pipe has room. */
        m->failed += cd_watch_set(w, CD_READ | CD_WRITE) != CD_OK;
        give_up(m);
        sched_yield();
        take(m);
        cd_watch_free(w);
        m->said++;
        m->finished += i == ROUNDS - 1;
        cd_loop_wake(m->loop);
        give_up(m);
    }
    close(ends[0]);
    close(ends[1]);
    return NULL;
}

static void turn(meeting *m)
{
    int events;
    cd_loop_poll(m->loop, -1, give_up, take, m);
    cd_loop_dispatch(m->loop);
    while (cd_loop_fired(m->loop, &events) != NULL)
        m->failed += events == 0;
    /* As callbacks do, which CPython interrupts for the other threads. */
    give_up(m);
    sched_yield();
    take(m);
}

static void check_meeting(void *(*run)(void *), bool server)
{
    meeting m = {.loop = cd_loop_new()};
    pthread_t threads[THREADS];
    pthread_mutex_init(&m.gil, NULL);
    if (server)
        cd_loop_enter(m.loop);
    take(&m);
    for (int i = 0; i < THREADS; i++)
        CHECK_INT(pthread_create(&threads[i], NULL, run, &m), 0);
    while (m.finished < THREADS)
        turn(&m);
    give_up(&m);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK_INT(m.failed, 0);
    CHECK_INT(m.said, THREADS * ROUNDS);
    if (server)
        cd_loop_leave(m.loop);
    cd_loop_free(m.loop);
    pthread_mutex_destroy(&m.gil);
}

int main(void)
{
    for (int server = 0; server < 2; server++) {
        check_meeting(say, server);
        check_meeting(say_outside, server);
        check_meeting(watch, server);
    }
    return check_summary();
}
