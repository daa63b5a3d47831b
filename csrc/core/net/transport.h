/*
 * What a connection reads from and writes to: TCP and unix sockets (tcp.c), TLS on them (tls.c),
 * and memory in the tests. The connection owns its transport and ends it with close().
 */
#ifndef CD_TRANSPORT_H
#define CD_TRANSPORT_H

#include "cdaphne.h"

#include <sys/types.h>
#include <sys/uio.h>

typedef struct cd_conn cd_conn;
typedef struct cd_transport cd_transport;

typedef struct {
    /* Bytes read, 0 at end of file, CD_AGAIN for nothing now, CD_GONE for a dead connection. */
    ssize_t (*read)(cd_transport *t, void *p, size_t n);
    /* Bytes taken, CD_AGAIN or CD_GONE. */
    ssize_t (*writev)(cd_transport *t, const struct iovec *iov, int count);
    /*
     * At most n bytes of a file from offset on, without a copy through user space. Bytes taken, 0
     * when the file ends there, CD_AGAIN, CD_GONE, or CD_SYSTEM: this file has to be read instead.
     * NULL: the transport cannot, and every file is read and goes through writev.
     */
    ssize_t (*sendfile)(cd_transport *t, int fd, uint64_t offset, size_t n);
    /* From now on call cd_conn_on_io for these events (CD_READ | CD_WRITE, or 0). */
    void (*want)(cd_transport *t, int events);
    /* Is it known that the peer takes nothing any more? NULL: never, until a write fails. */
    bool (*broken)(cd_transport *t);
    /* Tells the peer that nothing more comes (FIN, close_notify); reading goes on. */
    void (*shutdown)(cd_transport *t);
    /* Ends the connection (`reset`: so that the peer sees an error, not an end) and frees the
     * transport. */
    void (*close)(cd_transport *t, bool reset);
    /* Closes the descriptor and nothing else: no word to the peer, no change of the epoll set, and
     * the transport stays as it is. In a forked child (cd_server_forsake). NULL: it has none. */
    void (*forsake)(cd_transport *t);
    /* The transport's own last word at an orderly end, before shutdown or close (close_notify):
     * CD_OK, or CD_AGAIN for one that did not fit, then it is called again after CD_WRITE. NULL:
     * it has none. */
    int (*goodbye)(cd_transport *t);
    /* What TLS negotiated, as cd_head_tls. NULL: nothing ever. */
    cd_tls_facts *(*facts)(cd_transport *t);
} cd_transport_ops;

/* What the peer chose in the handshake of TLS (ALPN, RFC 7301). */
enum cd_alpn { CD_ALPN_NONE, CD_ALPN_HTTP1, CD_ALPN_H2 };

struct cd_transport {
    const cd_transport_ops *ops;
    cd_conn *conn;     /* set by cd_conn_open */
    bool more_follows; /* set before a writev: the next write comes at once (MSG_MORE) */
    bool secure;       /* TLS: the scheme is https */
    /* known before the first byte that read() returns: the protocol may look at it in its first
     * input() */
    enum cd_alpn alpn;
};

/* A transport over a connected non-blocking socket, which it owns from here on. NULL: no memory; fd
 * stays the caller's. */
cd_transport *cd_tcp_new(cd_loop *loop, int fd);

/* What recv() or send() returned, as read and writev have it; errno is theirs. */
ssize_t cd_socket_result(ssize_t n);
/* writev and sendfile as above, of a socket that takes the bytes as they are; flags as of
 * send(). */
ssize_t cd_socket_writev(int fd, const struct iovec *iov, int count, int flags);
ssize_t cd_socket_sendfile(int fd, int file, uint64_t offset, size_t n);
/* Has a RST come, or has the peer of a unix socket closed it? */
bool cd_socket_broken(int fd);
/* Closes a socket, with a RST when `reset`. */
void cd_socket_close(int fd, bool reset);

#endif
