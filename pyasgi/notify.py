"""systemd's notification protocol (sd_notify): READY, RELOADING, STOPPING, and the watchdog's keep-alive.

systemd names a datagram socket in NOTIFY_SOCKET. The keep-alive is sent by a timer of the event loop, so a
loop that an application blocks for longer than WatchdogSec= is restarted, which is what a watchdog is for.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Mapping
from types import TracebackType

logger = logging.getLogger("daphne.server")

PINGS = 2  # keep-alives within the watchdog's time, as sd_watchdog_enabled(3) recommends


class Notifier:
    """Tells the service manager how the server is doing; a context manager. Without NOTIFY_SOCKET it does nothing.

    enabled: is this server the process's own? One that a program embeds must not speak for the program.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        enabled: bool = True,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._loop = loop
        self._address = environ.get("NOTIFY_SOCKET", "") if enabled else ""
        self._interval = _watchdog_seconds(environ) / PINGS if enabled else 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._process = os.getpid()

    def __enter__(self) -> Notifier:
        if self._address and not self._address.startswith(("/", "@")):
            logger.warning(
                "NOTIFY_SOCKET is %r, which is not a path: systemd is told nothing", self._address
            )
            self._address = ""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._address = ""

    def ready(self, status: str) -> None:
        """Reports that the server accepts connections; from now on keep-alives are sent."""
        self._send("READY=1", f"STATUS={status}")
        if self._interval and self._address:
            self._feed()

    def reloading(self, status: str) -> None:
        """Reports that the server is about to reopen its logs; ready() ends this."""
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={microseconds}", f"STATUS={status}")

    def stopping(self, status: str) -> None:
        """Reports that the graceful shutdown begins."""
        self._send("STOPPING=1", f"STATUS={status}")

    def _feed(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._send("WATCHDOG=1")
        self._timer = self._loop.call_later(self._interval, self._feed)

    def _send(self, *fields: str) -> None:
        if not self._address or os.getpid() != self._process:  # a forked child is not the service
            return
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(fields).encode(), address)
        except OSError as error:
            logger.warning(
                "%s could not be sent to NOTIFY_SOCKET %s: %s", fields[0], self._address, error
            )


def _watchdog_seconds(environ: Mapping[str, str]) -> float:
    """The time after which systemd kills a silent process; 0 without a watchdog."""
    text = environ.get("WATCHDOG_USEC", "")
    if not (text.isascii() and text.isdigit()):
        return 0.0
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    return int(text) / 1e6
