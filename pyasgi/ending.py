"""The stop of a server, for those who have to know of it: ``pyasgi.stopping()`` and ``pyasgi.until_stopping()``.

A server sets its Stop once. The requests and the lifespan of an application run in a context that knows the Stop of
their server; a thread without that context is told of the server that the process started last.
"""

from __future__ import annotations

import contextlib
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import Future


class Stop:
    """Whether one server stops. Set by any thread or signal handler, awaited in any event loop."""

    def __init__(self) -> None:
        self.requested = False
        self._since = 0.0
        self._waiting: set[Future[None]] = set()

    def set(self) -> None:
        """Marks the server as stopping and wakes everybody who waits, each in his own loop."""
        if not self.requested:
            self._since = time.monotonic()
            self.requested = True
        for future in list(self._waiting):
            with contextlib.suppress(RuntimeError):  # that loop has just been closed
                future.get_loop().call_soon_threadsafe(_wake, future)

    def age(self) -> float:
        """Seconds since the stop was requested, 0 before."""
        return time.monotonic() - self._since if self.requested else 0.0

    async def wait(self) -> None:
        """Waits until the server stops; returns at once when it already does."""
        from asyncio import get_running_loop

        future = get_running_loop().create_future()
        self._waiting.add(future)
        try:
            if (
                not self.requested
            ):  # checked after the line above, because set() may run in another thread
                await future
        finally:
            self._waiting.discard(future)


def _wake(future: Future[None]) -> None:
    if not future.done():
        future.set_result(None)


_own: ContextVar[Stop] = ContextVar("cdaphne_stop")
_newest = Stop()  # of no server


def begin(stop: Stop) -> None:
    """Begins a server whose tasks inherit the running context."""
    global _newest
    _newest = stop
    _own.set(stop)


def stopping() -> bool:
    """Has the server been told to stop, or ended? May be called from any task, thread and signal handler."""
    return _own.get(_newest).requested


async def until_stopping() -> None:
    """Returns as soon as the server is told to stop."""
    await _own.get(_newest).wait()
