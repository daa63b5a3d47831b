/* Makes text from outside safe to print in a log line. */
#ifndef CD_ESCAPE_H
#define CD_ESCAPE_H

#include "cdaphne.h"

/*
 * Copies text so that it is one line of printable ASCII: other bytes become \xNN, a backslash
 * becomes \\. Returns bytes written, at most 4 * n; nothing is NUL-terminated.
 */
size_t cd_escape(char *to, const char *text, size_t n);

/* Writes one byte as \xNN and returns 4. */
size_t cd_escape_byte(char *to, unsigned char byte);

/* How many bytes of a peer's text a line of the log shows; the width for "%.*s". */
static inline int cd_log_width(cd_str text)
{
    enum { WIDEST = 200 };
    return text.n < WIDEST ? (int)text.n : WIDEST;
}

#endif
