"""The application that both servers run: the request says in a header what it is to do.

``X-Do`` names one of the coroutines below (default: answer with the scope). What the application
sees goes into notes under the request's ``X-Id``, and a later request with ``X-Do: notes`` reads
them. Only the standard library is imported: daphne's environment has no pytest.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Command = Callable[[Scope, Receive, Send], Awaitable[None]]

NOTES: dict[str, list[Any]] = defaultdict(list)
COMMANDS: dict[str, Command] = {}


class ProbeError(Exception):
    """What the application raises when it is told to."""


def command(function: Command) -> Command:
    COMMANDS[function.__name__] = function
    return function


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    await COMMANDS[field(scope, b"x-do", "echo_scope")](scope, receive, send)


async def lifespan(receive: Receive, send: Send) -> None:
    for name in ("startup", "shutdown"):
        await receive()
        say(f"lifespan {name}")
        await send({"type": f"lifespan.{name}.complete"})


def field(scope: Scope, name: bytes, default: str = "") -> str:
    for key, value in scope["headers"]:
        if key == name:
            return str(value.decode("latin-1"))
    return default


def note(scope: Scope, what: Any) -> None:
    NOTES[field(scope, b"x-id")].append(what)


def say(text: str) -> None:
    print(f"application: {text}", file=sys.stderr, flush=True)


async def answer(send: Send, body: bytes, status: int = 200, headers: Any = ()) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})


async def attempt(scope: Scope, send: Send, message: dict[str, Any]) -> None:
    """Sends and notes what the server thinks of it."""
    try:
        await send(message)
    except Exception as error:  # noqa: BLE001 - the class is what the test asks for
        note(scope, f"{type(error).__name__}: {error}")
    else:
        note(scope, "no exception")


# HTTP


@command
async def echo_scope(scope: Scope, receive: Receive, send: Send) -> None:
    shown = {key: value for key, value in scope.items() if key not in ("state", "extensions")}
    shown["asgi"] = dict(scope["asgi"])
    shown["keys"] = " ".join(sorted(scope))
    shown["header_types"] = f"{type(scope['headers']).__name__} of " + " ".join(
        {type(pair).__name__ for pair in scope["headers"]}
    )
    text = repr(shown)
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": text})
        await wait_for_disconnect(receive)
    else:
        await answer(send, text.encode())


async def wait_for_disconnect(receive: Receive) -> dict[str, Any]:
    while True:
        message = await receive()
        if message["type"].endswith(".disconnect"):
            return message


@command
async def notes(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, repr(NOTES[field(scope, b"x-id")]).encode())


@command
async def raises(scope: Scope, receive: Receive, send: Send) -> None:
    raise ProbeError("told to")


@command
async def raises_after_start(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    raise ProbeError("told to, late")


@command
async def returns(scope: Scope, receive: Receive, send: Send) -> None:
    """Returns at once."""


@command
async def returns_midway(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})


@command
async def stuck(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.sleep(600)


@command
async def stuck_after_start(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    try:
        await asyncio.sleep(600)
    finally:
        say("cancelled")


@command
async def slow(scope: Scope, receive: Receive, send: Send) -> None:
    note(scope, "begun")
    await asyncio.sleep(1)
    await answer(send, b"finished")


@command
async def cancels_itself(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, b"done")
    raise asyncio.CancelledError


@command
async def interrupts(scope: Scope, receive: Receive, send: Send) -> None:
    raise KeyboardInterrupt


@command
async def terminates_child(scope: Scope, receive: Receive, send: Send) -> None:
    """Forks a child that has two seconds of work, and sends it SIGTERM."""
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(2,))
    child.start()
    child.terminate()
    child.join()
    await answer(send, str(child.exitcode).encode())


@command
async def twisted(scope: Scope, receive: Receive, send: Send) -> None:
    """A timer and a thread of Twisted's."""
    from twisted.internet import reactor
    from twisted.internet.threads import deferToThread

    loop = asyncio.get_running_loop()
    done = loop.create_future()
    reactor.callLater(0.01, done.set_result, "callLater")  # type: ignore[attr-defined]
    thread = await deferToThread(lambda: "deferToThread").asFuture(loop)
    await answer(send, f"{await done}, {thread}".encode())


@command
async def body_events(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the events of the request body as (size, more_body)."""
    events = []
    while True:
        message = await receive()
        events.append((len(message.get("body", b"")), message.get("more_body", False)))
        if not events[-1][1]:
            break
    await answer(send, repr(events).encode())


@command
async def starts_early(scope: Scope, receive: Receive, send: Send) -> None:
    note(scope, "called")
    await wait_for_body(receive)
    await answer(send, b"done")


async def wait_for_body(receive: Receive) -> None:
    while (await receive()).get("more_body"):
        pass


@command
async def after_response(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers before it reads anything and notes which events are there then."""
    await answer(send, b"done")
    for _ in range(3):
        try:
            note(scope, (await asyncio.wait_for(receive(), 0.5))["type"])
        except TimeoutError:
            note(scope, "blocks")
    note(scope, "end")


@command
async def client_leaves(scope: Scope, receive: Receive, send: Send) -> None:
    note(scope, "begun")
    await wait_for_body(receive)
    note(scope, (await receive())["type"])
    await attempt(scope, send, {"type": "http.response.start", "status": 200})


@command
async def leaves_unread(scope: Scope, receive: Receive, send: Send) -> None:
    """Asks for nothing before the client has left."""
    note(scope, "begun")
    await asyncio.sleep(0.5)
    note(scope, (await receive())["type"])


@command
async def leaves_stream(scope: Scope, receive: Receive, send: Send) -> None:
    """Sends on when the client has left, and comes to its end."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    note(scope, "begun")
    for _ in range(20):
        await send({"type": "http.response.body", "body": bytes(1000), "more_body": True})
        await asyncio.sleep(0.05)
    await attempt(scope, send, {"type": "http.response.body", "body": b""})


@command
async def ws_leaves_early(scope: Scope, receive: Receive, send: Send) -> None:
    """Accepts and sends when the client has left already."""
    note(scope, "begun")
    await asyncio.sleep(0.5)
    await attempt(scope, send, {"type": "websocket.accept"})
    await attempt(scope, send, {"type": "websocket.send", "text": "hello"})
    note(scope, (await wait_for_disconnect(receive))["type"])


@command
async def outlives_client(scope: Scope, receive: Receive, send: Send) -> None:
    note(scope, "begun")
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        note(scope, "cancelled")
        raise


@command
async def floods(scope: Scope, receive: Receive, send: Send) -> None:
    """Sends 32 MiB to a client that does not read, and notes when it is through."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(512):
        await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
    note(scope, "sent")


def replies(*messages: dict[str, Any]) -> Command:
    """An application that sends these and notes what each one raised."""

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await attempt(scope, send, message)

    return run


def http_start(status: Any = 200, **fields: Any) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, **fields}


def http_body(body: Any = b"", **fields: Any) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, **fields}


def plain(status: int = 200, *headers: tuple[Any, Any], body: bytes = b"hello") -> Command:
    return replies(http_start(status, headers=list(headers)), http_body(body))


COMMANDS.update(
    hello=plain(),
    no_status=replies({"type": "http.response.start"}, http_start(), http_body(b"after all")),
    str_name=plain(200, ("foo", b"bar")),
    str_value=plain(200, (b"foo", "True")),
    list_pairs=replies(http_start(headers=[[b"foo", b"bar"]]), http_body(b"hello")),
    start_twice=replies(http_start(), http_start(), http_body(b"hello")),
    body_first=replies(http_body(b"early"), http_start(), http_body(b"hello")),
    unknown_type=replies({"type": "http.unknown"}, http_start(), http_body(b"hello")),
    after_end=replies(http_start(), http_body(b"hello"), http_body(b"more"), http_start()),
    unknown_status=plain(299),
    recased=plain(200, (b"x-custom-header", b"1"), (b"etag", b'"e"'), (b"x-xss-protection", b"0")),
    crlf_value=plain(200, (b"x-probe", b"a\r\nX-Injected: b")),
    bad_name=plain(200, (b"bad name", b"b")),
    grouped=plain(200, (b"x-a", b"1"), (b"x-b", b"2"), (b"x-a", b"3")),
    own_server=plain(200, (b"server", b"mine")),
    own_length=plain(200, (b"content-length", b"5")),
    short_body=plain(200, (b"content-length", b"50")),
    no_content=plain(204, body=b""),
    not_modified=plain(304, body=b""),
    pieces=replies(
        http_start(headers=[(b"content-type", b"text/plain")]),
        http_body(b"one", more_body=True),
        http_body(b"", more_body=True),
        http_body(b"two"),
    ),
)


# WebSocket


def ws(*messages: dict[str, Any]) -> Command:
    """Accepts, sends these, notes what each raised, and then every event until the disconnect."""

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        note(scope, (await receive())["type"])
        for message in messages:
            await attempt(scope, send, message)
        while True:
            event = await receive()
            note(scope, event)
            if event["type"] == "websocket.disconnect":
                return

    return run


ACCEPT = {"type": "websocket.accept"}


def ws_send(**fields: Any) -> dict[str, Any]:
    return {"type": "websocket.send", **fields}


def ws_close(**fields: Any) -> dict[str, Any]:
    return {"type": "websocket.close", **fields}


COMMANDS.update(
    ws_open=ws(ACCEPT),
    ws_subprotocol=ws({**ACCEPT, "subprotocol": "b"}),
    ws_accept_headers=ws({**ACCEPT, "headers": [(b"x-probe", b"1")]}),
    ws_reject=ws(ws_close()),
    ws_denial=ws(
        {"type": "websocket.http.response.start", "status": 418, "headers": []},
        {"type": "websocket.http.response.body", "body": b"no tea"},
    ),
    ws_unknown=ws(ACCEPT, {"type": "websocket.unknown"}, ws_send(text="hello")),
    ws_early=ws(ws_send(text="early"), ACCEPT),
    ws_both=ws(ACCEPT, ws_send(text="t", bytes=b"b"), ws_send(text="hello")),
    ws_empty=ws(ACCEPT, ws_send(text=""), ws_send(text="hello")),
    ws_long=ws(ACCEPT, ws_send(text="x" * 300)),
    ws_close=ws(ACCEPT, ws_close()),
    ws_close_1001=ws(ACCEPT, ws_close(code=1001)),
    ws_close_4000=ws(ACCEPT, ws_close(code=4000)),
    ws_close_reason=ws(ACCEPT, ws_close(code=4000, reason="because")),
    ws_close_long=ws(ACCEPT, ws_close(code=4000, reason="x" * 200)),
    ws_close_1002=ws(ACCEPT, ws_close(code=1002)),
    ws_close_twice=ws(ACCEPT, ws_close(), ws_close(code=4000)),
    ws_close_send=ws(ACCEPT, ws_close(), ws_send(text="late")),
    ws_reject_accept=ws(ws_close(), ACCEPT),
    ws_reject_send=ws(ws_close(), ws_send(text="late")),
)


@command
async def ws_pending(scope: Scope, receive: Receive, send: Send) -> None:
    """Neither accepts nor rejects."""
    while True:
        note(scope, (await receive())["type"])


@command
async def ws_deaf(scope: Scope, receive: Receive, send: Send) -> None:
    await send(ACCEPT)
    await asyncio.sleep(600)


@command
async def ws_floods(scope: Scope, receive: Receive, send: Send) -> None:
    await send(ACCEPT)
    for _ in range(512):
        await send(ws_send(bytes=bytes(65536)))
    note(scope, "sent")


@command
async def ws_returns_open(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send(ACCEPT)


@command
async def ws_raises_open(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send(ACCEPT)
    raise ProbeError("told to, in a WebSocket")


@command
async def ws_send_after(scope: Scope, receive: Receive, send: Send) -> None:
    await send(ACCEPT)
    await wait_for_disconnect(receive)
    await attempt(scope, send, ws_send(text="too late"))


# What somebody may name on the command line by mistake.
not_callable = "a string"
