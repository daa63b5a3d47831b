/*
 * proxy.c byte by byte, and pending.c over sockets: what a PROXY header says, and what becomes of
 * connections that begin with one, with half of one, or with none.
 */
#include "harness.h"
#include "proxy/proxy.h"
#include "server/pending.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"

static const char v2_inet[] =
    SIGNATURE "\x21\x11\0\x0c\xc0\0\2\7\xcb\0\x71\x09\x12\x34\x01\xbb"; /* 192.0.2.7:4660 */
#define V2_INET_SIZE (sizeof v2_inet - 1)

/* ---- the parser ---- */

/* As one word: "client:port server:port", "own", "none", "more", or what is wrong. */
static void verdict_of(text *to, const void *p, size_t n, size_t most)
{
    cd_proxy_header h;
    enum cd_proxy_verdict verdict = cd_proxy_read(p, n, most, &h);
    if (verdict == CD_PROXY_MORE)
        text_format(to, "more");
    else if (verdict == CD_PROXY_NONE)
        text_format(to, "none");
    else if (verdict == CD_PROXY_BAD)
        text_format(to, "%s", h.why);
    else if (!h.told)
        text_format(to, "own %zu", h.size);
    else
        text_format(to, "%s:%d %s:%d %zu", h.client.host, h.client.port, h.server.host,
                    h.server.port, h.size);
}

/* Whole, and with every shorter length: nothing may be said early that the rest changes, unless it
 * is "none" or bad. The input lies in a block of its size. */
static void check_header(int line, const void *p, size_t n, const char *want)
{
    text got = {0};
    verdict_of(&got, p, n, 4096);
    check_that(strcmp(got.p, want) == 0, __FILE__, line, "%s, not %s", got.p, want);
    for (size_t cut = 0; cut < n; cut++) {
        char *copy = malloc(cut ? cut : 1);
        text part = {0};
        memcpy(copy, p, cut);
        verdict_of(&part, copy, cut, 4096);
        check_that(strcmp(part.p, "more") == 0 || strcmp(part.p, got.p) == 0, __FILE__, line,
                   "%zu bytes: %s, and then %s", cut, part.p, got.p);
        text_free(&part);
        free(copy);
    }
    text_free(&got);
}

#define CHECK_LINE(string, want) check_header(__LINE__, string, strlen(string), want)
#define CHECK_BYTES(bytes, want) check_header(__LINE__, bytes, sizeof(bytes) - 1, want)

static void test_version_1(void)
{
    CHECK_LINE("PROXY TCP4 192.0.2.7 203.0.113.9 4711 443\r\n",
               "192.0.2.7:4711 203.0.113.9:443 43");
    CHECK_LINE("PROXY TCP6 2001:db8::1 ::1 65535 0\r\n", "2001:db8::1:65535 ::1:0 36");
    CHECK_LINE("PROXY TCP6 2001:DB8:0:0::1 ::1 1 2\r\n", "2001:db8::1:1 ::1:2 36");
    CHECK_LINE("PROXY UNKNOWN\r\n", "own 15");
    CHECK_LINE("PROXY UNKNOWN what ever\r\n", "own 25");
    CHECK_LINE("PROXY TCP4 192.0.2.7 203.0.113.9 4711 443\n", "its line does not end with CR LF");
    CHECK_LINE("PROXY UDP4 192.0.2.7 203.0.113.9 1 2\r\n",
               "its family is not TCP4, TCP6 or UNKNOWN");
    CHECK_LINE("PROXY  TCP4 192.0.2.7 203.0.113.9 1 2\r\n",
               "its family is not TCP4, TCP6 or UNKNOWN");
    CHECK_LINE("PROXY \r\n", "its family is not TCP4, TCP6 or UNKNOWN");
    CHECK_LINE("PROXY \n", "its line does not end with CR LF");
    CHECK_LINE("PROXY TCP4 192.0.2 203.0.113.9 1 2\r\n", "an address in it is none");
    CHECK_LINE("PROXY TCP4 ::1 ::1 1 2\r\n", "an address in it is none");
    CHECK_LINE("PROXY TCP6 192.0.2.7 ::1 1 2\r\n", "an address in it is none");
    CHECK_LINE("PROXY TCP6 ::1\r\n", "an address in it is none");
    CHECK_LINE("PROXY TCP4 192.0.2.7 203.0.113.9\r\n", "a port in it is none");
    CHECK_LINE("PROXY TCP4 192.0.2.7 203.0.113.9 1\r\n", "a port in it is none");
    CHECK_LINE("PROXY TCP4 192.0.2.7 203.0.113.9 1 65536\r\n", "a port in it is none");
    CHECK_LINE("PROXY TCP4 192.0.2.7 203.0.113.9 01 2\r\n", "a port in it is none");
    CHECK_LINE("PROXY TCP4 192.0.2.7 203.0.113.9 -1 2\r\n", "a port in it is none");
    CHECK_LINE("PROXY TCP4 192.0.2.7 203.0.113.9 1 2 \r\n", "a port in it is none");
    CHECK_LINE("PROXY TCP4 192.0.2.7 203.0.113.9 1 2 3\r\n", "a port in it is none");
    CHECK_BYTES("PROXY TCP4 1.2.3.4\0 1.2.3.4 1 2\r\n", "an address in it is none");
}

static void test_bound_of_version_1(void)
{
    char line[200] = "PROXY UNKNOWN ";
    memset(line + 14, 'x', sizeof line - 15);
    memcpy(line + 105, "\r\n", 3);
    CHECK_LINE(line, "own 107");
    memcpy(line + 105, "xxx\r\n", 6);
    CHECK_LINE(line, "its line does not end");
}

static void test_other_protocols(void)
{
    CHECK_LINE("GET / HTTP/1.1\r\n", "none");
    CHECK_LINE("PRI * HTTP/2.0\r\n", "none");
    CHECK_LINE("PROPFIND / HTTP/1.1\r\n", "none");
    CHECK_LINE("PROXYFIND", "none");
    CHECK_LINE("\r\n\r\nGET", "none");
    CHECK_LINE("\x16\x03\x01", "none");
    CHECK_LINE("", "more");
    CHECK_LINE("PROX", "more");
}

static void test_version_2(void)
{
    CHECK_BYTES(v2_inet, "192.0.2.7:4660 203.0.113.9:443 28");
    CHECK_BYTES(SIGNATURE "\x21\x21\0\x24\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1"
                          "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\x12\x34\0\x50",
                "2001:db8::1:4660 ::1:80 52");
    CHECK_BYTES(SIGNATURE "\x20\0\0\0", "own 16");
    CHECK_BYTES(SIGNATURE "\x20\x11\0\3abc", "own 19");
    CHECK_BYTES(SIGNATURE "\x21\0\0\3abc", "own 19");
    CHECK_BYTES(SIGNATURE "\x22", "its version or command is unknown");
    CHECK_BYTES(SIGNATURE "\x11\x11\0\x0c", "its version or command is unknown");
    CHECK_BYTES(SIGNATURE "\x21\x11\xff\xff", "it is too long (--max-proxy-size)");
    CHECK_BYTES(SIGNATURE "\x21\x11\0\x0b\xc0\0\2\7\xcb\0\x71\x09\x12\x34\x01",
                "its addresses are not of TCP or unix sockets, or are cut short");
    CHECK_BYTES(SIGNATURE "\x21\x12\0\x0c\xc0\0\2\7\xcb\0\x71\x09\x12\x34\x01\xbb",
                "its addresses are not of TCP or unix sockets, or are cut short");
    CHECK_BYTES(SIGNATURE "\x21\x41\0\x01x",
                "its addresses are not of TCP or unix sockets, or are cut short");
}

static void test_unix_addresses(void)
{
    char header[16 + 216 + 1] = SIGNATURE "\x21\x31\0\xd8/tmp/client";
    memset(header + 16 + 108, 'x', 108); /* no NUL: as long as can be */
    char want[200] = ":-2 ";
    memset(want + 4, 'x', 107);
    memcpy(want + 111, ":-2 232", 8);
    CHECK_BYTES(header, want);
}

/* A header of version 2 with these bytes behind the addresses. */
static size_t with_tlvs(uint8_t *to, const void *tlvs, size_t n)
{
    memcpy(to, v2_inet, V2_INET_SIZE);
    memcpy(to + V2_INET_SIZE, tlvs, n);
    to[14] = (uint8_t)((12 + n) >> 8);
    to[15] = (uint8_t)(12 + n);
    return V2_INET_SIZE + n;
}

static void check_tlvs(const char *tlvs, size_t n, const char *want)
{
    uint8_t header[300];
    check_header(__LINE__, header, with_tlvs(header, tlvs, n), want);
}

static void test_tlvs(void)
{
    static const char ssl[] = "\x20\0\x20\7\0\0\0\0\x21\0\7TLSv1.3\x22\0\5Alice\x23\0\6CIPHER";
    static const char all[] = "\1\0\2h2\2\0\3a.b\4\0\0\x20\0\x20\3\0\0\0\1\x21\0\7TLSv1.3"
                              "\x22\0\5Alice\x23\0\6CIPHER\x30\0\1n";
    uint8_t header[300];
    cd_proxy_header h;
    size_t n = with_tlvs(header, all, sizeof all - 1);
    CHECK_INT(cd_proxy_read(header, n, 4096, &h), CD_PROXY_DONE);
    CHECK(h.facts.tls && h.facts.cert && !h.facts.cert_good);
    cd_proxy_facts *copy = cd_proxy_facts_new(&h.facts);
    memset(header, 0, sizeof header);
    CHECK(copy->tls && copy->alpn.n == 2 && memcmp(copy->alpn.p, "h2", 2) == 0);
    CHECK(copy->authority.n == 3 && memcmp(copy->authority.p, "a.b", 3) == 0);
    CHECK(copy->tls_version.n == 7 && memcmp(copy->tls_version.p, "TLSv1.3", 7) == 0);
    CHECK(copy->client_name.n == 5 && memcmp(copy->client_name.p, "Alice", 5) == 0);
    CHECK(copy->cipher.n == 6 && memcmp(copy->cipher.p, "CIPHER", 6) == 0);
    cd_free(copy);
    n = with_tlvs(header, ssl, sizeof ssl - 1);
    CHECK_INT(cd_proxy_read(header, n, 4096, &h), CD_PROXY_DONE);
    CHECK(h.facts.cert_good && h.facts.alpn.p == NULL);
    cd_alloc_fail_at(1);
    CHECK(cd_proxy_facts_new(&h.facts) == NULL);
    cd_alloc_fail_at(0);
}

static void test_broken_tlvs(void)
{
    check_tlvs("\4\0\2xy", 5, "192.0.2.7:4660 203.0.113.9:443 33");
    check_tlvs("\4", 1, "a TLV runs over its end");
    check_tlvs("\4\0", 2, "a TLV runs over its end");
    check_tlvs("\4\0\1", 3, "a TLV runs over its end");
    check_tlvs("\4\xff\xffx", 4, "a TLV runs over its end");
    check_tlvs("\4\0\0\4\0\2x", 7, "a TLV runs over its end");
    check_tlvs("\x20\0\4\1\0\0\0", 7, "its TLS part is cut short");
    check_tlvs("\x20\0\x08\1\0\0\0\0\x21\0\1", 11, "its TLS part runs over its end");
    check_tlvs("\x20\0\x06\1\0\0\0\0\x21", 9, "its TLS part runs over its end");
}

static void test_words_of_tls(void)
{
    cd_proxy_facts told = {.tls = true,
                           .cert = true,
                           .tls_version = {"TLSv1.2", 7},
                           .cipher = {"AES128-SHA", 10},
                           .client_name = {"a+b\0;", 5}};
    cd_tls_facts *facts = cd_proxy_tls(&told);
    CHECK_INT(facts->version, 0x0303);
    CHECK_INT(facts->cipher, 0x2f);
    check_bytes(__FILE__, __LINE__, "name", facts->client_name.p, facts->client_name.n,
                "CN=a\\+b\\00\\;", 12);
    CHECK(facts->client_error.p != NULL && facts->server_cert.p == NULL);
    cd_tls_facts_free(facts);
    for (long nth = 1; nth <= 2; nth++) {
        cd_alloc_fail_at(nth);
        CHECK(cd_proxy_tls(&told) == NULL);
        cd_alloc_fail_at(0);
        CHECK_INT(cd_alloc_live(), 0);
    }
    told.tls = false;
    CHECK(cd_proxy_tls(&told) == NULL);
}

static void test_checksum(void)
{
    uint8_t header[300];
    cd_proxy_header h;
    size_t n = with_tlvs(header, "\3\0\4\0\0\0\0\4\0\1x", 11);
    /* Found with another implementation of CRC-32C over the header with zeros in its place. */
    static const uint8_t crc[4] = {0xbe, 0xf4, 0x96, 0x16};
    memcpy(header + V2_INET_SIZE + 3, crc, 4);
    CHECK_INT(cd_proxy_read(header, n, 4096, &h), CD_PROXY_DONE);
    for (size_t i = 16; i < n; i++) {
        if (i == V2_INET_SIZE)
            continue; /* the type of the checksum itself */
        header[i] ^= 1;
        CHECK_INT(cd_proxy_read(header, n, 4096, &h), CD_PROXY_BAD);
        header[i] ^= 1;
    }
    check_tlvs("\3\0\3abc", 6, "its checksum is wrong");
    check_tlvs("\4\0\0\4\0\0", 6, "192.0.2.7:4660 203.0.113.9:443 34");
    check_tlvs("\1\0\2h2\1\0\2h2", 10, "a TLV in it comes twice");
    check_tlvs("\2\0\1a\2\0\1b", 8, "a TLV in it comes twice");
    check_tlvs("\x20\0\5\1\0\0\0\0\x20\0\5\0\0\0\0\0", 16, "a TLV in it comes twice");
}

/* ---- connections ---- */

static rig *new_rig(const char *trust)
{
    static cd_config config;
    config = (cd_config){.access_fd = -1, .forwarded_allow_ips = trust};
    config.limits = cd_config_default.limits;
    rig_configure(&config);
    rig *r = rig_new(CUT_WHOLE, 1);
    rig_configure(NULL);
    r->script = "body;start 200;last x";
    return r;
}

static void turns(rig *r)
{
    for (int i = 0; i < 6; i++)
        rig_turn(r);
}

/* A connection that came to a listener; the peer's end. */
static int open_pair(rig *r, enum cd_proxy_mode mode, const char *from)
{
    int pair[2];
    cd_addr client = {.port = 5}, local = {80, "198.51.100.2"};
    cd_listen how = {.proxy = mode};
    snprintf(client.host, sizeof client.host, "%s", from);
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    cd_pending_new(r->server, &how, pair[1], &client, &local);
    turns(r);
    return pair[0];
}

static void push(rig *r, int fd, const void *p, size_t n)
{
    CHECK(send(fd, p, n, MSG_NOSIGNAL) == (ssize_t)n);
    turns(r);
}

static cd_conn *newest(rig *r)
{
    return cd_container(r->server->conns.prev, cd_conn, link);
}

/* 'o': open and silent, 'c': closed, else the first byte of what came. */
static char state_of(int fd)
{
    char c;
    ssize_t n = recv(fd, &c, 1, MSG_DONTWAIT);
    if (n == 1)
        return c;
    return n < 0 && errno == EAGAIN ? 'o' : 'c';
}

static const char request[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
static const char line[] = "PROXY TCP4 192.0.2.7 203.0.113.9 4711 443\r\n";

static void test_header_and_request(void)
{
    rig *r = new_rig("127.0.0.1");
    int fd = open_pair(r, CD_PROXY_REQUIRED, "127.0.0.1");
    CHECK_INT(cd_server_connections(r->server), 1);
    text both = {0};
    text_format(&both, "%s%s", line, request);
    push(r, fd, both.p, both.n);
    CHECK_INT(state_of(fd), 'H');
    CHECK_INT(cd_server_connections(r->server), 1);
    CHECK_STR(newest(r)->client->host, "192.0.2.7");
    CHECK_INT(newest(r)->client->port, 4711);
    CHECK_STR(newest(r)->server_addr->host, "203.0.113.9");
    CHECK(newest(r)->proxied == NULL);
    text_free(&both);
    close(fd);
    rig_free(r);
}

static void test_byte_by_byte(enum cd_proxy_mode mode)
{
    rig *r = new_rig("127.0.0.1");
    int fd = open_pair(r, mode, "127.0.0.1");
    for (size_t i = 0; i < V2_INET_SIZE; i++) {
        push(r, fd, v2_inet + i, 1);
        CHECK_INT(state_of(fd), 'o');
        rig_advance(r, 0.1);
    }
    push(r, fd, request, sizeof request - 1);
    CHECK_INT(state_of(fd), 'H');
    CHECK_INT(newest(r)->client->port, 0x1234);
    close(fd);
    rig_free(r);
}

static void check_refused(enum cd_proxy_mode mode, const char *from, const void *p, size_t n)
{
    rig *r = new_rig("127.0.0.1");
    int fd = open_pair(r, mode, from), logged = r->logged;
    if (state_of(fd) == 'o') {
        push(r, fd, p, n);
        CHECK_INT(state_of(fd), 'c');
        CHECK_INT(r->logged, logged + 1);
    }
    CHECK_INT(cd_server_connections(r->server), 0);
    CHECK_INT(r->opened, 0);
    close(fd);
    rig_free(r);
}

static void test_refusals(void)
{
    check_refused(CD_PROXY_REQUIRED, "127.0.0.1", request, sizeof request - 1);
    check_refused(CD_PROXY_REQUIRED, "192.0.2.1", line, sizeof line - 1);
    check_refused(CD_PROXY_OPTIONAL, "192.0.2.1", line, sizeof line - 1);
    check_refused(CD_PROXY_OPTIONAL, "192.0.2.1", v2_inet, V2_INET_SIZE);
    check_refused(CD_PROXY_OPTIONAL, "192.0.2.1", v2_inet, 12);
    check_refused(CD_PROXY_OPTIONAL, "127.0.0.1", "PROXY ?\r\n", 9);
    check_refused(CD_PROXY_OPTIONAL, "127.0.0.1", SIGNATURE "\x21\x11\xff\xff", 16);
}

static void test_optional_without(void)
{
    static const char *const peers[] = {"127.0.0.1", "192.0.2.1"};
    for (size_t i = 0; i < 2; i++) {
        rig *r = new_rig("127.0.0.1");
        int fd = open_pair(r, CD_PROXY_OPTIONAL, peers[i]);
        push(r, fd, request, sizeof request - 1);
        CHECK_INT(state_of(fd), 'H');
        CHECK_STR(newest(r)->client->host, peers[i]);
        close(fd);
        rig_free(r);
    }
}

/* "PRO" may begin a header, "PROPFIND" cannot: the bytes are all still there. */
static void test_optional_and_undecided(void)
{
    static const char propfind[] = "PROPFIND / HTTP/1.1\r\nHost: a\r\n\r\n";
    rig *r = new_rig("127.0.0.1");
    int fd = open_pair(r, CD_PROXY_OPTIONAL, "127.0.0.1");
    push(r, fd, propfind, 3);
    unsigned long before = r->turns;
    for (int i = 0; i < 10; i++)
        rig_turn(r);
    CHECK(r->turns - before < 100);
    push(r, fd, propfind + 3, sizeof propfind - 4);
    rig_advance(r, 1);
    turns(r);
    CHECK_INT(state_of(fd), 'H');
    close(fd);
    rig_free(r);
}

static void test_silence(void)
{
    rig *r = new_rig("127.0.0.1");
    int required = open_pair(r, CD_PROXY_REQUIRED, "127.0.0.1");
    int half = open_pair(r, CD_PROXY_REQUIRED, "127.0.0.1");
    int optional = open_pair(r, CD_PROXY_OPTIONAL, "127.0.0.1");
    int half_optional = open_pair(r, CD_PROXY_OPTIONAL, "127.0.0.1");
    int logged = r->logged;
    push(r, half, line, 20);
    push(r, half_optional, line, 20);
    rig_advance(r, 4.9);
    CHECK_INT(cd_server_connections(r->server), 4);
    rig_advance(r, 0.2);
    turns(r);
    CHECK_INT(state_of(required), 'c');
    CHECK_INT(state_of(half), 'c');
    CHECK_INT(state_of(half_optional), 'c');
    CHECK_INT(r->logged, logged + 3);
    push(r, optional, request, sizeof request - 1);
    CHECK_INT(state_of(optional), 'H');
    CHECK_INT(cd_server_connections(r->server), 1);
    close(required);
    close(half);
    close(half_optional);
    close(optional);
    rig_free(r);
}

static void test_peer_that_leaves(void)
{
    rig *r = new_rig("127.0.0.1");
    int silent = open_pair(r, CD_PROXY_REQUIRED, "127.0.0.1");
    int half = open_pair(r, CD_PROXY_REQUIRED, "127.0.0.1");
    int logged = r->logged;
    push(r, half, v2_inet, 20);
    close(silent);
    close(half);
    turns(r);
    CHECK_INT(cd_server_connections(r->server), 0);
    CHECK_INT(r->logged, logged);
    rig_free(r);
}

static void test_drain(void)
{
    rig *r = new_rig("127.0.0.1");
    int silent = open_pair(r, CD_PROXY_REQUIRED, "127.0.0.1");
    int late = open_pair(r, CD_PROXY_REQUIRED, "127.0.0.1");
    int asked = open_pair(r, CD_PROXY_REQUIRED, "127.0.0.1");
    text both = {0};
    text_format(&both, "%s%s", line, request);
    CHECK(send(asked, both.p, both.n, 0) == (ssize_t)both.n);
    cd_server_drain(r->server);
    turns(r);
    CHECK_INT(state_of(asked), 'H');
    push(r, late, both.p, both.n);
    CHECK_INT(state_of(late), 'H');
    CHECK_INT(state_of(silent), 'o');
    rig_advance(r, 1);
    turns(r);
    CHECK_INT(state_of(silent), 'c');
    close(asked);
    close(late);
    turns(r);
    CHECK_INT(cd_server_connections(r->server), 0);
    text_free(&both);
    close(silent);
    rig_free(r);
}

static void test_end_of_the_server(void)
{
    rig *r = new_rig("127.0.0.1");
    int fd = open_pair(r, CD_PROXY_REQUIRED, "127.0.0.1");
    push(r, fd, line, 10);
    rig_free(r);
    CHECK_INT(state_of(fd), 'c');
    close(fd);
}

static void test_facts_of_a_connection(void)
{
    static const char tlvs[] = "\x20\0\5\1\0\0\0\0\2\0\3a.b";
    uint8_t header[300];
    rig *r = new_rig("127.0.0.1");
    int fd = open_pair(r, CD_PROXY_REQUIRED, "127.0.0.1");
    push(r, fd, header, with_tlvs(header, tlvs, sizeof tlvs - 1));
    push(r, fd, request, sizeof request - 1);
    CHECK_INT(state_of(fd), 'H');
    CHECK(newest(r)->proxied != NULL && newest(r)->proxied->tls);
    close(fd);
    rig_free(r);
}

/* The connection may fail, and nothing else. */
static void test_no_memory(void)
{
    static const char tlvs[] = "\x20\0\5\1\0\0\0\0\2\0\3a.b";
    uint8_t header[300];
    size_t n = with_tlvs(header, tlvs, sizeof tlvs - 1);
    for (long nth = 1; nth < 12; nth++) {
        rig *r = new_rig("127.0.0.1");
        cd_alloc_fail_at(nth);
        int fd = open_pair(r, CD_PROXY_OPTIONAL, "127.0.0.1");
        for (size_t i = 0; i < n && send(fd, header + i, 1, MSG_NOSIGNAL) == 1; i += 1)
            rig_advance(r, 0.1);
        send(fd, request, sizeof request - 1, MSG_NOSIGNAL);
        turns(r);
        cd_alloc_fail_at(0);
        close(fd);
        turns(r);
        CHECK_INT(cd_server_connections(r->server), 0);
        rig_free(r);
    }
}

int main(void)
{
    test_version_1();
    test_bound_of_version_1();
    test_other_protocols();
    test_version_2();
    test_unix_addresses();
    test_tlvs();
    test_broken_tlvs();
    test_checksum();
    test_words_of_tls();
    test_header_and_request();
    test_byte_by_byte(CD_PROXY_REQUIRED);
    test_byte_by_byte(CD_PROXY_OPTIONAL);
    test_refusals();
    test_optional_without();
    test_optional_and_undecided();
    test_silence();
    test_peer_that_leaves();
    test_drain();
    test_end_of_the_server();
    test_facts_of_a_connection();
    test_no_memory();
    return check_summary();
}
