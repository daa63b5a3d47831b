/*
 * Reads the files of a TLS listener and writes a sentence for the operator when a file cannot be
 * used. The functions return false, or -1, with the sentence in `problem`; when memory is short
 * there is no sentence.
 */
#ifndef CD_TLS_LOAD_H
#define CD_TLS_LOAD_H

#include "cdaphne.h"

#include <openssl/ssl.h>

/* Collects the sentences, warnings too, one a line. */
typedef struct {
    char *text;
    size_t size;
    bool told; /* there was an error, not only a warning */
} cd_tls_problem;

void cd_tls_complain(cd_tls_problem *problem, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Sets versions, ciphers, DH parameters, and the authorities that a client is asked for. */
bool cd_tls_load_settings(SSL_CTX *ctx, const cd_tls_config *config, cd_tls_problem *problem);
/* Loads certificate, chain and key. problem == NULL: the same files were loaded before, without an
 * error. */
bool cd_tls_load_pair(SSL_CTX *ctx, const cd_tls_config *config, const cd_tls_pair *pair,
                      cd_tls_problem *problem);
/* Loads authorities and revoked certificates into *store, a new reference; NULL when there are
 * none. */
bool cd_tls_load_trusted(X509_STORE **store, const cd_tls_config *config, cd_tls_problem *problem);

/* Are both certificates for the same names? */
bool cd_tls_same_names(X509 *a, X509 *b);

/* The names in certificates (tls_names.c), each with the index of its entry. */
typedef struct {
    struct cd_tls_name *list;
    size_t count, size;
} cd_tls_names;

/* Adds the names of a certificate. False: no memory. */
bool cd_tls_names_add(cd_tls_names *names, X509 *certificate, size_t entry);
/* Must be called after the last add and before the first find. */
void cd_tls_names_sort(cd_tls_names *names);
/* Returns the entry for the name that a client asks for; -1: none. */
long cd_tls_names_find(const cd_tls_names *names, const char *name);
void cd_tls_names_dispose(cd_tls_names *names);

/* An OCSP response for one certificate. size == 0: there is none. */
typedef struct {
    const X509 *certificate;
    unsigned char *p;
    size_t size;
    int64_t until; /* when it expires, in seconds since 1970; 0: it does not say */
} cd_tls_staple;

/* Loads an OCSP response. 1: it is for this certificate and was loaded; 0: it is for another one;
 * -1: it cannot be used. */
int cd_tls_staple_load(cd_tls_staple *staple, X509 *certificate, const char *file,
                       cd_tls_problem *problem);
bool cd_tls_staple_good(const cd_tls_staple *staple);
void cd_tls_staple_dispose(cd_tls_staple *staple);

#endif
