"""Event streams that say one thing and then nothing, as frameworks write them; /seen lists those that have ended.

/starlette   StreamingResponse
/sse         EventSourceResponse of sse-starlette
/django      StreamingHttpResponse
/quart       a generator as the body
/slow        a view of Django that answers after a second
/polls       a view that asks Starlette whether its client has left
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="test", ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, LOGGING_CONFIG=None
)
django.setup()

from django.core.asgi import get_asgi_application  # noqa: E402
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse  # noqa: E402
from django.urls import path  # noqa: E402
from quart import Quart  # noqa: E402
from sse_starlette.sse import EventSourceResponse  # noqa: E402
from starlette.requests import Request  # noqa: E402
from starlette.responses import JSONResponse, StreamingResponse  # noqa: E402

SEEN: list[str] = []


async def idle(name: str) -> AsyncIterator[Any]:
    try:
        yield {"data": "hello"} if name == "/sse" else b"data: hello\n\n"
        await asyncio.sleep(3600)
    finally:
        SEEN.append(name)


def view(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(idle("/django"), content_type="text/event-stream")


async def slow_view(request: HttpRequest) -> HttpResponse:
    SEEN.append("/slow began")
    try:
        await asyncio.sleep(1)
    finally:
        SEEN.append("/slow")
    return HttpResponse("slow")


async def polls(scope: Any, receive: Any, send: Any) -> None:
    SEEN.append("/polls began")
    request = Request(scope, receive)
    while not await request.is_disconnected():
        await asyncio.sleep(0.05)
    SEEN.append("/polls")


urlpatterns = [path("django", view), path("slow", slow_view)]
of_django = get_asgi_application()
of_quart = Quart(__name__)


@of_quart.route("/quart")
async def quart_view() -> Any:
    return idle("/quart"), {"content-type": "text/event-stream"}


async def app(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    which = scope["path"]
    if which in ("/django", "/slow"):
        await of_django(scope, receive, send)
    elif which == "/polls":
        await polls(scope, receive, send)
    elif which == "/quart":
        await of_quart(scope, receive, send)
    else:
        answers: dict[str, Any] = {
            "/starlette": lambda: StreamingResponse(idle(which), media_type="text/event-stream"),
            "/sse": lambda: EventSourceResponse(idle(which)),
            "/seen": lambda: JSONResponse(SEEN),
        }
        await answers[which]()(scope, receive, send)
