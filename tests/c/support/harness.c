/*
 * harness.c - the rig of harness.h: memory transports, scripted applications, virtual time, and the
 * three ways of a case.
 *
 * Loop, server, connections and streams are the real ones; only the two ends are made up. A wire
 * stands for the socket: it hands out what the test fed, in cuts, from inside the loop's poll phase
 * (an ev_check watcher), so the phases are those of production. An application runs from the
 * callbacks, as the bridge's would, and never from poll: a callback in the wrong phase is a
 * failure.
 *
 * Time: libev and the core ask clock_gettime(), which is ours here and adds an offset to the
 * monotonic clock. Nothing sleeps.
 *
 * Own memory comes from malloc directly, so that cd_alloc_fail_at() only hits the core.
 */
#include "harness.h"

#include <dirent.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { RANDOM_RUNS = 6, SWEEP_MAX = 5000 };

/* ---- virtual time ---- */

static long clock_offset_ms, wall_offset_s;

int clock_gettime(clockid_t id, struct timespec *ts)
{
    int rc = (int)syscall(SYS_clock_gettime, id, ts);
    if (id != CLOCK_MONOTONIC) { /* libFuzzer measures its units by the wall clock */
        ts->tv_sec += wall_offset_s;
        return rc;
    }
    ts->tv_sec += clock_offset_ms / 1000;
    ts->tv_nsec += clock_offset_ms % 1000 * 1000000;
    if (ts->tv_nsec >= 1000000000) {
        ts->tv_nsec -= 1000000000;
        ts->tv_sec++;
    }
    return rc;
}

/* ---- growing text ---- */

static void *must(void *p)
{
    if (p == NULL)
        abort();
    return p;
}

void text_add(text *t, const void *p, size_t n)
{
    if (t->size < t->n + n + 1) {
        t->size = (t->n + n + 1) * 2;
        t->p = must(realloc(t->p, t->size));
    }
    if (n > 0)
        memcpy(t->p + t->n, p, n);
    t->n += n;
    t->p[t->n] = '\0';
}

void text_format(text *t, const char *fmt, ...)
{
    char line[4096];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    text_add(t, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
}

void text_escape(text *t, const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    text_add(t, "", 0);
    for (size_t i = 0; i < n; i++) {
        char seq[8];
        if (p[i] == '\r' || p[i] == '\n' || p[i] == '\\')
            snprintf(seq, sizeof seq, "\\%c", p[i] == '\r' ? 'r' : p[i] == '\n' ? 'n' : '\\');
        else
            snprintf(seq, sizeof seq, p[i] >= 0x20 && p[i] < 0x7f ? "%c" : "\\x%02x", p[i]);
        text_add(t, seq, strlen(seq));
    }
}

void text_free(text *t)
{
    free(t->p);
    *t = (text){0};
}

/* Bytes of any length: short ones as they are, long ones as length and FNV-1a hash. */
void text_bytes(text *t, const char *p, size_t n)
{
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ (unsigned char)p[i]) * 1099511628211u;
    if (n <= 200)
        text_escape(t, p, n);
    else
        text_format(t, "(%zu bytes, %016llx)", n, (unsigned long long)hash);
}

/* ---- counting ---- */

static int passed, failed;
static const char *current = "";

bool check_that(bool ok, const char *file, int line, const char *fmt, ...)
{
    if (ok) {
        passed++;
        return true;
    }
    failed++;
    fprintf(stderr, "%s:%d: %s: ", file, line, current);
    va_list args;
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fputc('\n', stderr);
    return false;
}

bool check_bytes(const char *file, int line, const char *what, const void *got, size_t got_size,
                 const void *want, size_t want_size)
{
    bool same = got_size == want_size && (got_size == 0 || memcmp(got, want, got_size) == 0);
    if (same)
        return check_that(true, file, line, "%s", what);
    text a = {0}, b = {0};
    text_escape(&a, got, got_size);
    text_escape(&b, want, want_size);
    check_that(false, file, line, "%s\n   is: %s\n want: %s", what, a.p, b.p);
    text_free(&a);
    text_free(&b);
    return false;
}

int check_failures(void)
{
    return failed;
}

int check_summary(void)
{
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}

/* ---- wires ---- */

static unsigned next_random(rig *r)
{
    r->seed ^= r->seed << 13;
    r->seed ^= r->seed >> 17;
    r->seed ^= r->seed << 5;
    return r->seed;
}

static wire *of(cd_transport *t)
{
    return cd_container(t, wire, transport);
}

static ssize_t wire_read(cd_transport *t, void *p, size_t n)
{
    wire *w = of(t);
    size_t left = w->input.n - w->input_start;
    if (w->reset_by_peer)
        return CD_GONE;
    if (w->reads == 0)
        return CD_AGAIN;
    if (left == 0)
        return w->eof ? 0 : CD_AGAIN;
    w->reads--;
    if (n > left)
        n = left;
    if (w->rig->cut == CUT_BYTES)
        n = 1;
    else if (w->rig->cut == CUT_RANDOM)
        n = 1 + next_random(w->rig) % n;
    memcpy(p, w->input.p + w->input_start, n);
    w->input_start += n;
    return (ssize_t)n;
}

static ssize_t wire_writev(cd_transport *t, const struct iovec *iov, int count)
{
    wire *w = of(t);
    size_t taken = 0, room = w->room;
    if (w->reset_by_peer)
        return CD_GONE;
    if (w->rig->cut == CUT_RANDOM && room > 0 && next_random(w->rig) % 2 == 0)
        room = 1 + next_random(w->rig) % (room < 1000 ? room : 1000);
    for (int i = 0; i < count && room > 0; i++) {
        size_t n = iov[i].iov_len < room ? iov[i].iov_len : room;
        text_add(&w->output, iov[i].iov_base, n);
        taken += n;
        room -= n;
    }
    if (w->room != SIZE_MAX)
        w->room -= taken;
    return taken > 0 ? (ssize_t)taken : CD_AGAIN;
}

/* As the kernel's; byte by byte it leaves the reading to the connection. */
static ssize_t wire_sendfile(cd_transport *t, int fd, uint64_t offset, size_t n)
{
    wire *w = of(t);
    if (w->rig->cut == CUT_BYTES)
        return CD_SYSTEM;
    char *bytes = must(malloc(n));
    ssize_t got = pread(fd, bytes, n, (off_t)offset);
    struct iovec iov = {bytes, got > 0 ? (size_t)got : 0};
    if (got > 0)
        got = t->ops->writev(t, &iov, 1);
    free(bytes);
    return got;
}

static void wire_want(cd_transport *t, int events)
{
    of(t)->want = events;
}

static bool wire_broken(cd_transport *t)
{
    return of(t)->reset_by_peer;
}

static void wire_shutdown(cd_transport *t)
{
    of(t)->fin = true;
}

static void wire_close(cd_transport *t, bool reset)
{
    of(t)->closed = true;
    of(t)->was_reset = reset;
    of(t)->want = 0;
}

static const cd_transport_ops wire_ops = {
    .read = wire_read,
    .writev = wire_writev,
    .sendfile = wire_sendfile,
    .want = wire_want,
    .broken = wire_broken,
    .shutdown = wire_shutdown,
    .close = wire_close,
};

/* A transport like TLS without the kernel's help. */
static const cd_transport_ops plain_wire_ops = {
    .read = wire_read,
    .writev = wire_writev,
    .want = wire_want,
    .broken = wire_broken,
    .shutdown = wire_shutdown,
    .close = wire_close,
};

wire *wire_open(rig *r)
{
    static const cd_addr client = {40000, "192.0.2.7"}, local = {80, "192.0.2.1"};
    wire *w = must(calloc(1, sizeof *w));
    w->transport.ops = r->cut == CUT_RANDOM && r->seed % 2 == 0 ? &plain_wire_ops : &wire_ops;
    w->rig = r;
    w->room = SIZE_MAX;
    w->next = r->wires;
    r->wires = w;
    if (cd_conn_open(r->server, &w->transport, &client, &local) == NULL) {
        w->closed = true;
        return NULL;
    }
    rig_settle(r);
    return w;
}

void wire_feed(wire *w, const void *p, size_t n)
{
    if (w == NULL)
        return;
    text_add(&w->input, p, n);
    rig_settle(w->rig);
}

void wire_text(wire *w, const char *string)
{
    wire_feed(w, string, strlen(string));
}

void wire_eof(wire *w)
{
    if (w == NULL)
        return;
    w->eof = true;
    rig_settle(w->rig);
}

void wire_reset(wire *w)
{
    if (w == NULL)
        return;
    w->reset_by_peer = true;
    rig_settle(w->rig);
}

void wire_room(wire *w, size_t n)
{
    if (w == NULL)
        return;
    w->room = n;
    rig_settle(w->rig);
}

const char *wire_output(const wire *w)
{
    return w != NULL && w->output.p != NULL ? w->output.p : "";
}

void wire_take(wire *w)
{
    if (w != NULL)
        text_free(&w->output);
}

static int wire_events(const wire *w)
{
    int events = 0;
    if (w->closed)
        return 0;
    if (w->reset_by_peer)
        return w->want;
    if ((w->want & CD_READ) && (w->input_start < w->input.n || w->eof))
        events |= CD_READ;
    if ((w->want & CD_WRITE) && w->room > 0)
        events |= CD_WRITE;
    return events;
}

/* ---- applications ---- */

struct app {
    rig *rig;
    app *next;
    int id;
    cd_stream *stream;
    const char *pc; /* the operation that is under way */
    bool finished, blocked, at_go;
    text body; /* pieces of the body that were not traced yet */
    bool has_body;
};

typedef struct {
    char name[16];
    const char *args, *end; /* args up to end, which is ';' or NUL */
} op;

enum { DONE, WAIT, MOVED /* pc is where it should be */ };

static const char *code_name(int code)
{
    static const char *const names[] = {"OK",   "AGAIN", "NOMEM",  "GONE",    "ORDER", "LENGTH",
                                        "NAME", "VALUE", "STATUS", "FRAMING", "SYSTEM"};
    return names[-code];
}

static void flush_body(app *a)
{
    if (!a->has_body)
        return;
    text_format(&a->rig->trace, "%d body ", a->id);
    text_bytes(&a->rig->trace, a->body.p, a->body.n);
    text_add(&a->rig->trace, "\n", 1);
    text_free(&a->body);
    a->has_body = false;
}

static void trace(app *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void trace(app *a, const char *fmt, ...)
{
    char line[2048];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    flush_body(a);
    text_format(&a->rig->trace, "%d %s\n", a->id, line);
}

static void trace_text(app *a, const char *what, cd_str s)
{
    flush_body(a);
    text_format(&a->rig->trace, "%d %s", a->id, what);
    text_add(&a->rig->trace, " ", s.n > 0);
    text_bytes(&a->rig->trace, s.p, s.n);
    text_add(&a->rig->trace, "\n", 1);
}

static void trace_code(app *a, const char *what, int code)
{
    if (code != CD_OK && code != CD_AGAIN)
        trace(a, "%s -> %s", what, code_name(code));
}

static void trace_event(app *a, const cd_event *e)
{
    switch (e->kind) {
    case CD_EVENT_REQUEST:
        text_add(&a->body, e->data.p, e->data.n);
        a->has_body = true;
        if (!e->more)
            trace(a, "end");
        break;
    case CD_EVENT_CONNECT:
        trace(a, "connect");
        break;
    case CD_EVENT_TEXT:
        trace_text(a, "text", e->data);
        break;
    case CD_EVENT_BYTES:
        trace_text(a, "bytes", e->data);
        break;
    case CD_EVENT_DISCONNECT:
        if (a->stream->head.kind == CD_HTTP) {
            trace(a, "disconnect");
        } else {
            char what[32];
            snprintf(what, sizeof what, "disconnect %d", e->code);
            trace_text(a, what, e->data);
        }
    }
}

static bool take(app *a, cd_event *e)
{
    bool got = cd_stream_next(a->stream, e);
    if (got)
        trace_event(a, e);
    return got;
}

static void unescape(text *t, const char *p, const char *end)
{
    text_add(t, "", 0);
    for (; p < end; p++) {
        char c = *p;
        if (c == '\\' && p + 1 < end) {
            c = *++p;
            if (c == 'r' || c == 'n')
                c = c == 'r' ? '\r' : '\n';
            else if (c == 'x' && p + 2 < end) {
                char hex[3] = {p[1], p[2], 0};
                c = (char)strtol(hex, NULL, 16);
                p += 2;
            }
        }
        text_add(t, &c, 1);
    }
}

typedef struct {
    rig *rig;
    char bytes[];
} pin;

static void unpin(pin *p)
{
    p->rig->pinned--;
    /* The bytes must have been left alone until now; from here on ASan watches. */
    free(p);
}

static int wrote(app *a, const char *what, int rc)
{
    trace_code(a, what, rc);
    a->blocked = rc == CD_AGAIN;
    return rc;
}

static pin *make_pin(rig *r, size_t n)
{
    pin *p = must(malloc(sizeof *p + n));
    p->rig = r;
    r->pinned++;
    for (size_t i = 0; i < n; i++)
        p->bytes[i] = (char)('a' + i % 26);
    return p;
}

static void do_pin(app *a, const op *o, bool more)
{
    size_t n = strtoul(o->args, NULL, 10);
    pin *p = make_pin(a->rig, n);
    int rc = wrote(a, o->name, cd_stream_write(a->stream, (cd_chunk){p->bytes, n, p}, more));
    if (rc != CD_OK && rc != CD_AGAIN)
        unpin(p);
}

static void do_write(app *a, const op *o, bool more)
{
    text t = {0};
    unescape(&t, o->args, o->end);
    wrote(a, o->name, cd_stream_write(a->stream, (cd_chunk){t.p, t.n, NULL}, more));
    text_free(&t);
}

static void do_ws_send(app *a, const op *o, bool is_text)
{
    text t = {0};
    if (is_text) {
        unescape(&t, o->args, o->end);
        wrote(a, o->name, cd_ws_send(a->stream, true, (cd_chunk){t.p, t.n, NULL}));
        text_free(&t);
        return;
    }
    size_t n = strtoul(o->args, NULL, 10);
    pin *p = make_pin(a->rig, n);
    int rc = wrote(a, o->name, cd_ws_send(a->stream, false, (cd_chunk){p->bytes, n, p}));
    if (rc != CD_OK && rc != CD_AGAIN)
        unpin(p);
}

/* "a: b| c: d" into headers whose bytes are in t; names and values are unescaped. */
static size_t parse_headers(const char *p, const char *end, text *t, cd_header *headers)
{
    size_t count = 0, offsets[64];
    text_add(t, "", 0);
    while (p < end && count < 16) {
        while (p < end && *p == ' ')
            p++;
        const char *bar = memchr(p, '|', (size_t)(end - p));
        const char *stop = bar ? bar : end;
        const char *colon = memchr(p, ':', (size_t)(stop - p));
        const char *value = colon ? colon + 1 : stop;
        while (value < stop && *value == ' ')
            value++;
        offsets[count * 2] = t->n;
        unescape(t, p, colon ? colon : stop);
        offsets[count * 2 + 1] = t->n;
        unescape(t, value, stop);
        count++;
        p = bar ? bar + 1 : end;
    }
    for (size_t i = 0; i < count; i++) {
        size_t next = i + 1 < count ? offsets[i * 2 + 2] : t->n;
        headers[i].name = (cd_str){t->p + offsets[i * 2], offsets[i * 2 + 1] - offsets[i * 2]};
        headers[i].value = (cd_str){t->p + offsets[i * 2 + 1], next - offsets[i * 2 + 1]};
    }
    return count;
}

static int bad_header(app *a, const cd_header *headers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int rc = cd_header_check(&headers[i]);
        if (rc != CD_OK) {
            trace_code(a, "header", rc);
            return rc;
        }
    }
    return CD_OK;
}

static void do_start(app *a, const op *o)
{
    cd_header headers[16];
    text t = {0};
    char *rest;
    int status = (int)strtol(o->args, &rest, 10);
    size_t count = parse_headers(rest, o->end, &t, headers);
    if (bad_header(a, headers, count) == CD_OK)
        trace_code(a, "start", cd_stream_start(a->stream, status, headers, count));
    text_free(&t);
}

static void do_accept(app *a, const op *o)
{
    cd_header headers[16];
    text t = {0};
    const char *bar = memchr(o->args, '|', (size_t)(o->end - o->args));
    const char *stop = bar ? bar : o->end;
    size_t count = parse_headers(bar ? bar + 1 : stop, o->end, &t, headers);
    cd_str subprotocol = {o->args, (size_t)(stop - o->args)};
    if (bad_header(a, headers, count) == CD_OK)
        trace_code(a, "accept", cd_ws_accept(a->stream, subprotocol, headers, count));
    text_free(&t);
}

static void do_close(app *a, const op *o)
{
    char *rest;
    text t = {0};
    int code = (int)strtol(o->args, &rest, 10);
    unescape(&t, *rest == ' ' ? rest + 1 : rest, o->end);
    trace_code(a, "close", cd_ws_close(a->stream, code, (cd_str){t.p, t.n}));
    text_free(&t);
}

static void do_hint(app *a, const op *o)
{
    cd_header fields[16]; /* of a link without colons, the name */
    cd_str links[16];
    text t = {0};
    size_t count = parse_headers(o->args, o->end, &t, fields);
    for (size_t i = 0; i < count; i++)
        links[i] = fields[i].name;
    wrote(a, "hint", cd_stream_hint(a->stream, links, count));
    text_free(&t);
}

static void do_trailers(app *a, const op *o, bool more)
{
    cd_header trailers[16];
    text t = {0};
    size_t count = parse_headers(o->args, o->end, &t, trailers);
    int code = CD_OK;
    for (size_t i = 0; i < count && code == CD_OK; i++)
        code = cd_trailer_check(&trailers[i]);
    if (code == CD_OK)
        code = cd_stream_trailers(a->stream, trailers, count, more);
    wrote(a, o->name, code);
    text_free(&t);
}

static void resize_file(rig *r, size_t size)
{
    char *bytes = must(malloc(size + 1));
    for (size_t i = 0; i < size; i++)
        bytes[i] = (char)('a' + i % 26);
    if (r->file < 0)
        r->file = memfd_create("rig", MFD_CLOEXEC);
    CHECK(r->file >= 0 && ftruncate(r->file, (off_t)size) == 0 &&
          pwrite(r->file, bytes, size, 0) == (ssize_t)size);
    free(bytes);
}

static void do_file(app *a, const op *o, bool more)
{
    char *rest;
    rig *r = a->rig;
    uint64_t offset = strtoul(o->args, &rest, 10);
    uint64_t count = strtoul(rest, NULL, 10);
    if (r->file < 0)
        resize_file(r, RIG_FILE_SIZE);
    int fd = dup(r->file);
    int rc = wrote(a, o->name, cd_stream_file(a->stream, fd, offset, count, more));
    if (rc != CD_OK && rc != CD_AGAIN)
        CHECK(close(fd) == 0);
}

static int do_pull(app *a, const op *o)
{
    cd_event e;
    while (take(a, &e)) {
        bool last = e.kind == CD_EVENT_DISCONNECT;
        if (strcmp(o->name, "body") == 0)
            last = last || (e.kind == CD_EVENT_REQUEST && !e.more);
        if (last || strcmp(o->name, "pull") == 0)
            return DONE;
    }
    return WAIT;
}

static int do_echo(app *a)
{
    cd_event e;
    while (!a->blocked) {
        if (!take(a, &e))
            return WAIT;
        if (e.kind == CD_EVENT_DISCONNECT)
            return DONE;
        cd_chunk chunk = {e.data.p, e.data.n, NULL};
        wrote(a, "echo", cd_stream_write(a->stream, chunk, e.more));
        if (!e.more)
            return DONE;
    }
    return WAIT;
}

static int do_wsecho(app *a)
{
    cd_event e;
    while (!a->blocked) {
        if (!take(a, &e))
            return WAIT;
        if (e.kind == CD_EVENT_DISCONNECT)
            return DONE;
        cd_chunk chunk = {e.data.p, e.data.n, NULL};
        if (e.kind == CD_EVENT_CONNECT)
            trace_code(a, "accept", cd_ws_accept(a->stream, (cd_str){"", 0}, NULL, 0));
        else
            wrote(a, "wsecho", cd_ws_send(a->stream, e.kind == CD_EVENT_TEXT, chunk));
    }
    return WAIT;
}

/* What the turn brings may run this application, too: it has asked for more. */
static int do_inside(app *a, const op *o)
{
    cd_event e;
    a->pc = o->end;
    take(a, &e);
    for (wire *w = a->rig->wires; w != NULL; w = w->next)
        w->eof = true;
    rig_turn(a->rig);
    return MOVED;
}

static void finish(app *a, bool failing)
{
    flush_body(a);
    a->finished = true;
    cd_stream_finish(a->stream, failing);
}

static bool is(const op *o, const char *name)
{
    return strcmp(o->name, name) == 0;
}

static int perform(app *a, const op *o)
{
    if (is(o, "pull") || is(o, "body") || is(o, "leave"))
        return do_pull(a, o);
    if (is(o, "echo"))
        return do_echo(a);
    if (is(o, "wsecho"))
        return do_wsecho(a);
    if (is(o, "inside"))
        return do_inside(a, o);
    if (is(o, "go")) {
        a->at_go = true;
        return WAIT;
    }
    if (is(o, "start"))
        do_start(a, o);
    else if (is(o, "write") || is(o, "last"))
        do_write(a, o, is(o, "write"));
    else if (is(o, "pin") || is(o, "lastpin"))
        do_pin(a, o, is(o, "pin"));
    else if (is(o, "file") || is(o, "lastfile"))
        do_file(a, o, is(o, "file"));
    else if (is(o, "size"))
        resize_file(a->rig, strtoul(o->args, NULL, 10));
    else if (is(o, "hint"))
        do_hint(a, o);
    else if (is(o, "announce"))
        trace_code(a, "announce", cd_stream_announce(a->stream));
    else if (is(o, "trailers") || is(o, "lasttrailers"))
        do_trailers(a, o, is(o, "trailers"));
    else if (is(o, "text") || is(o, "bytes"))
        do_ws_send(a, o, is(o, "text"));
    else if (is(o, "accept"))
        do_accept(a, o);
    else if (is(o, "close"))
        do_close(a, o);
    else if (is(o, "abort"))
        cd_stream_abort(a->stream);
    else if (is(o, "fail"))
        finish(a, true);
    else
        check_that(false, __FILE__, __LINE__, "unknown operation %s", o->name);
    return DONE;
}

static bool next_op(app *a, op *o)
{
    size_t n = 0;
    while (*a->pc == ' ' || *a->pc == ';')
        a->pc++;
    const char *p = a->pc;
    while (*p != '\0' && *p != ' ' && *p != ';' && n + 1 < sizeof o->name)
        o->name[n++] = *p++;
    o->name[n] = '\0';
    o->args = *p == ' ' ? p + 1 : p;
    o->end = p + strcspn(p, ";");
    return n > 0;
}

static void run_app(app *a)
{
    op o;
    while (!a->finished && !a->blocked && !a->at_go) {
        if (!next_op(a, &o)) {
            finish(a, false);
            return;
        }
        int result = perform(a, &o);
        if (result == WAIT)
            return;
        if (result == DONE)
            a->pc = o.end;
    }
}

/* ---- the bridge ---- */

static void check_phase(rig *r)
{
    if (r->loop->polling)
        check_that(false, __FILE__, __LINE__, "a callback in the poll phase");
}

static void on_open(void *server, cd_stream *stream, const cd_head *head)
{
    rig *r = server;
    app *a = must(calloc(1, sizeof *a));
    check_phase(r);
    *a = (app){.rig = r, .next = r->apps, .id = ++r->opened, .stream = stream, .pc = r->script};
    r->apps = a;
    cd_stream_set_data(stream, a);
    flush_body(a);
    text_format(&r->trace, "%d open%s %d.%d ", a->id, head->kind == CD_WEBSOCKET ? " ws" : "",
                head->http_major, head->http_minor);
    text_escape(&r->trace, head->method.p, head->method.n);
    text_add(&r->trace, " ", 1);
    text_escape(&r->trace, head->path.p, head->path.n);
    text_add(&r->trace, "?", head->query.n > 0);
    text_escape(&r->trace, head->query.p, head->query.n);
    for (size_t i = 0; i < head->subprotocol_count; i++) {
        text_add(&r->trace, i ? "," : " ", 1);
        text_escape(&r->trace, head->subprotocols[i].p, head->subprotocols[i].n);
    }
    for (size_t i = 0; i < head->header_count; i++) {
        text_add(&r->trace, " [", 2);
        text_escape(&r->trace, head->headers[i].name.p, head->headers[i].name.n);
        text_add(&r->trace, ": ", 2);
        text_bytes(&r->trace, head->headers[i].value.p, head->headers[i].value.n);
        text_add(&r->trace, "]", 1);
    }
    text_add(&r->trace, "\n", 1);
    run_app(a);
}

static void on_ready(cd_stream *stream, void *data)
{
    app *a = data;
    check_phase(a->rig);
    CHECK(!a->finished);
    CHECK(cd_stream_readable(stream));
    run_app(a);
}

static void on_drain(cd_stream *stream, void *data)
{
    (void)stream;
    app *a = data;
    check_phase(a->rig);
    CHECK(!a->finished);
    a->blocked = false;
    run_app(a);
}

static void on_cancel(cd_stream *stream, void *data, enum cd_cancel why)
{
    (void)stream;
    app *a = data;
    check_phase(a->rig);
    CHECK(!a->finished);
    trace(a, "cancel %s", why == CD_CANCEL_CLIENT_GONE ? "client-gone" : "shutdown");
    finish(a, true);
}

static void on_gone(cd_stream *stream, void *data)
{
    app *a = data, **link;
    check_phase(a->rig);
    CHECK(a->finished);
    CHECK(a->stream == stream);
    trace(a, "gone");
    a->rig->gone++;
    for (link = &a->rig->apps; *link != a; link = &(*link)->next)
        ;
    *link = a->next;
    free(a);
}

static void on_release(void *server, void *token)
{
    rig *r = server;
    check_phase(r);
    r->released++;
    unpin(token);
}

static void on_log(void *server, void *data, enum cd_level level, cd_str line)
{
    (void)data;
    rig *r = server;
    check_phase(r);
    r->logged++;
    if ((int)level < r->level)
        return;
    text_format(&r->trace, "log %d ", (int)level);
    text_escape(&r->trace, line.p, line.n);
    text_add(&r->trace, "\n", 1);
}

static void on_access(void *server, const cd_access *access)
{
    static const char *const names[] = {"complete", "connecting", "connected", "rejected",
                                        "disconnected"};
    rig *r = server;
    text_format(&r->trace, "access %s ", names[access->action]);
    text_bytes(&r->trace, access->head->target.p, access->head->target.n);
    text_format(&r->trace, " %d %llu\n", access->status, (unsigned long long)access->size);
}

static const cd_ops ops = {on_open, on_ready,   on_drain, on_cancel,
                           on_gone, on_release, on_log,   on_access};

/* ---- the rig ---- */

static cd_config configured;
static bool is_configured;

void rig_configure(const cd_config *config)
{
    if (config != NULL) {
        configured = *config;
    } else {
        configured = (cd_config){.access_fd = -1};
        configured.limits = cd_config_default.limits;
    }
    is_configured = true;
}

static void on_check(struct ev_loop *ev, ev_check *watcher, int events)
{
    (void)ev, (void)events;
    rig *r = cd_container(watcher, rig, io);
    for (wire *w = r->wires; w != NULL; w = w->next) {
        int ready = wire_events(w);
        if (ready != 0)
            cd_conn_on_io(w->transport.conn, ready);
    }
}

static size_t count_fds(void)
{
    size_t count = 0;
    DIR *fds = must(opendir("/proc/self/fd"));
    while (readdir(fds) != NULL)
        count++;
    closedir(fds);
    return count;
}

rig *rig_new(enum cut cut, unsigned seed)
{
    rig *r = must(calloc(1, sizeof *r));
    r->file = -1;
    r->fds = count_fds();
    if (!is_configured)
        rig_configure(NULL);
    r->cut = cut;
    r->seed = seed * 2654435761u + 1;
    r->level = CD_WARNING;
    r->script = "";
    r->loop = cd_loop_new();
    if (r->loop != NULL)
        r->server = cd_server_new(r->loop, &configured, &ops, r);
    if (r->server == NULL) {
        cd_loop_free(r->loop);
        free(r);
        return NULL;
    }
    ev_check_init(&r->io, on_check);
    ev_check_start(r->loop->ev, &r->io);
    return r;
}

static void free_wires(rig *r)
{
    while (r->wires != NULL) {
        wire *w = r->wires;
        r->wires = w->next;
        CHECK(w->closed);
        text_free(&w->input);
        text_free(&w->output);
        free(w);
    }
}

void rig_free(rig *r)
{
    if (r == NULL)
        return;
    for (app *a = r->apps; a != NULL; a = a->next)
        if (!a->finished)
            finish(a, true);
    rig_settle(r);
    cd_server_free(r->server);
    free_wires(r);
    ev_check_stop(r->loop->ev, &r->io);
    cd_loop_free(r->loop);
    if (r->file >= 0)
        close(r->file);
    if (r->file >= 0)
        CHECK_INT(count_fds(), r->fds);
    CHECK(r->apps == NULL);
    CHECK_INT(r->gone, r->opened);
    CHECK_INT(r->pinned, 0);
    text_free(&r->trace);
    clock_offset_ms = 0; /* libFuzzer reads the same clock */
    free(r);
}

static unsigned reads_of(rig *r)
{
    return r->cut == CUT_WHOLE ? 1000 : 1;
}

void rig_turn(rig *r)
{
    for (wire *w = r->wires; w != NULL; w = w->next)
        w->reads = reads_of(r);
    cd_loop_poll(r->loop, 0, NULL, NULL, NULL);
    cd_loop_dispatch(r->loop);
    r->turns++;
}

static bool busy(const rig *r)
{
    const cd_loop *loop = r->loop;
    for (const wire *w = r->wires; w != NULL; w = w->next)
        if (wire_events(w) != 0)
            return true;
    return !cd_list_empty(&loop->jobs) || !cd_list_empty(&loop->later) ||
           !cd_list_empty(&loop->flushes) || !cd_list_empty(&loop->ends);
}

/* Turns that are enough for whatever is under way: one per byte in either direction, and some. */
static size_t patience(const rig *r)
{
    size_t n = 10000;
    for (const wire *w = r->wires; w != NULL; w = w->next) {
        n += 4 * (w->input.n - w->input_start);
        if (!w->closed)
            n += 4 * w->transport.conn->out.size;
    }
    return n;
}

void rig_settle(rig *r)
{
    size_t left = patience(r);
    do {
        rig_turn(r);
        if (--left == 0) {
            check_that(false, __FILE__, __LINE__, "the loop spins");
            return;
        }
    } while (busy(r));
}

void rig_advance(rig *r, double seconds)
{
    clock_offset_ms += (long)(seconds * 1000);
    rig_settle(r);
}

void rig_shift_wall_clock(long seconds)
{
    wall_offset_s += seconds;
}

void rig_go(rig *r)
{
    for (app *a = r->apps; a != NULL; a = a->next) {
        if (!a->at_go)
            continue;
        a->at_go = false;
        a->pc += strcspn(a->pc, ";");
        run_app(a);
    }
    rig_settle(r);
}

const char *rig_trace(rig *r)
{
    for (app *a = r->apps; a != NULL; a = a->next)
        flush_body(a);
    return r->trace.p != NULL ? r->trace.p : "";
}

/* ---- cases ---- */

/* Everything that must not depend on the cuts: the trace, and what each peer saw. */
static void picture(rig *r, text *t)
{
    const char *trace_so_far = rig_trace(r);
    text_add(t, trace_so_far, strlen(trace_so_far));
    for (wire *w = r->wires; w != NULL; w = w->next) {
        text_format(t, "wire%s%s%s ", w->fin ? " fin" : "", w->closed ? " closed" : "",
                    w->was_reset ? " reset" : "");
        text_escape(t, wire_output(w), w->output.n);
        text_add(t, "\n", 1);
    }
}

static const wire *first_wire(const rig *r)
{
    const wire *w = r->wires;
    while (w != NULL && w->next != NULL)
        w = w->next;
    return w;
}

static void run_once(scenario *run, const void *arg, enum cut cut, unsigned seed, text *t)
{
    rig *r = rig_new(cut, seed);
    run(r, arg);
    picture(r, t);
    rig_free(r);
}

static void sweep(scenario *run, const void *arg)
{
    long before = cd_alloc_live();
    for (long n = 1; n <= SWEEP_MAX; n++) {
        cd_alloc_fail_at(n);
        rig *r = rig_new(CUT_WHOLE, 1);
        if (r != NULL)
            run(r, arg);
        void *probe = cd_alloc(1); /* works only if the n-th allocation has not come */
        bool reached = probe == NULL;
        cd_free(probe);
        cd_alloc_fail_at(0);
        rig_free(r);
        if (!check_that(cd_alloc_live() == before, __FILE__, __LINE__,
                        "allocation %ld fails: %ld blocks leak", n, cd_alloc_live() - before))
            return;
        if (!reached)
            return;
    }
    check_that(false, __FILE__, __LINE__, "more than %d allocations", SWEEP_MAX);
}

static void check_same(const char *how, const text *got, const text *want)
{
    bool same = got->n == want->n && memcmp(got->p, want->p, got->n) == 0;
    check_that(same, __FILE__, __LINE__, "%s differs\n---- whole\n%s---- %s\n%s", how, want->p, how,
               got->p);
}

void check_scenario(const char *name, scenario *run, const void *arg, const char *want_trace,
                    const void *want_output, size_t want_output_size)
{
    text whole = {0};
    current = name;
    rig *r = rig_new(CUT_WHOLE, 1);
    run(r, arg);
    if (want_trace != NULL)
        CHECK_STR(rig_trace(r), want_trace);
    if (want_output != NULL) {
        const wire *w = first_wire(r);
        check_bytes(__FILE__, __LINE__, "output", wire_output(w), w->output.n, want_output,
                    want_output_size);
    }
    picture(r, &whole);
    rig_free(r);
    for (unsigned i = 0; i <= RANDOM_RUNS; i++) {
        char how[32];
        text cut = {0};
        snprintf(how, sizeof how, i == 0 ? "byte by byte" : "random cut %u", i);
        run_once(run, arg, i == 0 ? CUT_BYTES : CUT_RANDOM, i, &cut);
        check_same(how, &cut, &whole);
        text_free(&cut);
    }
    text_free(&whole);
    sweep(run, arg);
    current = "";
}

static void run_simple(rig *r, const void *arg)
{
    const simple_case *c = arg;
    r->script = c->script;
    wire *w = wire_open(r);
    wire_feed(w, c->input, c->input_size ? c->input_size : strlen(c->input));
    if (c->eof)
        wire_eof(w);
}

void check_simple(const simple_case *c)
{
    size_t n = c->output_size;
    if (n == 0 && c->output != NULL)
        n = strlen(c->output);
    check_scenario(c->name, run_simple, c, c->trace, c->output, n);
}
