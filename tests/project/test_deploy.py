"""The files of examples/deploy, each used by the program that it is for; only paths and ports are ours."""

from __future__ import annotations

import configparser
import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from websockets.sync.client import connect

from pyasgi.cli import CommandLineInterface
from tests.support.handle import Collector, Handle
from tests.support.nginx import nginx_program
from tests.support.programs import FOREIGN, ROOT
from tests.support.servers import Servers
from tests.support.supervisor import Supervisor, get
from tests.support.wait import wait_for

DEPLOY = ROOT / "examples" / "deploy"
APP = "tests.apps.stubborn:app"
INSTALLED = "/srv/site/venv/bin/cdaphne"


def adapted(name: str, **paths: str) -> str:
    """The text of a file with its example's paths replaced; every one of them has to be there."""
    text = (DEPLOY / name).read_text()
    for found, ours in {"mysite.asgi:application": APP, **paths}.items():
        assert found in text, found
        text = text.replace(found, ours)
    return text


def parsed(text: str) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(text)
    return parser


# ---- nginx ----


@pytest.fixture(params=["tcp", "unix"])
def front(
    request: pytest.FixtureRequest, server: Servers, tmp_path: Path, free_port: int
) -> Iterator[Handle]:
    """nginx with the example's file, spoken to as if it were the server."""
    if request.param == "tcp":
        handle = server.start("tests.apps.basic:app", "--proxy-headers")
        upstream = {"127.0.0.1:8000": f"127.0.0.1:{handle.port}"}
    else:
        path = tmp_path / "web.sock"
        flags = ("--proxy-headers", "--unix-socket-mode", "660", "--unix-socket-group", "www-data")
        handle = server.start("tests.apps.basic:app", *flags, unix=path)
        upstream = {"/run/cdaphne/web.sock": str(path)}
    text = (DEPLOY / f"nginx-{request.param}.conf").read_text()
    for found, ours in {**upstream, "listen 80;": f"listen 127.0.0.1:{free_port};"}.items():
        assert found in text
        text = text.replace(found, ours)
    (tmp_path / "site.conf").write_text(text)
    (tmp_path / "nginx.conf").write_text(
        f"{'user root;' if os.getuid() == 0 else ''} daemon off; pid {tmp_path}/pid; error_log {tmp_path}/error.log;\n"
        f"events {{}} http {{ access_log off; include {tmp_path}/site.conf;"
        + "".join(
            f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("proxy", "fastcgi", "uwsgi", "scgi")
        )
        + f"client_body_temp_path {tmp_path}/body; }}"
    )
    process = subprocess.Popen(
        [
            nginx_program(),
            "-p",
            str(tmp_path),
            "-e",
            f"{tmp_path}/error.log",
            "-c",
            f"{tmp_path}/nginx.conf",
        ],
        env=FOREIGN,
    )
    through = object.__new__(Handle)
    through.host, through.port, through.unix = "127.0.0.1", free_port, None
    try:
        wait_for(lambda: listens(free_port, process), 20, "nginx listens")
        yield through
    finally:
        process.send_signal(signal.SIGQUIT)
        process.wait(20)
    assert (tmp_path / "error.log").read_text() == ""


def listens(port: int, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "it has ended"
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_nginx(front: Handle) -> None:
    claims = {
        "X-Forwarded-For": "192.0.2.99",
        "Forwarded": "for=192.0.2.98",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Prefix": "/evil",
        "Daphne-Root-Path": "/evil",
    }
    scope = json.loads(front.get("/scope", headers=claims).body)
    assert scope["client"][0] == "127.0.0.1", "the client cannot say who it is"
    assert scope["root_path"] == ""
    assert "evil" not in str(scope["server"])
    assert not {"forwarded", "x-forwarded-host"} & {name for name, _ in scope["headers"]}
    assert scope["client"][1] > 0
    assert scope["scheme"] == "http"
    assert ["host", f"127.0.0.1:{front.port}"] in scope["headers"]
    body = os.urandom(2_000_000)
    assert front.get("/echo", method="POST", body=body).body == body
    with connect(f"{front.ws_url}/chat") as client:
        client.send("through nginx")
        assert client.recv(timeout=10) == "through nginx"


# ---- supervisor ----


LOGS = "/var/log/supervisor/%(program_name)s_%(process_num)d"


def test_supervisor(tmp_path: Path, free_port: int) -> None:
    example = parsed(
        adapted(
            "supervisor.conf",
            **{
                INSTALLED: f"{sys.executable} -m pyasgi",
                "127.0.0.1:8000": f"127.0.0.1:{free_port}",
                "=/srv/site\n": f"={ROOT}\n",
                f"{LOGS}-access.log": f"{tmp_path}/out.log",
                f"{LOGS}-server.log": f"{tmp_path}/err.log",
            },
        )
    )
    (section,) = example.sections()
    settings = dict(example[section])
    assert settings["numprocs"] == "4"
    assert settings["stopwaitsecs"] == "30"
    assert Path(LOGS).parent.is_dir(), "supervisor does not start when it is missing"
    settings["startsecs"] = "1"  # of this application
    assert settings.pop("user") == "www-data"  # who may not read this folder
    supervisor = Supervisor(tmp_path, section, "", **settings)
    try:
        supervisor.wait_for_start(4)
        before = supervisor.pids()
        assert len(before) == 4
        restart_under_load(supervisor, free_port)
        assert len(set(before) | set(supervisor.pids())) == 8
        supervisor.ctl("stop", "web:*")
        assert supervisor.log().count("(exit status 0)") == 8
        with socket.socket() as probe:
            refused = probe.connect_ex(("127.0.0.1", free_port))
        assert refused == errno.ECONNREFUSED, "supervisor closes the socket of a group that stops"
    finally:
        supervisor.close()
    assert "Traceback" not in supervisor.read("err.log")


def restart_under_load(supervisor: Supervisor, port: int) -> None:
    """Restarts the processes by the command of the example while requests go on; none may fail."""
    lines = (DEPLOY / "supervisor.conf").read_text().splitlines()
    (command,) = (line.strip("; ") for line in lines if "for process in" in line)
    program = (
        f'supervisorctl() {{ "{shutil.which("supervisorctl")}" -c "{supervisor.config}" "$@"; }}'
    )
    stop = threading.Event()
    answers: list[bytes] = []

    def ask() -> None:
        while not stop.is_set():
            answers.append(get(port))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        done = subprocess.run(
            ["sh", "-c", f"{program}; {command}"],
            env=supervisor.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
    finally:
        stop.set()
        thread.join()
    assert done.stdout.count(": started") == 4, done.stdout + done.stderr
    assert len(answers) > 4
    assert set(answers) == {b"done"}


# ---- systemd ----


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is not installed: scripts/packages.txt has its package")
    return found


def test_systemd_units_verify(tmp_path: Path) -> None:
    program = tmp_path / "cdaphne"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (tmp_path / "cdaphne.socket").write_text((DEPLOY / "cdaphne.socket").read_text())
    (tmp_path / "cdaphne.service").write_text(
        adapted("cdaphne.service", **{INSTALLED: str(program)})
    )
    units = [str(tmp_path / name) for name in ("cdaphne.service", "cdaphne.socket")]
    done = subprocess.run(
        [tool("systemd-analyze"), "verify", *units], capture_output=True, text=True, timeout=60
    )
    complaints = [
        line for line in done.stderr.splitlines() if str(tmp_path) in line or "cdaphne" in line
    ]
    assert complaints == []


def test_systemd_service(tmp_path: Path, free_port: int) -> None:
    """ExecStartPre, ExecStart and ExecReload of the unit, with the socket of the socket unit by its name."""
    activated = parsed((DEPLOY / "cdaphne.socket").read_text())["Socket"]
    service = parsed(adapted("cdaphne.service", **{INSTALLED: f"{sys.executable} -m pyasgi"}))[
        "Service"
    ]
    assert activated["ListenStream"] == "127.0.0.1:8000"
    done = subprocess.run(
        service["ExecStartPre"].split(), cwd=ROOT, capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        env = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}
        process = subprocess.Popen(
            [
                tool("systemd-socket-activate"),
                f"--listen=127.0.0.1:{free_port}",
                f"--fdname={activated['FileDescriptorName']}",
                *(f"--setenv={name}" for name in env),
                *service["ExecStart"].split(),
            ],
            cwd=ROOT,
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert process.stderr is not None
        errors = Collector(process.stderr)
        try:
            wait_for(
                lambda: "Listening on" in errors.text(), what="systemd-socket-activate listens"
            )
            assert get(free_port) == b"done"
            assert manager.recv(4096).startswith(b"READY=1")
            reload = service["ExecReload"].replace("$MAINPID", str(process.pid))
            subprocess.run(reload.split(), check=True, timeout=10)
            assert manager.recv(4096).startswith(b"RELOADING=1")
            assert get(free_port) == b"done"
        finally:
            process.send_signal(signal.SIGTERM)
            status = process.wait(30)
    assert status == 0, errors.join()


def test_systemd_times() -> None:
    """systemd waits longer than the server by its own defaults takes."""
    service = parsed((DEPLOY / "cdaphne.service").read_text())["Service"]
    assert int(service["TimeoutStopSec"]) > 9 + 30


# ---- circus ----


def test_circus_command(server: Servers) -> None:
    """What circus does: it opens the socket of its file and puts the number into the command."""
    example = parsed(adapted("circus.ini", **{INSTALLED: ""}))
    command = example["watcher:web"]["cmd"]
    assert example["watcher:web"]["use_sockets"] == "True"
    with socket.create_server((example["socket:web"]["host"], 0)) as sock:
        words = command.replace("$(circus.sockets.web)", str(sock.fileno())).split()
        assert words.pop() == APP
        handle = server.start(APP, *words, bind=(), pass_fds=(sock.fileno(),))
        assert handle.port == sock.getsockname()[1]
        assert handle.get("/").body == b"done"


# ---- Caddy, HAProxy ----


CLAIMS = {
    "X-Forwarded-For": "192.0.2.99",
    "X-Forwarded-Port": "9",
    "X-Forwarded-Prefix": "/evil",
    "Forwarded": "for=192.0.2.98",
    "Daphne-Root-Path": "/evil",
}


def replaced(name: str, **pairs: str) -> str:
    """The text of a file in which each of these, which has to be there, became another one."""
    text = (DEPLOY / name).read_text()
    for found, ours in pairs.items():
        assert found in text, found
        text = text.replace(found, ours)
    return text


@contextmanager
def running(command: list[str], port: int, folder: Path) -> Iterator[Handle]:
    """A program in front, until it listens on this port; spoken to as if it were the server."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, env=FOREIGN | {"HOME": str(folder)}, stdout=log, stderr=log
        )
    through = object.__new__(Handle)
    through.host, through.port, through.unix = "127.0.0.1", port, None
    try:
        wait_for(lambda: listens(port, process), 20, f"{command[0]} listens")
        yield through
    finally:
        process.terminate()
        process.wait(20)


def test_caddyfile(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            tool("caddy"),
            "validate",
            "--adapter",
            "caddyfile",
            "--config",
            str(DEPLOY / "Caddyfile"),
        ],
        env=FOREIGN | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "Caddyfile input is not formatted" not in done.stderr


def test_caddy(server: Servers, tmp_path: Path, free_port: int) -> None:
    handle = server.start("tests.apps.basic:app", "--proxy-headers")
    ours = {
        "example.com {": f"http://127.0.0.1:{free_port} {{",
        "127.0.0.1:8000": f"127.0.0.1:{handle.port}",
    }
    # Without the administration's port, which is the same for everybody on this machine.
    (tmp_path / "Caddyfile").write_text("{\n\tadmin off\n}\n" + replaced("Caddyfile", **ours))
    command = [tool("caddy"), "run", "--adapter", "caddyfile", "--config"]
    with running([*command, str(tmp_path / "Caddyfile")], free_port, tmp_path) as front:
        nothing_is_believed_of_the_client(front)


def test_haproxy(server: Servers, tmp_path: Path, free_port: int) -> None:
    by_header = server.start("tests.apps.basic:app", "--proxy-headers")
    by_protocol = server.start("tests.apps.basic:app", "--proxy-protocol", "required")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        tcp_port = other.getsockname()[1]
    ours = {
        "bind :80\n": f"bind 127.0.0.1:{free_port}\n",
        "bind :443\n": f"bind 127.0.0.1:{tcp_port}\n",
        "127.0.0.1:8000": f"127.0.0.1:{by_header.port}",
        "127.0.0.1:8001": f"127.0.0.1:{by_protocol.port}",
    }
    (tmp_path / "haproxy.cfg").write_text(replaced("haproxy.cfg", **ours))
    command = [tool("haproxy"), "-db", "-f", str(tmp_path / "haproxy.cfg")]
    with running(command, free_port, tmp_path) as front:
        nothing_is_believed_of_the_client(front)
        front.port = tcp_port
        with socket.create_connection(("127.0.0.1", tcp_port)) as client:
            client.sendall(b"GET /scope HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            address = list(client.getsockname())
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["client"] == address


def nothing_is_believed_of_the_client(front: Handle) -> None:
    """Whatever it says of itself; and a WebSocket passes."""
    scope = json.loads(front.get("/scope", headers=CLAIMS).body)
    assert scope["client"][0] == "127.0.0.1"
    assert scope["root_path"] == ""
    assert scope["scheme"] == "http"
    assert not {"forwarded", "x-forwarded-prefix", "daphne-root-path"} & {
        name for name, _ in scope["headers"]
    }
    with connect(f"{front.ws_url}/chat") as client:
        client.send("through a proxy")
        assert client.recv(timeout=10) == "through a proxy"


# ---- Kubernetes ----


def test_kubernetes() -> None:
    """The file is what its fields have to be, and the times in it are those of the server."""
    deployment, service = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    assert (deployment["kind"], service["kind"]) == ("Deployment", "Service")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels == service["spec"]["selector"]
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (port,) = container["ports"]
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        (how,) = set(container[probe]) & {"tcpSocket", "httpGet"}
        assert container[probe][how]["port"] == port["name"]
    options = CommandLineInterface()._options(container["args"])
    assert (options.host, options.port) == ("0.0.0.0", port["containerPort"])
    assert container["readinessProbe"]["httpGet"]["path"] in options.access_log_exclude
    before = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    stop = options.graceful_timeout + options.lifespan_shutdown_timeout + 4 * options.cancel_timeout
    assert stop == 9, "the formula of docs/deploy.rst"
    assert pod["terminationGracePeriodSeconds"] == before + stop + 30
