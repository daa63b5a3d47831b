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
 * may overtake it, alerts and tickets neither.
 *
 * A record that the kernel encrypts goes through the original write, because only that one knows
 * how to mark the type of a record.
 */
#include "tls.h"

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <string.h>
#include <sys/socket.h>

static CRYPTO_ONCE once = CRYPTO_ONCE_STATIC_INIT;
static BIO_METHOD *method;
static int (*original_write)(BIO *, const char *, int);

static int quiet_write(BIO *bio, const char *p, int n)
{
    if (BIO_get_ktls_send(bio))
        return original_write(bio, p, n);
    int fd = (int)BIO_get_fd(bio, NULL);
    cd_tls_sink *sink = BIO_get_app_data(bio);
    BIO_clear_retry_flags(bio);
    if (sink->room != NULL) {
        memcpy(sink->room + sink->size, p, (size_t)n);
        sink->size += (size_t)n;
        return n;
    }
    if (cd_buf_length(&sink->rest) > 0)
        return cd_buf_append(&sink->rest, p, (size_t)n) == CD_OK ? n : -1;
    int sent = (int)send(fd, p, (size_t)n, MSG_NOSIGNAL);
    if (sent < 0 && BIO_sock_should_retry(sent))
        BIO_set_retry_write(bio);
    return sent;
}

static void make_method(void)
{
    const BIO_METHOD *from = BIO_s_socket();
    original_write = BIO_meth_get_write(from);
    BIO_METHOD *made = BIO_meth_new(BIO_TYPE_SOCKET, "socket");
    if (made == NULL)
        return;
    if (BIO_meth_set_write(made, quiet_write) && BIO_meth_set_read(made, BIO_meth_get_read(from)) &&
        BIO_meth_set_puts(made, BIO_meth_get_puts(from)) &&
        BIO_meth_set_ctrl(made, BIO_meth_get_ctrl(from)) &&
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
