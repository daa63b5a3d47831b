"""A running server: its addresses, its log, its end, and what it may not leave behind."""

from __future__ import annotations

import ast
import http.client
import os
import re
import signal
import socket
import subprocess
import threading
from pathlib import Path
from signal import SIGTERM
from typing import IO

import pytest

from tests.support.client import RawClient, Response
from tests.support.wait import wait_for

TROUBLE = re.compile(
    r"Traceback \(most recent call last\)|\b(ERROR|CRITICAL)\b|was never awaited|was never retrieved"
    r"|Task was destroyed|ResourceWarning|AddressSanitizer|runtime error:|Fatal Python error"
)


class Collector:
    """Reads a pipe in a thread, so that the server never blocks on it."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._chunks: list[bytes] = []
        self._pipe = pipe
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while chunk := self._pipe.read1(65536):  # type: ignore[attr-defined]
            self._chunks.append(chunk)
        self._pipe.close()

    def text(self) -> str:
        return b"".join(self._chunks).decode("utf-8", "backslashreplace")

    def join(self) -> str:
        self._thread.join(10)
        return self.text()


class Handle:
    """A running server."""

    def __init__(self, process: subprocess.Popen[bytes], host: str) -> None:
        assert process.stderr is not None
        self.process = process
        self.host = host
        self.port = 0
        self.unix: str | None = None
        self._stdout = None if process.stdout is None else Collector(process.stdout)
        self._stderr = Collector(process.stderr)
        self._errors_expected = False
        self._status_expected = 0
        self._leaks_expected = False

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://{self.host}:{self.port}"

    def stderr(self) -> str:
        return self._stderr.text()

    def stdout(self) -> str:
        """The access log, unless --access-log says otherwise."""
        return "" if self._stdout is None else self._stdout.text()

    def wait_for_log(self, pattern: str, timeout: float = 10.0) -> re.Match[str]:
        """Waits until stderr matches the regular expression."""
        found = wait_for(
            lambda: re.search(pattern, self.stderr()), timeout, f"log line {pattern!r}"
        )
        assert isinstance(found, re.Match)
        return found

    def expect_errors(self, status: int = 0) -> None:
        """This test makes the server log errors, and exit with status."""
        self._errors_expected = True
        self._status_expected = status

    def expect_leaks(self) -> None:
        """The application of this test keeps descriptors open at exit, or a thread that holds objects."""
        self._leaks_expected = True

    def connect(self, timeout: float = 10.0) -> RawClient:
        """A new raw connection."""
        if self.unix is not None:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.settimeout(timeout)
            try:
                sock.connect(self.unix)
            except OSError:
                sock.close()
                raise
            return RawClient(sock)
        return RawClient(socket.create_connection((self.host, self.port), timeout))

    def raw(self, data: bytes, timeout: float = 10.0) -> bytes:
        """Sends data on a new connection and returns all bytes until the server closes it."""
        with self.connect(timeout) as client:
            client.send(data)
            return client.read_all()

    def get(
        self,
        path: str = "/",
        headers: dict[str, str] | None = None,
        method: str = "GET",
        body: bytes | None = None,
        timeout: float = 10.0,
    ) -> Response:
        """One request with http.client on its own connection."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        if self.unix is not None:
            connection.sock = self.connect(timeout).sock
        try:
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            fields: dict[str, str] = {}
            for name, value in answer.getheaders():
                key = name.lower()
                fields[key] = f"{fields[key]}, {value}" if key in fields else value
            version = "HTTP/1.0" if answer.version == 10 else "HTTP/1.1"
            return Response(version, answer.status, answer.reason, fields, answer.read())
        finally:
            connection.close()

    def rss(self) -> int:
        """Resident memory of the server in bytes."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def fds(self) -> int:
        """Number of descriptors that the server has open now."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def signal(self, sig: int) -> None:
        self.process.send_signal(sig)

    def wait(self, timeout: float = 30.0) -> int:
        """Waits for the exit and returns the status; kills and fails after timeout seconds."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # faulthandler prints where it hangs
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            pytest.fail(
                f"the server did not end within {timeout} s; stderr:\n{self._stderr.join()}"
            )
        if self._stdout is not None:
            self._stdout.join()
        self._stderr.join()
        return status

    def stop(self, sig: int = SIGTERM, timeout: float = 30.0) -> int:
        """Sends sig, waits for the exit and returns the status."""
        if self.process.poll() is None:
            self.process.send_signal(sig)
        return self.wait(timeout)

    def check(self) -> None:
        """Stops the server if it still runs and inspects what it left behind."""
        ended = self.process.poll() is not None
        status = self.stop()
        log = self._stderr.join()
        if not ended or not self._errors_expected:
            assert status == self._status_expected, f"exit status {status}; stderr:\n{log}"
        if not self._errors_expected:
            trouble = TROUBLE.search(log)
            assert trouble is None, f"unexpected {trouble and trouble.group()!r}; stderr:\n{log}"
        if status == 0:
            self._check_leaks(log)

    def _check_leaks(self, log: str) -> None:
        live = re.search(r"^live: (\{.*\})$", log, re.M)
        if has_debug_counters():
            assert live, f"a CD_DEBUG server printed no live line; stderr:\n{log}"
        if live:
            left = {kind: count for kind, count in ast.literal_eval(live.group(1)).items() if count}
            assert self._leaks_expected or not left, f"live objects at exit: {left}; stderr:\n{log}"
        fds = re.search(r"^fds: (\[.*\])$", log, re.M)
        assert fds, f"the server printed no fds line; stderr:\n{log}"
        assert self._leaks_expected or fds.group(1) == "[]", f"descriptors leaked: {fds.group(1)}"


def has_debug_counters() -> bool:
    from pyasgi import _core

    return hasattr(_core, "debug_live")
