"""The loop asks no event-loop policy: subprocesses and the rest work under uvloop's, and under one that has nothing."""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvloop

from pyasgi.loop import EventLoop
from tests.apps.policies import Bare, exec_and_shell
from tests.support.servers import Servers

pytestmark = pytest.mark.server
APP = "tests.apps.policies:app"


@pytest.fixture(params=[uvloop.EventLoopPolicy, Bare])
def policy(request: pytest.FixtureRequest) -> Iterator[None]:
    asyncio.set_event_loop_policy(request.param())
    yield
    asyncio.set_event_loop_policy(None)


def run() -> Any:
    loop = EventLoop()
    try:
        return loop.run_until_complete(exec_and_shell())
    finally:
        loop.close()


@pytest.mark.usefixtures("policy")
def test_subprocesses() -> None:
    assert run() == "42 0 7"


@pytest.mark.usefixtures("policy")
def test_subprocesses_in_another_thread() -> None:
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(run()))
    thread.start()
    thread.join(30)
    assert results == ["42 0 7"]


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="there are no child watchers any more")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_watcher_that_was_set_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    class Watcher(asyncio.ThreadedChildWatcher):
        def add_child_handler(self, pid: int, *args: Any) -> None:
            seen.append(pid)
            super().add_child_handler(pid, *args)  # type: ignore[misc]

    seen: list[int] = []
    policy = asyncio.DefaultEventLoopPolicy()
    monkeypatch.setattr(policy, "_watcher", Watcher())
    asyncio.set_event_loop_policy(policy)
    try:
        assert run() == "42 0 7"
    finally:
        asyncio.set_event_loop_policy(None)
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("name", "place"), list(itertools.product(["uvloop", "bare"], ["import", "request"]))
)
def test_applications_set_a_policy(server: Servers, name: str, place: str) -> None:
    handle = server.start(APP, "--lifespan", "off", env={"POLICY": name, "POLICY_AT": place})
    handle.expect_leaks()  # libuv keeps a pipe for signals, of the whole process
    assert handle.get("/spawn").body == b"42 0 7"
    assert handle.get("/current").body == b"True MainLoop"
    assert handle.get("/thread").body == b"uvloop True"
    assert handle.get("/spawn").body == b"42 0 7"
