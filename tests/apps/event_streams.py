"""Event streams that say one thing and then nothing, as frameworks write them; /seen lists those that have ended.

/starlette   StreamingResponse
/sse         EventSourceResponse of sse-starlette
/django      StreamingHttpResponse
/quart       a generator as the body
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
from django.http import HttpRequest, StreamingHttpResponse  # noqa: E402
from django.urls import path  # noqa: E402
from quart import Quart  # noqa: E402
from sse_starlette.sse import EventSourceResponse  # noqa: E402
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


urlpatterns = [path("django", view)]
of_django = get_asgi_application()
of_quart = Quart(__name__)


@of_quart.route("/quart")
async def quart_view() -> Any:
    return idle("/quart"), {"content-type": "text/event-stream"}


async def app(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    which = scope["path"]
    if which == "/django":
        await of_django(scope, receive, send)
    elif which == "/quart":
        await of_quart(scope, receive, send)
    else:
        answers: dict[str, Any] = {
            "/starlette": lambda: StreamingResponse(idle(which), media_type="text/event-stream"),
            "/sse": lambda: EventSourceResponse(idle(which)),
            "/seen": lambda: JSONResponse(SEEN),
        }
        await answers[which]()(scope, receive, send)
