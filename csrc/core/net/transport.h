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
    /* Returns the number of bytes read, 0 at end of file, CD_AGAIN when there is nothing now,
     * CD_GONE for a dead connection. */
    ssize_t (*read)(cd_transport *t, void *p, size_t n);
    /* Returns the number of bytes taken, CD_AGAIN or CD_GONE. */
    ssize_t (*writev)(cd_transport *t, const struct iovec *iov, int count);
    /*
     * Sends at most n bytes of a file, from `offset` on, without copying them through user space.
     * Returns the number of bytes taken, 0 when the file ends at `offset`, CD_AGAIN, CD_GONE, or
     * CD_SYSTEM when this file must be read and written instead. NULL: the transport cannot do it,
     * and every file is read and goes through writev.
     */
    ssize_t (*sendfile)(cd_transport *t, int fd, uint64_t offset, size_t n);
    /* Sets the events for which cd_conn_on_io is called from now on (CD_READ | CD_WRITE, or 0). */
    void (*want)(cd_transport *t, int events);
    /* Is it known that the peer reads no more? NULL: this is never known before a write fails. */
    bool (*broken)(cd_transport *t);
    /* Tells the peer that no more data will come (FIN, close_notify). Reading goes on. */
    void (*shutdown)(cd_transport *t);
    /* Ends the connection and frees the transport. `reset`: the peer is to see an error, not an end
     * of file. */
    void (*close)(cd_transport *t, bool reset);
    /* Only closes the descriptor: sends nothing, does not change the epoll set, and frees nothing.
     * For a forked child (cd_server_forsake). NULL: there is no descriptor. */
    void (*forsake)(cd_transport *t);
    /* Sends the transport's own last message (close_notify) at an orderly end, before shutdown or
     * close. Returns CD_OK, or CD_AGAIN when it did not fit and is to be called again after
     * CD_WRITE. NULL: there is no such message. */
    int (*goodbye)(cd_transport *t);
    /* Returns what cd_head_tls returns. NULL: the transport has no TLS. */
    cd_tls_facts *(*facts)(cd_transport *t);
} cd_transport_ops;

/* The protocol that the TLS handshake chose (ALPN, RFC 7301). */
enum cd_alpn { CD_ALPN_NONE, CD_ALPN_HTTP1, CD_ALPN_H2 };

struct cd_transport {
    const cd_transport_ops *ops;
    cd_conn *conn;     /* set by cd_conn_open */
    bool more_follows; /* set before a writev when another follows at once (MSG_MORE) */
    bool secure;       /* the transport is TLS, so the scheme is https */
    /* set before read() returns the first byte, so a protocol's first input() may rely on it */
    enum cd_alpn alpn;
};

/* Makes a transport over a connected non-blocking socket, which it owns from here on. NULL: no
 * memory, and fd stays the caller's. */
cd_transport *cd_tcp_new(cd_loop *loop, int fd);

/* Translates what recv() or send() returned into the results of read and writev. errno must still
 * be theirs. */
ssize_t cd_socket_result(ssize_t n);
/* writev and sendfile as above, for a plain socket. The flags are those of send(). */
ssize_t cd_socket_writev(int fd, const struct iovec *iov, int count, int flags);
ssize_t cd_socket_sendfile(int fd, int file, uint64_t offset, size_t n);
/* Has the peer sent a RST, or closed its end of a unix socket? */
bool cd_socket_broken(int fd);
/* Closes a socket; when `reset` is set, with a RST. */
void cd_socket_close(int fd, bool reset);

#endif
