/* What the core tells the bridge from any phase: log lines, and tokens to release. Both wait until
 * the dispatch phase. */
#ifndef CD_UPCALLS_H
#define CD_UPCALLS_H

#include "net/server_state.h"

#include <stdarg.h>

/* Call init before all other functions here, and dispose after the last dispatch. */
void cd_upcalls_init(cd_server *server);
void cd_upcalls_dispose(cd_server *server);

/* Makes room for the release of one more token, so that cd_server_release cannot fail. Must be
 * called before a token is taken. Returns CD_OK or CD_NOMEM. */
int cd_server_reserve_release(cd_server *server);

/* Calls ops.release(token) in the next dispatch; NULL only gives the room back. It must be called
 * once for every reservation. */
void cd_server_release(cd_server *server, void *token);

/* Sends one line to ops.on_log in the next dispatch. Control characters are escaped. */
void cd_server_log(cd_server *server, enum cd_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same with a va_list, and with the data of the stream that the line is about, or NULL. The
 * data must stay valid until the line is told: cd_server_tell_lines. */
void cd_server_put_line(cd_server *server, void *data, enum cd_level level, const char *format,
                        va_list args);

/* Tells the lines that wait, at once. Only in dispatch. */
void cd_server_tell_lines(cd_server *server);

#endif
