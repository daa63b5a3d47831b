/*
 * What a WebSocket handshake must look like, and the proof that we have read it.
 *
 * cd_ws_check is asked for every request with an Upgrade header, before anybody hears of the
 * request: what it refuses costs no application and no log line. A request that names websocket in
 * Upgrade but is wrong in another place is refused and not served as plain HTTP, because its sender
 * would take the answer for a refusal anyway and never learn the reason. Origin is not judged here:
 * who may connect is the application's question (Channels' AllowedHostsOriginValidator).
 *
 * Headers of the application may not speak for the handshake itself. Sec-WebSocket-* is an error:
 * the subprotocol has its own argument, and an extension that the server did not agree to would
 * corrupt the frames. So are the fields that frame a message or belong to one connection (RFC
 * 9110, 7.6.1): a 101 response has no body to frame.
 */
#include "ws/ws_handshake.h"

#include "base/header.h"
#include "base/sha1.h"
#include "ws/ws.h"

#include <string.h>

enum { KEY_SIZE = 24 };

static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; /* RFC 6455, 1.3 */
static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* ---- the check ---- */

static bool same(cd_str a, cd_str b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static bool lists(const cd_head *head, const char *name, const char *token)
{
    return cd_header_lists(head->headers, head->header_count, name, token);
}

/* The value of a header that must stand there exactly once; p is NULL when it does not. */
static cd_str only(const cd_head *head, const char *name)
{
    size_t count;
    const cd_header *header = cd_header_find(head->headers, head->header_count, name, &count);
    return header && count == 1 ? cd_str_trim(header->value) : (cd_str){NULL, 0};
}

static bool has_body(const cd_head *head)
{
    size_t count;
    const cd_header *h =
        cd_header_find(head->headers, head->header_count, "content-length", &count);
    uint64_t length;
    if (h && (count > 1 || cd_str_number(cd_str_trim(h->value), &length) != CD_OK || length > 0))
        return true;
    return cd_header_find(head->headers, head->header_count, "transfer-encoding", NULL) != NULL;
}

/* Base64 of 16 bytes. */
static bool is_key(cd_str key)
{
    if (key.n != KEY_SIZE || memcmp(key.p + KEY_SIZE - 2, "==", 2) != 0)
        return false;
    for (size_t i = 0; i < KEY_SIZE - 2; i++) {
        if (memchr(base64, key.p[i], sizeof base64 - 1) == NULL)
            return false;
    }
    return true;
}

/* Calls for every subprotocol offered; stops at the first call that returns false, and returns
 * false then. */
static bool each_subprotocol(const cd_head *head, bool (*call)(void *arg, cd_str name), void *arg)
{
    for (size_t i = 0; i < head->header_count; i++) {
        if (!cd_str_is(head->headers[i].name, "sec-websocket-protocol"))
            continue;
        cd_str list = head->headers[i].value, name;
        while (cd_str_next_element(&list, &name)) {
            if (!call(arg, name))
                return false;
        }
    }
    return true;
}

typedef struct {
    cd_str name;
    size_t seen;
} occurrence;

static bool count_occurrence(void *arg, cd_str name)
{
    occurrence *o = arg;
    o->seen += same(o->name, name);
    return true;
}

enum { MAX_SUBPROTOCOLS = 64 };

typedef struct {
    const cd_head *head;
    size_t count;
} offer;

/* A token, offered once (RFC 6455, 11.3.4). Comparing all pairs is bounded by MAX_SUBPROTOCOLS. */
static bool check_subprotocol(void *arg, cd_str name)
{
    offer *all = arg;
    if (!cd_is_token(name) || ++all->count > MAX_SUBPROTOCOLS)
        return false;
    occurrence o = {name, 0};
    each_subprotocol(all->head, count_occurrence, &o);
    return o.seen == 1;
}

static int check_offer(const cd_head *head)
{
    size_t count;
    const cd_header *version =
        cd_header_find(head->headers, head->header_count, "sec-websocket-version", &count);
    if (version && count > 1)
        return 400;
    if (version == NULL || !cd_str_is(cd_str_trim(version->value), "13"))
        return 426;
    offer all = {head, 0};
    return each_subprotocol(head, check_subprotocol, &all) ? 101 : 400;
}

int cd_ws_check_connect(const cd_head *head)
{
    return check_offer(head);
}

int cd_ws_check(const cd_head *head)
{
    if (!lists(head, "upgrade", "websocket"))
        return 0;
    if (!same(head->method, (cd_str){"GET", 3})) /* a method's case counts */
        return 405;
    if (head->http_major != 1 || head->http_minor < 1 || has_body(head))
        return 400;
    if (!lists(head, "connection", "upgrade") || !is_key(only(head, "sec-websocket-key")))
        return 400;
    return check_offer(head);
}

/* ---- subprotocols ---- */

static bool count_one(void *arg, cd_str name)
{
    (void)name;
    ++*(size_t *)arg;
    return true;
}

static bool list_one(void *arg, cd_str name)
{
    cd_str **next = arg;
    *(*next)++ = name;
    return true;
}

int cd_ws_list_subprotocols(cd_head *head, cd_arena *arena)
{
    size_t count = 0;
    each_subprotocol(head, count_one, &count);
    if (count == 0)
        return CD_OK;
    cd_str *list = cd_arena_alloc(arena, count * sizeof *list), *next = list;
    if (list == NULL)
        return CD_NOMEM;
    each_subprotocol(head, list_one, &next);
    head->subprotocols = list;
    head->subprotocol_count = count;
    return CD_OK;
}

bool cd_ws_is_offered(const cd_head *head, cd_str subprotocol)
{
    for (size_t i = 0; i < head->subprotocol_count; i++) {
        if (same(head->subprotocols[i], subprotocol))
            return true;
    }
    return false;
}

/* ---- the answer ---- */

static void encode_base64(char *to, const uint8_t *from, size_t n)
{
    for (; n > 0; to += 4) {
        size_t k = n < 3 ? n : 3;
        uint32_t bits =
            (uint32_t)from[0] << 16 | (k > 1 ? (uint32_t)from[1] << 8 : 0) | (k > 2 ? from[2] : 0);
        for (size_t i = 0; i < 4; i++)
            to[i] = i <= k ? base64[bits >> (18 - 6 * i) & 63] : '=';
        from += k;
        n -= k;
    }
}

void cd_ws_accept_value(cd_str key, char value[CD_WS_ACCEPT_SIZE])
{
    char text[KEY_SIZE + sizeof guid - 1];
    uint8_t digest[CD_SHA1_SIZE];
    memcpy(text, key.p, KEY_SIZE);
    memcpy(text + KEY_SIZE, guid, sizeof guid - 1);
    cd_sha1(text, sizeof text, digest);
    encode_base64(value, digest, sizeof digest);
}

int cd_ws_check_header(const cd_header *header)
{
    static const char *const own[] = {
        "connection", "content-length", "keep-alive",        "proxy-connection",
        "te",         "trailer",        "transfer-encoding", "upgrade"};
    static const char prefix[] = "sec-websocket-";
    int code = cd_header_check(header);
    if (code != CD_OK)
        return code;
    cd_str start = {header->name.p, sizeof prefix - 1};
    if (header->name.n >= start.n && cd_str_is(start, prefix))
        return CD_NAME;
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        if (cd_str_is(header->name, own[i]))
            return CD_NAME;
    }
    return CD_OK;
}
