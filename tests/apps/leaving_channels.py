"""Channels consumers whose clients leave while a handler is at work; /notes tells what ran.

Each is in a group and sends when its client has left: first in its handler, then in disconnect(), which
afterwards leaves the group.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from django.conf import settings

settings.configure(
    SECRET_KEY="test",
    INSTALLED_APPS=["channels"],
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
    LOGGING_CONFIG=None,
)

from asgiref.sync import async_to_sync  # noqa: E402
from channels.generic.websocket import (  # noqa: E402
    AsyncJsonWebsocketConsumer,
    AsyncWebsocketConsumer,
    JsonWebsocketConsumer,
    WebsocketConsumer,
)
from channels.layers import get_channel_layer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.urls import path  # noqa: E402

from tests.apps.basic import Message, Receive, Send, respond  # noqa: E402

NOTES: list[str] = []
WORK = 0.4  # seconds; the client leaves meanwhile


class Async(AsyncWebsocketConsumer):  # type: ignore[misc]
    groups = ("async",)

    async def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
        NOTES.append("async works")
        await asyncio.sleep(WORK)
        await self.send(text_data="late")
        await self.send(bytes_data=b"late")

    async def disconnect(self, code: int) -> None:
        await self.send(text_data="in disconnect")
        await self.close()
        await self.close(code=4000)
        NOTES.append("async left")


class Json(AsyncJsonWebsocketConsumer):  # type: ignore[misc]
    groups = ("json",)

    async def receive_json(self, content: Any, **_: Any) -> None:
        NOTES.append("json works")
        await asyncio.sleep(WORK)
        await self.send_json({"late": True})

    async def disconnect(self, code: int) -> None:
        await self.send_json({"in": "disconnect"})
        NOTES.append("json left")


class Sync(WebsocketConsumer):  # type: ignore[misc]
    groups = ("sync",)

    def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
        NOTES.append("sync works")
        time.sleep(WORK)
        self.send(text_data="late")

    def disconnect(self, code: int) -> None:
        self.send(text_data="in disconnect")
        self.close()
        NOTES.append("sync left")


class SyncJson(JsonWebsocketConsumer):  # type: ignore[misc]
    groups = ("syncjson",)

    def receive_json(self, content: Any, **_: Any) -> None:
        NOTES.append("syncjson works")
        time.sleep(WORK)
        async_to_sync(get_channel_layer().group_send)("syncjson", {"type": "said"})
        self.send_json({"late": True})

    def said(self, event: Any) -> None:
        self.send_json({"said": True})

    def disconnect(self, code: int) -> None:
        NOTES.append("syncjson left")


class Early(AsyncWebsocketConsumer):  # type: ignore[misc]
    """Its client leaves before it accepts (django/channels 1466)."""

    groups = ("early",)

    async def connect(self) -> None:
        NOTES.append("early works")
        await asyncio.sleep(WORK)
        await self.accept()
        await self.send(text_data="hello")

    async def disconnect(self, code: int) -> None:
        NOTES.append("early left")


class Twice(AsyncWebsocketConsumer):  # type: ignore[misc]
    """Closes twice, with more than a close frame takes."""

    groups = ("twice",)

    async def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
        await self.close(code=4003, reason="r" * 200)
        await self.close(code=4004)
        await self.send(text_data="late")

    async def disconnect(self, code: int) -> None:
        NOTES.append("twice left")


class Rejects(AsyncWebsocketConsumer):  # type: ignore[misc]
    """Rejects, and goes on as if it had not."""

    groups = ("rejects",)

    async def connect(self) -> None:
        await self.close()
        await self.accept()
        await self.send(text_data="late")

    async def disconnect(self, code: int) -> None:
        NOTES.append("rejects left")


async def http(scope: Message, receive: Receive, send: Send) -> None:
    """What was noted, and the groups that somebody is still in."""
    layer: Any = get_channel_layer()
    await respond(send, json.dumps([NOTES, sorted(layer.groups)]).encode())


CONSUMERS = [Async, Json, Sync, SyncJson, Early, Twice, Rejects]
app = ProtocolTypeRouter(
    {
        "http": http,
        "websocket": URLRouter(
            [path(kind.groups[0], kind.as_asgi()) for kind in CONSUMERS]  # type: ignore[attr-defined]
        ),
    }
)
