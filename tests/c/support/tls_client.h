/*
 * A TLS client for the C tests: the server's end is the real transport on a socket pair, the
 * client's is OpenSSL on memory, and every byte between them passes through the test, which cuts it
 * as the rig says. Certificates are made on the spot, in files that go with the process.
 */
#ifndef TLS_CLIENT_H
#define TLS_CLIENT_H

#include "harness.h"

#include <openssl/ssl.h>

/* Files of a self-signed certificate for the name, made once for each name. */
const char *certificate_file(const char *name);

/* A cd_tls with the certificates of these names, the list ends with NULL. NULL: no memory. */
cd_tls *tls_for(const char *const *names);

typedef struct {
    rig *rig;
    int fd;     /* the client's end; -1 once the server has closed its own */
    cd_conn *c; /* of the server; valid until it closes */
    SSL *ssl;   /* the client */
    text sent;  /* encrypted, on its way to the server: from sent_start on */
    size_t sent_start;
    text output;                         /* what the client decrypted */
    bool failed;                         /* the client's OpenSSL gave up */
    bool said_goodbye, ended, was_reset; /* close_notify, FIN, RST came */
    size_t most;                         /* bytes that a read takes at once; 0: it takes none */
} tls_client;

/* Connects; the handshake is over on return unless it failed. NULL: the server had no memory.
 * version 0: any. */
tls_client *tls_open(rig *r, cd_tls *tls, const char *name, int version);
/* The same without a handshake: nothing was sent yet. */
tls_client *tls_connect(rig *r, cd_tls *tls, const char *name, int version);
/* The loop is turning for a client: what OpenSSL does is the server's. */
extern bool tls_server_runs;

/* Lets everything happen that can. */
void tls_settle(tls_client *t);
/* Sends application data, in records of `record` bytes at most. */
void tls_send(tls_client *t, const void *p, size_t n, size_t record);
void tls_text(tls_client *t, const char *string);
/* Sends bytes that are no TLS of ours. */
void tls_send_raw(tls_client *t, const void *p, size_t n);
/* What was decrypted so far, NUL-terminated. */
const char *tls_output(const tls_client *t);
void tls_close(tls_client *t);

#endif
