"""A PostgreSQL for one test; a module takes the fixture with ``postgres_port = postgres_server.postgres_port``."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.programs import FOREIGN
from tests.support.wait import wait_for


def program(name: str) -> str:
    """Debian keeps the programs of its versions out of PATH."""
    newest = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))[-1:]
    found = shutil.which(name) or "".join(map(str, newest))
    if not found:
        pytest.fail(f"{name} is not installed: apt-get install postgresql")
    return found


def account() -> str | None:
    """PostgreSQL refuses to run as root: the package's own user then."""
    return "postgres" if os.getuid() == 0 else None


@pytest.fixture
def postgres_port(free_port: int) -> Iterator[int]:
    """The port of an empty one on 127.0.0.1, which trusts its user postgres and keeps nothing."""
    user = account()
    with tempfile.TemporaryDirectory(prefix="cdaphne-postgres-") as folder:
        if user is not None:
            entry = pwd.getpwnam(user)
            os.chown(folder, entry.pw_uid, entry.pw_gid)
        data, log = Path(folder, "data"), Path(folder, "log")
        create = [program("initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "--no-sync"]
        subprocess.run(
            create, user=user, cwd=folder, env=FOREIGN, check=True, capture_output=True, timeout=50
        )
        command = [program("postgres"), "-D", str(data), "-h", "127.0.0.1", "-p", str(free_port)]
        command += ["-c", "unix_socket_directories=", "-c", "fsync=off"]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, user=user, cwd=folder, env=FOREIGN, stdout=output, stderr=output
            )
        try:
            wait_for(
                lambda: "ready to accept" in log.read_text() or process.poll() is not None,
                30,
                "PostgreSQL's readiness",
            )
            assert process.poll() is None, f"PostgreSQL ended: {log.read_text()}"
            yield free_port
        finally:
            process.send_signal(signal.SIGINT)  # it disconnects its clients
            process.wait(20)
