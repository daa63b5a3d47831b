"""A Django project whose clients leave downloads; /notes tells what ran at their end.

With PGPORT in the environment it has a PostgreSQL there, with a pool of two connections.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

import django
from django.conf import settings

POOL = {"min_size": 1, "max_size": 2, "timeout": 3}
DATABASE = {
    "ENGINE": "django.db.backends.postgresql",
    "HOST": "127.0.0.1",
    "PORT": os.environ.get("PGPORT", ""),
    "NAME": "postgres",
    "USER": "postgres",
    "OPTIONS": {"pool": POOL},
}
settings.configure(
    SECRET_KEY="test",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    DATABASES={"default": DATABASE} if DATABASE["PORT"] else {},
    LOGGING_CONFIG=None,
)
django.setup()

from asgiref.sync import sync_to_async  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.signals import request_finished  # noqa: E402
from django.db import connection  # noqa: E402
from django.http import (  # noqa: E402
    HttpRequest,
    HttpResponse,
    JsonResponse,
    StreamingHttpResponse,
)
from django.urls import path  # noqa: E402

NOTES: list[str] = []


class Download(StreamingHttpResponse):  # type: ignore[misc]
    def close(self) -> None:
        NOTES.append("closed")
        super().close()
        NOTES.append("close ended")


def finished(**_: Any) -> None:
    NOTES.append("request_finished")


request_finished.connect(finished)


def ask() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return int(cursor.fetchone()[0])


async def download(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 100_000  # send() waits when the client leaves

    if DATABASE["PORT"]:
        await sync_to_async(ask)()
    return Download(parts())


def row(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(ask()))


def upload(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(len(request.body)))


def notes(request: HttpRequest) -> HttpResponse:
    return JsonResponse(NOTES, safe=False)


urlpatterns = [
    path("download", download),
    path("row", row),
    path("upload", upload),
    path("notes", notes),
]
app = get_asgi_application()
