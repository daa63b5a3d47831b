/* What proxies say of a request in its headers: X-Forwarded-* and Forwarded (RFC 7239). */
#ifndef CD_FORWARDED_H
#define CD_FORWARDED_H

#include "base/arena.h"
#include "cdaphne.h"
#include "proxy/strangers.h"
#include "proxy/trust.h"

typedef struct cd_forwarding {
    cd_str address, port,
        proto;    /* names of the headers, lower-case; owned; address.p == NULL: off */
    bool rfc7239; /* address is "forwarded": nothing else is looked at */
    size_t hops;  /* addresses of a chain that are looked at */
    cd_strangers strangers;
} cd_forwarding;

enum { CD_FORWARDED_STRANGER = 1 };

/* CD_OK or CD_NOMEM; nothing is to be disposed of after a failure. */
int cd_forwarding_init(cd_forwarding *f, const cd_config *config);
void cd_forwarding_dispose(cd_forwarding *f);

/*
 * Sets head->origin, in the arena, when the headers of head tell of a client and its peer is
 * trusted. CD_OK; CD_FORWARDED_STRANGER: they do, but the peer is not; CD_NOMEM: nobody knows who
 * the client is, and the request must not go on.
 */
int cd_forwarded_read(const cd_forwarding *f, const cd_trust *trust, cd_head *head,
                      cd_arena *arena);

#endif
