/* PROXY protocol, versions 1 and 2: the bytes that a proxy sends before everything else. */
#ifndef CD_PROXY_H
#define CD_PROXY_H

#include "cdaphne.h"

enum cd_proxy_verdict {
    CD_PROXY_MORE, /* may become one */
    CD_PROXY_NONE, /* something else begins here */
    CD_PROXY_DONE,
    CD_PROXY_BAD, /* it began as one, and `why` says what is wrong */
};

typedef struct {
    size_t size; /* of the header in bytes (DONE) */
    bool begun;  /* nothing but a PROXY header begins so */
    bool told;   /* client and server are set; false: the connection is the proxy's own */
    cd_addr client, server;
    cd_proxy_facts facts; /* slices of the input */
    const char *why;      /* constant text */
} cd_proxy_header;

/* Looks at the first n bytes of a connection; a header of version 2 may have `most` bytes. */
enum cd_proxy_verdict cd_proxy_read(const uint8_t *p, size_t n, size_t most, cd_proxy_header *h);

/* Do they say anything? */
bool cd_proxy_tells(const cd_proxy_facts *facts);
/* A copy with its texts in one block, for cd_free. NULL: no memory. */
cd_proxy_facts *cd_proxy_facts_new(const cd_proxy_facts *facts);
/* What they say of TLS, for cd_tls_facts_free. NULL: nothing, or no memory. */
cd_tls_facts *cd_proxy_tls(const cd_proxy_facts *facts);

#endif
