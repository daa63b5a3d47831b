"""WebSocket frames by hand, for the tests that send what no client library would."""

from __future__ import annotations

import base64
import hashlib
import os
import struct

from tests.support.client import RawClient
from tests.support.handle import Handle

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def request(path: str = "/", *headers: str, key: bytes | None = None, method: str = "GET") -> bytes:
    """The head of a handshake; a header "-Name" takes a usual one away, "Name: x" of the same name replaces it."""
    lines = {
        "host": "Host: test",
        "upgrade": "Upgrade: websocket",
        "connection": "Connection: Upgrade",
        "sec-websocket-version": "Sec-WebSocket-Version: 13",
        "sec-websocket-key": f"Sec-WebSocket-Key: {(key or base64.b64encode(os.urandom(16))).decode()}",
    }
    extra = []
    for header in headers:
        name = header.lstrip("-").partition(":")[0].lower()
        if header.startswith("-"):
            del lines[name]
        elif name in lines and header.startswith("+") is False:
            lines[name] = header
        else:
            extra.append(header.lstrip("+"))
    head = [f"{method} {path} HTTP/1.1", *lines.values(), *extra, "", ""]
    return "\r\n".join(head).encode("latin-1")


def accept_value(key: bytes) -> str:
    return base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()


def header(opcode: int, size: int, *, fin: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    """A frame header; the mask key, if there is one, follows it."""
    first = (fin << 7) | (rsv << 4) | opcode
    if size < 126:
        return struct.pack("!BB", first, masked << 7 | size)
    if size < 65536:
        return struct.pack("!BBH", first, masked << 7 | 126, size)
    return struct.pack("!BBQ", first, masked << 7 | 127, size)


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> bytes:
    """A client's frame, masked."""
    key = os.urandom(4)
    mask = (key * (len(payload) // 4 + 1))[: len(payload)]
    body = (int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")).to_bytes(
        len(payload), "big"
    )
    return header(opcode, len(payload), fin=fin, rsv=rsv) + key + body


def close_frame(code: int, reason: str = "") -> bytes:
    return frame(CLOSE, struct.pack("!H", code) + reason.encode())


class WebSocket:
    """An open WebSocket over a raw connection."""

    def __init__(self, client: RawClient) -> None:
        self.client = client

    @classmethod
    def open(
        cls, handle: Handle, path: str = "/", *headers: str, timeout: float = 10.0
    ) -> WebSocket:
        client = handle.connect(timeout)
        client.send(request(path, *headers))
        head = client.read_until(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101 "):
            client.close()
            raise AssertionError(head)
        return cls(client)

    def send(self, opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> None:
        self.client.send(frame(opcode, payload, fin=fin, rsv=rsv))

    def read(self) -> tuple[int, bytes]:
        """The next frame of the server: opcode and payload. They are final and not masked."""
        first, second = self.client.read_exactly(2)
        assert first & 0xF0 == 0x80 and second < 128, (first, second)
        size = second
        if size >= 126:
            size = int.from_bytes(self.client.read_exactly(2 if size == 126 else 8), "big")
        return first & 15, self.client.read_exactly(size)

    def read_close(self) -> tuple[int | None, str]:
        """The close frame, which must be next: code and reason."""
        opcode, payload = self.read()
        assert opcode == CLOSE, (opcode, payload[:100])
        if not payload:
            return None, ""
        return int.from_bytes(payload[:2], "big"), payload[2:].decode()

    def __enter__(self) -> WebSocket:
        return self

    def __exit__(self, *exc: object) -> None:
        self.client.close()
