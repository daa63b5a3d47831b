"""An application whose threads, hooks and coroutines outlive its server, as LEAVE says; it tells on stderr."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
KEPT: list[object] = []


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def send_mail(seconds: float) -> None:
    time.sleep(seconds)
    tell("mail: sent")


def flush_telemetry(seconds: float) -> None:
    time.sleep(seconds)
    tell("telemetry: flushed")


class Hanging(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        pass

    def flush(self) -> None:
        time.sleep(60)


kind, _, length = os.environ.get("LEAVE", "").partition(" ")
if kind == "thread":
    threading.Thread(target=send_mail, args=(float(length),), name="mailer").start()
elif kind == "hook":
    atexit.register(flush_telemetry, float(length))
elif kind == "log":
    logging.getLogger().addHandler(Hanging())
elif kind == "all":
    atexit.register(tell, "hook")


async def deaf(name: str) -> None:
    """Sleeps on, whatever is thrown at it."""
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            tell(f"{name}: cancelled")


async def generator() -> AsyncIterator[int]:
    try:
        yield 1
    finally:
        tell("generator: closed")
        await asyncio.sleep(60)


async def app(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        tell("lifespan: shutdown")
        await deaf("lifespan")
    if scope["path"] == "/":
        KEPT.append(asyncio.get_running_loop().create_task(deaf("task")))
        made = generator()
        KEPT.append(made)
        await made.__anext__()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"first", "more_body": True})
    await deaf("stream")
