"""manage.py runserver of a real project, with "pyasgi" in INSTALLED_APPS."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest

import pyasgi
from tests.support.django_project import BANNER, WSGI_BANNER, Project, Runserver
from tests.support.ipv6 import needs_ipv6
from tests.support.programs import ROOT
from tests.support.wait import wait_for

pytestmark = pytest.mark.timeout(180)
STYLESHEET = "/static/admin/css/base.css"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path)
    yield made
    made.end()


def status(server: Runserver, path: str) -> int:
    try:
        server.body(path)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    return 200


def text_frame(text: bytes) -> bytes:
    """A masked frame; the mask is zero."""
    return bytes([0x81, 0x80 | len(text)]) + bytes(4) + text


def test_serves_in_the_thread_of_the_reloader_and_reloads(project: Project) -> None:
    server = project.runserver()
    assert server.body("/thread") == "django-main-thread"
    assert server.body("/version") == "first"
    client = server.open_websocket("/echo")
    client.send(text_frame(b"hello"))
    assert client.read_exactly(7) == b"\x81\x05hello"
    urls = project.package / "urls.py"
    urls.write_text(urls.read_text().replace('"first"', '"second"'))
    touched = [time.monotonic()]

    def reloaded() -> bool:
        """Django looks at the times of the files from its first look on, and the write may precede that."""
        if time.monotonic() - touched[-1] > 5:
            os.utime(urls)
            touched.append(time.monotonic())
        return len(BANNER.findall(server.stdout())) == 2

    wait_for(reloaded, 60, "the banner after the reload")
    server.port = int(BANNER.findall(server.stdout())[-1][-1])
    assert server.body("/version") == "second"
    assert client.closed()
    client.close()
    assert server.interrupt() == 0
    assert "Traceback" not in server.stderr()


def test_banner(project: Project) -> None:
    server = project.runserver("--noreload")
    lines = server.stdout()
    assert BANNER.search(lines)
    assert f"cdaphne/{pyasgi.__version__}" in lines
    assert "Performing system checks..." in lines
    assert "using settings 'mysite.settings'" in lines
    assert "Quit the server with CONTROL-C." in lines


def test_without_the_reloader_it_is_the_main_thread_and_stops_gracefully(project: Project) -> None:
    server = project.runserver("--noreload")
    assert server.body("/thread") == "MainThread"
    client = server.open_websocket("/echo")
    assert server.interrupt() == 0
    assert client.read_all()[:4] == b"\x88\x02\x03\xe9", "a close frame, 1001"
    client.close()
    assert "Traceback" not in server.stderr()


def test_log_lines_with_djangos_colours(project: Project) -> None:
    server = project.runserver("--noreload", "--force-color")
    for code in (200, 302, 304, 404, 400, 500):
        server.get(f"/status/{code}")
    server.open_websocket("/echo").close()
    with pytest.raises(AssertionError, match="403"):
        server.open_websocket("/no")
    address = r"127\.0\.0\.1:\d+"
    # The colours are those of Django's dark palette.
    for code, colour in (
        (200, None),
        (302, 32),
        (304, 36),
        (404, 33),
        (400, "31;1"),
        (500, "35;1"),
    ):
        line = rf"HTTP GET /status/{code} {code} \[\d+\.\d\d, {address}\]"
        server.wait_for_log(line if colour is None else rf"\x1b\[{colour}m{line}\x1b\[0m")
    for words in (
        "HANDSHAKING /echo",
        "CONNECT /echo",
        "DISCONNECT /echo",
        "HANDSHAKING /no",
        "REJECT /no",
    ):
        server.wait_for_log(rf"WebSocket {words} \[{address}\]")


def test_levels_and_logger(project: Project) -> None:
    project.settings(
        "LOGGING = {'version': 1, 'disable_existing_loggers': False,"
        " 'formatters': {'f': {'format': '<%(name)s %(levelname)s %(message)s>'}},"
        " 'handlers': {'h': {'class': 'logging.StreamHandler', 'formatter': 'f'}},"
        " 'loggers': {'django.channels.server': {'handlers': ['h'], 'propagate': False}}}"
    )
    server = project.runserver("--noreload", "--no-color")
    for code, level in ((201, "INFO"), (302, "INFO"), (404, "WARNING"), (503, "ERROR")):
        server.get(f"/status/{code}")
        server.wait_for_log(rf"<django\.channels\.server {level} HTTP GET /status/{code} {code} \[")


@pytest.mark.parametrize(
    ("debug", "options", "expected"),
    [
        (True, (), 200),
        (True, ("--nostatic",), 404),
        (False, (), 404),
        (False, ("--insecure",), 200),
        (True, ("--noasgi",), 200),
        (True, ("--noasgi", "--nostatic"), 404),
    ],
)
def test_static_files(
    project: Project, debug: bool, options: tuple[str, ...], expected: int
) -> None:
    project.settings(f"DEBUG = {debug}")
    banner = WSGI_BANNER if "--noasgi" in options else BANNER
    server = project.runserver("--noreload", *options, banner=banner)
    assert status(server, STYLESHEET) == expected
    assert server.body("/version") == "first"


def test_noasgi_is_djangos_own_server(project: Project) -> None:
    server = project.runserver("--noasgi", banner=WSGI_BANNER)
    answer = server.get("/version")
    assert answer.headers["server"].startswith("WSGIServer/")
    assert not BANNER.search(server.stdout())


@pytest.mark.parametrize("reload", [True, False])
def test_a_port_that_is_taken_ends_it(project: Project, reload: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = [] if reload else ["--noreload"]
        done = project.manage("runserver", f"127.0.0.1:{port}", *options)
    assert done.returncode == 1
    assert (
        f"CommandError: Listen failure: cannot listen on 127.0.0.1:{port}: address already in use"
        in (done.stderr)
    )
    assert "Traceback" not in done.stderr
    assert "Starting ASGI" not in done.stdout


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("None", "You have not set ASGI_APPLICATION"),
        ("'application'", "give MODULE.ATTRIBUTE"),
        ("'nowhere.application'", "No module named 'nowhere'"),
        ("'mysite.asgi.nothing'", "has no 'nothing'"),
    ],
)
def test_asgi_application_that_is_none(project: Project, value: str, complaint: str) -> None:
    project.settings(f"ASGI_APPLICATION = {value}")
    done = project.manage("runserver", "--noreload", "127.0.0.1:0")
    assert done.returncode == 1
    assert complaint in done.stderr


def test_http_timeout(project: Project) -> None:
    server = project.runserver("--noreload", "--http_timeout", "1")
    assert status(server, "/slow") == 503


def test_message_size_from_the_command_line(project: Project) -> None:
    server = project.runserver("--noreload", "--websocket-max-message-size", "10")
    with server.open_websocket("/echo") as client:
        client.send(text_frame(b"0123456789"))
        assert client.read_exactly(12) == b"\x81\x0a0123456789"
        client.send(text_frame(b"0123456789a"))
        assert client.read_exactly(4)[2:] == b"\x03\xf1", "close 1009"


def test_root_path_is_force_script_name(project: Project) -> None:
    project.settings("FORCE_SCRIPT_NAME = '/prefix'")
    server = project.runserver("--noreload")
    assert server.body("/prefix/root") == "/prefix"


@needs_ipv6
@pytest.mark.parametrize(("options", "address"), [((), "[::1]:0"), (("-6",), "0")])
def test_ipv6(project: Project, options: tuple[str, ...], address: str) -> None:
    server = project.runserver("--noreload", *options, address=address)
    assert "http://[::1]:" in server.stdout()
    server.host = "::1"
    assert server.get("/version").text == "first"


def test_a_task_of_appconfig_ready_runs_on_the_servers_loop(project: Project) -> None:
    (project.package / "apps.py").write_text(
        "import asyncio\nfrom django.apps import AppConfig\n\n"
        "class Config(AppConfig):\n    name = 'mysite'\n\n"
        "    def ready(self):\n"
        "        from daphne.server import twisted_loop\n"
        "        self.task = twisted_loop.create_task(self.work())\n\n"
        "    async def work(self):\n"
        "        loop = asyncio.get_running_loop()\n"
        "        while True:\n"
        "            from mysite import urls\n"
        "            urls.VERSION = 'from the task'\n"
        "            await asyncio.sleep(0.01)\n"
    )
    project.settings("INSTALLED_APPS.append('mysite')")
    server = project.runserver()
    wait_for(lambda: server.body("/version") == "from the task", 10, "the task's work")
    assert server.interrupt() == 0
    assert "Traceback" not in server.stderr()


def test_the_example_project_serves_its_websockets(tmp_path: Path) -> None:
    project = Project.existing(
        ROOT / "examples" / "devops",
        DJANGO_SETTINGS_MODULE="devops.settings",
        DEVOPS_DB=str(tmp_path / "db"),
    )
    assert project.manage("migrate", "--verbosity", "0").returncode == 0
    server = project.runserver("--noreload")
    try:
        assert "log in" in server.body("/login/").lower()
        client = server.open_websocket("/ws/notifications/", f"Origin: {server.url}")
        assert client.read_exactly(4) == b"\x88\x02" + (4401).to_bytes(2), (
            "closed: nobody is signed in"
        )
        client.close()
    finally:
        project.end()


# ---- the system check ----


def test_check(project: Project) -> None:
    assert project.manage("check").returncode == 0
    project.settings("INSTALLED_APPS.append(INSTALLED_APPS.pop(0))")
    done = project.manage("check")
    assert done.returncode == 1
    assert "(daphne.E001)" in done.stderr
    assert 'Put "pyasgi" (or "daphne") before "django.contrib.staticfiles"' in done.stderr
    project.settings("SILENCED_SYSTEM_CHECKS = ['daphne.E001']")
    assert project.manage("check").returncode == 0


# ---- what subclasses and options make of the server ----

COMMAND = """
import json, sys
from django.core.management import CommandError
import django
django.setup()
from daphne.management.commands.runserver import Command

class Server:
    listening_addresses = []
    def __init__(self, **arguments):
        self.arguments = arguments
    def run(self):
        arguments = dict(self.arguments)
        arguments["application"] = repr(arguments["application"])
        arguments["action_logger"] = arguments["action_logger"].__self__.__class__.__name__
        print(json.dumps(arguments))

class Mine(Command):
    server_cls = Server
    default_port = "8123"
    protocol = "https"
    requires_migrations_checks = False
    def check_migrations(self): pass
    def get_application(self, options):
        return "mine" if options["use_reloader"] is False else None

try:
    Mine(stdout=open("/dev/null", "w")).run_from_argv(["manage.py", "runserver", "--noreload", *sys.argv[1:]])
except CommandError as error:
    sys.exit(str(error))
"""


def arguments_of(project: Project, *options: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *options],
        cwd=project.folder,
        env=project.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        return {"error": re.sub(r"\x1b\[\S*?m", "", done.stderr)}
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_hooks_of_subclasses(project: Project) -> None:
    assert arguments_of(project) == {
        "application": "'mine'",
        "endpoints": ["tcp:port=8123:interface=127.0.0.1"],
        "signal_handlers": True,
        "action_logger": "Mine",
        "http_timeout": None,
        "root_path": "",
        "websocket_handshake_timeout": 5,
        "websocket_max_message_size": 1024 * 1024,
        "websocket_max_frame_size": 1024 * 1024,
    }


def test_options_of_daphnes(project: Project) -> None:
    found = arguments_of(
        project,
        *("--http_timeout", "7", "--websocket_handshake_timeout", "8"),
        *("--websocket-max-message-size", "0", "--websocket-max-frame-size", "9", "0:8001"),
    )
    assert found["endpoints"] == ["tcp:port=8001:interface=0"]
    assert (found["http_timeout"], found["websocket_handshake_timeout"]) == (7, 8)
    assert (found["websocket_max_message_size"], found["websocket_max_frame_size"]) == (0, 9)


def test_size_settings(project: Project) -> None:
    def sizes(*options: str) -> tuple[object, object]:
        found = arguments_of(project, *options)
        return found["websocket_max_message_size"], found["websocket_max_frame_size"]

    project.settings("DAPHNE_WEBSOCKET_MAX_MESSAGE_SIZE = 11\nDAPHNE_WEBSOCKET_MAX_FRAME_SIZE = 12")
    assert sizes() == (11, 12)
    project.settings(
        "CDAPHNE_WEBSOCKET_MAX_MESSAGE_SIZE = 13\nCDAPHNE_WEBSOCKET_MAX_FRAME_SIZE = 0"
    )
    assert sizes() == (13, 0)
    assert sizes("--websocket-max-message-size", "14") == (14, 0)


@pytest.mark.parametrize("value", ["'1 MiB'", "-1", "True", "1.5"])
def test_a_size_setting_that_is_none(project: Project, value: str) -> None:
    project.settings(f"DAPHNE_WEBSOCKET_MAX_FRAME_SIZE = {value}")
    complaint = "the setting DAPHNE_WEBSOCKET_MAX_FRAME_SIZE is"
    assert complaint in str(arguments_of(project)["error"])
