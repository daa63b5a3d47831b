"""Django views and Channels consumers, async and sync, on the in-memory channel layer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="test",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["channels"],
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
    LOGGING_CONFIG=None,
)
django.setup()

from asgiref.sync import async_to_sync  # noqa: E402
from channels.generic.http import AsyncHttpConsumer  # noqa: E402
from channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse  # noqa: E402
from django.urls import path  # noqa: E402

SEEN: list[str] = []


def sync_view(request: HttpRequest) -> HttpResponse:
    return HttpResponse(b"sync " + request.body)


async def async_view(request: HttpRequest) -> HttpResponse:
    await asyncio.sleep(0)
    return HttpResponse(b"async " + request.body)


async def slow_view(request: HttpRequest) -> HttpResponse:
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        SEEN.append("slow view cancelled")
        raise
    return HttpResponse("slow")


async def stream_view(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[bytes]:
        for number in range(50):
            yield f"{number},".encode()
            await asyncio.sleep(0)

    return StreamingHttpResponse(parts())


async def seen_view(request: HttpRequest) -> HttpResponse:
    return JsonResponse(SEEN, safe=False)


urlpatterns = [
    path("sync", sync_view),
    path("async", async_view),
    path("slow", slow_view),
    path("stream", stream_view),
    path("seen", seen_view),
]


class Room(AsyncWebsocketConsumer):  # type: ignore[misc]
    """Everybody hears what anybody says."""

    async def connect(self) -> None:
        await self.channel_layer.group_add("room", self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard("room", self.channel_name)
        await self.close()
        SEEN.append(f"room left {code}")

    async def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
        await self.channel_layer.group_send("room", {"type": "said", "text": text_data})

    async def said(self, event: dict[str, Any]) -> None:
        await self.send(text_data=event["text"])


class SyncEcho(WebsocketConsumer):  # type: ignore[misc]
    """A consumer in a thread: its send() is async_to_sync(send)."""

    def connect(self) -> None:
        async_to_sync(self.channel_layer.group_add)("sync", self.channel_name)
        self.accept()

    def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
        if text_data == "close":
            self.close(code=4001)
        else:
            self.send(text_data=text_data, bytes_data=bytes_data)

    def disconnect(self, code: int) -> None:
        SEEN.append(f"sync left {code}")


class Refuse(AsyncWebsocketConsumer):  # type: ignore[misc]
    async def connect(self) -> None:
        await self.close()


class Long(AsyncHttpConsumer):  # type: ignore[misc]
    """Answers in pieces from the body handler."""

    async def handle(self, body: bytes) -> None:
        await self.send_headers(headers=[(b"content-type", b"text/plain")])
        for number in range(3):
            await self.send_body(f"{number}".encode(), more_body=True)
        await self.send_body(body)


app = ProtocolTypeRouter(
    {
        "http": URLRouter([path("long", Long.as_asgi()), path("<path:_>", get_asgi_application())]),
        "websocket": URLRouter(
            [
                path("room", Room.as_asgi()),
                path("sync", SyncEcho.as_asgi()),
                path("refuse", Refuse.as_asgi()),
            ]
        ),
    }
)
