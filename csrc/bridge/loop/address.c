/*
 * address.c - addresses as the module socket has them: (host, port) for IPv4, (host, port,
 * flowinfo, scope_id) for IPv6.
 *
 * Between Python's tuples and the core's cd_endpoint. Whether a host is numeric the core finds out
 * (cd_fd_can_reach); here a tuple only has to have the parts of an address in the ranges that the
 * kernel has for them. Whatever has not is left to asyncio, which looks names up and says what is
 * wrong with the rest.
 */
#include "bridge/loop/loop.h"

/* Returns the item as a number up to `most`; -1: it is none. */
static long number_at(PyObject *tuple, Py_ssize_t i, long most)
{
    int overflow = 0;
    PyObject *item = PyTuple_GET_ITEM(tuple, i);
    long number = PyLong_CheckExact(item) ? PyLong_AsLongAndOverflow(item, &overflow) : -1;
    return overflow != 0 || number > most ? -1 : number;
}

static bool take_host(PyObject *item, cd_endpoint *ip)
{
    Py_ssize_t length;
    const char *host = PyUnicode_CheckExact(item) ? PyUnicode_AsUTF8AndSize(item, &length) : NULL;
    PyErr_Clear(); /* a lone surrogate: asyncio reports it */
    if (host == NULL || (size_t)length >= sizeof ip->host || strlen(host) != (size_t)length)
        return false;
    memcpy(ip->host, host, (size_t)length + 1);
    return true;
}

bool cdpy_endpoint_parse(PyObject *address, cd_endpoint *ip)
{
    *ip = (cd_endpoint){.port = 0};
    Py_ssize_t count = PyTuple_CheckExact(address) ? PyTuple_GET_SIZE(address) : 0;
    if ((count != 2 && count != 4) || !take_host(PyTuple_GET_ITEM(address, 0), ip))
        return false;
    long port = number_at(address, 1, UINT16_MAX);
    long flow = count == 2 ? 0 : number_at(address, 2, 0xfffff);
    long scope = count == 2 ? 0 : number_at(address, 3, UINT32_MAX);
    ip->port = (uint16_t)port;
    ip->ipv6 = count == 4;
    ip->flow = (uint32_t)flow;
    ip->scope = (uint32_t)scope;
    return port >= 0 && flow >= 0 && scope >= 0;
}

PyObject *cdpy_endpoint_tuple(const cd_endpoint *ip)
{
    if (!ip->ipv6)
        return Py_BuildValue("(si)", ip->host, ip->port);
    return Py_BuildValue("(siII)", ip->host, ip->port, ip->flow, ip->scope);
}
