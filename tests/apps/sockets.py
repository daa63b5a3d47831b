"""The application of the WebSocket protocol tests. What a WebSocket does is said by its path:

/echo           sends back what it receives
/reject         closes before accept                  /return   returns before accept
/hang           never answers the handshake
/first          accepts with the first subprotocol offered
/sub/NAME       accepts with a subprotocol            /header/NAME/VALUE   accepts with a header
/close/CODE/REASON  closes after the first message    /push/N/SIZE  sends N messages of SIZE bytes, then closes
/lazy/S         accepts, receives nothing for S seconds, then counts what comes until the text "end" and sends the count

GET /events gives, as JSON, the disconnects so far: [path, code, reason], GET /opened how many WebSockets were opened,
GET /pushed how many messages of /push were taken by the server.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.apps.basic import Message, Receive, Send, respond

events: list[list[Any]] = []
count = {"opened": 0, "pushed": 0}


async def http(scope: Message, send: Send) -> None:
    name = scope["path"][1:]
    value = events if name == "events" else count[name]
    await respond(send, json.dumps(value).encode())


async def receive_message(scope: Message, receive: Receive) -> Message | None:
    """The next message; None at the end, which is noted."""
    event = await receive()
    if event["type"] == "websocket.receive":
        return event
    events.append([scope["path"], event["code"], event["reason"]])
    return None


async def drain(scope: Message, receive: Receive) -> None:
    while await receive_message(scope, receive):
        pass


async def echo(scope: Message, receive: Receive, send: Send) -> None:
    while message := await receive_message(scope, receive):
        await send({**message, "type": "websocket.send"})


async def close_after_one(
    scope: Message, receive: Receive, send: Send, code: str, reason: str
) -> None:
    await receive_message(scope, receive)
    await send({"type": "websocket.close", "code": int(code), "reason": reason})
    await drain(scope, receive)


async def push(scope: Message, receive: Receive, send: Send, number: str, size: str) -> None:
    payload = bytes(int(size))
    for _ in range(int(number)):
        await send({"type": "websocket.send", "bytes": payload})
        count["pushed"] += 1
    await send({"type": "websocket.close"})
    await drain(scope, receive)


async def lazy(scope: Message, receive: Receive, send: Send, seconds: str) -> None:
    await asyncio.sleep(float(seconds))
    messages = size = 0
    while message := await receive_message(scope, receive):
        if message.get("text") == "end":
            await send({"type": "websocket.send", "text": json.dumps([messages, size])})
        else:
            messages += 1
            size += len(message["bytes"])


async def websocket(scope: Message, receive: Receive, send: Send) -> None:
    name, *arguments = scope["path"][1:].split("/")
    assert (await receive())["type"] == "websocket.connect"
    if name == "return":
        return
    if name == "hang":
        await receive_message(scope, receive)
        return
    if name == "reject":
        await send({"type": "websocket.close", "code": 4000})
        await drain(scope, receive)
        return
    accept: Message = {"type": "websocket.accept"}
    if name == "sub":
        accept["subprotocol"] = arguments[0]
    if name == "first":
        accept["subprotocol"] = scope["subprotocols"][0]
    if name == "header":
        accept["headers"] = [(arguments[0].encode(), arguments[1].encode())]
    await send(accept)
    if name == "close":
        await close_after_one(scope, receive, send, *arguments)
    elif name == "push":
        await push(scope, receive, send, *arguments)
    elif name == "lazy":
        await lazy(scope, receive, send, *arguments)
    else:
        await echo(scope, receive, send)


async def app(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await http(scope, send)
    elif scope["type"] == "websocket":
        count["opened"] += 1
        await websocket(scope, receive, send)
    else:
        raise NotImplementedError(scope["type"])
