"""Applications of Django and Channels are not called for a lifespan, so nobody between hears of an error."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from channels.auth import AuthMiddlewareStack
from channels.consumer import AsyncConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import OriginValidator
from django.core.handlers.asgi import ASGIHandler

from pyasgi.no_lifespan import has_none
from tests.support.servers import Servers

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@pytest.mark.parametrize("app", ["django", "wrapped", "static", "chooses", "loop"])
def test_sentry_hears_of_no_lifespan(server: Servers, app: str) -> None:
    handle = server.start(f"tests.apps.sentry:{app}")
    assert json.loads(handle.get("/").body) == []
    assert "lifespan" not in handle.stderr()


def test_sentry_hears_of_views(server: Servers) -> None:
    handle = server.start("tests.apps.sentry:django")
    handle.expect_errors()
    assert handle.get("/fails").status == 500
    assert json.loads(handle.get("/").body) == ["ZeroDivisionError: in a view"]


def test_consumer_alone(server: Servers) -> None:
    handle = server.start("tests.apps.sentry:consumer", "-v", "2")
    handle.wait_for_log("DEBUG +Application has no lifespan: it is Django's or Channels'")


class Handler(ASGIHandler):
    """One without a word of its own."""

    def __init__(self) -> None:
        pass


class Lifespans(Handler):
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()


class Consumer(AsyncConsumer):
    pass


class Worker(AsyncConsumer):
    async def lifespan_startup(self, message: Message) -> None:
        await self.send({"type": "lifespan.startup.complete"})


class Unknown:
    """A framework of its own."""

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        await receive()


handler, lifespans, unknown = Handler(), Lifespans(), Unknown()


async def lonely(scope: Message, receive: Receive, send: Send) -> None:
    await receive()


async def to_django(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await lonely(scope, receive, send)
    await handler(scope, receive, send)


async def to_unknown(scope: Message, receive: Receive, send: Send) -> None:
    await (handler if scope["type"] == "http" else unknown)(scope, receive, send)


async def with_one(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await receive()
    await handler(scope, receive, send)


async def with_ones_function(scope: Message, receive: Receive, send: Send) -> None:
    await (handler if scope["type"] == "http" else with_one)(scope, receive, send)


async def itself(scope: Message, receive: Receive, send: Send) -> None:
    await itself(scope, receive, send)


def inside(app: Any) -> Any:
    async def closure(scope: Message, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)

    return closure


@pytest.mark.parametrize(
    "app",
    [
        handler,
        Consumer.as_asgi(),
        URLRouter([]),
        ProtocolTypeRouter({"http": handler}),
        ProtocolTypeRouter({"http": handler, "lifespan": handler}),
        OriginValidator(AuthMiddlewareStack(URLRouter([])), ["*"]),
        to_django,
        inside(handler),
    ],
)
def test_has_none(app: Any) -> None:
    assert has_none(app)


@pytest.mark.parametrize(
    "app",
    [
        None,
        lifespans,
        unknown,
        lonely,
        itself,
        Worker.as_asgi(),
        ProtocolTypeRouter({"http": handler, "lifespan": lonely}),
        to_unknown,
        with_one,
        with_ones_function,
        inside(unknown),
        inside(lonely),
    ],
)
def test_may_have_one(app: Any) -> None:
    assert not has_none(app)
