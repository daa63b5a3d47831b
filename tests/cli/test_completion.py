"""Completion scripts in the real shells, each asked as its user would ask it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from pyasgi.cli import CommandLineInterface
from pyasgi.completion import script
from pyasgi.flags import SHELLS
from tests.support.programs import ROOT

ENVIRONMENT = {"PATH": os.environ.get("PATH", "/usr/bin:/bin")}


def shell(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is not installed: apt-get install {name} (scripts/packages.txt)")
    return found


def all_flags() -> set[str]:
    actions = CommandLineInterface().parser.actions()
    return {flag for action in actions for flag in action.option_strings}


def printed(name: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pyasgi", "--completion", name],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


def bash(folder: Path, line: str, last: str) -> set[str]:
    """What bash offers for the last word of line; words are split as readline does, at = too."""
    words = [part for word in line.split(" ") for part in split_at_equals(word)]
    quoted = " ".join(f"'{word}'" for word in words)
    program = f"""source completion.bash
COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}
_cdaphne 2>&1
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    (folder / "completion.bash").write_text(printed("bash"))
    return run([shell("bash"), "--norc", "-c", program], folder)


def split_at_equals(word: str) -> list[str]:
    name, equals, value = word.partition("=")
    return [name, equals, value] if equals else [word]


def fish(folder: Path, line: str, last: str) -> set[str]:
    (folder / "completion.fish").write_text(printed("fish"))
    program = f"source completion.fish; complete -C '{line}'"
    found = run([shell("fish"), "--no-config", "-c", program], folder)
    return {
        entry.split("\t")[0].partition("=")[2] if "=" in line else entry.split("\t")[0]
        for entry in found
    }


def zsh(folder: Path, line: str, last: str) -> set[str]:
    """zsh completes at a terminal only: it gets one, and the words of what it writes after a tab are the offer."""
    (folder / "_cdaphne").write_text(printed("zsh"))
    ours, theirs = pty.openpty()
    # Wide and high enough that no list is cut or asked about.
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 500, 400, 0, 0))
    process = subprocess.Popen(
        [shell("zsh"), "-f", "-i"],
        cwd=folder,
        env={**ENVIRONMENT, "HOME": str(folder), "TERM": "dumb"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        # The marks are typed in a form that the echo does not have.
        os.write(
            ours, b"LISTMAX=9999; setopt NO_AUTO_MENU; zstyle ':completion:*' list-separator '@'\n"
        )
        os.write(
            ours,
            b"fpath=($PWD $fpath); autoload -Uz compinit; compinit -u -D; PS1=REA''DY\n",
        )
        read_until(ours, b"READY")
        # With input waiting zsh would take the tab for itself: nothing is typed until the list is there.
        os.write(ours, line.encode())
        read_until(ours, line.encode())
        os.write(ours, b"\t\t")
        text = read_until(ours, last.encode()) + read_until_quiet(ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    # The rest of a word that was completed in its place stands behind what was typed.
    return {line.split(" ")[-1] + last} | set(
        re.findall(r"[\w.-]+", re.sub(r"\x1b\[[?\d]*\w", "", text))
    ) - {"cdaphne", "READYcdaphne"}


def read_until(descriptor: int, mark: bytes, seconds: float = 20) -> str:
    """What a terminal shows up to the mark."""
    text, end = b"", time.monotonic() + seconds
    while mark not in text:
        ready, _, _ = select.select([descriptor], [], [], max(0, end - time.monotonic()))
        if not ready:
            pytest.fail(f"no {mark!r} in {seconds} s: {text!r}")
        text += os.read(descriptor, 65536)
    return text.decode(errors="replace")


def read_until_quiet(descriptor: int) -> str:
    text = b""
    while select.select([descriptor], [], [], 0.5)[0]:
        text += os.read(descriptor, 65536)
    return text.decode(errors="replace")


def run(command: list[str], folder: Path) -> set[str]:
    done = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=50,
        env={**ENVIRONMENT, "HOME": str(folder), "TERM": "dumb"},
    )
    assert done.stderr == "", done.stderr
    return {line.rstrip() for line in done.stdout.splitlines()} - {""}


ASK = {"bash": bash, "zsh": zsh, "fish": fish}


@pytest.mark.parametrize("name", SHELLS)
def test_flags(name: str, tmp_path: Path) -> None:
    offered = ASK[name](tmp_path, "cdaphne --", "--write-timeout")
    assert {flag for flag in all_flags() if flag.startswith("--")} <= offered
    offered = ASK[name](tmp_path, "cdaphne --access-log-f", "ormat")
    assert "--access-log-format" in offered
    assert "--bind" not in offered


@pytest.mark.parametrize("name", SHELLS)
def test_values(name: str, tmp_path: Path) -> None:
    own = {"--lifespan"} if name == "zsh" else set()  # what was typed is echoed
    assert ASK[name](tmp_path, "cdaphne --lifespan ", "on") - own == {"on", "off", "auto"}
    assert "json" in ASK[name](tmp_path, "cdaphne --access-log-format j", "son")
    assert {"0", "1", "2", "3"} <= ASK[name](tmp_path, "cdaphne -v ", "3")


@pytest.mark.parametrize("name", ["bash", "fish"])
def test_values_behind_an_equals_sign(name: str, tmp_path: Path) -> None:
    assert ASK[name](tmp_path, "cdaphne --lifespan=o", "on") == {"on", "off"}
    assert ASK[name](tmp_path, "cdaphne --lifespan=", "on") == {"on", "off", "auto"}


@pytest.mark.parametrize("name", SHELLS)
def test_files(name: str, tmp_path: Path) -> None:
    (tmp_path / "site.toml").touch()
    assert "site.toml" in ASK[name](tmp_path, "cdaphne --config si", "te.toml")


@pytest.mark.parametrize("name", SHELLS)
def test_syntax(name: str, tmp_path: Path) -> None:
    path = tmp_path / "script"
    path.write_text(script(name, CommandLineInterface().parser))
    assert run([shell(name), "-n", str(path)], tmp_path) == set()


def test_needs_no_application_and_no_configuration(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("broken")
    done = subprocess.run(
        [sys.executable, "-m", "pyasgi", "--completion", "tcsh"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    assert done.returncode == 2
    assert "invalid choice: 'tcsh'" in done.stderr
