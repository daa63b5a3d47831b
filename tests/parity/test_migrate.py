"""examples/migrate.sh, the proof of the drop-in: a project on the real daphne, one word, the project on cdaphne."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.programs import ROOT


@pytest.mark.browser
@pytest.mark.timeout(600)
def test_a_project_changes_one_word(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(ROOT / "examples" / "migrate.sh"), str(tmp_path)],
        env={**os.environ, "PYTHON": sys.executable},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=580,
        check=False,
    )
    said = done.stdout
    assert done.returncode == 0, said
    before, after = said.split("==== cdaphne in place of daphne, and one word")
    assert re.search(r"^daphne 4\.", before, re.MULTILINE)
    assert re.findall(r"^[<>] .*", after, re.MULTILINE) == [
        '< INSTALLED_APPS = ["daphne", "chat", *INSTALLED_APPS]',
        '> INSTALLED_APPS = ["pyasgi", "chat", *INSTALLED_APPS]',
    ]
    for part in (before, after):
        assert re.search(r"Ran 4 tests in .*\n\nOK$", part, re.MULTILINE)
    assert after.count("two tabs talked through http://") == 2
    assert len(re.findall(r"^WebSocket CONNECT /ws/chat/lobby/", after, re.MULTILINE)) == 2
    assert len(re.findall(r'"WSCONNECT /ws/chat/lobby/"', after)) == 2
