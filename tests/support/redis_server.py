"""A redis-server for one test; a module takes the fixture with ``redis_url = redis_server.redis_url``."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.wait import wait_for


def answers_ping(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


@pytest.fixture
def redis_url(free_port: int, tmp_path: Path) -> Iterator[str]:
    """The URL of a redis-server of our own, which keeps nothing."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.fail("redis-server is not installed: apt-get install redis-server")
    command = [program, "--bind", "127.0.0.1", "--port", str(free_port)]
    command += ["--save", "", "--appendonly", "no", "--dir", str(tmp_path)]
    log = tmp_path / "redis.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        wait_for(
            lambda: answers_ping(free_port) or process.poll() is not None,
            what="an answer of redis-server",
        )
        assert process.poll() is None, f"redis-server ended: {log.read_text()}"
        yield f"redis://127.0.0.1:{free_port}/0"
    finally:
        process.terminate()
        process.wait(10)
