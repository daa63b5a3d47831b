/* What the load clients share: sockets, plain or TLS, the run with its phases, latencies and the
 * report. */
#ifndef BENCH_NET_H
#define BENCH_NET_H

#include <netinet/in.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* 256 steps per power of two: a percentile is right within 0.4 %. */
#define LATENCY_STEPS 256
#define LATENCY_SLOTS (LATENCY_STEPS * 48)

/* A connection's socket and what it has still to send. The bytes belong to the caller. */
struct sock {
    int fd;         /* -1 when closed */
    bool connected; /* with TLS: the handshake is done */
    bool ended;     /* the peer's close_notify has been read */
    bool before;    /* there was a TLS connection here before this one */
    const char *out;
    size_t out_left;
    SSL *tls;             /* NULL without --tls */
    SSL_SESSION *session; /* of --resume: the newest ticket, for the next handshake */
};

enum phase {
    OPENING, /* connections are made; each is ready once it has had a good answer */
    WARMING, /* full load, nothing counted */
    RUNNING, /* counted */
    DONE
};

struct run {
    /* set by the program */
    struct sockaddr_in server;
    unsigned connections;
    double seconds;                  /* of counted load, unless `limit` is set */
    double warmup;                   /* seconds */
    uint64_t limit;                  /* end after this many; 0 for none */
    bool wait;                       /* when all are ready, say so and wait for a line on stdin */
    double patience;                 /* seconds without any event before the run fails */
    bool tls;                        /* TLS 1.3 */
    bool resume;                     /* every handshake but a connection's first resumes */
    void (*on_open)(unsigned index); /* make this connection */
    void (*on_event)(struct sock *sock, uint32_t events); /* epoll's events */
    void (*on_resume)(void);                              /* the wait is over */
    void (*on_turn)(double now);                          /* after each turn; may be NULL */

    /* kept by net.c; count and bytes by the program */
    int epoll;
    enum phase phase;
    unsigned opened, ready;
    uint64_t count, bytes;
    double started, ended, deadline, last_event, cpu_started, cpu;
    double idle; /* seconds of polls that found nothing */
    uint64_t latency[LATENCY_SLOTS];
    uint64_t latencies;
};

extern struct run run;

double now(void);         /* monotonic, seconds */
double cpu_seconds(void); /* user and system time of this process */

/* Print {"error": ...} and end with status 1: a wrong answer makes the whole figure void. */
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Begins the text of a fault that is no fault: the server does not do what was to be measured. */
#define UNSUPPORTED "unsupported: "

void *allocate(size_t size); /* zeroed; fails the run when there is none */

void parse_address(const char *host, const char *port);
double parse_number(const char *flag, const char *text);

/* Start to connect without waiting. Each index has its own source address of 127/8, so that one
 * destination does not run out of ports. */
void sock_open(struct sock *sock, unsigned index);
void sock_close(struct sock *sock);
void sock_send(struct sock *sock, const char *data, size_t size); /* data stays until sent */
bool sock_flush(struct sock *sock);                               /* true when nothing is left */
/* As much of a file's first `size` bytes as the socket takes, without copying them: how many that
 * was, perhaps 0. Without TLS, and behind all that sock_send was given. */
size_t sock_send_file(struct sock *sock, int file, size_t size);
/* Bytes read; 0 at the end of the stream; -1 when there is nothing to read now. */
ptrdiff_t sock_read(struct sock *sock, char *buffer, size_t size);
/* After a read that `got` so much of a buffer of `size`: may there be more, or the end? */
bool sock_more(const struct sock *sock, uint32_t events, ptrdiff_t got, size_t size);
bool sock_connected(struct sock *sock, uint32_t events); /* true once, when it becomes so */

/* The flags that every client has, as rows of getopt_long's table; and what they set. */
#define RUN_FLAGS                                                                       \
    {"connections", 1, NULL, 'c'}, {"seconds", 1, NULL, 's'}, {"warmup", 1, NULL, 'w'}, \
        {"requests", 1, NULL, 'n'}, {"wait", 0, NULL, 'W'}, {"tls", 0, NULL, 'T'},      \
        {"resume", 0, NULL, 'R'}
bool run_flag(int flag, const char *value); /* false when the flag is none of these */

/* Append bytes to a response head of HEAD_MAX; how many were taken. *whole says that it is
 * complete: then it is a string whose last line ends with CR LF. */
#define HEAD_MAX 4096
size_t head_append(char *head, size_t *size, const char *p, size_t n, bool *whole);

void run_ready(void); /* one more connection had its first good answer */
void run_latency(double seconds);
void run_all(void); /* run, print the report */

#endif
