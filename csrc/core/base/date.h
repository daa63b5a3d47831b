/* Dates for protocols and logs: English whatever the application's locale is. */
#ifndef CD_DATE_H
#define CD_DATE_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* As strftime in the C locale; returns the length, 0 when it did not fit. */
size_t cd_date(char *to, size_t size, const char *format, const struct tm *tm)
    __attribute__((format(strftime, 3, 0)));

/* The Date header of one second; starts as all zero bytes. */
typedef struct {
    int64_t second;
    char text[40];
} cd_date_line;

/* "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", made once a second (RFC 9110, 6.6.1); always 37 bytes.
 * It is valid until the next call. */
const char *cd_date_header(cd_date_line *line);

#endif
