"""The clients: wrk, h2load, strace and those of benchmarks/load; on the client's core, and they check what they get."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .processes import Session, on_core

HERE = Path(__file__).resolve().parent
SOURCES = HERE / "load"
PROGRAMS = HERE.parent / "build" / "bench" / "bin"
CFLAGS = ("-std=c11", "-O2", "-g", "-Wall", "-Wextra", "-Wshadow", "-Wvla", "-Wformat=2")
LIBRARIES = ("-lz", "-lm", "-ldl", "-pthread")
# Above this share of its core the client is what limits the figure.
CLIENT_LIMIT = 0.95
STRACE_ATTACH_SECONDS = 10.0
MARGIN_SECONDS = 120.0
UNSUPPORTED = "unsupported: "  # load/net.h


class LoadError(Exception):
    """A wrong answer, an early close, a server that does not start: there is no figure."""


class Unsupported(LoadError):
    """The server does not do what the row is about: a dash, and no failure."""


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


def own_openssl() -> Path | None:
    """The OpenSSL that `make bench` has built into the server: the client is less of a limit with it, too."""
    named = os.environ.get("CD_LIBRARIES", "system")
    if named in ("", "system"):
        return None
    # An older one may lie beside it.
    folders = Path(named).glob("openssl-*/include")
    return max(folders, key=lambda folder: folder.stat().st_mtime).parent


def openssl_flags() -> list[str]:
    if (own := own_openssl()) is None:
        return ["-lssl", "-lcrypto"]
    return [f"-I{own / 'include'}", str(own / "lib/libssl.a"), str(own / "lib/libcrypto.a")]


def openssl_version() -> str:
    """Of the clients."""
    if (own := own_openssl()) is None:
        told = subprocess.run(["openssl", "version"], capture_output=True, text=True).stdout
        return told.split()[1]
    header = (own / "include/openssl/opensslv.h").read_text()
    found = re.search(r'OPENSSL_VERSION_STR "([^"]+)"', header)
    return found[1] if found else "unknown"


def program(name: str) -> Path:
    """The client of that name, compiled when its sources are newer."""
    own = own_openssl()
    folder = PROGRAMS / own.name if own else PROGRAMS
    built = folder / name
    sources = [SOURCES / f"{name}.c", SOURCES / "net.c"]
    newest = max(path.stat().st_mtime for path in (*sources, SOURCES / "net.h"))
    if not built.exists() or built.stat().st_mtime < newest:
        folder.mkdir(parents=True, exist_ok=True)
        compiler = os.environ.get("CC", "cc")
        # Under another name first: another run may be using the old one.
        fresh = built.with_suffix(f".{os.getpid()}")
        libraries = [*openssl_flags(), *LIBRARIES]
        command = [compiler, *CFLAGS, *map(str, sources), *libraries, "-o", str(fresh)]
        subprocess.run(command, check=True)
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
        text = str(report["error"])
        if text.startswith(UNSUPPORTED):
            raise Unsupported(text.removeprefix(UNSUPPORTED))
        raise LoadError(text)
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
    done, client_cpu, server_cpu = finish(command, session, core, whole)
    try:
        report = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        raise LoadError(f"wrk: {(done.stderr or done.stdout).strip()[-200:]}") from None
    check_wrk(report, answer_size, connections * pipelined)
    requests, size = int(report["requests"]), int(report["bytes"])
    return Load(requests, size, report["seconds"], client_cpu, server_cpu)


def finish(
    command: Sequence[str], session: Session, core: int | None, seconds: float
) -> tuple[subprocess.CompletedProcess[str], float, float]:
    """Run a client to its end: what it said, its CPU seconds, the server's meanwhile."""
    client_before, server_before = children_cpu(), session.cpu_seconds()
    with on_core(core):
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds + MARGIN_SECONDS
        )
    return done, children_cpu() - client_before, session.cpu_seconds() - server_before


def in_words(report: Mapping[str, float]) -> str:
    """A client's counters for a reader: "done 128, failed 2"; those of zero are left out."""
    return ", ".join(f"{name} {value:,.10g}" for name, value in report.items() if value)


def check_wrk(report: dict[str, float], answer_size: int, under_way: int) -> None:
    errors = {name: report[name] for name in ("connect", "read", "write", "status", "timeout")}
    if any(errors.values()):
        raise LoadError(f"wrk counts errors: {in_words(errors)}")
    if not report["requests"]:
        raise LoadError("wrk got no answer")
    least = report["requests"] * answer_size
    most = least + under_way * answer_size
    if not least <= report["bytes"] <= most:
        raise LoadError(
            f"wrk read {report['bytes']:.0f} bytes in {report['requests']:.0f} answers of {answer_size} bytes"
        )


def h2load(
    url: str,
    body_size: int,
    session: Session,
    core: int | None,
    *,
    connections: int,
    streams: int,
    seconds: float,
) -> Load:
    """Run h2load. It compares no bodies either: their bytes must be those of the answers."""
    command = [
        need("h2load"),
        "-t1",
        f"-c{connections}",
        f"-m{streams}",
        f"-D{seconds * 1e3:.0f}ms",
        url,
    ]
    done, client_cpu, server_cpu = finish(command, session, core, seconds)
    report = parse_h2load(done.stdout or done.stderr)
    check_h2load(report, body_size, connections * streams)
    return Load(int(report["done"]), int(report["data"]), report["seconds"], client_cpu, server_cpu)


H2LOAD = {
    "seconds": r"^finished in ([\d.]+)(us|ms|s)\b",
    "done": r"^requests: .* (\d+) done",
    "succeeded": r"^requests: .* (\d+) succeeded",
    "failed": r"^requests: .* (\d+) failed",
    "errored": r"^requests: .* (\d+) errored",
    "timeout": r"^requests: .* (\d+) timeout",
    "good": r"^status codes: (\d+) 2xx",
    "data": r"^traffic: .* \((\d+)\) data",
}
UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


def parse_h2load(text: str) -> dict[str, float]:
    """The numbers of its summary."""
    said = (text.strip().splitlines() or ["nothing"])[-1]
    if "Application protocol: h2" not in text:
        raise LoadError(f"h2load did not speak h2; it says: {said}")
    report = {}
    for name, pattern in H2LOAD.items():
        found = re.search(pattern, text, re.MULTILINE)
        if found is None:
            raise LoadError(f"h2load does not tell {name}; it says: {said}")
        report[name] = float(found[1]) * (UNITS[found[2]] if found.lastindex == 2 else 1)
    return report


def check_h2load(report: dict[str, float], body_size: int, under_way: int) -> None:
    if any(report[name] for name in ("failed", "errored", "timeout")):
        raise LoadError(f"h2load counts errors: {in_words(report)}")
    if not report["done"]:
        raise LoadError("h2load got no answer")
    if not report["done"] == report["succeeded"] <= report["good"] <= report["done"] + under_way:
        raise LoadError(f"h2load got answers that are not 2xx: {in_words(report)}")
    least = report["done"] * body_size
    if not least <= report["data"] <= least + under_way * body_size:
        raise LoadError(
            f"h2load read {report['data']:.0f} bytes in {report['done']:.0f} bodies of {body_size} bytes"
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
