"""A Starlette application whose clients leave; /notes tells what became of it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

NOTES: list[Any] = []


class UploadError(Exception):
    """What an application makes of a body that it could not read."""


async def notes(request: Request) -> Response:
    gc.collect()  # an asynchronous generator that is dropped in a cycle ends only then
    return JSONResponse(NOTES)


async def endless(request: Request) -> Response:
    async def parts() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 1000
                await asyncio.sleep(0.01)
        finally:
            NOTES.append("stream ended")

    return StreamingResponse(parts())


async def upload(request: Request) -> Response:
    NOTES.append("upload begun")
    return PlainTextResponse(str(len(await request.body())))


async def wrapped(request: Request) -> Response:
    NOTES.append("upload begun")
    try:
        await request.body()
    except ClientDisconnect as gone:
        raise UploadError("no body") from gone
    return PlainTextResponse("ok")


async def buggy(request: Request) -> Response:
    NOTES.append("upload begun")
    try:
        await request.body()
    except ClientDisconnect:
        return PlainTextResponse({}["of the handler"])
    return PlainTextResponse("ok")


async def asks(request: Request) -> Response:
    """Asks only when its client has left for sure."""
    if request.method == "POST":
        await request.body()
    NOTES.append("begun")
    await asyncio.sleep(1)
    NOTES.append([await request.is_disconnected() for _ in range(2)])
    return PlainTextResponse("late")


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    while True:
        await websocket.send_text(await websocket.receive_text())


async def pass_on(request: Request, call_next: Any) -> Response:
    response: Response = await call_next(request)
    return response


app = Starlette(
    routes=[
        Route("/notes", notes),
        Route("/endless", endless),
        Route("/upload", upload, methods=["POST"]),
        Route("/wrapped", wrapped, methods=["POST"]),
        Route("/buggy", buggy, methods=["POST"]),
        Route("/asks", asks, methods=["GET", "POST"]),
        WebSocketRoute("/echo", echo),
    ]
)
behind = Starlette(routes=app.routes, middleware=[Middleware(BaseHTTPMiddleware, dispatch=pass_on)])


async def old(scope: Any, receive: Any, send: Any) -> None:
    """The same for a Starlette that believes a newer specification, and so does not listen."""
    await app({**scope, "asgi": {**scope.get("asgi", {}), "spec_version": "2.5"}}, receive, send)
