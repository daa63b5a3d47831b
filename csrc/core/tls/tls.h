/*
 * What the TLS files share: the certificates of a listener in their present state (tls_context.c),
 * the keys of its session tickets (tls_ticket.c), and what a handshake needs of both (tls.c).
 */
#ifndef CD_TLS_H
#define CD_TLS_H

#include "base/arena.h"
#include "base/buf.h"
#include "net/transport.h"

#include <openssl/ssl.h>

enum { CD_TICKET_NAME = 16, CD_TICKET_KEY = 32 };

/* A key that encrypts session tickets (RFC 5077, 4). */
typedef struct {
    double born; /* when it was made, in the loop's time; 0: there is no key */
    unsigned char name[CD_TICKET_NAME], cipher[CD_TICKET_KEY], mac[CD_TICKET_KEY];
} cd_ticket_key;

/* The ticket keys: keys[0] encrypts new tickets, keys[1] is the key before it and still decrypts
 * old ones. */
typedef struct {
    cd_ticket_key keys[2];
} cd_tickets;

/* Certificates and settings as they were loaded. They never change; a reload makes new ones. */
typedef struct cd_tls_context cd_tls_context;

struct cd_tls {
    cd_tls_context *context; /* counts as one of its references */
    cd_tickets tickets;
    double ticket_lifetime; /* seconds; 0: no tickets */
    size_t references;
};

/* What OpenSSL's callbacks need during a handshake; the app data of its SSL. */
typedef struct {
    cd_tls *tls;             /* one reference; NULL after the handshake */
    cd_tls_context *context; /* one reference; NULL after the handshake */
    cd_loop *loop;
    bool http2; /* ALPN may choose HTTP/2 */
    enum cd_alpn alpn;
} cd_tls_handshake;

/* Makes the SSL of a handshake and takes the references that the handshake needs. NULL: no memory,
 * and no reference was taken. */
SSL *cd_tls_begin(cd_tls_handshake *h, cd_tls *tls, cd_loop *loop);
/* Gives the references back. May be called again. */
void cd_tls_end(cd_tls_handshake *h);

enum {
    CD_TLS_RECORD = 16384, /* largest payload of a record (RFC 8446, 5.1) */
    CD_TLS_SEALED = 256,   /* most bytes that encryption adds to a record */
    CD_TLS_RECORDS = 8,    /* records that one write sends at once */
    CD_TLS_ROOM = CD_TLS_RECORDS * (CD_TLS_RECORD + CD_TLS_SEALED),
    /* most bytes that wait for the socket, alerts included */
    CD_TLS_UNSENT = CD_TLS_ROOM + CD_TLS_RECORD,
};

/* The side of an SSL where encrypted bytes are read and written. Part of the transport. */
typedef struct {
    size_t readable; /* bytes that may still be read from the socket in this turn */
    /* buffer of CD_TLS_ROOM bytes, filled up to `size`; NULL: write to the socket */
    uint8_t *room;
    size_t size;
    /* bytes that the socket did not take; until it has taken them, new bytes are appended here */
    cd_buf unsent;
} cd_tls_sink;

/* Connects an SSL with a socket through a sink; both stay the caller's. Returns CD_OK or
 * CD_NOMEM. */
int cd_tls_attach(SSL *ssl, int fd, cd_tls_sink *sink);

/* Takes one more reference, which cd_tls_free gives back. */
cd_tls *cd_tls_hold(cd_tls *tls);
/* Sets how many seconds session tickets are valid, for the handshakes that follow. */
void cd_tls_set_ticket_lifetime(cd_tls *tls, double seconds);

/* OpenSSL's callback for the keys of tickets, see SSL_CTX_set_tlsext_ticket_key_evp_cb(3). */
int cd_ticket_callback(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                       EVP_MAC_CTX *mac, int seal);
void cd_tickets_dispose(cd_tickets *tickets);

/* Returns what was negotiated, see cd_head_tls. */
cd_tls_facts *cd_tls_facts_new(SSL *ssl);
/* Makes empty facts, with an arena for their texts. NULL: no memory. */
cd_tls_facts *cd_tls_facts_blank(cd_arena **arena);

/* ---- tls.c ---- */

/* Makes a transport that speaks TLS over a connected non-blocking socket, which it owns from here
 * on. The handshake begins with the first want(). The transport holds `tls` as long as it needs it.
 * NULL: no memory, and fd stays the caller's. */
cd_transport *cd_tls_accept(cd_server *server, int fd, cd_tls *tls);

#endif
