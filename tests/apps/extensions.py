"""What ASGI's extensions add to a response, one behaviour per path.

/extensions      the scope's extensions as JSON
/script?name     the request's body is a list of events to send; notes "ok" or the exception for each (GET /notes?name).
                 A str under "file" is opened here: "file:P" is an object, "fd:P" a descriptor, "wo:P" cannot be read;
                 b"bytes" is an object without a descriptor
/path?P          pathsend of P; /sized?P with Content-Length; /relative?P from P's folder
/range?P         zerocopysend of what the Range header asks for
/mixed?P         zerocopysend between bodies, of unknown length
/position?P      zerocopysend from and to the position of a file object and of a descriptor
/held?P          zerocopysend with more to come, notes under "held" when send() has returned
/cut?P           pathsend, and then P is truncated
others           see the function of that name
"""

# ruff: noqa: ASYNC230  (the files are small and cached, and blocking is no harm here)

from __future__ import annotations

import ast
import io
import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tests.apps.asgi import (
    NOTES,
    Message,
    Receive,
    Send,
    attempt,
    note,
    notes,  # noqa: F401  (a behaviour)
    read_body,
    respond,
)


def target(scope: Message) -> str:
    query: bytes = scope["query_string"]
    return unquote(query.decode())


def header(scope: Message, name: bytes) -> bytes:
    return dict(scope["headers"]).get(name, b"")


async def start(send: Send, *headers: tuple[bytes, bytes], status: int = 200, **more: Any) -> None:
    event = {"type": "http.response.start", "status": status, "headers": list(headers), **more}
    await send(event)


async def extensions(scope: Message, receive: Receive, send: Send) -> None:
    await respond(send, json.dumps(scope["extensions"]).encode())


async def script(scope: Message, receive: Receive, send: Send) -> None:
    with ExitStack() as stack:
        for event in ast.literal_eval((await read_body(receive)).decode()):
            if isinstance(event.get("file"), str):
                form, _, path = event["file"].partition(":")
                opened = stack.enter_context(open(path, "ab" if form == "wo" else "rb"))
                event["file"] = opened if form == "file" else opened.fileno()
            elif event.get("file") == b"bytes":
                event["file"] = io.BytesIO(b"abc")
            note(scope, await attempt(send, event))


async def path(scope: Message, receive: Receive, send: Send) -> None:
    await start(send, (b"content-type", b"text/plain"))
    await send({"type": "http.response.pathsend", "path": target(scope)})


async def sized(scope: Message, receive: Receive, send: Send) -> None:
    size = str(os.stat(target(scope)).st_size).encode()
    await start(send, (b"content-length", size))
    await send({"type": "http.response.pathsend", "path": target(scope)})


async def relative(scope: Message, receive: Receive, send: Send) -> None:
    os.chdir(Path(target(scope)).parent)
    await start(send)
    await send({"type": "http.response.pathsend", "path": Path(target(scope)).name})


async def not_modified(scope: Message, receive: Receive, send: Send) -> None:
    await start(send, status=304)
    await send({"type": "http.response.pathsend", "path": target(scope)})


async def part(scope: Message, receive: Receive, send: Send) -> None:
    first, last = map(int, header(scope, b"range").removeprefix(b"bytes=").split(b"-"))
    size = os.stat(target(scope)).st_size
    await start(
        send,
        (b"content-range", f"bytes {first}-{last}/{size}".encode()),
        (b"content-length", str(last - first + 1).encode()),
        status=206,
    )
    with open(target(scope), "rb") as file:
        await send(
            {
                "type": "http.response.zerocopysend",
                "file": file,
                "offset": first,
                "count": last - first + 1,
            }
        )


def copy(file: Any, **keys: Any) -> Message:
    return {"type": "http.response.zerocopysend", "file": file, "more_body": True, **keys}


def body(data: bytes, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def mixed(scope: Message, receive: Receive, send: Send) -> None:
    await start(send)
    with open(target(scope), "rb") as file:
        await send(body(b"<"))
        await send(copy(file.fileno()))
        await send(body(b"|"))
        await send(copy(file.fileno(), offset=1, count=3))
        await send(body(b"|"))
        await send(copy(file.fileno(), offset=2, more_body=False))


async def position(scope: Message, receive: Receive, send: Send) -> None:
    await start(send)
    with open(target(scope), "rb") as file:
        first = file.read(2)  # the descriptor stands at the end now
        await send(copy(file, count=3))
        note(scope, file.tell())
        second = file.read(1)
        await send(copy(file))
        note(scope, file.tell())
        await send(copy(file, offset=0, count=1))
        note(scope, file.tell())
    descriptor = os.open(target(scope), os.O_RDONLY)
    try:
        os.lseek(descriptor, 4, os.SEEK_SET)
        await send(copy(descriptor, count=2))
        note(scope, os.lseek(descriptor, 0, os.SEEK_CUR))
    finally:
        os.close(descriptor)
    await send(body(b"|" + first + second, False))


async def held(scope: Message, receive: Receive, send: Send) -> None:
    await start(send)
    with open(target(scope), "rb") as file:
        await send(copy(file))
    NOTES.setdefault("held", []).append("went on")
    await send(body(b"", False))


async def cut(scope: Message, receive: Receive, send: Send) -> None:
    await start(send)
    await send({"type": "http.response.pathsend", "path": target(scope)})
    os.truncate(target(scope), 1000)


async def hints(scope: Message, receive: Receive, send: Send) -> None:
    for links in ([b"</a.css>; rel=preload; as=style"], iter([b"</b.js>", b"</c.js>"]), []):
        await send({"type": "http.response.early_hint", "links": links})
    await respond(send)


async def late_hints(scope: Message, receive: Receive, send: Send) -> None:
    """As the specification had it before asgiref's pull request 579: behind the start."""
    await start(send)
    await send({"type": "http.response.early_hint", "links": [b"</a.css>"]})
    await send(body(b"ok", False))


async def trailers(scope: Message, receive: Receive, send: Send) -> None:
    await start(send, (b"trailer", b"x-sum, x-more"), trailers=True)
    await send(body(b"he"))
    await send(body(b"llo", False))
    await send(
        {
            "type": "http.response.trailers",
            "headers": [(b"x-sum", b"42")],
            "more_trailers": True,
        }
    )
    await send({"type": "http.response.trailers", "headers": [(b"x-more", b"yes")]})
    note(scope, await attempt(send, body(b"ignored")))


async def debug(scope: Message, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.debug", "info": {"template": "a.html", "n": 7}})
    await respond(send)


async def websocket(scope: Message, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": json.dumps(scope["extensions"])})
    for event in (
        {"type": "http.response.early_hint", "links": []},
        {"type": "websocket.http.response.start", "status": 200, "trailers": True},
    ):
        await send({"type": "websocket.send", "text": await attempt(send, event)})
    await send({"type": "websocket.close"})


async def app(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        raise NotImplementedError
    name = "websocket" if scope["type"] == "websocket" else scope["path"][1:]
    await globals()[name](scope, receive, send)
