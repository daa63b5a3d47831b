"""What copies of daphne's DaphneProcess.run() use of Twisted, for environments without Twisted.

Such a copy imports twisted.internet.reactor for one call, ``reactor.callLater(0.1, self.resolve_port)``. Only the
child process of a test that runs such a copy sees this module.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import sys
from asyncio import TimerHandle
from collections.abc import Callable
from types import ModuleType
from typing import Any

from .. import main_loop, reactor


class Reactor:
    """Twisted's reactor as far as it is a clock for the loop of the server."""

    def callLater(self, delay: float, function: Callable[..., Any], *args: Any) -> TimerHandle:
        return main_loop.current().call_later(delay, function, *args)

    def callFromThread(self, function: Callable[..., Any], *args: Any) -> None:
        main_loop.current().call_soon_threadsafe(function, *args)

    def stop(self) -> None:
        """Stops the server of this process."""
        server = getattr(multiprocessing.current_process(), "server", None)
        if server is not None:
            server.stop()


def install() -> None:
    """Gives twisted.internet.reactor the process's new loop: Twisted's own one where Twisted is installed."""
    sys.modules.pop("twisted.internet.reactor", None)
    if _has_twisted():
        reactor.install(main_loop.current())
    else:
        _install_stand_in()


def _has_twisted() -> bool:
    if "twisted" in sys.modules:
        return not hasattr(sys.modules["twisted"], "__cdaphne__")
    return importlib.util.find_spec("twisted") is not None


def _install_stand_in() -> None:
    twisted, internet = ModuleType("twisted"), ModuleType("twisted.internet")
    stand_in: Any = Reactor()
    vars(twisted).update(__path__=[], __cdaphne__=True, internet=internet)
    vars(internet).update(__path__=[], reactor=stand_in)
    sys.modules["twisted"] = twisted
    sys.modules["twisted.internet"] = internet
    sys.modules["twisted.internet.reactor"] = stand_in
