/*
 * proxy_facts.c - what a PROXY header told of TLS between client and proxy, in the terms of the
 * application's tls extension.
 *
 * The header has texts where TLS has numbers, because that is what proxies take from OpenSSL. The
 * names of versions and of the cipher suites that are in use are listed here; one that is not is
 * left out (0), never guessed. A test compares the list with OpenSSL's own.
 *
 * Of a client's certificate the header has the common name and whether it verified, and nothing
 * else. The name becomes a distinguished name with that one part, escaped as RFC 4514, 2.4 says:
 * a common name of "a,OU=b" must not become two parts. The certificates themselves stay with the
 * proxy.
 */
#include "base/header.h"
#include "base/mem.h"
#include "proxy/proxy.h"
#include "tls/tls.h"

#include <string.h>

typedef struct {
    const char *name;
    int number;
} entry;

static const entry versions[] = {
    {"TLSv1.3", 0x0304}, {"TLSv1.2", 0x0303}, {"TLSv1.1", 0x0302},
    {"TLSv1", 0x0301},   {"TLSv1.0", 0x0301},
};

static const entry ciphers[] = {
    {"TLS_AES_128_GCM_SHA256", 0x1301},
    {"TLS_AES_256_GCM_SHA384", 0x1302},
    {"TLS_CHACHA20_POLY1305_SHA256", 0x1303},
    {"ECDHE-ECDSA-AES128-GCM-SHA256", 0xc02b},
    {"ECDHE-ECDSA-AES256-GCM-SHA384", 0xc02c},
    {"ECDHE-RSA-AES128-GCM-SHA256", 0xc02f},
    {"ECDHE-RSA-AES256-GCM-SHA384", 0xc030},
    {"ECDHE-RSA-CHACHA20-POLY1305", 0xcca8},
    {"ECDHE-ECDSA-CHACHA20-POLY1305", 0xcca9},
    {"DHE-RSA-AES128-GCM-SHA256", 0x009e},
    {"DHE-RSA-AES256-GCM-SHA384", 0x009f},
    {"DHE-RSA-CHACHA20-POLY1305", 0xccaa},
    {"ECDHE-ECDSA-AES128-SHA256", 0xc023},
    {"ECDHE-ECDSA-AES256-SHA384", 0xc024},
    {"ECDHE-RSA-AES128-SHA256", 0xc027},
    {"ECDHE-RSA-AES256-SHA384", 0xc028},
    {"ECDHE-ECDSA-AES128-SHA", 0xc009},
    {"ECDHE-ECDSA-AES256-SHA", 0xc00a},
    {"ECDHE-RSA-AES128-SHA", 0xc013},
    {"ECDHE-RSA-AES256-SHA", 0xc014},
    {"AES128-GCM-SHA256", 0x009c},
    {"AES256-GCM-SHA384", 0x009d},
    {"AES128-SHA256", 0x003c},
    {"AES256-SHA256", 0x003d},
    {"AES128-SHA", 0x002f},
    {"AES256-SHA", 0x0035},
};

static int number_of(const entry *list, size_t count, cd_str name)
{
    for (size_t i = 0; i < count; i++)
        if (strlen(list[i].name) == name.n && memcmp(list[i].name, name.p, name.n) == 0)
            return list[i].number;
    return 0;
}

static bool is_special(cd_str text, size_t i)
{
    char c = text.p[i];
    if (c == ' ')
        return i == 0 || i == text.n - 1;
    return (c == '#' && i == 0) || (c != '\0' && strchr("\"+,;<>\\", c) != NULL);
}

/* An escaped NUL takes three bytes, every other byte at most two. */
static cd_str distinguished(cd_arena *arena, cd_str common)
{
    static const char type[] = "CN=", nul[] = "\\00";
    char *text = cd_arena_alloc(arena, sizeof type + 3 * common.n), *to = text;
    if (text == NULL)
        return (cd_str){NULL, 0};
    memcpy(to, type, sizeof type - 1);
    to += sizeof type - 1;
    for (size_t i = 0; i < common.n; i++) {
        if (common.p[i] == '\0') {
            memcpy(to, nul, sizeof nul - 1);
            to += sizeof nul - 1;
            continue;
        }
        if (is_special(common, i))
            *to++ = '\\';
        *to++ = common.p[i];
    }
    return (cd_str){text, (size_t)(to - text)};
}

cd_tls_facts *cd_proxy_tls(const cd_proxy_facts *told)
{
    static const char bad[] = "the proxy could not verify it";
    cd_arena *arena;
    cd_tls_facts *facts = told->tls ? cd_tls_facts_blank(&arena) : NULL;
    if (facts == NULL)
        return NULL;
    if (told->tls_version.p != NULL)
        facts->version = number_of(versions, sizeof versions / sizeof *versions, told->tls_version);
    if (told->cipher.p != NULL)
        facts->cipher = number_of(ciphers, sizeof ciphers / sizeof *ciphers, told->cipher);
    if (told->cert && !told->cert_good)
        facts->client_error = (cd_str){bad, sizeof bad - 1};
    if (told->cert && told->client_name.n > 0) {
        facts->client_name = distinguished(arena, told->client_name);
        if (facts->client_name.p == NULL) {
            cd_tls_facts_free(facts);
            return NULL;
        }
    }
    return facts;
}
