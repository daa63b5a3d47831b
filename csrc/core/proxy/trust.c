/*
 * trust.c - the list of peers whose word counts: in proxy headers, PROXY headers and
 * Daphne-Root-Path.
 *
 * The list is read once, when the server is made, into networks of 128 bits. IPv4 lies in
 * ::ffff:0:0/96, where a dual-stack socket shows it, so that 10.0.0.0/8 also matches the peer
 * ::ffff:10.0.0.1 of such a socket. A question is then a comparison of a few bytes for each entry,
 * and lists have a handful.
 *
 * An entry that cannot be meant is refused rather than guessed at: names (who resolves them, and
 * when?), and networks with bits behind their prefix, which are mostly a typing error in one of the
 * two numbers.
 */
#include "proxy/trust.h"

#include "base/header.h"
#include "base/mem.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

bool cd_ip_read(cd_str text, cd_ip *ip)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    char copy[INET6_ADDRSTRLEN];
    if (text.n == 0 || text.n >= sizeof copy || memchr(text.p, '\0', text.n) != NULL)
        return false;
    memcpy(copy, text.p, text.n);
    copy[text.n] = '\0';
    memcpy(ip->bytes, mapped, sizeof mapped);
    if (inet_pton(AF_INET, copy, ip->bytes + sizeof mapped) == 1)
        return true;
    return inet_pton(AF_INET6, copy, ip->bytes) == 1;
}

static bool same_prefix(const cd_ip *a, const cd_ip *b, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;
    if (memcmp(a->bytes, b->bytes, whole) != 0)
        return false;
    return rest == 0 || (a->bytes[whole] ^ b->bytes[whole]) >> (8 - rest) == 0;
}

/* ---- reading the list ---- */

static int refuse(char *problem, size_t size, cd_str entry, const char *why)
{
    if (problem != NULL)
        snprintf(problem, size, "'%.*s' %s", (int)(entry.n < 100 ? entry.n : 100), entry.p, why);
    return CD_VALUE;
}

/* Writes the entry as it was probably meant: its address without the bits behind the prefix. */
static int refuse_bits(char *problem, size_t size, cd_str entry, const cd_network *network, bool v4)
{
    cd_ip cut = network->address;
    char text[INET6_ADDRSTRLEN];
    for (unsigned bit = network->bits; bit < 128; bit++)
        cut.bytes[bit / 8] &= (uint8_t)~(0x80u >> bit % 8);
    inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? cut.bytes + 12 : cut.bytes, text, sizeof text);
    if (problem != NULL)
        snprintf(problem, size, "'%.*s' has bits behind its prefix; give %s/%u", (int)entry.n,
                 entry.p, text, network->bits - (v4 ? 96 : 0));
    return CD_VALUE;
}

static int read_network(cd_network *network, cd_str entry, char *problem, size_t size)
{
    const char *slash = memchr(entry.p, '/', entry.n);
    cd_str address = {entry.p, slash ? (size_t)(slash - entry.p) : entry.n};
    bool v4 = memchr(address.p, ':', address.n) == NULL;
    uint64_t bits = v4 ? 32 : 128;
    if (!cd_ip_read(address, &network->address))
        return refuse(problem, size, entry,
                      "is neither an address nor a network; give for example 10.0.0.1, 10.0.0.0/8, "
                      "2001:db8::/32, unix: or *");
    if (slash != NULL && (cd_str_number((cd_str){slash + 1, entry.n - address.n - 1}, &bits) < 0 ||
                          bits > (v4 ? 32 : 128)))
        return refuse(problem, size, entry,
                      v4 ? "has no prefix length from 0 to 32 behind the /"
                         : "has no prefix length from 0 to 128 behind the /");
    network->bits = (unsigned)bits + (v4 ? 96 : 0);
    for (unsigned bit = network->bits; bit < 128; bit++)
        if (network->address.bytes[bit / 8] & 0x80u >> bit % 8)
            return refuse_bits(problem, size, entry, network, v4);
    return CD_OK;
}

static int add_entry(cd_trust *trust, cd_str entry, char *problem, size_t size)
{
    if (cd_str_is(entry, "*")) {
        trust->all = true;
        return CD_OK;
    }
    if (cd_str_is(entry, "unix:")) {
        trust->local = true;
        return CD_OK;
    }
    cd_network network;
    int code = read_network(&network, entry, problem, size);
    if (code != CD_OK)
        return code;
    cd_network *networks =
        cd_realloc(trust->networks, (trust->count + 1) * sizeof *trust->networks);
    if (networks == NULL)
        return CD_NOMEM;
    networks[trust->count++] = network;
    trust->networks = networks;
    return CD_OK;
}

int cd_trust_init(cd_trust *trust, const char *text, char *problem, size_t size)
{
    cd_str list = {text ? text : cd_config_default.forwarded_allow_ips, 0}, entry;
    int code = CD_OK;
    list.n = strlen(list.p);
    *trust = (cd_trust){.networks = NULL};
    while (code == CD_OK && cd_str_next_element(&list, &entry))
        code = add_entry(trust, entry, problem, size);
    if (code != CD_OK)
        cd_trust_dispose(trust);
    return code;
}

int cd_trust_check(const char *text, char *problem, size_t size)
{
    cd_trust trust;
    int code = cd_trust_init(&trust, text, problem, size);
    if (code == CD_OK)
        cd_trust_dispose(&trust);
    return code;
}

void cd_trust_dispose(cd_trust *trust)
{
    cd_free(trust->networks);
    *trust = (cd_trust){.networks = NULL};
}

/* ---- questions ---- */

bool cd_trust_ip(const cd_trust *trust, const cd_ip *ip)
{
    if (trust->all)
        return true;
    for (size_t i = 0; i < trust->count; i++)
        if (same_prefix(&trust->networks[i].address, ip, trust->networks[i].bits))
            return true;
    return false;
}

bool cd_trust_addr(const cd_trust *trust, const cd_addr *addr)
{
    cd_ip ip;
    if (trust->all || addr->port == CD_PORT_UNIX)
        return trust->all || trust->local;
    return cd_ip_read((cd_str){addr->host, strlen(addr->host)}, &ip) && cd_trust_ip(trust, &ip);
}
