"""An idle event stream ends with its client, whatever framework made it, and nothing is said about it."""

from __future__ import annotations

import json

import h2.events
import pytest

from tests.conftest import Handle, Servers, wait_for
from tests.test_http2 import Client

APP = "tests.apps.event_streams:app"
FRAMEWORKS = ("/starlette", "/sse", "/django", "/quart")
# The server would cancel a stream that outlives its client by this; with 0 it is the framework that listens.
PATIENT = ("--application-close-timeout", "0")

pytestmark = pytest.mark.server


def ends(handle: Handle, path: str) -> None:
    wait_for(lambda: path in json.loads(handle.get("/seen").body), what=f"the end of {path}")
    log = handle.stderr()
    assert "WARNING" not in log and "Traceback" not in log, log


@pytest.mark.parametrize("path", FRAMEWORKS)
def test_http1_client_leaves(server: Servers, path: str) -> None:
    handle = server.start(APP, *PATIENT)
    with handle.connect() as client:
        client.send(b"GET %s HTTP/1.1\r\nHost: test\r\n\r\n" % path.encode())
        client.read_until(b"hello")
    ends(handle, path)


@pytest.mark.parametrize("path", FRAMEWORKS)
def test_http2_stream_is_reset(server: Servers, path: str) -> None:
    handle = server.start(APP, *PATIENT)
    with Client(handle) as client:
        stream = client.request(path)
        client.until(h2.events.DataReceived, stream)
        client.h2.reset_stream(stream)
        client.flush()
        ends(handle, path)


def test_http2_client_leaves(server: Servers) -> None:
    handle = server.start(APP, *PATIENT)
    with Client(handle) as client:
        streams = [client.request(path) for path in FRAMEWORKS]
        for stream in streams:
            client.until(h2.events.DataReceived, stream)
    for path in FRAMEWORKS:
        ends(handle, path)
