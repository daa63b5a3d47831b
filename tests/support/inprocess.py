"""A server inside the test's own process: for what only its objects can show (references, threads, exceptions).

    with Inside(app, http_timeout=1) as inside:
        client = inside.connect()

The loop runs in a thread. At the end everything is closed, and with a CD_DEBUG extension no live object may be left.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from pyasgi import _core
from pyasgi.loop import EventLoop
from tests.support.client import RawClient

T = TypeVar("T")
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Inside:
    """A running _core.Server. errors: exceptions of applications. problems: what reached the loop's handler."""

    def __init__(self, app: Callable[..., Any], *, debug: bool = False, **options: Any) -> None:
        self.errors: list[BaseException] = []
        self.problems: list[dict[str, Any]] = []
        self.lines: list[tuple[int, str]] = []
        self._app = app
        self._debug = debug
        self._options = options
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.loop: EventLoop
        self.server: _core.Server
        self.port = 0

    def _run(self) -> None:
        self.loop = EventLoop()
        self.loop.set_debug(self._debug)
        self.loop.set_exception_handler(lambda _, context: self.problems.append(context))
        self.loop.run_until_complete(self._open())
        try:
            self.loop.run_forever()
        finally:
            self.server.close()
            self.loop.run_until_complete(self._end())
            self.loop.close()

    async def _open(self) -> None:
        options = {"on_exception": lambda error, gone: self.errors.append(error), **self._options}
        options.setdefault("on_log", lambda level, line: self.lines.append((level, line)))
        self.server = _core.Server(self.loop, self._app, **options)
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        self.server.listen(listener.detach())
        self._started.set()

    async def _end(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await asyncio.sleep(0)

    def __enter__(self) -> Inside:
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(20)
        assert not self._thread.is_alive()
        if kind is None:
            assert self.problems == []
            left = self.left()
            assert not left, f"live objects: {left}"

    def left(self) -> dict[str, int]:
        """What lives on after the end; the test's own garbage is none of it."""
        del self.server, self.loop
        gc.collect()
        live = getattr(_core, "debug_live", dict)()
        return {kind: count for kind, count in live.items() if count}

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Awaits the coroutine on the server's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(20)

    def connect(self) -> RawClient:
        return RawClient(socket.create_connection(("127.0.0.1", self.port), 20))

    def get(self, path: str = "/") -> bytes:
        """The body of one GET on a connection of its own."""
        with self.connect() as client:
            request = f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
            return client.request(request.encode()).body


async def respond(send: Send, body: bytes = b"ok", status: int = 200) -> None:
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": body})
