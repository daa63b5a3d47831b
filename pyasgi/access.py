"""The access log in daphne's format, as an action logger that can be subclassed.

An AccessLogGenerator that nobody changed is only a name for its stream: the server writes the same lines
from C, straight to the stream's descriptor. A subclass, or any other callable, is called for every action.
"""

from __future__ import annotations

import datetime
import os
import stat
from typing import Any, TextIO

WORDS = {
    "connecting": "WSCONNECTING",
    "connected": "WSCONNECT",
    "rejected": "WSREJECT",
    "disconnected": "WSDISCONNECT",
}


class AccessLogGenerator:
    """Writes a line to stream for every action of the server: override write_entry for another line."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def __call__(self, protocol: str, action: str, details: dict[str, Any]) -> None:
        """An action happened: "http" "complete", or "websocket" and one of WORDS.

        details: path and client ("host:port" or None); for HTTP also method, status, time_taken (seconds)
        and size (bytes).
        """
        now = datetime.datetime.now()
        if protocol == "http" and action == "complete":
            self.write_entry(
                host=details["client"],
                date=now,
                request=f"{details['method']} {details['path']}",
                status=details["status"],
                length=details["size"],
            )
        elif protocol == "websocket" and action in WORDS:
            request = f"{WORDS[action]} {details['path']}"
            self.write_entry(host=details["client"], date=now, request=request)

    def write_entry(
        self,
        host: str | None,
        date: datetime.datetime,
        request: str,
        status: int | None = None,
        length: int | None = None,
        ident: str | None = None,
        user: str | None = None,
    ) -> None:
        """Writes one line; None and 0 show as "-"."""
        when = date.strftime("%d/%b/%Y:%H:%M:%S")
        self.stream.write(
            f'{host} {ident or "-"} {user or "-"} [{when}] "{request}" {status or "-"} {length or "-"}\n'
        )
        self.stream.flush()


WRITE_ENTRY = AccessLogGenerator.write_entry
CALL = AccessLogGenerator.__call__


def native_descriptor(action_logger: object) -> int | None:
    """The descriptor that C may write the lines to; None when Python has to be asked for every line."""
    if type(action_logger) is not AccessLogGenerator or "write_entry" in vars(action_logger):
        return None
    if AccessLogGenerator.write_entry is not WRITE_ENTRY or AccessLogGenerator.__call__ is not CALL:
        return None
    try:
        descriptor: int = action_logger.stream.fileno()
        action_logger.stream.flush()  # what Python wrote before us stands before us
    except (AttributeError, OSError, ValueError):  # a stream in memory, or a closed one
        return None
    return descriptor


def open_unblocking(descriptor: int) -> int | None:
    """A second, non-blocking descriptor for a pipe or terminal, which the caller closes; else None.

    A reader that stops reading must not stop the server. O_NONBLOCK on the descriptor itself would
    strike every process that shares it, so the pipe is opened once more.
    """
    mode = os.fstat(descriptor).st_mode
    if not (stat.S_ISFIFO(mode) or os.isatty(descriptor)):
        return None
    flags = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        return os.open(f"/proc/self/fd/{descriptor}", flags)
    except OSError:  # no reader, no /proc, or a terminal of another user
        return None
