/* The PROXY protocol, versions 1 and 2: a header that a proxy sends before everything else. */
#ifndef CD_PROXY_H
#define CD_PROXY_H

#include "cdaphne.h"

enum cd_proxy_verdict {
    CD_PROXY_MORE, /* the bytes may become a header */
    CD_PROXY_NONE, /* something else begins here, there is no header */
    CD_PROXY_DONE,
    CD_PROXY_BAD, /* the header is wrong, and `why` says how */
};

typedef struct {
    size_t size; /* size of the header in bytes (CD_PROXY_DONE) */
    bool begun;  /* the bytes can be nothing but a PROXY header */
    bool told;   /* client and server are set; false: the proxy made the connection for itself */
    cd_addr client, server;
    cd_proxy_facts facts; /* its texts are slices of the input */
    const char *why;      /* a constant text */
} cd_proxy_header;

/* Looks at the first n bytes of a connection. A header of version 2 may have at most `most`
 * bytes. */
enum cd_proxy_verdict cd_proxy_read(const uint8_t *p, size_t n, size_t most, cd_proxy_header *h);

/* Do the facts say anything? */
bool cd_proxy_tells(const cd_proxy_facts *facts);
/* Copies the facts and their texts into one block, to be freed with cd_free. NULL: no memory. */
cd_proxy_facts *cd_proxy_facts_new(const cd_proxy_facts *facts);
/* Returns what they say about TLS, to be freed with cd_tls_facts_free. NULL: nothing, or no
 * memory. */
cd_tls_facts *cd_proxy_tls(const cd_proxy_facts *facts);

#endif
