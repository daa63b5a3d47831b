"""Connections of pyasgi.loop.EventLoop come about as on asyncio's own loop: sock_connect(), and a server's accept."""

from __future__ import annotations

import asyncio
import errno
import re
import resource
import socket
import sys
import tempfile
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pyasgi.loop import EventLoop
from tests.support.loop_scenarios import Recorder, Scenario, fds, outcome, scenarios_of_coroutines

SCENARIOS: list[Scenario] = []
scenario = scenarios_of_coroutines(SCENARIOS)
LOCALHOST = [(socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_INET6, ("::1", 0, 0, 0))]


async def told(call: Awaitable[object]) -> str:
    """What came of it; port numbers differ from run to run."""
    try:
        result = repr(await call)
    except Exception as error:  # noqa: BLE001
        result = f"{type(error).__name__}: {error}"
    return re.sub(r"\d{4,}", "N", result)


@contextmanager
def plain(family: int, kind: int = socket.SOCK_STREAM) -> Iterator[socket.socket]:
    with socket.socket(family, kind) as sock:
        sock.setblocking(False)
        yield sock


@contextmanager
def nobody(family: int, address: Any) -> Iterator[Any]:
    """An address at which nobody listens."""
    with socket.socket(family) as sock:
        sock.bind(address)
        yield sock.getsockname()


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Every number below the limit is in use."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    spare = [socket.socket()]
    while spare[-1].fileno() < highest:
        spare.append(socket.socket())
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare[-1].fileno() + 1, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for sock in spare:
            sock.close()


@scenario
async def sock_connect(loop: Any) -> object:
    seen: list[object] = []
    for family, address in LOCALHOST:
        with socket.create_server(address[:2], family=family) as listener:
            there = listener.getsockname()
            with plain(family) as sock:
                seen.append(await told(loop.sock_connect(sock, there)))
                seen += [sock.getpeername() == there, sock.fileno() in fds(loop)]
                seen.append(await told(loop.sock_connect(sock, there)))
        with nobody(family, address) as there, plain(family) as sock:
            seen.append(await told(loop.sock_connect(sock, there)))
            seen.append(sock.fileno() in fds(loop))
    return seen


@scenario
async def sock_connect_by_name_and_by_halves(loop: Any) -> object:
    with socket.create_server(("127.0.0.1", 0)) as listener, plain(socket.AF_INET) as sock:
        port = listener.getsockname()[1]
        await loop.sock_connect(sock, ("localhost", port))
        seen: list[object] = [sock.getpeername() == ("127.0.0.1", port)]
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        port = listener.getsockname()[1]
        with plain(socket.AF_INET6) as sock:
            await loop.sock_connect(sock, ("::1", port))
            seen.append(sock.getpeername() == ("::1", port, 0, 0))
    return seen


@scenario
async def sock_connect_to_a_unix_socket(loop: Any) -> object:
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/s")
        listener.listen()
        with plain(socket.AF_UNIX) as sock:
            seen: list[object] = [await told(loop.sock_connect(sock, f"{folder}/s"))]
        with plain(socket.AF_UNIX) as sock:
            seen.append(await told(loop.sock_connect(sock, "/nowhere/at/all")))
    return seen


@scenario
async def sock_connect_to_what_is_no_address(loop: Any) -> object:
    seen: list[object] = []
    odd = [
        (),
        ("127.0.0.1",),
        ("127.0.0.1", -1),
        ("127.0.0.1", 65536),
        ("127.0.0.1", 1 << 70),
        ("127.0.0.1", None),
        ("127.0.0.1\0", 80),
        ["127.0.0.1", 1],
        "127.0.0.1",
    ]
    for address in odd:
        with plain(socket.AF_INET) as sock:
            seen.append((await told(loop.sock_connect(sock, address)))[:20])
    sock = socket.socket()
    sock.close()
    return [*seen, await told(loop.sock_connect(sock, ("127.0.0.1", 9)))]


@scenario
async def sock_connect_of_a_datagram_socket(loop: Any) -> object:
    with plain(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        await loop.sock_connect(sock, ("127.0.0.1", 9))
        return sock.getpeername()


@scenario
async def sock_connect_that_is_cancelled(loop: Any) -> object:
    """A listener whose queue is full lets nobody else in."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        others = []
        for _ in range(4):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
            others.append(sock)
        with plain(socket.AF_INET) as sock:
            task = loop.create_task(loop.sock_connect(sock, listener.getsockname()))
            await asyncio.sleep(0.01)
            seen: list[object] = [task.done(), sock.fileno() in fds(loop)]
            task.cancel()
            await asyncio.wait([task])
            await asyncio.sleep(0)
            seen += [task.cancelled(), sock.fileno() in fds(loop)]
        for sock in others:
            sock.close()
        return seen


@scenario
async def connections_both_ways(loop: Any) -> object:
    """What each end's transport and socket say, for all families."""
    seen: list[object] = []
    with tempfile.TemporaryDirectory() as folder:
        for host in ("127.0.0.1", "::1", f"{folder}/s"):
            accepted: asyncio.Queue[Any] = asyncio.Queue()

            def accept(accepted: asyncio.Queue[Any] = accepted) -> Recorder:
                accepted.put_nowait(Recorder(loop))
                return accepted._queue[-1]  # type: ignore[attr-defined,no-any-return]

            if host.startswith("/"):
                server = await loop.create_unix_server(accept, host)
                _, client = await loop.create_unix_connection(lambda: Recorder(loop), host)
            else:
                server = await loop.create_server(accept, host, 0)
                port = server.sockets[0].getsockname()[1]
                _, client = await loop.create_connection(lambda: Recorder(loop), host, port)
            peer = await accepted.get()
            await asyncio.sleep(0.01)
            for end in (client, peer):
                sock = end.transport.get_extra_info("socket")
                seen += [sock.family, sock.type, sock.proto, sock.gettimeout()]
                seen.append(sock.get_inheritable())
                if sock.family != socket.AF_UNIX:
                    seen.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            names = ("sockname", "peername")
            here = [client.transport.get_extra_info(name) for name in names]
            there = [peer.transport.get_extra_info(name) for name in names]
            seen += [here == there[::-1], len(here[0]), type(there[1])]
            client.transport.close()
            await asyncio.gather(client.closed, peer.closed)
            server.close()
            await server.wait_closed()
            seen += [client.seen, peer.seen]
    return seen


@scenario
async def many_connections_at_once(loop: Any) -> object:
    accepted: list[Recorder] = []

    def accept() -> Recorder:
        accepted.append(Recorder(loop))
        return accepted[-1]

    server = await loop.create_server(accept, "127.0.0.1", 0, backlog=8)
    clients = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(8)]
    while len(accepted) < 8:
        await asyncio.sleep(0)
    for sock in clients:
        sock.close()
    await asyncio.gather(*[peer.closed for peer in accepted])
    server.close()
    return [peer.seen for peer in accepted]


@scenario
async def no_descriptor_for_a_connection(loop: Any) -> object:
    """accept() fails once, is told to the exception handler, and is tried again a second later."""
    errors: list[object] = []

    def note(_: Any, context: dict[str, Any]) -> None:
        errors.append((context["message"], context["exception"].errno == errno.EMFILE))

    accepted = loop.create_future()

    def accept() -> Recorder:
        accepted.set_result(None)
        return Recorder(loop)

    loop.set_exception_handler(note)
    server = await loop.create_server(accept, "127.0.0.1", 0)
    with plain(socket.AF_INET) as sock:
        with no_descriptor_left():
            await loop.sock_connect(sock, server.sockets[0].getsockname())
            while not errors:
                await asyncio.sleep(0.01)
        await accepted
    server.close()
    return errors[:1]


@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
@pytest.mark.parametrize("function", SCENARIOS, ids=lambda function: function.__name__)
def test_same_as_asyncio(function: Scenario, debug: bool) -> None:
    assert outcome(function, EventLoop, debug) == outcome(
        function, asyncio.SelectorEventLoop, debug
    )


def test_connect_is_audited() -> None:
    events: list[tuple[Any, ...]] = []
    sys.addaudithook(lambda name, args: events.append(args) if name == "socket.connect" else None)

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener, plain(socket.AF_INET) as sock:
            there = listener.getsockname()
            await asyncio.get_running_loop().sock_connect(sock, there)
            assert (sock, there) in events

    with asyncio.Runner(loop_factory=EventLoop) as runner:
        runner.run(main())
