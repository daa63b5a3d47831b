"""Two distributions with one folder: daphne itself and cdaphne-as-daphne both own ``daphne/__init__.py``.

pip installs one over the other without a word. The last one has the name, and to uninstall either takes the folder's
files away from both. It happens where something requires ``channels[daphne]``.
"""

from __future__ import annotations

import os
import sys

OURS, REAL = "cdaphne_as_daphne", "daphne"
REINSTALL = "pip install --force-reinstall --no-deps cdaphne-as-daphne"


def weaknesses() -> list[tuple[str, str]]:
    """Lists (what is wrong, what to do); [] where cdaphne-as-daphne is not installed, or daphne is not."""
    installed = _distributions()
    if OURS not in installed:
        return []
    if REAL in installed:
        what = (
            f"daphne {installed[REAL]} and cdaphne-as-daphne are both installed and have the same files:"
            f" 'import daphne' and the command daphne are {_owner()} now, and to uninstall one breaks the other"
        )
        return [
            (
                what,
                f"require channels, not channels[daphne], and run: pip uninstall daphne && {REINSTALL}",
            )
        ]
    if _owner() == "nobody's":
        what = (
            "cdaphne-as-daphne is installed but its files are gone, as after 'pip uninstall daphne'"
        )
        return [(what, f"run: {REINSTALL}")]
    return []


def _distributions() -> dict[str, str]:
    """Version of those of the two that are installed; importlib.metadata would be a fifth of a start's time."""
    found: dict[str, str] = {}
    for folder in sys.path:
        # An archive, nothing at all, or a folder that this user may not list.
        if not os.path.isdir(folder or ".") or not os.access(folder or ".", os.R_OK):
            continue
        for entry in os.listdir(folder or "."):
            name, _, version = entry.removesuffix(".dist-info").partition("-")
            if entry.endswith(".dist-info") and name in (OURS, REAL):
                found.setdefault(name, version)
    return found


def _owner() -> str:
    """Tells whose daphne an import finds when none of our finders helps."""
    from .compat import DaphneFinder

    spec = DaphneFinder.found_by_others()
    if spec is None or spec.origin is None:
        return "nobody's"
    with open(spec.origin, encoding="utf-8") as text:
        return "cdaphne's" if "become_daphne" in text.read() else "the real daphne's"
