"""What a server does to its process: standard descriptors, worker threads, a look at what it left."""

from __future__ import annotations

import gc
import os
import sys

from .native import _core

STANDARD = ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w"))


def hold_standard_descriptors() -> None:
    """Opens /dev/null for each of stdin, stdout and stderr that the process was started without.

    The next socket or log file would get its number, and what anybody prints. Python's stream, which is None
    then, is made anew, so that whoever writes to it need not ask.
    """
    for number, name, mode in STANDARD:
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
            if getattr(sys, name) is None:
                stream = open(number, mode, errors="backslashreplace", closefd=False)  # noqa: SIM115
                setattr(sys, name, stream)


def worker_threads() -> int | None:
    """Threads of the loop's default executor: ASGI_THREADS, None for asyncio's own number. ValueError, one line."""
    text = os.environ.get("ASGI_THREADS")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ValueError(
            f"the environment variable ASGI_THREADS is {text!r}; give a number from 1 on, or unset it"
        )
    return int(text)


class Leaks:
    """For the tests: with CDAPHNE_DEBUG_LIVE=1, tells on stderr what a server's run left behind.

    `live: {...}` counts the extension's objects (CD_DEBUG builds only), `fds: [...]` names the sockets,
    pipes, epolls and eventfds that were not open before.
    """

    def __init__(self) -> None:
        self._enabled = os.environ.get("CDAPHNE_DEBUG_LIVE") == "1"
        self._before = self._descriptors() if self._enabled else {}

    def report(self) -> None:
        if not self._enabled:
            return
        gc.collect()
        if hasattr(_core, "debug_live"):
            print(f"live: {_core.debug_live()}", file=sys.stderr)
        after = self._descriptors()
        left = [name for number, name in after.items() if self._before.get(number) != name]
        print(f"fds: {left}", file=sys.stderr, flush=True)

    @staticmethod
    def _descriptors() -> dict[int, str]:
        found = {}
        for entry in os.listdir("/proc/self/fd"):
            try:
                name = os.readlink(f"/proc/self/fd/{entry}")
            except FileNotFoundError:  # the descriptor of the listing itself
                continue
            if name.startswith(("socket:", "pipe:", "anon_inode:")):
                found[int(entry)] = name
        return found
