"""What the probes do with a server, each answer boiled down to the words of the table."""

from __future__ import annotations

import ast
import re
import socket
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from tests.parity.target import Target
from tests.support import ws_wire
from tests.support.client import RawClient, Response
from tests.support.handle import Handle
from tests.support.wait import wait_for

Probe = Callable[[Target], str]

# Long enough for a busy machine to answer; who waits that long for nothing runs beside the others.
PATIENCE = 4.0
_ids = count(1)


def unix_client(path: Path) -> RawClient:
    """A connection to a server that has made its socket but may not listen on it yet."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(10)
    wait_for(lambda: sock.connect_ex(str(path)) == 0, 60)
    return RawClient(sock)


def new_id() -> str:
    return f"id{next(_ids)}"


def http(
    do: str = "",
    *headers: str,
    target: str = "/",
    method: str = "GET",
    version: str = "1.1",
    host: str = "test",
    body: bytes = b"",
) -> bytes:
    """A request; the body's length is announced unless the headers frame it."""
    lines = [f"{method} {target} HTTP/{version}"]
    lines += [f"Host: {host}"] if host else []
    lines += [f"X-Do: {do}"] if do else []
    lines += headers
    framed = any(re.match("content-length|transfer-encoding", name, re.I) for name in headers)
    lines += [f"Content-Length: {len(body)}"] if body and not framed else []
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def exchange(handle: Handle, request: bytes, patience: float = 10.0, method: str = "GET") -> str:
    """Status, and what became of the connection."""
    with handle.connect(patience) as client:
        client.send(request)
        return outcome(client, method)


def outcome(client: RawClient, method: str = "GET") -> str:
    try:
        response = client.response(method)
    except TimeoutError:
        return "no answer"
    except ConnectionResetError:
        return "reset"
    except EOFError:
        return "closed without an answer"
    return f"{response.status}, {'kept open' if kept(client) else 'closed'}"


def kept(client: RawClient) -> bool:
    """Does the connection take another request?"""
    try:
        return client.request(http("hello", "Connection: close")).status == 200
    except (OSError, EOFError):
        return False


def sends(request: bytes, *flags: str, method: str = "GET", patience: float = 10.0) -> Probe:
    """A probe: these bytes on a new connection."""
    return lambda target: exchange(target.server(*flags), request, patience, method)


def status_of(handle: Handle, request: bytes, patience: float = PATIENCE) -> str:
    """The status alone, or that there was none."""
    return exchange(handle, request, patience).partition(",")[0]


def response_to(handle: Handle, request: bytes, method: str = "GET") -> Response:
    with handle.connect() as client:
        return client.request(request, method)


def wire(handle: Handle, request: bytes) -> bytes:
    """All bytes of the answer; the request must ask for the end of the connection."""
    return handle.raw(request)


def scope_of(target: Target, request: bytes, *flags: str) -> dict[str, Any]:
    """The scope that the application saw."""
    response = response_to(target.server(*flags), request)
    assert response.status == 200, response
    return dict(ast.literal_eval(response.text))


def scope_field(key: str, request: bytes, *flags: str) -> Probe:
    """A probe: one value of the scope, or the status when the request did not get that far."""

    def probe(target: Target) -> str:
        response = response_to(target.server(*flags), request)
        if response.status != 200:
            return str(response.status)
        return in_words(ast.literal_eval(response.text).get(key, "absent"))

    return probe


def in_words(value: object) -> str:
    """A value for the reader of the tables; of a dict its keys and values without Python's punctuation."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {content!r}" for key, content in value.items())
    return repr(value)


def completeness(keys: str) -> str:
    """Which of ASGI's keys are missing."""
    found = set(keys.split())
    wanted = {
        "type",
        "asgi",
        "http_version",
        "scheme",
        "path",
        "raw_path",
        "query_string",
        "root_path",
    }
    wanted |= {"headers", "client", "server", "state", "extensions"}
    wanted |= {"subprotocols"} if "subprotocols" in found else {"method"}
    lacks, more = " ".join(sorted(wanted - found)), " ".join(sorted(found - wanted))
    return (f"lacks {lacks}" if lacks else "complete") + (f", and {more}" if more else "")


def header_pairs(request: bytes, prefix: bytes = b"x-") -> Probe:
    """A probe: the headers of the scope whose names begin with prefix."""

    def probe(target: Target) -> str:
        response = response_to(target.server(), request)
        if response.status != 200:
            return str(response.status)
        pairs = ast.literal_eval(response.text)["headers"]
        shown = [f"{k.decode()}={v!r}" for k, v in pairs if k.startswith(prefix) and k != b"x-do"]
        return ", ".join(shown) or "dropped"

    return probe


def notes(handle: Handle, key: str, size: int = 1, seconds: float = 10.0) -> list[Any]:
    """What the application noted under the id, as soon as there are `size` notes, or after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        response = response_to(handle, http("notes", f"X-Id: {key}", "Connection: close"))
        found = list(ast.literal_eval(response.text))
        if len(found) >= size or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def noted(do: str, *numbers: int) -> Probe:
    """A probe: what the application got for the messages with these numbers, then the answer."""

    def probe(target: Target) -> str:
        key = new_id()
        handle = target.server()
        answer = status_of(handle, http(do, f"X-Id: {key}", "Connection: close"))
        found = notes(handle, key, max(numbers) + 1)
        return "; ".join([*(str(found[number]) for number in numbers), answer])

    return probe


# WebSocket


def handshake(*headers: str, path: str = "/", method: str = "GET", patience: float = 10.0) -> Probe:
    """A probe: how a handshake with these headers ends."""

    def probe(target: Target) -> str:
        with target.server().connect(patience) as client:
            client.send(ws_wire.request(path, *headers, method=method))
            return upgrade(client)

    return probe


def upgrade(client: RawClient) -> str:
    """The status line's code; the words after it are each server's own."""
    try:
        line = client.read_until(b"\r\n").decode("latin-1").strip()
    except TimeoutError:
        return "no answer"
    except ConnectionResetError:
        return "reset"
    except EOFError:
        return "closed without an answer"
    return line.split(" ")[1]


def ws_open(handle: Handle, do: str, *headers: str, **kwargs: Any) -> ws_wire.WebSocket:
    return ws_wire.WebSocket.open(handle, "/", f"X-Do: {do}", *headers, **kwargs)


def ending(socket: ws_wire.WebSocket) -> str:
    """What the server does next, up to the end of the connection."""
    seen: list[str] = []
    while True:
        try:
            opcode, payload = socket.read()
        except TimeoutError:
            return ", ".join([*seen, "still open"])
        except ConnectionResetError:
            return ", ".join([*seen, "reset"])
        except EOFError:
            return ", ".join([*seen, "EOF"])
        if opcode == ws_wire.CLOSE:
            code = int.from_bytes(payload[:2], "big") if payload else "without a code"
            reason = f" {payload[2:].decode()!r}" if payload[2:] else ""
            return ", ".join([*seen, f"close {code}{reason}"])
        seen.append(name_of(opcode, payload))


def name_of(opcode: int, payload: bytes) -> str:
    names = {ws_wire.TEXT: "text", ws_wire.BINARY: "binary", ws_wire.PING: "ping"}
    size = f"{len(payload)} bytes" if len(payload) > 20 else repr(payload.decode("latin-1"))
    name = names.get(opcode, "pong")
    return name if opcode == ws_wire.PING else f"{name} {size}"


def ws_run(do: str, *frames: bytes, number: int | None = None, timeout: float = 10.0) -> Probe:
    """A probe: open, send the frames, report what follows, and one of the application's notes."""

    def probe(target: Target) -> str:
        key = new_id()
        handle = target.server()
        with ws_open(handle, do, f"X-Id: {key}", timeout=timeout) as socket:
            for frame in frames:
                socket.client.send(frame)
            seen = ending(socket)
        if number is None:
            return seen
        found = notes(handle, key, number + 1)
        return f"{seen}; application: {event_name(found[number]) if number < len(found) else 'nothing'}"

    return probe


def event_name(event: object) -> str:
    """A note of the application's: a disconnect in short."""
    if isinstance(event, dict) and event["type"] == "websocket.disconnect":
        reason = f" {event['reason']!r}" if event.get("reason") else ""
        return f"disconnect {event['code']}{reason}"
    if isinstance(event, dict):
        return in_words(event)
    return re.sub(r" on \{.*\}", "", str(event))  # daphne quotes the message in its exception


def at_once(handle: Handle, attempt: Callable[[Handle], str]) -> str:
    """The outcome, and whether it waits for a timer: a tick of a second shows in the second of two
    attempts made one after the other, because the first ends on a tick."""
    spans = []
    for _ in range(4):
        start = time.monotonic()
        what = attempt(handle)
        spans.append(time.monotonic() - start)
    return f"{what}, {'at the next tick of 1 s' if min(spans[1:]) > 0.5 else 'at once'}"
