/*
 * watch.c: what epoll refuses, closed and reused descriptors, freeing between firing and taking,
 * another thread, a forked child, no memory. Real descriptors and real time: none of the tests
 * waits for more than a thread to start.
 */
#include "base/mem.h"
#include "harness.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MANY = 200 };

static void turn(cd_loop *loop)
{
    cd_loop_poll(loop, 0, NULL, NULL, NULL);
    cd_loop_dispatch(loop);
}

static void put(int fd)
{
    CHECK(write(fd, "x", 1) == 1);
}

/* A pipe with something in it: ends[0] is readable. */
static void full_pipe(int ends[2])
{
    CHECK(pipe(ends) == 0);
    put(ends[1]);
}

static void close_both(const int ends[2])
{
    close(ends[0]);
    close(ends[1]);
}

static void test_what_epoll_refuses(void)
{
    cd_loop *loop = cd_loop_new();
    char path[] = "/tmp/test_watch_XXXXXX";
    int file = mkstemp(path), ends[2];
    full_pipe(ends);
    CHECK(cd_watch_new(loop, file, CD_READ, NULL) == NULL && errno == EPERM);
    close(file);
    unlink(path);
    CHECK(cd_watch_new(loop, file, CD_READ, NULL) == NULL && errno == EBADF);
    cd_watch *w = cd_watch_new(loop, ends[0], CD_READ, NULL);
    CHECK(cd_watch_new(loop, ends[0], CD_READ, NULL) == NULL && errno == EEXIST);
    close_both(ends);
    CHECK_INT(cd_watch_set(w, CD_READ | CD_WRITE), CD_SYSTEM);
    cd_watch_free(w);
    cd_loop_free(loop);
}

static void test_closed_descriptor_is_silent(void)
{
    cd_loop *loop = cd_loop_new();
    int ends[2], events;
    full_pipe(ends);
    cd_watch *w = cd_watch_new(loop, ends[0], CD_READ, NULL);
    close_both(ends);
    turn(loop);
    CHECK(cd_loop_fired(loop, &events) == NULL);
    cd_watch_free(w);
    cd_loop_free(loop);
}

static void test_descriptor_used_again(void)
{
    cd_loop *loop = cd_loop_new();
    int first[2], second[2], events = 0;
    full_pipe(first);
    cd_watch *old = cd_watch_new(loop, first[0], CD_READ, NULL);
    turn(loop);
    close(first[0]);
    cd_watch_free(old);
    CHECK(pipe(second) == 0);
    CHECK_INT(second[0], first[0]);
    cd_watch *new = cd_watch_new(loop, second[0], CD_READ, NULL);
    turn(loop);
    CHECK(cd_loop_fired(loop, &events) == NULL);
    put(second[1]);
    turn(loop);
    CHECK(cd_loop_fired(loop, &events) == new && events == CD_READ);
    cd_watch_free(new);
    close(first[1]);
    close_both(second);
    cd_loop_free(loop);
}

static void test_file_kept_open_elsewhere(void)
{
    /* The kernel goes on telling of a closed descriptor while a duplicate is open. */
    cd_loop *loop = cd_loop_new();
    int ends[2], events = 0;
    full_pipe(ends);
    int copy = dup(ends[0]);
    cd_watch *w = cd_watch_new(loop, ends[0], CD_READ, NULL);
    close(ends[0]);
    cd_watch_free(w);
    turn(loop);
    CHECK(cd_loop_fired(loop, &events) == NULL);
    close(copy);
    close(ends[1]);
    cd_loop_free(loop);
}

static void test_hangup_is_both_but_only_what_is_watched(void)
{
    cd_loop *loop = cd_loop_new();
    int ends[2], events = 0;
    CHECK(pipe(ends) == 0);
    close(ends[0]);
    cd_watch *w = cd_watch_new(loop, ends[1], CD_WRITE, NULL);
    turn(loop);
    CHECK(cd_loop_fired(loop, &events) == w && events == CD_WRITE);
    CHECK_INT(cd_watch_set(w, CD_READ), CD_OK);
    turn(loop);
    CHECK(cd_loop_fired(loop, &events) == w && events == CD_READ);
    CHECK_INT(cd_watch_set(w, 0), CD_OK);
    turn(loop);
    CHECK(cd_loop_fired(loop, &events) == NULL);
    cd_watch_free(w);
    close(ends[1]);
    cd_loop_free(loop);
}

static void test_all_in_one_turn_and_freed_while_listed(void)
{
    cd_loop *loop = cd_loop_new();
    cd_watch *watches[MANY], *w;
    int ends[MANY][2], events, fired = 0;
    for (int i = 0; i < MANY; i++) {
        full_pipe(ends[i]);
        watches[i] = cd_watch_new(loop, ends[i][0], CD_READ, &watches[i]);
    }
    turn(loop);
    for (int i = 0; i < MANY; i += 2) {
        cd_watch_free(watches[i]);
        watches[i] = NULL;
    }
    for (; (w = cd_loop_fired(loop, &events)) != NULL; fired++)
        CHECK(*(cd_watch **)cd_watch_data(w) == w);
    CHECK_INT(fired, MANY / 2);
    for (int i = 0; i < MANY; i++) {
        if (watches[i] != NULL)
            cd_watch_free(watches[i]);
        close_both(ends[i]);
    }
    cd_loop_free(loop);
}

/* ---- another thread, another process ---- */

typedef struct {
    pthread_mutex_t lock; /* what the GIL is to the bridge */
    pthread_cond_t changed;
    bool asleep;
    cd_loop *loop;
    int fd;
    cd_watch *watch;
} pair;

static void on_sleep(void *arg)
{
    pair *p = arg;
    p->asleep = true;
    pthread_cond_signal(&p->changed);
    pthread_mutex_unlock(&p->lock);
}

static void on_wake(void *arg)
{
    pthread_mutex_lock(&((pair *)arg)->lock);
}

static void *watch_there(void *arg)
{
    pair *p = arg;
    pthread_mutex_lock(&p->lock);
    while (!p->asleep)
        pthread_cond_wait(&p->changed, &p->lock);
    p->watch = cd_watch_new(p->loop, p->fd, CD_READ, NULL);
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static void test_watch_from_another_thread_ends_the_sleep(void)
{
    pair p = {.loop = cd_loop_new(), .asleep = false};
    int ends[2], events = 0;
    pthread_t thread;
    pthread_mutex_init(&p.lock, NULL);
    pthread_cond_init(&p.changed, NULL);
    full_pipe(ends);
    p.fd = ends[0];
    pthread_mutex_lock(&p.lock);
    CHECK(pthread_create(&thread, NULL, watch_there, &p) == 0);
    cd_loop_poll(p.loop, 30, on_sleep, on_wake, &p);
    cd_loop_dispatch(p.loop);
    pthread_mutex_unlock(&p.lock);
    pthread_join(thread, NULL);
    CHECK(cd_loop_fired(p.loop, &events) == p.watch && events == CD_READ);
    cd_watch_free(p.watch);
    close_both(ends);
    cd_loop_free(p.loop);
    pthread_cond_destroy(&p.changed);
    pthread_mutex_destroy(&p.lock);
}

static void test_child_leaves_the_parents_set_alone(void)
{
    cd_loop *loop = cd_loop_new();
    int ends[2], events = 0, status = -1;
    full_pipe(ends);
    cd_watch *w = cd_watch_new(loop, ends[0], CD_READ, NULL);
    turn(loop);
    CHECK(cd_loop_fired(loop, &events) == w);
    pid_t child = fork();
    if (child == 0) {
        cd_watch_free(w);
        cd_loop_free(loop);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    turn(loop);
    CHECK(cd_loop_fired(loop, &events) == w && events == CD_READ);
    cd_watch_free(w);
    close_both(ends);
    cd_loop_free(loop);
}

static void test_no_memory(void)
{
    cd_loop *loop = cd_loop_new();
    int ends[2], events = 0, failed = 0;
    full_pipe(ends);
    for (long n = 1;; n++) {
        cd_alloc_fail_at(n);
        errno = 0;
        cd_watch *w = cd_watch_new(loop, ends[0], CD_READ, NULL);
        cd_alloc_fail_at(0);
        if (w != NULL) {
            turn(loop);
            CHECK(cd_loop_fired(loop, &events) == w);
            cd_watch_free(w);
            break;
        }
        CHECK_INT(errno, ENOMEM);
        turn(loop); /* of a watch that could not be made nothing is told */
        CHECK(cd_loop_fired(loop, &events) == NULL);
        failed++;
    }
    CHECK_INT(failed, 2); /* the watch and the table */
    close_both(ends);
    cd_loop_free(loop);
    CHECK_INT(cd_alloc_live(), 0);
}

int main(void)
{
    test_what_epoll_refuses();
    test_closed_descriptor_is_silent();
    test_descriptor_used_again();
    test_file_kept_open_elsewhere();
    test_hangup_is_both_but_only_what_is_watched();
    test_all_in_one_turn_and_freed_while_listed();
    test_watch_from_another_thread_ends_the_sleep();
    test_child_leaves_the_parents_set_alone();
    test_no_memory();
    return check_summary();
}
