/*
 * tls_load.c - certificates, keys and lists from files into OpenSSL.
 *
 * Most of what goes wrong with TLS goes wrong here, in the hands of an operator, and what OpenSSL
 * says of it is of little help ("bad decrypt"). So each step looks for the usual mistakes itself:
 * a file that is not there or not for this user, one that holds something else, a key that is
 * another certificate's, a password that is missing or wrong. The sentence names the file and the
 * remedy. An expired certificate is a warning: the server must start, because somebody may be about
 * to renew it through this very server.
 *
 * An OCSP response is checked for whom it is and until when, not for its signature: the client
 * checks that.
 */
#include "tls/tls_load.h"

#include "base/mem.h"

#include <errno.h>
#include <openssl/decoder.h>
#include <openssl/err.h>
#include <openssl/ocsp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* Forward secrecy and authenticated encryption only, the fast one first; HTTP/2 forbids the rest
 * (RFC 9113, 9.2.2). */
#define CIPHERS \
    "ECDHE+AESGCM+AES128:ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20:!aNULL:!PSK:!aDSS"
#define SUITES "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"

enum { STAPLE_MOST = 65536 }; /* most bytes of an OCSP response; usually they have two thousand */

/* ---- sentences ---- */

static void say(cd_tls_problem *problem, const char *format, va_list args)
{
    size_t used = strnlen(problem->text, problem->size);
    if (used > 0 && used + 1 < problem->size)
        problem->text[used++] = '\n';
    vsnprintf(problem->text + used, problem->size - used, format, args);
}

void cd_tls_complain(cd_tls_problem *problem, const char *format, ...)
{
    va_list args;
    if (problem == NULL)
        return;
    problem->text[0] = '\0'; /* an error replaces the warnings so far */
    va_start(args, format);
    say(problem, format, args);
    va_end(args);
    problem->told = true;
}

static void warn(cd_tls_problem *problem, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void warn(cd_tls_problem *problem, const char *format, ...)
{
    va_list args;
    if (problem == NULL)
        return;
    va_start(args, format);
    say(problem, format, args);
    va_end(args);
}

/* OpenSSL's reason, in its own words. */
static const char *reason(void)
{
    const char *text = ERR_reason_error_string(ERR_peek_error());
    return text != NULL ? text : "OpenSSL does not say why";
}

static BIO *open_file(const char *file, const char *what, cd_tls_problem *problem)
{
    ERR_clear_error();
    errno = 0;
    BIO *bio = BIO_new_file(file, "rb");
    if (bio == NULL)
        cd_tls_complain(problem,
                        "%s: the %s cannot be read: %s; give a file that this user may read", file,
                        what, errno != 0 ? strerror(errno) : reason());
    return bio;
}

/* ---- settings ---- */

static bool load_dh(SSL_CTX *ctx, const char *file, cd_tls_problem *problem)
{
    if (file == NULL) {
        SSL_CTX_set_dh_auto(ctx, 1);
        return true;
    }
    BIO *bio = open_file(file, "DH parameters", problem);
    if (bio == NULL)
        return false;
    EVP_PKEY *parameters = PEM_read_bio_Parameters(bio, NULL);
    BIO_free(bio);
    if (parameters != NULL && SSL_CTX_set0_tmp_dh_pkey(ctx, parameters) == 1)
        return true;
    EVP_PKEY_free(parameters);
    cd_tls_complain(problem, "%s: holds no usable DH parameters in PEM form (%s)", file, reason());
    return false;
}

/* Sets the names of authorities that a client is sent, to choose its certificate by. */
static bool load_names(SSL_CTX *ctx, const char *file)
{
    STACK_OF(X509_NAME) *names = file != NULL ? SSL_load_client_CA_file(file) : NULL;
    if (names != NULL)
        SSL_CTX_set_client_CA_list(ctx, names);
    return file == NULL || names != NULL;
}

bool cd_tls_load_settings(SSL_CTX *ctx, const cd_tls_config *config, cd_tls_problem *problem)
{
    const char *ciphers = config->ciphers != NULL ? config->ciphers : CIPHERS;
    const char *suites = config->ciphersuites != NULL ? config->ciphersuites : SUITES;
    if (SSL_CTX_set_min_proto_version(ctx, config->min_version) != 1) {
        cd_tls_complain(problem, "OpenSSL here has no TLS version 0x%04x", config->min_version);
        return false;
    }
    if (SSL_CTX_set_cipher_list(ctx, ciphers) != 1) {
        cd_tls_complain(problem, "OpenSSL knows none of the ciphers '%s'; see openssl ciphers -v",
                        ciphers);
        return false;
    }
    if (SSL_CTX_set_ciphersuites(ctx, suites) != 1) {
        cd_tls_complain(problem,
                        "OpenSSL does not know the cipher suites '%s' of TLS 1.3;"
                        " see openssl ciphers -v -tls1_3",
                        suites);
        return false;
    }
    return load_dh(ctx, config->dh_file, problem) && load_names(ctx, config->ca_file);
}

/* ---- one certificate ---- */

static bool load_certificate(SSL_CTX *ctx, const char *file, cd_tls_problem *problem)
{
    BIO *bio = open_file(file, "certificate", problem);
    if (bio == NULL)
        return false;
    BIO_free(bio);
    if (SSL_CTX_use_certificate_chain_file(ctx, file) == 1)
        return true;
    if (ERR_GET_REASON(ERR_peek_error()) == PEM_R_NO_START_LINE)
        cd_tls_complain(problem, "%s: holds no certificate in PEM form (BEGIN CERTIFICATE)", file);
    else
        cd_tls_complain(problem, "%s: the certificate cannot be used: %s", file, reason());
    return false;
}

static bool load_chain(SSL_CTX *ctx, const char *file, cd_tls_problem *problem)
{
    BIO *bio = open_file(file, "certificate chain", problem);
    int count = 0;
    X509 *next;
    if (bio == NULL)
        return false;
    while ((next = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
        if (SSL_CTX_add0_chain_cert(ctx, next) != 1) {
            X509_free(next);
            break;
        }
        count++;
    }
    BIO_free(bio);
    if (next == NULL && count > 0)
        return true;
    cd_tls_complain(problem, "%s: holds no certificate chain in PEM form (%s)", file, reason());
    return false;
}

typedef struct {
    const char *password;
    bool asked;
} secret;

static int on_password(char *to, int size, int writing, void *arg)
{
    secret *s = arg;
    (void)writing;
    s->asked = true;
    size_t n = s->password != NULL ? strlen(s->password) : 0;
    if (n == 0 || n > (size_t)size)
        return -1;
    memcpy(to, s->password, n);
    return (int)n;
}

static void complain_of_key(const char *file, const secret *s, cd_tls_problem *problem)
{
    if (s->asked && s->password == NULL)
        cd_tls_complain(problem,
                        "%s: the key is encrypted; give its password"
                        " (--keyfile-password)",
                        file);
    else if (s->asked)
        cd_tls_complain(problem, "%s: the password does not open the key (--keyfile-password)",
                        file);
    else
        cd_tls_complain(problem, "%s: holds no private key in PEM form (BEGIN PRIVATE KEY)", file);
}

static bool load_key(SSL_CTX *ctx, const cd_tls_pair *pair, const char *password,
                     cd_tls_problem *problem)
{
    secret s = {.password = password};
    BIO *bio = open_file(pair->key, "key", problem);
    if (bio == NULL)
        return false;
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, on_password, &s);
    BIO_free(bio);
    if (key == NULL) {
        complain_of_key(pair->key, &s, problem);
        return false;
    }
    bool good = SSL_CTX_use_PrivateKey(ctx, key) == 1 && SSL_CTX_check_private_key(ctx) == 1;
    EVP_PKEY_free(key);
    if (!good)
        cd_tls_complain(problem,
                        "%s: is not the key of the certificate %s; give the one that it was"
                        " made with",
                        pair->key, pair->certificate);
    return good;
}

static void look_at_dates(const X509 *certificate, const char *file, cd_tls_problem *problem)
{
    if (X509_cmp_time(X509_get0_notAfter(certificate), NULL) < 0)
        warn(problem, "%s: the certificate has expired; renew it, clients will refuse it", file);
    else if (X509_cmp_time(X509_get0_notBefore(certificate), NULL) > 0)
        warn(problem, "%s: the certificate is not valid yet; look at this machine's clock", file);
}

bool cd_tls_load_pair(SSL_CTX *ctx, const cd_tls_config *config, const cd_tls_pair *pair,
                      cd_tls_problem *problem)
{
    if (!load_certificate(ctx, pair->certificate, problem) ||
        !load_key(ctx, pair, config->password, problem))
        return false;
    if (pair->chain != NULL && !load_chain(ctx, pair->chain, problem))
        return false;
    look_at_dates(SSL_CTX_get0_certificate(ctx), pair->certificate, problem);
    return true;
}

static bool same_alternatives(const X509 *a, const X509 *b)
{
    int at = X509_get_ext_by_NID(a, NID_subject_alt_name, -1);
    int bt = X509_get_ext_by_NID(b, NID_subject_alt_name, -1);
    if (at < 0 || bt < 0)
        return at < 0 && bt < 0;
    return ASN1_OCTET_STRING_cmp(X509_EXTENSION_get_data(X509_get_ext(a, at)),
                                 X509_EXTENSION_get_data(X509_get_ext(b, bt))) == 0;
}

bool cd_tls_same_names(X509 *a, X509 *b)
{
    return X509_NAME_cmp(X509_get_subject_name(a), X509_get_subject_name(b)) == 0 &&
           same_alternatives(a, b);
}

/* ---- client certificates ---- */

static bool load_revoked(X509_STORE *store, const char *file, cd_tls_problem *problem)
{
    BIO *bio = open_file(file, "list of revoked certificates", problem);
    if (bio == NULL)
        return false;
    BIO_free(bio);
    X509_LOOKUP *lookup = X509_STORE_add_lookup(store, X509_LOOKUP_file());
    if (lookup == NULL || X509_load_crl_file(lookup, file, X509_FILETYPE_PEM) <= 0) {
        cd_tls_complain(problem,
                        "%s: holds no list of revoked certificates in PEM form (BEGIN X509"
                        " CRL)",
                        file);
        return false;
    }
    X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
    return true;
}

bool cd_tls_load_trusted(X509_STORE **store, const cd_tls_config *config, cd_tls_problem *problem)
{
    *store = NULL;
    if (config->ca_file == NULL)
        return true;
    BIO *bio = open_file(config->ca_file, "file of authorities", problem);
    if (bio == NULL)
        return false;
    BIO_free(bio);
    *store = X509_STORE_new();
    if (*store == NULL)
        return false;
    if (X509_STORE_load_file(*store, config->ca_file) != 1) {
        cd_tls_complain(problem, "%s: holds no certificate of an authority in PEM form",
                        config->ca_file);
        return false;
    }
    return config->crl_file == NULL || load_revoked(*store, config->crl_file, problem);
}

/* ---- OCSP ---- */

static OCSP_BASICRESP *read_response(const char *file, cd_tls_problem *problem, unsigned char **der,
                                     size_t *size)
{
    BIO *bio = open_file(file, "OCSP response", problem);
    unsigned char *p = bio != NULL ? OPENSSL_malloc(STAPLE_MOST) : NULL;
    int n = p != NULL ? BIO_read(bio, p, STAPLE_MOST) : 0;
    const unsigned char *at = p;
    OCSP_RESPONSE *response = n > 0 ? d2i_OCSP_RESPONSE(NULL, &at, n) : NULL;
    OCSP_BASICRESP *basic = response != NULL ? OCSP_response_get1_basic(response) : NULL;
    OCSP_RESPONSE_free(response);
    if (bio != NULL && p != NULL && (basic == NULL || OCSP_resp_count(basic) < 1)) {
        cd_tls_complain(problem,
                        "%s: holds no OCSP response in DER form; openssl ocsp -respout"
                        " writes one",
                        file);
        OCSP_BASICRESP_free(basic);
        basic = NULL;
    }
    BIO_free(bio);
    if (basic == NULL) {
        OPENSSL_free(p);
        return NULL;
    }
    *der = p;
    *size = (size_t)n;
    return basic;
}

/* Finds the answer in the response for this certificate's serial number. */
static OCSP_SINGLERESP *answer_about(OCSP_BASICRESP *basic, const X509 *certificate)
{
    for (int i = 0; i < OCSP_resp_count(basic); i++) {
        OCSP_SINGLERESP *one = OCSP_resp_get0(basic, i);
        ASN1_INTEGER *serial = NULL;
        OCSP_id_get0_info(NULL, NULL, NULL, &serial, (OCSP_CERTID *)OCSP_SINGLERESP_get0_id(one));
        if (serial != NULL && ASN1_INTEGER_cmp(serial, X509_get0_serialNumber(certificate)) == 0)
            return one;
    }
    return NULL;
}

static int64_t seconds_of(const ASN1_GENERALIZEDTIME *when)
{
    struct tm tm;
    if (when == NULL || ASN1_TIME_to_tm(when, &tm) != 1)
        return 0;
    return (int64_t)timegm(&tm);
}

int cd_tls_staple_load(cd_tls_staple *staple, X509 *certificate, const char *file,
                       cd_tls_problem *problem)
{
    unsigned char *der = NULL;
    size_t size = 0;
    ASN1_GENERALIZEDTIME *until = NULL;
    OCSP_BASICRESP *basic = read_response(file, problem, &der, &size);
    if (basic == NULL)
        return -1;
    OCSP_SINGLERESP *answer = answer_about(basic, certificate);
    if (answer != NULL) {
        OCSP_single_get0_status(answer, NULL, NULL, NULL, &until);
        cd_tls_staple_dispose(staple);
        *staple = (cd_tls_staple){certificate, der, size, seconds_of(until)};
        if (!cd_tls_staple_good(staple))
            warn(problem, "%s: the OCSP response has expired and is not sent; fetch a new one",
                 file);
    } else {
        OPENSSL_free(der);
    }
    OCSP_BASICRESP_free(basic);
    return answer != NULL;
}

bool cd_tls_staple_good(const cd_tls_staple *staple)
{
    return staple->until == 0 || (int64_t)time(NULL) < staple->until;
}

void cd_tls_staple_dispose(cd_tls_staple *staple)
{
    OPENSSL_free(staple->p);
    *staple = (cd_tls_staple){0};
}
