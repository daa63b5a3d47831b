"""Requests that are wrong, large or slow."""

from __future__ import annotations

import time

from tests.parity.client import PATIENCE, exchange, http, outcome, response_to, sends
from tests.parity.row import Row
from tests.parity.target import Target


def post(*headers: str, body: bytes = b"") -> bytes:
    return http("hello", *headers, method="POST", body=body)


def chunked(body: bytes) -> bytes:
    return post("Transfer-Encoding: chunked", body=body)


def value(byte: int) -> bytes:
    return http("hello", f"X-Y: a{chr(byte)}b")


def multipart(target: Target) -> str:
    return exchange(target.server(), post("Content-Type: multipart/form-data", body=b"nonsense"))


def page(target: Target) -> str:
    """What the client of a bad request is told."""
    response = response_to(target.server(), http(method="G@T"))
    return response.text.strip() or "nothing"


def expectation(target: Target) -> str:
    """The 100 and then the answer."""
    with target.server().connect() as client:
        client.send(http("body_events", "Content-Length: 3", "Expect: 100-continue", method="POST"))
        first = client.response().status
        client.send(b"abc")
        return f"{first}, then {outcome(client)}"


def expectation_unread(target: Target) -> str:
    """What comes first when the application answers without having read the body."""
    with target.server().connect(PATIENCE) as client:
        client.send(post("Content-Length: 3", "Expect: 100-continue"))
        first = client.response().status
        return "100 first" if first == 100 else f"{first}, no 100"


def pipelined(target: Target) -> str:
    with target.server().connect() as client:
        client.send(http("slow") + http("hello") + http("hello", "Connection: close"))
        bodies = [client.response().text for _ in range(3)]
        return f"{', '.join(bodies)}, {'closed' if client.closed() else 'open'}"


def silent_connection(target: Target) -> str:
    """A connection that sends half a head; cdaphne's timer is shortened, daphne's cannot be."""
    flags = ("--head-timeout", "1") if target.name == "cdaphne" else ()
    with target.server(*flags).connect(PATIENCE) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: t")
        start = time.monotonic()
        what = outcome(client)
        assert time.monotonic() - start < 30
        return what


ROWS = [
    Row(
        "bad_request_page",
        "Body of a 400",
        page,
        "nothing",
        "400 Bad Request",
        "the client is told",
    ),
    Row(
        "expect_unknown",
        "``Expect: nonsense``",
        sends(post("Expect: nonsense")),
        "200, kept open",
        "417, closed",
        "417 (RFC 9110, 10.1.1)",
    ),
    Row("two_tokens", "``GET /`` without a version", sends(b"GET /\r\n\r\n"), "400, closed"),
    Row("four_tokens", "``GET / x HTTP/1.1``", sends(http(target="/ x")), "400, closed"),
    Row("bad_method", "``G@T / HTTP/1.1``", sends(http(method="G@T")), "400, closed"),
    Row(
        "bad_version",
        "``HTTP/1.2``",
        sends(http(version="1.2")),
        "400, closed",
        "505, closed",
        "505 names the cause",
    ),
    Row(
        "version_3",
        "``HTTP/3.0``",
        sends(http(version="3.0")),
        "400, closed",
        "505, closed",
        "505 names the cause",
    ),
    Row(
        "control_in_target",
        "A control byte in the target",
        sends(http(target="/a\x01")),
        "400, closed",
    ),
    Row(
        "latin1_in_target",
        "A byte of 0x80 in the target",
        sends(http(target="/a\x80")),
        "400, kept open",
        "400, closed",
        "what does not parse ends the connection",
    ),
    Row(
        "high_byte_in_target",
        "A byte of 0xE9 in the target",
        sends(http(target="/a\xe9")),
        "400, closed",
    ),
    Row("bad_header_name", "``A@B: c``", sends(http("", "A@B: c")), "400, closed"),
    Row("name_blank", "``Name : value``", sends(http("", "Name : value")), "400, closed"),
    Row("no_colon", "A header line without a colon", sends(http("", "nonsense")), "400, closed"),
    Row("nul_in_value", "NUL in a header value", sends(value(0)), "400, closed"),
    Row(
        "vt_in_value",
        "0x0B in a header value",
        sends(value(0x0B)),
        "400, kept open",
        "400, closed",
        "what does not parse ends the connection",
    ),
    Row(
        "fs_in_value",
        "0x1C in a header value",
        sends(value(0x1C)),
        "400, kept open",
        "400, closed",
        "what does not parse ends the connection",
    ),
    Row(
        "nel_in_value",
        "0x85 in a header value",
        sends(value(0x85)),
        "400, kept open",
        "200, kept open",
        "obs-text (RFC 9110, 5.5): a byte of many UTF-8 letters, Å for one",
    ),
    Row(
        "head_too_large",
        "A head of 40 KB",
        sends(http("", *(f"X-{i}: {'a' * 990}" for i in range(40)))),
        "400, closed",
        "431, closed",
        "431 names the cause; --max-head-size",
    ),
    Row(
        "line_too_long",
        "A header line of 40 KB",
        sends(http("", "X-A: " + "a" * 40000)),
        "closed without an answer",
        "431, closed",
        "431 instead of silence; --max-head-size",
    ),
    Row(
        "head_17k",
        "A head of 20 KB",
        sends(http("hello", *(f"X-{i}: {'a' * 990}" for i in range(20)))),
        "400, closed",
        "200, kept open",
        "32 KiB by default; --max-head-size",
    ),
    Row(
        "target_too_long",
        "A target of 12 KB",
        sends(http("hello", target="/" + "a" * 12000)),
        "200, kept open",
    ),
    Row(
        "too_many_headers",
        "600 headers",
        sends(http("", *(f"X-{i}: a" for i in range(600)))),
        "400, closed",
        "431, closed",
        "431 names the cause; --max-header-count",
    ),
    Row(
        "headers_300",
        "300 headers",
        sends(http("hello", *(f"X-{i}: a" for i in range(300)))),
        "200, kept open",
    ),
    Row(
        "length_and_chunked",
        "Content-Length with Transfer-Encoding",
        sends(post("Content-Length: 3", "Transfer-Encoding: chunked", body=b"0\r\n\r\n")),
        "400, closed",
    ),
    Row(
        "length_twice",
        "Two different Content-Lengths",
        sends(post("Content-Length: 3", "Content-Length: 4", body=b"abcd")),
        "400, closed",
    ),
    Row(
        "length_same_twice",
        "The same Content-Length twice",
        sends(post("Content-Length: 3", "Content-Length: 3", body=b"abc")),
        "400, closed",
    ),
    Row(
        "length_plus",
        "``Content-Length: +3``",
        sends(post("Content-Length: +3", body=b"abc")),
        "400, closed",
    ),
    Row(
        "length_negative",
        "``Content-Length: -3``",
        sends(post("Content-Length: -3", body=b"abc")),
        "400, closed",
    ),
    Row(
        "te_unknown",
        "``Transfer-Encoding: gzip``",
        sends(post("Transfer-Encoding: gzip", body=b"abc")),
        "400, closed",
    ),
    Row(
        "te_identity",
        "``Transfer-Encoding: identity``",
        sends(post("Transfer-Encoding: identity")),
        "200, kept open",
        "400, closed",
        "identity is no transfer coding any more (RFC 9112, 7)",
    ),
    Row(
        "bad_chunk",
        "A chunk size that is no number",
        sends(chunked(b"xyz\r\nabc\r\n0\r\n\r\n")),
        "400, closed",
    ),
    Row(
        "chunk_line_long",
        "A chunk extension of 8 KB",
        sends(chunked(b"3;" + b"a" * 8000 + b"\r\nabc\r\n0\r\n\r\n")),
        "400, closed",
    ),
    Row(
        "chunk_blanks",
        "Blanks in a chunk extension, ``3 ; a = b``",
        sends(chunked(b"3 ; a = b\r\nabc\r\n0\r\n\r\n")),
        "400, closed",
        "200, kept open",
        "a recipient must parse them (RFC 9112, 7.1.1)",
    ),
    Row(
        "trailers",
        "Trailers of a chunked body",
        sends(chunked(b"3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n")),
        "200, kept open",
    ),
    Row(
        "trailers_too_large",
        "100 KB of trailers",
        sends(chunked(b"0\r\n" + b"X-T: aaaaaaaaaaaa\r\n" * 5000 + b"\r\n")),
        "400, closed",
    ),
    Row(
        "lf_only",
        "Lines that end in LF alone",
        sends(http("hello").replace(b"\r\n", b"\n"), patience=PATIENCE),
        "no answer",
        "400, closed",
        "refused at once instead of a wait of 60 s",
        waits=True,
    ),
    Row(
        "multipart_malformed",
        "A multipart form without a boundary",
        multipart,
        "400, closed",
        "200, kept open",
        "bodies are the application's",
    ),
    Row(
        "host_missing",
        "HTTP/1.1 without ``Host``",
        sends(http("hello", host="")),
        "200, kept open",
        "400, closed",
        "RFC 9112, 3.2",
    ),
    Row("host_empty", "An empty ``Host``", sends(http("hello", host=" ")), "200, kept open"),
    Row(
        "expect_empty",
        "An empty ``Expect``",
        sends(http("hello", "Expect:")),
        "200, kept open",
    ),
    Row(
        "host_twice",
        "Two ``Host`` headers",
        sends(http("hello", "Host: other")),
        "200, kept open",
        "400, closed",
        "RFC 9112, 3.2",
    ),
    Row(
        "host_missing_10",
        "HTTP/1.0 without ``Host``",
        sends(http("hello", host="", version="1.0")),
        "200, closed",
    ),
    Row("expect", "``Expect: 100-continue``", expectation, "100, then 200, kept open"),
    Row(
        "expect_unread",
        "``Expect: 100-continue``, body not wanted",
        expectation_unread,
        "100 first",
        "200, no 100",
        "the client is spared a body that nobody wants",
        waits=True,
    ),
    Row("pipelining", "Three pipelined requests", pipelined, "finished, hello, hello, closed"),
    Row(
        "half_a_head",
        "Half a head, then silence (``--head-timeout 1``)",
        silent_connection,
        "no answer",
        "408, closed",
        "a timer for the head, whatever trickles in; 30 s by default",
        waits=True,
    ),
]
