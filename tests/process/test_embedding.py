"""The server inside another program: pyasgi.run(), pyasgi.serve(), Server in a thread, the process's loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

import pyasgi
from pyasgi import _core, main_loop, server, tls
from pyasgi.loop import EventLoop
from pyasgi.server import Server, StartError
from tests.support.client import RawClient
from tests.support.programs import ROOT
from tests.support.wait import wait_for

pytestmark = pytest.mark.server
LOOPBACK = ["tcp:0:interface=127.0.0.1"]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Which thread serves; /slow takes 0.3 s, /hang an hour."""
    if scope["type"] != "http":
        raise ValueError("HTTP only")
    if scope["path"] == "/slow":
        await asyncio.sleep(0.3)
    if scope["path"] == "/hang":
        await asyncio.sleep(3600)
    await send({"type": "http.response.start", "status": 200})
    name = threading.current_thread().name
    await send({"type": "http.response.body", "body": name.encode()})


def get(port: int, path: str = "/") -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
        text: str = answer.read().decode()
        return text


def run(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=EventLoop) as runner:
        runner.run(main)


async def listening(*ports: int) -> None:
    """Until all these ports accept."""
    for port in ports:
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                break


def live() -> dict[str, int]:
    """Live objects of the extension, which only a CD_DEBUG build counts."""
    gc.collect()
    return _core.debug_live() if hasattr(_core, "debug_live") else {}


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    before = live()
    yield
    assert live() == before


@pytest.fixture
def ports() -> list[int]:
    """Two free ones."""
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        return [one.getsockname()[1], two.getsockname()[1]]


# ---- what a program that has set up no logging hears ----

TALKING = """
import logging, pyasgi, sys, threading, urllib.request
{setup}
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({{"type": "http.response.start", "status": 200}})
        await send({{"type": "http.response.body", "body": b"hello"}})
    else:
        raise ValueError(scope["type"])

def ask():
    urllib.request.urlopen("http://127.0.0.1:{port}/").close()
    import os, signal
    os.kill(os.getpid(), signal.SIGTERM)

pyasgi.run(app, port={port}, ready_callable=lambda: threading.Timer(0.1, ask).start(), **{options})
logging.getLogger("mine").info("not ours to show")
"""


def said(port: int, setup: str = "", redirection: str = "", **options: Any) -> tuple[str, str]:
    """What pyasgi.run() and one request put on stdout and stderr."""
    code = TALKING.format(setup=setup, port=port, options=options)
    done = subprocess.run(
        ["bash", "-c", f'"$@" {redirection}', "bash", sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_run_says_what_the_command_says(ports: list[int]) -> None:
    out, err = said(ports[0])
    assert '"GET /" 200 5' in out
    assert f"INFO     Listening on TCP address 127.0.0.1:{ports[0]}" in err
    assert f"INFO     Ready at http://127.0.0.1:{ports[0]}/ (pid " in err
    assert "INFO     Received SIGTERM: shutting down" in err
    assert "not ours" not in err
    assert said(ports[1], action_logger=None)[0] == ""


def test_run_leaves_the_logging_of_a_program_alone(ports: list[int]) -> None:
    assert said(ports[0], "logging.basicConfig(level='WARNING')") == ("", "")
    _, err = said(ports[1], "logging.basicConfig(level='INFO', format='mine: %(message)s')")
    assert f"mine: Ready at http://127.0.0.1:{ports[1]}/" in err
    assert err.count("Ready at") == 1 and "INFO" not in err


def test_run_can_be_quiet_and_can_do_without_stderr(ports: list[int]) -> None:
    assert said(ports[0], verbosity=0) == ("", "")
    assert '"GET /" 200 5' in said(ports[1], redirection="2>&-")[0]
    assert said(ports[0], redirection=">&- 2>&-") == ("", "")


# ---- serve() ----


def test_serves_beside_other_tasks(ports: list[int]) -> None:
    async def main() -> None:
        serving = [asyncio.create_task(pyasgi.serve(app, port=port)) for port in ports]
        await listening(*ports)
        for port in ports:
            assert await asyncio.to_thread(get, port) == threading.current_thread().name
        for task in serving:
            task.cancel()
        results = await asyncio.gather(*serving, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)

    run(main())
    for port in ports:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))


def test_cancelling_finishes_what_runs(ports: list[int]) -> None:
    async def main() -> None:
        serving = asyncio.create_task(pyasgi.serve(app, port=ports[0]))
        await listening(ports[0])
        request = asyncio.create_task(asyncio.to_thread(get, ports[0], "/slow"))
        await asyncio.sleep(0.1)
        serving.cancel()
        assert await request
        with pytest.raises(asyncio.CancelledError):
            await serving

    run(main())


def test_a_second_cancellation_waits_no_longer(ports: list[int]) -> None:
    async def main() -> None:
        serving = asyncio.create_task(pyasgi.serve(app, port=ports[0], graceful_timeout=60))
        await listening(ports[0])
        reader, writer = await asyncio.open_connection("127.0.0.1", ports[0])
        writer.write(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n")
        await asyncio.sleep(0.1)
        serving.cancel()
        await asyncio.sleep(0.05)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()

    before = time.monotonic()
    run(main())
    assert time.monotonic() - before < 20


def test_stop_ends_it_without_an_exception(ports: list[int]) -> None:
    async def main() -> None:
        made = Server(app, LOOPBACK, signal_handlers=False)
        serving = asyncio.create_task(made.serve())
        while not made.listening_addresses:
            await asyncio.sleep(0.01)
        made.stop()
        await serving

    run(main())


def test_the_programs_tasks_and_lifespan_are_left_alone(ports: list[int]) -> None:
    """serve() ends its own tasks only: the loop is the program's."""

    async def main() -> None:
        other = asyncio.create_task(asyncio.sleep(3600))
        serving = asyncio.create_task(pyasgi.serve(app, port=ports[0]))
        await listening(ports[0])
        serving.cancel()
        await asyncio.wait({serving})
        assert not other.done()
        other.cancel()

    run(main())


def test_raises_when_it_cannot_start(ports: list[int]) -> None:
    async def main() -> None:
        with (
            socket.create_server(("127.0.0.1", 0)) as taken,
            pytest.raises(StartError, match="address already in use"),
        ):
            await pyasgi.serve(app, port=taken.getsockname()[1])

    run(main())


def test_refuses_another_loop() -> None:
    with pytest.raises(
        RuntimeError, match=r"asyncio\.Runner\(loop_factory=pyasgi\.loop\.EventLoop\)"
    ):
        asyncio.run(pyasgi.serve(app))


def test_leaves_signals_to_the_program(ports: list[int]) -> None:
    async def main() -> None:
        before = signal.getsignal(signal.SIGTERM)
        serving = asyncio.create_task(pyasgi.serve(app, port=ports[0]))
        await listening(ports[0])
        assert signal.getsignal(signal.SIGTERM) is before
        serving.cancel()
        await asyncio.wait({serving})

    run(main())


SERVES = """
import asyncio, pyasgi, sys
from pyasgi.loop import EventLoop
from tests.process.test_embedding import app

async def main():
    await pyasgi.serve(app, port=int(sys.argv[1]), signal_handlers=True)
    print("served")

with asyncio.Runner(loop_factory=EventLoop) as runner:
    runner.run(main())
"""

RUNS = """
import pyasgi, sys
from tests.process.test_embedding import app

pyasgi.run(app, port=int(sys.argv[1]))
"""


@pytest.mark.parametrize("code", [SERVES, RUNS])
def test_sigterm_ends_a_program(free_port: int, code: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", code, str(free_port)], cwd=ROOT)

    def up() -> bool:
        try:
            return get(free_port) == "MainThread"
        except OSError:
            return False

    try:
        wait_for(up, 60, "the server")
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


# ---- Server in a thread, and the loop that others ask for ----


class Threaded:
    """A server in a thread, as custom runners and test helpers have it."""

    def __init__(self, **options: Any) -> None:
        self.ready = threading.Event()
        self.server = Server(app, tuple(LOOPBACK), signal_handlers=False, **options)
        self.server.ready_callable = self.ready.set  # set late, as subclasses do
        self.thread = threading.Thread(target=self.server.run, name="serving", daemon=True)

    def __enter__(self) -> Threaded:
        self.thread.start()
        assert self.ready.wait(30)
        return self

    def __exit__(self, *exc: object) -> None:
        self.server.stop()
        self.thread.join(30)
        assert not self.thread.is_alive()

    @property
    def port(self) -> int:
        return self.server.listening_addresses[0][1]


def test_two_servers_in_two_threads() -> None:
    with Threaded() as one, Threaded() as two:
        assert get(one.port) == get(two.port) == "serving"


def test_tasks_put_on_the_loop_beforehand_run_when_the_server_runs() -> None:
    seen = threading.Event()

    async def work() -> None:
        seen.set()
        await asyncio.sleep(3600)

    loop = server.twisted_loop
    task = loop.create_task(work())
    assert not seen.wait(0.05)
    with Threaded() as threaded:
        assert seen.wait(10)
        assert server.twisted_loop is loop
        assert get(threaded.port) == "serving"
        future = asyncio.run_coroutine_threadsafe(asyncio.sleep(0, "result"), loop)
        assert future.result(10) == "result"
    # From Python 3.14 on asyncio.all_tasks() knows only the tasks that the loop's thread made.
    assert task.cancelled() or sys.version_info >= (3, 14)
    assert loop.is_closed()


def test_the_loop_of_a_running_server_can_be_asked_for() -> None:
    with Threaded():
        loop = server.twisted_loop
        future = asyncio.run_coroutine_threadsafe(asyncio.sleep(0, "result"), loop)
        assert future.result(10) == "result"
    again = server.twisted_loop
    assert again is not loop
    again.close()


def test_a_forked_child_has_a_loop_of_its_own() -> None:
    loop = server.twisted_loop
    try:
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            own = main_loop.current()
            answer = own.run_until_complete(
                asyncio.sleep(0, b"own" if own is not loop else b"same")
            )
            os.write(write, answer)
            os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            assert pipe.read() == b"own"
        assert os.waitpid(pid, 0)[1] == 0
        assert loop.run_until_complete(asyncio.sleep(0, 1)) == 1
    finally:
        loop.close()


def test_asgi_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASGI_THREADS", "3")
    loop = server.twisted_loop
    assert loop._default_executor._max_workers == 3
    loop.close()
    monkeypatch.setenv("ASGI_THREADS", "three")
    with pytest.raises(ValueError, match="ASGI_THREADS is 'three'"):
        server.twisted_loop  # noqa: B018


def test_a_huge_request_buffer_size_is_taken() -> None:
    with Threaded(request_buffer_size=10**30) as threaded:
        client = RawClient(socket.create_connection(("127.0.0.1", threaded.port), 10))
        with client:
            answer = client.request(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
            assert answer.status == 200


def test_stop_before_run() -> None:
    made = Server(app, LOOPBACK)
    made.stop()
    made.run()
    assert made.abort_start


def test_no_endpoints() -> None:
    with pytest.raises(SystemExit) as caught:
        Server(app)
    assert caught.value.code == 1


# ---- sockets and descriptors of the program ----


def bound(family: int, where: Any, listens: bool) -> socket.socket:
    sock = socket.socket(family)
    sock.bind(where)
    if listens:
        sock.listen()
    return sock


async def serving(served: Server, port: int, ask: Coroutine[Any, Any, Any]) -> None:
    """One run of the server, and a question to it."""
    task = asyncio.create_task(served.serve())
    await listening(port)
    await ask
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("listens", [False, True])
def test_sockets_of_the_program(listens: bool, tmp_path: Path) -> None:
    """Of any family, listening or not; they are served on and stay the program's, run after run."""
    web = bound(socket.AF_INET, ("127.0.0.1", 0), listens)
    local = bound(socket.AF_UNIX, str(tmp_path / "s"), listens)
    port = web.getsockname()[1]
    served = Server(app, sockets=[web, local], signal_handlers=False, lifespan="off")

    async def ask() -> None:
        assert await asyncio.to_thread(get, port) == "MainThread"
        assert served.listening_addresses == [("127.0.0.1", port)]
        with RawClient(socket.socket(socket.AF_UNIX)) as client:
            client.sock.settimeout(10)
            client.sock.connect(str(tmp_path / "s"))
            data = b"GET / HTTP/1.1\r\nHost:\r\n\r\n"
            assert (await asyncio.to_thread(client.request, data)).status == 200

    for _ in range(2):
        run(serving(served, port, ask()))
    with web, local:
        assert web.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        assert (tmp_path / "s").exists(), "the path belongs to its maker"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_a_descriptor_of_the_program() -> None:
    with bound(socket.AF_INET, ("127.0.0.1", 0), listens=True) as sock:
        served = Server(app, [f"fd:fileno={sock.fileno()}"], False, lifespan="off")
        port = sock.getsockname()[1]
        run(serving(served, port, asyncio.to_thread(get, port)))
        assert sock.getsockname()[1], "the server closed a descriptor that was not its own"


def test_sockets_that_cannot_be_served(caplog: pytest.LogCaptureFixture) -> None:
    closed = socket.socket()
    closed.close()
    with socket.socket() as unbound, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        served = Server(app, sockets=[closed, unbound, datagrams], lifespan="off")
        assert served.check() == ["cannot listen on a socket of sockets=: it is closed"]
        served.run()
    assert served.abort_start
    said = [record.getMessage() for record in caplog.records if record.levelname == "CRITICAL"]
    assert len(said) == 3
    assert "it is closed" in said[0]
    assert "it does not listen" in said[1]
    assert "it is not a stream socket" in said[2]


def test_run_takes_sockets() -> None:
    """pyasgi.run(app, sockets=[...]) as in uvicorn; with TLS on them when it is given."""
    with bound(socket.AF_INET, ("127.0.0.1", 0), listens=False) as sock:
        options: dict[str, Any] = {"sockets": [sock], "action_logger": None}
        made = pyasgi._server(app, "127.0.0.1", 8000, options)
        assert made.endpoints == [] and made.sockets == [sock]
        text = f"fd:fileno={sock.fileno()}"
        assert made._text(sock) == text
        secure = tls.Settings(certificates=(tls.Pair("c", "k"),))
        assert Server(app, sockets=[sock], tls=secure)._text(sock) == f"{text}:tls=yes"
