/* Header fields: syntax checks, and the questions that framing asks (RFC 9110, 5; RFC 9112, 6). */
#ifndef CD_HEADER_H
#define CD_HEADER_H

#include "cdaphne.h"

/* Case-insensitive equality with a lower-case literal. */
bool cd_str_is(cd_str s, const char *lower);
/* Case-insensitive equality. */
bool cd_str_same(cd_str a, cd_str b);
/* ASCII letters to lower case, in place. */
void cd_str_lower(char *p, size_t n);
/* Is the lower-case token in a comma-separated list? (RFC 9110, 5.6.1) */
bool cd_str_has_token(cd_str list, const char *lower);
/* Without SP and HTAB at both ends. */
cd_str cd_str_trim(cd_str s);
/* Takes the next element of a comma-separated list off *list, trimmed; false when there is none
 * left. Empty elements are skipped. */
bool cd_str_next_element(cd_str *list, cd_str *element);
/* 1*DIGIT into *value: CD_OK, or CD_FRAMING (also on overflow). */
int cd_str_number(cd_str s, uint64_t *value);

bool cd_is_token(cd_str s);
/* No control bytes but HTAB (RFC 9110, 5.5); what daphne refuses too: 0x0b 0x0c 0x1c-0x1e are
 * controls. 0x80-0xff pass. */
bool cd_is_field_value(cd_str s);
/* Host of RFC 9112, 3.2: uri-host [":" port], not empty: no http or https target has an empty
 * authority. */
bool cd_is_host(cd_str s);

/* Does any header of that name list the token? */
bool cd_header_lists(const cd_header *headers, size_t n, const char *lower_name,
                     const char *lower_token);

/* The first header of that name, NULL if none; *count gets how many there are (may be NULL). */
const cd_header *cd_header_find(const cd_header *headers, size_t n, const char *lower,
                                size_t *count);

/* Percent-decodes into `to` (room for s.n bytes) and returns the length; a bad escape stays as it
 * is. */
size_t cd_percent_decode(char *to, cd_str s);

#endif
