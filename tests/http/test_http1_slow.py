"""Clients that are slow, greedy or silent: every one is bounded in time and memory, and nobody else waits for it.

The rows of the threat list, section 5.5, with the timers lowered by their flags. Times are only ever
compared with the flags.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import time
from collections.abc import Iterator

import pytest

from tests.support.client import RawClient
from tests.support.handle import Handle
from tests.support.servers import Servers
from tests.support.wait import wait_for

pytestmark = pytest.mark.server

APP = "tests.apps.wire:app"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
MEGABYTE = 1 << 20
# ASan keeps freed memory back, up to 256 MiB of it.
SANITIZED = "libasan" in os.environ.get("LD_PRELOAD", "")
SLACK = 400 * MEGABYTE if SANITIZED else 0


def seen(handle: Handle) -> list[list[object]]:
    found: list[list[object]] = json.loads(handle.get("/seen").body)
    return found


def post(path: bytes, framing: bytes) -> bytes:
    return b"POST " + path + b" HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n"


def push(client: RawClient, data: bytes, limit: int, patience: float = 0.5) -> int:
    """Sends data over and over until the server takes none for `patience` seconds, or limit bytes are sent."""
    client.sock.setblocking(False)
    sent = 0
    while sent < limit:
        if not select.select([], [client.sock], [], patience)[1]:
            break
        try:
            sent += client.sock.send(data[: limit - sent])
        except BlockingIOError:
            continue
        except (BrokenPipeError, ConnectionResetError):
            break
    client.sock.settimeout(10)
    return sent


# ---- time ----


def test_silent_client_is_closed(server: Servers) -> None:
    handle = server.start(APP, "--head-timeout", "0.3")
    with handle.connect() as client:
        assert client.read_all() == b""


@pytest.mark.parametrize("byte_by_byte", [False, True])
def test_slow_head_gets_408(server: Servers, byte_by_byte: bool) -> None:
    handle = server.start(APP, "--head-timeout", "0.6")
    started = time.monotonic()
    with handle.connect() as client:
        for byte in GET if byte_by_byte else b"G":
            client.send(bytes([byte]))
            if select.select([client.sock], [], [], 0.1)[0]:
                break
        answer = client.read_all()
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert time.monotonic() - started > 0.55, "earlier than --head-timeout"
    assert handle.get("/count").body == b"0"


def test_second_head_has_its_own_deadline(server: Servers) -> None:
    handle = server.start(APP, "--head-timeout", "0.5")
    with handle.connect() as client:
        assert client.request(GET + b"\r\n").status == 200
        time.sleep(0.8)
        assert client.request(GET + b"\r\n").status == 200
        client.send(b"GET ")
        assert client.response().status == 408


def test_idle_connection_is_closed(server: Servers) -> None:
    handle = server.start(APP, "--keep-alive-timeout", "0.4")
    with handle.connect() as client:
        assert client.request(GET + b"\r\n").status == 200
        started = time.monotonic()
        assert client.read_all() == b""
        assert time.monotonic() - started > 0.35


@pytest.mark.parametrize(
    ("framing", "piece"),
    [(b"Content-Length: 100000", b"x"), (b"Transfer-Encoding: chunked", b"1\r\nx\r\n")],
    ids=["length", "chunked"],
)
def test_slow_body_gets_408(server: Servers, framing: bytes, piece: bytes) -> None:
    handle = server.start(APP, "--body-timeout", "0.5")
    with handle.connect() as client:
        client.send(post(b"/upload", framing))
        while not select.select([client.sock], [], [], 0.1)[0]:
            client.send(piece)
        assert client.response().status == 408
    wait_for(lambda: [how for how, _ in seen(handle)] == ["disconnect"])


def test_body_that_keeps_its_rate_is_served(server: Servers) -> None:
    handle = server.start(APP, "--body-timeout", "0.4", "--body-min-rate", "100")
    with handle.connect() as client:
        client.send(post(b"/upload", b"Content-Length: 1000"))
        for _ in range(10):
            client.send(b"x" * 100)
            time.sleep(0.1)
        assert client.response().body == b"1000"


def test_slow_reader_is_given_up(server: Servers) -> None:
    handle = server.start(APP, "--write-timeout", "0.5", "--write-min-rate", "100000", "-v", "2")
    with handle.connect() as client:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.send(b"GET /stream/1000 HTTP/1.1\r\nHost: a\r\n\r\n")
        handle.wait_for_log(r"--write-timeout")
    (note,) = seen(handle)
    assert note[0] == "disconnect"


def test_send_waits_for_a_slow_reader(server: Servers) -> None:
    handle = server.start(APP)
    size = handle.rss()
    with handle.connect() as client:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.send(b"GET /stream/3000 HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for(lambda: seen(handle))
        time.sleep(0.5)
        (note,) = seen(handle)
        assert note[0] == "running"
        assert isinstance(note[1], int) and note[1] < 300, "send() did not wait"
        assert handle.rss() - size < 16 * MEGABYTE + SLACK
    wait_for(lambda: seen(handle)[0][0] == "disconnect")


def test_a_thousand_slow_clients_hold_nobody_up(server: Servers) -> None:
    handle = server.start(APP, "--head-timeout", "20")
    with contextlib.ExitStack() as stack:
        for _ in range(900):  # descriptors: both ends may share a limit of 1024 each
            client = stack.enter_context(handle.connect())
            client.send(b"GET / HT")
        slowest = 0.0
        for _ in range(20):
            started = time.monotonic()
            assert handle.get("/count").body == b"0"
            slowest = max(slowest, time.monotonic() - started)
        assert slowest < 2, "a probe waited for the slow clients"


# ---- size ----


@pytest.fixture(scope="module")
def handle() -> Iterator[Handle]:
    servers = Servers()
    yield servers.start(APP, "--max-body-size", "100000")
    servers.finish()


@pytest.mark.parametrize(
    ("before", "flood", "status"),
    [
        (GET + b"X: ", b"x" * 65536, 431),
        (GET, b"X: y\r\n" * 10000, 431),
        (GET + b"X:", b" " * 65536, 431),
        (b"", b"\r\n" * 32768, 431),
        (b"GET /", b"x" * 65536, 414),
    ],
    ids=["value", "count", "blanks", "empty-lines", "target"],
)
def test_endless_head(handle: Handle, before: bytes, flood: bytes, status: int) -> None:
    size = handle.rss()
    with handle.connect() as client:
        client.send(before)
        push(client, flood, 100 * MEGABYTE, 0.2)
        with contextlib.suppress(ConnectionResetError):
            assert client.response().status == status
    assert handle.rss() - size < 4 * MEGABYTE + SLACK
    assert handle.get("/").status == 200


@pytest.mark.parametrize(
    ("before", "flood", "status"),
    [
        (b"1;", b"a" * 65536, 400),
        (b"", b"0" * 65536, 400),
        (b"", b"1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n" * 1000, 400),
        (b"0\r\nX: ", b"a" * 65536, 400),
        (b"0\r\n", b"X: y\r\n" * 10000, 400),
        (b"", b"400\r\n" + b"x" * 1024 + b"\r\n", 413),
    ],
    ids=["extension", "zeros", "many-extensions", "trailer", "trailers", "body"],
)
def test_endless_chunked_body(handle: Handle, before: bytes, flood: bytes, status: int) -> None:
    size = handle.rss()
    with handle.connect() as client:
        client.send(post(b"/upload", b"Transfer-Encoding: chunked") + before)
        push(client, flood, 100 * MEGABYTE, 0.2)
        with contextlib.suppress(ConnectionResetError):
            assert client.response().status == status
    assert handle.rss() - size < 4 * MEGABYTE + SLACK
    assert seen(handle)[-1][0] == "disconnect"


def test_announced_body_is_refused_at_its_head(handle: Handle) -> None:
    count = handle.get("/count").body
    with handle.connect() as client:
        client.send(post(b"/upload", b"Content-Length: 100001"))
        assert client.response().status == 413
    assert handle.get("/count").body == count


def test_upload_to_an_application_that_does_not_read(server: Servers) -> None:
    handle = server.start(APP)
    size = handle.rss()
    with handle.connect() as client:
        total = 64 * MEGABYTE
        client.send(post(b"/never", b"Content-Length: %d" % total))
        sent = push(client, bytes(65536), total)
        assert sent < 16 * MEGABYTE, "the server read on"
        assert handle.rss() - size < 2 * MEGABYTE + SLACK
        handle.get("/release")
        assert sent + push(client, bytes(65536), total - sent) == total
        assert client.response().body == b"%d" % total
    assert handle.rss() - size < 4 * MEGABYTE + SLACK


def test_upload_is_streamed(server: Servers) -> None:
    """Two gigabytes (one under ASan), and memory stays flat."""
    handle = server.start(APP)
    size, total = handle.rss(), (1 if SANITIZED else 2) << 30
    with handle.connect(timeout=60) as client:
        client.send(post(b"/upload", b"Content-Length: %d" % total))
        piece = memoryview(bytes(8 * MEGABYTE))
        for _ in range(total // len(piece)):
            client.sock.sendall(piece)
        assert client.response().body == b"%d" % total
    assert handle.rss() - size < 4 * MEGABYTE + SLACK


def test_unread_body_keeps_the_connection(server: Servers) -> None:
    handle = server.start(APP)
    with handle.connect() as client:
        for _ in range(3):
            client.send(post(b"/early", b"Content-Length: 200000") + bytes(200000))
            assert client.response().body == b"early"


def test_large_unread_body_does_not(server: Servers) -> None:
    """The answer arrives although the client is still sending: no reset overtakes it."""
    handle = server.start(APP)
    with handle.connect() as client:
        client.send(post(b"/early", b"Content-Length: 3000000"))
        push(client, bytes(65536), 3000000)
        response = client.response()
        assert (response.status, response.headers["connection"]) == (200, "close")
        assert response.body == b"early"


def test_slow_upload_hears_the_early_answer(server: Servers) -> None:
    """The end waits for 2 s of silence, not for 2 s (--linger-timeout)."""
    handle = server.start(APP)
    with handle.connect() as client:
        client.send(post(b"/early", b"Content-Length: 3000000"))
        for _ in range(14):
            client.send(bytes(100))
            time.sleep(0.25)
        assert client.response().body == b"early"
        assert client.closed()


def test_lingering_is_bounded(server: Servers) -> None:
    handle = server.start(APP, "--linger-total", "1")
    with handle.connect() as client:
        client.send(post(b"/early", b"Content-Length: 3000000"))
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for _ in range(200):
                client.send(bytes(100))
                time.sleep(0.05)


def test_pipelining_flood(server: Servers) -> None:
    """A million requests by a client that reads nothing: reading stops until the responses drain."""
    handle = server.start(APP)
    size = handle.rss()
    with handle.connect() as client:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        request = GET + b"\r\n"
        sent = push(client, request * 1000, 1_000_000 * len(request))
        assert sent < 500_000 * len(request), "more than the kernel's buffers hold"
        assert handle.rss() - size < 4 * MEGABYTE + SLACK
        assert handle.get("/count").status == 200
