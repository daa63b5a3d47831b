"""pyasgi.loop.EventLoop beside uvloop and asyncio's own loop, each kind of work on each in turn.

    python benchmarks/micro/loop.py [--rounds 7] [--seconds 0.3] [--json FILE] [WORK ...]

It takes the installed build: with -m from the project's folder it would find the debug build that is
in place there, which it refuses.

One process, one core, round after round; in a round every loop does every work once.  A figure is
the median of the rounds, a ratio the median of the rounds' ratios, of wall time and of the process's
CPU time: on a shared machine the latter is the steadier one.  uvloop is from PyPI (``pip install
uvloop``); work on Redis needs redis-server and the package redis, that of httpx the package httpx.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import inspect
import json
import os
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pyasgi import _core
from pyasgi.loop import EventLoop

Loop = asyncio.AbstractEventLoop
Work = Callable[[int], Awaitable[None]]
PAYLOAD = b"x" * 64
CONNECTIONS = 16


@dataclass(frozen=True)
class Sample:
    """Operations per second of wall time and of CPU time."""

    wall: float
    cpu: float


# ---- the work: each does `count` operations ----


async def call_soon_chain(count: int) -> None:
    """Callbacks that each schedule the next: one for each turn of the loop."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def step(left: int) -> None:
        if left:
            loop.call_soon(step, left - 1)
        else:
            done.set_result(None)

    loop.call_soon(step, count)
    await done


async def call_soon_batch(count: int) -> None:
    """A thousand callbacks for each turn."""
    loop = asyncio.get_running_loop()

    def nothing() -> None:
        pass

    for _ in range(count // 1000 + 1):
        for _ in range(1000):
            loop.call_soon(nothing)
        await asyncio.sleep(0)


async def tasks(count: int) -> None:
    """Tasks that are made, switch once and end, a hundred at a time."""

    async def work() -> None:
        await asyncio.sleep(0)

    for _ in range(count // 100 + 1):
        for task in [asyncio.create_task(work()) for _ in range(100)]:
            await task


async def gather(count: int) -> None:
    """Tasks by asyncio.gather(), most of which is Python code of asyncio's."""

    async def work() -> None:
        await asyncio.sleep(0)

    for _ in range(count // 100 + 1):
        await asyncio.gather(*[work() for _ in range(100)])


async def futures(count: int) -> None:
    """Futures that are set by a callback and awaited."""
    loop = asyncio.get_running_loop()
    for _ in range(count):
        future = loop.create_future()
        loop.call_soon(future.set_result, None)
        await future


async def timers(count: int) -> None:
    """Timers that run, a thousand at a time."""
    loop = asyncio.get_running_loop()
    for _ in range(count // 1000 + 1):
        done = loop.create_future()
        for number in range(999):
            loop.call_later(number * 1e-7, int)
        loop.call_later(1e-4, done.set_result, None)
        await done


async def timeouts(count: int) -> None:
    """Timers that are cancelled in time, as those of requests are."""
    loop = asyncio.get_running_loop()
    for _ in range(count // 100 + 1):
        for handle in [loop.call_later(30, int) for _ in range(100)]:
            handle.cancel()
        await asyncio.sleep(0)


async def to_thread(count: int) -> None:
    """Calls in a worker thread, one after the other."""
    for _ in range(count):
        await asyncio.to_thread(int)


async def threads(count: int) -> None:
    """Calls in worker threads, sixteen at once."""
    for _ in range(count // 16 + 1):
        await asyncio.gather(*[asyncio.to_thread(int) for _ in range(16)])


async def sockets(count: int) -> None:
    """Round trips with sock_sendall and sock_recv."""
    loop = asyncio.get_running_loop()
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)

        async def echo() -> None:
            for _ in range(count):
                await loop.sock_sendall(right, await loop.sock_recv(right, 1000))

        task = asyncio.create_task(echo())
        for _ in range(count):
            await loop.sock_sendall(left, PAYLOAD)
            await loop.sock_recv(left, 1000)
        await task


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Ping(asyncio.Protocol):
    def __init__(self, count: int, done: asyncio.Future[None]) -> None:
        self.left, self.done = count, done

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(PAYLOAD)

    def data_received(self, data: bytes) -> None:
        self.left -= 1
        if self.left > 0:
            self.transport.write(data)
        elif not self.done.done():
            self.done.set_result(None)
            self.transport.close()


async def protocols(
    count: int, accept: ssl.SSLContext | None = None, connect: ssl.SSLContext | None = None
) -> None:
    """Round trips between protocols over TCP, both ends on the loop."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=accept)
    port = server.sockets[0].getsockname()[1]
    pings = []
    for _ in range(CONNECTIONS):
        done = loop.create_future()
        share = count // CONNECTIONS + 1
        await loop.create_connection(
            lambda d=done, s=share: Ping(s, d), "127.0.0.1", port, ssl=connect
        )
        pings.append(done)
    await asyncio.gather(*pings)
    server.close()
    await asyncio.sleep(0.001)


def make_certificate(folder: str) -> tuple[str, str]:
    certificate, key = f"{folder}/cert.pem", f"{folder}/key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", key, "-out", certificate]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


class Tls:
    """Contexts with a certificate of their own, made by openssl on first use."""

    server: ssl.SSLContext | None = None
    client: ssl.SSLContext | None = None

    @classmethod
    def make(cls) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        if cls.server is None or cls.client is None:
            cls.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            cls.client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            with tempfile.TemporaryDirectory() as folder:
                certificate, key = make_certificate(folder)
                cls.server.load_cert_chain(certificate, key)
                cls.client.load_verify_locations(certificate)
        return cls.server, cls.client


async def tls_protocols(count: int) -> None:
    """Round trips between protocols over TLS, both ends on the loop."""
    await protocols(count, *Tls.make())


async def tls_streams(count: int) -> None:
    """Round trips between streams over TLS, both ends on the loop."""
    await streams(count, *Tls.make())


async def tls_connect(count: int) -> None:
    """TLS connections opened, one answer each, closed."""
    server_context, client_context = Tls.make()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(1000))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=server_context)
    port = server.sockets[0].getsockname()[1]
    for _ in range(count):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_context)
        writer.write(PAYLOAD)
        await reader.read(1000)
        writer.close()
        await writer.wait_closed()
    server.close()
    await asyncio.sleep(0.001)


async def tls_bulk(count: int) -> None:
    """Pieces of 64 KiB from a stream to another over TLS."""
    await bulk(count, *Tls.make())


async def bulk(
    count: int, accept: ssl.SSLContext | None = None, connect: ssl.SSLContext | None = None
) -> None:
    """Pieces of 64 KiB from a stream to another, which reads them all."""
    done = asyncio.get_running_loop().create_future()

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            pass
        writer.close()
        done.set_result(None)

    server = await asyncio.start_server(swallow, "127.0.0.1", 0, ssl=accept)
    port = server.sockets[0].getsockname()[1]
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=connect)
    piece = bytes(65536)
    for _ in range(count):
        writer.write(piece)
        await writer.drain()
    writer.close()
    await done
    await writer.wait_closed()
    server.close()
    await asyncio.sleep(0.001)


async def streams(
    count: int, accept: ssl.SSLContext | None = None, connect: ssl.SSLContext | None = None
) -> None:
    """Round trips between streams over TCP, both ends on the loop."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def ping(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=connect)
        for _ in range(count // CONNECTIONS + 1):
            writer.write(PAYLOAD)
            await writer.drain()
            await reader.read(1000)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=accept)
    port = server.sockets[0].getsockname()[1]
    await asyncio.gather(*[ping(port) for _ in range(CONNECTIONS)])
    server.close()
    await asyncio.sleep(0.001)


class Redis:
    """redis.asyncio against a server of its own."""

    port = tls_port = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def client(cls, tls: bool = False) -> AsyncIterator[Any]:
        import redis.asyncio

        how = {"ssl": True, "ssl_cert_reqs": "none", "ssl_check_hostname": False} if tls else {}
        port = cls.tls_port if tls else cls.port
        async with redis.asyncio.Redis(port=port, **how) as client:
            yield client

    @classmethod
    async def ping(cls, count: int, tls: bool = False) -> None:
        """PING round trips, one after the other."""
        async with cls.client(tls) as client:
            for _ in range(count):
                await client.ping()

    @classmethod
    async def pings(cls, count: int) -> None:
        """PING round trips on sixteen connections at once."""
        async with cls.client() as client:

            async def some() -> None:
                for _ in range(count // CONNECTIONS + 1):
                    await client.ping()

            await asyncio.gather(*[some() for _ in range(CONNECTIONS)])

    @classmethod
    async def tls_ping(cls, count: int) -> None:
        """PING round trips over TLS, one after the other."""
        await cls.ping(count, tls=True)


class Hello(asyncio.Protocol):
    """Answers each piece that comes as if it were one request."""

    ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\nHello, World!"

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(self.ANSWER)


async def http_client(count: int) -> None:
    """Requests of httpx on one connection; the server is on the loop too."""
    import httpx

    loop = asyncio.get_running_loop()
    server = await loop.create_server(Hello, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with httpx.AsyncClient(trust_env=False) as client:
        for _ in range(count):
            assert (await client.get(url)).text == "Hello, World!"
    server.close()
    await asyncio.sleep(0.001)


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]


@contextlib.contextmanager
def redis_server() -> Iterator[bool]:
    """A Redis on free ports, plain and TLS, for Redis; false when there is none on this machine."""
    program = shutil.which("redis-server")
    if program is None:
        yield False
        return
    with tempfile.TemporaryDirectory() as folder:
        Redis.port, Redis.tls_port = free_ports(2)
        certificate, key = make_certificate(folder)
        command = [program, "--port", str(Redis.port), "--save", "", "--dir", folder]
        command += ["--tls-port", str(Redis.tls_port), "--tls-auth-clients", "no"]
        command += ["--tls-cert-file", certificate, "--tls-key-file", key]
        command += ["--tls-ca-cert-file", certificate]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            try:
                wait_for_port(Redis.port)
                yield True
            finally:
                process.terminate()


def wait_for_port(port: int) -> None:
    for _ in range(200):
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"nobody listens on port {port} after ten seconds")


WORK: dict[str, Work] = {
    "call_soon-chain": call_soon_chain,
    "call_soon-batch": call_soon_batch,
    "tasks": tasks,
    "gather": gather,
    "futures": futures,
    "timers": timers,
    "timeouts": timeouts,
    "to_thread": to_thread,
    "threads": threads,
    "sockets": sockets,
    "protocols": protocols,
    "streams": streams,
    "bulk": bulk,
    "tls-protocols": tls_protocols,
    "tls-streams": tls_streams,
    "tls-bulk": tls_bulk,
    "tls-connect": tls_connect,
    "redis-ping": Redis.ping,
    "redis-pings": Redis.pings,
    "redis-tls-ping": Redis.tls_ping,
    "httpx": http_client,
}


# ---- measuring ----


def measure(factory: Callable[[], Loop], work: Work, count: int) -> Sample:
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(work(max(count // 20, 1)))
        wall, cpu = time.perf_counter(), time.process_time()
        runner.run(work(count))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Sample(count / wall, count / cpu)


def calibrate(work: Work, seconds: float) -> int:
    """How many operations take asyncio about that long."""
    count = 200
    while True:
        rate = measure(asyncio.SelectorEventLoop, work, count).wall
        if count / rate > seconds / 4:
            return max(int(rate * seconds), 1)
        count *= 4


def loops() -> dict[str, Callable[[], Loop]]:
    found: dict[str, Callable[[], Loop]] = {"cdaphne": EventLoop}
    try:
        import uvloop
    except ImportError:
        print("uvloop is not installed: pip install uvloop", file=sys.stderr)
    else:
        found["uvloop"] = uvloop.new_event_loop
    found["asyncio"] = asyncio.SelectorEventLoop
    return found


def compare(work: Work, rounds: int, seconds: float) -> dict[str, list[Sample]]:
    count = calibrate(work, seconds)
    samples: dict[str, list[Sample]] = {name: [] for name in loops()}
    for _ in range(rounds):
        for name, factory in loops().items():
            samples[name].append(measure(factory, work, count))
    return samples


def ratio(samples: dict[str, list[Sample]], peer: str, what: str) -> float:
    pairs = zip(samples["cdaphne"], samples[peer], strict=True)
    return statistics.median(getattr(a, what) / getattr(b, what) for a, b in pairs)


def row(name: str, samples: dict[str, list[Sample]]) -> dict[str, Any]:
    found: dict[str, Any] = {"work": name, "what": inspect.getdoc(WORK[name])}
    for loop, list_ in samples.items():
        found[loop] = statistics.median(sample.wall for sample in list_)
        if loop != "cdaphne":
            found[f"{loop}-wall"] = ratio(samples, loop, "wall")
            found[f"{loop}-cpu"] = ratio(samples, loop, "cpu")
    return found


def show(found: dict[str, Any]) -> str:
    text = f"{found['work']:16}{found['cdaphne']:12,.0f}/s"
    for peer in ("uvloop", "asyncio"):
        if peer in found:
            text += f"   {peer} {found[peer]:10,.0f}/s"
            text += f" ({found[f'{peer}-wall']:.2f}x, CPU {found[f'{peer}-cpu']:.2f}x)"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "work", nargs="*", help=f"of {', '.join(WORK)}; default: all", metavar="WORK"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.3, help="of one measurement on asyncio")
    parser.add_argument("--json", help="write the figures to this file")
    options = parser.parse_args()
    if hasattr(_core, "debug_live"):
        parser.error(f"{_core.__file__} is a CD_DEBUG build: see above, after `make pgo`")
    unknown = set(options.work) - set(WORK)
    if unknown:
        parser.error(f"no such work: {', '.join(sorted(unknown))}")
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # Redis, too
    found = []
    with redis_server() as has_redis:
        for name in options.work or WORK:
            if name.startswith("redis") and not has_redis:
                print(f"{name}: redis-server is not installed", file=sys.stderr)
                continue
            if name == "httpx" and importlib.util.find_spec("httpx") is None:
                print("httpx is not installed: pip install httpx", file=sys.stderr)
                continue
            found.append(row(name, compare(WORK[name], options.rounds, options.seconds)))
            print(show(found[-1]), flush=True)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(
                {"python": sys.version, "rounds": options.rounds, "rows": found}, file, indent=1
            )


if __name__ == "__main__":
    main()
