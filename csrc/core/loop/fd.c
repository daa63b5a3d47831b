/*
 * fd.c - what asyncio's side of the loop does with its own descriptors: bytes in and out, connect,
 * accept.
 *
 * They are non-blocking sockets that Python made and closes; nothing is kept of them here, and when
 * they are ready is watch.c's. A call is one system call and says how it ended: done, too early, or
 * failed with errno. Addresses are numeric, because to look one up takes a thread, which is
 * asyncio's business.
 */
#include "cdaphne.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

typedef union {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    struct sockaddr_storage storage;
} address;

/* ---- bytes ---- */

static long outcome(ssize_t count)
{
    if (count >= 0)
        return count;
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? CD_AGAIN : CD_SYSTEM;
}

long cd_fd_receive(int fd, void *p, size_t n)
{
    return outcome(recv(fd, p, n, 0));
}

long cd_fd_send(int fd, const void *p, size_t n)
{
    return outcome(send(fd, p, n, MSG_NOSIGNAL));
}

/* ---- connections ---- */

int cd_fd_set_nodelay(int fd, long protocol)
{
    int on = 1;
    if (protocol != IPPROTO_TCP)
        return CD_OK;
    return setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0 ? CD_OK : CD_SYSTEM;
}

bool cd_fd_can_reach(int fd, cd_endpoint *ip)
{
    unsigned char bytes[sizeof(struct in6_addr)];
    socklen_t n = sizeof ip->family;
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &ip->family, &n) < 0)
        return false;
    return ip->family == (ip->ipv6 ? AF_INET6 : AF_INET) &&
           inet_pton(ip->family, ip->host, bytes) == 1;
}

static socklen_t to_kernel(const cd_endpoint *ip, address *to)
{
    *to = (address){.any.sa_family = (sa_family_t)ip->family};
    if (ip->ipv6) {
        inet_pton(AF_INET6, ip->host, &to->in6.sin6_addr);
        to->in6.sin6_port = htons(ip->port);
        to->in6.sin6_flowinfo = htonl(ip->flow);
        to->in6.sin6_scope_id = ip->scope;
        return sizeof to->in6;
    }
    inet_pton(AF_INET, ip->host, &to->in.sin_addr);
    to->in.sin_port = htons(ip->port);
    return sizeof to->in;
}

static void from_kernel(const address *from, cd_endpoint *ip)
{
    *ip = (cd_endpoint){.family = from->any.sa_family, .type = SOCK_STREAM | SOCK_NONBLOCK};
    if (ip->family == AF_INET) {
        inet_ntop(AF_INET, &from->in.sin_addr, ip->host, sizeof ip->host);
        ip->port = ntohs(from->in.sin_port);
    } else if (ip->family == AF_INET6) {
        ip->ipv6 = true;
        inet_ntop(AF_INET6, &from->in6.sin6_addr, ip->host, sizeof ip->host);
        ip->port = ntohs(from->in6.sin6_port);
        ip->flow = ntohl(from->in6.sin6_flowinfo);
        ip->scope = from->in6.sin6_scope_id;
    }
}

int cd_fd_connect(int fd, const cd_endpoint *to)
{
    address there;
    socklen_t n = to_kernel(to, &there);
    if (connect(fd, &there.any, n) == 0)
        return CD_OK;
    return errno == EINPROGRESS || errno == EALREADY || errno == EINTR ? CD_AGAIN : CD_SYSTEM;
}

int cd_fd_connected(int fd)
{
    int error = 0;
    socklen_t n = sizeof error;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n) == 0 ? error : errno;
}

int cd_fd_accept(int fd, cd_endpoint *from)
{
    address there = {.any.sa_family = AF_UNSPEC};
    socklen_t n = sizeof there;
    int conn = accept4(fd, &there.any, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (conn >= 0) {
        from_kernel(&there, from);
        return conn;
    }
    return errno == EAGAIN || errno == EINTR || errno == ECONNABORTED ? CD_AGAIN : CD_SYSTEM;
}
