"""Write docs/flags.rst from the flags themselves: python scripts/flags_rst.py > docs/flags.rst

tests/docs/test_docs.py fails when the file is another than what this prints.
"""

from __future__ import annotations

import sys
from argparse import Action
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pyasgi.cli import CommandLineInterface
from pyasgi.config import COMMAND_ONLY, variable

HEAD = """\
Configuration
=============

.. Made by scripts/flags_rst.py; change csrc/limits.def, csrc/options.def, pyasgi/options.py or pyasgi/flags.py instead.

Every flag can also be a variable of the environment and a key of a TOML file: ``--http-timeout 5``,
``CDAPHNE_HTTP_TIMEOUT=5``, and ``http-timeout = 5`` in ``[tool.cdaphne]`` of ``pyproject.toml`` in the current
directory or at the top of the file that ``--config`` or ``CDAPHNE_CONFIG`` names. A flag beats the environment, which
beats the file; a list that is given replaces the other one. An empty variable counts as not set. Flags without a value
take ``true`` and ``false``; repeatable ones take a list in the file and words between spaces in the environment.
``application`` is a key, too.

Limits are keyword arguments of ``pyasgi.server.Server`` under the same names, with underscores; so are the other flags
that its docstring names.
"""


def title(action: Action) -> str:
    value = ""
    if action.nargs != 0:
        names = "|".join(map(str, action.choices)) if action.choices else None
        value = f" {names or action.metavar or action.dest.upper()}"
    return ", ".join(f"``{flag}{value}``" for flag in action.option_strings)


def entry(action: Action) -> str:
    text = " ".join((action.help or "").replace("%%", "%").split()).replace("*", "\\*")
    long = [flag[2:] for flag in action.option_strings if flag.startswith("--")]
    where = "" if long[0] in COMMAND_ONLY else f" [``{variable(long[0])}``]"
    return f"{title(action)}\n    {text}{where}\n"


def document() -> str:
    parts = [HEAD]
    for name, description, actions in CommandLineInterface().parser.groups():
        flags = [action for action in actions if action.option_strings]
        if not flags:
            continue
        heading = name[:1].upper() + name[1:]
        parts.append(f"{heading}\n{'-' * len(heading)}\n")
        if description:
            parts.append(f"{description[:1].upper()}{description[1:]}.\n")
        parts += [entry(action) for action in flags]
    return "\n".join(parts)


if __name__ == "__main__":
    print(document(), end="")
