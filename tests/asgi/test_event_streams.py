"""An idle event stream ends with its client, whatever framework made it, and nothing is said about it."""

from __future__ import annotations

import json
import re

import h2.events
import pytest

from tests.support.h2_client import Client
from tests.support.handle import Handle
from tests.support.servers import Servers
from tests.support.wait import wait_for

APP = "tests.apps.event_streams:app"
FRAMEWORKS = ("/starlette", "/sse", "/django", "/quart")
# The server would cancel a stream that outlives its client by this; with 0 it is the framework that listens.
PATIENT = ("--application-close-timeout", "0")

pytestmark = pytest.mark.server


def ends(handle: Handle, path: str) -> None:
    wait_for(lambda: path in json.loads(handle.get("/seen").body), what=f"the end of {path}")
    # asyncio's debug mode tells of steps that took long.
    log = re.sub(r".* WARNING +Executing .* took .*", "", handle.stderr())
    assert "WARNING" not in log and "Traceback" not in log, log


def test_http1_client_leaves(server: Servers) -> None:
    handle = server.start(APP, *PATIENT)
    for path in FRAMEWORKS:
        with handle.connect() as client:
            client.send(b"GET %s HTTP/1.1\r\nHost: test\r\n\r\n" % path.encode())
            client.read_until(b"hello")
    for path in FRAMEWORKS:
        ends(handle, path)


def streams(client: Client) -> list[int]:
    """Those of all frameworks, begun."""
    numbers = [client.request(path) for path in FRAMEWORKS]
    for number in numbers:
        client.until(h2.events.DataReceived, number)
    return numbers


def test_http2_streams_are_reset(server: Servers) -> None:
    handle = server.start(APP, *PATIENT)
    with Client(handle) as client:
        for number in streams(client):
            client.h2.reset_stream(number)
        client.flush()
        for path in FRAMEWORKS:
            ends(handle, path)


def test_http2_client_leaves(server: Servers) -> None:
    handle = server.start(APP, *PATIENT)
    with Client(handle) as client:
        streams(client)
    for path in FRAMEWORKS:
        ends(handle, path)
