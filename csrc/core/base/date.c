/*
 * date.c - strftime for what other programs parse.
 *
 * Applications call setlocale(), and from then on strftime speaks their language: a Date header of
 * "Mo, 23 Nov 2026" is no date (RFC 9110, 5.6.7), and names of other lengths break whoever counts
 * its bytes. So the names of days and months come from the C locale here, by way of strftime_l.
 * glibc and macOS have that locale built in: getting and giving it back costs nothing, and no
 * state is kept.
 *
 * A response needs a Date header, and all responses of one second have the same: it is made once a
 * second and kept in a cd_date_line.
 */
#include "base/date.h"

#include <locale.h>

size_t cd_date(char *to, size_t size, const char *format, const struct tm *tm)
{
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (c == (locale_t)0)
        return 0;
    size_t n = strftime_l(to, size, format, tm, c);
    freelocale(c);
    return n;
}

const char *cd_date_header(cd_date_line *line)
{
    time_t now = time(NULL);
    if (line->second != (int64_t)now) {
        struct tm tm;
        gmtime_r(&now, &tm);
        cd_date(line->text, sizeof line->text, "date: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm);
        line->second = (int64_t)now;
    }
    return line->text;
}
