/*
 * loop.c and timer.c: phases, jobs, deadlines, watches, waking.
 *
 * Time is the harness' virtual one, so nothing here sleeps, except where a thread wakes a loop that
 * really waits.
 */
#include "harness.h"
#include "loop/timer.h"

#include <pthread.h>
#include <unistd.h>

static text trace;

static void expect(const char *want)
{
    CHECK_STR(trace.p != NULL ? trace.p : "", want);
    text_free(&trace);
    trace = (text){0};
}

/* ---- jobs ---- */

typedef struct {
    cd_job job;
    cd_loop *loop;
    const char *name;
    int again; /* posts itself so many times more */
} step;

static void run_step(cd_job *job)
{
    step *s = cd_container(job, step, job);
    text_format(&trace, "%s ", s->name);
    if (s->again-- > 0)
        cd_job_post(s->loop, &s->job);
}

static void step_init(step *s, cd_loop *loop, const char *name, int again)
{
    *s = (step){.loop = loop, .name = name, .again = again};
    cd_job_init(&s->job, run_step);
}

static void turn(cd_loop *loop)
{
    cd_loop_poll(loop, 0, NULL, NULL, NULL);
    cd_loop_dispatch(loop);
}

static void test_jobs_run_in_order_and_once(void)
{
    cd_loop *loop = cd_loop_new();
    step a, b, later, end;
    step_init(&a, loop, "a", 1);
    step_init(&b, loop, "b", 0);
    step_init(&later, loop, "later", 0);
    step_init(&end, loop, "end", 0);
    cd_job_end(loop, &end.job);
    cd_job_defer(loop, &later.job);
    cd_job_post(loop, &a.job);
    cd_job_post(loop, &b.job);
    cd_job_post(loop, &a.job);
    cd_loop_dispatch(loop);
    expect("a b a end ");
    turn(loop);
    expect("later ");
    cd_job_post(loop, &a.job);
    cd_job_cancel(&a.job);
    turn(loop);
    expect("");
    cd_loop_free(loop);
}

/* A loop with work to do must not sleep: a poll without time limit has to come back. */
static void test_work_keeps_the_loop_awake(void)
{
    cd_loop *loop = cd_loop_new();
    step later;
    step_init(&later, loop, "later", 0);
    cd_job_defer(loop, &later.job);
    cd_loop_poll(loop, -1, NULL, NULL, NULL);
    cd_loop_dispatch(loop);
    expect("later ");
    cd_loop_wake(loop);
    cd_loop_poll(loop, -1, NULL, NULL, NULL);
    cd_loop_free(loop);
}

/* ---- sleeping ---- */

static void note_sleep(void *arg)
{
    ++*(int *)arg;
}

static void *wake_soon(void *loop)
{
    usleep(20000);
    cd_loop_wake(loop);
    return NULL;
}

static void test_hooks_only_around_a_real_sleep(void)
{
    cd_loop *loop = cd_loop_new();
    int sleeps = 0;
    pthread_t thread;
    cd_loop_poll(loop, 0, note_sleep, note_sleep, &sleeps);
    CHECK_INT(sleeps, 0);
    cd_loop_wake(loop);
    cd_loop_poll(loop, -1, note_sleep, note_sleep, &sleeps);
    CHECK_INT(sleeps, 0);
    CHECK_INT(pthread_create(&thread, NULL, wake_soon, loop), 0);
    cd_loop_poll(loop, -1, note_sleep, note_sleep, &sleeps);
    CHECK_INT(sleeps, 2);
    pthread_join(thread, NULL);
    cd_loop_free(loop);
}

/* ---- timers ---- */

static void on_fire(cd_timer *timer)
{
    text_format(&trace, "%g ", cd_loop_now(timer->loop));
}

static void test_timers(void)
{
    rig *r = rig_new(CUT_WHOLE, 1);
    cd_timer t;
    cd_timer_init(&t, r->loop, on_fire);
    rig_settle(r);
    double start = cd_loop_now(r->loop);
    cd_timer_set(&t, 5);
    rig_advance(r, 4.9);
    expect("");
    cd_timer_set(&t, 5); /* moved away: the libev timer stays */
    rig_advance(r, 1);
    expect("");
    rig_advance(r, 4.2);
    CHECK(trace.n > 0 && cd_loop_now(r->loop) - start >= 9.9);
    text_free(&trace);
    trace = (text){0};
    cd_timer_set(&t, 60);
    cd_timer_set(&t, 1); /* moved closer */
    rig_advance(r, 1.1);
    CHECK(trace.n > 0);
    text_free(&trace);
    trace = (text){0};
    cd_timer_set(&t, 1);
    cd_timer_stop(&t);
    rig_advance(r, 10);
    expect("");
    cd_timer_set(&t, 1);
    cd_timer_dispose(&t);
    rig_advance(r, 10);
    expect("");
    rig_free(r);
}

/* A loop without servers leaves libev alone, and libev's clock stands. */
static void test_deadlines_of_the_first_server(void)
{
    rig *r = rig_new(CUT_WHOLE, 1);
    cd_loop *loop = cd_loop_new();
    cd_timer t;
    turn(loop);
    rig_advance(r, 100);
    turn(loop);
    cd_loop_enter(loop);
    cd_timer_init(&t, loop, on_fire);
    cd_timer_set(&t, 5);
    turn(loop);
    rig_advance(r, 4.9);
    turn(loop);
    expect("");
    rig_advance(r, 0.2);
    turn(loop);
    CHECK(trace.n > 0);
    text_free(&trace);
    trace = (text){0};
    cd_timer_dispose(&t);
    cd_loop_leave(loop);
    cd_loop_free(loop);
    rig_free(r);
}

/* ---- watches ---- */

static void test_watches(void)
{
    cd_loop *loop = cd_loop_new();
    int ends[2], events = 0;
    char byte = 'x';
    CHECK(pipe(ends) == 0);
    cd_watch *in = cd_watch_new(loop, ends[0], CD_READ, &ends[0]);
    cd_watch *out = cd_watch_new(loop, ends[1], CD_WRITE, &ends[1]);
    turn(loop);
    CHECK(cd_loop_fired(loop, &events) == out && events == CD_WRITE);
    CHECK(cd_watch_data(out) == &ends[1]);
    CHECK(cd_loop_fired(loop, &events) == NULL);
    cd_watch_set(out, 0);
    CHECK(write(ends[1], &byte, 1) == 1);
    turn(loop);
    CHECK(cd_loop_fired(loop, &events) == in && events == CD_READ);
    turn(loop);        /* level-triggered: nobody read */
    cd_watch_free(in); /* the firing is forgotten */
    CHECK(cd_loop_fired(loop, &events) == NULL);
    cd_watch_free(out);
    close(ends[0]);
    close(ends[1]);
    cd_loop_free(loop);
}

static void test_no_memory(void)
{
    for (long n = 1; n < 10; n++) {
        cd_alloc_fail_at(n);
        cd_loop *loop = cd_loop_new();
        cd_alloc_fail_at(0);
        cd_loop_free(loop);
    }
    CHECK_INT(cd_alloc_live(), 0);
}

int main(void)
{
    test_jobs_run_in_order_and_once();
    test_work_keeps_the_loop_awake();
    test_hooks_only_around_a_real_sleep();
    test_timers();
    test_deadlines_of_the_first_server();
    test_watches();
    test_no_memory();
    return check_summary();
}
