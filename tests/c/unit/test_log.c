/*
 * log_format.c and log.c: templates, what peers may write into a line, and a shortage of memory.
 *
 * Every byte value goes through every format; a line must come out as one line of printable ASCII,
 * and no quote of a peer's may stand where one would end a field.
 */
#include "harness.h"
#include "log/log.h"

static const cd_addr peer = {5, "192.0.2.1"};

/* A request whose target and headers have all the bytes. */
static cd_access request(cd_head *head, cd_header *headers, char *bytes)
{
    for (int i = 0; i < 256; i++)
        bytes[i] = (char)i;
    headers[0] = (cd_header){{"user-agent", 10}, {bytes, 256}};
    headers[1] = (cd_header){{"x", 1}, {bytes, 256}};
    *head = (cd_head){.http_major = 1,
                      .http_minor = 1,
                      .method = {"GET", 3},
                      .target = {bytes, 256},
                      .raw_path = {bytes, 256},
                      .query = {bytes, 256},
                      .headers = headers,
                      .header_count = 2,
                      .client = &peer,
                      .server = &peer};
    return (cd_access){.action = CD_COMPLETE, .head = head, .status = 200, .size = 7};
}

static size_t count(const cd_buf *b, char wanted)
{
    size_t n = 0;
    for (size_t i = 0; i < cd_buf_length(b); i++)
        n += cd_buf_data(b)[i] == (unsigned char)wanted;
    return n;
}

static void check_line(const char *form, size_t quotes)
{
    char bytes[256];
    cd_head head;
    cd_header headers[2];
    cd_access access = request(&head, headers, bytes);
    cd_log_entry entry = {.access = &access, .client = {bytes, 256}, .client_port = 5};
    cd_log_format *format = cd_log_format_new(form, NULL, 0);
    cd_buf out;
    cd_buf_init(&out);
    CHECK(format != NULL);
    CHECK_INT(cd_log_format_write(format, &out, &entry), CD_OK);
    CHECK_INT(count(&out, '\n'), 1);
    CHECK_INT(count(&out, '"'), quotes);
    for (size_t i = 0; i + 1 < cd_buf_length(&out); i++) {
        if (cd_buf_data(&out)[i] < 0x20 || cd_buf_data(&out)[i] > 0x7e)
            check_that(false, __FILE__, __LINE__, "%s: byte %d at %zu", form, cd_buf_data(&out)[i],
                       i);
    }
    cd_buf_dispose(&out);
    cd_log_format_free(format);
}

static void test_one_line_of_ascii(void)
{
    check_line("combined", 6);
    check_line("json", 2 * (15 + 9)); /* names, and texts; host and referer are null */
    check_line("daphne", 2 + 2);      /* the peer's own, in client and target */
    check_line("%(a)s %({X}i)s %(r)s %(U)s %(q)s %(h)s", 0);
    CHECK_INT(cd_alloc_live(), 0);
}

static void test_bad_templates(void)
{
    static const char *const bad[] = {"",        "text",    "%(z)s",     "%(h)s %", "%(h)d",
                                      "%(h",     "%(",      "%({x}o)s",  "%({x",    "%({}i)s",
                                      "%x%(h)s", "\n%(h)s", "%({a:b}i)s"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char problem[256] = "";
        CHECK(cd_log_format_new(bad[i], problem, sizeof problem) == NULL);
        check_that(strlen(problem) > 20 && strchr(problem, '\n') == NULL, __FILE__, __LINE__,
                   "%s: %s", bad[i], problem);
        CHECK_INT(cd_access_format_check(bad[i], problem, sizeof problem), CD_VALUE);
    }
    CHECK_INT(cd_alloc_live(), 0);
}

static void test_no_memory_for_a_template(void)
{
    char problem[256];
    for (long n = 1; n <= 2; n++) {
        cd_alloc_fail_at(n);
        CHECK_INT(cd_access_format_check("json", problem, sizeof problem), CD_NOMEM);
        cd_alloc_fail_at(0);
    }
    CHECK_INT(cd_access_format_check("json", problem, sizeof problem), CD_OK);
    CHECK_INT(cd_alloc_live(), 0);
}

static void test_no_memory_leaves_no_half_line(void)
{
    char bytes[256];
    cd_head head;
    cd_header headers[2];
    cd_access access = request(&head, headers, bytes);
    cd_log_entry entry = {.access = &access, .client = {"c", 1}};
    cd_log_format *format = cd_log_format_new("json", NULL, 0);
    int code = CD_NOMEM;
    long n = 0;
    while (code == CD_NOMEM && n < 50) {
        cd_buf out;
        cd_buf_init(&out);
        CHECK_INT(cd_buf_append(&out, "before\n", 7), CD_OK);
        cd_alloc_fail_at(++n);
        code = cd_log_format_write(format, &out, &entry);
        cd_alloc_fail_at(0);
        CHECK(code == CD_OK || cd_buf_length(&out) == 7);
        CHECK(memcmp(cd_buf_data(&out), "before\n", 7) == 0);
        cd_buf_dispose(&out);
    }
    CHECK_INT(code, CD_OK);
    CHECK(n > 1);
    cd_log_format_free(format);
    CHECK_INT(cd_alloc_live(), 0);
}

static void test_no_memory_for_a_log(void)
{
    static const char *const prefixes[] = {"/health", "/static", NULL};
    const cd_config config = {.access_fd = -1,
                              .access_log_format = "combined",
                              .access_exclude = prefixes,
                              .access_syslog = "<30>",
                              .access_tag = " t: "};
    cd_log log;
    int code = CD_NOMEM;
    long n = 0;
    while (code == CD_NOMEM && n < 50) {
        cd_alloc_fail_at(++n);
        code = cd_log_init(&log, &config);
        cd_alloc_fail_at(0);
        if (code != CD_OK)
            CHECK_INT(cd_alloc_live(), 0);
    }
    CHECK_INT(n, 8); /* seven allocations */
    CHECK(!cd_log_wants(&log, (cd_str){"/health", 7}));
    CHECK(!cd_log_wants(&log, (cd_str){"/static/x", 9}));
    CHECK(cd_log_wants(&log, (cd_str){"/healt", 6}));
    CHECK(cd_log_wants(&log, (cd_str){NULL, 0}));
    cd_log_dispose(&log);
    CHECK_INT(cd_alloc_live(), 0);
}

int main(void)
{
    test_one_line_of_ascii();
    test_bad_templates();
    test_no_memory_for_a_template();
    test_no_memory_leaves_no_half_line();
    test_no_memory_for_a_log();
    return check_summary();
}
