/*
 * Sockets, phases and figures of the load clients.
 *
 * TLS is 1.3 without looking at the certificate, which is the suite's own; the server's signature
 * is verified all the same, as part of the handshake. No ALPN is offered: what speaks here is
 * HTTP/1.1.
 *
 * One thread, one epoll, edge-triggered: a client that needs more than its one core would measure
 * itself. It polls and never sleeps: on one machine it is the server's core that wakes a sleeping
 * client, in a virtual machine for more than the send itself, and no server pays that for a client
 * somewhere else. Polls that find nothing are not in the CPU seconds of the report. Connections are
 * opened a few at a time, because some servers listen with a backlog of 50 and a dropped SYN costs
 * a second. A run prints "ready" (with --wait: it then waits for a line on stdin), "started" when
 * counting begins and one line of JSON at its end; the caller reads the server's CPU time at those
 * lines. The report has this process's own CPU seconds, so that the caller can say when the client
 * was the limit.
 *
 * The first fault of the server (a refused connection, an early close, an answer that is not the
 * expected one) ends the program: there is no figure without right answers.
 */
#define _GNU_SOURCE
#include "net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define OPEN_AT_ONCE 32
#define SOURCE_ADDRESSES 64

static SSL_CTX *tls_context;

struct run run = {.connections = 64, .seconds = 3, .warmup = 0.5, .patience = 30};

double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

double cpu_seconds(void)
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

/* The newest ticket of a connection; returning 1 keeps the reference. */
static int on_ticket(SSL *tls, SSL_SESSION *session)
{
    struct sock *sock = SSL_get_app_data(tls);
    SSL_SESSION_free(sock->session);
    sock->session = session;
    return 1;
}

static void tls_start(void)
{
    tls_context = SSL_CTX_new(TLS_client_method());
    /* A newer OpenSSL would offer a group more that some servers have (X25519MLKEM768). */
    if (!tls_context || !SSL_CTX_set_min_proto_version(tls_context, TLS1_3_VERSION) ||
        !SSL_CTX_set1_groups_list(tls_context, "X25519:P-256"))
        fail("OpenSSL makes no context");
    SSL_CTX_set_mode(tls_context, SSL_MODE_ENABLE_PARTIAL_WRITE |
                                      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                      SSL_MODE_RELEASE_BUFFERS);
    if (!run.resume)
        return;
    SSL_CTX_set_session_cache_mode(tls_context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(tls_context, on_ticket);
}

static void tls_open(struct sock *sock)
{
    sock->tls = SSL_new(tls_context);
    if (!sock->tls || !SSL_set_fd(sock->tls, sock->fd) || !SSL_set_app_data(sock->tls, sock))
        fail("OpenSSL makes no connection");
    if (sock->session && !SSL_set_session(sock->tls, sock->session))
        fail("OpenSSL takes no session");
    SSL_set_connect_state(sock->tls);
}

/* What OpenSSL's answer means for an edge-triggered loop: false to wait, true at the stream's
 * end. */
static bool tls_ended(struct sock *sock, int answer, const char *what)
{
    switch (SSL_get_error(sock->tls, answer)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return false;
    case SSL_ERROR_ZERO_RETURN:
        return true;
    default:
        /* Without close_notify: rude, but HTTP's framing has already said what is whole. */
        if (sock->connected &&
            ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
            return true;
        fail("%s: %s", what, ERR_peek_error() ? ERR_reason_error_string(ERR_peek_error()) : "end");
    }
}

static bool tls_connected(struct sock *sock)
{
    int answer;
    ERR_clear_error();
    answer = SSL_do_handshake(sock->tls);
    if (answer != 1) {
        if (tls_ended(sock, answer, "TLS handshake"))
            fail("TLS handshake: the server closed the connection");
        return false;
    }
    if (run.resume && sock->before && !SSL_session_reused(sock->tls))
        fail(UNSUPPORTED "the server resumes no session");
    sock->before = true;
    return true;
}

/* SSL_read gives one record at a time: as many as there are. */
static ptrdiff_t tls_read(struct sock *sock, char *buffer, size_t size)
{
    size_t got = 0;
    if (sock->ended)
        return 0;
    while (got < size) {
        int n;
        ERR_clear_error();
        n = SSL_read(sock->tls, buffer + got, (int)(size - got));
        if (n > 0) {
            got += (size_t)n;
            continue;
        }
        sock->ended = tls_ended(sock, n, "TLS read");
        break;
    }
    if (got)
        return (ptrdiff_t)got;
    return sock->ended ? 0 : -1;
}

static ptrdiff_t tls_write(struct sock *sock, const char *data, size_t size)
{
    int sent;
    ERR_clear_error();
    sent = SSL_write(sock->tls, data, size > INT_MAX ? INT_MAX : (int)size);
    if (sent > 0)
        return sent;
    if (tls_ended(sock, sent, "TLS write"))
        fail("the server closed the connection");
    errno = EAGAIN;
    return -1;
}

void sock_open(struct sock *sock, unsigned index)
{
    int on = 1;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                .data.ptr = sock};
    sock->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (sock->fd < 0)
        fail("socket: %s", strerror(errno));
    sock->connected = sock->ended = false;
    sock->out_left = 0;
    setsockopt(sock->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    bind_source(sock->fd, index);
    if (connect(sock->fd, (struct sockaddr *)&run.server, sizeof(run.server)) < 0 &&
        errno != EINPROGRESS)
        fail("connect: %s", strerror(errno));
    if (epoll_ctl(run.epoll, EPOLL_CTL_ADD, sock->fd, &event) < 0)
        fail("epoll_ctl: %s", strerror(errno));
    if (run.tls)
        tls_open(sock);
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
    case 'T':
        run.tls = true;
        return true;
    case 'R':
        run.tls = run.resume = true;
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
    if (sock->tls) {
        SSL_shutdown(sock->tls); /* or asyncio's servers wait half a minute for it */
        SSL_free(sock->tls);
        sock->tls = NULL;
    }
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
    sock->connected = !sock->tls || tls_connected(sock);
    return sock->connected;
}

bool sock_flush(struct sock *sock)
{
    while (sock->out_left) {
        ssize_t sent = sock->tls ? tls_write(sock, sock->out, sock->out_left)
                                 : send(sock->fd, sock->out, sock->out_left, MSG_NOSIGNAL);
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

size_t sock_send_file(struct sock *sock, int file, size_t size)
{
    off_t from = 0;
    ssize_t sent = sendfile(sock->fd, file, &from, size);
    if (sent < 0 && errno != EAGAIN && errno != EINTR)
        fail("sendfile: %s", strerror(errno));
    return sent < 0 ? 0 : (size_t)sent;
}

ptrdiff_t sock_read(struct sock *sock, char *buffer, size_t size)
{
    ssize_t got;
    if (!sock->connected)
        return -1;
    if (sock->tls)
        return tls_read(sock, buffer, size);
    got = recv(sock->fd, buffer, size, 0);
    if (got < 0 && errno != EAGAIN && errno != EINTR)
        fail("recv: %s", strerror(errno));
    return got;
}

bool sock_more(const struct sock *sock, uint32_t events, ptrdiff_t got, size_t size)
{
    return got == (ptrdiff_t)size || (got > 0 && (sock->ended || events & (EPOLLRDHUP | EPOLLHUP)));
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
    run.idle = 0;
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
        run.cpu = cpu_seconds() - run.cpu_started - run.idle;
        if (run.cpu < 0) /* others had the core while nothing came */
            run.cpu = 0;
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
    signal(SIGPIPE, SIG_IGN); /* sendfile has no MSG_NOSIGNAL */
    if (run.tls)
        tls_start();
    if ((run.epoll = epoll_create1(EPOLL_CLOEXEC)) < 0)
        fail("epoll_create1: %s", strerror(errno));
    run.last_event = now();
    if (run.limit && !run.wait) /* such a run is short on requests: the first counts too */
        start_counting();
    open_some();
    while (run.phase != DONE) {
        double t = now();
        int n = epoll_wait(run.epoll, events, 512, 0);
        if (n <= 0)
            run.idle += now() - t;
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
