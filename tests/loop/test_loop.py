"""pyasgi.loop.EventLoop and _core.Poller with what asyncio programs really use.

Sockets, processes, threads, signals, TLS, a real Redis, anyio.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import errno
import gc
import logging
import os
import selectors
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any, TypeVar

import anyio
import pytest
import redis.asyncio

from pyasgi import _core
from pyasgi.loop import EventLoop
from tests.support import redis_server

redis_url = redis_server.redis_url

T = TypeVar("T")
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


def run(coroutine: Coroutine[Any, Any, T], debug: bool | None = None) -> T:
    with asyncio.Runner(loop_factory=EventLoop, debug=debug) as runner:
        return runner.run(coroutine)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def live(kind: str) -> int:
    """Objects of the core that are alive; 0 when the extension does not count them."""
    counts = getattr(_core, "debug_live", dict)()
    return int(counts.get(kind, 0))


@pytest.fixture(autouse=True)
def no_leak() -> Iterator[None]:
    gc.collect()
    before = open_descriptors(), live("loops"), live("watches")
    yield
    gc.collect()
    assert (open_descriptors(), live("loops"), live("watches")) == before


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    made = EventLoop()
    yield made
    made.close()


@pytest.fixture
def poller() -> Iterator[_core.Poller]:
    with _core.Poller() as made:
        yield made


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    with left, right:
        yield left, right


# ---- life ----


def test_runner_runs_on_our_loop() -> None:
    async def main() -> str:
        assert isinstance(asyncio.get_running_loop(), EventLoop)
        await asyncio.sleep(0)
        return "done"

    assert run(main()) == "done"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio.run has loop_factory from 3.12 on")
def test_asyncio_run_with_loop_factory() -> None:
    async def main() -> type:
        return type(asyncio.get_running_loop())

    assert asyncio.run(main(), loop_factory=EventLoop) is EventLoop  # type: ignore[call-arg]


def test_import_makes_no_loop_and_no_thread() -> None:
    program = (
        "import os, threading, asyncio; before = len(os.listdir('/proc/self/fd'))\n"
        "import pyasgi.loop; after = len(os.listdir('/proc/self/fd'))\n"
        "assert before == after, (before, after)\n"
        "assert len(os.listdir('/proc/self/task')) == 1\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


def test_loop_in_another_thread() -> None:
    async def main() -> int:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "raise SystemExit(3)")
        await asyncio.sleep(0.01)
        return await process.wait()

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert pool.submit(run, main()).result(30) == 3


def test_loop_made_here_and_run_there() -> None:
    loop = EventLoop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    future = asyncio.run_coroutine_threadsafe(asyncio.sleep(0.01, "slept"), loop)
    assert future.result(10) == "slept"
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    assert not thread.is_alive()
    loop.close()


def in_child(work: Callable[[], None]) -> int:
    """The exit status of a forked child that did the work: 0, or 1 when it raised."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_child_makes_its_own_loop_after_fork() -> None:
    def work() -> None:
        assert run(asyncio.sleep(0.01, "child")) == "child"

    assert in_child(work) == 0


def test_child_that_closes_the_inherited_loop_leaves_the_parents_alone(
    loop: EventLoop, pair: tuple[socket.socket, socket.socket]
) -> None:
    left, right = pair
    got: list[bytes] = []
    loop.add_reader(left, lambda: (got.append(left.recv(10)), loop.stop()))
    loop.call_soon(loop.stop)
    loop.run_forever()  # the kernel knows the descriptors now

    def work() -> None:
        loop.remove_reader(left)
        loop.close()

    assert in_child(work) == 0
    right.send(b"still here")
    loop.run_forever()
    assert got == [b"still here"]
    loop.remove_reader(left)


def test_close_frees_and_may_be_repeated() -> None:
    before = open_descriptors()
    loop = EventLoop()
    assert open_descriptors() > before
    loop.close()
    loop.close()
    assert open_descriptors() == before
    assert loop.is_closed()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.call_soon(print)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.run_forever()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.call_soon_threadsafe(print)
    loop._write_to_self()  # what a late thread may still do


def test_close_while_running_is_refused(loop: EventLoop) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="Cannot close a running event loop"):
            loop.close()
        with pytest.raises(RuntimeError, match="This event loop is already running"):
            loop.run_forever()

    loop.run_until_complete(main())


def test_close_while_a_server_is_open_is_refused(loop: EventLoop) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("nobody connects")

    server = _core.Server(loop, app)
    with pytest.raises(RuntimeError, match=r"1 server\(s\) on it are still open"):
        loop.close()
    assert run_again(loop) == "fine"  # nothing was half closed
    server.close()
    loop.close()


def test_close_with_pending_work_drops_it(pair: tuple[socket.socket, socket.socket]) -> None:
    class Canary:
        def called(self) -> None:
            raise AssertionError("ran after close()")

    loop = EventLoop()
    canary = Canary()
    gone = weakref.ref(canary)
    loop.call_soon(canary.called)
    loop.call_later(0.001, canary.called)
    loop.add_reader(pair[0], canary.called)
    pair[1].send(b"x")
    loop.close()
    del canary, loop
    gc.collect()
    assert gone() is None


def test_loop_dropped_without_close_warns_and_frees() -> None:
    before = open_descriptors()

    def drop() -> None:
        EventLoop()
        gc.collect()

    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        drop()
    assert open_descriptors() == before


@pytest.mark.parametrize("spare", range(5))
def test_too_few_descriptors_is_an_oserror(spare: int) -> None:
    program = (
        "import os, resource, asyncio\n"
        "from pyasgi.loop import EventLoop\n"
        f"limit = len(os.listdir('/proc/self/fd')) - 1 + {spare}\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))\n"
        "try:\n    EventLoop()\n"
        "except OSError as error:\n    raise SystemExit(error.errno)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=30
    )
    # A loop has an epoll descriptor, an eventfd, the set of the watches and asyncio's socket pair.
    assert done.returncode == errno.EMFILE, done.stderr


# ---- callbacks and timers ----


def test_call_soon_keeps_order_and_arguments(loop: EventLoop) -> None:
    seen: list[object] = []
    for number in range(100):
        loop.call_soon(seen.append, number)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == list(range(100))
    with pytest.raises(TypeError):
        loop.call_soon()  # type: ignore[call-arg]


def test_call_soon_handle_can_be_cancelled(loop: EventLoop) -> None:
    seen: list[str] = []
    handle = loop.call_soon(seen.append, "cancelled")
    assert isinstance(handle, asyncio.Handle)
    handle.cancel()
    loop.call_soon(seen.append, "ran")
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == ["ran"]


def test_call_soon_passes_many_arguments_on(loop: EventLoop) -> None:
    seen: list[tuple[int, ...]] = []
    loop.call_soon(lambda *args: seen.append(args), *range(50), context=contextvars.copy_context())
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == [tuple(range(50))]


def test_timers_fire_in_order_and_not_early(loop: EventLoop) -> None:
    started = loop.time()
    fired: list[tuple[float, float]] = []
    for delay in (0.03, 0.01, 0.02, 0.0):
        loop.call_later(delay, lambda d: fired.append((d, loop.time() - started)), delay)
    loop.call_later(0.06, loop.stop)
    cancelled = loop.call_later(0.015, fired.append, (0.0, 0.0))
    cancelled.cancel()
    loop.run_forever()
    assert [delay for delay, _ in fired] == [0.0, 0.01, 0.02, 0.03]
    assert all(delay - 0.002 <= after for delay, after in fired), fired


def test_many_cancelled_timers(loop: EventLoop) -> None:
    handles = [loop.call_later(0.01, pytest.fail, "cancelled timer ran") for _ in range(5000)]
    for handle in handles:
        handle.cancel()
    loop.call_later(0.02, loop.stop)
    loop.run_forever()


def test_stop_inside_a_callback_ends_after_the_turn(loop: EventLoop) -> None:
    seen: list[str] = []

    def first() -> None:
        loop.stop()
        loop.call_soon(seen.append, "next turn")

    loop.call_soon(first)
    loop.call_soon(seen.append, "same turn")
    loop.run_forever()
    assert seen == ["same turn"]
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == ["same turn", "next turn"]


def test_timeout_and_wait_for() -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.sleep(10)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.get_running_loop().create_future(), 0.01)
        async with asyncio.timeout(10):
            await asyncio.sleep(0.01)

    run(main())


def test_exceptions_go_to_the_handler(loop: EventLoop) -> None:
    contexts: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: contexts.append(context))
    loop.call_soon(lambda: 1 / 0)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert [type(context["exception"]) for context in contexts] == [ZeroDivisionError]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_leaves_run_forever(
    loop: EventLoop, kind: type[BaseException]
) -> None:
    def end() -> None:
        raise kind

    loop.call_soon(end)
    with pytest.raises(kind):
        loop.run_forever()
    assert run_again(loop) == "fine"


def run_again(loop: EventLoop) -> str:
    return loop.run_until_complete(asyncio.sleep(0, "fine"))


def test_slow_callbacks_are_logged_in_debug_mode(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        asyncio.get_running_loop().slow_callback_duration = 0.01
        time.sleep(0.03)  # noqa: ASYNC251

    with caplog.at_level(logging.WARNING, "asyncio"):
        run(main(), debug=True)
    assert any(
        "Executing" in record.getMessage() and "took" in record.getMessage()
        for record in caplog.records
    )


def test_debug_mode_refuses_call_soon_from_another_thread(loop: EventLoop) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="Non-thread-safe operation"):
            await asyncio.to_thread(loop.call_soon, print)

    loop.set_debug(True)
    assert loop.get_debug()
    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_default_executor())


def test_contextvars_follow_callbacks_and_tasks() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    async def child() -> str:
        seen = variable.get()
        variable.set("child")
        return seen

    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        seen: list[str] = []
        variable.set("main")
        context = contextvars.copy_context()
        context.run(variable.set, "given")
        loop.call_soon(lambda: seen.append(variable.get()), context=context)
        loop.call_soon(lambda: seen.append(variable.get()))
        seen.append(await asyncio.create_task(child()))
        await asyncio.sleep(0)
        return [*seen, variable.get()]

    assert run(main()) == ["given", "main", "main", "main"]


def test_create_task_passes_keywords_on() -> None:
    async def main() -> tuple[str, str]:
        variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
        context = contextvars.copy_context()
        context.run(variable.set, "inside")

        async def child() -> str:
            return variable.get()

        loop = asyncio.get_running_loop()
        task = loop.create_task(child(), name="named", context=context)
        return await task, task.get_name()

    assert run(main()) == ("inside", "named")


def test_task_factory_is_used() -> None:
    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        made: list[str] = []

        def factory(on: asyncio.AbstractEventLoop, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:
            made.append(coro.__name__)
            return asyncio.Task(coro, loop=on, **kwargs)

        loop.set_task_factory(factory)
        await asyncio.create_task(asyncio.sleep(0))
        loop.set_task_factory(None)
        return made

    assert run(main()) == ["sleep"]


def test_async_generators_are_shut_down() -> None:
    closed: list[str] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            closed.append("closed")

    async def main() -> AsyncIterator[int]:
        generator = numbers()
        async for _ in generator:
            break
        return generator

    kept = run(main())
    assert closed == ["closed"]
    del kept


# ---- threads ----


def test_call_soon_threadsafe_from_many_threads(loop: EventLoop) -> None:
    threads, calls = 4, 3000
    seen: list[tuple[int, int]] = []

    def note(who: int, number: int) -> None:
        seen.append((who, number))
        if len(seen) == threads * calls:
            loop.stop()

    def send(who: int) -> None:
        for number in range(calls):
            loop.call_soon_threadsafe(note, who, number)

    senders = [threading.Thread(target=send, args=(who,)) for who in range(threads)]
    for sender in senders:
        sender.start()
    loop.run_forever()
    for sender in senders:
        sender.join()
    for who in range(threads):
        assert [number for sent_by, number in seen if sent_by == who] == list(range(calls))


def test_call_soon_threadsafe_wakes_an_idle_loop(loop: EventLoop) -> None:
    threading.Timer(0.05, loop.call_soon_threadsafe, (loop.stop,)).start()
    started = time.monotonic()
    loop.run_forever()  # no timer and no descriptor would ever wake it
    assert time.monotonic() - started < 5


def test_executor_and_to_thread() -> None:
    async def main() -> list[object]:
        loop = asyncio.get_running_loop()
        here = threading.get_ident()
        there = await asyncio.to_thread(threading.get_ident)
        results = await asyncio.gather(*(loop.run_in_executor(None, pow, 2, n) for n in range(200)))
        with concurrent.futures.ProcessPoolExecutor(1) as pool:
            far = await loop.run_in_executor(pool, os.getpid)
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 / 0)
        return [here != there, results == [2**n for n in range(200)], far != os.getpid()]

    try:
        assert run(main()) == [True, True, True]
    finally:
        # Their descriptors outlive the pool, by multiprocessing's design (from Python 3.14 on).
        forkserver._forkserver._stop()  # type: ignore[attr-defined]
        resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]


def test_threads_run_while_the_loop_sleeps(loop: EventLoop) -> None:
    counted: list[int] = []

    def count() -> None:
        deadline = time.monotonic() + 0.2
        number = 0
        while time.monotonic() < deadline:
            number += 1
        counted.append(number)
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=count)
    thread.start()
    loop.run_forever()
    thread.join()
    assert counted[0] > 1000


def test_add_reader_from_another_thread_takes_effect(
    loop: EventLoop, pair: tuple[socket.socket, socket.socket]
) -> None:
    # asyncio promises nothing here, but with epoll it works, and programs rely on what works.
    left, right = pair
    right.send(b"x")
    ran_in: list[int] = []

    def on_read() -> None:
        ran_in.append(threading.get_ident())
        left.recv(10)
        loop.stop()

    timer = threading.Timer(0.1, loop.add_reader, (left, on_read))
    timer.start()
    loop.run_forever()
    timer.join()
    assert ran_in == [threading.get_ident()]
    loop.remove_reader(left)


# ---- descriptors ----


def test_reader_and_writer(loop: EventLoop, pair: tuple[socket.socket, socket.socket]) -> None:
    left, right = pair
    events: list[str] = []

    def on_write() -> None:
        events.append("write")
        right.send(b"ping")
        assert loop.remove_writer(right) is True
        assert loop.remove_writer(right) is False

    def on_read(what: str) -> None:
        events.append(what + left.recv(10).decode())
        assert loop.remove_reader(left) is True
        assert loop.remove_reader(left) is False
        loop.stop()

    loop.add_reader(left, on_read, "read ")
    loop.add_writer(right, on_write)
    loop.run_forever()
    assert events == ["write", "read ping"]


def test_reader_and_writer_of_one_descriptor_in_one_turn(
    loop: EventLoop, pair: tuple[socket.socket, socket.socket]
) -> None:
    left, right = pair
    right.send(b"x")
    events: list[str] = []
    loop.add_reader(left, events.append, "read")
    loop.add_writer(left, events.append, "write")
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert set(events) == {"read", "write"}
    loop.remove_reader(left)
    events.clear()
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert set(events) == {"write"}
    loop.remove_writer(left)


def test_reader_removed_by_another_callback_of_the_same_turn_does_not_run(
    loop: EventLoop,
) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    ran: list[int] = []

    def on_read(me: int) -> None:
        ran.append(me)
        for left, _ in pairs:
            loop.remove_reader(left)
        loop.stop()

    for number, (left, right) in enumerate(pairs):
        right.send(b"x")
        loop.add_reader(left, on_read, number)
    loop.run_forever()
    assert len(ran) == 1
    for sockets in pairs:
        for sock in sockets:
            sock.close()


def test_level_triggered(loop: EventLoop, pair: tuple[socket.socket, socket.socket]) -> None:
    left, right = pair
    right.send(b"abc")
    got: list[bytes] = []

    def on_read() -> None:
        got.append(left.recv(1))
        if len(got) == 3:
            loop.stop()

    loop.add_reader(left, on_read)
    loop.run_forever()
    assert got == [b"a", b"b", b"c"]
    loop.remove_reader(left)


def test_hangup_wakes_the_reader(
    loop: EventLoop, pair: tuple[socket.socket, socket.socket]
) -> None:
    left, right = pair
    got: list[bytes] = []
    loop.add_reader(left, lambda: (got.append(left.recv(1)), loop.stop()))
    loop.call_later(0.01, right.close)
    loop.run_forever()
    assert got == [b""]
    loop.remove_reader(left)


def test_close_inside_the_callback(loop: EventLoop) -> None:
    left, right = socket.socketpair()
    right.send(b"x")

    def on_read() -> None:
        number = left.fileno()
        left.close()
        assert loop.remove_reader(number) is True
        loop.call_later(0.01, loop.stop)

    loop.add_reader(left, on_read)
    loop.run_forever()
    right.close()


def test_descriptor_number_used_again_at_once(loop: EventLoop) -> None:
    left, right = socket.socketpair()
    number = left.fileno()
    loop.add_reader(number, pytest.fail, "the old reader ran")
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.remove_reader(number)
    left.close()
    again, other = socket.socketpair()
    assert again.fileno() == number
    other.send(b"new")
    got: list[bytes] = []
    loop.add_reader(number, lambda: (got.append(again.recv(10)), loop.stop()))
    loop.run_forever()
    assert got == [b"new"]
    loop.remove_reader(number)
    for sock in (right, again, other):
        sock.close()


def test_descriptor_closed_without_remove_reader_never_fires(loop: EventLoop) -> None:
    left, right = socket.socketpair()
    number = left.fileno()
    loop.add_reader(number, pytest.fail, "fired for a closed descriptor")
    left.close()
    right.close()
    loop.call_later(0.02, loop.stop)
    loop.run_forever()
    assert loop.remove_reader(number) is True


def test_regular_files_and_closed_descriptors_are_refused(loop: EventLoop, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with path.open() as file, pytest.raises(PermissionError) as refused:
        loop.add_reader(file, print)
    assert refused.value.errno == errno.EPERM
    with pytest.raises(OSError, match="Bad file descriptor") as closed:
        loop.add_reader(987654, print)
    assert closed.value.errno == errno.EBADF
    with pytest.raises(ValueError, match="Invalid file descriptor"):
        loop.add_reader(-1, print)


def test_pipes_eventfds_and_terminals_can_be_watched(loop: EventLoop) -> None:
    reader, writer = os.pipe()
    master, slave = os.openpty()
    os.write(writer, b"pipe")
    os.write(master, b"typed\n")
    got: set[bytes] = set()

    def on_read(number: int) -> None:
        got.add(os.read(number, 10))
        if len(got) == 2:
            loop.stop()

    for number in (reader, slave):
        loop.add_reader(number, on_read, number)
    loop.run_forever()
    assert got == {b"pipe", b"typed\n"}
    for number in (reader, slave):
        loop.remove_reader(number)
    for number in (reader, writer, master, slave):
        os.close(number)


# ---- signals ----


def test_signal_handlers(loop: EventLoop) -> None:
    seen: list[str] = []
    loop.add_signal_handler(signal.SIGUSR1, lambda: (seen.append("usr1"), loop.stop()))
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1)).start()
    loop.run_forever()
    assert seen == ["usr1"]
    assert loop.remove_signal_handler(signal.SIGUSR1) is True


def test_sigint_cancels_the_main_task() -> None:
    seen: list[str] = []

    async def main() -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        run(main())
    assert seen == ["cancelled"]


def test_sigint_without_a_runner_leaves_select(loop: EventLoop) -> None:
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert run_again(loop) == "fine"


# ---- processes ----


def test_subprocess_exec_and_shell() -> None:
    async def main() -> None:
        program = "import sys; sys.stdout.write(sys.stdin.read().upper()); sys.exit(7)"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, stdin=-1, stdout=-1, stderr=-1
        )
        out, err = await process.communicate(b"x" * 300_000)
        assert (out, err, process.returncode) == (b"X" * 300_000, b"", 7)
        process = await asyncio.create_subprocess_shell(
            "echo out; echo err >&2", stdout=-1, stderr=-1
        )
        assert await process.communicate() == (b"out\n", b"err\n")

    run(main())


def test_subprocess_kill_and_many_at_once() -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec("sleep", "60")
        process.kill()
        assert await process.wait() == -signal.SIGKILL
        many = await asyncio.gather(
            *(asyncio.create_subprocess_exec("sh", "-c", f"exit {n}") for n in range(8))
        )
        assert await asyncio.gather(*(one.wait() for one in many)) == list(range(8))

    run(main())


# ---- network ----


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: int) -> None:
    """Sends size bytes to an echo server and checks what comes back."""
    data = os.urandom(size)
    writer.write(data)
    assert await reader.readexactly(size) == data
    writer.close()
    await writer.wait_closed()


def test_getaddrinfo() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)
        assert any(address[0] in ("127.0.0.1", "::1") for *_, address in found)
        assert (await loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST))[0] == "127.0.0.1"

    run(main())


def test_tcp_streams() -> None:
    async def main() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]

            async def client() -> None:
                await talk(*await asyncio.open_connection("127.0.0.1", port), 500_000)

            await asyncio.gather(*(client() for _ in range(20)))

    run(main())


def test_unix_streams(tmp_path: Path) -> None:
    async def main() -> None:
        path = str(tmp_path / "socket")
        async with await asyncio.start_unix_server(echo, path):
            await talk(*await asyncio.open_unix_connection(path), 100_000)

    run(main())


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for localhost, its key in the same file."""
    folder = tmp_path_factory.mktemp("certificate")
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
        " -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout key.pem -out cert.pem"
    )
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_text((folder / "key.pem").read_text() + (folder / "cert.pem").read_text())
    return both


def test_tls_streams(certificate: Path) -> None:
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate)
    trusting = ssl.create_default_context(cafile=str(certificate))

    async def main() -> None:
        async with await asyncio.start_server(echo, "127.0.0.1", 0, ssl=serving) as server:
            port = server.sockets[0].getsockname()[1]
            await talk(*await asyncio.open_connection("localhost", port, ssl=trusting), 300_000)
            with pytest.raises(ssl.SSLCertVerificationError):
                await asyncio.open_connection("127.0.0.1", port, ssl=ssl.create_default_context())

    run(main())


def test_protocols_and_low_level_sockets() -> None:
    class Upper(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            assert isinstance(self.transport, asyncio.Transport)
            self.transport.write(data.upper())

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with await loop.create_server(Upper, "127.0.0.1", 0) as server:
            with socket.socket() as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, server.sockets[0].getsockname())
                await loop.sock_sendall(sock, b"hello")
                assert await loop.sock_recv(sock, 100) == b"HELLO"

    run(main())


def test_datagrams() -> None:
    async def main() -> tuple[bytes, Any]:
        loop = asyncio.get_running_loop()
        got: asyncio.Future[tuple[bytes, Any]] = loop.create_future()

        class Collect(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: Any) -> None:
                got.set_result((data, addr))

        server, _ = await loop.create_datagram_endpoint(Collect, ("127.0.0.1", 0))
        address = server.get_extra_info("sockname")
        client, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, None, address)
        client.sendto(b"datagram")
        result = await got
        client.close()
        server.close()
        return result

    assert run(main())[0] == b"datagram"


# ---- other people's code ----


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.mark.parametrize("debug", [False, True])
def test_redis(redis_url: str, debug: bool) -> None:
    async def main() -> None:
        client = redis.asyncio.Redis.from_url(redis_url)
        async with client, client.pubsub() as subscription:
            assert await client.set("key", b"v" * 100_000)
            assert await client.get("key") == b"v" * 100_000
            for _ in range(5):
                await asyncio.gather(*(client.incr("counter") for _ in range(40)))
            assert await client.get("counter") == b"200"
            await subscription.subscribe("news")
            await subscription.get_message(timeout=5)
            await client.publish("news", "flash")
            message = await subscription.get_message(ignore_subscribe_messages=True, timeout=5)
            assert message is not None and message["data"] == b"flash"
            waiting = asyncio.create_task(client.blpop(["queue"], timeout=5))
            await asyncio.sleep(0.05)
            await client.rpush("queue", "job")
            assert await waiting == (b"queue", b"job")

    run(main(), debug)


def test_anyio() -> None:
    async def main() -> list[str]:
        done: list[str] = []
        send, receive = anyio.create_memory_object_stream[str](1)

        async def produce() -> None:
            async with send:
                for word in ("a", "b", "c"):
                    await send.send(word)

        async with anyio.create_task_group() as group, receive:
            group.start_soon(produce)
            async for word in receive:
                done.append(word)
        with anyio.move_on_after(0.01) as scope:
            await anyio.sleep(10)
        assert scope.cancelled_caught
        assert await anyio.to_thread.run_sync(lambda: "thread") == "thread"
        process = await anyio.run_process(["echo", "process"])
        assert process.stdout == b"process\n"
        assert isinstance(asyncio.get_running_loop(), EventLoop)
        return done

    options = {"loop_factory": EventLoop}
    assert anyio.run(main, backend="asyncio", backend_options=options) == ["a", "b", "c"]


# ---- Poller alone ----


def test_poller_tells_what_is_ready(
    poller: _core.Poller, pair: tuple[socket.socket, socket.socket]
) -> None:
    left, right = pair
    assert isinstance(poller, selectors.BaseSelector)
    assert poller.fileno() >= 0
    key = poller.register(left, READ, "data")
    assert key == selectors.SelectorKey(left, left.fileno(), READ, "data")
    assert poller.select(0) == []
    right.send(b"x")
    assert poller.select() == [(key, READ)]
    assert poller.select(timeout=0) == [(key, READ)]
    key = poller.modify(left, READ | WRITE, "both")
    assert poller.select(0) == [(key, READ | WRITE)]
    assert poller.get_key(left) is key
    assert poller.unregister(left) == key
    assert poller.select(0) == []


def test_poller_errors_are_epolls(
    poller: _core.Poller, pair: tuple[socket.socket, socket.socket]
) -> None:
    left, _ = pair
    epoll = selectors.EpollSelector()
    closed = socket.socket()
    closed.close()
    poller.register(left, READ)
    epoll.register(left, READ)
    calls: list[Callable[[Any], object]] = [
        lambda s: s.register(left, READ),
        lambda s: s.register(left.fileno(), READ),
        lambda s: s.register(left, 0),
        lambda s: s.register(left, 4),
        lambda s: s.register(left, -1),
        lambda s: s.register(left, "r"),
        lambda s: s.register(-1, READ),
        lambda s: s.register("no file", READ),
        lambda s: s.register(closed, READ),
        lambda s: s.register(999999, READ),
        lambda s: s.unregister(closed),
        lambda s: s.unregister(999999),
        lambda s: s.modify(999999, READ),
        lambda s: s.get_key(999999),
        lambda s: s.get_map()[999999],
        lambda s: s.select("soon"),
        lambda s: s.register(left),
    ]
    for number, call in enumerate(calls):
        with pytest.raises(Exception) as theirs:  # noqa: PT011
            call(epoll)
        with pytest.raises(type(theirs.value)) as ours:
            call(poller)
        if not isinstance(theirs.value, TypeError):
            assert str(ours.value) == str(theirs.value), number
    epoll.close()


def test_poller_modify_of_a_closed_descriptor_unregisters_it(poller: _core.Poller) -> None:
    left, right = socket.socketpair()
    number = left.fileno()
    poller.register(number, READ)
    left.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        poller.modify(number, WRITE)
    with pytest.raises(KeyError):
        poller.get_key(number)
    right.close()


def test_poller_map_is_a_live_mapping(
    poller: _core.Poller, pair: tuple[socket.socket, socket.socket]
) -> None:
    left, right = pair
    mapping = poller.get_map()
    assert dict(mapping) == {}
    keys = {sock.fileno(): poller.register(sock, READ) for sock in pair}
    assert dict(mapping) == keys
    assert set(mapping.values()) == set(keys.values())
    assert left in mapping and right.fileno() in mapping and 999999 not in mapping
    poller.close()
    assert len(mapping) == 0
    assert poller.get_map() is None


def test_poller_after_close(pair: tuple[socket.socket, socket.socket]) -> None:
    poller = _core.Poller()
    poller.close()
    poller.close()
    poller.wake()
    for call in (lambda: poller.select(0), lambda: poller.register(pair[0], READ)):
        with pytest.raises(ValueError, match="closed"):
            call()
    with pytest.raises(RuntimeError, match="Selector is closed"):
        poller.get_key(pair[0])


def test_poller_wake_from_another_thread(poller: _core.Poller) -> None:
    threading.Timer(0.05, poller.wake).start()
    started = time.monotonic()
    assert poller.select() == []
    assert time.monotonic() - started < 5
    poller.wake()
    assert poller.select(30) == []


def test_poller_register_while_another_thread_selects(
    poller: _core.Poller, pair: tuple[socket.socket, socket.socket]
) -> None:
    left, right = pair
    result: list[object] = []
    thread = threading.Thread(target=lambda: result.append(poller.select(30)))
    thread.start()
    time.sleep(0.1)
    with pytest.raises(RuntimeError, match="running"):
        poller.select(0)
    with pytest.raises(RuntimeError, match="running"):
        poller.close()
    key = poller.register(left, WRITE)
    poller.unregister(left)
    key = poller.register(left, READ)
    time.sleep(0.05)
    assert result == []
    right.send(b"x")
    thread.join(10)
    assert result == [[(key, READ)]]


def test_poller_belongs_to_one_loop(loop: EventLoop) -> None:
    with pytest.raises(RuntimeError, match="has a Poller already"):
        _core.Poller(loop)
    with pytest.raises(TypeError, match=r"pyasgi\.loop\.EventLoop, not int"):
        _core.Poller(5)  # type: ignore[arg-type]


def test_poller_in_a_cycle_is_collected() -> None:
    class Holder:
        poller: _core.Poller

    holder = Holder()
    holder.poller = _core.Poller()
    left, right = socket.socketpair()
    holder.poller.register(left, READ, holder)
    gone = weakref.ref(holder)
    del holder
    gc.collect()
    assert gone() is None
    left.close()
    right.close()


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="asyncio's own list is in C from 3.14 on")
def test_the_registry_of_tasks_is_asyncios_own() -> None:
    """Tasks are in asyncio's WeakSet while they live, whoever iterates it; afterwards it is as before."""
    name = "_all_tasks" if sys.version_info < (3, 12) else "_scheduled_tasks"
    registry = getattr(asyncio.tasks, name)
    before = dict(vars(registry))

    async def main() -> None:
        assert "add" in vars(registry)
        tasks = [asyncio.ensure_future(asyncio.sleep(60)) for _ in range(3)]
        assert asyncio.all_tasks() == {*tasks, asyncio.current_task()}
        count = len(registry)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        seen = iter(registry)
        next(seen)  # the set must not shrink under whoever iterates
        del tasks, task
        gc.collect()
        assert len(registry) in (count - 2, count - 3)  # the iterator holds what it gave last
        assert all(isinstance(each, asyncio.Task) for each in seen)
        del seen
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with asyncio.Runner(loop_factory=EventLoop) as runner:
        runner.run(main())
        with asyncio.Runner(loop_factory=EventLoop):
            pass  # another loop comes and goes
        assert "add" in vars(registry)
    assert vars(registry) == before
