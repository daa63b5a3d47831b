"""The real supervisord with one program."""

from __future__ import annotations

import configparser
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.programs import ROOT
from tests.support.wait import wait_for

APP = "tests.apps.stubborn:app"


def tool(name: str) -> str:
    """A program of Debian's supervisor package."""
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is not installed: apt-get install supervisor (scripts/packages.txt)")
    return found


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=20)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(self._path)


class Supervisor:
    """A supervisord of our own with one program, in the foreground of a subprocess."""

    def __init__(self, folder: Path, section: str, flags: str, **settings: str) -> None:
        self.folder = folder
        self.config = folder / "supervisord.conf"
        # What the tests preload or set for Python is for the server, not for supervisord's own Python.
        ours = {name: value for name, value in os.environ.items() if name in FOR_THE_SERVER}
        quoted = ",".join(f'{name}="{value}"' for name, value in ours.items())
        config = configparser.RawConfigParser()
        config.read_dict(
            {
                "supervisord": {
                    "nodaemon": "true",
                    "logfile": f"{folder}/supervisord.log",
                    "pidfile": f"{folder}/supervisord.pid",
                    "childlogdir": str(folder),
                },
                "unix_http_server": {"file": f"{folder}/ctl"},
                "supervisorctl": {"serverurl": f"unix://{folder}/ctl"},
                "rpcinterface:supervisor": {
                    "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
                },
                section: {
                    "command": f"{sys.executable} -m pyasgi {flags} {APP}",
                    "directory": str(ROOT),
                    "environment": quoted,
                    "autorestart": "unexpected",
                    "startsecs": "0",
                    "stdout_logfile": f"{folder}/out.log",
                    "stderr_logfile": f"{folder}/err.log",
                    **settings,
                },
            }
        )
        with self.config.open("w") as file:
            config.write(file)
        rest = {name: value for name, value in os.environ.items() if name not in FOR_THE_SERVER}
        self.process = subprocess.Popen(
            [tool("supervisord"), "-c", str(self.config)], env=rest, stdout=subprocess.DEVNULL
        )
        self.environment = rest

    def ctl(self, *words: str) -> str:
        done = subprocess.run(
            [tool("supervisorctl"), "-c", str(self.config), *words],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.stdout + done.stderr

    def pids(self) -> list[int]:
        words = self.ctl("pid", "all").split()
        return [int(word) for word in words if word.isdigit() and word != "0"]

    def log(self) -> str:
        return self.read("supervisord.log")

    def read(self, name: str) -> str:
        path = self.folder / name
        return path.read_text() if path.exists() else ""

    def wait_for_start(self, times: int = 1) -> None:
        wait_for(lambda: self.started() >= times, 60, f"{times} starts; see {self.read('err.log')}")

    def started(self) -> int:
        """How many times a server said that it listens."""
        return self.read("err.log").count("Listening on TCP address")

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


FOR_THE_SERVER = {
    "LD_PRELOAD",
    "ASAN_OPTIONS",
    "UBSAN_OPTIONS",
    "LSAN_OPTIONS",
    "PYTHONASYNCIODEBUG",
    "PYTHONPATH",
    "PYTHONHOME",
    "VIRTUAL_ENV",
}


def get(port: int, path: str = "/") -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path)
    try:
        return connection.getresponse().read()
    finally:
        connection.close()
