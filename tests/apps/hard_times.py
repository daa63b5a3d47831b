"""For tests/process/test_hard_times.py.

/                 b"hello"
/events           a piece every 10 ms until the client goes
/large            20 MB
/sleep            answers after a second
/block            blocks the loop for a second and a half
/echo             reads the body, answers with its length
/running          how many applications run, this one included
/strftime         the day's name in the application's locale, which TEST_LOCALE sets at import
/cancelled        raises CancelledError; /cancelled/later does so after a wait
WebSocket         echo
"""

from __future__ import annotations

import asyncio
import locale
import os
import sys
import time

from tests.apps.basic import Message, Receive, Send, read_body, respond

if name := os.environ.get("TEST_LOCALE"):
    locale.setlocale(locale.LC_ALL, name)

running = 0
LARGE = b"x" * 20_000_000


async def events(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        await send({"type": "http.response.body", "body": b"data: x\n\n", "more_body": True})
        await asyncio.sleep(0.01)


async def http(scope: Message, receive: Receive, send: Send) -> None:
    path = scope["path"]
    if path == "/events":
        await events(send)
    elif path == "/large":
        await respond(send, LARGE)
    elif path == "/sleep":
        await asyncio.sleep(1)
        await respond(send, b"slept")
    elif path == "/block":
        print("blocking", file=sys.stderr, flush=True)
        time.sleep(1.5)  # noqa: ASYNC251  (the fault that this path has)
        await respond(send, b"blocked")
    elif path == "/echo":
        await respond(send, str(len(await read_body(receive))).encode())
    elif path == "/running":
        await respond(send, str(running).encode())
    elif path == "/strftime":
        await respond(send, time.strftime("%a").encode())
    elif path.startswith("/cancelled"):
        if path.endswith("later"):
            await asyncio.sleep(0.01)
        raise asyncio.CancelledError
    else:
        await respond(send, b"hello")


async def websocket(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})


async def app(scope: Message, receive: Receive, send: Send) -> None:
    global running
    running += 1
    try:
        if scope["type"] == "http":
            await http(scope, receive, send)
        elif scope["type"] == "websocket":
            await websocket(receive, send)
        else:
            raise ValueError(f"no {scope['type']} here")
    finally:
        running -= 1
