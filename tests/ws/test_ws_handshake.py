"""The opening handshake on the wire: what is refused and how, what a 101 says, and the answers in place of one."""

from __future__ import annotations

import base64
import re

import pytest

from tests.support.handle import Handle
from tests.support.servers import Servers
from tests.support.wait import wait_for
from tests.support.ws_wire import TEXT, WebSocket, accept_value, frame, request

pytestmark = pytest.mark.server
APP = "tests.apps.sockets:app"

REFUSED = {
    "POST": (request(method="POST"), 405, {"allow": "GET"}),
    "HTTP/1.0": (request().replace(b"HTTP/1.1", b"HTTP/1.0"), 400, {}),
    "no Connection": (request("/", "-Connection"), 400, {}),
    "Connection without upgrade": (request("/", "Connection: keep-alive"), 400, {}),
    "no key": (request("/", "-Sec-WebSocket-Key"), 400, {}),
    "short key": (request("/", "Sec-WebSocket-Key: c2hvcnQ="), 400, {}),
    "key without padding": (request(key=b"a" * 24), 400, {}),
    "two keys": (request("/", f"+Sec-WebSocket-Key: {'a' * 22}=="), 400, {}),
    "two versions": (request("/", "+Sec-WebSocket-Version: 13"), 400, {}),
    "version 8": (request("/", "Sec-WebSocket-Version: 8"), 426, {"sec-websocket-version": "13"}),
    "no version": (request("/", "-Sec-WebSocket-Version"), 426, {"sec-websocket-version": "13"}),
    "body": (request("/", "Content-Length: 5") + b"hello", 400, {}),
    "chunked body": (request("/", "Transfer-Encoding: chunked") + b"0\r\n\r\n", 400, {}),
    "subprotocol beyond ASCII": (request("/", "Sec-WebSocket-Protocol: a, b\xff"), 400, {}),
    "no Host": (request("/", "-Host"), 400, {}),
    "control byte in a header": (request("/", "X-Split: a\x0bb"), 400, {}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(server: Servers, case: str) -> None:
    data, status, headers = REFUSED[case]
    handle = server.start(APP)
    with handle.connect() as client:
        response = client.request(data)
        assert response.status == status
        assert headers.items() <= response.headers.items()
        assert client.closed()
    assert handle.get("/opened").body == b"0"


@pytest.mark.parametrize(
    "offered",
    [
        "dXNlcg==",  # credentials in base64, with a character that no token has
        "v4.channel.k8s.io, base64url.bearer.authorization.k8s.io.dG9rZW4",
        "a+b/c=, a+b/c=",
        '{"user": "x@y z"}',
        ", ".join(f"p{i}" for i in range(1000)),
    ],
)
def test_subprotocols_of_any_text(server: Servers, offered: str) -> None:
    handle = server.start(APP)
    with handle.connect() as client:
        client.send(request("/first", f"Sec-WebSocket-Protocol: {offered}"))
        head = client.read_until(b"\r\n\r\n").decode()
    assert head.startswith("HTTP/1.1 101 ")
    assert f"\r\nSec-WebSocket-Protocol: {offered.split(', ')[0]}\r\n" in head


def test_target_and_host_as_old_clients_send_them(server: Servers) -> None:
    handle = server.start(APP)
    for scheme, host in (("ws", "b"), ("WSS", "b"), ("http", "")):
        data = request("/echo", f"Host: {host}").replace(b"/echo", f"{scheme}://a/echo".encode(), 1)
        with handle.connect() as client:
            assert client.request(data).status == 101
    with handle.connect() as client:
        assert client.request(request("/echo", "Host: ")).status == 101


def test_every_refusal_says_why(server: Servers) -> None:
    handle = server.start(APP, "-v", "2")
    for name, (data, status, _) in REFUSED.items():
        before = len(handle.stderr())
        assert handle.raw(data).startswith(f"HTTP/1.1 {status} ".encode()), name
        line = f"INFO .*Request of 127.0.0.1 refused with {status}: \\w.* .*\n"
        wait_for(
            lambda since=before, want=line: re.search(want, handle.stderr()[since:]),  # type: ignore[misc]
            what=name,
        )


def test_other_upgrades_are_plain_requests(server: Servers) -> None:
    handle = server.start(APP)
    with handle.connect() as client:
        assert client.request(request("/opened", "Upgrade: h2c")).body == b"0"


def test_response_head(server: Servers) -> None:
    handle = server.start(APP, "--server-name", "me")
    key = base64.b64encode(b"sixteen bytes ok")
    with handle.connect() as client:
        client.send(request("/sub/chat", "Sec-WebSocket-Protocol: other, chat", key=key))
        assert client.read_until(b"\r\n\r\n").decode().lower().split("\r\n") == [
            "http/1.1 101 switching protocols",
            "server: me",
            "upgrade: websocket",
            "connection: upgrade",
            "sec-websocket-protocol: chat",
            f"sec-websocket-accept: {accept_value(key).lower()}",
            "",
            "",
        ]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/sub/missing", "must be one that the client offered, not 'missing'"),
        ("/header/sec-websocket-protocol/chat", "may not contain those of the handshake itself"),
        ("/header/connection/close", "may not contain those of the handshake itself"),
    ],
)
def test_accept_that_breaks_the_handshake(server: Servers, path: str, said: str) -> None:
    handle = server.start(APP)
    with handle.connect() as client:
        assert client.request(request(path, "Sec-WebSocket-Protocol: chat")).status == 500
    handle.wait_for_log(f"ValueError: .*{said}")
    handle.expect_errors()


def test_handshake_in_pieces_with_frames_behind(server: Servers) -> None:
    """Every byte in its own packet, and frames before the 101 has been seen."""
    handle = server.start(APP)
    with handle.connect() as client:
        client.sock.setsockopt(6, 1, 1)  # TCP_NODELAY
        for byte in request("/echo") + frame(TEXT, "früh".encode()):
            client.send(bytes([byte]))
        assert client.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
        assert WebSocket(client).read() == (TEXT, "früh".encode())


def denied(handle: Handle, path: str) -> int:
    with handle.connect() as client:
        response = client.request(request(path))
        assert client.closed()
        assert response.headers["connection"] == "close"
        return response.status


def test_denied(server: Servers) -> None:
    handle = server.start(
        APP, "--websocket_connect_timeout", "0.3", "--application-close-timeout", "0.3"
    )
    assert denied(handle, "/reject") == 403
    assert denied(handle, "/return") == 403
    handle.wait_for_log("Application ended without accepting or closing: WebSocket /return")
    assert denied(handle, "/hang") == 503
    handle.wait_for_log(r"neither accepted nor closed in time .*: WebSocket /hang")
    events = wait_for(
        lambda: len(e := handle.get("/events").body) > 40 and e, what="two disconnects"
    )
    assert events == b'[["/reject", 1006, ""], ["/hang", 1006, ""]]'


def test_client_leaves_before_the_answer(server: Servers) -> None:
    handle = server.start(APP)
    with handle.connect() as client:
        client.send(request("/hang"))
        wait_for(lambda: handle.get("/opened").body == b"1")
    wait_for(lambda: handle.get("/events").body == b'[["/hang", 1006, ""]]', what="the disconnect")
