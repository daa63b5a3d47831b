/* The server as its connections and streams see it. server.c makes and frees it. */
#ifndef CD_SERVER_STATE_H
#define CD_SERVER_STATE_H

#include "base/buf.h"
#include "base/date.h"
#include "base/list.h"
#include "cdaphne.h"
#include "loop/loop.h"

struct cd_server {
    cd_loop *loop;
    cd_limits limits;
    const cd_ops *ops; /* the bridge's callbacks, a static table */
    void *data;        /* the argument of the bridge's callbacks */
    /* the protocol that a new connection begins with */
    const struct cd_protocol_ops *first_protocol;
    /* called when a connection that counts in conn_count has ended */
    void (*conn_closed)(cd_server *server);

    char *server_header; /* "server: ...\r\n", ready to send, or NULL */
    size_t server_header_length;
    cd_date_line date;
#define CD_FLAG(name, ...) bool name; /* as in cd_config */
#include "options.def"
    bool draining;
    bool full_logged; /* the log already says that max_connections was reached */

    struct cd_log *log; /* the access log */
    cd_job log_end;     /* writes the log at the end of the turn */
    struct cd_trust *trust;
    struct cd_forwarding *forwarding;
    struct cd_ws_deflate_pool *deflate; /* NULL: no WebSocket messages are compressed */

    cd_list listeners, conns, streams;
    cd_list pendings; /* accepted connections whose PROXY header is being read */
    size_t conn_count, stream_count;

    /* What the bridge is told in the next dispatch (upcalls.c). */
    cd_job release_job;
    void **releases; /* tokens */
    size_t release_count, release_size;
    size_t releases_reserved; /* tokens that will be released later: `releases` has room for them */
    cd_job line_job;
    cd_buf lines; /* log lines, each stored as level, length and text */
};

#endif
