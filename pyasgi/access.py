"""The access log: where it goes, and daphne's generator of lines, which can be subclassed.

An AccessLogGenerator that nobody changed is only a name for its stream: the server writes the same lines
from C, straight to the stream's descriptor. A subclass, or any other callable, is called for every action.
"""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING, Any, TextIO

from .logs import NO_ACCESS_LOG
from .syslog import Syslog, SyslogError

if TYPE_CHECKING:
    import datetime

WORDS = {
    "connecting": "WSCONNECTING",
    "connected": "WSCONNECT",
    "rejected": "WSREJECT",
    "disconnected": "WSDISCONNECT",
}


SYSLOG = "syslog:"


class AccessLogError(Exception):
    """The access log cannot be written to that place; the message is one line for the operator."""


def access_stream(target: str | None, verbosity: int) -> TextIO | Syslog | None:
    """The stream of --access-log: "-" is stdout, None is stdout unless verbosity is 0. AccessLogError."""
    if target == NO_ACCESS_LOG or (not target and verbosity < 1):
        return None
    if not target or target == "-":
        return sys.stdout
    try:
        if target.startswith(SYSLOG):
            return Syslog(target)
        return open(target, "a", buffering=1, encoding="utf-8")
    except SyslogError as error:
        raise AccessLogError(f"--access-log {error}") from None
    except OSError as error:
        raise _unwritable(target, error.strerror) from None


def check_target(target: str | None) -> None:
    """Raises AccessLogError when access_stream() would fail; makes no file."""
    if not target or target in ("-", NO_ACCESS_LOG):
        return
    if not target.startswith(SYSLOG) and not os.path.exists(target):
        folder = os.path.dirname(target) or "."
        if not os.path.isdir(folder):
            raise _unwritable(target, os.strerror(2))
        if not os.access(folder, os.W_OK | os.X_OK):
            raise _unwritable(target, os.strerror(13))
        return
    stream = access_stream(target, 1)
    assert stream is not None
    stream.close()


def _unwritable(target: str, reason: str | None) -> AccessLogError:
    return AccessLogError(
        f"--access-log {target!r} cannot be opened: {reason};"
        " give a file that this user may write, or - for stdout"
    )


def reopen(action_logger: object) -> str | None:
    """Opens the file of an access log anew, after a rotation; None, or what went wrong.

    The new file takes the old one's place beneath its descriptor, so whoever holds the descriptor writes on.
    """
    stream = getattr(action_logger, "stream", None)
    try:
        name, descriptor = stream.name, stream.fileno()  # type: ignore[union-attr]
        if not isinstance(name, str) or not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
    except (AttributeError, OSError, ValueError):  # memory, syslog, a closed stream
        return None
    if stream in (sys.stdout, sys.__stdout__, sys.stderr):
        return None
    try:
        with open(name, "a", encoding="utf-8") as fresh:
            os.dup2(fresh.fileno(), descriptor, inheritable=False)
    except OSError as error:
        return f"access log {name!r}: {error.strerror}"
    return None


def syslog_of(action_logger: object) -> tuple[str | None, str | None]:
    """(head, tag) of the datagrams of an access log that goes to the system's log."""
    stream = getattr(action_logger, "stream", None)
    return (stream.head, stream.tag) if isinstance(stream, Syslog) else (None, None)


class AccessLogGenerator:
    """Writes a line to stream for every action of the server: override write_entry for another line."""

    def __init__(self, stream: TextIO | Syslog) -> None:
        self.stream = stream

    def __call__(self, protocol: str, action: str, details: dict[str, Any]) -> None:
        """An action happened: "http" "complete", or "websocket" and one of WORDS.

        details: path and client ("host:port" or None); for HTTP also method, status, time_taken (seconds)
        and size (bytes).
        """
        import datetime

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
    """The descriptor to which C may write the lines; None when Python must be called for every line."""
    if type(action_logger) is not AccessLogGenerator or "write_entry" in vars(action_logger):
        return None
    if AccessLogGenerator.write_entry is not WRITE_ENTRY or AccessLogGenerator.__call__ is not CALL:
        return None
    try:
        descriptor: int = action_logger.stream.fileno()
        action_logger.stream.flush()  # flushes what Python has written before
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
