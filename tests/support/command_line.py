"""The command line without a server behind it."""

from __future__ import annotations

from typing import Any

from pyasgi.cli import CommandLineInterface


class Recorder:
    """In place of Server: keeps what the command line made of its arguments."""

    abort_start = False

    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments

    def run(self) -> None:
        pass


class RecordingInterface(CommandLineInterface):
    server_class = Recorder
