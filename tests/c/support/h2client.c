/*
 * h2client.c - the client of h2client.h.
 *
 * Its memory is malloc's, so cd_alloc_fail_at() hits the server only. Bodies are kept until the
 * session asks for them; what the server sends is gathered per stream and traced in order of
 * streams.
 */
#include "h2client.h"

enum { STREAMS = 256 };

typedef struct {
    text out; /* body still to be sent */
    size_t sent;
    bool open; /* more of it will come */
    bool deferred;
    text events; /* traced by the next pump */
    text body;   /* heard, not yet in events */
    bool has_body;
} stream;

struct h2client {
    rig *rig;
    wire *wire;
    nghttp2_session *session;
    size_t heard; /* bytes of the wire's output */
    size_t seen;  /* of them, in frames that were looked at */
    text raw;     /* waits to be sent behind the session's */
    text events;  /* of the connection */
    stream streams[STREAMS];
    int flags;
    bool told;
};

static stream *of(h2client *c, int32_t id)
{
    return id > 0 && id / 2 < STREAMS ? &c->streams[id / 2] : NULL;
}

static void flush_body(stream *s, int32_t id)
{
    if (!s->has_body)
        return;
    text_format(&s->events, "s%d body ", id);
    text_bytes(&s->events, s->body.p, s->body.n);
    text_add(&s->events, "\n", 1);
    text_free(&s->body);
    s->has_body = false;
}

static int on_begin(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    (void)session;
    stream *s = of(arg, frame->hd.stream_id);
    flush_body(s, frame->hd.stream_id);
    text_format(&s->events, "s%d head", frame->hd.stream_id);
    return 0;
}

static int on_field(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                    size_t name_size, const uint8_t *value, size_t value_size, uint8_t flags,
                    void *arg)
{
    (void)session, (void)flags;
    stream *s = of(arg, frame->hd.stream_id);
    if (name[0] == ':') {
        text_add(&s->events, " ", 1);
        text_escape(&s->events, value, value_size);
        return 0;
    }
    text_add(&s->events, " [", 2);
    text_escape(&s->events, name, name_size);
    text_add(&s->events, ": ", 2);
    text_escape(&s->events, value, value_size);
    text_add(&s->events, "]", 1);
    return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    (void)session;
    h2client *c = arg;
    int32_t id = frame->hd.stream_id;
    stream *s = of(c, id);
    if (frame->hd.type == NGHTTP2_HEADERS)
        text_add(&s->events, "\n", 1);
    if (frame->hd.type == NGHTTP2_RST_STREAM) {
        flush_body(s, id);
        text_format(&s->events, "s%d reset %u\n", id, frame->rst_stream.error_code);
    }
    if ((frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) &&
        (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)) {
        flush_body(s, id);
        text_format(&s->events, "s%d end\n", id);
    }
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *p, size_t n,
                   void *arg)
{
    (void)session, (void)flags;
    stream *s = of(arg, id);
    text_add(&s->body, p, n);
    s->has_body = true;
    return 0;
}

h2client *h2_open_window(rig *r, int flags, uint32_t window)
{
    wire *w = wire_open(r);
    if (w == NULL)
        return NULL;
    h2client *c = calloc(1, sizeof *c);
    nghttp2_session_callbacks *cb;
    nghttp2_option *option;
    nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, window},
                                         {NGHTTP2_SETTINGS_ENABLE_PUSH, 0}};
    nghttp2_session_callbacks_new(&cb);
    nghttp2_option_new(&option);
    nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin);
    nghttp2_session_callbacks_set_on_header_callback(cb, on_field);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
    nghttp2_option_set_no_auto_window_update(option, flags & H2_NO_WINDOW);
    nghttp2_option_set_no_http_messaging(option, 1);
    nghttp2_session_client_new2(&c->session, cb, c, option);
    nghttp2_session_callbacks_del(cb);
    nghttp2_option_del(option);
    nghttp2_submit_settings(c->session, 0, settings, 2);
    c->flags = flags;
    c->rig = r;
    c->wire = w;
    return c;
}

h2client *h2_open(rig *r, int flags)
{
    return h2_open_window(r, flags, 65535);
}

void h2_free(h2client *c)
{
    if (c == NULL)
        return;
    wire_take(c->wire); /* how it was cut into frames depends on the cuts; the trace has it */
    nghttp2_session_del(c->session);
    for (size_t i = 0; i < STREAMS; i++) {
        text_free(&c->streams[i].out);
        text_free(&c->streams[i].events);
        text_free(&c->streams[i].body);
    }
    text_free(&c->raw);
    text_free(&c->events);
    free(c);
}

static ssize_t read_body(nghttp2_session *session, int32_t id, uint8_t *buf, size_t length,
                         uint32_t *flags, nghttp2_data_source *source, void *arg)
{
    (void)session, (void)source;
    stream *s = of(arg, id);
    size_t left = s->out.n - s->sent, n = left < length ? left : length;
    if (n == 0 && s->open) {
        s->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    if (n > 0)
        memcpy(buf, s->out.p + s->sent, n);
    s->sent += n;
    if (s->sent == s->out.n && !s->open)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)n;
}

enum { FIELDS = 1100 };

/* "a: b| c: d"; a colon in front belongs to the name. */
static size_t parse(const char *p, nghttp2_nv *fields)
{
    size_t count = 0;
    while (*p != '\0' && count < FIELDS) {
        while (*p == ' ')
            p++;
        size_t n = strcspn(p, "|");
        const char *colon = memchr(p + 1, ':', n - 1);
        const char *value = colon == NULL ? p + n : colon + 1;
        while (*value == ' ')
            value++;
        size_t name = colon == NULL ? n : (size_t)(colon - p);
        fields[count++] = (nghttp2_nv){(uint8_t *)p, (uint8_t *)value, name,
                                       (size_t)(p + n - value), NGHTTP2_NV_FLAG_NONE};
        p += n + (p[n] == '|');
    }
    return count;
}

static void take_all(h2client *c, text *t)
{
    const uint8_t *p;
    ssize_t n;
    while ((n = nghttp2_session_mem_send(c->session, &p)) > 0)
        text_add(t, p, (size_t)n);
}

static int32_t submit(h2client *c, nghttp2_nv *fields, size_t count, const char *body)
{
    nghttp2_data_provider provider = {{0}, read_body};
    int32_t id = nghttp2_submit_request(c->session, NULL, fields, count,
                                        body == NULL ? NULL : &provider, NULL);
    stream *s = of(c, id);
    if (body != NULL && s != NULL) {
        text_add(&s->out, body, strlen(body));
        s->open = *body == '\0';
    }
    return id;
}

int32_t h2_request(h2client *c, const char *method, const char *path, const char *headers,
                   const char *body)
{
    text t = {0};
    text_format(&t, ":method: %s| :scheme: http| :path: %s| :authority: a%s%s", method, path,
                *headers ? "| " : "", headers);
    nghttp2_nv fields[FIELDS];
    int32_t id = c == NULL ? 0 : submit(c, fields, parse(t.p, fields), body);
    text_free(&t);
    return id;
}

int32_t h2_fields(h2client *c, const char *list, bool end)
{
    nghttp2_nv fields[FIELDS];
    return c == NULL ? 0 : submit(c, fields, parse(list, fields), end ? NULL : "");
}

h2client *h2_upgrade(rig *r, const char *request, bool eager)
{
    static const char answer[] =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    h2client *c = h2_open(r, 0);
    if (c == NULL)
        return NULL;
    text t = {0};
    nghttp2_session_upgrade2(c->session, NULL, 0, strncmp(request, "HEAD", 4) == 0, NULL);
    text_add(&t, request, strlen(request));
    if (eager)
        take_all(c, &t);
    wire_feed(c->wire, t.p, t.n);
    text_free(&t);
    if (strncmp(wire_output(c->wire), answer, sizeof answer - 1) == 0)
        c->heard = c->seen = sizeof answer - 1;
    else
        text_format(&c->events, "no 101\n");
    return c;
}

void h2_body(h2client *c, int32_t id, const void *p, size_t n, bool last)
{
    stream *s = c == NULL ? NULL : of(c, id);
    if (s == NULL)
        return;
    text_add(&s->out, p, n);
    s->open = !last;
    if (s->deferred)
        nghttp2_session_resume_data(c->session, id);
    s->deferred = false;
}

void h2_reset(h2client *c, int32_t id, uint32_t code)
{
    if (c != NULL)
        nghttp2_submit_rst_stream(c->session, 0, id, code);
}

static bool send_all(h2client *c)
{
    text t = {0};
    take_all(c, &t);
    text_add(&t, c->raw.p, c->raw.n);
    text_free(&c->raw);
    bool any = t.n > 0;
    if (any && !c->wire->closed)
        wire_feed(c->wire, t.p, t.n);
    text_free(&t);
    return any;
}

/* From the bytes, because a session that was made to look wrong hears nothing any more. */
static void look_for_goaway(h2client *c)
{
    const uint8_t *p = (const uint8_t *)c->wire->output.p;
    while (c->wire->output.n - c->seen >= 9) {
        const uint8_t *f = p + c->seen;
        size_t n = 9 + ((size_t)f[0] << 16 | (size_t)f[1] << 8 | f[2]);
        if (c->wire->output.n - c->seen < n)
            return;
        if (f[3] == NGHTTP2_GOAWAY && (f[9] & 0x7f) == 0x7f)
            text_format(&c->events, "goaway soon\n");
        else if (f[3] == NGHTTP2_GOAWAY)
            text_format(&c->events, "goaway %u\n", f[16]);
        c->seen += n;
    }
}

static bool hear(h2client *c)
{
    size_t n = c->wire->output.n - c->heard;
    if (n == 0)
        return false;
    const uint8_t *p = (const uint8_t *)c->wire->output.p + c->heard;
    c->heard += n;
    look_for_goaway(c);
    if (!(c->flags & H2_DEAF))
        nghttp2_session_mem_recv(c->session, p, n);
    return true;
}

void h2_raw(h2client *c, const void *p, size_t n)
{
    if (c != NULL)
        text_add(&c->raw, p, n);
}

void h2_frame(h2client *c, int type, int flags, int32_t id, const void *payload, size_t n)
{
    uint8_t head[9] = {(uint8_t)(n >> 16),  (uint8_t)(n >> 8),  (uint8_t)n,
                       (uint8_t)type,       (uint8_t)flags,     (uint8_t)(id >> 24),
                       (uint8_t)(id >> 16), (uint8_t)(id >> 8), (uint8_t)id};
    h2_raw(c, head, sizeof head);
    h2_raw(c, payload, n);
}

void h2_pump(h2client *c)
{
    if (c == NULL)
        return;
    bool sent, heard;
    do {
        sent = send_all(c);
        heard = hear(c);
    } while (sent || heard);
    for (int32_t i = 0; i < STREAMS; i++) {
        stream *s = &c->streams[i];
        flush_body(s, 2 * i + 1);
        text_add(&c->rig->trace, s->events.p, s->events.n);
        text_free(&s->events);
    }
    text_add(&c->rig->trace, c->events.p, c->events.n);
    text_free(&c->events);
    if ((c->wire->closed || c->wire->fin) && !c->told) {
        text_format(&c->rig->trace, "%s\n", c->wire->was_reset ? "cut" : "closed");
        c->told = true;
    }
}

nghttp2_session *h2_session(h2client *c)
{
    return c->session;
}

wire *h2_wire(h2client *c)
{
    return c->wire;
}
