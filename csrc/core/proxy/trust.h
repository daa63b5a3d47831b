/* Which peers are believed when they tell who the client is: addresses, networks, unix sockets. */
#ifndef CD_TRUST_H
#define CD_TRUST_H

#include "cdaphne.h"

/* An IPv6 address in network order; an IPv4 one as ::ffff:a.b.c.d. */
typedef struct {
    uint8_t bytes[16];
} cd_ip;

typedef struct {
    cd_ip address;
    unsigned bits; /* how many of the 128 bits count */
} cd_network;

typedef struct cd_trust {
    cd_network *networks; /* owned */
    size_t count;
    bool local; /* unix sockets are trusted */
    bool all;   /* every peer is trusted */
} cd_trust;

/* Reads a numeric address without brackets, port and zone. False: it is none. */
bool cd_ip_read(cd_str text, cd_ip *ip);

/* Reads a list in the form of cd_config's forwarded_allow_ips. CD_OK, CD_NOMEM, or CD_VALUE and then `problem`,
 * which may be NULL, says what is wrong. After a failure there is nothing to dispose of. */
int cd_trust_init(cd_trust *trust, const char *text, char *problem, size_t size);
void cd_trust_dispose(cd_trust *trust);

bool cd_trust_ip(const cd_trust *trust, const cd_ip *ip);
bool cd_trust_addr(const cd_trust *trust, const cd_addr *addr);

#endif
