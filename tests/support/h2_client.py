"""A client of HTTP/2 that shows its frames: the library h2 on a socket."""

from __future__ import annotations

import socket
import time

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from tests.support.handle import Handle

# A request's fields that ask for HTTP/2, and the answer.
ASKING = (
    b"Host: test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: %s\r\n"
)
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"


class Client:
    """A connection of the h2 library, and all that it has heard."""

    def __init__(self, handle: Handle, upgrade: bytes = b"") -> None:
        """`upgrade`: the path of a first request, in HTTP/1.1, that asks for HTTP/2."""
        self.sock = socket.create_connection(("127.0.0.1", handle.port), 10)
        config = h2.config.H2Configuration(
            header_encoding=None,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self.h2 = h2.connection.H2Connection(config)
        self.events: list[h2.events.Event] = []
        self.closed = False
        if upgrade:
            self.upgrade(upgrade)
        else:
            self.h2.initiate_connection()
            self.flush()

    def upgrade(self, path: bytes) -> None:
        settings = self.h2.initiate_upgrade_connection() or b""
        self.sock.sendall(b"GET " + path + b" HTTP/1.1\r\n" + ASKING % settings + b"\r\n")
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += self.sock.recv(1)
        assert answer == SWITCHING
        self.flush()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def flush(self) -> None:
        try:
            self.sock.sendall(self.h2.data_to_send())
        except OSError:
            self.closed = True

    def request(
        self, path: str = "/", *headers: tuple[str, str], method: str = "GET", end: bool = True
    ) -> int:
        number = self.h2.get_next_available_stream_id()
        pseudo = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "test")]
        self.h2.send_headers(number, [*pseudo, *headers], end_stream=end)
        self.flush()
        return number

    def hear(self) -> None:
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            data = b""
        self.closed = self.closed or not data
        for event in self.h2.receive_data(data) if data else ():
            self.events.append(event)
            if isinstance(event, h2.events.DataReceived):
                self.h2.acknowledge_received_data(
                    event.flow_controlled_length or 0, event.stream_id
                )
        self.flush()

    def until(self, kind: type[h2.events.Event], stream: int | None = None) -> h2.events.Event:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            for event in self.events:
                if isinstance(event, kind) and stream in (None, getattr(event, "stream_id", None)):
                    return event
            assert not self.closed, self.events
            self.hear()
        raise AssertionError(self.events)

    def body(self, stream: int) -> bytes:
        self.until(h2.events.StreamEnded, stream)
        return b"".join(
            event.data or b""
            for event in self.events
            if isinstance(event, h2.events.DataReceived) and event.stream_id == stream
        )

    def status(self, stream: int) -> int:
        event = self.until(h2.events.ResponseReceived, stream)
        return int(dict(event.headers or [])[b":status"])  # type: ignore[attr-defined]
