"""The files that people and GitHub read first: they exist, are well formed, and say what is true."""

from __future__ import annotations

import re
import subprocess
import tomllib
from typing import Any

import pytest
import yaml

import pyasgi
from tests.support.programs import ROOT

GITHUB = ROOT / ".github"


def test_ci_does_what_the_script_does() -> None:
    ci: dict[Any, Any] = yaml.safe_load((GITHUB / "workflows" / "ci.yml").read_text())
    (job,) = ci["jobs"].values()
    assert job["strategy"]["matrix"] == {"os": ["ubuntu-24.04"]}
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


@pytest.mark.parametrize("name", ["bug", "feature"])
def test_issue_forms(name: str) -> None:
    form = yaml.safe_load((GITHUB / "ISSUE_TEMPLATE" / f"{name}.yml").read_text())
    assert form["name"] and form["description"]
    for field in form["body"]:
        assert field["type"] in ("markdown", "textarea")
        assert field["type"] == "markdown" or (field["id"] and field["attributes"]["label"])
    ids = [field["id"] for field in form["body"] if "id" in field]
    assert len(ids) == len(set(ids))


def test_the_bug_form_asks_for_version_and_command_line() -> None:
    text = (GITHUB / "ISSUE_TEMPLATE" / "bug.yml").read_text()
    assert "cdaphne --version" in text
    assert "Command line" in text


def test_the_changelog_knows_the_version_and_flags_that_exist() -> None:
    text = (ROOT / "CHANGELOG.rst").read_text()
    assert re.search(r"^Unreleased\n-+$", text, re.MULTILINE)
    assert re.search(rf"^{re.escape(pyasgi.__version__)}\n-+$", text, re.MULTILINE)
    flags = (ROOT / "docs" / "flags.rst").read_text()
    for file in ("CHANGELOG.rst", "SECURITY.rst"):
        named = re.findall(r"``(--[a-z-]+)", (ROOT / file).read_text())
        assert named
        unknown = {flag for flag in named if f"{flag}``" not in flags and f"{flag} " not in flags}
        assert unknown <= {"--help", "--help-all", "--version"}


def test_the_public_address_stands_in_one_file() -> None:
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    address = urls["Homepage"]
    assert all(url.startswith(address) for url in urls.values())
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    host = address.removeprefix("https://")
    found = subprocess.run(
        ["git", "grep", "-l", "-F", host], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["pyproject.toml"]
