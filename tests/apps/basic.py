"""The application that most tests start: one small behaviour per path, HTTP and WebSocket echo.

/            b"hello"
/scope       the scope as JSON (bytes shown as latin-1 text)
/echo        the request body
/status/N    an empty response with status N
/sleep/S     answers after S seconds
/raise       raises RuntimeError before the response
/pid         the process id
WebSocket    every path: accepts and echoes text and bytes until the client goes; the text "scope" sends the scope,
             "close" makes the server close with 3001 and the reason "bye", "raise" raises
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from typing import Any

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def as_json(value: object) -> object:
    """What the json module cannot do by itself."""
    return value.decode("latin-1") if isinstance(value, bytes) else repr(value)


async def respond(
    send: Send, body: bytes, status: int = 200, content_type: bytes = b"text/plain"
) -> None:
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def read_body(receive: Receive) -> bytes:
    body = b""
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            return body
        body += event["body"]
        if not event["more_body"]:
            return body


async def http(scope: Message, receive: Receive, send: Send) -> None:
    path: str = scope["path"]
    name, _, argument = path[1:].partition("/")
    if path == "/":
        await respond(send, b"hello")
    elif path == "/scope":
        await respond(
            send, json.dumps(scope, default=as_json).encode(), content_type=b"application/json"
        )
    elif path == "/echo":
        await respond(send, await read_body(receive))
    elif path == "/pid":
        await respond(send, str(os.getpid()).encode())
    elif path == "/raise":
        raise RuntimeError("raised on request")
    elif name == "status":
        await respond(send, b"", int(argument))
    elif name == "sleep":
        await asyncio.sleep(float(argument))
        await respond(send, b"slept")
    else:
        await respond(send, b"not found", 404)


async def websocket(scope: Message, receive: Receive, send: Send) -> None:
    while True:
        event = await receive()
        if event["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        elif event["type"] == "websocket.disconnect":
            return
        elif event.get("text") == "scope":
            await send({"type": "websocket.send", "text": json.dumps(scope, default=as_json)})
        elif event.get("text") == "close":
            await send({"type": "websocket.close", "code": 3001, "reason": "bye"})
        elif event.get("text") == "raise":
            raise RuntimeError("raised on request")
        elif event.get("text") is not None:
            await send({"type": "websocket.send", "text": event["text"]})
        else:
            await send({"type": "websocket.send", "bytes": event["bytes"]})


async def app(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await http(scope, receive, send)
    elif scope["type"] == "websocket":
        await websocket(scope, receive, send)
    else:
        raise NotImplementedError(scope["type"])
