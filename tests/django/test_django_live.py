"""channels' ChannelsLiveServerTestCase on cdaphne, in ``manage.py test`` of examples/devops."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.programs import ROOT

pytestmark = pytest.mark.timeout(300)
LIVE = "tests.apps.devops_live"


def run_tests(tmp_path: Path, *args: str, **environment: str) -> str:
    """Runs tests of the module with manage.py; what they said."""
    done = subprocess.run(
        [sys.executable, "manage.py", "test", "--no-color", "-v", "2", *args],
        cwd=ROOT / "examples" / "devops",
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DJANGO_SETTINGS_MODULE": "tests.apps.devops_live_settings",
            "DEVOPS_DB": str(tmp_path / "db.sqlite3"),
            "DEVOPS_PAUSE": "0.05",
            "TMPDIR": str(tmp_path),  # the test database is there
            **environment,
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_the_test_database_is_shared(tmp_path: Path, method: str) -> None:
    said = run_tests(tmp_path, f"{LIVE}.First", f"{LIVE}.Second", START_METHOD=method)
    assert "Ran 4 tests" in said


def test_parallel_runs_have_a_server_and_a_database_each(tmp_path: Path) -> None:
    labels = [f"{LIVE}.{name}" for name in ("First", "Second", "Third")]
    said = run_tests(tmp_path, "--parallel", "3", *labels, START_METHOD="fork")
    assert "Ran 6 tests" in said
    assert "Cloning test database for alias 'default'" in said


@pytest.mark.browser
def test_chromium(tmp_path: Path) -> None:
    said = run_tests(tmp_path, f"{LIVE}.UnchangedBrowser", f"{LIVE}.NamedBrowser")
    assert "Ran 2 tests" in said
