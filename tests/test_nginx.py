"""Behind the real nginx: HTTP and WebSocket, over TCP and over a unix socket."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.conftest import FOREIGN, Handle, Servers, wait_for

APP = "tests.apps.basic:app"

CONFIG = """
{user}
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log error;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 64m;
    upstream cdaphne {{ server {upstream}; keepalive 4; }}
    map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://cdaphne;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            {forwarded}
        }}
        location /old/ {{
            proxy_pass http://cdaphne/;
            proxy_http_version 1.0;
            proxy_set_header Connection close;
            {forwarded}
        }}
        location /unbuffered/ {{
            proxy_pass http://cdaphne/;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            {forwarded}
            proxy_request_buffering off;
            proxy_buffering off;
        }}
    }}
}}
"""

# A location that sets one header inherits none.
FORWARDED = """
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto https;
"""


def nginx_program() -> str:
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        pytest.fail("nginx is not installed: apt-get install nginx (scripts/packages.txt)")
    return found


class Nginx:
    """An nginx of our own in front of a server."""

    def __init__(self, folder: Path, port: int, upstream: str) -> None:
        self.folder = folder
        # As root its workers become another user, who may not enter pytest's folder.
        user = "user root;" if os.getuid() == 0 else ""
        config = folder / "nginx.conf"
        config.write_text(
            CONFIG.format(
                folder=folder, port=port, upstream=upstream, user=user, forwarded=FORWARDED
            )
        )
        self.process = subprocess.Popen(
            [nginx_program(), "-p", str(folder), "-e", f"{folder}/error.log", "-c", str(config)],
            env=FOREIGN,
        )
        wait_for(lambda: self._listens(port), 20, "nginx listens")

    def _listens(self, port: int) -> bool:
        assert self.process.poll() is None, self.errors()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    def errors(self) -> str:
        return (self.folder / "error.log").read_text()

    def close(self) -> None:
        self.process.send_signal(signal.SIGQUIT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


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
