/* Request targets (RFC 9112, 3.2; RFC 9113, 8.3.1): what is legal in one, and its parts. */
#ifndef CD_TARGET_H
#define CD_TARGET_H

#include "http/stream.h"

/* Not empty, no control byte, no space, nothing beyond ASCII, no fragment. */
bool cd_target_is_clean(cd_str target);

/*
 * Fills raw_path, query and path of s->head from what follows the authority: "/path?query", "*", or
 * nothing for an absolute target without a path. 0 or CD_NOMEM.
 */
int cd_target_split(cd_stream *s, cd_str rest);

#endif
