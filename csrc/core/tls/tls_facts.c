/*
 * tls_facts.c - what TLS negotiated with one peer, as text for the application.
 *
 * Certificates become PEM, names RFC 4514. All of it is made when somebody asks, which is once for
 * each connection, and lies in one block of memory: the texts behind the struct and its table. It
 * is not kept, because the bridge keeps what it makes of it.
 *
 * The texts are written into a memory BIO first; how long they are is known only then.
 */
#include "base/arena.h"
#include "base/mem.h"
#include "tls/tls.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509_vfy.h>
#include <string.h>

typedef struct {
    cd_tls_facts facts; /* first: what callers have */
    cd_arena arena;
} block;

/* Moves the contents of the BIO into the arena. p == NULL: no memory. */
static cd_str taken(cd_arena *arena, BIO *bio)
{
    char *from;
    long n = BIO_get_mem_data(bio, &from);
    char *to = n >= 0 ? cd_arena_alloc(arena, (size_t)n) : NULL;
    if (to == NULL)
        return (cd_str){NULL, 0};
    memcpy(to, from, (size_t)n);
    (void)BIO_reset(bio);
    return (cd_str){to, (size_t)n};
}

static cd_str pem_of(cd_arena *arena, BIO *bio, X509 *certificate)
{
    if (PEM_write_bio_X509(bio, certificate) != 1)
        return (cd_str){NULL, 0};
    return taken(arena, bio);
}

static cd_str name_of(cd_arena *arena, BIO *bio, const X509 *certificate)
{
    /* UTF-8 stays readable: RFC 4514 wants no escapes for it, RFC 2253's form has them. */
    unsigned long form = XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB;
    if (X509_NAME_print_ex(bio, X509_get_subject_name(certificate), 0, form) < 0)
        return (cd_str){NULL, 0};
    return taken(arena, bio);
}

/* Lists the client's certificate and those that it sent along; on the server's side OpenSSL keeps
 * them apart. */
static bool add_client(block *b, BIO *bio, SSL *ssl)
{
    X509 *own = SSL_get0_peer_certificate(ssl);
    STACK_OF(X509) *others = SSL_get_peer_cert_chain(ssl);
    int count = others != NULL ? sk_X509_num(others) : 0;
    if (own == NULL)
        return true;
    cd_str *chain = cd_arena_alloc(&b->arena, ((size_t)count + 1) * sizeof *chain);
    if (chain == NULL)
        return false;
    b->facts.client_chain = chain;
    for (int i = -1; i < count; i++) {
        cd_str pem = pem_of(&b->arena, bio, i < 0 ? own : sk_X509_value(others, i));
        if (pem.p == NULL)
            return false;
        chain[b->facts.client_chain_count++] = pem;
    }
    b->facts.client_name = name_of(&b->arena, bio, own);
    return b->facts.client_name.p != NULL;
}

static bool fill(block *b, BIO *bio, SSL *ssl)
{
    const SSL_CIPHER *cipher = SSL_get_current_cipher(ssl);
    X509 *server = SSL_get_certificate(ssl);
    long verified = SSL_get_verify_result(ssl);
    b->facts.version = SSL_version(ssl);
    b->facts.cipher = cipher != NULL ? SSL_CIPHER_get_protocol_id(cipher) : 0;
    if (verified != X509_V_OK && SSL_get0_peer_certificate(ssl) != NULL) {
        const char *why = X509_verify_cert_error_string(verified); /* a constant of OpenSSL's */
        b->facts.client_error = (cd_str){why, strlen(why)};
    }
    if (server != NULL) {
        b->facts.server_cert = pem_of(&b->arena, bio, server);
        if (b->facts.server_cert.p == NULL)
            return false;
    }
    return add_client(b, bio, ssl);
}

static block *block_new(void)
{
    block *b = cd_zalloc(sizeof *b);
    if (b != NULL)
        cd_arena_init(&b->arena);
    return b;
}

cd_tls_facts *cd_tls_facts_blank(cd_arena **arena)
{
    block *b = block_new();
    if (b == NULL)
        return NULL;
    *arena = &b->arena;
    return &b->facts;
}

cd_tls_facts *cd_tls_facts_new(SSL *ssl)
{
    block *b = block_new();
    BIO *bio = BIO_new(BIO_s_mem());
    if (b == NULL || bio == NULL || !fill(b, bio, ssl)) {
        cd_tls_facts_free(b != NULL ? &b->facts : NULL);
        b = NULL;
    }
    BIO_free(bio);
    ERR_clear_error();
    return b != NULL ? &b->facts : NULL;
}

void cd_tls_facts_free(cd_tls_facts *facts)
{
    block *b = (block *)facts;
    if (b == NULL)
        return;
    cd_arena_dispose(&b->arena);
    cd_free(b);
}
