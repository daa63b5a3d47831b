"""The server fixture: the real command line in a subprocess, spoken to over real sockets.

``server.start("tests.apps.basic:app", "--http-timeout", "1")`` gives a :class:`Handle`. At teardown every server that
still runs is stopped with SIGTERM and inspected: exit status 0, no traceback and no ERROR line on stderr (unless the
test called ``handle.expect_errors()``), no descriptor leaked, and with a CD_DEBUG extension no live object left.
"""

from __future__ import annotations

import ast
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from signal import SIGTERM
from typing import IO, Any

import pytest

from tests.authority import Authority, Issued

ROOT = Path(__file__).resolve().parent.parent
LISTENING = re.compile(r"Listening on TCP address (\S+):(\d+)")
TROUBLE = re.compile(
    r"Traceback \(most recent call last\)|\b(ERROR|CRITICAL)\b|was never awaited|was never retrieved"
    r"|Task was destroyed|ResourceWarning|AddressSanitizer|runtime error:|Fatal Python error"
)
TCP = ("-b", "127.0.0.1", "-p", "0")
# The environment of programs of others, which hang or stumble with the library of ASan in front.
FOREIGN = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
START_SECONDS = 60.0  # an ASan build with a Django project on a busy machine


def wait_for(
    condition: Callable[[], object], timeout: float = 10.0, what: str = "condition"
) -> object:
    """Polls until condition() is true and returns its value; fails the test after timeout seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not come true within {timeout} s")
        time.sleep(0.01)


def run_go(arguments: Sequence[str], cwd: Path = ROOT, **environment: str) -> None:
    """Runs the go command, which fetches modules from its proxy; skips the test where that is not to be had."""
    # A distribution's, first in PATH, may be too old.
    go = shutil.which("go", path=f"/usr/local/go/bin:{FOREIGN.get('PATH', '')}")
    if go is None:
        pytest.skip(f"there is no go for: go {' '.join(arguments)}")
    done = subprocess.run(
        [go, *arguments],
        cwd=cwd,
        env={**FOREIGN, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode != 0:
        pytest.skip(f"go {' '.join(arguments)}: {done.stderr[-200:]}")


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


class Response:
    """One HTTP response as it stood on the wire; header names lower-case, repeated ones joined by ', '."""

    def __init__(
        self, version: str, status: int, reason: str, headers: dict[str, str], body: bytes
    ) -> None:
        self.version = version
        self.status = status
        self.reason = reason
        self.headers = headers
        self.body = body

    @property
    def text(self) -> str:
        return self.body.decode()

    def __repr__(self) -> str:
        return f"<Response {self.status} {self.reason} {self.headers} {self.body[:200]!r}>"


class RawClient:
    """A socket with the few reads that protocol tests need. Every read has the socket's timeout."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = b""

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def recv(self, size: int = 65536) -> bytes:
        """Bytes, b"" at the end of the stream; ConnectionResetError when the server cut the connection."""
        if self.buffer:
            data, self.buffer = self.buffer[:size], self.buffer[size:]
            return data
        return self.sock.recv(size)

    def read_until(self, mark: bytes) -> bytes:
        """Everything up to and including mark."""
        while mark not in self.buffer:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError(f"end of stream before {mark!r}: {self.buffer!r}")
            self.buffer += data
        end = self.buffer.index(mark) + len(mark)
        data, self.buffer = self.buffer[:end], self.buffer[end:]
        return data

    def read_exactly(self, size: int) -> bytes:
        while len(self.buffer) < size:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError(
                    f"end of stream, {size - len(self.buffer)} bytes missing: {self.buffer!r}"
                )
            self.buffer += data
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def read_all(self) -> bytes:
        """Everything until the server closes."""
        while data := self.sock.recv(65536):
            self.buffer += data
        data, self.buffer = self.buffer, b""
        return data

    def response(self, method: str = "GET") -> Response:
        """The next response; bodies by Content-Length, chunked, or until the end of the stream."""
        head = self.read_until(b"\r\n\r\n").decode("latin-1")
        status_line, *lines = head[:-4].split("\r\n")
        version, code, reason = (status_line + " ").split(" ", 2)
        headers: dict[str, str] = {}
        for line in lines:
            name, value = line.split(":", 1)
            key = name.strip().lower()
            headers[key] = f"{headers[key]}, {value.strip()}" if key in headers else value.strip()
        status = int(code)
        body = b""
        if method != "HEAD" and status >= 200 and status not in (204, 304):
            body = self._body(headers)
        return Response(version, status, reason.strip(), headers, body)

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self.read_until(b"\r\n")[:-2], 16):
                body += self.read_exactly(size)
                assert self.read_exactly(2) == b"\r\n"
            assert self.read_exactly(2) == b"\r\n"
            return body
        if "content-length" in headers:
            return self.read_exactly(int(headers["content-length"]))
        return self.read_all()

    def request(self, data: bytes, method: str = "GET") -> Response:
        self.send(data)
        return self.response(method)

    def closed(self) -> bool:
        """Waits for the server to close; True for FIN and RST, False when bytes arrive instead."""
        try:
            return self.recv() == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


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


def pytest_configure() -> None:
    """A shell that runs us in the background has SIGINT ignored, and our servers would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts the server is marked so: `make test` runs it again in other surroundings."""
    for item in items:
        if "server" in getattr(item, "fixturenames", ()):
            item.add_marker("server")


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority for the tests of one file."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def site(ca: Authority) -> Issued:
    """The server's certificate."""
    return ca.issue("site")


@pytest.fixture
def server() -> Iterator[Servers]:
    """Factory of servers; see the module's docstring."""
    servers = Servers()
    yield servers
    servers.finish()


def python(code: str, *path: Path | str, program: str = sys.executable) -> str:
    """Runs code in a fresh process with these folders first on sys.path, and returns what it printed."""
    done = subprocess.run(
        [program, "-W", "error", "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*path, ROOT)))},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")


@pytest.fixture
def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
