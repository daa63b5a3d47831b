"""Clients that leave applications at work: what runs then, and that no log calls it an error."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.support import postgres_server
from tests.support.client import RawClient
from tests.support.handle import Handle
from tests.support.servers import Servers
from tests.support.wait import wait_for
from tests.support.ws_wire import CLOSE, TEXT, WebSocket
from tests.support.ws_wire import request as handshake

STARLETTE = "tests.apps.leaving_starlette:app"
BEHIND = "tests.apps.leaving_starlette:behind"
CHANNELS = "tests.apps.leaving_channels:app"
DJANGO = "tests.apps.leaving_django:app"
TIMES = 5
UPLOAD = "POST {} HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\npart"

pytestmark = pytest.mark.server
postgres_port = postgres_server.postgres_port


def notes(handle: Handle) -> Any:
    return json.loads(handle.get("/notes").body)


def counts(handle: Handle, what: str) -> int:
    return int(notes(handle)[0].count(what))


# ---- Channels


@pytest.mark.parametrize("kind", ["async", "json", "sync", "syncjson"])
def test_consumers_come_to_their_disconnect(server: Servers, kind: str) -> None:
    """The client leaves while a handler works that sends later: disconnect() and group_discard run, each time."""
    handle = server.start(CHANNELS)
    sockets = [WebSocket.open(handle, f"/{kind}") for _ in range(TIMES)]
    for ws in sockets:
        ws.send(TEXT, b"{}")
    wait_for(lambda: counts(handle, f"{kind} works") == TIMES)
    for ws in sockets[1:]:
        ws.send(CLOSE)
    for ws in sockets:
        ws.client.close()
    wait_for(lambda: counts(handle, f"{kind} left") == TIMES)
    wait_for(lambda: notes(handle)[1] == [], what="empty groups")


def test_consumer_whose_client_leaves_before_the_accept(server: Servers) -> None:
    handle = server.start(CHANNELS)
    clients = [handle.connect() for _ in range(TIMES)]
    for client in clients:
        client.send(handshake("/early"))
    wait_for(lambda: counts(handle, "early works") == TIMES)
    for client in clients:
        client.close()
    wait_for(lambda: counts(handle, "early left") == TIMES)
    wait_for(lambda: notes(handle)[1] == [], what="empty groups")


def test_consumer_that_closes_twice(server: Servers) -> None:
    handle = server.start(CHANNELS)
    with connect(f"{handle.ws_url}/twice") as ws, pytest.raises(ConnectionClosed) as closed:
        ws.send("go")
        ws.recv(10)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4003, "r" * 123)
    wait_for(lambda: notes(handle) == [["twice left"], []])


def test_consumer_that_rejects_and_goes_on(server: Servers) -> None:
    handle = server.start(CHANNELS)
    with pytest.raises(InvalidStatus) as refused:
        connect(f"{handle.ws_url}/rejects").__enter__()
    assert refused.value.response.status_code == 403
    wait_for(lambda: notes(handle) == [["rejects left"], []])


# ---- Starlette


def read_some(handle: Handle, http2: bool, path: str) -> None:
    """Begins a response, and leaves."""
    client = httpx.Client(http1=not http2, http2=http2, timeout=10)
    with client, client.stream("GET", handle.url + path) as response:
        assert response.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
        for piece in response.iter_raw():
            assert piece
            break


@pytest.mark.parametrize("http2", [False, True])
@pytest.mark.parametrize("app", [STARLETTE, BEHIND])
def test_stream_ends_with_its_client(server: Servers, app: str, http2: bool) -> None:
    """The server fixture asserts that nothing of it is an ERROR or a traceback."""
    handle = server.start(app)
    for _ in range(TIMES):
        read_some(handle, http2, "/endless")
    wait_for(lambda: notes(handle).count("stream ended") == TIMES)


@pytest.mark.parametrize("http2", [False, True])
def test_stream_that_never_listens_ends_in_bounded_time(server: Servers, http2: bool) -> None:
    handle = server.start(
        "tests.apps.leaving_starlette:old", "--application-close-timeout", "0.3", "-v", "2"
    )
    read_some(handle, http2, "/endless")
    wait_for(lambda: notes(handle) == ["stream ended"])
    assert "WARNING" not in handle.stderr()
    handle.wait_for_log("DEBUG +Application instance .* took too long")


# ---- Django


@pytest.mark.parametrize("http2", [False, True])
def test_download_is_closed_and_the_request_finished(server: Servers, http2: bool) -> None:
    handle = server.start(DJANGO)
    for number in range(1, TIMES + 1):
        read_some(handle, http2, "/download")
        wait_for(lambda number=number: notes(handle).count("close ended") == number)
    assert notes(handle).count("closed") == TIMES
    # One for each download, and those of the requests for the notes.
    found = notes(handle)
    assert found[found.index("closed") + 1] == "request_finished"
    assert found.count("request_finished") > TIMES


def test_downloads_that_are_left_give_the_pool_its_connections_back(
    server: Servers, postgres_port: int
) -> None:
    """django/django 17675: later requests ended in 500, PoolTimeout."""
    handle = server.start(DJANGO, env={"PGPORT": str(postgres_port)})
    handle.expect_leaks()  # nobody closes a pool
    for number in range(1, 7):
        read_some(handle, False, "/download")
        wait_for(lambda number=number: notes(handle).count("close ended") == number)
    answer = handle.get("/row")
    assert (answer.status, answer.body) == (200, b"1")


def test_upload_to_django_that_is_cut_is_no_error(server: Servers) -> None:
    handle = server.start(DJANGO, "-v", "2")
    with handle.connect() as client:
        client.send(UPLOAD.format("/upload").encode())
        handle.get("/notes")
    wait_for(lambda: handle.stdout().count("/upload"), what="its access line")
    assert handle.get("/upload", method="POST", body=b"abc").body == b"3"


# ---- uploads and questions


def leave_upload(handle: Handle, path: str) -> None:
    with handle.connect() as client:
        client.send(UPLOAD.format(path).encode())
        wait_for(lambda: "upload begun" in notes(handle))


@pytest.mark.parametrize("app", [STARLETTE, BEHIND])
@pytest.mark.parametrize("path", ["/upload", "/wrapped"])
def test_cut_upload_is_no_error(server: Servers, app: str, path: str) -> None:
    handle = server.start(app, "-v", "2")
    leave_upload(handle, path)
    handle.wait_for_log("DEBUG +Application ended when its client had gone")


def test_bug_in_the_handling_of_a_cut_upload_is_an_error(server: Servers) -> None:
    handle = server.start(STARLETTE)
    handle.expect_errors()
    leave_upload(handle, "/buggy")
    handle.wait_for_log("ERROR +Exception inside application: 'of the handler'")
    handle.wait_for_log("KeyError: 'of the handler'")


@pytest.mark.parametrize("closes", [True, False])
def test_websocket_left_in_receive_text_is_no_error(server: Servers, closes: bool) -> None:
    """Starlette's WebSocketDisconnect, which nobody catches."""
    handle = server.start(STARLETTE, "-v", "2")
    with WebSocket.open(handle, "/echo") as ws:
        ws.send(TEXT, b"x")
        assert ws.read() == (TEXT, b"x")
        if closes:
            ws.send(CLOSE)
    handle.wait_for_log("DEBUG +Application ended when its client had gone")


def asks_http1(handle: Handle, method: str) -> None:
    with handle.connect() as client:
        body = b"Content-Length: 3\r\n\r\nabc" if method == "POST" else b"\r\n"
        client.send(f"{method} /asks HTTP/1.1\r\nHost: a\r\n".encode() + body)
        wait_for(lambda: notes(handle) == ["begun"])


def asks_http2(handle: Handle, method: str) -> None:
    body = b"abc" if method == "POST" else b""
    impatient = httpx.Timeout(10, read=0.3)
    with (
        httpx.Client(http1=False, http2=True, timeout=impatient) as client,
        pytest.raises(httpx.ReadTimeout),
    ):
        client.request(method, handle.url + "/asks", content=body)


@pytest.mark.parametrize("ask", [asks_http1, asks_http2])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_is_disconnected_says_so_at_once(server: Servers, ask: Any, method: str) -> None:
    handle = server.start(STARLETTE)
    ask(handle, method)
    wait_for(lambda: notes(handle) == ["begun", [True, True]], what="True, and True again")


def test_request_of_a_client_that_does_not_wait_is_done(server: Servers) -> None:
    """It sends all and closes: an application that reads in its first step gets the body, as with daphne."""
    handle = server.start("tests.apps.asgi:app")
    for number in range(TIMES):
        client: RawClient = handle.connect()
        client.send(
            f"POST /events?n{number} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc".encode()
        )
        client.close()
    for number in range(TIMES):
        wait_for(lambda number=number: re.search("abc|3", handle.get(f"/notes?n{number}").text))
