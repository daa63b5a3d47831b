/* Dates for protocols and logs. They are in English, whatever the application's locale is. */
#ifndef CD_DATE_H
#define CD_DATE_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* Formats like strftime in the C locale. Returns the length, or 0 when the text did not fit. */
size_t cd_date(char *to, size_t size, const char *format, const struct tm *tm)
    __attribute__((format(strftime, 3, 0)));

/* The Date header of one second. It must start as all zero bytes. */
typedef struct {
    int64_t second;
    char text[40];
} cd_date_line;

/* Returns "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n" for the current second (RFC 9110, 6.6.1), which
 * is always 37 bytes long. The text is made once a second and is valid until the next call. */
const char *cd_date_header(cd_date_line *line);

#endif
