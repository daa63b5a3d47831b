/*
 * log_format.c - what an access-log line says: a template with atoms, in gunicorn's letters.
 *
 * A template is taken apart once into literals and atoms, and a line is a walk over them. The three
 * formats with a name are templates too:
 *
 *     daphne    127.0.0.1:52000 - - [23/Nov/2026:14:41:10] "GET /path?query" 200 1234
 *     combined  127.0.0.1 - - [23/Nov/2026:14:41:10 +0100] "GET /path HTTP/1.1" 200 1234 "-" "curl"
 *     json      one object with string, number and null values
 *
 * What a peer sent is escaped so that it cannot end its line, its pair of quotes or its JSON
 * string: bytes that are not printable ASCII become \xNN (JSON: \u00NN, so every line is valid JSON
 * whatever the bytes are), and so does the quote, except in daphne's format, whose readers know it
 * bare. The query of a WebSocket is never written: browsers can send tokens in no other place.
 *
 * Not here: where lines go, and when (log.c).
 */
#include "log/log_format.h"

#include "base/date.h"
#include "base/escape.h"
#include "base/header.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char daphne[] = "%(c)s - - [%(d)s] \"%(R)s\" %(s)s %(b)s";
static const char combined[] = "%(h)s - - %(t)s \"%(r)s\" %(s)s %(b)s \"%(f)s\" \"%(a)s\"";
static const char json[] =
    "{\"time\":%(I)s,\"type\":%(k)s,\"event\":%(e)s,\"client\":%(h)s,\"port\":%(P)s,\"method\":%(m)"
    "s,"
    "\"path\":%(U)s,\"query\":%(q)s,\"protocol\":%(H)s,\"host\":%({host}i)s,\"status\":%(s)s,"
    "\"size\":%(B)s,\"duration\":%(L)s,\"referer\":%(f)s,\"user_agent\":%(a)s}";

enum { TEXT_MOST = 64, DATE_SIZE = 48 };

/* The atoms of one letter; headers are "{name}i". */
static const char letters[] = "abBcdDefhHIklLmMpPqrRsStTuU";
static const char timed[] = "DLMT";
static const char of_headers[] = "iaf";

typedef struct {
    char letter;      /* 0: literal text; 'i': the request header `text` */
    const char *text; /* points into the format's copy of the template */
    size_t n;
} piece;

struct cd_log_format {
    char *copy;
    bool json;    /* atoms are JSON values */
    bool quote;   /* quotes in values are escaped */
    bool timed;   /* an atom shows a duration */
    bool headers; /* an atom shows a request header */
    size_t count;
    int64_t second; /* the second that `dates` are for */
    char dates[3][DATE_SIZE];
    piece pieces[];
};

enum date { LOCAL, CLF, ISO };

/* ---- templates ---- */

static void complain(char *problem, size_t size, const char *what, size_t n)
{
    if (problem != NULL)
        snprintf(problem, size,
                 "'%.*s' is not an atom of an access log; write one of %%(X)s with X of %s, "
                 "%%({header}i)s, or %%%% for a percent sign",
                 (int)(n < 40 ? n : 40), what, letters);
}

/* Returns the length of the atom at p and describes it in *found; 0: there is none. */
static size_t atom_at(const char *p, piece *found)
{
    if (p[1] == '%') {
        *found = (piece){0, p, 1};
        return 2;
    }
    if (p[1] != '(' || p[2] == '\0')
        return 0;
    if (p[2] != '{') {
        *found = (piece){p[2], NULL, 0};
        return strchr(letters, p[2]) != NULL && p[3] == ')' && p[4] == 's' ? 5 : 0;
    }
    const char *end = strchr(p, '}');
    if (end == NULL || strncmp(end, "}i)s", 4) != 0)
        return 0;
    *found = (piece){'i', p + 3, (size_t)(end - p) - 3};
    return cd_is_token((cd_str){found->text, found->n}) ? (size_t)(end - p) + 4 : 0;
}

static bool take_apart(cd_log_format *f, char *problem, size_t size)
{
    char *p = f->copy;
    while (*p != '\0') {
        piece *next = &f->pieces[f->count++];
        size_t n = strcspn(p, "%");
        if (n > 0) {
            *next = (piece){0, p, n};
        } else if ((n = atom_at(p, next)) == 0) {
            complain(problem, size, p, strcspn(p, " \""));
            return false;
        }
        if (next->letter == 'i')
            cd_str_lower(p + 3, next->n);
        if (next->letter != 0 && strchr(timed, next->letter) != NULL)
            f->timed = true;
        if (next->letter != 0 && strchr(of_headers, next->letter) != NULL)
            f->headers = true;
        p += n;
    }
    return true;
}

static const char *template_of(const char *text)
{
    if (strcmp(text, "daphne") == 0)
        return daphne;
    if (strcmp(text, "combined") == 0)
        return combined;
    return strcmp(text, "json") == 0 ? json : text;
}

/* Is there an atom? A template without one would write the same line for ever. */
static bool is_template(const char *text, char *problem, size_t size)
{
    const char *wrong = NULL;
    for (const char *p = text; *p != '\0' && wrong == NULL; p++)
        wrong = (unsigned char)*p < 0x20 || *p == 0x7f ? "has a control character" : NULL;
    if (wrong == NULL && strstr(text, "%(") == NULL)
        wrong = "is not a format of an access log";
    if (wrong != NULL && problem != NULL)
        snprintf(problem, size,
                 "'%.80s' %s; give daphne, combined, json or a line of atoms "
                 "such as %%(h)s",
                 strpbrk(text, "\r\n\t") ? "the text" : text, wrong);
    return wrong == NULL;
}

cd_log_format *cd_log_format_new(const char *text, char *problem, size_t size)
{
    const char *source = template_of(text);
    if (problem != NULL && size > 0)
        *problem = '\0';
    if (!is_template(source, problem, size))
        return NULL;
    size_t n = strlen(source), most = 1;
    for (const char *p = source; *p != '\0'; p++)
        most += *p == '%' ? 2 : 0;
    cd_log_format *f = cd_zalloc(sizeof *f + most * sizeof f->pieces[0]);
    if (f == NULL)
        return NULL;
    f->copy = cd_alloc(n + 1);
    f->json = source == json;
    f->quote = source != daphne;
    f->second = -1;
    if (f->copy == NULL)
        goto fail;
    memcpy(f->copy, source, n + 1);
    if (!take_apart(f, problem, size))
        goto fail;
    return f;
fail:
    cd_log_format_free(f);
    return NULL;
}

int cd_access_format_check(const char *text, char *problem, size_t size)
{
    cd_log_format *format = cd_log_format_new(text, problem, size);
    if (format == NULL)
        return *problem != '\0' ? CD_VALUE : CD_NOMEM;
    cd_log_format_free(format);
    return CD_OK;
}

void cd_log_format_free(cd_log_format *format)
{
    if (format == NULL)
        return;
    cd_free(format->copy);
    cd_free(format);
}

bool cd_log_format_timed(const cd_log_format *format)
{
    return format->timed;
}

bool cd_log_format_headers(const cd_log_format *format)
{
    return format->headers;
}

/* ---- writing ---- */

typedef struct {
    cd_buf *out;
    const cd_log_format *format;
    bool failed; /* there was no memory: nothing more is written */
} writer;

static char *room(writer *w, size_t n)
{
    char *p = w->failed ? NULL : (char *)cd_buf_reserve(w->out, n);
    w->failed = p == NULL;
    return p;
}

static void put(writer *w, const char *text, size_t n)
{
    char *p = room(w, n);
    if (p == NULL)
        return;
    memcpy(p, text, n);
    cd_buf_commit(w->out, n);
}

static const char hex[] = "0123456789abcdef";

/* JSON writes a byte as \u00NN (RFC 8259, 7): the Latin-1 character of its number. */
static size_t escape_json(char *to, const char *text, size_t n)
{
    char *p = to;
    for (size_t i = 0; i < n; i++) {
        unsigned char byte = (unsigned char)text[i];
        if (byte >= 0x20 && byte < 0x7f && byte != '"' && byte != '\\') {
            *p++ = (char)byte;
            continue;
        }
        memcpy(p, "\\u00", 4);
        p[4] = hex[byte >> 4];
        p[5] = hex[byte & 15];
        p += 6;
    }
    return (size_t)(p - to);
}

static size_t escape_quoted(char *to, const char *text, size_t n)
{
    char *p = to;
    while (n > 0) {
        const char *quote = memchr(text, '"', n);
        size_t part = quote ? (size_t)(quote - text) : n;
        p += cd_escape(p, text, part);
        if (quote != NULL) {
            p += cd_escape_byte(p, '"');
            part++;
        }
        text += part;
        n -= part;
    }
    return (size_t)(p - to);
}

/* Writes a peer's text, without quotes around it. */
static void put_escaped(writer *w, cd_str s)
{
    char *p = room(w, 6 * s.n);
    if (p == NULL)
        return;
    size_t n;
    if (w->format->json)
        n = escape_json(p, s.p, s.n);
    else
        n = (w->format->quote ? escape_quoted : cd_escape)(p, s.p, s.n);
    cd_buf_commit(w->out, n);
}

static void put_text(writer *w, const char *text)
{
    put(w, text, strlen(text));
}

static cd_str str_of(const char *text)
{
    return (cd_str){text, strlen(text)};
}

/* Writes a text value; when there is none "-", in JSON null. */
static void put_value(writer *w, cd_str value)
{
    if (value.p == NULL) {
        put_text(w, w->format->json ? "null" : "-");
        return;
    }
    if (w->format->json)
        put(w, "\"", 1);
    put_escaped(w, value);
    if (w->format->json)
        put(w, "\"", 1);
}

static void put_number(writer *w, uint64_t number)
{
    char text[24];
    put(w, text, (size_t)snprintf(text, sizeof text, "%llu", (unsigned long long)number));
}

/* ---- dates ---- */

static void make_dates(cd_log_format *f, int64_t second)
{
    time_t t = (time_t)second;
    struct tm tm;
    char zone[8];
    if (second == f->second)
        return;
    f->second = second;
    localtime_r(&t, &tm);
    cd_date(f->dates[LOCAL], DATE_SIZE, "%d/%b/%Y:%H:%M:%S", &tm);
    cd_date(f->dates[CLF], DATE_SIZE, "[%d/%b/%Y:%H:%M:%S %z]", &tm);
    cd_date(zone, sizeof zone, "%z", &tm); /* "+0100", where RFC 3339 wants "+01:00" */
    size_t n = cd_date(f->dates[ISO], DATE_SIZE - 8, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(f->dates[ISO] + n, DATE_SIZE - n, "%.3s:%.2s", zone, zone + 3);
}

/* ---- atoms ---- */

static const char *verb(enum cd_action action)
{
    switch (action) {
    case CD_CONNECTING:
        return "WSCONNECTING";
    case CD_CONNECTED:
        return "WSCONNECT";
    case CD_REJECTED:
        return "WSREJECT";
    case CD_DISCONNECTED:
        return "WSDISCONNECT";
    case CD_COMPLETE:
        break;
    }
    return NULL;
}

static const char *event(enum cd_action action)
{
    static const char *const names[] = {"complete", "connecting", "connected", "rejected",
                                        "disconnected"};
    return names[action];
}

static cd_str protocol_text(char *to, const cd_head *head)
{
    int n = snprintf(to, TEXT_MOST, "HTTP/%d.%d", head->http_major, head->http_minor);
    return (cd_str){to, (size_t)n};
}

/* Writes "METHOD target", for a WebSocket "WSCONNECT path", with or without the protocol behind
 * it. */
static void put_request(writer *w, const cd_access *access, bool protocol)
{
    char text[TEXT_MOST];
    const char *name = verb(access->action);
    put_escaped(w, name != NULL ? str_of(name) : access->head->method);
    put(w, " ", 1);
    put_escaped(w, name != NULL ? access->head->raw_path : access->head->target);
    if (!protocol)
        return;
    put(w, " ", 1);
    put_escaped(w, protocol_text(text, access->head));
}

static void put_client(writer *w, const cd_log_entry *entry)
{
    char port[16];
    if (entry->client.p == NULL) { /* daphne's word */
        put_text(w, "None");
        return;
    }
    put_escaped(w, entry->client);
    put(w, port, (size_t)snprintf(port, sizeof port, ":%d", entry->client_port));
}

static void put_header(writer *w, const cd_head *head, cd_str name)
{
    for (size_t i = 0; i < head->header_count; i++) {
        const cd_header *header = &head->headers[i];
        if (header->name.n == name.n && memcmp(header->name.p, name.p, name.n) == 0) {
            cd_str value = header->value;
            put_value(w, value.p != NULL ? value : (cd_str){"", 0});
            return;
        }
    }
    put_value(w, (cd_str){NULL, 0});
}

/* Writes a number, or the sign for none. */
static void put_count(writer *w, uint64_t number, bool there)
{
    if (there)
        put_number(w, number);
    else
        put_value(w, (cd_str){NULL, 0});
}

static void put_duration(writer *w, char letter, double seconds)
{
    char text[TEXT_MOST];
    if (letter == 'L')
        put(w, text, (size_t)snprintf(text, sizeof text, "%.6f", seconds));
    else
        put_number(w, (uint64_t)(seconds * (letter == 'T' ? 1 : letter == 'M' ? 1e3 : 1e6)));
}

static void put_result(writer *w, char letter, const cd_access *access)
{
    bool http = access->action == CD_COMPLETE;
    if (letter == 's')
        put_count(w, (uint64_t)access->status, http && access->status > 0);
    else
        put_count(w, access->size, http && (letter == 'B' || access->size > 0));
}

static void put_target(writer *w, char letter, const cd_head *head)
{
    if (letter == 'U')
        put_value(w, head->raw_path);
    else if (letter == 'q' && head->kind == CD_HTTP && head->query.n > 0)
        put_value(w, head->query);
    else
        put_value(w, (cd_str){"", 0});
}

/* Atoms about the connection and the request, not about its result. */
static void put_about(writer *w, char letter, const cd_log_entry *entry)
{
    char text[TEXT_MOST];
    const cd_head *head = entry->access->head;
    bool websocket = head->kind == CD_WEBSOCKET;
    switch (letter) {
    case 'h':
        put_value(w, entry->client);
        return;
    case 'P':
        put_count(w, (uint64_t)entry->client_port, entry->client.p != NULL);
        return;
    case 'm':
        put_value(w, head->method);
        return;
    case 'H':
        put_value(w, protocol_text(text, head));
        return;
    case 'k':
        put_value(w, str_of(websocket ? "websocket" : "http"));
        return;
    case 'e':
        put_value(w, str_of(event(entry->access->action)));
        return;
    case 'S':
        put_value(w, str_of(cd_head_secure(head) ? websocket ? "wss" : "https"
                            : websocket          ? "ws"
                                                 : "http"));
        return;
    case 'p':
        put_number(w, (uint64_t)getpid());
        return;
    default: /* l and u: the server has neither identd nor user names */
        put_value(w, (cd_str){NULL, 0});
    }
}

static void put_atom(writer *w, cd_log_format *f, const piece *atom, const cd_log_entry *entry)
{
    const cd_access *access = entry->access;
    switch (atom->letter) {
    case 0:
        put(w, atom->text, atom->n);
        return;
    case 'i':
        put_header(w, access->head, (cd_str){atom->text, atom->n});
        return;
    case 'a':
        put_header(w, access->head, str_of("user-agent"));
        return;
    case 'f':
        put_header(w, access->head, str_of("referer"));
        return;
    case 'c':
        put_client(w, entry);
        return;
    case 'r':
    case 'R':
        put_request(w, access, atom->letter == 'r');
        return;
    case 's':
    case 'b':
    case 'B':
        put_result(w, atom->letter, access);
        return;
    case 'D':
    case 'L':
    case 'M':
    case 'T':
        put_duration(w, atom->letter, access->duration);
        return;
    case 'U':
    case 'q':
        put_target(w, atom->letter, access->head);
        return;
    case 'd':
        put_value(w, str_of(f->dates[LOCAL]));
        return;
    case 't':
        put_value(w, str_of(f->dates[CLF]));
        return;
    case 'I':
        put_value(w, str_of(f->dates[ISO]));
        return;
    default:
        put_about(w, atom->letter, entry);
    }
}

int cd_log_format_write(cd_log_format *format, cd_buf *out, const cd_log_entry *entry)
{
    writer w = {out, format, false};
    size_t before = cd_buf_length(out);
    make_dates(format, entry->time);
    for (size_t i = 0; i < format->count; i++)
        put_atom(&w, format, &format->pieces[i], entry);
    put(&w, "\n", 1);
    if (w.failed)
        out->end = out->start + before; /* no line is better than half a line */
    return w.failed ? CD_NOMEM : CD_OK;
}
