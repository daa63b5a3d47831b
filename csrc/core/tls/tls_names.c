/*
 * tls_names.c - which certificate a name that a client asks for belongs to.
 *
 * The DNS names of all certificates, lower-case and sorted: a directory may hold thousands, and a
 * handshake must not look at each. A name is looked up as it is, then with its first label replaced
 * by "*", which is all that a wildcard may stand for (RFC 9525, 6.3). Of certificates with the same
 * name the first one has it.
 *
 * A certificate without alternative names is known by its common name, as clients once did.
 */
#include "tls/tls_load.h"

#include "base/mem.h"

#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST = 253 }; /* bytes of a DNS name */

struct cd_tls_name {
    size_t entry;
    char text[LONGEST + 1];
};

static void lower(char *to, const char *from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = from[i] >= 'A' && from[i] <= 'Z' ? (char)(from[i] | 0x20) : from[i];
    to[n] = '\0';
}

static bool add(cd_tls_names *names, const ASN1_STRING *name, size_t entry)
{
    const char *text = (const char *)ASN1_STRING_get0_data(name);
    size_t n = (size_t)ASN1_STRING_length(name);
    if (n == 0 || n > LONGEST || memchr(text, '\0', n) != NULL)
        return true; /* no client can ask for such a name */
    if (names->count == names->size) {
        size_t size = names->size ? 2 * names->size : 8;
        struct cd_tls_name *list = cd_realloc(names->list, size * sizeof *list);
        if (list == NULL)
            return false;
        names->list = list;
        names->size = size;
    }
    struct cd_tls_name *added = &names->list[names->count++];
    added->entry = entry;
    lower(added->text, text, n);
    return true;
}

static bool add_common_name(cd_tls_names *names, X509 *certificate, size_t entry)
{
    X509_NAME *subject = X509_get_subject_name(certificate);
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    return at < 0 || add(names, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)), entry);
}

bool cd_tls_names_add(cd_tls_names *names, X509 *certificate, size_t entry)
{
    GENERAL_NAMES *all = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    bool good = true, any = false;
    for (int i = 0; good && i < sk_GENERAL_NAME_num(all); i++) {
        const GENERAL_NAME *one = sk_GENERAL_NAME_value(all, i);
        if (one->type != GEN_DNS)
            continue;
        any = true;
        good = add(names, one->d.dNSName, entry);
    }
    GENERAL_NAMES_free(all);
    return good && (any || add_common_name(names, certificate, entry));
}

static int compare(const void *a, const void *b)
{
    const struct cd_tls_name *x = a, *y = b;
    int order = strcmp(x->text, y->text);
    return order != 0 ? order : x->entry < y->entry ? -1 : x->entry > y->entry;
}

void cd_tls_names_sort(cd_tls_names *names)
{
    if (names->count > 0)
        qsort(names->list, names->count, sizeof names->list[0], compare);
}

/* Finds the first entry with this name. */
static long look_up(const cd_tls_names *names, const char *text)
{
    size_t low = 0, high = names->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(names->list[middle].text, text) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    bool found = low < names->count && strcmp(names->list[low].text, text) == 0;
    return found ? (long)names->list[low].entry : -1;
}

long cd_tls_names_find(const cd_tls_names *names, const char *name)
{
    char text[LONGEST + 1];
    size_t n = strlen(name);
    if (n > LONGEST)
        return -1;
    lower(text, name, n);
    long found = look_up(names, text);
    char *dot = strchr(text, '.');
    if (found >= 0 || dot == NULL || dot == text)
        return found;
    dot[-1] = '*';
    return look_up(names, dot - 1);
}

void cd_tls_names_dispose(cd_tls_names *names)
{
    cd_free(names->list);
    *names = (cd_tls_names){0};
}
