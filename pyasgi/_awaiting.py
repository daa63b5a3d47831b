"""Coroutines around the C extension's awaitables, for the places that take nothing but a coroutine.

The extension imports them when it first needs one: neither runs for an ordinary request.
"""

from collections.abc import Awaitable, Callable
from inspect import iscoroutine
from typing import Any


async def await_on(awaitable: Awaitable[Any]) -> Any:
    """Is run by loop.create_task(receive()), and by the task of an application that returns no coroutine."""
    return await awaitable


async def call_on(function: Callable[..., Awaitable[Any]], *event: Any) -> Any:
    """receive() or send(event) called on another thread: the call itself happens where this is awaited.

    RuntimeError when that is another thread again, which is not the one of the server's loop.
    """
    result = function(*event)
    if iscoroutine(result):
        result.close()
        raise RuntimeError(f"{function!r} was awaited on a thread that does not run its event loop")
    return await result
