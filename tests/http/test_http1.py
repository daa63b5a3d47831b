"""HTTP/1.1 as ordinary clients speak it: keep-alive, pipelining, chunks, 100 Continue, HEAD, old versions."""

from __future__ import annotations

import http.client
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.handle import Handle
from tests.support.programs import FOREIGN
from tests.support.servers import Servers

pytestmark = pytest.mark.server

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(scope="module")
def handle() -> Iterator[Handle]:
    servers = Servers()
    yield servers.start("tests.apps.wire:app")
    servers.finish()


def test_keep_alive(handle: Handle) -> None:
    with handle.connect() as client:
        for number in range(5):
            response = client.request(b"GET /sleep/%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
            assert (response.version, response.status, response.text) == (
                "HTTP/1.1",
                200,
                str(number),
            )
            assert "connection" not in response.headers


def test_common_headers(handle: Handle) -> None:
    response = handle.get("/")
    assert response.headers["server"] == "cdaphne"
    date = time.strptime(response.headers["date"], "%a, %d %b %Y %H:%M:%S GMT")
    assert abs(time.mktime(date) - time.mktime(time.gmtime())) < 5


def test_server_header_is_switchable(server: Servers) -> None:
    assert (
        server.start("tests.apps.wire:app", "--server-name", "other").get("/").headers["server"]
        == "other"
    )
    assert "server" not in server.start("tests.apps.wire:app", "--no-server-name").get("/").headers


def test_pipelined_responses_are_in_order(handle: Handle) -> None:
    """CVE-2023-46137, CVE-2024-41671: the first is the slowest, and bodies are not mixed."""
    with handle.connect() as client:
        client.send(
            b"".join(b"GET /sleep/%d HTTP/1.1\r\nHost: a\r\n\r\n" % ms for ms in (300, 0, 100))
        )
        assert [client.response().text for _ in range(3)] == ["300", "0", "100"]


def test_many_pipelined_requests(handle: Handle) -> None:
    with handle.connect() as client:
        client.send(
            b"".join(b"GET /sleep/0?%d HTTP/1.1\r\nHost: a\r\n\r\n" % i for i in range(200))
        )
        for _ in range(200):
            assert client.response().text == "0"


def test_response_in_pieces_is_chunked(handle: Handle) -> None:
    with handle.connect() as client:
        client.send(b"GET /pieces HTTP/1.1\r\nHost: a\r\n\r\n")
        response = client.response()
    assert response.headers["transfer-encoding"] == "chunked"
    assert response.text == "one two three"


def test_pieces_leave_at_once(handle: Handle) -> None:
    with handle.connect() as client:
        client.send(b"GET /pieces HTTP/1.1\r\nHost: a\r\n\r\n")
        head = client.read_until(b"one \r\n")
        assert b"three" not in head


def test_old_version_ends_with_the_connection(handle: Handle) -> None:
    answer = handle.raw(b"GET /pieces HTTP/1.0\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 OK\r\n")
    assert b"chunked" not in head
    assert body == b"one two three"


def test_old_version_keep_alive(handle: Handle) -> None:
    with handle.connect() as client:
        for _ in range(2):
            response = client.request(b"GET /early HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert response.headers["connection"] == "keep-alive"
            assert response.text == "early"


def test_head(handle: Handle) -> None:
    with handle.connect() as client:
        response = client.request(b"HEAD /early HTTP/1.1\r\nHost: a\r\n\r\n", method="HEAD")
        assert response.headers["content-length"] == "5"
        assert client.request(b"GET /early HTTP/1.1\r\nHost: a\r\n\r\n").text == "early"


@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_a_body(server: Servers, status: int) -> None:
    handle = server.start("tests.apps.basic:app")
    with handle.connect() as client:
        response = client.request(b"GET /status/%d HTTP/1.1\r\nHost: a\r\n\r\n" % status)
        assert response.status == status
        assert "transfer-encoding" not in response.headers
        assert client.request(GET).text == "hello"


def test_continue_is_sent_when_the_body_is_asked_for(handle: Handle) -> None:
    with handle.connect() as client:
        client.send(
            b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        )
        assert client.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"hello")
        assert client.response().text == "5"


def test_continue_is_not_sent_when_it_is_not(handle: Handle) -> None:
    with handle.connect() as client:
        client.send(
            b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        )
        response = client.response()
        assert (response.status, response.headers["connection"]) == (200, "close")
        assert client.closed()


def test_http_client_sends_chunks(handle: Handle) -> None:
    connection = http.client.HTTPConnection(handle.host, handle.port, timeout=10)
    for _ in range(2):
        connection.request(
            "POST",
            "/upload",
            body=iter([b"x" * 1000] * 100),
            encode_chunked=True,
            headers={"Transfer-Encoding": "chunked"},
        )
        assert connection.getresponse().read() == b"100000"
    connection.close()


def test_httpx(handle: Handle) -> None:
    with httpx.Client(base_url=handle.url) as client:
        assert client.post("/upload", content=b"y" * 300000).text == "300000"
        with client.stream("GET", "/stream/16") as response:
            assert sum(len(piece) for piece in response.iter_bytes()) == 16 * 65536
        assert client.get("/sleep/1").text == "1"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_uploads_with_expect(handle: Handle, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(bytes(3 << 20))
    done = subprocess.run(
        [
            "curl",
            "-sS",
            "-v",
            "--data-binary",
            f"@{body}",
            "-H",
            "Expect: 100-continue",
            f"{handle.url}/upload",
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        env=FOREIGN,
    )
    assert done.stdout == str(3 << 20)
    assert "HTTP/1.1 100 Continue" in done.stderr


def test_http_timeout_503(server: Servers) -> None:
    handle = server.start(
        "tests.apps.wire:app", "--http-timeout", "0.3", "--application-close-timeout", "0.2"
    )
    started = time.monotonic()
    with handle.connect() as client:
        response = client.request(b"GET /sleep/60000 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert response.status == 503
        assert client.closed()
    assert 0.25 < time.monotonic() - started < 30
    handle.wait_for_log("Application timed out before its response: GET /sleep/60000")
    handle.wait_for_log("took too long to shut down and was killed")


def test_http_timeout_in_the_response(server: Servers) -> None:
    handle = server.start(
        "tests.apps.wire:app", "--http-timeout", "0.5", "--application-close-timeout", "0.2"
    )
    with handle.connect() as client:
        client.send(b"GET /stream/100000 HTTP/1.1\r\nHost: a\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            while client.recv():
                time.sleep(0.01)
    handle.wait_for_log("Application timed out while sending its response: GET /stream/100000")


def test_unix_socket(server: Servers, tmp_path: Path) -> None:
    handle = server.start("tests.apps.wire:app", unix=tmp_path / "s")
    with handle.connect() as client:
        for _ in range(2):
            assert client.request(b"GET /early HTTP/1.1\r\nHost: a\r\n\r\n").text == "early"
        client.send(b"nonsense\r\n\r\n")
        assert client.response().status == 501
