"""A Starlette application: middleware, streams, background tasks, task groups, WebSocket."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import ClientDisconnect, Request
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

SEEN: list[str] = []


class Stamp(BaseHTTPMiddleware):
    """Runs the rest of the application in a task group of its own, with a wrapped receive()."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["x-stamp"] = "yes"
        return response


async def home(request: Request) -> Response:
    return PlainTextResponse("home")


async def file(request: Request) -> Response:
    offered = "http.response.pathsend" in request.scope["extensions"]
    return FileResponse(
        request.query_params["path"], headers={"x-pathsend": "yes" if offered else "no"}
    )


async def hints(request: Request) -> Response:
    await request.send_early_hints("</a.css>; rel=preload")
    return PlainTextResponse("ok")


async def seen(request: Request) -> Response:
    gc.collect()  # an asynchronous generator that is dropped in a cycle ends only then
    return JSONResponse(SEEN)


async def upload(request: Request) -> Response:
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
    except ClientDisconnect:
        SEEN.append("upload cut")
        raise
    return PlainTextResponse(str(size))


async def stream(request: Request) -> Response:
    async def parts() -> AsyncIterator[bytes]:
        try:
            for number in range(int(request.query_params["n"])):
                yield f"{number}\n".encode()
                await asyncio.sleep(0)
        finally:
            SEEN.append("stream ended")

    return StreamingResponse(parts())


async def endless(request: Request) -> Response:
    async def parts() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 10_000
        finally:
            SEEN.append("endless ended")

    return StreamingResponse(parts())


async def background(request: Request) -> Response:
    async def later() -> None:
        await asyncio.sleep(0.02)
        SEEN.append("background")

    return PlainTextResponse("answered", background=BackgroundTask(later))


async def group(request: Request) -> Response:
    """Waits for the client in one task and computes in another; the one that ends first cancels the other."""
    results: list[str] = []

    async with anyio.create_task_group() as tasks:

        async def listen() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            results.append("disconnect")
            tasks.cancel_scope.cancel()

        async def compute() -> None:
            await anyio.sleep(0.02)
            results.append("computed")
            tasks.cancel_scope.cancel()

        tasks.start_soon(listen)
        tasks.start_soon(compute)
    with anyio.move_on_after(0.01) as scope:
        await request.receive()
    results.append(str(scope.cancelled_caught))
    with anyio.fail_after(5):
        results.append(await anyio.to_thread.run_sync(lambda: "thread"))
    return JSONResponse(results)


async def echo(websocket: WebSocket) -> None:
    await websocket.accept(subprotocol=(websocket.scope["subprotocols"] or [None])[0])
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect as gone:
        SEEN.append(f"websocket {gone.code} {gone.reason}")


async def two_ways(websocket: WebSocket) -> None:
    """Reads in one task, writes in another."""
    await websocket.accept()
    queue: asyncio.Queue[Any] = asyncio.Queue()

    async with anyio.create_task_group() as tasks:

        async def read() -> None:
            async for text in websocket.iter_text():
                await queue.put(text)
            tasks.cancel_scope.cancel()

        async def write() -> None:
            while True:
                await websocket.send_text(await queue.get())

        tasks.start_soon(read)
        tasks.start_soon(write)
    SEEN.append("two ways ended")


app = Starlette(
    routes=[
        Route("/", home),
        Route("/seen", seen),
        Route("/file", file),
        Route("/hints", hints),
        Route("/upload", upload, methods=["POST"]),
        Route("/stream", stream),
        Route("/endless", endless),
        Route("/background", background),
        Route("/group", group),
        WebSocketRoute("/echo", echo),
        WebSocketRoute("/two_ways", two_ways),
    ],
    middleware=[Middleware(Stamp)],
)
