/* Request targets (RFC 9112, 3.2; RFC 9113, 8.3.1): which bytes are legal, and their parts. */
#ifndef CD_TARGET_H
#define CD_TARGET_H

#include "http/stream.h"

/* Is the target not empty, and free of control bytes, spaces, bytes beyond ASCII and fragments? */
bool cd_target_is_clean(cd_str target);

/*
 * Fills raw_path, query and path of s->head from the part behind the authority: "/path?query", "*",
 * or "" for an absolute target without a path. Returns 0 or CD_NOMEM.
 */
int cd_target_split(cd_stream *s, cd_str rest);

#endif
