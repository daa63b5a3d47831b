/*
 * Sockets, phases and figures of the load clients.
 *
 * One thread, one epoll, edge-triggered: a client that needs more than its one core would measure
 * itself. Connections are opened a few at a time, because some servers listen with a backlog of 50
 * and a dropped SYN costs a second. A run prints "ready" (with --wait: it then waits for a line on
 * stdin), "started" when counting begins and one line of JSON at its end; the caller reads the
 * server's CPU time at those lines. The report has this process's own CPU seconds, so that the
 * caller can say when the client was the limit.
 *
 * The first fault of the server (a refused connection, an early close, an answer that is not the
 * expected one) ends the program: there is no figure without right answers.
 */
#define _GNU_SOURCE
#include "net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define OPEN_AT_ONCE 32
#define TURN_MS 5
#define SOURCE_ADDRESSES 64

struct run run = {.connections = 64, .seconds = 3, .warmup = 0.5, .patience = 30};

double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double cpu_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

_Noreturn void fail(const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    for (char *p = text; *p; p++)
        if (*p == '"' || *p == '\\' || (unsigned char)*p < 32 || (unsigned char)*p > 126)
            *p = '?';
    printf("{\"error\": \"%s\"}\n", text);
    fflush(stdout);
    exit(1);
}

void *allocate(size_t size)
{
    void *memory = calloc(1, size);
    if (!memory)
        fail("no memory for %zu bytes", size);
    return memory;
}

double parse_number(const char *flag, const char *text)
{
    char *end;
    double number = strtod(text, &end);
    if (end == text || *end || !isfinite(number) || number < 0)
        fail("%s takes a number, not %s", flag, text);
    return number;
}

void parse_address(const char *host, const char *port)
{
    run.server.sin_family = AF_INET;
    run.server.sin_port = htons((uint16_t)parse_number("PORT", port));
    if (inet_pton(AF_INET, host, &run.server.sin_addr) != 1)
        fail("%s is no IPv4 address", host);
}

static void bind_source(int fd, unsigned index)
{
    int on = 1;
    struct sockaddr_in source = {.sin_family = AF_INET};
    if ((ntohl(run.server.sin_addr.s_addr) >> 24) != 127)
        return;
    source.sin_addr.s_addr = htonl(0x7f000001u + index % SOURCE_ADDRESSES);
    /* Or bind() would take a port for good before it is known what for. */
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
    if (bind(fd, (struct sockaddr *)&source, sizeof(source)) < 0)
        fail("bind: %s", strerror(errno));
}

void sock_open(struct sock *sock, unsigned index)
{
    int on = 1;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                .data.ptr = sock};
    sock->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (sock->fd < 0)
        fail("socket: %s", strerror(errno));
    sock->connected = false;
    sock->out_left = 0;
    setsockopt(sock->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    bind_source(sock->fd, index);
    if (connect(sock->fd, (struct sockaddr *)&run.server, sizeof(run.server)) < 0 &&
        errno != EINPROGRESS)
        fail("connect: %s", strerror(errno));
    if (epoll_ctl(run.epoll, EPOLL_CTL_ADD, sock->fd, &event) < 0)
        fail("epoll_ctl: %s", strerror(errno));
}

bool run_flag(int flag, const char *value)
{
    switch (flag) {
    case 'c':
        run.connections = (unsigned)parse_number("--connections", value);
        return true;
    case 's':
        run.seconds = parse_number("--seconds", value);
        return true;
    case 'w':
        run.warmup = parse_number("--warmup", value);
        return true;
    case 'n':
        run.limit = (uint64_t)parse_number("--requests", value);
        return true;
    case 'W':
        run.wait = true;
        return true;
    default:
        return false;
    }
}

size_t head_append(char *head, size_t *size, const char *p, size_t n, bool *whole)
{
    size_t room = HEAD_MAX - 1 - *size, take = n < room ? n : room, before = *size;
    char *end;
    memcpy(head + before, p, take);
    *size += take;
    head[*size] = 0;
    end = memmem(head, *size, "\r\n\r\n", 4);
    *whole = end != NULL;
    if (!end) {
        if (*size == HEAD_MAX - 1)
            fail("head longer than %d bytes", HEAD_MAX - 1);
        return take;
    }
    end[2] = 0;
    return (size_t)(end - head) + 4 - before;
}

void sock_close(struct sock *sock)
{
    close(sock->fd);
    sock->fd = -1;
}

bool sock_connected(struct sock *sock, uint32_t events)
{
    int error = 0;
    socklen_t size = sizeof(error);
    if (events & EPOLLERR) {
        getsockopt(sock->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        fail("%s: %s", sock->connected ? "connection lost" : "connect", strerror(error));
    }
    if (sock->connected || !(events & EPOLLOUT))
        return false;
    sock->connected = true;
    return true;
}

bool sock_flush(struct sock *sock)
{
    while (sock->out_left) {
        ssize_t sent = send(sock->fd, sock->out, sock->out_left, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno == EAGAIN || errno == EINTR)
                return false;
            fail("send: %s", strerror(errno));
        }
        sock->out += sent;
        sock->out_left -= (size_t)sent;
    }
    return true;
}

void sock_send(struct sock *sock, const char *data, size_t size)
{
    if (sock->out_left)
        fail("the server lets %zu bytes of a small frame wait", sock->out_left);
    sock->out = data;
    sock->out_left = size;
    sock_flush(sock);
}

ptrdiff_t sock_read(struct sock *sock, char *buffer, size_t size)
{
    ssize_t got = recv(sock->fd, buffer, size, 0);
    if (got < 0 && errno != EAGAIN && errno != EINTR)
        fail("recv: %s", strerror(errno));
    return got;
}

static size_t slot_of(uint64_t ns)
{
    int power;
    size_t slot;
    if (ns < LATENCY_STEPS)
        return (size_t)ns;
    power = 63 - __builtin_clzll(ns) - 8;
    slot = (size_t)(power + 1) * LATENCY_STEPS + ((ns >> power) & (LATENCY_STEPS - 1));
    return slot < LATENCY_SLOTS ? slot : LATENCY_SLOTS - 1;
}

static double slot_value(size_t slot)
{
    size_t power = slot / LATENCY_STEPS;
    double step = (double)(slot % LATENCY_STEPS);
    return power ? ldexp(LATENCY_STEPS + step + 0.5, (int)power - 1) : step;
}

void run_latency(double seconds)
{
    if (run.phase != RUNNING)
        return;
    run.latency[slot_of(seconds > 0 ? (uint64_t)(seconds * 1e9) : 0)]++;
    run.latencies++;
}

/* Microseconds below which this share of the latencies lies. */
static double percentile(double share)
{
    uint64_t rank = (uint64_t)(share * (double)run.latencies), seen = 0;
    for (size_t slot = 0; slot < LATENCY_SLOTS; slot++) {
        seen += run.latency[slot];
        if (seen > rank)
            return slot_value(slot) * 1e-3;
    }
    return 0;
}

static void open_some(void)
{
    while (run.opened < run.connections && run.opened - run.ready < OPEN_AT_ONCE)
        run.on_open(run.opened++);
}

void run_ready(void)
{
    run.ready++;
}

static void start_counting(void)
{
    memset(run.latency, 0, sizeof(run.latency));
    run.latencies = run.count = run.bytes = 0;
    run.phase = RUNNING;
    run.started = now();
    run.cpu_started = cpu_seconds();
    puts("started");
    fflush(stdout);
}

static void wait_for_word(void)
{
    char line[64];
    puts("ready");
    fflush(stdout);
    if (!fgets(line, sizeof(line), stdin))
        exit(0); /* the caller has gone, or has seen enough */
    run.last_event = now();
    start_counting();
    run.on_resume();
}

/* A very slow server gets the time for one answer: it is slow, not wrong. */
static bool complete(double t)
{
    if (run.limit)
        return run.count >= run.limit;
    return t >= run.started + run.seconds && run.count > 0;
}

static void advance(double t)
{
    open_some();
    if (run.phase == OPENING) {
        if (run.ready < run.connections)
            return;
        if (run.wait) {
            wait_for_word();
            return;
        }
        run.phase = WARMING;
        run.deadline = t + run.warmup;
    }
    if (run.phase == WARMING && t >= run.deadline)
        start_counting();
    else if (run.phase == RUNNING && complete(t)) {
        run.phase = DONE;
        run.ended = t;
        run.cpu = cpu_seconds() - run.cpu_started;
    }
}

static void report(void)
{
    printf("{\"count\": %llu, \"bytes\": %llu, \"seconds\": %.6f, \"cpu\": %.6f, \"p50\": %.3f, "
           "\"p99\": %.3f, \"p999\": %.3f}\n",
           (unsigned long long)run.count, (unsigned long long)run.bytes, run.ended - run.started,
           run.cpu, percentile(0.5), percentile(0.99), percentile(0.999));
    fflush(stdout);
}

void run_all(void)
{
    struct epoll_event events[512];
    if ((run.epoll = epoll_create1(EPOLL_CLOEXEC)) < 0)
        fail("epoll_create1: %s", strerror(errno));
    run.last_event = now();
    if (run.limit && !run.wait) /* such a run is short on requests: the first counts too */
        start_counting();
    open_some();
    while (run.phase != DONE) {
        double t;
        int n = epoll_wait(run.epoll, events, 512, run.spin ? 0 : TURN_MS);
        for (int i = 0; i < n; i++)
            run.on_event(events[i].data.ptr, events[i].events);
        t = now();
        if (n > 0)
            run.last_event = t;
        else if (t - run.last_event > run.patience)
            fail("no answer for %.0f s (%u of %u connections ready, %llu done)", run.patience,
                 run.ready, run.connections, (unsigned long long)run.count);
        advance(t);
        if (run.on_turn && run.phase != DONE)
            run.on_turn(t);
    }
    report();
}
