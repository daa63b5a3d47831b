"""permessage-deflate against a client library and by hand: negotiation, messages, bombs, memory."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import zlib
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from tests.support.client import RawClient
from tests.support.handle import Handle
from tests.support.memory import MIB, ROOM
from tests.support.programs import FOREIGN, ROOT, run_go
from tests.support.servers import Servers
from tests.support.ws_wire import (
    BINARY,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    WebSocket,
    close_frame,
    frame,
    request,
)

pytestmark = pytest.mark.server
APP = "tests.apps.sockets:app"
OFFER = "Sec-WebSocket-Extensions: permessage-deflate"
LEAN = "permessage-deflate; client_no_context_takeover"
RSV1 = 4
TAKEOVER = "--websocket-deflate-context-takeover"
TAIL = b"\0\0\xff\xff"


def deflated(data: bytes, bits: int = 15, level: int = 6) -> bytes:
    engine = zlib.compressobj(level, zlib.DEFLATED, -bits)
    return (engine.compress(data) + engine.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


def inflated(data: bytes) -> bytes:
    return zlib.decompressobj(-15).decompress(data + TAIL)


def answer_to(handle: Handle, *headers: str) -> str | None:
    """Sec-WebSocket-Extensions of the 101."""
    with handle.connect() as client:
        client.send(request("/echo", *headers))
        head = client.read_until(b"\r\n\r\n").decode()
    assert head.startswith("HTTP/1.1 101 "), head
    for line in head.split("\r\n"):
        name, _, value = line.partition(": ")
        if name.lower() == "sec-websocket-extensions":
            return value
    return None


def read_frame(client: RawClient) -> tuple[int, bytes]:
    """First byte and payload, whatever the RSV bits are."""
    first, size = client.read_exactly(2)
    if size >= 126:
        size = int.from_bytes(client.read_exactly(2 if size == 126 else 8), "big")
    return first, client.read_exactly(size)


def proc(handle: Handle, name: str) -> Path:
    return Path(f"/proc/{handle.process.pid}/{name}")


def peak(handle: Handle) -> int:
    """VmHWM in bytes: what the server's memory was at most."""
    line = next(x for x in proc(handle, "status").read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


# ---- negotiation ----


def test_negotiation(server: Servers) -> None:
    """Only what was offered is answered, but for what saves the server a window for each socket (RFC 7692, 7.1.1.2)."""
    handle = server.start(APP)
    assert answer_to(handle) is None
    assert answer_to(handle, OFFER) == LEAN
    assert answer_to(handle, OFFER + "; client_max_window_bits") == (
        LEAN + "; client_max_window_bits=12"
    )
    assert answer_to(handle, OFFER + "; server_max_window_bits=8; client_max_window_bits=9") == (
        LEAN + "; server_max_window_bits=8; client_max_window_bits=9"
    )
    both = "; server_no_context_takeover; client_no_context_takeover"
    assert answer_to(handle, OFFER + both) == f"permessage-deflate{both}"


def test_offers_that_are_declined(server: Servers) -> None:
    """What cannot be kept to is passed over, and the connection goes on without (CVE-2026-2229)."""
    handle = server.start(APP)
    for bad in ("0", "7", "16", "99", "010", "x", ""):
        assert answer_to(handle, f"{OFFER}; server_max_window_bits={bad}") is None
        assert answer_to(handle, f"{OFFER}; client_max_window_bits={bad}") is None
    for bad in (
        "server_max_window_bits",
        "client_no_context_takeover=1",
        "unknown",
        "server_no_context_takeover; server_no_context_takeover",
    ):
        assert answer_to(handle, f"{OFFER}; {bad}") is None
        assert answer_to(handle, f"{OFFER}; {bad}, permessage-deflate") is not None
        assert answer_to(handle, f"{OFFER}; {bad}", f"+{OFFER}") is not None


def test_flags(server: Servers) -> None:
    handle = server.start(APP, "--no-websocket-deflate")
    assert answer_to(handle, OFFER) is None
    with WebSocket.open(handle, "/echo", OFFER) as ws:
        ws.send(TEXT, b"x", rsv=RSV1)
        assert ws.read_close()[0] == 1002
    handle = server.start(APP, TAKEOVER, "--websocket-deflate-window-bits", "10")
    assert answer_to(handle, OFFER) == "permessage-deflate"
    assert answer_to(handle, OFFER + "; server_no_context_takeover; server_max_window_bits=15") == (
        "permessage-deflate; server_no_context_takeover; server_max_window_bits=10"
    )
    # The memory is for one socket; the next goes without, and when that has gone it is there again.
    handle = server.start(APP, TAKEOVER, "--websocket-deflate-memory", "100000")
    with WebSocket.open(handle, "/echo", OFFER):
        assert answer_to(handle, OFFER) == LEAN


@pytest.mark.parametrize("takeover", [(), (TAKEOVER,)])
def test_window_that_is_not_announced(server: Servers, takeover: tuple[str, ...]) -> None:
    """A client that does not limit the window is sent what one of the configured size can read."""
    handle = server.start(APP, *takeover, "--websocket-deflate-window-bits", "9")
    message = os.urandom(600).hex().encode() * 2  # repeats itself beyond the window
    engine = zlib.decompressobj(-9)
    with WebSocket.open(handle, "/echo", OFFER) as ws:
        for _ in range(3):
            ws.send(BINARY, message)
            first, payload = read_frame(ws.client)
            assert first == 0xC2
            assert engine.decompress(payload + TAIL) == message


@pytest.fixture(scope="session")
def nhooyr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A client with nhooyr.io/websocket 1.8.6, which refuses parameters that it did not offer."""
    program = tmp_path_factory.mktemp("go") / "nhooyr"
    run_go(["build", "-o", str(program), "."], cwd=ROOT / "tests" / "go" / "nhooyr")
    return program


@pytest.mark.timeout(600)  # the first one fetches the modules
def test_strict_client(server: Servers, nhooyr: Path) -> None:
    for flags in ((), (TAKEOVER,), ("--websocket-deflate-window-bits", "15")):
        handle = server.start(APP, *flags)
        done = subprocess.run(
            [nhooyr, f"{handle.ws_url}/echo"],
            capture_output=True,
            text=True,
            timeout=60,
            env=FOREIGN,
        )
        assert done.returncode == 0, done.stdout
        assert done.stdout.startswith("permessage-deflate; ")


# ---- messages ----


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("--websocket-deflate-min-size", "0"),
        (TAKEOVER, "--websocket-deflate-level", "9", "--websocket-deflate-mem-level", "9"),
        (TAKEOVER, "--websocket-deflate-window-bits", "8"),
        ("--websocket-deflate-window-bits", "15", "--websocket-deflate-mem-level", "1"),
        ("--no-websocket-deflate",),
    ],
)
def test_client_library(server: Servers, flags: tuple[str, ...]) -> None:
    """Every kind and size of message, with every set of parameters that the library can ask for."""
    handle = server.start(APP, *flags)
    messages: list[str | bytes] = ["", b"", "täxt \N{GRINNING FACE}" * 999, b"\0\xff"]
    messages += ["x" * n for n in (125, 511, 512, 65535, 70000)]
    messages += [bytes(MIB), random.Random(1).randbytes(MIB), random.Random(2).randbytes(600)]
    messages += [str(list(range(9000)))] * 2
    factories = [
        ClientPerMessageDeflateFactory(
            server_no_context_takeover=takeover,
            client_no_context_takeover=takeover,
            server_max_window_bits=server_bits,
            client_max_window_bits=client_bits,
        )
        for takeover in (False, True)
        for server_bits, client_bits in ((None, None), (9, True), (15, 9), (10, 15), (None, 12))
    ]

    async def client(factory: ClientPerMessageDeflateFactory | None) -> None:
        extensions = None if factory is None else [factory]
        async with connect(
            f"{handle.ws_url}/echo", compression=None, extensions=extensions, max_size=None
        ) as ws:
            for message in messages:
                await ws.send(message)
                assert await ws.recv() == message
            await ws.send(["in ", "three ", "fragments" * 100])
            assert await ws.recv() == "in three " + "fragments" * 100

    async def clients() -> None:
        await asyncio.gather(*[client(factory) for factory in [None, *factories]])

    asyncio.run(clients())


def test_on_the_wire(server: Servers) -> None:
    """What is worth it is compressed, and the same for everybody; what is not goes as it is."""
    handle = server.start(APP)
    large, noise = b"abcdefgh" * 1000, random.Random(3).randbytes(1000)
    with WebSocket.open(handle, "/echo", OFFER) as ws, WebSocket.open(handle, "/echo") as plain:
        for message, first in [
            (large, 0xC2),
            (b"small", 0x82),
            (noise, 0x82),
            (large[:511], 0x82),
            (large[:512], 0xC2),
        ]:
            ws.send(BINARY, deflated(message), rsv=RSV1)
            got, payload = read_frame(ws.client)
            assert got == first
            assert (inflated(payload) if got & 0x40 else payload) == message
            ws.send(BINARY, message)  # and not compressed: the answer is the same
            assert read_frame(ws.client) == (first, payload)
            plain.send(BINARY, message)
            assert plain.read() == (BINARY, message)


def test_fragments_and_control_frames(server: Servers) -> None:
    handle = server.start(APP)
    message = "Größe ".encode() * 3000
    packed = deflated(message)
    with WebSocket.open(handle, "/echo", OFFER) as ws:
        ws.send(TEXT, packed[:1], fin=False, rsv=RSV1)
        for at in range(1, len(packed)):
            ws.send(CONTINUATION, packed[at : at + 1], fin=False)
        ws.send(PING, b"p")
        ws.send(CONTINUATION, b"")
        assert ws.read() == (PONG, b"p")
        first, payload = read_frame(ws.client)
        assert (first, inflated(payload)) == (0xC1, message)


FAULTS = {
    "RSV1 on a continuation": (
        frame(TEXT, b"\xf2", fin=False, rsv=RSV1) + frame(CONTINUATION, b"\x48", rsv=RSV1),
        1002,
    ),
    "RSV1 on a ping": (frame(PING, rsv=RSV1), 1002),
    "RSV2": (frame(TEXT, b"x", rsv=2), 1002),
    "garbage": (frame(BINARY, b"\xff\xff\xff", rsv=RSV1), 1007),
    "cut": (frame(BINARY, deflated(bytes(999))[:-3], rsv=RSV1), 1007),
    "text that is not UTF-8": (frame(TEXT, deflated(b"ab\xff" * 9), rsv=RSV1), 1007),
    "a character cut by the end": (frame(TEXT, deflated(b"\xe6\xbc"), rsv=RSV1), 1007),
}


@pytest.mark.parametrize("case", FAULTS)
def test_fault_of_the_peer(server: Servers, case: str) -> None:
    data, code = FAULTS[case]
    handle = server.start(APP)
    with WebSocket.open(handle, "/echo", OFFER) as ws:
        ws.client.send(data)
        assert ws.read_close()[0] == code
        assert ws.client.closed()


# ---- what it costs ----


def test_bomb(server: Servers) -> None:
    """CVE-2018-1000518, CVE-2026-1526: 1 MB that would become 1 GB: 1009 at the limit of messages, and no memory."""
    handle = server.start(APP)
    engine = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = engine.compress(bytes(16 * MIB)) + engine.flush(zlib.Z_FULL_FLUSH)
    bomb = (piece * 64).removesuffix(TAIL)
    assert len(bomb) < 1.05 * MIB
    with WebSocket.open(handle, "/echo", OFFER) as ws:  # what any first message costs
        ws.send(BINARY, deflated(bytes(70000)), rsv=RSV1)
        assert read_frame(ws.client)[0] == 0xC2
    before = handle.rss()
    proc(handle, "clear_refs").write_text("5")  # the peak of starting up does not count
    for parts in (1, 8):
        for _ in range(4):
            with WebSocket.open(handle, "/echo", OFFER, timeout=30) as ws:
                size = len(bomb) // parts + 1
                for part in range(parts):
                    ws.send(
                        CONTINUATION if part else BINARY,
                        bomb[part * size : part * size + size],
                        fin=part == parts - 1,
                        rsv=0 if part else RSV1,
                    )
                assert ws.read_close()[0] == 1009
    # Of ours a message of 1 MiB and no more; the interpreter's own heap moves by some 100 KB.
    assert peak(handle) - before < max(ROOM - 8 * MIB, MIB + 4 * 65536)
    handle.wait_for_log(
        r"1009: compressed message of \d+ bytes \(--websocket-max-message-size is 1048576\)"
    )


def test_idle_sockets(server: Servers) -> None:
    """After a message each, compressed sockets hold next to nothing more than the others."""
    if ROOM > 8 * MIB:
        pytest.skip("AddressSanitizer keeps what was freed")
    number = 300
    message = os.urandom(100).hex().encode() * 20
    grown = []
    for headers in ((), (OFFER,)):
        handle = server.start(APP)
        with WebSocket.open(handle, "/echo", *headers) as first:
            first.send(TEXT, message)
            read_frame(first.client)
        before = handle.rss()
        sockets = []
        for _ in range(number):
            ws = WebSocket.open(handle, "/echo", *headers)
            ws.send(TEXT, deflated(message) if headers else message, rsv=RSV1 if headers else 0)
            first_byte, _ = read_frame(ws.client)
            assert first_byte == (0xC1 if headers else 0x81)
            sockets.append(ws)
        grown.append(handle.rss() - before)
        for ws in sockets:
            ws.client.send(close_frame(1000))
            ws.client.close()
    assert grown[1] - grown[0] < number * 1024
