/* SHA-1 (FIPS 180-4), for Sec-WebSocket-Accept only: a checksum there, not a secret. Nothing else
 * may rely on it. */
#ifndef CD_SHA1_H
#define CD_SHA1_H

#include <stddef.h>
#include <stdint.h>

enum { CD_SHA1_SIZE = 20 };

/* Computes the digest of n bytes. */
void cd_sha1(const void *data, size_t n, uint8_t digest[CD_SHA1_SIZE]);

#endif
