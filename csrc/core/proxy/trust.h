/* Which peers are believed when they say who the client is: addresses, networks, unix sockets. */
#ifndef CD_TRUST_H
#define CD_TRUST_H

#include "cdaphne.h"

/* An IPv6 address in network order; an IPv4 one as ::ffff:a.b.c.d. */
typedef struct {
    uint8_t bytes[16];
} cd_ip;

typedef struct {
    cd_ip address;
    unsigned bits; /* of the 128 that count */
} cd_network;

typedef struct cd_trust {
    cd_network *networks; /* owned */
    size_t count;
    bool local; /* unix sockets */
    bool all;   /* everybody */
} cd_trust;

/* A numeric address without brackets, port or zone; false when it is none. */
bool cd_ip_read(cd_str text, cd_ip *ip);

/* Reads a list as cd_config's trust. CD_OK, CD_NOMEM, or CD_VALUE and what is wrong in problem (may
 * be NULL). Nothing is to be disposed of after a failure. */
int cd_trust_init(cd_trust *trust, const char *text, char *problem, size_t size);
void cd_trust_dispose(cd_trust *trust);

bool cd_trust_ip(const cd_trust *trust, const cd_ip *ip);
bool cd_trust_addr(const cd_trust *trust, const cd_addr *addr);

#endif
