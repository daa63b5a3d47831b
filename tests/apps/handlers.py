"""Applications that take SIGTERM, and hand it on to the handler that they found. They tell on stderr what happens."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pyasgi

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def taking(take: Callable[[Any], object]) -> App:
    """An application that calls take with the handler of the server at its startup, and answers with that handler's."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            take(signal.getsignal(signal.SIGTERM))
            await send({"type": "lifespan.startup.complete"})
            await receive()
            tell("lifespan: shutdown")
            await send({"type": "lifespan.shutdown.complete"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    return app


def take_at_once(previous: Any) -> None:
    def handler(number: int, frame: object) -> None:
        tell("handler: flushed")
        previous(number, frame)

    signal.signal(signal.SIGTERM, handler)


def take_later(previous: Any) -> None:
    """As for a load balancer: goes on serving for a while."""
    loop = asyncio.get_running_loop()

    def handler(number: int, frame: object) -> None:
        tell("handler: later")
        loop.call_later(0.5, previous, number, None)

    signal.signal(signal.SIGTERM, handler)


def take_in_thread(previous: Any) -> None:
    def handler(number: int, frame: object) -> None:
        threading.Timer(0.1, previous, (number, None)).start()

    signal.signal(signal.SIGTERM, handler)


def take_by_asyncio(previous: Any) -> None:
    def call() -> None:
        tell("asyncio: called")
        previous(signal.SIGTERM, None)

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, call)


at_once, later = taking(take_at_once), taking(take_later)
in_thread, by_asyncio = taking(take_in_thread), taking(take_by_asyncio)


def of_the_import(number: int, frame: object) -> None:
    tell(f"handler of the import: {number}")


if "of_import" in " ".join(sys.argv):
    signal.signal(signal.SIGTERM, of_the_import)

of_import = taking(lambda previous: None)


# ---- that learn of the stop ----


async def knowing(scope: Message, receive: Receive, send: Send) -> None:
    """Streams until the server stops: /task asks, /wait waits, /thread asks in a thread without a context."""
    if scope["type"] != "http":
        raise ValueError(f"no {scope['type']} here")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"first", "more_body": True})
    if scope["path"] == "/task":
        while not pyasgi.stopping():
            await asyncio.sleep(0.01)
    elif scope["path"] == "/wait":
        await pyasgi.until_stopping()
    else:
        thread = threading.Thread(target=until_told)
        thread.start()
        while thread.is_alive():
            await asyncio.sleep(0.01)
    await pyasgi.until_stopping()  # at once, again
    await send({"type": "http.response.body", "body": b" last"})


def until_told() -> None:
    while not pyasgi.stopping():
        time.sleep(0.01)
