"""SIGTERM and SIGINT: the first one begins the graceful shutdown, a second one ends the process at once.

SIGUSR1 reopens the log files; SIGHUP loads certificates anew where there are some, and without TLS ends the
process as ever. All of it only in the main thread, SIGINT only where Python's own handler
stands, SIGUSR1 and SIGHUP where nobody's does: what an embedding program, the application or a shell's `nohup`
chose stays.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any


class ShutdownSignals:
    """Context manager: while it is open, signals call `first` in the loop, then `second` in the main thread.

    SIGUSR1 calls `reopen` in the loop.

    second runs as a Python signal handler, so it also works while the application blocks the loop; when it
    returns the process exits with 128 plus the signal's number.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        first: Callable[[signal.Signals], None],
        second: Callable[[signal.Signals], None],
        reopen: Callable[[], None],
        reload: Callable[[], None],
        enabled: bool = True,
    ) -> None:
        self._enabled = enabled
        self._loop = loop
        self._first = first
        self._second = second
        self._reopen = reopen
        self._reload = reload
        self._previous: dict[signal.Signals, Any] = {}
        self._seen = 0

    def __enter__(self) -> None:
        if not self._active():
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            previous = signal.getsignal(number)
            if number == signal.SIGINT and previous is not signal.default_int_handler:
                continue
            self._previous[number] = previous
            self._loop.add_signal_handler(number, self._first, number)
            # In place of asyncio's empty handler; the descriptor that wakes the loop stays asyncio's.
            signal.signal(number, self._arrived)
            signal.siginterrupt(number, False)
        self._take_free(signal.SIGUSR1, self._reopen)

    def reload_too(self) -> None:
        """From now on SIGHUP calls `reload` in the loop."""
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
        for number, previous in self._previous.items():
            self._loop.remove_signal_handler(number)
            if previous is not None:  # None: set by C code that Python cannot put back
                signal.signal(number, previous)
        self._previous.clear()

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        self._seen += 1
        if self._seen > 1:
            self._second(signal.Signals(number))
            os._exit(128 + number)
