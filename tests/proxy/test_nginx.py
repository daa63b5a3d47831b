"""Behind the real nginx: HTTP and WebSocket, over TCP and over a unix socket."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.support.handle import Handle
from tests.support.nginx import Nginx
from tests.support.servers import Servers
from tests.support.wait import wait_for

APP = "tests.apps.basic:app"


class Front:
    """A server, and nginx before it; `through` speaks to nginx as if it were the server."""

    def __init__(self, handle: Handle, nginx: Nginx, port: int) -> None:
        self.handle = handle
        self.nginx = nginx
        self.through = object.__new__(Handle)
        self.through.host, self.through.port, self.through.unix = "127.0.0.1", port, None


@pytest.fixture(params=["tcp", "unix"])
def front(
    request: pytest.FixtureRequest, server: Servers, tmp_path: Path, free_port: int
) -> Iterator[Front]:
    if request.param == "tcp":
        handle = server.start(APP, "--proxy-headers")
        upstream = f"127.0.0.1:{handle.port}"
    else:
        handle = server.start(APP, "--proxy-headers", unix=tmp_path / "web.sock")
        upstream = f"unix:{handle.unix}"
    nginx = Nginx(tmp_path, free_port, upstream)
    try:
        yield Front(handle, nginx, free_port)
    finally:
        nginx.close()
    assert nginx.errors() == ""


def test_scope(front: Front) -> None:
    scope = json.loads(front.through.get("/scope").body)
    assert scope["client"] == ["127.0.0.1", 0]
    assert scope["scheme"] == "https"
    assert scope["http_version"] == "1.1"
    assert ["host", f"127.0.0.1:{front.through.port}"] in scope["headers"]
    old = json.loads(front.through.get("/old/scope").body)
    assert old["http_version"] == "1.0"
    assert old["path"] == "/scope"


def test_many_requests_share_a_connection(front: Front) -> None:
    for number in range(50):
        assert front.through.get("/").body == b"hello", number


@pytest.mark.parametrize("prefix", ["", "/unbuffered", "/old"])
def test_large_bodies_both_ways(front: Front, prefix: str) -> None:
    body = os.urandom(3_000_000)
    answer = front.through.get(f"{prefix}/echo", method="POST", body=body)
    assert answer.status == 200
    assert hashlib.sha256(answer.body).digest() == hashlib.sha256(body).digest()


def test_statuses(front: Front) -> None:
    for status in (200, 204, 304, 404, 500):
        assert front.through.get(f"/status/{status}").status == status
    assert front.through.get("/", method="HEAD").headers["content-length"] == "5"


def test_websocket(front: Front) -> None:
    with connect(f"{front.through.ws_url}/chat") as client:
        for message in ("text", b"bytes", "", "x" * 100_000):
            client.send(message)
            assert client.recv(timeout=10) == message
        client.send("scope")
        scope = json.loads(client.recv(timeout=10))
        assert scope["client"] == ["127.0.0.1", 0]
        assert scope["scheme"] in ("wss", "https")
        client.send("close")
        with pytest.raises(ConnectionClosed) as caught:
            client.recv(timeout=10)
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (3001, "bye")


def test_client_that_leaves_reaches_the_application(front: Front) -> None:
    """nginx closes its side when the browser goes; the server's connections come down again."""
    with connect(f"{front.through.ws_url}/chat") as client:
        client.send("x")
        client.recv(timeout=10)
        during = front.handle.fds()
    wait_for(lambda: front.handle.fds() < during, what="the WebSocket's descriptor is closed")


def test_graceful_stop_behind_nginx(front: Front) -> None:
    with connect(f"{front.through.ws_url}/chat") as client:
        front.handle.signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as caught:
            client.recv(timeout=10)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1001
    assert front.handle.wait() == 0
