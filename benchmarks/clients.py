"""The clients: wrk, strace and our own of benchmarks/load; they run on the client's core and check what they get."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .processes import Session, on_core

HERE = Path(__file__).resolve().parent
SOURCES = HERE / "load"
PROGRAMS = HERE.parent / "build" / "bench" / "bin"
CFLAGS = ("-std=c11", "-O2", "-g", "-Wall", "-Wextra", "-Wshadow", "-Wvla", "-Wformat=2")
# Above this share of its core the client is what limits the figure.
CLIENT_LIMIT = 0.95
STRACE_ATTACH_SECONDS = 10.0
MARGIN_SECONDS = 120.0


class LoadError(Exception):
    """A wrong answer, an early close, a server that does not start: there is no figure."""


@dataclass(frozen=True)
class Load:
    """What a client saw. Seconds of wall and CPU time, latencies in microseconds."""

    count: int
    bytes: int
    seconds: float
    client_cpu: float
    server_cpu: float
    p50: float = 0.0
    p99: float = 0.0
    p999: float = 0.0

    @property
    def client_share(self) -> float:
        return self.client_cpu / self.seconds if self.seconds else 0.0


def program(name: str) -> Path:
    """The client of that name, compiled when its sources are newer."""
    built = PROGRAMS / name
    sources = [SOURCES / f"{name}.c", SOURCES / "net.c"]
    newest = max(path.stat().st_mtime for path in (*sources, SOURCES / "net.h"))
    if not built.exists() or built.stat().st_mtime < newest:
        PROGRAMS.mkdir(parents=True, exist_ok=True)
        compiler = os.environ.get("CC", "cc")
        # Under another name first: another run may be using the old one.
        fresh = built.with_suffix(f".{os.getpid()}")
        subprocess.run([compiler, *CFLAGS, *map(str, sources), "-lm", "-o", str(fresh)], check=True)
        fresh.replace(built)
    return built


def need(tool: str) -> str:
    """Where a tool is; ends the program when it is nowhere."""
    found = shutil.which(tool)
    if found is None:
        raise SystemExit(f"{tool} is missing: run scripts/setup-system.sh bench")
    return found


def own(
    name: str,
    arguments: Sequence[object],
    session: Session,
    core: int | None,
    on_ready: Callable[[], None] | None = None,
) -> Load:
    """Run a client of benchmarks/load. `on_ready` is called when --wait's connections stand; then it goes on."""
    command = [str(program(name)), *map(str, arguments)]
    with on_core(core):
        client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with client:
        assert client.stdin and client.stdout
        try:
            return converse(client.stdin, client.stdout, session, on_ready)
        finally:
            client.kill()


def converse(
    stdin: IO[bytes], stdout: IO[bytes], session: Session, on_ready: Callable[[], None] | None
) -> Load:
    before = None
    for line in stdout:
        word = line.strip()
        if word == b"ready":
            if on_ready is not None:
                on_ready()
            stdin.write(b"go\n")
            stdin.flush()
        elif word == b"started":
            before = session.cpu_seconds()
        else:
            after = session.cpu_seconds()
            return loaded(json.loads(word), after - (before or 0.0))
    raise LoadError("the client ended without a report")


def loaded(report: dict[str, float | str], server_cpu: float) -> Load:
    if "error" in report:
        raise LoadError(str(report["error"]))
    numbers = {key: float(value) for key, value in report.items()}
    if not numbers["count"]:
        raise LoadError("nothing was answered in the time of measuring")
    return Load(
        int(numbers["count"]),
        int(numbers["bytes"]),
        numbers["seconds"],
        numbers["cpu"],
        server_cpu,
        numbers["p50"],
        numbers["p99"],
        numbers["p999"],
    )


def wrk(
    url: str,
    answer_size: int,
    session: Session,
    core: int | None,
    *,
    connections: int,
    seconds: float,
    post: int = 0,
    pipelined: int = 1,
) -> Load:
    """Run wrk. It compares no bodies, so the bytes it read must be whole answers of the size known to be right."""
    whole = max(1, round(seconds))
    command = [need("wrk"), "-t1", f"-c{connections}", f"-d{whole}s", "--timeout", "30s"]
    command += ["-s", str(SOURCES / "report.lua"), url, "--", str(post), str(pipelined)]
    client_before, server_before = children_cpu(), session.cpu_seconds()
    with on_core(core):
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=whole + MARGIN_SECONDS
        )
    server_cpu = session.cpu_seconds() - server_before
    client_cpu = children_cpu() - client_before
    try:
        report = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        raise LoadError(f"wrk: {(done.stderr or done.stdout).strip()[-200:]}") from None
    check_wrk(report, answer_size, connections * pipelined)
    requests, size = int(report["requests"]), int(report["bytes"])
    return Load(requests, size, report["seconds"], client_cpu, server_cpu)


def check_wrk(report: dict[str, float], answer_size: int, under_way: int) -> None:
    errors = {name: report[name] for name in ("connect", "read", "write", "status", "timeout")}
    if any(errors.values()):
        raise LoadError(f"wrk counts errors: {errors}")
    if not report["requests"]:
        raise LoadError("wrk got no answer")
    least = report["requests"] * answer_size
    most = least + under_way * answer_size
    if not least <= report["bytes"] <= most:
        raise LoadError(
            f"wrk read {report['bytes']:.0f} bytes in {report['requests']:.0f} answers of {answer_size} bytes"
        )


def children_cpu() -> float:
    """CPU seconds of our children that have ended: of the client, as the server is still running."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class Strace:
    """Counts the system calls of a session between start() and stop()."""

    def __init__(self, session: Session, folder: Path) -> None:
        self.session = session
        self.summary = folder / "strace.txt"
        self.messages = folder / "strace.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        pids = self.session.pids()
        command = [need("strace"), "-c", "-f", "-o", str(self.summary)]
        for pid in pids:
            command += ["-p", str(pid)]
        with self.messages.open("wb") as messages:
            self.process = subprocess.Popen(command, stderr=messages)
        deadline = time.monotonic() + STRACE_ATTACH_SECONDS
        while not all(f"Process {pid} attached" in self.messages.read_text() for pid in pids):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise LoadError(f"strace: {self.messages.read_text().strip()[-200:]}")
            time.sleep(0.01)

    def stop(self) -> dict[str, int]:
        """{system call: how often}"""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        self.process.wait(STRACE_ATTACH_SECONDS)
        return parse_strace(self.summary.read_text())

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def parse_strace(text: str) -> dict[str, int]:
    """The table of `strace -c`: % time, seconds, usecs/call, calls, maybe errors, name."""
    calls = {}
    for line in text.splitlines():
        parts = line.split()
        if len(parts) >= 5 and parts[3].isdigit() and parts[-1] != "total":
            calls[parts[-1]] = int(parts[3])
    if not calls:
        raise LoadError("strace counted nothing")
    return calls
