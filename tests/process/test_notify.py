"""What systemd is told, through a stand-in for its notification socket; and its socket activation."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.handle import Collector
from tests.support.programs import ROOT
from tests.support.servers import Servers
from tests.support.wait import wait_for

APP = "tests.apps.basic:app"


class Manager:
    """The service manager's end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.settimeout(20)
        self.sock.bind(address)

    def message(self) -> dict[str, str]:
        """The next datagram as its fields."""
        return dict(line.split("=", 1) for line in self.sock.recv(4096).decode().split("\n"))


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(str(tmp_path / "notify"))
    yield made
    made.sock.close()


def test_ready_reloading_stopping(server: Servers, tmp_path: Path, manager: Manager) -> None:
    handle = server.start(
        "tests.apps.stubborn:app", env={"NOTIFY_SOCKET": str(tmp_path / "notify")}
    )
    said = manager.message()
    assert said == {"READY": "1", "STATUS": "Listening at tcp:port=0:interface=127.0.0.1"}
    assert handle.get("/").status == 200, "ready means that it answers"

    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    handle.signal(signal.SIGUSR1)
    said = manager.message()
    assert said["RELOADING"] == "1"
    assert (
        before <= int(said["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    )
    assert manager.message()["READY"] == "1"

    with handle.connect() as client:
        client.send(b"GET /sleep/1 HTTP/1.1\r\nHost: t\r\n\r\n")
        handle.wait_for_log("begins /sleep/1")
        handle.signal(signal.SIGTERM)
        assert manager.message()["STOPPING"] == "1"
        assert client.response().status == 200, "stopping is said before the running request ends"
    assert handle.wait() == 0


def test_abstract_socket(server: Servers) -> None:
    name = f"cdaphne-test-{os.getpid()}"
    made = Manager(f"\0{name}")
    with made.sock:
        server.start(APP, env={"NOTIFY_SOCKET": f"@{name}"})
        assert made.message()["READY"] == "1"


def test_watchdog(server: Servers, tmp_path: Path, manager: Manager) -> None:
    env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
    server.start(APP, env=env)
    assert manager.message()["READY"] == "1"
    times = []
    for _ in range(5):
        assert manager.message() == {"WATCHDOG": "1"}
        times.append(time.monotonic())
    # Half of the watchdog's time; two in a row may be late on a busy machine, the mean may not.
    assert 0.15 < (times[-1] - times[0]) / 4 < 0.4


def test_watchdog_starves_when_the_loop_is_blocked(
    server: Servers, tmp_path: Path, manager: Manager
) -> None:
    env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
    handle = server.start("tests.apps.stubborn:app", env=env)
    assert manager.message()["READY"] == "1"
    with handle.connect() as client:
        client.send(b"GET /block/1.5 HTTP/1.1\r\nHost: t\r\n\r\n")
        handle.wait_for_log("begins /block")
        longest, before = 0.0, time.monotonic()
        while longest < 1:
            manager.message()
            now = time.monotonic()
            longest, before = max(longest, now - before), now
        assert client.response().status == 200


def test_watchdog_of_another_process(server: Servers, tmp_path: Path, manager: Manager) -> None:
    env = {
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "WATCHDOG_USEC": "100000",
        "WATCHDOG_PID": str(os.getpid()),
    }
    handle = server.start(APP, env=env)
    assert manager.message()["READY"] == "1"
    time.sleep(0.5)
    assert handle.stop() == 0
    assert "STOPPING" in manager.message(), "no keep-alive between the two"


EMBEDDED = """
import sys
from pyasgi.server import Server
from tests.apps.basic import app

def ready():
    print("Listening on TCP address 127.0.0.1:%d" % server.listening_addresses[0][1], file=sys.stderr, flush=True)

server = Server(app, ["tcp:0:interface=127.0.0.1"], signal_handlers=False, ready_callable=ready)
server.run()
"""


def test_embedded_server_does_not_speak_for_its_program(
    server: Servers, tmp_path: Path, manager: Manager
) -> None:
    handle = server.start(
        APP, module=("-c", EMBEDDED), env={"NOTIFY_SOCKET": str(tmp_path / "notify")}
    )
    handle.expect_errors(-signal.SIGTERM)
    assert handle.get("/").status == 200
    manager.sock.settimeout(0.3)
    with pytest.raises(TimeoutError):
        manager.message()


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("relative", "NOTIFY_SOCKET is 'relative', which is not a path: systemd is told nothing"),
        ("/nowhere/notify", "READY=1 could not be sent to NOTIFY_SOCKET /nowhere/notify"),
    ],
)
def test_bad_socket_is_a_warning(server: Servers, address: str, says: str) -> None:
    handle = server.start(APP, env={"NOTIFY_SOCKET": address})
    handle.wait_for_log(says)
    assert handle.get("/").status == 200


@pytest.mark.parametrize("how", ["index=0", "name=web"])
def test_socket_activation_by_systemd_itself(how: str, free_port: int) -> None:
    """systemd-socket-activate is systemd's own: it listens, and starts the server on the first connection."""
    program = shutil.which("systemd-socket-activate")
    if program is None:
        pytest.fail(
            "systemd-socket-activate is not installed: apt-get install systemd (scripts/packages.txt)"
        )
    keep = ("PATH", "PYTHONPATH", "LD_PRELOAD", "ASAN_OPTIONS", "UBSAN_OPTIONS", "PYTHONMALLOC")
    settings = [f"--setenv={name}" for name in keep if name in os.environ]
    command = [sys.executable, "-m", "pyasgi", "-e", f"systemd:domain=INET:{how}", APP]
    process = subprocess.Popen(
        [program, f"--listen=127.0.0.1:{free_port}", "--fdname=web", *settings, *command],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    errors = Collector(process.stderr)
    try:
        wait_for(lambda: "Listening on" in errors.text(), what="systemd-socket-activate listens")
        with socket.create_connection(("127.0.0.1", free_port), 60) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: client.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 200"), errors.text()
        line = f"Listening on TCP address 127.0.0.1:{free_port}"
        wait_for(lambda: line in errors.text(), what="the server tells where it listens")
    finally:
        process.send_signal(signal.SIGTERM)
        status = process.wait(30)
    assert status == 0, errors.join()
