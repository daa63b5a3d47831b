"""Consumers that do nothing but wait, /ALIAS on the channel layer of that name; LAYERS is the setting, in JSON."""

from __future__ import annotations

import json
import os

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="test",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["pyasgi", "channels"],
    CHANNEL_LAYERS=json.loads(os.environ["LAYERS"]),
    LOGGING_CONFIG=None,
)
django.setup()

from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.urls import path  # noqa: E402

urlpatterns: list[object] = []


def consumer(alias: str) -> type[AsyncWebsocketConsumer]:
    return type("Idle", (AsyncWebsocketConsumer,), {"channel_layer_alias": alias})


app = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": URLRouter(
            [path(alias, consumer(alias).as_asgi()) for alias in settings.CHANNEL_LAYERS]
        ),
    }
)
