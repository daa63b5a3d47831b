"""Synchronous views of Django and Starlette that take a minute, or VIEW_SECONDS. A hook runs at exit."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="test", ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, LOGGING_CONFIG=None
)
django.setup()

from django.core.asgi import get_asgi_application  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402
from starlette.applications import Starlette  # noqa: E402
from starlette.requests import Request  # noqa: E402
from starlette.responses import PlainTextResponse  # noqa: E402
from starlette.routing import Route  # noqa: E402


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


atexit.register(tell, "hook")


def send_mail() -> None:
    time.sleep(2)
    tell("mail: sent")


def work() -> None:
    tell("begins")
    time.sleep(float(os.environ.get("VIEW_SECONDS", "60")))
    tell("view: done")


def view(request: HttpRequest) -> HttpResponse:
    work()
    return HttpResponse("done")


def mails(request: HttpRequest) -> HttpResponse:
    threading.Thread(target=send_mail).start()
    work()
    return HttpResponse("done")


def endpoint(request: Request) -> PlainTextResponse:
    work()
    return PlainTextResponse("done")


urlpatterns = [path("view", view), path("mails", mails)]
of_django = get_asgi_application()
of_starlette = Starlette(routes=[Route("/view", endpoint)])
