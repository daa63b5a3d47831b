"""The parts of the documentation that are made of the program's own tables."""

from __future__ import annotations

import re
import subprocess
import sys

from pyasgi import _core
from pyasgi.flags import DAPHNE_DEFAULTS
from pyasgi.options import LIMITS, OPTIONS
from tests.support.programs import ROOT


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
    for row in (*LIMITS.values(), *OPTIONS.values()):
        shown = f"{row.default:g}" if isinstance(row.default, (int, float)) else str(row.default)
        assert shown != DAPHNE_DEFAULTS.get(row.name), row.name


def test_atoms_are_documented() -> None:
    text = (ROOT / "docs" / "logging.rst").read_text()
    table = set(re.findall(r"%\((.|\{Name\}i)\)s", text))
    for atom in table:
        _core.check_setting("access_log_format", f"%({atom})s")
    every = {chr(code) for code in range(0x21, 0x7F) if takes(f"%({chr(code)})s")}
    assert table == every | {"{Name}i"}


def takes(form: str) -> bool:
    try:
        _core.check_setting("access_log_format", form)
    except ValueError:
        return False
    return True
