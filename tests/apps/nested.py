"""An application that runs the running loop again, with the library NEST; NEST_AT says where it is applied."""

from __future__ import annotations

import asyncio
import importlib
import os
from typing import Any

from asgiref.sync import sync_to_async

nest = importlib.import_module(os.environ.get("NEST", "nest_asyncio"))
AT_IMPORT = os.environ.get("NEST_AT", "import") == "import"

if AT_IMPORT:
    nest.apply()


async def work(*results: object) -> str:
    """What a library does behind a function that is not async: timers, threads, tasks of its own."""
    await asyncio.sleep(0.001)
    await asyncio.to_thread(int)
    async with asyncio.timeout(20):
        await asyncio.gather(*(asyncio.create_task(asyncio.sleep(0.001)) for _ in range(3)))
    return "worked"


async def fetch(port: int, path: str) -> str:
    """A request to this very server, over the loop that runs it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer.decode().rpartition("\r\n\r\n")[2]


def run(coroutine: Any) -> Any:
    return asyncio.run(coroutine)


async def view_run(scope: Any, receive: Any) -> str:
    return str(run(work()))


async def view_until(scope: Any, receive: Any) -> str:
    return str(asyncio.get_running_loop().run_until_complete(work()))


async def view_later(scope: Any, receive: Any) -> str:
    await asyncio.sleep(0.001)
    first = run(work())
    await asyncio.sleep(0)
    return str(first) + run(work())


async def view_deep(scope: Any, receive: Any) -> str:
    async def deeper(level: int) -> str:
        await asyncio.sleep(0.001)
        return str(run(deeper(level - 1))) if level else str(run(work()))

    return str(run(deeper(4)))


async def view_body(scope: Any, receive: Any) -> str:
    async def body() -> int:
        size, more = 0, True
        while more:
            event = await receive()
            size += len(event["body"])
            more = event["more_body"]
        return size

    return str(run(body()))


async def view_self(scope: Any, receive: Any) -> str:
    return str(run(fetch(scope["server"][1], "/run")))


async def view_callback(scope: Any, receive: Any) -> str:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    loop.call_soon(lambda: done.set_result(run(work())))
    return str(await done)


async def view_error(scope: Any, receive: Any) -> str:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("of the inner run")

    try:
        run(fail())
    except ValueError as error:
        return str(error)
    return "nothing was raised"


async def view_task(scope: Any, receive: Any) -> str:
    before = asyncio.current_task()
    run(work())
    return str(asyncio.current_task() is before)


async def view_sync(scope: Any, receive: Any) -> str:
    return str(await sync_to_async(lambda: run(work()))())


async def view_gone(scope: Any, receive: Any) -> str:
    """Until its client has gone, inside: what the outer frames stand on must outlive the connection."""

    async def disconnect() -> str:
        seen.append("entered")
        while (event := await receive())["type"] != "http.disconnect":
            pass
        seen.append(event["type"])
        return str(event["type"])

    return str(run(disconnect()))


async def view_forever(scope: Any, receive: Any) -> str:
    seen.append("entered")
    return str(run(asyncio.sleep(3600)))


async def view_forever_later(scope: Any, receive: Any) -> str:
    await asyncio.sleep(0.001)
    return await view_forever(scope, receive)


async def view_seen(scope: Any, receive: Any) -> str:
    return " ".join(seen)


seen: list[str] = []
VIEWS = {name[5:]: view for name, view in list(globals().items()) if name.startswith("view_")}


async def websocket(receive: Any, send: Any) -> None:
    async def answer(text: str) -> None:
        await work()
        await send({"type": "websocket.send", "text": text})

    while (event := await receive())["type"] != "websocket.disconnect":
        if event["type"] == "websocket.connect":
            run(send_accept(send))
        else:
            run(answer(event["text"]))


async def send_accept(send: Any) -> None:
    await send({"type": "websocket.accept"})


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        raise RuntimeError("no lifespan here")
    if not AT_IMPORT:
        nest.apply()
    if scope["type"] == "websocket":
        await websocket(receive, send)
        return
    text = await VIEWS[scope["path"][1:]](scope, receive)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": text.encode()})
