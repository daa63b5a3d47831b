"""What the application sends, and what of it goes over the wire."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable

from tests.parity.client import PATIENCE, exchange, http, noted, response_to, sends, wire
from tests.parity.row import Row
from tests.parity.target import Target

CLOSE = "Connection: close"


def header(
    do: str, name: str, *headers: str, flags: tuple[str, ...] = ()
) -> Callable[[Target], str]:
    def probe(target: Target) -> str:
        fields = response_to(target.server(*flags), http(do, *headers)).headers
        return fields.get(name, "absent")

    return probe


def date(target: Target) -> str:
    return "sent" if "date" in response_to(target.server(), http("hello")).headers else "not sent"


def lines(do: str, pattern: str, *headers: str, version: str = "1.1") -> Callable[[Target], str]:
    """The lines of the head that match, as they stand on the wire."""

    def probe(target: Target) -> str:
        answer = wire(target.server(), http(do, CLOSE, *headers, version=version))
        head = answer.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
        return "; ".join(line.strip() for line in head if re.search(pattern, line, re.I)) or "none"

    return probe


def prior_knowledge(target: Target) -> str:
    """What the preface of HTTP/2 and an empty SETTINGS are answered with."""
    hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
    handle = target.server()
    with handle.connect() as client:
        client.send(hello)
        head = client.sock.recv(9, socket.MSG_WAITALL)
    return "HTTP/2" if head[3:4] == b"\x04" else exchange(handle, hello)


def close_line(target: Target) -> str:
    return lines("hello", "^connection")(target).lower()


def framing(
    do: str, *headers: str, version: str = "1.1", method: str = "GET"
) -> Callable[[Target], str]:
    """How the body's end is marked, what the body is, and whether the connection stays."""

    def probe(target: Target) -> str:
        with target.server().connect(PATIENCE) as client:
            request = http(do, *headers, version=version, method=method)
            try:
                response = client.request(request, method)
            except EOFError:
                return "connection aborted"
            fields = response.headers
            if "transfer-encoding" in fields:
                how = "chunked"
            elif "content-length" in fields:
                how = f"Content-Length {fields['content-length']}"
            else:
                how = "neither length nor chunks"
            client.send(http("hello", CLOSE))
            try:
                again = client.response().status == 200
            except (OSError, EOFError):
                again = False
            return f"{how}, body {response.body.decode()!r}, {'kept open' if again else 'closed'}"

    return probe


def short_body(target: Target) -> str:
    """A body of 5 bytes under Content-Length 50."""
    with target.server().connect(PATIENCE) as client:
        client.send(http("short_body"))
        try:
            client.response()
        except TimeoutError:
            return "sent as it is; the client waits for the rest"
        except (EOFError, ConnectionResetError):
            return "connection aborted"
        return "complete"


ROWS = [
    Row(
        "status_missing",
        "A start without ``status``",
        noted("no_status", 0),
        "ValueError: Specifying a status code is required for a Response message.; 200",
    ),
    Row(
        "name_not_bytes",
        "A header name that is ``str``",
        noted("str_name", 0),
        "ValueError: Header name 'foo' expected to be `bytes`, but got `<class 'str'>`; 500",
    ),
    Row(
        "value_not_bytes",
        "A header value that is ``str``",
        noted("str_value", 0),
        "ValueError: Header value 'True' expected to be `bytes`, but got `<class 'str'>`; 500",
    ),
    Row("header_pairs_lists", "Header pairs as lists", noted("list_pairs", 0), "no exception; 200"),
    Row(
        "start_twice",
        "A second start",
        noted("start_twice", 1),
        "ValueError: HTTP response has already been started; 200",
    ),
    Row(
        "body_before_start",
        "A body before the start",
        noted("body_first", 0),
        "ValueError: HTTP response has not yet been started but got http.response.body; 200",
    ),
    Row(
        "unknown_message",
        "An unknown message type",
        noted("unknown_type", 0),
        "ValueError: Cannot handle message type http.unknown!; 200",
    ),
    Row(
        "send_after_end",
        "A body after the last one",
        noted("after_end", 2),
        "no exception; 200",
    ),
    Row(
        "version_echoed",
        "Status line of an answer to HTTP/1.0",
        lines("hello", "^HTTP/", version="1.0"),
        "HTTP/1.0 200 OK",
    ),
    Row(
        "reason_unknown",
        "Reason of status 299",
        lines("unknown_status", "^HTTP/"),
        "HTTP/1.1 299 Unknown Status",
        "HTTP/1.1 299",
        "no reason is invented",
    ),
    Row(
        "names_recased",
        "Case of header names",
        lines("recased", "^(x-|etag)"),
        'X-Custom-Header: 1; ETag: "e"; X-XSS-Protection: 0',
        'x-custom-header: 1; etag: "e"; x-xss-protection: 0',
        "names go out as the application gave them: case has no meaning",
    ),
    Row(
        "crlf_in_value",
        "CR LF in a header value",
        lines("crlf_value", "^x-|^HTTP"),
        "HTTP/1.1 200 OK; X-Probe: a X-Injected: b",
        "HTTP/1.1 500 Internal Server Error",
        "refused, not mended: somebody tries to split the response",
    ),
    Row(
        "bad_name_sent",
        "A header name with a blank",
        noted("bad_name", 0),
        "InvalidHeaderName: b'bad name'; 200",
        "ValueError: Header name b'bad name' is not a token; 500",
        "one ValueError that says what is wrong, and the client gets a 500",
        waits=True,
    ),
    Row(
        "order_sent",
        "Order of same-named headers",
        lines("grouped", "^x-"),
        "X-A: 1; X-A: 3; X-B: 2",
        "x-a: 1; x-b: 2; x-a: 3",
        "the order of the application is kept",
    ),
    Row(
        "server_header",
        "``Server``",
        header("hello", "server"),
        "daphne",
        "cdaphne",
        "its own name; -s daphne for the old one",
    ),
    Row(
        "server_named",
        "``Server`` with ``-s me``",
        header("hello", "server", flags=("-s", "me")),
        "me",
    ),
    Row(
        "server_none",
        "``Server`` with ``--no-server-name``",
        header("hello", "server", flags=("--no-server-name",)),
        "absent",
    ),
    Row("server_own", "``Server`` set by the application", header("own_server", "server"), "mine"),
    Row("date_header", "``Date``", date, "not sent", "sent", "RFC 9110, 6.6.1; --no-date-header"),
    Row("connection_close", "``Connection: close`` asked for", close_line, "connection: close"),
    Row(
        "one_piece",
        "A response in one piece",
        framing("hello"),
        "chunked, body 'hello', kept open",
        "Content-Length 5, body 'hello', kept open",
        "the length is known, so it is said",
    ),
    Row(
        "in_pieces", "A response in pieces", framing("pieces"), "chunked, body 'onetwo', kept open"
    ),
    Row(
        "own_length",
        "A Content-Length of the application's",
        framing("own_length"),
        "Content-Length 5, body 'hello', kept open",
    ),
    Row(
        "length_missed",
        "A body that misses its Content-Length",
        short_body,
        "sent as it is; the client waits for the rest",
        "connection aborted",
        "a response that is not whole must not look so",
        waits=True,
    ),
    Row(
        "framing_10",
        "An answer to HTTP/1.0",
        framing("pieces", version="1.0"),
        "neither length nor chunks, body 'onetwo', closed",
    ),
    Row(
        "keep_alive_10",
        "HTTP/1.0 with ``Connection: keep-alive``",
        framing("own_length", "Connection: keep-alive", version="1.0"),
        "Content-Length 5, body 'hello', closed",
        "Content-Length 5, body 'hello', kept open",
        "the client asked for it and the length is known",
    ),
    Row(
        "head",
        "``HEAD``",
        framing("hello", method="HEAD"),
        "neither length nor chunks, body '', kept open",
        "Content-Length 5, body '', kept open",
        "the length that GET would have",
    ),
    Row(
        "status_204", "204", framing("no_content"), "neither length nor chunks, body '', kept open"
    ),
    Row(
        "status_304",
        "304",
        framing("not_modified"),
        "neither length nor chunks, body '', kept open",
    ),
    Row(
        "close_te",
        "``Connection: close, te``",
        sends(http("own_length", "Connection: close, te")),
        "200, kept open",
        "200, closed",
        "close is found in a list",
    ),
    Row(
        "h2c",
        "``Upgrade: h2c``",
        sends(
            http(
                "hello",
                "Connection: Upgrade, HTTP2-Settings",
                "Upgrade: h2c",
                "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
            )
        ),
        "200, kept open",
    ),
    Row(
        "h2_prior_knowledge",
        "HTTP/2 without TLS, prior knowledge",
        prior_knowledge,
        "400, closed",
        "HTTP/2",
        "--no-http2 answers 505",
    ),
]
