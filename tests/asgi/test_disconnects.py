"""Which exceptions of an application only say that its client has left."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable

import pytest
from channels.exceptions import RequestTimeout
from django.core.exceptions import RequestAborted
from starlette.requests import ClientDisconnect
from starlette.websockets import WebSocketDisconnect

from pyasgi import _core
from pyasgi.disconnects import is_disconnect


class ServiceError(Exception):
    pass


def caught(action: Callable[[], object]) -> BaseException:
    with pytest.raises(BaseException) as seen:  # noqa: PT011 - whatever the action raises
        action()
    return seen.value


def raised_from(error: BaseException, news: BaseException) -> BaseException:
    """`raise error from news`"""

    def action() -> None:
        raise error from news

    return caught(action)


def raised_in(error: BaseException, news: BaseException) -> BaseException:
    """What an except block raises that handles news."""

    def action() -> None:
        try:
            raise news
        except type(news):
            raise error  # noqa: B904 - the context is what the test is about

    return caught(action)


NEWS: list[BaseException] = [
    ClientDisconnect(),
    WebSocketDisconnect(1001),
    RequestAborted(),
    RequestTimeout(),
    asyncio.CancelledError(),
    ExceptionGroup("tasks", [ClientDisconnect(), ExceptionGroup("more", [RequestAborted()])]),
    BaseExceptionGroup("tasks", [ClientDisconnect(), asyncio.CancelledError()]),
    raised_from(ServiceError("cannot read the body"), ClientDisconnect()),
    raised_from(ServiceError("outer"), raised_from(ServiceError("inner"), RequestAborted())),
    raised_from(ServiceError(), ExceptionGroup("tasks", [ClientDisconnect()])),
    ExceptionGroup("tasks", [raised_from(ServiceError(), ClientDisconnect())]),
    raised_in(OSError("the client has gone"), ClientDisconnect()),
    raised_in(BrokenPipeError(errno.EPIPE, "Broken pipe"), ClientDisconnect()),
    raised_in(ClientDisconnect(), _core.ClientDisconnected("send()")),
    raised_in(OSError(), raised_from(ServiceError(), ClientDisconnect())),
]

ERRORS: list[BaseException] = [
    KeyError("x"),
    OSError(errno.ENOSPC, "No space left on device"),
    ConnectionResetError(errno.ECONNRESET, "the database's"),
    TimeoutError(),
    raised_in(KeyError("a bug in the handler"), ClientDisconnect()),
    raised_in(ValueError("a bug in the handler"), _core.ClientDisconnected("send()")),
    raised_in(ServiceError("clean-up failed"), ClientDisconnect()),
    raised_in(OSError(errno.ENOSPC, "No space left on device"), ClientDisconnect()),
    raised_in(ConnectionRefusedError(errno.ECONNREFUSED, "Redis"), ClientDisconnect()),
    raised_in(TimeoutError(), ClientDisconnect()),
    raised_from(TimeoutError(), asyncio.CancelledError()),
    raised_from(ServiceError(), KeyError("x")),
    raised_in(raised_from(OSError(), KeyError("x")), ClientDisconnect()),
    ExceptionGroup("tasks", [ClientDisconnect(), KeyError("x")]),
    ExceptionGroup("tasks", [ClientDisconnect(), raised_in(KeyError("x"), ClientDisconnect())]),
]


@pytest.mark.parametrize("error", NEWS, ids=repr)
def test_news(error: BaseException) -> None:
    assert is_disconnect(error, gone=True)


@pytest.mark.parametrize("error", NEWS, ids=repr)
def test_nothing_is_news_while_the_client_is_there(error: BaseException) -> None:
    assert not is_disconnect(error, gone=False)


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_errors(error: BaseException) -> None:
    assert not is_disconnect(error, gone=True)


def test_the_servers_own_is_always_news() -> None:
    """Nobody but send() raises it."""
    assert is_disconnect(_core.ClientDisconnected("send()"), gone=False)


def test_a_circle_of_causes_ends() -> None:
    one, two = ServiceError(), ServiceError()
    one.__cause__, two.__cause__ = two, one
    assert not is_disconnect(one, gone=True)
