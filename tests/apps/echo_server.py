"""A trivial asyncio server for test_benchmarks.py: HTTP, WebSocket echo and broadcast, right or with one fault.

    python echo_server.py PORT [fault [CERTIFICATE KEY]]

Faults: "byte" (a wrong byte in the third echo), "close" (a close frame instead of it), "status" (500), "body" (another
body of the same size), "tickets" (TLS without them), "twice" (a member gets the third broadcast again).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import signal
import ssl
import sys

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
PATTERN = bytes(ord("a") + i % 23 for i in range(1024))
FAULT = sys.argv[2] if len(sys.argv) > 2 else ""
room: list[asyncio.StreamWriter] = []


def answer(path: bytes, close: bool) -> bytes:
    body = b"Hello, World?" if FAULT == "body" and not close else b"Hello, World!"
    status = b"500 Broken" if FAULT == "status" and not close else b"200 OK"
    if path == b"/100k":
        chunks = b"2800\r\n" + PATTERN * 10 + b"\r\n"
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks * 10 + b"0\r\n\r\n"
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
            if b"Upgrade" in fields:
                await websocket(reader, writer, fields[b"Sec-WebSocket-Key"], head.split(b" ")[1])
                break
            close = fields.get(b"Connection") == b"close"
            if length := int(fields.get(b"Content-Length", 0)):
                size = b"%d" % len(await reader.readexactly(length))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(size), size))
                continue
            writer.write(answer(head.split(b" ")[1], close))
            if close:
                break
    except (asyncio.IncompleteReadError, ConnectionResetError):
        pass
    writer.close()


def tell_all(frame: bytes, number: int) -> None:
    for member in room:
        member.write(frame)
    if number == 3 and FAULT == "twice":
        room[0].write(frame)


async def websocket(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: bytes, path: bytes
) -> None:
    accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    number = 0
    room.append(writer)
    while True:
        first, second = await reader.readexactly(2)
        length = second & 127
        if length == 126:
            length = int.from_bytes(await reader.readexactly(2))
        mask = await reader.readexactly(4)
        masked = await reader.readexactly(length)
        data = bytes(byte ^ mask[i % 4] for i, byte in enumerate(masked))
        number += 1
        if number == 3 and FAULT == "byte":
            data = data[:-1] + b"?"
        if first & 15 == 8 or (number == 3 and FAULT == "close"):
            writer.write(b"\x88\x02\x03\xe8")
            return
        size = bytes([length]) if length < 126 else b"\x7e" + length.to_bytes(2)
        if path == b"/ws/broadcast":
            tell_all(bytes([first]) + size + data, number)
            continue
        # In two frames, so that a client must put a message together.
        half = data[: length // 2]
        if length < 126:
            writer.write(bytes([first & 15, len(half)]) + half)
            writer.write(bytes([0x80, length - len(half)]) + data[len(half) :])
        else:
            writer.write(bytes([first]) + size + data)


def tls() -> ssl.SSLContext | None:
    if len(sys.argv) < 5:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[3], sys.argv[4])
    if FAULT == "tickets":
        context.num_tickets = 0
    return context


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]), ssl=tls())
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    server.close()


asyncio.run(main())
