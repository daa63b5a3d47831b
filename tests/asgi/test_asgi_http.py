"""HTTP events through receive() and send(), by the real command line."""

from __future__ import annotations

import pytest

from tests.support.asgi_script import APP, notes, script
from tests.support.servers import Servers

START = {"type": "http.response.start", "status": 200, "headers": []}
BODY = {"type": "http.response.body", "body": b"x"}

pytestmark = pytest.mark.server


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (5, "TypeError: send() takes a dict, not int: 5"),
        ([1], "TypeError: send() takes a dict, not list: [1]"),
        ({}, "ValueError: Message has no type defined"),
        ({"type": 1}, "TypeError: The type of a message must be str, not int"),
        ({"type": "http.foo"}, "ValueError: Cannot handle message type http.foo!"),
        (
            {"type": "websocket.send", "text": "x"},
            "ValueError: Cannot handle message type websocket.send!",
        ),
        (
            {"type": "http.response.start"},
            "ValueError: Specifying a status code is required for a Response message.",
        ),
        (
            {"type": "http.response.start", "status": "200"},
            "TypeError: status must be int, not str",
        ),
        (
            {"type": "http.response.start", "status": 99},
            "ValueError: status must be from 200 to 999, not 99",
        ),
        (
            {"type": "http.response.start", "status": 10**30},
            f"ValueError: status must be from 200 to 999, not {10**30}",
        ),
        (
            {**START, "headers": [("foo", b"x")]},
            "ValueError: Header name 'foo' expected to be `bytes`, but got `<class 'str'>`",
        ),
        (
            {**START, "headers": [(b"foo", True)]},
            "ValueError: Header value 'True' expected to be `bytes`, but got `<class 'bool'>`",
        ),
        (
            {**START, "headers": [[b"foo", b"x", b"y"]]},
            "ValueError: headers must be pairs of (name, value), got [b'foo', b'x', b'y']",
        ),
        ({**START, "headers": 5}, "TypeError: headers must be pairs of (name, value), not int"),
        ({**START, "headers": [(b"a b", b"x")]}, "ValueError: Header name b'a b' is not a token"),
        ({**START, "headers": [(b"", b"x")]}, "ValueError: Header name b'' is not a token"),
        (
            {**START, "headers": [(b"a", b"x\r\nb: c")]},
            "ValueError: Header value b'x\\r\\nb: c' of b'a' has control characters",
        ),
        (
            {**START, "headers": [(b"a", b"x\x00")]},
            "ValueError: Header value b'x\\x00' of b'a' has control characters",
        ),
        (
            {**START, "headers": [(b"content-length", b"five")]},
            "ValueError: http.response.start: Content-Length must be one whole number",
        ),
        (BODY, "ValueError: HTTP response has not yet been started but got http.response.body"),
    ],
)
def test_refused_event_says_what_was_sent(server: Servers, event: object, said: str) -> None:
    handle = server.start(APP)
    handle.expect_errors()
    assert script(handle, "n", event, START, BODY) == [said, "ok", "ok"]


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (START, "ValueError: HTTP response has already been started"),
        (
            {**BODY, "body": "text"},
            "TypeError: body must be bytes, bytearray or memoryview, not str",
        ),
        (
            {**BODY, "body": None},
            "TypeError: body must be bytes, bytearray or memoryview, not NoneType",
        ),
    ],
)
def test_refused_after_start(server: Servers, event: object, said: str) -> None:
    handle = server.start(APP)
    assert script(handle, "n", START, event, BODY) == ["ok", said, "ok"]


def test_what_follows_the_complete_response_is_ignored(server: Servers) -> None:
    handle = server.start(APP)
    unknown = {"type": "http.unknown"}
    assert script(handle, "n", START, BODY, START, BODY, unknown) == [
        "ok",
        "ok",
        "ok",
        "ok",
        "ValueError: Cannot handle message type http.unknown!",
    ]


def test_body_longer_than_content_length(server: Servers) -> None:
    handle = server.start(APP)
    handle.expect_errors()
    start = {**START, "headers": [(b"content-length", b"2")]}
    said = script(handle, "n", start, {**BODY, "body": b"123"})
    assert said[0] == "ok"
    assert said[1].startswith("RuntimeError: http.response.body: the body is longer or shorter")


def test_events_up_to_the_disconnect(server: Servers) -> None:
    handle = server.start(APP, "--request-buffer-size", "1000")
    assert handle.get("/events?n", method="POST", body=b"x" * 2500).body == b"ok"
    seen = notes(handle, "n", 4)
    assert seen == [
        {"type": "http.request", "body": 1000, "more_body": True},
        {"type": "http.request", "body": 1000, "more_body": True},
        {"type": "http.request", "body": 500, "more_body": False},
        {"type": "http.disconnect"},
    ]


def test_one_empty_event_without_a_body(server: Servers) -> None:
    handle = server.start(APP)
    handle.get("/events?n")
    assert notes(handle, "n", 2) == [
        {"type": "http.request", "body": 0, "more_body": False},
        {"type": "http.disconnect"},
    ]


def test_receive_pends_for_ever_after_the_disconnect(server: Servers) -> None:
    handle = server.start(APP)
    handle.get("/after_disconnect?n")
    assert notes(handle, "n", 3) == ["http.disconnect", 0, "cancelled"]


def test_send_is_dropped_when_the_client_has_gone(server: Servers) -> None:
    handle = server.start(APP)
    with handle.connect() as client:
        client.send(b"GET /big?n HTTP/1.1\r\nHost: test\r\n\r\n")
        client.recv()
    assert notes(handle, "n", 2) == ["http.disconnect", ["ok"]]


def test_application_that_raises_is_answered_at_once(server: Servers) -> None:
    handle = server.start(APP)
    handle.expect_errors()
    assert handle.get("/raises").status == 500
    assert handle.get("/raises").status == 500
    handle.stop()
    log = handle.stderr()
    assert log.count("Exception inside application: before the start") == 2
    assert log.count("RuntimeError: before the start") == 2


def test_application_that_raises_after_the_start_is_cut(server: Servers) -> None:
    handle = server.start(APP)
    handle.expect_errors()
    with handle.connect() as client:
        client.send(b"GET /raises_late HTTP/1.1\r\nHost: test\r\n\r\n")
        received = b""
        try:
            while data := client.recv():
                received += data
        except ConnectionResetError:
            pass
    assert received == b"" or b"part" in received
    assert not received.endswith(b"0\r\n\r\n")
    assert handle.get("/task").status == 200


@pytest.mark.parametrize("path", ["/returns", "/cancels_itself"])
def test_application_that_does_not_respond(server: Servers, path: str) -> None:
    handle = server.start(APP)
    handle.expect_errors()
    assert handle.get(path).status == 500
    handle.stop()
    assert "Traceback" not in handle.stderr()


def test_child_task_outlives_the_application(server: Servers) -> None:
    handle = server.start(APP)
    assert handle.get("/children?n").body == b"ok"
    seen = notes(handle, "n", 2)
    assert seen[0] == "http.disconnect"
    assert seen[1] == "ok"


def test_continue_is_sent_when_the_application_asks_for_the_body(server: Servers) -> None:
    handle = server.start(APP)
    head = "POST {} HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    with handle.connect() as client:
        client.send(head.format("/events?n").encode())
        assert client.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"body")
        assert client.response().body == b"ok"
    with handle.connect() as client:
        client.send(head.format("/notes?other").encode())
        assert client.response().status == 200  # it did not ask
