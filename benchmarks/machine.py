"""The facts that a figure means nothing without: machine, versions, method."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

from . import clients, peers
from .processes import Cores
from .rows import Bench

ROOT = Path(__file__).resolve().parent.parent


def first_line(*command: str) -> str:
    """The first line that a command prints, on either stream."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    except FileNotFoundError:
        return "missing"
    text = (done.stdout + done.stderr).strip()
    return text.splitlines()[0] if text else ""


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def memory() -> str:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return f"{pages / 2**30:.0f} GB"


def system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return platform.system()


def commit() -> str:
    """Of the tree, with a + when it has changes: what is installed may be older."""
    found = first_line("git", "describe", "--always", "--dirty=+", "--abbrev=10")
    return "unknown" if found.startswith("fatal") else found


def facts(cores: Cores, version: str) -> dict[str, str]:
    installed = peers.versions()
    servers = ("daphne", "uvicorn", "granian", "hypercorn", "gunicorn")
    libraries = ("uvloop", "httptools", "gunicorn_h1c", "websockets", "django", "channels")
    pinned = (
        f"server on core {cores.server}, client on core {cores.client}"
        if cores.server is not None
        else "one core for all: server and client share it"
    )
    return {
        "processor": f"{processor()}, {os.cpu_count()} cores, {memory()}",
        "system": f"{system()}, Linux {platform.release()}",
        "load before": f"{os.getloadavg()[0]:.2f}",
        "pinned": pinned,
        "python": f"{platform.python_implementation()} {sys.version.split()[0]}",
        "cdaphne": f"{version}, commit {commit()}",
        **{name: installed.get(name, "missing") for name in servers},
        "client TLS": f"OpenSSL {clients.openssl_version()}",
        "nginx": first_line("nginx", "-v").rpartition("/")[2],
        "libraries": ", ".join(f"{name} {installed.get(name, '?')}" for name in libraries),
        "wrk": first_line("wrk", "-v").partition(" Copyright")[0].removeprefix("wrk "),
    }


def method(bench: Bench, rounds: int) -> list[str]:
    return [
        f"One worker each, no access log, each in its best configuration; {rounds} round(s), the servers in turn "
        "within each round, every measurement with a freshly started server.",
        f"{bench.seconds:g} s of counted load after {bench.warmup:g} s of warming up; a figure is the median of its "
        "rounds, a ratio the median of the ratios of each round.",
        "Per CPU second: by user and system time of all processes of the server; it holds where the client's core was "
        "the limit (marked c).",
        "Every answer is checked; a wrong or missing one voids the figure.",
    ]
