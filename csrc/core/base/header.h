/* Header fields: syntax checks, and the questions that framing asks (RFC 9110, 5; RFC 9112, 6). */
#ifndef CD_HEADER_H
#define CD_HEADER_H

#include "cdaphne.h"

/* Comparison byte by byte. */
static inline bool cd_str_equal(cd_str a, cd_str b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

/* Case-insensitive comparison with a lower-case literal. */
bool cd_str_is(cd_str s, const char *lower);
/* Case-insensitive comparison. */
bool cd_str_same(cd_str a, cd_str b);
/* Changes ASCII letters to lower case in place. */
void cd_str_lower(char *p, size_t n);
/* Does the comma-separated list contain this token, given in lower case? (RFC 9110, 5.6.1) */
bool cd_str_has_token(cd_str list, const char *lower);
/* Returns the text without spaces and tabs at both ends. */
cd_str cd_str_trim(cd_str s);
/* Takes the next element off a comma-separated list and trims it. Empty elements are skipped.
 * False: there are no more. */
bool cd_str_next_element(cd_str *list, cd_str *element);
/* Reads a decimal number, which must be digits only, into *value. Returns CD_OK, or CD_FRAMING for
 * anything else and on overflow. */
int cd_str_number(cd_str s, uint64_t *value);

bool cd_is_token(cd_str s);
/* Is this a legal field value (RFC 9110, 5.5): no control bytes but HTAB? That refuses all that
 * daphne refuses (0x0b, 0x0c and 0x1c to 0x1e are controls). 0x80 to 0xff are allowed. */
bool cd_is_field_value(cd_str s);
/* Is this a legal value of Host (RFC 9112, 3.2): uri-host [":" port]? It must not be empty, because
 * no http or https target has an empty authority. */
bool cd_is_host(cd_str s);

/* Does any header with this name list the token? */
bool cd_header_lists(const cd_header *headers, size_t n, const char *lower_name,
                     const char *lower_token);

/* Returns the first header with this name, or NULL. *count, which may be NULL, is set to the number
 * of such headers. */
const cd_header *cd_header_find(const cd_header *headers, size_t n, const char *lower,
                                size_t *count);

/* Percent-decodes s into `to`, which needs room for s.n bytes, and returns the length. An invalid
 * escape is copied as it is. */
size_t cd_percent_decode(char *to, cd_str s);

#endif
