"""What the tests of HTTP/1 on the wire ask for; every request but those of /count and /seen is counted.

/count        how many requests there were
/seen         what /upload, /never and /stream noted, as JSON: one list of [what, number] for each
/             method, raw target, headers and body as JSON
/sleep/MS     sleeps, then answers with the number
/upload       reads the body to its end, answers with its length; notes the end or the disconnect, and the length
/never        never calls receive() until it is cancelled or /release is asked for; then as /upload
/release      lets /never go on
/stream/N     N pieces of 64 KiB without Content-Length; notes the pieces that send() has taken, and how it ended
/early        answers without reading the body
/pieces       three pieces, one every 50 ms
"""

from __future__ import annotations

import asyncio
import json

from tests.apps.basic import Message, Receive, Send, respond

counter = 0
seen: list[list[object]] = []
released: asyncio.Event | None = None


def description(scope: Message, body: bytes) -> bytes:
    target = scope["raw_path"].decode("latin-1")
    if scope["query_string"]:
        target += "?" + scope["query_string"].decode("latin-1")
    headers = [
        [name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]
    ]
    return json.dumps([scope["method"], target, headers, body.decode("latin-1")]).encode()


async def drain(receive: Receive) -> tuple[str, int, bytes]:
    """How the body ended, its length, and its first 64 KiB."""
    length, start = 0, b""
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            return "disconnect", length, start
        length += len(event["body"])
        start += event["body"][: 65536 - len(start)]
        if not event["more_body"]:
            return "end", length, start


async def upload(receive: Receive, send: Send) -> None:
    how, length, _ = await drain(receive)
    seen.append([how, length])
    if how == "end":
        await respond(send, str(length).encode())


async def leaving(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def stream(receive: Receive, send: Send, count: int) -> None:
    note: list[object] = ["running", 0]
    seen.append(note)
    piece = bytes(65536)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    left = asyncio.ensure_future(leaving(receive))
    for number in range(count):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        if left.done():
            break
        note[1] = number + 1
    await send({"type": "http.response.body"})
    note[0] = "disconnect" if left.done() else "end"
    left.cancel()


async def pieces(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for piece in (b"one ", b"two ", b"three"):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        await asyncio.sleep(0.05)
    await send({"type": "http.response.body"})


async def app(scope: Message, receive: Receive, send: Send) -> None:
    global counter, released
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    released = released or asyncio.Event()
    name, _, argument = scope["path"][1:].partition("/")
    if name == "count":
        return await respond(send, str(counter).encode())
    if name == "seen":
        return await respond(send, json.dumps(seen).encode())
    counter += 1
    if name == "sleep":
        await asyncio.sleep(int(argument) / 1000)
        await respond(send, argument.encode())
    elif name == "upload":
        await upload(receive, send)
    elif name == "never":
        await released.wait()
        await upload(receive, send)
    elif name == "release":
        released.set()
        await respond(send, b"")
    elif name == "stream":
        await stream(receive, send, int(argument))
    elif name == "early":
        await respond(send, b"early")
    elif name == "pieces":
        await pieces(send)
    else:
        _, _, body = await drain(receive)
        await respond(send, description(scope, body))
    return None
