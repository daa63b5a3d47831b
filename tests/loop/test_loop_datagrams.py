"""Datagrams over each kind of socket: as asyncio, but delivered where uvloop delivers and asyncio gives up."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from pyasgi.loop import EventLoop
from tests.support.ipv6 import has_ipv6

pytestmark = pytest.mark.server

Pair = tuple[socket.socket, socket.socket]
LOOPS: dict[str, Callable[[], Any]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "ours": EventLoop,
    "uvloop": uvloop.new_event_loop,
}


class Protocol(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.seen: asyncio.Queue[object] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.seen.put_nowait(data)

    def error_received(self, error: Exception) -> None:
        self.seen.put_nowait(error)


def ready(*sockets: socket.socket) -> Any:
    for sock in sockets:
        sock.setblocking(False)
    return sockets


def pair(_: Path) -> Pair:
    return ready(*socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))  # type: ignore[no-any-return]


def named(folder: Path) -> Pair:
    here, there = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
    here.bind(str(folder / "here"))
    there.bind(str(folder / "there"))
    here.connect(str(folder / "there"))
    there.connect(str(folder / "here"))
    return ready(here, there)  # type: ignore[no-any-return]


def internet(family: int, host: str) -> Callable[[Path], Pair]:
    def make(_: Path) -> Pair:
        here, there = (socket.socket(family, socket.SOCK_DGRAM) for _ in range(2))
        here.bind((host, 0))
        there.bind((host, 0))
        here.connect(there.getsockname())
        there.connect(here.getsockname())
        return ready(here, there)  # type: ignore[no-any-return]

    return make


KINDS = {
    "pair": pair,
    "named": named,
    "ipv4": internet(socket.AF_INET, "127.0.0.1"),
    "ipv6": internet(socket.AF_INET6, "::1"),
}


def run(name: str, coroutine: Any) -> Any:
    with asyncio.Runner(loop_factory=LOOPS[name]) as runner:
        return runner.run(asyncio.wait_for(coroutine, 30))


async def talk(here: socket.socket, there: socket.socket) -> list[object]:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(Protocol, sock=here)
    with contextlib.closing(transport), there:
        transport.sendto(b"there")
        there.settimeout(10)
        seen: list[object] = [there.recv(10)]
        there.send(b"and back")
        seen.append(await protocol.seen.get())
        seen.append(type(transport.get_extra_info("peername")))
        seen.append(transport.is_closing())
    await asyncio.sleep(0)
    return seen


@pytest.mark.parametrize("kind", list(KINDS))
def test_without_an_address_it_is_delivered(kind: str, tmp_path: Path) -> None:
    if kind == "ipv6" and not has_ipv6():
        pytest.skip("no IPv6")
    ours = run("ours", talk(*KINDS[kind](tmp_path)))
    assert ours[:2] == [b"there", b"and back"]
    (tmp_path / "uvloop").mkdir()
    assert run("uvloop", talk(*KINDS[kind](tmp_path / "uvloop"))) == ours


def test_a_full_socket_is_waited_for(tmp_path: Path) -> None:
    async def flood() -> int:
        here, there = pair(tmp_path)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(Protocol, sock=here)
        with contextlib.closing(transport), there:
            for number in range(2000):
                transport.sendto(b"%d" % number)
            assert transport.get_write_buffer_size() > 0
            for number in range(2000):
                assert await loop.sock_recv(there, 10) == b"%d" % number
        await asyncio.sleep(0)
        return number

    assert run("ours", flood()) == 1999


async def errors(here: socket.socket, there: socket.socket) -> list[object]:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(context["message"]))
    told: list[object] = []
    transport, protocol = await loop.create_datagram_endpoint(Protocol, sock=here)
    there.close()
    with contextlib.suppress(OSError):
        transport.sendto(b"to nobody")
    seen: list[object] = [repr(await protocol.seen.get())]
    with pytest.raises(TypeError):
        transport.sendto("text")
    transport.close()
    await asyncio.sleep(0)
    return [*seen, *told]


def test_a_peer_that_has_gone_is_an_error_as_on_a_named_socket(tmp_path: Path) -> None:
    assert run("ours", errors(*pair(tmp_path))) == run("uvloop", errors(*pair(tmp_path)))
    (tmp_path / "asyncio").mkdir()
    expected = run("asyncio", errors(*named(tmp_path / "asyncio")))
    assert run("ours", errors(*named(tmp_path))) == expected


async def calls(here: socket.socket, there: socket.socket) -> list[object]:
    """loop.sock_...() on datagram sockets."""
    loop = asyncio.get_running_loop()
    room = bytearray(10)
    with here, there:
        await loop.sock_sendall(here, b"one")
        seen: list[object] = [await loop.sock_recv(there, 10)]
        with contextlib.suppress(OSError):
            seen.append(await loop.sock_sendto(here, b"two", there.getsockname() or os.devnull))
            seen.append((await loop.sock_recvfrom(there, 10))[0])
        here.send(b"three")
        size, _ = await loop.sock_recvfrom_into(there, room)
        seen.append(bytes(room[:size]))
        try:
            await loop.sock_sendto(here, b"four", None)
        except TypeError as error:
            seen.append(str(error))
    return seen


@pytest.mark.parametrize("kind", ["pair", "named", "ipv4"])
def test_calls_of_the_loop_are_asyncios(kind: str, tmp_path: Path) -> None:
    (tmp_path / "asyncio").mkdir()
    expected = run("asyncio", calls(*KINDS[kind](tmp_path / "asyncio")))
    assert run("ours", calls(*KINDS[kind](tmp_path))) == expected
