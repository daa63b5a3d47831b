"""A client whose every byte is the test's own."""

from __future__ import annotations

import socket


class Response:
    """One HTTP response as it stood on the wire; header names lower-case, repeated ones joined by ', '."""

    def __init__(
        self, version: str, status: int, reason: str, headers: dict[str, str], body: bytes
    ) -> None:
        self.version = version
        self.status = status
        self.reason = reason
        self.headers = headers
        self.body = body

    @property
    def text(self) -> str:
        return self.body.decode()

    def __repr__(self) -> str:
        return f"<Response {self.status} {self.reason} {self.headers} {self.body[:200]!r}>"


class RawClient:
    """A socket with the few reads that protocol tests need. Every read has the socket's timeout."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = b""

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def recv(self, size: int = 65536) -> bytes:
        """Bytes, b"" at the end of the stream; ConnectionResetError when the server cut the connection."""
        if self.buffer:
            data, self.buffer = self.buffer[:size], self.buffer[size:]
            return data
        return self.sock.recv(size)

    def read_until(self, mark: bytes) -> bytes:
        """Everything up to and including mark."""
        while mark not in self.buffer:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError(f"end of stream before {mark!r}: {self.buffer!r}")
            self.buffer += data
        end = self.buffer.index(mark) + len(mark)
        data, self.buffer = self.buffer[:end], self.buffer[end:]
        return data

    def read_exactly(self, size: int) -> bytes:
        while len(self.buffer) < size:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError(
                    f"end of stream, {size - len(self.buffer)} bytes missing: {self.buffer!r}"
                )
            self.buffer += data
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def read_all(self) -> bytes:
        """Everything until the server closes."""
        while data := self.sock.recv(65536):
            self.buffer += data
        data, self.buffer = self.buffer, b""
        return data

    def response(self, method: str = "GET") -> Response:
        """The next response; bodies by Content-Length, chunked, or until the end of the stream."""
        head = self.read_until(b"\r\n\r\n").decode("latin-1")
        status_line, *lines = head[:-4].split("\r\n")
        version, code, reason = (status_line + " ").split(" ", 2)
        headers: dict[str, str] = {}
        for line in lines:
            name, value = line.split(":", 1)
            key = name.strip().lower()
            headers[key] = f"{headers[key]}, {value.strip()}" if key in headers else value.strip()
        status = int(code)
        body = b""
        if method != "HEAD" and status >= 200 and status not in (204, 304):
            body = self._body(headers)
        return Response(version, status, reason.strip(), headers, body)

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self.read_until(b"\r\n")[:-2], 16):
                body += self.read_exactly(size)
                assert self.read_exactly(2) == b"\r\n"
            assert self.read_exactly(2) == b"\r\n"
            return body
        if "content-length" in headers:
            return self.read_exactly(int(headers["content-length"]))
        return self.read_all()

    def request(self, data: bytes, method: str = "GET") -> Response:
        self.send(data)
        return self.response(method)

    def closed(self) -> bool:
        """Waits for the server to close; True for FIN and RST, False when bytes arrive instead."""
        try:
            return self.recv() == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
