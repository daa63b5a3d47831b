/*
 * What the kernel alone needs to put one piece of bytes into each of many loopback connections: the
 * floor of a broadcast and of large responses, on which no server can improve while it sends each
 * piece with one system call.
 *
 *   floor CONNECTIONS BYTES SECONDS
 *
 * The caller pins this process to the server's core; its child reads everything, on another core
 * where there is one, polling without sleeping as net.c does. Prints one line of JSON: pieces per
 * second of wall time and of this process's CPU time.
 * A piece that finds the socket's buffer full is waited for and counts once.
 */
#define _GNU_SOURCE
#include "net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define READ_SIZE (256 * 1024)

static struct sockaddr_in address = {.sin_family = AF_INET};

static int check(int answer, const char *what)
{
    if (answer < 0)
        fail("%s: %s", what, strerror(errno));
    return answer;
}

static int listening(int backlog)
{
    socklen_t size = sizeof(address);
    int fd = check(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    check(bind(fd, (struct sockaddr *)&address, size), "bind");
    check(listen(fd, backlog), "listen");
    check(getsockname(fd, (struct sockaddr *)&address, &size), "getsockname");
    return fd;
}

static void move_to_other_core(void)
{
    cpu_set_t cores;
    int mine = sched_getcpu();
    memset(&cores, 0xff, sizeof(cores));
    CPU_CLR(mine, &cores);
    sched_setaffinity(0, sizeof(cores), &cores); /* with one core it stays, and reads there */
}

static void read_forever(int connections)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET}, events[512];
    char *buffer = allocate(READ_SIZE);
    int epoll = check(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    move_to_other_core();
    for (int i = 0; i < connections; i++) {
        event.data.fd = check(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
        check(connect(event.data.fd, (struct sockaddr *)&address, sizeof(address)), "connect");
        check(epoll_ctl(epoll, EPOLL_CTL_ADD, event.data.fd, &event), "epoll_ctl");
    }
    for (;;) {
        int n = epoll_wait(epoll, events, 512, 0);
        for (int i = 0; i < n; i++)
            while (recv(events[i].data.fd, buffer, READ_SIZE, MSG_DONTWAIT) == READ_SIZE)
                ;
    }
}

static uint64_t send_to_all(const int *sockets, int connections, const char *piece, size_t size)
{
    for (int i = 0; i < connections; i++)
        for (size_t sent = 0; sent < size;)
            sent += (size_t)check((int)send(sockets[i], piece + sent, size - sent, MSG_NOSIGNAL),
                                  "send");
    return (uint64_t)connections;
}

static void measure(const int *sockets, int connections, size_t size, double seconds)
{
    const char *piece = allocate(size);
    double started, cpu;
    uint64_t count = 0;
    for (started = now(); now() - started < 0.3;)
        send_to_all(sockets, connections, piece, size);
    cpu = cpu_seconds();
    for (started = now(); now() - started < seconds;)
        count += send_to_all(sockets, connections, piece, size);
    printf("{\"per_second\": %.0f, \"per_cpu\": %.0f}\n", (double)count / (now() - started),
           (double)count / (cpu_seconds() - cpu));
}

int main(int argc, char **argv)
{
    int connections, listener, on = 1;
    int *sockets;
    pid_t reader;
    if (argc != 4)
        fail("usage: floor CONNECTIONS BYTES SECONDS");
    connections = (int)parse_number("CONNECTIONS", argv[1]);
    sockets = allocate((size_t)connections * sizeof(*sockets));
    listener = listening(connections);
    if ((reader = check(fork(), "fork")) == 0)
        read_forever(connections);
    for (int i = 0; i < connections; i++) {
        sockets[i] = check(accept4(listener, NULL, NULL, SOCK_CLOEXEC), "accept4");
        setsockopt(sockets[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    }
    measure(sockets, connections, (size_t)parse_number("BYTES", argv[2]),
            parse_number("SECONDS", argv[3]));
    kill(reader, SIGKILL);
    waitpid(reader, NULL, 0);
    return 0;
}
