/*
 * WebSocket load client. Every message is compared byte by byte; each begins with a stamp (the
 * connection and a running number), so that an answer for somebody else or for another message is
 * noticed.
 *
 *   ws [options] echo|broadcast|updates|handshake HOST PORT PATH
 *     echo         each connection sends a message and waits for its echo
 *     broadcast    the first connection sends, all must receive it; counts what they receive.
 *                  --talkers N (1): the first N do, each without waiting for the others
 *     updates      one more connection POSTs to --post PATH over HTTP; all must receive the body as
 *                  a message, and the POST its answer; counts what they receive
 *     handshake    connect, upgrade, close frame both ways, end of the stream; again
 *     --connections N (64)   --seconds S (3)   --warmup S (0.5)
 *     --size BYTES           of a message, 32 or more (32)      --text   text frames (binary)
 *     --requests N           end after N echoes instead
 *     --wait                 each connection makes one echo, then "ready"; a line on stdin goes on
 *     --tls                  TLS 1.3
 *     --deflate              offer permessage-deflate as browsers do; the server must take it, and
 *                            must compress what has 1 KB or more
 *
 * The handshake's key is always the same, because nothing here depends on its being random; the
 * same holds for the mask. Without --deflate nothing is offered, so no server compresses.
 *
 * With --deflate the client must not be what is measured: the text of a message (words in random
 * order, which shrink to about a third) is compressed once, and only the stamp before it changes,
 * which stands in a stored block of its own. Answers are inflated in full and compared.
 */
#define _GNU_SOURCE
#include "net.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <zlib.h>

#define READ_SIZE (256 * 1024)
#define STAMP 16
#define CONTROL_MAX 125
#define MUST_COMPRESS 1024
#define STORED_HEAD 5 /* of a stored block: its kind, its length, the length's complement */
#define INFLATED 16384
#define RSV1 0x40

#define KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

static const unsigned char mask[4] = {0x37, 0xfa, 0x21, 0x3d};

enum opcode { CONTINUATION = 0, TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };
enum state { SHAKING, OPEN, CLOSING };

struct conn {
    struct sock sock; /* first: epoll's pointer is both */
    unsigned index;
    enum state state;
    bool ready, posts; /* the one that POSTs is no WebSocket */
    double sent;
    char *message; /* our frame, masked; only who sends has one */
    /* reading */
    size_t head_size;
    bool in_payload;
    int opcode;       /* of the frame */
    bool compressed;  /* the message under way is */
    bool no_takeover; /* the server starts each message anew */
    int window;       /* its bits */
    z_stream *inflater;
    bool last, open; /* FIN of the frame; a message is under way */
    uint64_t left, seen;
    uint32_t number;    /* of the message awaited, or of the next one of a talker */
    char stamp[STAMP];  /* of the message under way */
    uint32_t *heard;    /* messages of each talker */
    struct conn *whose; /* talker of the message under way */
    unsigned waiting;   /* of a talker: receivers that its message has not yet reached */
    unsigned char control[CONTROL_MAX + 1];
    size_t control_size;
    char pong[CONTROL_MAX + 6];
    size_t pong_size;
    char head[HEAD_MAX];
};

static struct {
    enum { ECHO, BROADCAST, UPDATES, HANDSHAKE } mode;
    const char *host, *path, *post;
    size_t size;
    unsigned talkers;
    bool text, deflate;
} option = {.size = 32, .talkers = 1};

static struct conn *conns;
static char *request, *read_buffer, *payload; /* payload: what a message holds after its stamp */
static size_t request_size, frame_head_size;
static char *packed; /* the payload after its stamp, compressed */
static size_t packed_size, wire_size;
static uint64_t issued;
static struct conn *talkers;  /* who sends broadcasts; the one who posts updates */
static unsigned talker_count; /* 0: each message comes back to who sent it */
static char *post;            /* the request with an update, whose body is the message */
static size_t post_size, post_head_size;

static char close_frame[] = {(char)0x88, (char)0x82, 0x37, (char)0xfa, 0x21, 0x3d, 0, 0};

static size_t put_frame_head(char *frame, int bits, uint64_t size)
{
    size_t n = 2;
    frame[0] = (char)(0x80 | bits);
    if (size < 126) {
        frame[1] = (char)(0x80 | size);
    } else {
        int bytes = size < 65536 ? 2 : 8;
        frame[1] = (char)(0x80 | (bytes == 2 ? 126 : 127));
        for (int i = bytes - 1; i >= 0; i--)
            frame[n++] = (char)(size >> (8 * i));
    }
    memcpy(frame + n, mask, 4);
    return n + 4;
}

static void put_masked(char *to, const char *from, size_t size, size_t at)
{
    for (size_t i = 0; i < size; i++)
        to[i] = (char)(from[i] ^ mask[(at + i) & 3]);
}

static void put_hex(char *to, uint32_t number)
{
    for (int i = 0; i < 8; i++)
        to[i] = "0123456789abcdef"[number >> (28 - 4 * i) & 15];
}

static void make_stamp(char *stamp, unsigned index, uint32_t number)
{
    put_hex(stamp, index);
    put_hex(stamp + 8, number);
}

/* Where the stamp stands in a frame. */
static size_t stamp_offset(void)
{
    return frame_head_size + (option.deflate ? STORED_HEAD : 0);
}

static void make_message(struct conn *conn)
{
    static const char stored[STORED_HEAD] = {0, STAMP, 0, (char)~STAMP, (char)0xff};
    int bits = (option.text ? TEXT : BINARY) | (option.deflate ? RSV1 : 0);
    size_t at = stamp_offset() - frame_head_size + STAMP; /* in the frame's payload */
    conn->message = allocate(wire_size + 14);
    put_frame_head(conn->message, bits, wire_size);
    if (option.deflate) {
        put_masked(conn->message + frame_head_size, stored, STORED_HEAD, 0);
        put_masked(conn->message + frame_head_size + at, packed, packed_size, at);
    } else {
        put_masked(conn->message + frame_head_size + at, payload + STAMP, option.size - STAMP, at);
    }
}

static void send_message(struct conn *conn)
{
    char stamp[STAMP];
    if (!conn->message)
        make_message(conn);
    make_stamp(stamp, conn->index, conn->number);
    put_masked(conn->message + stamp_offset(), stamp, STAMP, stamp_offset() - frame_head_size);
    conn->sent = now();
    sock_send(&conn->sock, conn->message, frame_head_size + wire_size);
}

static void send_broadcast(struct conn *talker)
{
    talker->waiting = run.connections;
    if (option.mode == BROADCAST) {
        send_message(talker);
        talker->number++;
        return;
    }
    make_stamp(post + post_head_size, talker->index, talker->number++);
    talker->sent = now();
    sock_send(&talker->sock, post, post_size);
}

static void next_echo(struct conn *conn)
{
    if (run.phase == OPENING && run.wait)
        return;
    if (run.phase == RUNNING && run.limit && issued++ >= run.limit)
        return;
    send_message(conn);
}

static void become_ready(struct conn *conn)
{
    if (conn->ready)
        return;
    conn->ready = true;
    run_ready();
}

static void on_arrival(struct conn *talker)
{
    if (--talker->waiting == 0) {
        run_latency(now() - talker->sent);
        send_broadcast(talker);
    }
}

/* The members' messages are counted; the answer to a POST is only waited for. */
static void on_delivered(struct conn *conn)
{
    conn->heard[conn->whose - talkers]++;
    if (run.phase == RUNNING)
        run.count++, run.bytes += option.size;
    on_arrival(conn->whose);
}

static void on_message(struct conn *conn)
{
    if (conn->seen != option.size)
        fail("message of %llu bytes, expected %zu", (unsigned long long)conn->seen, option.size);
    if (talker_count) {
        on_delivered(conn);
        return;
    }
    conn->number++;
    run_latency(now() - conn->sent);
    if (run.phase == RUNNING)
        run.count++, run.bytes += option.size;
    become_ready(conn);
    next_echo(conn);
}

/* Whose message it is; the rest of the stamp is compared. */
static struct conn *find_talker(const char *stamp)
{
    char index[8];
    for (unsigned i = 0; i < talker_count; i++) {
        put_hex(index, talkers[i].index);
        if (memcmp(stamp, index, 8) == 0)
            return &talkers[i];
    }
    fail("message of nobody: %.*s", STAMP, stamp);
}

static void check_stamp(struct conn *conn)
{
    char stamp[STAMP];
    conn->whose = talker_count ? find_talker(conn->stamp) : conn;
    make_stamp(stamp, conn->whose->index,
               talker_count ? conn->heard[conn->whose - talkers] : conn->number);
    if (memcmp(conn->stamp, stamp, STAMP) != 0)
        fail("message for another, or out of order: %.*s", STAMP, conn->stamp);
    if (talker_count && !conn->whose->waiting)
        fail("a message that nobody sent");
}

static void check_payload(struct conn *conn, const char *p, size_t n)
{
    if (conn->seen + n > option.size)
        fail("message longer than %zu bytes", option.size);
    if (conn->seen < STAMP) {
        size_t take = STAMP - conn->seen < n ? STAMP - conn->seen : n;
        memcpy(conn->stamp + conn->seen, p, take);
        conn->seen += take;
        p += take;
        n -= take;
        if (conn->seen == STAMP)
            check_stamp(conn);
    }
    if (memcmp(p, payload + conn->seen, n) != 0)
        fail("wrong byte in a message after %llu", (unsigned long long)conn->seen);
    conn->seen += n;
}

static void start_inflating(struct conn *conn)
{
    if (!conn->inflater) {
        conn->inflater = allocate(sizeof(*conn->inflater));
        if (inflateInit2(conn->inflater, -conn->window) != Z_OK)
            fail("zlib makes no inflater");
    } else if (conn->no_takeover) {
        inflateReset(conn->inflater);
    }
}

static void inflate_payload(struct conn *conn, const char *p, size_t n)
{
    static char out[INFLATED];
    z_stream *z = conn->inflater;
    z->next_in = (unsigned char *)p;
    z->avail_in = (uInt)n;
    do {
        int answer;
        z->next_out = (unsigned char *)out;
        z->avail_out = INFLATED;
        answer = inflate(z, Z_SYNC_FLUSH);
        if (answer != Z_OK && answer != Z_BUF_ERROR)
            fail("a compressed message is wrong: %s", z->msg ? z->msg : "inflate");
        check_payload(conn, out, INFLATED - z->avail_out);
    } while (z->avail_in || !z->avail_out);
}

static void send_pong(struct conn *conn)
{
    if (!conn->pong_size || conn->sock.out_left)
        return;
    sock_send(&conn->sock, conn->pong, conn->pong_size);
    conn->pong_size = 0;
}

static void on_control(struct conn *conn)
{
    if (conn->opcode == PING) {
        size_t n = put_frame_head(conn->pong, PONG, conn->control_size);
        put_masked(conn->pong + n, (char *)conn->control, conn->control_size, 0);
        conn->pong_size = n + conn->control_size;
        send_pong(conn);
    } else if (conn->opcode == CLOSE && conn->state != CLOSING) {
        unsigned code =
            conn->control_size < 2 ? 1005 : (unsigned)(conn->control[0] << 8 | conn->control[1]);
        fail("the server closed the WebSocket with code %u", code);
    }
}

static void on_frame_end(struct conn *conn)
{
    conn->in_payload = false;
    if (conn->opcode >= CLOSE) {
        on_control(conn);
    } else if (conn->last) {
        conn->open = false;
        if (conn->compressed)
            inflate_payload(conn, "\0\0\xff\xff", 4);
        on_message(conn);
    }
}

static void on_message_start(struct conn *conn, bool compressed)
{
    conn->open = true;
    conn->seen = 0;
    conn->compressed = compressed;
    if (compressed)
        start_inflating(conn);
    else if (option.deflate && option.size >= MUST_COMPRESS)
        fail(UNSUPPORTED "the server does not compress its answers");
}

static void on_frame_head(struct conn *conn)
{
    int opcode = conn->head[0] & 15, wanted = option.text ? TEXT : BINARY;
    int allowed = option.deflate && opcode == wanted ? RSV1 : 0;
    if (conn->head[0] & 0x70 & ~allowed || conn->head[1] & 0x80)
        fail("a frame with reserved bits or a mask");
    conn->opcode = opcode;
    conn->last = conn->head[0] & 0x80;
    conn->head_size = 0;
    conn->in_payload = true;
    if (opcode >= CLOSE) {
        conn->control_size = 0;
        if (conn->left > CONTROL_MAX)
            fail("control frame of %llu bytes", (unsigned long long)conn->left);
    } else if (opcode != (conn->open ? CONTINUATION : wanted)) {
        fail("frame with opcode %d", opcode);
    } else if (!conn->open) {
        on_message_start(conn, conn->head[0] & RSV1);
    }
    if (!conn->left)
        on_frame_end(conn);
}

/* Each of these takes bytes of one kind and returns how many. */
static size_t take_frame_head(struct conn *conn, const char *p)
{
    unsigned length;
    size_t want;
    conn->head[conn->head_size++] = *p;
    if (conn->head_size < 2)
        return 1;
    length = conn->head[1] & 0x7f;
    want = length < 126 ? 2 : length == 126 ? 4 : 10;
    if (conn->head_size < want)
        return 1;
    conn->left = length < 126 ? length : 0;
    for (size_t i = 2; i < want; i++)
        conn->left = conn->left << 8 | (unsigned char)conn->head[i];
    on_frame_head(conn);
    return 1;
}

static size_t take_payload(struct conn *conn, const char *p, size_t n)
{
    size_t take = n < conn->left ? n : (size_t)conn->left;
    if (conn->opcode >= CLOSE) {
        memcpy(conn->control + conn->control_size, p, take);
        conn->control_size += take;
    } else if (conn->compressed) {
        inflate_payload(conn, p, take);
    } else {
        check_payload(conn, p, take);
    }
    conn->left -= take;
    if (!conn->left)
        on_frame_end(conn);
    return take;
}

/* What the server made of the offer. */
static void read_extension(struct conn *conn)
{
    static const char field[] = "\r\nsec-websocket-extensions:", bits[] = "server_max_window_bits=";
    char value[256] = "", *found = strcasestr(conn->head, field);
    if (found)
        snprintf(value, sizeof(value), "%.*s", (int)strcspn(found + strlen(field), "\r"),
                 found + strlen(field));
    if (!strstr(value, "permessage-deflate"))
        fail(UNSUPPORTED "the server declines permessage-deflate");
    conn->no_takeover = strstr(value, "server_no_context_takeover") != NULL;
    conn->window = (found = strstr(value, bits)) ? atoi(found + strlen(bits)) : 15;
    if (conn->window == 8)
        conn->window = 9; /* zlib makes no raw stream of 8 bits; 9 reads it as well */
}

/* The answer to a POST has no body. */
static void on_posted(struct conn *conn)
{
    if (strncmp(conn->head, "HTTP/1.1 204", 12) != 0)
        fail("answer to the POST: %.30s", conn->head);
    if (!conn->waiting)
        fail("an answer to no POST");
    on_arrival(conn);
}

static void on_upgraded(struct conn *conn)
{
    if (conn->posts) {
        on_posted(conn);
        return;
    }
    if (strncmp(conn->head, "HTTP/1.1 101", 12) != 0)
        fail("answer to the handshake: %.30s", conn->head);
    if (option.deflate)
        read_extension(conn);
    if (!strcasestr(conn->head, "\r\nsec-websocket-accept: " ACCEPT "\r\n"))
        fail("wrong Sec-WebSocket-Accept");
    conn->state = OPEN;
    if (option.mode == ECHO) {
        send_message(conn);
    } else if (talker_count) {
        become_ready(conn);
    } else {
        conn->state = CLOSING;
        sock_send(&conn->sock, close_frame, sizeof(close_frame));
    }
}

static size_t take_response(struct conn *conn, const char *p, size_t n)
{
    bool whole;
    size_t took = head_append(conn->head, &conn->head_size, p, n, &whole);
    if (whole) {
        conn->head_size = 0;
        on_upgraded(conn);
    }
    return took;
}

static void on_bytes(struct conn *conn, const char *p, size_t n)
{
    while (n) {
        size_t took = conn->state == SHAKING ? take_response(conn, p, n)
                      : conn->in_payload     ? take_payload(conn, p, n)
                                             : take_frame_head(conn, p);
        p += took;
        n -= took;
    }
}

static void on_end(struct conn *conn)
{
    if (conn->state != CLOSING)
        fail("the server ended the connection%s",
             conn->state == SHAKING ? " within the handshake" : "");
    if (conn->opcode != CLOSE)
        fail("the server ended the connection without a close frame");
    run_latency(now() - conn->sent);
    if (run.phase == RUNNING)
        run.count++;
    become_ready(conn);
    sock_close(&conn->sock);
    conn->state = SHAKING;
    conn->opcode = 0;
    conn->sent = now();
    sock_open(&conn->sock, conn->index + (unsigned)run.count);
}

static void on_event(struct sock *sock, uint32_t events)
{
    struct conn *conn = (struct conn *)sock;
    ptrdiff_t got;
    if (sock_connected(sock, events)) {
        if (conn->posts)
            become_ready(conn);
        else
            sock_send(sock, request, request_size);
    } else if (events & EPOLLOUT) {
        sock_flush(sock);
        send_pong(conn);
    }
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
    struct conn *conn = &conns[index];
    conn->index = index;
    conn->posts = conn == talkers && option.mode == UPDATES;
    if (talker_count && !conn->heard)
        conn->heard = allocate(talker_count * sizeof(*conn->heard));
    conn->sent = now();
    issued += run.phase == RUNNING;
    sock_open(&conn->sock, index);
}

static void talk(void)
{
    for (unsigned i = 0; i < talker_count; i++)
        if (!talkers[i].waiting)
            send_broadcast(&talkers[i]);
}

static void on_resume(void)
{
    talk();
    for (unsigned i = 0; !talker_count && i < run.connections; i++)
        next_echo(&conns[i]);
}

static void on_turn(double t)
{
    (void)t;
    if (run.phase != OPENING)
        talk();
}

static const struct option flags[] = {
    RUN_FLAGS,
    {"size", 1, NULL, 'z'},
    {"text", 0, NULL, 't'},
    {"deflate", 0, NULL, 'd'},
    {"post", 1, NULL, 'p'},
    {"talkers", 1, NULL, 'k'},
    {NULL, 0, NULL, 0},
};

static void parse_flag(int flag)
{
    switch (flag) {
    case 'z':
        option.size = (size_t)parse_number("--size", optarg);
        break;
    case 't':
        option.text = true;
        break;
    case 'd':
        option.deflate = true;
        break;
    case 'p':
        option.post = optarg;
        break;
    case 'k':
        option.talkers = (unsigned)parse_number("--talkers", optarg);
        break;
    default:
        if (!run_flag(flag, optarg))
            fail("unknown flag; see the head of ws.c");
    }
}

static void parse_mode(const char *mode)
{
    if (strcmp(mode, "echo") == 0)
        option.mode = ECHO;
    else if (strcmp(mode, "broadcast") == 0)
        option.mode = BROADCAST;
    else if (strcmp(mode, "updates") == 0)
        option.mode = UPDATES;
    else if (strcmp(mode, "handshake") == 0)
        option.mode = HANDSHAKE;
    else
        fail("no mode %s; there are echo, broadcast, updates and handshake", mode);
    if ((option.mode == UPDATES) != (option.post != NULL))
        fail("--post goes with updates");
}

/* Words in an order that is random but always the same. */
static void make_text(char *text, size_t size)
{
    static const char *const words[] = {"\"service\": ", "\"level\": \"info\", ",
                                        "deploy ",       "finished ",
                                        "in ",           "the ",
                                        "queue ",        "of ",
                                        "\"text\": ",    "worker ",
                                        "node ",         "restarted "};
    uint32_t state = 2463534242u;
    size_t at = 0;
    while (at < size) {
        char piece[64];
        state ^= state << 13, state ^= state >> 17, state ^= state << 5;
        snprintf(piece, sizeof(piece), "%s%x ", words[state % 12], state >> 22);
        for (size_t i = 0; piece[i] && at < size; i++)
            text[at++] = piece[i];
    }
}

/* The payload after the stamp as a part of a deflate stream: ends on a byte, needs no context. */
static void pack_payload(void)
{
    z_stream z = {0};
    size_t room = option.size + 1024;
    packed = allocate(room);
    if (deflateInit2(&z, 6, Z_DEFLATED, -9, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        fail("zlib makes no deflater");
    z.next_in = (unsigned char *)payload + STAMP;
    z.avail_in = (uInt)(option.size - STAMP);
    z.next_out = (unsigned char *)packed;
    z.avail_out = (uInt)room;
    if (deflate(&z, Z_SYNC_FLUSH) != Z_OK || z.avail_in)
        fail("zlib does not compress");
    packed_size = room - z.avail_out - 4; /* the 00 00 ff ff that RFC 7692 takes off */
    deflateEnd(&z);
}

static void make_post(void)
{
    int size = asprintf(&post,
                        "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: text/plain\r\n"
                        "Content-Length: %zu\r\n\r\n%.*s",
                        option.post, option.host, option.size, (int)option.size, payload);
    if (size < 0)
        fail("no memory");
    post_size = (size_t)size;
    post_head_size = post_size - option.size;
}

static void make_buffers(void)
{
    int size;
    if (option.size < 2 * STAMP || !run.connections)
        fail("--size must be 32 or more, --connections 1 or more");
    payload = allocate(option.size);
    for (size_t i = 0; i < option.size; i++)
        payload[i] = (char)('a' + i % 23);
    wire_size = option.size;
    if (option.deflate) {
        make_text(payload, option.size);
        pack_payload();
        wire_size = STORED_HEAD + STAMP + packed_size;
    }
    frame_head_size = wire_size < 126 ? 6 : wire_size < 65536 ? 8 : 14;
    put_masked(close_frame + 6, "\x03\xe8", 2, 0);
    read_buffer = allocate(READ_SIZE);
    run.connections += option.mode == UPDATES;
    conns = allocate(run.connections * sizeof(*conns));
    talkers = option.mode == UPDATES ? &conns[run.connections - 1] : conns;
    talker_count = option.mode == UPDATES ? 1 : option.mode == BROADCAST ? option.talkers : 0;
    if (option.mode == BROADCAST && (!talker_count || talker_count > run.connections))
        fail("--talkers must be 1 or more, and no more than --connections");
    size = asprintf(&request,
                    "GET %s HTTP/1.1\r\nHost: %s\r\nOrigin: http://%s\r\nUpgrade: websocket\r\n"
                    "Connection: Upgrade\r\nSec-WebSocket-Key: " KEY
                    "\r\nSec-WebSocket-Version: 13\r\n%s\r\n",
                    option.path, option.host, option.host,
                    option.deflate ? "Sec-WebSocket-Extensions: permessage-deflate; "
                                     "client_max_window_bits\r\n"
                                   : "");
    if (size < 0)
        fail("no memory");
    request_size = (size_t)size;
    if (option.post)
        make_post();
}

int main(int argc, char **argv)
{
    int flag;
    while ((flag = getopt_long(argc, argv, "", flags, NULL)) != -1)
        parse_flag(flag);
    if (argc - optind != 4)
        fail("usage: ws [options] echo|broadcast|updates|handshake HOST PORT PATH");
    parse_mode(argv[optind]);
    option.host = argv[optind + 1];
    option.path = argv[optind + 3];
    parse_address(option.host, argv[optind + 2]);
    make_buffers();
    run.on_open = on_open;
    run.on_event = on_event;
    run.on_resume = on_resume;
    run.on_turn = on_turn;
    run_all();
    return 0;
}
