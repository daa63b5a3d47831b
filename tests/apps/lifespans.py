"""Applications with a lifespan, and with the ways to get one wrong. They tell on stderr what happens."""

from __future__ import annotations

import asyncio
import contextvars
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="unset")


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


async def http(scope: Message, receive: Receive, send: Send) -> None:
    """The state and the context that the request sees, as JSON; /slow takes half a second."""
    if scope["path"] == "/slow":
        tell("request: begins")
        await asyncio.sleep(0.5)
        tell("request: ends")
    state = scope.get("state")
    if state is not None:
        state["requests"] = state.get("requests", 0) + 1
    body = json.dumps({"state": state, "variable": VARIABLE.get()}).encode()
    VARIABLE.set("set by a request")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def whole(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] != "lifespan":
        await http(scope, receive, send)
        return
    assert (await receive())["type"] == "lifespan.startup"
    scope["state"]["pool"] = ["open"]
    VARIABLE.set("set at startup")
    await send({"type": "lifespan.startup.complete"})
    assert (await receive())["type"] == "lifespan.shutdown"
    tell("lifespan: pool closed")
    await send({"type": "lifespan.shutdown.complete"})


async def failing(scope: Message, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})


async def without(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        raise ValueError(f"no {scope['type']} here")
    await http(scope, receive, send)


async def stuck(scope: Message, receive: Receive, send: Send) -> None:
    await receive()
    tell("lifespan: starting")
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        tell("lifespan: cancelled")
        raise


async def slow(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        tell("lifespan: starting")
        await asyncio.sleep(0.5)
    await whole(scope, receive, send)


async def loop_of_messages(scope: Message, receive: Receive, send: Send) -> None:
    """Takes everything but HTTP for a WebSocket, and waits for what such a client says."""
    if scope["type"] == "http":
        await http(scope, receive, send)
        return
    try:
        while (event := await receive())["type"] != "websocket.disconnect":
            if event["type"] == "websocket.connect" and scope.get("path") != "/accepted":
                await send({"type": "websocket.accept"})
            elif event["type"] == "websocket.receive":
                await send({"type": "websocket.send", "text": event["text"]})
    except Exception as error:
        tell(f"loop: {error!r}")
        raise


async def loop_that_accepts(scope: Message, receive: Receive, send: Send) -> None:
    """The same, accepting whatever comes."""
    if scope["type"] == "http":
        await http(scope, receive, send)
        return
    try:
        await send({"type": "websocket.accept"})
    except Exception as error:
        tell(f"loop: {error!r}")
        raise
    await loop_of_messages({**scope, "path": "/accepted"}, receive, send)


async def busy_loop(scope: Message, receive: Receive, send: Send) -> None:
    """The same with a task that receives, as consumers have."""
    if scope["type"] == "http":
        await http(scope, receive, send)
        return
    while True:
        task = asyncio.ensure_future(receive())
        await asyncio.wait({task}, timeout=0.1)
        task.cancel()


async def deaf_to_startup(scope: Message, receive: Receive, send: Send) -> None:
    """Waits for something else, and has no idea of the event."""
    if scope["type"] == "http":
        await http(scope, receive, send)
        return
    await asyncio.Event().wait()


async def asserting(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await http(scope, receive, send)
        return
    event = await receive()
    assert event["type"] == "websocket.connect"


async def reads_ahead(scope: Message, receive: Receive, send: Send) -> None:
    """A wrapper that reads events into a queue, around an application that starts slowly."""
    if scope["type"] != "lifespan":
        await http(scope, receive, send)
        return
    events: asyncio.Queue[Message] = asyncio.Queue()

    async def read() -> None:
        while True:
            await events.put(await receive())

    reader = asyncio.create_task(read())
    await events.get()
    await asyncio.sleep(2)
    await send({"type": "lifespan.startup.complete"})
    await events.get()
    tell("lifespan: pool closed")
    await send({"type": "lifespan.shutdown.complete"})
    reader.cancel()


async def never_ends(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] != "lifespan":
        await http(scope, receive, send)
        return
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await asyncio.sleep(600)
