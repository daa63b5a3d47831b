"""pyasgi.testing.DaphneProcess: a server in a process of its own, as channels.testing and projects use it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pyasgi.testing import DaphneProcess
from tests.apps import served
from tests.support.ipv6 import needs_ipv6
from tests.support.programs import ROOT
from tests.support.wait import wait_for

START = 60.0  # seconds, on a busy machine
METHODS = ("fork", "forkserver", "spawn")

# Python 3.12 and newer: the tests' process has threads, as those of other projects have.
pytestmark = [
    pytest.mark.server,
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]

DRIVER = """
import multiprocessing, sys, time, urllib.request
from functools import partial

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    from pathlib import Path
    from pyasgi.testing import DaphneProcess
    from tests.apps import served

    kind = getattr(served, sys.argv[2], DaphneProcess)
    process = kind("127.0.0.1", served.get_hello, {"server_name": "x"}, served.Note(Path(sys.argv[3]), "setup"))
    process.start()
    assert process.ready.wait(60), process.errors.get()
    with urllib.request.urlopen(f"http://127.0.0.1:{process.port.value}/") as answer:
        assert answer.headers["server"] == "x"
        assert int(answer.read()) == process.pid
    before = time.monotonic()
    process.terminate()
    process.join()
    print(process.exitcode, time.monotonic() - before < 5)
"""


def get(port: int, path: str = "/", host: str = "127.0.0.1") -> bytes:
    with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=30) as answer:
        body: bytes = answer.read()
        return body


@contextlib.contextmanager
def serving(process: DaphneProcess) -> Iterator[DaphneProcess]:
    """Starts the process, waits until it is ready, and ends it."""
    process.start()
    try:
        assert process.ready.wait(START), process.errors.get(timeout=1)
        yield process
    finally:
        process.terminate()
        process.join(30)
        process.errors.close()


@pytest.fixture
def failing() -> Callable[[DaphneProcess], tuple[BaseException, str]]:
    """Runs a process that cannot start, and gives what it reports."""

    def run(process: DaphneProcess) -> tuple[BaseException, str]:
        process.start()
        error, text = process.errors.get(timeout=START)
        process.join(30)
        assert process.exitcode == 0
        assert not process.ready.is_set()
        process.errors.close()
        return error, text

    return run


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["DaphneProcess", "Announced", "WithDaphnesRun", "WithoutTwisted"])
def test_every_start_method(method: str, kind: str, tmp_path: Path) -> None:
    driver, notes = tmp_path / "driver.py", tmp_path / "notes"
    driver.write_text(DRIVER)
    done = subprocess.run(
        [sys.executable, str(driver), method, kind, str(notes)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(-signal.SIGTERM), "True"]
    if kind in ("DaphneProcess", "Announced"):  # the others call no setup
        assert notes.read_text() == "setup\n"


@pytest.mark.parametrize("path", ["/hang", "/block"])
def test_terminate_ends_it_at_once_whatever_runs(path: str) -> None:
    with serving(DaphneProcess("127.0.0.1", served.get_hello)) as process:
        with socket.create_connection(("127.0.0.1", process.port.value)) as client:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            time.sleep(0.2)
            before = time.monotonic()
            process.terminate()
            process.join(30)
            assert time.monotonic() - before < 5
        assert process.exitcode == -signal.SIGTERM


def test_started_while_other_threads_and_a_loop_run() -> None:
    from pyasgi import server

    done = threading.Event()
    main = server.Server(
        served.hello, endpoints=["tcp:0:interface=127.0.0.1"], signal_handlers=False
    )
    main.ready_callable = done.set
    thread = threading.Thread(target=main.run)
    thread.start()
    try:
        assert done.wait(START)
        with serving(DaphneProcess("127.0.0.1", served.get_hello)) as process:
            assert int(get(process.port.value)) == process.pid
            assert int(get(main.listening_addresses[0][1])) == os.getpid()
        assert int(get(main.listening_addresses[0][1])) == os.getpid()
    finally:
        main.stop()
        thread.join(30)
    assert not thread.is_alive()


def test_setup_and_teardown_around_a_server_that_ends_itself(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    setup, teardown = served.Note(notes, "setup"), served.Note(notes, "teardown")
    with serving(
        DaphneProcess("127.0.0.1", served.get_hello, setup=setup, teardown=teardown)
    ) as process:
        assert notes.read_text() == "setup\n"
        get(process.port.value, "/stop")
        process.join(30)
        assert process.exitcode == 0
        assert process.errors.empty()
    assert notes.read_text() == "setup\nteardown\n"


def test_the_port_that_was_asked_for(free_port: int) -> None:
    with serving(DaphneProcess("127.0.0.1", served.get_hello, port=free_port)) as process:
        assert process.port.value == free_port
        assert int(get(free_port)) == process.pid


@needs_ipv6
def test_localhost_is_all_its_addresses_on_one_port() -> None:
    addresses = {entry[4][0] for entry in socket.getaddrinfo("localhost", 80)}
    with serving(DaphneProcess("localhost", served.get_hello)) as process:
        for address in addresses:
            host = f"[{address}]" if ":" in address else address
            assert int(get(process.port.value, host=host)) == process.pid


def test_reports_what_get_application_raises(failing: Any) -> None:
    error, text = failing(DaphneProcess("127.0.0.1", served.get_broken))
    assert isinstance(error, LookupError)
    assert "no application today" in text


def test_reports_an_exception_that_cannot_be_pickled(failing: Any) -> None:
    error, text = failing(DaphneProcess("127.0.0.1", served.get_stubborn))
    assert isinstance(error, RuntimeError)
    assert str(error) == "Stubborn: cannot be pickled"
    assert "get_stubborn" in text


def test_reports_what_setup_raises(failing: Any) -> None:
    setup = partial(sys.exit, "not set up")
    error, _ = failing(DaphneProcess("127.0.0.1", served.get_hello, setup=setup))
    assert isinstance(error, SystemExit)


def test_reports_a_port_that_is_taken(failing: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error, _ = failing(DaphneProcess("127.0.0.1", served.get_hello, port=port))
    assert "address already in use" in str(error)


def test_reports_a_wrong_argument(failing: Any) -> None:
    error, _ = failing(DaphneProcess("127.0.0.1", served.get_hello, {"no_such_argument": 1}))
    assert isinstance(error, TypeError)


def test_a_daemonic_process_may_start_one_and_none_outlives_its_parent() -> None:
    ports: multiprocessing.Queue[tuple[int, int]] = multiprocessing.Queue()
    parent = multiprocessing.Process(target=served.start_from_here, args=(ports,), daemon=True)
    parent.start()
    port, pid = ports.get(timeout=START)
    assert int(get(port)) == pid
    parent.kill()
    parent.join(30)

    def gone() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True

    wait_for(gone, 20, "the end of the orphan")
    ports.close()
