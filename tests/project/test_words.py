"""Numbers and articles in messages, and the steps of ``make run``."""

from __future__ import annotations

import re
import subprocess

from pyasgi.words import a, count
from tests.support.programs import ROOT

STEP = str(ROOT / "scripts" / "step.sh")


def test_plurals() -> None:
    assert [count(number, "request") for number in (0, 1, 2)] == [
        "0 requests",
        "1 request",
        "2 requests",
    ]


def test_articles() -> None:
    assert [a(name) for name in ("int", "str", "EventLoop", "Loop")] == [
        "an int",
        "a str",
        "an EventLoop",
        "a Loop",
    ]


def test_no_message_counts_by_itself() -> None:
    """ "%d requests" says "1 requests"."""
    found = [
        f"{path.relative_to(ROOT)}: {match}"
        for path in (ROOT / "pyasgi").rglob("*.py")
        for match in re.findall(r"[^\n]*[\"' ]%d [a-z]+s\b[^\n]*", path.read_text())
    ]
    assert found == []


def test_a_step_tells_what_it_took_and_how_it_ended() -> None:
    done = subprocess.run([STEP, "sleep a bit", "sleep", "0.1"], capture_output=True, text=True)
    assert done.returncode == 0
    assert re.fullmatch(r"-- sleep a bit\n   sleep a bit: done in \d+\.\d s\n", done.stdout), (
        done.stdout
    )
    done = subprocess.run([STEP, "fail", "sh", "-c", "exit 3"], capture_output=True, text=True)
    assert done.returncode == 3
    assert "fail: failed with status 3 in 0." in done.stdout


def test_make_run_tells_its_steps() -> None:
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", "run"], cwd=ROOT, capture_output=True, text=True
    )
    steps = re.findall(r'step\.sh "([^"]*)"', done.stdout)
    assert [step.split()[0] for step in steps] == ["make", "install", "build", "migrate", "make"]
    assert "serve; CONTROL-C stops it" in done.stdout
