/*
 * buf.c, arena.c, list.h and log.c: the pieces that know nothing of connections.
 *
 * The byte queue is compared with a plain array under a long random series of appends and consumes;
 * the access log is read back from a pipe.
 */
#include "base/arena.h"
#include "base/buf.h"
#include "base/escape.h"
#include "harness.h"
#include "log/log.h"

#include <fcntl.h>
#include <stdint.h>
#include <unistd.h>

static void test_buf_is_a_queue(void)
{
    static uint8_t model[1 << 20];
    size_t head = 0, tail = 0;
    cd_buf b;
    cd_buf_init(&b);
    srand(7);
    for (int i = 0; i < 4000; i++) {
        size_t n = (size_t)(rand() % 700);
        if (rand() % 2 && tail + n < sizeof model) {
            for (size_t j = 0; j < n; j++)
                model[tail + j] = (uint8_t)rand();
            CHECK_INT(cd_buf_append(&b, model + tail, n), CD_OK);
            tail += n;
        } else if (tail > head) {
            n = n < tail - head ? n : tail - head;
            cd_buf_consume(&b, n);
            head += n;
        }
        if (cd_buf_length(&b) != tail - head ||
            (tail > head && memcmp(cd_buf_data(&b), model + head, tail - head) != 0)) {
            check_that(false, __FILE__, __LINE__, "queue differs from the model in step %d", i);
            break;
        }
    }
    cd_buf_dispose(&b);
    CHECK_INT(cd_alloc_live(), 0);
}

static void test_buf_gives_its_block_back(void)
{
    cd_buf b;
    cd_buf_init(&b);
    CHECK_INT(cd_buf_append(&b, "abc", 3), CD_OK);
    cd_buf_consume(&b, 2);
    CHECK(b.block != NULL);
    cd_buf_consume(&b, 1);
    CHECK(b.block == NULL);
    CHECK_INT(cd_alloc_live(), 0);
}

static void test_buf_survives_no_memory(void)
{
    cd_buf b;
    cd_buf_init(&b);
    cd_alloc_fail_at(1);
    CHECK(cd_buf_reserve(&b, 10) == NULL);
    cd_alloc_fail_at(0);
    CHECK_INT(cd_buf_append(&b, "abc", 3), CD_OK);
    cd_alloc_fail_at(1);
    CHECK_INT(cd_buf_append(&b, (char[4096]){0}, 4096), CD_NOMEM);
    cd_alloc_fail_at(0);
    CHECK(cd_buf_length(&b) == 3 && memcmp(cd_buf_data(&b), "abc", 3) == 0);
    CHECK(cd_buf_reserve(&b, SIZE_MAX / 2) == NULL);
    cd_buf_dispose(&b);
}

static void test_arena_aligns_and_frees_all(void)
{
    cd_arena a;
    cd_arena_init(&a);
    for (size_t n = 0; n < 5000; n += 97) {
        unsigned char *p = cd_arena_alloc(&a, n);
        CHECK(p != NULL && (uintptr_t)p % _Alignof(max_align_t) == 0);
        if (p != NULL)
            memset(p, 0xee, n);
    }
    CHECK(cd_arena_alloc(&a, SIZE_MAX - 8) == NULL);
    cd_arena_dispose(&a);
    CHECK_INT(cd_alloc_live(), 0);
}

static void test_list_moves(void)
{
    cd_list from, to, nodes[3];
    cd_list_init(&from);
    cd_list_init(&to);
    for (int i = 0; i < 3; i++)
        cd_list_append(i < 1 ? &to : &from, &nodes[i]);
    cd_list_move(&to, &from);
    CHECK(cd_list_empty(&from));
    CHECK(to.next == &nodes[0] && to.next->next == &nodes[1] && to.prev == &nodes[2]);
    cd_list_remove(&nodes[1]);
    cd_list_remove(&nodes[1]);
    CHECK(nodes[0].next == &nodes[2] && cd_list_empty(&nodes[1]));
}

static void test_escape(void)
{
    static const char in[] = "/a\r\n\x1b[31m\\\x7f\x85"
                             "z";
    char out[4 * sizeof in];
    size_t n = cd_escape(out, in, sizeof in - 1);
    static const char want[] = "/a\\x0d\\x0a\\x1b[31m\\\\\\x7f\\x85z";
    check_bytes(__FILE__, __LINE__, "escaped", out, n, want, sizeof want - 1);
}

static cd_head head_of(const cd_addr *client)
{
    static const char target[] = "/a?b=\n", path[] = "/a";
    return (cd_head){.method = {"GET", 3},
                     .target = {target, sizeof target - 1},
                     .raw_path = {path, sizeof path - 1},
                     .client = client};
}

/* One line for each access, with the time cut out. */
static void log_lines(text *got, const cd_access *accesses, int count)
{
    int ends[2];
    char raw[4096];
    CHECK(pipe(ends) == 0);
    cd_log log;
    CHECK_INT(cd_log_init(&log, &(cd_config){.access_fd = ends[1]}), CD_OK);
    for (int i = 0; i < count; i++)
        cd_log_access(&log, &accesses[i]);
    cd_log_flush(&log);
    ssize_t n = read(ends[0], raw, sizeof raw - 1);
    raw[n > 0 ? n : 0] = '\0';
    for (char *p = raw; *p != '\0'; p++) {
        if (*p == '[' && p[1] >= '0' && p[1] <= '3' && strchr(p, ']') != NULL)
            p = strchr(p, ']');
        text_add(got, p, 1);
    }
    cd_log_dispose(&log);
    close(ends[0]);
    close(ends[1]);
}

static void test_access_log_is_daphnes(void)
{
    cd_addr client = {5000, "127.0.0.1"}, six = {5001, "::1"}, unix_peer = {-1, ""};
    cd_head a = head_of(&client), b = head_of(&six), c = head_of(&unix_peer);
    const cd_access accesses[] = {
        {.action = CD_COMPLETE, .head = &a, .status = 200, .size = 1234},
        {.action = CD_COMPLETE, .head = &b, .status = 204},
        {.action = CD_CONNECTING, .head = &a},
        {.action = CD_CONNECTED, .head = &a},
        {.action = CD_REJECTED, .head = &c},
        {.action = CD_DISCONNECTED, .head = &a},
    };
    text got = {0};
    log_lines(&got, accesses, 6);
    CHECK_STR(got.p, "127.0.0.1:5000 - - ] \"GET /a?b=\\x0a\" 200 1234\n"
                     "::1:5001 - - ] \"GET /a?b=\\x0a\" 204 -\n"
                     "127.0.0.1:5000 - - ] \"WSCONNECTING /a\" - -\n"
                     "127.0.0.1:5000 - - ] \"WSCONNECT /a\" - -\n"
                     "None - - ] \"WSREJECT /a\" - -\n"
                     "127.0.0.1:5000 - - ] \"WSDISCONNECT /a\" - -\n");
    text_free(&got);
}

static void test_full_log_never_blocks(void)
{
    int ends[2];
    static char sink[4096];
    CHECK(pipe2(ends, O_NONBLOCK) == 0);
    cd_addr client = {5000, "127.0.0.1"};
    cd_head head = head_of(&client);
    cd_access access = {.action = CD_COMPLETE, .head = &head, .status = 200};
    cd_log log;
    CHECK_INT(cd_log_init(&log, &(cd_config){.access_fd = ends[1]}), CD_OK);
    for (int i = 0; i < 40000; i++) {
        cd_log_access(&log, &access);
        if (i % 64 == 0)
            cd_log_flush(&log);
    }
    CHECK(log.dropped > 0);
    CHECK(cd_buf_length(&log.pending) < 3u << 20);
    while (log.dropped > 0 && read(ends[0], sink, sizeof sink) > 0)
        cd_log_flush(&log);
    CHECK_INT(log.dropped, 0);
    cd_log_dispose(&log);
    close(ends[0]);
    close(ends[1]);
    CHECK_INT(cd_alloc_live(), 0);
}

static void test_closed_log_is_dropped(void)
{
    cd_addr client = {5000, "127.0.0.1"};
    cd_head head = head_of(&client);
    cd_access access = {.action = CD_COMPLETE, .head = &head, .status = 200};
    cd_log log;
    CHECK_INT(cd_log_init(&log, &(cd_config){.access_fd = 1 << 20}),
              CD_OK); /* no such descriptor */
    cd_log_access(&log, &access);
    cd_log_flush(&log);
    CHECK_INT(cd_buf_length(&log.pending), 0);
    cd_log_dispose(&log);
}

int main(void)
{
    test_buf_is_a_queue();
    test_buf_gives_its_block_back();
    test_buf_survives_no_memory();
    test_arena_aligns_and_frees_all();
    test_list_moves();
    test_escape();
    test_access_log_is_daphnes();
    test_full_log_never_blocks();
    test_closed_log_is_dropped();
    return check_summary();
}
