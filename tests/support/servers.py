"""Starts servers by the real command line; the value of the fixture ``server``."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.handle import Handle
from tests.support.programs import ROOT

LISTENING = re.compile(r"Listening on TCP address (\S+):(\d+)")
TCP = ("-b", "127.0.0.1", "-p", "0")
START_SECONDS = 60.0  # an ASan build with a Django project on a busy machine


class Servers:
    """Starts servers; the fixture's value."""

    def __init__(self) -> None:
        self.handles: list[Handle] = []

    def spawn(
        self,
        app: str,
        *args: str,
        env: Mapping[str, str | None] | None = None,
        bind: Sequence[str] = TCP,
        cwd: Path | str = ROOT,
        module: Sequence[str] = ("-m", "pyasgi"),
        **popen: Any,
    ) -> Handle:
        """Starts the command line and returns at once; env entries of None are removed."""
        environment = {**os.environ, "CDAPHNE_DEBUG_LIVE": "1", "PYTHONFAULTHANDLER": "1"}
        for name, value in (env or {}).items():
            if value is None:
                environment.pop(name, None)
            else:
                environment[name] = value
        if Path(cwd) != ROOT:
            environment["PYTHONPATH"] = os.pathsep.join(
                filter(None, [str(ROOT), environment.get("PYTHONPATH")])
            )
        command = [sys.executable, *module, app, *bind, *args]
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment,
            stdin=popen.pop("stdin", subprocess.DEVNULL),
            stdout=popen.pop("stdout", subprocess.PIPE),
            stderr=subprocess.PIPE,
            **popen,
        )
        handle = Handle(process, "127.0.0.1")
        self.handles.append(handle)
        return handle

    def start(
        self,
        app: str = "tests.apps.basic:app",
        *args: str,
        env: Mapping[str, str | None] | None = None,
        bind: Sequence[str] = TCP,
        unix: str | Path | None = None,
        **popen: Any,
    ) -> Handle:
        """Starts a server and waits until it listens: on TCP, or on the unix socket given as `unix`.

        bind: the arguments that say where; () for a test that says it all in args.
        """
        if unix is not None:
            bind = ("-u", str(unix))
        handle = self.spawn(app, *args, env=env, bind=bind, **popen)
        deadline = time.monotonic() + START_SECONDS
        while not self._listens(handle, unix):
            if handle.process.poll() is not None:
                handle.expect_errors()
                pytest.fail(
                    f"the server ended with status {handle.wait()}; stderr:\n{handle.stderr()}"
                )
            if time.monotonic() > deadline:
                pytest.fail(
                    f"the server did not listen within {START_SECONDS} s; stderr:\n{handle.stderr()}"
                )
            time.sleep(0.01)
        return handle

    def _listens(self, handle: Handle, unix: str | Path | None) -> bool:
        if unix is not None:
            handle.unix = str(unix)
            try:
                handle.connect().close()
            except (FileNotFoundError, ConnectionRefusedError):
                return False
            return True
        found = LISTENING.search(handle.stderr())
        if found is None:
            return False
        handle.host, handle.port = found.group(1), int(found.group(2))
        if handle.host == "0.0.0.0":
            handle.host = "127.0.0.1"
        return True

    def finish(self) -> None:
        """Stops and checks all; the first complaint is raised after the last server has ended."""
        complaints: list[BaseException] = []
        for handle in self.handles:
            try:
                handle.check()
            except (AssertionError, pytest.fail.Exception) as complaint:
                complaints.append(complaint)
        if complaints:
            raise complaints[0]
