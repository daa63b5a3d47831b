"""Settings from outside the command line: variables CDAPHNE_NAME and a TOML file, with the names of the flags.

    CDAPHNE_HTTP_TIMEOUT=5          http-timeout = 5 in [tool.cdaphne] of pyproject.toml, or in --config FILE
    CDAPHNE_ENDPOINT="tcp:1 tcp:2"  endpoint = ["tcp:1", "tcp:2"]
    CDAPHNE_PROXY_HEADERS=yes       proxy-headers = true

Every value takes the way of its flag's own value, so it is checked by the same function; a complaint names
the variable or the file and its key. Dashes and underscores are the same in names. An empty variable counts
as not set.
"""

from __future__ import annotations

import argparse
import os
import re
from argparse import Action, ArgumentTypeError
from collections.abc import Iterator, Mapping
from typing import Any

from .flags import Parser, nearest

PREFIX = "CDAPHNE_"
CONFIG = PREFIX + "CONFIG"
PROJECT_FILE = "pyproject.toml"
TRUE = ("1", "true", "yes", "on")
FALSE = ("0", "false", "no", "off")
# Flags that are about the command itself.
COMMAND_ONLY = {"help", "help-all", "version", "completion", "check", "config"}
# The tests' own.
RESERVED = {CONFIG, PREFIX + "DEBUG_LIVE", PREFIX + "SERVER_CMD"}
# What Kubernetes sets in every container for a service that is called cdaphne.
KUBERNETES = re.compile(r"CDAPHNE_(SERVICE_(HOST|PORT\w*)|PORT_\d+_(TCP|UDP)\w*)")
KUBERNETES_PORT = re.compile(r"(tcp|udp)://\S+")

Settings = dict[str, Any]  # keyed by the dest of the flag


class ConfigError(Exception):
    """A setting cannot be used; the message is one line for the operator."""


class Names:
    """The settings that a parser's flags stand for."""

    def __init__(self, parser: Parser) -> None:
        self._parser = parser
        self._known: dict[str, tuple[Action, str]] = {}
        for action in parser.actions():
            for flag in action.option_strings or [action.dest]:
                name = flag.lstrip("-").replace("_", "-")
                if (not flag.startswith("-") or flag.startswith("--")) and name not in COMMAND_ONLY:
                    self._known[name] = (action, flag)

    def all(self) -> Iterator[str]:
        return iter(self._known)

    def setting(self, where: str, shown: str, name: str, value: object) -> tuple[str, Any]:
        """Returns (dest, value) of a setting; `shown` is the name under which it was given."""
        name = name.replace("_", "-")
        if name not in self._known:
            raise ConfigError(f"{where}: unknown key {shown!r}{self._hint(name, shown)}")
        action, flag = self._known[name]
        try:
            return action.dest, self._value(action, flag, value)
        except ArgumentTypeError as error:
            raise ConfigError(f"{where}: {shown}: {error}") from None

    def _value(self, action: Action, flag: str, value: object) -> Any:
        """The value that the flag would have given its dest."""
        if isinstance(action, argparse.BooleanOptionalAction):
            return _truth(value) != flag.startswith("--no-")
        if action.nargs == 0:
            return action.const if _truth(value) else self._parser.get_default(action.dest)
        if isinstance(action.default, list):
            return [_converted(action, entry) for entry in _entries(value)]
        return _converted(action, value)

    def _hint(self, name: str, shown: str) -> str:
        if name in COMMAND_ONLY:
            return "; this is for the command line only"
        from . import foreign

        own = foreign.RENAMED.get(f"--{name}", "").removeprefix("--")
        near = own or nearest(name, list(self._known))
        if near is not None:
            spelled = variable(near) if shown.startswith(PREFIX) else near
            return f"; here it is {spelled}" if own else f"; did you mean {spelled}?"
        hint = (
            foreign.hint(f"--{name}") or "the names are those of the flags, see cdaphne --help-all"
        )
        return f"; {hint}"


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.replace("-", "_").upper()


def load(parser: Parser, file: str | None, environ: Mapping[str, str]) -> Settings:
    """Reads the environment and the file into a dict by dest; the environment overrides the file. ConfigError.

    file: of --config; None: what CDAPHNE_CONFIG names, else pyproject.toml in the current directory.
    """
    names = Names(parser)
    return {
        **_from_file(names, file or environ.get(CONFIG) or None),
        **_from_environment(names, environ),
    }


def _from_environment(names: Names, environ: Mapping[str, str]) -> Settings:
    settings: Settings = {}
    for key in sorted(environ):
        value = environ[key]
        if not key.startswith(PREFIX) or key in RESERVED or not value:
            continue
        if KUBERNETES.fullmatch(key) or (
            key == variable("port") and KUBERNETES_PORT.fullmatch(value)
        ):
            continue
        name = key.removeprefix(PREFIX).lower()
        dest, setting = names.setting("environment", key, name, value)
        settings[dest] = setting
    return settings


def _from_file(names: Names, file: str | None) -> Settings:
    path = file or PROJECT_FILE
    if file is None and not os.path.exists(path):
        return {}
    table = _table(path)
    if os.path.basename(path) == PROJECT_FILE:
        table = table.get("tool", {}).get("cdaphne", {})
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: tool.cdaphne is not a table; write [tool.cdaphne]")
    return dict(names.setting(path, key, key, value) for key, value in table.items())


def _table(path: str) -> Any:
    import tomllib

    try:
        with open(path, "rb") as data:
            return tomllib.load(data)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}; give a TOML file that this user may read (--config)"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from None


# ---- values ----


def _truth(value: object) -> bool:
    word = value.lower() if isinstance(value, str) else value
    if word is True or word in TRUE:
        return True
    if word is False or word in FALSE:
        return False
    raise ArgumentTypeError(f"{value!r} is neither true nor false")


def _entries(value: object) -> list[object]:
    if isinstance(value, str):  # no entry has a space; a file can write a list where one has
        return list(value.split())
    if isinstance(value, list):
        return value
    raise ArgumentTypeError(f"{value!r} is not a list of texts")


def _converted(action: Action, value: object) -> Any:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ArgumentTypeError(f"{value!r} is neither text nor a number")
    text = str(value)
    made = action.type(text) if callable(action.type) else text
    if action.choices is not None and made not in action.choices:
        raise ArgumentTypeError(f"{text!r} is none of {', '.join(map(str, action.choices))}")
    return made
