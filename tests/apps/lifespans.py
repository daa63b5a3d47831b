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


async def never_ends(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] != "lifespan":
        await http(scope, receive, send)
        return
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await asyncio.sleep(600)
