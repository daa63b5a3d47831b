/*
 * tls.c - the transport with TLS between the connection and its socket.
 *
 * OpenSSL reads and writes the socket itself, non-blocking, which is what lets the kernel take over
 * the records where it can (kTLS). The connection above sees bytes: the handshake happens inside,
 * before the first of them, under a deadline of its own.
 *
 * A descriptor is not the whole truth here. Bytes may be decrypted, or read and not yet decrypted,
 * while epoll has nothing to tell, so the connection reads again in the next turn until OpenSSL
 * says that it needs the socket. And either direction may wait for the other one: each remembers
 * what it waits for.
 *
 * A head and its body lie in several vectors and leave in one record and one system call: small
 * vectors are copied together first, up to the size of a record (RFC 8446, 5.1). Large bodies leave
 * RECORDS at a time in one system call. Bytes count as written when their record has left whole;
 * those of records that wait in the sink as it empties, the last of them at its end.
 *
 * Where the kernel encrypts (kTLS), bytes and files go to the socket past OpenSSL, as over TCP. Its
 * SSL_write would, at a full socket, keep a pointer and send later what is there then, and would
 * follow a peer's wish for new keys (RFC 8446, 4.6.3) without the kernel. That wish goes unheard.
 *
 * An orderly end says close_notify, an abort does not, so a response that was cut looks cut. A peer
 * that ends without close_notify is taken for one that has ended: a request says itself how long it
 * is, and so does a frame.
 */
#include "tls/tls.h"

#include "base/mem.h"
#include "net/conn.h"
#include "net/server_state.h"

#include <limits.h>
#include <openssl/err.h>
#include <openssl/x509_vfy.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    RECORD = CD_TLS_RECORD,
    RECORDS = CD_TLS_RECORDS,
    HELLOS = 65536, /* most bytes of a handshake that are read at once */
    /* A record of this size is probably one of many: look for the next at once. */
    BULK = 8192,
};

enum phase {
    HANDSHAKE, /* no byte of the application's is sent or read before it is over */
    OPEN,
    FAILED, /* the handshake failed; the socket stays open until the alert has reached the peer */
    BROKEN, /* OpenSSL gave the connection up: nothing more may be sent, not even close_notify */
};

typedef struct {
    cd_transport base;
    ev_io io;
    cd_timer timer; /* limits the handshake */
    cd_job more;    /* reads data that OpenSSL holds and epoll cannot report */
    cd_tls_handshake handshake;
    cd_loop *loop;
    SSL *ssl;
    cd_tls_sink sink;
    size_t owed; /* bytes in sink.unsent that have not been counted as written */
    int fd;
    unsigned phase : 2;
    unsigned wanted : 2;      /* CD_READ | CD_WRITE: the events that the connection wants */
    unsigned read_wants : 2;  /* the events that a read, or the handshake, waits for */
    unsigned write_wants : 2; /* the events that a write waits for */
    unsigned starved : 1;     /* the last read stopped because the socket had no more */
    unsigned ended : 1;       /* an end or an error is known and waits to be read */
} tls;

static tls *self(cd_transport *t)
{
    return cd_container(t, tls, base);
}

/* What an SSL call that returned rc <= 0 waits for: CD_READ or CD_WRITE; 0: it will never
 * succeed. */
static unsigned waits_for(tls *s, int rc)
{
    switch (SSL_get_error(s->ssl, rc)) {
    case SSL_ERROR_WANT_READ:
        return CD_READ;
    case SSL_ERROR_WANT_WRITE:
        return CD_WRITE;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    default:
        s->phase = s->phase == HANDSHAKE ? FAILED : BROKEN;
        return 0;
    }
}

/* Is there data to read although the socket may have none? */
static bool has_more(const tls *s)
{
    return s->ended || (s->phase == OPEN && !s->starved && SSL_has_pending(s->ssl));
}

static void arm(tls *s)
{
    unsigned events = s->wanted & CD_READ ? s->read_wants : 0u;
    if (s->wanted & CD_WRITE)
        events |= s->write_wants;
    if (s->phase == HANDSHAKE)
        events = s->read_wants;
    ev_io_stop(s->loop->ev, &s->io);
    if (events == 0)
        return;
    ev_io_modify(&s->io, (events & CD_READ ? EV_READ : 0) | (events & CD_WRITE ? EV_WRITE : 0));
    ev_io_start(s->loop->ev, &s->io);
}

/* Schedules a read for the next turn: OpenSSL holds data that epoll cannot report. */
static void feed(tls *s)
{
    if ((s->wanted & CD_READ) && has_more(s))
        cd_job_defer(s->loop, &s->more);
}

static void on_more(cd_job *job)
{
    tls *s = cd_container(job, tls, more);
    cd_conn *c = s->base.conn;
    if ((s->wanted & CD_READ) && has_more(s))
        cd_conn_on_io(c, CD_READ);
    if (c->transport == &s->base)
        feed(s);
}

/* ---- reading ---- */

/* Ends a read that got nothing more, after `total` bytes. */
static ssize_t read_stopped(tls *s, int rc, size_t total)
{
    unsigned wants = waits_for(s, rc);
    if (wants != 0) {
        bool turned = s->read_wants != wants;
        s->read_wants = wants & 3u;
        s->starved = 1;
        if (turned)
            arm(s);
        return total > 0 ? (ssize_t)total : CD_AGAIN;
    }
    s->ended = 1;
    if (total > 0)
        return (ssize_t)total;
    return s->phase == BROKEN ? CD_GONE : 0;
}

static ssize_t tls_read(cd_transport *t, void *p, size_t n)
{
    tls *s = self(t);
    size_t total = 0;
    int got = BULK;
    if (s->phase == FAILED)
        return cd_socket_result(recv(s->fd, p, n, 0));
    if (s->phase != OPEN)
        return s->phase == HANDSHAKE ? CD_AGAIN : CD_GONE;
    s->starved = 0;
    s->sink.readable = n + 2 * (size_t)RECORD;
    if (s->read_wants != CD_READ) {
        s->read_wants = CD_READ;
        arm(s);
    }
    while (total < n && (got >= BULK || SSL_has_pending(s->ssl))) {
        ERR_clear_error();
        got = SSL_read(s->ssl, (char *)p + total, (int)(n - total < INT_MAX ? n - total : INT_MAX));
        if (got <= 0)
            return read_stopped(s, got, total);
        total += (size_t)got;
    }
    return (ssize_t)total;
}

/* ---- writing ---- */

/* The place in the vectors where the next record begins. */
typedef struct {
    const struct iovec *iov;
    int count;
    size_t offset;
} cursor;

/* Takes at most n bytes of the first vector. */
static size_t take(cursor *at, const uint8_t **p, size_t n)
{
    size_t left = at->iov->iov_len - at->offset;
    *p = (const uint8_t *)at->iov->iov_base + at->offset;
    if (n < left) {
        at->offset += n;
        return n;
    }
    at->offset = 0;
    at->iov++;
    at->count--;
    return left;
}

/* The payload of the next record: in place when the vector has a whole one, else copied
 * together. */
static size_t next_record(cursor *at, uint8_t *copy, const uint8_t **payload)
{
    size_t total = 0;
    if (at->count == 1 || (at->count > 0 && at->iov->iov_len - at->offset >= RECORD))
        return take(at, payload, RECORD);
    while (at->count > 0 && total < RECORD) {
        const uint8_t *p;
        size_t n = take(at, &p, RECORD - total);
        if (n > 0)
            memcpy(copy + total, p, n);
        total += n;
    }
    *payload = copy;
    return total;
}

/* What a write has encrypted: the end of each record in loop->sealed, and the end of its bytes. */
typedef struct {
    size_t sealed[RECORDS], plain[RECORDS];
    int count;
} batch;

static ssize_t write_failed(tls *s, int rc)
{
    unsigned wants = waits_for(s, rc);
    s->write_wants = wants & 3u;
    return wants != 0 ? CD_AGAIN : CD_GONE;
}

/* Encrypts RECORDS records at most. Returns CD_OK, or the error of the first one. */
static ssize_t seal(tls *s, cursor at, batch *b)
{
    uint8_t copy[RECORD];
    const uint8_t *payload;
    size_t plain = 0, n;
    ssize_t result = CD_OK;
    s->sink.room = s->loop->sealed;
    s->sink.size = 0;
    while (b->count < RECORDS && (n = next_record(&at, copy, &payload)) > 0) {
        ERR_clear_error();
        int rc = SSL_write(s->ssl, payload, (int)n);
        if (rc <= 0) {
            result = b->count > 0 ? CD_OK : write_failed(s, rc);
            break;
        }
        plain += (size_t)rc;
        b->sealed[b->count] = s->sink.size;
        b->plain[b->count++] = plain;
        if ((size_t)rc < n) /* the peer asked for smaller records (RFC 6066, 4) */
            break;
    }
    s->sink.room = NULL;
    return result;
}

/* Counts the records that were sent completely, and keeps the other bytes. */
static ssize_t keep_unsent(tls *s, const batch *b, size_t sent)
{
    size_t whole = 0;
    for (int i = 0; i < b->count && b->sealed[i] <= sent; i++)
        whole = b->plain[i];
    if (cd_buf_append(&s->sink.unsent, s->loop->sealed + sent, b->sealed[b->count - 1] - sent) <
        0) {
        s->phase = BROKEN;
        return CD_GONE;
    }
    s->owed = b->plain[b->count - 1] - whole;
    s->write_wants = CD_WRITE;
    return whole > 0 ? (ssize_t)whole : CD_AGAIN;
}

static ssize_t ship(tls *s, const batch *b)
{
    size_t size = b->sealed[b->count - 1];
    ssize_t sent = cd_socket_result(send(s->fd, s->loop->sealed, size, MSG_NOSIGNAL));
    if (sent == CD_GONE)
        return CD_GONE;
    if (sent == (ssize_t)size)
        return (ssize_t)b->plain[b->count - 1];
    return keep_unsent(s, b, sent > 0 ? (size_t)sent : 0);
}

/* Counts parts of a record, too: a slow peer must be seen to make progress long before it has read
 * everything. */
static ssize_t send_unsent(tls *s)
{
    cd_buf *unsent = &s->sink.unsent;
    ssize_t sent =
        cd_socket_result(send(s->fd, cd_buf_data(unsent), cd_buf_length(unsent), MSG_NOSIGNAL));
    if (sent < 0)
        return sent;
    cd_buf_consume(unsent, (size_t)sent);
    size_t counted = s->owed;
    if (cd_buf_length(unsent) > 0)
        counted = (size_t)sent < s->owed ? (size_t)sent : s->owed - 1;
    s->owed -= counted;
    return counted > 0 ? (ssize_t)counted : CD_AGAIN;
}

/* The socket takes plain bytes, and the kernel makes records of them. */
static bool by_kernel(const tls *s)
{
    return BIO_get_ktls_send(SSL_get_wbio(s->ssl));
}

static ssize_t tls_writev(cd_transport *t, const struct iovec *iov, int count)
{
    tls *s = self(t);
    batch b = {.count = 0};
    cursor at = {iov, count, 0};
    if (s->phase != OPEN)
        return s->phase == HANDSHAKE ? CD_AGAIN : CD_GONE;
    if (cd_buf_length(&s->sink.unsent) > 0)
        return send_unsent(s);
    if (by_kernel(s))
        return cd_socket_writev(s->fd, iov, count, 0);
    if (s->loop->sealed == NULL)
        s->loop->sealed = cd_alloc(CD_TLS_ROOM);
    if (s->loop->sealed == NULL)
        return CD_GONE;
    s->write_wants = CD_WRITE;
    ssize_t result = seal(s, at, &b);
    return result < 0 ? result : ship(s, &b);
}

/* Lets the kernel encrypt and send the file itself, if it can for this connection; if not, the
 * caller reads the file. */
static ssize_t tls_sendfile(cd_transport *t, int fd, uint64_t offset, size_t n)
{
    tls *s = self(t);
    if (s->phase != OPEN)
        return s->phase == HANDSHAKE ? CD_AGAIN : CD_GONE;
    return by_kernel(s) ? cd_socket_sendfile(s->fd, fd, offset, n) : CD_SYSTEM;
}

/* ---- the handshake ---- */

static void handshake_over(tls *s)
{
    cd_timer_dispose(&s->timer);
    cd_tls_end(&s->handshake);
    s->read_wants = CD_READ;
}

/* Answers a client that speaks plain HTTP to this port in plain text, which it can read. */
static void answer_plain(tls *s)
{
    static const char page[] =
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 47\r\n"
        "connection: close\r\n\r\n400 Bad Request: this port speaks HTTPS (TLS).\n";
    ssize_t n = send(s->fd, page, sizeof page - 1, MSG_NOSIGNAL);
    (void)n; /* the answer is only a courtesy */
}

/* Describes the peer's error for the log, and answers what it sent in place of a handshake. */
static const char *failure(tls *s, enum cd_level *level)
{
    unsigned long error = ERR_peek_error();
    long verified = SSL_get_verify_result(s->ssl);
    int reason = ERR_GET_REASON(error);
    *level = CD_INFO;
    if (ERR_GET_LIB(error) == ERR_LIB_SSL &&
        (reason == SSL_R_HTTP_REQUEST || reason == SSL_R_HTTPS_PROXY_REQUEST)) {
        answer_plain(s);
        return "it speaks plain HTTP";
    }
    if (error != 0 && verified != X509_V_OK)
        return X509_verify_cert_error_string(verified);
    if (error != 0 && ERR_reason_error_string(error) != NULL)
        return ERR_reason_error_string(error);
    *level = CD_DEBUG_LEVEL; /* a peer that only looks whether the port is open */
    return "the peer left";
}

static void fail(tls *s)
{
    cd_conn *c = s->base.conn;
    enum cd_level level;
    const char *why = failure(s, &level);
    cd_conn_log(c, level, "TLS handshake with %s failed: %s", cd_conn_peer(c), why);
    ERR_clear_error();
    handshake_over(s);
    cd_conn_close(c, true); /* not at once: a RST would overtake the alert */
}

static void on_handshake_timeout(cd_timer *timer)
{
    tls *s = cd_container(timer, tls, timer);
    cd_conn *c = s->base.conn;
    cd_conn_log(c, CD_INFO,
                "Connection of %s closed: no TLS handshake in %g s (--tls-handshake-timeout)",
                cd_conn_peer(c), c->server->limits.tls_handshake_timeout);
    cd_conn_abort(c);
}

/* Continues the handshake. True: it is over and successful; otherwise the transport may be gone. */
static bool shake_hands(tls *s)
{
    ERR_clear_error();
    s->sink.readable = HELLOS;
    int rc = SSL_accept(s->ssl);
    if (rc == 1) {
        s->phase = OPEN;
        s->base.alpn = s->handshake.alpn;
        handshake_over(s);
        arm(s);
        return true;
    }
    unsigned wants = waits_for(s, rc);
    if (wants != 0) {
        bool turned = s->read_wants != wants;
        s->read_wants = wants & 3u;
        if (turned)
            arm(s);
        return false;
    }
    s->phase = FAILED;
    fail(s);
    return false;
}

/* ---- events ---- */

static void on_io(struct ev_loop *ev, ev_io *io, int revents)
{
    (void)ev;
    tls *s = cd_container(io, tls, io);
    cd_conn *c = s->base.conn;
    unsigned events = (revents & EV_READ ? CD_READ : 0) | (revents & EV_WRITE ? CD_WRITE : 0);
    unsigned ready = 0;
    if (s->phase == HANDSHAKE) {
        if (!shake_hands(s))
            return;
        events = CD_WRITE | (SSL_has_pending(s->ssl) ? CD_READ : 0);
    }
    if (events & s->read_wants)
        ready |= s->wanted & CD_READ;
    if (events & s->write_wants)
        ready |= s->wanted & CD_WRITE;
    if (ready != 0)
        cd_conn_on_io(c, (int)ready);
    if (c->transport == &s->base)
        feed(s);
}

static void tls_want(cd_transport *t, int events)
{
    tls *s = self(t);
    s->wanted = (unsigned)events & 3u;
    arm(s);
    feed(s);
}

/* ---- the end ---- */

static int tls_goodbye(cd_transport *t)
{
    tls *s = self(t);
    if (s->phase != OPEN || (SSL_get_shutdown(s->ssl) & SSL_SENT_SHUTDOWN))
        return CD_OK;
    ERR_clear_error();
    int rc = SSL_shutdown(s->ssl);
    if (rc >= 0)
        return CD_OK;
    unsigned wants = waits_for(s, rc);
    if (wants != CD_WRITE)
        return CD_OK;
    s->write_wants = CD_WRITE;
    return CD_AGAIN;
}

static bool tls_broken(cd_transport *t)
{
    return cd_socket_broken(self(t)->fd);
}

static void tls_shutdown(cd_transport *t)
{
    shutdown(self(t)->fd, SHUT_WR);
}

static void tls_close(cd_transport *t, bool reset)
{
    tls *s = self(t);
    if (!reset)
        tls_goodbye(t);
    ERR_clear_error();
    ev_io_stop(s->loop->ev, &s->io);
    cd_job_cancel(&s->more);
    handshake_over(s);
    SSL_free(s->ssl);
    cd_buf_dispose(&s->sink.unsent);
    cd_socket_close(s->fd, reset);
    cd_free(s);
}

static void tls_forsake(cd_transport *t)
{
    close(self(t)->fd);
}

static cd_tls_facts *tls_facts(cd_transport *t)
{
    return cd_tls_facts_new(self(t)->ssl);
}

static const cd_transport_ops tls_ops = {
    .read = tls_read,
    .writev = tls_writev,
    .want = tls_want,
    .broken = tls_broken,
    .shutdown = tls_shutdown,
    .close = tls_close,
    .forsake = tls_forsake,
    .goodbye = tls_goodbye,
    .facts = tls_facts,
    .sendfile = tls_sendfile,
};

cd_transport *cd_tls_accept(cd_server *server, int fd, cd_tls *context)
{
    tls *s = cd_zalloc(sizeof *s);
    if (s == NULL)
        return NULL;
    s->handshake.http2 = server->http2;
    s->ssl = cd_tls_begin(&s->handshake, context, server->loop);
    if (s->ssl == NULL || cd_tls_attach(s->ssl, fd, &s->sink) < 0) {
        SSL_free(s->ssl);
        cd_tls_end(&s->handshake);
        cd_free(s);
        return NULL;
    }
    s->base.ops = &tls_ops;
    s->base.secure = true;
    s->loop = server->loop;
    s->fd = fd;
    s->read_wants = CD_READ;
    s->write_wants = CD_WRITE;
    ev_io_init(&s->io, on_io, fd, EV_READ);
    cd_job_init(&s->more, on_more);
    cd_timer_init(&s->timer, s->loop, on_handshake_timeout);
    cd_timer_set(&s->timer, server->limits.tls_handshake_timeout);
    return &s->base;
}
