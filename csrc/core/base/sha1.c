/*
 * SHA-1 in one call over bytes that lie in memory.
 *
 * The WebSocket handshake proves with it that the server has read the key (RFC 6455, 4.2.2); it
 * protects nothing, so that SHA-1's broken collision resistance is no matter. It is written here,
 * because it is sixty lines and the handshake is the only need: a core without TLS should not link
 * libcrypto for it. It runs once per WebSocket over 60 bytes, so it is written to be read, not to
 * be fast. There is no incremental interface and there should be none.
 */
#include "base/sha1.h"

#include <string.h>

enum { BLOCK = 64 };

static uint32_t rotate(uint32_t x, int by)
{
    return x << by | x >> (32 - by);
}

static uint32_t load(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void store(uint8_t *p, uint32_t x)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(x >> (24 - 8 * i));
}

/* The function and the constant of step t (FIPS 180-4, 4.1.1 and 4.2.1). */
static uint32_t mix(int t, uint32_t b, uint32_t c, uint32_t d)
{
    if (t < 20)
        return ((b & c) | (~b & d)) + 0x5a827999u;
    if (t < 40)
        return (b ^ c ^ d) + 0x6ed9eba1u;
    if (t < 60)
        return ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdcu;
    return (b ^ c ^ d) + 0xca62c1d6u;
}

static void add_block(uint32_t h[5], const uint8_t *block)
{
    uint32_t w[80];
    for (int t = 0; t < 16; t++)
        w[t] = load(block + 4 * t);
    for (int t = 16; t < 80; t++)
        w[t] = rotate(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);
    uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
    for (int t = 0; t < 80; t++) {
        uint32_t next = rotate(a, 5) + mix(t, b, c, d) + e + w[t];
        e = d;
        d = c;
        c = rotate(b, 30);
        b = a;
        a = next;
    }
    h[0] += a;
    h[1] += b;
    h[2] += c;
    h[3] += d;
    h[4] += e;
}

void cd_sha1(const void *data, size_t n, uint8_t digest[CD_SHA1_SIZE])
{
    uint32_t h[5] = {0x67452301u, 0xefcdab89u, 0x98badcfeu, 0x10325476u, 0xc3d2e1f0u};
    const uint8_t *p = data;
    size_t left = n;
    for (; left >= BLOCK; p += BLOCK, left -= BLOCK)
        add_block(h, p);

    /* The rest, a one bit, zeros, and the length in bits: one block or two. */
    uint8_t tail[2 * BLOCK] = {0};
    size_t tail_size = left < BLOCK - 8 ? BLOCK : 2 * BLOCK;
    if (left)
        memcpy(tail, p, left);
    tail[left] = 0x80;
    store(tail + tail_size - 8, (uint32_t)((uint64_t)n >> 29));
    store(tail + tail_size - 4, (uint32_t)((uint64_t)n << 3));
    for (size_t i = 0; i < tail_size; i += BLOCK)
        add_block(h, tail + i);
    for (int i = 0; i < 5; i++)
        store(digest + 4 * i, h[i]);
}
