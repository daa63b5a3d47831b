/*
 * conn.c, stream.c and server.c under a protocol of the test's own: order and ownership of output,
 * back-pressure, the orderly end, stalls.
 */
#include "harness.h"

#include <stdint.h>

static struct {
    int flushed, drained, eofs, resets, timeouts, closes;
    size_t take; /* bytes that input takes at most */
    text input;
} seen;

static size_t on_input(cd_conn *c, const uint8_t *p, size_t n)
{
    (void)c;
    n = n < seen.take ? n : seen.take;
    text_add(&seen.input, p, n);
    seen.take -= seen.take == SIZE_MAX ? 0 : n;
    return n;
}

static void on_eof(cd_conn *c, bool reset)
{
    (void)c;
    seen.eofs++;
    seen.resets += reset;
}

static void on_flushed(cd_conn *c)
{
    (void)c;
    seen.flushed++;
}

static void on_drained(cd_conn *c)
{
    (void)c;
    seen.drained++;
}

static void on_timeout(cd_conn *c)
{
    (void)c;
    seen.timeouts++;
}

static void on_close(cd_conn *c)
{
    (void)c;
    seen.closes++;
}

static const cd_protocol_ops probe = {
    .input = on_input,
    .eof = on_eof,
    .flushed = on_flushed,
    .drained = on_drained,
    .timeout = on_timeout,
    .drain = on_close,
    .close = on_close,
};

/* A wire whose connection speaks the test's protocol. */
static wire *open_probe(rig *r, size_t take)
{
    text_free(&seen.input);
    memset(&seen, 0, sizeof seen);
    seen.take = take;
    wire *w = wire_open(r);
    cd_conn_become(w->transport.conn, &probe, NULL);
    cd_conn_deadline(w->transport.conn, 0);
    return w;
}

static char pinned_bytes[1 << 16];

/* A token as the harness frees it in ops.release: the rig, then the bytes. */
typedef struct {
    rig *rig;
    char bytes[];
} pin;

static int put_pinned(rig *r, cd_conn *c, const char *bytes, size_t n)
{
    pin *p = malloc(sizeof *p + n);
    p->rig = r;
    memcpy(p->bytes, bytes, n);
    r->pinned++;
    return cd_conn_put_chunk(c, (cd_chunk){p->bytes, n, p});
}

static void test_output_keeps_its_order(void)
{
    for (unsigned seed = 1; seed <= 20; seed++) {
        rig *r = rig_new(CUT_WHOLE, seed);
        wire *w = open_probe(r, SIZE_MAX);
        text want = {0};
        srand(seed);
        w->room = 0;
        for (int i = 0; i < 300; i++) {
            size_t n = (size_t)(rand() % 900), at = (size_t)(rand() % 60000);
            int code;
            if (rand() % 3 == 0) {
                code = put_pinned(r, w->transport.conn, pinned_bytes + at, n);
            } else {
                code = cd_conn_put(w->transport.conn, pinned_bytes + at, n);
            }
            CHECK_INT(code, CD_OK);
            text_add(&want, pinned_bytes + at, n);
            if (rand() % 4 == 0)
                wire_room(w, (size_t)(rand() % 3000));
        }
        wire_room(w, SIZE_MAX);
        check_bytes(__FILE__, __LINE__, "output", w->output.p, w->output.n, want.p, want.n);
        CHECK(w->want == CD_READ);
        text_free(&want);
        rig_free(r);
    }
}

static void test_back_pressure(void)
{
    rig *r = rig_new(CUT_WHOLE, 1);
    wire *w = open_probe(r, SIZE_MAX);
    cd_conn *c = w->transport.conn;
    w->room = 0;
    CHECK_INT(cd_conn_put(c, pinned_bytes, 60000), CD_OK);
    CHECK_INT(cd_conn_pressure(c), CD_OK);
    CHECK_INT(cd_conn_put(c, pinned_bytes, 60000), CD_OK);
    CHECK_INT(cd_conn_pressure(c), CD_AGAIN);
    rig_settle(r);
    CHECK_INT(w->want, CD_READ | CD_WRITE);
    wire_room(w, 60000);
    CHECK_INT(seen.drained, 0);
    wire_room(w, 50000);
    CHECK_INT(seen.drained, 1);
    wire_room(w, SIZE_MAX);
    CHECK_INT(seen.drained, 1);
    CHECK_INT(seen.flushed, 1);
    rig_free(r);
}

/* Writes of 64 KiB that make one for a peer which keeps up. */
enum { GATHERED = 8 };

/* What an application's write of 64 KiB, the high-water mark, comes to. */
static int put_piece(cd_conn *c)
{
    CHECK_INT(cd_conn_put(c, pinned_bytes, sizeof pinned_bytes), CD_OK);
    return cd_conn_after_write(c);
}

/* A write above the high-water mark is tried at once, but not for ever: others want their turn. */
static void test_relief(void)
{
    rig *r = rig_new(CUT_WHOLE, 1);
    wire *w = open_probe(r, SIZE_MAX);
    cd_conn *c = w->transport.conn;
    int waits = 0;
    for (int i = 0; i < 48; i++) {
        if (put_piece(c) == CD_AGAIN) {
            waits++;
            rig_settle(r);
            CHECK_INT(seen.drained, waits);
        }
    }
    CHECK_INT(waits, 2); /* 48 * 64 KiB */
    rig_settle(r);
    CHECK_INT(w->output.n, 48 * sizeof pinned_bytes);
    w->room = 0;
    for (int i = 1; i < GATHERED; i++)
        CHECK_INT(put_piece(c), CD_OK);
    CHECK_INT(put_piece(c), CD_AGAIN);
    wire_reset(w);
    rig_free(r);
}

/* Once a peer has taken a lot at once it is given more at once, until it does not take it. */
static void test_gathering(void)
{
    enum { PIECE = sizeof pinned_bytes, USUAL = 17 };
    rig *r = rig_new(CUT_WHOLE, 1);
    wire *w = open_probe(r, SIZE_MAX);
    cd_conn *c = w->transport.conn;
    for (int i = 1; i < USUAL; i++) {
        CHECK_INT(put_piece(c), CD_OK);
        CHECK_INT(w->output.n, i * PIECE);
    }
    CHECK_INT(put_piece(c), CD_AGAIN);
    rig_settle(r);
    CHECK_INT(w->output.n, USUAL * PIECE);
    for (int i = 1; i < GATHERED; i++) {
        CHECK_INT(put_piece(c), CD_OK);
        CHECK_INT(w->output.n, USUAL * PIECE);
    }
    CHECK_INT(put_piece(c), CD_OK);
    CHECK_INT(w->output.n, (USUAL + GATHERED) * PIECE);
    w->room = 0;
    for (int i = 1; i < GATHERED; i++)
        CHECK_INT(put_piece(c), CD_OK);
    CHECK_INT(put_piece(c), CD_AGAIN);
    wire_room(w, SIZE_MAX);
    CHECK_INT(seen.drained, 2);
    CHECK_INT(w->output.n, (USUAL + 2 * GATHERED) * PIECE);
    CHECK_INT(put_piece(c), CD_OK);
    CHECK_INT(w->output.n, (USUAL + 2 * GATHERED + 1) * PIECE);
    rig_free(r);
}

static void test_input_that_is_left_is_offered_again(void)
{
    rig *r = rig_new(CUT_WHOLE, 1);
    wire *w = open_probe(r, 3);
    wire_text(w, "abcdef");
    CHECK_STR(seen.input.p, "abc");
    wire_text(w, "ghi"); /* not offered: the protocol did not ask */
    CHECK_STR(seen.input.p, "abc");
    seen.take = 4;
    cd_conn_resume(w->transport.conn);
    rig_settle(r);
    CHECK_STR(seen.input.p, "abcdefg");
    seen.take = SIZE_MAX;
    cd_conn_resume_later(w->transport.conn);
    rig_settle(r);
    CHECK_STR(seen.input.p, "abcdefghi");
    wire_text(w, "j");
    CHECK_STR(seen.input.p, "abcdefghij");
    rig_free(r);
}

static void test_read_ahead_is_bounded(void)
{
    rig *r = rig_new(CUT_WHOLE, 1);
    wire *w = open_probe(r, 0);
    for (int i = 0; i < 10; i++)
        wire_feed(w, pinned_bytes, 8000);
    CHECK_INT(w->want & CD_READ, 0);
    CHECK(cd_buf_length(&w->transport.conn->in) <= CD_SCRATCH_SIZE + 16384);
    seen.take = SIZE_MAX;
    cd_conn_resume(w->transport.conn);
    rig_settle(r);
    CHECK_INT(seen.input.n, 80000);
    CHECK_INT(w->want & CD_READ, CD_READ);
    rig_free(r);
}

static void test_close_writes_first_and_lingers(void)
{
    rig *r = rig_new(CUT_WHOLE, 1);
    wire *w = open_probe(r, SIZE_MAX);
    w->room = 2;
    cd_conn_put(w->transport.conn, "abcd", 4);
    cd_conn_close(w->transport.conn, true);
    rig_settle(r);
    CHECK(!w->fin && !w->closed);
    wire_room(w, SIZE_MAX);
    CHECK_STR(wire_output(w), "abcd");
    CHECK(w->fin && !w->closed);
    wire_text(w, "too late");
    CHECK(seen.input.n == 0 && !w->closed);
    wire_eof(w);
    CHECK(w->closed && !w->was_reset);
    CHECK_INT(seen.closes, 1);
    rig_free(r);
}

static void test_linger_ends_by_itself(void)
{
    rig *r = rig_new(CUT_WHOLE, 1);
    wire *w = open_probe(r, SIZE_MAX);
    cd_conn_close(w->transport.conn, true);
    rig_settle(r);
    rig_advance(r, 1.9);
    CHECK(!w->closed);
    rig_advance(r, 0.2);
    CHECK(w->closed && !w->was_reset);
    rig_free(r);
}

/* The peer still sends: its silence counts, and no more than so much. */
static wire *linger_open(rig *r)
{
    wire *w = open_probe(r, SIZE_MAX);
    cd_conn_close(w->transport.conn, true);
    rig_settle(r);
    for (int i = 0; i < 10 && !w->closed; i++) {
        rig_advance(r, 1.5);
        wire_feed(w, pinned_bytes, 10000);
    }
    return w;
}

static void test_linger_goes_on(void)
{
    rig *r = rig_new(CUT_WHOLE, 1);
    wire *w = linger_open(r);
    CHECK(!w->closed && seen.input.n == 0);
    rig_advance(r, 2.1);
    CHECK(w->closed && !w->was_reset);
    rig_free(r);
}

static void test_linger_is_bounded(void)
{
    cd_config config = {.access_fd = -1};
    config.limits = cd_config_default.limits;
    config.limits.linger_total = 4;
    rig_configure(&config);
    rig *r = rig_new(CUT_WHOLE, 1);
    CHECK(linger_open(r)->closed);
    rig_free(r);
    config.limits = cd_config_default.limits;
    config.limits.linger_size = 50000;
    rig_configure(&config);
    r = rig_new(CUT_WHOLE, 1);
    CHECK(linger_open(r)->closed);
    rig_free(r);
    rig_configure(NULL);
}

static void test_abort_releases_at_once(void)
{
    rig *r = rig_new(CUT_WHOLE, 1);
    wire *w = open_probe(r, SIZE_MAX);
    w->room = 0;
    CHECK_INT(put_pinned(r, w->transport.conn, pinned_bytes, 10000), CD_OK);
    rig_settle(r);
    cd_conn_abort(w->transport.conn);
    rig_settle(r);
    CHECK(w->closed && w->was_reset);
    CHECK_INT(r->pinned, 0);
    CHECK_INT(cd_server_connections(r->server), 0);
    rig_free(r);
}

static void test_end_of_file_and_reset_are_told(void)
{
    rig *r = rig_new(CUT_WHOLE, 1);
    wire *w = open_probe(r, SIZE_MAX);
    wire_eof(w);
    CHECK_INT(seen.eofs, 1);
    CHECK_INT(seen.resets, 0);
    CHECK_INT(w->want & CD_READ, 0);
    w = open_probe(r, SIZE_MAX);
    wire_reset(w);
    CHECK_INT(seen.eofs, 1);
    CHECK_INT(seen.resets, 1);
    rig_free(r);
}

/* A peer that takes a trickle is cut, one that keeps up write_min_rate is not. */
static void test_write_stall(void)
{
    rig *r = rig_new(CUT_WHOLE, 1);
    wire *slow = open_probe(r, SIZE_MAX), *steady = wire_open(r);
    cd_conn_become(steady->transport.conn, &probe, NULL);
    cd_conn_deadline(steady->transport.conn, 0);
    slow->room = steady->room = 0;
    cd_conn_put(slow->transport.conn, pinned_bytes, 60000);
    cd_conn_put(steady->transport.conn, pinned_bytes, 60000);
    for (int i = 0; i < 14; i++) {
        rig_advance(r, 5);
        wire_room(slow, 100);
        wire_room(steady, 2000);
    }
    CHECK(slow->closed && slow->was_reset);
    CHECK(!steady->closed);
    rig_free(r);
}

static void test_deadline(void)
{
    rig *r = rig_new(CUT_WHOLE, 1);
    wire *w = open_probe(r, SIZE_MAX);
    cd_conn_deadline(w->transport.conn, 5);
    rig_advance(r, 4);
    cd_conn_deadline(w->transport.conn, 5);
    rig_advance(r, 4);
    CHECK_INT(seen.timeouts, 0);
    rig_advance(r, 1.1);
    CHECK_INT(seen.timeouts, 1);
    rig_advance(r, 100);
    CHECK_INT(seen.timeouts, 1);
    rig_free(r);
}

static void test_date_is_one_header_line(void)
{
    rig *r = rig_new(CUT_WHOLE, 1);
    const char *date = cd_date_header(&r->server->date);
    CHECK_INT(strlen(date), 37);
    CHECK(strncmp(date, "date: ", 6) == 0 && strcmp(date + 31, " GMT\r\n") == 0);
    CHECK(cd_date_header(&r->server->date) == date);
    rig_free(r);
}

int main(void)
{
    for (size_t i = 0; i < sizeof pinned_bytes; i++)
        pinned_bytes[i] = (char)(i * 7 + i / 251);
    test_output_keeps_its_order();
    test_back_pressure();
    test_relief();
    test_gathering();
    test_input_that_is_left_is_offered_again();
    test_read_ahead_is_bounded();
    test_close_writes_first_and_lingers();
    test_linger_ends_by_itself();
    test_linger_goes_on();
    test_linger_is_bounded();
    test_abort_releases_at_once();
    test_end_of_file_and_reset_are_told();
    test_write_stall();
    test_deadline();
    test_date_is_one_header_line();
    text_free(&seen.input);
    return check_summary();
}
