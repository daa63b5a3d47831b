"""The lifespan protocol: the application's startup before the first request, its shutdown after the last.

One task runs the application's lifespan for the server's whole life, in a context of its own, whose variables every
request inherits. Modes: "on" demands the protocol, "off" never calls it. "auto" is for every application that daphne,
which has no lifespan, serves: Django and Channels are not called (no_lifespan.py), others are known by what they do.
One that has no lifespan raises, returns, sends a message of another protocol, or, taking everything for a
WebSocket, waits for the next event before it has answered the first. One that does none of this is starting, for up to
startup_timeout.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, Literal, get_args

from .no_lifespan import has_none

logger = logging.getLogger("daphne.server")

Message = dict[str, Any]
App = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]
Future = asyncio.Future[Any]
Mode = Literal["on", "off", "auto"]
MODES: tuple[str, ...] = get_args(Mode)
# How long an application that waits for a second event may still answer the first one. Another task than the
# application's own may read ahead for one that is starting.
ANSWER_SECONDS = 1.0
READ_AHEAD_SECONDS = 5.0


class LifespanError(Exception):
    """The application failed its startup; the message is one line for the operator, details may be many."""

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


class Lifespan:
    """Lifespan of one application on the running loop.

    startup_timeout, shutdown_timeout: seconds, 0 for none. cancel_timeout: for an application that was cancelled.
    """

    def __init__(
        self,
        app: App,
        mode: str,
        startup_timeout: float,
        shutdown_timeout: float,
        cancel_timeout: float,
    ) -> None:
        self.state: dict[str, Any] | None = None
        """What the application stored for its requests; None when it has no lifespan."""
        self.context = contextvars.copy_context()
        """The context in which the application's lifespan runs."""
        self._app = app
        self._mode = mode
        self._startup_timeout = startup_timeout or None
        self._shutdown_timeout = shutdown_timeout
        self._cancel_timeout = cancel_timeout
        self._events: asyncio.Queue[Message] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        self._started: asyncio.Future[LifespanError | None] = loop.create_future()
        self._stopped: asyncio.Future[LifespanError | None] = loop.create_future()
        self._none: asyncio.Future[str] = loop.create_future()  # what it did, without a lifespan
        self._task: asyncio.Task[None] | None = None
        self._running: asyncio.Task[Any] | None = None  # the task that the application runs in
        self._received = False
        self._doubt: asyncio.TimerHandle | None = None

    async def startup(self) -> None:
        """Runs the application up to lifespan.startup.complete. LifespanError when it fails."""
        if self._mode == "off":
            return
        if self._mode == "auto" and has_none(self._app):
            logger.debug("Application has no lifespan: it is Django's or Channels'")
            return
        state: dict[str, Any] = {}
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": state,
        }
        self._events.put_nowait({"type": "lifespan.startup"})
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._run(scope), name="lifespan", context=self.context)
        try:
            await _any_of(task, self._started, self._none, seconds=self._startup_timeout)
        except asyncio.CancelledError:
            await self._cancel(task)
            raise
        finally:
            if self._doubt is not None:
                self._doubt.cancel()
        if not self._started.done():
            await self._not_started(task)
        elif failure := self._started.result():
            await self._end(task, self._cancel_timeout)
            raise failure
        else:
            self._task = task
            self.state = state
            task.add_done_callback(self._ended)

    async def shutdown(self, more: float = 0) -> None:
        """Tells the application that the server ends, and waits for its answer; more: seconds besides the timeout.

        Failures are logged.
        """
        task = self._task
        if task is None or task.done():
            return
        self._events.put_nowait({"type": "lifespan.shutdown"})
        seconds = self._shutdown_timeout + more if self._shutdown_timeout else None
        await _any_of(task, self._stopped, seconds=seconds)
        if self._stopped.done():
            failure = self._stopped.result()
            if failure is not None:
                logger.error("%s%s", failure, failure.details)
            await self._end(task, self._cancel_timeout)
        elif not task.done():
            logger.error(
                "Application shutdown took longer than %.3g s and was cancelled; raise --lifespan-shutdown-timeout",
                seconds,
            )
            await self._cancel(task)

    # ---- the application's side ----

    async def _run(self, scope: Message) -> None:
        self._running = asyncio.current_task()
        await self._app(scope, self._receive, self._send)

    async def _receive(self) -> Message:
        if self._received and self._doubt is None and self._open():
            itself = asyncio.current_task() is self._running
            seconds = ANSWER_SECONDS if itself else READ_AHEAD_SECONDS
            self._doubt = asyncio.get_running_loop().call_later(
                seconds, self._settle, "waits for another event before it answers lifespan.startup"
            )
        self._received = True
        return await self._events.get()

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if not kind.startswith("lifespan.") and self._open():
            self._settle(f"sends {kind}")
            await asyncio.get_running_loop().create_future()  # until it is cancelled
        if kind not in ANSWERS:
            raise ValueError(f"Cannot handle message type {kind}!")
        startup, complete = ANSWERS[kind]
        answer = self._started if startup else self._stopped
        if answer.done():
            raise RuntimeError(f"{kind} was sent, but that phase of the lifespan is over")
        if not startup and not self._started.done():
            raise RuntimeError(f"{kind} was sent before lifespan.startup.complete")
        answer.set_result(
            None if complete else _failure("startup" if startup else "shutdown", message)
        )

    # ---- an application without a lifespan ----

    def _open(self) -> bool:
        """May the application turn out to have no lifespan?"""
        return self._mode == "auto" and not self._started.done()

    def _settle(self, what: str) -> None:
        if not self._none.done() and not self._started.done():
            self._none.set_result(what)

    async def _not_started(self, task: asyncio.Task[None]) -> None:
        """The application has not answered lifespan.startup: LifespanError, unless it may have no lifespan."""
        if self._none.done():
            logger.info("Application has no lifespan: it %s", self._none.result())
            await self._drop(task)
        elif task.done():
            self._unsupported(task)
        elif self._open() and not self._received:
            logger.warning(
                "Application has no lifespan: it did not ask for lifespan.startup within %g s; give --lifespan off",
                self._startup_timeout,
            )
            await self._drop(task)
        else:
            await self._cancel(task)
            raise LifespanError(
                f"Application startup took longer than {self._startup_timeout:g} s;"
                " raise --lifespan-startup-timeout or give --lifespan off"
            )

    async def _drop(self, task: asyncio.Task[None]) -> None:
        """Cancels an application that takes the lifespan for a connection, and logs nothing."""
        task.cancel()
        await asyncio.wait({task}, timeout=self._cancel_timeout)
        if task.done() and not task.cancelled():
            logger.debug("The application ended its lifespan with %r", task.exception())

    def _unsupported(self, task: asyncio.Task[None]) -> None:
        """The application ended without an answer to lifespan.startup."""
        error = None if task.cancelled() else task.exception()
        if self._mode == "on":
            if error is not None:
                logger.error("Exception in the application's lifespan: %s", error, exc_info=error)
            how = "raised" if error is not None else "returned"
            raise LifespanError(
                f"Application startup failed: the lifespan {how} before lifespan.startup.complete;"
                " give --lifespan auto if the application has none"
            )
        if error is None or not self._received:
            logger.debug(
                "Application has no lifespan: %s", "returned" if error is None else repr(error)
            )
        elif "lifespan" in str(error):  # the application itself says so, as Channels' consumers do
            logger.info("Application has no lifespan: it raises %r", error)
        else:
            logger.warning(
                "Application has no lifespan: it raises %r at lifespan.startup (%s); --lifespan off does not call it,"
                " --lifespan on ends the server",
                error,
                _place(error),
                exc_info=error if logger.isEnabledFor(logging.DEBUG) else None,
            )

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Called when the application's task is over, before the shutdown or after it."""
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("Exception in the application's lifespan: %s", error, exc_info=error)

    async def _end(self, task: asyncio.Task[None], seconds: float) -> None:
        """Waits for an application that has answered to return."""
        await asyncio.wait({task}, timeout=seconds)
        await self._cancel(task)

    async def _cancel(self, task: asyncio.Task[None]) -> None:
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=self._cancel_timeout)
        if not task.done():
            logger.error("The application's lifespan swallowed its cancellation")
        elif not task.cancelled():
            task.exception()  # an exception on the way out was asked for by the cancellation


# message type: (of the startup?, complete?)
ANSWERS = {
    "lifespan.startup.complete": (True, True),
    "lifespan.startup.failed": (True, False),
    "lifespan.shutdown.complete": (False, True),
    "lifespan.shutdown.failed": (False, False),
}


async def _any_of(*futures: Future, seconds: float | None) -> None:
    """Waits for the first of them, seconds at most."""
    await asyncio.wait(futures, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)


def _failure(phase: str, message: Message) -> LifespanError:
    """The application's reason for its failure; or the whole traceback, as Starlette does."""
    text = str(message.get("message") or "the application gave no reason").strip()
    if "Traceback (most recent call last)" not in text:
        return LifespanError(f"Application {phase} failed: {' '.join(text.split())}")
    lines = [line.strip(" |+-") for line in text.splitlines()]
    return LifespanError(f"Application {phase} failed: {[*filter(None, lines)][-1]}", f"\n{text}")


def _place(error: BaseException) -> str:
    """The place where the exception was raised."""
    *_, last = traceback.extract_tb(error.__traceback__) or [None]
    return "" if last is None else f"{last.filename}, line {last.lineno}"
