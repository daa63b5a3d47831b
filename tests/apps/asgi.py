"""Behaviours of applications against receive() and send(), one per path; the tests of test_asgi_*.py name them.

A behaviour may note what it saw under the name in the query string; GET /notes?name returns the notes as JSON.

/script     the request's body is a Python list of events to send; notes "ok" or the exception for each
WebSocket /script   the same, the list being the query string after "name&"; then "received" events are noted
others      see the function of that name
"""

from __future__ import annotations

import ast
import asyncio
import contextvars
import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

NOTES: dict[str, list[Any]] = {}
WHERE: contextvars.ContextVar[str] = contextvars.ContextVar("WHERE", default="unset")


def name_of(scope: Message) -> str:
    query: bytes = scope["query_string"]
    return query.partition(b"&")[0].decode()


def note(scope: Message, value: Any) -> None:
    NOTES.setdefault(name_of(scope), []).append(value)


async def respond(send: Send, body: bytes = b"ok") -> None:
    length = str(len(body)).encode()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]}
    )
    await send({"type": "http.response.body", "body": body})


async def attempt(send: Send, event: Any) -> str:
    try:
        await send(event)
    except Exception as error:  # noqa: BLE001  (whatever it is, the test wants to see it)
        return f"{type(error).__name__}: {error}"
    return "ok"


async def read_body(receive: Receive) -> bytes:
    body = b""
    while True:
        event = await receive()
        assert event["type"] == "http.request", event
        body += event["body"]
        if not event["more_body"]:
            return body


# ---- HTTP ----


async def notes(scope: Message, receive: Receive, send: Send) -> None:
    await respond(send, json.dumps(NOTES.get(name_of(scope), []), default=repr).encode())


async def script(scope: Message, receive: Receive, send: Send) -> None:
    for event in ast.literal_eval((await read_body(receive)).decode()):
        note(scope, await attempt(send, event))


async def events(scope: Message, receive: Receive, send: Send) -> None:
    """Notes every event up to the disconnect; answers after the body."""
    answered = False
    while True:
        event = await receive()
        note(scope, {**event, "body": len(event["body"])} if "body" in event else event)
        if event["type"] == "http.disconnect":
            return
        if not event["more_body"] and not answered:
            answered = True
            await respond(send)


async def after_disconnect(scope: Message, receive: Receive, send: Send) -> None:
    """receive() after the one disconnect stays pending."""
    await read_body(receive)
    await respond(send)
    note(scope, (await receive())["type"])
    again = asyncio.ensure_future(receive())
    done, _ = await asyncio.wait({again}, timeout=0.2)
    note(scope, len(done))
    again.cancel()
    try:
        await again
    except asyncio.CancelledError:
        note(scope, "cancelled")


async def after_body(scope: Message, receive: Receive, send: Send) -> None:
    """receive() after the body blocks until the client goes."""
    await read_body(receive)
    waiting = asyncio.ensure_future(receive())
    done, _ = await asyncio.wait({waiting}, timeout=0.2)
    note(scope, len(done))
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"x", "more_body": True})
    note(scope, (await waiting)["type"])
    note(scope, await attempt(send, {"type": "http.response.body", "body": b"y"}))


async def listen_for_disconnect(receive: Receive) -> None:
    """As django.core.handlers.asgi does it."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ConnectionAbortedError
    raise AssertionError(f"Invalid ASGI message after request body: {message['type']}")


async def django(scope: Message, receive: Receive, send: Send, takes: float = 0.05) -> None:
    await read_body(receive)

    async def process() -> None:
        await asyncio.sleep(takes)
        await respond(send)

    tasks = [asyncio.create_task(listen_for_disconnect(receive)), asyncio.create_task(process())]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    while tasks:
        task = tasks.pop()
        if task.done():
            try:
                task.result()
            except ConnectionAbortedError:
                note(scope, "aborted")
        else:
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                note(scope, "cancelled")


async def slow_django(scope: Message, receive: Receive, send: Send) -> None:
    await django(scope, receive, send, takes=60)


async def bytearray_pressure(scope: Message, receive: Receive, send: Send) -> None:
    """One bytearray, filled again after every send(): the client must see each filling."""
    await read_body(receive)
    await send({"type": "http.response.start", "status": 200})
    buffer = bytearray(200_000)
    for number in range(100):
        buffer[:] = bytes([number]) * len(buffer)
        sending = send({"type": "http.response.body", "body": buffer, "more_body": number < 99})
        if not sending.done():  # type: ignore[attr-defined]
            note(scope, number)
        await sending
        if number == 50:
            buffer += b"!" * 1000  # it can be resized: nobody holds an export of it


async def cancelled_receive(scope: Message, receive: Receive, send: Send) -> None:
    """A receive() is cancelled while it waits; the next one gets the event."""
    for _ in range(3):
        waiting = asyncio.ensure_future(receive())
        await asyncio.wait({waiting}, timeout=0.02)
        if waiting.done():
            break
        note(scope, waiting.cancel())
        note(scope, waiting.cancelled())
    body = waiting.result()["body"] if waiting.done() and not waiting.cancelled() else b""
    await respond(send, body + await read_body(receive))


async def big(scope: Message, receive: Receive, send: Send) -> None:
    """More than any buffer takes, until the client leaves; notes what send() says then."""
    piece = {"type": "http.response.body", "body": b"x" * 100_000, "more_body": True}
    await read_body(receive)
    left = asyncio.ensure_future(receive())
    await send({"type": "http.response.start", "status": 200})
    said = {await attempt(send, piece)}
    while not left.done():
        said.add(await attempt(send, piece))
    note(scope, left.result()["type"])
    said.add(await attempt(send, {**piece, "more_body": False}))
    note(scope, sorted(said))


async def context(scope: Message, receive: Receive, send: Send) -> None:
    before = WHERE.get()
    WHERE.set(scope["query_string"].decode())
    await asyncio.sleep(0.01)
    await respond(send, f"{before} {WHERE.get()}".encode())


async def task(scope: Message, receive: Receive, send: Send) -> None:
    """A real task from the first line on."""
    current = asyncio.current_task()
    assert current is not None
    assert current in asyncio.all_tasks()
    timed_out = False
    try:
        async with asyncio.timeout(0.02):
            await read_body(receive)
            await receive()
    except TimeoutError:
        timed_out = True
    await respond(send, f"{type(current).__name__} {timed_out}".encode())


async def raises(scope: Message, receive: Receive, send: Send) -> None:
    raise RuntimeError("before the start")


async def raises_late(scope: Message, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"part", "more_body": True})
    await asyncio.sleep(0.01)
    raise RuntimeError("after the start")


async def cancels_itself(scope: Message, receive: Receive, send: Send) -> None:
    raise asyncio.CancelledError


async def returns(scope: Message, receive: Receive, send: Send) -> None:
    """No response at all."""


async def children(scope: Message, receive: Receive, send: Send) -> None:
    """A child outlives the application, and still gets its disconnect."""

    async def child() -> None:
        note(scope, (await receive())["type"])
        note(scope, await attempt(send, {"type": "http.response.body", "body": b""}))

    await read_body(receive)
    KEPT.append(asyncio.create_task(child()))
    await asyncio.sleep(0)
    await respond(send)


KEPT: list[Any] = []

# ---- WebSocket ----


async def websocket_script(scope: Message, receive: Receive, send: Send) -> None:
    assert (await receive())["type"] == "websocket.connect"
    for event in ast.literal_eval(unquote(scope["query_string"].partition(b"&")[2].decode())):
        note(scope, await attempt(send, event))
    while True:
        event = await receive()
        note(scope, event)
        if event["type"] == "websocket.disconnect":
            note(scope, await attempt(send, {"type": "websocket.send", "text": "late"}))
            note(scope, await attempt(send, {"type": "websocket.close"}))
            return


async def wait_for_loop(scope: Message, receive: Receive, send: Send) -> None:
    """wait_for(receive(), t) with timeouts in between: every message is echoed once, in order."""
    await receive()
    await send({"type": "websocket.accept"})
    timeouts = 0
    while True:
        try:
            event = await asyncio.wait_for(receive(), 0.001)
        except TimeoutError:
            timeouts += 1
            continue
        if event["type"] == "websocket.disconnect":
            note(scope, timeouts > 0)
            return
        await send({"type": "websocket.send", "text": event["text"]})


async def channels_dispatch(scope: Message, receive: Receive, send: Send) -> None:
    """channels.utils.await_many_dispatch over receive() and a channel layer's queue."""
    queue: asyncio.Queue[Message] = asyncio.Queue()
    sources: list[Callable[[], Any]] = [receive, queue.get]
    tasks = [asyncio.ensure_future(source()) for source in sources]
    try:
        while True:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for i, done in enumerate(tasks):
                if not done.done():
                    continue
                event = done.result()
                tasks[i] = asyncio.ensure_future(sources[i]())
                if event["type"] == "websocket.connect":
                    await send({"type": "websocket.accept"})
                elif event["type"] == "websocket.receive":
                    await queue.put({"type": "group", "text": event["text"]})
                elif event["type"] == "group":
                    await send({"type": "websocket.send", "text": event["text"]})
                else:
                    note(scope, event["code"])
                    return
    finally:
        for left in tasks:
            left.cancel()
            try:
                await left
            except asyncio.CancelledError:
                note(scope, "cancelled")


async def many_receivers(scope: Message, receive: Receive, send: Send) -> None:
    """Three tasks on one receive(): each message goes to one of them, in the order in which they asked."""
    await receive()
    await send({"type": "websocket.accept"})
    tasks = [asyncio.create_task(receive()) for _ in range(3)]  # type: ignore[arg-type]
    for done in tasks:
        await send({"type": "websocket.send", "text": (await done)["text"]})
    await receive()


async def racing_cancel(scope: Message, receive: Receive, send: Send) -> None:
    """The waiting task is cancelled in the very turn in which a message comes, again and again."""
    await receive()
    await send({"type": "websocket.accept"})

    async def one() -> None:
        event = await receive()
        if event["type"] == "websocket.disconnect":
            raise ConnectionResetError
        await send({"type": "websocket.send", "text": event["text"]})

    while True:
        waiting = asyncio.create_task(one())
        for _ in range(3):
            await asyncio.sleep(0)
        waiting.cancel()
        try:
            await waiting
        except asyncio.CancelledError:
            continue
        except ConnectionResetError:
            return


async def gather_and_shield(scope: Message, receive: Receive, send: Send) -> None:
    await asyncio.gather(receive(), asyncio.sleep(0))
    await asyncio.gather(send({"type": "websocket.accept"}), asyncio.sleep(0))
    first, second = await asyncio.gather(receive(), receive())
    third = await asyncio.shield(receive())
    text = first["text"] + second["text"] + third["text"]
    await asyncio.gather(
        send({"type": "websocket.send", "text": text}),
        send({"type": "websocket.send", "text": "2"}),
    )
    await receive()


async def app(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        raise NotImplementedError
    name = scope["path"][1:]
    if scope["type"] == "websocket" and name == "script":
        name = "websocket_script"
    await globals()[name](scope, receive, send)
