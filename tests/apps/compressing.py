"""Starlette's files and templates behind middleware: /gzip/, /brotli/, /zstd/, /cramjam/ compress, /plain/ is bare.

The folder is the one that the environment's FOLDER names. /key/, /value/, /assertion/, /wrapped/ and /group/ are
middleware that fails with messages that it does not know, each in its way.
"""

from __future__ import annotations

import os
from typing import Any

from brotli_asgi import BrotliMiddleware
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates
from starlette_cramjam.middleware import CompressionMiddleware
from zstd_asgi import ZstdMiddleware

FOLDER = os.environ["FOLDER"]
KNOWN = ("http.response.start", "http.response.body")
templates = Jinja2Templates(FOLDER)


def look(message: Any, kind: str) -> None:
    if kind == "assertion":
        assert message["type"] in KNOWN
    elif kind == "value" and message["type"] not in KNOWN:
        raise ValueError(f"Unexpected ASGI message {message['type']!r}")
    elif message["type"] != "http.response.start":
        len(message["body"])


def wrapped(message: Any) -> None:
    try:
        look(message, "key")
    except KeyError as error:
        raise RuntimeError("cannot be counted") from error


def grouped(message: Any) -> None:
    try:
        look(message, "key")
    except KeyError as error:
        raise ExceptionGroup("several", [error]) from None


class Failing:
    """Middleware that counts the bytes of messages."""

    def __init__(self, app: Any, kind: str) -> None:
        self.app = app
        self.kind = kind

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def counting(message: Any) -> None:
            if self.kind == "wrapped":
                wrapped(message)
            elif self.kind == "group":
                grouped(message)
            else:
                look(message, self.kind)
            await send(message)

        await self.app(scope, receive, counting)


async def page(request: Request) -> Response:
    return templates.TemplateResponse(request, "page.html", {"word": "word"})


async def fails(request: Request) -> Response:
    message = {"type": "http.response.body"}
    raise KeyError(message["type"])


async def extensions(request: Request) -> Response:
    return JSONResponse(request.scope["extensions"])


files = Starlette(
    routes=[
        Route("/page", page),
        Route("/fails", fails),
        Route("/extensions", extensions),
        Mount("/", StaticFiles(directory=FOLDER)),
    ]
)
app = Starlette(
    routes=[
        Mount("/brotli", BrotliMiddleware(files)),
        Mount("/zstd", ZstdMiddleware(files)),
        Mount("/cramjam", CompressionMiddleware(files)),
        Mount("/gzip", GZipMiddleware(files)),
        Mount("/plain", files),
        *[
            Mount(f"/{kind}", Failing(files, kind))
            for kind in ("key", "value", "assertion", "wrapped", "group")
        ],
    ]
)
