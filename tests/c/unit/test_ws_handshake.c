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
    const char *why; /* begins the reason */
    const char *said;
} check_case;

static const check_case checks[] = {
    {"good", "GET", 1, GOOD, 101, NULL, NULL},
    {"no upgrade", "GET", 1, "connection: upgrade\n", 0, NULL, NULL},
    {"another upgrade", "POST", 1, "upgrade: h2c\nconnection: upgrade\n", 0, NULL, NULL},
    {"a longer word", "GET", 1, "upgrade: websockets\nconnection: upgrade\n", 0, NULL, NULL},
    {"one of several", "GET", 1,
     "upgrade: h2c, WebSocket\nconnection: keep-alive, Upgrade\nsec-websocket-version: 13\n" KEY
     "\n",
     101, NULL, NULL},
    {"connection in two lines", "GET", 1,
     "upgrade: websocket\nconnection: keep-alive\nconnection: upgrade\nsec-websocket-version: "
     "13\n" KEY "\n",
     101, NULL, NULL},
    {"POST", "POST", 1, GOOD, 405, "WebSocket handshake with another method than GET", "POST"},
    {"HEAD", "HEAD", 1, GOOD, 405, "WebSocket handshake with another method than GET", "HEAD"},
    {"HTTP/1.0", "GET", 0, GOOD, 400, "WebSocket handshake in HTTP/1.0", ""},
    {"no connection", "GET", 1, "upgrade: websocket\nsec-websocket-version: 13\n" KEY "\n", 400,
     "WebSocket handshake without \"Connection: Upgrade\"", ""},
    {"connection close", "GET", 1,
     "upgrade: websocket\nconnection: close\nsec-websocket-version: 13\n" KEY "\n", 400,
     "WebSocket handshake without \"Connection: Upgrade\"", ""},
    {"no key", "GET", 1, "upgrade: websocket\nconnection: upgrade\nsec-websocket-version: 13\n",
     400, "WebSocket handshake without Sec-WebSocket-Key", ""},
    {"two keys", "GET", 1, GOOD KEY "\n", 400, "more than one Sec-WebSocket-Key", ""},
    {"short key", "GET", 1,
     "upgrade: websocket\nconnection: upgrade\nsec-websocket-version: 13\nsec-websocket-key: "
     "dGhl\n",
     400, "Sec-WebSocket-Key is not 16 bytes in base64", "dGhl"},
    {"key of 17 bytes", "GET", 1,
     "upgrade: websocket\nconnection: upgrade\nsec-websocket-version: 13\nsec-websocket-key: "
     "dGhlIHNhbXBsZSBub25jZXM=\n",
     400, "Sec-WebSocket-Key is not 16 bytes in base64", "dGhlIHNhbXBsZSBub25jZXM="},
    {"key that is not base64", "GET", 1,
     "upgrade: websocket\nconnection: upgrade\nsec-websocket-version: 13\nsec-websocket-key: "
     "dGhlIHNhbXBsZSBub25*ZQ==\n",
     400, "Sec-WebSocket-Key is not 16 bytes in base64", "dGhlIHNhbXBsZSBub25*ZQ=="},
    {"no version", "GET", 1, "upgrade: websocket\nconnection: upgrade\n" KEY "\n", 426,
     "WebSocket handshake without Sec-WebSocket-Version", ""},
    {"version 8", "GET", 1,
     "upgrade: websocket\nconnection: upgrade\nsec-websocket-version: 8\n" KEY "\n", 426,
     "Sec-WebSocket-Version other than 13", "8"},
    {"version 130", "GET", 1,
     "upgrade: websocket\nconnection: upgrade\nsec-websocket-version: 130\n" KEY "\n", 426,
     "Sec-WebSocket-Version other than 13", "130"},
    {"two versions", "GET", 1, GOOD "sec-websocket-version: 13\n", 400,
     "more than one Sec-WebSocket-Version", ""},
    {"body", "GET", 1, GOOD "content-length: 5\n", 400, "WebSocket handshake with a body", ""},
    {"empty body", "GET", 1, GOOD "content-length: 0\n", 101, NULL, NULL},
    {"chunked body", "GET", 1, GOOD "transfer-encoding: chunked\n", 400,
     "WebSocket handshake with a body", ""},
    {"subprotocols", "GET", 1, GOOD "sec-websocket-protocol: a, b\nsec-websocket-protocol: c\n",
     101, NULL, NULL},
    {"subprotocol twice", "GET", 1, GOOD "sec-websocket-protocol: a, b, a\n", 101, NULL, NULL},
    {"subprotocol in base64", "GET", 1, GOOD "sec-websocket-protocol: dXNlcg==, a+b/c=\n", 101,
     NULL, NULL},
    {"subprotocol of any text", "GET", 1, GOOD "sec-websocket-protocol: {\"a\": 1}, x@y z\n", 101,
     NULL, NULL},
    {"subprotocol beyond ASCII", "GET", 1, GOOD "sec-websocket-protocol: a, \xc3\xa9\n", 400,
     "Sec-WebSocket-Protocol is not ASCII", "\xc3\xa9"},
};

static void test_check(void)
{
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
        cd_header headers[MAX_HEADERS];
        cd_head head = parse_head(checks[i].method, checks[i].minor, checks[i].headers, headers);
        cd_refusal r = {.why = ""};
        int status = cd_ws_check(&head, &r);
        check_that(status == checks[i].status, __FILE__, __LINE__, "%s: %d, not %d", checks[i].name,
                   status, checks[i].status);
        if (checks[i].why == NULL)
            continue;
        check_that(strncmp(r.why, checks[i].why, strlen(checks[i].why)) == 0, __FILE__, __LINE__,
                   "%s: %s", checks[i].name, r.why);
        check_bytes(__FILE__, __LINE__, checks[i].name, r.said.p, r.said.n, checks[i].said,
                    strlen(checks[i].said));
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
    test_subprotocols();
    test_accept_value();
    test_app_headers();
    return check_summary();
}
