"""Single requests over bare sockets: is a server up, is its answer right, how many bytes are it."""

from __future__ import annotations

import socket

from .clients import LoadError


def fetch(port: int, path: str = "/", body: bytes = b"", timeout: float = 10.0) -> bytes:
    """The whole answer of one request as it stood on the wire, head and body."""
    method = b"POST" if body else b"GET"
    length = b"Content-Length: %d\r\n" % len(body) if body else b""
    head = b"%s %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%sConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout) as connection:
        connection.settimeout(timeout)
        connection.sendall(head % (method, path.encode(), port, length) + body)
        answer = b""
        while data := connection.recv(1 << 18):
            answer += data
    return answer


def body_of(answer: bytes) -> bytes:
    """The body of an answer with Content-Length or in chunks; LoadError when it is not whole."""
    head, found, rest = answer.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    if not found or not lines[0].startswith(b"http/1.1 200"):
        raise LoadError(f"answer: {answer[:40]!r}")
    fields = dict(line.split(b": ", 1) for line in lines[1:] if b": " in line)
    if fields.get(b"transfer-encoding") == b"chunked":
        return unchunk(rest)
    if len(rest) != int(fields.get(b"content-length", -1)):
        raise LoadError(
            f"body of {len(rest)} bytes, Content-Length {fields.get(b'content-length')!r}"
        )
    return rest


def unchunk(data: bytes) -> bytes:
    body = b""
    while True:
        line, _, data = data.partition(b"\r\n")
        size = int(line, 16)
        body, data = body + data[:size], data[size + 2 :]
        if size == 0:
            return body


def kept_size(port: int, path: str, body: bytes, post: bytes) -> int:
    """Head and body of an answer on a connection that stays open, in bytes."""
    length = f"Content-Length: {len(post)}\r\n" if post else ""
    head = f"{'POST' if post else 'GET'} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{length}\r\n"
    with socket.create_connection(("127.0.0.1", port), 10.0) as connection:
        connection.sendall(head.encode() + post)
        answer = b""
        while b"\r\n\r\n" not in answer or not answer.endswith(body):
            data = connection.recv(1 << 18)
            if not data:
                raise LoadError(f"{path}: the connection closes within an answer")
            answer += data
    return len(answer)
