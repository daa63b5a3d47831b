/*
 * Fuzzes what is made of proxy headers. The first byte says whom the list trusts and which header
 * counts; the rest are the values of header lines, between line feeds, of names in turn.
 *
 * Beside the sanitizers: a told client is an address, numbers are in their ranges, and the
 * prefix is a path that stays on this host.
 */
#include "base/header.h"
#include "harness.h"
#include "proxy/forwarded.h"

enum { MOST = 4096, LINES = 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const lists[] = {NULL, "*", "10.0.0.0/8,127.0.0.1", "::/0"};

static size_t split(cd_header *headers, const char *at, const char *end)
{
    static const char *const names[] = {"x-forwarded-for",  "forwarded",
                                        "x-forwarded-port", "x-forwarded-proto",
                                        "x-forwarded-host", "x-forwarded-prefix"};
    size_t count = 0;
    while (at < end && count < LINES) {
        const char *name = names[(unsigned char)*at % 6];
        at++;
        const char *line = memchr(at, '\n', (size_t)(end - at));
        const char *stop = line != NULL ? line : end;
        headers[count++] = (cd_header){{name, strlen(name)}, {at, (size_t)(stop - at)}};
        at = line != NULL ? line + 1 : end;
    }
    return count;
}

static void check_origin(const cd_origin *o, const cd_header *headers, size_t count)
{
    cd_ip ip;
    if (o->client.p != NULL && !cd_ip_read(o->client, &ip))
        abort();
    if (o->client_port < 0 || o->client_port > 65535 || o->secure < -1 || o->secure > 1)
        abort();
    if (o->host.p != NULL && (o->host.n == 0 || o->host_port < 0 || o->host_port > 65535))
        abort();
    if (o->prefix.p != NULL && (o->prefix.n < 2 || o->prefix.p[0] != '/' || o->prefix.p[1] == '/' ||
                                !cd_is_field_value(o->prefix)))
        abort();
    if (cd_header_find(headers, count, "x-forwarded-for", NULL) == NULL &&
        cd_header_find(headers, count, "forwarded", NULL) == NULL)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const cd_addr peer = {1, "127.0.0.1"};
    cd_header headers[LINES];
    cd_config config = {.forwarded_allow_ips = size > 0 ? lists[data[0] & 3] : NULL,
                        .forwarded_for = size > 0 && data[0] & 4 ? "forwarded" : "x-forwarded-for",
                        .forwarded_port = "x-forwarded-port",
                        .forwarded_proto = "x-forwarded-proto"};
    if (size < 2 || size > MOST)
        return 0;
    char *copy = malloc(size - 1);
    memcpy(copy, data + 1, size - 1);
    cd_head head = {.headers = headers, .client = &peer};
    head.header_count = split(headers, copy, copy + size - 1);
    config.limits = cd_config_default.limits;
    cd_forwarding f;
    cd_trust trust;
    cd_arena arena;
    cd_arena_init(&arena);
    if (cd_forwarding_init(&f, &config) < 0 ||
        cd_trust_init(&trust, config.forwarded_allow_ips, NULL, 0) < 0 ||
        cd_forwarded_read(&f, &trust, &head, &arena) < 0)
        abort();
    if (head.origin != NULL)
        check_origin(head.origin, headers, head.header_count);
    cd_arena_dispose(&arena);
    cd_trust_dispose(&trust);
    cd_forwarding_dispose(&f);
    free(copy);
    return 0;
}
