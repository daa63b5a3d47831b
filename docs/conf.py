"""The documentation site: `make docs` builds it into build/docs/html, `make docs-serve` shows it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pyasgi import __version__  # noqa: E402

project = "cdaphne"
author = copyright = "cdaphne contributors"
version = release = __version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.graphviz"]
# parity.rst is generated, and a part of from-daphne.rst.
exclude_patterns = ["parity.rst"]
# "make docs" fails when a name that is referred to is nowhere documented. Of types in signatures only ours are here.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!pyasgi\.).*"), ("py:.*", r"pyasgi\._core\..*")]
highlight_language = "none"
smartquotes = False

html_theme = "furo"
html_title = f"cdaphne {release}"
html_static_path = ["static"]
html_favicon = "static/icon.svg"
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
graphviz_output_format = "svg"
graphviz_dot_args = [
    "-Gbgcolor=white",
    "-Gfontname=sans-serif",
    "-Nfontname=sans-serif",
    "-Efontname=sans-serif",
]


def fields(app: Sphinx, what: str, name: str, object: Any, options: Any, lines: list[str]) -> None:
    """A line "name: text" of a docstring begins the description of an argument, which ends with the paragraph."""
    written: list[str] = []
    inside = False
    for line in lines:
        found = re.match(r"([a-z_]+): (.*)", line)
        if found:
            written += ([] if inside else [""]) + [f":param {found[1]}: {found[2]}"]
            inside = True
        elif not line.strip():
            inside = False
            written.append(line)
        else:
            written.append(f"    {line.strip()}" if inside else line)
    lines[:] = written


def summary(doctree: nodes.document) -> str:
    """The first sentence of a page, as one line."""
    for paragraph in doctree.findall(nodes.paragraph):
        sentence = re.split(
            r"(?<=[a-z`)])[.:](?:\s|$)", " ".join(paragraph.astext().split()), maxsplit=1
        )[0]
        return f"{sentence}."
    return ""


def write_llms_txt(app: Sphinx, error: Exception | None) -> None:
    """An index of the pages in plain text (llmstxt.org), in the order of the navigation."""
    if error or app.builder.name != "html":
        return
    env = app.env
    order = ["index", *(name for name in pages(env.toctree_includes, "index") if name != "index")]
    lines = [f"# {project}", "", f"> {summary(env.get_doctree('index'))}", "", "## Pages", ""]
    lines += [
        f"- [{env.titles[name].astext()}]({name}.html): {summary(env.get_doctree(name))}"
        for name in order
    ]
    (Path(app.outdir) / "llms.txt").write_text("\n".join(lines) + "\n")


def pages(includes: dict[str, list[str]], name: str) -> list[str]:
    return [name, *(page for child in includes.get(name, []) for page in pages(includes, child))]


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", fields)
    app.connect("build-finished", write_llms_txt)
