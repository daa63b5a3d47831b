"""Both ends send and neither reads: each is bounded, nobody moves, and the log says so once."""

from __future__ import annotations

import re
import socket

import h2.config
import h2.connection
import pytest

from tests.support.client import RawClient
from tests.support.handle import Handle
from tests.support.servers import Servers
from tests.support.wait import wait_for
from tests.support.ws_wire import BINARY, frame, request

APP = "tests.apps.deaf:app"
FLAGS = ("--body-timeout", "1", "--ping-interval", "1", "--lifespan", "off")
SAYS = r"INFO +Nobody moves: {} of 127.0.0.1: \d{{5,}} bytes wait for receive\(\), while send\(\) waits .* \d{{5,}};"
POST = b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n"


def send_until_full(client: RawClient, piece: bytes) -> None:
    """As much as the server and the two kernels between take; nothing is read."""
    client.sock.settimeout(0.5)
    with pytest.raises(TimeoutError):
        while True:
            client.sock.sendall(piece)


def said_once(handle: Handle, what: str) -> None:
    handle.wait_for_log(SAYS.format(what), timeout=30)
    assert len(re.findall("Nobody moves", handle.stderr())) == 1


def test_http1(server: Servers) -> None:
    handle = server.start(APP, *FLAGS)
    with handle.connect() as client:
        client.send(POST)
        send_until_full(client, bytes(65536))
        said_once(handle, "POST /up")


def test_websocket(server: Servers) -> None:
    handle = server.start(APP, *FLAGS)
    with handle.connect() as client:
        client.send(request("/chat"))
        send_until_full(client, frame(BINARY, bytes(60000)))
        said_once(handle, "GET /chat")


def test_http2(server: Servers) -> None:
    """Windows are what stops both ends here; the connection itself is read."""
    handle = server.start(APP, *FLAGS)
    with handle.connect() as client:
        connection = h2.connection.H2Connection(h2.config.H2Configuration())
        connection.initiate_connection()
        fields = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/up")]
        connection.send_headers(1, fields)
        client.send(connection.data_to_send())
        client.sock.settimeout(0.2)

        def fill() -> bool:
            try:
                connection.receive_data(client.recv())
            except TimeoutError:
                room = connection.local_flow_control_window(1)
                if room == 0:
                    return True
                connection.send_data(1, bytes(min(room, connection.max_outbound_frame_size)))
            client.send(connection.data_to_send())
            return False

        wait_for(fill, 30, "the window to be used up")
        said_once(handle, "POST /up")


def test_who_only_waits_is_not_stuck(server: Servers) -> None:
    """A client that reads nothing and sends nothing is write_timeout's."""
    handle = server.start(APP, *FLAGS)
    with handle.connect() as client:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        with handle.connect() as other:
            other.send(POST)
            send_until_full(other, bytes(65536))
            said_once(handle, "POST /up")
