"""Which applications have no lifespan for sure: those of Django and Channels, also inside their usual wrappers.

They raise when they are called for one, which is harmless, but error trackers that sit in between report it at each
start. Only exact classes count: a subclass that has a __call__ of its own may well have a lifespan.
"""

from __future__ import annotations

import contextlib
import sys
from types import CodeType, FunctionType
from typing import Any

# (module, class): attribute with the application inside
WRAPPERS = {
    ("sentry_sdk.integrations.asgi", "SentryAsgiMiddleware"): "app",
    ("opentelemetry.instrumentation.asgi", "OpenTelemetryMiddleware"): "app",
    ("django.contrib.staticfiles.handlers", "ASGIStaticFilesHandler"): "application",
    ("channels.security.websocket", "OriginValidator"): "application",
    ("channels.sessions", "CookieMiddleware"): "inner",
    ("channels.sessions", "SessionMiddleware"): "inner",
    ("channels.auth", "AuthMiddleware"): "inner",
}


def has_none(app: Any, depth: int = 8) -> bool:
    """Does the application have no lifespan for sure? depth: of the wrappers that are looked into."""
    if depth == 0:
        return False
    for (module, name), attribute in WRAPPERS.items():
        if _is(app, module, name):
            return has_none(getattr(app, attribute, None), depth - 1)
    if _is(app, "channels.routing", "ProtocolTypeRouter"):
        inner = app.application_mapping.get("lifespan")
        return inner is None or has_none(inner, depth - 1)
    if isinstance(app, FunctionType):
        return _is_consumer_without(app) or _only_knows_such(app, depth - 1)
    return _is(app, "django.core.handlers.asgi", "ASGIHandler") or _is(
        app, "channels.routing", "URLRouter"
    )


def _is(app: Any, module: str, name: str) -> bool:
    """Is it an object of this class, called as the class says? A module that was not imported has no objects."""
    found = getattr(sys.modules.get(module), name, None)
    return found is not None and isinstance(app, found) and type(app).__call__ is found.__call__


def _is_consumer_without(app: FunctionType) -> bool:
    """Is it what Channels' as_asgi() returns, of a consumer that does not handle lifespan.startup?"""
    consumer = getattr(app, "consumer_class", None)
    return (
        consumer is not None
        and "channels.consumer" in sys.modules
        and not hasattr(consumer, "lifespan_startup")
    )


def _only_knows_such(app: FunctionType, depth: int) -> bool:
    """Is it a function that chooses between Django and others by the scope, and has no word of a lifespan?

    async def application(scope, receive, send):
        if scope["type"] == "websocket":
            await websockets(scope, receive, send)
        else:
            await django(scope, receive, send)
    """
    if _mentions_lifespan(app.__code__):
        return False
    known = False
    for value in _refers_to(app):
        if has_none(value, depth):
            known = True
        elif isinstance(value, FunctionType):
            if value.__code__.co_argcount == 3 and _mentions_lifespan(value.__code__):
                return False
        elif callable(value) and not isinstance(value, type):
            return False
    return known


def _mentions_lifespan(code: CodeType) -> bool:
    return any(
        (isinstance(value, str) and "lifespan" in value)
        or (isinstance(value, CodeType) and _mentions_lifespan(value))
        for value in code.co_consts
    )


def _refers_to(app: FunctionType) -> list[Any]:
    """The values of the function's global and outer names."""
    names = app.__code__.co_names
    found = [app.__globals__[name] for name in names if name in app.__globals__]
    for cell in app.__closure__ or ():
        with contextlib.suppress(ValueError):  # not bound yet
            found.append(cell.cell_contents)
    return found
