"""The documentation says what the program does."""

from __future__ import annotations

import re
import subprocess
import sys

from pyasgi import _core
from pyasgi.cli import CommandLineInterface
from pyasgi.flags import DAPHNE_DEFAULTS
from tests.conftest import ROOT


def test_flags_are_documented() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/flags_rst.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert (ROOT / "docs" / "flags.rst").read_text() == done.stdout, "see scripts/flags_rst.py"


def test_only_defaults_that_differ_from_daphnes_say_so() -> None:
    for name, _, default, _, _ in _core.limits():
        assert f"{default:g}" != DAPHNE_DEFAULTS.get(name), name


def test_atoms_are_documented() -> None:
    text = (ROOT / "docs" / "deploy.rst").read_text()
    table = set(re.findall(r"%\((.|\{Name\}i)\)s", text))
    for atom in table:
        _core.check_access_format(f"%({atom})s")
    every = {chr(code) for code in range(0x21, 0x7F) if takes(f"%({chr(code)})s")}
    assert table == every | {"{Name}i"}


def takes(form: str) -> bool:
    try:
        _core.check_access_format(form)
    except ValueError:
        return False
    return True


def test_flags_in_the_text_exist() -> None:
    actions = CommandLineInterface().parser.actions()
    known = {flag for action in actions for flag in action.option_strings}
    text = (ROOT / "docs" / "deploy.rst").read_text().partition("Flags of other servers")[0]
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9_-]*[a-z0-9]", text)) <= known


def test_files_in_the_text_exist() -> None:
    text = (ROOT / "docs" / "deploy.rst").read_text()
    for path in (ROOT / "examples" / "deploy").iterdir():
        assert path.name in text or path.suffix in (".socket",), path.name
