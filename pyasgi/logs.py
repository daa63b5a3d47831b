"""Python's logging: set up from the command line's verbosity, or from a file as --log-config names it."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import Any, TextIO

DEFAULT_FORMAT = "%(asctime)-15s %(levelname)-8s %(message)s"
LEVELS = {0: logging.WARNING, 1: logging.INFO, 2: logging.DEBUG, 3: logging.DEBUG}
NO_ACCESS_LOG = "none"  # --access-log none
# SGR codes of a level's name on a terminal.
COLOURS = {
    logging.DEBUG: "36",
    logging.INFO: "32",
    logging.WARNING: "33",
    logging.ERROR: "31",
    logging.CRITICAL: "1;31",
}


class LogError(Exception):
    """Logging cannot be set up; the message is one line for the operator."""


class ColourFormatter(logging.Formatter):
    """The name of the level in colour; its padding is that of the plain name."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        code = COLOURS.get(record.levelno)
        if code is None or "%(levelname)" not in (self._fmt or ""):
            return text
        return text.replace(record.levelname, f"\x1b[{code}m{record.levelname}\x1b[0m", 1)


def wants_colour(stream: TextIO | None) -> bool:
    """Is it a terminal that shows colours, and is NO_COLOR not set (https://no-color.org)?"""
    if stream is None or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return stream.isatty()


def setup(verbosity: int, log_format: str = DEFAULT_FORMAT) -> None:
    """Sends all loggers to stderr. LogError for a format that logging does not take."""
    logging.basicConfig(level=LEVELS[verbosity], handlers=[_to_stderr(log_format)])


def setup_if_nobody_did(verbosity: int) -> bool:
    """Sends the server's own loggers to stderr, in a program that has not set up logging; False in one that has.

    All other loggers, and what the program does with the root logger later, stay as they are.
    """
    own = logging.getLogger(OWN)
    if not any(handler in _made for handler in own.handlers):
        if own.hasHandlers():
            return False
        _made.append(_to_stderr(DEFAULT_FORMAT))
        own.addHandler(_made[-1])
        own.propagate = False
    own.setLevel(LEVELS[verbosity])
    return True


OWN = "daphne"  # the logger above all of the server's
_made: list[logging.Handler] = []  # by setup_if_nobody_did


def _to_stderr(log_format: str) -> logging.Handler:
    handler = logging.StreamHandler()
    make = ColourFormatter if wants_colour(sys.stderr) else logging.Formatter
    try:
        handler.setFormatter(make(log_format))
    except ValueError as error:
        raise LogError(
            f"--log-fmt {log_format!r} is not a format of Python's logging: {error}"
        ) from None
    return handler


# ---- --log-config ----


def configure(file: str) -> None:
    """Configures logging from an .ini, .json, .toml or .yaml file. LogError names the file, the place and the remedy.

    Loggers that exist already stay switched on, unless the file says disable_existing_loggers.
    """
    import configparser  # this and the like are a tenth of the time to the first answer

    suffix = os.path.splitext(file)[1].lower()
    if suffix not in READERS:
        known = ", ".join(READERS)
        raise LogError(f"--log-config {file!r}: the name must end with one of {known}")
    try:
        READERS[suffix](file)
    except LogError:
        raise
    except OSError as error:
        raise LogError(_why_unopened(file, error)) from None
    except KeyError as error:
        raise LogError(
            f"--log-config {file!r} is not a configuration of Python's logging: {error} is missing in it;"
            " add that section or key"
        ) from None
    except (ValueError, TypeError, AttributeError, ImportError, RuntimeError) as error:
        cause = error.__cause__
        reason = " ".join(f"{error}{f' ({cause})' if cause else ''}".split())
        raise LogError(
            f"--log-config {file!r} is not a configuration of Python's logging: {reason}; correct that place"
        ) from None
    except configparser.Error as error:
        raise LogError(
            f"--log-config {file!r} is not INI: {' '.join(str(error).split())}; correct that place"
        ) from None


def _why_unopened(file: str, error: OSError) -> str:
    reason = error.strerror or error
    if error.filename in (None, file):
        return (
            f"--log-config {file!r} cannot be read: {reason}; give a file that this user may read"
        )
    return (
        f"--log-config {file!r}: a handler cannot open {error.filename!r}: {reason};"
        " give it a file that this user may write"
    )


def _ini(file: str) -> None:
    import configparser
    import logging.config

    with open(file, encoding="utf-8") as text:
        parser = configparser.ConfigParser(interpolation=None)
        parser.read_file(text)
    logging.config.fileConfig(parser, disable_existing_loggers=False)


def _from_dict(config: Any) -> None:
    import logging.config

    if not isinstance(config, dict):
        raise ValueError("its top level is not a table")
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False, **config})


def _json(file: str) -> None:
    import json

    with open(file, encoding="utf-8") as text:
        _from_dict(json.load(text))


def _toml(file: str) -> None:
    import tomllib

    with open(file, "rb") as data:
        _from_dict(tomllib.load(data))


def _yaml(file: str) -> None:
    try:
        import yaml
    except ModuleNotFoundError:
        raise LogError(
            f"--log-config {file!r} needs PyYAML; run 'pip install pyyaml', or write it as .json or .toml"
        ) from None
    with open(file, encoding="utf-8") as text:
        try:
            config = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(str(error)) from None
    _from_dict(config)


READERS: dict[str, Callable[[str], None]] = {
    ".ini": _ini,
    ".conf": _ini,
    ".json": _json,
    ".toml": _toml,
    ".yaml": _yaml,
    ".yml": _yaml,
}


# ---- rotation ----


def reopen() -> list[str]:
    """Opens the files of all logging.FileHandler anew, after a rotation; a complaint for each that failed."""
    handlers = [reference() for reference in list(logging._handlerList)]  # type: ignore[attr-defined]
    complaints = []
    for handler in handlers:
        if isinstance(handler, logging.FileHandler) and handler.stream is not None:
            try:
                stream = open(handler.baseFilename, "a", encoding=handler.encoding)  # noqa: SIM115
            except OSError as error:
                complaints.append(f"log file {handler.baseFilename!r}: {error.strerror}")
                continue
            previous = handler.setStream(stream)
            if previous is not None:
                previous.close()
    return complaints
