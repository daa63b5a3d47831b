/*
 * tls_client.c - the client of tls_client.h.
 *
 * A turn: some encrypted bytes go into the socket, the loop turns, what the server wrote is given
 * to the client. Three turns without a byte in either direction are taken for the end, because the
 * loop needs one to see a byte, one to dispatch and one to write.
 */
#include "tls_client.h"

#include "tls/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>
#include <unistd.h>

enum { NAMES = 8, IDLE_TURNS = 3 };

bool tls_server_runs;

/* ---- certificates ---- */

static struct {
    char name[64], path[64];
} made[NAMES];

static void remove_files(void)
{
    for (int i = 0; i < NAMES && made[i].name[0] != '\0'; i++)
        unlink(made[i].path);
}

static void must(bool ok)
{
    if (ok)
        return;
    ERR_print_errors_fp(stderr);
    abort();
}

static void write_certificate(const char *name, FILE *file)
{
    char value[80];
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    must(key != NULL && x != NULL);
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), -86400);
    X509_gmtime_adj(X509_getm_notAfter(x), 86400);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
                               (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(x));
    X509_set_pubkey(x, key);
    snprintf(value, sizeof value, "DNS:%s", name);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, value);
    must(extension != NULL && X509_add_ext(x, extension, -1) == 1);
    must(X509_sign(x, key, EVP_sha256()) > 0);
    must(PEM_write_X509(file, x) == 1);
    must(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) == 1);
    X509_EXTENSION_free(extension);
    X509_free(x);
    EVP_PKEY_free(key);
}

const char *certificate_file(const char *name)
{
    int i = 0;
    while (i < NAMES && made[i].name[0] != '\0' && strcmp(made[i].name, name) != 0)
        i++;
    must(i < NAMES);
    if (made[i].name[0] != '\0')
        return made[i].path;
    if (i == 0)
        atexit(remove_files);
    snprintf(made[i].name, sizeof made[i].name, "%s", name);
    snprintf(made[i].path, sizeof made[i].path, "/tmp/cdaphne-test-XXXXXX");
    int fd = mkstemp(made[i].path);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    must(file != NULL);
    write_certificate(name, file);
    fclose(file);
    return made[i].path;
}

cd_tls *tls_for(const char *const *names)
{
    char problem[512];
    cd_tls_pair pairs[NAMES];
    cd_tls_config config = {.pairs = pairs, .min_version = 0x0303};
    cd_tls *tls = NULL;
    for (; names[config.pair_count] != NULL; config.pair_count++) {
        const char *file = certificate_file(names[config.pair_count]);
        pairs[config.pair_count] = (cd_tls_pair){file, file, NULL};
    }
    int rc = cd_tls_new(&tls, &config, problem, sizeof problem);
    CHECK(rc == CD_OK || rc == CD_NOMEM);
    return rc == CD_OK ? tls : NULL;
}

/* ---- the client ---- */

static SSL *new_client(const char *name, int version)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    must(ctx != NULL);
    if (version != 0) {
        SSL_CTX_set_min_proto_version(ctx, version);
        SSL_CTX_set_max_proto_version(ctx, version);
    }
    SSL *ssl = SSL_new(ctx);
    SSL_CTX_free(ctx);
    must(ssl != NULL);
    SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_connect_state(ssl);
    if (name != NULL)
        SSL_set_tlsext_host_name(ssl, name);
    return ssl;
}

tls_client *tls_connect(rig *r, cd_tls *tls, const char *name, int version)
{
    static const cd_addr client = {40000, "192.0.2.7"}, local = {443, "192.0.2.1"};
    int ends[2];
    must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
    cd_transport *transport = tls != NULL ? cd_tls_accept(r->server, ends[0], tls) : NULL;
    if (transport == NULL) {
        close(ends[0]);
        close(ends[1]);
        return NULL;
    }
    if (cd_conn_open(r->server, transport, &client, &local) == NULL) {
        transport->ops->close(transport, true);
        close(ends[1]);
        return NULL;
    }
    tls_client *t = calloc(1, sizeof *t);
    must(t != NULL);
    t->rig = r;
    t->fd = ends[1];
    t->c = transport->conn;
    t->ssl = new_client(name, version);
    t->most = SIZE_MAX;
    return t;
}

tls_client *tls_open(rig *r, cd_tls *tls, const char *name, int version)
{
    tls_client *t = tls_connect(r, tls, name, version);
    if (t != NULL)
        tls_settle(t);
    return t;
}

static size_t cut_size(tls_client *t, size_t n)
{
    rig *r = t->rig;
    if (r->cut == CUT_WHOLE)
        return n;
    r->seed = r->seed * 1664525u + 1013904223u;
    return r->cut == CUT_BYTES ? 1 : 1 + (r->seed >> 8) % n;
}

/* The client's OpenSSL takes a step: handshake, then reading. */
static void step(tls_client *t)
{
    char bytes[4096];
    int n = 0;
    ERR_clear_error();
    if (!SSL_is_init_finished(t->ssl))
        n = SSL_do_handshake(t->ssl);
    while (SSL_is_init_finished(t->ssl) && (n = SSL_read(t->ssl, bytes, sizeof bytes)) > 0)
        text_add(&t->output, bytes, (size_t)n);
    int error = SSL_get_error(t->ssl, n);
    if (error == SSL_ERROR_ZERO_RETURN)
        t->said_goodbye = true;
    else if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_NONE)
        t->failed = true;
    n = (int)BIO_ctrl_pending(SSL_get_wbio(t->ssl));
    while (n > 0 && (n = BIO_read(SSL_get_wbio(t->ssl), bytes, sizeof bytes)) > 0)
        text_add(&t->sent, bytes, (size_t)n);
}

static bool to_server(tls_client *t)
{
    size_t left = t->sent.n - t->sent_start;
    if (left == 0 || t->fd < 0)
        return false;
    ssize_t n = send(t->fd, t->sent.p + t->sent_start, cut_size(t, left), MSG_NOSIGNAL);
    if (n > 0)
        t->sent_start += (size_t)n;
    return n > 0;
}

static bool from_server(tls_client *t)
{
    char bytes[65536];
    size_t most = t->most < sizeof bytes ? t->most : sizeof bytes;
    if (t->fd < 0 || most == 0 || t->ended)
        return false;
    ssize_t n = recv(t->fd, bytes, cut_size(t, most), 0);
    if (n > 0) {
        BIO_write(SSL_get_rbio(t->ssl), bytes, (int)n);
        return true;
    }
    t->was_reset = t->was_reset || (n < 0 && errno == ECONNRESET);
    t->ended = n == 0 || t->was_reset;
    return t->ended;
}

void tls_settle(tls_client *t)
{
    if (t == NULL)
        return;
    for (int idle = 0; idle < IDLE_TURNS; idle++) {
        step(t);
        bool moved = to_server(t);
        tls_server_runs = true;
        rig_turn(t->rig);
        tls_server_runs = false;
        if (from_server(t) || moved)
            idle = -1;
    }
    step(t);
}

void tls_send(tls_client *t, const void *p, size_t n, size_t record)
{
    if (t == NULL || t->failed || !SSL_is_init_finished(t->ssl))
        return;
    for (size_t at = 0, size; at < n; at += size) {
        size = n - at < record ? n - at : record;
        if (SSL_write(t->ssl, (const char *)p + at, (int)size) <= 0)
            break;
    }
    tls_settle(t);
}

void tls_text(tls_client *t, const char *string)
{
    tls_send(t, string, strlen(string), SIZE_MAX);
}

void tls_send_raw(tls_client *t, const void *p, size_t n)
{
    if (t == NULL)
        return;
    text_add(&t->sent, p, n);
    tls_settle(t);
}

const char *tls_output(const tls_client *t)
{
    return t != NULL && t->output.p != NULL ? t->output.p : "";
}

void tls_close(tls_client *t)
{
    if (t == NULL)
        return;
    if (t->fd >= 0)
        close(t->fd);
    SSL_set_shutdown(t->ssl, SSL_SENT_SHUTDOWN); /* else its session could not be resumed */
    SSL_free(t->ssl);
    text_free(&t->sent);
    text_free(&t->output);
    free(t);
}
