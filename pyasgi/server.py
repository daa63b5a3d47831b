"""The server as Python sees it: daphne's Server class over the C extension.

It opens the endpoints, runs the application's lifespan and hands requests to _core.Server, which calls the
application without passing through here. Everything is made in run(), so a Server can be built before a
fork and run in a thread.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Any

from . import access, ending, forked, logs, main_loop, reactor, suspects, trace
from .access import native_descriptor, open_unblocking
from .disconnects import is_disconnect
from .endpoints import (
    EndpointError,
    Listener,
    check_endpoint,
    let_listen,
    of_socket,
    open_endpoint,
)
from .importer import ApplicationError, single_callable
from .lifespan import Lifespan, LifespanError
from .loop import EventLoop
from .native import _core
from .notify import Notifier
from .options import LIMITS, NATIVE, documented, values
from .process import Leaks, hold_standard_descriptors, worker_threads
from .reactor import Reactor
from .signals import ShutdownSignals
from .tls import Context, Settings, TlsError
from .words import a, count

logger = logging.getLogger("daphne.server")

ActionLogger = Callable[[str, str, dict[str, Any]], object]
DRAIN_STEP = 0.02  # seconds between two looks at what still runs

reactor.prepare()  # like daphne, which installs its reactor when it is imported


class StartError(RuntimeError):
    """The server could not start; the message is one line for the operator."""


@documented
class Server:
    """Serves one ASGI application on a list of endpoint strings.

    The positional arguments are daphne's; times are in seconds, sizes in bytes. Of the timers 0, None and
    negative numbers mean "no limit". Further keyword arguments, each kept as an attribute:

    tls: pyasgi.tls.Settings for the endpoints that speak TLS and do not bring their own
    sockets: bound stream sockets of any family to serve on beside the endpoints; they listen, and do not block, from
        run() on. They speak TLS when tls is given; for PROXY headers, or TLS on some of them, give endpoints
        "fd:fileno=N:proxy=required:tls=yes". Sockets and descriptors of fd: stay the caller's: the server uses
        copies and closes those, and what connects after a stop waits until the caller has closed its own.
    loop: a pyasgi.loop.EventLoop to run on, which stays the caller's; None makes one in run()
    settings: any limit of docs/flags.rst, and these options, which are described as the flags of the same names:
    """

    # Options that this file reads; the others are handed to the extension as they are.
    graceful_timeout: float
    cancel_timeout: float
    lifespan: str
    lifespan_startup_timeout: float
    lifespan_shutdown_timeout: float
    extensions: tuple[str, ...]
    access_log_exclude: tuple[str, ...]
    http2: bool

    # True: the descriptors of fd: were given to this process for the server, which closes them.
    owns_descriptors = False
    requests_end = 0.0  # by time.monotonic(), set when a stop has begun

    def __init__(
        self,
        application: Any,
        endpoints: Iterable[str] | None = None,
        signal_handlers: bool = True,
        action_logger: ActionLogger | None = None,
        http_timeout: float | None = None,
        request_buffer_size: int = int(LIMITS["request_buffer_size"].default),
        websocket_timeout: float | None = 86400,
        websocket_connect_timeout: float | None = 20,
        ping_interval: float | None = 20,
        ping_timeout: float | None = 30,
        root_path: str = "",
        proxy_forwarded_address_header: str | None = None,
        proxy_forwarded_port_header: str | None = None,
        proxy_forwarded_proto_header: str | None = None,
        verbosity: int = 1,
        websocket_handshake_timeout: float | None = 5,
        websocket_max_message_size: int = 1024 * 1024,
        websocket_max_frame_size: int = 1024 * 1024,
        application_close_timeout: float | None = 10,
        ready_callable: Callable[[], object] | None = None,
        server_name: str = "cdaphne",
        *,
        tls: Settings | None = None,
        sockets: Iterable[socket.socket] = (),
        loop: EventLoop | None = None,
        **settings: Any,
    ) -> None:
        self.application = application
        self.endpoints = list(endpoints or [])
        self.signal_handlers = signal_handlers
        self.action_logger = action_logger
        self.http_timeout = http_timeout
        self.request_buffer_size = request_buffer_size
        self.websocket_timeout = websocket_timeout
        self.websocket_connect_timeout = websocket_connect_timeout
        self.ping_interval = ping_interval
        self.ping_timeout = ping_timeout
        self.root_path = root_path
        self.proxy_forwarded_address_header = proxy_forwarded_address_header
        self.proxy_forwarded_port_header = proxy_forwarded_port_header
        self.proxy_forwarded_proto_header = proxy_forwarded_proto_header
        self.verbosity = verbosity
        self.websocket_handshake_timeout = websocket_handshake_timeout
        self.websocket_max_message_size = websocket_max_message_size
        self.websocket_max_frame_size = websocket_max_frame_size
        self.application_close_timeout = application_close_timeout
        self.ready_callable = ready_callable
        self.server_name = server_name
        self.tls = tls
        self.sockets = list(sockets)
        self.loop = loop
        for name, value in values(settings).items():
            setattr(self, name, value)

        self.listeners: list[Listener] = []
        self.listening_addresses: list[tuple[str, int]] = []
        self._places: list[str] = []  # where a client finds the listeners
        self._tls: dict[Settings, Context] = {}
        self.abort_start = self.served = False  # served: run() has accepted connections
        self.abort_reason = ""  # one line, why the server could not start
        self._core: _core.Server | None = None
        self._notifier: Notifier | None = None
        self._access_descriptor: int | None = None  # a stream that the server must close
        self._stop: ending.Stop | None = None  # of the present run
        if not self.endpoints and not self.sockets:
            logger.error("No endpoints. This server will not listen on anything.")
            sys.exit(1)

    # ---- for callers ----

    def run(self) -> None:
        """Serves until stop(), SIGTERM or SIGINT; True in abort_start means that it never served.

        KeyboardInterrupt and SystemExit that the application raises end the server gracefully and pass through.
        """
        if self.abort_start:
            return
        hold_standard_descriptors()
        leaks = Leaks()
        try:
            if self.loop is not None:
                self._run(self.loop)
            else:
                self._run_on_own_loop()
        finally:
            leaks.report()

    async def serve(self) -> None:
        """Serves in the running loop, which is a pyasgi.loop.EventLoop, until stop() or until this task is cancelled.

        Both begin the graceful shutdown, which is over when this returns; a second cancellation cuts it short.
        RuntimeError on another loop, StartError when the server could not start.
        """
        loop = asyncio.get_running_loop()
        if not isinstance(loop, EventLoop):
            raise RuntimeError(
                f"the running loop is {a(type(loop).__name__)}, and the server needs a pyasgi.loop.EventLoop:"
                " asyncio.Runner(loop_factory=pyasgi.loop.EventLoop)"
            )
        if self.abort_start:
            return
        self._stop = ending.Stop()
        serving = loop.create_task(self._serve(loop), name="server")
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            self._stop.set()
            try:
                await asyncio.shield(serving)
            except asyncio.CancelledError:
                serving.cancel()
                await asyncio.wait({serving})
            raise
        finally:
            self._stop.set()
            self._stop = None
        if self.abort_start:
            raise StartError(self.abort_reason)

    def stop(self) -> None:
        """Begins the graceful shutdown; before run() it makes run() return at once. From any thread."""
        stop = self._stop
        if stop is None:
            self.abort_start = True
        else:
            stop.set()

    def check(self) -> list[str]:
        """Returns what run() would complain of, one line each; opens no endpoint and does not run the lifespan."""
        from . import preflight

        problems = []
        for given in (*self.endpoints, *self.sockets):
            try:
                text = self._text(given)
                settings = check_endpoint(text, self.tls)
                # A start would make the program's own sockets listen.
                if not isinstance(given, socket.socket):
                    preflight.look(text)
                if settings is not None:
                    self._context(settings, text)
            except EndpointError as error:
                problems.append(str(error))
        self._tls.clear()
        loop = EventLoop()
        try:
            loop.run_until_complete(self._try_core(loop))
            worker_threads()
        except (ApplicationError, TypeError, ValueError, OverflowError) as error:
            problems.append(str(error))
        finally:
            self._close_access_descriptor()
            loop.close()
        return problems

    async def _try_core(self, loop: EventLoop) -> None:
        application = single_callable(self.application)
        self._make_core(loop, application, Lifespan(application, "off", 0, 0, 0)).close()

    def reopen_logs(self) -> None:
        """Opens the log files anew after a rotation; in the loop's thread. SIGUSR1 calls it."""
        if self._notifier is not None:
            self._notifier.reloading("Reopening log files")
        complaints = logs.reopen()
        if complaint := access.reopen(self.action_logger):
            complaints.append(complaint)
        for complaint in complaints:
            logger.error("Cannot reopen %s; the old file is written on", complaint)
        if not complaints:
            logger.info("Log files were opened anew")
        if self._notifier is not None:
            self._notifier.ready(self._status())

    def reload_tls(self) -> None:
        """Loads the files of TLS anew, for connections to come; in the loop's thread. SIGHUP calls it."""
        self._reload(list(self._tls.values()))

    def _reload(self, contexts: list[Context]) -> None:
        if self._notifier is not None:
            self._notifier.reloading("Loading certificates")
        for context in contexts:
            try:
                context.reload()
            except TlsError as error:
                logger.error("Cannot load certificates anew, the old ones stay: %s", error)
            else:
                logger.info("Certificates were loaded anew")
                _warn(context)
        if self._notifier is not None:
            self._notifier.ready(self._status())

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return 0 if self._core is None else self._core.connections

    def log_action(self, protocol: str, action: str, details: dict[str, Any]) -> None:
        """Passes an action (see AccessLogGenerator) to the action logger."""
        if self.action_logger is not None:
            self.action_logger(protocol, action, details)

    # ---- for forked.py ----

    def signals(self) -> Iterable[int]:
        return ()

    def forsake(self) -> None:
        self._core = self._notifier = self._stop = None
        self._close_access_descriptor()
        for listener in self.listeners:
            listener.close()

    # ---- one run ----

    def _run_on_own_loop(self) -> None:
        try:
            loop = main_loop.take()
        except ValueError as error:
            self._abort(str(error))
            return
        try:
            asyncio.set_event_loop(loop)
            self._run(loop)
        finally:
            loop.run_until_complete(_end_tasks(self.cancel_timeout))
            loop.run_until_complete(_end_generators(loop, self.cancel_timeout))
            asyncio.set_event_loop(None)
            loop.close()

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        if self.verbosity >= 3:
            loop.set_debug(True)
        self._stop = ending.Stop()
        serving = loop.create_task(self._serve(loop), name="server")
        try:
            loop.run_until_complete(serving)
        except (KeyboardInterrupt, SystemExit) as error:
            if serving.done():
                raise
            logger.warning("Application raised %s: shutting down", type(error).__name__)
            self._stop.set()
            loop.run_until_complete(serving)
            # Objects in the application's frames would live on
            traceback.clear_frames(error.__traceback__)
            raise
        finally:
            self._stop.set()
            self._stop = None

    async def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        assert self._stop is not None
        ending.begin(self._stop)
        try:
            application = single_callable(self.application)
        except ApplicationError as error:
            self._abort(f"Cannot start: {error}")
            return
        if isinstance(loop, EventLoop) and loop.replaced:
            logger.info(
                "Something has replaced asyncio's %s: the event loop takes asyncio's own, slower way through it",
                ", ".join(loop.replaced),
            )
        signals = self._signals(loop, self._stop)
        notifier = Notifier(loop, self.signal_handlers)
        with forked.owning(self, signals), signals, notifier as self._notifier:
            try:
                if self._open_endpoints():
                    if self._tls:
                        signals.reload_too()
                    async with Reactor(loop, self.stop, self.signal_handlers):
                        await self._with_lifespan(loop, application)
            finally:
                for listener in self.listeners:
                    listener.close()

    def _signals(self, loop: asyncio.AbstractEventLoop, stop: ending.Stop) -> ShutdownSignals:
        return ShutdownSignals(
            loop,
            stop,
            self._first_signal,
            self._second_signal,
            self.reopen_logs,
            self.reload_tls,
            self.signal_handlers,
        )

    def _text(self, given: object) -> str:
        """The endpoint string of an endpoint or a socket. EndpointError."""
        if isinstance(given, socket.socket):
            return of_socket(given, self.tls is not None)
        return str(given)

    def _open_endpoints(self) -> bool:
        """Opens every endpoint, also after one that failed; False when one failed."""
        logger.info("HTTP/2 support %s", "enabled" if self.http2 else "not enabled (--no-http2)")
        self.listeners.clear()
        self._tls.clear()
        self.listening_addresses.clear()
        self._places.clear()
        for given in (*self.endpoints, *self.sockets):
            try:
                text = self._text(given)
                logger.info("Configuring endpoint %s", text)
                if isinstance(given, socket.socket):
                    let_listen(given)
                opened = open_endpoint(text, self.endpoints, self.tls, self.owns_descriptors)
                self.listeners += opened
                if opened[0].tls is not None:
                    _warn(self._context(opened[0].tls, text))
            except EndpointError as error:
                self._abort(f"Listen failure: {error}")
        return not self.abort_start

    def _context(self, settings: Settings, text: str) -> Context:
        """The certificates of these settings, loaded once. EndpointError."""
        if settings not in self._tls:
            try:
                self._tls[settings] = Context(settings)
            except TlsError as error:
                raise EndpointError(f"no TLS on {str(text)!r}: {error}") from error
        return self._tls[settings]

    async def _watch_files(self) -> None:
        """Loads certificates anew when their files have changed."""
        while True:
            await asyncio.sleep(self._limits()["tls_reload_interval"])
            changed = [context for context in self._tls.values() if context.changed()]
            if changed:
                self._reload(changed)

    async def _with_lifespan(
        self, loop: asyncio.AbstractEventLoop, application: Callable[..., Any]
    ) -> None:
        lifespan = Lifespan(
            application,
            self.lifespan,
            self.lifespan_startup_timeout,
            self.lifespan_shutdown_timeout,
            self.cancel_timeout,
        )
        try:
            if not await self._unless_stopped(lifespan.startup()):
                return
        except LifespanError as error:
            self._abort(str(error), error.details)
            return
        try:
            await self._accept(loop, application, lifespan)
        finally:
            await lifespan.shutdown(self._left())

    async def _unless_stopped(self, work: Any) -> bool:
        """Awaits work; False when stop() came first and cancelled it."""
        assert self._stop is not None
        task = asyncio.ensure_future(work)
        stopped = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
        if task.done():
            task.result()
            return True
        task.cancel()
        await asyncio.wait({task})
        return False

    async def _accept(
        self, loop: asyncio.AbstractEventLoop, application: Callable[..., Any], lifespan: Lifespan
    ) -> None:
        try:
            core = self._core = self._make_core(loop, application, lifespan)
        except (TypeError, ValueError, OverflowError) as error:
            self._abort(f"Cannot start: {error}")
            return
        watching = None
        try:
            for listener in self.listeners:
                self._listen(core, listener)
            if self._tls and self._limits()["tls_reload_interval"]:
                watching = loop.create_task(self._watch_files(), name="tls files")
            if self.ready_callable is not None:
                self.ready_callable()
            self.served = True
            self._announce()
            logger.info("Ready at %s (pid %d)", ", ".join(self._places), os.getpid())
            assert self._stop is not None and self._notifier is not None
            self._notifier.ready(self._status())
            await self._stop.wait()
            self._notifier.stopping("Finishing what is running")
            await self._drain(core)
        finally:
            if watching is not None:
                watching.cancel()
            self._core = None
            core.close()
            self._tls.clear()
            self._close_access_descriptor()

    def _close_access_descriptor(self) -> None:
        if self._access_descriptor is not None:
            os.close(self._access_descriptor)
            self._access_descriptor = None

    def _status(self) -> str:
        return f"Listening at {', '.join(map(self._text, (*self.endpoints, *self.sockets)))}"

    def _announce(self) -> None:
        """Tells a DaphneProcess that the server listens: copies of daphne's run() have no other way to know."""
        processes = sys.modules.get("multiprocessing.process")
        if processes is not None:
            announce = getattr(processes.current_process(), "server_listens", None)
            if announce is not None:
                announce(self)

    def _make_core(
        self, loop: asyncio.AbstractEventLoop, application: Callable[..., Any], lifespan: Lifespan
    ) -> _core.Server:
        if trace.wanted():
            application = trace.traced(application)
        descriptor, on_access = -1, None
        plain = type(self).log_action is Server.log_action
        native = native_descriptor(self.action_logger) if plain else None
        if native is not None:
            self._access_descriptor = open_unblocking(native)
            descriptor = native if self._access_descriptor is None else self._access_descriptor
        elif self.action_logger is not None or not plain:
            on_access = self.log_action
        syslog, tag = access.syslog_of(self.action_logger)
        return _core.Server(
            loop,  # type: ignore[arg-type]
            application,
            on_log=_on_log,
            on_access=on_access,
            on_exception=functools.partial(_on_exception, self._offered()),
            access_fd=descriptor,
            access_exclude=self.access_log_exclude,
            access_syslog=syslog,
            access_tag=tag,
            server_header=self.server_name.encode("latin-1") or None,
            extensions=self._offered(),
            root_path=self.root_path,
            state=lifespan.state,
            context=lifespan.context,
            proxy_headers=self._proxy_headers(),
            **{option.name: getattr(self, option.name) for option in NATIVE},
            **self._limits(),
        )

    def _offered(self) -> tuple[str, ...]:
        """The extensions; what comes as http.response.debug would be formatted for nobody without a log for it."""
        debugs = logger.isEnabledFor(logging.DEBUG)
        return tuple(name for name in self.extensions if debugs or name != "debug")

    def _proxy_headers(self) -> tuple[bytes | None, bytes | None, bytes | None] | None:
        if not self.proxy_forwarded_address_header:
            return None
        names = (
            self.proxy_forwarded_address_header,
            self.proxy_forwarded_port_header,
            self.proxy_forwarded_proto_header,
        )
        address, port, proto = (name.lower().encode("latin-1") if name else None for name in names)
        return address, port, proto

    def _limits(self) -> dict[str, float]:
        """The attributes in the extension's form: no None, no negative time."""
        limits = {}
        for name, limit in LIMITS.items():
            value = getattr(self, name, limit.default)
            if limit.kind == "time":
                value = max(0, value or 0)
            limits[name] = limit.default if value is None else value
        # daphne has two names, and two timers, for the time an application may take to accept.
        connects = [
            limits["websocket_connect_timeout"],
            max(0, self.websocket_handshake_timeout or 0),
        ]
        limits["websocket_connect_timeout"] = min(filter(None, connects), default=0)
        return limits

    def _listen(self, core: _core.Server, listener: Listener) -> None:
        address = listener.address()
        self._places.append(listener.place())
        tls = None if listener.tls is None else self._tls[listener.tls].core
        core.listen(listener.sock.fileno(), tls=tls, proxy=listener.proxy)
        listener.sock.detach()  # it belongs to the core now
        if address is not None:
            self.listening_addresses.append(address)
            logger.info("Listening on TCP address %s:%s", *address)

    # ---- the end ----

    def _abort(self, reason: str, details: str = "") -> None:
        logger.critical("%s%s", reason, details)
        self.abort_start = True
        self.abort_reason = self.abort_reason or reason

    def _first_signal(self, name: str) -> None:
        logger.info("Received %s: shutting down", name)

    def _second_signal(self, name: str) -> None:
        running = 0 if self._core is None else self._core.streams
        left = count(running, "request")
        logger.warning("Received %s again: exiting at once, and cutting %s", name, left)
        for listener in self.listeners:
            listener.unlink()
        logging.shutdown()

    def _left(self) -> float:
        """The seconds of the graceful timeout that are left for the requests."""
        assert self._stop is not None
        return max(0.0, self.graceful_timeout - self._stop.age())

    async def _drain(self, core: _core.Server) -> None:
        """Lets running requests end within graceful_timeout; then cancels them."""
        self.requests_end = time.monotonic() + self.graceful_timeout
        core.drain()
        for listener in self.listeners:
            listener.unlink()
        if core.streams:
            left = count(core.streams, "request")
            logger.info("Waiting up to %g s for %s", self.graceful_timeout, left)
        if await _until(lambda: not core.streams and not core.connections, self.graceful_timeout):
            return
        running = core.tasks
        core.cancel()
        ended = await _until(lambda: not core.tasks, self.cancel_timeout)
        if not ended and _runs_inside():
            await _end_tasks(self.cancel_timeout, keep="lifespan")
            ended = await _until(lambda: not core.tasks, self.cancel_timeout)
        if not ended:
            left = count(core.tasks, "application")
            logger.warning("Cancellation was swallowed by %s", left)
        if running:
            logger.info("Killed %s", count(running, "pending application instance"))


async def _until(condition: Callable[[], bool], seconds: float) -> bool:
    """Waits for the condition, so many seconds at most; returns its last value."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(DRAIN_STEP)
    return True


def _runs_inside() -> bool:
    """Does the server's own loop turn inside a task that runs it (nest_asyncio)?

    No cancellation reaches such a task before what it waits for has ended, which is another task.
    """
    others = asyncio.all_tasks() - {asyncio.current_task()}
    running = any(getattr(task.get_coro(), "cr_running", False) for task in others)
    return running and isinstance(asyncio.get_running_loop(), main_loop.MainLoop)


async def _end_tasks(seconds: float, keep: str = "") -> None:
    """Cancels the tasks that applications left behind, except those of that name."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    left = {task for task in others if task.get_name() != keep}
    for task in left:
        task.cancel()
    if left:
        _, stuck = await asyncio.wait(left, timeout=seconds)
        for task in stuck:
            logger.warning("Task %s swallowed its cancellation", task.get_name())


async def _end_generators(loop: asyncio.AbstractEventLoop, seconds: float) -> None:
    """Closes the async generators that applications left behind."""
    closing = loop.create_task(loop.shutdown_asyncgens())
    _, stuck = await asyncio.wait({closing}, timeout=seconds)
    if stuck:
        logger.warning("An async generator took longer than %g s to close", seconds)
        closing.cancel()
        await asyncio.sleep(0)


def _warn(context: Context) -> None:
    for line in context.warnings:
        logger.warning("%s", line)


def _on_log(level: int, line: str) -> None:
    logger.log(level, "%s", line)


def _on_exception(offered: tuple[str, ...], error: BaseException, gone: bool) -> None:
    if is_disconnect(error, gone):
        logger.debug("Application ended when its client had gone: %s", error)
    else:
        logger.error("Exception inside application: %s", error, exc_info=error)
        for name in suspects.suspected(offered, error):
            logger.error(
                "The error may come from an http.response.%s: if middleware does not know this extension,"
                " leave --extension %s out",
                name,
                name,
            )


def __getattr__(name: str) -> Any:
    if name == "twisted_loop":  # daphne's name for the loop of the process's server
        return main_loop.current()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
