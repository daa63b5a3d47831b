"""Every setting of Server that is not daphne's positional argument, once: limits and options.

The rows of csrc/limits.def and csrc/options.def come from the extension; options that only Python reads are the
rows of OWN. From a row come the keyword argument and the attribute of Server, its line in Server's docstring, and
by flags.py the flag, so that the environment, the config file, completion, --help and docs/flags.rst have it too.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

from .lifespan import MODES
from .native import _core

NO_MOST = 2**63 - 1  # CD_NO_MOST


class Limit(NamedTuple):
    """A row of limits.def."""

    name: str
    kind: str  # "time" or "size"
    default: float
    unit: str
    doc: str
    least: int = 0
    most: int = NO_MOST


class Option(NamedTuple):
    """A row of options.def, whose kinds are "flag" and "text", or of OWN."""

    name: str
    kind: str  # "flag", "text", "time", "choice" or "list"
    default: Any
    group: str  # title in --help-all
    doc: str
    needs: str = ""  # a flag without which this one is useless
    words: str = ""  # all values of a choice, some of a text
    metavar: str | None = None
    flag: str = ""  # where it is not the name with dashes

    def option_string(self) -> str:
        return self.flag or f"--{self.name.replace('_', '-')}"


OWN = (
    Option(
        "extensions",
        "list",
        (),
        "application",
        "offer an ASGI extension that middleware may not know: pathsend, zerocopysend, trailers, early_hint, or debug"
        " at -v 2 (docs/extensions.rst)",
        metavar="NAME",
        flag="--extension",
    ),
    Option(
        "lifespan",
        "choice",
        "auto",
        "application",
        "run startup and shutdown of the application; auto tolerates one that has none",
        words=" ".join(MODES),
    ),
    Option(
        "lifespan_startup_timeout",
        "time",
        300,
        "application",
        "time for the application to start, 0 for no limit",
    ),
    Option("graceful_timeout", "time", 5, "stop", "time for running requests to end"),
    Option(
        "cancel_timeout",
        "time",
        0.5,
        "stop",
        "time for what is then cancelled to end, in turn requests, lifespan, other tasks, async generators",
    ),
    Option(
        "lifespan_shutdown_timeout",
        "time",
        2,
        "stop",
        "time for the application to shut down, besides what the requests leave of theirs, 0 for no limit",
    ),
    Option(
        "access_log_exclude",
        "list",
        (),
        "logging",
        "write no line for paths that begin with this",
        metavar="PREFIX",
    ),
)

LIMITS = {row[0]: Limit(*row) for row in _core.limits()}
NATIVE = tuple(Option(*row) for row in _core.options())
OPTIONS = {option.name: option for option in (*NATIVE, *OWN)}


def values(given: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes that Server has for these keyword arguments: all options, and the limits that are given.

    TypeError for a name that is none of a row, ValueError for a word that its row does not know.
    """
    result = {option.name: option.default for option in OPTIONS.values()}
    for name, value in given.items():
        result[_known(name)] = tuple(value) if _kind(name) == "list" else value
        if _kind(name) == "choice" and value not in (words := OPTIONS[name].words.split()):
            raise ValueError(f"{name} is {value!r}; give one of {', '.join(words)}")
    return result


def _kind(name: str) -> str:
    return OPTIONS[name].kind if name in OPTIONS else ""


def _known(name: str) -> str:
    if name not in OPTIONS and name not in LIMITS:
        import difflib

        near = difflib.get_close_matches(name, [*OPTIONS, *LIMITS], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise TypeError(f"Server() has no argument {name!r}{hint}")
    return name


Class = TypeVar("Class", bound=type)


def documented(cls: Class) -> Class:
    """Names the options in the docstring and the signature of a class that passes its keyword arguments to values()."""
    cls.__signature__ = _Signature(vars(cls)["__init__"])  # type: ignore[attr-defined]
    lines = [f"{option.name}: {option.doc}" for option in OPTIONS.values()]
    text = "\n".join(
        textwrap.fill(line, 115, initial_indent="    ", subsequent_indent="        ")
        for line in lines
    )
    cls.__doc__ = f"{(cls.__doc__ or '').rstrip()}\n{text}\n    "
    return cls


class _Signature:
    """What inspect.signature() finds on the class; made when it is asked for, because a start does without inspect."""

    def __init__(self, make: Any) -> None:
        self._make = make

    def __get__(self, instance: object, owner: type) -> Any:
        if owner.__init__ is not self._make:  # type: ignore[misc]
            raise AttributeError("__signature__")  # a subclass with arguments of its own
        import inspect

        signature = inspect.signature(self._make)
        parameters = list(signature.parameters.values())[1:]
        added = [
            inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, default=option.default)
            for option in OPTIONS.values()
        ]
        rest = parameters.pop()  # the limits
        return signature.replace(parameters=[*parameters, *added, rest])
