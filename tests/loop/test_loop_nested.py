"""Applications that run the running loop again: nest_asyncio and its fork, applied at import and in a request."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from websockets.sync.client import connect

from pyasgi.loop import EventLoop
from tests.support.handle import Handle
from tests.support.servers import Servers
from tests.support.wait import wait_for

APP = "tests.apps.nested:app"
LIBRARIES = ["nest_asyncio2"] if sys.version_info >= (3, 14) else ["nest_asyncio", "nest_asyncio2"]
VIEWS = {
    "run": "worked",
    "until": "worked",
    "later": "workedworked",
    "deep": "worked",
    "self": "worked",
    "callback": "worked",
    "error": "of the inner run",
    "task": "True",
    "sync": "worked",
}


@pytest.fixture(params=itertools.product(LIBRARIES, ["import", "request"]), ids="-".join)
def nested(server: Servers, request: pytest.FixtureRequest) -> Handle:
    library, place = request.param
    env = {"NEST": library, "NEST_AT": place}
    handle = server.start(APP, "--lifespan", "off", "--graceful-timeout", "1", env=env)
    handle.expect_leaks()  # the library never closes the loops that it makes for threads
    return handle


def wait_until_seen(handle: Handle, what: str, count: int) -> None:
    wait_for(lambda: handle.get("/seen").body.decode().split().count(what) == count, what=what)


@pytest.mark.server
def test_views_run_the_loop_again(nested: Handle) -> None:
    for path, expected in VIEWS.items():
        assert nested.get(f"/{path}").body.decode() == expected, path
    body = nested.get("/body", method="POST", body=b"x" * 300_000).body
    assert body == b"300000"


@pytest.mark.server
def test_views_run_it_all_at_once(nested: Handle) -> None:
    nested.get("/run")  # nest_asyncio2 patches a loop at the first asyncio.run() on it
    paths = [path for path in VIEWS if path != "deep"] * 8
    with ThreadPoolExecutor(8) as pool:
        bodies = list(pool.map(lambda path: nested.get(f"/{path}").body.decode(), paths))
    assert bodies == [VIEWS[path] for path in paths]


@pytest.mark.server
def test_websockets_go_on_meanwhile(nested: Handle) -> None:
    with (
        connect(f"ws://127.0.0.1:{nested.port}/") as one,
        connect(f"ws://127.0.0.1:{nested.port}/") as other,
    ):
        for number in range(5):
            one.send(f"one {number}")
            other.send(f"other {number}")
            assert nested.get("/later").body == b"workedworked"
            assert (one.recv(20), other.recv(20)) == (f"one {number}", f"other {number}")


@pytest.mark.server
def test_the_client_goes_while_its_request_runs_the_loop(nested: Handle) -> None:
    for number in range(1, 4):
        with nested.connect() as client:
            client.send(b"GET /gone HTTP/1.1\r\nHost: test\r\n\r\n")
            # A run that is inside another one ends first, so this one must be the outer.
            wait_until_seen(nested, "entered", number)
            assert nested.get("/run").body == b"worked"
        wait_until_seen(nested, "http.disconnect", number)


@pytest.mark.server
@pytest.mark.parametrize("path", ["forever", "forever_later"])
def test_a_stop_ends_what_is_waited_for_inside(nested: Handle, path: str) -> None:
    with nested.connect() as one, nested.connect() as other:
        for number, client in enumerate((one, other), 1):
            client.send(f"GET /{path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
            wait_until_seen(nested, "entered", number)
        assert nested.stop() == 0


# ---- without a server ----


class Nesting(EventLoop):
    """As nest_asyncio patches a loop: run_until_complete() from inside takes the loop's own turns."""

    def run_until_complete(self, future: Any) -> Any:
        if not self.is_running():
            return super().run_until_complete(future)
        task = asyncio.ensure_future(future, loop=self)
        while not task.done():
            self._run_once()  # type: ignore[attr-defined]
        return task.result()


@pytest.fixture(params=[False, True], ids=["", "debug"])
def loop(request: pytest.FixtureRequest) -> Iterator[Nesting]:
    loop = Nesting()
    loop.set_debug(request.param)
    yield loop
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


async def work() -> str:
    await asyncio.sleep(0.001)
    await asyncio.to_thread(int)
    await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0.001))
    return "worked"


def test_a_task_that_takes_turns_is_not_current_meanwhile(loop: Nesting) -> None:
    async def outer() -> list[object]:
        task = asyncio.current_task()
        seen: list[object] = [loop.run_until_complete(work()) for _ in range(3)]
        seen.append(asyncio.current_task() is task)
        await asyncio.sleep(0)
        return [*seen, asyncio.current_task() is task]

    assert loop.run_until_complete(outer()) == ["worked"] * 3 + [True, True]


def test_an_error_of_a_turn_from_inside_leaves_the_task_current(loop: Nesting) -> None:
    async def outer() -> bool:
        task = asyncio.current_task()
        loop.call_soon(sys.exit, 3)
        with pytest.raises(SystemExit):
            loop.run_until_complete(work())
        return asyncio.current_task() is task

    assert loop.run_until_complete(outer())


def test_turns_from_readers_timers_and_done_callbacks(loop: Nesting) -> None:
    here, there = socket.socketpair()
    seen: list[object] = []

    def on_byte() -> None:
        here.recv(1)
        seen.append(loop.run_until_complete(work()))

    async def outer() -> None:
        loop.add_reader(here, on_byte)
        there.send(b"abc")
        loop.call_later(0.001, lambda: seen.append(loop.run_until_complete(work())))
        done = loop.create_future()
        done.add_done_callback(lambda _: seen.append(loop.run_until_complete(work())))
        done.set_result(None)
        while len(seen) < 5:
            await asyncio.sleep(0.001)
        loop.remove_reader(here)

    with here, there:
        loop.run_until_complete(asyncio.wait_for(outer(), 30))
    assert seen == ["worked"] * 5


def test_select_is_for_one_thread_at_a_time() -> None:
    with contextlib.closing(EventLoop()) as loop:
        refused: list[BaseException] = []

        def select() -> None:
            try:
                loop._selector.select(0)  # type: ignore[attr-defined]
            except RuntimeError as error:
                refused.append(error)
            loop.call_soon_threadsafe(loop.stop)

        thread = threading.Timer(0.05, select)
        loop.call_soon(thread.start)
        loop.run_forever()
        thread.join()
    assert "another thread" in str(refused)
