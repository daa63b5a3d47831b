"""The events that the application receives."""

from __future__ import annotations

import ast
import socket
from collections.abc import Callable

from tests.parity.client import PATIENCE, http, new_id, notes, response_to
from tests.parity.row import Row
from tests.parity.target import Target


def events(size: int, *headers: str, body: bytes | None = None) -> Callable[[Target], str]:
    content = bytes(size) if body is None else body

    def probe(target: Target) -> str:
        request = http("body_events", *headers, method="POST", body=content)
        return response_to(target.server(), request).text

    return probe


def total(target: Target) -> str:
    """A megabyte: how the slices look, apart from their number."""
    text = response_to(
        target.server(), http("body_events", method="POST", body=bytes(1 << 20))
    ).text
    sizes = [size for size, _ in ast.literal_eval(text)]
    return f"{sum(sizes)} bytes, none above {max(sizes)}"


def started(target: Target) -> str:
    """Is the application called while the body is still on its way?"""
    key = new_id()
    handle = target.server()
    with handle.connect() as client:
        client.send(http("starts_early", f"X-Id: {key}", "Content-Length: 3", method="POST"))
        early = notes(handle, key, 1, 1.0) == ["called"]
        client.send(b"abc")
        assert client.response().status == 200
    return "at the end of the head" if early else "when the whole body is there"


def after_response(body: bytes) -> Callable[[Target], str]:
    def probe(target: Target) -> str:
        key = new_id()
        handle = target.server()
        with handle.connect() as client:
            client.request(http("after_response", f"X-Id: {key}", method="POST", body=body))
            return ", ".join(notes(handle, key, 4)[:3])

    return probe


def client_leaves(target: Target) -> str:
    key = new_id()
    handle = target.server()
    with handle.connect() as client:
        client.send(http("client_leaves", f"X-Id: {key}"))
        notes(handle, key)
    _, event, sent = notes(handle, key, 3)
    return f"{event}; send: {sent.partition(':')[0]}"


def leaves(do: str, body: bytes | None = None) -> Callable[[Target], str]:
    """The application's second note: what it saw when its client had left."""

    def probe(target: Target) -> str:
        key = new_id()
        handle = target.server()
        with handle.connect() as client:
            client.send(
                http(do, f"X-Id: {key}", method="POST" if body else "GET", body=body or b"")
            )
            notes(handle, key)
        return str(notes(handle, key, 2)[1])

    return probe


def half_close(target: Target) -> str:
    """The client says with a FIN that it sends no more, and reads."""
    with target.server().connect(PATIENCE) as client:
        client.send(http("slow"))
        client.sock.shutdown(socket.SHUT_WR)
        answer = client.read_all()
    return "answered" if b" 200 OK\r\n" in answer else "no answer"


def slow_reader(target: Target) -> str:
    key = new_id()
    handle = target.server()
    with handle.connect(PATIENCE) as client:
        client.send(http("floods", f"X-Id: {key}"))
        return "never waits" if notes(handle, key, 1, PATIENCE) else "waits"


def twisted(target: Target) -> str:
    with target.private() as server:
        return response_to(server, http("twisted")).text


ROWS = [
    Row("body_none", "Events of a request without a body", events(0), "[(0, False)]"),
    Row("body_small", "Events of 5 bytes: size, ``more_body``", events(5), "[(5, False)]"),
    Row(
        "body_10000",
        "Events of 10 000 bytes",
        events(10000),
        "[(8192, True), (1808, False)]",
        "[(10000, False)]",
        "events up to 64 KiB: fewer turns; --request-buffer-size",
    ),
    Row(
        "body_8192",
        "Events of 8192 bytes",
        events(8192),
        "[(8192, True), (0, False)]",
        "[(8192, False)]",
        "no empty event at the end",
    ),
    Row(
        "body_chunked",
        "Events of a body in two chunks",
        events(0, "Transfer-Encoding: chunked", body=b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"),
        "[(5, False)]",
    ),
    Row(
        "body_slices",
        "Events of 1 MiB",
        total,
        "1048576 bytes, none above 8192",
        "1048576 bytes, none above 65536",
        "events up to 64 KiB: fewer turns; --request-buffer-size",
    ),
    Row(
        "app_starts",
        "When the application is called",
        started,
        "when the whole body is there",
        "at the end of the head",
        "bodies stream; nothing is kept in memory or in a file",
        waits=True,
    ),
    Row(
        "events_after_response",
        "``receive()`` after the response",
        after_response(b""),
        "http.request, http.disconnect, blocks",
        waits=True,
    ),
    Row(
        "body_after_response",
        "``receive()`` after the response, body not read",
        after_response(b"abc"),
        "http.request, http.disconnect, blocks",
        waits=True,
    ),
    Row(
        "client_leaves",
        "The client leaves before the response",
        client_leaves,
        "http.disconnect; send: no exception",
    ),
    Row(
        "leaves_unread",
        "``receive()`` when the client has left, no body",
        leaves("leaves_unread"),
        "http.request",
        "http.disconnect",
        "who asks whether the client is there (Starlette's ``is_disconnected()``) hears it at once",
        waits=True,
    ),
    Row(
        "half_close",
        "A client that shuts its sending side down, and waits",
        half_close,
        "no answer",
        "answered",
        "a FIN is no leaving as long as the client takes what is sent to it",
        waits=True,
    ),
    Row(
        "leaves_unread_body",
        "``receive()`` when the client has left, body not read",
        leaves("leaves_unread", body=b"abc"),
        "http.request",
        waits=True,
    ),
    Row(
        "leaves_stream",
        "``send()`` when the client has left the response",
        leaves("leaves_stream"),
        "no exception",
        waits=True,
    ),
    Row(
        "slow_reader",
        "``send()`` to a client that does not read",
        slow_reader,
        "never waits",
        "waits",
        "memory stays bounded; --write-high-water",
        waits=True,
    ),
    Row(
        "twisted",
        "Twisted in the application: its reactor runs",
        twisted,
        "callLater, deferToThread",
    ),
]
