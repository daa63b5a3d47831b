/* Reads what proxies say about a request in its headers: X-Forwarded-* and Forwarded (RFC 7239). */
#ifndef CD_FORWARDED_H
#define CD_FORWARDED_H

#include "base/arena.h"
#include "cdaphne.h"
#include "proxy/strangers.h"
#include "proxy/trust.h"

typedef struct cd_forwarding {
    cd_str address, port,
        proto;    /* names of the headers in lower case; owned; address.p == NULL: off */
    bool rfc7239; /* address is "forwarded", and no other header is read */
    size_t hops;  /* most addresses of a chain that are read */
    cd_strangers strangers;
} cd_forwarding;

enum { CD_FORWARDED_STRANGER = 1 };

/* Returns CD_OK or CD_NOMEM; after a failure there is nothing to dispose of. */
int cd_forwarding_init(cd_forwarding *f, const cd_config *config);
void cd_forwarding_dispose(cd_forwarding *f);

/*
 * Sets head->origin, in the arena, when the headers tell of a client and the peer is trusted.
 * CD_OK; CD_FORWARDED_STRANGER: they do, but the peer is not trusted; CD_NOMEM: it is not known who
 * the client is, and the request must not go on.
 */
int cd_forwarded_read(const cd_forwarding *f, const cd_trust *trust, cd_head *head,
                      cd_arena *arena);

#endif
