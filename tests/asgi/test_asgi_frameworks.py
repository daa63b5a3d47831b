"""Starlette, anyio, Django and Channels on the real command line: the patterns that frameworks use."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.support.handle import Handle
from tests.support.servers import Servers
from tests.support.wait import wait_for

STARLETTE = "tests.apps.starlette_app:app"
CHANNELS = "tests.apps.channels_app:app"

pytestmark = pytest.mark.server


def wait_until_seen(handle: Handle, what: str, count: int = 1) -> None:
    wait_for(lambda: json.loads(handle.get("/seen").body).count(what) >= count, what=what)


def test_starlette_middleware_and_body(server: Servers) -> None:
    handle = server.start(STARLETTE)
    response = handle.get("/")
    assert (response.body, response.headers["x-stamp"]) == (b"home", "yes")
    assert handle.get("/upload", method="POST", body=b"x" * 1_000_000).body == b"1000000"


def test_starlette_streams(server: Servers) -> None:
    handle = server.start(STARLETTE)
    expected = b"".join(b"%d\n" % number for number in range(300))
    assert handle.get("/stream?n=300").body == expected
    wait_until_seen(handle, "stream ended")


def test_starlette_stream_ends_with_its_client(server: Servers) -> None:
    handle = server.start(STARLETTE)
    with handle.connect() as client:
        client.send(b"GET /endless HTTP/1.1\r\nHost: test\r\n\r\n")
        client.read_exactly(100_000)
    wait_until_seen(handle, "endless ended")


def test_starlette_upload_cut(server: Servers) -> None:
    handle = server.start(STARLETTE)
    handle.expect_errors()
    with handle.connect() as client:
        client.send(b"POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\npart")
    wait_until_seen(handle, "upload cut")


def test_starlette_background_task(server: Servers) -> None:
    handle = server.start(STARLETTE)
    assert handle.get("/background").body == b"answered"
    wait_until_seen(handle, "background")


def test_anyio_task_group_with_cancellation(server: Servers) -> None:
    handle = server.start(STARLETTE)
    with handle.connect() as client:
        for _ in range(5):
            response = client.request(b"GET /group HTTP/1.1\r\nHost: test\r\n\r\n")
            assert json.loads(response.body) == ["computed", "True", "thread"]


def test_starlette_websockets(server: Servers) -> None:
    handle = server.start(STARLETTE)
    with connect(handle.ws_url + "/echo", subprotocols=["chat"]) as ws:  # type: ignore[list-item]
        assert ws.subprotocol == "chat"
        for number in range(100):
            ws.send(str(number))
            assert ws.recv(5) == str(number)
        ws.close(3000, "enough")
    with connect(handle.ws_url + "/two_ways") as ws:
        for number in range(100):
            ws.send(str(number))
        assert [ws.recv(5) for _ in range(100)] == [str(number) for number in range(100)]
    wait_until_seen(handle, "websocket 3000 enough")
    wait_until_seen(handle, "two ways ended")


def test_django_views(server: Servers) -> None:
    handle = server.start(CHANNELS)
    for path, name in (("/sync", b"sync"), ("/async", b"async")):
        assert handle.get(path, method="POST", body=b"body").body == name + b" body"
    assert handle.get("/stream").body == b"".join(b"%d," % number for number in range(50))
    assert handle.get("/nowhere").status == 404


def test_django_views_on_one_connection(server: Servers) -> None:
    handle = server.start(CHANNELS)
    with handle.connect() as client:
        for number in range(20):
            path = (b"sync", b"async")[number % 2]
            response = client.request(b"GET /" + path + b" HTTP/1.1\r\nHost: test\r\n\r\n")
            assert response.body == path + b" "


def test_django_view_is_cancelled_when_the_client_goes(server: Servers) -> None:
    handle = server.start(CHANNELS)
    with handle.connect() as client:
        client.send(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n")
        handle.get("/sync")
    wait_until_seen(handle, "slow view cancelled")


def test_channels_group(server: Servers) -> None:
    handle = server.start(CHANNELS)
    with connect(handle.ws_url + "/room") as one, connect(handle.ws_url + "/room") as two:
        for number in range(50):
            one.send(f"one {number}")
            assert (one.recv(5), two.recv(5)) == (f"one {number}",) * 2
        two.send("two")
        assert (one.recv(5), two.recv(5)) == ("two", "two")
    wait_until_seen(handle, "room left 1000", 2)


def test_channels_sync_consumer(server: Servers) -> None:
    handle = server.start(CHANNELS)
    with connect(handle.ws_url + "/sync") as ws:
        for number in range(20):
            ws.send(str(number))
            assert ws.recv(5) == str(number)
        ws.send(b"bytes")
        assert ws.recv(5) == b"bytes"
        ws.send("close")
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv(5)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4001
    wait_until_seen(handle, "sync left 4001")


def test_channels_sync_consumers_at_once(server: Servers) -> None:
    handle = server.start(CHANNELS)

    def talk(name: int) -> list[str | bytes]:
        with connect(handle.ws_url + "/sync") as ws:
            for number in range(20):
                ws.send(f"{name} {number}")
            return [ws.recv(20) for _ in range(20)]

    with ThreadPoolExecutor(8) as pool:
        for name, heard in enumerate(pool.map(talk, range(8))):
            assert heard == [f"{name} {number}" for number in range(20)]


def test_channels_refuses(server: Servers) -> None:
    handle = server.start(CHANNELS)
    with pytest.raises(InvalidStatus) as refused:
        connect(handle.ws_url + "/refuse").__enter__()
    assert refused.value.response.status_code == 403


def test_channels_http_consumer(server: Servers) -> None:
    handle = server.start(CHANNELS)
    assert handle.get("/long", method="POST", body=b"end").body == b"012end"
