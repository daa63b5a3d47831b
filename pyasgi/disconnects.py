"""Tells an application's error from the news that its client has left.

Clients may leave whenever they like: that is nobody's error, and a log full of it hides the real ones. The news
reaches the server as what a framework makes of it, so it is known by the names that frameworks give it, and
only when the client has indeed gone. It may be wrapped: in groups, of which then every member must be the
news; by `raise X from news`, which says that X is about it; and by an error of a broken connection that was
raised while the news was handled. Any other exception that is raised there is a bug in the handler.

A TimeoutError is not the news: asyncio.timeout() raises it from a CancelledError in any connection's life.
"""

from __future__ import annotations

import errno
from asyncio import CancelledError

from . import _core

NAMES = frozenset(
    {
        "ClientDisconnect",  # Starlette
        "ClientDisconnected",  # werkzeug, for Quart; uvicorn
        "MessageAborted",  # BlackSheep
        "RequestAborted",  # Django, Channels
        "WebSocketDisconnect",  # Starlette, Litestar
        "WebSocketDisconnectError",  # BlackSheep
        "WebSocketDisconnected",  # Falcon, Starlette
    }
)
BROKEN = frozenset(
    {None, errno.EPIPE, errno.ECONNRESET, errno.ECONNABORTED, errno.ENOTCONN, errno.ESHUTDOWN}
)


def is_disconnect(error: BaseException, gone: bool) -> bool:
    """Does this error of an application only say that its client has left? `gone`: it has."""
    return _is_news(error, gone, set())


def _is_news(error: BaseException, gone: bool, seen: set[int]) -> bool:
    if id(error) in seen:
        return False
    seen.add(id(error))
    if isinstance(error, BaseExceptionGroup):
        return all(_is_news(each, gone, seen) for each in error.exceptions)
    if isinstance(error, _core.ClientDisconnected):
        return True
    if not gone:
        return False
    return isinstance(error, CancelledError) or _is_named(error) or _wraps_news(error, seen)


def _is_named(error: BaseException) -> bool:
    return any(kind.__name__ in NAMES for kind in type(error).__mro__)


def _wraps_news(error: BaseException, seen: set[int]) -> bool:
    inner = error.__cause__
    if inner is None and _is_broken_connection(error):
        inner = error.__context__
    return (
        inner is not None and not isinstance(inner, CancelledError) and _is_news(inner, True, seen)
    )


def _is_broken_connection(error: BaseException) -> bool:
    plain = type(error) is OSError or isinstance(error, ConnectionError)
    return plain and isinstance(error, OSError) and error.errno in BROKEN
