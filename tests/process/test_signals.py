"""The end of a server: signals, the graceful shutdown and its deadline, and what may not outlive it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.support.client import RawClient
from tests.support.handle import Handle
from tests.support.programs import ROOT
from tests.support.servers import Servers
from tests.support.wait import wait_for

APP = "tests.apps.stubborn:app"
TERM, INT = signal.SIGTERM, signal.SIGINT


def begin(handle: Handle, path: str) -> RawClient:
    """A connection with a request that the application has taken up."""
    client = handle.connect()
    client.send(f"GET {path} HTTP/1.1\r\nHost: t\r\n\r\n".encode())
    wait_for(lambda: f"begins {path}" in handle.stderr(), what=f"request of {path}")
    return client


def seconds_to_end(handle: Handle) -> float:
    started = time.monotonic()
    assert handle.wait() == 0
    return time.monotonic() - started


@pytest.mark.parametrize("sig", [TERM, INT])
def test_idle_server_ends_at_once(server: Servers, sig: int) -> None:
    handle = server.start(APP)
    with handle.connect(), handle.connect() as kept:
        assert kept.request(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").status == 200
        handle.signal(sig)
        assert seconds_to_end(handle) < 3
    assert f"Received {signal.Signals(sig).name}: shutting down" in handle.stderr()


@pytest.mark.parametrize("sig", [TERM, INT])
def test_running_request_is_finished(server: Servers, sig: int) -> None:
    handle = server.start(APP)
    with begin(handle, "/sleep/1") as client:
        handle.signal(sig)
        handle.wait_for_log("Waiting up to")
        with pytest.raises(ConnectionRefusedError):
            handle.connect()
        answer = client.response()
        assert (answer.status, answer.body) == (200, b"done")
        assert answer.headers["connection"] == "close"
        assert client.closed()
    assert handle.wait() == 0
    assert "cancelled" not in handle.stderr()
    assert '"GET /sleep/1" 200 4' in handle.stdout()


def test_started_response_is_finished(server: Servers) -> None:
    handle = server.start(APP)
    with begin(handle, "/stream") as client:
        handle.signal(TERM)
        assert client.response().body == b"firstlast"
    assert handle.wait() == 0


def test_deadline_cancels(server: Servers) -> None:
    handle = server.start(APP, "--graceful-timeout", "0.5")
    with begin(handle, "/sleep/60") as client:
        handle.signal(TERM)
        assert 0.3 < seconds_to_end(handle) < 5
        assert client.closed()
    log = handle.stderr()
    assert "cancelled /sleep/60" in log
    assert log.index("cancelled /sleep/60") < log.index("Killed 1 pending application instance")


def test_graceful_timeout_0_cancels_at_once(server: Servers) -> None:
    handle = server.start(APP, "--graceful-timeout", "0")
    with begin(handle, "/sleep/60"):
        handle.signal(TERM)
        assert seconds_to_end(handle) < 3
    assert "cancelled /sleep/60" in handle.stderr()


def test_deaf_application_does_not_keep_the_server(server: Servers) -> None:
    handle = server.start(APP, "--graceful-timeout", "0.2")
    handle.expect_errors()
    with begin(handle, "/deaf"):
        handle.signal(TERM)
        assert seconds_to_end(handle) < 20
    assert "Cancellation was swallowed by 1 application" in handle.stderr()


def test_background_tasks_are_cancelled(server: Servers) -> None:
    handle = server.start(APP)
    assert handle.get("/background").body == b"done"
    assert handle.stop() == 0
    assert "cancelled background" in handle.stderr()


def test_websockets_close_with_1001(server: Servers) -> None:
    handle = server.start(APP)
    with connect(handle.ws_url) as client:
        client.send("hello")
        assert client.recv() == "hello"
        handle.signal(TERM)
        with pytest.raises(ConnectionClosed) as caught:
            client.recv(timeout=10)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1001
    assert handle.wait() == 0
    assert "websocket websocket.disconnect 1001" in handle.stderr()


def test_websocket_application_that_lingers_is_cancelled(server: Servers) -> None:
    handle = server.start(APP, "--graceful-timeout", "0.5")
    with connect(f"{handle.ws_url}/lingers") as client:
        handle.signal(TERM)
        with pytest.raises(ConnectionClosed):
            client.recv(timeout=10)
        assert seconds_to_end(handle) < 5
    assert "Killed 1 pending application instance" in handle.stderr()


@pytest.mark.parametrize(("first", "second"), [(TERM, TERM), (INT, INT), (INT, TERM)])
def test_second_signal_exits_at_once(
    server: Servers, tmp_path: Path, first: signal.Signals, second: signal.Signals
) -> None:
    path = tmp_path / "s"
    handle = server.start(APP, unix=path)
    handle.expect_errors(128 + second)
    client = begin(handle, "/sleep/60")
    handle.signal(first)
    handle.wait_for_log("shutting down")
    assert handle.stop(second, timeout=5) == 128 + second
    assert (
        f"Received {second.name} again: exiting at once, and cutting 1 request" in handle.stderr()
    )
    assert not path.exists()
    assert client.closed()
    client.close()


def test_second_signal_ends_a_blocked_loop(server: Servers) -> None:
    handle = server.start(APP)
    handle.expect_errors(128 + TERM)
    client = begin(handle, "/block")
    handle.signal(TERM)
    time.sleep(0.3)
    assert handle.process.poll() is None
    assert handle.stop(TERM, timeout=5) == 128 + TERM
    client.close()


def test_system_exit_of_the_application(server: Servers) -> None:
    handle = server.start(APP)
    handle.expect_errors(7)
    other = begin(handle, "/sleep/0.5")
    begin(handle, "/exit").close()
    assert other.response().body == b"done", "the other request is finished first"
    other.close()
    assert handle.wait() == 7
    assert "Application raised SystemExit: shutting down" in handle.stderr()


def test_keyboard_interrupt_of_the_application(server: Servers) -> None:
    handle = server.start(APP)
    handle.expect_errors()  # from Python 3.12 on asyncio logs it, as for every eager task
    begin(handle, "/interrupt").close()
    assert handle.wait() == 0
    assert "Application raised KeyboardInterrupt: shutting down" in handle.stderr()


def test_ignored_sigint_stays_ignored(server: Servers) -> None:
    program = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); from pyasgi.cli import main; main()"
    handle = server.start(APP, module=("-c", program))
    handle.signal(INT)
    time.sleep(0.3)
    assert handle.get("/").body == b"done"
    assert handle.stop(TERM) == 0


def test_hangup_keeps_its_default_action(server: Servers) -> None:
    handle = server.start(APP)
    handle.expect_errors(-signal.SIGHUP)
    assert handle.stop(signal.SIGHUP) == -signal.SIGHUP


# ---- handlers of applications ----

HANDLERS = "tests.apps.handlers:"


@pytest.mark.parametrize(
    ("app", "told"),
    [
        ("at_once", "handler: flushed"),
        ("in_thread", ""),
        ("by_asyncio", "asyncio: called"),
    ],
)
def test_handler_that_hands_the_signal_on(server: Servers, app: str, told: str) -> None:
    handle = server.start(HANDLERS + app)
    assert handle.get("/").body == b"done"
    assert handle.stop(TERM) == 0
    log = handle.stderr()
    assert log.index(told) < log.index("Received SIGTERM: shutting down")
    assert log.count("lifespan: shutdown") == 1


def test_handler_that_hands_the_signal_on_later(server: Servers) -> None:
    handle = server.start(HANDLERS + "later")
    handle.signal(TERM)
    handle.wait_for_log("handler: later")
    assert handle.get("/").body == b"done", "who replaces the handler decides when the stop begins"
    assert handle.wait() == 0
    assert "Received SIGTERM: shutting down" in handle.stderr()


def test_handler_from_before_is_called_after_the_shutdown(server: Servers) -> None:
    handle = server.start(HANDLERS + "of_import")
    assert handle.stop(TERM) == 0
    log = handle.stderr()
    assert log.index("lifespan: shutdown") < log.index("handler of the import: 15")


@pytest.mark.parametrize("path", ["/task", "/wait", "/thread"])
def test_application_learns_of_the_stop(server: Servers, path: str) -> None:
    handle = server.start(HANDLERS + "knowing", "--graceful-timeout", "60")
    with handle.connect() as client:
        client.send(f"GET {path} HTTP/1.1\r\nHost: t\r\n\r\n".encode())
        client.read_until(b"first")
        handle.signal(TERM)
        assert b" last" in client.read_until(b"0\r\n\r\n")
    assert handle.wait() == 0


@pytest.mark.parametrize(("app", "end"), [("sse", b""), ("patched", b"0\r\n\r\n")])
def test_stream_of_a_library_ends_at_the_stop(server: Servers, app: str, end: bytes) -> None:
    """The client reads everything up to the end of the connection, and the graceful timeout is not needed."""
    handle = server.start(f"tests.apps.streams_that_end:{app}", "--graceful-timeout", "60")
    with handle.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
        client.read_until(b"tick")
        handle.signal(TERM)
        rest = client.read_all()
        assert rest.endswith(end)
        assert handle.wait() == 0
    assert "Killed" not in handle.stderr()


# ---- before there is a server ----

SLOW = "tests.apps.imports_slowly:app"


def test_interrupt_during_the_import(server: Servers) -> None:
    handle = server.spawn(SLOW)
    handle.expect_errors(130)
    handle.wait_for_log("importing", 60)
    assert handle.stop(INT, timeout=10) == 130
    assert "Traceback" not in handle.stderr()


def test_sigterm_during_the_import(server: Servers) -> None:
    handle = server.spawn(SLOW)
    handle.expect_errors(-TERM)
    handle.wait_for_log("importing", 60)
    assert handle.stop(TERM, timeout=10) == -TERM


CONTAINER = ["unshare", "--map-root-user", "--pid", "--fork", "--kill-child"]


@pytest.mark.parametrize(("sig", "status"), [(TERM, 143), (INT, 130)])
def test_signal_during_the_import_of_process_1(sig: int, status: int) -> None:
    if subprocess.run([*CONTAINER, "true"], capture_output=True).returncode:
        pytest.skip("this machine has no unprivileged pid namespaces")
    command = [*CONTAINER, sys.executable, "-m", "pyasgi", "-p", "0", SLOW]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as outer:
        assert outer.stderr is not None
        while "importing" not in outer.stderr.readline():
            assert outer.poll() is None
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
        (inner,) = map(int, children.read_text().split())
        os.kill(inner, sig)
        assert outer.wait(20) == status


# ---- Server in a program of its own ----

THREAD = """
import http.client, signal, socket, threading
from pyasgi.server import Server
from tests.apps.basic import app

before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
ready = threading.Event()
for round in range(2):
    ready.clear()
    server = Server(app, ["tcp:0:interface=127.0.0.1"], ready_callable=ready.set)
    thread = threading.Thread(target=server.run)
    thread.start()
    assert ready.wait(20)
    connection = http.client.HTTPConnection(*server.listening_addresses[0])
    connection.request("GET", "/")
    assert connection.getresponse().read() == b"hello"
    assert server.connections
    connection.close()
    server.stop()
    thread.join(20)
    assert not thread.is_alive()
    assert not server.connections and not server.abort_start
assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before

ready.clear()
server = Server(app, ["tcp:0"], ready_callable=lambda: server.stop())
server.run()
assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before

def not_ready():
    raise ZeroDivisionError

try:
    Server(app, ["tcp:0"], ready_callable=not_ready).run()
except ZeroDivisionError:
    print("all good")
"""


def program(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True, timeout=60
    )


def test_server_in_a_thread_and_again() -> None:
    done = program(THREAD)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "all good\n"


def test_without_signal_handlers_sigterm_kills() -> None:
    text = """
from pyasgi.server import Server
from tests.apps.basic import app
Server(app, ["tcp:0"], signal_handlers=False, ready_callable=lambda: print("ready", flush=True)).run()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", text], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.wait(10) == -TERM


def test_run_function() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        text = f"import pyasgi; from tests.apps.basic import app; pyasgi.run(app, port={port})"
        done = program(text)
    assert done.returncode == 1
    assert f"127.0.0.1:{port}: address already in use" in done.stderr
