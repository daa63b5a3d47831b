/*
 * tcp.c - the transport over a plain stream socket, TCP or unix.
 *
 * System calls and the translation of errno, nothing else. A socket that would block is CD_AGAIN,
 * every other failure is CD_GONE: for a server all the ways in which a peer can vanish are one.
 * sendmsg instead of writev, because only it can be told not to raise SIGPIPE; sendfile cannot, and
 * relies on Python, which ignores that signal from its start. A reset sets
 * SO_LINGER to zero seconds, which makes close() send RST: the one way to tell a peer over plain
 * TCP that what it has is not the whole.
 *
 * One libev watcher serves both directions; its events change through ev_io_modify, which spares an
 * epoll_ctl when nothing changed.
 */
#include "base/mem.h"
#include "net/conn.h"

#include <errno.h>
#include <poll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct {
    cd_transport base;
    ev_io io;
    cd_loop *loop;
    int fd;
} tcp;

static tcp *self(cd_transport *t)
{
    return cd_container(t, tcp, base);
}

void cd_socket_close(int fd, bool reset)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    if (reset)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(fd);
}

bool cd_socket_broken(int fd)
{
    struct pollfd p = {.fd = fd};
    return poll(&p, 1, 0) > 0;
}

ssize_t cd_socket_result(ssize_t n)
{
    if (n >= 0)
        return n;
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? CD_AGAIN : CD_GONE;
}

ssize_t cd_socket_writev(int fd, const struct iovec *iov, int count, int flags)
{
    flags |= MSG_NOSIGNAL;
    if (count == 1)
        return cd_socket_result(send(fd, iov->iov_base, iov->iov_len, flags));
    struct msghdr message = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)count};
    return cd_socket_result(sendmsg(fd, &message, flags));
}

/* The kernel's sendfile cannot read every kind of file, and a disk may fail: read() will show which
 * it is. */
ssize_t cd_socket_sendfile(int fd, int file, uint64_t offset, size_t n)
{
    off_t from = (off_t)offset;
    ssize_t sent = sendfile(fd, file, &from, n);
    if (sent < 0 && (errno == EINVAL || errno == ENOSYS || errno == EIO || errno == EOVERFLOW))
        return CD_SYSTEM;
    return cd_socket_result(sent);
}

static ssize_t tcp_read(cd_transport *t, void *p, size_t n)
{
    return cd_socket_result(recv(self(t)->fd, p, n, 0));
}

static ssize_t tcp_writev(cd_transport *t, const struct iovec *iov, int count)
{
    return cd_socket_writev(self(t)->fd, iov, count, t->more_follows ? MSG_MORE : 0);
}

static ssize_t tcp_sendfile(cd_transport *t, int fd, uint64_t offset, size_t n)
{
    return cd_socket_sendfile(self(t)->fd, fd, offset, n);
}

static void on_io(struct ev_loop *ev, ev_io *io, int events)
{
    (void)ev;
    tcp *s = cd_container(io, tcp, io);
    cd_conn_on_io(s->base.conn,
                  (events & EV_READ ? CD_READ : 0) | (events & EV_WRITE ? CD_WRITE : 0));
}

static void tcp_want(cd_transport *t, int events)
{
    tcp *s = self(t);
    ev_io_stop(s->loop->ev, &s->io);
    if (events == 0)
        return;
    ev_io_modify(&s->io, (events & CD_READ ? EV_READ : 0) | (events & CD_WRITE ? EV_WRITE : 0));
    ev_io_start(s->loop->ev, &s->io);
}

static bool tcp_broken(cd_transport *t)
{
    return cd_socket_broken(self(t)->fd);
}

static void tcp_shutdown(cd_transport *t)
{
    shutdown(self(t)->fd, SHUT_WR);
}

static void tcp_close(cd_transport *t, bool reset)
{
    tcp *s = self(t);
    ev_io_stop(s->loop->ev, &s->io);
    cd_socket_close(s->fd, reset);
    cd_free(s);
}

static void tcp_forsake(cd_transport *t)
{
    close(self(t)->fd);
}

static const cd_transport_ops tcp_ops = {
    .read = tcp_read,
    .writev = tcp_writev,
    .sendfile = tcp_sendfile,
    .want = tcp_want,
    .broken = tcp_broken,
    .shutdown = tcp_shutdown,
    .close = tcp_close,
    .forsake = tcp_forsake,
};

cd_transport *cd_tcp_new(cd_loop *loop, int fd)
{
    tcp *s = cd_zalloc(sizeof *s);
    if (s == NULL)
        return NULL;
    s->base.ops = &tcp_ops;
    s->loop = loop;
    s->fd = fd;
    ev_io_init(&s->io, on_io, fd, EV_READ);
    return &s->base;
}
