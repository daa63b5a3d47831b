"""Speaks to tests/apps/asgi.py: events for its send(), and what it noted."""

from __future__ import annotations

import json
from typing import Any

from tests.support.handle import Handle
from tests.support.wait import wait_for

APP = "tests.apps.asgi:app"


def notes(handle: Handle, name: str, count: int = 1) -> list[Any]:
    """The notes of a behaviour, as soon as there are `count` of them."""

    def look() -> list[Any] | None:
        found: list[Any] = json.loads(handle.get(f"/notes?{name}").body)
        return found if len(found) >= count else None

    found = wait_for(look, what=f"{count} notes of {name}")
    assert isinstance(found, list)
    return found


def script(handle: Handle, name: str, *events: object) -> list[Any]:
    """What send() said to each event; the application's own failure to respond is part of the deal."""
    body = repr(list(events)).encode()
    with handle.connect() as client:
        head = f"POST /script?{name} HTTP/1.1\r\nHost: test\r\nContent-Length: {len(body)}\r\n\r\n"
        client.send(head.encode() + body)
        found = notes(handle, name, len(events))
    return found
