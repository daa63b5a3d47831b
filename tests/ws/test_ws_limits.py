"""What one peer can cost: memory, time, patience. Limits and timers are lowered by their flags."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest

from tests.support.handle import Handle
from tests.support.memory import ROOM
from tests.support.servers import Servers
from tests.support.wait import wait_for
from tests.support.ws_events import disconnects
from tests.support.ws_wire import (
    BINARY,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    WebSocket,
    close_frame,
    frame,
    header,
)

pytestmark = pytest.mark.server
APP = "tests.apps.sockets:app"


def cpu_seconds(handle: Handle) -> float:
    """User and system time that the server has used."""
    fields = Path(f"/proc/{handle.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_message_limit(server: Servers) -> None:
    """CVE-2026-44545: judged on what is announced, and on the sum of the fragments; nothing is kept."""
    handle = server.start(
        APP, "--websocket-max-message-size", "100000", "--websocket-max-frame-size", "50000"
    )
    with WebSocket.open(handle, "/echo") as ws:
        ws.send(BINARY, bytes(50000), fin=False)
        ws.send(CONTINUATION, bytes(50000))
        assert ws.read() == (BINARY, bytes(100000))
        ws.client.send(header(BINARY, 50001) + bytes(4))
        assert ws.read_close()[0] == 1009
    handle.wait_for_log(r"1009: frame of 50001 bytes \(--websocket-max-frame-size is 50000\)")
    with WebSocket.open(handle, "/echo") as ws:
        ws.send(BINARY, bytes(50000), fin=False)
        ws.send(CONTINUATION, bytes(50000), fin=False)
        ws.send(CONTINUATION, b"x", fin=False)
        assert ws.read_close()[0] == 1009
    handle.wait_for_log(r"1009: message of 100001 bytes \(--websocket-max-message-size is 100000\)")


def test_endless_message_costs_no_memory(server: Servers) -> None:
    """Fragments for ever, also empty ones: 1009, and what still comes is dropped until the end."""
    handle = server.start(APP, "--linger-timeout", "0.3")
    before = handle.rss()
    for payload in (bytes(1000), b""):
        with WebSocket.open(handle, "/echo") as ws:
            ws.send(BINARY, payload, fin=False)
            more = frame(CONTINUATION, payload, fin=False) * 500

            def flood(ws: WebSocket = ws, more: bytes = more) -> None:
                while True:
                    ws.client.send(more)
                    assert handle.rss() < before + ROOM

            with pytest.raises(ConnectionError):
                flood()
    wait_for(lambda: handle.stderr().count("1009: message of ") == 2, what="two log lines")
    assert handle.rss() < before + ROOM


def test_slow_application(server: Servers) -> None:
    """It does not receive: the client is stopped, little is held, and nothing is lost."""
    handle = server.start(APP, "--ping-interval", "0.2", "--ping-timeout", "0.2")
    before = handle.rss()
    number, size = 2000, 10000
    with WebSocket.open(handle, "/lazy/2", timeout=30) as ws:
        sent = 0

        def feed() -> None:
            nonlocal sent
            for _ in range(number):
                ws.send(BINARY, bytes(size))
                sent += 1
            ws.send(TEXT, b"end")

        feeder = threading.Thread(target=feed)
        feeder.start()
        time.sleep(1)
        assert sent < number, "the kernel's buffers should be full"
        assert handle.rss() < before + ROOM
        while (answer := ws.read())[0] == PING:
            ws.send(PONG)
        feeder.join()
        assert json.loads(answer[1]) == [number, number * size]


def test_slow_peer(server: Servers) -> None:
    """It does not read: send() waits, little is held; then the rest comes in order, or the write timer ends it."""
    handle = server.start(APP, "--write-timeout", "1.5", "--write-min-rate", "100000")
    before = handle.rss()
    with WebSocket.open(handle, "/push/2000/20000", timeout=30) as ws:
        time.sleep(0.5)
        pushed = int(handle.get("/pushed").body)
        assert pushed < 1000
        assert handle.rss() < before + ROOM
        for _ in range(2000):
            assert ws.read() == (BINARY, bytes(20000))
        assert ws.read_close()[0] == 1000
        ws.client.send(close_frame(1000))
    with WebSocket.open(handle, "/push/2000/20000") as ws:
        events = disconnects(handle, 2)
    assert events == [["/push/2000/20000", 1000, ""], ["/push/2000/20000", 1006, ""]]


def test_ping_flood_without_reading(server: Servers) -> None:
    """Only the newest pong is kept once the peer does not read."""
    handle = server.start(APP)
    before = handle.rss()
    with WebSocket.open(handle, "/echo", timeout=30) as ws:
        flood = b"".join(frame(PING, bytes(125)) for _ in range(100))
        for _ in range(2000):
            ws.client.send(flood)
        ws.client.send(frame(PING, b"the last"))
        assert handle.rss() < before + ROOM
        while (answer := ws.read()) == (PONG, bytes(125)):
            pass
        assert answer == (PONG, b"the last")


def test_silent_peer_is_pinged_then_dropped(server: Servers) -> None:
    handle = server.start(APP, "--ping-interval", "0.4", "--ping-timeout", "0.6")
    with WebSocket.open(handle, "/echo") as ws:
        for _ in range(3):
            assert ws.read() == (PING, b"")
            ws.send(PONG)
        assert ws.read() == (PING, b"")
        ws.client.send(b"\x81")  # any byte is life
        assert ws.read() == (PING, b"")
        start = time.monotonic()
        assert ws.client.closed()
        assert 0.4 < time.monotonic() - start < 3
    assert disconnects(handle) == [["/echo", 1006, ""]]
    handle.wait_for_log(r"no answer to a ping in 0.6 s \(--ping-timeout\)")


def test_pings_can_be_switched_off(server: Servers) -> None:
    handle = server.start(APP, "--ping-interval", "0")
    with WebSocket.open(handle, "/echo", timeout=1) as ws:
        with pytest.raises(TimeoutError):
            ws.client.sock.recv(1)
        ws.send(TEXT, b"still there")
        assert ws.read() == (TEXT, b"still there")


def test_largest_age(server: Servers) -> None:
    handle = server.start(APP, "--websocket_timeout", "0.7")
    with WebSocket.open(handle, "/echo") as ws:
        ws.send(TEXT, b"young")
        assert ws.read() == (TEXT, b"young")
        assert ws.read_close() == (1000, "maximum age reached")
        ws.client.send(close_frame(1000))
        assert ws.client.closed()
    assert disconnects(handle) == [["/echo", 1000, ""]]


def test_idle_and_broken_sockets_cost_no_time(server: Servers) -> None:
    """CVE-2025-1695 was a spin after a malformed handshake; and five hundred idle ones just lie there."""
    handle = server.start(APP)
    sockets = [WebSocket.open(handle, "/echo") for _ in range(500)]
    with handle.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n\x81\x00")
        assert client.response().status == 400
        sockets[0].client.send(b"\xff\xff")
        assert sockets[0].read_close()[0] == 1002
        wait_for(lambda: handle.get("/events").body.count(b"[") > 1)
        before = cpu_seconds(handle)
        time.sleep(1)
        assert cpu_seconds(handle) - before < 0.2
    for ws in sockets:
        ws.client.close()
