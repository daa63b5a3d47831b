"""Applications and middleware that do not know an extension: nothing is offered unasked, and the log names suspects."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import brotli
import pytest

from pyasgi import _core, suspects
from pyasgi.loop import EventLoop
from pyasgi.server import Server
from tests.support.client import RawClient
from tests.support.handle import Handle
from tests.support.inprocess import Inside
from tests.support.servers import Servers
from tests.support.wait import wait_for

APP = "tests.apps.compressing:app"
STYLE = b"body { color: red }\n" * 5000
OFFERED = ("pathsend", "debug")


@pytest.fixture
def folder(tmp_path: Path) -> dict[str, str | None]:
    (tmp_path / "a.css").write_bytes(STYLE)
    (tmp_path / "page.html").write_text("{{ word }} " * 300)
    return {"FOLDER": str(tmp_path)}


def get(handle: Handle, path: str, encodings: str = "") -> Any:
    return handle.get(path, headers={"Accept-Encoding": encodings or "identity"})


def wait_for_lines(handle: Handle, text: str, number: int) -> None:
    wait_for(lambda: handle.stderr().count(text) == number, what=f"{number} times: {text}")


@pytest.mark.server
def test_static_files_are_compressed(server: Servers, folder: dict[str, str | None]) -> None:
    """Also at -v 2, where templates' contexts do not come either."""
    handle = server.start(APP, "-v", "2", env=folder)
    compressing = {"gzip": "gzip", "brotli": "br", "zstd": "zstd", "cramjam": "gzip"}
    for middleware, encoding in compressing.items():
        answer = get(handle, f"/{middleware}/a.css", encoding)
        assert (answer.status, answer.headers["content-encoding"]) == (200, encoding), middleware
        assert len(answer.body) < len(STYLE) / 10
        unpack = {"gzip": gzip.decompress, "br": brotli.decompress}.get(encoding)
        assert unpack is None or unpack(answer.body) == STYLE
        page = get(handle, f"/{middleware}/page", encoding)
        assert (page.status, page.headers["content-encoding"]) == (200, encoding), middleware
        assert get(handle, f"/{middleware}/a.css").body == STYLE


@pytest.mark.server
def test_log_names_what_middleware_dropped(server: Servers, folder: dict[str, str | None]) -> None:
    handle = server.start(APP, "--extension", "pathsend", env=folder)
    handle.expect_errors()
    assert get(handle, "/plain/a.css").body == STYLE
    for number, middleware in enumerate(("brotli", "zstd", "cramjam"), 1):
        assert get(handle, f"/{middleware}/a.css", "gzip, br, zstd").status == 500
        line = "an http.response.pathsend that middleware dropped: "
        wait_for_lines(handle, line, number)
    assert handle.stderr().count("leave --extension pathsend out") == 3


@pytest.mark.server
def test_log_names_what_middleware_failed_with(
    server: Servers, folder: dict[str, str | None]
) -> None:
    handle = server.start(APP, "--extension", "pathsend", env=folder)
    handle.expect_errors()
    for number, kind in enumerate(("key", "value", "assertion", "wrapped", "group"), 1):
        assert get(handle, f"/{kind}/a.css").status == 500
        line = "The error may come from an http.response.pathsend: "
        wait_for_lines(handle, line, number)
    assert handle.stderr().count("leave --extension pathsend out") == 5


@pytest.mark.server
def test_log_names_no_extension_without_reason(
    server: Servers, folder: dict[str, str | None]
) -> None:
    handle = server.start(APP, "--extension", "pathsend", env=folder)
    handle.expect_errors()
    assert get(handle, "/plain/fails").status == 500
    handle.wait_for_log("Exception inside application: 'http.response.body'")
    assert "--extension" not in handle.stderr()


@pytest.mark.server
def test_templates_context_is_sent_only_when_asked_for(
    server: Servers, folder: dict[str, str | None]
) -> None:
    handle = server.start(APP, "-v", "2", "--extension", "debug", env=folder)
    assert get(handle, "/plain/page").status == 200
    handle.wait_for_log(r"http\.response\.debug: \{'template'")
    handle = server.start(APP, "--extension", "debug", env=folder)
    assert get(handle, "/plain/page").status == 200
    assert "debug" not in json.loads(get(handle, "/plain/extensions").body)


def test_trailers_that_middleware_drops() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "trailers": True})
        await send({"type": "http.response.body", "body": b"x"})

    with Inside(app, extensions=["trailers"]) as inside, inside.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        while not client.closed():
            pass
    (line,) = [line for _, line in inside.lines if "--extension" in line]
    assert line.endswith("leave --extension trailers out")


def test_event_that_was_not_offered() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["extensions"] == {}
        for name in _core.extensions():
            with pytest.raises(ValueError, match=rf"\(--extension {name}\)"):
                await send({"type": f"http.response.{name}", "path": "/"})
        with pytest.raises(ValueError, match=r"\(--extension trailers\)"):
            await send({"type": "http.response.start", "status": 200, "trailers": True})
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    with Inside(app) as inside, inside.connect() as client:
        assert client.request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").status == 200
    assert not inside.errors


def test_each_server_offers_its_own() -> None:
    """Two servers of one process do not share what their scopes say."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": " ".join(scope["extensions"]).encode()})

    async def open_second(loop: EventLoop) -> tuple[_core.Server, int]:
        second = _core.Server(loop, app, extensions=("early_hint", "trailers"))
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        port = listener.getsockname()[1]
        second.listen(listener.detach())
        return second, port

    async def close(server: _core.Server) -> None:
        server.close()

    with Inside(app, extensions=["pathsend"]) as inside, inside.connect() as client:
        second, port = inside.run(open_second(inside.loop))
        with RawClient(socket.create_connection(("127.0.0.1", port), 20)) as other:
            for _ in range(3):
                answer = client.request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").body
                assert answer == b"http.response.pathsend"
                answer = other.request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").body
                assert answer == b"http.response.trailers http.response.early_hint"
        inside.run(close(second))
        del second


@pytest.mark.parametrize("given", [["nonsense"], [1], "pathsend"])
def test_argument_that_is_refused(given: Any) -> None:
    server = Server(lambda scope: None, ["tcp:0"], extensions=given)
    (problem,) = server.check()
    assert "there is no extension" in problem


# ---- suspects ----


def failure(function: Callable[[], Any]) -> BaseException:
    with pytest.raises((KeyError, OSError)) as caught:
        asyncio.run(function())
    return caught.value


EVENTS: list[dict[str, Any]] = [
    {"type": "http.response.pathsend", "path": "/a"},
    {"type": "http.response.debug", "info": {}},
]


@pytest.mark.parametrize("message", EVENTS)
def test_suspect_is_the_event_in_a_frame(message: dict[str, Any]) -> None:
    async def middleware(message: dict[str, Any]) -> None:
        message["body"]

    async def application() -> None:
        await middleware(message)

    name = message["type"].rpartition(".")[2]
    assert suspects.suspected(OFFERED, failure(application)) == [name]
    assert suspects.suspected((), failure(application)) == []
    assert suspects.suspected(("trailers",), failure(application)) == []


def test_suspect_is_not_a_file_that_is_missing() -> None:
    async def middleware(message: dict[str, Any]) -> None:
        raise FileNotFoundError(message["path"])

    async def application() -> None:
        await middleware(EVENTS[0])

    assert suspects.suspected(OFFERED, failure(application)) == []


def test_suspects_of_exceptions_that_refer_to_each_other() -> None:
    one, two = ValueError("one"), ValueError("unexpected message http.response.debug")
    one.__context__, two.__cause__ = two, one
    assert suspects.suspected(OFFERED, one) == ["debug"]
    assert suspects.suspected(OFFERED, ExceptionGroup("several", [KeyError(1), one])) == ["debug"]
