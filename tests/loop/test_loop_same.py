"""pyasgi.loop.EventLoop does what asyncio's own loop does: each scenario runs on both, and they must tell the same.

Callbacks, handles, timers, threads, descriptors and transports, which are C on our side.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import gc
import heapq
import re
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from pyasgi.loop import EventLoop
from tests.support.loop_scenarios import Recorder, Scenario, fds, outcome, raises

SCENARIOS: list[Scenario] = []
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def scenario(function: Scenario) -> Scenario:
    SCENARIOS.append(function)
    return function


def turn(loop: Any, turns: int = 1) -> None:
    for _ in range(turns):
        loop.call_soon(loop.stop)
        loop.run_forever()


def named(*args: object) -> None:
    """A callback with a name and a line."""


def fail(error: BaseException) -> None:
    raise error


# ---- handles ----


@scenario
def handles(loop: Any) -> object:
    handle = loop.call_soon(named, 1, 2)
    seen = [isinstance(handle, asyncio.Handle), repr(handle), handle._args, handle._callback]
    seen += [handle.cancelled(), handle._cancelled, handle._loop is loop, handle._repr]
    seen += [weakref.ref(handle)() is handle, hasattr(handle, "__dict__")]
    handle.cancel()
    handle.cancel()
    return [*seen, repr(handle), handle._args, handle._callback, handle.cancelled()]


@scenario
def timer_handles(loop: Any) -> object:
    handle = loop.call_at(123, named)
    other = loop.call_at(124.5, named, "x")
    same = loop.call_at(123, named)
    seen = [isinstance(handle, asyncio.TimerHandle), repr(handle), handle.when(), repr(other)]
    seen += [handle < other, handle <= other, handle > other, handle >= other, handle == other]
    seen += [handle == same, hash(handle) == hash(same), handle == 5, handle._scheduled]
    theirs = asyncio.TimerHandle(123.5, named, (), loop)
    seen += [handle < theirs < other, sorted([other, theirs, handle])[1] is theirs]
    other.cancel()
    return [*seen, repr(other), other.cancelled(), loop._timer_cancelled_count]


@scenario
def handle_that_cancels_itself(loop: Any) -> object:
    seen: list[object] = []

    def callback(word: str) -> None:
        handle.cancel()
        seen.append((word, handle._callback))
        raise ValueError(word)

    handle = loop.call_soon(callback, "word")
    turn(loop)
    return seen


@scenario
def handles_that_were_tampered_with(loop: Any) -> object:
    seen: list[object] = []
    handle = loop.call_soon(seen.append, "old")
    handle._args = ("new",)
    loop.call_soon(seen.append, "never")._cancelled = True
    listed = loop.call_soon(seen.append, "x")
    listed._args = ["list"]
    turn(loop)
    handle._run()
    return seen


@scenario
def what_a_cancelled_handle_holds(loop: Any) -> object:
    class Thing:
        pass

    things = [Thing() for _ in range(3)]
    gone = [weakref.ref(thing) for thing in things]
    handles = [loop.call_soon(named, things[0]), loop.call_later(9, named, things[1])]
    handles.append(loop.call_soon(functools.partial(named, things[2])))
    del things
    for handle in handles:
        handle.cancel()
    gc.collect()
    return [ref() is None for ref in gone]


# ---- call_soon and its kin ----


@scenario
def contexts(loop: Any) -> object:
    seen: list[object] = []
    context = contextvars.copy_context()
    context.run(variable.set, "given")

    def look(key: str) -> None:
        seen.append((key, variable.get()))
        variable.set(key)

    loop.call_soon(look, "own")
    loop.call_soon(look, "first", context=context)
    loop.call_later(0, look, "timer", context=context)
    loop.call_soon_threadsafe(look, "second", context=context)
    loop.call_soon(look, "none", context=None)
    turn(loop, 3)
    return [*seen, context[variable], variable.get()]


@scenario
def context_that_is_entered_already(loop: Any) -> object:
    context = contextvars.copy_context()
    seen: list[str] = []
    loop.call_soon(seen.append, "never", context=context)
    context.run(turn, loop)
    return [seen, len(loop._ready)]


@scenario
def odd_arguments(loop: Any) -> object:
    calls: list[Callable[[], object]] = [
        lambda: loop.call_soon(),
        lambda: loop.call_soon(named, wrong=1),
        lambda: loop.call_soon(named, context=None, wrong=1),
        lambda: loop.call_later(1),
        lambda: loop.call_later(None, named),
        lambda: loop.call_later("soon", named),
        lambda: loop.call_at(None, named),
        lambda: loop.call_at(),
        lambda: loop.call_soon_threadsafe(),
        lambda: loop.run_in_executor(None),
        lambda: loop.create_task(),
        lambda: loop.create_task(5),
        lambda: loop._add_reader(),
        lambda: loop._add_reader("no file", named),
        lambda: loop._remove_reader(),
        lambda: loop.add_reader(-1, named),
    ]
    # An arity error names the class that the method was found in.
    told = [raises(call) for call in calls]
    return [re.sub(r"\w+\.\w+\(\) (missing|takes|got).*", "arity", text) for text in told]


@scenario
def by_keyword(loop: Any) -> object:
    seen: list[object] = []
    loop.call_soon(callback=functools.partial(seen.append, 1))
    loop.call_later(delay=0, callback=functools.partial(seen.append, 2))
    loop.call_at(when=0, callback=functools.partial(seen.append, 3))
    turn(loop, 3)
    return sorted(seen)


@scenario
def errors_reach_the_handler(loop: Any) -> object:
    loop.call_soon(fail, ValueError("soon"))
    loop.call_later(0, fail, ValueError("later"))
    loop.call_soon(functools.partial(fail, ValueError("partial")))
    loop.call_soon(5) if not loop.get_debug() else None
    loop.call_soon(fail, asyncio.CancelledError("cancelled"))
    loop.call_soon(fail, GeneratorExit("exit"))
    loop.call_soon([].index, 5)
    turn(loop, 3)
    return None


@scenario
def handler_that_fails(loop: Any) -> object:
    logged: list[str] = []
    loop.default_exception_handler = lambda context: logged.append(context["message"])
    loop.set_exception_handler(lambda *_: 1 / 0)
    loop.call_soon(fail, ValueError())
    turn(loop)
    return logged


@scenario
def what_ends_the_program_leaves_the_rest_queued(loop: Any) -> object:
    seen: list[object] = []
    for kind in (KeyboardInterrupt, SystemExit):
        loop.call_soon(seen.append, "before")
        loop.call_soon(fail, kind("end"))
        loop.call_soon(seen.append, "after")
        seen.append(raises(loop.run_forever))
        seen.append((len(loop._ready), loop.is_running(), loop._stopping))
        turn(loop)
    return seen


@scenario
def stop_and_turns(loop: Any) -> object:
    seen: list[object] = []

    def again(left: int) -> None:
        seen.append(left)
        if left:
            loop.call_soon(again, left - 1)
        if left == 3:
            loop.stop()

    loop.call_soon(again, 5)
    loop.run_forever()
    seen.append("stopped")
    loop._run_once()
    seen.append("one")
    loop.stop()
    loop.run_forever()
    return seen


@scenario
def a_run_once_of_ones_own(loop: Any) -> object:
    turns: list[int] = []
    original = loop._run_once

    def counted() -> None:
        turns.append(len(loop._ready))
        original()

    loop._run_once = counted
    turn(loop, 2)
    del loop._run_once
    turn(loop)
    return turns


@scenario
def close_inside_a_callback_is_refused(loop: Any) -> object:
    seen: list[object] = []
    loop.call_soon(lambda: seen.append(raises(loop.close)))
    turn(loop)
    return seen


@scenario
def close_with_pending_work(loop: Any) -> object:
    handles = [loop.call_soon(named), loop.call_later(1, named)]
    loop.close()
    seen: list[object] = [len(loop._ready), len(loop._scheduled), loop.is_closed()]
    for handle in handles:
        handle.cancel()
    for call in (loop.call_soon, loop.call_soon_threadsafe):
        seen.append(raises(call, named))
    seen.append(raises(loop.call_later, 1, named))
    seen.append(raises(loop.run_in_executor, None, named))
    seen.append(raises(loop._add_reader, 0, named))
    seen.append(loop._remove_reader(0))
    return [*seen, raises(loop.run_forever), loop._timer_cancelled_count]


# ---- timers ----


@scenario
def order_of_timers(loop: Any) -> object:
    seen: list[float] = []
    now = loop.time()
    for number in (5, 3, 9, 1, 7, 2, 8, 0, 6, 4):
        loop.call_at(now + number / 1000, seen.append, number)
    loop.call_at(now + 0.02, loop.stop)
    loop.run_forever()
    return seen


@scenario
def cancelled_timers_are_sorted_out(loop: Any) -> object:
    seen: list[object] = []
    few = [loop.call_later(3600, named) for _ in range(40)]
    for handle in few:
        handle.cancel()
    seen.append((len(loop._scheduled), loop._timer_cancelled_count))
    turn(loop)
    seen.append((len(loop._scheduled), loop._timer_cancelled_count))
    many = [loop.call_later(3600 + number, named) for number in range(300)]
    for handle in many[50:250]:
        handle.cancel()
    seen.append((len(loop._scheduled), loop._timer_cancelled_count))
    turn(loop)
    seen.append((len(loop._scheduled), loop._timer_cancelled_count))
    seen.append([handle._scheduled for handle in many] == [not h.cancelled() for h in many])
    seen.append(loop._scheduled[0] is many[0])
    return seen


@scenario
def timers_of_other_people(loop: Any) -> object:
    seen: list[object] = []
    heapq.heappush(
        loop._scheduled, asyncio.TimerHandle(loop.time(), seen.append, ("theirs",), loop)
    )
    loop.call_at(int(loop.time()), seen.append, "integer")
    loop.call_later(0.001, seen.append, "ours")
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    return seen


@scenario
def timers_that_cannot_be_compared(loop: Any) -> object:
    loop.call_at(10**10, named)
    return [raises(loop.call_at, "later", named).partition(":")[0], len(loop._scheduled)]


@scenario
def a_clock_of_ones_own(loop: Any) -> object:
    seen: list[object] = []
    real = loop.time
    loop.time = lambda: real() + 3600
    handle = loop.call_later(5, seen.append, "late")
    seen.append(3000 < handle.when() - real() < 4000)
    loop.call_at(real() + 3000, seen.append, "due")
    turn(loop, 2)
    del loop.time
    return seen


# ---- debug mode at run time ----


@scenario
def debug_mode_comes_and_goes(loop: Any) -> object:
    seen: list[object] = []
    left, right = socket.socketpair()
    with left, right:
        loop.add_reader(left, seen.append, "readable")
        right.send(b"x")
        for debug in (True, False, True, False):
            loop.call_soon(seen.append, ("before", debug))
            timer = loop.call_later(0, seen.append, ("timer", debug))
            loop.call_soon(loop.set_debug, debug)
            loop.call_soon(seen.append, "same turn")
            turn(loop, 2)
            loop.add_writer(left, named)
            seen.append((timer.cancelled(), loop.get_debug(), loop._debug))
            seen.append(loop.remove_writer(left))
        seen.append(loop.remove_reader(left))
    return seen


# ---- descriptors ----


@scenario
def readers_and_writers(loop: Any) -> object:
    seen: list[object] = []
    left, right = socket.socketpair()
    with left, right:
        right.send(b"x")
        first = loop._add_reader(left.fileno(), seen.append, "first")
        seen += [isinstance(first, asyncio.Handle), repr(first).partition(" at ")[0]]
        loop.add_reader(left, seen.append, "second")
        loop.add_writer(left, seen.append, "writable")
        seen.append(first.cancelled())
        key = loop._selector.get_key(left)
        seen += [key.events, key.fd == left.fileno(), [type(h).__name__ for h in key.data]]
        turn(loop)
        turn(loop)
        seen += [loop.remove_reader(left), loop.remove_reader(left)]
        turn(loop)
        turn(loop)
        seen += [loop.remove_writer(left), loop.remove_writer(left)]
        seen.append(raises(loop._selector.get_key, left).partition(":")[0])
    return seen


@scenario
def a_reader_whose_handle_was_cancelled(loop: Any) -> object:
    seen: list[object] = []
    left, right = socket.socketpair()
    with left, right:
        right.send(b"x")
        loop._add_reader(left.fileno(), seen.append, "never").cancel()
        loop._add_writer(left.fileno(), seen.append, "writable")
        turn(loop, 2)
        seen.append(loop._selector.get_key(left.fileno()).events)
        seen.append(loop.remove_writer(left))
    return seen


# ---- threads ----


@scenario
def calls_from_threads(loop: Any) -> object:
    seen: list[int] = []

    def call(number: int) -> None:
        for _ in range(200):
            loop.call_soon_threadsafe(seen.append, number)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(4)]

    async def main() -> None:
        for thread in threads:
            thread.start()
        while len(seen) < 800:
            await asyncio.sleep(0.001)

    loop.run_until_complete(asyncio.wait_for(main(), 30))
    for thread in threads:
        thread.join()
    return [seen.count(number) for number in range(4)]


@scenario
def a_sleeping_loop_is_woken(loop: Any) -> object:
    started = time.monotonic()
    threading.Timer(0.05, loop.call_soon_threadsafe, (loop.stop,)).start()
    loop.call_later(30, loop.stop).cancel()
    loop.run_forever()
    return time.monotonic() - started < 10


@scenario
def results_of_threads(loop: Any) -> object:
    async def main() -> list[object]:
        seen: list[object] = [await loop.run_in_executor(None, sum, (1, 2))]
        for error in (
            ValueError("v"),
            concurrent.futures.CancelledError("c"),
            asyncio.InvalidStateError(),
        ):
            try:
                await loop.run_in_executor(None, fail, error)
            except (Exception, asyncio.CancelledError) as raised:  # noqa: BLE001
                seen.append(repr(raised))
        many = await asyncio.gather(*[loop.run_in_executor(None, abs, -n) for n in range(100)])
        seen.append(many == list(range(100)))
        future = loop.run_in_executor(None, abs, 1)
        return [*seen, type(future).__name__, future.get_loop() is loop, await future]

    return loop.run_until_complete(main())


@scenario
def cancelled_threads(loop: Any) -> object:
    async def main() -> list[object]:
        go = threading.Event()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            running = loop.run_in_executor(pool, go.wait)
            waiting = loop.run_in_executor(pool, fail, AssertionError("ran"))
            await asyncio.sleep(0.01)
            seen: list[object] = [waiting.cancel(), running.cancel()]
            await asyncio.sleep(0)
            go.set()
            await asyncio.sleep(0.02)
            return [*seen, waiting.cancelled(), running.cancelled()]

    return loop.run_until_complete(main())


class OtherExecutor(concurrent.futures.ThreadPoolExecutor):
    """Gives the loop futures of asyncio, which wrap_future() passes through."""

    def submit(self, function: Any, *args: Any) -> Any:  # type: ignore[override]
        future = asyncio.get_running_loop().create_future()
        future.set_result(function(*args))
        return future


@scenario
def executors_of_other_people(loop: Any) -> object:
    async def main() -> list[object]:
        with OtherExecutor() as other:
            seen: list[object] = [await loop.run_in_executor(other, abs, -5)]
        try:
            await loop.run_in_executor(object(), abs, -5)
        except AttributeError:
            seen.append("no submit")
        await loop.shutdown_default_executor()
        try:
            await loop.run_in_executor(None, abs, -5)
        except RuntimeError as error:
            seen.append(str(error))
        return seen

    return loop.run_until_complete(main())


@scenario
def a_thread_that_outlives_the_loop(loop: Any) -> object:
    go = threading.Event()
    pool = concurrent.futures.ThreadPoolExecutor(1)

    async def main() -> None:
        loop.run_in_executor(pool, go.wait)

    loop.run_until_complete(main())
    loop.close()
    go.set()
    pool.shutdown()
    return len(loop._ready)


# ---- tasks and futures ----


@scenario
def tasks(loop: Any) -> object:
    async def work() -> str:
        await asyncio.sleep(0)
        return variable.get()

    async def main() -> list[object]:
        context = contextvars.copy_context()
        context.run(variable.set, "task's")
        named = loop.create_task(work(), name="name")
        inside = loop.create_task(work(), context=context)
        both = loop.create_task(work(), name="both", context=context)
        names = [named.get_name(), both.get_name(), type(named).__name__]
        future = loop.create_future()
        return [
            *names,
            await named,
            await inside,
            await both,
            type(future),
            future.get_loop() is loop,
        ]

    seen: list[object] = [loop.run_until_complete(main())]
    made: list[object] = []

    def factory(loop: Any, coro: Any, **names: Any) -> Any:
        made.append(sorted(names))
        return asyncio.Task(coro, loop=loop, **names)

    loop.set_task_factory(factory)
    seen.append(loop.get_task_factory() is factory)
    seen.append(loop.run_until_complete(work()))
    loop.set_task_factory(None)
    return [*seen, len(made), loop.run_until_complete(work())]


# ---- transports ----


async def connected(loop: Any) -> tuple[Any, socket.socket]:
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    _, protocol = await loop.create_connection(lambda: Recorder(loop), sock=left)
    return protocol, right


@scenario
def transport_reads_and_ends(loop: Any) -> object:
    async def main() -> list[object]:
        protocol, peer = await connected(loop)
        with peer:
            for size in (1, 10, 100_000, 150_000):
                await loop.sock_sendall(peer, b"x" * size)
            peer.shutdown(socket.SHUT_WR)
            await protocol.closed
        return [*protocol.seen, protocol.size]

    return loop.run_until_complete(main())


@scenario
def transport_writes_all_kinds(loop: Any) -> object:
    async def main() -> list[object]:
        protocol, peer = await connected(loop)
        with peer:
            write = protocol.transport.write
            for data in (b"", b"bytes", bytearray(b"array"), memoryview(b"view")):
                write(data)
            protocol.transport.writelines([b"li", b"nes"])
            got = await loop.sock_recv(peer, 100)
            seen = [got, raises(write, "text"), raises(write, None)]
            protocol.transport.write_eof()
            seen.append(raises(write, b"late"))
            protocol.transport.close()
            await protocol.closed
        return [*seen, *protocol.seen]

    return loop.run_until_complete(main())


@scenario
def transport_under_back_pressure(loop: Any) -> object:
    async def main() -> list[object]:
        protocol, peer = await connected(loop)
        data = bytes(range(256)) * 8192
        with peer:
            protocol.transport.write(data)
            protocol.transport.write(b"end")
            buffered = protocol.transport.get_write_buffer_size() > 0
            protocol.transport.close()
            got = bytearray()
            while piece := await loop.sock_recv(peer, 1 << 20):
                got += piece
            await protocol.closed
        return [buffered, bytes(got) == data + b"end", *protocol.seen]

    return loop.run_until_complete(main())


@scenario
def transport_whose_peer_has_gone(loop: Any) -> object:
    async def main() -> list[object]:
        protocol, peer = await connected(loop)
        peer.close()
        protocol.transport.pause_reading()
        for _ in range(3):
            protocol.transport.write(b"to nobody")
        await protocol.closed
        return protocol.seen

    return loop.run_until_complete(main())


@scenario
def transport_that_is_reset(loop: Any) -> object:
    async def main() -> list[object]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            _, protocol = await loop.create_connection(
                lambda: Recorder(loop), *listener.getsockname()
            )
            peer, _ = listener.accept()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()
        await protocol.closed
        return protocol.seen

    return loop.run_until_complete(main())


@scenario
def transport_whose_protocol_raises(loop: Any) -> object:
    async def main() -> list[object]:
        protocol, peer = await connected(loop)
        with peer:
            peer.send(b"raise")
            await protocol.closed
        return protocol.seen

    return loop.run_until_complete(main())


class Buffered(asyncio.BufferedProtocol):
    def __init__(self, done: asyncio.Future[bytes]) -> None:
        self.done, self.memory = done, bytearray(100)

    def get_buffer(self, hint: int) -> bytearray:
        return self.memory

    def buffer_updated(self, count: int) -> None:
        self.done.set_result(bytes(self.memory[:count]))


@scenario
def transport_with_a_buffered_protocol(loop: Any) -> object:
    async def main() -> list[object]:
        protocol, peer = await connected(loop)
        with peer:
            peer.send(b"first")
            await asyncio.sleep(0.01)
            done = loop.create_future()
            protocol.transport.set_protocol(Buffered(done))
            peer.send(b"second")
            seen = [protocol.size, await done]
            protocol.transport.set_protocol(protocol)
            peer.send(b"third")
            await asyncio.sleep(0.01)
            protocol.transport.abort()
            await protocol.closed
        return [*seen, protocol.size, *protocol.seen]

    return loop.run_until_complete(main())


# ---- sock_recv() and its kin ----


def socketpair() -> tuple[socket.socket, socket.socket]:
    pair = socket.socketpair()
    for sock in pair:
        sock.setblocking(False)
    return pair


@scenario
def sock_calls_at_once_and_later(loop: Any) -> object:
    async def main() -> list[object]:
        left, right = socketpair()
        with left, right:
            memory = bytearray(10)
            seen: list[object] = [await loop.sock_sendall(left, b"one")]
            seen.append(await loop.sock_recv(right, 100))
            for wait in (loop.sock_recv(right, 2), loop.sock_recv_into(right, memory)):
                task = loop.create_task(wait)
                await asyncio.sleep(0)
                seen.append((task.done(), asyncio.iscoroutine(wait), right.fileno() in fds(loop)))
                left.send(b"later")
                seen.append(await task)
                seen.append(right.fileno() in fds(loop))
            left.close()
            seen += [bytes(memory), await loop.sock_recv(right, 10)]
            return [*seen, await loop.sock_recv_into(right, memory)]

    return loop.run_until_complete(main())


@scenario
def sock_sendall_of_much(loop: Any) -> object:
    data = bytes(range(256)) * 8192

    async def main() -> list[object]:
        left, right = socketpair()
        with left, right:
            array = bytearray(data)
            task = loop.create_task(loop.sock_sendall(left, array))
            await asyncio.sleep(0.01)
            seen = [task.done(), raises(array.extend, b"resized"), left.fileno() in fds(loop)]
            got = b""
            while len(got) < len(data):
                got += await loop.sock_recv(right, 100_000)
            seen += [await task, got == data, left.fileno() in fds(loop)]
            array.extend(b"resized")
            for kind in (memoryview(b"view"), bytearray(b"array"), b""):
                await loop.sock_sendall(left, kind)
            return [*seen, await loop.sock_recv(right, 100)]

    return loop.run_until_complete(main())


@scenario
def sock_calls_that_fail(loop: Any) -> object:
    async def told(call: Any) -> object:
        try:
            return await call
        except Exception as error:  # noqa: BLE001
            return f"{type(error).__name__}: {error}"

    async def main() -> list[object]:
        left, right = socketpair()
        with left, right:
            seen = [
                await told(loop.sock_recv(left, -1)),
                await told(loop.sock_recv(left, "1")),
                await told(loop.sock_recv_into(left, b"bytes")),
                await told(loop.sock_sendall(left, "text")),
                await told(loop.sock_sendall(left, None)),
            ]
            task = loop.create_task(told(loop.sock_recv(left, 10)))
            await asyncio.sleep(0)
            right.close()
            seen.append(await task)
            for _ in range(2):
                seen.append(await told(loop.sock_sendall(left, b"to nobody")))
            left.close()
            seen.append(await told(loop.sock_recv(left, 10)))
            seen.append(await told(loop.sock_sendall(left, b"x")))
        return seen

    return loop.run_until_complete(main())


@scenario
def sock_calls_that_are_cancelled(loop: Any) -> object:
    async def main() -> list[object]:
        left, right = socketpair()
        with left, right:
            seen: list[object] = []
            task = loop.create_task(loop.sock_recv(left, 10))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            await asyncio.sleep(0)
            seen += [task.cancelled(), left.fileno() in fds(loop)]
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(loop.sock_recv(left, 10), 0.01)
            await asyncio.sleep(0)
            seen.append(left.fileno() in fds(loop))
            right.send(b"kept")
            seen.append(await loop.sock_recv(left, 10))
            late = loop.create_task(loop.sock_recv(left, 10))
            await asyncio.sleep(0)
            right.send(b"lost?")
            await asyncio.sleep(0)
            late.cancel()
            await asyncio.wait([late])
            return [*seen, late.cancelled()]

    return loop.run_until_complete(main())


@scenario
def sock_calls_as_coroutines(loop: Any) -> object:
    left, right = socketpair()
    with left, right:
        left.send(b"data")
        call = loop.sock_recv(right, 2)
        seen: list[object] = [raises(call.send, None), raises(call.send, None)]
        call = loop.sock_recv(right, 2)
        seen += [raises(call.throw, KeyError("thrown")), raises(call.send, None)]
        call.close()
        call = loop.sock_recv(right, 2)
        call.close()
        seen.append(raises(call.send, None))
        seen.append(loop.run_until_complete(asyncio.wait_for(loop.sock_recv(right, 10), 1)))
        with pytest.warns(RuntimeWarning, match="sock_recv' was never awaited"):
            loop.sock_recv(right, 10)
        seen.append(raises(loop.sock_recv, right))
    return seen


@scenario
def sock_call_beside_a_transport(loop: Any) -> object:
    async def main() -> list[object]:
        protocol, peer = await connected(loop)
        with peer:
            sock = protocol.transport._sock
            text = raises(loop.sock_recv(sock, 10).send, None)
            protocol.transport.abort()
            await protocol.closed
        return [re.sub("0x[0-9a-f]+|fd=\\d+|descriptor.*used", "", text)[:30]]

    return loop.run_until_complete(main())


@scenario
def sock_calls_that_outlive_their_loop(_: Any) -> object:
    """A loop that nobody closes is garbage together with what waits on it."""
    pair = socketpair()
    with pair[0], pair[1]:
        loop = type(_)()
        task = loop.create_task(loop.sock_recv(pair[0], 10))
        turn(loop)
        task._log_destroy_pending = False
        forgotten = weakref.ref(task)
        del loop, task
        with pytest.warns(ResourceWarning, match="unclosed event loop"):
            gc.collect()
        return forgotten() is None


@scenario
def sock_calls_on_one_descriptor(loop: Any) -> object:
    async def main() -> list[object]:
        left, right = socketpair()
        with left, right:
            first = loop.create_task(loop.sock_recv(left, 10))
            await asyncio.sleep(0)
            second = loop.create_task(loop.sock_recv(left, 10))  # takes the descriptor over
            await asyncio.sleep(0)
            right.send(b"data")
            seen: list[object] = [await second, first.done()]
            first.cancel()
            await asyncio.wait([first])
            third = loop.create_task(loop.sock_recv(left, 10))
            await asyncio.sleep(0)
            right.send(b"more")
            return [*seen, await third]

    return loop.run_until_complete(main())


@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
@pytest.mark.parametrize("function", SCENARIOS, ids=lambda function: function.__name__)
def test_same_as_asyncio(function: Scenario, debug: bool) -> None:
    assert outcome(function, EventLoop, debug) == outcome(
        function, asyncio.SelectorEventLoop, debug
    )


# ---- classes derived from ours ----


@pytest.fixture
def derived() -> list[object]:
    return []


def test_a_class_with_its_own_process_events(derived: list[object]) -> None:
    class Own(EventLoop):
        def _process_events(self, event_list: Any) -> None:
            derived.append(len(event_list))
            super()._process_events(event_list)

    loop = Own()
    turn(loop, 2)
    loop.close()
    assert derived == [0, 0]


def test_a_class_with_its_own_call_at_and_clock(derived: list[object]) -> None:
    class Own(EventLoop):
        def time(self) -> float:
            return super().time() + 1000

        def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
            derived.append(when > super().time() + 900)
            return super().call_at(when, callback, *args, context=context)

    loop = Own()
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    loop.close()
    assert derived == [True]


def test_a_dropped_loop_with_work_is_collected() -> None:
    class Thing:
        pass

    thing = Thing()
    gone = weakref.ref(thing)
    loop = EventLoop()
    loop.call_soon(named, thing)
    loop.call_later(10, named, thing, loop)
    del loop, thing
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        gc.collect()
    assert gone() is None


def test_a_turn_inside_a_callback() -> None:
    seen: list[object] = []
    loop = EventLoop()

    def outer() -> None:
        loop.call_soon(seen.append, "inner")
        loop._run_once()
        seen.append("outer")
        loop.stop()

    loop.call_soon(outer)
    loop.call_soon(seen.append, "next")
    loop.run_forever()
    loop.close()
    assert seen == ["next", "inner", "outer"]


def test_handles_are_freed_and_reused() -> None:
    loop = EventLoop()
    before = sys.getrefcount(named)
    for _ in range(3000):
        loop.call_soon(named, loop)
        loop.call_later(0, named)
    turn(loop, 3)
    gc.collect()
    assert sys.getrefcount(named) == before
    loop.close()


def test_a_long_chain_of_handles_is_freed() -> None:
    loop = EventLoop()
    handle = None
    for _ in range(100_000):
        handle = loop.call_soon(named, handle)
    loop._ready.clear()
    del handle
    loop.close()
