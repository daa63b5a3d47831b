/*
 * loop.c - the turn of the loop: poll, then dispatch.
 *
 * libev waits and tells who is ready; everything that has to call the application is posted as a
 * job and run by cd_loop_dispatch, so that no parser is ever re-entered and nothing that one stands
 * on is freed. Output is written at the end of the dispatch and again before the next wait (for
 * what tasks sent in between): one writev per connection and turn.
 *
 * The wait comes in two steps. First without blocking, which under load is all there is; only if
 * that brought nothing does the thread sleep, with the caller's hooks around it. They release the
 * GIL: doing so every turn would let a busy worker thread hold the loop up for a whole switch
 * interval. When the last wait brought one descriptor or none there is nobody to be held up, and
 * the first step is left out: one system call of five in a dialogue with a single peer.
 *
 * A loop without a server, which is one that a program uses as asyncio's and for nothing else, does
 * without libev: the only descriptors are those of others (watch.c), which it waits for directly.
 *
 * The loop knows no Python, no servers (only whether there are any) and no protocols.
 */
#include "loop/loop.h"

#include "base/mem.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

const char *cd_libev_version(void)
{
    return ev_version_major() == 4 && ev_version_minor() == 33 ? "4.33" : "4";
}

double cd_loop_now(const cd_loop *loop)
{
    return loop->now;
}

double cd_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* ---- jobs ---- */

void cd_job_init(cd_job *job, void (*run)(cd_job *))
{
    cd_list_init(&job->link);
    job->run = run;
}

static void post(cd_list *list, cd_job *job)
{
    if (cd_list_empty(&job->link))
        cd_list_append(list, &job->link);
}

void cd_job_post(cd_loop *loop, cd_job *job)
{
    post(&loop->jobs, job);
}

void cd_job_defer(cd_loop *loop, cd_job *job)
{
    post(&loop->later, job);
}

void cd_job_flush(cd_loop *loop, cd_job *job)
{
    post(&loop->flushes, job);
}

void cd_job_end(cd_loop *loop, cd_job *job)
{
    post(&loop->ends, job);
}

void cd_job_cancel(cd_job *job)
{
    cd_list_remove(&job->link);
}

static void run_jobs(cd_list *jobs)
{
    while (!cd_list_empty(jobs)) {
        cd_job *job = cd_container(jobs->next, cd_job, link);
        cd_list_remove(&job->link);
        job->run(job);
    }
}

/* ---- loop ---- */

static void on_timeout(struct ev_loop *ev, ev_timer *watcher, int events)
{
    (void)ev, (void)events;
    cd_container(watcher, cd_loop, timeout)->woken = true;
}

static void on_clock(struct ev_loop *ev, ev_check *watcher, int events)
{
    (void)ev, (void)events;
    cd_container(watcher, cd_loop, clock)->now = cd_clock();
}

static void release_cb(struct ev_loop *ev) EV_NOEXCEPT
{
    cd_loop *loop = ev_userdata(ev);
    if (loop->sleep != NULL)
        loop->sleep(loop->arg);
}

static void acquire_cb(struct ev_loop *ev) EV_NOEXCEPT
{
    cd_loop *loop = ev_userdata(ev);
    if (loop->wake != NULL)
        loop->wake(loop->arg);
}

static int start_ev(cd_loop *loop)
{
    /* No environment, so that LIBEV_FLAGS cannot change a server; no timerfd: a descriptor per loop
     * for wall-clock jumps we ignore. */
    loop->ev = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV | EVFLAG_NOTIMERFD);
    if (loop->ev == NULL)
        return CD_SYSTEM;
    if (cd_watches_open(loop) < 0) {
        ev_loop_destroy(loop->ev);
        return CD_SYSTEM;
    }
    ev_set_userdata(loop->ev, loop);
    ev_init(&loop->timeout, on_timeout);
    ev_check_init(&loop->clock, on_clock);
    ev_set_priority(&loop->clock, EV_MAXPRI);
    ev_check_start(loop->ev, &loop->clock);
    loop->now = cd_clock();
    return CD_OK;
}

cd_loop *cd_loop_new(void)
{
    cd_loop *loop = cd_zalloc(sizeof *loop);
    if (loop == NULL)
        return NULL;
    cd_list_init(&loop->jobs);
    cd_list_init(&loop->later);
    cd_list_init(&loop->flushes);
    cd_list_init(&loop->ends);
    loop->scratch = cd_alloc(CD_SCRATCH_SIZE);
    if (loop->scratch == NULL || start_ev(loop) < 0)
        goto fail;
    CD_LIVE(loops, 1);
    return loop;

fail:
    cd_free(loop->scratch);
    cd_free(loop);
    return NULL;
}

void cd_loop_free(cd_loop *loop)
{
    if (loop == NULL)
        return;
    ev_check_stop(loop->ev, &loop->clock);
    ev_timer_stop(loop->ev, &loop->timeout);
    cd_watches_close(loop);
    ev_loop_destroy(loop->ev);
    cd_free(loop->sealed);
    cd_free(loop->file);
    cd_free(loop->scratch);
    cd_free(loop);
    cd_pool_drain();
    CD_LIVE(loops, -1);
}

/* Only closes the descriptors that both processes share; fork.c says why. */
void cd_loop_forsake(cd_loop *loop)
{
    close(loop->watches.bell);
    close(loop->watches.set);
    loop->watches.bell = loop->watches.set = -1;
    ev_loop_destroy(loop->ev); /* closes its epoll descriptor and makes no other system call */
    loop->ev = NULL;
}

void cd_loop_enter(cd_loop *loop)
{
    if (loop->servers++ == 0) { /* libev's clock stood still while the loop did not use it */
        ev_now_update(loop->ev);
        loop->now = cd_clock();
    }
}

void cd_loop_leave(cd_loop *loop)
{
    loop->servers--;
}

void cd_loop_wake(cd_loop *loop)
{
    if (!atomic_exchange(&loop->called, true) && atomic_load(&loop->asleep))
        cd_watches_ring(&loop->watches);
}

static void flush_all(cd_loop *loop)
{
    cd_list flushes;
    cd_list_init(&flushes);
    cd_list_move(&flushes, &loop->flushes);
    run_jobs(&flushes);
    run_jobs(&loop->ends);
}

static bool idle(const cd_loop *loop)
{
    return !loop->woken && cd_list_empty(&loop->jobs) && cd_list_empty(&loop->watches.fired) &&
           cd_list_empty(&loop->flushes) && cd_list_empty(&loop->ends) &&
           cd_list_empty(&loop->later);
}

/* Waits in libev, which watches the servers' descriptors. */
static void wait_in_ev(cd_loop *loop, double timeout)
{
    if (timeout > 0) {
        ev_timer_set(&loop->timeout, timeout, 0);
        ev_timer_start(loop->ev, &loop->timeout);
    }
    ev_set_loop_release_cb(loop->ev, release_cb, acquire_cb);
    ev_run(loop->ev, EVRUN_ONCE);
    ev_set_loop_release_cb(loop->ev, NULL, NULL);
    ev_timer_stop(loop->ev, &loop->timeout);
}

static void wait_for_watches(cd_loop *loop, double timeout)
{
    struct epoll_event first[CD_WATCHES_FIRST];
    release_cb(loop->ev);
    int count = cd_watches_sleep(&loop->watches, first, timeout);
    acquire_cb(loop->ev);
    cd_watches_note(&loop->watches, first, count);
    if (count == CD_WATCHES_FIRST)
        cd_watches_look(&loop->watches);
    loop->woken = count == 0;
}

static void sleep_at_most(cd_loop *loop, double timeout)
{
    atomic_store(&loop->asleep, true);
    if (!atomic_load(&loop->called))
        (loop->servers > 0 ? wait_in_ev : wait_for_watches)(loop, timeout);
    atomic_store(&loop->asleep, false);
    loop->woken |= atomic_exchange(&loop->called, false);
}

/* An event that a transport fed to libev would be delivered before the sleep, which would not
 * notice it. */
static bool must_look(const cd_loop *loop)
{
    return loop->many_ready || !idle(loop) || ev_pending_count(loop->ev) > 0;
}

static void look(cd_loop *loop)
{
    if (loop->servers > 0)
        ev_run(loop->ev, EVRUN_NOWAIT);
    else
        cd_watches_look(&loop->watches);
}

void cd_loop_poll(cd_loop *loop, double timeout, void (*sleep)(void *), void (*wake)(void *),
                  void *arg)
{
    loop->polling = true;
    loop->woken = atomic_exchange(&loop->called, false);
    loop->sleep = sleep;
    loop->wake = wake;
    loop->arg = arg;
    flush_all(loop);
    cd_list_move(&loop->jobs, &loop->later);
    loop->seen = 0;
    if (timeout == 0 || must_look(loop))
        look(loop);
    if (timeout != 0 && idle(loop))
        sleep_at_most(loop, timeout);
    loop->many_ready = loop->seen > 1;
    loop->polling = false;
}

void cd_loop_dispatch(cd_loop *loop)
{
    run_jobs(&loop->jobs);
    flush_all(loop);
}
