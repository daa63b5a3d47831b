"""README and the pages beside the program: what they name is there, and what the program has is named."""

from __future__ import annotations

import re

from tests.docs.blocks import PAGES, blocks, name
from tests.support.programs import ROOT
from tests.support.servers import Servers

LIMIT = 12 * 1024
HELLO = ROOT / "examples" / "hello.py"


def readme() -> str:
    return (ROOT / "README.rst").read_text()


def test_readme_is_short() -> None:
    assert len(readme().encode()) <= LIMIT


def test_readme_has_its_parts_in_order() -> None:
    places = [
        readme().index(text)
        for text in (
            "pip install cdaphne",
            "was: daphne",
            "async def app",
            "cdaphne hello:app",
            "make run",
            "headline.svg",
            "Over best peer",
            "What daphne has not",
            "Five of them",
            "INSTALLED_APPS",
            "docs/index.rst",
        )
    ]
    assert places == sorted(places)


def test_readmes_application_is_the_example() -> None:
    body = HELLO.read_text().partition("async def")[2]
    (block,) = [block for block in blocks(ROOT / "README.rst") if "async def app" in block]
    assert block.partition("async def")[2].strip() == body.strip()


def test_readmes_application_answers(server: Servers) -> None:
    handle = server.start("hello:app", cwd=HELLO.parent)
    assert handle.get("/").body == b"Hello\n"


def test_links_of_readme_lead_somewhere() -> None:
    found = re.findall(r"<([^>:]+)>`_", readme())
    assert len(found) > 8
    for path in found:
        assert (ROOT / path).is_file(), path


def test_no_reader_sees_a_dict() -> None:
    """Of Python's own: {'done': 3}. Blocks of code may have theirs."""
    for page in PAGES:
        text = page.read_text()
        for block in blocks(page):
            text = text.replace(block, "")
        outside = re.sub(r"\n(?: {2,}.*\n|\n)+", "\n", text)
        assert not re.search(r"\{b?'\w+':", outside), name(page)


def folders() -> list[str]:
    """Those of the two layers of C."""
    csrc = ROOT / "csrc"
    return [
        path.name
        for layer in ("core", "bridge")
        for path in (csrc / layer).iterdir()
        if path.is_dir()
    ]


def test_architecture_has_every_folder() -> None:
    text = (ROOT / "docs" / "architecture.rst").read_text()
    tree = re.findall(r"^ {8}(\w+)/ ", text, re.MULTILINE)
    assert sorted(tree) == sorted(folders())


def test_architecture_names_files_that_exist() -> None:
    text = (ROOT / "docs" / "architecture.rst").read_text()
    drawn = "".join(path.read_text() for path in sorted((ROOT / "docs" / "drawings").glob("*.dot")))
    have = [str(path.relative_to(ROOT)) for path in (ROOT / "csrc").rglob("*.c")]
    found = set(re.findall(r"((?:\w+/)*\w+\.c)\b", text + drawn))
    assert len(found) > 15
    assert not {file for file in found if not any(path.endswith(f"/{file}") for path in have)}


def test_every_file_of_deploy_is_on_a_page() -> None:
    text = "".join(page.read_text() for page in PAGES)
    for path in (ROOT / "examples" / "deploy").iterdir():
        assert f"examples/deploy/{path.name}" in text, path.name


def test_every_page_is_in_the_navigation() -> None:
    """Sphinx warns as well; this one says so without a build."""
    docs = ROOT / "docs"
    entries = "".join(page.read_text() for page in (docs / "index.rst", docs / "deploy.rst"))
    for page in docs.rglob("*.rst"):
        place = str(page.relative_to(docs)).removesuffix(".rst")
        if place not in ("index", "parity"):
            assert re.search(rf"^   {place}$", entries, re.MULTILINE), place


def test_messages_name_pages_that_exist() -> None:
    found = {
        page
        for path in (ROOT / "pyasgi").rglob("*.py")
        for page in re.findall(r"docs/[\w/-]+\.rst", path.read_text())
    }
    assert len(found) > 4
    assert not {page for page in found if not (ROOT / page).is_file()}
