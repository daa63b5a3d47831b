"""What ``--check`` can tell of an endpoint without opening it.

    fd, systemd   the descriptor is open, a stream socket of a family that is served, and listens
    unix          the directory is there and this user may write to it; the path is free, or a socket
    TCP           the name resolves to an address of this machine, and this user may have the port

What may change until the start is a note and no error: the check is meant to be run beside the server that is going to
be restarted. Somebody who listens there now is found in /proc/net, since a connection would be a request to him.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterator, Mapping

from . import endpoints

LISTENING = "0A"  # TCP_LISTEN in /proc/net/tcp
ACCEPTS = 1 << 16  # __SO_ACCEPTCON in /proc/net/unix
BIND_SERVICE = 1 << 10  # CAP_NET_BIND_SERVICE in /proc/self/status


def look(text: str) -> list[str]:
    """Returns notes on an endpoint string; raises EndpointError for what would make a start fail."""
    name, parameters = endpoints.parse(text)
    kinds = {"fd": _fd, "systemd": _systemd, "unix": _unix}
    return kinds.get(name, _inet)(text, parameters)


# ---- inherited sockets ----


def _fd(text: str, parameters: Mapping[str, str]) -> list[str]:
    endpoints.check_descriptor(text, parameters)
    return []


def _systemd(text: str, parameters: Mapping[str, str]) -> list[str]:
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return [
            f"{text}: systemd has passed no sockets to the check (to ExecStartPre= it never does)"
        ]
    endpoints.check_systemd(text, parameters)
    return []


# ---- unix sockets ----


def _unix(text: str, parameters: Mapping[str, str]) -> list[str]:
    path = parameters["address"]
    folder = os.path.dirname(path) or "."
    size = len(os.fsencode(path))
    if size > endpoints.UNIX_PATH_MOST:
        raise endpoints.unix_error(path, OSError())
    try:
        os.stat(os.path.join(folder, ""))
    except OSError as error:
        raise endpoints.unix_error(path, error) from None
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        raise endpoints.unix_error(path, OSError(errno.EACCES, os.strerror(errno.EACCES)))
    endpoints.check_unix_path(path)
    if os.path.abspath(path) in _unix_listeners():
        return [f"{text}: a server is listening there now; a start fails while it does"]
    return []


def _unix_listeners() -> set[str]:
    """The paths of listening unix sockets, as their servers gave them."""
    rows = [line.split(None, 7) for line in _lines("/proc/net/unix")[1:]]
    return {
        os.path.abspath(row[7])
        for row in rows
        if len(row) > 7 and int(row[3], 16) & ACCEPTS and row[7].startswith("/")
    }


# ---- TCP ----


def _inet(text: str, parameters: Mapping[str, str]) -> list[str]:
    where = endpoints.inet(text, parameters)
    missing = [error for error in map(_missing, where.addresses) if error is not None]
    if len(missing) == len(where.addresses):
        raise endpoints.inet_error(where, missing[-1])
    if 0 < where.port < _first_unprivileged() and not _may_have_any_port():
        raise endpoints.inet_error(where, OSError(errno.EACCES, os.strerror(errno.EACCES)))
    hosts = {str(address[1][0]) for address in where.addresses}
    if where.port and any(
        _overlap(host, taken) for host in hosts for taken in _listeners(where.port)
    ):
        return [
            f"{text}: a server is listening on port {where.port} now; a start fails while it does"
        ]
    return []


def _missing(address: endpoints.Address) -> OSError | None:
    """Says what is wrong with an address: it binds another one, which nobody has asked for, whatever the port."""
    family, (host, _, *rest) = address
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((host, 0, *rest))
    except OSError as error:
        return error
    return None


def _first_unprivileged() -> int:
    return int(_lines("/proc/sys/net/ipv4/ip_unprivileged_port_start", "1024")[0])


def _may_have_any_port() -> bool:
    everything = "CapEff: ffffffff" if os.geteuid() == 0 else "CapEff: 0"
    status = _lines("/proc/self/status", everything)
    (effective,) = [line for line in status if line.startswith("CapEff:")]
    return bool(int(effective.split()[1], 16) & BIND_SERVICE)


def _listeners(port: int) -> Iterator[str]:
    """The addresses on which some process listens with this port."""
    for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in _lines(f"/proc/net/{name}")[1:]:
            _, local, _, state, *_ = line.split()
            address, _, number = local.partition(":")
            if state == LISTENING and int(number, 16) == port:
                yield socket.inet_ntop(family, _network_order(address))


def _lines(path: str, *default: str) -> list[str]:
    """The lines of a file of Linux's; default where there is none, or none for us."""
    if not os.access(path, os.R_OK):
        return list(default)
    with open(path, errors="surrogateescape") as text:
        return text.read().splitlines()


def _network_order(digits: str) -> bytes:
    """The bytes of an address that the kernel prints as words of 32 bits in the order of the machine."""
    words = [int(digits[i : i + 8], 16) for i in range(0, len(digits), 8)]
    return b"".join(word.to_bytes(4, sys.byteorder) for word in words)


def _overlap(one: str, other: str) -> bool:
    return one == other or bool({one, other} & {"0.0.0.0", "::"})
