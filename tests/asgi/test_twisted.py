"""Applications that use Twisted: its reactor runs on the server's loop, as under daphne."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.handle import Handle
from tests.support.servers import Servers
from tests.support.wait import wait_for

pytestmark = pytest.mark.server
APP = "tests.apps.twisted_app:app"
VIEWS = {
    "later": "later",
    "thread": "True",
    "looping": "3",
    "client": "later",
    "process": "42",
    "from_a_thread": "from a thread",
}
STARTED = "Twisted's reactor runs on the server's event loop"


def start(server: Servers, place: str) -> Handle:
    handle = server.start(APP, "--lifespan", "off", env={"REACTOR_AT": place})
    handle.expect_leaks()  # Twisted's own waker is for as long as the process
    return handle


@pytest.mark.parametrize("place", ["import", "own", "request"])
def test_what_twisted_does(server: Servers, place: str) -> None:
    handle = start(server, place)
    for path, expected in VIEWS.items():
        assert handle.get(f"/{path}").body.decode() == expected, path
    assert handle.stderr().count(STARTED) == 1


@pytest.mark.parametrize("path", list(VIEWS))
def test_it_comes_with_a_request(server: Servers, path: str) -> None:
    handle = start(server, "request")
    assert handle.get("/untouched").body == b"False"
    assert handle.get(f"/{path}").body.decode() == VIEWS[path]


def test_threads_end_with_the_server(server: Servers) -> None:
    handle = start(server, "import")
    handle.get("/busy")
    assert handle.stop() == 0
    log = handle.stderr()
    assert log.index("the thread has ended") < log.index("shutdown\n")


def test_the_application_stops_the_reactor(server: Servers) -> None:
    handle = start(server, "import")
    assert handle.get("/stop").body == b"stopping"
    assert handle.wait() == 0
    assert "The application has stopped Twisted's reactor: shutting down" in handle.stderr()


def test_another_reactor_is_named(server: Servers) -> None:
    handle = start(server, "epoll")
    wait_for(lambda: "Nothing runs Twisted's reactor" in handle.stderr())
    assert "EPollReactor" in handle.stderr()


def test_without_the_server_the_reactor_runs_by_itself() -> None:
    code = (
        "import pyasgi.server\n"
        "from twisted.internet import reactor, task\n"
        "from twisted.internet.threads import deferToThread\n"
        "reactor.callWhenRunning(lambda: deferToThread(print, 'ran').addCallback(lambda _: reactor.stop()))\n"
        "reactor.run(); print(type(reactor).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("ran\nAsyncioSelectorReactor\n", 0)


def test_on_a_loop_of_the_callers() -> None:
    """The reactor ends with the server, and the caller's loop goes on."""
    code = (
        "import asyncio, urllib.request\n"
        "from pyasgi.loop import EventLoop\n"
        "from pyasgi.server import Server\n"
        "async def app(scope, receive, send):\n"
        "    from twisted.internet import reactor\n"
        "    from twisted.internet.threads import deferToThread\n"
        "    body = await deferToThread(lambda: b'ran').asFuture(asyncio.get_running_loop())\n"
        "    await send({'type': 'http.response.start', 'status': 200})\n"
        "    await send({'type': 'http.response.body', 'body': body})\n"
        "async def main():\n"
        "    server = Server(app, ['tcp:0:interface=127.0.0.1'], signal_handlers=False, lifespan='off')\n"
        "    serving = asyncio.create_task(server.serve())\n"
        "    while not server.listening_addresses:\n"
        "        await asyncio.sleep(0.01)\n"
        "    url = 'http://%s:%s/' % server.listening_addresses[0]\n"
        "    answer = await asyncio.to_thread(urllib.request.urlopen, url)\n"
        "    print(answer.read().decode())\n"
        "    answer.close()\n"
        "    server.stop()\n"
        "    await serving\n"
        "    await asyncio.sleep(0.01)\n"
        "    print('goes on')\n"
        "with asyncio.Runner(loop_factory=EventLoop) as runner:\n"
        "    runner.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("ran\ngoes on\n", 0), done.stderr
