/*
 * watch.c - watches, for descriptors that are not the core's: those of asyncio's add_reader and
 * add_writer.
 *
 * They are in an epoll set of their own, which libev watches as one descriptor, or which the loop
 * waits for itself when no server is on it. Under a server it costs one epoll_wait in a poll in
 * which one of them is ready, and it keeps the promises that programs on asyncio rely on: what
 * epoll refuses is refused at once, a descriptor that is closed without a word just falls silent,
 * another thread may add one while the loop sleeps, and all that is ready is told together. libev
 * talks to the kernel in its next poll only and can promise none of it; where it is built with
 * assertions, as Debian does, it aborts the process for a descriptor that was closed meanwhile.
 *
 * Nobody is called from here: what fired is listed until cd_loop_fired takes it or the watch is
 * freed. Events carry the descriptor and not the watch, because the kernel goes on telling of a
 * closed descriptor whose file somebody else (a forked child, a dup) keeps open.
 */
#include "loop/watch.h"

#include "base/mem.h"
#include "loop/loop.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct cd_watch {
    cd_list link; /* in watches->fired */
    cd_loop *loop;
    void *data;
    int fd, events, fired;
};

/* ---- what fired ---- */

/* An error or a hang-up counts as readable and writable: the caller finds out by trying. */
static int fired_of(uint32_t events)
{
    return (events & ~(uint32_t)EPOLLIN ? CD_WRITE : 0) |
           (events & ~(uint32_t)EPOLLOUT ? CD_READ : 0);
}

/* An event of the bell finds no watch here, because nobody watches that descriptor. */
static void note(cd_watches *all, const struct epoll_event *event)
{
    int fd = event->data.fd;
    cd_watch *w = fd < all->size ? all->table[fd] : NULL;
    if (w == NULL)
        return;
    cd_container(all, cd_loop, watches)->seen++;
    w->fired = fired_of(event->events) & w->events;
    if (w->fired != 0 && cd_list_empty(&w->link))
        cd_list_append(&all->fired, &w->link);
}

void cd_watches_note(cd_watches *all, const struct epoll_event *first, int count)
{
    for (int i = 0; i < count; i++)
        note(all, &first[i]);
}

void cd_watches_look(cd_watches *all)
{
    cd_watches_note(all, all->events, epoll_wait(all->set, all->events, all->room, 0));
}

static void on_set(struct ev_loop *ev, ev_io *io, int events)
{
    (void)ev, (void)events;
    cd_watches_look(cd_container(io, cd_watches, io));
}

/* Rounded up, so that a sleep does not end too early. */
static int milliseconds(double timeout)
{
    return timeout < 0 ? -1 : (int)fmin(ceil(timeout * 1000), INT_MAX);
}

int cd_watches_sleep(const cd_watches *all, struct epoll_event *first, double timeout)
{
    return epoll_wait(all->set, first, CD_WATCHES_FIRST, milliseconds(timeout));
}

void cd_watches_ring(const cd_watches *all)
{
    static const uint64_t one = 1;
    int error = errno;
    ssize_t written = write(all->bell, &one, sizeof one);
    (void)written; /* fails only when the counter reaches 2^64 */
    errno = error;
}

cd_watch *cd_loop_fired(cd_loop *loop, int *events)
{
    if (cd_list_empty(&loop->watches.fired))
        return NULL;
    cd_watch *w = cd_container(loop->watches.fired.next, cd_watch, link);
    cd_list_remove(&w->link);
    *events = w->fired;
    return w;
}

int cd_loop_fileno(const cd_loop *loop)
{
    return loop->watches.set;
}

/* ---- watches ---- */

/* Makes room for `count` watches and the bell. */
static int make_event_room(cd_watches *all, int count)
{
    if (count < all->room)
        return CD_OK;
    int room = count * 2 + 16;
    struct epoll_event *events = cd_realloc(all->events, (size_t)room * sizeof *events);
    if (events == NULL)
        return CD_NOMEM;
    all->events = events;
    all->room = room;
    return CD_OK;
}

static int make_room(cd_watches *all, int fd)
{
    if (make_event_room(all, all->count + 1) < 0)
        return CD_NOMEM;
    if (fd >= all->size) {
        int size = fd < INT_MAX / 2 ? fd * 2 + 16 : INT_MAX;
        cd_watch **table = cd_realloc(all->table, (size_t)size * sizeof *table);
        if (table == NULL)
            return CD_NOMEM;
        for (int i = all->size; i < size; i++)
            table[i] = NULL;
        all->table = table;
        all->size = size;
    }
    return CD_OK;
}

static int control(const cd_watch *w, int operation, int events)
{
    struct epoll_event event = {.data.fd = w->fd};
    event.events = (events & CD_READ ? EPOLLIN : 0) | (events & CD_WRITE ? EPOLLOUT : 0);
    return epoll_ctl(w->loop->watches.set, operation, w->fd, &event) == 0 ? CD_OK : CD_SYSTEM;
}

/* This fails for a descriptor that was closed: then it has left the set already. */
static void take_out(const cd_watch *w)
{
    if (w->events != 0 && w->loop->watches.owner == getpid())
        (void)control(w, EPOLL_CTL_DEL, 0);
}

cd_watch *cd_watch_new(cd_loop *loop, int fd, int events, void *data)
{
    cd_watches *all = &loop->watches;
    cd_watch *w = cd_zalloc(sizeof *w);
    if (w == NULL) {
        errno = ENOMEM;
        return NULL;
    }
    w->loop = loop;
    w->fd = fd;
    w->data = data;
    cd_list_init(&w->link);
    if (cd_watch_set(w, events) < 0)
        goto fail;
    if (make_room(all, fd) < 0) {
        take_out(w);
        errno = ENOMEM;
        goto fail;
    }
    all->table[fd] = w;
    all->count++;
    CD_LIVE(watches, 1);
    return w;

fail:
    cd_free(w);
    return NULL;
}

int cd_watch_set(cd_watch *w, int events)
{
    int operation = w->events == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    if (events == 0)
        take_out(w); /* with events 0 epoll would still report hang-ups */
    else if (events != w->events && control(w, operation, events) < 0)
        return CD_SYSTEM;
    w->events = events;
    return CD_OK;
}

void *cd_watch_data(const cd_watch *w)
{
    return w->data;
}

void cd_watch_free(cd_watch *w)
{
    cd_watches *all = &w->loop->watches;
    take_out(w);
    cd_list_remove(&w->link);
    all->table[w->fd] = NULL;
    all->count--;
    cd_free(w);
    CD_LIVE(watches, -1);
}

/* ---- the set ---- */

static int open_bell(cd_watches *all)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    all->bell = event.data.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (all->bell < 0)
        return CD_SYSTEM;
    if (epoll_ctl(all->set, EPOLL_CTL_ADD, all->bell, &event) == 0)
        return CD_OK;
    close(all->bell);
    return CD_SYSTEM;
}

int cd_watches_open(cd_loop *loop)
{
    cd_watches *all = &loop->watches;
    cd_list_init(&all->fired);
    all->owner = getpid();
    if (make_event_room(all, 0) < 0)
        return CD_NOMEM;
    all->set = epoll_create1(EPOLL_CLOEXEC);
    if (all->set >= 0 && open_bell(all) == CD_OK) {
        ev_io_init(&all->io, on_set, all->set, EV_READ);
        ev_io_start(loop->ev, &all->io);
        return CD_OK;
    }
    if (all->set >= 0)
        close(all->set);
    cd_free(all->events);
    return CD_SYSTEM;
}

void cd_watches_close(cd_loop *loop)
{
    cd_watches *all = &loop->watches;
    ev_io_stop(loop->ev, &all->io);
    close(all->bell);
    close(all->set);
    cd_free(all->events);
    cd_free(all->table);
}
