/*
 * nofile.c - more connections than the soft limit of open files, without raising it.
 *
 * The soft limit, 1024 mostly, is there for programs that use select(), which cannot have a larger
 * descriptor. The application is one of them, or loads a library that is, and so are the programs
 * it starts: every child, however it is started, begins with the limits of its parent. So the
 * process keeps the limit that it was started with, and goes beyond it for moments, in which
 * nobody else runs who holds the GIL: to accept a connection, and to move it.
 *
 * A number is checked when it is given out and never again. Connections and files whose number
 * lies in the upper half of the soft limit are moved behind it, so that the lower numbers, which
 * the kernel gives out first, stay free for the application.
 *
 * Where the hard limit is the soft one there is nowhere to go, and all stays as it is.
 */
#include "base/nofile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <unistd.h>

/* Some container runtimes give a hard limit of a billion; nothing here needs more than this. */
enum { MOST = 1 << 20 };
/* Numbers below this one are left alone without a look at the limit. */
enum { SURELY_LOW = 64 };

static rlim_t highest(const struct rlimit *limit)
{
    return limit->rlim_max == RLIM_INFINITY || limit->rlim_max > MOST ? MOST : limit->rlim_max;
}

size_t cd_nofile_most(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return SURELY_LOW;
    if (limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur > highest(&limit))
        return (size_t)limit.rlim_cur;
    return (size_t)highest(&limit);
}

/* Raises the soft limit; *before is for setrlimit() afterwards. False: it is as high as can be. */
static bool raise_limit(struct rlimit *before)
{
    if (getrlimit(RLIMIT_NOFILE, before) < 0 || before->rlim_cur >= highest(before))
        return false;
    struct rlimit raised = {.rlim_cur = highest(before), .rlim_max = before->rlim_max};
    return setrlimit(RLIMIT_NOFILE, &raised) == 0;
}

static void restore_limit(const struct rlimit *before)
{
    int error = errno;
    setrlimit(RLIMIT_NOFILE, before); /* to lower the soft limit is always allowed */
    errno = error;
}

static int move(int fd, rlim_t least)
{
    int moved = fcntl(fd, F_DUPFD_CLOEXEC, (int)least);
    if (moved < 0)
        return fd;
    close(fd);
    return moved;
}

int cd_nofile_lift(int fd)
{
    struct rlimit before;
    if (fd < SURELY_LOW || getrlimit(RLIMIT_NOFILE, &before) < 0 ||
        before.rlim_cur == RLIM_INFINITY || (rlim_t)fd < before.rlim_cur / 2 ||
        (rlim_t)fd >= before.rlim_cur || !raise_limit(&before))
        return fd;
    fd = move(fd, before.rlim_cur);
    restore_limit(&before);
    return fd;
}

static int accept_one(int fd, struct sockaddr *peer, socklen_t *length)
{
    return accept4(fd, peer, length, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

int cd_nofile_accept(int fd, struct sockaddr *peer, socklen_t *length)
{
    struct rlimit before;
    socklen_t room = *length;
    int accepted = accept_one(fd, peer, length);
    if (accepted >= 0)
        return cd_nofile_lift(accepted);
    if (errno != EMFILE || !raise_limit(&before))
        return accepted;
    *length = room;
    accepted = accept_one(fd, peer, length);
    restore_limit(&before);
    return accepted;
}
