/* What the core's files tell the bridge from any phase: log lines, and tokens that it may have
 * back. Both wait for dispatch. */
#ifndef CD_UPCALLS_H
#define CD_UPCALLS_H

#include "net/server_state.h"

/* Before the first of them, and after the last dispatch. */
void cd_upcalls_init(cd_server *server);
void cd_upcalls_dispose(cd_server *server);

/* Makes room for the release of one more token: CD_OK or CD_NOMEM. Call it before a token is
 * taken. */
int cd_server_expect_release(cd_server *server);

/* Calls ops.release(token) in the next dispatch; NULL only gives the room back. There is one call
 * for every cd_server_expect_release. */
void cd_server_release(cd_server *server, void *token);

/* Sends one line through ops.on_log in the next dispatch. Control characters are escaped. */
void cd_server_log(cd_server *server, enum cd_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
