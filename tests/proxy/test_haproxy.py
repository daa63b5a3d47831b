"""Behind the real HAProxy: what it says in PROXY headers, version 1 and 2, about clients, their TLS and itself."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.support.authority import Authority, Issued
from tests.support.client import RawClient
from tests.support.handle import Handle
from tests.support.programs import FOREIGN
from tests.support.servers import Servers
from tests.support.wait import wait_for

pytestmark = pytest.mark.server

APP = "tests.apps.basic:app"
SCOPE = b"GET /scope HTTP/1.1\r\nHost: t\r\n\r\n"

# Each way in has its own line of `server`; the check says LOCAL, every tenth of a second.
CONFIG = """
global
    maxconn 200
defaults
    mode tcp
    timeout connect 10s
    timeout client 60s
    timeout server 60s
    timeout check 10s
    unique-id-format %ci-%cp-%ts
listen v1
    bind 127.0.0.1:{v1}
    server web {upstream} send-proxy
listen v2
    bind 127.0.0.1:{v2}
    server web {upstream} send-proxy-v2 proxy-v2-options crc32c,unique-id check inter 100ms
listen tls
    bind 127.0.0.1:{tls} ssl crt {site} alpn h2,http/1.1 ca-file {clients} verify optional crt-ignore-err all
    server web {upstream} send-proxy-v2-ssl-cn proxy-v2-options ssl,cert-cn,ssl-cipher,authority,crc32c
listen unix
    bind unix@{folder}/front.sock
    server web {upstream} send-proxy-v2
"""


def haproxy_program() -> str:
    found = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        pytest.fail("haproxy is not installed: apt-get install haproxy (scripts/packages.txt)")
    return found


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


class Front:
    """A server, and an HAProxy of our own before it."""

    def __init__(self, handle: Handle, folder: Path, site: Issued, clients: Authority) -> None:
        self.handle = handle
        self.unix = folder / "front.sock"
        self.v1, self.v2, self.tls = free_ports(3)
        config = folder / "haproxy.cfg"
        upstream = f"127.0.0.1:{handle.port}" if handle.unix is None else f"unix@{handle.unix}"
        config.write_text(
            CONFIG.format(
                folder=folder,
                upstream=upstream,
                site=site.both,
                clients=clients.cert,
                v1=self.v1,
                v2=self.v2,
                tls=self.tls,
            )
        )
        self.log = folder / "haproxy.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [haproxy_program(), "-db", "-f", str(config)], stdout=log, stderr=log, env=FOREIGN
            )
        wait_for(self._listens, 20, "haproxy listens")

    def _listens(self) -> bool:
        """HAProxy opens one listener after another: a port that answers says nothing of the unix socket."""
        assert self.process.poll() is None, self.log.read_text()
        with socket.socket() as port, socket.socket(socket.AF_UNIX) as unix:
            return (
                port.connect_ex(("127.0.0.1", self.tls)) == 0
                and unix.connect_ex(str(self.unix)) == 0
            )

    def connect(self, port: int) -> RawClient:
        return RawClient(socket.create_connection(("127.0.0.1", port), 10))

    def connect_unix(self) -> RawClient:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(10)
        sock.connect(str(self.unix))
        return RawClient(sock)

    def secure(self, context: ssl.SSLContext) -> RawClient:
        plain = socket.create_connection(("127.0.0.1", self.tls), 10)
        return RawClient(context.wrap_socket(plain, server_hostname="localhost"))

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture(params=["tcp", "unix"])
def front(
    request: pytest.FixtureRequest, server: Servers, tmp_path: Path, site: Issued, ca: Authority
) -> Iterator[Front]:
    unix = tmp_path / "web.sock" if request.param == "unix" else None
    handle = server.start(APP, "--proxy-protocol", "required", "--proxy-headers", unix=unix)
    front = Front(handle, tmp_path, site, ca)
    try:
        yield front
    finally:
        front.close()
    assert "refused" not in handle.stderr()


def ask(client: RawClient, request: bytes = SCOPE) -> dict[str, Any]:
    answer = client.request(request)
    assert answer.status == 200
    scope = json.loads(answer.body)
    assert isinstance(scope, dict)
    return scope


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_addresses(front: Front, version: str) -> None:
    port = getattr(front, version)
    with front.connect(port) as client:
        own = list(client.sock.getsockname())
        for _ in range(3):
            scope = ask(client)
            assert (scope["client"], scope["server"]) == (own, ["127.0.0.1", port])
            assert scope["scheme"] == "http"
            assert "tls" not in scope["extensions"]


def test_many_at_once(front: Front) -> None:
    """Each is told its own client: nothing of one header stays for the next."""
    barrier = threading.Barrier(20)

    def one(number: int) -> None:
        with front.connect(front.v2 if number % 2 else front.v1) as client:
            barrier.wait(20)
            for _ in range(5):
                assert ask(client)["client"] == list(client.sock.getsockname())

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(one, range(20)))


def test_tls(front: Front, ca: Authority) -> None:
    with front.secure(ca.trusting()) as client:
        own = list(client.sock.getsockname())
        scope = ask(client)
        cipher = client.sock.cipher()  # type: ignore[attr-defined]
    assert (scope["client"], scope["scheme"]) == (own, "https")
    tls = scope["extensions"]["tls"]
    assert cipher[:2] == ("TLS_AES_256_GCM_SHA384", "TLSv1.3")
    assert (tls["tls_version"], tls["cipher_suite"]) == (0x0304, 0x1302)
    assert tls["client_cert_name"] is None
    assert tls["client_cert_error"] is None


def test_client_certificate(front: Front, ca: Authority, tmp_path: Path) -> None:
    alice = ca.issue("alice", "", subject="/O=Bücher, Inc/CN=Alice, of accounts")
    with front.secure(ca.trusting(alice)) as client:
        tls = ask(client)["extensions"]["tls"]
    assert tls["client_cert_name"] == "CN=Alice\\, of accounts"
    assert tls["client_cert_error"] is None


def test_http2(front: Front, ca: Authority) -> None:
    """By ALPN with HAProxy, which passes on what comes."""
    done = subprocess.run(
        ["curl", "-sS", "--cacert", str(ca.cert), f"https://localhost:{front.tls}/scope"],
        capture_output=True,
        text=True,
        timeout=30,
        env=FOREIGN,
    )
    assert done.stderr == ""
    scope = json.loads(done.stdout)
    assert (scope["http_version"], scope["scheme"]) == ("2", "https")
    assert scope["client"][0] == "127.0.0.1"


def test_websocket(front: Front, ca: Authority) -> None:
    with connect(f"wss://localhost:{front.tls}/chat", ssl=ca.trusting()) as client:
        own = list(client.socket.getsockname())
        client.send("scope")
        scope = json.loads(client.recv(timeout=10))
        assert (scope["scheme"], scope["client"][:2]) == ("wss", own[:2])
        client.send("x" * 100_000)
        assert client.recv(timeout=10) == "x" * 100_000


def test_client_of_a_unix_socket(front: Front) -> None:
    """HAProxy tells of no address then: the connection's own, which here is HAProxy's."""
    with front.connect_unix() as client:
        scope = ask(client)
    assert scope["client"] is None or scope["client"][0] == "127.0.0.1"


def test_checks_are_served_and_say_nothing(front: Front) -> None:
    """The check's LOCAL header, then nothing: the connection is let go, and HAProxy calls the server up."""
    with front.connect(front.v2) as client:
        assert ask(client)["client"] == list(client.sock.getsockname())
        wait_for(lambda: ask(client)["client"], what="still up")
    assert "DOWN" not in front.log.read_text()
    assert front.process.poll() is None
