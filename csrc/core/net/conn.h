/*
 * A connection. It has a transport below, a protocol above, input that is not parsed yet, output
 * that is not written yet, and one deadline. It knows nothing of HTTP. The server's list owns it.
 * It ends in dispatch, when its transport is closed and its protocol has detached the streams.
 */
#ifndef CD_CONN_H
#define CD_CONN_H

#include "base/buf.h"
#include "loop/loop.h"
#include "loop/timer.h"
#include "net/output.h"
#include "net/transport.h"

#include <stdalign.h>

/* What a protocol does for its connection. All functions may be called in either phase and must not
 * call the bridge: they post to streams. */
typedef struct cd_protocol_ops {
    /* Begins a new connection: makes c->self. Returns CD_OK or CD_NOMEM. NULL for a protocol that
     * only takes connections over (cd_conn_become). */
    int (*open)(cd_conn *c);
    /*
     * Parses and returns how many bytes it took. The other bytes are kept and offered again, in
     * front of new input, after cd_conn_resume. A protocol that ends the connection because of an
     * error returns n.
     */
    size_t (*input)(cd_conn *c, const uint8_t *p, size_t n);
    /* Called at end of file, or when the connection is dead (`reset`): the protocol must tell the
     * streams, then call cd_conn_close. If the peer has only shut down its sending side
     * (cd_conn_broken is false) it may serve them to their end. Called again behind input that was
     * left at the end of file. */
    void (*eof)(cd_conn *c, bool reset);
    /* NULL, or called while output is written, as long as the transport takes it: adds more to
     * c->out, with the functions of output.h. */
    void (*fill)(cd_conn *c);
    /* Called when all output was written. */
    void (*flushed)(cd_conn *c);
    /* Called when the output has fallen to write_low_water after it was above write_high_water. */
    void (*drained)(cd_conn *c);
    /* Called when the deadline of cd_conn_deadline has passed. */
    void (*timeout)(cd_conn *c);
    /* Called when the graceful shutdown begins: closes an idle connection now, others when their
     * work is done. */
    void (*drain)(cd_conn *c);
    /* Called once, as the last function but `free`, when the connection closes for any reason: must
     * detach every stream. */
    void (*close)(cd_conn *c);
    /* NULL, or frees c->self, which may be NULL. Called when another protocol has taken over or the
     * connection is freed, and never from inside `input`. */
    void (*free)(cd_conn *c);
} cd_protocol_ops;

enum cd_conn_state {
    CD_CONN_OPEN,    /* reads and writes */
    CD_CONN_CLOSING, /* writes what is queued, then lingers or closes; input is dropped */
    /* has sent FIN; reads and drops input until the peer's FIN, or until linger_timeout,
     * linger_total or linger_size is reached: closing at once would send a RST, which can destroy
     * the response at the peer */
    CD_CONN_LINGER,
    /* the transport is closed; the connection is freed in this dispatch or the next */
    CD_CONN_CLOSED,
};

struct cd_conn {
    cd_transport *transport; /* owned; NULL when it is closed */
    const cd_protocol_ops *protocol;
    struct cd_server *server;
    cd_loop *loop;
    const cd_addr *client, *server_addr; /* they point into `addresses` */
    cd_list link;                        /* in server->conns */
    cd_job flush;                        /* writes what is queued, at the end of the turn */
    cd_job job;                          /* resumes the input, or frees the connection */
    cd_timer timer;
    enum cd_conn_state state;
    unsigned want_read : 1; /* the protocol allows reading */
    unsigned full : 1;    /* read_ahead_size bytes wait: no reading until the protocol takes some */
    unsigned blocked : 1; /* the transport did not take everything: wait for CD_WRITE */
    unsigned ended : 1;   /* end of file was read */
    unsigned above_high_water : 1; /* CD_AGAIN was returned: `drained` must be called */
    unsigned linger : 1;
    /* its transport is a stream of another connection, so it does not count as a connection */
    unsigned tunnel : 1;
    /* the protocol expects much data: read as much as the scratch buffer holds */
    unsigned large_reads : 1;
    /* the peer keeps up: the transport has taken every write at once for a while */
    unsigned keeps_up : 1;
    unsigned armed : 2; /* the events that the transport was told to want */
    cd_buf in;          /* read, not parsed */
    cd_output out;      /* not yet written */
    /* bytes that the transport took at once since an application last had to wait */
    size_t taken_at_once;
    uint64_t written;        /* bytes written since the write timeout was last checked */
    cd_proxy_facts *proxied; /* owned; NULL: none */
    void *cache;             /* the bridge's cache, released when the connection ends */
    double write_check;      /* when the write timeout is checked; part of the one deadline */
    double deadline;         /* the protocol's deadline in the loop's time; 0: none */
    double linger_end;       /* when lingering ends in any case (linger_total) */
    size_t lingered;         /* bytes dropped while lingering */
    void *self;              /* the protocol's own state, which it owns */
    /* both addresses, each only up to the end of its host */
    alignas(cd_addr) unsigned char addresses[];
};

/* Makes a connection that owns the transport, and starts the server's first protocol. NULL: no
 * memory, and the transport stays the caller's. */
cd_conn *cd_conn_open(struct cd_server *server, cd_transport *transport, const cd_addr *client,
                      const cd_addr *local);

/* The same for a transport that is a stream of another connection. */
cd_conn *cd_conn_open_tunnel(struct cd_server *server, cd_transport *transport,
                             const cd_addr *client, const cd_addr *local);

/* ---- for transports ---- */

/* Called in the poll phase when reading or writing is possible (CD_READ | CD_WRITE). */
void cd_conn_on_io(cd_conn *c, int events);

/* ---- for protocols ---- */

/* Gives the connection to another protocol with its own state; the old one's state is freed. Input
 * that was left goes to the new protocol. */
void cd_conn_become(cd_conn *c, const cd_protocol_ops *protocol, void *self);

/* After end of file: is it known that the peer does not read any more? Costs a system call. */
bool cd_conn_broken(cd_conn *c);

/* Switches reading off and on (flow control). Only cd_conn_resume offers the input that was
 * left. */
void cd_conn_want_read(cd_conn *c, bool on);
/* Offers the input that was left again, in dispatch, then reads on. */
void cd_conn_resume(cd_conn *c);
/* The same, but in the next turn, after the other connections. */
void cd_conn_resume_later(cd_conn *c);

/* Copies n bytes to the output, which is written at the next flush. Returns CD_OK, or CD_NOMEM and
 * then the caller should abort. */
int cd_conn_put(cd_conn *c, const void *p, size_t n);
/* Returns room for n bytes of output, to be filled in place before cd_conn_commit. NULL: no
 * memory. */
uint8_t *cd_conn_reserve(cd_conn *c, size_t n);
void cd_conn_commit(cd_conn *c, size_t n);
/* Queues a chunk. Without a token it is copied; with one it stays pinned until it is written or the
 * connection ends. CD_NOMEM: the chunk was not taken. */
int cd_conn_put_chunk(cd_conn *c, cd_chunk chunk);
/* Queues count (> 0) bytes of a file; the connection owns fd from here on. CD_NOMEM: the file was
 * not taken. A file that turns out to be shorter, or unreadable, aborts the connection. */
int cd_conn_put_file(cd_conn *c, int fd, uint64_t offset, size_t count);
/* Returns CD_AGAIN when the output is above write_high_water, and then `drained` will be called;
 * else CD_OK. */
int cd_conn_pressure(cd_conn *c);
/* The same after an application's write, but tries to write at once before it returns CD_AGAIN: so
 * a stream whose peer keeps up never waits for a turn. When the peer has kept up for a while, up to
 * eight times write_high_water is gathered first. It must be the last thing that a write does,
 * because it may find the transport dead and end the connection; then it returns CD_OK. */
int cd_conn_after_write(cd_conn *c);
/* Writes at once, unless the applications of this connection have had their share of the turn.
 * `waiting` is the number of bytes that they have written and the transport has not taken. It may
 * find the transport dead and end the connection. */
void cd_conn_push(cd_conn *c, size_t waiting);
/* Tells that `fill` has something to add: the connection writes at the end of the turn. */
void cd_conn_flush_later(cd_conn *c);

/* Sets the time, in seconds from now, until protocol->timeout is called; 0: off. A connection has
 * one deadline: a new one replaces the old. */
void cd_conn_deadline(cd_conn *c, double seconds);

/* Writes what is queued, then ends the connection: with FIN; and if the peer may still be sending
 * (`linger`) it waits for the peer's FIN. */
void cd_conn_close(cd_conn *c, bool linger);
/* Ends the connection at once; queued output is lost. */
void cd_conn_abort(cd_conn *c);
/* Returns the name of a peer for a log line. */
static inline const char *cd_addr_name(const cd_addr *addr)
{
    return addr->host[0] != '\0' ? addr->host : "a unix socket";
}

static inline const char *cd_conn_peer(const cd_conn *c)
{
    return cd_addr_name(c->client);
}

/* Sends one log line to the bridge, without a prefix. It is posted, so it may be called in any
 * phase. The format is printf's. */
void cd_conn_log(cd_conn *c, enum cd_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
