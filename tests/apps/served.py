"""What tests of pyasgi.testing run in the processes that it starts. Everything here can be pickled by name."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
from pathlib import Path
from typing import Any

from pyasgi import testing
from pyasgi.compat import reactor
from pyasgi.testing import DaphneProcess


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """The process id; /stop ends the server, /hang answers never, /block holds the loop up."""
    if scope["type"] != "http":
        raise ValueError("HTTP only")
    if scope["path"] == "/stop":
        multiprocessing.current_process().server.stop()  # type: ignore[attr-defined]
    if scope["path"] == "/hang":
        await asyncio.sleep(3600)
    if scope["path"] == "/block":
        threading.Event().wait(3600)
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})


async def echo_scope(scope: Any, receive: Any, send: Any) -> None:
    """The client of the scope."""
    if scope["type"] != "http":
        raise ValueError("HTTP only")
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": repr(scope["client"]).encode()})


def get_hello() -> Any:
    return hello


def get_broken() -> Any:
    raise LookupError("no application today")


class Stubborn(Exception):
    """An exception that cannot be unpickled: its constructor wants two arguments."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


def get_stubborn() -> Any:
    raise Stubborn("cannot be", "pickled")


class Note:
    """A setup or teardown that writes a line into a file."""

    def __init__(self, path: Path, line: str) -> None:
        self.path = path
        self.line = line

    def __call__(self) -> None:
        with self.path.open("a") as file:
            file.write(f"{self.line}\n")


class Announced(DaphneProcess):
    """As most subclasses in the wild: something first, then what we do."""

    def run(self) -> None:
        os.environ["ANNOUNCED"] = "yes"
        super().run()


class WithDaphnesRun(DaphneProcess):
    """As projects that have a run() of their own: the calls that daphne's makes, in its order."""

    def run(self) -> None:
        testing._reinstall_reactor()
        from daphne.endpoints import build_endpoint_description_strings
        from daphne.server import Server
        from twisted.internet import reactor

        self.server = Server(
            application=self.get_application(),
            endpoints=build_endpoint_description_strings(host=self.host, port=self.port.value),
            signal_handlers=False,
            **self.kwargs,
        )
        reactor.callLater(0.1, self.resolve_port)
        self.server.run()


class WithoutTwisted(WithDaphnesRun):
    """The same where there is no Twisted: a stand-in has the one call."""

    def run(self) -> None:
        reactor._has_twisted = lambda: False
        super().run()


def start_from_here(ports: Any) -> None:
    """Starts a server from within a process, tells its port and waits."""
    process = DaphneProcess("127.0.0.1", get_hello)
    process.start()
    process.ready.wait(60)
    ports.put((process.port.value, process.pid))
    threading.Event().wait(3600)
