"""_core.Server itself: its arguments, what it reports, and the ends it can come to."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import socket
import threading
import time
import warnings
from typing import Any

import pytest

from pyasgi import _core
from pyasgi.loop import EventLoop
from pyasgi.options import LIMITS
from tests.support.inprocess import Inside, Message, Receive, Send, respond
from tests.support.wait import wait_for

pytestmark = pytest.mark.server

GET = b"GET /p?q HTTP/1.1\r\nHost: a\r\n\r\n"
UPGRADE = (
    b"GET /ws?q HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def ok(scope: Message, receive: Receive, send: Send) -> None:
    await respond(send)


async def close(server: _core.Server) -> None:
    server.close()


@pytest.fixture
def loop() -> Any:
    loop = EventLoop()
    yield loop
    loop.close()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"color": 1}, TypeError, "Server() has no argument 'color'"),
        ({"http_timeout": -1}, ValueError, "http_timeout must be a finite number of seconds"),
        ({"http_timeout": float("nan")}, ValueError, "http_timeout must be a finite number"),
        ({"http_timeout": float("inf")}, ValueError, "http_timeout must be a finite number"),
        ({"http_timeout": 10**400}, ValueError, "http_timeout must be a finite number"),
        ({"http_timeout": "1"}, TypeError, "http_timeout must be a number of seconds, not str"),
        ({"max_body_size": -1}, ValueError, "max_body_size must be at least 0, not -1"),
        ({"request_buffer_size": 0}, ValueError, "request_buffer_size must be at least 1, not 0"),
        ({"max_head_size": -(10**30)}, ValueError, "max_head_size must be at least 1"),
        ({"max_head_size": 1.5}, TypeError, "max_head_size must be int, not float"),
        ({"max_head_size": True}, TypeError, "max_head_size must be int, not bool"),
        ({"on_log": 1}, TypeError, "on_log must be callable or None, not int"),
        ({"on_access": 1}, TypeError, "on_access must be callable or None, not int"),
        ({"on_exception": 1}, TypeError, "on_exception must be callable or None, not int"),
        ({"context": {}}, TypeError, "context must be contextvars.Context, not dict"),
        ({"root_path": b"/"}, TypeError, "root_path must be str, not bytes"),
        ({"state": []}, TypeError, "state must be dict or None, not list"),
        ({"proxy_headers": b"x"}, TypeError, "proxy_headers must be three header names, not bytes"),
        (
            {"proxy_headers": ("x", None, None)},
            TypeError,
            "proxy_headers must be bytes or None, not str",
        ),
        ({"forwarded_allow_ips": 1}, TypeError, "forwarded_allow_ips must be str or None, not int"),
        ({"forwarded_allow_ips": "::1,x"}, ValueError, "'x' is neither an address nor a network"),
        ({"server_header": "x"}, TypeError, "server_header must be bytes or None, not str"),
        ({"server_header": b"a\r\nb"}, ValueError, "server_header must have no control characters"),
        ({"access_fd": -2}, ValueError, "access_fd must be a descriptor or -1, not -2"),
        ({"access_fd": "1"}, TypeError, ""),
    ],
)
def test_wrong_argument_is_named(
    loop: EventLoop, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as refused:
        _core.Server(loop, ok, **options)
    assert words in str(refused.value)


def test_wrong_loop_and_app(loop: EventLoop) -> None:
    with pytest.raises(TypeError, match="app must be callable, not str"):
        _core.Server(loop, "x")  # type: ignore[arg-type]
    other = asyncio.SelectorEventLoop()
    with pytest.raises(TypeError, match=r"loop must be a pyasgi\.loop\.EventLoop"):
        _core.Server(other, ok)  # type: ignore[arg-type]
    other.close()
    closed = EventLoop()
    closed.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        _core.Server(closed, ok)


def test_any_size_is_taken(loop: EventLoop) -> None:
    server = _core.Server(
        loop, ok, request_buffer_size=10**100, max_body_size=2**63, write_high_water=1
    )
    server.close()


def test_limits_are_arguments(loop: EventLoop) -> None:
    assert len(LIMITS) == len(_core.limits()) > 30
    for limit in LIMITS.values():
        assert limit.kind in ("time", "size")
        assert isinstance(limit.default, float if limit.kind == "time" else int)
        assert (limit.unit == "seconds") == (limit.kind == "time")
        assert limit.doc
        assert limit.least <= limit.default <= limit.most
    server = _core.Server(loop, ok, **{name: limit.default for name, limit in LIMITS.items()})
    server.close()


def test_versions() -> None:
    assert _core.version
    assert set(_core.versions()) == {"libev", "llhttp", "nghttp2", "OpenSSL", "zlib"}


def test_init_twice_and_use_after_close(loop: EventLoop) -> None:
    server = _core.Server(loop, ok)
    with pytest.raises(RuntimeError, match="twice"):
        server.__init__(loop, ok)  # type: ignore[misc]
    with pytest.raises(RuntimeError, match="still open"):
        loop.close()
    server.close()
    server.close()
    for call in (
        server.drain,
        server.cancel,
        lambda: server.listen(0),
        lambda: server.set_access_fd(1),
    ):
        with pytest.raises(RuntimeError, match="Server is closed"):
            call()
    assert (server.connections, server.streams, server.tasks) == (0, 0, 0)


def test_unclosed_server_warns(loop: EventLoop) -> None:
    servers = [_core.Server(loop, ok)]
    with pytest.warns(ResourceWarning, match="unclosed server"):
        servers.clear()


def test_listen_on_what_is_no_socket(loop: EventLoop) -> None:
    server = _core.Server(loop, ok)
    try:
        with pytest.raises(OSError):  # noqa: PT011  (which one is the kernel's to say)
            server.listen(10**6)
    finally:
        server.close()


def test_other_threads_are_refused() -> None:
    with Inside(ok) as inside:
        inside.get()
        with pytest.raises(RuntimeError, match="for the thread that runs its loop"):
            inside.server.drain()


def test_exception_is_reported_once_with_its_traceback() -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["path"] == "/later":
            await asyncio.sleep(0.01)
        raise KeyError(scope["path"])

    with Inside(app) as inside:
        inside.get("/now")
        inside.get("/later")
        assert [error.args for error in inside.errors] == [("/now",), ("/later",)]
        names = []
        traceback = inside.errors[0].__traceback__
        while traceback:
            names.append(traceback.tb_frame.f_code.co_name)
            traceback = traceback.tb_next
        assert "app" in names
        inside.errors.clear()
        del traceback


def test_exception_without_a_handler_reaches_the_loops() -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError

    with Inside(app, on_exception=None) as inside:
        inside.get()
        (problem,) = inside.problems
        assert isinstance(problem["exception"], ZeroDivisionError)
        assert problem["message"] == "Exception inside application"
        inside.problems.clear()
        del problem


def test_handler_that_raises_reaches_the_loops() -> None:
    def broken(*args: object) -> None:
        raise ZeroDivisionError

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        raise ValueError

    with Inside(app, on_exception=broken, on_access=broken) as inside:
        inside.get()
        wait_for(lambda: len(inside.problems) >= 2)
        assert {type(each["exception"]) for each in inside.problems} == {ZeroDivisionError}
        inside.problems.clear()


@pytest.mark.parametrize(
    "wrong", [lambda *_: None, lambda *_: 5, lambda *_: (yield), lambda: None, lambda *_: 1 // 0]
)
def test_application_that_is_no_coroutine_function(wrong: Any) -> None:
    with Inside(wrong) as inside, inside.connect() as client:
        assert client.request(GET).status == 500
        (error,) = inside.errors
        assert isinstance(error, (TypeError, ZeroDivisionError))
        inside.errors.clear()
        del error


def test_application_that_returns_an_awaitable() -> None:
    class Later:
        def __init__(self, *args: Any) -> None:
            self.args = args

        def __await__(self) -> Any:
            return ok(*self.args).__await__()

    def future(scope: Message, receive: Receive, send: Send) -> Any:
        return asyncio.ensure_future(ok(scope, receive, send))

    for app in (Later, future):
        with Inside(app) as inside:
            assert inside.get() == b"ok"
            assert inside.errors == []


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("when", ["first step", "later"])
def test_exits_of_an_application_come_out_of_the_loop(kind: type[BaseException], when: str) -> None:
    errors: list[BaseException] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if when == "later":
            await asyncio.sleep(0)
        raise kind

    loop = EventLoop()
    server = _core.Server(loop, app, on_exception=lambda error, gone: errors.append(error))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        port = listener.getsockname()[1]
        server.listen(listener.detach())
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.sendall(GET)
        with pytest.raises(kind):
            loop.run_forever()
        loop.run_until_complete(asyncio.sleep(0))
        assert client.recv(100).startswith(b"HTTP/1.1 500")
    server.close()
    loop.close()
    assert errors == []


def test_access_events() -> None:
    seen: list[tuple[str, str, dict[str, Any]]] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await respond(send, b"four", 201)
        elif scope["path"] == "/ws":
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close"})

    with Inside(app, on_access=lambda *args: seen.append(args)) as inside:  # type: ignore[arg-type]
        with inside.connect() as client:
            port = client.sock.getsockname()[1]
            client.request(GET)
        with inside.connect() as client:
            client.send(UPGRADE)
            client.read_until(b"\x88\x02\x03\xe8")
        with inside.connect() as client:
            client.request(UPGRADE.replace(b"/ws", b"/no"))
        wait_for(lambda: len(seen) >= 7)
    protocol, action, details = seen[0]
    assert (protocol, action) == ("http", "complete")
    assert 0 <= details.pop("time_taken") < 10
    client_text = f"127.0.0.1:{port}"
    assert details == {
        "path": "/p?q",
        "client": client_text,
        "method": "GET",
        "status": 201,
        "size": 4,
    }
    assert [(protocol, action, details["path"]) for protocol, action, details in seen[1:]] == [
        ("websocket", "connecting", "/ws"),
        ("websocket", "connected", "/ws"),
        ("websocket", "disconnected", "/ws"),
        ("websocket", "connecting", "/no"),
        ("websocket", "rejected", "/no"),
        ("websocket", "disconnected", "/no"),
    ]


def test_access_event_names_the_client_that_the_proxy_names() -> None:
    seen: list[Any] = []

    def on_access(protocol: str, action: str, details: dict[str, Any]) -> None:
        seen.append(details["client"])

    names = (b"x-forwarded-for", b"x-forwarded-port", None)
    with Inside(ok, on_access=on_access, proxy_headers=names) as inside, inside.connect() as client:
        port = client.sock.getsockname()[1]
        client.request(GET)
        client.request(GET[:-2] + b"X-Forwarded-For: 5.6.7.8, 1.2.3.4\r\n\r\n")
        client.request(GET[:-2] + b"X-Forwarded-For: ::1\r\nX-Forwarded-Port: 8\r\n\r\n")
        client.request(GET[:-2] + b"X-Forwarded-For: unknown\r\n\r\n")
        wait_for(lambda: len(seen) == 4)
    assert seen == [f"127.0.0.1:{port}", "1.2.3.4:0", "::1:8", None]


def test_application_that_outstays_its_client_is_cancelled_once() -> None:
    cancelled: list[float] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        for _ in range(2):
            try:
                await asyncio.sleep(0.3)
            except asyncio.CancelledError:
                cancelled.append(time.monotonic())

    with Inside(app, application_close_timeout=0.05) as inside:
        with inside.connect() as client:
            client.send(GET)
            wait_for(lambda: inside.server.tasks)
        wait_for(lambda: not inside.server.tasks)
        warnings_ = [line for level, line in inside.lines if level == logging.WARNING]
        assert len(warnings_) == 1
        assert warnings_[0].startswith("Application instance <Task pending")
        assert "for connection <http GET /p?q from 127.0.0.1:" in warnings_[0]
        assert warnings_[0].endswith("took too long to shut down and was killed.")
    assert len(cancelled) == 1


def test_cancel_ends_what_runs() -> None:
    ends: list[str] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            ends.append(scope["type"])
            raise

    async def cancel() -> None:
        inside.server.drain()
        inside.server.cancel()

    with Inside(app) as inside, inside.connect() as one, inside.connect() as two:
        one.send(GET)
        two.send(UPGRADE)
        two.read_until(b"\r\n\r\n")
        wait_for(lambda: inside.server.tasks == 2)
        inside.run(cancel())
        wait_for(lambda: not inside.server.streams and not inside.server.connections)
    assert sorted(ends) == ["http", "websocket"]


def test_close_cuts_running_applications() -> None:
    """Tasks end after the server has gone; their receive and send stay harmless."""
    ends: list[str] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
        try:
            await receive()
        except asyncio.CancelledError:
            try:
                await send({"type": "http.response.start", "status": 200})
                ends.append("dropped")
            except ValueError as error:
                ends.append(type(error).__name__)
            raise

    with Inside(app) as inside, inside.connect() as one, inside.connect() as two:
        one.send(GET)
        two.send(UPGRADE)
        two.read_until(b"\r\n\r\n")
        wait_for(lambda: inside.server.tasks == 2)
        inside.run(close(inside.server))
        wait_for(lambda: len(ends) == 2)
    assert sorted(ends) == ["ValueError", "dropped"]


def test_close_inside_an_application_is_refused_in_dispatch() -> None:
    said: list[str] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        try:
            inside.server.close()
        except RuntimeError as error:
            said.append(str(error))
        await respond(send)

    with Inside(app) as inside:
        assert inside.get() == b"ok"
    assert said == ["close() is called from a callback of the server; use loop.call_soon"]


def test_close_inside_an_application_later() -> None:
    closed = threading.Event()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0)
        inside.server.close()
        closed.set()
        await respond(send)

    with Inside(app) as inside, inside.connect() as client:
        client.send(GET)
        assert closed.wait(5)
        assert client.closed()
        wait_for(lambda: not inside.server.tasks)


def test_current_task_and_all_tasks_from_the_first_line() -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        current = asyncio.current_task()
        assert current in asyncio.all_tasks()
        assert asyncio.get_running_loop() is inside.loop
        async with asyncio.timeout(5):
            await asyncio.sleep(0)
        await respond(send)

    with Inside(app) as inside:
        assert inside.get() == b"ok"
        assert inside.errors == []


def test_strings_of_events_are_compared_by_value() -> None:
    class Text(str):
        pass

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        with pytest.raises(ValueError, match=r"http\.response\.star!"):
            await send({"type": Text("http.response.star")})
        await send({Text("type"): Text("http.response.start"), Text("status"): 201, "x": 1})
        for more in (True, False):
            parts = {
                ("bo", "dy"): b"a",
                ("more_bo", "dy"): more,
                ("ty", "pe"): "http.response.body",
            }
            await send({"".join(key): value for key, value in parts.items()})

    with Inside(app) as inside:
        assert inside.get() == b"aa"
        assert inside.errors == []


def test_app_that_never_waits_is_answered_within_dispatch() -> None:
    """Eager start: no turn of the loop lies between the request and the end of its application."""
    order: list[str] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        asyncio.get_running_loop().call_soon(order.append, "loop")
        await receive()
        await respond(send)
        order.append("application")

    with Inside(app) as inside:
        inside.get()
        wait_for(lambda: len(order) == 2)
    assert order == ["application", "loop"]


def test_context_of_the_call_is_the_default() -> None:
    where: contextvars.ContextVar[str] = contextvars.ContextVar("where", default="nowhere")
    seen: list[str] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        seen.append(where.get())
        where.set("changed")
        await respond(send)

    context = contextvars.Context()
    context.run(where.set, "here")
    inside = context.run(Inside, app, context=context)
    with inside:
        inside.get()
        inside.get()
    assert seen == ["here", "here"]


def test_two_servers_on_one_loop() -> None:
    async def second(scope: Message, receive: Receive, send: Send) -> None:
        await respond(send, b"second")

    async def open_second() -> tuple[_core.Server, int]:
        server = _core.Server(inside.loop, second)
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        port = listener.getsockname()[1]
        server.listen(listener.detach())
        return server, port

    with Inside(ok) as inside:
        other, port = inside.run(open_second())
        with socket.create_connection(("127.0.0.1", port), 10) as client:
            client.sendall(GET)
            assert client.recv(1000).endswith(b"second")
        assert inside.get() == b"ok"
        inside.run(close(other))
        del other
        assert inside.get() == b"ok"


def test_many_requests_leave_no_reference() -> None:
    """Nothing that a request makes is still referred to when it is over."""
    import sys

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        if scope["query_string"]:
            await asyncio.sleep(0)
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await send({"type": "http.response.body", "body": BODY})

    async def count() -> list[int]:
        gc.collect()
        kept = (None, True, False, HEADERS, BODY, HEADERS[0][0], (), b"", app, asyncio.Task)
        return [sys.getrefcount(each) for each in kept]

    with Inside(app) as inside, warnings.catch_warnings():
        counts = []
        for _ in range(3):
            with inside.connect() as client:
                for _ in range(50):
                    client.request(GET)
                    client.request(GET.replace(b"?q", b""))
            wait_for(lambda: not inside.server.connections)
            counts.append(inside.run(count()))
    for before, after in zip(counts[1], counts[2], strict=True):
        assert abs(after - before) < 40, counts  # 100 requests lay in between


HEADERS = [(b"x-header-of-this-test", b"value-of-this-test")]
BODY = b"b" * 20_000


@pytest.mark.parametrize("listens", [True, False])
def test_one_that_only_sends_is_cancelled_quietly(listens: bool) -> None:
    """It never asked whether its client is still there: no warning. One that was told gets daphne's."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200})
        while True:
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            if listens and (await receive())["type"] == "http.disconnect":
                listening.set()
                await asyncio.sleep(60)

    listening = threading.Event()
    with Inside(app, application_close_timeout=0.2) as inside:
        with inside.connect() as client:
            client.send(GET)
            client.read_until(b"x\r\n")
        wait_for(lambda: not inside.server.tasks)
        levels = [level for level, line in inside.lines if "took too long" in line]
        assert levels == [logging.WARNING if listens else logging.DEBUG]
        assert inside.errors == []
    assert listening.is_set() == listens


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_one_that_swallows_its_cancellation_ends_by_send(kind: str) -> None:
    swallowed: list[str] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        piece: Message = {"type": "http.response.body", "body": b"x", "more_body": True}
        if kind == "http":
            await send({"type": "http.response.start", "status": 200})
        else:
            await send({"type": "websocket.accept"})
            piece = {"type": "websocket.send", "text": "x"}
        while True:
            try:
                await send(piece)
            except asyncio.CancelledError:
                swallowed.append(kind)

    with Inside(app, application_close_timeout=0.1) as inside:
        with inside.connect() as client:
            client.send(GET if kind == "http" else UPGRADE)
            client.read_until(b"\r\n\r\n")
        wait_for(lambda: not inside.server.tasks)
        assert swallowed == [kind]
        (error,) = inside.errors
        assert isinstance(error, _core.ClientDisconnected)
        assert any("still runs after its cancellation" in line for _, line in inside.lines)
        inside.errors.clear()
        del error
