"""Under the real supervisord: program and fcgi-program with --fd 0, stop, restart, respawn."""

from __future__ import annotations

import http.client
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.supervisor import Supervisor, UnixConnection, get
from tests.support.wait import wait_for


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def running() -> Iterator[list[Supervisor]]:
    found: list[Supervisor] = []
    yield found
    for supervisor in found:
        supervisor.close()
        log = supervisor.read("err.log")
        assert "Traceback" not in log, log
        assert "ERROR" not in log, log


def test_program(running: list[Supervisor], folder: Path, free_port: int) -> None:
    supervisor = Supervisor(folder, "program:web", f"-p {free_port} --access-log -")
    running.append(supervisor)
    supervisor.wait_for_start()
    assert get(free_port) == b"done"
    (first,) = supervisor.pids()

    answers: list[bytes] = []
    slow = threading.Thread(target=lambda: answers.append(get(free_port, "/sleep/1")))
    slow.start()
    wait_for(lambda: "begins /sleep/1" in supervisor.read("err.log"), what="the slow request")
    assert "web: started" in supervisor.ctl("restart", "web")
    slow.join()
    assert answers == [b"done"], "the restart waited for the running request"
    assert "stopped: web (exit status 0)" in supervisor.log()

    supervisor.wait_for_start(2)
    assert get(free_port) == b"done"
    (second,) = supervisor.pids()
    assert second != first

    os.kill(second, signal.SIGKILL)
    supervisor.wait_for_start(3)
    assert get(free_port) == b"done", "a killed server is started again"

    assert "web: stopped" in supervisor.ctl("stop", "web")
    assert supervisor.log().count("stopped: web (exit status 0)") == 2
    assert supervisor.read("out.log").count('"GET /" 200 4') == 3


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_fcgi_program(running: list[Supervisor], folder: Path, free_port: int, kind: str) -> None:
    path = f"{folder}/web.sock"
    address = f"tcp://127.0.0.1:{free_port}" if kind == "tcp" else f"unix://{path}"

    def request() -> bytes:
        connection = (
            http.client.HTTPConnection("127.0.0.1", free_port, timeout=20)
            if kind == "tcp"
            else UnixConnection(path)
        )
        connection.request("GET", "/")
        try:
            return connection.getresponse().read()
        finally:
            connection.close()

    supervisor = Supervisor(
        folder,
        "fcgi-program:web",
        "--fd 0 -v 2",
        socket=address,
        numprocs="2",
        process_name="%(program_name)s_%(process_num)d",
    )
    running.append(supervisor)
    wait_for(
        lambda: supervisor.read("err.log").count("Configuring endpoint") == 2, 60, "two starts"
    )
    assert request() == b"done"
    before = supervisor.pids()
    assert len(before) == 2

    # One after the other: supervisor's socket stays, so no connection is refused.
    stop = threading.Event()
    answers: list[bytes] = []
    failures: list[Exception] = []

    def hammer() -> None:
        while not stop.is_set():
            try:
                answers.append(request())
            except (OSError, http.client.HTTPException) as error:
                failures.append(error)

    thread = threading.Thread(target=hammer)
    thread.start()
    for name in ("web:web_0", "web:web_1"):
        assert "started" in supervisor.ctl("restart", name)
    stop.set()
    thread.join()
    assert failures == []
    assert set(answers) == {b"done"}
    assert not set(before) & set(supervisor.pids())
    assert "stopped" in supervisor.ctl("stop", "web:*")
    assert supervisor.log().count("(exit status 0)") == 4


def test_bad_flag_is_told_once_and_not_tried_for_ever(
    running: list[Supervisor], folder: Path
) -> None:
    supervisor = Supervisor(
        folder, "program:web", "-p 0 --htp-timeout 3", startretries="1", startsecs="1"
    )
    running.append(supervisor)
    wait_for(
        lambda: "gave up: web entered FATAL state" in supervisor.log(), 30, "supervisor gives up"
    )
    assert "unknown flag --htp-timeout; did you mean --http-timeout?" in supervisor.read("err.log")
