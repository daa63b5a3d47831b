/*
 * The opening handshake's rules: which head is a WebSocket, which is refused and how, which
 * subprotocols it offers, what the answer proves, and what an application may put beside it. What
 * the connection does with it is test_ws.c's.
 */
#include "harness.h"
#include "ws/ws.h"
#include "ws/ws_handshake.h"

enum { MAX_HEADERS = 80 };

#define KEY "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="
#define GOOD "upgrade: websocket\nconnection: Upgrade\nsec-websocket-version: 13\n" KEY "\n"

static cd_str str(const char *s)
{
    return (cd_str){s, strlen(s)};
}

/* A head from lines "name: value\n"; the slices point into `lines`. */
static cd_head parse_head(const char *method, int minor, const char *lines, cd_header *headers)
{
    cd_head head = {
        .method = str(method), .http_major = 1, .http_minor = minor, .headers = headers};
    for (const char *p = lines; *p; p = strchr(p, '\n') + 1) {
        const char *colon = strchr(p, ':'), *end = strchr(p, '\n');
        headers[head.header_count++] =
            (cd_header){{p, (size_t)(colon - p)}, {colon + 2, (size_t)(end - colon - 2)}};
    }
    return head;
}

typedef struct {
    const char *name, *method;
    int minor;
    const char *headers;
    int status;
} check_case;

static const check_case checks[] = {
    {"good", "GET", 1, GOOD, 101},
    {"no upgrade", "GET", 1, "connection: upgrade\n", 0},
    {"another upgrade", "POST", 1, "upgrade: h2c\nconnection: upgrade\n", 0},
    {"a longer word", "GET", 1, "upgrade: websockets\nconnection: upgrade\n", 0},
    {"one of several", "GET", 1,
     "upgrade: h2c, WebSocket\nconnection: keep-alive, Upgrade\nsec-websocket-version: 13\n" KEY
     "\n",
     101},
    {"connection in two lines", "GET", 1,
     "upgrade: websocket\nconnection: keep-alive\nconnection: upgrade\nsec-websocket-version: "
     "13\n" KEY "\n",
     101},
    {"POST", "POST", 1, GOOD, 405},
    {"HEAD", "HEAD", 1, GOOD, 405},
    {"HTTP/1.0", "GET", 0, GOOD, 400},
    {"no connection", "GET", 1, "upgrade: websocket\nsec-websocket-version: 13\n" KEY "\n", 400},
    {"connection close", "GET", 1,
     "upgrade: websocket\nconnection: close\nsec-websocket-version: 13\n" KEY "\n", 400},
    {"no key", "GET", 1, "upgrade: websocket\nconnection: upgrade\nsec-websocket-version: 13\n",
     400},
    {"two keys", "GET", 1, GOOD KEY "\n", 400},
    {"short key", "GET", 1,
     "upgrade: websocket\nconnection: upgrade\nsec-websocket-version: 13\nsec-websocket-key: "
     "dGhl\n",
     400},
    {"key of 17 bytes", "GET", 1,
     "upgrade: websocket\nconnection: upgrade\nsec-websocket-version: 13\nsec-websocket-key: "
     "dGhlIHNhbXBsZSBub25jZXM=\n",
     400},
    {"key that is not base64", "GET", 1,
     "upgrade: websocket\nconnection: upgrade\nsec-websocket-version: 13\nsec-websocket-key: "
     "dGhlIHNhbXBsZSBub25*ZQ==\n",
     400},
    {"no version", "GET", 1, "upgrade: websocket\nconnection: upgrade\n" KEY "\n", 426},
    {"version 8", "GET", 1,
     "upgrade: websocket\nconnection: upgrade\nsec-websocket-version: 8\n" KEY "\n", 426},
    {"version 130", "GET", 1,
     "upgrade: websocket\nconnection: upgrade\nsec-websocket-version: 130\n" KEY "\n", 426},
    {"two versions", "GET", 1, GOOD "sec-websocket-version: 13\n", 400},
    {"body", "GET", 1, GOOD "content-length: 5\n", 400},
    {"empty body", "GET", 1, GOOD "content-length: 0\n", 101},
    {"chunked body", "GET", 1, GOOD "transfer-encoding: chunked\n", 400},
    {"subprotocols", "GET", 1, GOOD "sec-websocket-protocol: a, b\nsec-websocket-protocol: c\n",
     101},
    {"subprotocol twice", "GET", 1, GOOD "sec-websocket-protocol: a, b, a\n", 400},
    {"subprotocol twice in two lines", "GET", 1,
     GOOD "sec-websocket-protocol: a\nsec-websocket-protocol: a\n", 400},
    {"subprotocol that is no token", "GET", 1, GOOD "sec-websocket-protocol: a b\n", 400},
};

static void test_check(void)
{
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
        cd_header headers[MAX_HEADERS];
        cd_head head = parse_head(checks[i].method, checks[i].minor, checks[i].headers, headers);
        int status = cd_ws_check(&head);
        check_that(status == checks[i].status, __FILE__, __LINE__, "%s: %d, not %d", checks[i].name,
                   status, checks[i].status);
    }
}

/* All pairs are compared, so their number has an end. */
static void test_many_subprotocols(void)
{
    for (int count = 64; count <= 65; count++) {
        cd_header headers[MAX_HEADERS];
        text lines = {0};
        text_format(&lines, GOOD "sec-websocket-protocol: ");
        for (int i = 0; i < count; i++)
            text_format(&lines, "p%d, ", i);
        text_format(&lines, "\n");
        cd_head head = parse_head("GET", 1, lines.p, headers);
        CHECK_INT(cd_ws_check(&head), count > 64 ? 400 : 101);
        text_free(&lines);
    }
}

static void test_subprotocols(void)
{
    cd_header headers[MAX_HEADERS];
    cd_arena arena;
    cd_arena_init(&arena);
    cd_head head = parse_head(
        "GET", 1, GOOD "sec-websocket-protocol: chat ,, soap.v1\nsec-websocket-protocol: x\n",
        headers);
    CHECK_INT(cd_ws_list_subprotocols(&head, &arena), CD_OK);
    static const char *const want[] = {"chat", "soap.v1", "x"};
    CHECK_INT(head.subprotocol_count, 3);
    for (size_t i = 0; i < 3; i++) {
        check_bytes(__FILE__, __LINE__, "subprotocol", head.subprotocols[i].p,
                    head.subprotocols[i].n, want[i], strlen(want[i]));
        CHECK(cd_ws_is_offered(&head, str(want[i])));
    }
    CHECK(!cd_ws_is_offered(&head, str("soap")));
    CHECK(!cd_ws_is_offered(&head, str("Chat")));
    head = parse_head("GET", 1, GOOD, headers);
    CHECK_INT(cd_ws_list_subprotocols(&head, &arena), CD_OK);
    CHECK_INT(head.subprotocol_count, 0);
    CHECK(!cd_ws_is_offered(&head, str("chat")));
    cd_arena_dispose(&arena);
}

/* The example of RFC 6455, 1.3. */
static void test_accept_value(void)
{
    char value[CD_WS_ACCEPT_SIZE];
    cd_ws_accept_value(str("dGhlIHNhbXBsZSBub25jZQ=="), value);
    check_bytes(__FILE__, __LINE__, "accept", value, sizeof value,
                "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", CD_WS_ACCEPT_SIZE);
}

static void test_app_headers(void)
{
    static const struct {
        const char *name, *value;
        int code;
    } cases[] = {
        {"set-cookie", "a=b", CD_OK},
        {"Server", "mine", CD_OK},
        {"x-sec-websocket-key", "a", CD_OK},
        {"sec-websocket", "a", CD_OK},
        {"Sec-WebSocket-Protocol", "chat", CD_NAME},
        {"sec-websocket-extensions", "permessage-deflate", CD_NAME},
        {"sec-websocket-accept", "x", CD_NAME},
        {"Connection", "close", CD_NAME},
        {"upgrade", "h2c", CD_NAME},
        {"transfer-encoding", "chunked", CD_NAME},
        {"Content-Length", "0", CD_NAME},
        {"keep-alive", "timeout=5", CD_NAME},
        {"bad name", "x", CD_NAME},
        {"x-split", "a\r\nb: c", CD_VALUE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cd_header header = {str(cases[i].name), str(cases[i].value)};
        int code = cd_ws_check_header(&header);
        check_that(code == cases[i].code, __FILE__, __LINE__, "%s: %d", cases[i].name, code);
    }
}

int main(void)
{
    test_check();
    test_many_subprotocols();
    test_subprotocols();
    test_accept_value();
    test_app_headers();
    return check_summary();
}
