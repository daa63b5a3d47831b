"""The servers, each in its best configuration, and how one is started.

One worker each, no access log. Limits that would get into the way of the work (connections, requests per connection,
idle time) are raised where a server has them; nothing else differs from what its own documentation recommends.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from . import peers
from .clients import LoadError
from .probe import body_of, fetch
from .processes import Cores, Session, on_core

HERE = Path(__file__).resolve().parent
APPS = HERE / "apps"
WORK = HERE.parent / "build" / "bench"
HELLO = b"Hello, World!"
START_SECONDS = 20.0
RAW = "raw:app"
PROJECT = "project:application"


@dataclass(frozen=True)
class Launch:
    """What a command line is made of. `folder` is for files of the server's own."""

    app: str
    port: int
    folder: Path

    @property
    def access_log(self) -> Path:
        return self.folder / "access.log"


@dataclass(frozen=True)
class Server:
    """`static` servers run no application: they only know `/`."""

    name: str
    command: Callable[[Launch], list[str]]
    static: bool = False
    environment: Callable[[Launch], dict[str, str]] = field(default=lambda launch: {})


@dataclass(frozen=True)
class Running:
    server: Server
    launch: Launch
    session: Session
    log: Path
    first_answer: float
    """Seconds from exec to the first right answer."""

    @property
    def port(self) -> int:
        return self.launch.port


def peer(name: str) -> str:
    return str(peers.VENV / "bin" / name)


def cdaphne(launch: Launch) -> list[str]:
    flags = ["-b", "127.0.0.1", "-p", str(launch.port), "-v", "0"]
    return [sys.executable, "-m", "pyasgi", *flags, launch.app]


def cdaphne_logging(launch: Launch) -> list[str]:
    return [*cdaphne(launch), "--access-log", str(launch.access_log)]


def cdaphne_environment(launch: Launch) -> dict[str, str]:
    """Django and Channels are the peers' own, so that both sides run the same versions."""
    return {"PYTHONPATH": str(peers.site_packages())} if launch.app == PROJECT else {}


def daphne(launch: Launch) -> list[str]:
    flags = ["-b", "127.0.0.1", "-p", str(launch.port), "-v", "0"]
    return [peer("daphne"), *flags, launch.app]


def uvicorn(launch: Launch) -> list[str]:
    flags = (
        "--loop uvloop --http httptools --ws websockets-sansio --no-access-log --log-level warning"
    )
    keep = ["--timeout-keep-alive", "75", "--backlog", "2048"]
    return [peer("uvicorn"), *flags.split(), *keep, "--port", str(launch.port), launch.app]


def granian(launch: Launch) -> list[str]:
    flags = (
        "--interface asgi --loop uvloop --http 1 --workers 1 --runtime-threads 1 --no-access-log"
    )
    more = "--runtime-mode st --http1-pipeline-flush --backlog 2048 --backpressure 10000"
    logs = ["--log-level", "warning"]
    return [
        peer("granian"),
        *flags.split(),
        *more.split(),
        *logs,
        "--port",
        str(launch.port),
        launch.app,
    ]


def hypercorn(launch: Launch) -> list[str]:
    config = launch.folder / "hypercorn.toml"
    config.write_text(
        f'bind = "127.0.0.1:{launch.port}"\nworker_class = "uvloop"\nworkers = 0\nbacklog = 2048\n'
        'keep_alive_timeout = 75\nkeep_alive_max_requests = 1000000000\nloglevel = "WARNING"\n'
    )
    return [peer("hypercorn"), "-c", str(config), launch.app]


def gunicorn(launch: Launch) -> list[str]:
    flags = "-k asgi -w 1 --asgi-loop uvloop --http-parser fast --log-level warning"
    limits = "--worker-connections 10000 --keep-alive 75 --backlog 2048"
    bind = ["-b", f"127.0.0.1:{launch.port}"]
    return [peer("gunicorn"), *flags.split(), *limits.split(), *bind, launch.app]


NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log stderr error;
events {{ worker_connections 16384; }}
http {{
    access_log off; default_type text/plain; keepalive_requests 1000000000;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{ listen 127.0.0.1:{port} backlog=2048; location / {{ return 200 "Hello, World!"; }} }}
}}
"""


def nginx(launch: Launch) -> list[str]:
    config = launch.folder / "nginx.conf"
    config.write_text(NGINX.format(folder=launch.folder, port=launch.port))
    return ["nginx", "-p", str(launch.folder), "-c", str(config)]


SERVERS = {
    server.name: server
    for server in (
        Server("cdaphne", cdaphne, environment=cdaphne_environment),
        Server("cdaphne+log", cdaphne_logging, environment=cdaphne_environment),
        Server("daphne", daphne),
        Server("uvicorn", uvicorn),
        Server("granian", granian),
        Server("hypercorn", hypercorn),
        Server("gunicorn", gunicorn),
        Server("nginx", nginx, static=True),
    )
}
PEERS = ("daphne", "uvicorn", "granian", "hypercorn", "gunicorn")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def clean_environment() -> dict[str, str]:
    """Ours without Python's settings, so that a server's interpreter finds what is installed for it."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}


def first_answer(process: subprocess.Popen[bytes], port: int, started: float) -> float:
    """Wait for the first right answer to GET /; seconds since `started`."""
    while time.monotonic() - started < START_SECONDS:
        if process.poll() is not None:
            raise LoadError(f"ended with status {process.returncode} instead of serving")
        try:
            answer = fetch(port, timeout=START_SECONDS)
        except (ConnectionRefusedError, ConnectionResetError):
            time.sleep(0.001)
            continue
        if body_of(answer) != HELLO:
            raise LoadError(f"the first answer is {answer[:80]!r}")
        return time.monotonic() - started
    raise LoadError(f"no answer within {START_SECONDS:.0f} s")


@contextmanager
def running(server: Server, cores: Cores, app: str = RAW) -> Iterator[Running]:
    """Start a server on its core, wait for its first answer, stop it at the end."""
    folder = WORK / server.name
    folder.mkdir(parents=True, exist_ok=True)
    launch = Launch(app, free_port(), folder)
    launch.access_log.unlink(missing_ok=True)
    command = server.command(launch)
    environment = {**clean_environment(), **server.environment(launch)}
    log = folder / "output.log"
    with log.open("wb") as output, on_core(cores.server):
        started = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=APPS,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    session = Session(process)
    try:
        with on_core(cores.client):
            seconds = first_answer(process, launch.port, started)
        yield Running(server, launch, session, log, seconds)
    except LoadError as error:
        raise LoadError(f"{error}{last_words(log)}") from None
    finally:
        session.stop()


def last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return f" [its log ends: {lines[-1].strip()[:120]}]" if lines else ""
