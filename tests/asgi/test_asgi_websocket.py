"""WebSocket events through receive() and send(), by the real command line and the websockets library."""

from __future__ import annotations

import socket
import time
from typing import Any
from urllib.parse import quote

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.support.asgi_script import APP, notes
from tests.support.handle import Handle
from tests.support.servers import Servers

ACCEPT = {"type": "websocket.accept"}
CLOSE = {"type": "websocket.close"}
DENY = {"type": "websocket.http.response.start", "status": 401, "headers": [(b"x-why", b"no")]}
DENIAL = {"type": "websocket.http.response.body", "body": b"denied"}
LATE = ["ok", "ok"]

pytestmark = pytest.mark.server


def url(handle: Handle, *events: object) -> str:
    return f"{handle.ws_url}/script?n&{quote(repr(list(events)))}"


def session(handle: Handle, path: str, **options: Any) -> ClientConnection:
    return connect(f"{handle.ws_url}{path}", compression=None, **options)


@pytest.mark.parametrize(
    ("event", "said"),
    [
        ("text", "TypeError: send() takes a dict, not str: 'text'"),
        ({"type": "websocket.foo"}, "ValueError: Cannot handle message type websocket.foo!"),
        (
            {"type": "http.response.body"},
            "ValueError: Cannot handle message type http.response.body!",
        ),
        (
            {"type": "websocket.send", "text": "x"},
            "ValueError: Socket has not been accepted, so cannot send over it",
        ),
        ({**ACCEPT, "subprotocol": 5}, "TypeError: subprotocol must be str or None, not int"),
        (
            {**ACCEPT, "subprotocol": "a b"},
            "ValueError: subprotocol must be one that the client offered, not 'a b'",
        ),
        (
            {**ACCEPT, "headers": [("a", b"b")]},
            "ValueError: Header name 'a' expected to be `bytes`, but got `<class 'str'>`",
        ),
        (
            {**ACCEPT, "headers": [(b"a", b"b\n")]},
            "ValueError: Header value b'b\\n' of b'a' has control characters",
        ),
        (
            DENIAL,
            "ValueError: HTTP response has not yet been started but got websocket.http.response.body",
        ),
    ],
)
def test_refused_before_accept(server: Servers, event: object, said: str) -> None:
    handle = server.start(APP)
    with connect(url(handle, event, ACCEPT), compression=None):
        pass
    assert notes(handle, "n", 3)[:2] == [said, "ok"]


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (ACCEPT, "RuntimeError: WebSocket has already been accepted"),
        (DENY, "RuntimeError: WebSocket has been accepted, but got websocket.http.response.start"),
        (
            {"type": "websocket.send"},
            "ValueError: Got invalid WebSocket reply message - contains neither bytes nor text",
        ),
        (
            {"type": "websocket.send", "text": None, "bytes": None},
            "ValueError: Got invalid WebSocket reply message - contains neither bytes nor text",
        ),
        (
            {"type": "websocket.send", "text": "", "bytes": b""},
            "ValueError: Got invalid WebSocket reply message - contains both bytes and text keys",
        ),
        ({"type": "websocket.send", "text": b"x"}, "TypeError: text must be str, not bytes"),
        (
            {"type": "websocket.send", "bytes": "x"},
            "TypeError: bytes must be bytes, bytearray or memoryview, not str",
        ),
        ({**CLOSE, "code": "1000"}, "TypeError: code must be int, not str"),
        (
            {**CLOSE, "code": 1005},
            "ValueError: code must be 1000 to 1003, 1007 to 1014 or 3000 to 4999, not 1005",
        ),
        (
            {**CLOSE, "code": 10**20},
            f"ValueError: code must be a close code (1000 to 4999), not {10**20}",
        ),
        ({**CLOSE, "reason": 5}, "TypeError: reason must be str or None, not int"),
    ],
)
def test_refused_after_accept(server: Servers, event: object, said: str) -> None:
    handle = server.start(APP)
    with connect(
        url(handle, ACCEPT, event, {"type": "websocket.send", "text": "on"}), compression=None
    ) as ws:
        assert ws.recv(5) == "on"
    assert notes(handle, "n", 3)[:3] == ["ok", said, "ok"]


def test_lone_surrogate_is_refused(server: Servers) -> None:
    handle = server.start(APP)
    event = {"type": "websocket.send", "text": "\ud800"}
    with connect(
        url(handle, ACCEPT, event, {"type": "websocket.send", "text": "on"}), compression=None
    ) as ws:
        assert ws.recv(5) == "on"
    assert notes(handle, "n", 3)[1].startswith("UnicodeEncodeError")


def test_messages_of_every_kind(server: Servers) -> None:
    handle = server.start(APP)
    sent: list[dict[str, Any]] = [
        {"type": "websocket.send", "text": ""},
        {"type": "websocket.send", "bytes": b""},
        {"type": "websocket.send", "text": "grüße", "bytes": None},
        {"type": "websocket.send", "bytes": bytearray(b"abc"), "text": None},
    ]
    with connect(url(handle, ACCEPT, *sent[:3]), compression=None) as ws:
        assert [ws.recv(5) for _ in range(3)] == ["", b"", "grüße"]
        ws.send("hi")
        ws.send(b"ho")
        ws.send("")
    seen = notes(handle, "n", 10)
    assert seen[4:7] == [
        {"type": "websocket.receive", "text": "hi"},
        {"type": "websocket.receive", "bytes": "b'ho'"},
        {"type": "websocket.receive", "text": ""},
    ]
    assert seen[7] == {"type": "websocket.disconnect", "code": 1000, "reason": ""}
    assert seen[8:] == LATE


def test_disconnect_carries_code_and_reason(server: Servers) -> None:
    handle = server.start(APP)
    with connect(url(handle, ACCEPT), compression=None) as ws:
        ws.close(3003, "grüße")
    seen = notes(handle, "n", 4)
    assert seen[1] == {"type": "websocket.disconnect", "code": 3003, "reason": "grüße"}
    assert seen[2:] == LATE


def test_disconnect_without_a_close_frame_is_1006(server: Servers) -> None:
    handle = server.start(APP)
    with connect(url(handle, ACCEPT), compression=None) as ws:
        ws.socket.shutdown(socket.SHUT_RDWR)
    assert notes(handle, "n", 4)[1] == {"type": "websocket.disconnect", "code": 1006, "reason": ""}


def test_accept_with_subprotocol_and_headers(server: Servers) -> None:
    handle = server.start(APP)
    accept = {**ACCEPT, "subprotocol": "b", "headers": [(b"X-One", b"1"), [b"x-two", b"2"]]}
    with connect(url(handle, accept), subprotocols=["a", "b"], compression=None) as ws:  # type: ignore[list-item]
        assert ws.subprotocol == "b"
        assert ws.response is not None
        assert (ws.response.headers["x-one"], ws.response.headers["x-two"]) == ("1", "2")


def test_close_by_the_application(server: Servers) -> None:
    handle = server.start(APP)
    close = {**CLOSE, "code": 3001, "reason": "bye"}
    with (
        connect(
            url(handle, ACCEPT, close, CLOSE, {"type": "websocket.send", "text": "x"}),
            compression=None,
        ) as ws,
        pytest.raises(ConnectionClosed) as closed,
    ):
        ws.recv(5)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (3001, "bye")
    seen = notes(handle, "n", 7)
    assert seen[:4] == ["ok"] * 4
    assert seen[4] == {"type": "websocket.disconnect", "code": 3001, "reason": "bye"}


@pytest.mark.parametrize(
    ("code", "reason", "sent"),
    [
        (4003, "x" * 124, "x" * 123),
        (4003, "ü" * 62, "ü" * 61),
        (1002, "so", "so"),
        (4003, "x" * 123, "x" * 123),
    ],
)
def test_close_code_arrives_and_a_long_reason_is_cut(
    server: Servers, code: int, reason: str, sent: str
) -> None:
    handle = server.start(APP)
    close = {**CLOSE, "code": code, "reason": reason}
    with (
        connect(url(handle, ACCEPT, close), compression=None) as ws,
        pytest.raises(ConnectionClosed) as closed,
    ):
        ws.recv(5)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (code, sent)
    assert notes(handle, "n", 3)[:2] == ["ok", "ok"]


@pytest.mark.parametrize("then", [CLOSE, ACCEPT, {"type": "websocket.send", "text": "x"}, DENY])
def test_close_before_accept_is_403(server: Servers, then: dict[str, object]) -> None:
    """What follows is dropped, so the application comes to its disconnect."""
    handle = server.start(APP)
    with pytest.raises(InvalidStatus) as refused:
        connect(url(handle, CLOSE, then), compression=None).__enter__()
    assert refused.value.response.status_code == 403
    seen = notes(handle, "n", 3)
    assert seen[:2] == ["ok", "ok"]
    assert seen[2]["type"] == "websocket.disconnect"


def test_denial_response(server: Servers) -> None:
    handle = server.start(APP)
    with pytest.raises(InvalidStatus) as refused:
        connect(url(handle, DENY, DENY, ACCEPT, DENIAL, DENIAL), compression=None).__enter__()
    response = refused.value.response
    assert (response.status_code, response.headers["x-why"], response.body) == (
        401,
        "no",
        b"denied",
    )
    assert notes(handle, "n", 5)[:5] == [
        "ok",
        "ValueError: HTTP response has already been started",
        "RuntimeError: The handshake is being denied by websocket.http.response, but got websocket.accept",
        "ok",
        "ok",
    ]


def test_wait_for_in_a_loop_loses_no_message(server: Servers) -> None:
    handle = server.start(APP)
    with session(handle, "/wait_for_loop?n") as ws:
        for number in range(200):
            if number % 10 == 0:
                time.sleep(0.005)
            ws.send(str(number))
            assert ws.recv(5) == str(number)
    assert notes(handle, "n") == [True]


def test_wait_for_in_a_loop_loses_no_message_of_a_burst(server: Servers) -> None:
    handle = server.start(APP)
    with session(handle, "/wait_for_loop?n") as ws:
        for number in range(500):
            ws.send(str(number))
        assert [ws.recv(5) for _ in range(500)] == [str(number) for number in range(500)]


def test_cancel_that_races_a_message_loses_none(server: Servers) -> None:
    handle = server.start(APP)
    echoed = []
    with session(handle, "/racing_cancel") as ws:
        for number in range(500):
            ws.send(str(number))
            if number % 7 == 0:
                echoed.append(ws.recv(5))
        echoed += [ws.recv(5) for _ in range(500 - len(echoed))]
    assert echoed == [str(number) for number in range(500)]


def test_channels_dispatch_loop(server: Servers) -> None:
    handle = server.start(APP)
    with session(handle, "/channels_dispatch?n") as ws:
        for number in range(100):
            ws.send(str(number))
        assert [ws.recv(5) for _ in range(100)] == [str(number) for number in range(100)]
        ws.close(1001)
    assert notes(handle, "n", 3) == [1001, "cancelled", "cancelled"]


def test_several_receives_at_once_are_served_in_order(server: Servers) -> None:
    handle = server.start(APP)
    with session(handle, "/many_receivers") as ws:
        for text in ("a", "b", "c"):
            ws.send(text)
        assert [ws.recv(5) for _ in range(3)] == ["a", "b", "c"]


def test_gather_and_shield_take_receive_and_send(server: Servers) -> None:
    handle = server.start(APP)
    with session(handle, "/gather_and_shield") as ws:
        for text in ("a", "b", "c"):
            ws.send(text)
        assert [ws.recv(5), ws.recv(5)] == ["abc", "2"]


def test_application_that_raises(server: Servers) -> None:
    handle = server.start(APP)
    handle.expect_errors()
    with pytest.raises(InvalidStatus) as refused:
        session(handle, "/raises").__enter__()
    assert refused.value.response.status_code == 500


def test_application_that_returns_before_accept(server: Servers) -> None:
    handle = server.start(APP)
    with pytest.raises(InvalidStatus) as refused:
        session(handle, "/returns").__enter__()
    assert refused.value.response.status_code == 403
