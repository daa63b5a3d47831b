"""Applications at the end of their server: slow, deaf to cancellation, blocking. They tell on stderr what happens."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


async def answer(send: Send, body: bytes) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def deaf(seconds: float) -> None:
    """Sleeps on, whatever is thrown at it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            await asyncio.sleep(end - time.monotonic())
        except asyncio.CancelledError:
            tell("deaf: heard nothing")


async def http(scope: Message, receive: Receive, send: Send) -> None:
    path = scope["path"]
    tell(f"begins {path}")
    try:
        if path.startswith("/sleep/"):
            await asyncio.sleep(float(path[7:]))
        elif path == "/deaf":
            await deaf(60)
        elif path == "/block":
            time.sleep(60)  # noqa: ASYNC251  (the fault that this path has)
        elif path.startswith("/block/"):
            time.sleep(float(path[7:]))  # noqa: ASYNC251
        elif path == "/thread":
            await asyncio.to_thread(time.sleep, 60)
        elif path == "/exit":
            raise SystemExit(7)
        elif path == "/interrupt":
            raise KeyboardInterrupt
        elif path == "/background":
            TASKS.append(asyncio.get_running_loop().create_task(background()))
        elif path == "/stream":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"first", "more_body": True})
            await asyncio.sleep(0.5)
            await send({"type": "http.response.body", "body": b"last"})
            return
        await answer(send, b"done")
    except asyncio.CancelledError:
        tell(f"cancelled {path}")
        raise
    finally:
        tell(f"ends {path}")


TASKS: list[asyncio.Task[None]] = []


async def background() -> None:
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        tell("cancelled background")
        raise


async def websocket(scope: Message, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    event = await receive()
    while event["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event["text"]})
        event = await receive()
    tell(f"websocket {event['type']} {event['code']}")
    if scope["path"] == "/lingers":
        await asyncio.sleep(600)


async def app(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await http(scope, receive, send)
    elif scope["type"] == "websocket":
        await websocket(scope, receive, send)
    else:
        raise ValueError(f"no {scope['type']} here")
