"""The servers, each in its best configuration, and how one is started.

A server is started on a Wire: plain, TLS or HTTP/2 over TLS; which of them it speaks is told beside its command. A row
that needs what a server does not have leaves that server out.

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
from .clients import LoadError, Unsupported, need
from .probe import body_of, fetch, fetch_http2
from .processes import Cores, Session, on_core

HERE = Path(__file__).resolve().parent
APPS = HERE / "apps"
WORK = HERE.parent / "build" / "bench"
HELLO = b"Hello, World!"
START_SECONDS = 20.0
RAW = "raw:app"
FILES = "files:app"
PROJECT = "project:application"
# Wires, and what else not every server can do.
PLAIN, TLS, HTTP2, DEFLATE = "plain", "tls", "http2", "deflate"


@dataclass(frozen=True)
class Launch:
    """What a command line is made of. `folder` is for files of the server's own."""

    app: str
    port: int
    folder: Path
    wire: str = PLAIN

    @property
    def secure(self) -> bool:
        return self.wire != PLAIN

    @property
    def access_log(self) -> Path:
        return self.folder / "access.log"


@dataclass(frozen=True)
class Server:
    """`static` servers run no application: they only know `/` and `/file`."""

    name: str
    command: Callable[[Launch], list[str]]
    static: bool = False
    environment: Callable[[Launch], dict[str, str]] = field(default=lambda launch: {})
    does: frozenset[str] = frozenset({PLAIN, TLS, HTTP2})


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

    def url(self, path: str) -> str:
        return f"http{'s' if self.launch.secure else ''}://127.0.0.1:{self.port}{path}"


def peer(name: str) -> str:
    return str(peers.VENV / "bin" / name)


def certificate() -> tuple[str, str]:
    """Certificate and key (P-256, as most public certificates now are), made once for a build folder."""
    folder = WORK / "tls"
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    if not certificate.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650"
        command += " -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
        made = ["-keyout", str(key), "-out", str(certificate)]
        openssl = [need("openssl"), *command.split(), *made]
        subprocess.run(openssl, check=True, capture_output=True)
    return str(certificate), str(key)


def tls_flags(launch: Launch, certificate_flag: str, key_flag: str) -> list[str]:
    if not launch.secure:
        return []
    cert, key = certificate()
    return [certificate_flag, cert, key_flag, key]


def cdaphne(launch: Launch) -> list[str]:
    flags = ["-b", "127.0.0.1", "-p", str(launch.port), "-v", "0"]
    secure = tls_flags(launch, "--certfile", "--keyfile")
    files = ["--extension", "pathsend"] if launch.app == FILES else []
    return [sys.executable, "-m", "pyasgi", *flags, *secure, *files, launch.app]


def cdaphne_logging(launch: Launch) -> list[str]:
    return [*cdaphne(launch), "--access-log", str(launch.access_log)]


def cdaphne_environment(launch: Launch) -> dict[str, str]:
    """Django and Channels are the peers' own, so that both sides run the same versions."""
    return {"PYTHONPATH": str(peers.site_packages())} if launch.app == PROJECT else {}


def daphne(launch: Launch) -> list[str]:
    flags = ["-b", "127.0.0.1", "-p", str(launch.port)]
    if launch.secure:
        cert, key = certificate()
        where = f"ssl:{launch.port}:privateKey={key}:certKey={cert}:interface=127.0.0.1"
        flags = ["-e", where]
    return [peer("daphne"), *flags, "-v", "0", launch.app]


def uvicorn(launch: Launch) -> list[str]:
    http = "zttp --http2" if launch.wire == HTTP2 else "httptools"
    flags = (
        f"--loop uvloop --http {http} --ws websockets-sansio --no-access-log --log-level warning"
    )
    keep = ["--timeout-keep-alive", "75", "--backlog", "2048", "--port", str(launch.port)]
    secure = tls_flags(launch, "--ssl-certfile", "--ssl-keyfile")
    return [peer("uvicorn"), *flags.split(), *keep, *secure, launch.app]


def granian(launch: Launch) -> list[str]:
    http = 2 if launch.wire == HTTP2 else 1
    flags = f"--interface asgi --loop uvloop --http {http} --workers 1 --runtime-threads 1 --no-access-log"
    more = "--runtime-mode st --http1-pipeline-flush --backlog 2048 --backpressure 10000"
    logs = ["--log-level", "warning"]
    return [
        peer("granian"),
        *flags.split(),
        *more.split(),
        *logs,
        *tls_flags(launch, "--ssl-certificate", "--ssl-keyfile"),
        "--port",
        str(launch.port),
        launch.app,
    ]


def hypercorn(launch: Launch) -> list[str]:
    config = launch.folder / "hypercorn.toml"
    config.write_text(
        f'bind = "127.0.0.1:{launch.port}"\nworker_class = "uvloop"\nworkers = 0\nbacklog = 2048\n'
        'keep_alive_timeout = 75\nkeep_alive_max_requests = 1000000000\nloglevel = "WARNING"\n'
        + ('certfile = "{}"\nkeyfile = "{}"\n'.format(*certificate()) if launch.secure else "")
    )
    return [peer("hypercorn"), "-c", str(config), launch.app]


def gunicorn(launch: Launch) -> list[str]:
    flags = "-k asgi -w 1 --asgi-loop uvloop --http-parser fast --log-level warning"
    limits = "--worker-connections 10000 --keep-alive 75 --backlog 2048"
    bind = ["-b", f"127.0.0.1:{launch.port}", *tls_flags(launch, "--certfile", "--keyfile")]
    if launch.wire == HTTP2:
        bind += ["--http-protocols", "h2,h1"]
    return [peer("gunicorn"), *flags.split(), *limits.split(), *bind, launch.app]


NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log stderr error;
events {{ worker_connections 16384; }}
http {{
    access_log off; default_type text/plain; keepalive_requests 1000000000; sendfile on; tcp_nopush on;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} backlog=2048 {listen};
        {secure}
        location = /file {{ alias {file}; }}
        location / {{ return 200 "Hello, World!"; }}
    }}
}}
"""
NGINX_TLS = "ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.3; ssl_session_cache shared:a:10m;"


def nginx(launch: Launch) -> list[str]:
    config = launch.folder / "nginx.conf"
    listen = {PLAIN: "", TLS: "ssl", HTTP2: "ssl http2"}[launch.wire]
    secure = NGINX_TLS.format(*certificate()) if launch.secure else ""
    config.write_text(
        NGINX.format(
            folder=launch.folder,
            port=launch.port,
            listen=listen,
            secure=secure,
            file=served_file(),
        )
    )
    return ["nginx", "-p", str(launch.folder), "-c", str(config)]


COMPRESSING = frozenset({PLAIN, TLS, HTTP2, DEFLATE})
SERVERS = {
    server.name: server
    for server in (
        Server("cdaphne", cdaphne, environment=cdaphne_environment, does=COMPRESSING),
        Server("cdaphne+log", cdaphne_logging, environment=cdaphne_environment),
        Server("daphne", daphne),
        Server("uvicorn", uvicorn, does=COMPRESSING),
        Server("granian", granian),
        Server("hypercorn", hypercorn, does=COMPRESSING),
        Server("gunicorn", gunicorn),
        Server("nginx", nginx, static=True),
    )
}
PEERS = ("daphne", "uvicorn", "granian", "hypercorn", "gunicorn")


def served_file() -> Path:
    """What /file answers with: MB of the pattern that rows.py compares."""
    path = WORK / "file.txt"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(ord("a") + i % 23 for i in range(1024)) * 1024)
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def clean_environment() -> dict[str, str]:
    """Ours without Python's settings, so that a server's interpreter finds what is installed for it."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}


def first_answer(
    process: subprocess.Popen[bytes], port: int, started: float, wire: str = PLAIN
) -> float:
    """Wait for the first right answer to GET /; seconds since `started`."""
    while time.monotonic() - started < START_SECONDS:
        if process.poll() is not None:
            raise LoadError(f"ended with status {process.returncode} instead of serving")
        try:
            if wire == HTTP2:
                body = fetch_http2(port)
            else:
                body = body_of(fetch(port, timeout=START_SECONDS, secure=wire == TLS))
        except (ConnectionRefusedError, ConnectionResetError):
            time.sleep(0.001)
            continue
        if body != HELLO:
            raise LoadError(f"the first answer is {body[:80]!r}")
        return time.monotonic() - started
    raise LoadError(f"no answer within {START_SECONDS:.0f} s")


@contextmanager
def running(server: Server, cores: Cores, app: str = RAW, wire: str = PLAIN) -> Iterator[Running]:
    """Start a server on its core, wait for its first answer, stop it at the end."""
    folder = WORK / server.name
    folder.mkdir(parents=True, exist_ok=True)
    launch = Launch(app, free_port(), folder, wire)
    launch.access_log.unlink(missing_ok=True)
    command = server.command(launch)
    environment = {**clean_environment(), **server.environment(launch)}
    if app == FILES:
        environment["BENCH_FILE"] = str(served_file())
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
            seconds = first_answer(process, launch.port, started, wire)
        yield Running(server, launch, session, log, seconds)
    except Unsupported:
        raise
    except LoadError as error:
        raise LoadError(f"{error}{last_words(log)}") from None
    finally:
        session.stop()


def last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return f" [its log ends: {lines[-1].strip()[:120]}]" if lines else ""
