"""What is put in the place of asyncio's own methods is called, by the loops that are made after it."""

from __future__ import annotations

import asyncio
import functools
import subprocess
import sys
from typing import Any

import pytest

from pyasgi.loop import EventLoop
from tests.support.servers import Servers

pytestmark = pytest.mark.server


class Spy:
    """Counts the calls of a method; functools.wraps makes it look like the original."""

    def __init__(self, patch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        self.calls = 0
        original = getattr(owner, name)

        @functools.wraps(original)
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            return original(*args, **kwargs)

        patch.setattr(owner, name, counted)


async def busy() -> None:
    loop = asyncio.get_running_loop()
    loop.call_soon(int)
    loop.call_soon_threadsafe(int)
    loop.call_later(0, int)
    loop.call_at(0, int)
    await loop.run_in_executor(None, int)
    await asyncio.create_task(asyncio.sleep(0))
    await asyncio.sleep(0.001)


def run() -> EventLoop:
    loop = EventLoop()
    try:
        loop.run_until_complete(busy())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
    return loop


@pytest.mark.parametrize(
    "name",
    [
        "call_soon",
        "call_soon_threadsafe",
        "call_later",
        "call_at",
        "create_task",
        "create_future",
        "run_in_executor",
        "run_forever",
        "_run_once",
        "time",
        "close",
    ],
)
def test_methods_of_the_loop(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    spy = Spy(monkeypatch, asyncio.BaseEventLoop, name)
    if name == "close":
        spy = Spy(monkeypatch, asyncio.SelectorEventLoop, name)
    assert name in run().replaced
    assert spy.calls > 0
    monkeypatch.undo()
    assert run().replaced == ()


@pytest.mark.parametrize("name", ["__init__", "_run", "cancel"])
def test_methods_of_handles(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    spy = Spy(monkeypatch, asyncio.Handle, name)
    loop = EventLoop()
    loop.call_soon(int).cancel()
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    assert f"Handle.{name}" in loop.replaced
    assert spy.calls > 0


def test_the_class_of_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    class Task(asyncio.tasks._PyTask):  # type: ignore[name-defined,misc]
        pass

    monkeypatch.setattr(asyncio.tasks, "Task", Task)
    loop = EventLoop()

    async def kind() -> type:
        return type(await asyncio.create_task(current()))

    async def current() -> Any:
        return asyncio.current_task()

    assert loop.run_until_complete(kind()) is Task
    loop.close()
    assert loop.replaced == ("Task",)


def test_one_that_came_before_the_extension() -> None:
    code = (
        "import asyncio; run = asyncio.Handle._run; calls = []\n"
        "asyncio.Handle._run = lambda self: (calls.append(self), run(self))[1]\n"
        "from pyasgi.loop import EventLoop; loop = EventLoop()\n"
        "loop.run_until_complete(asyncio.sleep(0)); print(loop.replaced, len(calls) > 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split("\n")[0] == "('Handle._run', 'TimerHandle._run') True"


def test_debug_mode_on_and_off_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(monkeypatch, asyncio.Handle, "_run")
    loop = EventLoop()
    loop.set_debug(True)
    loop.set_debug(False)
    assert not loop.get_debug()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert spy.calls > 0


def test_aiodebug_sees_slow_requests(server: Servers) -> None:
    handle = server.start("tests.apps.monitored:app")
    assert b"app()" not in handle.get("/").body
    handle.get("/slow")
    assert b"app()" in handle.get("/").body
    line = "Something has replaced asyncio's Handle._run, TimerHandle._run: the event loop takes"
    assert line in handle.stderr()


def test_nothing_is_said_of_an_asyncio_as_it_comes(server: Servers) -> None:
    assert "has replaced" not in server.start().stderr()
