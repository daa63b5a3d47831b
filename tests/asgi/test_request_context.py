"""What the server says of a request is said in the contextvars of the request's application."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import pytest

from tests.support.inprocess import Inside, Message, Receive, Send, respond
from tests.support.servers import Servers
from tests.support.wait import wait_for

REQUEST: ContextVar[str] = ContextVar("REQUEST", default="-")
GET = b"GET /p HTTP/1.1\r\nHost: a\r\n\r\n"

pytestmark = pytest.mark.server


class Record:
    """Callables for _core.Server that note in which request they were called."""

    def __init__(self) -> None:
        self.exceptions: list[str] = []
        self.lines: list[tuple[str, str]] = []
        self.accesses: list[str] = []

    def options(self) -> dict[str, Any]:
        return {
            "on_exception": lambda error, gone: self.exceptions.append(REQUEST.get()),
            "on_log": lambda level, line: self.lines.append((REQUEST.get(), line)),
            "on_access": lambda *_: self.accesses.append(REQUEST.get()),
        }


@pytest.mark.parametrize("when", ["call", "first step", "later"])
def test_exceptions_and_access_events(when: str) -> None:
    record = Record()

    def app(scope: Message, receive: Receive, send: Send) -> Any:
        REQUEST.set("mine")
        if when == "call":
            raise ValueError
        return run()

    async def run() -> None:
        if when == "later":
            await asyncio.sleep(0)
        raise ValueError

    with Inside(app, **record.options()) as inside:
        with inside.connect() as client:
            assert client.request(GET).status == 500
        wait_for(lambda: record.accesses)
    assert (record.exceptions, record.accesses) == (["mine"], ["mine"])


async def no_answer(send: Send) -> None:
    """Nothing is sent."""


async def half_an_answer(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})


async def too_short(send: Send) -> None:
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]}
    )
    with pytest.raises(RuntimeError):
        await send({"type": "http.response.body", "body": b"short"})


@pytest.mark.parametrize("answer", [no_answer, half_an_answer, too_short])
def test_lines_of_the_core(answer: Callable[[Send], Awaitable[None]]) -> None:
    record = Record()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        REQUEST.set("mine")
        await answer(send)

    with Inside(app, **record.options()) as inside, inside.connect() as client:
        client.send(GET)
        wait_for(lambda: record.lines)
    assert {request for request, _ in record.lines} == {"mine"}


def test_an_answer_and_a_websocket() -> None:
    record = Record()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        REQUEST.set(scope["type"])
        await receive()
        if scope["type"] == "http":
            await respond(send)
        else:
            await send({"type": "websocket.accept"})

    with Inside(app, **record.options()) as inside:
        inside.get()
        with inside.connect() as client:
            client.send(
                b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            client.read_until(b"\r\n\r\n")
        wait_for(lambda: len(record.accesses) == 4)
    assert record.accesses == ["http", "websocket", "websocket", "websocket"]


def test_cancellation() -> None:
    """By the server, of one that outstays, and by somebody else."""
    record = Record()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        REQUEST.set(scope["path"])
        if scope["path"] == "/p":
            await asyncio.sleep(60)
        raise asyncio.CancelledError

    with Inside(app, application_close_timeout=0.05, **record.options()) as inside:
        with inside.connect() as client:
            client.send(GET)
            wait_for(lambda: inside.server.tasks)
        wait_for(lambda: not inside.server.tasks)
        with inside.connect() as client:
            assert client.request(b"GET /q HTTP/1.1\r\nHost: a\r\n\r\n").status == 500
    lines = [(who, line) for who, line in record.lines if "pplication" in line]
    assert [who for who, _ in lines] == ["/p", "/q"]
    assert "took too long to shut down" in lines[0][1]
    assert "was cancelled before its end" in lines[1][1]


@pytest.mark.parametrize("path", ["/first", "/later"])
def test_a_filter_on_the_log_finds_the_request(server: Servers, path: str) -> None:
    handle = server.start("tests.apps.request_ids:app")
    handle.expect_errors()
    assert handle.get(path).status == 500
    handle.wait_for_log(rf"ERROR +\[{re.escape(path)}\] Exception inside application: told to")
