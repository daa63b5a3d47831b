/* The inside of cd_server: configuration, listeners, and the lists that own connections and
 * streams. */
#ifndef CD_SERVER_H
#define CD_SERVER_H

#include "buf.h"
#include "cdaphne.h"
#include "forwarded.h"
#include "list.h"
#include "log.h"
#include "loop.h"
#include "timer.h"
#include "trust.h"
#include "ws_deflate.h"

struct cd_server {
    cd_loop *loop;
    cd_limits limits;
    const cd_ops *ops; /* the bridge's table, static there */
    void *data;
    char *server_header; /* "server: ...\r\n", ready to send, or NULL */
    size_t server_header_length;
    bool date_header;
    bool http2;         /* spoken to a client that begins with its preface */
    bool http2_upgrade; /* and, without TLS, to one that asks with Upgrade */
    bool draining;
    cd_ws_deflate_pool *deflate; /* NULL: no WebSocket is compressed */
    bool deflate_takeover;
    cd_list listeners, conns, streams;
    cd_list pendings; /* accepted connections whose PROXY header is being read */
    cd_trust trust;
    cd_forwarding forwarding;
    size_t conn_count, stream_count;
    cd_log log;
    cd_job log_end; /* writes the access log at the end of the turn */
    cd_job release_job;
    void **releases; /* tokens that wait for dispatch */
    size_t release_count, release_size;
    size_t release_owed; /* tokens that are out and will come back: releases has room for them */
    cd_job line_job;
    cd_buf lines;  /* log lines that wait for dispatch: level, length, text */
    char date[40]; /* "date: ...\r\n" of date_second */
    int64_t date_second;
};

/* "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", made once a second (RFC 9110, 6.6.1); always 37 bytes.
 */
const char *cd_server_date(cd_server *server);

/* Makes room for the release of one more token: CD_OK or CD_NOMEM. To be called before a token is
 * taken. */
int cd_server_expect_release(cd_server *server);

/* ops.release(token) in the next dispatch; NULL only gives the room back. One call for every
 * cd_server_expect_release. */
void cd_server_release(cd_server *server, void *token);

/* One line through ops.on_log, posted to dispatch. Control characters are escaped. */
void cd_server_log(cd_server *server, enum cd_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Closes the listening sockets (listen.c). */
void cd_server_stop_listening(cd_server *server);

/* How many connections there may be (max_connections, or what the descriptors allow). */
size_t cd_server_max_connections(const cd_server *server);

/* A connection has ended: listeners that stopped at the limit accept again. */
void cd_server_conn_closed(cd_server *server);

#endif
