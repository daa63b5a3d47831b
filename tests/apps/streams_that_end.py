"""Event streams that learn of the server's stop in other libraries' ways.

sse      sse-starlette, which looks for should_exit at the handler of SIGTERM
patched  what sse-starlette 1 and 2 do: a patch of uvicorn's handler, here of a stand-in for uvicorn
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from types import ModuleType
from typing import Any

from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


async def ticks() -> AsyncIterator[dict[str, str]]:
    while True:
        yield {"data": "tick"}
        await asyncio.sleep(0.05)


async def events(request: Request) -> EventSourceResponse:
    return EventSourceResponse(ticks())


sse = Starlette(routes=[Route("/", events)])


class Server:
    """uvicorn's, as far as the patch goes."""

    def handle_exit(self, number: int, frame: object) -> None:
        self._captured_signals.append(number)  # type: ignore[attr-defined]


Server.handle_exit.__module__ = "uvicorn.server"


class AppStatus:
    should_exit = False
    original_handler = Server.handle_exit

    @staticmethod
    def handle_exit(*arguments: Any) -> None:
        AppStatus.should_exit = True
        AppStatus.original_handler(*arguments)


def patch_uvicorn() -> None:
    Server.handle_exit = AppStatus.handle_exit  # type: ignore[method-assign, assignment]
    module: Any = ModuleType("uvicorn.server")
    module.Server = Server
    sys.modules["uvicorn.server"] = module


patch_uvicorn()


async def patched(scope: Message, receive: Receive, send: Send) -> None:
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while not AppStatus.should_exit:
        await send({"type": "http.response.body", "body": b"tick", "more_body": True})
        await asyncio.sleep(0.05)
    await send({"type": "http.response.body", "body": b""})
