"""Scenarios that run on asyncio's own loop and on ours, and must tell the same."""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Callable
from typing import Any

import pytest

# Scenarios look into asyncio's private attributes, as libraries do.
Scenario = Callable[[Any], object]


def scenarios_of_coroutines(found: list[Scenario]) -> Callable[[Any], Any]:
    """The decorator scenario of a file with a list of its own, for coroutine functions."""

    def scenario(function: Any) -> Any:
        @functools.wraps(function)
        def run(loop: Any) -> object:
            return loop.run_until_complete(asyncio.wait_for(function(loop), 30))

        found.append(run)
        return function

    return scenario


class Watched:
    """Runs a scenario and tells what reached the exception handler, too."""

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self.told: list[object] = []
        loop.set_exception_handler(self.handle)

    def handle(self, loop: Any, context: dict[str, Any]) -> None:
        error = context.get("exception")
        handle = type(context.get("handle")).__name__
        error_text = re.sub("0x[0-9a-f]+", "", repr(error))
        self.told.append((context["message"], error_text, handle, sorted(context)))


def outcome(function: Scenario, factory: Callable[[], Any], debug: bool) -> object:
    loop = factory()
    loop.set_debug(debug)
    loop.slow_callback_duration = 60
    watched = Watched(loop)
    try:
        result = function(loop)
    finally:
        if not loop.is_closed():
            loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
    return result, watched.told


def raises(function: Callable[..., object], *args: object, **names: object) -> str:
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        function(*args, **names)
    return f"{caught.type.__name__}: {caught.value}"


class Recorder(asyncio.Protocol):
    def __init__(self, loop: Any) -> None:
        self.seen: list[object] = []
        self.closed = loop.create_future()
        self.size = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.seen.append(type(transport).__name__)

    def data_received(self, data: bytes) -> None:
        self.size += len(data)
        if data == b"raise":
            raise ValueError("in data_received")

    def eof_received(self) -> bool | None:
        self.seen.append("eof")
        return None

    def pause_writing(self) -> None:
        self.seen.append("pause")

    def resume_writing(self) -> None:
        self.seen.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.seen.append(type(exc).__name__)
        self.closed.set_result(None)


def fds(loop: Any) -> list[int]:
    return [key.fd for key in loop._selector.get_map().values()]
