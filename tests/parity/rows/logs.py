"""The access log and the lines that people grep for."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.parity.client import exchange, http, new_id, notes, unix_client, ws_open
from tests.parity.row import Row
from tests.parity.target import Target
from tests.support import ws_wire
from tests.support.handle import Handle
from tests.support.wait import wait_for


def line_with(handle: Handle, mark: str) -> str:
    """The access-log line that has the mark, with port and time made the same."""

    def found() -> str:
        return next((line for line in handle.stdout().splitlines() if mark in line), "")

    line = str(wait_for(found))
    line = re.sub(r"\[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d\]", "[TIME]", line)
    return re.sub(r"^127\.0\.0\.1:\d+", "HOST:PORT", line).replace(mark, "ID")


def access(do: str, method: str = "GET", path: str = "/a?x=") -> Callable[[Target], str]:
    def probe(target: Target) -> str:
        mark = new_id()
        handle = target.server()
        exchange(handle, http(do, target=path + mark, method=method), method=method)
        return line_with(handle, mark)

    return probe


def error_line(target: Target) -> str:
    """The page's size is the server's own."""
    return re.sub(r"\d+$", "SIZE", access("raises")(target))


def unix_line(target: Target) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s"
        with target.private(bind=("-u", str(path))) as handle:
            wait_for(path.exists, 60)
            with unix_client(path) as client:
                client.request(http("hello", target="/unix"))
            return line_with(handle, "/unix").replace("ID", "/unix")


def no_line(request: bytes) -> Callable[[Target], str]:
    """Requests are logged in order, so that the line of the next one proves that none came."""

    def probe(target: Target) -> str:
        mark = new_id()
        with target.private() as handle:
            exchange(handle, request)
            exchange(handle, http("hello", "Connection: close", target=f"/{mark}"))
            line_with(handle, mark)
            lines = handle.stdout().splitlines()
        odd = [line for line in lines if mark not in line and "GET / 200" not in line]
        return re.sub(r"^.*\] ", "", odd[0]) if odd and '"GET / "' not in odd[0] else "no line"

    return probe


def websocket_lines(do: str) -> Callable[[Target], str]:
    def probe(target: Target) -> str:
        mark = new_id()
        with target.private() as handle:
            with handle.connect() as client:
                client.send(ws_wire.request(f"/{mark}?q", f"X-Do: {do}"))
                client.read_until(b"\r\n\r\n")
            wait_for(lambda: "WSDISCONNECT" in handle.stdout())
            lines = [line for line in handle.stdout().splitlines() if mark in line]
        return "; ".join(line[line.index('"') :].replace(mark, "ID") for line in lines)

    return probe


def left_early(target: Target) -> str:
    """A client that leaves before the response."""
    mark = new_id()
    with target.private() as handle:
        with handle.connect() as client:
            client.send(http("client_leaves", f"X-Id: {mark}", target=f"/{mark}"))
            notes(handle, mark)
        notes(handle, mark, 3)
        deadline = time.monotonic() + 2
        while mark not in handle.stdout() and time.monotonic() < deadline:
            time.sleep(0.05)
        lines = [line for line in handle.stdout().splitlines() if mark in line]
        return re.sub(r"^.*\] ", "", lines[0]).replace(mark, "ID") if lines else "no line"


def startup(target: Target) -> str:
    with target.private() as handle:
        text = handle.stderr()
    keys = ("Starting server at", "Configuring endpoint", "Listening on TCP address")
    return ", ".join(key for key in keys if key in text)


def address_to_open(target: Target) -> str:
    """Something that a terminal makes a link of, once the application can be asked."""
    with target.private() as handle:
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            if f"http://127.0.0.1:{handle.port}/ (pid {handle.process.pid})" in handle.stderr():
                return "URL, pid"
            time.sleep(0.05)
    return "neither"


def loggers(target: Target) -> str:
    """The names that users configure, seen through --log-fmt."""
    with target.private("-v", "2", "--log-fmt", "<%(name)s> %(message)s") as handle:
        exchange(handle, http("hello"))
        with ws_open(handle, "ws_close") as socket:
            socket.read_close()
        wanted = ["daphne.cli", "daphne.server", "daphne.http_protocol", "daphne.ws_protocol"]
        wait_for(lambda: "<daphne.ws_protocol>" in handle.stderr())
        return ", ".join(name for name in wanted if f"<{name}>" in handle.stderr())


def debug_lines(target: Target) -> str:
    with target.private("-v", "2") as handle:
        exchange(handle, http("hello", "Connection: close"))
        with ws_open(handle, "ws_close") as socket:
            socket.read_close()
        keys = [
            "HTTP 200 response started for",
            "HTTP close for",
            "HTTP response complete for",
            "Upgraded connection",
            "open and established",
            "accepted by application",
            "WebSocket closed for",
        ]
        wait_for(lambda: keys[-1] in handle.stderr())
        found = re.search("HTTP .* request for", handle.stderr())
        missing = [key for key in keys if key not in handle.stderr()]
    return f"{found and found.group()}; of the others missing: {', '.join(missing) or 'none'}"


ROWS = [
    Row(
        "access_line",
        "Access log: a GET",
        access("hello"),
        'HOST:PORT - - [TIME] "GET /a?x=ID" 200 5',
    ),
    Row(
        "access_head",
        "Access log: HEAD and an empty body",
        access("hello", method="HEAD"),
        'HOST:PORT - - [TIME] "HEAD /a?x=ID" 200 -',
    ),
    Row(
        "access_204",
        "Access log: 204",
        access("no_content"),
        'HOST:PORT - - [TIME] "GET /a?x=ID" 204 -',
    ),
    Row(
        "access_500",
        "Access log: an exception",
        error_line,
        'HOST:PORT - - [TIME] "GET /a?x=ID" 500 SIZE',
    ),
    Row(
        "access_unix",
        "Access log: a client on a unix socket",
        unix_line,
        'None - - [TIME] "GET /unix" 200 5',
    ),
    Row(
        "access_bad",
        "Access log: a request that does not parse",
        no_line(http(method="G@T", target="/bad")),
        "no line",
    ),
    Row(
        "access_left",
        "Access log: the client left early",
        left_early,
        "no line",
        '"GET /ID" - -',
        "every request leaves a line",
        waits=True,
    ),
    Row(
        "access_ws",
        "Access log: a WebSocket",
        websocket_lines("ws_open"),
        '"WSCONNECTING /ID" - -; "WSCONNECT /ID" - -; "WSDISCONNECT /ID" - -',
    ),
    Row(
        "access_ws_rejected",
        "Access log: a rejected WebSocket",
        websocket_lines("ws_reject"),
        '"WSCONNECTING /ID" - -; "WSREJECT /ID" - -; "WSDISCONNECT /ID" - -',
    ),
    Row(
        "startup_lines",
        "Lines at the start",
        startup,
        "Starting server at, Configuring endpoint, Listening on TCP address",
    ),
    Row(
        "startup_ready",
        "URL and pid at the start",
        address_to_open,
        "neither",
        "URL, pid",
        "the line comes when the application has started; daphne's lines are there, too",
    ),
    Row(
        "logger_names",
        "Logger names",
        loggers,
        "daphne.cli, daphne.server, daphne.http_protocol, daphne.ws_protocol",
    ),
    Row(
        "debug_lines",
        "Lines at ``-v 2``",
        debug_lines,
        "HTTP b'GET' request for; of the others missing: none",
        "HTTP GET request for; of the others missing: none",
        "the method is text",
    ),
]
