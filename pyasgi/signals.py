"""SIGTERM and SIGINT: the first one begins the graceful shutdown, a second one ends the process at once.

SIGUSR1 reopens the log files; SIGHUP loads certificates anew where there are some, and without TLS ends the
process as ever. All of it only in the main thread, SIGINT only where Python's own handler
stands, SIGUSR1 and SIGHUP where nobody's does: what an embedding program, the application or a shell's `nohup`
chose stays.

Whoever replaces our handler decides what the signal does, and hands it on by calling ours, now or later. A handler
that was there before ours gets the signal when the graceful shutdown is over, as under uvicorn.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from types import FrameType, SimpleNamespace, TracebackType
from typing import Any

from .ending import Stop


class ShutdownSignals:
    """Context manager: while it is open, signals call `first` in the loop, then `second` in the main thread.

    SIGUSR1 calls `reopen` in the loop. The first signal also sets `stop`, before `first` is called.

    second runs as a Python signal handler, so it also works while the application blocks the loop; when it
    returns the process exits with 128 plus the signal's number.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        stop: Stop,
        first: Callable[[str], None],
        second: Callable[[str], None],
        reopen: Callable[[], None],
        reload: Callable[[], None],
        enabled: bool = True,
    ) -> None:
        self._enabled = enabled
        self._loop = loop
        self._stop = stop
        self._first = first
        self._second = second
        self._reopen = reopen
        self._reload = reload
        self._previous: dict[signal.Signals, Any] = {}
        self._seen: int | None = None
        self._open = False
        self._process = os.getpid()

    @property
    def should_exit(self) -> bool:
        """Is the server stopping? sse-starlette looks for this in the object whose method handles SIGTERM."""
        return self._stop.requested

    def __enter__(self) -> None:
        if not self._active():
            return
        global _served
        _served = self._open = True
        for number in (signal.SIGTERM, signal.SIGINT):
            previous = signal.getsignal(number)
            if number == signal.SIGINT and previous is not signal.default_int_handler:
                continue
            self._previous[number] = previous
            self._take(number)
        self._take_free(signal.SIGUSR1, self._reopen)

    def _take(self, number: signal.Signals) -> None:
        # asyncio's call wakes the loop for the signal, and has nothing to do when it is awake.
        self._loop.add_signal_handler(number, _nothing)
        signal.signal(number, self.handle_exit)
        signal.siginterrupt(number, False)

    def signals(self) -> Iterable[int]:
        return self._previous

    def forsake(self) -> None:
        """Restores the earlier handlers in a forked child, unless somebody has set another one."""
        self._open = False
        for number, previous in self._previous.items():
            now = signal.getsignal(number)
            if now == self.handle_exit or _is_asyncios(now):
                default = previous is None or previous is _end
                signal.signal(number, signal.SIG_DFL if default else previous)

    def reload_too(self) -> None:
        """Makes SIGHUP call `reload` in the loop."""
        if self._active():
            self._take_free(signal.SIGHUP, self._reload)

    def _active(self) -> bool:
        return self._enabled and threading.current_thread() is threading.main_thread()

    def _take_free(self, number: signal.Signals, call: Callable[[], None]) -> None:
        if signal.getsignal(number) is signal.SIG_DFL:
            self._previous[number] = signal.SIG_DFL
            self._loop.add_signal_handler(number, call)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open = False
        for number, previous in self._previous.items():
            now = signal.getsignal(number)
            self._loop.remove_signal_handler(number)
            if now != self.handle_exit and not _is_asyncios(now):
                signal.signal(number, now)  # a handler that somebody set after us
            elif previous is not None:  # None: set by C code that Python cannot put back
                signal.signal(number, previous)
        for number, previous in self._previous.items():
            if number == self._seen and callable(previous) and previous not in DEFAULTS:
                signal.raise_signal(number)

    def handle_exit(self, number: int, frame: FrameType | None = None) -> None:
        """The handler of SIGTERM and SIGINT. Others may call it, from any thread and at any time."""
        if not self._open or os.getpid() != self._process:  # this is a child that C code forked
            self._hand_on(number, frame)
            return
        if self._seen is not None:
            self._second(_name(number))
            os._exit(128 + number)
        self._seen = number
        # The stop comes last: from then on the loop of another thread may come to its end at once.
        self._loop.call_soon_threadsafe(self._first, _name(number))
        self._loop.call_soon_threadsafe(_tell_uvicorns_patches, number)
        self._stop.set()

    def _hand_on(self, number: int, frame: FrameType | None) -> None:
        """Does what the signal did before: the server has ended, or belongs to another process."""
        previous = self._previous.get(signal.Signals(number), signal.SIG_DFL)
        if callable(previous):
            previous(number, frame)
        elif previous is signal.SIG_DFL:
            os._exit(128 + number)


_served = False  # whether this process has had a server


def before_a_server() -> None:
    """Lets SIGTERM end a process that is PID 1, as in a container, until a server takes the signal.

    That process has no default actions: SIGTERM would be lost while the application is imported.
    """
    if os.getpid() == 1 and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)


def _end(number: int, frame: FrameType | None) -> None:
    if not _served:  # else the application's handler would pass on handled signals
        os._exit(128 + number)


DEFAULTS = (signal.default_int_handler, _end)


def is_default(handler: object) -> bool:
    """Is this a default handler, which nobody has chosen?"""
    return handler is signal.SIG_DFL or handler in DEFAULTS


def _nothing() -> None:
    """Does nothing: the signal has woken the loop."""


def _is_asyncios(handler: object) -> bool:
    """Does loop.add_signal_handler() handle the signal? That ends with the loop."""
    return getattr(handler, "__module__", None) == "asyncio.unix_events"


def _tell_uvicorns_patches(number: int) -> None:
    """Calls the patches of uvicorn's handler by which libraries, as sse-starlette 1 and 2, learn of a stop."""
    server = getattr(sys.modules.get("uvicorn.server"), "Server", None)
    handler = getattr(server, "handle_exit", None)
    if handler is not None and handler.__module__ != "uvicorn.server":
        handler(
            SimpleNamespace(should_exit=False, force_exit=False, _captured_signals=[]), number, None
        )


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
