"""The access log: daphne's line from C, to stdout, files and pipes; Python loggers are called."""

from __future__ import annotations

import datetime
import io
import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from pyasgi.access import AccessLogGenerator, native_descriptor
from tests.support.handle import Handle
from tests.support.ipv6 import needs_ipv6
from tests.support.servers import Servers
from tests.support.wait import wait_for

APP = "tests.apps.basic:app"
LINE = re.compile(r'(\S+) - - \[(.+?)\] "(.*)" (\S+) (\S+)')


def lines(text: str) -> list[tuple[str, ...]]:
    """(client, request, status, size) of every line."""
    found: list[tuple[str, ...]] = []
    for line in text.splitlines():
        match = LINE.fullmatch(line)
        assert match, line
        client, when, request, status, size = match.groups()
        age = datetime.datetime.now() - datetime.datetime.strptime(when, "%d/%b/%Y:%H:%M:%S")
        assert abs(age.total_seconds()) < 60, "local time without a zone"
        found.append((client, request, status, size))
    return found


def logged(handle: Handle, count: int) -> list[tuple[str, ...]]:
    """The lines on stdout, once there are count of them; while the server runs."""
    wait_for(lambda: handle.stdout().count("\n") >= count, what=f"{count} access-log lines")
    return lines(handle.stdout())


def test_http_lines(server: Servers) -> None:
    handle = server.start(APP)
    with handle.connect() as client:
        host, port = client.sock.getsockname()
        for request in (
            b"GET /?a=%20b&c HTTP/1.1\r\n",
            b"POST /echo HTTP/1.1\r\nContent-Length: 3\r\n",
            b"GET /status/204 HTTP/1.1\r\n",
        ):
            client.send(request + b"Host: t\r\n\r\n" + (b"abc" if b"POST" in request else b""))
            client.response()
        client.send(b"HEAD /x%22y HTTP/1.1\r\nHost: t\r\n\r\n")
        client.response("HEAD")
    peer = f"{host}:{port}"
    assert logged(handle, 4) == [
        (peer, "GET /?a=%20b&c", "200", "5"),
        (peer, "POST /echo", "200", "3"),
        (peer, "GET /status/204", "204", "-"),
        (peer, "HEAD /x%22y", "404", "-"),
    ]


def test_websocket_lines(server: Servers) -> None:
    handle = server.start(APP)
    with connect(f"{handle.ws_url}/chat/?token=secret") as client:
        client.send("x")
        client.recv()
        peer = "{}:{}".format(*client.local_address)
    assert logged(handle, 3) == [
        (peer, "WSCONNECTING /chat/", "-", "-"),
        (peer, "WSCONNECT /chat/", "-", "-"),
        (peer, "WSDISCONNECT /chat/", "-", "-"),
    ]


def test_rejected_websocket_lines(server: Servers) -> None:
    handle = server.start("tests.apps.rejects:app")
    with pytest.raises(InvalidStatus):
        connect(f"{handle.ws_url}/no/")
    assert [line[1] for line in logged(handle, 3)] == [
        "WSCONNECTING /no/",
        "WSREJECT /no/",
        "WSDISCONNECT /no/",
    ]


def test_control_characters_stay_in_their_line(server: Servers) -> None:
    handle = server.start(APP)
    for target in (b"/a%0a%1b[31m", b'/"quoted"\\', b"/\xe9", b"/\x1b[31m"):
        with handle.connect() as client:
            client.send(b"GET " + target + b" HTTP/1.1\r\nHost: t\r\n\r\n")
            client.recv()
    wait_for(lambda: handle.stdout().count("\n") >= 1, what="a line")
    text = handle.stdout()
    assert all(" " <= character <= "~" for character in text.replace("\n", ""))
    assert "/a%0a%1b[31m" in text


def test_client_that_left_before_the_answer_has_no_status(server: Servers) -> None:
    handle = server.start(APP)
    with handle.connect() as client:
        client.send(b"GET /sleep/2 HTTP/1.1\r\nHost: t\r\n\r\n")
        time.sleep(0.1)
    time.sleep(0.5)
    assert handle.get("/").status == 200
    assert handle.stop() == 0
    assert [line[1:] for line in lines(handle.stdout())] == [
        ("GET /sleep/2", "-", "-"),
        ("GET /", "200", "5"),
    ]


def test_unix_socket_client_is_none(server: Servers, tmp_path: Path) -> None:
    handle = server.start(unix=tmp_path / "s")
    handle.get("/")
    assert logged(handle, 1) == [("None", "GET /", "200", "5")]


@needs_ipv6
def test_ipv6_client_has_no_brackets(server: Servers) -> None:
    handle = server.start(APP, bind=("-b", "::1", "-p", "0"))
    handle.host = "::1"
    handle.get("/")
    assert re.fullmatch(r"::1:\d+", logged(handle, 1)[0][0])


def test_file_is_appended_to(server: Servers, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_text("before\n")
    handle = server.start(APP, "--access-log", str(path))
    handle.get("/")
    wait_for(lambda: path.read_text().count("\n") == 2, what="the line, while the server runs")
    assert handle.stop() == 0
    assert path.read_text().startswith("before\n")
    assert handle.stdout() == ""
    lines(path.read_text().removeprefix("before\n"))


def test_lines_are_complete_at_exit(server: Servers, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    handle = server.start(APP, "--access-log", str(path), "-v", "0", unix=tmp_path / "s")
    for number in range(200):
        handle.get(f"/?{number}")
    assert handle.stop() == 0
    requests = [line[1] for line in lines(path.read_text())]
    assert requests == [f"GET /?{number}" for number in range(200)]


def test_slow_reader_of_the_log_does_not_stop_the_server(server: Servers) -> None:
    """Nobody reads the pipe: requests are still answered, and the server still ends."""
    reading, writing = os.pipe()
    try:
        handle = server.start(APP, stdout=writing)
        os.close(writing)
        path = "/?" + "x" * 4000
        with handle.connect() as client:
            for _ in range(100):
                client.send(f"GET {path} HTTP/1.1\r\nHost: t\r\n\r\n".encode())
                assert client.response().status == 200
        assert handle.stop() == 0
    finally:
        os.close(reading)


def test_closed_log_does_not_stop_the_server(server: Servers) -> None:
    handle = server.start("tests.apps.basic:app", module=("-c", CLOSED_STDOUT))
    for _ in range(3):
        assert handle.get("/").body == b"hello"
    assert handle.stop() == 0


CLOSED_STDOUT = """
import os, subprocess, sys
reading, writing = os.pipe()
os.dup2(writing, 1)
os.close(writing)
os.close(reading)
from pyasgi.cli import main
main()
"""


# ---- Python's side ----


def test_who_gets_a_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Sub(AccessLogGenerator):
        pass

    with (tmp_path / "log").open("w") as file:
        plain = AccessLogGenerator(file)
        assert native_descriptor(plain) == file.fileno()
        assert native_descriptor(Sub(file)) is None
        assert native_descriptor(print) is None
        assert native_descriptor(None) is None
        assert native_descriptor(AccessLogGenerator(io.StringIO())) is None
        patched = AccessLogGenerator(file)
        patched.write_entry = print  # type: ignore[method-assign, assignment]
        assert native_descriptor(patched) is None
        monkeypatch.setattr(AccessLogGenerator, "write_entry", print)
        assert native_descriptor(plain) is None
    assert native_descriptor(plain) is None, "closed"


def test_generator_writes_daphnes_lines() -> None:
    stream = io.StringIO()
    log = AccessLogGenerator(stream)
    details: dict[str, Any] = {
        "path": "/a?b",
        "status": 200,
        "method": "GET",
        "client": "192.0.2.1:5",
        "time_taken": 0.1,
        "size": 0,
    }
    log("http", "complete", details)
    for action in ("connecting", "connected", "rejected", "disconnected", "unknown"):
        log("websocket", action, {"path": "/w", "client": None})
    assert lines(stream.getvalue()) == [
        ("192.0.2.1:5", "GET /a?b", "200", "-"),
        ("None", "WSCONNECTING /w", "-", "-"),
        ("None", "WSCONNECT /w", "-", "-"),
        ("None", "WSREJECT /w", "-", "-"),
        ("None", "WSDISCONNECT /w", "-", "-"),
    ]


SUBCLASS = """
import sys
from pyasgi import cli, access

class Redacting(access.AccessLogGenerator):
    def write_entry(self, host, date, request, status=None, length=None, ident=None, user=None):
        super().write_entry("-", date, request.partition("?")[0], status, length, "me", "you")

cli.AccessLogGenerator = Redacting
cli.main()
"""


def test_subclass_is_asked_for_every_line(server: Servers) -> None:
    handle = server.start(APP, module=("-c", SUBCLASS))
    handle.get("/?token=secret")
    with connect(handle.ws_url):
        pass
    wait_for(lambda: handle.stdout().count("\n") == 4, what="four lines")
    found = [re.sub(r"\[.*\]", "[]", line) for line in handle.stdout().splitlines()]
    assert found == [
        '- me you [] "GET /" 200 5',
        '- me you [] "WSCONNECTING /" - -',
        '- me you [] "WSCONNECT /" - -',
        '- me you [] "WSDISCONNECT /" - -',
    ]


ACTION_LOGGER = """
import json, sys
from pyasgi.server import Server
from tests.apps.basic import app

def log(protocol, action, details):
    print(json.dumps([protocol, action, details]), flush=True)

def ready():
    print("Listening on TCP address 127.0.0.1:%d" % server.listening_addresses[0][1], file=sys.stderr, flush=True)

server = Server(app, ["tcp:0:interface=127.0.0.1"], action_logger=log, ready_callable=ready)
server.run()
"""


def test_action_logger_details(server: Servers) -> None:
    handle = server.start(APP, module=("-c", ACTION_LOGGER))
    with handle.connect() as client:
        peer = "{}:{}".format(*client.sock.getsockname())
        client.send(b"GET /sleep/0.1?q=1 HTTP/1.1\r\nHost: t\r\n\r\n")
        client.response()
    with connect(f"{handle.ws_url}/w?q=1"):
        pass
    wait_for(lambda: handle.stdout().count("\n") == 4, what="four actions")
    http, *websocket = (json.loads(line) for line in handle.stdout().splitlines())
    protocol, action, details = http
    assert (protocol, action) == ("http", "complete")
    assert 0.09 < details.pop("time_taken") < 5
    assert details == {
        "path": "/sleep/0.1?q=1",
        "method": "GET",
        "status": 200,
        "size": 5,
        "client": peer,
    }
    assert [(entry[0], entry[1], entry[2]["path"]) for entry in websocket] == [
        ("websocket", "connecting", "/w"),
        ("websocket", "connected", "/w"),
        ("websocket", "disconnected", "/w"),
    ]


def test_action_logger_that_raises_does_not_stop_the_server(server: Servers) -> None:
    program = ACTION_LOGGER.replace(
        "print(json.dumps([protocol, action, details]), flush=True)", "1/0"
    )
    handle = server.start(APP, module=("-c", program))
    handle.expect_errors()
    for _ in range(3):
        assert handle.get("/").body == b"hello"
    assert handle.stop() == 0
    assert "ZeroDivisionError" in handle.stderr()
