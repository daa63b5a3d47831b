"""Twisted on the server's loop, for applications that use it.

daphne runs on Twisted, so in its applications reactor.callLater(), deferToThread() and connections of Twisted's work.
Here they do, too: whoever imports twisted.internet.reactor first gets an AsyncioSelectorReactor on the server's loop,
in place of Twisted's default, and the server starts and stops it with itself. Nothing of Twisted is imported unless the
application does. A reactor that the application has installed itself is used if it is on that loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

logger = logging.getLogger("daphne.server")

NAME = "twisted.internet.reactor"
STOP_SECONDS = 5.0  # for functions in Twisted's threads, and for what waits for the shutdown


class ReactorFinder:
    """Stands first in sys.meta_path. crochet runs the reactor in a thread of its own: it gets Twisted's default.

    It and the loader are plain classes: importlib.abc would be a tenth of a start's time.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != NAME or "crochet" in sys.modules:
            return None
        loader: Any = ReactorLoader()
        return ModuleSpec(fullname, loader)


class ReactorLoader:
    """Installs a reactor on the loop of the server, as Twisted's own module installs the default."""

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        from . import main_loop  # not above: Django's commands prepare, and few import a reactor

        del sys.modules[NAME]  # Twisted refuses to install another one
        serving = _serving
        loop = main_loop.current() if serving is None else serving.loop
        install(loop)
        if serving is not None:
            loop.call_soon_threadsafe(serving.start)


def install(loop: asyncio.AbstractEventLoop) -> None:
    """Installs a reactor on the loop as the process's; there must be none yet."""
    asyncioreactor: Any = importlib.import_module("twisted.internet.asyncioreactor")
    asyncioreactor.install(loop)


def prepare() -> None:
    """Makes every later import of the reactor give one on the server's loop. May be repeated."""
    if not any(isinstance(finder, ReactorFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, ReactorFinder())


class Reactor:
    """Asynchronous context manager: the reactor, if there is one or comes to be one, runs with the server.

    stop: begins the server's shutdown, when the application stops the reactor
    children: Twisted may have SIGCHLD, which reactor.spawnProcess() needs
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, stop: Callable[[], object], children: bool
    ) -> None:
        self.loop = loop
        self._stop = stop
        self._children = children and threading.current_thread() is threading.main_thread()
        self._reactor: Any = None  # set while the reactor runs
        self._ended = asyncio.Event()

    async def __aenter__(self) -> Reactor:
        global _serving
        if _serving is None:
            _serving = self
            self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        global _serving
        if _serving is not self:
            return
        _serving = None
        if self._reactor is not None:
            await self._end_threads()
            await self._end()

    # ---- start ----

    def start(self) -> None:
        """Starts the reactor that is installed."""
        reactor: Any = sys.modules.get(NAME)
        if _serving is not self or reactor is None:
            return
        if hasattr(sys.modules["twisted"], "__cdaphne__"):  # the stand-in of compat/reactor.py
            return
        if reactor.running:  # it runs in its own thread, or we run it
            return
        if getattr(reactor, "_asyncioEventloop", None) is not self.loop:
            logger.warning(
                "Nothing runs Twisted's reactor: %r was installed, which is not on the server's event loop."
                " Leave its install() out, or install it there:"
                " asyncioreactor.install(pyasgi.server.twisted_loop)",
                reactor,
            )
            return
        self._take_over_crash(reactor)
        reactor.startRunning(installSignalHandlers=False)
        self._reactor = reactor
        if self._children:
            self._watch_children()
        logger.info("Twisted's reactor runs on the server's event loop")

    def _take_over_crash(self, reactor: Any) -> None:
        """The last step of reactor.stop() is to stop the loop, which is for the server to do."""
        handle: tuple[object, ...] = ("during", reactor.crash, (), {})
        reactor.removeSystemEventTrigger(("shutdown", handle))
        reactor.addSystemEventTrigger("during", "shutdown", self._crash)
        reactor.crash = self._crash

    def _crash(self) -> None:
        base: Any = importlib.import_module("twisted.internet.base")
        base.ReactorBase.crash(self._reactor)
        self._ended.set()
        if _serving is self:
            logger.info("The application has stopped Twisted's reactor: shutting down")
            self._stop()

    def _watch_children(self) -> None:
        """What Twisted's own SIGCHLD handler does; it would bring those for SIGINT and SIGTERM along."""
        if signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL:
            process: Any = importlib.import_module("twisted.internet.process")
            self.loop.add_signal_handler(signal.SIGCHLD, process.reapAllProcesses)
        else:
            self._children = False

    # ---- end ----

    async def _end_threads(self) -> None:
        """Ends the worker threads while the loop still turns, which their functions may be waiting for."""
        pool = self._reactor.threadpool
        if pool is None or self._ended.is_set():
            return
        self._reactor.removeSystemEventTrigger(self._reactor.threadpoolShutdownID)
        self._reactor.threadpool = None
        ending = threading.Thread(target=pool.stop, name="twisted threads", daemon=True)
        ending.start()
        deadline = self.loop.time() + STOP_SECONDS
        while ending.is_alive():
            if self.loop.time() > deadline:
                logger.warning("Functions in Twisted's threads still run: %s", _names(pool))
                return
            await asyncio.sleep(0.01)

    async def _end(self) -> None:
        if not self._ended.is_set():
            self._reactor.stop()
            self._reactor.runUntilCurrent()  # fires the shutdown
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), STOP_SECONDS)
            if not self._ended.is_set():
                logger.warning("Twisted's reactor has not stopped: a shutdown trigger still waits")
        if self._children:
            self.loop.remove_signal_handler(signal.SIGCHLD)
        self._reactor = None


_serving: Reactor | None = None  # the server whose loop the process's reactor uses


def _forget() -> None:
    global _serving
    _serving = None


os.register_at_fork(after_in_child=_forget)


def _names(pool: Any) -> str:
    return ", ".join(thread.name for thread in pool.threads)
