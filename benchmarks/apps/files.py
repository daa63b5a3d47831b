"""A file of 1 MB: by http.response.pathsend where the server offers that, and read by the application otherwise.

Read in pieces of 64 KB, as Starlette's FileResponse does, but without its hop to a thread for each: that favours the
servers without pathsend.
"""

from __future__ import annotations

import os
from typing import Any

from raw import PLAIN, Receive, Send, lifespan, plain

PATH = os.environ["BENCH_FILE"]
LENGTH = (b"content-length", b"%d" % os.path.getsize(PATH))
PIECE = 64 * 1024


async def file(scope: dict[str, Any], send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [PLAIN, LENGTH]})
    if "http.response.pathsend" in scope.get("extensions", {}):
        await send({"type": "http.response.pathsend", "path": PATH})
        return
    with open(PATH, "rb", buffering=0) as opened:  # noqa: ASYNC230  (on purpose: see above)
        while piece := opened.read(PIECE):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["path"] == "/file":
        await file(scope, send)
    else:
        await plain(receive, send)
