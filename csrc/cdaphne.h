/*
 * cdaphne.h - the seam between core (sockets, protocols; no Python) and bridge (Python; no
 * sockets).
 *
 * The core turns connections into streams: one HTTP request with its response, or one WebSocket.
 * The bridge runs one application per stream. Everything either side knows of the other is in this
 * header.
 *
 * A turn of the loop has two phases. In cd_loop_poll() the core flushes, waits, reads and parses;
 * it calls nobody. In cd_loop_dispatch() it calls the bridge's callbacks, and only there. The
 * bridge may call every function below from inside a callback and between the phases, never during
 * poll; all calls come from the thread that owns the loop, except cd_loop_wake().
 *
 * Who owns what:
 *
 * | thing              | owner                | ends                                 | the other side may                  |
 * |--------------------|----------------------|--------------------------------------|-------------------------------------|
 * | loop, server       | bridge               | their free, after the last on_gone   | -                                   |
 * | connection         | core                 | transport closed and no stream left  | never sees it                       |
 * | stream             | core                 | on_gone returns                      | hold the pointer until then         |
 * | stream's data      | bridge               | on_gone drops it                     | carry it: one strong reference      |
 * | head, its slices   | the stream's arena   | on_gone returns                      | read                                |
 * | connection cache   | bridge               | ops.release, when the connection ends| carry it                            |
 * | event data         | the stream's input   | next cd_stream_next, poll or on_gone | read; copy to keep                  |
 * | chunk with token   | core, once accepted  | ops.release(token), in dispatch      | must not change the bytes           |
 * | chunk without      | caller               | the call returns: it was copied      | -                                   |
 *
 * A stream lives until both sides are done with it: the wire (response complete or connection gone)
 * and the application (cd_stream_finish). Then on_gone is called, as the last word.
 */
#ifndef CDAPHNE_H
#define CDAPHNE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Return codes. Functions return CD_OK or one of these; only memory makes a pointer NULL. */
enum {
    CD_OK = 0,
    CD_AGAIN = -1,  /* accepted, but the output stands above write_high_water: wait for on_drain */
    CD_NOMEM = -2,  /* out of memory; a stream's connection is being closed */
    CD_GONE = -3,   /* the peer has gone; nothing was sent and nothing will be */
    CD_ORDER = -4,  /* not now: not started, started twice, complete, not accepted, closed */
    CD_LENGTH = -5, /* body beyond the response's Content-Length: the connection was aborted */
    CD_NAME = -6,   /* header name is not a token (RFC 9110, 5.6.2) */
    CD_VALUE = -7,  /* header value or reason has CR, LF, NUL or another control byte */
    /* status is not a final one (200 to 999), or close code not for the wire (RFC 6455, 7.4) */
    CD_STATUS = -8,
    CD_FRAMING = -9, /* Content-Length not a number, given twice with two values */
    CD_SYSTEM = -10, /* a system call failed: errno says which way */
};

/* A slice of bytes, not NUL-terminated. p may be NULL when n is 0. */
typedef struct {
    const char *p;
    size_t n;
} cd_str;

typedef struct {
    cd_str name; /* lower-case when it came from a peer */
    cd_str value;
} cd_header;

typedef struct {
#define CD_TIME(name, value, doc) double name;
#define CD_SIZE(name, value, unit, doc) size_t name;
#include "limits.def"
#undef CD_TIME
#undef CD_SIZE
} cd_limits;

/* Every limit at its default. */
void cd_limits_init(cd_limits *limits);

/* ---- loop ---- */

typedef struct cd_loop cd_loop;
typedef struct cd_watch cd_watch;

enum { CD_READ = 1, CD_WRITE = 2 };

/* A loop on libev's epoll backend. NULL: no memory or no epoll (errno). */
cd_loop *cd_loop_new(void);

/* Every server on it must have been freed, every watch too. NULL is allowed. */
void cd_loop_free(cd_loop *loop);

/*
 * In a forked child: closes the descriptors that the loop shares with the parent's, which notices
 * nothing, and frees no memory. Servers on it first (cd_server_forsake). Afterwards nothing may be
 * called on the loop; only watches may be freed.
 */
void cd_loop_forsake(cd_loop *loop);

/*
 * The poll phase: flush, wait at most `timeout` seconds (0: not at all, negative: for ever), read
 * and parse. Returns as soon as something is to be dispatched or a watch fired. sleep(arg) is
 * called just before the thread blocks in the kernel and wake(arg) right after it, and only if
 * nothing was ready without blocking, or nothing is likely to be: the place to release the GIL.
 * Both may be NULL.
 */
void cd_loop_poll(cd_loop *loop, double timeout, void (*sleep)(void *), void (*wake)(void *),
                  void *arg);

/* The dispatch phase: callbacks, then deferred frees, then a flush of what the callbacks sent. */
void cd_loop_dispatch(cd_loop *loop);

/* Makes a poll that sleeps (or the next one) return. From any thread and from signal handlers. */
void cd_loop_wake(cd_loop *loop);

/*
 * Watches a descriptor that is not ours for CD_READ | CD_WRITE, level-triggered; one watch for a
 * descriptor. NULL: errno is ENOMEM or what epoll has against it (EBADF, EPERM for a regular file).
 * Another thread may call the functions on watches while the owner sleeps in cd_loop_poll, if the
 * sleep and wake hooks keep it out at all other times.
 */
cd_watch *cd_watch_new(cd_loop *loop, int fd, int events, void *data);
/* CD_OK, or CD_SYSTEM and nothing changed. */
int cd_watch_set(cd_watch *watch, int events);
void *cd_watch_data(const cd_watch *watch);
/* Stops watching; a pending firing is forgotten. The descriptor may have been closed. */
void cd_watch_free(cd_watch *watch);
/* Takes the next watch that fired in the last poll, its events in *events; NULL: no more. */
cd_watch *cd_loop_fired(cd_loop *loop, int *events);
/* A descriptor that is readable when a watch has something; the loop's own. */
int cd_loop_fileno(const cd_loop *loop);

/*
 * recv() and send() on such a descriptor, a non-blocking socket: the number of bytes, CD_AGAIN, or
 * CD_SYSTEM (errno). A peer that has gone is an error and no signal.
 */
long cd_fd_receive(int fd, void *p, size_t n);
long cd_fd_send(int fd, const void *p, size_t n);

/* A numeric address of the Internet's, with what the module socket wants to know. */
typedef struct {
    char host[46]; /* NUL-terminated; "" for any other family's */
    uint16_t port;
    bool ipv6;
    uint32_t flow, scope; /* IPv6 only */
    int family, type;     /* AF_..., SOCK_... */
} cd_endpoint;

/* TCP_NODELAY if the protocol, an IPPROTO_..., has it. CD_OK or CD_SYSTEM. */
int cd_fd_set_nodelay(int fd, long protocol);
/* Is the host numeric and of the socket's family, which is filled in? */
bool cd_fd_can_reach(int fd, cd_endpoint *ip);
/* CD_OK; CD_AGAIN: the descriptor becomes writable when it is decided; CD_SYSTEM. */
int cd_fd_connect(int fd, const cd_endpoint *to);
/* The errno that a connect came to; 0: it is connected. */
int cd_fd_connected(int fd);
/* The next connection of a listener, non-blocking, with its peer; CD_AGAIN: none, or one that has
 * gone; CD_SYSTEM. */
int cd_fd_accept(int fd, cd_endpoint *from);

/* ---- server ---- */

typedef struct cd_server cd_server;
typedef struct cd_stream cd_stream;

enum cd_kind { CD_HTTP, CD_WEBSOCKET };

/* One end of a connection. host is "" when there is none (the peer of a unix socket). Of one that a
 * head shows there is no more than its host takes: cd_addr_copy, never an assignment. */
typedef struct {
    int port; /* or one of the two below */
    /* numeric address without brackets, or the path of a unix socket; NUL-terminated */
    char host[108];
} cd_addr;

enum {
    CD_PORT_UNIX = -1,      /* a unix socket */
    CD_PORT_ELSEWHERE = -2, /* one that a PROXY header tells of: perhaps of another machine */
};

static inline size_t cd_addr_size(const cd_addr *addr)
{
    return offsetof(cd_addr, host) + strlen(addr->host) + 1;
}

/* There is room for cd_addr_size(from) bytes at `to`. */
static inline void cd_addr_copy(cd_addr *to, const cd_addr *from)
{
    memcpy(to, from, cd_addr_size(from));
}

/* What the response of a stream may have besides start and write. The protocol says which. */
enum {
    CD_CAN_HINT = 1,     /* cd_stream_hint */
    CD_CAN_TRAILERS = 2, /* cd_stream_announce, cd_stream_trailers */
    CD_CAN_FILE = 4,     /* cd_stream_file */
    CD_CAN_ALL = CD_CAN_HINT | CD_CAN_TRAILERS | CD_CAN_FILE,
};

/*
 * What trusted proxies said of a request in their headers. client.p == NULL: none of them knows the
 * client's address.
 */
typedef struct {
    cd_str client;   /* numeric address without brackets */
    int client_port; /* 0: not told */
    int secure;      /* 1: https or wss, 0: http or ws, -1: not told */
    cd_str host;     /* that the client asked for, without port and brackets; p == NULL: not told */
    int host_port;
    cd_str prefix; /* of the path, percent-decoded, "/a"; p == NULL: not told */
} cd_origin;

/* What a PROXY header told of the client's connection to the proxy. Texts are as they came; p ==
 * NULL: not told. */
typedef struct {
    bool tls;             /* it speaks TLS */
    bool cert, cert_good; /* the client showed a certificate, and it verified */
    cd_str tls_version;   /* "TLSv1.3" */
    cd_str cipher;        /* in OpenSSL's words */
    cd_str client_name;   /* common name of the certificate */
    cd_str alpn;          /* what the two speak: "h2" */
    cd_str authority;     /* the name that the client asked for (SNI) */
} cd_proxy_facts;

/* What the bridge sees of a request when on_open is called. Lives in the stream's arena. */
typedef struct {
    enum cd_kind kind;
    int http_major, http_minor;
    bool tls;      /* the connection is; cd_head_tls says more */
    cd_str method; /* "" for a WebSocket over HTTP/1.1 is never the case: it is GET */
    cd_str target; /* as sent, for the access log */
    cd_str path;   /* percent-decoded bytes */
    /* before '?', as sent; of an absolute-form target the part behind the authority */
    cd_str raw_path;
    cd_str query;             /* after '?', as sent */
    const cd_header *headers; /* gone, as the subprotocols, once a WebSocket was accepted */
    size_t header_count;
    /* The ends of the connection, or what a PROXY header calls so. */
    const cd_addr *client, *server;
    const cd_proxy_facts *proxied; /* NULL: there were none, or the connection has gone */
    const cd_origin *origin;       /* NULL: no trusted proxy said anything */
    const cd_str *subprotocols;    /* offered in Sec-WebSocket-Protocol, in order */
    size_t subprotocol_count;
    unsigned can; /* CD_CAN_* */
    /* one slot per connection for the bridge, starts NULL; no slot once the connection has gone */
    void **cache;
} cd_head;

/* The client: as the proxies tell it, else the peer; p == NULL when nobody knows, and when it is a
 * unix socket. */
cd_str cd_head_client(const cd_head *head, int *port);
/* Did the client use TLS, as far as we and the proxies know? */
bool cd_head_secure(const cd_head *head);

/* Why the core asks for an application to be cancelled. */
enum cd_cancel {
    /* still running application_close_timeout after its client had gone; comes again whenever as
     * much time has passed */
    CD_CANCEL_OUTSTAYED,
    CD_CANCEL_SHUTDOWN, /* still running at the end of the graceful shutdown */
};

enum cd_level { CD_DEBUG_LEVEL = 10, CD_INFO = 20, CD_WARNING = 30, CD_ERROR = 40 };

/* What happened to a stream, for access logs. */
enum cd_action { CD_COMPLETE, CD_CONNECTING, CD_CONNECTED, CD_REJECTED, CD_DISCONNECTED };

typedef struct {
    enum cd_action action; /* CD_COMPLETE for HTTP, the others for WebSocket */
    const cd_head *head;
    void *data;      /* the stream's; NULL: it has none */
    int status;      /* of the response; 0 where there is none */
    uint64_t size;   /* body bytes of the response */
    double duration; /* seconds since the head was complete */
} cd_access;

/*
 * The bridge's callbacks. All are called from dispatch only. `data` of a stream is what
 * cd_stream_set_data stored.
 */
typedef struct {
    /* A head is complete: run the application. `server` is cd_server_new's data. */
    void (*on_open)(void *server, cd_stream *stream, const cd_head *head);
    /* cd_stream_next has something again, after it had nothing. */
    void (*on_ready)(cd_stream *stream, void *data);
    /* The output fell to write_low_water after CD_AGAIN; or the peer has gone and nobody need wait
     * any more. */
    void (*on_drain)(cd_stream *stream, void *data);
    /* Cancel the application; it still has to call cd_stream_finish. */
    void (*on_cancel)(cd_stream *stream, void *data, enum cd_cancel why);
    /* Last call; the stream is freed on return. */
    void (*on_gone)(cd_stream *stream, void *data);
    /* Chunk or connection cache no longer needed. */
    void (*release)(void *server, void *token);
    /* A line for the log: UTF-8, one line, no control characters. */
    void (*on_log)(void *server, enum cd_level level, cd_str line);
    /* NULL, or called for every access-log event instead of the built-in access log. */
    void (*on_access)(void *server, const cd_access *access);
} cd_ops;

typedef struct {
    cd_limits limits;
    const char *server_header; /* value of Server; NULL or "": none. Copied. */
    bool date_header;
    bool websocket_deflate;                  /* agree to permessage-deflate */
    bool websocket_deflate_context_takeover; /* let the window live on, in both directions */
    bool http2;                              /* speak it to a client that begins with its preface */
    bool http2_upgrade;        /* and, without TLS, to one that asks with "Upgrade: h2c" */
    int access_fd;             /* descriptor for access-log lines, -1: none. Stays the caller's. */
    const char *access_format; /* see log_format.h; NULL: daphne's. Copied, as the rest. */
    const char *const *access_exclude; /* path prefixes without a line, ends with NULL; or NULL */
    const char *access_syslog;         /* "<134>": access_fd is a datagram socket; or NULL */
    const char *access_tag;            /* behind the date of a datagram, " cdaphne[1]: " */
    const char
        *trust; /* peers that are believed, "10.0.0.0/8,::1,unix:" or "*"; NULL: this machine */
    const char
        *forwarded_for; /* header with the addresses on the way; NULL: proxy headers are off */
    const char *forwarded_port;  /* header with the client's port; or NULL */
    const char *forwarded_proto; /* header with the client's scheme; or NULL */
} cd_config;

/* Can it be the trust of a server? CD_OK, CD_NOMEM, or CD_VALUE and what is wrong in problem, one
 * line. */
int cd_trust_check(const char *text, char *problem, size_t size);

/* Can it be an access_format? CD_OK, CD_NOMEM, or CD_VALUE and what is wrong in problem, one
 * line. */
int cd_access_format_check(const char *text, char *problem, size_t size);

/* NULL: no memory. The loop must outlive it. config has passed the checks. */
cd_server *cd_server_new(cd_loop *loop, const cd_config *config, const cd_ops *ops, void *data);

/* ---- TLS ---- */

typedef struct cd_tls cd_tls; /* the certificates and settings of a listener */

/* One certificate of a server; files in PEM form. */
typedef struct {
    const char *certificate; /* the certificate, then the chain up to its authority */
    const char *key;         /* its key; may be the same file */
    const char *chain;       /* more of the chain, or NULL */
} cd_tls_pair;

/* What becomes of a client's certificate. */
enum cd_tls_verify {
    CD_TLS_NONE,     /* it is not asked for one */
    CD_TLS_OPTIONAL, /* it may have none; one that does not verify ends the handshake */
    CD_TLS_REQUIRED, /* it must have one that verifies */
    CD_TLS_REPORT, /* any will do, also none: the application reads in client_error what is wrong */
};

/* Texts and tables stay the caller's and are not needed after the call. */
typedef struct {
    const cd_tls_pair *pairs; /* the first is for clients that name nobody, or nobody here */
    size_t pair_count;        /* at least 1 */
    const char *password;     /* of keys that are encrypted; or NULL */
    enum cd_tls_verify verify;
    const char *ca_file;           /* authorities of clients; or NULL, for CD_TLS_NONE */
    const char *crl_file;          /* their revoked certificates: of every one of them; or NULL */
    const char *const *ocsp_files; /* responses in DER form, each for one of the certificates */
    size_t ocsp_count;
    int min_version;          /* 0x0303 or 0x0304 */
    const char *ciphers;      /* of TLS 1.2, in OpenSSL's words; NULL: our choice */
    const char *ciphersuites; /* of TLS 1.3; NULL: our choice */
    const char *dh_file;      /* parameters for DHE; NULL: OpenSSL's */
} cd_tls_config;

/*
 * Loads it all. CD_OK, with warnings in `problem`, one a line, or none there; CD_VALUE and what is
 * wrong, one line; CD_NOMEM. A cd_tls is for servers on one thread.
 */
int cd_tls_new(cd_tls **tls, const cd_tls_config *config, char *problem, size_t size);

/* Loads it anew for the connections that come from now on. As above; what it had stays on
 * failure. */
int cd_tls_reload(cd_tls *tls, const cd_tls_config *config, char *problem, size_t size);

/* The caller lets go; listeners and handshakes may still hold it. NULL is allowed. */
void cd_tls_free(cd_tls *tls);

/* What TLS negotiated with a peer (the fields of ASGI's tls extension), or a PROXY header told. */
typedef struct {
    int version;        /* 0x0304 is TLS 1.3; 0: the proxy did not tell */
    int cipher;         /* IANA's number of the cipher suite; 0: the proxy did not tell */
    cd_str server_cert; /* PEM of the certificate that this peer was shown; p NULL: the proxy's */
    const cd_str *client_chain; /* PEM, the peer's own certificate first */
    size_t client_chain_count;
    cd_str client_name;  /* subject of that one (RFC 4514), UTF-8; p NULL: it has none */
    cd_str client_error; /* why it does not verify; p NULL: it does */
} cd_tls_facts;

/* Of the request's connection: a new block for cd_tls_facts_free. NULL: no TLS, no memory, or the
 * connection has gone. */
cd_tls_facts *cd_head_tls(const cd_head *head);
void cd_tls_facts_free(cd_tls_facts *facts);

/* What becomes of PROXY headers (versions 1 and 2), which come before everything else. One from a
 * peer that config.trust does not name ends the connection. */
enum cd_proxy_mode {
    CD_PROXY_OFF,      /* no connection begins with one */
    CD_PROXY_OPTIONAL, /* one may */
    CD_PROXY_REQUIRED, /* every one must */
};

/* What a listener does with a connection before its first request. */
typedef struct {
    enum cd_proxy_mode proxy;
    cd_tls *tls; /* NULL: plain text. The listener holds it as long as it needs it. */
} cd_listen;

/*
 * Accepts on a bound, listening, non-blocking stream socket of any family. The core owns fd from
 * here on and closes it in drain or free. how == NULL: plain text. CD_NOMEM or CD_SYSTEM: fd stays
 * the caller's.
 */
int cd_server_listen(cd_server *server, int fd, const cd_listen *how);

/*
 * Graceful shutdown begins: stop accepting, close idle connections, answer the running requests
 * with Connection: close, close WebSockets with 1001. May be repeated.
 */
void cd_server_drain(cd_server *server);

/* Graceful shutdown ends: on_cancel for every running application, then its connection is aborted;
 * one log line each. */
void cd_server_cancel(cd_server *server);

/* Where access-log lines go from now on (log rotation). Pending lines are written to the old one
 * first. */
void cd_server_set_access_fd(cd_server *server, int fd);

/* Connections that are open, and streams whose on_gone has not returned. Both 0: the server can be
 * freed. */
size_t cd_server_connections(const cd_server *server);
size_t cd_server_streams(const cd_server *server);

/* Is this peer, which sent a header of that name, one whose headers are believed (config.trust)?
 * The log names one that is not. */
bool cd_server_trusts(cd_server *server, const cd_addr *peer, const char *header);

/* In a forked child: closes the server's listeners and connections without a word to anybody.
 * Afterwards nothing may be called on the server and its streams. */
void cd_server_forsake(cd_server *server);

/* Aborts what is left. Streams must all be gone or finished: the last on_gone calls come from
 * inside. NULL is allowed. */
void cd_server_free(cd_server *server);

/* ---- stream ---- */

enum cd_event_kind {
    CD_EVENT_REQUEST, /* http.request: data, more */
    CD_EVENT_CONNECT, /* websocket.connect */
    CD_EVENT_TEXT,    /* websocket.receive: data is valid UTF-8 */
    CD_EVENT_BYTES,   /* websocket.receive: data */
    /* http.disconnect; websocket.disconnect: code, data is the reason (valid UTF-8) */
    CD_EVENT_DISCONNECT,
};

typedef struct {
    enum cd_event_kind kind;
    cd_str data;
    bool more;
    int code;
} cd_event;

typedef struct {
    const void *p;
    size_t n;
    void *token; /* NULL: copy now. Else the bytes stay valid until release(token). */
} cd_chunk;

void cd_stream_set_data(cd_stream *stream, void *data);

/* Is there something for cd_stream_next? Never true again after the disconnect was taken. */
bool cd_stream_readable(const cd_stream *stream);

/*
 * Takes the next event: 1 and *event, or 0 for nothing now (on_ready will come). Pulling is what
 * returns flow-control credit to the peer, and the first pull of a body answers Expect:
 * 100-continue. After exactly one CD_EVENT_DISCONNECT always 0.
 */
int cd_stream_next(cd_stream *stream, cd_event *event);

/* Checks one header of the application: CD_OK, CD_NAME or CD_VALUE. */
int cd_header_check(const cd_header *header);

/*
 * Starts a response (on a WebSocket before accept: denies the handshake). The head is held until
 * the first write. Headers are copied and must have passed cd_header_check. CD_OK, CD_ORDER,
 * CD_STATUS, CD_FRAMING, CD_GONE, CD_NOMEM.
 */
int cd_stream_start(cd_stream *stream, int status, const cd_header *headers, size_t count);

/*
 * Sends a piece of the body; the last one has more == false. The chunk was taken with CD_OK and
 * CD_AGAIN, and stays the caller's with CD_ORDER, CD_GONE, CD_LENGTH (too long, or too short at the
 * end: connection aborted), CD_NOMEM.
 */
int cd_stream_write(cd_stream *stream, cd_chunk chunk, bool more);

/*
 * Sends 103 Early Hints with these values of Link (RFC 8297); without any, nothing. As often as
 * wanted, until the head of the response is on its way, which is the first write. Values must be
 * field values (cd_header_check). CD_OK, CD_AGAIN, CD_ORDER, CD_GONE, CD_NOMEM.
 *
 * HTTP/1.1 sends it as a head of its own; HTTP/2 as a HEADERS frame without END_STREAM.
 */
int cd_stream_hint(cd_stream *stream, const cd_str *links, size_t count);

/*
 * Between start and first write: the response has trailers. From then on the last write does not
 * complete it; the last cd_stream_trailers does. CD_OK, CD_ORDER, CD_GONE.
 */
int cd_stream_announce(cd_stream *stream);

/* Checks one field of a trailer section: as cd_header_check, or CD_FRAMING for one that must stand
 * in a head (RFC 9110, 6.5.1). */
int cd_trailer_check(const cd_header *trailer);

/*
 * Trailers of an announced response, after its last write; the last call has more == false. They
 * must have passed cd_trailer_check. CD_OK, CD_AGAIN, CD_ORDER, CD_GONE, CD_NOMEM.
 *
 * HTTP/1.1 sends them behind the last chunk, and for their sake a body in chunks even when the
 * application gave a Content-Length, which is kept all the same. Only a request with "TE: trailers"
 * gets any: otherwise, and without a body (HEAD, 204, 304), they are taken and dropped. HTTP/2
 * sends one HEADERS frame with END_STREAM, so it collects them until the last call; TE as above.
 */
int cd_stream_trailers(cd_stream *stream, const cd_header *trailers, size_t count, bool more);

/*
 * Sends `count` bytes of a regular file, from `offset` on, as a piece of the body. The file was
 * taken with CD_OK and CD_AGAIN: the core owns and closes the descriptor; with any other code it
 * stays the caller's. Codes as cd_stream_write, and CD_SYSTEM: it cannot be read (errno; nothing
 * was sent). The bytes count as unsent output until the peer has them, although they take no
 * memory. A file that becomes shorter while it is being sent cuts the response off, visibly.
 *
 * HTTP/1.1 gives the file to the connection's output (cd_conn_put_file); HTTP/2 to the stream's
 * (cd_output_file), from where DATA frames are filled with cd_piece_read. Without a body the
 * descriptor is closed at once.
 */
int cd_stream_file(cd_stream *stream, int fd, uint64_t offset, uint64_t count, bool more);

/* Has the peer gone before all was sent? */
bool cd_stream_gone(const cd_stream *stream);

/* Is its client there, and the response not complete? Then cd_stream_finish ends it by a 500 or
 * cuts it. */
bool cd_stream_unfinished(const cd_stream *stream);

/* Cuts the connection (HTTP/1, WebSocket: with RST; HTTP/2: RST_STREAM). The application may run
 * on. */
void cd_stream_abort(cd_stream *stream);

/*
 * The application has ended; the last downward call on this stream. Incomplete work is ended as it
 * deserves: no response yet: 500; a response cut short: abort; a WebSocket before accept: 500, or
 * 403 when it did not fail; an open one: close 1011 when it failed, else 1000.
 */
void cd_stream_finish(cd_stream *stream, bool failed);

/* ---- WebSocket streams ---- */

/*
 * Accepts the handshake. CD_OK, CD_ORDER, CD_GONE, CD_NOMEM; CD_VALUE: the subprotocol (may be
 * empty) was not offered; CD_NAME: a header is the handshake's own (Sec-WebSocket-*, Connection,
 * Upgrade, Content-Length and the like).
 */
int cd_ws_accept(cd_stream *stream, cd_str subprotocol, const cd_header *headers, size_t count);

/* Sends one message. Codes and ownership as cd_stream_write. Text must be UTF-8. */
int cd_ws_send(cd_stream *stream, bool text, cd_chunk chunk);

/*
 * Before accept: 403. After it: the close handshake with code (1000 to 1003, 1007 to 1014, 3000 to
 * 4999; else CD_STATUS) and reason (UTF-8, else CD_VALUE). A close frame has room for 123 bytes of
 * it: of a longer one go as many whole characters as fit. A second close: CD_ORDER.
 */
int cd_ws_close(cd_stream *stream, int code, cd_str reason);

/* Versions of the libraries that the core was built with, as text. */
const char *cd_libev_version(void);
const char *cd_llhttp_version(void);
const char *cd_nghttp2_version(void);
const char *cd_openssl_version(void);
const char *cd_zlib_version(void);

#ifdef CD_DEBUG
/* Live objects by kind, for the tests: every one must be back at zero. */
typedef struct {
    long loops, servers, connections, streams, chunks, watches, buffers, tls;
} cd_live;
extern cd_live cd_live_counts;
#define CD_LIVE(kind, step) (cd_live_counts.kind += (step))
#else
#define CD_LIVE(kind, step) ((void)0)
#endif

#endif
