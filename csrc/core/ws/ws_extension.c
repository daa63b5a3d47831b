/*
 * Which offer of permessage-deflate is taken, and with which parameters (RFC 7692, 5.1 and 7.1).
 *
 * A client lists what it could do in the order of its preference; the server takes the first offer
 * that it can keep to and says so, or says nothing and the WebSocket goes without. So nothing here
 * is an error: an offer that breaks a rule is one that is not taken (zlib is never asked to do what
 * a peer made up: CVE-2026-2229). Elements and parameters are cut at commas and semicolons outside
 * of quotes, and what is no token then, no parameter can be.
 *
 * The answer has a parameter only if the offer has it. The RFC allows two more, but clients refuse
 * what they did not offer (nhooyr.io/websocket before 1.8.7 fails on any server_max_window_bits),
 * and the server can do without: it compresses with a window of `bits`, and each message anew,
 * whether it says so or not, because the client's window is then merely larger than needed (7.1.1.1
 * and 7.1.2.1 bind the server to what it says, not to what it leaves out).
 *
 * The one exception is client_no_context_takeover: a client that does not hear it may refer to
 * earlier messages, and its window must be kept here, 39 KB for each socket. Every client must
 * understand it in an answer (7.1.1.2). client_max_window_bits may only be answered (7.1.2.2). It
 * is never made 8 unless the client itself said 8: most clients have zlib, which has no raw stream
 * with such a window.
 */
#include "ws/ws_extension.h"

#include "base/header.h"

#include <stdio.h>
#include <string.h>

/* What the parameters of one offer say; bits == 0: not given. */
typedef struct {
    bool no_server_takeover, no_client_takeover;
    bool client_bits_given;
    uint8_t server_bits, client_bits;
} offer;

/* Takes the part before the next separator off *list; false at its end. */
static bool cut(cd_str *list, char separator, cd_str *piece)
{
    size_t n = 0;
    bool quoted = false;
    if (list->p == NULL)
        return false;
    for (; n < list->n && (quoted || list->p[n] != separator); n++) {
        if (list->p[n] == '"')
            quoted = !quoted;
        else if (quoted && list->p[n] == '\\' && n + 1 < list->n)
            n++;
    }
    *piece = cd_str_trim((cd_str){list->p, n});
    *list = n < list->n ? (cd_str){list->p + n + 1, list->n - n - 1} : (cd_str){NULL, 0};
    return true;
}

/* Reads 8 to 15 without a leading zero, with or without quotes (RFC 6455, 9.1); else returns 0. */
static uint8_t window_bits(cd_str value)
{
    uint64_t bits;
    if (value.n >= 2 && value.p[0] == '"' && value.p[value.n - 1] == '"')
        value = (cd_str){value.p + 1, value.n - 2};
    if (value.n > 2 || cd_str_number(value, &bits) < 0 || value.p[0] == '0')
        return 0;
    return bits < CD_DEFLATE_MIN_BITS || bits > CD_DEFLATE_MAX_BITS ? 0 : (uint8_t)bits;
}

static bool set_once(bool *seen)
{
    bool first = !*seen;
    *seen = true;
    return first;
}

/* value.p is NULL for a parameter without "=". */
static bool take_parameter(offer *o, cd_str name, cd_str value)
{
    if (cd_str_is(name, "server_no_context_takeover"))
        return value.p == NULL && set_once(&o->no_server_takeover);
    if (cd_str_is(name, "client_no_context_takeover"))
        return value.p == NULL && set_once(&o->no_client_takeover);
    if (cd_str_is(name, "server_max_window_bits")) {
        bool first = o->server_bits == 0;
        o->server_bits = window_bits(value);
        return first && o->server_bits != 0;
    }
    if (!cd_str_is(name, "client_max_window_bits") || !set_once(&o->client_bits_given))
        return false;
    o->client_bits = window_bits(value);
    return value.p == NULL || o->client_bits != 0;
}

/* Reads one element of the list: is it permessage-deflate, with valid parameters only? */
static bool parse_offer(cd_str element, offer *o)
{
    cd_str part, name;
    *o = (offer){0};
    if (!cut(&element, ';', &name) || !cd_str_is(name, "permessage-deflate"))
        return false;
    while (cut(&element, ';', &part)) {
        cd_str value = part;
        cut(&value, '=', &name);
        value = cd_str_trim(value);
        if (!take_parameter(o, name, value))
            return false;
    }
    return true;
}

static uint8_t least(unsigned a, unsigned b)
{
    return (uint8_t)(a < b ? a : b);
}

static cd_ws_extension accept(const offer *o, unsigned bits, bool takeover)
{
    cd_ws_extension e = {
        .on = true,
        .server_takeover = takeover && !o->no_server_takeover,
        .client_takeover = takeover && !o->no_client_takeover,
        .server_bits = least(bits, o->server_bits ? o->server_bits : CD_DEFLATE_MAX_BITS),
        .client_bits = CD_DEFLATE_MAX_BITS,
        .no_server_takeover_said = o->no_server_takeover,
        .no_client_takeover_said = !takeover || o->no_client_takeover,
        .server_bits_said = o->server_bits != 0,
        .client_bits_said = o->client_bits_given,
    };
    if (o->client_bits == CD_DEFLATE_MIN_BITS)
        e.client_bits = CD_DEFLATE_MIN_BITS;
    else if (o->client_bits_given)
        e.client_bits = least(bits > CD_DEFLATE_MIN_BITS ? bits : CD_DEFLATE_MIN_BITS + 1,
                              o->client_bits ? o->client_bits : CD_DEFLATE_MAX_BITS);
    return e;
}

cd_ws_extension cd_ws_extension_negotiate(const cd_header *headers, size_t count, unsigned bits,
                                          bool takeover)
{
    for (size_t i = 0; i < count; i++) {
        cd_str list = headers[i].value, element;
        if (!cd_str_is(headers[i].name, "sec-websocket-extensions"))
            continue;
        while (cut(&list, ',', &element)) {
            offer o;
            if (parse_offer(element, &o))
                return accept(&o, bits, takeover);
        }
    }
    return (cd_ws_extension){.on = false};
}

size_t cd_ws_extension_answer(const cd_ws_extension *e, char to[CD_WS_EXTENSION_SIZE])
{
    char server_bits[32] = "", client_bits[32] = "";
    if (e->server_bits_said)
        snprintf(server_bits, sizeof server_bits, "; server_max_window_bits=%d", e->server_bits);
    if (e->client_bits_said)
        snprintf(client_bits, sizeof client_bits, "; client_max_window_bits=%d", e->client_bits);
    int n = snprintf(to, CD_WS_EXTENSION_SIZE, "permessage-deflate%s%s%s%s",
                     e->no_server_takeover_said ? "; server_no_context_takeover" : "",
                     e->no_client_takeover_said ? "; client_no_context_takeover" : "", server_bits,
                     client_bits);
    return (size_t)n;
}
