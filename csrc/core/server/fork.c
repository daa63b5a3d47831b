/*
 * fork.c - what a forked child does with the servers that it found in its memory; their loops have
 * cd_loop_forsake.
 *
 * A fork duplicates every descriptor, and both processes mean the same socket, the same epoll set,
 * the same eventfd by it. So the child must let go, and in one way only. A duplicate that stays
 * open keeps a peer from seeing the end of its connection and keeps a port in use. Any other way of
 * closing is heard by the peer: shutdown() and close_notify are said on the parent's connection,
 * and a reset destroys it. And epoll_ctl() would take the parent's descriptors out of the parent's
 * set.
 *
 * What is left is memory: requests, buffers, keys. It is never freed, because the child may be in
 * the middle of a callback of it, and because tokens are objects of the parent's application, whose
 * ends are not the child's business. Nothing may be called on it any more.
 *
 * Files that wait in streams of HTTP/2 stay open: a regular file does not mind.
 */
#include "log/log.h"
#include "net/conn.h"
#include "server/listen.h"
#include "server/pending.h"
#include "server/server.h"

void cd_server_forsake(cd_server *server)
{
    cd_listeners_forsake(server);
    cd_pendings_forsake(server);
    cd_list_for (l, &server->conns) {
        cd_conn *c = cd_container(l, cd_conn, link);
        cd_output_forsake(&c->out);
        if (c->transport != NULL && c->transport->ops->forsake != NULL)
            c->transport->ops->forsake(c->transport);
    }
    server->log->fd = -1;
}
