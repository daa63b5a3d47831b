"""daphne's DEBUG lines (-v 2): every step of every request, in the loggers that daphne has for them.

They are told by a wrapper around the application, which is only there when somebody listens to these loggers:
the server's own path has no Python between socket and application.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

http_logger = logging.getLogger("daphne.http_protocol")
websocket_logger = logging.getLogger("daphne.ws_protocol")

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
Note = Callable[[Message], None]

BODIES = {"http.response.body", "http.response.zerocopysend", "http.response.pathsend"}


def wanted() -> bool:
    """Will anybody see the trace?"""
    return http_logger.isEnabledFor(logging.DEBUG) or websocket_logger.isEnabledFor(logging.DEBUG)


def traced(application: App) -> App:
    """Wraps the application so that its requests and messages are logged."""

    async def tracing(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] not in NOTES:
            await application(scope, receive, send)
            return
        note = NOTES[scope["type"]](scope)

        async def noted_receive() -> Message:
            message = await receive()
            note(message)
            return message

        async def noted_send(message: Message) -> None:
            await send(message)
            note(message)

        await application(scope, noted_receive, noted_send)

    return tracing


def http_notes(scope: Message) -> Note:
    client = scope["client"]

    def note(message: Message) -> None:
        kind = message["type"]
        if kind == "http.disconnect":
            http_logger.debug("HTTP disconnect for %s", client)
        elif kind == "http.response.start":
            http_logger.debug("HTTP %s response started for %s", message["status"], client)
        elif kind in BODIES and message.get("more_body"):
            http_logger.debug("HTTP response chunk for %s", client)
        elif kind in BODIES:
            http_logger.debug("HTTP close for %s", client)
            http_logger.debug("HTTP response complete for %s", client)

    http_logger.debug("HTTP %s request for %s", scope["method"], client)
    return note


def websocket_notes(scope: Message) -> Note:
    client = scope["client"]
    lines = {
        "websocket.connect": "WebSocket %s open and established",
        "websocket.accept": "WebSocket %s accepted by application",
        "websocket.receive": "WebSocket incoming frame on %s",
        "websocket.send": "Sent WebSocket packet to client for %s",
        "websocket.disconnect": "WebSocket closed for %s",
        "websocket.http.response.start": "WebSocket %s rejected by application",
    }
    accepted = False

    def note(message: Message) -> None:
        nonlocal accepted
        kind = message["type"]
        accepted = accepted or kind == "websocket.accept"
        if kind in lines:
            websocket_logger.debug(lines[kind], client)
        elif kind == "websocket.close" and not accepted:
            websocket_logger.debug("WebSocket %s rejected by application", client)

    http_logger.debug("Upgraded connection %s to WebSocket", client)
    return note


NOTES: dict[str, Callable[[Message], Note]] = {"http": http_notes, "websocket": websocket_notes}
