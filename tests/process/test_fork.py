"""Children of the application: whatever they do, the server goes on, and they have nothing of it.

Real multiprocessing, pools, subprocesses and os.fork(), from views in the loop's thread and in worker threads, while
a download, a WebSocket and TLS connections of other clients are open.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from websockets.sync.client import connect

from tests.support.authority import Authority, Issued
from tests.support.client import RawClient
from tests.support.handle import Handle
from tests.support.programs import ROOT
from tests.support.servers import Servers
from tests.support.wait import wait_for

pytestmark = pytest.mark.server

APP = "tests.apps.forking:app"
METHODS = ("fork", "forkserver", "spawn")
CHILD_SECONDS = 60.0  # for the slowest of them on a busy machine
PIECES = 60
# fork() in a process with threads is what is tested.
QUIET = {"PYTHONWARNINGS": "ignore:This process:DeprecationWarning"}
FEW_DESCRIPTORS = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 999))
from pyasgi.cli import main
main()
"""


def child(handle: Handle, kind: str, *arguments: str, where: str = "loop") -> Any:
    """What the view says that made such a child."""
    query = urlencode([("where", where), *(("a", argument) for argument in arguments)])
    response = handle.get(f"/{kind}?{query}", timeout=CHILD_SECONDS)
    assert response.status == 200, handle.stderr()
    return json.loads(response.body)


class Bystanders:
    """Other clients: a download, a WebSocket, a connection that is kept open."""

    def __init__(
        self, handle: Handle, authority: Authority | None, stack: contextlib.ExitStack
    ) -> None:
        self._context = (
            None if authority is None else ssl.create_default_context(cafile=authority.cert)
        )
        self._handle = handle
        self._body = b""
        self._kept = self._connect()
        self._request(self._kept)
        self._websocket = stack.enter_context(
            connect(
                f"{'ws' if self._context is None else 'wss'}://localhost:{handle.port}/",
                sock=socket.create_connection((handle.host, handle.port), 10),
                ssl=self._context,
                server_hostname="localhost" if self._context else None,
            )
        )
        self._thread = threading.Thread(target=self._download)
        self._thread.start()

    def _connect(self) -> RawClient:
        sock = socket.create_connection((self._handle.host, self._handle.port), CHILD_SECONDS)
        if self._context is not None:
            sock = self._context.wrap_socket(sock, server_hostname="localhost")
        return RawClient(sock)

    def _request(self, client: RawClient) -> None:
        response = client.request(b"GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert json.loads(response.body) == self._handle.process.pid

    def _download(self) -> None:
        with self._connect() as client:
            client.send(b"GET /slow?a=%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % PIECES)
            self._body = client.response().body

    def check(self, number: int) -> None:
        """They have not noticed anything."""
        self._request(self._kept)
        self._websocket.send(f"message {number}")
        assert self._websocket.recv(timeout=CHILD_SECONDS) == f"message {number}"

    def finish(self) -> None:
        self._thread.join(CHILD_SECONDS)
        assert self._body == b"".join(b"%07d\n" % number * 1000 for number in range(PIECES))
        self._kept.close()


@contextlib.contextmanager
def bystanders(handle: Handle, authority: Authority | None = None) -> Iterator[Bystanders]:
    with contextlib.ExitStack() as stack:
        others = Bystanders(handle, authority, stack)
        try:
            yield others
        finally:
            others.finish()


def start(server: Servers, tmp_path: Path, *args: str, **more: Any) -> Handle:
    """On TCP, with TLS if the flags say so, and without on a unix socket, where the tests ask for children."""
    path = tmp_path / "socket"
    handle = server.start(APP, "-e", f"unix:{path}", *args, env=QUIET, **more)
    handle.unix = str(path)
    return handle


def check_alive(handle: Handle, tmp_path: Path) -> None:
    """The server serves, also on its unix socket."""
    assert child(handle, "ready") == handle.process.pid
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(tmp_path / "socket"))
        sock.sendall(b"GET /ready HTTP/1.0\r\n\r\n")
        assert sock.recv(1000).startswith(b"HTTP/1.0 200")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_children_of_multiprocessing(
    server: Servers, tmp_path: Path, ca: Authority, site: Issued, method: str, tls: bool
) -> None:
    flags = ["--certfile", str(site.cert), "--keyfile", str(site.key)] if tls else []
    handle = start(server, tmp_path, *flags)
    handle.expect_leaks()  # multiprocessing keeps pipes to its helpers
    with bystanders(handle, ca if tls else None) as others:
        for number, (kind, arguments, result) in enumerate(
            [
                ("terminated", (), -signal.SIGTERM),
                ("terminated", ("2",), -signal.SIGTERM),
                ("pool", (), [1, 2, 3]),
                ("killed_pool_worker", (), [1, 2]),
                ("broken_pool", (), "broken"),
            ]
        ):
            where = ("loop", "thread", "task")[number % 3]
            assert child(handle, kind, method, *arguments, where=where) == result
            others.check(number)
    check_alive(handle, tmp_path)
    assert handle.stop() == 0
    log = handle.stderr()
    assert log.count("Received ") == 1
    # asyncio's debug mode warns of callbacks that take long, which starting a process does.
    assert not re.search(r"Exception|again|\b(ERROR|CRITICAL) |\bWARNING +(?! |Executing)", log), (
        log
    )
    for kind, times in (
        ("terminated", 2),
        ("pool", 1),
        ("killed_pool_worker", 1),
        ("broken_pool", 1),
    ):
        assert handle.stdout().count(f"GET /{kind}?") == times
    assert not (tmp_path / "socket").exists()


@pytest.mark.parametrize("method", METHODS)
def test_a_child_has_a_server_of_its_own(server: Servers, tmp_path: Path, method: str) -> None:
    handle = start(server, tmp_path)
    handle.expect_leaks()
    with bystanders(handle) as others:
        for where in ("loop", "thread"):
            assert child(handle, "own_server", method, where=where) == ["hello of a child", 0]
            others.check(0)
    check_alive(handle, tmp_path)


@pytest.mark.parametrize("where", ["loop", "task", "thread", "asgiref"])
@pytest.mark.parametrize("verbosity", ["1", "3"])
def test_a_forked_child_that_leaves_the_view_ends(
    server: Servers, tmp_path: Path, where: str, verbosity: str
) -> None:
    handle = start(server, tmp_path, "-v", verbosity)
    handle.expect_errors()  # the traceback of the child that raises
    with bystanders(handle) as others:
        for number, (end, status) in enumerate(
            [
                ("exit", 7),
                ("_exit", 7),
                ("message", 1),
                ("raise", 1),
                ("return", 0),
                ("kill", -signal.SIGTERM),
            ]
        ):
            assert child(handle, "forked", end, where=where) == status, end
            others.check(number)
    check_alive(handle, tmp_path)
    assert handle.stdout().count("printed by a child\n") == 1
    assert len(re.findall(r"GET /forked\?\S*a=exit", handle.stdout())) == 1
    assert handle.stop() == 0
    log = handle.stderr()
    assert log.count("ZeroDivisionError: raised in a child") == 1
    assert log.count("said by a child") == 1
    assert log.count("Received SIGTERM: shutting down") == 1
    assert "atexit in a child" not in log
    assert log.count("atexit in the server") == 1
    # asyncio's debug mode warns of callbacks that take long, which forks do.
    assert not re.search(r"\b(ERROR|CRITICAL) |\bWARNING +(?! |Executing)", log), log


def test_a_child_that_leaves_a_worker_thread_of_anyio_ends(server: Servers, tmp_path: Path) -> None:
    """Views of Starlette and FastAPI that are no coroutines; anyio does not tell how the call ended."""
    handle = start(server, tmp_path)
    with bystanders(handle) as others:
        for number, end in enumerate(["exit", "raise", "return"]):
            assert child(handle, "forked", end, where="anyio") == 0
            others.check(number)
    check_alive(handle, tmp_path)


def test_other_children(server: Servers, tmp_path: Path) -> None:
    handle = start(server, tmp_path)
    with bystanders(handle) as others:
        assert child(handle, "on_a_terminal", "exit") == 7
        others.check(1)
        for end in ("exit", "raise", "kill"):
            assert child(handle, "preexec", end) != 0
            others.check(2)
        assert child(handle, "asyncio")
        others.check(3)
    check_alive(handle, tmp_path)


@pytest.mark.parametrize("where", ["loop", "thread"])
def test_a_forked_child_has_nothing_of_the_server(
    server: Servers, tmp_path: Path, where: str
) -> None:
    handle = start(server, tmp_path)
    with bystanders(handle):
        facts = child(handle, "process_facts", "fork", where=where)
    assert facts["pid"] != handle.process.pid
    assert facts["wakeup"] == -1
    assert facts["running"] == ""
    assert facts["sleeps"] == "slept"
    assert facts["blocked"] == []
    handlers = facts["handlers"]
    assert "default_int_handler" in handlers.pop("SIGINT")
    assert all("SIG_DFL" in handler for handler in handlers.values()), handlers
    shared = [name for name in facts["open"] if re.search(r"socket:|eventpoll|eventfd", name)]
    assert shared == []


def test_a_worker_of_the_startup_has_nothing_of_the_server(server: Servers) -> None:
    """It is forked while the server is bound and does not accept yet."""
    handle = server.start(APP, "--lifespan", "on", env={**QUIET, "FORKING_POOL": "1"})
    facts = child(handle, "early")
    assert not [name for name in facts["open"] if re.search(r"socket:|eventpoll|eventfd", name)]
    assert all("SIG_DFL" in facts["handlers"][name] for name in ("SIGTERM", "SIGUSR1"))


def test_a_daemon_keeps_no_connection_open(server: Servers, tmp_path: Path) -> None:
    handle = start(server, tmp_path)
    report = tmp_path / "report"
    with handle.connect() as client:
        client.request(b"GET /ready HTTP/1.1\r\nHost: a\r\n\r\n")
        assert child(handle, "daemon", str(report)) == 0
        wait_for(lambda: report.exists() and report.read_text(), 20, "the daemon's report")
        facts = json.loads(report.read_text())
        try:
            client.send(b"GET /ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert b"200 OK" in client.read_all()  # returns at the end of the connection
            os.kill(facts["pid"], 0)  # while the daemon lives
            assert not [name for name in facts["open"] if name.startswith("socket:")]
        finally:
            os.kill(facts["pid"], signal.SIGKILL)
    check_alive(handle, tmp_path)


def test_children_have_the_limit_that_the_server_was_started_with(server: Servers) -> None:
    handle = server.start(APP, module=("-c", FEW_DESCRIPTORS), bind=("-p", "0"), env=QUIET)
    handle.expect_leaks()
    clients = [handle.connect() for _ in range(400)]
    for client in clients:
        response = client.request(b"GET /ready HTTP/1.1\r\nHost: a\r\n\r\n")
        assert response.status == 200
    said = child(handle, "limits")
    assert said.pop("system") == [256]
    assert set(map(tuple, said.values())) == {(256, 999)}
    assert child(handle, "asyncio") == [256, 999]
    for client in clients:
        client.close()


def test_a_server_in_a_thread(tmp_path: Path) -> None:
    """As under Django's autoreloader: the child's stack is another thread's than main's."""
    done = subprocess.run(
        [sys.executable, "-c", IN_A_THREAD],
        cwd=ROOT,
        env={**os.environ, **QUIET},
        capture_output=True,
        text=True,
        timeout=CHILD_SECONDS,
    )
    assert done.stdout.splitlines() == [*["printed by a child", "7"] * 2, "-15", "ended"], (
        done.stderr
    )
    assert "Traceback" not in done.stderr


IN_A_THREAD = """
import threading, urllib.request
from pyasgi.server import Server
from tests.apps.forking import app

ready = threading.Event()
server = Server(app, ["tcp:0:interface=127.0.0.1"], signal_handlers=False, ready_callable=ready.set)
thread = threading.Thread(target=server.run)
thread.start()
ready.wait(20)
port = server.listening_addresses[0][1]
for path in ("forked?a=exit", "forked?a=exit&where=thread", "terminated?a=fork"):
    print(urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=20).read().decode(), flush=True)
server.stop()
thread.join(20)
print("ended")
"""
