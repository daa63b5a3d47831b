/*
 * Reading the files of a TLS listener, with a sentence for the operator where one is of no use.
 * Functions return false, or -1, with the sentence in `problem`, or without one when memory is
 * short.
 */
#ifndef CD_TLS_LOAD_H
#define CD_TLS_LOAD_H

#include "cdaphne.h"

#include <openssl/ssl.h>

/* Where sentences go; warnings, too, one a line. */
typedef struct {
    char *text;
    size_t size;
    bool told; /* something is wrong, not only worth a warning */
} cd_tls_problem;

void cd_tls_complain(cd_tls_problem *problem, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Versions, ciphers, DH parameters, and whom a client may name as its authority. */
bool cd_tls_load_settings(SSL_CTX *ctx, const cd_tls_config *config, cd_tls_problem *problem);
/* Certificate, chain and key. problem NULL: it was loaded before, and was good. */
bool cd_tls_load_pair(SSL_CTX *ctx, const cd_tls_config *config, const cd_tls_pair *pair,
                      cd_tls_problem *problem);
/* Authorities and revoked certificates, a new reference in *store; NULL when there are none. */
bool cd_tls_load_trusted(X509_STORE **store, const cd_tls_config *config, cd_tls_problem *problem);

/* Do both say the same of whom they are for? */
bool cd_tls_same_names(X509 *a, X509 *b);

/* The names of certificates (tls_names.c), each with the number of its entry. */
typedef struct {
    struct cd_tls_name *list;
    size_t count, size;
} cd_tls_names;

/* False: no memory. */
bool cd_tls_names_add(cd_tls_names *names, X509 *certificate, size_t entry);
/* After the last one, before the first look. */
void cd_tls_names_sort(cd_tls_names *names);
/* The entry that a client's name belongs to, -1: none. */
long cd_tls_names_find(const cd_tls_names *names, const char *name);
void cd_tls_names_dispose(cd_tls_names *names);

/* An OCSP response for one certificate. size 0: there is none. */
typedef struct {
    const X509 *certificate;
    unsigned char *p;
    size_t size;
    int64_t until; /* when it stops being good, in seconds since 1970; 0: it does not say */
} cd_tls_staple;

/* 1: it is for this certificate and loaded; 0: it is for another one; -1: it is of no use. */
int cd_tls_staple_load(cd_tls_staple *staple, X509 *certificate, const char *file,
                       cd_tls_problem *problem);
bool cd_tls_staple_good(const cd_tls_staple *staple);
void cd_tls_staple_dispose(cd_tls_staple *staple);

#endif
