"""README.rst as PyPI shows it: links and pictures of the repository with the address of the project before them.

PyPI knows no files beside README, so what is relative there would lead nowhere.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path


def absolute(text: str, home: str) -> str:
    """Links lead to a page about the file, pictures to the file itself; GitHub has both."""
    text = re.sub(r"(`[^`<>]+ <)(?!\w+:)([^<>]+>`_)", rf"\g<1>{home}/blob/main/\g<2>", text)
    return re.sub(r"(\.\. image:: )(?!\w+:)", rf"\g<1>{home}/raw/main/", text)


def text(root: Path) -> str:
    with (root / "pyproject.toml").open("rb") as file:
        home = tomllib.load(file)["project"]["urls"]["Homepage"]
    return absolute((root / "README.rst").read_text(encoding="utf-8"), home)
