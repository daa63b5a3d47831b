"""What `make pgo` drives the instrumented extension with: a little of each work of the suite, and of the loop's.

    python -m benchmarks.train

Every path that a row measures is walked, so that none is taken for cold; how often says little, because it is the
branches within a function that count. A server that ends normally leaves its counters beside the objects.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from .clients import LoadError
from .processes import choose_cores
from .rows import ROWS, Bench
from .servers import SERVERS

TRAINED = (
    "plaintext json post large file stream upload pipelined events connect-http ws-echo-32 ws-echo-4k ws-echo-1m "
    "ws-deflate-4k ws-broadcast-32 ws-broadcast-1000 connect-ws tls-plaintext tls-full tls-resumed tls-upload tls-file "
    "http2 http2-large"
).split()
MICRO = Path(__file__).with_name("micro")


def train_loop() -> None:
    """By path: from here -m would import the extension that is in place."""
    command = [sys.executable, str(MICRO / "loop.py"), "--rounds", "1", "--seconds", "0.02"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def main() -> int:
    train_loop()
    bench = Bench(choose_cores(), seconds=0.4, warmup=0.1, many=200, upload=64 * 1024 * 1024)
    failed = 0
    for row in ROWS:
        if row.key not in TRAINED:
            continue
        try:
            row.measure(bench, SERVERS["cdaphne"])
        except LoadError as error:
            failed += 1
            print(f"{row.key}: {error}", file=sys.stderr)
    print(f"trained with {len(TRAINED) - failed} of {len(TRAINED)} kinds of work")
    return 1 if failed == len(TRAINED) else 0


if __name__ == "__main__":
    sys.exit(main())
