"""ASGI's extensions, by the real command line and real clients: early hints, trailers, files, debug."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from websockets.sync.client import connect

from pyasgi import _core
from tests.support.asgi_script import notes, script
from tests.support.authority import Authority
from tests.support.client import RawClient
from tests.support.handle import Handle
from tests.support.inprocess import Inside, Message, Receive, Send
from tests.support.memory import ROOM
from tests.support.programs import FOREIGN
from tests.support.servers import Servers
from tests.support.wait import wait_for

APP = "tests.apps.extensions:app"
ALL = tuple(f"--extension={name}" for name in _core.extensions())
START = {"type": "http.response.start", "status": 200, "headers": []}
TRAILED = {**START, "trailers": True}
BODY = {"type": "http.response.body", "body": b"x"}
PIECE = {**BODY, "more_body": True}
HINT = {"type": "http.response.early_hint", "links": [b"</a>"]}
TRAILERS = {"type": "http.response.trailers", "headers": [(b"x-a", b"1")]}
MEGABYTE = 1 << 20

pytestmark = pytest.mark.server


def zero(**keys: Any) -> dict[str, Any]:
    return {"type": "http.response.zerocopysend", **keys}


def sent_path(path: object) -> dict[str, Any]:
    return {"type": "http.response.pathsend", "path": path}


@pytest.fixture
def handle(server: Servers) -> Handle:
    return server.start(APP, *ALL)


@pytest.fixture
def small(tmp_path: Path) -> str:
    path = tmp_path / "small.txt"
    path.write_bytes(b"0123456789")
    return str(path)


@pytest.fixture
def large(tmp_path: Path) -> str:
    """Five megabytes in which every place can be told from the others."""
    path = tmp_path / "large.bin"
    path.write_bytes(b"".join(number.to_bytes(4, "big") for number in range(5 * MEGABYTE // 4)))
    return str(path)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# ---- what is advertised ----


def test_scope_of_each_protocol(handle: Handle) -> None:
    files: dict[str, Any] = {"http.response.pathsend": {}, "http.response.zerocopysend": {}}
    more: dict[str, Any] = {"http.response.trailers": {}, "http.response.early_hint": {}}
    assert json.loads(handle.get("/extensions").body) == files | more
    old = handle.raw(b"GET /extensions HTTP/1.0\r\n\r\n")
    assert json.loads(old.partition(b"\r\n\r\n")[2]) == files
    with connect(f"{handle.ws_url}/") as client:
        assert json.loads(client.recv()) == {"websocket.http.response": {}}
        assert client.recv() == "ValueError: Cannot handle message type http.response.early_hint!"
        assert "has been accepted" in str(client.recv())


def test_debug_is_advertised_and_logged_at_debug_level(server: Servers) -> None:
    handle = server.start(APP, *ALL, "-v", "2")
    assert "http.response.debug" in json.loads(handle.get("/extensions").body)
    assert handle.get("/debug").body == b"ok"
    handle.wait_for_log(
        r"<http GET /debug from 127\.0\.0\.1:\d+> http\.response\.debug: "
        r"\{'template': 'a\.html', 'n': 7\}"
    )


@pytest.mark.parametrize(
    ("events", "said"),
    [
        (
            [{"type": "http.response.debug"}],
            "TypeError: info must be a dict, not absent",
        ),
        (
            [{"type": "http.response.debug", "info": [1]}],
            "TypeError: info must be a dict, not list",
        ),
        (
            [START, {"type": "http.response.debug", "info": {}}],
            "ValueError: http.response.debug: it must be sent once, before http.response.start",
        ),
        (
            [{"type": "http.response.debug", "info": {}}] * 2,
            "ValueError: http.response.debug: it must be sent once, before http.response.start",
        ),
    ],
)
def test_debug_that_is_refused(server: Servers, events: list[Any], said: str) -> None:
    handle = server.start(APP, *ALL, "-v", "2")
    handle.expect_errors()
    assert script(handle, "n", *events)[-1] == said


def test_long_debug_is_cut(server: Servers) -> None:
    handle = server.start(APP, *ALL, "-v", "2")
    event = {"type": "http.response.debug", "info": {"x": "y" * 5000}}
    assert script(handle, "n", event, START, BODY) == ["ok"] * 3
    handle.wait_for_log(r"http\.response\.debug: \{'x': 'y{900,1000}\.\.\. \(cut\)\n")


@pytest.mark.parametrize("event", [HINT, TRAILERS])
def test_what_is_not_advertised_is_refused(handle: Handle, event: dict[str, Any]) -> None:
    body = repr([START, event, BODY]).encode()
    head = b"POST /script?n HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body)
    assert handle.raw(head + body).startswith(b"HTTP/1.0 200 OK")
    said = f"ValueError: {event['type']}: it is not in the extensions of this scope"
    assert notes(handle, "n", 3) == ["ok", said, "ok"]


def test_http_1_0_announces_no_trailers(handle: Handle) -> None:
    body = repr([TRAILED, START, BODY]).encode()
    handle.raw(b"POST /script?n HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    refused, *rest = notes(handle, "n", 3)
    assert refused == (
        "ValueError: trailers is true, but the scope's extensions have no http.response.trailers"
    )
    assert rest == ["ok", "ok"]


def test_trailers_of_a_denied_websocket_are_refused(server: Servers) -> None:
    handle = server.start("tests.apps.asgi:app", *ALL)
    event = {"type": "websocket.http.response.start", "status": 403, "trailers": True}
    end = {"type": "websocket.http.response.body", "body": b"no"}
    with (
        pytest.raises(Exception, match="403"),
        connect(
            f"{handle.ws_url}/script?n&{quote(repr([event, {**event, 'trailers': False}, end]))}"
        ),
    ):
        pass
    refused, *rest = notes(handle, "n", 3)
    assert "no http.response.trailers" in refused
    assert rest[:2] == ["ok", "ok"]


# ---- early hints ----


def hints_of(raw: bytes) -> list[bytes]:
    *hints, last, _ = raw.split(b"\r\n\r\n")
    assert last.startswith(b"HTTP/1.1 200 OK\r\n")
    return hints


def test_hints(handle: Handle) -> None:
    raw = handle.raw(b"GET /hints HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert hints_of(raw) == [
        b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload; as=style",
        b"HTTP/1.1 103 Early Hints\r\nlink: </b.js>\r\nlink: </c.js>",
    ]


def test_hints_behind_the_start(handle: Handle) -> None:
    raw = handle.raw(b"GET /late_hints HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert hints_of(raw) == [b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>"]


def test_clients_take_hints(handle: Handle) -> None:
    """Two requests on each connection: the hints leave nothing behind."""
    with httpx.Client(base_url=handle.url) as client:
        assert [client.get("/hints").text for _ in range(2)] == ["ok", "ok"]
    curl = run_curl("-v", f"{handle.url}/hints", f"{handle.url}/hints")
    assert curl.stdout == "okok"
    assert curl.stderr.count("HTTP/1.1 103") == 4
    assert curl.stderr.count("Connected to") == 1


def run_curl(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    return subprocess.run(
        ["curl", "-sS", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=check,
        env=FOREIGN,
    )


REFUSED_HINTS: list[tuple[dict[str, Any], str]] = [
    (
        {"type": "http.response.early_hint"},
        "ValueError: http.response.early_hint must have links",
    ),
    ({**HINT, "links": 5}, "TypeError: links must be an iterable of bytes"),
    ({**HINT, "links": "</a>"}, "TypeError: links must be bytes, not str"),
    ({**HINT, "links": b"</a>"}, "TypeError: links must be bytes, not int"),
    ({**HINT, "links": [b"a\r\nb"]}, "ValueError: Link b'a\\r\\nb' has control characters"),
]


def test_hints_that_are_refused(handle: Handle) -> None:
    for number, (event, said) in enumerate(REFUSED_HINTS):
        assert script(handle, f"n{number}", event, START, BODY) == [said, "ok", "ok"]


def test_hint_behind_a_piece_of_the_body(handle: Handle) -> None:
    said = "ValueError: http.response.early_hint: the response is on its way already"
    assert script(handle, "n", HINT, START, PIECE, HINT, BODY) == ["ok", "ok", "ok", said, "ok"]


# ---- trailers ----

ASKS = b"GET /trailers?n HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: close, TE\r\n\r\n"


def test_trailers(handle: Handle) -> None:
    raw = handle.raw(ASKS)
    assert b"trailer: x-sum, x-more\r\n" in raw
    assert raw.partition(b"\r\n\r\n")[2] == (
        b"2\r\nhe\r\n3\r\nllo\r\n0\r\nx-sum: 42\r\nx-more: yes\r\n\r\n"
    )
    assert notes(handle, "n") == ["ok"]


def test_trailers_are_for_those_who_ask(handle: Handle) -> None:
    raw = handle.raw(ASKS.replace(b"TE: trailers\r\n", b""))
    assert raw.endswith(b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n")
    assert handle.get("/trailers").body == b"hello"


def test_curl_takes_trailers(handle: Handle) -> None:
    curl = run_curl("-i", "-H", "TE: trailers", *[f"{handle.url}/trailers"] * 2)
    assert curl.stdout.count("hello") == curl.stdout.count("x-sum: 42") == 2


REFUSED_TRAILERS: list[tuple[dict[str, Any], str]] = [
    (
        {**TRAILERS, "headers": [(b"Content-Length", b"1")]},
        "ValueError: Header b'Content-Length' cannot be a trailer: send it in http.response.start",
    ),
    (
        {**TRAILERS, "headers": [(b"x a", b"1")]},
        "ValueError: Header name b'x a' is not a token",
    ),
    (
        {**TRAILERS, "headers": [(b"x-a", "1")]},
        "ValueError: Header value '1' expected to be `bytes`, but got `<class 'str'>`",
    ),
    ({**TRAILERS, "headers": 5}, "TypeError: headers must be pairs of (name, value), not int"),
    (BODY, "ValueError: HTTP response waits for its http.response.trailers but got {type}"),
    (START, "ValueError: HTTP response has already been started"),
    (
        zero(file="fd:/dev/null"),
        "ValueError: http.response.zerocopysend: the body is complete",
    ),
]


def test_trailers_that_are_refused(handle: Handle) -> None:
    for number, (event, said) in enumerate(REFUSED_TRAILERS):
        found = script(handle, f"n{number}", TRAILED, BODY, event, TRAILERS, TRAILERS)
        assert found == ["ok", "ok", said.format(**event), "ok", "ok"]


def test_trailers_out_of_order(handle: Handle) -> None:
    unfinished = "ValueError: http.response.trailers: the body is not complete"
    unannounced = (
        "ValueError: http.response.trailers: http.response.start did not announce trailers"
    )
    assert script(handle, "n", TRAILERS, START, TRAILERS, BODY) == [
        unannounced,
        "ok",
        unannounced,
        "ok",
    ]
    assert script(handle, "m", TRAILED, PIECE, TRAILERS, BODY, TRAILERS) == [
        "ok",
        "ok",
        unfinished,
        "ok",
        "ok",
    ]


def test_trailers_that_do_not_come(handle: Handle) -> None:
    handle.expect_errors()
    script(handle, "n", TRAILED, BODY)
    handle.wait_for_log("Application ended without completing its response: POST /script")


# ---- pathsend ----


@pytest.mark.parametrize("kind", ["path", "sized", "relative"])
def test_pathsend(handle: Handle, small: str, large: str, kind: str) -> None:
    for path in (small, large):
        data = Path(path).read_bytes()
        response = handle.get(f"/{kind}?{path}")
        assert response.headers["content-length"] == str(len(data))
        assert digest(response.body) == digest(data)


def test_pathsend_keeps_the_connection_and_pipelines(handle: Handle, large: str) -> None:
    data = Path(large).read_bytes()
    with handle.connect() as client:
        client.send(f"GET /path?{large} HTTP/1.1\r\nHost: a\r\n\r\n".encode() * 3)
        client.send(b"GET /extensions HTTP/1.1\r\nHost: a\r\n\r\n")
        assert [client.response().body == data for _ in range(3)] == [True] * 3
        assert client.response().text.startswith("{")


def test_pathsend_of_http_1_0(handle: Handle, large: str) -> None:
    raw = handle.raw(f"GET /path?{large} HTTP/1.0\r\n\r\n".encode())
    assert raw.partition(b"\r\n\r\n")[2] == Path(large).read_bytes()


def test_pathsend_over_a_unix_socket(server: Servers, tmp_path: Path, large: str) -> None:
    handle = server.start(APP, *ALL, unix=tmp_path / "s")
    assert handle.get(f"/path?{large}").body == Path(large).read_bytes()


def test_pathsend_without_a_body(handle: Handle, large: str) -> None:
    fds = handle.fds()
    with handle.connect() as client:
        client.send(f"HEAD /path?{large} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert client.response("HEAD").headers["content-length"] == str(5 * MEGABYTE)
        client.send(f"GET /not_modified?{large} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert b"304 Not Modified" in client.read_until(b"\r\n\r\n")
        assert handle.fds() == fds + 1
    assert handle.get("/extensions").status == 200


def test_curl_and_httpx_take_files(handle: Handle, large: str, tmp_path: Path) -> None:
    run_curl("-o", str(tmp_path / "copy"), f"{handle.url}/path?{large}")
    assert (tmp_path / "copy").read_bytes() == Path(large).read_bytes()
    with httpx.Client(base_url=handle.url) as client:
        for _ in range(2):
            assert client.get(f"/path?{large}").content == Path(large).read_bytes()


def test_pathsend_of_what_is_no_file(handle: Handle, small: str, tmp_path: Path) -> None:
    """Nothing was sent, so the application may answer in another way."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "secret").touch(0)
    cases = {
        str(tmp_path / "none"): "FileNotFoundError: [Errno 2] No such file or directory",
        str(tmp_path): "IsADirectoryError: [Errno 21] Is a directory",
        str(tmp_path / "fifo"): "OSError: [Errno 22] Invalid argument",
        "/dev/null": "OSError: [Errno 22] Invalid argument",
        f"{small}/x": "NotADirectoryError: [Errno 20] Not a directory",
        small + "\0": "ValueError: embedded null byte",
    }
    if os.geteuid() != 0:
        cases[str(tmp_path / "secret")] = "PermissionError: [Errno 13] Permission denied"
    fds = handle.fds()
    for number, (path, said) in enumerate(cases.items()):
        found = script(handle, f"n{number}", START, sent_path(path), sent_path(small))
        tail = "" if said.startswith("ValueError") else f": {path!r}"
        assert found == ["ok", said + tail, "ok"]
    wait_for(lambda: handle.fds() <= fds, what="closed descriptors")


@pytest.mark.parametrize(
    ("events", "said"),
    [
        (
            [sent_path("/x")],
            "ValueError: http.response.pathsend: the response has not been started",
        ),
        ([START, sent_path(5)], "TypeError: path must be str, not int"),
        ([START, sent_path(b"/x")], "TypeError: path must be str, not bytes"),
        (
            [START, {"type": "http.response.pathsend"}],
            "ValueError: http.response.pathsend must have a path",
        ),
        (
            [START, PIECE, sent_path("/x")],
            "ValueError: http.response.pathsend: it is the whole body and cannot follow another "
            "piece of it",
        ),
    ],
)
def test_pathsend_that_is_refused(handle: Handle, events: list[Any], said: str) -> None:
    handle.expect_errors()
    assert script(handle, "n", *events)[-1] == said


def test_pathsend_that_is_not_its_content_length(handle: Handle, small: str) -> None:
    handle.expect_errors()
    start = {**START, "headers": [(b"content-length", b"11")]}
    found = script(handle, "n", start, sent_path(small))
    assert found[1] == (
        "RuntimeError: http.response.pathsend: the body is longer or shorter than the response's "
        "Content-Length; the connection was cut"
    )


def test_what_follows_a_sent_path_is_ignored(handle: Handle, small: str) -> None:
    events = [START, sent_path(small), BODY, sent_path("/none"), zero(), START, HINT]
    assert script(handle, "n", *events) == ["ok"] * 7


# ---- zerocopysend ----


def test_range(handle: Handle, large: str) -> None:
    data = Path(large).read_bytes()
    with handle.connect() as client:
        for first, last in ((0, 0), (17, 9000), (100_000, 4_000_001), (5 * MEGABYTE - 1,) * 2):
            head = f"GET /part?{large} HTTP/1.1\r\nHost: a\r\nRange: bytes={first}-{last}\r\n\r\n"
            response = client.request(head.encode())
            assert (response.status, response.body == data[first : last + 1]) == (206, True)


def test_files_between_bodies(handle: Handle, small: str, large: str) -> None:
    for path in (small, large):
        data = Path(path).read_bytes()
        wanted = b"<" + data + b"|" + data[1:4] + b"|" + data[2:]
        assert handle.get(f"/mixed?{path}").body == wanted


def test_position_of_a_file(handle: Handle, small: str) -> None:
    assert handle.get(f"/position?{small}").body == b"234" + b"6789" + b"0" + b"45" + b"|015"
    assert notes(handle, small, 4) == [5, 10, 10, 6]


def test_position_beyond_the_end(handle: Handle, small: str) -> None:
    event = zero(file=f"file:{small}", offset=99)
    assert script(handle, "n", START, event) == ["ok", "ok"]


REFUSED_FILES: list[tuple[dict[str, Any], str | None]] = [
    ({}, "ValueError: http.response.zerocopysend must have a file"),
    ({"file": None}, "TypeError: argument must be an int, or have a fileno() method."),
    ({"file": b"bytes"}, "UnsupportedOperation: fileno"),
    ({"file": 999}, "OSError: [Errno 9] Bad file descriptor"),
    (
        {"file": -1},
        "ValueError: file descriptor cannot be a negative integer (-1)",
    ),
    ({"file": "fd:/dev/zero"}, "OSError: [Errno 22] Invalid argument"),
    ({"file": 1}, None),
    ({"offset": "0"}, "TypeError: offset must be int or None, not str"),
    ({"offset": -1}, "ValueError: offset must be a number of bytes, not -1"),
    ({"count": 1.5}, "TypeError: count must be int or None, not float"),
    ({"count": -1}, "ValueError: count must be a number of bytes, not -1"),
    (
        {"count": 1 << 70},
        "ValueError: count must be a number of bytes, not 1180591620717411303424",
    ),
    ({"count": 11}, "ValueError: the file has only 10 bytes from 0 on, not 11"),
    ({"offset": 4, "count": 7}, "ValueError: the file has only 6 bytes from 4 on, not 7"),
    ({"offset": 12, "count": 1}, "ValueError: the file has only 0 bytes from 12 on, not 1"),
    ({"offset": None, "count": None}, "ok"),
]


def test_zerocopysend_that_is_refused(handle: Handle, small: str) -> None:
    fds = handle.fds()
    for number, (keys, said) in enumerate(REFUSED_FILES):
        file = {"file": f"fd:{small}"} if "offset" in keys or "count" in keys else {}
        found = script(handle, f"n{number}", START, zero(**file, **keys), BODY)
        assert found[1] == said or (said is None and found[1].startswith("OSError")), keys
    wait_for(lambda: handle.fds() <= fds, what="closed descriptors")


def test_zerocopysend_of_a_file_that_cannot_be_read(handle: Handle, small: str) -> None:
    assert script(handle, "n", START, zero(file=f"wo:{small}"), BODY) == [
        "ok",
        "OSError: [Errno 9] Bad file descriptor",
        "ok",
    ]


def test_zerocopysend_out_of_order(handle: Handle, small: str) -> None:
    event = zero(file=f"fd:{small}")
    said = "ValueError: http.response.zerocopysend: the response has not been started"
    assert script(handle, "n", event, START, event, event) == [said, "ok", "ok", "ok"]


# ---- slow clients, lost clients, cut files ----


def narrow(handle: Handle) -> RawClient:
    """A client whose socket takes little."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(20)
    sock.connect((handle.host, handle.port))
    return RawClient(sock)


@pytest.fixture
def huge(tmp_path: Path) -> str:
    """A gigabyte that takes no disk."""
    path = tmp_path / "huge.bin"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    return str(path)


def test_memory_stays_flat_and_others_are_served(handle: Handle, huge: str) -> None:
    handle.get("/extensions")
    before = handle.rss()
    with handle.connect() as client:
        client.send(f"GET /path?{huge} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        client.read_until(b"\r\n\r\n")
        left, room, asked = (1 << 30) - len(client.buffer), memoryview(bytearray(1 << 20)), 0
        while left > 0:
            left -= client.sock.recv_into(room, min(left, len(room)))
            if left < (1 << 29) and not asked:
                asked = handle.get("/extensions").status
        assert asked == 200
        client.buffer = b""
        client.send(b"GET /extensions HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.response().status == 200
    assert handle.rss() - before < ROOM


def test_send_waits_for_a_slow_client(handle: Handle, huge: str) -> None:
    with narrow(handle) as client:
        client.send(f"GET /held?{huge} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        client.read_until(b"\r\n\r\n")
        time.sleep(0.2)
        assert json.loads(handle.get("/notes?held").body) == []
    handle.expect_errors()  # the client left while send() waited


def test_send_goes_on(handle: Handle, large: str) -> None:
    assert handle.get(f"/held?{large}").body == Path(large).read_bytes()
    assert notes(handle, "held") == ["went on"]


def test_client_that_leaves(handle: Handle, huge: str) -> None:
    fds = handle.fds()
    for _ in range(3):
        with narrow(handle) as client:
            client.send(f"GET /path?{huge} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            client.read_until(b"\r\n\r\n")
    wait_for(lambda: handle.fds() <= fds, what="closed descriptors")


def test_file_that_becomes_shorter(handle: Handle, huge: str) -> None:
    """The response breaks off visibly: the client gets a reset, no orderly end."""
    handle.expect_errors()
    with narrow(handle) as client:
        client.send(f"GET /cut?{huge} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        with pytest.raises(ConnectionResetError):
            while client.recv():
                pass
    handle.wait_for_log(
        r"Connection of 127\.0\.0\.1 aborted: a file became shorter, with \d+ bytes"
    )


def test_http_timeout_in_a_file(server: Servers, huge: str) -> None:
    handle = server.start(APP, *ALL, "--http-timeout", "0.5")
    handle.expect_errors()
    with narrow(handle) as client:
        client.send(f"GET /held?{huge} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        handle.wait_for_log("Application timed out while sending its response: GET /held")
        with pytest.raises(ConnectionResetError):
            while client.recv():
                pass


def test_shutdown_waits_for_a_file(handle: Handle, large: str) -> None:
    with narrow(handle) as client:
        client.send(f"GET /path?{large} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        client.read_until(b"\r\n\r\n")
        handle.signal(15)
        handle.wait_for_log("shutting down")
        assert client.read_all() == Path(large).read_bytes()
    assert handle.wait() == 0


def test_shutdown_cuts_a_file(server: Servers, huge: str) -> None:
    handle = server.start(APP, *ALL, "--graceful-timeout", "0.3")
    with narrow(handle) as client:
        client.send(f"GET /path?{huge} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        client.read_until(b"\r\n\r\n")
        assert handle.stop() == 0
    assert "Cut at shutdown" in handle.stderr()


# ---- over TLS ----


@pytest.fixture
def secure(server: Servers, tmp_path: Path) -> tuple[Handle, ssl.SSLContext]:
    authority = Authority(tmp_path / "authority")
    site = authority.issue("site")
    handle = server.start(APP, *ALL, "--certfile", str(site.cert), "--keyfile", str(site.key))
    return handle, authority.trusting()


def test_everything_over_tls(secure: tuple[Handle, ssl.SSLContext], small: str, large: str) -> None:
    handle, context = secure
    with httpx.Client(base_url=f"https://localhost:{handle.port}", verify=context) as client:
        offered = client.get("/extensions").json()
        assert set(offered) - {"tls"} == {
            "http.response.pathsend",
            "http.response.zerocopysend",
            "http.response.trailers",
            "http.response.early_hint",
        }
        for path in (small, large):
            data = Path(path).read_bytes()
            assert client.get(f"/path?{path}").content == data
            assert client.get(f"/mixed?{path}").content == (
                b"<" + data + b"|" + data[1:4] + b"|" + data[2:]
            )
        part = client.get(f"/part?{large}", headers={"Range": "bytes=70001-3000000"})
        assert part.content == Path(large).read_bytes()[70001:3000001]
        assert client.get("/hints").text == "ok"
        assert client.get("/trailers", headers={"TE": "trailers"}).text == "hello"


def test_file_that_becomes_shorter_over_tls(
    secure: tuple[Handle, ssl.SSLContext], huge: str
) -> None:
    """No close_notify: what came is not the whole."""
    handle, context = secure
    handle.expect_errors()
    plain = narrow(handle).sock
    with context.wrap_socket(
        plain, server_hostname="localhost", suppress_ragged_eofs=False
    ) as sock:
        sock.sendall(f"GET /cut?{huge} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        with pytest.raises((ConnectionResetError, ssl.SSLEOFError)):
            while sock.recv(65536):
                pass
    handle.wait_for_log("a file became shorter")


# ---- over HTTP/2 ----


# One request for each curl: version 7.88 breaks down at a second one with prior knowledge.
def run_h2(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return run_curl("--http2-prior-knowledge", *arguments, check=check)


def test_scope_over_http_2(handle: Handle) -> None:
    offered = json.loads(run_h2(f"{handle.url}/extensions").stdout)
    assert offered == json.loads(handle.get("/extensions").body)


def test_files_over_http_2(handle: Handle, small: str, large: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for path in (small, large):
        data = Path(path).read_bytes()
        for url, wanted in {
            f"/path?{path}": data,
            f"/sized?{path}": data,
            f"/mixed?{path}": b"<" + data + b"|" + data[1:4] + b"|" + data[2:],
        }.items():
            run_h2("-o", str(out), f"{handle.url}{url}")
            assert digest(out.read_bytes()) == digest(wanted), url
    run_h2("-H", "Range: bytes=70001-3000000", "-o", str(out), f"{handle.url}/part?{large}")
    assert out.read_bytes() == Path(large).read_bytes()[70001:3000001]
    head = run_h2("-I", f"{handle.url}/path?{large}").stdout
    assert "HTTP/2 200" in head
    assert f"content-length: {5 * MEGABYTE}" in head


def test_many_files_on_one_http_2_connection(
    secure: tuple[Handle, ssl.SSLContext], large: str
) -> None:
    handle, context = secure
    data = digest(Path(large).read_bytes())
    url = f"https://localhost:{handle.port}"

    async def fetch_all() -> list[str]:
        async with httpx.AsyncClient(base_url=url, verify=context, http2=True) as client:
            answers = await asyncio.gather(*[client.get(f"/path?{large}") for _ in range(6)])
        assert {answer.http_version for answer in answers} == {"HTTP/2"}
        return [digest(answer.content) for answer in answers]

    assert asyncio.run(fetch_all()) == [data] * 6


def test_hints_over_http_2(handle: Handle) -> None:
    for path, count in {"/hints": 2, "/late_hints": 1}.items():
        curl = run_h2("-v", handle.url + path)
        assert curl.stdout == "ok"
        assert curl.stderr.count("HTTP/2 103") == count
        assert curl.stderr.count("HTTP/2 200") == 1
        assert "link: </a.css>" in curl.stderr


def test_trailers_over_http_2(handle: Handle) -> None:
    asked = run_h2("-i", "-H", "TE: trailers", f"{handle.url}/trailers?n").stdout
    assert asked.endswith("hellox-sum: 42\nx-more: yes\n")
    silent = run_h2("-i", f"{handle.url}/trailers?n").stdout
    assert silent.endswith("hello")
    assert notes(handle, "n", 2) == ["ok"] * 2


def test_file_that_becomes_shorter_over_http_2(handle: Handle, huge: str) -> None:
    """The stream is reset; the connection may go on."""
    handle.expect_errors()
    curl = run_h2("-o", os.devnull, "--limit-rate", "1M", f"{handle.url}/cut?{huge}", check=False)
    assert curl.returncode != 0
    handle.wait_for_log("became shorter")
    assert handle.get("/extensions").status == 200


def test_memory_stays_flat_over_http_2(handle: Handle, huge: str) -> None:
    run_h2(f"{handle.url}/extensions")
    before = handle.rss()
    """curl has a window of 32 MB, and reads so slowly here that the socket is full."""
    arguments = ("--limit-rate", "40M", "-m", "3", "-o", os.devnull)
    curl = run_h2(*arguments, f"{handle.url}/path?{huge}", check=False)
    assert curl.returncode == 28  # its time was over
    assert handle.rss() - before < ROOM


def test_trailers_that_do_not_come_over_http_2(handle: Handle) -> None:
    handle.expect_errors()
    body = repr([TRAILED, BODY])
    curl = run_h2("-H", "TE: trailers", "-d", body, f"{handle.url}/script?n", check=False)
    assert curl.returncode != 0
    handle.wait_for_log("Application ended without completing its response")


# ---- Starlette ----


def test_starlette_file_response(server: Servers, large: str) -> None:
    handle = server.start("tests.apps.starlette_app:app", *ALL, cwd=Path(large).parent)
    data = Path(large).read_bytes()
    for path in (large, Path(large).name):
        response = handle.get(f"/file?path={path}")
        assert response.body == data
        assert response.headers["x-stamp"] == "yes"
        assert response.headers["x-pathsend"] == "yes"
    part = handle.get(f"/file?path={large}", headers={"Range": "bytes=1000-1000999"})
    assert (part.status, part.body) == (206, data[1000:1001000])
    assert handle.get(f"/file?path={large}", method="HEAD").body == b""


def test_starlette_early_hints(server: Servers) -> None:
    handle = server.start("tests.apps.starlette_app:app", *ALL)
    raw = handle.raw(b"GET /hints HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert hints_of(raw) == [b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload"]


def test_http_client_takes_files(handle: Handle, large: str) -> None:
    connection = http.client.HTTPConnection(handle.host, handle.port, timeout=10)
    for _ in range(3):
        connection.request("GET", f"/path?{large}")
        assert connection.getresponse().read() == Path(large).read_bytes()
    connection.close()


def test_what_extensions_send_to_a_client_that_left_is_checked_and_dropped(tmp_path: Path) -> None:
    said: list[str] = []
    file = tmp_path / "file"
    file.write_bytes(b"x" * 20_000)
    start = {"type": "http.response.start", "status": 200, "trailers": True}
    events: list[dict[str, Any]] = [
        {"type": "http.response.early_hint", "links": [b"</a>; rel=preload"]},
        {"type": "http.response.early_hint", "links": ["</a>"]},
        start,
        start,
        {"type": "http.response.pathsend", "path": str(tmp_path / "missing")},
        {"type": "http.response.pathsend", "path": str(file)},
        {"type": "http.response.body", "body": b"more"},
        {"type": "http.response.trailers", "headers": [(b"content-length", b"1")]},
        {"type": "http.response.trailers", "headers": [(b"x-a", b"1")]},
        {"type": "http.response.trailers", "headers": [(b"x-b", b"1")]},
    ]

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        for event in events:
            try:
                await send(event)
                said.append("ok")
            except Exception as error:  # noqa: BLE001 - the class is what the test asks for
                said.append(type(error).__name__)

    with Inside(app, extensions=_core.extensions()) as inside:
        with inside.connect() as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n")
            wait_for(lambda: inside.server.tasks)
        wait_for(lambda: not inside.server.tasks)
        assert inside.errors == []
    assert said == [
        *("ok", "TypeError", "ok", "ValueError", "FileNotFoundError", "ok", "ValueError"),
        *("ValueError", "ok", "ok"),
    ]
