/*
 * escape.c - how bytes of a peer stand in a line of a log.
 *
 * A path, a header or a reason may hold any byte. In a log it must not end the line, move a
 * terminal's cursor or pass for a line of ours. So everything that is not printable ASCII is
 * written as \xNN, and the backslash twice, so that the original can be read back.
 *
 * The formats of the access log have rules of their own for quotes and JSON; they are in
 * log_format.c and use the functions here.
 */
#include "base/escape.h"

#include <string.h>

size_t cd_escape_byte(char *to, unsigned char byte)
{
    static const char hex[] = "0123456789abcdef";
    memcpy(to, "\\x", 2);
    to[2] = hex[byte >> 4];
    to[3] = hex[byte & 15];
    return 4;
}

size_t cd_escape(char *to, const char *text, size_t n)
{
    char *p = to;
    for (size_t i = 0; i < n; i++) {
        unsigned char byte = (unsigned char)text[i];
        if (byte == '\\')
            *p++ = '\\';
        if (byte >= 0x20 && byte < 0x7f)
            *p++ = (char)byte;
        else
            p += cd_escape_byte(p, byte);
    }
    return (size_t)(p - to);
}
