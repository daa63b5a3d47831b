"""Each request has an id in a contextvar, which a filter writes into the lines of the log, as many projects do."""

from __future__ import annotations

import asyncio
import logging
from contextvars import ContextVar

from tests.apps.basic import Message, Receive, Send

REQUEST: ContextVar[str] = ContextVar("REQUEST", default="-")


def mark(record: logging.LogRecord) -> bool:
    record.msg = f"[{REQUEST.get()}] {record.msg}"
    return True


logging.getLogger("daphne.server").addFilter(mark)


async def app(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        raise NotImplementedError
    REQUEST.set(scope["path"])
    if scope["path"] == "/later":
        await asyncio.sleep(0)
    raise RuntimeError("told to")
