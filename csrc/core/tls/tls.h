/*
 * What the files of TLS share: the certificates of a listener as they are now (tls_context.c), the
 * keys of its session tickets (tls_ticket.c), and what a handshake knows of both (tls.c).
 */
#ifndef CD_TLS_H
#define CD_TLS_H

#include "base/arena.h"
#include "base/buf.h"
#include "net/transport.h"

#include <openssl/ssl.h>

enum { CD_TICKET_NAME = 16, CD_TICKET_KEY = 32 };

/* A key that session tickets are sealed with (RFC 5077, 4). */
typedef struct {
    double born; /* in the loop's time; 0: there is none */
    unsigned char name[CD_TICKET_NAME], cipher[CD_TICKET_KEY], mac[CD_TICKET_KEY];
} cd_ticket_key;

/* The ring: keys[0] seals, keys[1] is the one before it and still opens. */
typedef struct {
    cd_ticket_key keys[2];
} cd_tickets;

/* Certificates and settings as they were loaded: never changed, replaced by a reload. */
typedef struct cd_tls_context cd_tls_context;

struct cd_tls {
    cd_tls_context *context; /* one reference */
    cd_tickets tickets;
    double ticket_lifetime; /* seconds; 0: no tickets */
    size_t references;
};

/* What OpenSSL's callbacks need to know during a handshake: the app data of its SSL. */
typedef struct {
    cd_tls *tls;             /* one reference; NULL after the handshake */
    cd_tls_context *context; /* one reference; NULL after the handshake */
    cd_loop *loop;
    bool http2; /* may be chosen */
    enum cd_alpn alpn;
} cd_tls_handshake;

/* Takes the references that a handshake needs and makes its SSL. NULL: no memory, nothing taken. */
SSL *cd_tls_begin(cd_tls_handshake *h, cd_tls *tls, cd_loop *loop);
/* Lets them go; may be repeated. */
void cd_tls_end(cd_tls_handshake *h);

enum {
    CD_TLS_RECORD = 16384, /* payload of the largest record (RFC 8446, 5.1) */
    CD_TLS_SEALED = 256,   /* what it grows by at most */
    CD_TLS_RECORDS = 8,    /* sent at once */
    CD_TLS_ROOM = CD_TLS_RECORDS * (CD_TLS_RECORD + CD_TLS_SEALED),
    CD_TLS_REST = CD_TLS_ROOM + CD_TLS_RECORD, /* what waits at most, alerts with it */
};

/* Where encrypted bytes go and come from. Part of the transport. */
typedef struct {
    size_t readable; /* bytes that may still be taken off the socket in this turn */
    uint8_t *room;   /* here, CD_TLS_ROOM bytes, and from `size` on; NULL: to the socket */
    size_t size;
    cd_buf rest; /* what the socket did not take; while there is some, everything goes behind it */
} cd_tls_sink;

/* Puts it on a socket, which stays the caller's, as does the sink. CD_OK or CD_NOMEM. */
int cd_tls_attach(SSL *ssl, int fd, cd_tls_sink *sink);

/* One more owner; cd_tls_free is one fewer. */
cd_tls *cd_tls_hold(cd_tls *tls);
/* How long session tickets are good for, from the next handshake on. */
void cd_tls_set_ticket_lifetime(cd_tls *tls, double seconds);

/* OpenSSL's callback for the keys of tickets, see SSL_CTX_set_tlsext_ticket_key_evp_cb(3). */
int cd_ticket_callback(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                       EVP_MAC_CTX *mac, int seal);
void cd_tickets_dispose(cd_tickets *tickets);

/* What was negotiated, see cd_head_tls. */
cd_tls_facts *cd_tls_facts_new(SSL *ssl);
/* One that says nothing yet, with an arena for its texts. NULL: no memory. */
cd_tls_facts *cd_tls_facts_blank(cd_arena **arena);

/* ---- tls.c ---- */

/* A transport that speaks TLS over a connected non-blocking socket, which it owns from here on; the
 * handshake begins with the first want(). It holds `tls` as long as it needs it. NULL: no memory;
 * fd stays the caller's. */
cd_transport *cd_tls_accept(cd_server *server, int fd, cd_tls *tls);

#endif
