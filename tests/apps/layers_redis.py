"""Channel layers of a project's own."""

from __future__ import annotations

from typing import Any

from channels_redis.core import RedisChannelLayer
from channels_redis.utils import create_pool


class Patient(RedisChannelLayer):  # type: ignore[misc]
    """Asks with commands that wait for longer."""

    brpop_timeout = 30


class Own(RedisChannelLayer):  # type: ignore[misc]
    """Makes its connections itself, and lets them wait without an end."""

    def create_pool(self, index: int) -> Any:
        return create_pool({**self.hosts[index], "socket_timeout": None})


class Broken(RedisChannelLayer):  # type: ignore[misc]
    """Cannot be made."""

    def __init__(self, **config: Any) -> None:
        raise RuntimeError("not today")
