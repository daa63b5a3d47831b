"""What is known to go wrong later: said by ``--check``, by Django's system check and in one line at start.

None of it keeps the server from serving.
"""

from __future__ import annotations

from . import channel_layers, conflict


def found() -> list[tuple[str, str]]:
    """Lists (what is wrong, what to do about it), after the application was imported."""
    return [*channel_layers.weaknesses(), *conflict.weaknesses()]


def lines() -> list[str]:
    """The same, one line each."""
    return [f"{what}; {remedy}" for what, remedy in found()]
