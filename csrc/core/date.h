/* Dates for protocols and logs: English whatever the application's locale is. */
#ifndef CD_DATE_H
#define CD_DATE_H

#include <stddef.h>
#include <time.h>

/* As strftime in the C locale; returns the length, 0 when it did not fit. */
size_t cd_date(char *to, size_t size, const char *format, const struct tm *tm)
    __attribute__((format(strftime, 3, 0)));

#endif
