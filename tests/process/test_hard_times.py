"""What a server meets in production that no single protocol test shows: descriptors run out, clients are killed in the
middle of everything, it is restarted under load, and its application changes the locale or cancels itself.
"""

from __future__ import annotations

import os
import re
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.support.client import RawClient
from tests.support.handle import Handle
from tests.support.servers import Servers
from tests.support.wait import wait_for

pytestmark = pytest.mark.server

APP = "tests.apps.hard_times:app"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
GET_AND_CLOSE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def cpu_seconds(handle: Handle) -> float:
    fields = Path(f"/proc/{handle.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# ---- descriptors ----


def test_out_of_descriptors(server: Servers) -> None:
    """It waits without spinning, says so once, and serves on when some are free again."""

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    handle = server.start(APP, preexec_fn=few)
    clients = [handle.connect() for _ in range(100)]
    handle.wait_for_log("accept failed: Too many open files")
    before = cpu_seconds(handle)
    time.sleep(1)
    assert cpu_seconds(handle) - before < 0.3
    assert handle.stderr().count("accept failed") == 1
    for client in clients:
        client.close()
    assert handle.get().body == b"hello"


# ---- clients that are killed ----

CLIENT = r"""
import random, socket, sys, time
address, chosen = ("127.0.0.1", int(sys.argv[1])), random.Random(int(sys.argv[2]))
key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\n" + key
chunked = b"Transfer-Encoding: chunked\r\n\r\n"
parts = [
    lambda: b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n",
    lambda: b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n",
    lambda: b"GET /sleep HTTP/1.1\r\nHost: a\r\n\r\n" * 3,
    lambda: b"GET / HTT",
    lambda: b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n" + b"x" * chosen.randrange(300000),
    lambda: b"POST /sleep HTTP/1.1\r\nHost: a\r\n" + chunked + b"1\r\nx\r\n" * chosen.randrange(9999),
    lambda: b"GET / HTTP/1.1\r\nHost: a\r\n" + upgrade + b"\r\n" + b"\x81\x85\0\0\0\0hello" * chosen.randrange(100),
]
while True:
    with socket.create_connection(address) as sock:
        try:
            sock.sendall(chosen.choice(parts)())
            sock.settimeout(chosen.random() * 0.05)
            sock.recv(chosen.randrange(1, 99999))
        except OSError:
            pass
        if chosen.random() < 0.5:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
"""


def test_clients_killed_in_the_middle_of_everything(server: Servers) -> None:
    """Whatever they were doing, all of it ends: the fixture sees to it that no object and no descriptor is left."""
    handle = server.start(APP, "--application-close-timeout", "0.5", "--access-log", "/dev/null")
    for round_ in range(3):
        clients = [
            subprocess.Popen([sys.executable, "-c", CLIENT, str(handle.port), str(10 * round_ + i)])
            for i in range(3)
        ]
        time.sleep(0.7)
        for client in clients:
            client.kill()
            client.wait()
    wait_for(lambda: handle.get("/running").body == b"1", 20, "end of every application")
    assert handle.get().body == b"hello"


# ---- restarts ----


class Load:
    """Threads that send requests until they are told to stop, and note every one that failed."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.served = 0
        self.failed: list[str] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=work) for work in (self._fresh, self._fresh, self._kept)
        ]
        for thread in self._threads:
            thread.start()

    def _connect(self) -> RawClient:
        return RawClient(socket.create_connection(("127.0.0.1", self.port), 30))

    def _fresh(self) -> None:
        while not self._stop.is_set():
            try:
                with self._connect() as client:
                    self._count(client.request(GET_AND_CLOSE).body)
            except (OSError, EOFError) as error:
                self.failed.append(f"new connection: {error!r}")

    def _kept(self) -> None:
        """One connection for as long as the server keeps it, without a pause between two requests."""
        while not self._stop.is_set():
            try:
                with self._connect() as client:
                    while not self._stop.is_set():
                        answer = client.request(GET)
                        self._count(answer.body)
                        if answer.headers.get("connection") == "close":
                            break
            except (OSError, EOFError) as error:
                self.failed.append(f"kept connection: {error!r}")

    def _count(self, body: bytes) -> None:
        self.served += 1
        if body != b"hello":
            self.failed.append(repr(body))

    def goes_on(self, requests: int) -> Callable[[], bool]:
        """Tells whether that many more have been served."""
        goal = self.served + requests
        return lambda: self.served >= goal

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_restarts_under_load_lose_no_request(server: Servers) -> None:
    """As a supervisor's fcgi-program restarts it: the listening socket stays open between two servers."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listening:

        def start() -> Handle:
            handle = server.spawn(
                APP, "--fd", "0", "--access-log", "/dev/null", bind=(), stdin=listening.fileno()
            )
            handle.wait_for_log("Listening on", 60)
            return handle

        handle = start()
        load = Load(listening.getsockname()[1])
        try:
            for _ in range(4):
                wait_for(load.goes_on(50), what="requests")
                handle.signal(signal.SIGTERM)
                assert handle.wait() == 0
                handle = start()
        finally:
            load.stop()
    assert load.failed == []
    assert load.served > 200


def test_idle_kept_connections_do_not_hold_up_a_stop(server: Servers) -> None:
    handle = server.start(APP)
    clients = [handle.connect() for _ in range(20)]
    for client in clients:
        assert client.request(GET).body == b"hello"
    started = time.monotonic()
    handle.signal(signal.SIGTERM)
    assert handle.wait() == 0
    assert time.monotonic() - started < 5
    for client in clients:
        assert client.closed()
        client.close()


def test_response_that_nobody_reads_is_not_cut_in_silence(server: Servers) -> None:
    """Its application has long ended, so no line of an application tells of it."""
    handle = server.start(APP, "--graceful-timeout", "0.3")
    with handle.connect() as client:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.send(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        client.recv(10)
        handle.signal(signal.SIGTERM)
        assert handle.wait() == 0
    handle.wait_for_log(r"Cut at shutdown: connection of 127.0.0.1, with \d+ bytes waiting for it")


# ---- applications with side effects ----


def test_blocked_loop_takes_nobody_for_late(server: Servers) -> None:
    """What came in while the application blocked the loop came in time, though every deadline has passed."""
    handle = server.start(
        APP,
        *("--keep-alive-timeout", "0.5", "--ping-interval", "0.2", "--ping-timeout", "0.5"),
    )
    with (
        handle.connect() as kept,
        handle.connect() as blocking,
        connect(f"{handle.ws_url}/") as websocket,
    ):
        assert kept.request(GET).body == b"hello"
        time.sleep(0.3)  # a ping is out
        blocking.send(b"GET /block HTTP/1.1\r\nHost: a\r\n\r\n")
        handle.wait_for_log("blocking")
        kept.send(GET)
        websocket.send("alive")
        assert blocking.response().body == b"blocked"
        assert kept.response().body == b"hello"
        assert websocket.recv(timeout=10) == "alive"


@pytest.fixture
def german(tmp_path: Path) -> str:
    """LOCPATH of a locale whose names of days and months are not English."""
    localedef = shutil.which("localedef")
    if localedef is None or not Path("/usr/share/i18n/locales/de_DE").exists():
        pytest.fail("no sources of locales: apt-get install locales (scripts/packages.txt)")
    subprocess.run(
        [localedef, "-i", "de_DE", "-f", "UTF-8", str(tmp_path / "de_DE.UTF-8")],
        check=True,
        capture_output=True,
    )
    return str(tmp_path)


def test_locale_of_the_application(server: Servers, german: str) -> None:
    """Its names of days and months are not those of HTTP (RFC 9110, 5.6.7)."""
    handle = server.start(APP, env={"LOCPATH": german, "TEST_LOCALE": "de_DE.UTF-8"})
    answer = handle.get("/strftime")
    assert answer.text in ("Mo", "Di", "Mi", "Do", "Fr", "Sa", "So")
    days, months = "Mon|Tue|Wed|Thu|Fri|Sat|Sun", "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
    assert re.fullmatch(
        rf"({days}), \d\d ({months}) \d{{4}} \d\d:\d\d:\d\d GMT", answer.headers["date"]
    )
    assert answer.headers["server"] == "cdaphne"
    wait_for(lambda: re.search(rf"\[\d\d/({months})/\d{{4}}:", handle.stdout()), what="access log")


@pytest.mark.parametrize("path", ["/cancelled", "/cancelled/later"])
def test_application_that_is_cancelled_by_itself_is_logged(server: Servers, path: str) -> None:
    handle = server.start(APP)
    assert handle.get(path).status == 500
    handle.wait_for_log(f"Application was cancelled before its end: <http GET {path} from ")


def test_no_lingering(server: Servers) -> None:
    """--linger-timeout 0 closes at once; it does not wait for ever for a peer that keeps its side open."""
    handle = server.start(APP, "--linger-timeout", "0")
    before = handle.fds()
    with handle.connect() as client:
        assert client.request(GET_AND_CLOSE).body == b"hello"
        wait_for(lambda: handle.fds() == before, what="end of the connection")
        assert select.select([client.sock], [], [], 5)[0]
        assert client.closed()
