"""The rows: what is done to a server, and what comes out as figures.

A row is a function from a Bench (the settings of this run) and a Server to {figure key: Sample}. It starts the server
itself, because some need it twice or want to look at what it leaves. Every row checks the answers it counts; LoadError
means that there is no figure. A new row is a function and a line in ROWS.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from . import clients, servers
from .clients import Load, LoadError
from .probe import body_of, fetch, fetch_http2, kept_size
from .processes import Cores
from .results import OURS, Figure, Sample
from .servers import (
    DEFLATE,
    FILES,
    HTTP2,
    PEERS,
    PLAIN,
    PROJECT,
    RAW,
    TLS,
    Running,
    Server,
)

HELLO = "Hello, World!"
HELLO_JSON = json.dumps({"message": HELLO})
PATTERN = "".join(chr(ord("a") + i % 23) for i in range(1024))
EVENT_TAIL = "\ndata: " + "x" * 57 + "\n\n"
KB = 1024
MB = 1024 * 1024
POST_SIZE = 10 * KB
SETTLE_SECONDS = 1.0
PACE_KEPT = 0.9  # of the asked rate: below, the server did not keep up with half of its own best


@dataclass(frozen=True)
class Bench:
    """The settings of a run. Seconds are of counted load, per measurement."""

    cores: Cores
    seconds: float = 1.5
    warmup: float = 0.4
    idle: int = 4000
    many: int = 1000
    upload: int = 1024 * MB
    traced: int = 20000
    starts: int = 3


Measured = dict[str, Sample]
Measure = Callable[[Bench, Server], Measured]


@dataclass(frozen=True)
class Row:
    """`static` rows also suit nginx; `quick` ones are in --quick; `rounds` caps the rounds of steady figures.

    A server that lacks what the row `needs` is left out.
    """

    key: str
    measure: Measure
    figures: tuple[Figure, ...]
    static: bool = False
    quick: bool = False
    rounds: int = 100
    peers: tuple[str, ...] = PEERS
    ours: str = OURS
    needs: str = PLAIN


def rate(load: Load, amount: float, note: str = "") -> Sample:
    """So much per second, and per CPU second of the server."""
    per_cpu = amount / load.server_cpu if load.server_cpu else None
    return Sample(amount / load.seconds, per_cpu, load.client_share, note)


def timed(bench: Bench, connections: int) -> list[object]:
    return ["--seconds", bench.seconds, "--warmup", bench.warmup, "--connections", connections]


def http(bench: Bench, up: Running, path: str, *flags: object, pattern: str, length: int) -> Load:
    expected = [*secure(up), "--pattern", pattern, "--length", length]
    target = ["127.0.0.1", up.port, path]
    return clients.own("http", [*flags, *expected, *target], up.session, bench.cores.client)


def secure(up: Running) -> list[str]:
    return ["--tls"] if up.launch.secure else []


def hello(bench: Bench, up: Running, *flags: object) -> Load:
    return http(bench, up, "/", *flags, pattern=HELLO, length=len(HELLO))


def warm(bench: Bench, up: Running, path: str, body: str) -> None:
    flags = ["--seconds", bench.warmup, "--warmup", 0, "--connections", 16]
    http(bench, up, path, *flags, pattern=body, length=len(body))


def check(up: Running, path: str, expected: bytes, post: bytes = b"") -> int:
    """Compare one answer; the size that wrk will see of the same, whose connection stays open."""
    answer = fetch(up.port, path, post, secure=up.launch.secure)
    if body_of(answer) != expected:
        raise LoadError(f"{path} answers {answer[:80]!r}")
    return kept_size(up.port, path, expected, post, up.launch.secure)


def by_wrk(
    key: str,
    path: str,
    body: str,
    *,
    app: str = RAW,
    connections: int = 64,
    post: int = 0,
    pipelined: int = 1,
    wire: str = PLAIN,
) -> Measure:
    """A row that wrk measures: requests per second with this one answer."""
    sent, expected = b"x" * post, body.encode()

    def measure(bench: Bench, server: Server) -> Measured:
        with servers.running(server, bench.cores, app, wire) as up:
            size = check(up, path, expected, sent)
            if not post:
                warm(bench, up, path, body)
            load = clients.wrk(
                up.url(path),
                size,
                up.session,
                bench.cores.client,
                connections=connections,
                seconds=bench.seconds,
                post=post,
                pipelined=pipelined,
            )
            check(up, path, expected, sent)
        return {key: rate(load, load.count)}

    return measure


def by_h2load(key: str, path: str, body: str, streams: int = 16) -> Measure:
    """HTTP/2 over TLS: requests per second over 8 connections with so many streams at a time."""
    expected = body.encode()

    def look(up: Running) -> None:
        if (answer := fetch_http2(up.port, path)) != expected:
            raise LoadError(f"{path} answers {answer[:80]!r}")

    def measure(bench: Bench, server: Server) -> Measured:
        with servers.running(server, bench.cores, wire=HTTP2) as up:

            def loaded(seconds: float) -> Load:
                return clients.h2load(
                    up.url(path),
                    len(expected),
                    up.session,
                    bench.cores.client,
                    connections=8,
                    streams=streams,
                    seconds=seconds,
                )

            look(up)
            loaded(bench.warmup)
            load = loaded(bench.seconds)
            look(up)
        return {key: rate(load, load.count)}

    return measure


def static_file(key: str, wire: str = PLAIN) -> Measure:
    def measure(bench: Bench, server: Server) -> Measured:
        with servers.running(server, bench.cores, FILES, wire) as up:
            load = http(bench, up, "/file", *timed(bench, 16), pattern=PATTERN, length=MB)
        return {key: rate(load, load.count)}

    return measure


def handshakes(key: str, *flags: str) -> Measure:
    """A connection, a handshake and an answer each."""

    def measure(bench: Bench, server: Server) -> Measured:
        with servers.running(server, bench.cores, wire=TLS) as up:
            load = hello(bench, up, "--close", *flags, *timed(bench, 32))
        return {key: rate(load, load.count)}

    return measure


def large(bench: Bench, server: Server) -> Measured:
    with servers.running(server, bench.cores) as up:
        flags = timed(bench, 32)
        load = http(bench, up, "/100k", *flags, pattern=PATTERN, length=100 * KB)
    return {"large": rate(load, load.count)}


def stream(bench: Bench, server: Server) -> Measured:
    with servers.running(server, bench.cores) as up:
        hello(bench, up, "--requests", 64)
        before = up.session.reset_peak()
        load = http(bench, up, "/10m", *timed(bench, 8), pattern=PATTERN, length=10 * MB)
        growth = max(0, up.session.peak_kb() - before)
    return {"stream": rate(load, load.bytes / MB), "stream-memory": Sample(growth / KB)}


def upload(key: str, wire: str = PLAIN) -> Measure:
    def measure(bench: Bench, server: Server) -> Measured:
        with servers.running(server, bench.cores, wire=wire) as up:
            hello(bench, up, "--requests", 64)
            before = up.session.reset_peak()
            flags = ["--connections", 1, "--requests", 1, "--upload", bench.upload]
            text = str(bench.upload)
            load = http(bench, up, "/upload", *flags, pattern=text, length=len(text))
            growth = max(0, up.session.peak_kb() - before)
        return {key: rate(load, bench.upload / MB), f"{key}-memory": Sample(growth / KB)}

    return measure


def events(bench: Bench, server: Server) -> Measured:
    with servers.running(server, bench.cores) as up:
        flags = ["--sse", *timed(bench, bench.many)]
        load = http(bench, up, "/events", *flags, pattern=EVENT_TAIL, length=0)
    return {"events": rate(load, load.count)}


def websocket(
    bench: Bench, up: Running, mode: str, path: str, connections: int, *flags: object
) -> Load:
    arguments = [*timed(bench, connections), *flags, *secure(up)]
    arguments += [mode, "127.0.0.1", up.port, path]
    return clients.own("ws", arguments, up.session, bench.cores.client)


def ws_echo(
    key: str, size: int, connections: int, *, text: bool = True, deflate: bool = False
) -> Measure:
    flags: list[object] = ["--size", size, *(["--text"] if text else [])]
    flags += ["--deflate"] if deflate else []

    def measure(bench: Bench, server: Server) -> Measured:
        with servers.running(server, bench.cores) as up:
            load = websocket(bench, up, "echo", "/ws", connections, *flags)
        return {key: rate(load, load.count)}

    return measure


def ws_broadcast(key: str, connections: int | None, app: str = RAW, *, talkers: int = 1) -> Measure:
    path = "/ws/broadcast" if app == RAW else "/ws"

    def measure(bench: Bench, server: Server) -> Measured:
        with servers.running(server, bench.cores, app) as up:
            flags = ["--size", 64, "--text", "--talkers", talkers]
            load = websocket(bench, up, "broadcast", path, connections or bench.many, *flags)
        return {key: rate(load, load.count)}

    return measure


def updates(key: str, tabs: int) -> Measure:
    """A synchronous view tells a group, and every tab must show it before the next one is told."""

    def measure(bench: Bench, server: Server) -> Measured:
        with servers.running(server, bench.cores, PROJECT) as up:
            flags = ["--size", 64, "--text", "--post", "/tell"]
            load = websocket(bench, up, "updates", "/ws", tabs, *flags)
        return {key: rate(load, load.count)}

    return measure


def connect_http(bench: Bench, server: Server) -> Measured:
    with servers.running(server, bench.cores) as up:
        load = hello(bench, up, "--close", *timed(bench, 32))
    return {"connect-http": rate(load, load.count)}


def connect_ws(bench: Bench, server: Server) -> Measured:
    with servers.running(server, bench.cores) as up:
        load = websocket(bench, up, "handshake", "/ws", 32)
    return {"connect-ws": rate(load, load.count)}


def latency(bench: Bench, server: Server) -> Measured:
    """At half of what this very server did a moment ago, every request counted from when it was due."""
    with servers.running(server, bench.cores) as up:
        best = hello(bench, up, *timed(bench, 64))
        half = math.floor(best.count / best.seconds / 2)
        load = hello(bench, up, "--rate", half, *timed(bench, 64))
    if load.count < PACE_KEPT * half * load.seconds:
        raise LoadError(f"did {load.count / load.seconds:.0f} of {half} requests a second")
    note = f"at {half} requests/s"
    return {
        "latency-p50": Sample(load.p50, note=note),
        "latency-p99": Sample(load.p99, note=note),
        "latency-p999": Sample(load.p999, note=note),
        "cpu": Sample(load.server_cpu / load.count * 1e6, note=note),
    }


def idle(
    key: str, name: str, before: list[object], path: str, wire: str = PLAIN, share: int = 1
) -> Measure:
    """Memory that so many connections add, each after one answer and a second of silence."""

    def hold(bench: Bench, up: Running, count: int) -> int:
        seen: list[int] = []

        def look() -> None:
            time.sleep(SETTLE_SECONDS)
            seen.append(up.session.memory_kb())

        flags = ["--wait", "--connections", count, "--requests", count, *before, *secure(up)]
        arguments = [*flags, "127.0.0.1", up.port, path]
        clients.own(name, arguments, up.session, bench.cores.client, look)
        return seen[0]

    def measure(bench: Bench, server: Server) -> Measured:
        count = bench.idle // share
        with servers.running(server, bench.cores, wire=wire) as up:
            hold(bench, up, 64)
            time.sleep(SETTLE_SECONDS)
            base = up.session.memory_kb()
            added = hold(bench, up, count) - base
        return {key: Sample(added / count, note=f"{count} connections")}

    return measure


def start_up(bench: Bench, server: Server) -> Measured:
    times = []
    for _ in range(bench.starts):
        with servers.running(server, bench.cores) as up:
            times.append(up.first_answer)
    return {"start-up": Sample(min(times) * 1e3)}


def system_calls(bench: Bench, server: Server) -> Measured:
    """Calls per keep-alive request at 64 connections, all threads and processes."""
    calls: dict[str, int] = {}
    with servers.running(server, bench.cores) as up:
        strace = clients.Strace(up.session, up.launch.folder)
        flags = ["--connections", 64, "--requests", bench.traced, "--wait"]
        expected = ["--pattern", HELLO, "--length", len(HELLO), "127.0.0.1", up.port, "/"]
        try:
            load = clients.own(
                "http", [*flags, *expected], up.session, bench.cores.client, strace.start
            )
            calls = strace.stop()
        finally:
            strace.kill()
    often = sorted(calls.items(), key=lambda item: -item[1])[:5]
    note = ", ".join(f"{name} {number / load.count:.2f}" for name, number in often)
    return {"system-calls": Sample(sum(calls.values()) / load.count, note=note)}


def access_log(bench: Bench, server: Server) -> Measured:
    """Plaintext again, with and without; the log must have a line for every request."""
    lines = None
    with servers.running(server, bench.cores) as up:
        size = check(up, "/", HELLO.encode())
        warm(bench, up, "/", HELLO)
        load = clients.wrk(
            up.url("/"),
            size,
            up.session,
            bench.cores.client,
            connections=64,
            seconds=bench.seconds,
        )
    if up.launch.access_log.exists():
        with up.launch.access_log.open("rb") as log:
            lines = sum(block.count(b"\n") for block in iter(lambda: log.read(MB), b""))
        if lines < load.count:
            raise LoadError(f"{lines} lines in the access log for {load.count} requests")
    elif server.name.endswith("+log"):
        raise LoadError("no access log was written")
    return {"access-log": rate(load, load.count)}


def one(key: str, title: str, unit: str = "requests/s") -> tuple[Figure]:
    return (Figure(key, title, unit),)


def less(key: str, title: str, unit: str) -> Figure:
    return Figure(key, title, unit, "less")


def grouped(title: str, *rows: Row) -> tuple[Row, ...]:
    """These rows, whose figures stand together under that title."""
    return tuple(
        replace(row, figures=tuple(replace(figure, group=title) for figure in row.figures))
        for row in rows
    )


HELD = ["--pattern", HELLO, "--length", len(HELLO)]

ROWS = (
    *grouped(
        "HTTP/1.1",
        Row(
            "plaintext",
            by_wrk("plaintext", "/", HELLO),
            one("plaintext", "Plaintext"),
            static=True,
            quick=True,
        ),
        Row("json", by_wrk("json", "/json", HELLO_JSON), one("json", "JSON"), rounds=2),
        Row(
            "post",
            by_wrk("post", "/echo", "x" * POST_SIZE, post=POST_SIZE),
            one("post", "POST echo, 10 KB"),
            quick=True,
        ),
        Row("large", large, one("large", "Response of 100 KB"), quick=True),
        Row(
            "file",
            static_file("file"),
            one("file", "File of 1 MB, --extension pathsend", "files/s"),
            static=True,
            quick=True,
        ),
        Row(
            "stream",
            stream,
            (
                Figure("stream", "10 MB streamed", "MB/s"),
                less("stream-memory", "10 MB streamed to 8 clients: memory", "MB more"),
            ),
            rounds=2,
        ),
        Row(
            "upload",
            upload("upload"),
            (
                Figure("upload", "Upload of 1 GB", "MB/s"),
                less("upload-memory", "Upload of 1 GB: memory", "MB more"),
            ),
            rounds=2,
        ),
        Row(
            "pipelined",
            by_wrk("pipelined", "/", HELLO, pipelined=16),
            one("pipelined", "Plaintext, 16 pipelined"),
            static=True,
            quick=True,
        ),
        Row(
            "sleep",
            by_wrk("sleep", "/sleep", HELLO, connections=512),
            one("sleep", "10 ms of sleep, 512 connections"),
            rounds=2,
        ),
        Row(
            "events",
            events,
            one("events", "Server-sent events, 1,000 clients", "events/s"),
            rounds=2,
        ),
        Row(
            "connect-http",
            connect_http,
            one("connect-http", "HTTP, a connection per request", "connections/s"),
            static=True,
            rounds=2,
        ),
        Row(
            "access-log",
            access_log,
            one("access-log", "Plaintext with access log"),
            peers=("cdaphne",),
            ours="cdaphne+log",
        ),
    ),
    *grouped(
        "WebSocket",
        Row(
            "ws-echo-32",
            ws_echo("ws-echo-32", 32, 64),
            one("ws-echo-32", "WebSocket echo, 32 B", "messages/s"),
            quick=True,
        ),
        Row(
            "ws-echo-4k",
            ws_echo("ws-echo-4k", 4 * KB, 64),
            one("ws-echo-4k", "WebSocket echo, 4 KB", "messages/s"),
            rounds=2,
        ),
        Row(
            "ws-echo-1m",
            ws_echo("ws-echo-1m", MB, 8, text=False),
            one("ws-echo-1m", "WebSocket echo, 1 MB", "messages/s"),
            rounds=2,
        ),
        Row(
            "ws-deflate-4k",
            ws_echo("ws-deflate-4k", 4 * KB, 64, deflate=True),
            one("ws-deflate-4k", "WebSocket echo, 4 KB compressed", "messages/s"),
            quick=True,
            needs=DEFLATE,
        ),
        Row(
            "ws-broadcast-32",
            ws_broadcast("ws-broadcast-32", 32),
            one("ws-broadcast-32", "WebSocket broadcast, 32 clients", "messages/s"),
            rounds=2,
        ),
        Row(
            "ws-broadcast-1000",
            ws_broadcast("ws-broadcast-1000", None),
            one("ws-broadcast-1000", "WebSocket broadcast, 1,000 clients", "messages/s"),
            quick=True,
        ),
        Row(
            "ws-talk-1000",
            ws_broadcast("ws-talk-1000", None, talkers=8),
            one("ws-talk-1000", "WebSocket broadcast, 1,000 clients, 8 talk", "messages/s"),
            rounds=2,
        ),
        Row(
            "connect-ws",
            connect_ws,
            one("connect-ws", "WebSocket handshake and close", "connections/s"),
            rounds=2,
        ),
    ),
    *grouped(
        "TLS 1.3 and HTTP/2",
        Row(
            "tls-plaintext",
            by_wrk("tls-plaintext", "/", HELLO, wire=TLS),
            one("tls-plaintext", "TLS: plaintext, keep-alive"),
            static=True,
            quick=True,
            needs=TLS,
        ),
        Row(
            "tls-full",
            handshakes("tls-full"),
            one("tls-full", "TLS: full handshake per request", "handshakes/s"),
            static=True,
            needs=TLS,
        ),
        Row(
            "tls-resumed",
            handshakes("tls-resumed", "--resume"),
            one("tls-resumed", "TLS: resumed handshake per request", "handshakes/s"),
            static=True,
            needs=TLS,
        ),
        Row(
            "tls-upload",
            upload("tls-upload", TLS),
            (
                Figure("tls-upload", "TLS: upload of 1 GB", "MB/s"),
                less("tls-upload-memory", "TLS: upload of 1 GB, memory", "MB more"),
            ),
            rounds=2,
            needs=TLS,
        ),
        Row(
            "tls-file",
            static_file("tls-file", TLS),
            one("tls-file", "TLS: file of 1 MB, --extension pathsend", "files/s"),
            static=True,
            needs=TLS,
            rounds=2,
        ),
        Row(
            "http2",
            by_h2load("http2", "/", HELLO),
            one("http2", "HTTP/2: plaintext, 8 x 16 streams"),
            static=True,
            quick=True,
            needs=HTTP2,
        ),
        Row(
            "http2-large",
            by_h2load("http2-large", "/100k", PATTERN * 100, streams=4),
            one("http2-large", "HTTP/2: responses of 100 KB, 8 x 4"),
            needs=HTTP2,
            rounds=2,
        ),
    ),
    *grouped(
        "Django and Channels",
        Row(
            "channels-updates",
            updates("channels-updates", 32),
            one("channels-updates", "Channels: a view tells 32 tabs", "updates/s"),
            quick=True,
        ),
        Row(
            "channels-room",
            ws_broadcast("channels-room", 32, PROJECT),
            one("channels-room", "Channels: a tab tells a group of 32", "messages/s"),
            rounds=2,
        ),
        Row(
            "django-view",
            by_wrk("django-view", "/", HELLO, app=PROJECT, connections=16),
            one("django-view", "Django: synchronous view"),
            rounds=2,
        ),
    ),
    *grouped(
        "Latency, memory and what else it costs",
        Row(
            "latency",
            latency,
            (
                less("latency-p50", "Latency at half load, p50", "µs"),
                less("latency-p99", "Latency at half load, p99", "µs"),
                less("latency-p999", "Latency at half load, p99.9", "µs"),
                less("cpu", "CPU time at half load", "µs/request"),
            ),
            static=True,
        ),
        Row(
            "system-calls",
            system_calls,
            (less("system-calls", "System calls, 64 connections", "per request"),),
            static=True,
            rounds=1,
        ),
        Row(
            "start-up",
            start_up,
            (less("start-up", "Start to first answer", "ms"),),
            static=True,
            quick=True,
        ),
        Row(
            "idle-http",
            idle("idle-http", "http", HELD, "/"),
            (less("idle-http", "Idle keep-alive connection: memory", "KB"),),
            static=True,
            rounds=1,
        ),
        Row(
            "idle-ws",
            idle("idle-ws", "ws", ["echo"], "/ws"),
            (less("idle-ws", "Idle WebSocket: memory", "KB"),),
            quick=True,
            rounds=1,
        ),
        Row(
            "idle-deflate",
            idle("idle-deflate", "ws", ["--deflate", "--size", 4 * KB, "echo"], "/ws", share=4),
            (less("idle-deflate", "Idle compressed WebSocket: memory", "KB"),),
            quick=True,
            rounds=1,
            needs=DEFLATE,
        ),
        Row(
            "idle-tls",
            idle("idle-tls", "http", HELD, "/", wire=TLS, share=4),
            (less("idle-tls", "Idle TLS connection: memory", "KB"),),
            static=True,
            rounds=1,
            needs=TLS,
        ),
    ),
)
