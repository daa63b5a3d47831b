/*
 * HTTP/1.1 load client for what wrk does not do: whole bodies compared byte by byte, large bodies
 * in both directions, a connection per request, a fixed rate with latencies counted from when a
 * request was due (a slow answer delays none of the later ones on paper), server-sent events, idle
 * connections.
 *
 *   http [options] HOST PORT PATH
 *     --connections N     at the same time (64)
 *     --seconds S         of counted load (3)   --warmup S   before (0.5)
 *     --requests N        end after N requests instead
 *     --wait              each connection makes one request, then "ready"; a line on stdin goes on
 *     --rate R            R requests a second over all connections
 *     --close             a connection for each request
 *     --sse               never-ending answers of numbered events; counts events
 *     --upload BYTES      POST so many bytes
 *     --pattern TEXT --length N   the body expected: N bytes of TEXT repeated
 *     --tls               TLS 1.3; with --close a handshake for each request
 *     --resume            the same, and every handshake but each connection's first must resume
 *
 * It does not speak HTTP/2 (h2load does), nor bodies that end with their connection.
 */
#define _GNU_SOURCE
#include "net.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#define READ_SIZE (256 * 1024)
#define UPLOAD_CHUNK (256 * 1024)
#define EVENT_SIZE 80 /* "id: %010d\ndata: ...\n\n", as apps/raw.py makes them */
#define EVENT_ID 4

enum parse { IN_HEAD, IN_LENGTH, IN_CHUNK_SIZE, IN_CHUNK, IN_CHUNK_END, IN_LAST, COMPLETE };

struct conn {
    struct sock sock; /* first: epoll's pointer is both */
    unsigned index;
    bool ready, busy;
    double sent; /* when the request was sent, or was due */
    uint64_t upload_left;
    enum parse parse;
    bool closes; /* the server said so */
    size_t head_size;
    uint64_t left, seen,
        chunk; /* of this length or chunk; of the body; the chunk size read so far */
    uint64_t event_id;
    char head[HEAD_MAX];
};

static struct {
    const char *host, *path, *pattern;
    size_t pattern_size;
    uint64_t length, upload;
    double rate;
    bool close, sse;
} option = {.pattern = ""};

static struct conn *conns;
static char *request, *upload_chunk, *read_buffer, *expected;
static size_t request_size, expected_size;
static int upload_file; /* upload_chunk's bytes */
static uint64_t issued;
static struct conn **idle;
static size_t idle_count;
static double due;

/* By sendfile where the socket takes it: a copy on our side would make us the limit. False: it took
 * nothing. */
static bool send_chunk(struct conn *conn)
{
    size_t size = conn->upload_left < UPLOAD_CHUNK ? conn->upload_left : UPLOAD_CHUNK;
    if (conn->sock.tls)
        sock_send(&conn->sock, upload_chunk, size);
    else
        size = sock_send_file(&conn->sock, upload_file, size);
    conn->upload_left -= size;
    return size > 0;
}

static void on_upload_room(struct conn *conn)
{
    while (sock_flush(&conn->sock) && conn->upload_left && send_chunk(conn))
        ;
}

static void send_request(struct conn *conn, double when)
{
    conn->sent = when;
    conn->busy = true;
    conn->parse = IN_HEAD;
    conn->head_size = 0;
    conn->seen = 0;
    conn->closes = false;
    conn->upload_left = option.upload;
    sock_send(&conn->sock, request, request_size);
    on_upload_room(conn);
}

/* What a connection does when it has nothing under way. */
static void next_request(struct conn *conn)
{
    conn->busy = false;
    if (option.rate > 0)
        idle[idle_count++] = conn;
    if (option.rate > 0 || (run.phase == OPENING && run.wait))
        return;
    if (run.phase == RUNNING && run.limit && issued++ >= run.limit)
        return;
    if (option.close && conn->ready) {
        sock_close(&conn->sock);
        conn->sent = now();
        sock_open(&conn->sock, conn->index + (unsigned)run.count);
        return;
    }
    send_request(conn, now());
}

static void count_answer(struct conn *conn)
{
    bool counted = run.phase == RUNNING && (option.rate == 0 || conn->sent >= run.started);
    if (option.sse)
        fail("the stream of events ended");
    if (conn->seen != option.length)
        fail("body of %llu bytes, expected %llu", (unsigned long long)conn->seen,
             (unsigned long long)option.length);
    if (!conn->ready) {
        conn->ready = true;
        run_ready();
    }
    if (counted) {
        run_latency(now() - conn->sent);
        run.count++;
        run.bytes += conn->seen + option.upload;
    }
    if (!option.close) {
        if (conn->closes)
            fail("the server closes a keep-alive connection");
        next_request(conn);
    }
}

static void check_event(struct conn *conn)
{
    char *end;
    uint64_t id = strtoull(conn->head + EVENT_ID, &end, 10);
    if (memcmp(conn->head, "id: ", EVENT_ID) != 0 || end != conn->head + EVENT_ID + 10 ||
        memcmp(end, expected, EVENT_SIZE - EVENT_ID - 10) != 0)
        fail("wrong event: %.20s", conn->head);
    if (conn->event_id && id <= conn->event_id)
        fail("event %llu after %llu", (unsigned long long)id, (unsigned long long)conn->event_id);
    conn->event_id = id;
    if (!conn->ready) {
        conn->ready = true;
        run_ready();
    }
    if (run.phase == RUNNING)
        run.count++, run.bytes += EVENT_SIZE;
}

static void on_event_bytes(struct conn *conn, const char *p, size_t n)
{
    while (n) {
        size_t room = EVENT_SIZE - conn->head_size, take = n < room ? n : room;
        memcpy(conn->head + conn->head_size, p, take);
        conn->head_size += take;
        p += take;
        n -= take;
        if (conn->head_size == EVENT_SIZE) {
            check_event(conn);
            conn->head_size = 0;
        }
    }
}

static void on_body(struct conn *conn, const char *p, size_t n)
{
    if (option.sse) {
        on_event_bytes(conn, p, n);
        return;
    }
    if (conn->seen + n > option.length)
        fail("body longer than %llu bytes", (unsigned long long)option.length);
    while (n) {
        /* `expected` holds whole patterns, so that long bodies are compared in long pieces. */
        size_t at = conn->seen % expected_size, take = expected_size - at;
        if (take > n)
            take = n;
        if (memcmp(p, expected + at, take) != 0)
            fail("wrong byte in the body after %llu", (unsigned long long)conn->seen);
        conn->seen += take;
        p += take;
        n -= take;
    }
}

static const char *header(const struct conn *conn, const char *name)
{
    const char *found = strcasestr(conn->head, name);
    return found ? found + strlen(name) : NULL;
}

static void on_head(struct conn *conn)
{
    const char *value;
    if (strncmp(conn->head, "HTTP/1.1 200", 12) != 0)
        fail("answer: %.30s", conn->head);
    conn->closes = header(conn, "\r\nconnection: close") != NULL;
    if ((value = header(conn, "\r\ncontent-length: "))) {
        conn->left = strtoull(value, NULL, 10);
        conn->parse = conn->left ? IN_LENGTH : COMPLETE;
    } else if (header(conn, "\r\ntransfer-encoding: chunked")) {
        conn->chunk = 0;
        conn->parse = IN_CHUNK_SIZE;
    } else {
        fail("an answer without length");
    }
    conn->head_size = 0;
}

/* Each of these takes bytes of one kind and returns how many. */
static size_t take_head(struct conn *conn, const char *p, size_t n)
{
    bool whole;
    size_t took = head_append(conn->head, &conn->head_size, p, n, &whole);
    if (whole)
        on_head(conn);
    return took;
}

static size_t take_body(struct conn *conn, const char *p, size_t n)
{
    size_t take = n < conn->left ? n : (size_t)conn->left;
    on_body(conn, p, take);
    conn->left -= take;
    if (!conn->left)
        conn->parse = conn->parse == IN_LENGTH ? COMPLETE : IN_CHUNK_END;
    return take;
}

static size_t take_chunk_size(struct conn *conn, const char *p)
{
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    const char *digit = *p ? strchr(digits, *p) : NULL;
    if (digit) {
        conn->chunk = conn->chunk * 16 + (uint64_t)(digit - digits) % 16;
    } else if (*p == '\n') {
        conn->left = conn->chunk;
        conn->parse = conn->chunk ? IN_CHUNK : IN_LAST;
    } else if (*p != '\r') {
        fail("wrong chunk size");
    }
    return 1;
}

static size_t take_line_end(struct conn *conn, const char *p)
{
    if (*p == '\n') {
        conn->parse = conn->parse == IN_LAST ? COMPLETE : IN_CHUNK_SIZE;
        conn->chunk = 0;
    } else if (*p != '\r') {
        fail("a chunk does not end where it should");
    }
    return 1;
}

static void on_bytes(struct conn *conn, const char *p, size_t n)
{
    while (n) {
        size_t took = 0;
        if (!conn->busy)
            fail("bytes after the answer");
        switch (conn->parse) {
        case IN_HEAD:
            took = take_head(conn, p, n);
            break;
        case IN_LENGTH:
        case IN_CHUNK:
            took = take_body(conn, p, n);
            break;
        case IN_CHUNK_SIZE:
            took = take_chunk_size(conn, p);
            break;
        case IN_CHUNK_END:
        case IN_LAST:
            took = take_line_end(conn, p);
            break;
        case COMPLETE:
            fail("bytes after the answer");
        }
        p += took;
        n -= took;
        if (conn->parse == COMPLETE && n)
            fail("bytes after the answer");
    }
    if (conn->parse == COMPLETE && conn->busy && !option.close)
        count_answer(conn);
}

static void on_end(struct conn *conn)
{
    if (!option.close || conn->parse != COMPLETE)
        fail("the server closed the connection%s", conn->busy ? " within an answer" : "");
    count_answer(conn);
    next_request(conn);
}

static void on_event(struct sock *sock, uint32_t events)
{
    struct conn *conn = (struct conn *)sock;
    ptrdiff_t got;
    if (sock_connected(sock, events))
        send_request(conn, option.close ? conn->sent : now());
    else if (events & EPOLLOUT)
        on_upload_room(conn);
    if (!(events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP)))
        return;
    do {
        got = sock_read(sock, read_buffer, READ_SIZE);
        if (got > 0)
            on_bytes(conn, read_buffer, (size_t)got);
        else if (got == 0)
            on_end(conn);
    } while (sock_more(sock, events, got, READ_SIZE));
}

static void on_open(unsigned index)
{
    conns[index].index = index;
    conns[index].sent = now();
    issued += run.phase == RUNNING;
    sock_open(&conns[index].sock, index);
}

static void on_resume(void)
{
    for (unsigned i = 0; i < run.connections; i++)
        next_request(&conns[i]);
}

/* Send what is due. The time of a request is when it was due, however late a connection is free. */
static void on_turn(double t)
{
    if (run.phase == OPENING)
        return;
    if (due == 0)
        due = t;
    while (due <= t && idle_count) {
        send_request(idle[--idle_count], due);
        due += 1 / option.rate;
    }
}

static const struct option flags[] = {
    RUN_FLAGS,
    {"rate", 1, NULL, 'r'},
    {"close", 0, NULL, 'C'},
    {"sse", 0, NULL, 'e'},
    {"upload", 1, NULL, 'u'},
    {"pattern", 1, NULL, 'p'},
    {"length", 1, NULL, 'l'},
    {NULL, 0, NULL, 0},
};

static void parse_flag(int flag)
{
    switch (flag) {
    case 'r':
        option.rate = parse_number("--rate", optarg);
        run.on_turn = on_turn;
        break;
    case 'C':
        option.close = true;
        break;
    case 'e':
        option.sse = true;
        break;
    case 'u':
        option.upload = (uint64_t)parse_number("--upload", optarg);
        break;
    case 'p':
        option.pattern = optarg;
        break;
    case 'l':
        option.length = (uint64_t)parse_number("--length", optarg);
        break;
    default:
        if (!run_flag(flag, optarg))
            fail("unknown flag; see the head of http.c");
    }
}

static void make_buffers(void)
{
    option.pattern_size = strlen(option.pattern);
    if (!option.pattern_size || !run.connections)
        fail("--pattern and --connections must not be empty");
    /* Whole patterns, some 64 KB of them. */
    expected_size = option.pattern_size * (1 + 65536 / option.pattern_size);
    expected = allocate(expected_size);
    for (size_t i = 0; i < expected_size; i += option.pattern_size)
        memcpy(expected + i, option.pattern, option.pattern_size);
    upload_chunk = allocate(UPLOAD_CHUNK);
    memset(upload_chunk, 'x', UPLOAD_CHUNK);
    upload_file = memfd_create("upload", MFD_CLOEXEC);
    if (upload_file < 0 || write(upload_file, upload_chunk, UPLOAD_CHUNK) != UPLOAD_CHUNK)
        fail("memfd: %s", strerror(errno));
    read_buffer = allocate(READ_SIZE);
    conns = allocate(run.connections * sizeof(*conns));
    idle = allocate(run.connections * sizeof(struct conn *));
}

static void make_request(void)
{
    char length[64] = "";
    if (option.upload)
        snprintf(length, sizeof(length), "Content-Length: %llu\r\n",
                 (unsigned long long)option.upload);
    int size =
        asprintf(&request, "%s %s HTTP/1.1\r\nHost: %s\r\n%s%s\r\n", option.upload ? "POST" : "GET",
                 option.path, option.host, length, option.close ? "Connection: close\r\n" : "");
    if (size < 0)
        fail("no memory");
    request_size = (size_t)size;
}

int main(int argc, char **argv)
{
    int flag;
    while ((flag = getopt_long(argc, argv, "", flags, NULL)) != -1)
        parse_flag(flag);
    if (argc - optind != 3)
        fail("usage: http [options] HOST PORT PATH");
    option.host = argv[optind];
    option.path = argv[optind + 2];
    parse_address(option.host, argv[optind + 1]);
    make_buffers();
    make_request();
    run.on_open = on_open;
    run.on_event = on_event;
    run.on_resume = on_resume;
    run_all();
    return 0;
}
