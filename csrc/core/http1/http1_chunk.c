/*
 * http1_chunk.c - the lines of a chunked body (RFC 9112, 7.1), read in front of llhttp.
 *
 * llhttp refuses blanks in chunk extensions, which a recipient has to parse (7.1.1, and RFC 9110,
 * 5.6.3), and has no flag for them. So the line that begins a chunk is checked here, and llhttp is
 * given the same size without leading zeros and extensions. Data and trailers go to it as they are:
 * it still finds the end of every chunk and of the message, and nothing is copied.
 *
 * What is taken is the grammar and no more, because a line that two parsers read in two ways is how
 * requests are smuggled. Blanks may stand around ';' and '=' only: "5 " and "5;a " are refused,
 * although nginx, h11 and hyper take them. A line ends with CRLF; a CR or LF anywhere else is
 * refused, also inside of quotes, and so is any other control byte.
 *
 * A line may come byte by byte and is never kept: a few states remember what may follow. What its
 * sender could have left out (extensions, leading zeros) is bounded for the whole body.
 */
#include "base/header.h"
#include "http1/http1.h"
#include "net/server_state.h"

/* What was read last. The first state is that of a new message. */
enum state {
    START,      /* the line begins */
    SIZE,       /* a digit */
    BLANK,      /* a blank behind the size or a value: ';' must follow */
    SEMICOLON,  /* and blanks behind it */
    NAME,       /* a byte of an extension's name */
    NAME_BLANK, /* a blank behind it */
    EQUALS,     /* and blanks behind it */
    VALUE,      /* a byte of its value */
    QUOTED,     /* inside of a quoted value */
    ESCAPE,     /* a backslash in it */
    CLOSED,     /* its closing quote */
    CR,
    DATA,     /* the data of the chunk, and the line end behind it */
    TRAILERS, /* behind the last chunk */
    BAD,
};

static bool is_blank(uint8_t byte)
{
    return byte == ' ' || byte == '\t';
}

static bool is_token_byte(uint8_t byte)
{
    return cd_is_token((cd_str){(const char *)&byte, 1});
}

static bool is_text(uint8_t byte)
{
    return byte == '\t' || (byte >= ' ' && byte != 0x7f);
}

/* The size, or a name or value that is a token, continues, or what may follow it begins. */
static enum state after_word(enum state word, enum state blank, uint8_t byte)
{
    if (byte == ';')
        return SEMICOLON;
    if (byte == '=' && word == NAME)
        return EQUALS;
    if (byte == '\r')
        return CR;
    if (is_blank(byte))
        return blank;
    return (word == NAME || word == VALUE) && is_token_byte(byte) ? word : BAD;
}

static enum state after_blank(enum state blank, uint8_t byte)
{
    if (is_blank(byte))
        return blank;
    if (byte == ';')
        return SEMICOLON;
    return byte == '=' && blank == NAME_BLANK ? EQUALS : BAD;
}

/* Behind ';' and '=' a word begins. */
static enum state before_word(enum state sign, enum state word, uint8_t byte)
{
    if (is_blank(byte))
        return sign;
    if (byte == '"' && word == VALUE)
        return QUOTED;
    return is_token_byte(byte) ? word : BAD;
}

static enum state in_quotes(uint8_t byte)
{
    if (byte == '"')
        return CLOSED;
    if (byte == '\\')
        return ESCAPE;
    return is_text(byte) ? QUOTED : BAD;
}

/* A byte of the line that is no digit of the size. */
static enum state next_state(enum state state, uint8_t byte)
{
    switch (state) {
    case BLANK:
    case NAME_BLANK:
        return after_blank(state, byte);
    case SEMICOLON:
        return before_word(SEMICOLON, NAME, byte);
    case NAME:
        return after_word(NAME, NAME_BLANK, byte);
    case EQUALS:
        return before_word(EQUALS, VALUE, byte);
    case SIZE:
    case VALUE:
    case CLOSED:
        return after_word(state, BLANK, byte);
    case QUOTED:
        return in_quotes(byte);
    case ESCAPE:
        return is_text(byte) ? QUOTED : BAD;
    default:
        return BAD;
    }
}

static int digit_of(uint8_t byte)
{
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    byte |= 0x20;
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

static void refuse(cd_http1 *h, int status, const char *why)
{
    h->fault = status;
    h->refusal.why = why;
}

/* One byte of a line before its LF. */
static void take_byte(cd_http1 *h, uint8_t byte)
{
    int digit = h->chunk_state <= SIZE ? digit_of(byte) : -1;
    if (digit >= 0) {
        h->chunk_extra += h->chunk_state == SIZE && h->chunk == 0; /* the zero before it */
        if (h->chunk > INT64_MAX >> 4)
            refuse(h, 400, "chunk size that no body can have");
        h->chunk = h->chunk << 4 | (unsigned)digit;
        h->chunk_state = SIZE;
        return;
    }
    h->chunk_extra += byte != '\r';
    h->chunk_state = next_state(h->chunk_state, byte) & 15u;
    if (h->chunk_state == BAD)
        refuse(h, 400, "malformed chunk line");
}

/* The line is complete: makes the line that llhttp gets. */
static cd_str end_line(cd_conn *c)
{
    cd_http1 *h = c->self;
    size_t most = c->server->limits.max_body_size;
    if (most > 0 && (h->body_size > most || h->chunk > most - h->body_size))
        refuse(h, 413, "body above max_body_size");
    char *end = h->chunk_line + sizeof h->chunk_line, *p = end;
    *--p = '\n';
    *--p = '\r';
    for (uint64_t left = h->chunk; p == end - 2 || left > 0; left >>= 4)
        *--p = "0123456789abcdef"[left & 15];
    h->chunk_state = h->chunk > 0 ? DATA : TRAILERS;
    h->chunk += sizeof "\r\n" - 1;
    return (cd_str){p, (size_t)(end - p)};
}

/* Returns how many bytes belong to the line; at its end *piece is set. */
static size_t take_line(cd_conn *c, const uint8_t *p, size_t n, cd_str *piece)
{
    cd_http1 *h = c->self;
    for (size_t i = 0; i < n; i++) {
        if (h->chunk_state == CR && p[i] == '\n') {
            *piece = end_line(c);
            return i + 1;
        }
        take_byte(h, p[i]);
        if (h->chunk_extra > c->server->limits.max_chunk_extension_size && h->fault == 0)
            refuse(h, 400, "chunk extensions longer than max_chunk_extension_size");
        if (h->fault != 0)
            return n;
    }
    return n;
}

static size_t take_data(cd_http1 *h, const uint8_t *p, size_t n, cd_str *piece)
{
    if (n > h->chunk)
        n = (size_t)h->chunk;
    h->chunk -= n;
    if (h->chunk == 0)
        h->chunk_state = START;
    *piece = (cd_str){(const char *)p, n};
    return n;
}

/* Counts the bytes of trailers against their limit; llhttp finds where they end. */
static size_t take_trailers(cd_conn *c, const uint8_t *p, size_t n, cd_str *piece)
{
    cd_http1 *h = c->self;
    size_t end = sizeof "\r\n" - 1;
    size_t most = cd_least(c->server->limits.max_trailer_size, SIZE_MAX - end) + end;
    n = cd_least(n, most - h->trailer_size);
    h->trailer_size += n;
    if (n == 0)
        refuse(h, 400, "trailer section longer than max_trailer_size");
    *piece = (cd_str){(const char *)p, n};
    return n;
}

size_t cd_http1_next_piece(cd_conn *c, const uint8_t *p, size_t n, cd_str *piece)
{
    cd_http1 *h = c->self;
    *piece = (cd_str){NULL, 0};
    if (h->chunk_state == DATA)
        return take_data(h, p, n, piece);
    if (h->chunk_state == TRAILERS)
        return take_trailers(c, p, n, piece);
    return take_line(c, p, n, piece);
}
