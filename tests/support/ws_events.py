"""What the application tests/apps/sockets.py has seen of its clients."""

from __future__ import annotations

import json

from tests.support.handle import Handle
from tests.support.wait import wait_for


def disconnects(handle: Handle, number: int = 1) -> list[list[object]]:
    """[path, code, reason] of the disconnects that the application has seen, once there are so many."""

    def look() -> list[list[object]] | None:
        events: list[list[object]] = json.loads(handle.get("/events").body)
        return events if len(events) >= number else None

    events = wait_for(look, what=f"{number} disconnects")
    assert isinstance(events, list)
    return events
