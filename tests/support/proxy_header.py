"""Headers of the PROXY protocol, version 2."""

from __future__ import annotations

import socket

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
INET = socket.inet_aton("192.0.2.7") + socket.inet_aton("203.0.113.9") + b"\x12\x67\x01\xbb"


def v2(payload: bytes = INET, command: int = 0x21, family: int = 0x11) -> bytes:
    return SIGNATURE + bytes([command, family]) + len(payload).to_bytes(2, "big") + payload


def tlv(kind: int, value: bytes) -> bytes:
    return bytes([kind]) + len(value).to_bytes(2, "big") + value


def tls_facts(client: int = 1, verify: int = 0, **texts: bytes) -> bytes:
    kinds = {"version": 0x21, "name": 0x22, "cipher": 0x23}
    inner = b"".join(tlv(kinds[name], value) for name, value in texts.items())
    return tlv(0x20, bytes([client]) + verify.to_bytes(4, "big") + inner)
