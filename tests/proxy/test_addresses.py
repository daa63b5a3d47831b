"""What frameworks make of the addresses in a scope, on TCP and on unix sockets, bare and behind proxies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.handle import Handle
from tests.support.proxy_header import v2
from tests.support.servers import Servers
from tests.support.ws_wire import WebSocket

APP = "tests.apps.addresses:app"
HOST = b"Host: example.com\r\n"
FORWARDED = (
    b"Host: internal\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n"
    b"X-Forwarded-Host: example.com\r\n"
)
UNIX_ENDS = v2(b"/tmp/client".ljust(108, b"\0") + b"/tmp/server".ljust(108, b"\0"), family=0x31)

pytestmark = pytest.mark.server


def ask(handle: Handle, path: str, headers: bytes, before: bytes = b"") -> Any:
    """The JSON that a page answers; without headers as HTTP/1.0 may be, without Host."""
    version = b"1.1" if headers else b"1.0"
    with handle.connect() as client:
        request = b"GET %s HTTP/%s\r\n%s\r\n" % (path.encode(), version, headers)
        answer = client.request(before + request)
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


@pytest.fixture
def unix(server: Servers, tmp_path: Path) -> Handle:
    return server.start(APP, unix=tmp_path / "s")


def test_django_on_a_unix_socket(unix: Handle) -> None:
    """A port is a number, as Wagtail wants it, and a name can be the host of an URL (as on daphne)."""
    expected = {
        "host": "example.com",
        "port": 0,
        "url": "http://example.com/django",
        "server": "unknown:0",
        "client": None,
    }
    assert ask(unix, "/django", HOST) == expected
    expected |= {"host": "unknown:0", "url": "http://unknown:0/django"}
    assert ask(unix, "/django", b"") == expected


def test_rest_framework_on_a_unix_socket(unix: Handle) -> None:
    answer = ask(unix, "/rest", HOST)
    assert (answer["link"], answer["port"], answer["ident"]) == ("http://example.com/rest", 0, None)
    assert ask(unix, "/rest", b"")["link"] == "http://unknown:0/rest"


def test_starlette_on_a_unix_socket(unix: Handle) -> None:
    expected = {"url": "http://example.com/starlette", "port": None, "client": None}
    assert ask(unix, "/starlette", HOST) == expected
    assert ask(unix, "/starlette", b"") == {**expected, "url": "/starlette"}


def test_channels_on_a_unix_socket(unix: Handle) -> None:
    with WebSocket.open(unix, "/ws", "Origin: http://example.com") as ws:
        assert json.loads(ws.read()[1]) == [None, None]


def test_behind_a_proxy_on_a_unix_socket(server: Servers, tmp_path: Path) -> None:
    handle = server.start(APP, "--proxy-headers", unix=tmp_path / "s")
    answer = ask(handle, "/starlette", FORWARDED.replace(b"internal", b"example.com"))
    assert answer["url"] == "https://example.com/starlette"
    assert answer["client"] == ["192.0.2.7", 0]
    answer = ask(handle, "/django", FORWARDED.replace(b"internal", b"example.com"))
    assert (answer["server"], answer["port"]) == ("example.com:443", 443)
    assert (answer["url"], answer["client"]) == ("https://example.com/django", "192.0.2.7")
    # A proxy that tells the client alone: the socket's own name is still none.
    answer = ask(handle, "/django", HOST + b"X-Forwarded-For: 192.0.2.7\r\n")
    assert (answer["server"], answer["client"]) == ("unknown:0", "192.0.2.7")


def test_proxy_protocol_that_tells_of_a_unix_socket(server: Servers) -> None:
    handle = server.start(APP, "--proxy-protocol", "required")
    answer = ask(handle, "/django", HOST, UNIX_ENDS)
    assert (answer["server"], answer["client"], answer["port"]) == ("unknown:0", None, 0)
    assert ask(handle, "/starlette", b"", UNIX_ENDS)["url"] == "/starlette"


def test_tcp(server: Servers) -> None:
    handle = server.start(APP)
    own = f"127.0.0.1:{handle.port}"
    for headers, host in ((HOST, "example.com"), (b"", own)):
        answer = ask(handle, "/django", headers)
        assert answer == {
            "host": host,
            "port": handle.port,
            "url": f"http://{host}/django",
            "server": own,
            "client": "127.0.0.1",
        }
        assert ask(handle, "/starlette", headers)["url"] == f"http://{host}/starlette"
