/*
 * trust.c and forwarded.c: which peers are believed, and what is made of their headers.
 */
#include "harness.h"
#include "proxy/forwarded.h"

/* ---- the list ---- */

static bool trusts_addr(const char *list, const cd_addr *addr)
{
    cd_trust trust;
    CHECK_INT(cd_trust_init(&trust, list, NULL, 0), CD_OK);
    bool answer = cd_trust_addr(&trust, addr);
    cd_trust_dispose(&trust);
    return answer;
}

static bool trusts(const char *list, const char *host)
{
    cd_addr addr = {.port = host[0] == '/' ? CD_PORT_UNIX : 1};
    snprintf(addr.host, sizeof addr.host, "%s", host);
    return trusts_addr(list, &addr);
}

static void test_networks(void)
{
    CHECK(trusts("10.0.0.0/8", "10.255.0.1"));
    CHECK(!trusts("10.0.0.0/8", "11.0.0.1"));
    CHECK(trusts("10.0.0.0/8", "::ffff:10.1.2.3"));
    CHECK(trusts("::ffff:10.0.0.0/104", "10.1.2.3"));
    CHECK(trusts("192.0.2.128/25", "192.0.2.128"));
    CHECK(!trusts("192.0.2.128/25", "192.0.2.127"));
    CHECK(trusts("192.0.2.1", "192.0.2.1"));
    CHECK(!trusts("192.0.2.1", "192.0.2.2"));
    CHECK(trusts("0.0.0.0/0", "203.0.113.9"));
    CHECK(!trusts("0.0.0.0/0", "2001:db8::1"));
    CHECK(trusts("2001:db8::/33", "2001:db8:7fff::1"));
    CHECK(!trusts("2001:db8::/33", "2001:db8:8000::1"));
    CHECK(trusts("::/0", "10.0.0.1"));
    CHECK(trusts(" 10.0.0.1 ,, 10.0.0.2 ", "10.0.0.2"));
    CHECK(!trusts("", "127.0.0.1"));
    CHECK(!trusts("", "/a/socket"));
    CHECK(trusts("*", "/a/socket"));
    CHECK(trusts("*", "2001:db8::1"));
    CHECK(trusts("unix:", "/a/socket"));
    CHECK(!trusts("unix:", "127.0.0.1"));
    CHECK(!trusts("0.0.0.0/0,::/0", "/a/socket"));
    CHECK(!trusts("0.0.0.0/0,::/0", ""));
    CHECK(!trusts_addr("unix:,0.0.0.0/0,::/0", &(cd_addr){.port = CD_PORT_ELSEWHERE}));
    CHECK(trusts_addr("*", &(cd_addr){.port = CD_PORT_ELSEWHERE}));
}

static void test_default_list(void)
{
    CHECK(trusts(NULL, "127.0.0.1"));
    CHECK(trusts(NULL, "127.255.0.3"));
    CHECK(trusts(NULL, "::1"));
    CHECK(trusts(NULL, "::ffff:127.0.0.1"));
    CHECK(trusts(NULL, "/a/socket"));
    CHECK(!trusts(NULL, "10.0.0.1"));
    CHECK(!trusts(NULL, "::2"));
}

static void refused(const char *list, const char *why)
{
    char problem[256] = "";
    CHECK_INT(cd_trust_check(list, problem, sizeof problem), CD_VALUE);
    check_that(strstr(problem, why) != NULL, __FILE__, __LINE__, "%s: %s", list, problem);
    CHECK_INT(cd_alloc_live(), 0);
}

static void test_bad_lists(void)
{
    refused("10.0.0.0/8,localhost",
            "'localhost' is neither an address nor a network; give for example");
    refused("10.0.0", "'10.0.0' is neither an address");
    refused("[::1]", "'[::1]' is neither an address");
    refused("10.0.0.1:80", "is neither an address");
    refused("10.0.0.0/33", "'10.0.0.0/33' has no prefix length from 0 to 32 behind the /");
    refused("10.0.0.0/", "has no prefix length");
    refused("::/129", "'::/129' has no prefix length from 0 to 128");
    refused("::/-1", "has no prefix length");
    refused("10.1.2.3/8", "'10.1.2.3/8' has bits behind its prefix; give 10.0.0.0/8");
    refused("2001:db8::1/32", "'2001:db8::1/32' has bits behind its prefix; give 2001:db8::/32");
    refused("unix:/run/x", "is neither an address");
    CHECK_INT(cd_trust_check("unix:,*,::1", NULL, 0), CD_OK);
}

static void test_no_memory_for_a_list(void)
{
    cd_trust trust;
    for (long n = 1; n <= 2; n++) {
        cd_alloc_fail_at(n);
        CHECK_INT(cd_trust_init(&trust, "10.0.0.1,10.0.0.2", NULL, 0), CD_NOMEM);
        cd_alloc_fail_at(0);
        CHECK_INT(cd_alloc_live(), 0);
    }
}

/* ---- what proxies say ---- */

enum { MOST_HEADERS = 8 };

static const cd_addr loopback = {4000, "127.0.0.1"};
static const cd_addr stranger = {4000, "198.51.100.1"};

/* "name: value|name: value" */
static size_t split(const char *line, cd_header *headers)
{
    size_t count = 0;
    while (*line != '\0') {
        const char *colon = strstr(line, ": "), *end = strchrnul(line, '|');
        headers[count++] =
            (cd_header){{line, (size_t)(colon - line)}, {colon + 2, (size_t)(end - colon) - 2}};
        line = *end != '\0' ? end + 1 : end;
    }
    return count;
}

/* What became of the headers, as "client:port scheme host:port prefix"; "-" for what was not told,
 * "peer" when nobody told anything. */
static void told(text *to, const cd_config *config, const char *headers, const cd_addr *peer)
{
    cd_forwarding f;
    cd_trust trust;
    cd_header list[MOST_HEADERS];
    cd_head head = {.headers = list, .client = peer, .header_count = split(headers, list)};
    cd_arena arena;
    cd_arena_init(&arena);
    CHECK_INT(cd_forwarding_init(&f, config), CD_OK);
    CHECK_INT(cd_trust_init(&trust, config->forwarded_allow_ips, NULL, 0), CD_OK);
    CHECK(cd_forwarded_read(&f, &trust, &head, &arena) >= 0);
    const cd_origin *o = head.origin;
    if (o == NULL)
        text_format(to, "peer");
    else
        text_format(to, "%.*s:%d %s %.*s:%d %.*s", o->client.p ? (int)o->client.n : 1,
                    o->client.p ? o->client.p : "-", o->client_port,
                    o->secure < 0 ? "-"
                    : o->secure   ? "https"
                                  : "http",
                    o->host.p ? (int)o->host.n : 1, o->host.p ? o->host.p : "-", o->host_port,
                    o->prefix.p ? (int)o->prefix.n : 1, o->prefix.p ? o->prefix.p : "-");
    cd_arena_dispose(&arena);
    cd_trust_dispose(&trust);
    cd_forwarding_dispose(&f);
}

static cd_config settings(const char *trust)
{
    cd_config config = {.forwarded_allow_ips = trust,
                        .forwarded_for = "X-Forwarded-For",
                        .forwarded_port = "X-Forwarded-Port",
                        .forwarded_proto = "X-Forwarded-Proto"};
    config.limits = cd_config_default.limits;
    return config;
}

static void check_told(const cd_config *config, const char *headers, const cd_addr *peer,
                       const char *want)
{
    text got = {0};
    told(&got, config, headers, peer);
    check_that(strcmp(got.p, want) == 0, __FILE__, __LINE__, "%s: %s, not %s", headers, got.p,
               want);
    text_free(&got);
}

static void from_loopback(const char *headers, const char *want)
{
    const cd_config config = settings(NULL);
    check_told(&config, headers, &loopback, want);
}

static void test_x_forwarded_for(void)
{
    from_loopback("host: a", "peer");
    from_loopback("x-forwarded-for: 192.0.2.7", "192.0.2.7:0 - -:0 -");
    from_loopback("x-forwarded-for: 192.0.2.7, 203.0.113.9", "203.0.113.9:0 - -:0 -");
    from_loopback("x-forwarded-for: 192.0.2.7, 127.0.0.1 , ::1", "192.0.2.7:0 - -:0 -");
    from_loopback("x-forwarded-for: 127.0.0.2, 127.0.0.3", "127.0.0.2:0 - -:0 -");
    from_loopback("x-forwarded-for: 192.0.2.7|a: b|x-forwarded-for: 203.0.113.9,127.0.0.1",
                  "203.0.113.9:0 - -:0 -");
    from_loopback("x-forwarded-for: 2001:DB8::1", "2001:DB8::1:0 - -:0 -");
    from_loopback("x-forwarded-for: [2001:db8::1]", "2001:db8::1:0 - -:0 -");
    from_loopback("x-forwarded-for: [2001:db8::1]:4711", "2001:db8::1:4711 - -:0 -");
    from_loopback("x-forwarded-for: 192.0.2.7:4711|x-forwarded-port: 80", "192.0.2.7:4711 - -:0 -");
    from_loopback("x-forwarded-for: 192.0.2.7:99999", "192.0.2.7:0 - -:0 -");
    from_loopback("x-forwarded-for: , ,", "peer");
    from_loopback("x-forwarded-for: ", "peer");
}

static void test_nobody_knows_the_client(void)
{
    from_loopback("x-forwarded-for: unknown", "-:0 - -:0 -");
    from_loopback("x-forwarded-for: 192.0.2.7, _hidden", "-:0 - -:0 -");
    from_loopback("x-forwarded-for: 192.0.2.7, evil\"text, 127.0.0.1", "-:0 - -:0 -");
    from_loopback("x-forwarded-for: [::1", "-:0 - -:0 -");
    from_loopback("x-forwarded-for: [::1]x", "-:0 - -:0 -");
    from_loopback("x-forwarded-for: fe80::1%eth0", "-:0 - -:0 -");
    from_loopback("x-forwarded-for: unknown, 203.0.113.9", "203.0.113.9:0 - -:0 -");
}

static void test_what_stands_beside_the_address(void)
{
    from_loopback("x-forwarded-proto: https|x-forwarded-host: h", "peer");
    from_loopback("x-forwarded-for: 192.0.2.7|x-forwarded-proto: https|x-forwarded-port: 99",
                  "192.0.2.7:99 https -:0 -");
    from_loopback("x-forwarded-for: 192.0.2.7|x-forwarded-proto: WSS", "192.0.2.7:0 https -:0 -");
    from_loopback("x-forwarded-for: 192.0.2.7|x-forwarded-proto: ws", "192.0.2.7:0 http -:0 -");
    from_loopback("x-forwarded-for: 192.0.2.7|x-forwarded-proto: gopher", "192.0.2.7:0 - -:0 -");
    from_loopback("x-forwarded-for: 192.0.2.7, 127.0.0.9|x-forwarded-proto: ws, https, http",
                  "192.0.2.7:0 https -:0 -");
    from_loopback("x-forwarded-for: 1.1.1.1, 127.0.0.9, 127.0.0.8|x-forwarded-proto: https",
                  "1.1.1.1:0 https -:0 -");
    from_loopback("x-forwarded-for: 192.0.2.7|x-forwarded-host: a.example",
                  "192.0.2.7:0 - a.example:80 -");
    from_loopback("x-forwarded-for: 192.0.2.7|x-forwarded-host: [::1]:8443|x-forwarded-proto: http",
                  "192.0.2.7:0 http ::1:8443 -");
    from_loopback("x-forwarded-for: 192.0.2.7|x-forwarded-host: a|x-forwarded-proto: https",
                  "192.0.2.7:0 https a:443 -");
    from_loopback("x-forwarded-for: 192.0.2.7|x-forwarded-host: a b", "192.0.2.7:0 - -:0 -");
    from_loopback("x-forwarded-for: 192.0.2.7|x-forwarded-host: evil, good:81",
                  "192.0.2.7:0 - good:81 -");
}

static void test_prefix(void)
{
    static const char *const cases[][2] = {
        {"/app", "/app"},   {"/app/", "/app"}, {"/a%20b", "/a b"}, {"/", "-"},
        {"//evil", "-"},    {"/%2fevil", "-"}, {"/\\evil", "-"},   {"app", "-"},
        {"/a%0d%0ab", "-"}, {"/x, /y", "/y"},  {"/a//", "/a"},     {"", "-"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char headers[200], want[100];
        snprintf(headers, sizeof headers, "x-forwarded-for: 192.0.2.7|x-forwarded-prefix: %s",
                 cases[i][0]);
        snprintf(want, sizeof want, "192.0.2.7:0 - -:0 %s", cases[i][1]);
        from_loopback(headers, want);
    }
}

static void test_rfc7239(void)
{
    from_loopback("forwarded: for=192.0.2.7", "192.0.2.7:0 - -:0 -");
    from_loopback("forwarded: FOR=\"[2001:db8::1]:4711\";Proto=https;by=203.0.113.43;host=\"h:81\"",
                  "2001:db8::1:4711 https h:81 -");
    from_loopback("forwarded: for=9.9.9.9;proto=http, for=192.0.2.7;proto=https, for=127.0.0.1",
                  "192.0.2.7:0 https -:0 -");
    from_loopback("forwarded: for=192.0.2.7, for=127.0.0.1;proto=https;host=h", /* told later */
                  "192.0.2.7:0 https h:443 -");
    from_loopback("forwarded: for=9.9.9.9|a: b|forwarded: for=192.0.2.7 ; proto=https",
                  "192.0.2.7:0 https -:0 -");
    from_loopback("forwarded: for=\"192.0.2.7:_port\"", "192.0.2.7:0 - -:0 -");
    from_loopback("forwarded: for=192.0.2.7:80", "192.0.2.7:80 - -:0 -");
    from_loopback("forwarded: for=\"192.0.2\\.7\"", "192.0.2.7:0 - -:0 -");
    from_loopback("forwarded: for=192.0.2.7;ext=\"a,b;c\\\"d\"", "192.0.2.7:0 - -:0 -");
    from_loopback("forwarded: for=\"_gazonk\"", "-:0 - -:0 -");
    from_loopback("forwarded: for=unknown;proto=https", "-:0 https -:0 -");
    from_loopback("forwarded: proto=https", "-:0 https -:0 -");
    from_loopback("forwarded: , ,for=192.0.2.7,", "192.0.2.7:0 - -:0 -");
    from_loopback("forwarded: ,", "peer");
}

static void test_broken_rfc7239(void)
{
    static const char *const broken[] = {
        "for=\"192.0.2.7",
        "for",
        "for=",
        "=1",
        "for=192.0.2.7;",
        "for=192.0.2.7;for=192.0.2.8",
        "for=192.0.2.7 x",
        "for=\"192.0.2.7\\",
        "for=\", for=\"[::1]\"",
        "for=192.0.2.7, for",
        "for=192.0.2.7;proto",
        "for=\"\"",
    };
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        char headers[200];
        snprintf(headers, sizeof headers, "forwarded: %s", broken[i]);
        from_loopback(headers, "-:0 - -:0 -");
    }
}

static void test_which_header_counts(void)
{
    cd_config config = settings(NULL);
    from_loopback("forwarded: for=9.9.9.9|x-forwarded-for: 192.0.2.7", "192.0.2.7:0 - -:0 -");
    config.forwarded_for = "Forwarded";
    check_told(&config, "x-forwarded-for: 9.9.9.9|x-forwarded-prefix: /x|forwarded: for=192.0.2.7",
               &loopback, "192.0.2.7:0 - -:0 -");
    check_told(&config, "x-forwarded-for: 9.9.9.9", &loopback, "peer");
    config.forwarded_for = "X-Real-IP";
    config.forwarded_port = "X-Real-Port";
    config.forwarded_proto = NULL;
    check_told(&config, "x-real-ip: 192.0.2.7|x-real-port: 8|x-forwarded-proto: https", &loopback,
               "192.0.2.7:8 - -:0 -");
}

static void test_who_is_believed(void)
{
    cd_config config = settings(NULL);
    static const char all[] =
        "x-forwarded-for: 192.0.2.7|x-forwarded-proto: https|forwarded: for=1.1.1.1";
    static const cd_addr local = {-1, ""}, lost = {0, ""};
    check_told(&config, all, &stranger, "peer");
    check_told(&config, all, &lost, "peer");
    check_told(&config, all, &local, "192.0.2.7:0 https -:0 -");
    config.forwarded_allow_ips = "198.51.100.0/24";
    check_told(&config, all, &stranger, "192.0.2.7:0 https -:0 -");
    check_told(&config, all, &loopback, "peer");
    config.forwarded_allow_ips = "*";
    check_told(&config, "x-forwarded-for: 1.1.1.1, 2.2.2.2", &stranger, "1.1.1.1:0 - -:0 -");
}

static void test_hops(void)
{
    cd_config config = settings("*");
    text header = {0};
    text_format(&header, "x-forwarded-for: ");
    for (int i = 64; i > 0; i--)
        text_format(&header, "10.0.0.%d%s", i, i > 1 ? ", " : "");
    check_told(&config, header.p, &loopback, "10.0.0.32:0 - -:0 -");
    config.limits.proxy_max_hops = 0;
    check_told(&config, header.p, &loopback, "10.0.0.1:0 - -:0 -");
    config.limits.proxy_max_hops = 1000;
    check_told(&config, header.p, &loopback, "10.0.0.64:0 - -:0 -");
    text_free(&header);
}

/* ---- in a server ---- */

static void one_request(rig *r, const void *arg)
{
    r->script = "body;start 200;last x";
    wire_text(wire_open(r), arg);
}

/* No application may run that would take the proxy for the client. */
static void test_no_memory_in_a_server(void)
{
    cd_config config = settings("*");
    config.access_fd = -1;
    rig_configure(&config);
    check_scenario("forwarded", one_request,
                   "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.7\r\n"
                   "X-Forwarded-Prefix: /a\r\n\r\n",
                   NULL, NULL, 0);
    check_scenario("rfc7239", one_request,
                   "GET / HTTP/1.1\r\nHost: a\r\nForwarded: for=\"192.0.2\\.7\"\r\n\r\n", NULL,
                   NULL, 0);
    rig_configure(NULL);
}

int main(void)
{
    test_networks();
    test_default_list();
    test_bad_lists();
    test_no_memory_for_a_list();
    test_x_forwarded_for();
    test_nobody_knows_the_client();
    test_what_stands_beside_the_address();
    test_prefix();
    test_rfc7239();
    test_broken_rfc7239();
    test_which_header_counts();
    test_who_is_believed();
    test_hops();
    test_no_memory_in_a_server();
    return check_summary();
}
