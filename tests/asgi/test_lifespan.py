"""The lifespan protocol: its rules on plain asyncio, then through the command line."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import json
import re
import signal
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from websockets.sync.client import connect

from pyasgi.lifespan import Lifespan, LifespanError
from tests.support.servers import Servers
from tests.support.wait import wait_for

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="unset")


async def whole(scope: Message, receive: Receive, send: Send) -> None:
    """An application that plays by the rules."""
    assert await receive() == {"type": "lifespan.startup"}
    scope["state"]["pool"] = "open"
    VARIABLE.set("set at startup")
    await send({"type": "lifespan.startup.complete"})
    assert await receive() == {"type": "lifespan.shutdown"}
    scope["state"]["pool"] = "closed"
    await send({"type": "lifespan.shutdown.complete"})


def run(app: App, mode: str = "auto", seconds: float = 5, shutdown: bool = True) -> Lifespan:
    async def main() -> Lifespan:
        lifespan = Lifespan(app, mode, seconds, seconds, 1)
        await lifespan.startup()
        if shutdown:
            await lifespan.shutdown()
        assert asyncio.all_tasks() == {asyncio.current_task()} or not shutdown
        return lifespan

    return asyncio.run(main())


@pytest.mark.parametrize("mode", ["on", "auto"])
def test_whole_life(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    lifespan = run(whole, mode)
    assert lifespan.state == {"pool": "closed"}
    assert lifespan.context[VARIABLE] == "set at startup"
    assert VARIABLE.get() == "unset"
    assert not caplog.records


def test_off_never_calls() -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        raise AssertionError("called")

    assert run(app, "off").state is None


def test_scope() -> None:
    scopes = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        scopes.append(dict(scope))
        await whole(scope, receive, send)

    run(app)
    assert [(s["type"], s["asgi"]) for s in scopes] == [
        ("lifespan", {"version": "3.0", "spec_version": "2.0"})
    ]


async def raises_at_once(scope: Message, receive: Receive, send: Send) -> None:
    raise ValueError("only http here")


async def returns_at_once(scope: Message, receive: Receive, send: Send) -> None:
    pass


async def raises_at_startup(scope: Message, receive: Receive, send: Send) -> None:
    await receive()
    raise RuntimeError("no database")


@pytest.mark.parametrize("app", [raises_at_once, returns_at_once, raises_at_startup])
def test_auto_tolerates(app: App, caplog: pytest.LogCaptureFixture) -> None:
    assert run(app, "auto").state is None
    warned = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == (1 if app is raises_at_startup else 0)


@pytest.mark.parametrize(
    ("app", "says"),
    [
        (raises_at_once, "the lifespan raised before"),
        (returns_at_once, "the lifespan returned before"),
        (raises_at_startup, "the lifespan raised before"),
    ],
)
def test_on_demands(app: App, says: str) -> None:
    with pytest.raises(LifespanError, match=f"{says}.*--lifespan auto"):
        run(app, "on")


@pytest.mark.parametrize("mode", ["on", "auto"])
@pytest.mark.parametrize(
    ("message", "says"),
    [
        ({"message": "no\ndatabase"}, "Application startup failed: no database"),
        ({}, "Application startup failed: the application gave no reason"),
    ],
)
def test_startup_failed(mode: str, message: Message, says: str) -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", **message})

    with pytest.raises(LifespanError) as caught:
        run(app, mode)
    assert str(caught.value) == says


def test_startup_timeout() -> None:
    cancelled = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    with pytest.raises(
        LifespanError, match=r"longer than 0\.1 s; raise --lifespan-startup-timeout"
    ):
        run(app, seconds=0.1)
    assert cancelled == [True]


def test_shutdown_failed_and_late(caplog: pytest.LogCaptureFixture) -> None:
    async def failing(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.failed", "message": "still busy"})

    async def late(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await asyncio.sleep(60)

    run(failing)
    run(late, seconds=0.1)
    assert [record.getMessage() for record in caplog.records] == [
        "Application shutdown failed: still busy",
        "Application shutdown took longer than 0.1 s and was cancelled;"
        " raise --lifespan-shutdown-timeout",
    ]


def test_raises_while_serving(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        raise RuntimeError("background job died")

    async def main() -> None:
        lifespan = Lifespan(app, "auto", 5, 5, 1)
        await lifespan.startup()
        await asyncio.sleep(0.05)
        await lifespan.shutdown()

    asyncio.run(main())
    (record,) = caplog.records
    assert "background job died" in record.getMessage()
    assert record.exc_info


@pytest.mark.parametrize(
    ("messages", "error", "says"),
    [
        (
            ["lifespan.startup.done"],
            ValueError,
            "Cannot handle message type lifespan.startup.done!",
        ),
        (["lifespan.shutdown.complete"], RuntimeError, "before lifespan.startup.complete"),
        (["lifespan.startup.complete"] * 2, RuntimeError, "phase of the lifespan is over"),
        (
            ["lifespan.startup.complete", "lifespan.startup.failed"],
            RuntimeError,
            "phase of the lifespan is over",
        ),
    ],
)
def test_wrong_messages(messages: list[str], error: type[Exception], says: str) -> None:
    seen: list[Exception] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        try:
            for message in messages:
                await send({"type": message})
        except Exception as raised:
            seen.append(raised)
            raise

    with contextlib.suppress(LifespanError):
        run(app)
    (raised,) = seen
    assert isinstance(raised, error)
    assert says in str(raised)


def test_receive_waits_for_ever_after_shutdown() -> None:
    third: list[asyncio.Future[Message]] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        third.append(asyncio.ensure_future(receive()))
        await asyncio.wait(third, timeout=0.1)
        assert not third[0].done()
        third[0].cancel()

    run(app)
    assert third


# ---- through the command line ----

APP = "tests.apps.lifespans:"


def test_state_and_context_reach_requests(server: Servers) -> None:
    handle = server.start(APP + "whole")
    first = json.loads(handle.get("/").body)
    second = json.loads(handle.get("/").body)
    assert first["state"] == {"pool": ["open"], "requests": 1}
    assert second["state"] == {"pool": ["open"], "requests": 1}, "each scope has its own copy"
    assert first["variable"] == second["variable"] == "set at startup"
    assert handle.stop() == 0
    assert "lifespan: pool closed" in handle.stderr()


def test_no_lifespan_means_no_state(server: Servers) -> None:
    for arguments in ((), ("--lifespan", "off")):
        handle = server.start("tests.apps.basic:app", *arguments)
        assert "state" not in json.loads(handle.get("/scope").body)


def test_off_is_not_called(server: Servers) -> None:
    handle = server.start(APP + "whole", "--lifespan", "off")
    assert json.loads(handle.get("/").body) == {"state": None, "variable": "unset"}
    assert handle.stop() == 0
    assert "lifespan" not in handle.stderr()


@pytest.mark.parametrize(
    ("app", "arguments", "says"),
    [
        ("failing", (), "CRITICAL Application startup failed: no database"),
        ("failing", ("--lifespan", "on"), "CRITICAL Application startup failed: no database"),
        (
            "without",
            ("--lifespan", "on"),
            "CRITICAL Application startup failed: the lifespan raised",
        ),
        ("stuck", ("--lifespan-startup-timeout", "0.3"), "took longer than 0.3 s"),
    ],
)
def test_failed_startup_exits(
    server: Servers, app: str, arguments: tuple[str, ...], says: str
) -> None:
    handle = server.spawn(APP + app, *arguments)
    handle.expect_errors(1)
    assert handle.wait() == 1
    assert says in handle.stderr()
    assert "Listening on" not in handle.stderr()
    assert ("Traceback" in handle.stderr()) == (app == "without")


def test_connections_during_startup_are_served(server: Servers, free_port: int) -> None:
    handle = server.spawn(APP + "slow", bind=("-p", str(free_port)))
    handle.wait_for_log("lifespan: starting")
    handle.port = free_port
    assert handle.get("/").status == 200
    handle.wait_for_log("Listening on TCP address")


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_signal_during_startup(server: Servers, sig: int) -> None:
    handle = server.spawn(APP + "stuck")
    handle.wait_for_log("lifespan: starting")
    assert handle.stop(sig, timeout=10) == 0
    assert "lifespan: cancelled" in handle.stderr()


def test_shutdown_comes_after_the_last_request(server: Servers) -> None:
    handle = server.start(APP + "whole")
    with handle.connect() as client:
        client.send(b"GET /slow HTTP/1.1\r\nHost: t\r\n\r\n")
        wait_for(lambda: "request: begins" in handle.stderr(), what="the request")
        handle.signal(signal.SIGTERM)
        assert client.response().status == 200
    assert handle.wait() == 0
    log = handle.stderr()
    assert log.index("request: ends") < log.index("lifespan: pool closed")


def test_shutdown_timeout(server: Servers) -> None:
    flags = ("--graceful-timeout", "0", "--lifespan-shutdown-timeout", "0.3")
    handle = server.start(APP + "never_ends", *flags)
    handle.expect_errors()
    assert handle.stop(timeout=10) == 0
    assert "ERROR    Application shutdown took longer than 0.3 s" in handle.stderr()


# ---- applications that have no lifespan, and work on daphne ----

NONE = "Application has no lifespan: it "


@pytest.mark.parametrize(
    ("app", "says"),
    [
        ("loop_of_messages", "waits for another event before it answers lifespan.startup"),
        ("loop_that_accepts", "sends websocket.accept"),
    ],
)
def test_application_that_takes_it_for_a_websocket(server: Servers, app: str, says: str) -> None:
    handle = server.start(APP + app)
    assert json.loads(handle.get("/").body)["state"] is None
    handle.wait_for_log(f"INFO +{NONE}{says}")
    with connect(handle.ws_url) as client:
        client.send("hello")
        assert client.recv(timeout=10) == "hello"
    assert handle.stop() == 0
    assert "loop:" not in handle.stderr(), "the application hears of no error"
    assert not re.search("WARNING .*lifespan", handle.stderr())


def test_application_that_receives_in_a_task(server: Servers) -> None:
    handle = server.start(APP + "busy_loop", env={"PYTHONASYNCIODEBUG": ""})
    handle.wait_for_log(f"INFO +{NONE}waits for another event")
    assert handle.get("/").status == 200


def test_application_that_reads_ahead_may_start_slowly(server: Servers) -> None:
    handle = server.start(APP + "reads_ahead")
    assert json.loads(handle.get("/").body)["state"] == {"requests": 1}
    assert handle.stop() == 0
    assert "no lifespan" not in handle.stderr()
    assert "lifespan: pool closed" in handle.stderr()


def test_application_that_never_asks(server: Servers) -> None:
    handle = server.start(APP + "deaf_to_startup", "--lifespan-startup-timeout", "0.3")
    assert handle.get("/").status == 200
    handle.wait_for_log(f"WARNING +{NONE}did not ask for lifespan.startup within 0.3 s")


def test_application_that_raises_is_one_line(server: Servers) -> None:
    handle = server.start(APP + "asserting")
    assert handle.get("/").status == 200
    line = handle.wait_for_log(f"WARNING +{NONE}raises AssertionError.*").group()
    assert "lifespans.py, line" in line


@pytest.mark.parametrize("app", ["loop_of_messages", "busy_loop", "deaf_to_startup"])
def test_on_takes_them_for_slow(server: Servers, app: str) -> None:
    flags = ("--lifespan", "on", "--lifespan-startup-timeout", "0.3")
    handle = server.spawn(APP + app, *flags)
    handle.expect_errors(1)
    assert handle.wait() == 1
    assert "Application startup took longer than 0.3 s" in handle.stderr()


# ---- a failed start ----


async def fails_as_starlette_does(scope: Message, receive: Receive, send: Send) -> None:
    await receive()
    try:
        raise RuntimeError("no database")
    except RuntimeError:
        await send({"type": "lifespan.startup.failed", "message": traceback.format_exc()})


def test_traceback_of_a_failed_start_keeps_its_lines() -> None:
    with pytest.raises(LifespanError) as caught:
        run(fails_as_starlette_does)
    assert str(caught.value) == "Application startup failed: RuntimeError: no database"
    lines = caught.value.details.splitlines()
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[-1] == "RuntimeError: no database"
    assert 'raise RuntimeError("no database")' in map(str.strip, lines)


def test_traceback_of_a_failed_start_in_the_log(server: Servers) -> None:
    handle = server.spawn("tests.asgi.test_lifespan:fails_as_starlette_does")
    handle.expect_errors(1)
    assert handle.wait() == 1
    says = r"CRITICAL Application startup failed: RuntimeError: no database\nTraceback \(most"
    handle.wait_for_log(says)
    assert max(map(len, handle.stderr().splitlines())) < 250
