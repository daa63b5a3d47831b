/*
 * Fuzzes an HTTP/1 connection. The first byte says what the applications do, whether limits are
 * low, and whether the peer ends with FIN; the second how the input is cut; the rest is what the
 * peer sends.
 *
 * Beside the sanitizers these are checked: nothing is left when the rig is freed; and for
 * applications whose doings do not depend on when the body comes, requests, bodies and responses
 * are the same for every cut of the input. That is the property that smuggling breaks.
 */
#include "harness.h"

enum { COMPARED = 2, SCRIPTS = 18, MOST = 4096, LOW_LIMITS = 0x40, FIN = 0x80 };

static const char *const scripts[SCRIPTS] = {
    "body; start 200; last hello",
    "body; start 200 content-length: 2| connection: close; last ok",
    "start 200; echo",
    "start 200; last hello",
    "start 200; write he; go; body; last llo",
    "go; start 204; last",
    "body; fail",
    "start 200; pin 9000; write x; lastpin 9000; leave",
    "pull; start 200 content-length: 4; write he; last l",
    "leave; start 200",
    "accept; text x; close 1000; start 404; last x",
    "pull; pull; abort; go",
    "start 304 content-length: 7; last",
    "",
    "hint </a>| </b>; pull; start 200; hint </c>; last hello; hint </d>",
    "start 200; announce; write he; last llo; trailers x-a: 1; lasttrailers x-b: 2",
    "start 200; file 0 9000; write x; file 5 3; lastfile 99000 1000",
    "start 200 content-length: 60000; lastfile 7 60000",
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void configure(bool low)
{
    cd_config config = {.access_fd = -1};
    cd_limits *l = &config.limits;
    *l = cd_config_default.limits;
    l->pipeline_depth = 1000;
    if (low) {
        l->max_head_size = 300;
        l->max_target_size = 100;
        l->max_header_count = 8;
        l->max_trailer_size = 40;
        l->max_chunk_extension_size = 30;
        l->max_body_size = 600;
        l->read_ahead_size = 128;
        l->request_buffer_size = 16;
        l->body_high_water = 64;
        l->discard_size = 100;
        l->write_high_water = 256;
        l->write_low_water = 64;
        l->pipeline_depth = 3;
        l->http_timeout = 100;
    }
    rig_configure(&config);
}

/*
 * Two things may depend on the cuts. 100 Continue is not sent when the body was there first. And of
 * a request with two faults either may be found first: so a refusal is one, whatever its status.
 */
static void add_output(text *t, const char *p)
{
    static const char line[] = "HTTP/1.";
    const char *end = strstr(p, "\r\n\r\n");
    for (; strncmp(p, line, sizeof line - 1) == 0 && end != NULL; end = strstr(p, "\r\n\r\n")) {
        char class = p[sizeof "HTTP/1.1 " - 1];
        const char *next = strstr(end, line);
        if (next == NULL)
            next = end + strlen(end);
        if (class >= '4')
            text_format(t, "refused\n");
        else if (class != '1')
            text_add(t, p, (size_t)(next - p));
        p = next;
    }
    text_add(t, p, strlen(p));
}

static void add_trace(text *t, const char *p)
{
    while (*p != '\0') {
        size_t n = strcspn(p, "\n") + 1;
        bool is_refused = n > 9 && strncmp(p, "access ", 7) == 0 &&
                          (memmem(p, n, " 4", 2) != NULL || memmem(p, n, " 5", 2) != NULL);
        if (!is_refused)
            text_add(t, p, n);
        p += n;
    }
}

static void run(const uint8_t *data, size_t size, enum cut cut, text *picture)
{
    rig *r = rig_new(cut, data[1]);
    if (r == NULL)
        abort();
    r->script = scripts[data[0] % SCRIPTS];
    wire *w = wire_open(r);
    wire_feed(w, data + 2, size - 2);
    rig_go(r);
    if (data[0] & FIN)
        wire_eof(w);
    rig_advance(r, 31); /* a head or a body that was not complete */
    add_trace(picture, rig_trace(r));
    add_output(picture, wire_output(w));
    rig_advance(r, 80);
    rig_free(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > MOST)
        return 0;
    configure(data[0] & LOW_LIMITS);
    text whole = {0}, cut = {0};
    run(data, size, CUT_WHOLE, &whole);
    run(data, size, data[1] ? CUT_RANDOM : CUT_BYTES, &cut);
    bool same = whole.n == cut.n && memcmp(whole.p, cut.p, whole.n) == 0;
    if (data[0] % SCRIPTS < COMPARED && !same) {
        fprintf(stderr, "whole:\n%s\ncut:\n%s\n", whole.p, cut.p);
        abort();
    }
    text_free(&whole);
    text_free(&cut);
    if (check_failures() > 0)
        abort();
    return 0;
}
