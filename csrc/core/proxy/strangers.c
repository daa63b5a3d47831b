/*
 * strangers.c - tells the operator that proxy headers are dropped, and which flag takes them.
 *
 * A proxy that is not on the list of trusted peers, or that talks to a server without
 * --proxy-headers, is a common mistake, and one that nobody sees: everything works, but every
 * client has the proxy's address. Clients can send the same headers, so the table of peers that
 * were named is small and does not change any more when it is full; the last line says so.
 *
 * A peer is its address: the ports of a proxy change with every connection. All unix sockets are
 * one peer.
 *
 * While proxy headers are off nobody looks for them in every request. The first requests of a
 * server are enough: a proxy is there from the start.
 */
#include "proxy/strangers.h"

#include "base/header.h"
#include "net/conn.h"
#include "net/upcalls.h"
#include "proxy/forwarded.h"

#include <string.h>

enum { LOOKS = 64 };

void cd_strangers_init(cd_strangers *s)
{
    *s = (cd_strangers){.looks_left = LOOKS};
}

/* Adds an address to the table. False: it is there already, or the table is full. */
static bool is_news(cd_strangers *s, const cd_addr *peer)
{
    cd_ip ip = {{0}};
    if (s->count == CD_STRANGERS_NAMED)
        return false;
    if (peer->port != CD_PORT_UNIX)
        cd_ip_read((cd_str){peer->host, strlen(peer->host)}, &ip);
    for (unsigned i = 0; i < s->count; i++)
        if (memcmp(&s->named[i], &ip, sizeof ip) == 0)
            return false;
    s->named[s->count++] = ip;
    return true;
}

void cd_strangers_name(cd_server *server, const cd_addr *peer, const char *header)
{
    cd_strangers *s = &server->forwarding->strangers;
    if (!is_news(s, peer))
        return;
    cd_server_log(server, CD_WARNING,
                  "%s from %s dropped: no trusted proxy has that address (--forwarded-allow-ips)%s",
                  header, cd_addr_name(peer),
                  s->count == CD_STRANGERS_NAMED ? "; no further ones are named" : "");
}

void cd_strangers_look(cd_server *server, const cd_head *head)
{
    cd_strangers *s = &server->forwarding->strangers;
    s->looks_left--;
    if (!cd_header_find(head->headers, head->header_count, "x-forwarded-for", NULL) &&
        !cd_header_find(head->headers, head->header_count, "forwarded", NULL))
        return;
    s->looks_left = 0;
    cd_server_log(server, CD_DEBUG_LEVEL,
                  "Proxy headers from %s dropped: they are switched off (--proxy-headers)",
                  cd_addr_name(head->client));
}
