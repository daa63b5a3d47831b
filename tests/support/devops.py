"""The project of examples/devops on a server, for the tests in a browser."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from tests.support.chromium import PATIENCE
from tests.support.handle import TROUBLE, Handle
from tests.support.programs import ROOT
from tests.support.servers import Servers

DEVOPS = ROOT / "examples" / "devops"
PAUSE = 0.12  # seconds between two lines of a deployment


class Devops:
    """The devops project with a database of its own, and the server it runs on."""

    def __init__(self, servers: Servers, redis_url: str, folder: Path) -> None:
        self.servers = servers
        self.env = {
            "DJANGO_SETTINGS_MODULE": "devops.settings",
            "DEVOPS_DB": str(folder / "db.sqlite3"),
            "DEVOPS_PAUSE": str(PAUSE),
            "REDIS_URL": redis_url,
        }
        self.foreign: list[Handle] = []
        self.handle: Handle | None = None

    def manage(self, *args: str) -> str:
        """Runs manage.py in a process of its own and returns what it printed."""
        done = subprocess.run(
            [sys.executable, "manage.py", *args],
            cwd=DEVOPS,
            env={**os.environ, **self.env},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (
            f"manage.py {' '.join(args)}: status {done.returncode}\n{done.stderr}"
        )
        return done.stdout

    def start(self, port: int = 0) -> None:
        """Starts the server on this port, 0 for a free one."""
        if command := os.environ.get("CDAPHNE_SERVER_CMD"):
            self.handle = self._start_foreign([*shlex.split(command), "-p", str(port)])
        else:
            bind = ("-b", "127.0.0.1", "-p", str(port))
            self.handle = self.servers.start(
                "devops.asgi:application", bind=bind, cwd=DEVOPS, env={**self.env}
            )

    def _start_foreign(self, command: list[str]) -> Handle:
        process = subprocess.Popen(
            command,
            cwd=DEVOPS,
            env={**os.environ, **self.env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        handle = Handle(process, "127.0.0.1")
        self.foreign.append(handle)
        handle.port = int(
            handle.wait_for_log(r"Listening on TCP address \S+:(\d+)", PATIENCE).group(1)
        )
        return handle

    @property
    def running(self) -> Handle:
        assert self.handle is not None, "start() comes first"
        return self.handle

    def kill(self) -> int:
        """SIGKILL, as the kernel does it when memory runs out; returns the port."""
        handle = self.running
        handle.expect_errors()  # of the exit status; the log is looked at here
        handle.process.kill()
        handle.wait()
        trouble = TROUBLE.search(handle.stderr())
        assert trouble is None, f"before it was killed, the server logged:\n{handle.stderr()}"
        return handle.port

    def stop_foreign(self) -> None:
        for handle in self.foreign:
            handle.stop()
