"""Programs that tests run: where, and in which environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# The environment of programs of others, which hang or stumble with the library of ASan in front.
FOREIGN = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}


def run_go(arguments: Sequence[str], cwd: Path = ROOT, **environment: str) -> None:
    """Runs the go command, which fetches modules from its proxy; skips the test where that is not to be had."""
    # A distribution's, first in PATH, may be too old.
    go = shutil.which("go", path=f"/usr/local/go/bin:{FOREIGN.get('PATH', '')}")
    if go is None:
        pytest.skip(f"there is no go for: go {' '.join(arguments)}")
    done = subprocess.run(
        [go, *arguments],
        cwd=cwd,
        env={**FOREIGN, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode != 0:
        pytest.skip(f"go {' '.join(arguments)}: {done.stderr[-200:]}")


def python(code: str, *path: Path | str, program: str = sys.executable) -> str:
    """Runs code in a fresh process with these folders first on sys.path, and returns what it printed."""
    done = subprocess.run(
        [program, "-W", "error", "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*path, ROOT)))},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
