"""Code blocks of the documentation, and the commands in them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from tests.support.programs import ROOT

# parity.rst and flags.rst are generated, and have no blocks.
PAGES = sorted(
    path
    for path in [
        *ROOT.glob("*.rst"),
        *(ROOT / "docs").rglob("*.rst"),
        ROOT / "benchmarks" / "README.rst",
    ]
)
INTRODUCES = re.compile(r"(?P<indent> *)(?:\.\. code-block:: *(?P<language>\w*)|.*(?<!:)::)$")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path) -> Iterator[str]:
    """What stands indented behind "::" or a code-block, without its indentation."""
    lines = path.read_text().split("\n")
    for number, line in enumerate(lines):
        found = INTRODUCES.match(line)
        if found is None or (line.lstrip().startswith("..") and "code-block" not in line):
            continue
        depth = len(found["indent"])
        body: list[str] = []
        for following in lines[number + 1 :]:
            if following.strip() and len(following) - len(following.lstrip()) <= depth:
                break
            body.append(following)
        yield textwrap.dedent("\n".join(body)).strip("\n")


def commands(path: Path, *programs: str) -> list[str]:
    """Lines of blocks that run one of these programs, without comments and settings of the environment."""
    found = []
    for block in blocks(path):
        for line in block.replace("\\\n", " ").split("\n"):
            bare = re.sub(r"\s+#.*| {4,}\S.*", "", line.strip().removeprefix("$ "))
            bare = re.sub(r"^(?:[A-Z_]+=\S+ +)+", "", bare)
            if bare.split(" ")[0] in programs:
                found.append(bare)
    return found


def literals(path: Path, program: str) -> list[str]:
    """Inline literals that begin with this word and have another one."""
    text = " ".join(path.read_text().split())
    return re.findall(rf"``({program} [^`]+)``", text)
