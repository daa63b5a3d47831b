/*
 * Fuzzes the reading of a PROXY header: the parser on every beginning of the input, then the input
 * itself on a socket, in one piece and in two. The first byte says which mode, whether the peer is
 * trusted, and where the pieces part.
 *
 * Beside the sanitizers: a verdict other than MORE must not change with more bytes (but for the
 * kind of fault), slices must lie inside of the header, and both deliveries must end alike.
 */
#include "harness.h"
#include "proxy/proxy.h"
#include "server/pending.h"

#include <sys/socket.h>
#include <unistd.h>

enum { MOST = 2048, HEADER_MOST = 1024 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_inside(const uint8_t *p, size_t n, cd_str slice)
{
    if (slice.p != NULL &&
        ((const uint8_t *)slice.p < p || (const uint8_t *)slice.p + slice.n > p + n))
        abort();
}

static void check_parser(const uint8_t *p, size_t n)
{
    cd_proxy_header first = {.size = 0}, h;
    enum cd_proxy_verdict before = CD_PROXY_MORE;
    for (size_t cut = 0; cut <= n; cut++) {
        enum cd_proxy_verdict now = cd_proxy_read(p, cut, HEADER_MOST, &h);
        if (before != CD_PROXY_MORE && (now != before || now == CD_PROXY_MORE))
            abort();
        if (before == CD_PROXY_MORE)
            first = h;
        before = now;
    }
    if (before != CD_PROXY_DONE)
        return;
    if (h.size != first.size || h.size > n || h.size > HEADER_MOST)
        abort();
    check_inside(p, h.size, h.facts.alpn);
    check_inside(p, h.size, h.facts.authority);
    check_inside(p, h.size, h.facts.tls_version);
    check_inside(p, h.size, h.facts.cipher);
    check_inside(p, h.size, h.facts.client_name);
}

static void put(rig *r, int fd, const uint8_t *p, size_t n)
{
    if (n > 0 && send(fd, p, n, MSG_NOSIGNAL) < 0)
        return; /* it was refused already */
    for (int i = 0; i < 4; i++)
        rig_turn(r);
}

/* What the application saw; one connection, cut at `cut`. */
static void deliver(const uint8_t *data, size_t size, size_t cut, text *trace)
{
    int pair[2];
    const cd_addr client = {1, "192.0.2.1"}, local = {2, "192.0.2.2"};
    const cd_listen how = {.proxy = data[0] & 1 ? CD_PROXY_OPTIONAL : CD_PROXY_REQUIRED};
    cd_config config = {.access_fd = -1,
                        .forwarded_allow_ips = data[0] & 2 ? "192.0.2.1" : "192.0.2.2"};
    config.limits = cd_config_default.limits;
    config.limits.max_proxy_size = HEADER_MOST;
    rig_configure(&config);
    rig *r = rig_new(CUT_WHOLE, 1);
    if (r == NULL || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) < 0)
        abort();
    r->script = "body;start 200;last x";
    cd_pending_new(r->server, &how, pair[1], &client, &local);
    put(r, pair[0], data + 1, cut);
    put(r, pair[0], data + 1 + cut, size - 1 - cut);
    rig_advance(r, 3); /* --proxy-timeout is 5 */
    rig_advance(r, 3);
    close(pair[0]);
    rig_settle(r);
    const char *events = rig_trace(r);
    text_add(trace, events, strlen(events));
    rig_free(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > MOST)
        return 0;
    uint8_t *copy = malloc(size - 1);
    memcpy(copy, data + 1, size - 1);
    check_parser(copy, size - 1);
    free(copy);
    text whole = {0}, cut = {0};
    deliver(data, size, size - 1, &whole);
    deliver(data, size, (data[0] >> 2) % (size - 1), &cut);
    if (whole.n != cut.n || (whole.n > 0 && memcmp(whole.p, cut.p, whole.n) != 0))
        abort();
    text_free(&whole);
    text_free(&cut);
    if (check_failures() > 0)
        abort();
    return 0;
}
