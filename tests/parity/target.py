"""The two servers under comparison, and how to start them.

The real daphne comes from PyPI and lives in build/daphne-venv, made once: its packages must not be
in the environment that tests cdaphne. Servers are kept per set of flags and shared between rows.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.handle import Handle
from tests.support.programs import ROOT
from tests.support.servers import LISTENING, START_SECONDS, TCP

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
VENV = ROOT / "build" / "daphne-venv"
APP = "tests.parity.apps:app"


class NoDaphneError(Exception):
    """Says in one line why there is no daphne to compare with."""


def install_daphne() -> Path:
    """The Python of daphne's environment; made once, whoever asks first (xdist has several workers)."""
    VENV.parent.mkdir(parents=True, exist_ok=True)
    with open(VENV.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = VENV / "requirements.txt"
        if not made.exists() or made.read_text() != REQUIREMENTS.read_text():
            run_or_explain([sys.executable, "-m", "venv", "--clear", str(VENV)])
            pip = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--quiet"]
            run_or_explain([*pip, "--disable-pip-version-check", "-r", str(REQUIREMENTS)])
            made.write_text(REQUIREMENTS.read_text())
    return VENV / "bin" / "python"


def run_or_explain(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise NoDaphneError(
            f"no daphne to compare with, PyPI is needed once: {' '.join(command)}: {last}"
        )


class Target:
    """One of the two servers. name: "daphne" or "cdaphne"; command: its command line."""

    def __init__(self, name: str, command: list[str]) -> None:
        self.name = name
        self.command = command
        self._shared: dict[tuple[str, ...], Handle] = {}
        self._lock = threading.Lock()

    def spawn(self, *args: str, app: str = APP, **popen: Any) -> subprocess.Popen[bytes]:
        """The process with its output in pipes; the caller ends it."""
        given = popen.pop("env", os.environ)
        environment = {**given, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.Popen(
            [*self.command, *args, *([app] if app else [])],
            cwd=ROOT,
            env=environment,
            **{
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                **popen,
            },
        )

    def server(self, *flags: str) -> Handle:
        """A running server with these flags; everybody who asks for them gets the same one."""
        with self._lock:
            handle = self._shared.get(flags)
            if handle is None:
                handle = self._shared[flags] = listening(Handle(self.spawn(*TCP, *flags), ""))
            return handle

    @contextmanager
    def private(self, *flags: str, bind: tuple[str, ...] = TCP, **popen: Any) -> Iterator[Handle]:
        """A server of the row's own, which may harm it; killed at the end."""
        handle = Handle(self.spawn(*bind, *flags, **popen), "")
        try:
            yield listening(handle) if bind == TCP else handle
        finally:
            end(handle)

    def run(self, *args: str, app: str = APP) -> tuple[int, str, str]:
        """(exit status, stdout, stderr) of a command line that ends by itself."""
        process = self.spawn(*args, app=app)
        try:
            out, err = process.communicate(timeout=START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        return process.returncode, out.decode(), err.decode()

    def close(self) -> None:
        for handle in self._shared.values():
            end(handle)


def listening(handle: Handle) -> Handle:
    deadline = time.monotonic() + START_SECONDS
    while not (found := LISTENING.search(handle.stderr())):
        if handle.process.poll() is not None or time.monotonic() > deadline:
            end(handle)
            raise AssertionError(f"the server did not start:\n{handle.stderr()}")
        time.sleep(0.02)
    handle.host, handle.port = found.group(1), int(found.group(2))
    return handle


def end(handle: Handle) -> None:
    if handle.process.poll() is None:
        handle.process.kill()
    handle.wait()


def targets() -> tuple[Target, Target]:
    """daphne and cdaphne."""
    return (
        Target("daphne", [str(install_daphne()), "-m", "daphne"]),
        Target("cdaphne", [sys.executable, "-m", "pyasgi"]),
    )
