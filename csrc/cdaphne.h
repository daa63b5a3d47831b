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
    CD_ORDER = -4,  /* wrong order: not started, started twice, complete, not accepted or closed */
    CD_LENGTH = -5, /* body beyond the response's Content-Length: the connection was aborted */
    CD_NAME = -6,   /* header name is not a token (RFC 9110, 5.6.2) */
    CD_VALUE = -7,  /* header value or reason has CR, LF, NUL or another control byte */
    /* the status is not a final one (200 to 999), or the close code must not be sent (RFC 6455,
     * 7.4) */
    CD_STATUS = -8,
    CD_FRAMING = -9, /* Content-Length is no number, or is given twice with different values */
    CD_SYSTEM = -10, /* a system call failed; errno says why */
};

/* A slice of bytes, not NUL-terminated. p may be NULL when n is 0. */
typedef struct {
    const char *p;
    size_t n;
} cd_str;

/* The slice of a string literal. */
#define CD_STR(literal) ((cd_str){"" literal, sizeof literal - 1})

typedef struct {
    cd_str name; /* in lower case when it came from a peer */
    cd_str value;
} cd_header;

#define CD_NO_MOST INT64_MAX /* the most of a size that has none */

typedef struct {
#define CD_TIME(name, ...) double name;
#define CD_SIZE(name, ...) size_t name;
#include "limits.def"
} cd_limits;

/* ---- loop ---- */

typedef struct cd_loop cd_loop;
typedef struct cd_watch cd_watch;

enum { CD_READ = 1, CD_WRITE = 2 };

/* Makes a loop on libev's epoll backend. Returns NULL when there is no memory or no epoll
 * (errno). */
cd_loop *cd_loop_new(void);

/* Frees a loop. Its servers and watches must have been freed before. NULL is allowed. */
void cd_loop_free(cd_loop *loop);

/*
 * To be called in a forked child: closes the descriptors that the loop shares with the parent,
 * without any effect on the parent, and frees no memory. Call cd_server_forsake() for each of its
 * servers before. Afterwards nothing may be called on the loop, and only its watches may be freed.
 */
void cd_loop_forsake(cd_loop *loop);

/*
 * The poll phase: writes what is queued, waits at most `timeout` seconds (0: not at all, negative:
 * without an end), reads and parses. It returns as soon as there is something to dispatch or a
 * watch has fired. sleep(arg) is called just before the thread may block in the kernel, and
 * wake(arg) right after: the place to release the GIL. Both are called only when nothing was ready
 * without blocking, or when nothing is likely to be. Both may be NULL.
 */
void cd_loop_poll(cd_loop *loop, double timeout, void (*sleep)(void *), void (*wake)(void *),
                  void *arg);

/* The dispatch phase: runs the callbacks, then the deferred frees, then writes what the callbacks
 * sent. */
void cd_loop_dispatch(cd_loop *loop);

/* Makes a sleeping poll return; when none sleeps, the next one does not sleep. May be called from
 * any thread and from signal handlers. */
void cd_loop_wake(cd_loop *loop);

/*
 * Watches a descriptor of the caller's for CD_READ | CD_WRITE, level-triggered. A descriptor can
 * have one watch only. NULL: errno is ENOMEM or epoll's objection (EBADF, or EPERM for a regular
 * file). Another thread may call the functions on watches while the owner sleeps in cd_loop_poll,
 * if the sleep and wake hooks keep it out at all other times.
 */
cd_watch *cd_watch_new(cd_loop *loop, int fd, int events, void *data);
/* Changes the events to wait for. Returns CD_OK, or CD_SYSTEM and then nothing has changed. */
int cd_watch_set(cd_watch *watch, int events);
void *cd_watch_data(const cd_watch *watch);
/* Stops watching and forgets an event that cd_loop_fired has not returned yet. The descriptor may
 * have been closed before. */
void cd_watch_free(cd_watch *watch);
/* Takes the next watch that fired in the last poll and stores its events in *events. NULL: there
 * are no more. */
cd_watch *cd_loop_fired(cd_loop *loop, int *events);
/* A descriptor that becomes readable when a watch has an event. The loop owns it. */
int cd_loop_fileno(const cd_loop *loop);

/*
 * recv() and send() on a watched descriptor, which must be a non-blocking socket. They return the
 * number of bytes, CD_AGAIN, or CD_SYSTEM (errno). When the peer has gone they return an error and
 * raise no signal.
 */
long cd_fd_receive(int fd, void *p, size_t n);
long cd_fd_send(int fd, const void *p, size_t n);

/* The monotonic clock in seconds, read now. Use it for durations. */
double cd_clock(void);

/* A numeric IPv4 or IPv6 address, with all that Python's socket module tells of one. */
typedef struct {
    char host[46]; /* NUL-terminated; "" when the family is another one */
    uint16_t port;
    bool ipv6;
    uint32_t flow, scope; /* used by IPv6 only */
    int family, type;     /* AF_..., SOCK_... */
} cd_endpoint;

/* Sets TCP_NODELAY if the protocol, an IPPROTO_..., has it. Returns CD_OK or CD_SYSTEM. */
int cd_fd_set_nodelay(int fd, long protocol);
/* Returns whether the host is numeric and of the socket's family, and then fills in the family. */
bool cd_fd_can_reach(int fd, cd_endpoint *ip);
/* Starts to connect. Returns CD_OK; CD_AGAIN: not decided yet, and the descriptor will become
 * writable when it is; CD_SYSTEM. */
int cd_fd_connect(int fd, const cd_endpoint *to);
/* How a connect has ended: 0 when it is connected, else its errno. */
int cd_fd_connected(int fd);
/* Accepts the next connection of a listener: returns a non-blocking descriptor and stores its peer.
 * CD_AGAIN: there is none, or it has already gone. CD_SYSTEM: errno. */
int cd_fd_accept(int fd, cd_endpoint *from);

/* ---- server ---- */

typedef struct cd_server cd_server;
typedef struct cd_stream cd_stream;

enum cd_kind { CD_HTTP, CD_WEBSOCKET };

/* One end of a connection. host is "" when there is no address (the peer of a unix socket). A
 * cd_addr reached through a cd_head is allocated only up to the end of its host string. Copy it
 * with cd_addr_copy(); plain assignment reads past it. */
typedef struct {
    int port; /* or CD_PORT_UNIX, or CD_PORT_ELSEWHERE */
    /* a numeric address without brackets, or the path of a unix socket; NUL-terminated */
    char host[108];
} cd_addr;

enum {
    CD_PORT_UNIX = -1, /* it is a unix socket */
    /* it is a unix socket named by a PROXY header, perhaps on another machine */
    CD_PORT_ELSEWHERE = -2,
};

static inline size_t cd_addr_size(const cd_addr *addr)
{
    return offsetof(cd_addr, host) + strlen(addr->host) + 1;
}

/* Copies an address. `to` must have room for cd_addr_size(from) bytes. */
static inline void cd_addr_copy(cd_addr *to, const cd_addr *from)
{
    memcpy(to, from, cd_addr_size(from));
}

/* What a response can have besides start and write. The protocol decides which of them. */
enum {
    CD_CAN_HINT = 1,     /* cd_stream_hint */
    CD_CAN_TRAILERS = 2, /* cd_stream_announce, cd_stream_trailers */
    CD_CAN_FILE = 4,     /* cd_stream_file */
    CD_CAN_ALL = CD_CAN_HINT | CD_CAN_TRAILERS | CD_CAN_FILE,
};

/*
 * What trusted proxies said about a request in their headers. client.p == NULL: none of them knows
 * the client's address.
 */
typedef struct {
    cd_str client;   /* a numeric address without brackets */
    int client_port; /* 0: not told */
    int secure;      /* 1: https or wss, 0: http or ws, -1: not told */
    /* the host that the client asked for, without port and brackets; p == NULL: not told */
    cd_str host;
    int host_port;
    cd_str prefix; /* prefix of the path, percent-decoded, for example "/a"; p == NULL: not told */
} cd_origin;

/* What a PROXY header told about the client's connection to the proxy. The texts are as they came;
 * p == NULL: not told. */
typedef struct {
    bool tls;             /* the client speaks TLS to the proxy */
    bool cert, cert_good; /* the client showed a certificate, and it verified */
    cd_str tls_version;   /* for example "TLSv1.3" */
    cd_str cipher;        /* its name in OpenSSL */
    cd_str client_name;   /* the common name in the client's certificate */
    cd_str alpn;          /* the protocol they agreed on, for example "h2" */
    cd_str authority;     /* the server name that the client asked for (SNI) */
} cd_proxy_facts;

/* A request as the bridge sees it when on_open is called. It lives in the stream's arena. */
typedef struct {
    enum cd_kind kind;
    int http_major, http_minor;
    bool tls;      /* the connection is encrypted; cd_head_tls says more */
    cd_str method; /* never "": "GET" for a WebSocket over HTTP/1.1 */
    cd_str target; /* as sent, for the access log */
    cd_str path;   /* percent-decoded bytes */
    /* the part before '?', as sent; when the target has a scheme and an authority, without them */
    cd_str raw_path;
    cd_str query;             /* the part after '?', as sent */
    const cd_header *headers; /* invalid, like the subprotocols, once a WebSocket was accepted */
    size_t header_count;
    /* The two ends of the connection, or those that a PROXY header names. */
    const cd_addr *client, *server;
    const cd_proxy_facts *proxied; /* NULL: there was no PROXY header, or the connection has gone */
    const cd_origin *origin;       /* NULL: no trusted proxy said anything */
    const cd_str *subprotocols;    /* those offered in Sec-WebSocket-Protocol, in order */
    size_t subprotocol_count;
    unsigned can; /* CD_CAN_* */
    /* the bridge's slot of this connection, at first NULL; the pointer is NULL once the connection
     * has gone */
    void **cache;
} cd_head;

/* The client's address: the one that the proxies tell, else the peer's. p == NULL: nobody knows it,
 * or it is a unix socket. */
cd_str cd_head_client(const cd_head *head, int *port);
/* Did the client use TLS, as far as the core and the proxies know? */
bool cd_head_secure(const cd_head *head);

/* Why the core asks for an application to be cancelled. */
enum cd_cancel {
    /* the application still runs application_close_timeout after its client has gone; it is
     * repeated each time that the timeout passes again */
    CD_CANCEL_CLIENT_GONE,
    CD_CANCEL_SHUTDOWN, /* the application still runs at the end of the graceful shutdown */
};

enum cd_level { CD_DEBUG_LEVEL = 10, CD_INFO = 20, CD_WARNING = 30, CD_ERROR = 40 };

/* What happened to a stream: an event of the access log. */
enum cd_action { CD_COMPLETE, CD_CONNECTING, CD_CONNECTED, CD_REJECTED, CD_DISCONNECTED };

typedef struct {
    enum cd_action action; /* CD_COMPLETE for HTTP, the others for WebSocket */
    const cd_head *head;
    void *data;      /* the stream's data; NULL: it has none */
    int status;      /* status of the response; 0 where there is none */
    uint64_t size;   /* body bytes of the response */
    double duration; /* seconds since the head was complete */
} cd_access;

/*
 * The bridge's callbacks. All of them are called from dispatch only. A stream's `data` is what
 * cd_stream_set_data stored.
 */
typedef struct {
    /* A head is complete, and the application is to be run. `server` is the data given to
     * cd_server_new. */
    void (*on_open)(void *server, cd_stream *stream, const cd_head *head);
    /* cd_stream_next has something again, after it had nothing. */
    void (*on_ready)(cd_stream *stream, void *data);
    /* After CD_AGAIN: the output has fallen to write_low_water, or the peer has gone and there is
     * nothing left to wait for. */
    void (*on_drain)(cd_stream *stream, void *data);
    /* The application is to be cancelled. The bridge still has to call cd_stream_finish. */
    void (*on_cancel)(cd_stream *stream, void *data, enum cd_cancel why);
    /* The last call for a stream, which is freed when it returns. */
    void (*on_gone)(cd_stream *stream, void *data);
    /* The core needs the token of a chunk, or a connection's cache, no longer. */
    void (*release)(void *server, void *token);
    /* A line for the log: UTF-8, one line, no control characters. `data` is that of the stream that
     * the line is about, before its on_gone; NULL: the line is about no stream. */
    void (*on_log)(void *server, void *data, enum cd_level level, cd_str line);
    /* NULL, or called for every event of the access log; then the core writes no access log of its
     * own. */
    void (*on_access)(void *server, const cd_access *access);
} cd_ops;

typedef struct {
    cd_limits limits;
    const char *server_header; /* value of the Server header; NULL or "": none. Copied. */
/* The options are described by their rows. A text is copied; NULL means its default. */
#define CD_FLAG(name, ...) bool name;
#define CD_TEXT(name, ...) const char *name;
#include "options.def"
    int access_fd; /* descriptor for access-log lines; -1: none. The caller owns it. */
    /* paths that begin so get no line; ends with NULL; may be NULL */
    const char *const *access_exclude;
    /* "<134>": access_fd is a datagram socket, and each datagram begins so; or NULL */
    const char *access_syslog;
    /* follows the date of a datagram, for example " cdaphne[1]: " */
    const char *access_tag;
    /* header that lists the addresses passed; NULL: proxy headers are off */
    const char *forwarded_for;
    const char *forwarded_port;  /* header that tells the client's port; or NULL */
    const char *forwarded_proto; /* header that tells the client's scheme; or NULL */
} cd_config;

/* Every limit and option at its default, and nothing else. */
extern const cd_config cd_config_default;

/* Checks a text for forwarded_allow_ips. CD_OK, CD_NOMEM, or CD_VALUE and then `problem` says in one
 * line what is wrong. */
int cd_trust_check(const char *text, char *problem, size_t size);

/* Checks a text for access_log_format, with the same results. */
int cd_access_format_check(const char *text, char *problem, size_t size);

/* Makes a server on a loop, which must outlive it. The texts in config must have passed the checks
 * above. Returns NULL when there is no memory. */
cd_server *cd_server_new(cd_loop *loop, const cd_config *config, const cd_ops *ops, void *data);

/* ---- TLS ---- */

typedef struct cd_tls cd_tls; /* the certificates and settings of a listener */

/* One certificate of a server. The files are in PEM form. */
typedef struct {
    const char *certificate; /* the certificate, then the chain up to its authority */
    const char *key;         /* the private key; may be the same file */
    const char *chain;       /* file with more of the chain, or NULL */
} cd_tls_pair;

/* What the server asks of a client's certificate. */
enum cd_tls_verify {
    CD_TLS_NONE,     /* clients are not asked for a certificate */
    CD_TLS_OPTIONAL, /* a client may have none; one that does not verify ends the handshake */
    CD_TLS_REQUIRED, /* a client must have one that verifies */
    /* any certificate is accepted, and none; client_error tells the application what is wrong with
     * it */
    CD_TLS_REPORT,
};

/* Settings of a listener. The texts and tables belong to the caller, who may free them after the
 * call. */
typedef struct {
    /* the first one serves clients that ask for no name, or for an unknown one */
    const cd_tls_pair *pairs;
    size_t pair_count;    /* at least 1 */
    const char *password; /* for encrypted keys; or NULL */
    enum cd_tls_verify verify;
    /* authorities that may sign clients' certificates; NULL with CD_TLS_NONE */
    const char *ca_file;
    const char *crl_file; /* revoked certificates of every authority in ca_file; or NULL */
    /* OCSP responses in DER form, each for one of the certificates */
    const char *const *ocsp_files;
    size_t ocsp_count;
    int min_version;          /* 0x0303 or 0x0304 */
    const char *ciphers;      /* cipher list for TLS 1.2 in OpenSSL's syntax; NULL: our choice */
    const char *ciphersuites; /* cipher suites for TLS 1.3; NULL: our choice */
    const char *dh_file;      /* parameters for DHE; NULL: OpenSSL's */
} cd_tls_config;

/*
 * Loads all files. CD_OK: *tls is ready, and `problem` holds warnings, one a line, or nothing.
 * CD_VALUE: `problem` says in one line what is wrong. CD_NOMEM. A cd_tls may be used by servers of
 * one thread only.
 */
int cd_tls_new(cd_tls **tls, const cd_tls_config *config, char *problem, size_t size);

/* Loads all files again, for connections accepted from now on. The results are those of cd_tls_new.
 * On failure the certificates loaded before stay in use. */
int cd_tls_reload(cd_tls *tls, const cd_tls_config *config, char *problem, size_t size);

/* Gives up the caller's reference. Listeners and handshakes may still hold theirs. NULL is
 * allowed. */
void cd_tls_free(cd_tls *tls);

/* What TLS negotiated with a peer, or what a PROXY header told. These are the fields of ASGI's tls
 * extension. */
typedef struct {
    int version; /* 0x0304 is TLS 1.3; 0: the proxy did not tell */
    int cipher;  /* IANA's number of the cipher suite; 0: the proxy did not tell */
    /* the certificate (PEM) that this peer was shown; p NULL: the proxy showed one of its own */
    cd_str server_cert;
    const cd_str *client_chain; /* in PEM form, the peer's own certificate first */
    size_t client_chain_count;
    /* the subject of the peer's certificate (RFC 4514) in UTF-8; p NULL: it has none */
    cd_str client_name;
    cd_str client_error; /* why the certificate does not verify; p NULL: it does */
} cd_tls_facts;

/* Returns what TLS negotiated on the request's connection, in a new block to be freed with
 * cd_tls_facts_free. NULL: there is no TLS or no memory, or the connection has gone. */
cd_tls_facts *cd_head_tls(const cd_head *head);
void cd_tls_facts_free(cd_tls_facts *facts);

/* Whether connections begin with a PROXY header (version 1 or 2). A header from a peer that
 * forwarded_allow_ips does not include ends the connection. */
enum cd_proxy_mode {
    CD_PROXY_OFF,      /* no connection may begin with one */
    CD_PROXY_OPTIONAL, /* a connection may begin with one */
    CD_PROXY_REQUIRED, /* every connection must begin with one */
};

/* What a listener does with a connection before its first request. */
typedef struct {
    enum cd_proxy_mode proxy;
    cd_tls *tls; /* NULL: plain text. The listener holds a reference as long as it needs it. */
} cd_listen;

/*
 * Accepts connections on a bound, listening, non-blocking stream socket of any family. With CD_OK
 * the core owns fd and closes it in drain or free; with CD_NOMEM or CD_SYSTEM it stays the
 * caller's. how == NULL: plain text.
 */
int cd_server_listen(cd_server *server, int fd, const cd_listen *how);

/*
 * Begins the graceful shutdown: the server stops to accept, closes idle connections, answers the
 * running requests with "Connection: close" and closes WebSockets with 1001. May be called again.
 */
void cd_server_drain(cd_server *server);

/* Ends the graceful shutdown: calls on_cancel for every running application, then aborts its
 * connection, with one log line for each. */
void cd_server_cancel(cd_server *server);

/* Sets the descriptor for access-log lines (log rotation). Pending lines are written to the old one
 * first. */
void cd_server_set_access_fd(cd_server *server, int fd);

/* The number of open connections, and of streams whose on_gone has not returned. When both are 0
 * the server can be freed. */
size_t cd_server_connections(const cd_server *server);
size_t cd_server_streams(const cd_server *server);

/* Does forwarded_allow_ips include this peer, which sent the header named? If not, the log names the peer
 * once. */
bool cd_server_trusts(cd_server *server, const cd_addr *peer, const char *header);

/* To be called in a forked child: closes the server's listeners and connections and sends nothing
 * to their peers. Afterwards nothing may be called on the server and its streams. */
void cd_server_forsake(cd_server *server);

/* Aborts the connections that are left and frees the server. All streams must be gone or finished;
 * the last on_gone calls are made from inside. NULL is allowed. */
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
    void *token; /* NULL: the core copies the bytes. Else they stay valid until release(token). */
} cd_chunk;

void cd_stream_set_data(cd_stream *stream, void *data);

/* Does cd_stream_next have an event? After the disconnect was taken the answer is always no. */
bool cd_stream_readable(const cd_stream *stream);

/*
 * Takes the next event: returns true and fills in *event, or false when there is none now (on_ready
 * will be called). Each call returns flow-control credit to the peer, and the first call for a body
 * answers "Expect: 100-continue". After the one CD_EVENT_DISCONNECT it always returns false.
 */
bool cd_stream_next(cd_stream *stream, cd_event *event);

/* Checks one header of the application. Returns CD_OK, CD_NAME or CD_VALUE. */
int cd_header_check(const cd_header *header);

/*
 * Starts a response; on a WebSocket before accept it denies the handshake. The head is held back
 * until the first write. Headers are copied and must have passed cd_header_check. Returns CD_OK,
 * CD_ORDER, CD_STATUS, CD_FRAMING, CD_GONE or CD_NOMEM.
 */
int cd_stream_start(cd_stream *stream, int status, const cd_header *headers, size_t count);

/*
 * Sends a piece of the body; the last piece has more == false. CD_OK, CD_AGAIN: the core owns the
 * chunk. CD_ORDER, CD_GONE, CD_NOMEM: it stays the caller's; so also with CD_LENGTH: the body is
 * longer than its Content-Length, or has ended too early, and the connection was aborted.
 */
int cd_stream_write(cd_stream *stream, cd_chunk chunk, bool more);

/*
 * Sends 103 Early Hints with these values of Link (RFC 8297); with no values it does nothing. It
 * may be called again until the first write, which sends the head of the response. The values must
 * be valid field values (cd_header_check). Returns CD_OK, CD_AGAIN, CD_ORDER, CD_GONE or CD_NOMEM.
 *
 * HTTP/1.1 sends it as a head of its own; HTTP/2 as a HEADERS frame without END_STREAM.
 */
int cd_stream_hint(cd_stream *stream, const cd_str *links, size_t count);

/*
 * Announces trailers; to be called between start and the first write. From then on the last write
 * does not complete the response; the last cd_stream_trailers does. Returns CD_OK, CD_ORDER or
 * CD_GONE.
 */
int cd_stream_announce(cd_stream *stream);

/* Checks one field of a trailer section. Returns what cd_header_check returns, or CD_FRAMING for a
 * field that must stand in a head (RFC 9110, 6.5.1). */
int cd_trailer_check(const cd_header *trailer);

/*
 * Sends trailers that were announced, after the last write; the last call has more == false. They
 * must have passed cd_trailer_check. Returns CD_OK, CD_AGAIN, CD_ORDER, CD_GONE or CD_NOMEM.
 *
 * Trailers go only to a client that sent "TE: trailers", and only with a response that has a body
 * (so not for HEAD, 204 and 304); else they are taken and dropped. HTTP/1.1 sends them behind the
 * last chunk, so the body goes in chunks even when the application gave a Content-Length, which is
 * kept. HTTP/2 sends one HEADERS frame with END_STREAM and therefore collects them until the last
 * call.
 */
int cd_stream_trailers(cd_stream *stream, const cd_header *trailers, size_t count, bool more);

/*
 * Sends `count` bytes of a regular file, from `offset` on, as a piece of the body. With CD_OK and
 * CD_AGAIN the core owns the descriptor and closes it; with any other code it stays the caller's.
 * The codes are those of cd_stream_write, and CD_SYSTEM: the file cannot be read (errno), and
 * nothing was sent. The bytes count as unsent output until the peer has them, although they take no
 * memory. When the file becomes shorter while it is being sent, the connection is aborted, so that
 * the peer sees that the response is incomplete.
 *
 * HTTP/1.1 gives the file to the connection's output (cd_conn_put_file); HTTP/2 to the stream's
 * (cd_output_file), from where DATA frames are filled with cd_piece_read. Without a body the
 * descriptor is closed at once.
 */
int cd_stream_file(cd_stream *stream, int fd, uint64_t offset, uint64_t count, bool more);

/* Has the peer gone before everything was sent? */
bool cd_stream_gone(const cd_stream *stream);

/* Is the client still there and the response incomplete? Then cd_stream_finish answers with 500 or
 * aborts. */
bool cd_stream_unfinished(const cd_stream *stream);

/* Aborts the exchange: HTTP/1 and WebSocket end the connection with RST, HTTP/2 sends RST_STREAM.
 * The application may run on. */
void cd_stream_abort(cd_stream *stream);

/*
 * Tells the core that the application has ended; it must be the last call on this stream. The core
 * ends what is incomplete: without a response it answers 500; an incomplete response is aborted; a
 * WebSocket before accept is answered with 500 if the application failed, else with 403; an open
 * one is closed with 1011 if it failed, else with 1000.
 */
void cd_stream_finish(cd_stream *stream, bool failed);

/* ---- WebSocket streams ---- */

/*
 * Accepts the handshake. Returns CD_OK, CD_ORDER, CD_GONE or CD_NOMEM; CD_VALUE when the
 * subprotocol (which may be empty) was not offered; CD_NAME when a header belongs to the handshake
 * itself (Sec-WebSocket-*, Connection, Upgrade, Content-Length and the like).
 */
int cd_ws_accept(cd_stream *stream, cd_str subprotocol, const cd_header *headers, size_t count);

/* Sends one message. Codes and ownership are those of cd_stream_write. Text must be valid UTF-8. */
int cd_ws_send(cd_stream *stream, bool text, cd_chunk chunk);

/*
 * Before accept: answers 403. After it: starts the close handshake. `code` must be 1000 to 1003,
 * 1007 to 1014 or 3000 to 4999 (else CD_STATUS), `reason` valid UTF-8 (else CD_VALUE). A close
 * frame has room for 123 bytes of reason; a longer one is cut behind the last whole character that
 * fits. A second close returns CD_ORDER.
 */
int cd_ws_close(cd_stream *stream, int code, cd_str reason);

/* The versions of the libraries that the core uses, as text. */
const char *cd_libev_version(void);
const char *cd_llhttp_version(void);
const char *cd_nghttp2_version(void);
const char *cd_openssl_version(void);
const char *cd_zlib_version(void);

#ifdef CD_DEBUG
/* Counts living objects by kind, for the tests: every count must return to zero. */
typedef struct {
    long loops, servers, connections, streams, chunks, watches, buffers, tls;
} cd_live;
extern cd_live cd_live_counts;
#define CD_LIVE(kind, step) (cd_live_counts.kind += (step))
#else
#define CD_LIVE(kind, step) ((void)0)
#endif

#endif
