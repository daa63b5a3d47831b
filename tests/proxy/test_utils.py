"""pyasgi.utils: what a proxy says of the client, as projects that import daphne.utils ask for it."""

from __future__ import annotations

import pytest

from pyasgi.utils import (
    HEADER_NAME_RE,
    INVALID_HEADER_VALUE_BYTES,
    header_value,
    import_by_path,
    parse_x_forwarded_for,
)
from tests.apps import basic


class Headers:
    """Headers as Twisted has them: names as they came, a list of values each."""

    def __init__(self, headers: dict[bytes, list[bytes]]) -> None:
        self.headers = headers

    def getAllRawHeaders(self) -> list[tuple[bytes, list[bytes]]]:
        return list(self.headers.items())


ALL = {
    b"X-Forwarded-For": [b"10.1.2.3"],
    b"X-Forwarded-Port": [b"1234"],
    b"X-Forwarded-Proto": [b"https"],
}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (ALL, (["10.1.2.3", 1234], "https")),
        ({b"x-forwarded-for": b"10.1.2.3"}, (["10.1.2.3", 0], None)),
        ({b"X-Forwarded-For": [b"1043::a321:0001, 10.0.5.6"]}, (["1043::a321:0001", 0], None)),
        ({b"X-Forwarded-For": b"10.1.2.3 , 10.1.2.4"}, (["10.1.2.3", 0], None)),
        ({b"X-Forwarded-For": b"a", b"X-Forwarded-Port": b"http"}, (["a", 0], None)),
        ({b"X-Forwarded-Port": b"1", b"X-Forwarded-Proto": b"https"}, (None, None)),
        ({}, (None, None)),
    ],
)
@pytest.mark.parametrize("twisted", [False, True])
def test_forwarded(
    headers: dict[bytes, list[bytes] | bytes], expected: object, twisted: bool
) -> None:
    if twisted:
        lists = {name: v if isinstance(v, list) else [v] for name, v in headers.items()}
        assert parse_x_forwarded_for(Headers(lists)) == expected
    else:
        assert parse_x_forwarded_for(headers) == expected


def test_names_and_originals() -> None:
    original: list[str | int] = ["127.0.0.1", 80]
    headers = {b"x-real-ip": b"10.1.2.3", b"x-port": b"7"}
    found = parse_x_forwarded_for(headers, "X-Real-IP", "X-Port", None, original, "http")
    assert found == (["10.1.2.3", 7], "http")
    assert parse_x_forwarded_for({}, original_addr=original) == (original, None)
    assert parse_x_forwarded_for(headers, None, original_addr=original) == (original, None)


def test_header_value() -> None:
    assert header_value({b"a": [b"1", b"2"], b"b": b"3"}, b"a") == "1"
    assert header_value({b"a": [b"1", b"2"], b"b": b"3"}, b"b") == "3"
    with pytest.raises(KeyError):
        header_value({}, b"a")


def test_import_by_path() -> None:
    assert import_by_path("tests.apps.basic:app") is basic.app
    assert import_by_path("tests.apps.basic:app.__name__") == "app"
    with pytest.raises(ValueError, match="MODULE:ATTRIBUTE"):
        import_by_path("tests.apps.basic")
    with pytest.raises(AttributeError):
        import_by_path("tests.apps.basic:nothing")


def test_bytes_of_headers() -> None:
    assert HEADER_NAME_RE.fullmatch(b"X-Custom_1")
    assert not HEADER_NAME_RE.fullmatch(b"X Custom")
    assert set(b"\x0b\x0c\x1c\x1d\x1e\x85") == set(INVALID_HEADER_VALUE_BYTES)
