"""Applications that fail, hang or return too early; the three silent failures of daphne are here."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable

from tests.parity.client import (
    PATIENCE,
    at_once,
    exchange,
    http,
    new_id,
    notes,
    status_of,
    ws_open,
)
from tests.parity.row import Row
from tests.parity.target import Target
from tests.support.client import Response
from tests.support.handle import Handle
from tests.support.wait import wait_for

SHORT = ("-t", "1", "--application-close-timeout", "1")


def raises_before_start(target: Target) -> str:
    handle = target.private()
    with handle as server:
        what = at_once(server, lambda h: exchange(h, http("raises")))
        server.wait_for_log("Exception inside application: told to")
        return f"{what}; logged 'Exception inside application: told to'"


def cut(client_request: bytes, handle: Handle, patience: float = PATIENCE) -> str:
    """How a response that is not finished ends for the client."""
    with handle.connect(patience) as client:
        client.send(client_request)
        try:
            response = client.response()
        except TimeoutError:
            return "client hangs"
        except (EOFError, ConnectionResetError):
            return "connection aborted"
        whole = "begun" in response.text
        return f"{response.status}, the body looks whole" if whole else str(response.status)


def cut_probe(do: str, *flags: str, patience: float = PATIENCE) -> Callable[[Target], str]:
    return lambda target: cut(http(do), target.server(*flags), patience)


def logged(server: Handle, text: str) -> str:
    """The answer can be quicker than the line on stderr."""
    deadline = time.monotonic() + 2
    while text not in server.stderr():
        if time.monotonic() > deadline:
            return "not logged"
        time.sleep(0.05)
    return "logged"


def silent_reaper(target: Target) -> str:
    """First silent failure: an exception after the start, then one before it."""
    with target.private() as server:
        first = cut(http("raises_after_start"), server)
        second = status_of(server, http("raises"))
        found = logged(server, "application: told to\n")
        return f"{first}; the next exception: {second}, {found}"


def silent_timeouts(target: Target) -> str:
    """Second: --http-timeout expires on a started response whose client has left."""
    with target.private("-t", "1", "--application-close-timeout", "30") as server:
        with server.connect() as client:
            client.send(http("stuck_after_start"))
            client.read_until(b"begun")
        time.sleep(4)  # daphne looks every 2 s
        return f"the next timeout: {status_of(server, http('stuck'), 8)}"


def silent_shutdown(target: Target) -> str:
    """Third: SIGTERM while one connection's application has returned and another's runs."""
    with (
        target.private(
            *(["--graceful-timeout", "1"] if target.name == "cdaphne" else [])
        ) as server,
        ws_open(server, "ws_returns_open"),
        server.connect() as client,
    ):
        client.send(http("stuck_after_start"))
        client.read_until(b"begun")
        time.sleep(1.5)  # let the reaper see the application that returned
        server.signal(signal.SIGTERM)
        status = server.wait()
        cancelled = "application: cancelled" in server.stderr()
        return (
            f"the others are {'cancelled' if cancelled else 'not cancelled'}; exit status {status}"
        )


def http_timeout(target: Target) -> str:
    return exchange(target.server(*SHORT), http("stuck"))


def close_timeout(target: Target) -> str:
    """The client leaves, and the application does not notice."""
    key = new_id()
    with target.private("--application-close-timeout", "1") as server:
        with server.connect() as client:
            client.send(http("outlives_client", f"X-Id: {key}"))
            notes(server, key)
        found = notes(server, key, 2)
        text = "took too long to shut down and was killed"
        wait_for(lambda: text in server.stderr())
        return f"{found[1]}, logged '{text}'"


def interrupt(target: Target) -> str:
    with target.private() as server, server.connect() as client:
        client.send(http("interrupts"))
        return f"the server stops, exit status {server.wait()}"


def said(response: Response) -> str:
    """Type and text of an error page."""
    kind = response.headers["content-type"].partition(";")[0]
    html = re.findall(r"<(?:h1|p)>(.*?)</(?:h1|p)>", response.text, re.S)
    return f"{kind}: {' / '.join(html) or response.text.strip()}"


def page(target: Target) -> str:
    with target.server().connect() as client:
        response = client.request(http("raises"))
    return said(response)


def timeout_page(target: Target) -> str:
    with target.server(*SHORT).connect() as client:
        response = client.request(http("stuck"))
    return said(response)


ROWS = [
    Row(
        "silent_reaper",
        "An exception after the start (silent failure 1)",
        silent_reaper,
        "client hangs; the next exception: no answer, not logged",
        "connection aborted; the next exception: 500, logged",
        "daphne's reaper is dead from then on: the first silent failure",
        waits=True,
    ),
    Row(
        "silent_timeouts",
        "``--http-timeout`` when the client has left (silent failure 2)",
        silent_timeouts,
        "the next timeout: no answer",
        "the next timeout: 503",
        "daphne's timeouts and pings are dead from then on: the second silent failure",
        waits=True,
    ),
    Row(
        "silent_shutdown",
        "SIGTERM, one application has returned (silent failure 3)",
        silent_shutdown,
        "the others are not cancelled; exit status 0",
        "the others are cancelled; exit status 0",
        "daphne's shutdown dies with a KeyError: the third silent failure",
        waits=True,
    ),
    Row(
        "raises_before_start",
        "An exception before the start",
        raises_before_start,
        "500, kept open, at the next tick of 1 s; logged 'Exception inside application: told to'",
        "500, closed, at once; logged 'Exception inside application: told to'",
        "no polling",
        waits=True,
    ),
    Row(
        "error_page",
        "The page of a 500",
        page,
        "text/html: 500 Internal Server Error / Exception inside application.",
        "text/plain: 500 Internal Server Error",
        "short; proxies and clients show their own",
    ),
    Row(
        "returns_nothing",
        "An application that returns without a response",
        cut_probe("returns"),
        "client hangs",
        "500",
        "the client is told",
        waits=True,
    ),
    Row(
        "returns_midway",
        "An application that returns in the middle of one",
        cut_probe("returns_midway"),
        "client hangs",
        "connection aborted",
        "the client sees that the body is cut",
        waits=True,
    ),
    Row(
        "http_timeout",
        "``--http-timeout`` before the start",
        http_timeout,
        "503, kept open",
        "503, closed",
        "the connection's state is not trusted after a timeout",
        waits=True,
    ),
    Row(
        "timeout_page",
        "The page of a 503",
        timeout_page,
        "text/html: 503 Service Unavailable / Application failed to respond within time limit.",
        "text/plain: 503 Service Unavailable",
        "short; proxies and clients show their own",
        waits=True,
    ),
    Row(
        "timeout_midway",
        "``--http-timeout`` after the start",
        cut_probe("stuck_after_start", *SHORT, patience=10),
        "200, the body looks whole",
        "connection aborted",
        "a cut response never looks whole",
        waits=True,
    ),
    Row(
        "close_timeout",
        "``--application-close-timeout``",
        close_timeout,
        "cancelled, logged 'took too long to shut down and was killed'",
        waits=True,
    ),
    Row(
        "cancelled_error",
        "An application that raises CancelledError at its end",
        lambda t: exchange(t.server(), http("cancels_itself")),
        "200, kept open",
    ),
    Row(
        "keyboard_interrupt",
        "An application that raises KeyboardInterrupt",
        interrupt,
        "the server stops, exit status -2",
        "the server stops, exit status 0",
        "a stop as by SIGINT, in order",
        waits=True,
    ),
]
