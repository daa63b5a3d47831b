"""What Django, Django REST framework, Channels and Starlette make of the addresses of a scope, as JSON.

/django          the request's names, ports and URLs
/rest            the same of REST framework, and a link that it made
/starlette       URL and client
a WebSocket      behind Channels' AllowedHostsOriginValidator; its scope's addresses
"""

from __future__ import annotations

import json
from typing import Any

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="test",
    ALLOWED_HOSTS=["example.com", "127.0.0.1", "unknown"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["channels", "rest_framework"],
    REST_FRAMEWORK={
        "DEFAULT_AUTHENTICATION_CLASSES": [],
        "DEFAULT_PERMISSION_CLASSES": [],
        "UNAUTHENTICATED_USER": None,
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    },
    LOGGING_CONFIG=None,
)
django.setup()

from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.http import HttpRequest, JsonResponse  # noqa: E402
from django.urls import path  # noqa: E402
from rest_framework.decorators import api_view  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.reverse import reverse  # noqa: E402
from rest_framework.throttling import AnonRateThrottle  # noqa: E402
from starlette.requests import Request  # noqa: E402
from starlette.responses import JSONResponse  # noqa: E402


def names(request: Any) -> dict[str, Any]:
    return {
        "host": request.get_host(),
        "port": int(request.get_port()),  # as Wagtail looks for its site
        "url": request.build_absolute_uri(),
        "server": f"{request.META['SERVER_NAME']}:{request.META['SERVER_PORT']}",
        "client": request.META.get("REMOTE_ADDR"),
    }


def view(request: HttpRequest) -> JsonResponse:
    return JsonResponse(names(request))


@api_view(["GET"])  # type: ignore[untyped-decorator]
def rest(request: Any) -> Response:
    link = reverse("rest", request=request)
    return Response(
        {**names(request), "link": link, "ident": AnonRateThrottle().get_ident(request)}
    )


urlpatterns = [path("django", view), path("rest", rest, name="rest")]


class Addresses(AsyncWebsocketConsumer):  # type: ignore[misc]
    async def connect(self) -> None:
        await self.accept()
        await self.send(json.dumps([self.scope["client"], self.scope["server"]]))


frameworks = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": AllowedHostsOriginValidator(URLRouter([path("ws", Addresses.as_asgi())])),
    }
)


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http" and scope["path"] == "/starlette":
        request = Request(scope, receive)
        about = {"url": str(request.url), "port": request.url.port, "client": request.client}
        await JSONResponse(about)(scope, receive, send)
    else:
        await frameworks(scope, receive, send)
