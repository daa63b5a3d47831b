"""A server in a process of its own, for tests: what channels.testing and projects import from daphne.testing.

    class ChatTest(ChannelsLiveServerTestCase):
        ProtocolServerProcess = pyasgi.testing.DaphneProcess

Importing this module makes ``daphne.testing`` importable where daphne is not installed, so that line is only needed
beside a real daphne. Classes and their attributes are daphne's; what differs is said at each.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import stat
import tempfile
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable, Mapping
from multiprocessing import process
from types import TracebackType
from typing import Any, Self

from . import compat, main_loop
from .compat import reactor
from .endpoints import build_endpoint_description_strings
from .server import Server, StartError
from .testing_django import DjangoState

Message = dict[str, Any]
Application = Callable[..., Any]

JOIN_SECONDS = 10.0  # seconds for a terminated server to end
POLL_SECONDS = 0.1  # seconds between two looks of resolve_port()
CHANNELS_SETUP = ("channels.testing.live", "set_database_connection")

compat.install()


class DaphneProcess(multiprocessing.Process):
    """A process that serves get_application() on a TCP address until it is terminated.

    host: address or name; port: None and 0 for a free one
    get_application: called in the process. Like setup and teardown it has to be picklable where processes are spawned
    kwargs: further arguments of Server
    setup, teardown: called in the process before it serves and after

    Attributes for the parent: ready (an Event, set as soon as connections are accepted), port (a Value), errors (a
    Queue of (exception, traceback text)). In the process: server.

    SIGTERM keeps its default action: terminate() ends the process at once. The process also ends when its parent has
    ended. Daemonic processes may start one too: the workers of ``manage.py test --parallel`` are daemonic. Where the
    parent runs Django's tests, the process uses the parent's test databases and its ALLOWED_HOSTS and DEBUG.
    """

    def __init__(
        self,
        host: str,
        get_application: Callable[[], Application],
        kwargs: Mapping[str, Any] | None = None,
        setup: Callable[[], object] | None = None,
        teardown: Callable[[], object] | None = None,
        port: int | None = None,
    ) -> None:
        super().__init__()
        self.host = host
        self.get_application = get_application
        self.kwargs = dict(kwargs or {})
        self.setup = setup
        self.teardown = teardown
        self.port = multiprocessing.Value("i", port or 0)
        self.ready = multiprocessing.Event()
        self.errors: multiprocessing.Queue[tuple[BaseException, str]] = multiprocessing.Queue()
        self.server: Any = None
        self.django: DjangoState | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # For a process that is spawned: Django is set up before the class's module, of tests, imports models.
        return _revive, (self.django, type(self)), vars(self)

    def start(self) -> None:
        """Starts the process, from a daemonic one too."""
        self.django = DjangoState.of_tests()
        config: dict[str, Any] = process.current_process()._config  # type: ignore[attr-defined]
        daemonic = config.pop("daemon", None)
        try:
            super().start()
        finally:
            if daemonic is not None:
                config["daemon"] = daemonic

    def run(self) -> None:
        """Runs in the process. Exceptions are put on the queue `errors`."""
        main_loop.renew()
        try:
            if self.django is not None:
                self.django.apply()
            self.server = Server(
                application=self.get_application(),
                endpoints=build_endpoint_description_strings(host=self.host, port=self.port.value),
                signal_handlers=False,
                **self.kwargs,
            )
            self._run_server()
        except BaseException as error:  # noqa: BLE001 - the parent wants KeyboardInterrupt and SystemExit too
            self._report(error)

    def server_listens(self, server: Any) -> None:
        """Called by a Server as soon as it listens: tells the parent, and sees to it that we do not outlive it."""
        if self.server is None:  # for a run() that keeps the port elsewhere
            self.server = server
        self.resolve_port()
        parent = multiprocessing.parent_process()
        if parent is not None:
            main_loop.current().add_reader(parent.sentinel, server.stop)

    def resolve_port(self) -> None:
        """Tells the parent the port, now or when there is one. Copies of daphne's run() call it."""
        addresses = [] if self.server is None else self.server.listening_addresses
        if addresses:
            self.port.value = addresses[0][1]
            self.ready.set()
        else:
            main_loop.current().call_later(POLL_SECONDS, self.resolve_port)

    def _run_server(self) -> None:
        if self.setup is not None and not self._shares_databases():
            self.setup()
        try:
            self.server.run()
            if self.server.abort_reason:
                raise StartError(self.server.abort_reason)
        finally:
            if self.teardown is not None:
                self.teardown()

    def _shares_databases(self) -> bool:
        """Is setup what channels makes of the default database, which DjangoState did for all of them?

        channels' function does not know the clones of a parallel test run, and gives a forked process a database
        that is called test_test_NAME.
        """
        name = getattr(self.setup, "__module__", None), getattr(self.setup, "__qualname__", None)
        return self.django is not None and name == CHANNELS_SETUP

    def _report(self, error: BaseException) -> None:
        text = traceback.format_exc()
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # noqa: BLE001 - an exception's own __reduce__ may raise anything
            error = RuntimeError(f"{type(error).__name__}: {error}")
        self.errors.put((error, text))


def _revive(django: DjangoState | None, cls: type[DaphneProcess]) -> DaphneProcess:
    return cls.__new__(cls)


def _reinstall_reactor() -> None:
    """For copies of daphne's run(), which call it first: a new loop, and a reactor that runs on it."""
    main_loop.renew()
    reactor.install()


class BaseDaphneTestingInstance:
    """Context manager: application served by a DaphneProcess on host and port of the loopback.

    startup_timeout: seconds for the server to start
    """

    startup_timeout: float = 2

    def __init__(
        self,
        xff: bool = False,
        http_timeout: float | None = None,
        request_buffer_size: int | None = None,
        websocket_max_message_size: int | None = None,
        websocket_max_frame_size: int | None = None,
        *,
        application: Application,
    ) -> None:
        self.xff = xff
        self.http_timeout = http_timeout
        self.host = "127.0.0.1"
        self.port = 0
        self.request_buffer_size = request_buffer_size
        self.websocket_max_message_size = websocket_max_message_size
        self.websocket_max_frame_size = websocket_max_frame_size
        self.application = application
        self.process: DaphneProcess

    def get_application(self) -> Application:
        """Called in the process."""
        return self.application

    def process_setup(self) -> None:
        """Called in the process before it serves."""

    def process_teardown(self) -> None:
        """Called in the process after it has served; not when it is terminated."""

    def get_received(self) -> Any:
        """What the application received, for subclasses whose applications keep it."""

    def __enter__(self) -> Self:
        process = DaphneProcess(
            host=self.host,
            get_application=self.get_application,
            kwargs=self._server_arguments(),
            setup=self.process_setup,
            teardown=self.process_teardown,
        )
        process.start()
        self.process = process
        if not self._wait_until_ready():
            reason = self._why_not_ready()
            self._end_process()
            raise RuntimeError(f"Daphne did not start up: {reason}")
        self.port = process.port.value
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end_process()

    def _server_arguments(self) -> dict[str, Any]:
        arguments: dict[str, Any] = {}
        if self.xff:
            for part, name in (("address", "For"), ("port", "Port"), ("proto", "Proto")):
                arguments[f"proxy_forwarded_{part}_header"] = f"X-Forwarded-{name}"
        if self.request_buffer_size:
            arguments["request_buffer_size"] = self.request_buffer_size
        if self.http_timeout:
            arguments["http_timeout"] = self.http_timeout
        for name in ("websocket_max_message_size", "websocket_max_frame_size"):
            if getattr(self, name) is not None:
                arguments[name] = getattr(self, name)
        return arguments

    def _wait_until_ready(self) -> bool:
        deadline = time.monotonic() + self.startup_timeout
        while not self.process.ready.wait(POLL_SECONDS):
            if time.monotonic() > deadline or not self.process.is_alive():
                return self.process.ready.is_set()
        return True

    def _why_not_ready(self) -> str:
        if not self.process.errors.empty():
            _, text = self.process.errors.get(timeout=1)
            return f"\n{text}"
        if self.process.is_alive():
            return f"it took longer than startup_timeout, {self.startup_timeout:g} s"
        return f"the process ended with exit code {self.process.exitcode} and no error was caught"

    def _end_process(self) -> None:
        process = self.process
        process.terminate()
        process.join(JOIN_SECONDS)
        if process.exitcode is None:
            process.kill()
            process.join()
        process.errors.close()
        del self.process


class DaphneTestingInstance(BaseDaphneTestingInstance):
    """Serves a TestApplication: tells it what to send, and what it received."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.lock = multiprocessing.Lock()
        super().__init__(*args, **kwargs, application=TestApplication(lock=self.lock))

    def __enter__(self) -> Self:
        TestApplication.delete_setup()
        TestApplication.delete_result()
        return super().__enter__()

    def get_received(self) -> tuple[Message, list[Message]]:
        """(scope, all events so far) of the latest connection; what the application raised is raised here.

        ValueError while there is nothing.
        """
        try:
            with self.lock:
                result = TestApplication.load_result()
        except FileNotFoundError:
            raise ValueError("The application has received nothing yet.") from None
        if "exception" in result:
            raise result["exception"]
        return result["scope"], result["messages"]

    def add_send_messages(self, messages: Iterable[Message]) -> None:
        """Sets the messages that the application sends when it receives its next event."""
        TestApplication.save_setup(list(messages))


class TestApplication:
    """An ASGI application that writes down what it receives and sends what it finds written down.

    Both are files, since parent and process share nothing else: setup_storage and result_storage, of each process that
    runs tests its own pair.
    """

    __test__ = False  # pytest must not take it for a test class

    setup_storage = os.path.join(tempfile.gettempdir(), f"setup-{os.getpid()}.testio")
    result_storage = os.path.join(tempfile.gettempdir(), f"result-{os.getpid()}.testio")

    def __init__(self, lock: Any) -> None:
        self.lock = lock
        self.scope: Message = {}
        self.messages: list[Message] = []

    def __getstate__(self) -> dict[str, Any]:
        return {
            **vars(self),
            "setup_storage": self.setup_storage,
            "result_storage": self.result_storage,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A spawned process has imported this file anew, and with it names of its own.
        for name in ("setup_storage", "result_storage"):
            setattr(TestApplication, name, state.pop(name))
        vars(self).update(state)

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        if scope["type"] == "lifespan":
            raise ValueError("this application has no lifespan")
        self.scope = {name: value for name, value in scope.items() if _picklable(value)}
        try:
            while True:
                self.messages.append(await receive())
                with self.lock:
                    self.save_result(self.scope, self.messages)
                    replies = self.load_setup()["response_messages"]
                    self.delete_setup()
                for message in replies:
                    await send(message)
        except Exception as error:  # noqa: BLE001 - the test wants all of them
            self.save_exception(error)

    @classmethod
    def save_setup(cls, response_messages: list[Message]) -> None:
        _write(cls.setup_storage, {"response_messages": response_messages})

    @classmethod
    def load_setup(cls) -> dict[str, Any]:
        try:
            return _read(cls.setup_storage)
        except FileNotFoundError:
            return {"response_messages": []}

    @classmethod
    def save_result(cls, scope: Message, messages: list[Message]) -> None:
        _write(cls.result_storage, {"scope": scope, "messages": messages})

    @classmethod
    def save_exception(cls, exception: BaseException) -> None:
        _write(cls.result_storage, {"exception": exception})

    @classmethod
    def load_result(cls) -> dict[str, Any]:
        return _read(cls.result_storage)

    @classmethod
    def delete_setup(cls) -> None:
        _delete(cls.setup_storage)

    @classmethod
    def delete_result(cls) -> None:
        _delete(cls.result_storage)


def _picklable(value: object) -> bool:
    try:
        pickle.dumps(value)
    except Exception:  # noqa: BLE001 - what an object's __reduce__ raises
        return False
    return True


def _write(path: str, content: dict[str, Any]) -> None:
    """Replaces the file at once: a reader sees the old content or the new one."""
    with tempfile.NamedTemporaryFile(dir=os.path.dirname(path), delete=False) as file:
        pickle.dump(content, file)
    os.replace(file.name, path)


def _read(path: str) -> dict[str, Any]:
    """FileNotFoundError; PermissionError for somebody else's file, which unpickling would run."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        status = os.fstat(file.fileno())
        if status.st_uid != os.geteuid() or not stat.S_ISREG(status.st_mode):
            raise PermissionError(f"{path} is not a file of this user; set TMPDIR to a private one")
        content: dict[str, Any] = pickle.load(file)
        return content


def _delete(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
