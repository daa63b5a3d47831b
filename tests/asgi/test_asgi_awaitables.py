"""What receive() and send() return, looked at from inside an application."""

from __future__ import annotations

import asyncio
import collections.abc
import inspect
import threading
import typing
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.support.inprocess import Inside, Message, Receive, Send, respond
from tests.support.wait import wait_for

pytestmark = pytest.mark.server

Behaviour = Callable[[Message, Receive, Send], Awaitable[None]]
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n"
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def text_frame(text: str) -> bytes:
    """A masked text frame; the mask is zero."""
    return bytes([0x81, 0x80 | len(text)]) + bytes(4) + text.encode()


def run(behaviour: Behaviour, request: bytes = POST + b"ab", **options: Any) -> None:
    """One request to the behaviour, which then answers; its exception is the test's."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await behaviour(scope, receive, send)
        await respond(send)

    with Inside(app, **options) as inside, inside.connect() as client:
        status = client.request(request).status
        for error in inside.errors:
            raise error
        assert status == 200


def chat(behaviour: Behaviour, *frames: bytes) -> None:
    """The behaviour on an accepted WebSocket to which the frames are sent."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        await behaviour(scope, receive, send)
        await send({"type": "websocket.send", "text": "end"})

    with Inside(app) as inside, inside.connect() as client:
        client.send(UPGRADE)
        client.read_until(b"\r\n\r\n")
        for frame in frames:
            client.send(frame)
        seen = client.recv()
        for error in inside.errors:
            raise error
        assert seen.startswith(b"\x81\x03end")


def test_it_is_a_future_and_no_coroutine() -> None:
    async def behaviour(scope: Message, receive: Receive, send: Send) -> None:
        waiting = receive()
        assert asyncio.isfuture(waiting)
        assert not asyncio.iscoroutine(waiting)
        assert not isinstance(waiting, collections.abc.Coroutine)
        assert isinstance(waiting, collections.abc.Awaitable)
        assert inspect.isawaitable(waiting)
        assert asyncio.ensure_future(waiting) is waiting
        assert waiting.get_loop() is asyncio.get_running_loop()
        assert weakref.ref(waiting)() is waiting
        await waiting

    run(behaviour)


def test_receive_and_send_are_coroutine_functions() -> None:
    from asgiref.sync import iscoroutinefunction

    async def behaviour(scope: Message, receive: Receive, send: Send) -> None:
        assert iscoroutinefunction(send)
        assert iscoroutinefunction(receive)

    run(behaviour)


def test_a_send_that_fits_is_finished() -> None:
    async def behaviour(scope: Message, receive: Receive, send: Send) -> None:
        sent: Any = send({"type": "websocket.send", "text": ""})
        assert sent.done()
        assert sent.result() is None
        assert sent.exception() is None
        assert not sent.cancel()
        assert not sent.cancelled()
        called: list[object] = []
        sent.add_done_callback(called.append)
        assert called == []
        await asyncio.sleep(0)
        assert called == [sent]
        assert await sent is None
        assert await asyncio.wait_for(sent, 1) is None

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await behaviour(scope, receive, send)

    with Inside(app) as inside, inside.connect() as client:
        client.send(UPGRADE)
        client.read_until(b"\r\n\r\n")
        assert client.read_exactly(2) == b"\x81\x00"
        client.read_exactly(4)
        assert inside.errors == []


def test_a_receive_that_nobody_awaits_takes_nothing() -> None:
    async def behaviour(scope: Message, receive: Receive, send: Send) -> None:
        forgotten = receive()
        assert (await receive())["body"] == b"ab"
        del forgotten

    run(behaviour)


def test_a_ready_receive_that_is_dropped_takes_nothing() -> None:
    async def behaviour(scope: Message, receive: Receive, send: Send) -> None:
        waiting: Any = receive()
        while not waiting.done():
            await asyncio.sleep(0)
        del waiting
        assert (await receive())["body"] == b"ab"

    run(behaviour)


def test_a_ready_receive_that_is_cancelled_takes_nothing() -> None:
    async def behaviour(scope: Message, receive: Receive, send: Send) -> None:
        waiting: Any = receive()
        while not waiting.done():
            await asyncio.sleep(0)
        assert waiting.exception() is None
        assert waiting.cancel("why")
        assert waiting.cancelled()
        assert not waiting.cancel()
        with pytest.raises(asyncio.CancelledError, match="why"):
            await waiting
        with pytest.raises(asyncio.CancelledError, match="why"):
            waiting.result()
        assert (await receive())["body"] == b"ab"

    run(behaviour)


def test_a_result_can_be_had_again() -> None:
    async def behaviour(scope: Message, receive: Receive, send: Send) -> None:
        waiting: Any = receive()
        event = await waiting
        assert waiting.result() is event
        assert await waiting is event
        assert waiting.exception() is None
        assert not waiting.cancel()

    run(behaviour)


def test_a_pending_receive_has_no_result_yet() -> None:
    async def behaviour(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        waiting: Any = receive()
        assert not waiting.done()
        for look in (waiting.result, waiting.exception):
            with pytest.raises(asyncio.InvalidStateError):
                look()
        assert "pending" in repr(waiting)

    run(behaviour)


def test_callbacks_are_called_in_order_and_can_be_removed() -> None:
    async def behaviour(scope: Message, receive: Receive, send: Send) -> None:
        called: list[str] = []

        def one(waiting: object) -> None:
            called.append("one")

        def two(waiting: object) -> None:
            called.append("two")

        waiting: Any = receive()
        for callback in (two, one, two, two, one):
            waiting.add_done_callback(callback)
        assert waiting.remove_done_callback(two) == 3
        assert waiting.remove_done_callback(two) == 0
        waiting.add_done_callback(two)
        await waiting
        await asyncio.sleep(0)
        assert called == ["one", "one", "two"]
        with pytest.raises(TypeError):
            waiting.add_done_callback()
        with pytest.raises(TypeError):
            waiting.add_done_callback(one, color=1)

    chat(behaviour, text_frame("x"))


def test_a_callback_that_raises_does_not_stop_the_others() -> None:
    called: list[object] = []

    def broken(waiting: object) -> None:
        raise ZeroDivisionError

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        waiting: Any = receive()
        waiting.add_done_callback(broken)
        waiting.add_done_callback(called.append)
        await respond(send)
        await waiting
        await asyncio.sleep(0)

    with Inside(app) as inside:
        inside.get()
        while not called:
            pass
        assert [type(each["exception"]) for each in inside.problems] == [ZeroDivisionError]
        inside.problems.clear()
        called.clear()


def test_callback_gets_its_context() -> None:
    import contextvars

    where: contextvars.ContextVar[str] = contextvars.ContextVar("where", default="none")
    seen: list[str] = []

    async def behaviour(scope: Message, receive: Receive, send: Send) -> None:
        waiting: Any = receive()
        other = contextvars.Context()
        other.run(where.set, "other")
        where.set("mine")
        waiting.add_done_callback(lambda _: seen.append(where.get()), context=other)
        waiting.add_done_callback(lambda _: seen.append(where.get()))
        await waiting
        await asyncio.sleep(0)

    chat(behaviour, text_frame("x"))
    assert seen == ["other", "mine"]


def test_waiting_receive_of_a_cancelled_task_leaves_its_event() -> None:
    async def behaviour(scope: Message, receive: Receive, send: Send) -> None:
        for _ in range(3):
            task = asyncio.create_task(receive())  # type: ignore[arg-type]
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert (await receive())["text"] == "x"

    chat(behaviour, text_frame("x"))


def test_receives_taken_out_of_turn_go_back_when_cancelled() -> None:
    """The first of several took its event to let the next one go; nobody got it, so it is there again."""

    async def behaviour(scope: Message, receive: Receive, send: Send) -> None:
        both = asyncio.gather(receive(), receive(), receive())
        await asyncio.sleep(0.1)
        both.cancel()
        with pytest.raises(asyncio.CancelledError):
            await both
        assert [(await receive())["text"] for _ in range(2)] == ["a", "b"]

    chat(behaviour, text_frame("a"), text_frame("b"))


class OwnTask(asyncio.Task[Any]):
    """Not exactly asyncio's."""


TASKS: list[Any] = [asyncio.Task, OwnTask, asyncio.tasks._PyTask]  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", TASKS)
def test_a_task_that_waits_gets_event_cancellation_and_disconnect(kind: Any) -> None:
    """Woken by the core, whatever kind of task it is."""
    ends: list[object] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        async def wait() -> Message:
            return await receive()

        def task() -> Any:
            return kind(wait(), loop=asyncio.get_running_loop())

        await receive()
        await send({"type": "websocket.accept"})
        dropped = task()
        await asyncio.sleep(0)
        dropped.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dropped
        for _ in range(2):
            waiting = task()
            await asyncio.sleep(0)
            await send({"type": "websocket.send", "text": "go"})
            ends.append((await waiting)["text"])
        ends.append((await task())["type"])

    with Inside(app) as inside, inside.connect() as client:
        client.send(UPGRADE)
        client.read_until(b"\r\n\r\n")
        for text in ("one", "two"):
            client.read_until(b"go")
            client.send(text_frame(text))
        client.close()
        wait_for(lambda: len(ends) == 3 or inside.errors)
        assert inside.errors == []
    assert ends == ["one", "two", "websocket.disconnect"]


def test_timeouts_around_a_pending_receive() -> None:
    async def behaviour(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(receive(), 0.01)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await receive()
        done, pending = await asyncio.wait({receive()}, timeout=0.01)  # type: ignore[type-var]
        assert (len(done), len(pending)) == (0, 1)

    run(behaviour)


def test_task_group_and_as_completed() -> None:
    async def behaviour(scope: Message, receive: Receive, send: Send) -> None:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(receive())  # type: ignore[arg-type]
        assert first.result()["text"] == "a"
        for each in asyncio.as_completed([receive()]):
            assert (await each)["text"] == "b"
        assert (await asyncio.wait_for(asyncio.shield(receive()), 5))["text"] == "c"

    chat(behaviour, text_frame("a"), text_frame("b"), text_frame("c"))


def test_shielded_receive_survives_and_keeps_its_place() -> None:
    async def behaviour(scope: Message, receive: Receive, send: Send) -> None:
        waiting: Any = receive()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(waiting), 0.01)
        await send({"type": "websocket.send", "text": "go"})
        assert (await waiting)["text"] == "x"

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await behaviour(scope, receive, send)

    with Inside(app) as inside, inside.connect() as client:
        client.send(UPGRADE)
        client.read_until(b"\x81\x02go")
        client.send(text_frame("x"))
        assert client.recv()[0] == 0x88
        assert inside.errors == []


def test_generator_protocol() -> None:
    async def behaviour(scope: Message, receive: Receive, send: Send) -> None:
        steps: Any = iter(receive())
        with pytest.raises(ValueError, match="thrown"):
            steps.throw(ValueError("thrown"))
        with pytest.raises(ValueError, match="old"):
            steps.throw(ValueError, "old", None)
        for wrong in ((), (1,), (ValueError, "x", 1), (1, 2, 3, 4)):
            with pytest.raises(TypeError):
                steps.throw(*wrong)
        steps.close()
        with pytest.raises(StopIteration) as stop:
            while next(steps) is steps:
                steps._asyncio_future_blocking = False
                await asyncio.sleep(0)
        assert stop.value.value["body"] == b"ab"

    run(behaviour)


def test_wrong_calls() -> None:
    async def behaviour(scope: Message, receive: Any, send: Any) -> None:
        for call in (
            lambda: receive(1),
            lambda: receive(a=1),
            lambda: send(),
            lambda: send({}, {}),
        ):
            with pytest.raises(TypeError):
                call()
        assert "GET" not in repr(send)
        assert "POST / from 127.0.0.1" in repr(send)
        assert receive.__name__ == "receive"

    run(behaviour)


def test_send_by_keyword() -> None:
    async def app(scope: Message, receive: Receive, send: Any) -> None:
        await send(message={"type": "http.response.start", "status": 200})
        await send(event={"type": "http.response.body", "body": b"k"})

    with Inside(app) as inside:
        assert inside.get() == b"k"


def test_send_and_receive_from_another_thread() -> None:
    """run_coroutine_threadsafe(send(event), loop) works, as with any coroutine function."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        body: list[bytes] = []

        def work() -> None:
            event = asyncio.run_coroutine_threadsafe(receive(), loop).result(10)  # type: ignore[arg-type]
            body.append(event["body"])
            start = {"type": "http.response.start", "status": 200}
            asyncio.run_coroutine_threadsafe(send(start), loop).result(10)  # type: ignore[arg-type]
            last = {"type": "http.response.body", "body": body[0]}
            asyncio.run_coroutine_threadsafe(send(last), loop).result(10)  # type: ignore[arg-type]

        await loop.run_in_executor(None, work)

    with Inside(app) as inside, inside.connect() as client:
        assert client.request(POST + b"ab").body == b"ab"


def test_send_awaited_on_another_loop_is_refused() -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        async def elsewhere() -> None:
            await send({"type": "http.response.start", "status": 200})

        with pytest.raises(RuntimeError, match="on a thread that does not run its event loop"):
            await asyncio.get_running_loop().run_in_executor(None, asyncio.run, elsewhere())
        await respond(send)

    with Inside(app) as inside:
        assert inside.get() == b"ok"
        assert inside.errors == []


@pytest.mark.parametrize("sent", [(), (b"a",), (b"a", b"b")])
def test_waiter_dropped_in_another_thread(sent: tuple[bytes, ...]) -> None:
    """The last reference may go anywhere; the next receive() gets the event on its own thread."""
    dropped = threading.Event()

    async def behaviour(scope: Message, receive: Receive, send: Send) -> None:
        held = [asyncio.ensure_future(receive())]
        for _ in range(1000):
            if held[0].done() or not sent:
                break
            await asyncio.sleep(0.001)
        task = asyncio.create_task(receive())  # type: ignore[arg-type]
        await asyncio.sleep(0)
        thread = threading.Thread(target=held.clear)
        thread.start()
        await asyncio.get_running_loop().run_in_executor(None, thread.join)
        dropped.set()
        assert (await asyncio.wait_for(task, 5))["text"] in "abc"

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await behaviour(scope, receive, send)
        await send({"type": "websocket.send", "text": "end"})

    with Inside(app) as inside, inside.connect() as client:
        client.send(UPGRADE)
        client.read_until(b"\r\n\r\n")
        for text in sent:
            client.send(text_frame(text.decode()))
        assert dropped.wait(10)
        client.send(text_frame("c"))
        seen = client.recv()
        assert inside.errors == []
        assert seen.startswith(b"\x81\x03end")


def test_receive_and_send_outlive_their_request() -> None:
    kept: list[Any] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        kept.extend([receive, send])
        await respond(send)

    async def late() -> list[Any]:
        receive, send = kept
        seen: list[Any] = [await receive()]
        pending = receive()
        done, _ = await asyncio.wait({pending}, timeout=0.05)
        seen.append(len(done))
        await send({"type": "http.response.body"})  # ignored, as after any complete response
        await send({"type": "http.response.start", "status": 200})
        seen.append(repr(send))
        return seen

    with Inside(app) as inside:
        inside.get()
        seen = inside.run(late())
        kept.clear()
    assert seen == [{"type": "http.disconnect"}, 0, "<send of <http ended>>"]


def test_send_outlives_a_request_that_was_not_answered() -> None:
    kept: list[Any] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        kept.append(send)

    async def late() -> None:
        start = {"type": "http.response.start", "status": 200}
        with pytest.raises(ValueError, match="not yet been started"):
            await kept[0]({"type": "http.response.body"})
        await kept[0](start)
        with pytest.raises(ValueError, match="already been started"):
            await kept[0](start)
        await kept[0]({"type": "http.response.body"})

    with Inside(app) as inside:
        inside.get()
        inside.run(late())
        kept.clear()


def test_send_waiter_is_released_by_the_reader_and_by_cancellation() -> None:
    reached: list[str] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        body = {"type": "http.response.body", "body": b"x" * 10_000_000, "more_body": True}
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(send(body), 0.05)
        reached.append("timeout")
        await send({**body, "body": b"y"})
        reached.append("drained")
        await send({"type": "http.response.body", "body": b"z"})

    with Inside(app) as inside, inside.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        while not reached:
            pass
        body = client.response().body
        assert len(body) == 10_000_002
        assert body.endswith(b"xyz")
        assert inside.errors == []
    assert reached == ["timeout", "drained"]


@pytest.mark.parametrize("how", ["await", "task", "future", "wait_for", "gather", "wait"])
def test_dropped_send_gives_the_loop_a_turn(how: str) -> None:
    """Whatever awaits it: an application that sends for ever must not stop the server."""
    turns: list[int] = [0]
    ways: dict[str, Callable[[Any], Awaitable[Any]]] = {
        "await": lambda sent: sent,
        "task": asyncio.create_task,
        "future": asyncio.ensure_future,
        "wait_for": lambda sent: asyncio.wait_for(sent, 5),
        "gather": asyncio.gather,
        "wait": lambda sent: asyncio.wait({sent}),
    }

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        assert (await receive())["type"] == "http.disconnect"
        loop = asyncio.get_running_loop()
        await send({"type": "http.response.start", "status": 200})
        for _ in range(5):
            before = turns[0]
            loop.call_soon(lambda: turns.__setitem__(0, turns[0] + 1))
            sent = send({"type": "http.response.body", "body": b"x", "more_body": True})
            await ways[how](sent)
            assert turns[0] == before + 1

    with Inside(app) as inside:
        with inside.connect() as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            wait_for(lambda: inside.server.tasks)
        wait_for(lambda: not inside.server.tasks)
        assert inside.errors == []
    assert turns == [5]


def test_send_that_waits_ends_when_the_client_leaves() -> None:
    outcome: list[object] = []
    waiting = threading.Event()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        waiter = send({"type": "http.response.body", "body": bytes(10_000_000), "more_body": True})
        waiting.set()
        outcome.append(await waiter)

    with Inside(app) as inside, inside.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert waiting.wait(5)
        client.close()
        wait_for(lambda: bool(outcome), what="the end of send()")
    assert outcome == [None]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, "slice", "array"])
def test_body_types_below_and_above_the_pin_size(kind: Any) -> None:
    import array

    def make(data: bytes) -> Any:
        if kind == "slice":
            return memoryview(b"<" + data + b">")[1:-1]
        if kind == "array":
            return memoryview(array.array("B", data))
        return kind(data)

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        for size in (0, 1, 100, 20_000, 300_000):
            await send({"type": "http.response.body", "body": make(b"s" * size), "more_body": True})
        await send({"type": "http.response.body", "body": make(b"e")})

    with Inside(app) as inside:
        assert inside.get() == b"s" * 320_101 + b"e"
        assert inside.errors == []


def test_strided_memoryview_is_copied() -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": memoryview(b"a.b.c.")[::2]})

    with Inside(app) as inside:
        assert inside.get() == b"abc"
        assert inside.errors == []


def test_debug_mode_of_asyncio() -> None:
    async def behaviour(scope: Message, receive: Receive, send: Send) -> None:
        assert asyncio.current_task() is not None
        assert (await receive())["body"] == b"ab"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(receive(), 0.01)

    run(behaviour, debug=True)


def test_receive_and_send_look_like_functions() -> None:
    seen: list[object] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        for function in (receive, send):
            seen.append(str(inspect.signature(function)))
            seen.append(typing.get_type_hints(function))
            inspect.signature(function).bind(*[{}] * (function is send))
        await respond(send)

    with Inside(app) as inside:
        assert inside.get() == b"ok"
    assert seen == ["()", {}, "(event)", {}]
