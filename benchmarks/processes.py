"""A started server: all processes of its session, their CPU time and memory, and their end."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
STOP_SECONDS = 4.0


@dataclass(frozen=True)
class Cores:
    """The core of the server and that of the clients; both None on a machine with one."""

    server: int | None
    client: int | None


def choose_cores(text: str | None = None) -> Cores:
    """The last and the first core that we may use, or those of a flag like "1,0"."""
    allowed = sorted(os.sched_getaffinity(0))
    if text is not None:
        try:
            server, client = (int(part) for part in text.split(","))
        except ValueError:
            raise SystemExit(
                f"--cores takes two numbers like 1,0 (server, client), not {text!r}"
            ) from None
        if not {server, client} <= set(allowed):
            raise SystemExit(f"--cores {text}: this process may use {allowed}")
        return Cores(server, client)
    return Cores(allowed[-1], allowed[0]) if len(allowed) > 1 else Cores(None, None)


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """What is started within runs on that core."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def stat_fields(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state on; empty when the process has gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return text[text.rindex(")") + 2 :].split()


def kilobytes(path: str, name: str) -> int:
    """A line "Name:  123 kB" of a file below /proc; 0 when the process has gone."""
    with suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(path).read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1])
    return 0


class Session:
    """A process that was started in a session of its own, with its descendants."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def pids(self) -> list[int]:
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                fields = stat_fields(int(entry))
                if fields and int(fields[3]) == self.process.pid and fields[0] != "Z":
                    found.append(int(entry))
        return found

    def cpu_seconds(self) -> float:
        """User and system time of all processes, in steps of a clock tick (10 ms)."""
        fields = [stat_fields(pid) for pid in self.pids()]
        return sum(int(each[11]) + int(each[12]) for each in fields if each) / TICKS

    def memory_kb(self) -> int:
        """Proportional set size: memory that processes share counts once."""
        return sum(kilobytes(f"/proc/{pid}/smaps_rollup", "Pss") for pid in self.pids())

    def reset_peak(self) -> int:
        """Forget the highest resident size so far; the present one in KB."""
        for pid in self.pids():
            Path(f"/proc/{pid}/clear_refs").write_text("5")
        return sum(kilobytes(f"/proc/{pid}/status", "VmRSS") for pid in self.pids())

    def peak_kb(self) -> int:
        return sum(kilobytes(f"/proc/{pid}/status", "VmHWM") for pid in self.pids())

    def stop(self) -> None:
        """SIGTERM to the first process, SIGKILL to what is left of the session after that."""
        if self.process.poll() is None:
            self.process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        while (left := self.left()) and time.monotonic() < deadline:
            time.sleep(0.01)
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(10)

    def left(self) -> list[int]:
        self.process.poll()
        return self.pids()
