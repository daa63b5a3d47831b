"""Tells about the process and the loop that serve it, as JSON."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
from collections.abc import Awaitable, Callable
from typing import Any

Message = dict[str, Any]


async def count_threads() -> int:
    """How many blocking calls the loop's default executor runs at the same time, 20 at most."""
    running, most = 0, 0
    lock = threading.Lock()
    full = threading.Event()

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        full.wait(0.2)
        with lock:
            running -= 1

    await asyncio.gather(*(asyncio.to_thread(work) for _ in range(20)))
    return most


async def app(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    if scope["type"] != "http":
        raise ValueError(f"no {scope['type']} here")
    loop = asyncio.get_running_loop()
    facts = {
        "debug": loop.get_debug(),
        "loop": type(loop).__qualname__,
        "frozen": gc.get_freeze_count(),
        "threads": await count_threads(),
    }
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(facts).encode()})
