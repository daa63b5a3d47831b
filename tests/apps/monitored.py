"""An application that turns aiodebug on at import."""

from __future__ import annotations

import time
from typing import Any

from aiodebug import log_slow_callbacks

log_slow_callbacks.enable(0.05, lambda name, seconds: slow.append(name))
slow: list[str] = []


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    body = "\n".join(slow)
    if scope["path"] == "/slow":
        time.sleep(0.06)  # noqa: ASYNC251
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body.encode()})
