"""The site as `make docs` builds it."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

import pytest

from tests.support.programs import ROOT


@functools.cache
def build() -> Path:
    """The folder with the pages; what Sphinx warns of fails the test."""
    done = subprocess.run(
        ["make", "--no-print-directory", "docs"], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.fail(f"make docs: status {done.returncode}\n{done.stdout}{done.stderr}")
    return ROOT / "build" / "docs" / "html"
