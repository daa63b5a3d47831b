/*
 * http2_upgrade.c - "Upgrade: h2c" (RFC 7540, 3.2): a request of HTTP/1.1 that asks for HTTP/2.
 *
 * RFC 9113 has dropped it, but curl and Java's client still ask this way where there is no TLS, so
 * it is there for those who switch it on (http2_upgrade). Here is what the request has to say, and
 * how its head becomes the one of stream 1; http1.c asks and lets go of the connection, http2.c
 * takes it over.
 *
 * A server may ignore an Upgrade, so whatever is not as it should be is served as HTTP/1.1: two
 * HTTP2-Settings, one that is no base64url or no SETTINGS, or settings out of range, which would
 * end the connection with GOAWAY after it had been promised. So is a request with a body, which
 * would have to be taken whole before the protocol changes, and one with an absolute target.
 *
 * The fields that belong to a connection end here. The rest is checked again by http2_head.c, so
 * stream 1 is as any other.
 */
#include "base/header.h"
#include "http2/http2.h"

#include <string.h>

enum {
    ENTRY = 6,      /* bytes of a setting: its number and its value */
    ENTRY_TEXT = 8, /* the same in base64url; so there is never any padding */
    SETTINGS_MOST = NGHTTP2_DEFAULT_MAX_SETTINGS * ENTRY,
};

/* ---- HTTP2-Settings ---- */

static bool decode_entry(const char *p, uint8_t to[ENTRY])
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint64_t bits = 0;
    for (size_t i = 0; i < ENTRY_TEXT; i++) {
        const char *digit = memchr(digits, p[i], sizeof digits - 1);
        if (digit == NULL)
            return false;
        bits = bits << 6 | (uint64_t)(digit - digits);
    }
    for (size_t i = ENTRY; i-- > 0; bits >>= 8)
        to[i] = (uint8_t)bits;
    return true;
}

/* RFC 9113, 6.5.2; RFC 8441, 3; RFC 9218, 2.1. */
static bool is_in_range(const uint8_t entry[ENTRY])
{
    uint32_t value =
        (uint32_t)entry[2] << 24 | (uint32_t)entry[3] << 16 | (uint32_t)entry[4] << 8 | entry[5];
    switch (entry[0] << 8 | entry[1]) {
    case NGHTTP2_SETTINGS_ENABLE_PUSH:
    case NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL:
    case NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES:
        return value <= 1;
    case NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE:
        return value <= NGHTTP2_MAX_WINDOW_SIZE;
    case NGHTTP2_SETTINGS_MAX_FRAME_SIZE:
        return value >= 1 << 14 && value < 1 << 24;
    default:
        return true;
    }
}

/* Decodes the payload and stores its size in *size. False: it is not valid. */
static bool decode_settings(cd_str text, uint8_t *to, size_t *size)
{
    *size = text.n / ENTRY_TEXT * ENTRY;
    if (text.n % ENTRY_TEXT != 0 || *size > SETTINGS_MOST)
        return false;
    for (size_t i = 0; i < text.n / ENTRY_TEXT; i++) {
        if (!decode_entry(text.p + i * ENTRY_TEXT, to + i * ENTRY) || !is_in_range(to + i * ENTRY))
            return false;
    }
    return true;
}

/* ---- the request ---- */

/* Is "h2c" in the list? Upgrade may offer others as well. */
static bool offers_h2c(const cd_head *head)
{
    size_t found = 0;
    for (size_t i = 0; i < head->header_count; i++) {
        cd_str list = head->headers[i].value, element;
        if (!cd_str_is(head->headers[i].name, "upgrade"))
            continue;
        while (cd_str_next_element(&list, &element))
            found += cd_str_is(element, "h2c");
    }
    return found == 1;
}

static bool connects(const cd_head *head, const char *name)
{
    return cd_header_lists(head->headers, head->header_count, "connection", name);
}

int cd_http2_read_upgrade(cd_stream *s, cd_str *settings)
{
    const cd_head *head = &s->head;
    size_t count, size;
    const cd_header *field =
        cd_header_find(head->headers, head->header_count, "http2-settings", &count);
    bool absolute = head->target.p[0] != '/' && head->target.p[0] != '*';
    if (field == NULL || count != 1 || absolute || !offers_h2c(head) ||
        !connects(head, "upgrade") || !connects(head, "http2-settings"))
        return CD_OK;
    char *payload = cd_arena_alloc(&s->arena, SETTINGS_MOST);
    if (payload == NULL)
        return CD_NOMEM;
    if (decode_settings(field->value, (uint8_t *)payload, &size))
        *settings = (cd_str){payload, size};
    return CD_OK;
}

/* ---- stream 1 ---- */

static bool is_of_connection(cd_str name)
{
    static const char *const names[] = {"connection", "http2-settings", "keep-alive",
                                        "proxy-connection", "upgrade"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (cd_str_is(name, names[i]))
            return true;
    }
    return false;
}

static int take(cd_http2 *h, const char *name, cd_str value)
{
    return cd_http2_take_field(h, (cd_str){name, strlen(name)}, value);
}

int cd_http2_take_head(cd_http2 *h, const cd_head *head)
{
    if (take(h, ":method", head->method) < 0 || take(h, ":path", head->target) < 0)
        return CD_NOMEM;
    for (size_t i = 0; i < head->header_count; i++) {
        const cd_header *field = &head->headers[i];
        if (!is_of_connection(field->name) && cd_http2_take_field(h, field->name, field->value) < 0)
            return CD_NOMEM;
    }
    return CD_OK;
}
