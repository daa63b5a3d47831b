"""TLS on pyasgi.loop.EventLoop does what it does on asyncio's own loop, as test_loop_same.py has it for the rest.

Between the socket and the protocol stands asyncio's SSLProtocol with its hot path in C.
"""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import ssl
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pyasgi import _core
from pyasgi.loop import EventLoop
from tests.support.loop_scenarios import (
    Recorder,
    Scenario,
    outcome,
    raises,
    scenarios_of_coroutines,
)

SCENARIOS: list[Scenario] = []
scenario = scenarios_of_coroutines(SCENARIOS)


@functools.cache
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For a server and for its clients, which check no name."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with tempfile.TemporaryDirectory() as folder:
        command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
        command += f" -keyout {folder}/key.pem -out {folder}/cert.pem"
        subprocess.run(command.split(), check=True, capture_output=True)
        serving.load_cert_chain(f"{folder}/cert.pem", f"{folder}/key.pem")
        trusting.load_verify_locations(f"{folder}/cert.pem")
    trusting.check_hostname = False
    return serving, trusting


class Peer(Recorder):
    """Keeps what it gets, and tells of every piece of it."""

    def __init__(self, loop: Any) -> None:
        super().__init__(loop)
        self.got = bytearray()
        self.more = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.got += data
        self.more.set()
        super().data_received(data)

    async def until(self, size: int) -> bytes:
        while len(self.got) < size:
            self.more.clear()
            await self.more.wait()
        return bytes(self.got)


@asynccontextmanager
async def pair(loop: Any) -> AsyncIterator[tuple[Any, Any]]:
    """(client, server), two Peers with TLS between them."""
    serving, trusting = contexts()
    accepted: list[Peer] = []

    def accept() -> Peer:
        accepted.append(Peer(loop))
        return accepted[0]

    server = await loop.create_server(accept, "127.0.0.1", 0, ssl=serving)
    address = server.sockets[0].getsockname()
    _, client = await loop.create_connection(lambda: Peer(loop), *address, ssl=trusting)
    while not hasattr(accepted[0], "transport"):
        await asyncio.sleep(0.001)
    try:
        yield client, accepted[0]
    finally:
        for peer in (client, accepted[0]):
            peer.transport.close()
        await asyncio.gather(client.closed, accepted[0].closed)
        server.close()


@scenario
async def every_size_comes_whole(loop: Any) -> object:
    async with pair(loop) as (client, server):
        expected = b""
        for size in (1, 100, 16383, 16384, 16385, 300_000):
            data = os.urandom(size)
            client.transport.write(data)
            expected += data
            assert await server.until(len(expected)) == expected
        server.transport.write(expected)
        assert await client.until(len(expected)) == expected
    return [client.seen, server.seen]


@scenario
async def all_kinds_of_data(loop: Any) -> object:
    async with pair(loop) as (client, server):
        write = client.transport.write
        for data in (b"", b"bytes", bytearray(b"array"), memoryview(b"view")):
            write(data)
        client.transport.writelines([b"li", b"nes"])
        return [
            await server.until(19),
            raises(write, "text"),
            raises(write, None),
            raises(client.transport.write_eof),
            client.transport.get_extra_info("ssl_object").version(),
            type(client.transport).__name__,
        ]


@scenario
async def back_pressure(loop: Any) -> object:
    async with pair(loop) as (client, server):
        data = os.urandom(4 << 20)
        server.transport.pause_reading()
        client.transport.write(data)
        client.transport.write(b"end")
        waiting = client.transport.get_write_buffer_size() > 0
        paused = list(client.seen)
        server.transport.resume_reading()
        assert await server.until(len(data) + 3) == data + b"end"
        await asyncio.sleep(0.01)
        return [waiting, paused, list(client.seen)]


@scenario
async def a_reader_that_pauses(loop: Any) -> object:
    async with pair(loop) as (client, server):
        client.transport.pause_reading()
        server.transport.write(b"x" * 1_000_000)
        await asyncio.sleep(0.05)
        before = len(client.got)
        client.transport.resume_reading()
        await client.until(1_000_000)
    return [before, client.seen, server.seen]


@scenario
async def the_peer_closes_after_its_last_word(loop: Any) -> object:
    async with pair(loop) as (client, server):
        server.transport.write(b"last")
        server.transport.close()
        await client.closed
        client.transport.write(b"to nobody")
    return [bytes(client.got), client.seen, server.seen]


@scenario
async def a_protocol_that_raises(loop: Any) -> object:
    async with pair(loop) as (client, server):
        client.transport.write(b"raise")
        await server.closed
    return [client.seen, server.seen]


@scenario
async def a_connection_that_is_aborted(loop: Any) -> object:
    async with pair(loop) as (client, server):
        client.transport.abort()
        await server.closed
    return [client.seen, server.seen]


class Greeter(Recorder):
    """Writes as soon as it may."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        transport.write(b"hello")


async def greeted(loop: Any, client: Recorder, size: int) -> object:
    """The client connects, and leaves when the server has so many bytes of it."""
    serving, trusting = contexts()
    peer = Peer(loop)
    server = await loop.create_server(lambda: peer, "127.0.0.1", 0, ssl=serving)
    address = server.sockets[0].getsockname()
    await loop.create_connection(lambda: client, *address, ssl=trusting)
    seen = await peer.until(size)
    client.transport.close()
    await asyncio.gather(client.closed, peer.closed)
    server.close()
    return [seen, client.seen, peer.seen]


@scenario
async def a_client_that_writes_at_once(loop: Any) -> object:
    return await greeted(loop, Greeter(loop), 5)


@scenario
async def a_client_that_leaves_at_once(loop: Any) -> object:
    """Its handshake is over, also for the server."""
    return await greeted(loop, Recorder(loop), 0)


@scenario
async def garbage_between_records(loop: Any) -> object:
    async with pair(loop) as (client, server):
        os.write(client.transport.get_extra_info("socket").fileno(), b"garbage" * 10)
        await server.closed
    return [client.seen[:1], server.seen]


@scenario
async def a_client_without_tls(loop: Any) -> object:
    serving, _ = contexts()
    server = await loop.create_server(lambda: Peer(loop), "127.0.0.1", 0, ssl=serving)
    with socket.create_connection(server.sockets[0].getsockname()) as sock:
        sock.setblocking(False)
        await loop.sock_sendall(sock, b"GET / HTTP/1.1\r\n\r\n")
        while True:
            try:
                if not await loop.sock_recv(sock, 100):
                    break
            except ConnectionResetError:
                break
    server.close()


class Whole(asyncio.BufferedProtocol):
    """Reads into memory of its own, a little at a time."""

    def __init__(self, done: asyncio.Future[bytes], size: int) -> None:
        self.done, self.size, self.memory, self.got = done, size, bytearray(1000), b""

    def get_buffer(self, hint: int) -> memoryview:
        return memoryview(self.memory)

    def buffer_updated(self, count: int) -> None:
        self.got += self.memory[:count]
        if len(self.got) == self.size:
            self.done.set_result(self.got)


@scenario
async def a_buffered_protocol(loop: Any) -> object:
    data = os.urandom(20_000)
    async with pair(loop) as (client, server):
        done = loop.create_future()
        client.transport.set_protocol(Whole(done, len(data)))
        server.transport.write(data)
        assert await done == data
        client.transport.set_protocol(client)
        server.transport.write(b"plain again")
        return await client.until(11)


@scenario
async def start_tls(loop: Any) -> object:
    serving, trusting = contexts()
    left, right = socket.socketpair()
    ends: list[Any] = []
    for sock in (left, right):
        ends.append(await loop.create_connection(lambda: Peer(loop), sock=sock))
    (client_transport, client), (server_transport, server) = ends
    server.transport, client.transport = await asyncio.gather(
        loop.start_tls(server_transport, server, serving, server_side=True),
        loop.start_tls(client_transport, client, trusting),
    )
    client.transport.write(b"secret")
    seen = [await server.until(6), raises(loop.start_tls(None, client, trusting).send, None)]
    # TLS inside the TLS, which brings another transport than a socket's.
    server.transport, client.transport = await asyncio.gather(
        loop.start_tls(server.transport, server, serving, server_side=True),
        loop.start_tls(client.transport, client, trusting),
    )
    data = os.urandom(100_000)
    server.transport.write(data)
    assert await client.until(len(data)) == data
    client.transport.close()
    server.transport.close()
    await asyncio.gather(client.closed, server.closed)
    return [*seen, client.seen, server.seen]


@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
@pytest.mark.parametrize("function", SCENARIOS, ids=lambda function: function.__name__)
def test_same_as_asyncio(function: Scenario, debug: bool) -> None:
    assert outcome(function, EventLoop, debug) == outcome(
        function, asyncio.SelectorEventLoop, debug
    )


def test_the_classes_are_ours_unless_in_debug_mode() -> None:
    async def main(loop: Any) -> list[str]:
        async with pair(loop) as (client, _):
            protocol = client.transport._ssl_protocol
            return [type(thing).__module__ for thing in (protocol, protocol._transport)]

    for debug, module in ((False, _core.__name__), (True, "asyncio")):
        with asyncio.Runner(loop_factory=EventLoop, debug=debug) as runner:
            loop = runner.get_loop()
            assert all(name.startswith(module) for name in runner.run(main(loop)))


def test_a_connection_has_no_buffer_that_nothing_is_read_into() -> None:
    async def main(loop: Any) -> list[int]:
        async with pair(loop) as (client, server):
            client.transport.write(b"question")
            await server.until(8)
            protocol = client.transport._ssl_protocol
            return [len(protocol._ssl_buffer), len(protocol.get_buffer(-1))]

    with asyncio.Runner(loop_factory=EventLoop) as runner:
        assert runner.run(main(runner.get_loop())) == [1, 32768]


def test_an_ssl_object_of_another_class() -> None:
    class Counting(ssl.SSLObject):
        reads = writes = 0

        def read(self, *args: Any) -> Any:
            Counting.reads += 1
            return super().read(*args)

        def write(self, *args: Any) -> Any:
            Counting.writes += 1
            return super().write(*args)

    async def main(loop: Any) -> bytes:
        async with pair(loop) as (client, server):
            client.transport.write(b"question")
            await server.until(8)
            server.transport.write(b"answer")
            got: bytes = await client.until(6)
            return got

    _, trusting = contexts()
    trusting.sslobject_class = Counting
    try:
        with asyncio.Runner(loop_factory=EventLoop) as runner:
            assert runner.run(main(runner.get_loop())) == b"answer"
    finally:
        trusting.sslobject_class = ssl.SSLObject
    assert Counting.reads > 0
    assert Counting.writes == 1
