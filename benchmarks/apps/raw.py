"""The application under measurement: plain ASGI, the same for every server, as little Python as will do.

What it answers is checked by the load clients, so a change here goes with benchmarks/rows.py.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# 1 KB; the clients expect bodies that repeat it.
PATTERN = bytes(ord("a") + i % 23 for i in range(1024))
LARGE = PATTERN * 100
CHUNK = PATTERN * 64
CHUNKS = 160
EVENT_TAIL = b"\ndata: " + b"x" * 57 + b"\n\n"

PLAIN = (b"content-type", b"text/plain")
JSON = (b"content-type", b"application/json")
EVENTS = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]


async def answer(send: Send, body: bytes, kind: tuple[bytes, bytes] = PLAIN) -> None:
    headers = [kind, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def plain(receive: Receive, send: Send) -> None:
    await answer(send, b"Hello, World!")


async def json_message(receive: Receive, send: Send) -> None:
    await answer(send, json.dumps({"message": "Hello, World!"}).encode(), JSON)


async def echo(receive: Receive, send: Send) -> None:
    parts = []
    more = True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    await answer(send, b"".join(parts))


async def large(receive: Receive, send: Send) -> None:
    await answer(send, LARGE)


async def stream(receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [PLAIN]})
    for _ in range(CHUNKS):
        await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def upload(receive: Receive, send: Send) -> None:
    size = 0
    more = True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    await answer(send, b"%d" % size)


async def sleep(receive: Receive, send: Send) -> None:
    await asyncio.sleep(0.010)
    await answer(send, b"Hello, World!")


class Ticker:
    """Wakes everybody who waits, once in each turn of the loop, for as long as somebody listens."""

    def __init__(self) -> None:
        self.listeners = 0
        self.number = 0
        self.waiters: list[asyncio.Future[None]] = []
        self.task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        while self.listeners:
            self.number += 1
            waiters, self.waiters = self.waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)
            await asyncio.sleep(0)
        self.task = None

    async def next(self) -> int:
        waiter = asyncio.get_running_loop().create_future()
        self.waiters.append(waiter)
        await waiter
        return self.number

    def join(self) -> None:
        self.listeners += 1
        if self.task is None:
            self.task = asyncio.get_running_loop().create_task(self.run())


ticker = Ticker()


async def events(receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": EVENTS})
    ticker.join()
    try:
        while True:
            event = b"id: %010d" % await ticker.next() + EVENT_TAIL
            await send({"type": "http.response.body", "body": event, "more_body": True})
    finally:
        ticker.listeners -= 1


async def websocket_echo(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        if (text := message.get("text")) is not None:
            await send({"type": "websocket.send", "text": text})
        else:
            await send({"type": "websocket.send", "bytes": message["bytes"]})


room: set[Send] = set()


async def websocket_broadcast(receive: Receive, send: Send) -> None:
    await receive()
    room.add(send)
    await send({"type": "websocket.accept"})
    try:
        while (message := await receive())["type"] == "websocket.receive":
            out = {"type": "websocket.send", "text": message["text"]}
            for each in tuple(room):
                await each(out)
    finally:
        room.discard(send)


async def lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


PATHS = {
    "/": plain,
    "/json": json_message,
    "/echo": echo,
    "/100k": large,
    "/10m": stream,
    "/upload": upload,
    "/sleep": sleep,
    "/events": events,
    "/ws": websocket_echo,
    "/ws/broadcast": websocket_broadcast,
}


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    else:
        await PATHS[scope["path"]](receive, send)
