"""Every command that the documentation shows works, as far as that can be seen without running it."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest

from pyasgi.cli import CommandLineInterface
from pyasgi.endpoints import parse
from tests.docs.blocks import PAGES, blocks, commands, literals, name
from tests.support.programs import ROOT

# How sentences shorten a command; "..." stands for what the reader has.
SHORTENED = re.compile(r"\.\.\.|[A-Z]{4,}|Dockerfile")
# Flags of manage.py, of pip and of the project's own tools that the text names.
FOREIGN_FLAGS = set(
    "--noasgi --parallel --observe --write --write-readme --list --output --verbose".split()
)

pages = pytest.mark.parametrize("page", PAGES, ids=name)


def test_the_documentation_has_blocks_and_commands() -> None:
    """Otherwise the tests below look at nothing."""
    assert len(PAGES) > 25
    assert sum(len(list(blocks(page))) for page in PAGES) > 30
    assert sum(len(commands(page, "cdaphne")) for page in PAGES) > 15
    assert {"make run", "make test"} <= set(commands(ROOT / "README.rst", "make"))


def understood(arguments: list[str]) -> None:
    interface = CommandLineInterface()
    options = interface._options(arguments)
    if not options.completion:
        for text in interface._endpoints(options):
            parse(text)


@pages
def test_commands_of_cdaphne(page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for command in commands(page, "cdaphne", "daphne"):
        try:
            understood(shlex.split(command)[1:])
        except SystemExit as error:
            pytest.fail(f"{name(page)}: {command!r} ends with status {error.code}")


def targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pages
def test_targets_of_make(page: Path) -> None:
    for command in [*commands(page, "make"), *literals(page, "make")]:
        words = [word for word in shlex.split(command)[1:] if "=" not in word]
        assert set(words) <= targets(), f"{name(page)}: {command}"


def test_make_takes_them() -> None:
    done = subprocess.run(
        ["make", "--dry-run", "docs", "docs-serve"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "sphinx-build" in done.stdout and "http.server" in done.stdout


def packages() -> set[str]:
    """What pip may be told to install: the project, or a folder of the source."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    return {
        project["name"],
        *(f"{project['name']}[{extra}]" for extra in project["optional-dependencies"]),
    }


@pages
def test_what_pip_installs(page: Path) -> None:
    for command in [*commands(page, "pip"), *literals(page, "pip")]:
        verb, *words = shlex.split(command)[1:]
        names = [word for word in words if not word.startswith("-")]
        for word in names if verb == "install" else ():
            assert word in packages() or (ROOT / word / "pyproject.toml").is_file(), command


@pages
def test_files_exist(page: Path) -> None:
    """Paths of the source in literals, and files that are included."""
    text = page.read_text()
    included = re.findall(
        r"^\.\. (?:literalinclude|include|image|graphviz):: (\S+)$", text, re.MULTILINE
    )
    for path in included:
        assert (page.parent / path).is_file(), f"{name(page)}: {path}"
    folders = "|".join(
        path.name for path in ROOT.iterdir() if path.is_dir() and path.name[0] not in ".bd_"
    )
    for path in re.findall(rf"``((?:{folders}|docs)/[\w./-]+)``", text):
        assert (ROOT / path).exists(), f"{name(page)}: {path}"


@pages
def test_python_is_python(page: Path) -> None:
    for number, block in enumerate(blocks(page)):
        if re.search(r"^(import|from|async def|def|await|with|if|while) ", block, re.MULTILINE):
            wrapped = "async def outside():\n" + "\n".join(
                f"    {line}" for line in block.split("\n")
            )
            compile(wrapped, f"{name(page)}, block {number}", "exec")


@pages
def test_flags_exist(page: Path) -> None:
    if page.name == "parity.rst":
        return  # has those of other programs
    actions = CommandLineInterface().parser.actions()
    known = {flag for action in actions for flag in action.option_strings}
    text = re.sub(r"Flags of other servers\n-+\n.*", "", page.read_text(), flags=re.DOTALL)
    literal = " ".join(re.findall(r"``([^`]+)``", " ".join(text.split())))
    if page.parent != ROOT / "benchmarks":
        found = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9_-]*[a-z0-9]", literal))
        assert found <= known | FOREIGN_FLAGS, name(page)
