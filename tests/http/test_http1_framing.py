"""Requests that two parsers might read in two ways, on a real socket: refused, the application not called.

The rows of the threat list, section 5.1. Each is sent in one write and byte by byte; then the next
clean connection must be served. The same rows run against the core alone, under ASan and in every
cut, in tests/c/unit/test_http1.c.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest

from tests.support.handle import Handle
from tests.support.servers import Servers

pytestmark = pytest.mark.server

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
TE = b"Transfer-Encoding: "

# id, request, statuses that are right
REFUSED: list[tuple[str, bytes, set[int]]] = [
    ("equal-cl", POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", {400}),
    ("two-cl", POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", {400}),
    ("cl-te", POST + b"Content-Length: 6\r\n" + TE + b"chunked\r\n\r\n0\r\n\r\nX", {400}),
    ("te-cl", POST + TE + b"chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nX", {400}),
    ("cl-plus", POST + b"Content-Length: +10\r\n\r\n0123456789", {400}),
    ("cl-hex", POST + b"Content-Length: 0x0a\r\n\r\n0123456789", {400}),
    ("cl-underscore", POST + b"Content-Length: 1_0\r\n\r\n0123456789", {400}),
    ("cl-space-colon", POST + b"Content-Length : 5\r\n\r\nhello", {400}),
    ("cl-leading-space", b"POST / HTTP/1.1\r\n Content-Length: 5\r\nHost: a\r\n\r\nhello", {400}),
    ("te-identity-last", POST + TE + b"chunked, identity\r\n\r\n0\r\n\r\n", {400, 501}),
    ("te-x", POST + TE + b"xchunked\r\n\r\n0\r\n\r\n", {400, 501}),
    ("te-chunked-x", POST + TE + b"chunked, xchunked\r\n\r\n0\r\n\r\n", {400, 501}),
    ("te-identity-first", POST + TE + b"identity, chunked\r\n\r\n0\r\n\r\n", {400, 501}),
    ("te-twice", POST + TE + b"chunked\r\n" + TE + b"chunked\r\n\r\n0\r\n\r\n", {400, 501}),
    ("te-second-bad", POST + TE + b"chunked\r\n" + TE + b"cow\r\n\r\n0\r\n\r\n", {400, 501}),
    ("te-empty", POST + TE + b"\r\n\r\n", {400}),
    ("te-vtab", POST + TE + b"\x0bchunked\r\n\r\n0\r\n\r\n", {400}),
    ("te-folded", POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", {400}),
    ("te-1.0", b"POST / HTTP/1.0\r\n" + TE + b"chunked\r\n\r\n0\r\n\r\n", {400}),
    ("lf-line", b"GET / HTTP/1.1\nHost: a\n\n", {400}),
    ("lf-header", b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", {400}),
    ("cr-header", b"GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n", {400}),
    ("cr-te", GET + b"X-Abc: \rTransfer-Encoding: chunked\r\n\r\n", {400}),
    ("cr-end", GET + b"\rX", {400}),
    ("0.9-headers", b"GET /x\nHost: a\r\nContent-Length: 5\r\n\r\nhello", {400}),
    ("0.9", b"GET /x\r\n\r\n", {400}),
    ("2.0", b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", {505}),
    ("method", b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", {501}),
    ("connect", b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", {501}),
    ("tls", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", {400}),
    ("name-empty", GET + b": x\r\n\r\n", {400}),
    ("name-space", GET + b"X Y: z\r\n\r\n", {400}),
    ("name-lf", GET + b"X\nY: z\r\n\r\n", {400}),
    ("fold", GET + b"X: y\r\n z\r\n\r\n", {400}),
    *(
        (f"value-{byte:02x}", GET + b"X: a" + bytes([byte]) + b"b\r\n\r\n", {400})
        for byte in (0x00, 0x0B, 0x0C, 0x1B, 0x1C, 0x1D, 0x1E, 0x7F)
    ),
    ("host-none", b"GET / HTTP/1.1\r\n\r\n", {400}),
    ("host-two", GET + b"Host: a\r\n\r\n", {400}),
    *(
        (f"host-{host.decode()}", b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n", {400})
        for host in (b"a@b", b"a/b", b"a b", b"[::1", b"a,b", b"a\0b", b"<b>a</b>")
    ),
    ("target-relative", b"GET foo HTTP/1.1\r\nHost: a\r\n\r\n", {400}),
    ("target-authority", b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", {400}),
    ("target-star", b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", {400}),
    ("target-fragment", b"GET /x#y HTTP/1.1\r\nHost: a\r\n\r\n", {400}),
    ("target-non-ascii", b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", {400}),
    ("target-nul", b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", {400}),
    ("target-userinfo", b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", {400}),
    ("expect", POST + b"Expect: tea\r\nContent-Length: 1\r\n\r\nx", {417}),
]

# The head is good, so the application runs; it must never see an end of the body.
BROKEN_BODIES: list[tuple[str, bytes]] = [
    ("no-crlf", b"5\r\nhelloXX0\r\n\r\n"),
    ("size-plus", b"+1\r\nx\r\n0\r\n\r\n"),
    ("size-hex", b"0x1\r\nx\r\n0\r\n\r\n"),
    ("size-space", b" 1\r\nx\r\n0\r\n\r\n"),
    ("size-underscore", b"1_0\r\n0123456789\r\n0\r\n\r\n"),
    ("size-lf", b"1\nx\r\n0\r\n\r\n"),
    ("size-overflow", b"fffffffffffffffff\r\nx\r\n0\r\n\r\n"),
    ("ext-lf", b"1;a\nb\r\nx\r\n0\r\n\r\n"),
    ("ext-cr", b"1;a\rb\r\nx\r\n0\r\n\r\n"),
    ("ext-blank-cr", b"1 ;a\r;b\r\nx\r\n0\r\n\r\n"),
    ("ext-blank-end", b"1;a \r\nx\r\n0\r\n\r\n"),
    ("ext-quoted-lf", b'1;a="\n"\r\nx\r\n0\r\n\r\n'),
    ("ext-escaped-crlf", b'1;a="\\\r\n"\r\nx\r\n0\r\n\r\n'),
    ("size-space-end", b"1 \r\nx\r\n0\r\n\r\n"),
    ("two-sizes", b"1 1;a\r\nx\r\n0\r\n\r\n"),
    ("ext-quoted-crlf", b'1;a="\r\n"\r\nx\r\n0\r\n\r\n'),
    ("trailer-cl", b"1\r\nx\r\n0\r\nContent-Length: 5\r\n\r\n"),
    ("trailer-te", b"1\r\nx\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ("trailer-bad", b"1\r\nx\r\n0\r\nX Y: z\r\n\r\n"),
]


@pytest.fixture(scope="module")
def handle() -> Iterator[Handle]:
    servers = Servers()
    yield servers.start("tests.apps.wire:app")
    servers.finish()


def count(handle: Handle) -> int:
    return int(handle.get("/count").body)


def ends_seen(handle: Handle) -> int:
    return [how for how, _ in json.loads(handle.get("/seen").body)].count("end")


def talk(handle: Handle, request: bytes, cut: int) -> bytes:
    """Everything the server says to a request that is sent in pieces of `cut` bytes."""
    with handle.connect() as client:
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for start in range(0, len(request), cut):
                client.send(request[start : start + cut])
        except (BrokenPipeError, ConnectionResetError):
            pass  # the server has answered and gone before the last byte
        return client.read_all()


def status_of(answer: bytes) -> int:
    assert answer.startswith((b"HTTP/1.1 ", b"HTTP/1.0 ")), answer
    return int(answer[9:12])


@pytest.mark.parametrize("cut", [65536, 1], ids=["whole", "bytes"])
@pytest.mark.parametrize(
    ("request_", "statuses"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_refused(handle: Handle, request_: bytes, statuses: set[int], cut: int) -> None:
    before = count(handle)
    answer = talk(handle, request_ + GET + b"\r\n", cut)
    assert status_of(answer) in statuses
    assert answer.count(b"HTTP/1.") == 1, "something behind the bad request was answered"
    assert b"connection: close" in answer.lower()
    assert count(handle) == before
    assert handle.get("/").status == 200


@pytest.mark.parametrize("cut", [65536, 1], ids=["whole", "bytes"])
@pytest.mark.parametrize(
    "chunks", [row[1] for row in BROKEN_BODIES], ids=[row[0] for row in BROKEN_BODIES]
)
def test_broken_body(handle: Handle, chunks: bytes, cut: int) -> None:
    before = ends_seen(handle)
    request = CHUNKED.replace(b"POST / ", b"POST /upload ") + chunks
    assert status_of(talk(handle, request, cut)) == 400
    assert ends_seen(handle) == before
    assert json.loads(handle.get("/seen").body)[-1][0] == "disconnect"


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 5\r\n\r\nhel",
        TE + b"chunked\r\n\r\n5\r\nhello\r\n",
        TE + b"chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    ],
    ids=["cl", "chunk", "last-line"],
)
def test_truncated_body(handle: Handle, body: bytes) -> None:
    before = ends_seen(handle)
    with handle.connect() as client:
        client.send(b"POST /upload HTTP/1.1\r\nHost: a\r\n" + body)
        client.sock.shutdown(socket.SHUT_WR)
        assert client.read_all() == b""
    assert ends_seen(handle) == before


def test_error_page_is_constant(handle: Handle) -> None:
    answer = talk(handle, b"GET / HTTP/1.1\r\nHost: <script>alert(1)</script>\r\n\r\n", 65536)
    assert b"script" not in answer
    assert answer.endswith(b"\r\n\r\n400 Bad Request\n")


def test_error_is_one_info_line(server: Servers) -> None:
    handle = server.start("tests.apps.wire:app", "-v", "2")
    assert status_of(handle.raw(b"GET / HTTP/1.1\r\n\r\n")) == 400
    handle.wait_for_log(r"INFO.*refused with 400: no Host")
    assert "WARNING" not in handle.stderr()


def described(handle: Handle, request: bytes) -> list[object]:
    with handle.connect() as client:
        response = client.request(request)
    assert response.status == 200, response
    described: list[object] = json.loads(response.body)
    return described


def test_trailers_are_no_headers(handle: Handle) -> None:
    trailers = b"Host: evil\r\nX: y\r\nCookie: z\r\n"
    seen = described(handle, CHUNKED + b"5\r\nhello\r\n0\r\n" + trailers + b"\r\n")
    assert seen == ["POST", "/", [["host", "a"], ["transfer-encoding", "chunked"]], "hello"]


def test_chunk_extensions_are_dropped(handle: Handle) -> None:
    assert described(handle, CHUNKED + b'5;a=b;c="d"\r\nhello\r\n0;e\r\n\r\n')[3] == "hello"


EXTENSIONS = [
    b"; some; a=b",
    b" ;a",
    b";a =b",
    b";a= b",
    b'\t;\ta\t=\t"b \\" ;\\\\" ;c',
    b';a="\xe4;b=\'"',
]


@pytest.mark.parametrize("cut", [65536, 1], ids=["whole", "bytes"])
@pytest.mark.parametrize("extension", EXTENSIONS)
def test_blanks_in_chunk_extensions(handle: Handle, extension: bytes, cut: int) -> None:
    """RFC 9112, 7.1.1: they must be parsed, and the next request is where it was."""
    chunks = b"5%b\r\nhello\r\n00%b\r\nX: y\r\n\r\n" % (extension, extension)
    answer = talk(handle, CHUNKED + chunks + GET + b"Connection: close\r\n\r\n", cut)
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert b'"hello"]' in answer


def test_absolute_target_wins_over_host(handle: Handle) -> None:
    seen = described(handle, b"GET http://b:81/x?y HTTP/1.1\r\nHost: a\r\n\r\n")
    assert seen[:3] == ["GET", "/x?y", [["host", "b:81"]]]


def test_options_star(handle: Handle) -> None:
    assert described(handle, b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")[:2] == ["OPTIONS", "*"]


def test_two_slashes_stay(handle: Handle) -> None:
    assert described(handle, b"GET //x/../y HTTP/1.1\r\nHost: a\r\n\r\n")[1] == "//x/../y"


def test_other_upgrades_are_ignored(handle: Handle) -> None:
    request = (
        GET + b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: x\r\n\r\n"
    )
    assert described(handle, request)[0] == "GET"


def test_next_line_byte_is_text(handle: Handle) -> None:
    """0x85 is obs-text: part of UTF-8 sequences, and never the end of a line."""
    seen = described(handle, GET + b"X: a\x85b\r\n\r\n")
    assert seen[2] == [["host", "a"], ["x", "a\x85b"]]


def test_old_client_without_host(handle: Handle) -> None:
    assert described(handle, b"GET / HTTP/1.0\r\n\r\n")[2] == []


def test_nothing_behind_connection_close_is_served(handle: Handle) -> None:
    before = count(handle)
    answer = handle.raw(GET + b"Connection: close\r\n\r\n" + GET + b"\r\n")
    assert answer.count(b"HTTP/1.1 200") == 1
    assert count(handle) == before + 1


def test_nothing_behind_an_error_is_served(handle: Handle) -> None:
    before = count(handle)
    answer = handle.raw(POST + b"Content-Length: x\r\n\r\n" + GET + b"\r\n")
    assert status_of(answer) == 400
    assert count(handle) == before
