/* Tests of header.c: tables of texts and what each predicate says to them. */
#include "base/header.h"
#include "harness.h"

static cd_str str(const char *p)
{
    return (cd_str){p, strlen(p)};
}

static void test_is(void)
{
    CHECK(cd_str_is(str("Host"), "host"));
    CHECK(cd_str_is(str("HOST"), "host"));
    CHECK(!cd_str_is(str("Hos"), "host"));
    CHECK(!cd_str_is(str("Hosts"), "host"));
    CHECK(cd_str_is((cd_str){NULL, 0}, ""));
    CHECK(!cd_str_is((cd_str){NULL, 0}, "a"));
    CHECK(!cd_str_is(str("ho@t"), "ho`t")); /* '@' | 0x20 is '`', yet '@' is no letter */
}

static void test_lists(void)
{
    cd_str list = str(" a,,\tb ,, c,"), element;
    const char *want[] = {"a", "b", "c"};
    for (size_t i = 0; i < 3; i++) {
        CHECK(cd_str_next_element(&list, &element));
        CHECK(cd_str_is(element, want[i]));
    }
    CHECK(!cd_str_next_element(&list, &element));
    CHECK(cd_str_has_token(str("keep-alive, Upgrade"), "upgrade"));
    CHECK(!cd_str_has_token(str("upgraded, up grade"), "upgrade"));
    CHECK(!cd_str_has_token(str(""), "upgrade"));
    CHECK_INT(cd_str_trim(str(" \t ")).n, 0);
}

static void test_number(void)
{
    static const struct {
        const char *text;
        int code;
        uint64_t value;
    } rows[] = {
        {"0", CD_OK, 0},
        {"007", CD_OK, 7},
        {"18446744073709551615", CD_OK, UINT64_MAX},
        {"18446744073709551616", CD_FRAMING, 0},
        {"99999999999999999999999", CD_FRAMING, 0},
        {"", CD_FRAMING, 0},
        {"+1", CD_FRAMING, 0},
        {"-1", CD_FRAMING, 0},
        {"1 ", CD_FRAMING, 0},
        {"0x1", CD_FRAMING, 0},
        {"1_0", CD_FRAMING, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint64_t value = 0;
        CHECK_INT(cd_str_number(str(rows[i].text), &value), rows[i].code);
        if (rows[i].code == CD_OK)
            CHECK(value == rows[i].value);
    }
}

static void test_classes(void)
{
    static const char tchars[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
                                 "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    for (int i = 0; i < 256; i++) {
        char c = (char)i;
        bool is_tchar = i != 0 && strchr(tchars, i) != NULL;
        bool is_control = (i < 0x20 && i != '\t') || i == 0x7f;
        check_that(cd_is_token((cd_str){&c, 1}) == is_tchar, __FILE__, __LINE__, "token 0x%02x", i);
        check_that(cd_is_field_value((cd_str){&c, 1}) != is_control, __FILE__, __LINE__,
                   "value 0x%02x", i);
    }
    /* The same in the middle of words of eight bytes, at every place. */
    for (int i = 0; i < 256 * 17; i++) {
        char bytes[17];
        memset(bytes, 'a', sizeof bytes);
        int c = i / 17;
        bytes[i % 17] = (char)c;
        bool is_control = (c < 0x20 && c != '\t') || c == 0x7f;
        check_that(cd_is_field_value((cd_str){bytes, sizeof bytes}) != is_control, __FILE__,
                   __LINE__, "value 0x%02x at %d", c, i % 17);
    }
    CHECK(!cd_is_token(str("")));
    CHECK(cd_is_field_value(str("")));
}

static void test_check(void)
{
    cd_header good = {str("X-A"), str("b c\xc3\xa9")}, name = {str("X A"), str("b")};
    cd_header empty = {str(""), str("b")}, value = {str("x"), str("a\r\nb: c")};
    CHECK_INT(cd_header_check(&good), CD_OK);
    CHECK_INT(cd_header_check(&name), CD_NAME);
    CHECK_INT(cd_header_check(&empty), CD_NAME);
    CHECK_INT(cd_header_check(&value), CD_VALUE);
}

static void test_host(void)
{
    static const char *const good[] = {
        "a",     "example.com", "example.com:80",   "example.com:",     "127.0.0.1:8000",
        "[::1]", "[::1]:8",     "a_b-c.d~e",        "[::ffff:1.2.3.4]", "xn--bcher-kva",
        "a%20b", "a:65535",     "[fe80::1%eth0]:8", "[fe80::1%25eth0]",
    };
    static const char *const bad[] = {
        "",          "a@b",  "a/b",       "a b", "[::1", "a,b",      "a:b",      ":80",    "a:80:1",
        "a#",        "a?b",  "[::1]a",    "[]",  "[a]",  "a\"b",     "a:65536",  "a\\b",   "[::1%]",
        "[::1%a b]", "[%1]", "b\xc3\xbc", "a%2", "a%zz", "[::1]:8a", "http://a", "[v1.]x",
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        check_that(cd_is_host(str(good[i])), __FILE__, __LINE__, "host %s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        check_that(!cd_is_host(str(bad[i])), __FILE__, __LINE__, "no host %s", bad[i]);
    CHECK(!cd_is_host((cd_str){"a\0b", 3}));
}

static void test_find(void)
{
    cd_header headers[] = {{str("a"), str("1")}, {str("b"), str("2")}, {str("a"), str("3")}};
    size_t count = 99;
    const cd_header *found = cd_header_find(headers, 3, "a", &count);
    CHECK(found == &headers[0]);
    CHECK_INT(count, 2);
    CHECK(cd_header_find(headers, 3, "c", &count) == NULL);
    CHECK_INT(count, 0);
}

static void test_decode(void)
{
    static const struct {
        const char *from, *to;
    } rows[] = {
        {"/a", "/a"},   {"/%41%62", "/Ab"}, {"/%2F%2f", "///"},
        {"%", "%"},     {"%4", "%4"},       {"%4g", "%4g"},
        {"%%41", "%A"}, {"a%20b", "a b"},   {"%e2%82%ac", "\xe2\x82\xac"},
        {"+", "+"},     {"", ""},           {"%41%", "A%"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char to[64];
        size_t n = cd_percent_decode(to, str(rows[i].from));
        to[n] = '\0';
        CHECK_STR(to, rows[i].to);
    }
    char nul[3];
    CHECK_INT(cd_percent_decode(nul, str("%00")), 1);
    CHECK_INT(nul[0], 0);
}

int main(void)
{
    test_is();
    test_lists();
    test_number();
    test_classes();
    test_check();
    test_host();
    test_find();
    test_decode();
    return check_summary();
}
