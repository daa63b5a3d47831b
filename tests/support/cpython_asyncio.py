"""Runs a module of CPython's own asyncio tests with pyasgi.loop.EventLoop in asyncio's place.

    python -m tests.support.cpython_asyncio test.test_asyncio.test_streams

The tests come with the interpreter (its ``test`` package).  Wherever they make a loop, ours is
made: through the default policy, and in the classes that name a selector, of which only the epoll
variant is kept.  The last line of the output is a JSON object: tests run, skipped by us, loops
made.  Exit status 0 when everything passed.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import unittest
from types import ModuleType
from typing import Any

from pyasgi._core import Poller
from pyasgi.loop import EventLoop

# Tests that cannot pass, and why.
EXCEPTIONS = {
    "test.test_selectors.EpollSelectorTestCase.test_modify_unregister": (
        "patches the select.epoll object inside EpollSelector, which we have not;"
        " test_loop.py tests the same with a closed descriptor"
    ),
}
# Modules that never make a loop which could be ours: test_selector_events, test_futures, test_futures2,
# test_pep492, test_protocols and test_transports work on mocks; test_runners brings a policy of its
# own; test_proactor_events and test_windows_* are for Windows.

OTHER_SELECTORS = (
    "SelectEventLoopTests",
    "PollEventLoopTests",
    "SelectSelectorTestCase",
    "PollSelectorTestCase",
    "DefaultSelectorTestCase",
)


class CountedLoop(EventLoop):
    made = 0

    def __init__(self) -> None:
        type(self).made += 1
        super().__init__()


class CountedPoller(Poller):  # a Python class, because the tests put mocks on instances
    made = 0

    def __init__(self) -> None:
        type(self).made += 1


def use_our_loop() -> None:
    events: Any = asyncio.unix_events
    policy = getattr(events, "_UnixDefaultEventLoopPolicy", None) or events._DefaultEventLoopPolicy
    policy._loop_factory = CountedLoop
    vars(asyncio)["EventLoop"] = CountedLoop  # what the tests name since Python 3.13.1


def adapt(module: ModuleType) -> None:
    """Makes the classes of a test module that choose a selector choose ours."""
    for name, thing in list(vars(module).items()):
        if name in OTHER_SELECTORS:
            delattr(module, name)
        elif name == "EPollEventLoopTests":
            thing.create_event_loop = lambda self: CountedLoop()
        elif name == "EpollSelectorTestCase":
            thing.SELECTOR = CountedPoller
        elif isinstance(thing, type) and "Selector" in name and hasattr(thing, "new_loop"):
            thing.new_loop = lambda self: CountedLoop()  # type: ignore[attr-defined]


def skip_exceptions(module: ModuleType) -> int:
    found = 0
    for path, reason in EXCEPTIONS.items():
        name, case, method = path.rsplit(".", 2)
        if name == module.__name__:
            owner = getattr(module, case)
            setattr(owner, method, unittest.skip(reason)(getattr(owner, method)))
            found += 1
    return found


def main(name: str, arguments: list[str]) -> int:
    use_our_loop()
    module = importlib.import_module(name)
    adapt(module)
    skipped = skip_exceptions(module)
    program = unittest.main(module=module, argv=[name, *arguments], exit=False)
    made = CountedLoop.made + CountedPoller.made
    print(json.dumps({"run": program.result.testsRun, "skipped": skipped, "made": made}))
    return 0 if program.result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
