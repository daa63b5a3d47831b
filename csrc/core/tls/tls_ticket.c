/*
 * tls_ticket.c - the keys that session tickets are sealed with.
 *
 * A ticket is a session that the client keeps for us, encrypted. Whoever gets hold of the key can
 * open the tickets, so a key is used for one ticket lifetime, then a new one is drawn; the one
 * before it still opens tickets for one lifetime more, and each that comes is exchanged for a new
 * one. Nothing is stored: no cache of sessions, and the keys end with the process.
 *
 * AES-256 in CBC mode with HMAC-SHA-256 over all of it: the construction of RFC 5077, 4, which is
 * what OpenSSL's interface is made for.
 */
#include "loop/loop.h"
#include "tls/tls.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <string.h>

void cd_tickets_dispose(cd_tickets *tickets)
{
    OPENSSL_cleanse(tickets, sizeof *tickets);
}

/* Returns the key for new tickets. NULL: there are no random numbers. */
static cd_ticket_key *sealing_key(cd_tickets *tickets, double now, double lifetime)
{
    cd_ticket_key fresh = {.born = now}, *key = &tickets->keys[0];
    if (key->born != 0 && now < key->born + lifetime)
        return key;
    if (RAND_bytes(fresh.name, sizeof fresh.name) != 1 ||
        RAND_priv_bytes(fresh.cipher, sizeof fresh.cipher) != 1 ||
        RAND_priv_bytes(fresh.mac, sizeof fresh.mac) != 1)
        return NULL;
    tickets->keys[1] = *key;
    *key = fresh;
    OPENSSL_cleanse(&fresh, sizeof fresh);
    return key;
}

static cd_ticket_key *opening_key(cd_tickets *tickets, const unsigned char *name, double now,
                                  double lifetime)
{
    for (size_t i = 0; i < sizeof tickets->keys / sizeof tickets->keys[0]; i++) {
        cd_ticket_key *key = &tickets->keys[i];
        if (key->born != 0 && now < key->born + 2 * lifetime &&
            memcmp(key->name, name, sizeof key->name) == 0)
            return key;
    }
    return NULL;
}

static bool set_up(const cd_ticket_key *key, const unsigned char *iv, EVP_CIPHER_CTX *cipher,
                   EVP_MAC_CTX *mac, int seal)
{
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)key->mac, sizeof key->mac),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0), OSSL_PARAM_END};
    return EVP_MAC_CTX_set_params(mac, params) == 1 &&
           EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, key->cipher, iv, seal) == 1;
}

/* Returns a result for OpenSSL: -1 failure, 0 no such key, 1 done, 2 done and renew. */
int cd_ticket_callback(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                       EVP_MAC_CTX *mac, int seal)
{
    cd_tls_handshake *h = SSL_get_app_data(ssl);
    if (h->tls == NULL || h->tls->ticket_lifetime <= 0)
        return 0;
    cd_tickets *tickets = &h->tls->tickets;
    double now = cd_loop_now(h->loop), lifetime = h->tls->ticket_lifetime;
    if (!seal) {
        cd_ticket_key *key = opening_key(tickets, name, now, lifetime);
        if (key == NULL)
            return 0;
        if (!set_up(key, iv, cipher, mac, 0))
            return -1;
        /* Clients use a ticket of TLS 1.3 once (RFC 8446, C.4), so each one that is used is
         * replaced. */
        return now < key->born + lifetime && SSL_version(ssl) < TLS1_3_VERSION ? 1 : 2;
    }
    cd_ticket_key *key = sealing_key(tickets, now, lifetime);
    if (key == NULL || RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) != 1 ||
        !set_up(key, iv, cipher, mac, 1))
        return -1;
    memcpy(name, key->name, sizeof key->name);
    return 1;
}
