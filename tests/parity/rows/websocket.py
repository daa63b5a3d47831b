"""WebSocket: the handshake, the events, the end."""

from __future__ import annotations

import ast
import base64
import re
import signal
import time
from collections.abc import Callable
from typing import Any

from tests.parity.client import (
    PATIENCE,
    at_once,
    completeness,
    ending,
    event_name,
    handshake,
    new_id,
    notes,
    upgrade,
    ws_open,
    ws_run,
)
from tests.parity.row import Row
from tests.parity.target import Target
from tests.support import ws_wire
from tests.support.handle import Handle
from tests.support.ws_wire import BINARY, CLOSE, PING, TEXT, close_frame, frame

LIMITS = ("--websocket-max-message-size", "100", "--websocket-max-frame-size", "100")
KEY = base64.b64encode(bytes(16)).decode()


def http10(target: Target) -> str:
    with target.server().connect() as client:
        client.send(ws_wire.request().replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        return upgrade(client)


def scope(target: Target, *headers: str, path: str = "/a%20b;c?q=1") -> dict[str, Any]:
    with target.server().connect() as client:
        client.send(ws_wire.request(path, *headers))
        client.read_until(b"\r\n\r\n")
        return dict(ast.literal_eval(ws_wire.WebSocket(client).read()[1].decode()))


def scope_field(key: str, *headers: str) -> Callable[[Target], str]:
    return lambda target: repr(scope(target, *headers).get(key, "absent"))


def response_headers(do: str, *headers: str) -> Callable[[Target], str]:
    """Names of the 101's headers in their order, with the value of Sec-WebSocket-Protocol."""

    def probe(target: Target) -> str:
        with target.server().connect() as client:
            client.send(ws_wire.request("/", f"X-Do: {do}", *headers))
            head = client.read_until(b"\r\n\r\n").decode().split("\r\n")[1:-2]
        return ", ".join(
            line if "Protocol" in line else line.partition(":")[0].lower() for line in head
        )

    return probe


def has_header(do: str, name: str, *headers: str) -> Callable[[Target], str]:
    def probe(target: Target) -> str:
        present = name.lower() in response_headers(do, *headers)(target).split(", ")
        return "sent" if present else "not sent"

    return probe


def rejection(do: str, *flags: str, patience: float = 10.0) -> Callable[[Target], str]:
    def probe(target: Target) -> str:
        with target.server(*flags).connect(patience) as client:
            client.send(ws_wire.request("/", f"X-Do: {do}"))
            return upgrade(client)

    return probe


def not_offered(target: Target) -> str:
    """The application's exception is what tells its author."""
    key = new_id()
    handle = target.server()
    with handle.connect(PATIENCE) as client:
        client.send(ws_wire.request("/", "X-Do: ws_subprotocol", f"X-Id: {key}"))
        answer = upgrade(client)
    return f"{answer}; application: {str(notes(handle, key, 2)[1]).partition(':')[0]}"


def denial(target: Target) -> str:
    with target.server().connect(PATIENCE) as client:
        client.send(ws_wire.request("/", "X-Do: ws_denial"))
        try:
            response = client.response()
        except TimeoutError:
            return "no answer before the connect timeout"
        return f"{response.status} {response.text!r}"


def raises_early(target: Target) -> str:
    with target.private() as server:
        return at_once(server, lambda h: rejection_of(h, "raises"))


def rejection_of(handle: Handle, do: str) -> str:
    with handle.connect() as client:
        client.send(ws_wire.request("/", f"X-Do: {do}"))
        return upgrade(client)


def raises_open(target: Target) -> str:
    with target.private() as server:

        def once(handle: Handle) -> str:
            with ws_open(handle, "ws_raises_open") as socket:
                return ending(socket)

        return at_once(server, once)


def connect_timeout(seconds: str) -> Callable[[Target], str]:
    flags = ("--websocket_connect_timeout", seconds)
    return rejection("ws_pending", *flags, patience=8)


def age_limit(target: Target) -> str:
    with ws_open(target.server("--websocket_timeout", "1"), "ws_open") as socket:
        return ending(socket)


def oversize(*frames: bytes) -> Callable[[Target], str]:
    def probe(target: Target) -> str:
        key = new_id()
        handle = target.server(*LIMITS)
        with ws_open(handle, "ws_open", f"X-Id: {key}") as socket:
            socket.client.send(b"".join(frames))
            seen = ending(socket)
        found = notes(handle, key, 3)
        codes = [event.get("code") for event in found[1:] if isinstance(event, dict)]
        delivered = any("receive" in event["type"] for event in found[2:])
        return f"{seen}; application: {'the payload' if delivered else f'disconnect {codes[-1]}'}"

    return probe


def long_outgoing(target: Target) -> str:
    key = new_id()
    handle = target.server(*LIMITS)
    with ws_open(handle, "ws_long", f"X-Id: {key}") as socket:
        note = notes(handle, key, 3)[2]
        if note == "no exception":
            return f"sent, {len(socket.read()[1])} bytes"
        return str(note).partition(":")[0]


def send_after(target: Target) -> str:
    key = new_id()
    handle = target.server()
    with ws_open(handle, "ws_send_after", f"X-Id: {key}") as socket:
        socket.send(CLOSE)
        ending(socket)
    return str(notes(handle, key)[0]).partition(":")[0]


def long_reason(target: Target) -> str:
    with ws_open(target.server(), "ws_close_long") as socket:
        code, reason = socket.read_close()
    return f"{code}, {len(reason)} bytes of it"


def leaves_early(target: Target) -> str:
    key = new_id()
    handle = target.server()
    with handle.connect(PATIENCE) as client:
        client.send(ws_wire.request("/", "X-Do: ws_leaves_early", f"X-Id: {key}"))
        notes(handle, key, 1)
    return ", ".join(notes(handle, key, 4)[1:])


def rejected_then(do: str) -> Callable[[Target], str]:
    """The application's note of what it sent after its rejection, and what it received then."""

    def probe(target: Target) -> str:
        key = new_id()
        handle = target.server()
        with handle.connect(PATIENCE) as client:
            client.send(ws_wire.request("/", f"X-Do: {do}", f"X-Id: {key}"))
            seen = upgrade(client)
        found = notes(handle, key, 4)
        return f"{seen}; application: {found[2]}, {found[3]['type']}"

    return probe


def vanished(target: Target) -> str:
    key = new_id()
    handle = target.server()
    ws_open(handle, "ws_open", f"X-Id: {key}").client.close()
    return event_name(notes(handle, key, 3)[2])


def pinged(target: Target) -> str:
    with ws_open(target.server(), "ws_open") as socket:
        socket.send(PING, b"abc")
        opcode, payload = socket.read()
        return f"{'pong' if opcode == ws_wire.PONG else opcode} {payload.decode()!r}"


def unanswered_ping(target: Target) -> str:
    """Ping after 1 s of silence, gone 1 s later."""
    key = new_id()
    flags = ("--ping-interval", "1", "--ping-timeout", "1")
    handle = target.server(*flags)
    with ws_open(handle, "ws_open", f"X-Id: {key}") as socket:
        seen = ending(socket)
    return f"{seen}; application: disconnect {notes(handle, key, 3)[2]['code']}"


def pings(answer: bool) -> Callable[[Target], str]:
    """How many pings a client gets that answers none, or only those from the second on."""

    def probe(target: Target) -> str:
        flags = ("--ping-interval", "1", "--ping-timeout", "5")
        seen = 0
        with ws_open(target.server(*flags), "ws_open", timeout=9) as socket:
            deadline = time.monotonic() + 9
            while time.monotonic() < deadline:
                try:
                    _, payload = socket.read()
                except (EOFError, ConnectionResetError, TimeoutError):
                    break
                seen += 1
                if answer and seen > 1:
                    socket.send(ws_wire.PONG, payload)
            else:
                return "stays"
        return f"cut after {'one ping' if seen == 1 else 'several pings'}"

    return probe


def talking(target: Target) -> str:
    """Messages instead of pongs: the first ping is never answered."""
    flags = ("--ping-interval", "1", "--ping-timeout", "2")
    with ws_open(target.server(*flags), "ws_open", timeout=0.5) as socket:
        deadline = time.monotonic() + 7
        while time.monotonic() < deadline:
            try:
                opcode, _ = socket.read()
            except TimeoutError:
                continue
            except (EOFError, ConnectionResetError):
                return "cut"
            assert opcode == PING
            socket.send(TEXT, b"I am alive")
    return "stays"


def blast(socket: ws_wire.WebSocket) -> str:
    """Up to 64 MiB to an application that does not receive."""
    message = frame(BINARY, bytes(1 << 19))
    try:
        for _ in range(128):
            socket.client.send(message)
    except TimeoutError:
        return "reading stops"
    return "read without bound"


def flood_in(target: Target) -> str:
    with target.private() as server, ws_open(server, "ws_deaf", timeout=PATIENCE) as socket:
        return blast(socket)


def flood_out(target: Target) -> str:
    key = new_id()
    with target.private() as server, ws_open(server, "ws_floods", f"X-Id: {key}"):
        return "``send()`` never waits" if notes(server, key, 1, PATIENCE) else "``send()`` waits"


def close_unanswered(target: Target) -> str:
    """The application closes, the client does not answer; cdaphne waits 5 s, shortened here."""
    key = new_id()
    flags = ("--websocket-close-timeout", "1") if target.name == "cdaphne" else ()
    handle = target.server(*flags)
    with ws_open(handle, "ws_close", f"X-Id: {key}") as socket:
        socket.read_close()
        gone = "cut" if socket.client.closed() else "open"
    return f"{gone}; application: {event_name(notes(handle, key, 3)[-1])}"


def shutdown(target: Target) -> str:
    with target.private() as server, ws_open(server, "ws_open") as socket:
        server.signal(signal.SIGTERM)
        seen = ending(socket)
        return re.sub(r" '.*'", "", seen)


ROWS = [
    Row("ws_method", "Handshake with POST", handshake(method="POST"), "405"),
    Row("ws_no_host", "Handshake without ``Host``", handshake("-Host"), "400"),
    Row(
        "ws_no_connection",
        "Handshake without ``Connection: Upgrade``",
        handshake("Connection: close"),
        "400",
    ),
    Row("ws_no_key", "Handshake without a key", handshake("-Sec-WebSocket-Key"), "400"),
    Row("ws_bad_key", "Handshake with a malformed key", handshake("Sec-WebSocket-Key: abc"), "400"),
    Row("ws_two_keys", "Handshake with two keys", handshake(f"+Sec-WebSocket-Key: {KEY}"), "400"),
    Row(
        "ws_no_version",
        "Handshake without a version",
        handshake("-Sec-WebSocket-Version"),
        "400",
        "426",
        "426 with Sec-WebSocket-Version (RFC 6455, 4.4)",
    ),
    Row(
        "ws_version_8",
        "Handshake of version 8",
        handshake("Sec-WebSocket-Version: 8"),
        "101",
        "426",
        "a draft; RFC 6455 is version 13",
    ),
    Row(
        "ws_version_7",
        "Handshake of version 7",
        handshake("Sec-WebSocket-Version: 7"),
        "400",
        "426",
        "426 with Sec-WebSocket-Version (RFC 6455, 4.4)",
    ),
    Row(
        "ws_subprotocol_twice",
        "Handshake with the same subprotocol twice",
        handshake("Sec-WebSocket-Protocol: a, a"),
        "400",
        "101",
        "harmless, and other servers take it",
    ),
    Row(
        "ws_subprotocol_text",
        "Handshake with the subprotocol ``dXNlcg==``",
        handshake("Sec-WebSocket-Protocol: dXNlcg=="),
        "101",
    ),
    Row(
        "ws_subprotocol_utf8",
        "Handshake with a subprotocol in UTF-8",
        handshake("Sec-WebSocket-Protocol: \u00e9"),
        "500",
        "400",
        "the client's fault",
    ),
    Row(
        "ws_absolute_form",
        "Handshake with ``GET ws://t/``",
        handshake(path="ws://t/"),
        "101",
    ),
    Row("ws_empty_host", "Handshake with an empty ``Host``", handshake("Host: "), "101"),
    Row("ws_fragment", "Handshake with a fragment in the target", handshake(path="/a#f"), "400"),
    Row(
        "ws_bad_origin",
        "Handshake with an Origin that is no URL",
        handshake("Origin: nonsense"),
        "400",
        "101",
        "origins are the application's: AllowedHostsOriginValidator",
    ),
    Row("ws_null_origin", "Handshake with ``Origin: null``", handshake("Origin: null"), "101"),
    Row(
        "ws_upgrade_case",
        "Handshake with ``Upgrade: WebSocket``",
        handshake("Upgrade: WebSocket"),
        "101",
    ),
    Row(
        "ws_http10", "Handshake over HTTP/1.0", http10, "101", "400", "RFC 6455, 4.1 wants HTTP/1.1"
    ),
    Row(
        "ws_upgrade_list",
        "Handshake with ``Upgrade: foo, websocket``",
        handshake("Upgrade: foo, websocket"),
        "200",
        "101",
        "Upgrade is a list (RFC 9110, 7.8)",
    ),
    Row(
        "ws_scope_keys",
        "Keys of the WebSocket scope",
        lambda target: completeness(str(scope(target)["keys"])),
        "lacks extensions http_version scheme state",
        "complete",
        "the whole scope of ASGI 3",
    ),
    Row(
        "ws_scheme",
        "``scheme`` of a WebSocket",
        scope_field("scheme"),
        "'absent'",
        "'ws'",
        "ASGI has it; Quart and others need it",
    ),
    Row(
        "ws_path",
        "WebSocket ``path`` of ``/a%20b;c?q=1``",
        scope_field("path"),
        "'/a b'",
        "'/a b;c'",
        "parameters are part of the path",
    ),
    Row(
        "ws_raw_path",
        "WebSocket ``raw_path`` of the same",
        scope_field("raw_path"),
        "b'/a%20b'",
        "b'/a%20b;c'",
        "parameters are part of the path",
    ),
    Row(
        "ws_query", "WebSocket ``query_string`` of the same", scope_field("query_string"), "b'q=1'"
    ),
    Row(
        "ws_subprotocols",
        "``subprotocols`` of ``a, b%20c``",
        scope_field("subprotocols", "Sec-WebSocket-Protocol: a, b%20c"),
        "['a', 'b c']",
        "['a', 'b%20c']",
        "tokens, as they came (RFC 6455, 11.3.4)",
    ),
    Row(
        "ws_underscore",
        "A header name with an underscore, WebSocket",
        lambda t: (
            "dropped" if all(k != b"x_y" for k, _ in scope(t, "X_Y: 1")["headers"]) else "kept"
        ),
        "dropped",
    ),
    Row(
        "ws_accept_response",
        "Headers of the 101",
        response_headers("ws_subprotocol", "Sec-WebSocket-Protocol: a, b"),
        "server, upgrade, connection, Sec-WebSocket-Protocol: b, sec-websocket-accept",
    ),
    Row(
        "ws_accept_headers",
        "``headers`` of ``websocket.accept``",
        has_header("ws_accept_headers", "x-probe"),
        "not sent",
        "sent",
        "ASGI 2.1: cookies, for one",
    ),
    Row(
        "ws_not_offered",
        "Accepting a subprotocol that was not offered",
        not_offered,
        "no answer; application: no exception",
        "no answer; application: ValueError",
        "the application is told",
        waits=True,
    ),
    Row(
        "ws_deflate",
        "``permessage-deflate`` offered",
        has_header(
            "ws_open", "Sec-WebSocket-Extensions", "Sec-WebSocket-Extensions: permessage-deflate"
        ),
        "not sent",
        "sent",
        "RFC 7692; --no-websocket-deflate",
    ),
    Row("ws_reject", "``websocket.close`` before the accept", rejection("ws_reject"), "403"),
    Row(
        "ws_denial",
        "``websocket.http.response``",
        denial,
        "no answer before the connect timeout",
        "418 'no tea'",
        "ASGI's denial response",
        waits=True,
    ),
    Row(
        "ws_raises_early",
        "An exception before the accept",
        raises_early,
        "500, at the next tick of 1 s",
        "500, at once",
        "no polling",
        waits=True,
    ),
    Row(
        "ws_returns_early",
        "An application that returns before the accept",
        rejection("returns", patience=PATIENCE),
        "no answer",
        "403",
        "the client is told",
        waits=True,
    ),
    Row(
        "ws_unknown_message",
        "An unknown message type, WebSocket",
        ws_run("ws_unknown", number=2, timeout=2),
        "text 'hello', still open; application: no exception",
        "text 'hello', still open; application: ValueError: Cannot handle message type websocket.unknown!",
        "a mistake of the application's is said",
        waits=True,
    ),
    Row(
        "ws_send_early",
        "``websocket.send`` before the accept",
        ws_run("ws_early", number=1, timeout=2),
        "still open; application: ValueError: Socket has not been accepted, so cannot send over it",
        waits=True,
    ),
    Row(
        "ws_send_both",
        "``text`` and ``bytes`` in one message",
        ws_run("ws_both", number=2, timeout=2),
        "text 'hello', still open; application: ValueError: Got invalid WebSocket reply message - "
        "contains both bytes and text keys",
        waits=True,
    ),
    Row(
        "ws_send_empty",
        "An empty message",
        ws_run("ws_empty", timeout=2),
        "text 'hello', still open",
        "text '', text 'hello', still open",
        "an empty message is a message",
        waits=True,
    ),
    Row(
        "ws_send_long",
        "A message above the limit, outgoing",
        long_outgoing,
        "PayloadExceededError",
        "sent, 300 bytes",
        "the limit is for what comes in",
    ),
    Row("ws_close_plain", "``websocket.close``", ws_run("ws_close"), "close 1000"),
    Row(
        "ws_close_4000", "``websocket.close`` with code 4000", ws_run("ws_close_4000"), "close 4000"
    ),
    Row(
        "ws_close_1001",
        "``websocket.close`` with code 1001",
        ws_run("ws_close_1001", number=2, timeout=2),
        "still open; application: Exception: invalid close code 1001 (must be 1000 or from [3000, 4999])",
        "close 1001; application: no exception",
        "every code that may be sent (RFC 6455, 7.4)",
        waits=True,
    ),
    Row(
        "ws_close_reason",
        "``websocket.close`` with a reason",
        ws_run("ws_close_reason"),
        "close 4000",
        "close 4000 'because'",
        "the reason is sent",
    ),
    Row(
        "ws_close_long",
        "``websocket.close`` with a reason of 200 bytes",
        long_reason,
        "4000, 0 bytes of it",
        "4000, 123 bytes of it",
        "as much of it as a close frame takes",
    ),
    Row(
        "ws_close_1002",
        "``websocket.close`` with code 1002",
        ws_run("ws_close_1002", number=2, timeout=2),
        "still open; application: Exception: invalid close code 1002 (must be 1000 or from [3000, 4999])",
        "close 1002; application: no exception",
        "every code that may be sent (RFC 6455, 7.4)",
        waits=True,
    ),
    Row(
        "ws_close_twice",
        "``websocket.close`` twice",
        ws_run("ws_close_twice", number=3),
        "close 1000; application: no exception",
    ),
    Row(
        "ws_close_send",
        "``websocket.close``, then ``websocket.send``",
        ws_run("ws_close_send", number=3),
        "close 1000; application: Disconnected: Attempt to send on a closed protocol",
        "close 1000; application: no exception",
        "an application cannot know that another part of it has closed; hypercorn does the same",
    ),
    Row(
        "ws_reject_accept",
        "``websocket.close``, then ``websocket.accept``",
        rejected_then("ws_reject_accept"),
        "403; application: no exception, websocket.disconnect",
    ),
    Row(
        "ws_reject_send",
        "``websocket.close`` before the accept, then send",
        rejected_then("ws_reject_send"),
        "403; application: no exception, websocket.disconnect",
    ),
    Row(
        "ws_raises_open",
        "An exception after the accept",
        raises_open,
        "close 1011, at the next tick of 1 s",
        "close 1011, at once",
        "no polling",
        waits=True,
    ),
    Row(
        "ws_returns_open",
        "An application that returns after the accept",
        ws_run("ws_returns_open", timeout=PATIENCE),
        "still open",
        "close 1000",
        "nobody would ever read from it",
        waits=True,
    ),
    Row(
        "ws_text",
        "A text message",
        ws_run("ws_open", frame(TEXT, b"hi"), close_frame(1000), number=2),
        "close 1000; application: type 'websocket.receive', text 'hi'",
    ),
    Row(
        "ws_binary",
        "A binary message",
        ws_run("ws_open", frame(BINARY, b"hi"), close_frame(1000), number=2),
        "close 1000; application: type 'websocket.receive', bytes b'hi'",
    ),
    Row(
        "ws_peer_code",
        "The peer closes with 4001",
        ws_run("ws_open", close_frame(4001), number=2),
        "close 1000; application: disconnect 4001",
        "close 4001; application: disconnect 4001",
        "the code is echoed (RFC 6455, 5.5.1)",
    ),
    Row(
        "ws_peer_reason",
        "The peer closes with a reason",
        ws_run("ws_open", close_frame(4001, "bye"), number=2),
        "close 1000; application: disconnect 4001",
        "close 4001; application: disconnect 4001 'bye'",
        "the application gets the reason; the code is echoed",
    ),
    Row(
        "ws_peer_no_code",
        "The peer closes without a code",
        ws_run("ws_open", frame(CLOSE), number=2),
        "close 1000; application: disconnect None",
        "close without a code; application: disconnect 1005",
        "1005 (RFC 6455, 7.1.5), as ASGI has it",
    ),
    Row("ws_peer_vanishes", "The peer vanishes", vanished, "disconnect 1006"),
    Row(
        "ws_send_after",
        "``websocket.send`` after the disconnect",
        send_after,
        "no exception",
    ),
    Row(
        "ws_leaves_early",
        "``websocket.accept`` when the client has left",
        leaves_early,
        "no exception, no exception, websocket.disconnect",
        waits=True,
    ),
    Row("ws_ping", "A ping from the client", pinged, "pong 'abc'"),
    Row(
        "ws_unmasked",
        "A frame that is not masked",
        ws_run("ws_open", ws_wire.header(TEXT, 2, masked=False) + b"hi", number=2),
        "reset; application: disconnect 1006",
        "close 1002; application: disconnect 1006",
        "the close frame says why",
    ),
    Row(
        "ws_bad_utf8",
        "Text that is not UTF-8",
        ws_run("ws_open", frame(TEXT, b"\xff\xfe"), number=2),
        "reset; application: disconnect 1006",
        "close 1007; application: disconnect 1006",
        "the close frame says why",
    ),
    Row(
        "ws_reserved_code",
        "A reserved close code",
        ws_run("ws_open", close_frame(1005), number=2),
        "reset; application: disconnect 1006",
        "close 1002; application: disconnect 1006",
        "the close frame says why",
    ),
    Row(
        "ws_large_frame",
        "A frame above the limit",
        oversize(frame(TEXT, b"x" * 300)),
        "reset; application: disconnect 1006",
        "close 1009; application: disconnect 1006",
        "the close frame says why",
    ),
    Row(
        "ws_large_message",
        "A message above the limit",
        oversize(*[frame(TEXT, b"x" * 60, fin=False), frame(0, b"x" * 60)]),
        "reset; application: disconnect 1006",
        "close 1009; application: disconnect 1006",
        "the close frame says why",
    ),
    Row(
        "ws_timeout",
        "``--websocket_timeout 1``",
        age_limit,
        "close 1000",
        "close 1000 'maximum age reached'",
        "the close frame says why",
        waits=True,
    ),
    Row(
        "ws_connect_timeout",
        "``--websocket_connect_timeout 2``",
        connect_timeout("2"),
        "reset",
        "503",
        "the client is told",
        waits=True,
    ),
    Row(
        "ws_connect_forever",
        "``--websocket_connect_timeout -1``",
        connect_timeout("-1"),
        "403",
        "no answer",
        "-1 is infinite, as daphne's help says",
        waits=True,
    ),
    Row(
        "ws_ping_unanswered",
        "A ping nobody answers",
        unanswered_ping,
        "ping, reset; application: disconnect 1006",
        waits=True,
    ),
    Row(
        "ws_pings_unanswered",
        "Pings to a silent client, ``--ping-interval 1 --ping-timeout 5``",
        pings(False),
        "cut after several pings",
        "cut after one ping",
        "one outstanding ping is enough",
        waits=True,
    ),
    Row(
        "ws_ping_second",
        "A client that would answer only the second ping",
        pings(True),
        "cut after several pings",
        "cut after one ping",
        "one outstanding ping: in daphne, the answer to the second leaves the timer of the first running",
        waits=True,
    ),
    Row("ws_talking", "A client that talks but answers no ping", talking, "stays", waits=True),
    Row(
        "ws_flood_in",
        "Messages to an application that does not receive",
        flood_in,
        "read without bound",
        "reading stops",
        "memory stays bounded; --websocket-high-water",
        waits=True,
    ),
    Row(
        "ws_flood_out",
        "Messages to a client that does not read",
        flood_out,
        "``send()`` never waits",
        "``send()`` waits",
        "memory stays bounded; --write-high-water",
        waits=True,
    ),
    Row(
        "ws_close_unanswered",
        "A close that the peer does not answer",
        close_unanswered,
        "cut; application: disconnect 1006",
        waits=True,
    ),
    Row(
        "ws_shutdown",
        "SIGTERM with an open WebSocket",
        shutdown,
        "EOF",
        "close 1001",
        "1001 tells clients to come back",
        waits=True,
    ),
]
