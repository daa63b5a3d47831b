"""Helpers that other projects import from daphne.utils."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Protocol

from .importer import import_by_path

__all__ = [
    "HEADER_NAME_RE",
    "INVALID_HEADER_VALUE_BYTES",
    "header_value",
    "import_by_path",
    "parse_x_forwarded_for",
]

# A token of RFC 9110, 5.6.2.
HEADER_NAME_RE = re.compile(rb"[-!#$%&'*+.^_`|~0-9a-zA-Z]+")

# Bytes that Python's splitlines() takes for the end of a line.
INVALID_HEADER_VALUE_BYTES = frozenset(b"\x0b\x0c\x1c\x1d\x1e\x85")

Value = bytes | list[bytes]


class RawHeaders(Protocol):
    """Headers as Twisted has them."""

    def getAllRawHeaders(self) -> Iterable[tuple[bytes, list[bytes]]]: ...


def header_value(headers: Mapping[bytes, Value], header_name: bytes) -> str:
    """The value of a header, of a repeated one the first; KeyError without it."""
    value = headers[header_name]
    if isinstance(value, list):
        value = value[0]
    return value.decode("utf-8")


def parse_x_forwarded_for(
    headers: Mapping[bytes, Value] | RawHeaders,
    address_header_name: str | None = "X-Forwarded-For",
    port_header_name: str | None = "X-Forwarded-Port",
    proto_header_name: str | None = "X-Forwarded-Proto",
    original_addr: list[str | int] | None = None,
    original_scheme: str | None = None,
) -> tuple[list[str | int] | None, str | None]:
    """The client's [host, port] and scheme as a proxy tells them; the original ones where it does not.

    Port and scheme count only beside an address. The address is the leftmost one of its header; the port is 0
    unless the port header is a number.
    """
    if not address_header_name:
        return original_addr, original_scheme
    pairs = headers.items() if isinstance(headers, Mapping) else headers.getAllRawHeaders()
    known: dict[bytes, Value] = {name.lower(): value for name, value in pairs}
    address_name = address_header_name.lower().encode()
    if address_name not in known:
        return original_addr, original_scheme
    address: list[str | int] = [header_value(known, address_name).split(",")[0].strip(), 0]
    port_name = (port_header_name or "").lower().encode()
    if port_name in known:
        digits = header_value(known, port_name).strip()
        address[1] = int(digits) if digits.isascii() and digits.isdigit() else 0
    proto_name = (proto_header_name or "").lower().encode()
    scheme = header_value(known, proto_name) if proto_name in known else original_scheme
    return address, scheme
