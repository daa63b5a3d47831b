/*
 * date.c - strftime for what other programs parse.
 *
 * Applications call setlocale(), and from then on strftime speaks their language: a Date header of
 * "Mo, 23 Nov 2026" is no date (RFC 9110, 5.6.7), and names of other lengths break whoever counts
 * its bytes. So the names of days and months come from the C locale here, by way of strftime_l.
 * glibc and macOS have that locale built in: getting and giving it back costs nothing, and no
 * state is kept.
 *
 * Which second it is, and how often a date is made anew, is the business of the callers.
 */
#include "date.h"

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
