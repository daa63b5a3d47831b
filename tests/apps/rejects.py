"""Closes every WebSocket before it is accepted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

Message = dict[str, Any]


async def app(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    if scope["type"] != "websocket":
        raise ValueError(f"no {scope['type']} here")
    await receive()
    await send({"type": "websocket.close"})
