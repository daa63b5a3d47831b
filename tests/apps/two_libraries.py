"""Python's own TLS inside of a server whose TLS may be another OpenSSL's."""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
from typing import Any

from pyasgi import _core


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.readexactly(SIZE))
    await writer.drain()
    writer.close()
    await writer.wait_closed()


SIZE = 300_000


async def conversation() -> str:
    """The hash of what came back through a TLS connection of Python's contexts, both ends here."""
    cert, key = os.environ["TEST_CERT"], os.environ["TEST_KEY"]
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(cert, key)
    trusting = ssl.create_default_context(cafile=os.environ["TEST_CA"])
    async with await asyncio.start_server(echo, "127.0.0.1", 0, ssl=serving) as server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=trusting, server_hostname="localhost"
        )
        writer.write(b"x" * SIZE)
        got = await reader.readexactly(SIZE)
        writer.close()
        await writer.wait_closed()
    return hashlib.sha256(got).hexdigest()


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    facts = [await conversation(), ssl.OPENSSL_VERSION.split()[1], _core.versions()["OpenSSL"]]
    body = " ".join(facts).encode()
    length = str(len(body)).encode()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]}
    )
    await send({"type": "http.response.body", "body": body})
