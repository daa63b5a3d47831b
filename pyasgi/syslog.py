"""The access log in the system's log: ``--access-log syslog:``, with the options of an endpoint string.

syslog:                                  /dev/log, facility daemon, tag cdaphne
syslog:/run/log.sock:facility=local3     another socket
syslog:host=loghost:port=514:tag=web     over UDP
"""

from __future__ import annotations

import os
import socket
from typing import Any

from .endpoints import EndpointError, split_fields

PARAMETERS = ("address", "facility", "tag", "host", "port")
INFO = 6  # severity of RFC 3164


class SyslogError(Exception):
    """The system's log cannot be used; the message is one line for the operator."""


class Syslog:
    """A connected, non-blocking datagram socket that looks like a stream. SyslogError.

    The server sends datagrams to its descriptor from C; write() is for subclasses of AccessLogGenerator.
    """

    def __init__(self, target: str) -> None:
        from logging.handlers import SysLogHandler  # it imports a dozen modules

        self.target = target
        values = _parameters(target)
        facility = values.get("facility", "daemon")
        if facility not in SysLogHandler.facility_names:
            known = ", ".join(sorted(SysLogHandler.facility_names))
            raise SyslogError(f"{target!r}: no facility {facility!r}; there are {known}")
        self.head = f"<{SysLogHandler.facility_names[facility] * 8 + INFO}>"
        self._address = _address(target, values)
        # RFC 3164 demands the host's name in datagrams for other machines, and none on the machine's own socket.
        host = f" {socket.gethostname()}" if isinstance(self._address, tuple) else ""
        self.tag = f"{host} {values.get('tag', 'cdaphne')}[{os.getpid()}]: "
        self._socket = self._connect()

    def _connect(self) -> socket.socket:
        family: int = socket.AF_UNIX
        address: Any = self._address
        try:
            if isinstance(self._address, tuple):
                host, port = self._address
                found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
                family, address = found[0][0], found[0][4]
            made = socket.socket(family, socket.SOCK_DGRAM)
            made.setblocking(False)
            try:
                made.connect(address)
            except OSError:
                made.close()
                raise
        except OSError as error:
            raise SyslogError(
                f"{self.target!r} cannot be reached: {error.strerror or error};"
                " is a system log running? give syslog:PATH or syslog:host=NAME:port=514"
            ) from None
        return made

    def fileno(self) -> int:
        return self._socket.fileno()

    def write(self, text: str) -> int:
        import datetime

        date = datetime.datetime.now().strftime("%b %e %H:%M:%S")
        for line in text.splitlines():
            self._socket.send(f"{self.head}{date}{self.tag}{line}".encode())
        return len(text)

    def flush(self) -> None:
        """Nothing is kept here."""

    def close(self) -> None:
        self._socket.close()


def _parameters(target: str) -> dict[str, str]:
    try:
        (_, *positional), values = split_fields(target)
    except EndpointError as error:
        raise SyslogError(str(error)) from None
    if len(positional) > 1:
        raise SyslogError(
            f"{target!r}: too many fields; write {', '.join(PARAMETERS)} with their names"
        )
    for name in values:
        if name not in PARAMETERS:
            raise SyslogError(
                f"{target!r}: syslog takes no {name!r}; it takes {', '.join(PARAMETERS)}"
            )
    if positional and positional[0]:
        values.setdefault("address", positional[0])
    return values


def _address(target: str, values: dict[str, str]) -> str | tuple[str, int]:
    if "host" not in values:
        return values.get("address", "/dev/log")
    port = values.get("port", "514")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise SyslogError(f"{target!r}: port is {port!r}; give 1 to 65535")
    return values["host"], int(port)
