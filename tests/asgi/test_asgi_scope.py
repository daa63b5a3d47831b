"""Scopes: every key, its type, and that nothing mutable is shared."""

from __future__ import annotations

import asyncio
import contextvars
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.support.inprocess import Inside, Receive, Send, respond

pytestmark = pytest.mark.server

UPGRADE = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


class Recorder:
    """An application that keeps its scopes."""

    def __init__(self) -> None:
        self.scopes: list[dict[str, Any]] = []

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        if scope["type"] == "http":
            await respond(send)


def scope_of(head: bytes, **options: Any) -> dict[str, Any]:
    """The scope of one request on a fresh server."""
    app = Recorder()
    with Inside(app, **options) as inside, inside.connect() as client:
        client.send(head + b"\r\n\r\n")
        client.response()
    (scope,) = app.scopes
    return scope


def test_http_scope_is_complete() -> None:
    app = Recorder()
    with Inside(app) as inside, inside.connect() as client:
        local, port = client.sock.getsockname(), inside.port
        client.request(
            b"GET /a%20b/%C3%BC?x=%201&y HTTP/1.1\r\nHost: test\r\nX-Twice:  one \r\nOther: o\r\n"
            b"x-twice: two\r\nX-Latin: \xe4\r\nX_Under: no\r\n\r\n"
        )
    assert app.scopes == [
        {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "/a b/ü",
            "raw_path": b"/a%20b/%C3%BC",
            "query_string": b"x=%201&y",
            "root_path": "",
            "headers": [
                (b"host", b"test"),
                (b"x-twice", b"one"),
                (b"other", b"o"),
                (b"x-twice", b"two"),
                (b"x-latin", b"\xe4"),
            ],
            "client": [local[0], local[1]],
            "server": ["127.0.0.1", port],
            "extensions": {},
        }
    ]
    assert list(app.scopes[0])[0] == "type"


def test_websocket_scope_is_complete() -> None:
    app = Recorder()
    with Inside(app) as inside, inside.connect() as client:
        local, port = client.sock.getsockname(), inside.port
        head = b"GET /ws/%41?q HTTP/1.1\r\nHost: test\r\nSec-WebSocket-Protocol: a, b\r\n"
        client.request(head + UPGRADE + b"\r\n")
    (scope,) = app.scopes
    headers = scope.pop("headers")
    assert headers[:2] == [(b"host", b"test"), (b"sec-websocket-protocol", b"a, b")]
    assert scope == {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": "/ws/A",
        "raw_path": b"/ws/%41",
        "query_string": b"q",
        "root_path": "",
        "client": [local[0], local[1]],
        "server": ["127.0.0.1", port],
        "subprotocols": ["a", "b"],
        "extensions": {"websocket.http.response": {}},
    }


def test_http_1_0() -> None:
    assert scope_of(b"GET / HTTP/1.0")["http_version"] == "1.0"


@pytest.mark.parametrize(
    "method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"]
)
def test_method(method: str) -> None:
    app = Recorder()
    with Inside(app) as inside, inside.connect() as client:
        client.send(f"{method} / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        client.read_all()
    assert app.scopes[0]["method"] == method


def test_path_that_is_no_utf8_is_replaced() -> None:
    scope = scope_of(b"GET /%ff%41 HTTP/1.1\r\nHost: a")
    assert (scope["path"], scope["raw_path"]) == ("/\ufffdA", b"/%ff%41")


def test_paths_that_several_connections_ask_for() -> None:
    """The template gets one that is usual; every other scope has its own all the same."""
    app = Recorder()
    paths = [b"/a%20b"] * 4 + [
        b"/c",
        b"/a%20b",
        b"/c",
        b"/c",
        b"/c",
        b"/a%20b",
        b"/d",
        b"/c",
        b"/" + b"e" * 200,
    ]
    with Inside(app) as inside:
        for path in paths:
            with inside.connect() as client:
                for asked in (path, path, b"/other", path):
                    client.request(b"GET " + asked + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    asked = [each for path in paths for each in (path, path, b"/other", path)]
    assert [scope["raw_path"] for scope in app.scopes] == asked
    assert [scope["path"] for scope in app.scopes] == [
        each.decode().replace("%20", " ") for each in asked
    ]


def test_nothing_mutable_is_shared() -> None:
    """An application may do anything to its scope; the next request of the connection does not see it."""
    app = Recorder()
    state = {"shared": []}
    with Inside(app, state=state) as inside, inside.connect() as client:
        for _ in range(2):
            client.request(b"GET /p HTTP/1.1\r\nHost: a\r\nX-A: b\r\n\r\n")
    first, second = app.scopes
    assert first == second
    for key in ("asgi", "headers", "client", "server", "extensions", "state"):
        assert first[key] is not second[key], key
    for name in first["extensions"]:
        assert first["extensions"][name] is not second["extensions"][name], name
    # The state is copied shallowly, as the specification has it.
    assert first["state"]["shared"] is second["state"]["shared"]
    assert first["state"] is not state
    first.clear()
    assert second["path"] == "/p"


def test_headers_that_may_be_secret_are_not_kept() -> None:
    """Connections share what browsers say of themselves; a token is no such thing, wherever it is put."""
    app = Recorder()
    secret = b"Authorization: t0ken\r\nCookie: t0ken\r\nSec-WebSocket-Protocol: bearer.t0ken\r\n"
    with Inside(app) as inside:
        for _ in range(2):
            with inside.connect() as client:
                client.request(
                    b"GET / HTTP/1.1\r\nHost: a\r\nAccept: text/x\r\n" + secret + b"\r\n"
                )
    first, second = (dict(scope["headers"]) for scope in app.scopes)
    assert first == second
    assert first[b"accept"] is second[b"accept"]
    for name in (b"authorization", b"cookie", b"sec-websocket-protocol"):
        assert first[name] is not second[name], name


def test_what_connections_have_in_common_is_there_once() -> None:
    """An idle WebSocket costs memory for what is its own: the client's host and usual headers mostly are not."""
    app = Recorder()
    names = b"upgrade priority sec-fetch-mode sec-fetch-site x-forwarded-host x-forwarded-port"
    headers = b"".join(b"%s: the same\r\n" % name for name in names.split())
    with Inside(app) as inside:
        for _ in range(2):
            with inside.connect() as client:
                client.request(b"GET / HTTP/1.1\r\nHost: a\r\n" + headers + b"\r\n")
    first, second = app.scopes
    assert first["client"][0] is second["client"][0]
    pairs = dict(second["headers"])
    for name, value in first["headers"]:
        assert value is pairs[name], name


def test_extensions_that_an_application_changed_or_kept() -> None:
    kept: list[Any] = []

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        extensions = scope["extensions"]
        assert all(value == {} for value in extensions.values())
        kept.append(extensions["http.response.pathsend"])
        extensions["http.response.trailers"]["mine"] = 1
        extensions["mine"] = {}
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"%d" % len(extensions)})

    with Inside(app, extensions=("pathsend", "trailers")) as inside, inside.connect() as client:
        answers = [client.request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").body for _ in range(3)]
        kept.clear()
        answers.append(client.request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").body)
    assert answers == [b"3"] * 4
    assert not inside.errors


def test_changing_headers_on_a_kept_connection() -> None:
    """What a connection's cache holds is used only where it is the same."""
    app = Recorder()
    requests = [
        b"GET /a HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nX-B: 1\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\nX-A: 2\r\nX-B: 1\r\n\r\n",
        b"GET /b HTTP/1.1\r\nHost: a\r\nX-B: 1\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\nX-C: " + b"c" * 1000 + b"\r\nX-B: 1\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\n"
        + b"".join(b"h%d: %d\r\n" % (number, number) for number in range(60))
        + b"\r\n",
    ]
    with Inside(app) as inside, inside.connect() as client:
        for request in requests * 2:
            client.request(request)
    for request, scope in zip(requests * 2, app.scopes, strict=True):
        line, *fields = request.decode().strip().split("\r\n")
        assert scope["path"] == line.split()[1]
        expected = [tuple(part.strip().encode() for part in field.split(":")) for field in fields]
        assert scope["headers"] == [(name.lower(), value) for name, value in expected]


def test_root_path_option_is_taken_verbatim() -> None:
    assert (
        scope_of(b"GET / HTTP/1.1\r\nHost: a", root_path="/pre%20fix")["root_path"] == "/pre%20fix"
    )


def test_root_path_header_of_a_local_proxy() -> None:
    scope = scope_of(b"GET / HTTP/1.1\r\nHost: a\r\nDaphne-Root-Path: /a%20b%zz", root_path="/x")
    assert scope["root_path"] == "/a b%zz"
    assert scope["headers"] == [(b"host", b"a")]


def test_proxy_headers() -> None:
    names = (b"x-forwarded-for", b"x-forwarded-port", b"x-forwarded-proto")
    head = (
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.0.0.1, 2001:db8::1\r\n"
        b"X-Forwarded-For: 127.0.0.9\r\nX-Forwarded-Port: 1234\r\nX-Forwarded-Proto: https"
    )
    scope = scope_of(head, proxy_headers=names)
    assert (scope["client"], scope["scheme"]) == (["2001:db8::1", 1234], "https")
    assert len(scope["headers"]) == 5
    scope = scope_of(head)
    assert scope["client"][0] == "127.0.0.1"
    assert scope["scheme"] == "http"


@pytest.mark.parametrize(
    ("port", "seen"),
    [(b"0", 0), (b"65535", 65535), (b"65536", 0), (b"x", 0), (b"-1", 0), (b"9" * 50, 0)],
)
def test_proxy_port(port: bytes, seen: int) -> None:
    names = (b"x-forwarded-for", b"x-forwarded-port", None)
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Port: " + port
    assert scope_of(head, proxy_headers=names)["client"] == ["1.2.3.4", seen]


def test_proxy_scheme_without_an_address_is_not_believed() -> None:
    names = (b"x-forwarded-for", None, b"x-forwarded-proto")
    scope = scope_of(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https", proxy_headers=names)
    assert (scope["scheme"], scope["client"][0]) == ("http", "127.0.0.1")


@pytest.mark.parametrize(("proto", "scheme"), [(b"https", "wss"), (b"wss", "wss"), (b"http", "ws")])
def test_proxy_scheme_of_a_websocket(proto: bytes, scheme: str) -> None:
    names = (b"x-forwarded-for", None, b"x-forwarded-proto")
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: " + proto
    scope = scope_of(head + b"\r\n" + UPGRADE[:-2], proxy_headers=names)
    assert (scope["type"], scope["scheme"]) == ("websocket", scheme)


def test_unix_socket_peer(tmp_path: Path) -> None:
    app = Recorder()
    path = str(tmp_path / "s")

    async def listen(inside: Inside) -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
        listener.setblocking(False)
        inside.server.listen(listener.detach())

    with Inside(app) as inside:
        inside.run(listen(inside))
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(path)
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nDaphne-Root-Path: /r\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 200")
    (scope,) = app.scopes
    assert scope["client"] is None
    assert scope["server"] is None
    assert scope["root_path"] == "/r"


def test_context_is_fresh_for_every_request() -> None:
    where: contextvars.ContextVar[str] = contextvars.ContextVar("where")
    seen: list[str] = []

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        seen.append(where.get())
        where.set(scope["path"])
        await asyncio.sleep(0)
        await respond(send)
        assert where.get() == scope["path"]

    base = contextvars.Context()
    base.run(where.set, "base")
    with Inside(app, context=base) as inside, inside.connect() as client:
        for path in (b"/a", b"/b"):
            client.request(b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert seen == ["base", "base"]
    assert base[where] == "base"
