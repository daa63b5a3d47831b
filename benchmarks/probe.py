"""Single requests over bare sockets: is a server up, is its answer right, how many bytes are it."""

from __future__ import annotations

import socket
import ssl
import subprocess

from .clients import LoadError, Unsupported, need


def connect(port: int, timeout: float, secure: bool) -> socket.socket:
    plain = socket.create_connection(("127.0.0.1", port), timeout)
    if not secure:
        return plain
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the certificate is the suite's own
    return context.wrap_socket(plain)


def fetch(
    port: int, path: str = "/", body: bytes = b"", timeout: float = 10.0, secure: bool = False
) -> bytes:
    """The whole answer of one request as it stood on the wire, or within TLS, head and body."""
    method = b"POST" if body else b"GET"
    length = b"Content-Length: %d\r\n" % len(body) if body else b""
    head = b"%s %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%sConnection: close\r\n\r\n"
    with connect(port, timeout, secure) as connection:
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


def fetch_http2(port: int, path: str = "/", timeout: float = 20.0) -> bytes:
    """The body of one answer over HTTP/2 and TLS."""
    with connect(port, timeout, secure=True):
        pass  # nghttp does not say why it fails: what is refused or reset is told here
    url = f"https://127.0.0.1:{port}{path}"
    command = [need("nghttp"), "--no-verify-peer", "--timeout", f"{timeout:g}", url]
    done = subprocess.run(command, capture_output=True)
    if b"HTTP/2 protocol was not selected" in done.stderr:
        raise Unsupported("does not speak HTTP/2")
    if done.returncode != 0 or done.stderr:
        raise LoadError(f"nghttp: {done.stderr.decode(errors='replace').strip()[-200:]}")
    return done.stdout


def kept_size(port: int, path: str, body: bytes, post: bytes, secure: bool = False) -> int:
    """Head and body of an answer on a connection that stays open, in bytes."""
    length = f"Content-Length: {len(post)}\r\n" if post else ""
    head = f"{'POST' if post else 'GET'} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{length}\r\n"
    with connect(port, 10.0, secure) as connection:
        connection.sendall(head.encode() + post)
        answer = b""
        while b"\r\n\r\n" not in answer or not answer.endswith(body):
            data = connection.recv(1 << 18)
            if not data:
                raise LoadError(f"{path}: the connection closes within an answer")
            answer += data
    return len(answer)
