"""One application in every style that a server has to recognise; each answers with its own name."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


async def answer(name: str, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": name.encode()})


def only_http(scope: Message) -> None:
    if scope["type"] != "http":
        raise ValueError(f"no {scope['type']} here")


class class_of_asgi2:
    def __init__(self, scope: Message) -> None:
        only_http(scope)

    async def __call__(self, receive: Receive, send: Send) -> None:
        await answer("class_of_asgi2", send)


def function_of_asgi2(scope: Message) -> Callable[[Receive, Send], Awaitable[None]]:
    only_http(scope)

    async def instance(receive: Receive, send: Send) -> None:
        await answer("function_of_asgi2", send)

    return instance


class Object:
    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        only_http(scope)
        await answer("object", send)


object = Object()


def plain_function(scope: Message, receive: Receive, send: Send) -> Awaitable[None]:
    only_http(scope)
    return answer("plain_function", send)


async def with_name(name: str, scope: Message, receive: Receive, send: Send) -> None:
    only_http(scope)
    await answer(name, send)


partial = functools.partial(with_name, "partial")


def marked(*arguments: Any) -> Awaitable[None]:
    scope, _, send = arguments
    only_http(scope)
    return answer("marked", send)


marked._asgi_single_callable = True  # type: ignore[attr-defined]


async def two_arguments(scope: Message, receive: Receive) -> None:
    raise AssertionError("called")


def factory() -> Callable[..., Any]:
    raise AssertionError("called")
