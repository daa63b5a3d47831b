"""What nginx unit's ASGI bridge got wrong, one test per lesson."""

from __future__ import annotations

import asyncio
import gc
import socket
import subprocess
import sys
from typing import Any

import pytest

from tests.support.asgi_script import APP, notes
from tests.support.inprocess import Inside, Receive, Send, respond
from tests.support.programs import ROOT
from tests.support.servers import Servers

pytestmark = pytest.mark.server


def test_receive_cancelled_before_its_event_comes(server: Servers) -> None:
    """Lesson: a Future that the application cancelled must not be given a result."""
    handle = server.start(APP)
    with handle.connect() as client:
        client.send(
            b"POST /cancelled_receive?n HTTP/1.1\r\nHost: test\r\nContent-Length: 6\r\n\r\n"
        )
        assert notes(handle, "n", 6) == [True] * 6
        client.send(b"abc")
        client.send(b"def")
        assert client.response().body == b"abcdef"


def test_receive_after_the_body_blocks_until_disconnect(server: Servers) -> None:
    handle = server.start(APP)
    with handle.connect() as client:
        client.send(b"GET /after_body?n HTTP/1.1\r\nHost: test\r\n\r\n")
        client.read_until(b"x\r\n")
        assert notes(handle, "n") == [0]
    seen = notes(handle, "n", 3)
    assert seen[1] == "http.disconnect"
    assert seen[2] == "ok"


def test_django_listens_for_disconnect_while_it_answers(server: Servers) -> None:
    handle = server.start(APP)
    with handle.connect() as client:
        for _ in range(3):
            body = client.request(
                b"POST /django?n HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody"
            ).body
            assert body == b"ok"
    seen = notes(handle, "n", 3)
    assert set(seen) <= {"cancelled", "aborted"}


def test_django_sees_the_client_go(server: Servers) -> None:
    handle = server.start(APP)
    with handle.connect() as client:
        client.send(b"GET /slow_django?n HTTP/1.1\r\nHost: test\r\n\r\n")
    assert "aborted" in notes(handle, "n", 2)


def test_no_method_in_a_websocket_scope() -> None:
    scopes: list[dict[str, Any]] = []

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        scopes.append(scope)

    with Inside(app) as inside, inside.connect() as client:
        client.send(
            b"GET /ws HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert client.response().status == 403
    assert [scope["type"] for scope in scopes] == ["websocket"]
    assert "method" not in scopes[0]


def test_ipv6_addresses_are_not_split_at_colons() -> None:
    scopes: list[dict[str, Any]] = []

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await respond(send)

    async def listen(inside: Inside, listener: socket.socket) -> None:
        inside.server.listen(listener.detach())

    with Inside(app) as inside:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
        listener.setblocking(False)
        port = listener.getsockname()[1]
        inside.run(listen(inside, listener))
        with socket.create_connection(("::1", port), 10) as client:
            local = client.getsockname()
            client.sendall(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 200")
    assert scopes[0]["client"] == ["::1", local[1]]
    assert scopes[0]["server"] == ["::1", port]


def test_bytearray_body_under_back_pressure(server: Servers) -> None:
    """The application fills its buffer again as soon as send() returns; a slow client sees every filling."""
    handle = server.start(APP)
    with handle.connect() as client:
        client.send(b"GET /bytearray_pressure?n HTTP/1.1\r\nHost: test\r\n\r\n")
        notes(handle, "n")  # send() waits
        body = client.response().body
    expected = [bytes([number]) * (200_000 if number <= 50 else 201_000) for number in range(100)]
    assert body == b"".join(expected)


FINALIZE = """
import asyncio, gc, importlib.util, socket, weakref

async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"ok"})

def fetch(port):
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
        assert client.recv(1000)

async def main(core):
    loop = asyncio.get_running_loop()
    server = core.Server(loop, app)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    port = listener.getsockname()[1]
    server.listen(listener.detach())
    await loop.run_in_executor(None, fetch, port)
    server.close()

def once():
    # An instance of the module for itself: types, state, freelists.
    spec = importlib.util.find_spec("pyasgi._core")
    core = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(core)

    class Loop(core.LoopBase, asyncio.SelectorEventLoop):
        def __init__(self):
            super().__init__(core.Poller(self))
            self.slow_callback_duration = 100

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(main(core))
    return weakref.ref(core)

for _ in range(5):
    left = once()
    gc.collect()
    assert left() is None, gc.get_referrers(left())
print("end")
"""


def test_finalize_after_requests() -> None:
    """Lesson: a borrowed reference was released at finalize; interpreter and module end cleanly here."""
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", FINALIZE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


def test_an_ended_request_leaves_nothing_for_the_collector() -> None:
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await receive()
        if scope["path"] == "/later":
            await asyncio.sleep(0.01)
        if scope["path"] == "/raise":
            raise RuntimeError("on request")
        await respond(send)

    async def clean() -> list[Any]:
        gc.collect()
        gc.disable()
        return []

    with Inside(app) as inside:
        for path in ("/", "/later", "/raise"):
            inside.get(path)
        inside.run(clean())
        try:
            for path in ("/", "/later", "/raise") * 20:
                inside.get(path)
            inside.errors.clear()
            kinds = inside.run(garbage())
        finally:
            gc.enable()
        assert kinds == []


async def garbage() -> list[str]:
    """Types of ours and of asyncio's that only the collector can free."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        names = [type(each).__name__ for each in gc.garbage]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    return [
        name for name in names if name in {"Stream", "Receive", "Send", "Waiter", "Task", "Peer"}
    ]
