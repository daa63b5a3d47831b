/* The server as its connections and streams see it. server.c makes and ends it. */
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
    const cd_ops *ops;                            /* the bridge's table, static there */
    void *data;                                   /* the bridge's */
    const struct cd_protocol_ops *first_protocol; /* what a new connection speaks */
    void (*conn_closed)(cd_server *server);       /* one of conn_count has ended */

    char *server_header; /* "server: ...\r\n", ready to send, or NULL */
    size_t server_header_length;
    cd_date_line date;
    bool date_header;
    bool http2;         /* spoken to a client that begins with its preface */
    bool http2_upgrade; /* and, without TLS, to one that asks with Upgrade */
    bool draining;
    bool crowded; /* the log has that max_connections was reached */

    struct cd_log *log; /* the access log */
    cd_job log_end;     /* writes it at the end of the turn */
    struct cd_trust *trust;
    struct cd_forwarding *forwarding;
    struct cd_ws_deflate_pool *deflate; /* NULL: no WebSocket is compressed */
    bool deflate_takeover;

    cd_list listeners, conns, streams;
    cd_list pendings; /* accepted connections whose PROXY header is being read */
    size_t conn_count, stream_count;

    /* What goes up to the bridge in the next dispatch (upcalls.c). */
    cd_job release_job;
    void **releases; /* tokens */
    size_t release_count, release_size;
    size_t release_owed; /* tokens that are out and will come back: releases has room for them */
    cd_job line_job;
    cd_buf lines; /* log lines: level, length, text */
};

#endif
