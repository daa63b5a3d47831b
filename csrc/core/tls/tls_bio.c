/*
 * tls_bio.c - how OpenSSL reaches the socket.
 *
 * Its own socket BIO, except for the write: that one uses write(2), and a peer that has gone would
 * raise SIGPIPE in a process that does not ignore it. Ours sends with MSG_NOSIGNAL, as tcp.c does.
 * Everything else, kTLS in particular, stays OpenSSL's: the method is a copy of the original one,
 * which is made once for the process and never freed.
 *
 * The records of a large write are collected and leave together: OpenSSL alone makes a system call,
 * and wakes the peer, for each 16 KB. What the socket did not take waits in the sink, and nothing
 * may overtake it, alerts and tickets neither. A peer that reads nothing but asks for alert after
 * alert (renegotiation) meets the end of the sink, and that is the end of its connection.
 *
 * Inside of one read OpenSSL would go on for as long as messages come that are no data (key
 * updates, RFC 8446, 4.6.3; renegotiation), and nobody else would have a turn. So the socket has no
 * more to read, for the moment, after as many bytes as the caller can need.
 *
 * Where the kernel encrypts, alerts and tickets go through the original write, because only that
 * one knows how to mark the type of a record. The kernel does not decrypt: it would cost a system
 * call for every record, and a peer that changes its key would be lost.
 */
#include "tls/tls.h"

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <string.h>
#include <sys/socket.h>

/* BIO_CTRL_SET_KTLS, which bio.h has in a comment only; its number is 0 for the direction of
 * reads. */
enum { SET_KTLS = 72 };

static CRYPTO_ONCE once = CRYPTO_ONCE_STATIC_INIT;
static BIO_METHOD *method;
static int (*original_read)(BIO *, char *, int);
static int (*original_write)(BIO *, const char *, int);
static long (*original_ctrl)(BIO *, int, long, void *);

static int bounded_read(BIO *bio, char *p, int n)
{
    cd_tls_sink *sink = BIO_get_app_data(bio);
    if (sink->readable == 0) {
        BIO_clear_retry_flags(bio);
        BIO_set_retry_read(bio);
        return -1;
    }
    int got = original_read(bio, p, n);
    if (got > 0)
        sink->readable -= (size_t)got < sink->readable ? (size_t)got : sink->readable;
    return got;
}

static int collect(cd_tls_sink *sink, const char *p, size_t n)
{
    if (n > CD_TLS_ROOM - sink->size)
        return -1;
    memcpy(sink->room + sink->size, p, n);
    sink->size += n;
    return (int)n;
}

static int queue(cd_tls_sink *sink, const char *p, size_t n)
{
    if (cd_buf_length(&sink->unsent) + n > CD_TLS_UNSENT)
        return -1;
    return cd_buf_append(&sink->unsent, p, n) == CD_OK ? (int)n : -1;
}

static int quiet_write(BIO *bio, const char *p, int n)
{
    if (BIO_get_ktls_send(bio))
        return original_write(bio, p, n);
    int fd = (int)BIO_get_fd(bio, NULL);
    cd_tls_sink *sink = BIO_get_app_data(bio);
    BIO_clear_retry_flags(bio);
    if (sink->room != NULL)
        return collect(sink, p, (size_t)n);
    if (cd_buf_length(&sink->unsent) > 0)
        return queue(sink, p, (size_t)n);
    int sent = (int)send(fd, p, (size_t)n, MSG_NOSIGNAL);
    if (sent < 0 && BIO_sock_should_retry(sent))
        BIO_set_retry_write(bio);
    return sent;
}

static long ctrl(BIO *bio, int command, long n, void *p)
{
    if (command == SET_KTLS && n == 0)
        return 0;
    return original_ctrl(bio, command, n, p);
}

static void make_method(void)
{
    const BIO_METHOD *from = BIO_s_socket();
    original_read = BIO_meth_get_read(from);
    original_write = BIO_meth_get_write(from);
    original_ctrl = BIO_meth_get_ctrl(from);
    BIO_METHOD *made = BIO_meth_new(BIO_TYPE_SOCKET, "socket");
    if (made == NULL)
        return;
    if (BIO_meth_set_write(made, quiet_write) && BIO_meth_set_read(made, bounded_read) &&
        BIO_meth_set_puts(made, BIO_meth_get_puts(from)) && BIO_meth_set_ctrl(made, ctrl) &&
        BIO_meth_set_create(made, BIO_meth_get_create(from)) &&
        BIO_meth_set_destroy(made, BIO_meth_get_destroy(from)))
        method = made;
    else
        BIO_meth_free(made);
}

int cd_tls_attach(SSL *ssl, int fd, cd_tls_sink *sink)
{
    if (!CRYPTO_THREAD_run_once(&once, make_method) || method == NULL)
        return CD_NOMEM;
    BIO *bio = BIO_new(method);
    if (bio == NULL)
        return CD_NOMEM;
    BIO_set_fd(bio, fd, BIO_NOCLOSE);
    BIO_set_app_data(bio, sink);
    SSL_set_bio(ssl, bio, bio);
    return CD_OK;
}

const char *cd_openssl_version(void)
{
    return OpenSSL_version(OPENSSL_VERSION_STRING);
}
