"""Python's logging and the access log's stream, set up from the command line's verbosity."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

DEFAULT_FORMAT = "%(asctime)-15s %(levelname)-8s %(message)s"
LEVELS = {0: logging.WARNING, 1: logging.INFO, 2: logging.DEBUG, 3: logging.DEBUG}


def setup(verbosity: int, log_format: str = DEFAULT_FORMAT) -> None:
    """Sends all loggers to stderr. ValueError for a format that logging does not take."""
    logging.basicConfig(level=LEVELS[verbosity], format=log_format)


def access_stream(target: str | None, verbosity: int) -> TextIO | None:
    """The stream of the access log: "-" is stdout, None is stdout unless verbosity is 0. OSError."""
    if target == "-" or (not target and verbosity >= 1):
        return sys.stdout
    if not target:
        return None
    return open(target, "a", buffering=1, encoding="utf-8")
