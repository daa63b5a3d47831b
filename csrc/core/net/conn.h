/*
 * A connection: a transport below, a protocol above, input that was not parsed yet, output that was
 * not written yet, one deadline. It knows nothing of HTTP. The server's list owns it; it ends in
 * dispatch, when its transport is closed and its protocol has let go of the streams.
 */
#ifndef CD_CONN_H
#define CD_CONN_H

#include "base/buf.h"
#include "loop/loop.h"
#include "loop/timer.h"
#include "net/output.h"
#include "net/transport.h"

#include <stdalign.h>

/* What a protocol does for its connection. All are called in either phase and must not call the
 * bridge: they post to streams. */
typedef struct cd_protocol_ops {
    /* The connection is new: makes c->self. CD_OK or CD_NOMEM. NULL for a protocol that only takes
     * connections over (cd_conn_become). */
    int (*open)(cd_conn *c);
    /*
     * Parses; returns how many bytes it took. What it leaves is kept and offered again, in front of
     * new input, after cd_conn_resume. A protocol that fails a connection returns n.
     */
    size_t (*input)(cd_conn *c, const uint8_t *p, size_t n);
    /* End of file from the peer, or a dead connection (`reset`): the streams must hear of it, then
     * cd_conn_close; or the peer only sends no more (cd_conn_broken is false), and they are served
     * to their end. Called again behind input that was left at the end of file. */
    void (*eof)(cd_conn *c, bool reset);
    /* NULL, or called while output is being written, as long as the transport takes it: adds to
     * c->out what is due, with the functions of output.h. */
    void (*fill)(cd_conn *c);
    /* All output was written. */
    void (*flushed)(cd_conn *c);
    /* Output fell to write_low_water, after it had been above write_high_water. */
    void (*drained)(cd_conn *c);
    /* The deadline set with cd_conn_deadline passed. */
    void (*timeout)(cd_conn *c);
    /* Graceful shutdown began: close now if idle, else at the next good moment. */
    void (*drain)(cd_conn *c);
    /* The connection is closing for whatever reason: detach every stream. Called once, last. */
    void (*close)(cd_conn *c);
    /* NULL, or frees c->self, which may be NULL: another protocol has taken over, or the connection
     * is freed. Never called from inside `input`. */
    void (*free)(cd_conn *c);
} cd_protocol_ops;

enum cd_conn_state {
    CD_CONN_OPEN,    /* reads and writes */
    CD_CONN_CLOSING, /* writes what is queued, then lingers or closes; input is dropped */
    /* said FIN; reads and drops until the peer's FIN, linger_timeout of silence, linger_total or
     * linger_size, so that no RST eats the response */
    CD_CONN_LINGER,
    CD_CONN_CLOSED, /* transport gone; freed in this dispatch or the next */
};

struct cd_conn {
    cd_transport *transport; /* owned; NULL once closed */
    const cd_protocol_ops *protocol;
    struct cd_server *server;
    cd_loop *loop;
    const cd_addr *client, *server_addr; /* in `addresses` */
    cd_list link;                        /* in server->conns */
    cd_job flush;                        /* writes what is queued, at the end of the turn */
    cd_job job;                          /* resume or free */
    cd_timer timer;
    enum cd_conn_state state;
    unsigned want_read : 1; /* the protocol lets us read */
    unsigned full : 1; /* read_ahead_size is used up: no reading until the protocol takes from it */
    unsigned blocked : 1;          /* the transport took less than there was: wait for CD_WRITE */
    unsigned ended : 1;            /* end of file was read */
    unsigned above_high_water : 1; /* CD_AGAIN was returned: drained is owed */
    unsigned linger : 1;
    unsigned tunnel : 1;     /* over a stream of another connection: does not count as one */
    unsigned bulky : 1;      /* the protocol expects a lot: read all of the scratch at once */
    unsigned keen : 1;       /* the transport has taken all at once for a while */
    unsigned armed : 2;      /* what the transport was told to want */
    cd_buf in;               /* read, not parsed */
    cd_output out;           /* not yet written */
    size_t relieved;         /* bytes written at once since an application last had to wait */
    uint64_t written;        /* bytes written since the write timer last looked */
    cd_proxy_facts *proxied; /* owned; NULL: none */
    void *cache;             /* the bridge's, released at the end */
    double write_check;      /* when the write stall is looked at; part of the one deadline */
    double deadline;         /* the protocol's, absolute; 0: none */
    double linger_end;       /* deadline of the lingering as a whole */
    size_t lingered;         /* bytes dropped in it */
    void *self;              /* the protocol's own state, which it owns */
    alignas(cd_addr) unsigned char addresses[]; /* both, as long as they are */
};

/* Takes over the transport and starts the server's first protocol. NULL: no memory; the transport
 * stays the caller's. */
cd_conn *cd_conn_open(struct cd_server *server, cd_transport *transport, const cd_addr *client,
                      const cd_addr *local);

/* The same for a transport that is a stream of another connection. */
cd_conn *cd_conn_open_tunnel(struct cd_server *server, cd_transport *transport,
                             const cd_addr *client, const cd_addr *local);

/* ---- for transports ---- */

/* Something of CD_READ | CD_WRITE is possible. Poll phase. */
void cd_conn_on_io(cd_conn *c, int events);

/* ---- for protocols ---- */

/* Another protocol takes over, with its own state; the old one's is freed. Input that was left goes
 * to the new one. */
void cd_conn_become(cd_conn *c, const cd_protocol_ops *protocol, void *self);

/* Is it known that the peer, which has ended, takes nothing any more? A system call. */
bool cd_conn_broken(cd_conn *c);

/* Switches reading off and on (flow control). Input that was left is offered by cd_conn_resume
 * only. */
void cd_conn_want_read(cd_conn *c, bool on);
/* In dispatch, offers the input that was left again, then reads on. */
void cd_conn_resume(cd_conn *c);
/* The same, but in the next turn: other connections first. */
void cd_conn_resume_later(cd_conn *c);

/* Copies n bytes to the output. CD_OK or CD_NOMEM (the caller should abort). Written at the next
 * flush. */
int cd_conn_put(cd_conn *c, const void *p, size_t n);
/* Room for n bytes of output to be filled in place, then cd_conn_commit. NULL: no memory. */
uint8_t *cd_conn_reserve(cd_conn *c, size_t n);
void cd_conn_commit(cd_conn *c, size_t n);
/* Queues a chunk: copied when it has no token, else pinned until written or the connection ends.
 * CD_NOMEM: not taken. */
int cd_conn_put_chunk(cd_conn *c, cd_chunk chunk);
/* Queues count (> 0) bytes of a file; fd is the connection's from here on. CD_NOMEM: not taken. A
 * file that turns out shorter, or unreadable, aborts the connection. */
int cd_conn_put_file(cd_conn *c, int fd, uint64_t offset, size_t count);
/* CD_AGAIN above write_high_water (remembered, for drained), else CD_OK. */
int cd_conn_pressure(cd_conn *c);
/* The same behind an application's write, which is worth trying to write at once: a stream that the
 * peer keeps up with never waits for a turn. If the peer has for a while, up to eight times as much
 * is gathered first. The last thing a write does, because a dead transport shows here and ends the
 * connection; then CD_OK. */
int cd_conn_relieve(cd_conn *c);
/* Writes at once, unless the applications of this connection have had their share of the turn:
 * `waiting` bytes are what they have written and nobody took. A dead transport shows here and ends
 * the connection. */
void cd_conn_push(cd_conn *c, size_t waiting);
/* fill has something to add: writes at the end of the turn. */
void cd_conn_flush_later(cd_conn *c);

/* Seconds from now until protocol->timeout; 0: off. One per connection: a new one replaces the
 * old. */
void cd_conn_deadline(cd_conn *c, double seconds);

/* Writes what is queued, then ends: with FIN, waiting for the peer's (`linger`) if it may still be
 * sending. */
void cd_conn_close(cd_conn *c, bool linger);
/* Ends at once; what is queued is lost. */
void cd_conn_abort(cd_conn *c);
/* What a log line calls a peer. */
static inline const char *cd_addr_name(const cd_addr *addr)
{
    return addr->host[0] != '\0' ? addr->host : "a unix socket";
}

static inline const char *cd_conn_peer(const cd_conn *c)
{
    return cd_addr_name(c->client);
}

/* One log line through the bridge, prefixed by nothing. Posted, so any phase is fine. printf
 * format. */
void cd_conn_log(cd_conn *c, enum cd_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
