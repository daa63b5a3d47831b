"""The lifespan protocol: the application's startup before the first request, its shutdown after the last.

One task runs the application's lifespan for the server's whole life, in a context of its own, whose variables every
request inherits. Modes: "on" demands the protocol, "auto" tolerates an application that raises or returns
instead, as Django and Channels' ProtocolTypeRouter do, "off" never calls it.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Literal, get_args

logger = logging.getLogger("daphne.server")

Message = dict[str, Any]
App = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]
Future = asyncio.Future[Any]
Mode = Literal["on", "off", "auto"]
MODES: tuple[str, ...] = get_args(Mode)
CANCEL_SECONDS = 1.0  # for a cancelled application to end


class LifespanError(Exception):
    """The application failed its startup; the message is one line for the operator."""


class Lifespan:
    """Lifespan of one application on the running loop.

    startup_timeout, shutdown_timeout: seconds, 0 for none.
    """

    def __init__(
        self, app: App, mode: str, startup_timeout: float, shutdown_timeout: float
    ) -> None:
        self.state: dict[str, Any] | None = None
        """What the application stored for its requests; None when it has no lifespan."""
        self.context = contextvars.copy_context()
        """The context in which the application's lifespan runs."""
        self._app = app
        self._mode = mode
        self._timeouts = startup_timeout or None, shutdown_timeout or None
        self._events: asyncio.Queue[Message] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        self._started: asyncio.Future[str | None] = loop.create_future()  # None, or why it failed
        self._stopped: asyncio.Future[str | None] = loop.create_future()
        self._task: asyncio.Task[None] | None = None
        self._received = False

    async def startup(self) -> None:
        """Runs the application up to lifespan.startup.complete. LifespanError when it fails."""
        if self._mode == "off":
            return
        state: dict[str, Any] = {}
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": state,
        }
        self._events.put_nowait({"type": "lifespan.startup"})
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._run(scope), name="lifespan", context=self.context)
        try:
            await self._first(self._task, self._started, self._timeouts[0])
        except asyncio.CancelledError:
            await self._cancel(self._task)
            raise
        if self._started.done():
            failure = self._started.result()
            if failure is not None:
                await self._end(self._task)
                raise LifespanError(failure)
            self.state = state
            self._task.add_done_callback(self._ended)
        elif self._task.done():
            self._unsupported(self._task)
        else:
            await self._cancel(self._task)
            raise LifespanError(
                f"Application startup took longer than {self._timeouts[0]:g} s;"
                " raise --lifespan-startup-timeout or give --lifespan off"
            )

    async def shutdown(self) -> None:
        """Tells the application that the server ends and waits for its answer. Failures are logged."""
        task = self._task
        if task is None or task.done():
            return
        self._events.put_nowait({"type": "lifespan.shutdown"})
        await self._first(task, self._stopped, self._timeouts[1])
        if self._stopped.done():
            failure = self._stopped.result()
            if failure is not None:
                logger.error("%s", failure)
            await self._end(task)
        elif not task.done():
            logger.error(
                "Application shutdown took longer than %g s and was cancelled; raise --lifespan-shutdown-timeout",
                self._timeouts[1],
            )
            await self._cancel(task)

    # ---- the application's side ----

    async def _run(self, scope: Message) -> None:
        await self._app(scope, self._receive, self._send)

    async def _receive(self) -> Message:
        self._received = True
        return await self._events.get()

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if kind not in ANSWERS:
            raise ValueError(f"Cannot handle message type {kind}!")
        startup, complete = ANSWERS[kind]
        answer = self._started if startup else self._stopped
        if answer.done():
            raise RuntimeError(f"{kind} was sent, but that phase of the lifespan is over")
        if not startup and not self._started.done():
            raise RuntimeError(f"{kind} was sent before lifespan.startup.complete")
        phase = "startup" if startup else "shutdown"
        text = " ".join(str(message.get("message") or "the application gave no reason").split())
        answer.set_result(None if complete else f"Application {phase} failed: {text}")

    # ---- ends of the task ----

    async def _first(self, task: Future, answer: Future, seconds: float | None) -> None:
        """Waits for the application's answer or end, seconds at most."""
        await asyncio.wait({task, answer}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)

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
        if error is not None and self._received:
            logger.warning(
                "Application has no lifespan: it raised at lifespan.startup", exc_info=error
            )
        else:
            logger.debug(
                "Application has no lifespan: %s", "returned" if error is None else repr(error)
            )

    def _ended(self, task: asyncio.Task[None]) -> None:
        """The task that was started is over; before the shutdown or after it."""
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("Exception in the application's lifespan: %s", error, exc_info=error)

    async def _end(self, task: asyncio.Task[None]) -> None:
        """The application has answered: lets it return."""
        await asyncio.wait({task}, timeout=CANCEL_SECONDS)
        await self._cancel(task)

    async def _cancel(self, task: asyncio.Task[None]) -> None:
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=CANCEL_SECONDS)
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
