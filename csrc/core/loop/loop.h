/* The inside of cd_loop, for the core's own files. */
#ifndef CD_LOOP_H
#define CD_LOOP_H

#include "base/list.h"
#include "cdaphne.h"
#include "loop/watch.h"

#include <ev.h>
#include <stdatomic.h>

/*
 * Work for the dispatch phase. Parsers and timers never call out: they post. A job is embedded in
 * what it works on; posting it twice is posting it once; run() may free what it is part of.
 */
typedef struct cd_job cd_job;
struct cd_job {
    cd_list link;
    void (*run)(cd_job *job);
};

enum { CD_SCRATCH_SIZE = 262144 };

struct cd_loop {
    struct ev_loop *ev;
    unsigned servers; /* on the loop; without one libev has nothing to watch but the watches' set */
    ev_timer timeout; /* ends a poll */
    ev_check clock;   /* before everything else that a poll brings: sets now */
    /* monotonic; libev's own ev_now() is wall-clock time, which an operator may set back */
    double now;
    cd_list jobs;       /* run in this dispatch, also when posted during it */
    cd_list later;      /* run in the next dispatch; the poll before it does not sleep */
    cd_list flushes;    /* run before the poll waits and after the jobs: they write output */
    cd_list ends;       /* run once at the end of the turn, after the output (log lines) */
    cd_watches watches; /* descriptors of others */
    void (*sleep)(void *), (*wake)(void *);
    void *arg;
    atomic_bool called; /* cd_loop_wake was, since the last poll began to wait */
    atomic_bool asleep; /* the thread is in the kernel, or about to be: a call must write */
    unsigned seen;      /* descriptors that were ready in this poll */
    bool crowded;       /* in the last one there were several: there may be more already */
    bool polling;       /* in the poll phase: nobody may be called */
    bool woken;         /* `called` was set, or the time is up */
    uint8_t *sealed;    /* tls.c: the records of one write; NULL until there is one */
    uint8_t *file;      /* conn.c: a piece of a file on its way; NULL until there is one */
    uint8_t *scratch;   /* CD_SCRATCH_SIZE bytes that every read goes through first */
};

void cd_job_init(cd_job *job, void (*run)(cd_job *));
void cd_job_post(cd_loop *loop, cd_job *job);
/* In the next turn, after everybody else had theirs. */
void cd_job_defer(cd_loop *loop, cd_job *job);
/* After the jobs of this turn, or before the next sleep: the place to write what they queued. */
void cd_job_flush(cd_loop *loop, cd_job *job);
/* At the end of this turn, behind the flushes, or before the next sleep. */
void cd_job_end(cd_loop *loop, cd_job *job);
/* Forgets a posted job: before its memory goes. */
void cd_job_cancel(cd_job *job);

/* A server has come to stand on the loop, and one has gone. */
void cd_loop_enter(cd_loop *loop);
void cd_loop_leave(cd_loop *loop);

/* Seconds on the loop's clock, as of the last poll: for deadlines. */
double cd_loop_now(const cd_loop *loop);
/* Seconds on the monotonic clock, now: for durations. */
double cd_clock(void);

#endif
