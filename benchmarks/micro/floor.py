"""What the kernel alone needs for the sends of two rows: the limit of any server that sends each piece by itself.

    python -m benchmarks.micro.floor [--seconds 2]

A C program does nothing but send(), on the server's core, to connections that another process reads on the client's
(load/floor.c). Beside a row's messages per second of the same machine it says how much of the row is left to a server.
"""

from __future__ import annotations

import argparse
import json
import subprocess

from ..clients import program
from ..processes import choose_cores, on_core

WORK = (
    ("ws-broadcast-1000: 66 bytes to 1,000 connections", 1000, 66),
    ("large: 100 KB to 32 connections", 32, 100 * 1024),
)


def measure(connections: int, size: int, seconds: float) -> dict[str, float]:
    command = [str(program("floor")), str(connections), str(size), str(seconds)]
    with on_core(choose_cores().server):
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=2.0)
    seconds = parser.parse_args().seconds
    for title, connections, size in WORK:
        found = measure(connections, size, seconds)
        each = 1e6 / found["per_cpu"]
        print(f"{title}: {found['per_second']:,.0f} sends/s, {each:.2f} us of CPU time each")


if __name__ == "__main__":
    main()
