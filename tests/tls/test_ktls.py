"""kTLS: the kernel encrypts what cdaphne sends, and files go from the page cache into records.

Needs a kernel with the module tls; ``make ktls`` runs these tests in a virtual machine that has one. Whether a
connection is the kernel's is asked of its socket in the server, not of counters that other connections move too.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import socket
import ssl
import struct
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.authority import Authority, Issued
from tests.support.client import RawClient
from tests.support.handle import Handle
from tests.support.servers import Servers
from tests.support.wait import wait_for

pytestmark = pytest.mark.server

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
TCP_ULP, SOL_TLS, TLS_TX, TLS_RX = 31, 282, 1, 2  # linux/tcp.h, linux/tls.h
PIDFD_GETFD = 438
SIZE = 3_000_001
LINES = 300_000
WAIT = 60.0  # seconds: a virtual machine without help of the processor is slow


@pytest.fixture(scope="module", autouse=True)
def kernel() -> None:
    """Skips where the kernel has no kTLS; says which OpenSSL is about to use it."""
    from pyasgi import _core

    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as sock,
    ):
        try:
            sock.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")
        except OSError as error:
            pytest.skip(f"this kernel has no module tls ({error}): make ktls boots one")
    print(f"{_core.versions()}, Linux {os.uname().release}")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "file"
    path.write_bytes(os.urandom(SIZE))
    return path


def start(server: Servers, site: Issued, file: Path, *args: str) -> Handle:
    pair = ("--certfile", str(site.cert), "--keyfile", str(site.key))
    files = ("--extension=pathsend", "--extension=zerocopysend")
    return server.start("tests.tls.test_ktls:app", *pair, *files, *args, env={"FILE": str(file)})


def line(number: int) -> bytes:
    return b"%09d\n" % number


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """/OFFSET/COUNT: that part of the file; /lines: LINES lines, many at a time; else the whole file."""
    if scope["type"] != "http":
        raise NotImplementedError
    await send({"type": "http.response.start", "status": 200, "headers": []})
    words = scope["path"].strip("/").split("/")
    if words == ["lines"]:
        for first in range(0, LINES, 700):
            body = b"".join(map(line, range(first, min(first + 700, LINES))))
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body"})
    elif len(words) == 2:
        with open(os.environ["FILE"], "rb") as opened:  # noqa: ASYNC230
            part = {"offset": int(words[0]), "count": int(words[1]), "file": opened}
            await send({"type": "http.response.zerocopysend", **part})
    else:
        await send({"type": "http.response.pathsend", "path": os.environ["FILE"]})


def get(path: str) -> bytes:
    return f"GET /{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


@contextlib.contextmanager
def connected(handle: Handle, context: ssl.SSLContext, buffer: int = 0) -> Any:
    with socket.socket() as plain:
        plain.settimeout(WAIT)
        if buffer:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        plain.connect((handle.host, handle.port))
        with context.wrap_socket(
            plain, server_hostname="localhost", suppress_ragged_eofs=False
        ) as sock:
            yield RawClient(sock)


def server_socket(handle: Handle, client: RawClient) -> socket.socket:
    """A copy of the server's end of a connection."""
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(handle.process.pid)
    try:
        for name in os.listdir(f"/proc/{handle.process.pid}/fd"):
            fd = libc.syscall(PIDFD_GETFD, pidfd, int(name), 0)
            if fd < 0:
                continue
            with contextlib.suppress(OSError):
                sock = socket.socket(fileno=os.dup(fd))
                with contextlib.suppress(OSError):
                    if sock.getpeername() == client.sock.getsockname():
                        return sock
                sock.close()
            os.close(fd)
    finally:
        os.close(pidfd)
    pytest.fail("the server has no such connection")


def offloaded(handle: Handle, client: RawClient, direction: int = TLS_TX) -> bool:
    """Does the kernel encrypt (or decrypt) this connection? It needs an answer before, in TLS 1.3."""
    with server_socket(handle, client) as sock:
        try:
            version, cipher = struct.unpack("HH", sock.getsockopt(SOL_TLS, direction, 4))
        except OSError:
            return False
        assert version in (TLS12, TLS13) and cipher > 50
        return True


def limited(ca: Authority, version: ssl.TLSVersion, ciphers: str = "") -> ssl.SSLContext:
    context = ca.trusting(minimum_version=version, maximum_version=version)
    if ciphers:
        context.set_ciphers(ciphers)
    return context


CIPHERS = {
    "1.2-AES128-GCM": (TLS12, "ECDHE+AES128:!SHA256:!SHA", True),
    "1.2-AES256-GCM": (TLS12, "ECDHE-ECDSA-AES256-GCM-SHA384", True),
    "1.2-CHACHA20": (TLS12, "ECDHE+CHACHA20", True),
    "1.2-CBC": (TLS12, "ECDHE-ECDSA-AES128-SHA256", False),
    "1.3-AES256-GCM": (TLS13, "", True),
}


def test_ciphers(server: Servers, ca: Authority, site: Issued, file: Path) -> None:
    """The kernel takes what it can encrypt; with the others all is as without it."""
    handle = start(server, site, file, "--ciphers", "ALL:@SECLEVEL=0")
    data = file.read_bytes()
    for name, (version, ciphers, kernels) in CIPHERS.items():
        with connected(handle, limited(ca, version, ciphers)) as client:
            assert client.request(get("1/2")).body == data[1:3], name
            assert offloaded(handle, client) is kernels, name
            assert not offloaded(handle, client, TLS_RX), name
            for _ in range(2):
                assert client.request(get("")).body == data, name


@pytest.mark.parametrize("suite", ["TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"])
def test_other_suites(server: Servers, ca: Authority, site: Issued, file: Path, suite: str) -> None:
    handle = start(server, site, file, "--ciphers", suite)
    with connected(handle, ca.trusting()) as client:
        assert client.request(get("")).body == file.read_bytes()
        assert offloaded(handle, client)


@pytest.mark.parametrize("version", [TLS12, TLS13])
def test_parts(
    server: Servers, ca: Authority, site: Issued, file: Path, version: ssl.TLSVersion
) -> None:
    """Around the sizes of a record, of a page and of what is copied instead, on one connection."""
    data = file.read_bytes()
    handle = start(server, site, file)
    with connected(handle, limited(ca, version)) as client:
        for count in (1, 4095, 4097, 16383, 16384, 16385, 65535, 65537, 1 << 20, (1 << 20) + 1):
            for offset in (0, 1, 4096, SIZE - count):
                found = client.request(get(f"{offset}/{count}")).body
                assert found == data[offset : offset + count], (offset, count)
        client.send(get("5/70000") * 20)
        for _ in range(20):
            assert client.response().body == data[5:70005]
        assert offloaded(handle, client)


@pytest.mark.parametrize("version", [TLS12, TLS13])
def test_slow_readers(
    server: Servers, ca: Authority, site: Issued, file: Path, version: ssl.TLSVersion
) -> None:
    """The socket is full again and again: in the middle of records, of files, of bodies."""
    handle = start(server, site, file)
    lines = b"".join(map(line, range(LINES)))
    with connected(handle, limited(ca, version), buffer=4096) as client:
        for path, wanted in (("lines", lines), ("", file.read_bytes()), ("lines", lines)):
            client.send(get(path))
            time.sleep(1)  # until nothing more fits
            assert client.response().body == wanted, path
        assert offloaded(handle, client)


def test_http2(server: Servers, ca: Authority, site: Issued, file: Path) -> None:
    handle = start(server, site, file)
    url = f"https://localhost:{handle.port}"
    with httpx.Client(http2=True, verify=ca.trusting(), timeout=WAIT, trust_env=False) as client:
        for _ in range(2):
            response = client.get(url)
            assert response.http_version == "HTTP/2"
            assert response.content == file.read_bytes()
        assert client.get(f"{url}/lines").content == b"".join(map(line, range(LINES)))


def test_ends(server: Servers, ca: Authority, site: Issued, file: Path) -> None:
    """An orderly end says close_notify, and it takes the peer's."""
    handle = start(server, site, file)
    head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    for version in (TLS12, TLS13):
        with connected(handle, limited(ca, version)) as client:
            client.send(head)  # a ragged end would raise
            assert client.read_all().endswith(file.read_bytes())
        with connected(handle, limited(ca, version)) as client:
            client.request(get("1/1"))
            client.sock.unwrap()


def test_file_that_becomes_shorter(
    server: Servers, ca: Authority, site: Issued, tmp_path: Path
) -> None:
    """Cut while it is sent, it cuts the connection, without close_notify."""
    file = tmp_path / "file"
    handle = start(server, site, file)
    handle.expect_errors()
    for version in (TLS12, TLS13):
        file.write_bytes(os.urandom(20_000_000))
        with connected(handle, limited(ca, version), buffer=4096) as client:
            client.send(get(""))
            client.read_exactly(50_000)
            os.truncate(file, 8_000_000)
            with pytest.raises((ConnectionResetError, ssl.SSLEOFError)):
                client.read_all()
    handle.wait_for_log("aborted: a file became shorter")


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_files_are_not_read(
    server: Servers, ca: Authority, site: Issued, file: Path, tmp_path: Path
) -> None:
    handle = start(server, site, file)
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-o", str(trace), "-p", str(handle.process.pid)]
    calls = "trace=sendfile,pread64,preadv,preadv2,sendto,sendmsg,write"
    with subprocess.Popen([*command, "-e", calls], stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: "TracerPid:\t0" not in status(handle), what="strace")
        with connected(handle, ca.trusting()) as client:
            assert client.request(get("")).body == file.read_bytes()
        process.terminate()
    text = trace.read_text()
    assert sum(map(int, re.findall(r"sendfile\(.*= (\d+)$", text, re.M))) == SIZE
    assert "pread" not in text


def status(handle: Handle) -> str:
    return Path(f"/proc/{handle.process.pid}/status").read_text()
