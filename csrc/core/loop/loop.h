/* The inside of cd_loop, for the files of the core. */
#ifndef CD_LOOP_H
#define CD_LOOP_H

#include "base/list.h"
#include "cdaphne.h"
#include "loop/watch.h"

#include <ev.h>
#include <stdatomic.h>

/*
 * Work for the dispatch phase. Parsers and timers never call the bridge: they post a job. A job is
 * embedded in the object it works on. Posting it twice counts once. run() may free the object.
 */
typedef struct cd_job cd_job;
struct cd_job {
    cd_list link;
    void (*run)(cd_job *job);
};

enum { CD_SCRATCH_SIZE = 262144 };

struct cd_loop {
    struct ev_loop *ev;
    /* servers on the loop; without one libev has only the set of watches to look at */
    unsigned servers;
    ev_timer timeout; /* ends a poll when its timeout has passed */
    ev_check clock;   /* runs before all other events of a poll and sets `now` */
    /* monotonic seconds; libev's ev_now() is wall-clock time, which an operator may set back */
    double now;
    cd_list jobs;  /* jobs for this dispatch, including those posted while it runs */
    cd_list later; /* jobs for the next dispatch; the poll before it does not sleep */
    /* jobs that write output: they run before the poll waits, and after the other jobs */
    cd_list flushes;
    /* jobs that run once at the end of the turn, after the output was written (log lines) */
    cd_list ends;
    cd_watches watches; /* descriptors that asyncio asked to watch */
    void (*sleep)(void *), (*wake)(void *);
    void *arg;
    atomic_bool called; /* cd_loop_wake was called since the last poll began to wait */
    /* the thread sleeps in the kernel, or is about to: cd_loop_wake must write to the eventfd */
    atomic_bool asleep;
    unsigned seen; /* how many descriptors were ready in this poll */
    /* several descriptors were ready in the last poll, so more may be ready already */
    bool many_ready;
    bool polling;     /* the poll phase is running: the bridge must not be called */
    bool woken;       /* the poll is to return: `called` was set, or the time is up */
    uint8_t *sealed;  /* buffer of tls.c for the records of one write; NULL until it is needed */
    uint8_t *file;    /* buffer of conn.c for a piece of a file; NULL until it is needed */
    uint8_t *scratch; /* CD_SCRATCH_SIZE bytes: every read goes here first */
};

void cd_job_init(cd_job *job, void (*run)(cd_job *));
void cd_job_post(cd_loop *loop, cd_job *job);
/* Runs the job in the next turn, after everybody else had their turn. */
void cd_job_defer(cd_loop *loop, cd_job *job);
/* Runs the job after the jobs of this turn, or before the next sleep: the place to write what they
 * queued. */
void cd_job_flush(cd_loop *loop, cd_job *job);
/* Runs the job at the end of this turn, after all output was written, or before the next sleep. */
void cd_job_end(cd_loop *loop, cd_job *job);
/* Removes a job that was posted. Must be called before its memory is freed. */
void cd_job_cancel(cd_job *job);

/* Counts the servers on the loop: one is added, one is removed. */
void cd_loop_enter(cd_loop *loop);
void cd_loop_leave(cd_loop *loop);

/* The loop's monotonic clock in seconds, read at the last poll. Use it for deadlines. */
double cd_loop_now(const cd_loop *loop);

#endif
