"""Known attacks on HTTP/2, frame by frame, on a running server: it ends the attacker and serves the others."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from itertools import count, islice

import hpack
import pytest

from tests.support.handle import Handle
from tests.support.servers import Servers
from tests.support.wait import wait_for

pytestmark = pytest.mark.server

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    range(10)
)
END_STREAM, END_HEADERS = 1, 4
PROTOCOL_ERROR, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, COMPRESSION_ERROR, CALM = 1, 3, 6, 9, 11
INITIAL_WINDOW_SIZE = 4
TOO_MUCH = struct.pack(">I", 0x7FFFFFFF)  # no window can grow by it
MEGABYTE = 1024 * 1024
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAMES = 3000  # of a flood: a second's worth and more, of every kind
# What one attacker may cost, with what the interpreter keeps of it; ASan keeps up to 256 MiB more.
ROOM = 8 * MEGABYTE + ("libasan" in os.environ.get("LD_PRELOAD", "")) * 400 * MEGABYTE


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def settings(*pairs: tuple[int, int]) -> bytes:
    return frame(SETTINGS, payload=b"".join(struct.pack(">HI", *pair) for pair in pairs))


def request(
    stream: int, path: str = "/", *fields: tuple[str, str], method: str = "GET", end: bool = True
) -> bytes:
    """Without the dynamic table, so that each stands for itself."""
    encoder = hpack.Encoder()
    pseudo = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "a")]
    never = [hpack.NeverIndexedHeaderTuple(*field) for field in (*pseudo, *fields)]
    flags = END_HEADERS | (END_STREAM if end else 0)
    return frame(HEADERS, flags, stream, encoder.encode(never))


def odd() -> Iterator[int]:
    return count(1, 2)


class Attacker:
    """A socket that speaks HTTP/2 only as far as an attack needs; what it hears waits until the end."""

    def __init__(self, handle: Handle, *pairs: tuple[int, int]) -> None:
        self.sock = socket.create_connection(("127.0.0.1", handle.port), 10)
        self.alive = True
        self.send(PREFACE + settings(*pairs) + frame(SETTINGS, 1))

    def __enter__(self) -> Attacker:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> bool:
        """False when the server has ended the connection, or takes no more."""
        try:
            self.sock.sendall(data)
        except (ConnectionError, TimeoutError):
            self.alive = False
        return self.alive

    def heard(self, seconds: float = 10) -> list[tuple[int, int, int, bytes]]:
        """(kind, flags, stream, payload) of all frames until the server's FIN, or for so long."""
        data = b""
        deadline = time.monotonic() + seconds
        try:
            while (left := deadline - time.monotonic()) > 0:
                self.sock.settimeout(left)
                piece = self.sock.recv(MEGABYTE)
                if not piece:
                    break
                data += piece
        except (ConnectionError, TimeoutError):
            pass
        return list(split(data))

    def last_word(self) -> int | None:
        """The error of the GOAWAY; None: cut without one."""
        errors = [
            struct.unpack(">I", payload[4:8])[0]
            for kind, _, _, payload in self.heard()
            if kind == GOAWAY
        ]
        return errors[-1] if errors else None


def split(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    while len(data) >= 9:
        size = int.from_bytes(data[:3], "big")
        kind, flags, stream = struct.unpack(">BBI", data[3:9])
        yield kind, flags, stream & 0x7FFFFFFF, data[9 : 9 + size]
        data = data[9 + size :]


# ---- floods: what is sent again and again, and how it ends ----


def rapid_reset() -> Iterator[bytes]:
    for stream in odd():
        yield request(stream) + frame(RST_STREAM, 0, stream, struct.pack(">I", 8))


def made_you_reset() -> Iterator[bytes]:
    for stream in odd():
        yield request(stream) + frame(WINDOW_UPDATE, 0, stream, TOO_MUCH)


def pings() -> Iterator[bytes]:
    while True:
        yield frame(PING, payload=bytes(8))


def empty_settings() -> Iterator[bytes]:
    while True:
        yield settings()


def empty_data() -> Iterator[bytes]:
    yield request(1, "/echo", method="POST", end=False)
    while True:
        yield frame(DATA, 0, 1)


def priorities() -> Iterator[bytes]:
    for stream in odd():
        yield frame(PRIORITY, 0, stream, struct.pack(">IB", 0, 16))


def unknown() -> Iterator[bytes]:
    while True:
        yield frame(0x77)


def continuations() -> Iterator[bytes]:
    yield frame(HEADERS, END_STREAM, 1, hpack.Encoder().encode([(":method", "GET")]))
    for number in count():
        yield frame(CONTINUATION, 0, 1, b"\0" + literal(f"x{number}") + literal("y"))


def empty_continuations() -> Iterator[bytes]:
    yield frame(HEADERS, END_STREAM, 1, hpack.Encoder().encode([(":method", "GET")]))
    while True:
        yield frame(CONTINUATION, 0, 1)


def literal(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


FLOODS = (
    rapid_reset,
    made_you_reset,
    pings,
    empty_settings,
    empty_data,
    priorities,
    unknown,
    continuations,
    empty_continuations,
)


@pytest.mark.parametrize("flood", FLOODS)
def test_flood(server: Servers, flood: Callable[[], Iterator[bytes]]) -> None:
    """It ends with ENHANCE_YOUR_CALM; the others are served all the while.

    CVE-2023-44487, CVE-2025-8671, CVE-2019-9512, 9514, 9515, 9518, CVE-2016-6580, CVE-2024-27316, CVE-2024-28182.
    """
    handle = server.start()
    assert handle.get("/").body == b"hello"
    before = handle.rss()
    with Attacker(handle) as attacker:
        for number, piece in enumerate(islice(flood(), FRAMES)):
            if not attacker.send(piece):
                break
            if number % 500 == 0:
                assert handle.get("/").body == b"hello"
        # Streams whose RST_STREAM waits to be sent are still open: a burst of them breaks a rule as well.
        assert attacker.last_word() in (CALM, PROTOCOL_ERROR if flood is made_you_reset else CALM)
    assert handle.rss() - before < ROOM
    assert handle.get("/").body == b"hello"


# ---- single shots ----


def test_settings_with_thousands_of_entries(server: Servers) -> None:
    """CVE-2020-11080."""
    handle = server.start()
    with Attacker(handle) as attacker:
        attacker.send(settings(*[(3, 100)] * 2700))
        assert attacker.last_word() == CALM
    assert handle.get("/").body == b"hello"


MALFORMED = {
    "PING": frame(PING, payload=bytes(7)),
    "SETTINGS": frame(SETTINGS, payload=bytes(5)),
    "acknowledged SETTINGS": frame(SETTINGS, 1, 0, bytes(6)),
    "WINDOW_UPDATE": frame(WINDOW_UPDATE, payload=bytes(3)),
    "RST_STREAM": frame(RST_STREAM, 0, 1, bytes(3)),
    "PRIORITY": frame(PRIORITY, 0, 1, bytes(4)),
    "GOAWAY": frame(GOAWAY, payload=bytes(7)),
    "HEADERS": frame(HEADERS, 8 | END_HEADERS, 3, b"\xff"),
    "PRIORITY_UPDATE": frame(0x10, payload=bytes(3)),
    "a frame of 16 MB": frame(DATA, 0, 1)[3:].join([b"\xff\xff\xff", b""]),
}
ENDING = {
    "DATA without a stream": (frame(DATA, 0, 0, b"x"), PROTOCOL_ERROR),
    "PUSH_PROMISE": (frame(PUSH, END_HEADERS, 1, bytes(5)), PROTOCOL_ERROR),
    "CONTINUATION": (frame(CONTINUATION, END_HEADERS, 1, b""), PROTOCOL_ERROR),
    "a window too large": (
        frame(WINDOW_UPDATE, payload=TOO_MUCH),
        FLOW_CONTROL_ERROR,
    ),
    "a bad block": (frame(HEADERS, END_HEADERS, 1, b"\xff" * 6), COMPRESSION_ERROR),
    "GOAWAY": (frame(GOAWAY, payload=bytes(8)), None, FRAME_SIZE_ERROR),
}


@pytest.mark.parametrize("ending", ENDING)
def test_malformed_behind_the_end(server: Servers, ending: str) -> None:
    """CVE-2026-27135: a session that has been ended, and then, in the same read, a frame of a wrong size."""
    handle = server.start()
    first, *errors = ENDING[ending]
    for second in MALFORMED.values():
        with Attacker(handle) as attacker:
            attacker.send(first + second + second)
            assert attacker.last_word() in errors
    assert handle.get("/").body == b"hello"


def test_hpack_bomb(server: Servers) -> None:
    """CVE-2016-6581, CVE-2026-49975: one large field in the table, then thousands of references to it."""
    handle = server.start()
    before = handle.rss()
    encoder = hpack.Encoder()
    base = encoder.encode(
        [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")]
    )
    large = (
        b"\x40" + literal("bomb") + b"\x7f" + hpack.hpack.encode_integer(3900, 7)[1:] + b"x" * 3900
    )
    with Attacker(handle) as attacker:
        attacker.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, base + large))
        for stream in islice(odd(), 1, 60):
            block = base[:1] + b"\xbe" * 15000
            if not attacker.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, block)):
                break
        assert handle.get("/").body == b"hello"
        statuses = [
            payload
            for kind, _, stream, payload in attacker.heard(1)
            if kind == HEADERS and stream > 1
        ]
        decoder = hpack.Decoder()
        assert all(dict(decoder.decode(block))[":status"] in ("431", "400") for block in statuses)
    assert handle.rss() - before < ROOM


def test_window_that_stays_closed(server: Servers) -> None:
    """CVE-2019-9511, 9517: large answers asked for by one who takes nothing of them."""
    handle = server.start("tests.apps.basic:app", "--write-timeout", "2")
    before = handle.rss()
    body = b"x" * 16000
    with Attacker(handle, (INITIAL_WINDOW_SIZE, 0)) as attacker:
        for stream in islice(odd(), 50):
            attacker.send(request(stream, "/echo", method="POST", end=False))
            attacker.send(frame(DATA, END_STREAM, stream, body))
        assert handle.get("/").body == b"hello"
        resets = [payload for kind, _, _, payload in attacker.heard(8) if kind == RST_STREAM]
    assert resets == [struct.pack(">I", CALM)] * 50
    assert handle.rss() - before < ROOM


def test_bodies_of_reset_streams(server: Servers) -> None:
    """Posted to applications that do not read, and reset: no more is kept than the connection's window."""
    handle = server.start(
        "tests.apps.basic:app",
        "--http2-connection-window",
        "262144",
        "--application-close-timeout",
        "60",
    )
    before = handle.rss()
    piece = b"x" * 16000
    with Attacker(handle) as attacker:
        for stream in islice(odd(), 90):
            attacker.send(request(stream, "/sleep/30", method="POST", end=False))
            attacker.send(frame(DATA, 0, stream, piece))
            attacker.send(frame(RST_STREAM, 0, stream, struct.pack(">I", 8)))
        heard = attacker.heard(3)
        given = sum(
            struct.unpack(">I", payload)[0]
            for kind, _, stream, payload in heard
            if kind == WINDOW_UPDATE and stream == 0
        )
    assert given < 2 * 262144
    assert handle.rss() - before < ROOM
    assert handle.get("/").body == b"hello"


# ---- heads that are to become another's ----

SMUGGLED: dict[str, tuple[str, tuple[str, str]]] = {
    "CR LF in a value": ("/", ("a", "b\r\nx: y")),
    "NUL in a value": ("/", ("a", "b\0c")),
    "LF in a name": ("/", ("a\nb", "c")),
    "an upper-case name": ("/", ("Abc", "d")),
    "no name": ("/", ("", "a")),
    "space in the path": ("/ HTTP/1.1", ("a", "b")),
    "connection": ("/", ("connection", "close")),
    "te": ("/", ("te", "gzip")),
    "transfer-encoding": ("/", ("transfer-encoding", "chunked")),
    "another :authority": ("/", (":authority", "b")),
    "another host": ("/", ("host", "b")),
    "content-length without a body": ("/", ("content-length", "5")),
}


@pytest.mark.parametrize("case", SMUGGLED)
def test_smuggled(server: Servers, case: str) -> None:
    """CVE-2025-57804, CVE-2019-9516 and their kin: reset as PROTOCOL_ERROR, and no application ran."""
    path, field = SMUGGLED[case]
    handle = server.start()
    with Attacker(handle) as attacker:
        attacker.send(request(1, path, field) + request(3) + frame(GOAWAY, payload=bytes(8)))
        heard = attacker.heard()
    resets = [(stream, payload) for kind, _, stream, payload in heard if kind == RST_STREAM]
    assert resets == [(1, struct.pack(">I", PROTOCOL_ERROR))]
    assert [payload for kind, _, stream, payload in heard if kind == DATA and stream == 3][0] == (
        b"hello"
    )
    wait_for(lambda: handle.stdout().count("\n"), what="the access log")
    assert handle.stdout().count("\n") == 1
