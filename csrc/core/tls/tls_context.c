/*
 * tls_context.c - the certificates and settings of a listener: which certificate a client gets, and
 * what becomes of a reload.
 *
 * A cd_tls points at a context, which is what was loaded and never changes. A reload loads another
 * one beside it and swaps the pointer only when all of it is good; handshakes that are under way
 * hold the old one, established connections hold what they need of it through their SSL.
 *
 * There is one SSL_CTX for each name that a client can ask for (SNI, RFC 6066, 3), all with the
 * same settings; two certificates for the same name with keys of different kinds share one, and the
 * client's signature algorithms decide. The first is for clients that ask for nothing or for
 * strangers.
 *
 * Sessions are resumed by tickets only, there is no cache. Where client certificates are asked for
 * there are no tickets either: a resumed session would not look into the list of revoked ones
 * again.
 */
#include "tls/tls.h"

#include "base/mem.h"
#include "tls/tls_load.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ocsp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct {
    SSL_CTX *ctx;
    cd_tls_staple staple;
} entry;

struct cd_tls_context {
    size_t references, count;
    cd_tls_names names;
    entry entries[]; /* [0] is the default */
};

/* ---- callbacks of a handshake ---- */

static int on_server_name(SSL *ssl, int *alert, void *arg)
{
    (void)alert, (void)arg;
    cd_tls_context *context = ((cd_tls_handshake *)SSL_get_app_data(ssl))->context;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    if (name == NULL || context == NULL || context->count == 1)
        return SSL_TLSEXT_ERR_OK;
    long found = cd_tls_names_find(&context->names, name);
    if (found < 0)
        return SSL_TLSEXT_ERR_NOACK;
    SSL_set_SSL_CTX(ssl, context->entries[found].ctx);
    return SSL_TLSEXT_ERR_OK;
}

/* Chooses the first of our protocols that the client offers; none in common is fatal (RFC 7301,
 * 3.2). */
static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_size,
                   const unsigned char *in, unsigned in_size, void *arg)
{
    static const struct {
        enum cd_alpn alpn;
        unsigned char size;
        char name[9];
    } ours[] = {{CD_ALPN_H2, 2, "h2"}, {CD_ALPN_HTTP1, 8, "http/1.1"}};
    (void)arg;
    cd_tls_handshake *h = SSL_get_app_data(ssl);
    for (size_t i = h->http2 ? 0 : 1; i < sizeof ours / sizeof ours[0]; i++) {
        for (unsigned at = 0; at < in_size && in[at] < in_size - at; at += 1u + in[at]) {
            if (in[at] != ours[i].size || memcmp(in + at + 1, ours[i].name, ours[i].size) != 0)
                continue;
            h->alpn = ours[i].alpn;
            *out = in + at + 1;
            *out_size = in[at];
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* Sends the OCSP response for the certificate (RFC 6066, 8), while it is valid. */
static int on_status(SSL *ssl, void *arg)
{
    (void)arg;
    cd_tls_context *context = ((cd_tls_handshake *)SSL_get_app_data(ssl))->context;
    const X509 *chosen = SSL_get_certificate(ssl);
    for (size_t i = 0; context != NULL && i < context->count; i++) {
        const cd_tls_staple *staple = &context->entries[i].staple;
        if (staple->size == 0 || staple->certificate != chosen || !cd_tls_staple_good(staple))
            continue;
        unsigned char *copy = OPENSSL_memdup(staple->p, staple->size);
        if (copy == NULL || !SSL_set_tlsext_status_ocsp_resp(ssl, copy, (int)staple->size)) {
            OPENSSL_free(copy);
            break;
        }
        return SSL_TLSEXT_ERR_OK;
    }
    return SSL_TLSEXT_ERR_NOACK;
}

/* Accepts every certificate; the application is told what is wrong with it. */
static int on_verify(int good, X509_STORE_CTX *store)
{
    (void)good, (void)store;
    return 1;
}

/* ---- settings ---- */

static void set_verify(SSL_CTX *ctx, enum cd_tls_verify verify)
{
    static const int modes[] = {
        [CD_TLS_NONE] = SSL_VERIFY_NONE,
        [CD_TLS_OPTIONAL] = SSL_VERIFY_PEER,
        [CD_TLS_REQUIRED] = SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
        [CD_TLS_REPORT] = SSL_VERIFY_PEER,
    };
    SSL_CTX_set_verify(ctx, modes[verify], verify == CD_TLS_REPORT ? on_verify : NULL);
    if (verify != CD_TLS_NONE) {
        SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
        SSL_CTX_set_num_tickets(ctx, 0);
    }
}

static void set_callbacks(SSL_CTX *ctx)
{
    SSL_CTX_set_tlsext_servername_callback(ctx, on_server_name);
    SSL_CTX_set_alpn_select_cb(ctx, on_alpn, NULL);
    SSL_CTX_set_tlsext_status_cb(ctx, on_status);
    SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, cd_ticket_callback);
}

/*
 * Would the kernel encrypt? Asked here, because OpenSSL asks for every connection: four system
 * calls that fail, and two for each record of a handshake. A socket that is not connected is
 * refused in one way where there is kTLS and in another where there is none.
 */
static bool kernel_encrypts(void)
{
    static const char name[] = "tls";
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int rc = setsockopt(fd, IPPROTO_TCP, TCP_ULP, name, sizeof name - 1);
    bool there = rc == 0 || errno == ENOTCONN;
    if (fd >= 0)
        close(fd);
    return there;
}

/* An SSL_CTX without a certificate; NULL: no memory, or settings that OpenSSL refuses. */
static SSL_CTX *bare(const cd_tls_config *config, X509_STORE *trusted, cd_tls_problem *problem)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (ctx == NULL)
        return NULL;
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA |
                                 SSL_OP_IGNORE_UNEXPECTED_EOF);
    if (kernel_encrypts())
        SSL_CTX_set_options(ctx, SSL_OP_ENABLE_KTLS);
    /* RELEASE_BUFFERS: an idle connection holds neither of its two buffers of 17 KB. */
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(ctx, 1); /* one system call for a record, not two */
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(ctx, 1); /* one for each connection is enough; two cost 20 us more */
    SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"cdaphne", 7);
    set_callbacks(ctx);
    set_verify(ctx, config->verify);
    if (trusted != NULL)
        SSL_CTX_set1_cert_store(ctx, trusted);
    if (!cd_tls_load_settings(ctx, config, problem)) {
        SSL_CTX_free(ctx);
        return NULL;
    }
    return ctx;
}

/* ---- contexts ---- */

static void release(cd_tls_context *context)
{
    if (context == NULL || --context->references > 0)
        return;
    for (size_t i = 0; i < context->count; i++) {
        SSL_CTX_free(context->entries[i].ctx);
        cd_tls_staple_dispose(&context->entries[i].staple);
    }
    cd_tls_names_dispose(&context->names);
    cd_free(context);
}

/* Finds the entry for the same names, to which this pair is the second kind of key; NULL: it is a
 * new entry. */
static entry *companion(cd_tls_context *context, X509 *certificate)
{
    for (size_t i = 0; i < context->count; i++) {
        X509 *other = SSL_CTX_get0_certificate(context->entries[i].ctx);
        if (cd_tls_same_names(other, certificate) &&
            EVP_PKEY_get_base_id(X509_get0_pubkey(other)) !=
                EVP_PKEY_get_base_id(X509_get0_pubkey(certificate)))
            return &context->entries[i];
    }
    return NULL;
}

static bool add_pair(cd_tls_context *context, const cd_tls_config *config, const cd_tls_pair *pair,
                     X509_STORE *trusted, cd_tls_problem *problem)
{
    SSL_CTX *ctx = bare(config, trusted, problem);
    bool good = ctx != NULL && cd_tls_load_pair(ctx, config, pair, problem);
    entry *other = good ? companion(context, SSL_CTX_get0_certificate(ctx)) : NULL;
    if (other != NULL) {
        SSL_CTX_free(ctx);
        return cd_tls_load_pair(other->ctx, config, pair, NULL);
    }
    if (!good) {
        SSL_CTX_free(ctx);
        return false;
    }
    context->entries[context->count].ctx = ctx;
    return cd_tls_names_add(&context->names, SSL_CTX_get0_certificate(ctx), context->count++);
}

/* Gives each response to the certificate that it is for. */
static bool add_staple(cd_tls_context *context, const char *file, cd_tls_problem *problem)
{
    for (size_t i = 0; i < context->count; i++) {
        entry *e = &context->entries[i];
        int fits = cd_tls_staple_load(&e->staple, SSL_CTX_get0_certificate(e->ctx), file, problem);
        if (fits != 0)
            return fits > 0;
    }
    cd_tls_complain(problem, "%s: the OCSP response is for none of the certificates", file);
    return false;
}

static cd_tls_context *load(const cd_tls_config *config, cd_tls_problem *problem)
{
    cd_tls_context *context =
        cd_zalloc(sizeof *context + config->pair_count * sizeof context->entries[0]);
    X509_STORE *trusted = NULL;
    bool good = context != NULL && cd_tls_load_trusted(&trusted, config, problem);
    if (context != NULL)
        context->references = 1;
    for (size_t i = 0; good && i < config->pair_count; i++)
        good = add_pair(context, config, &config->pairs[i], trusted, problem);
    for (size_t i = 0; good && i < config->ocsp_count; i++)
        good = add_staple(context, config->ocsp_files[i], problem);
    X509_STORE_free(trusted);
    ERR_clear_error();
    if (good)
        cd_tls_names_sort(&context->names);
    if (good)
        return context;
    release(context);
    return NULL;
}

/* ---- cd_tls ---- */

static int failure(const cd_tls_problem *problem)
{
    return problem->told ? CD_VALUE : CD_NOMEM;
}

int cd_tls_new(cd_tls **made, const cd_tls_config *config, char *text, size_t size)
{
    cd_tls_problem problem = {.text = text, .size = size};
    cd_tls *tls = cd_zalloc(sizeof *tls);
    text[0] = '\0';
    if (tls == NULL)
        return CD_NOMEM;
    tls->references = 1;
    tls->context = load(config, &problem);
    if (tls->context == NULL) {
        cd_free(tls);
        return failure(&problem);
    }
    CD_LIVE(tls, 1);
    *made = tls;
    return CD_OK;
}

int cd_tls_reload(cd_tls *tls, const cd_tls_config *config, char *text, size_t size)
{
    cd_tls_problem problem = {.text = text, .size = size};
    text[0] = '\0';
    cd_tls_context *context = load(config, &problem);
    if (context == NULL)
        return failure(&problem);
    release(tls->context);
    tls->context = context;
    cd_tls_set_ticket_lifetime(tls, tls->ticket_lifetime);
    return CD_OK;
}

void cd_tls_free(cd_tls *tls)
{
    if (tls == NULL || --tls->references > 0)
        return;
    release(tls->context);
    cd_tickets_dispose(&tls->tickets);
    cd_free(tls);
    CD_LIVE(tls, -1);
}

cd_tls *cd_tls_hold(cd_tls *tls)
{
    tls->references++;
    return tls;
}

void cd_tls_set_ticket_lifetime(cd_tls *tls, double seconds)
{
    tls->ticket_lifetime = seconds;
    for (size_t i = 0; i < tls->context->count; i++) {
        SSL_CTX *ctx = tls->context->entries[i].ctx;
        SSL_CTX_set_timeout(ctx, seconds < INT32_MAX ? (long)seconds : INT32_MAX);
        if (seconds <= 0) {
            SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
            SSL_CTX_set_num_tickets(ctx, 0);
        }
    }
}

SSL *cd_tls_begin(cd_tls_handshake *h, cd_tls *tls, cd_loop *loop)
{
    SSL *ssl = SSL_new(tls->context->entries[0].ctx);
    if (ssl == NULL)
        return NULL;
    h->tls = cd_tls_hold(tls);
    h->context = tls->context;
    h->context->references++;
    h->loop = loop;
    SSL_set_app_data(ssl, h);
    return ssl;
}

void cd_tls_end(cd_tls_handshake *h)
{
    release(h->context);
    cd_tls_free(h->tls);
    h->context = NULL;
    h->tls = NULL;
}
