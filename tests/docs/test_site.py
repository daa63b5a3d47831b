"""The built site: `make docs` has nothing to complain of, the search finds words, llms.txt has every page."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.docs.site import build
from tests.support.programs import ROOT

pytestmark = [pytest.mark.docs, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def site() -> Path:
    return build()


def test_every_page_is_built(site: Path) -> None:
    sources = {
        str(path.relative_to(ROOT / "docs").with_suffix(""))
        for path in (ROOT / "docs").rglob("*.rst")
    }
    built = {str(path.relative_to(site).with_suffix("")) for path in site.rglob("*.html")}
    assert sources - {"parity"} <= built


def test_search(site: Path) -> None:
    index = (site / "searchindex.js").read_text()
    assert index.startswith("Search.setIndex(")
    for word in ("pathsend", "watchdog", "kubernet", "stapl"):
        assert re.search(rf'[{{,]"?{word}"?:', index), word
    assert (site / "search.html").is_file()


def test_llms_txt(site: Path) -> None:
    text = (site / "llms.txt").read_text()
    assert text.startswith("# cdaphne\n\n> cdaphne is an ASGI server")
    links = re.findall(r"^- \[.+\]\((\S+)\): \S", text, re.MULTILINE)
    pages = {str(path.relative_to(site)) for path in site.rglob("*.html")}
    assert set(links) == pages - {"search.html", "genindex.html", "py-modindex.html"}
    assert len(text) < 8000


def test_drawings_are_made_from_text(site: Path) -> None:
    page = (site / "architecture.html").read_text()
    assert page.count("image/svg+xml") == len(list((ROOT / "docs" / "drawings").glob("*.dot")))


def test_api(site: Path) -> None:
    page = (site / "embedding.html").read_text()
    for name in (
        "pyasgi.run",
        "pyasgi.serve",
        "pyasgi.server.Server",
        "pyasgi.loop.EventLoop",
        "pyasgi.tls.Settings",
    ):
        assert f'id="{name}"' in page, name
    assert "graceful_timeout" in page


def test_pypi_renders_readme(tmp_path: Path) -> None:
    """twine looks at the long description of the archive; this one has nothing but it."""
    hooks = (
        "import os, sys; from setuptools.build_meta import prepare_metadata_for_build_wheel as make;"
        "print(make(sys.argv[1]))"
    )
    made = subprocess.run(
        [sys.executable, "-c", hooks, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    folder = tmp_path / made.stdout.split()[-1]
    wheel = tmp_path / f"{folder.name.removesuffix('.dist-info')}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path in folder.iterdir():
            archive.write(path, f"{folder.name}/{path.name}")
    done = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", str(wheel)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASSED" in done.stdout
    described = (folder / "METADATA").read_text()
    assert ".. image:: https://" in described and "headline.svg" in described
    assert "<https://" in described and "<docs/" not in described
