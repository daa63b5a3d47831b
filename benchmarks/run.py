"""The command line of the suite, and the order of its measurements."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from . import clients, machine, peers, readme, tables
from .clients import LoadError, Unsupported
from .processes import choose_cores
from .results import OURS, Report, Series
from .rows import ROWS, Bench, Row
from .servers import APPS, PEERS, SERVERS, WORK, Server, clean_environment

QUICK_PEERS = ("daphne", "uvicorn", "granian")
FAILED_BEFORE = "left out, as it failed before:"
ROUNDS = 3
IMPORT = (
    "import json, pyasgi, pyasgi._core as core;"
    "version = f\"{pyasgi.__version__} with OpenSSL {core.versions()['OpenSSL']}\";"
    "print(json.dumps([version, hasattr(core, 'debug_live'), core.__file__]))"
)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="key rows, three peers, short: about seven minutes")
    add("--only", metavar="ROW[,ROW]", help="these rows; --list names them")
    add("--servers", metavar="A,B", help="these servers")
    add("--rounds", type=int, metavar="N", help=f"{ROUNDS} unless given")
    add("--seconds", type=float, metavar="S", help="of counted load in each measurement (1.5; 1)")
    add("--cores", metavar="S,C", help="core of the server, core of the clients")
    add("--output", type=Path, default=WORK, metavar="DIR", help="results.json and the plots")
    add("--list", action="store_true", help="list rows and servers")
    add("--debug-build", action="store_true", help="measure a CD_DEBUG build all the same")
    add(
        "--write-readme",
        type=Path,
        metavar="JSON",
        help="put these results into README.rst and docs",
    )
    return parser


def names(flag: str, text: str | None, known: Sequence[str]) -> list[str]:
    """The parts of a flag's value; ends the program when one is unknown."""
    parts = [part for part in (text or "").split(",") if part]
    for part in parts:
        if part not in known:
            raise SystemExit(f"{flag}: no {part!r}; there are {', '.join(known)}")
    return parts


def settings(options: argparse.Namespace) -> tuple[Bench, int]:
    """The bench and the number of rounds."""
    bench = Bench(choose_cores(options.cores))
    if options.quick:
        bench = replace(bench, seconds=1.0, warmup=0.3, idle=2000, starts=1, traced=5000)
    if options.seconds is not None:
        if options.seconds <= 0:
            raise SystemExit("--seconds takes a number above 0")
        bench = replace(bench, seconds=options.seconds)
    rounds: int = ROUNDS if options.rounds is None else options.rounds
    if rounds < 1:
        raise SystemExit("--rounds takes a number above 0")
    return bench, rounds


def chosen_rows(options: argparse.Namespace) -> list[Row]:
    only = names("--only", options.only, [row.key for row in ROWS])
    return [
        row for row in ROWS if row.key in only or (not only and (row.quick or not options.quick))
    ]


def chosen_servers(options: argparse.Namespace) -> list[str]:
    asked = names("--servers", options.servers, list(SERVERS))
    quick = [OURS, *QUICK_PEERS, "nginx"]
    return asked or (quick if options.quick else [OURS, *PEERS, "nginx"])


def taking_part(row: Row, chosen: Sequence[str]) -> list[Server]:
    """A row compares its own two servers where it has such; nginx only where a row needs no application."""
    if row.ours != OURS:
        return [SERVERS[name] for name in (row.ours, *row.peers)] if OURS in chosen else []
    servers = [SERVERS[name] for name in chosen if row.needs in SERVERS[name].does]
    return [server for server in servers if row.static or not server.static]


def build_under_test(debug_allowed: bool) -> str:
    """The version of cdaphne that the interpreter has; ends the program when there is none or a debug build."""
    command = [sys.executable, "-c", IMPORT]
    done = subprocess.run(
        command, cwd=APPS, env=clean_environment(), capture_output=True, text=True
    )
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise SystemExit(f"{sys.executable} cannot import cdaphne ({reason}): run `make bench`")
    version, debug, where = json.loads(done.stdout)
    if debug and not debug_allowed:
        raise SystemExit(
            f"{where} is a CD_DEBUG build: run `make bench`, or give --debug-build to measure it"
        )
    return f"{version}{' (debug build)' if debug else ''}"


def measure_once(report: Report, row: Row, bench: Bench, server: Server) -> str:
    """One measurement into the report; the line that tells of it."""
    results = [report.result(figure, row.peers, row.ours) for figure in row.figures]
    slots = [result.series.setdefault(server.name, Series()) for result in results]
    if slots[0].failure:
        return f"{FAILED_BEFORE} {slots[0].failure}"
    if slots[0].unsupported:
        return f"{tables.NONE} {slots[0].unsupported}"
    try:
        measured = row.measure(bench, server)
    except Unsupported as reason:
        for slot in slots:
            slot.unsupported = str(reason)
        return f"{tables.NONE} {reason}"
    except (LoadError, OSError, ValueError, subprocess.SubprocessError) as error:
        for slot in slots:
            slot.failure = str(error) or repr(error)
        return f"FAILED {error}"
    parts = []
    for figure, slot in zip(row.figures, slots, strict=True):
        sample = measured[figure.key]
        slot.samples.append(sample)
        share = "" if sample.client is None else f", client {sample.client:.0%}"
        note = f", {sample.note}" if sample.note else ""
        parts.append(f"{tables.number(sample.value)} {figure.unit}{share}{note}")
    return "; ".join(dict.fromkeys(parts))


def turn(servers: Sequence[Server], number: int) -> list[Server]:
    """Another one begins in each round, so that none is always the first after a change of rows."""
    first = number % len(servers)
    return [*servers[first:], *servers[:first]]


def measure_all(
    report: Report,
    rows: Sequence[Row],
    chosen: Sequence[str],
    bench: Bench,
    rounds: int,
    json_path: Path,
) -> None:
    for row in rows:
        servers = taking_part(row, chosen)
        if not servers:
            continue
        for number in range(min(rounds, row.rounds)):
            for server in turn(servers, number):
                line = measure_once(report, row, bench, server)
                print(f"{row.key:18} {number + 1} {server.name:12} {line}", flush=True)
        report.save(json_path)


def print_list() -> None:
    for row in ROWS:
        quick = "quick" if row.quick else ""
        print(f"{row.key:18} {quick:6} {'; '.join(figure.title for figure in row.figures)}")
    print(f"servers: {', '.join(SERVERS)}")


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if options.list:
        print_list()
        return 0
    if options.write_readme:
        readme.write(options.write_readme)
        return 0
    bench, rounds = settings(options)
    rows, chosen = chosen_rows(options), chosen_servers(options)
    for tool in ("wrk", "h2load", "nghttp", "openssl", "strace", "nginx"):
        clients.need(tool)
    peers.ensure()
    version = build_under_test(options.debug_build) if OURS in chosen else "not measured"
    report = Report(machine.facts(bench.cores, version), machine.method(bench, rounds))
    for name, fact in report.facts.items():
        print(f"{name:12} {fact}")
    started = time.monotonic()
    json_path = options.output / "results.json"
    measure_all(report, rows, chosen, bench, rounds, json_path)
    readme.write_plots(report, options.output)
    print(f"\n{tables.text(report)}\n\n" + "\n".join(report.method))
    print(f"{time.monotonic() - started:.0f} s; {json_path}")
    return 1 if report.failures else 0
