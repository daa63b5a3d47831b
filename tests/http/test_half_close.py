"""Clients that shut down their sending side and wait, and clients that have left: a FIN looks the same."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import time
from pathlib import Path

import pytest

from tests.support.authority import Authority
from tests.support.client import RawClient, Response
from tests.support.handle import Handle
from tests.support.servers import Servers
from tests.support.wait import wait_for

STREAMS = "tests.apps.event_streams:app"
WIRE = "tests.apps.wire:app"

pytestmark = pytest.mark.server


def get(path: str, version: str = "1.1") -> bytes:
    return f"GET {path} HTTP/{version}\r\nHost: test\r\n\r\n".encode()


def shut(client: RawClient, request: bytes) -> None:
    client.send(request)
    client.sock.shutdown(socket.SHUT_WR)


def answer(client: RawClient) -> Response:
    """Behind 100 Continue, which is sent to see whether the client is still there."""
    response = client.response()
    return client.response() if response.status == 100 else response


def seen(handle: Handle, what: str) -> None:
    wait_for(lambda: what in json.loads(handle.get("/seen").body), what=what)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_django_answers(server: Servers, tmp_path: Path, version: str, unix: bool) -> None:
    """Its view would be cancelled by a http.disconnect."""
    socket_path = tmp_path / "socket"
    handle = server.start(STREAMS, unix=socket_path) if unix else server.start(STREAMS)
    with handle.connect() as client:
        shut(client, get("/slow", version))
        answer = client.read_all()
    head, _, body = answer.rpartition(b"\r\n\r\n")
    assert body == b"slow"
    assert b" 200 OK\r\n" in head
    assert b"connection: close" in head.lower()


def test_pipelined_requests_are_answered_in_order(server: Servers) -> None:
    handle = server.start(WIRE)
    with handle.connect() as client:
        shut(client, b"".join(get(f"/sleep/{ms}") for ms in (300, 0, 100)))
        assert [answer(client).body for _ in range(3)] == [b"300", b"0", b"100"]
        assert client.closed()


def test_large_response_is_read_later(server: Servers) -> None:
    handle = server.start(WIRE)
    with handle.connect() as client:
        shut(client, get("/stream/300"))
        time.sleep(0.5)
        large = answer(client)
    assert (large.status, len(large.body)) == (200, 300 * 65536)


def test_stream_goes_on(server: Servers) -> None:
    """One that listens for the disconnect, to a client that only reads."""
    handle = server.start(STREAMS)
    with handle.connect() as client:
        shut(client, get("/starlette"))
        client.read_until(b"data: hello\n\n\r\n")
        time.sleep(1)
        assert "/starlette" not in json.loads(handle.get("/seen").body)
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    seen(handle, "/starlette")


def test_body_that_is_cut_is_no_request(server: Servers) -> None:
    handle = server.start(WIRE)
    with handle.connect() as client:
        shut(client, b"POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\nhalf")
        assert client.read_all() == b""
    wait_for(lambda: b"disconnect" in handle.get("/seen").body, what="disconnect")


def test_websocket_without_a_close_frame(server: Servers) -> None:
    handle = server.start()
    with handle.connect() as client:
        client.send(
            b"GET /chat HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        client.read_until(b"\r\n\r\n")
        client.sock.shutdown(socket.SHUT_WR)
        assert client.closed()


def test_a_client_that_waits_for_ever(server: Servers) -> None:
    handle = server.start(STREAMS, "--half-close-timeout", "1")
    with handle.connect() as client:
        shut(client, get("/polls"))
        seen(handle, "/polls")


@pytest.mark.parametrize("path", ["/starlette", "/sse", "/django", "/quart", "/polls", "/slow"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_leaving_is_noticed(server: Servers, ca: Authority, path: str, tls: bool) -> None:
    issued = ca.issue("site")
    flags = ["--certfile", str(issued.cert), "--keyfile", str(issued.key)] if tls else []
    handle = server.start(STREAMS, *flags)

    def opened() -> RawClient:
        sock = handle.connect().sock
        return RawClient(unchecked().wrap_socket(sock) if tls else sock)

    def look() -> list[str]:
        with opened() as other:
            return list(json.loads(other.request(get("/seen")).body))

    client = opened()
    client.send(get(path))
    if path in ("/polls", "/slow"):
        wait_for(lambda: f"{path} began" in look(), what="the beginning")
    else:
        client.read_until(b"hello")
    client.close()
    wait_for(lambda: path in look(), what="the end")


def unchecked() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def test_close_notify_is_no_leaving(server: Servers, ca: Authority) -> None:
    issued = ca.issue("site")
    handle = server.start(STREAMS, "--certfile", str(issued.cert), "--keyfile", str(issued.key))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = unchecked().wrap_bio(incoming, outgoing)
    answer = b""
    with handle.connect() as client:

        def pump(done: bool) -> bool:
            client.send(outgoing.read())
            if not done:
                incoming.write(client.sock.recv(65536))
            return done

        def attempt() -> bool:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                return False
            return True

        while not pump(attempt()):
            pass
        tls.write(get("/slow"))
        with pytest.raises(ssl.SSLWantReadError):
            tls.unwrap()  # close_notify is out, the server's has not come
        client.send(outgoing.read())
        while b"slow" not in answer:
            data = client.sock.recv(65536)
            assert data, "closed without an answer"
            incoming.write(data)
            while True:
                try:
                    piece = tls.read()
                except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
                    break
                answer += piece
                if not piece:
                    break
    assert b" 200 OK\r\n" in answer
