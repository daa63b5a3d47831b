"""Messages, fragments, faults and the close handshake on the wire, with a client library and by hand."""

from __future__ import annotations

import asyncio
import random
import signal
import socket
import struct

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.support.handle import Handle
from tests.support.servers import Servers
from tests.support.wait import wait_for
from tests.support.ws_events import disconnects
from tests.support.ws_wire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    WebSocket,
    close_frame,
    frame,
    header,
)

pytestmark = pytest.mark.server
APP = "tests.apps.sockets:app"


def test_client_library(server: Servers) -> None:
    """Every kind and size of message, from a hundred clients at once."""
    handle = server.start(APP)
    messages: list[str | bytes] = ["", b"", "täxt \N{GRINNING FACE}", b"\0\xff"]
    messages += ["x" * n for n in (125, 126, 65535, 65536)] + [bytes(1 << 20)]

    async def client(number: int) -> None:
        async with connect(f"{handle.ws_url}/echo", compression=None) as ws:
            for message in messages if number % 10 == 0 else messages[:6]:
                await ws.send(message)
                assert await ws.recv() == message
            await ws.send(["in ", "three ", "fragments"])
            assert await ws.recv() == "in three fragments"
            await (await ws.ping(b"alive?"))

    async def clients() -> None:
        await asyncio.gather(*[client(number) for number in range(100)])

    asyncio.run(clients())
    assert disconnects(handle, 100) == [["/echo", 1000, ""]] * 100


def test_cut_anywhere(server: Servers) -> None:
    """The same conversation in random pieces gives the same answers."""
    handle = server.start(APP)
    data = (
        frame(TEXT, "hällo".encode())
        + frame(BINARY, b"a" * 300, fin=False)
        + frame(PING, b"p")
        + frame(CONTINUATION, b"b" * 70000)
        + frame(TEXT, "漢".encode()[:1], fin=False)
        + frame(CONTINUATION, "漢".encode()[1:])
        + close_frame(4000, "done")
    )
    for seed in range(20):
        cuts = random.Random(seed)
        with WebSocket.open(handle, "/echo") as ws:
            ws.client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            position = 0
            while position < len(data):
                size = 1 + cuts.randrange(3 if position < 400 else 40000)
                ws.client.send(data[position : position + size])
                position += size
            frames = [ws.read() for _ in range(5)]
            # The pong overtakes what the application has still to answer.
            assert sorted(f for f in frames if f[0] == PONG) == [(PONG, b"p")]
            assert [f for f in frames if f[0] != PONG] == [
                (TEXT, "hällo".encode()),
                (BINARY, b"a" * 300 + b"b" * 70000),
                (TEXT, "漢".encode()),
                (CLOSE, struct.pack("!H", 4000)),
            ]
            assert ws.client.closed()


FAULTS = {
    "not masked": (b"\x81\x02hi", 1002),
    "RSV1 without an extension": (frame(TEXT, b"x", rsv=4), 1002),
    "RSV3": (frame(TEXT, b"x", rsv=1), 1002),
    "reserved opcode": (frame(3, b"x"), 1002),
    "reserved control opcode": (frame(11), 1002),
    "fragmented ping": (frame(PING, b"x", fin=False), 1002),
    "ping of 126 bytes": (frame(PING, bytes(126)), 1002),
    "continuation of nothing": (frame(CONTINUATION, b"x"), 1002),
    "message within a message": (frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"), 1002),
    "length not minimal": (struct.pack("!BBH", 0x82, 0xFE, 5), 1002),
    "64-bit length not minimal": (struct.pack("!BBQ", 0x82, 0xFF, 65535), 1002),
    "length with the top bit": (struct.pack("!BBQ", 0x82, 0xFF, 1 << 63), 1002),
    "close with one byte": (frame(CLOSE, b"\x03"), 1002),
    "close with 1005": (close_frame(1005), 1002),
    "close with 1016": (close_frame(1016), 1002),
    "close with a bad reason": (frame(CLOSE, b"\x03\xe8\xff"), 1007),
    "text that is not UTF-8": (frame(TEXT, b"ab\xff"), 1007),
    "surrogate": (frame(TEXT, b"\xed\xa0\x80"), 1007),
    "overlong form": (frame(TEXT, b"\xc0\xaf"), 1007),
    "character cut by the end": (frame(TEXT, b"\xe6\xbc"), 1007),
    "bad text before the frame is whole": (header(TEXT, 1000) + bytes(4) + b"ab\xff", 1007),
    "frame of 2^40 bytes": (header(BINARY, 1 << 40) + bytes(4), 1009),
    "frame of 2^63-1 bytes": (header(BINARY, (1 << 63) - 1) + bytes(4), 1009),
}


@pytest.mark.parametrize("case", FAULTS)
def test_fault_of_the_peer(server: Servers, case: str) -> None:
    """A close frame names it, the connection ends, the application gets 1006 (RFC 6455, 7.1.5)."""
    data, code = FAULTS[case]
    handle = server.start(APP)
    with WebSocket.open(handle, "/echo") as ws:
        ws.client.send(data)
        assert ws.read_close()[0] == code
        assert ws.client.closed()
    assert disconnects(handle) == [["/echo", 1006, ""]]


def test_peer_closes(server: Servers) -> None:
    handle = server.start(APP)
    for number, (sent, answer, seen) in enumerate(
        [
            (close_frame(1000), 1000, [1000, ""]),
            (close_frame(4321, "früh"), 4321, [4321, "früh"]),
            (frame(CLOSE), None, [1005, ""]),
        ],
        start=1,
    ):
        with WebSocket.open(handle, "/echo") as ws:
            ws.client.send(sent)
            assert ws.read_close() == (answer, "")
            assert ws.client.closed(), "the server closes first (RFC 6455, 7.1.1)"
        assert disconnects(handle, number)[-1] == ["/echo", *seen]
    with WebSocket.open(handle, "/echo"):
        pass
    assert disconnects(handle, 4)[-1] == ["/echo", 1006, ""]


def test_message_and_close_in_one_write(server: Servers) -> None:
    handle = server.start(APP)
    with WebSocket.open(handle, "/echo") as ws:
        ws.client.send(frame(TEXT, b"last") + close_frame(1001))
        assert ws.read() == (TEXT, b"last")
        assert ws.read_close()[0] == 1001


def test_application_closes(server: Servers) -> None:
    handle = server.start(APP, "--websocket-close-timeout", "0.5")
    with WebSocket.open(handle, "/close/3001/so%20long") as ws:
        ws.send(TEXT, b"go")
        assert ws.read_close() == (3001, "so long")
        ws.send(TEXT, b"too late")
        ws.client.send(close_frame(3001))
        assert ws.client.closed()
    assert disconnects(handle) == [["/close/3001/so long", 3001, ""]]
    with WebSocket.open(handle, "/close/1000/") as ws:
        ws.send(TEXT, b"go")
        assert ws.read_close() == (1000, "")
        assert ws.client.closed(), "without an answer the server gives up"
    assert disconnects(handle, 2)[-1] == ["/close/1000/", 1006, ""]


def test_shutdown_closes_with_1001(server: Servers) -> None:
    handle = server.start(APP)
    with WebSocket.open(handle, "/echo") as ws:
        ws.send(TEXT, b"before")
        assert ws.read() == (TEXT, b"before")
        handle.signal(signal.SIGTERM)
        assert ws.read_close()[0] == 1001
        ws.client.send(close_frame(1001))
        assert ws.client.closed()
    assert handle.wait() == 0


def test_access_log(server: Servers) -> None:
    handle = server.start(APP)
    with WebSocket.open(handle, "/echo?a=b") as ws:
        peer = "{}:{}".format(*ws.client.sock.getsockname())
        ws.client.send(close_frame(1000))
        ws.read_close()
    with handle.connect() as client:
        client.send(frame(TEXT))  # no request at all: no line
    with pytest.raises(ConnectionClosed):
        asyncio.run(close_from_server(handle))
    wait_for(lambda: handle.stdout().count("\n") >= 6, what="six lines")
    lines = handle.stdout().splitlines()
    assert [line.split('"')[1] for line in lines] == [
        f"WS{what} {path}"
        for path in ("/echo", "/close/4000/bye")
        for what in ("CONNECTING", "CONNECT", "DISCONNECT")
    ]
    assert lines[0].startswith(f"{peer} - - [") and lines[0].endswith('" - -')


async def close_from_server(handle: Handle) -> None:
    async with connect(f"{handle.ws_url}/close/4000/bye", compression=None) as ws:
        await ws.send("x")
        await ws.recv()
