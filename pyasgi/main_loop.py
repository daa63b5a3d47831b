"""The event loop of the process's server, which others may ask for before the server runs.

daphne has a loop from the moment it is imported, and projects schedule their tasks on it from AppConfig.ready():
``from daphne.server import twisted_loop``. Ours is made when somebody asks for it, and Server.run() takes that one. A
second server in the process, in another thread, gets a loop that nobody else can ask for.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from .loop import EventLoop
from .process import worker_threads

if TYPE_CHECKING:
    from concurrent.futures import Executor


class MainLoop(EventLoop):
    """An EventLoop with ASGI_THREADS worker threads. ValueError when that variable is no number."""

    _default_executor: Executor | None  # an attribute of asyncio's that its type stubs leave out

    def __init__(self) -> None:
        super().__init__()
        try:
            threads = worker_threads()
        except ValueError:
            super().close()
            raise
        if threads is not None:  # else asyncio makes the executor when it is needed
            from concurrent.futures import ThreadPoolExecutor

            self.set_default_executor(ThreadPoolExecutor(threads, "asyncio"))

    def close(self) -> None:
        """Closes the loop; calls that wait for a worker thread are cancelled, running ones are left alone."""
        executor = self._default_executor
        if executor is not None:
            executor.shutdown(wait=False, cancel_futures=True)
        super().close()
        with _holder.lock:
            if _holder.loop is self:
                _holder.loop = None


class _Holder:
    """Holds the loop, and whether a server uses it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()  # to make a loop may collect an old one, and so close it
        self.loop: MainLoop | None = None
        self.taken = False

    def open(self) -> MainLoop:
        """Returns the loop, and makes it when there is none; the caller must hold the lock."""
        if self.loop is None:
            self.loop, self.taken = MainLoop(), False
        return self.loop


_holder = _Holder()
_inherited: list[_Holder] = []  # loops of parent processes, which must not be finalized here


def current() -> MainLoop:
    """The loop on which the process's server runs, or will run. From any thread."""
    with _holder.lock:
        return _holder.open()


def take() -> MainLoop:
    """The loop for a server that is about to run; the caller closes it."""
    with _holder.lock:
        loop = _holder.open()
        if _holder.taken or loop.is_running():  # a program may run Twisted's reactor in a thread
            return MainLoop()
        _holder.taken = True
        return loop


def renew() -> None:
    """Forgets the loop, without closing it: the next one that is asked for is new."""
    global _holder
    _inherited.append(_holder)
    _holder = _Holder()


os.register_at_fork(after_in_child=renew)  # a child would use its parent's epoll set
