/*
 * What a WebSocket handshake must look like, and the proof that we have read it.
 *
 * cd_ws_check is asked for every request with an Upgrade header, before anybody hears of the
 * request: what it refuses costs no application, and one log line with the reason. A request that
 * names websocket in Upgrade but is wrong in another place is refused and not served as plain HTTP,
 * because its sender would take the answer for a refusal anyway and never learn the reason. Origin
 * is not judged here: who may connect is the application's question (Channels'
 * AllowedHostsOriginValidator).
 *
 * Subprotocols are tokens, each offered once (RFC 6455, 11.3.4), but clients carry credentials in
 * them ("dXNlcg=="), and every other server takes any text. So does this one: an element that is
 * visible ASCII without a comma can be sent back as it came and frames nothing.
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

static bool lists(const cd_head *head, const char *name, const char *token)
{
    return cd_header_lists(head->headers, head->header_count, name, token);
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

/* Is the key base64 of 16 bytes? */
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

/* Calls a function for every subprotocol offered. */
static void each_subprotocol(const cd_head *head, void (*call)(void *arg, cd_str name), void *arg)
{
    for (size_t i = 0; i < head->header_count; i++) {
        if (!cd_str_is(head->headers[i].name, "sec-websocket-protocol"))
            continue;
        cd_str list = head->headers[i].value, name;
        while (cd_str_next_element(&list, &name))
            call(arg, name);
    }
}

/* Stores the first subprotocol that is not ASCII in *arg. Headers have no control bytes. */
static void find_foreign(void *arg, cd_str name)
{
    cd_str *found = arg;
    for (size_t i = 0; i < name.n && found->p == NULL; i++) {
        if ((unsigned char)name.p[i] > 0x7e)
            *found = name;
    }
}

static int refuse(cd_refusal *r, int status, const char *why, cd_str said)
{
    *r = (cd_refusal){why, said};
    return status;
}

static int check_offer(const cd_head *head, cd_refusal *r)
{
    size_t count;
    const cd_header *version =
        cd_header_find(head->headers, head->header_count, "sec-websocket-version", &count);
    cd_str foreign = {NULL, 0};
    if (version == NULL)
        return refuse(r, 426, "WebSocket handshake without Sec-WebSocket-Version", foreign);
    if (count > 1)
        return refuse(r, 400, "more than one Sec-WebSocket-Version", foreign);
    if (!cd_str_is(cd_str_trim(version->value), "13"))
        return refuse(r, 426, "Sec-WebSocket-Version other than 13", version->value);
    each_subprotocol(head, find_foreign, &foreign);
    return foreign.p == NULL ? 101 : refuse(r, 400, "Sec-WebSocket-Protocol is not ASCII", foreign);
}

int cd_ws_check_connect(const cd_head *head, cd_refusal *r)
{
    return check_offer(head, r);
}

static int check_key(const cd_head *head, cd_refusal *r)
{
    size_t count;
    const cd_header *key =
        cd_header_find(head->headers, head->header_count, "sec-websocket-key", &count);
    if (key == NULL)
        return refuse(r, 400, "WebSocket handshake without Sec-WebSocket-Key", (cd_str){NULL, 0});
    if (count > 1)
        return refuse(r, 400, "more than one Sec-WebSocket-Key", (cd_str){NULL, 0});
    if (!is_key(cd_str_trim(key->value)))
        return refuse(r, 400, "Sec-WebSocket-Key is not 16 bytes in base64", key->value);
    return check_offer(head, r);
}

int cd_ws_check(const cd_head *head, cd_refusal *r)
{
    const cd_str nothing = {NULL, 0};
    if (!lists(head, "upgrade", "websocket"))
        return 0;
    if (!cd_str_equal(head->method, CD_STR("GET"))) /* methods are case-sensitive */
        return refuse(r, 405, "WebSocket handshake with another method than GET", head->method);
    if (head->http_major != 1 || head->http_minor < 1)
        return refuse(r, 400,
                      "WebSocket handshake in HTTP/1.0 (a proxy's? nginx needs "
                      "\"proxy_http_version 1.1\")",
                      nothing);
    if (has_body(head))
        return refuse(r, 400, "WebSocket handshake with a body", nothing);
    if (!lists(head, "connection", "upgrade"))
        return refuse(r, 400,
                      "WebSocket handshake without \"Connection: Upgrade\" (a proxy has to "
                      "pass it on)",
                      nothing);
    return check_key(head, r);
}

/* ---- subprotocols ---- */

static void count_one(void *arg, cd_str name)
{
    (void)name;
    ++*(size_t *)arg;
}

static void list_one(void *arg, cd_str name)
{
    cd_str **next = arg;
    *(*next)++ = name;
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
        if (cd_str_equal(head->subprotocols[i], subprotocol))
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
