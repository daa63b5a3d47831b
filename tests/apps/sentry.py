"""Django and Channels with the real Sentry SDK in between, whose events are kept in memory; GET / tells their names.

django    Django alone, which the SDK patches
wrapped   SentryAsgiMiddleware around a ProtocolTypeRouter
static    Django's handler for static files around Django
chooses   a function that hands everything but WebSockets to Django
consumer  a consumer alone
loop      a function that takes everything but HTTP for a WebSocket, with the middleware around
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import django as django_package
import sentry_sdk
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter
from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.urls import path
from sentry_sdk.integrations.asgi import SentryAsgiMiddleware
from sentry_sdk.integrations.django import DjangoIntegration
from sentry_sdk.transport import Transport

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
EVENTS: list[Any] = []


class Kept(Transport):
    def capture_envelope(self, envelope: Any) -> None:
        EVENTS.append(envelope.get_event())


sentry_sdk.init(dsn="http://key@127.0.0.1:9/1", transport=Kept, integrations=[DjangoIntegration()])
settings.configure(
    SECRET_KEY="test",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    LOGGING_CONFIG=None,
    STATIC_URL="/static/",
)
django_package.setup()

from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402


def names(event: Any) -> list[str]:
    values = event["exception"]["values"] if event and "exception" in event else []
    return [f"{value['type']}: {value['value']}" for value in values]


def events(request: HttpRequest) -> JsonResponse:
    return JsonResponse([name for event in EVENTS for name in names(event)], safe=False)


def fails(request: HttpRequest) -> JsonResponse:
    raise ZeroDivisionError("in a view")


urlpatterns = [path("", events), path("fails", fails)]


class Consumer(AsyncWebsocketConsumer):
    pass


django = get_asgi_application()
router = ProtocolTypeRouter({"http": django, "websocket": Consumer.as_asgi()})
wrapped = SentryAsgiMiddleware(router)
static = ASGIStaticFilesHandler(django)
consumer = SentryAsgiMiddleware(Consumer.as_asgi())


async def websockets(scope: Message, receive: Receive, send: Send) -> None:
    while True:
        await receive()


async def chooses(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await websockets(scope, receive, send)
    else:
        await django(scope, receive, send)


async def accepts(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await router(scope, receive, send)
        return
    await send({"type": "websocket.accept"})
    await websockets(scope, receive, send)


loop = SentryAsgiMiddleware(accepts)
