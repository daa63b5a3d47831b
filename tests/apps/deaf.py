"""An application that sends without end and never receives, while its clients do the same."""

from __future__ import annotations

from tests.apps.basic import Message, Receive, Send

PIECE = bytes(65536)


async def app(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while True:
            await send({"type": "websocket.send", "bytes": PIECE})
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200})
    while True:
        await send({"type": "http.response.body", "body": PIECE, "more_body": True})
