"""Coroutines around the C extension's awaitables, for the places that take nothing but a coroutine.

The extension imports them when it first needs one: neither runs for an ordinary request.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
E = TypeVar("E")


async def await_on(awaitable: Awaitable[T]) -> T:
    """What loop.create_task(receive()) runs, and the task of an application that returns no coroutine."""
    return await awaitable


async def call_on(function: Callable[..., Awaitable[T]], *event: E) -> T:
    """receive() or send(event) called on another thread: the call itself happens where this is awaited."""
    return await function(*event)
