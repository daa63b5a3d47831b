"""The command line: daphne's flags and rules, one clear line for every mistake."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from argparse import ArgumentError
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from pyasgi import __version__, _core
from pyasgi.access import AccessLogGenerator
from pyasgi.cli import CommandLineInterface
from pyasgi.flags import EVERYDAY
from pyasgi.options import LIMITS
from pyasgi.server import Server
from tests.support.command_line import RecordingInterface
from tests.support.ipv6 import needs_ipv6
from tests.support.programs import FOREIGN, ROOT
from tests.support.servers import Servers

APP = "tests.apps.basic:app"


def arguments(*flags: str) -> dict[str, Any]:
    interface = RecordingInterface()
    interface.run([*flags, APP])
    found: dict[str, Any] = interface.server.arguments
    return found


# ---- what the flags mean ----


@pytest.mark.parametrize(
    ("flags", "endpoints"),
    [
        ([], ["tcp:port=8000:interface=127.0.0.1"]),
        (["-p", "123"], ["tcp:port=123:interface=127.0.0.1"]),
        (["-p", "0"], ["tcp:port=0:interface=127.0.0.1"]),
        (["-b", "10.0.0.1"], ["tcp:port=8000:interface=10.0.0.1"]),
        (["-b", "::1", "-p", "8"], [r"tcp:port=8:interface=\:\:1"]),
        (["-b", "[::1]", "-p", "8"], [r"tcp:port=8:interface=\:\:1"]),
        (["-u", "/tmp/s"], ["unix:/tmp/s"]),
        (["--fd", "0"], ["fd:fileno=0"]),
        (["-e", "tcp:9"], ["tcp:9"]),
        (["-e", "tcp:9", "-e", "fd:fileno=3"], ["fd:fileno=3", "tcp:9"]),
        (["-e", "unix:/a", "-p", "8"], ["tcp:port=8:interface=127.0.0.1", "unix:/a"]),
        (
            ["--fd", "5", "-u", "/s", "-b", "h"],
            ["fd:fileno=5", "tcp:port=8000:interface=h", "unix:/s"],
        ),
        (["-e", "tcp:9", "-e", "tcp:9"], ["tcp:9", "tcp:9"]),
    ],
)
def test_endpoints(flags: list[str], endpoints: list[str]) -> None:
    assert arguments(*flags)["endpoints"] == endpoints


def test_defaults_are_daphnes() -> None:
    found = arguments()
    assert isinstance(found.pop("action_logger"), AccessLogGenerator)
    found.pop("application")
    assert found == {
        "endpoints": ["tcp:port=8000:interface=127.0.0.1"],
        "http_timeout": None,
        "ping_interval": 20,
        "ping_timeout": 30,
        "websocket_timeout": 86400,
        "websocket_connect_timeout": 5,
        "websocket_handshake_timeout": 5,
        "websocket_max_message_size": 1048576,
        "websocket_max_frame_size": 1048576,
        "application_close_timeout": 10,
        "root_path": "",
        "verbosity": 1,
        "proxy_forwarded_address_header": None,
        "proxy_forwarded_port_header": None,
        "proxy_forwarded_proto_header": None,
        "server_name": "cdaphne",
    }


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["-t", "9"], {"http_timeout": 9}),
        (["--http-timeout", "0.5"], {"http_timeout": 0.5}),
        (["--ping-interval", "5", "--ping-timeout", "7"], {"ping_interval": 5, "ping_timeout": 7}),
        (["--websocket_timeout", "-1"], {"websocket_timeout": -1}),
        (["--websocket-timeout", "5"], {"websocket_timeout": 5}),
        (
            ["--websocket_connect_timeout", "3"],
            {"websocket_connect_timeout": 3, "websocket_handshake_timeout": 3},
        ),
        (["--websocket-max-message-size", "0"], {"websocket_max_message_size": 0}),
        (["--websocket-max-frame-size", "10"], {"websocket_max_frame_size": 10}),
        (["--application-close-timeout", "1"], {"application_close_timeout": 1}),
        (["--root-path", "/a b"], {"root_path": "/a b"}),
        (["-s", "x"], {"server_name": "x"}),
        (["--no-server-name"], {"server_name": ""}),
        (["-v", "2"], {"verbosity": 2}),
        (
            ["--proxy-headers"],
            {
                "proxy_forwarded_address_header": "X-Forwarded-For",
                "proxy_forwarded_port_header": "X-Forwarded-Port",
                "proxy_forwarded_proto_header": "X-Forwarded-Proto",
            },
        ),
        (
            ["--proxy-headers", "--proxy-headers-host", "H", "--proxy-headers-port", "P"],
            {"proxy_forwarded_address_header": "H", "proxy_forwarded_port_header": "P"},
        ),
        (["--graceful-timeout", "3"], {"graceful_timeout": 3}),
        (["--no-date-header"], {"date_header": False}),
        (["--no-websocket-deflate"], {"websocket_deflate": False}),
        (
            ["--websocket-deflate-context-takeover", "--websocket-deflate-level", "6"],
            {"websocket_deflate_context_takeover": True, "websocket_deflate_level": 6},
        ),
        (["--no-http2"], {"http2": False}),
        (["--http2-upgrade"], {"http2_upgrade": True}),
        (["--lifespan", "on"], {"lifespan": "on"}),
        (["--lifespan-shutdown-timeout", "3"], {"lifespan_shutdown_timeout": 3}),
        (["--max-body-size", "77"], {"max_body_size": 77}),
        (["--head-timeout", "1.5"], {"head_timeout": 1.5}),
        # abbreviations
        (["--http", "9"], {"http_timeout": 9}),
        (["--serv=x"], {"server_name": "x"}),
        (["--no", "--r=/p"], {"server_name": "", "root_path": "/p"}),
        (["--websocket_t", "4"], {"websocket_timeout": 4}),
        (["--websocket-max-m=4"], {"websocket_max_message_size": 4}),
        (["--grace", "4"], {"graceful_timeout": 4}),
        (["--verb", "0"], {"verbosity": 0, "action_logger": None}),
    ],
)
def test_flags(flags: list[str], expected: dict[str, Any]) -> None:
    found = arguments(*flags)
    assert {name: found[name] for name in expected} == expected


def test_every_limit_has_a_flag() -> None:
    interface = CommandLineInterface()
    for name, limit in LIMITS.items():
        flag = f"--{name.replace('_', '-')}"
        parsed = interface.parser.parse_args([flag, "9", APP])
        assert getattr(parsed, name) == 9, (flag, limit.kind)
        standard = None if name == "http_timeout" else limit.default
        assert getattr(interface.parser.parse_args([APP]), name) == standard


def test_access_log_streams(tmp_path: Path) -> None:
    def stream(*flags: str) -> Any:
        logger = arguments(*flags)["action_logger"]
        return logger and logger.stream

    assert stream() is sys.stdout
    assert stream("-v", "0") is None
    assert stream("-v", "0", "--access-log", "-") is sys.stdout
    with stream("-v", "0", "--access-log", str(tmp_path / "log")) as file:
        assert file.name == str(tmp_path / "log")
        assert file.line_buffering
        assert file.mode == "a"


@pytest.mark.parametrize("flag", ["--proxy-headers-host", "--proxy-headers-port"])
def test_proxy_flags_need_proxy_headers(flag: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        arguments(flag, "x")
    assert caught.value.argument_name == flag
    assert caught.value.message == "--proxy-headers has to be passed for this parameter."


def test_hooks() -> None:
    class Frozen(RecordingInterface):
        description = "our own program"

        def load_asgi_app(self, asgi_app_path: str) -> Any:
            return f"loaded {asgi_app_path}"

    interface = Frozen()
    assert interface.parser.description == "our own program"
    interface.run(["whatever"])
    assert interface.server.arguments["application"] == "loaded whatever"


# ---- Server's arguments ----


def test_server_keeps_daphnes_positions_and_attributes() -> None:
    names = (
        "application endpoints signal_handlers action_logger http_timeout request_buffer_size"
        " websocket_timeout websocket_connect_timeout ping_interval ping_timeout root_path"
        " proxy_forwarded_address_header proxy_forwarded_port_header proxy_forwarded_proto_header"
        " verbosity websocket_handshake_timeout websocket_max_message_size websocket_max_frame_size"
        " application_close_timeout ready_callable server_name"
    ).split()
    values: list[Any] = [f"value of {name}" for name in names]
    values[1] = ["tcp:0"]
    server = Server(*values)
    assert [getattr(server, name) for name in names] == values
    assert server.listening_addresses == []
    assert server.listeners == []
    assert not server.connections
    assert server.abort_start is False


def test_server_arguments_are_checked() -> None:
    with pytest.raises(
        TypeError, match="no argument 'max_haed_size'; did you mean 'max_head_size'"
    ):
        Server(None, ["tcp:0"], max_haed_size=1)
    with pytest.raises(ValueError, match="lifespan is 'maybe'; give one of on, off, auto"):
        Server(None, ["tcp:0"], lifespan="maybe")
    with pytest.raises(SystemExit) as caught:
        Server(None)
    assert caught.value.code == 1


def test_stop_before_run() -> None:
    server = Server(None, ["tcp:0"])
    server.stop()
    server.run()
    assert server.abort_start


# ---- mistakes, through the real command ----


def command(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pyasgi", *arguments],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("flags", "status", "says"),
    [
        # usage: 2
        ([], 2, "arguments are required: application"),
        ([APP, "extra"], 2, "unrecognized arguments: extra"),
        (["-z", APP], 2, "unknown flag -z (see"),
        (
            ["--htp-timeout", "3", APP],
            2,
            "unknown flag --htp-timeout; did you mean --http-timeout?",
        ),
        (["--host", "x", APP], 2, "unknown flag --host; here it is --bind (see"),
        (["--xyzzy", APP], 2, "unknown flag --xyzzy (see"),
        (["--ping", "3", APP], 2, "ambiguous option: --ping"),
        (["-p", "http", APP], 2, "argument -p/--port: 'http' is not a whole number"),
        (["--fd", "x", APP], 2, "argument --fd: 'x' is not a whole number"),
        (["-v", "4", APP], 2, "argument -v/--verbosity: invalid choice: "),
        (
            ["-t", "soon", APP],
            2,
            "argument -t/--http-timeout: 'soon' is not a number of seconds; give",
        ),
        (
            ["-t", "-1", APP],
            2,
            "argument -t/--http-timeout: '-1' is negative; give 0 to switch it off",
        ),
        (["-t", "nan", APP], 2, "'nan' is not a number of seconds"),
        (["--max-head-size", "1k", APP], 2, "argument --max-head-size: '1k' is not a size; give"),
        (["--max-head-size", "-1", APP], 2, "argument --max-head-size: '-1' is not a size; give"),
        (["--max-head-size", "9" * 30, APP], 2, "is too large; give at most"),
        (["--lifespan", "yes", APP], 2, "argument --lifespan: invalid choice: 'yes'"),
        (["-s", "a\nb", APP], 2, "argument -s/--server-name: 'a\\nb' cannot stand in a header"),
        # what daphne ends with 1
        (
            ["--proxy-headers-host", "x", APP],
            1,
            "argument --proxy-headers-host: --proxy-headers has",
        ),
        (["nowhere"], 1, "the application 'nowhere' names no attribute; give MODULE:ATTRIBUTE"),
        (["nowhere:app"], 1, "no module named 'nowhere'; give MODULE:ATTRIBUTE"),
        (["tests.nowhere:app"], 1, "no module named 'tests.nowhere'"),
        (["tests.apps.basic:nope"], 1, "has no attribute 'nope'; give the name"),
        (["tests/apps/basic.py"], 1, "is a file name; give MODULE:ATTRIBUTE: tests.apps.basic:"),
        ([".basic:app"], 1, "give MODULE:ATTRIBUTE"),
        (["tests.apps.basic:json.scanner.NUMBER_RE.flags"], 1, "the application is an int ("),
        (["tests.apps.basic:os.sep"], 1, "the application is a str ('/'), which is not callable"),
        (
            ["tests.apps.styles:two_arguments"],
            1,
            "takes neither (scope, receive, send) nor (scope)",
        ),
        (["tests.apps.styles:factory"], 1, "is it a factory? name what it returns"),
        (
            ["--access-log", "/nowhere/log", APP],
            1,
            "--access-log '/nowhere/log' cannot be opened: No",
        ),
        (["--log-fmt", "%(x", APP], 1, "--log-fmt '%(x' is not a format of Python's logging"),
        (["-p", "65536", APP], 1, "CRITICAL Listen failure: bad endpoint"),
        (
            ["-e", "http:80", APP],
            1,
            "CRITICAL Listen failure: bad endpoint 'http:80': no type 'http'",
        ),
        (["-e", "ssl:0:privateKey=k", APP], 1, "k: the certificate cannot be read: No such file"),
        (["--fd", "77", APP], 1, "CRITICAL Listen failure: cannot listen on descriptor 77 (--fd)"),
        (["-u", "/nowhere/s", APP], 1, "there is no directory '/nowhere'; create it"),
        (["-b", "192.0.2.1", APP], 1, "is not an address of this machine; give one"),
        (["-b", "no.such.host.invalid", APP], 1, "does not resolve"),
    ],
)
def test_one_line_per_mistake(flags: list[str], status: int, says: str) -> None:
    done = command("-v", "0", *flags) if status == 1 else command(*flags)
    assert done.returncode == status, done.stderr
    assert says in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stdout == ""


def test_bad_environment() -> None:
    done = command("-v", "0", APP, ASGI_THREADS="many")
    assert done.returncode == 1
    assert "ASGI_THREADS is 'many'; give a number from 1 on" in done.stderr
    assert done.stderr.count("\n") == 1


def test_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = command("-v", "0", "-p", str(port), APP)
    assert done.returncode == 1
    assert (
        f"Listen failure: cannot listen on 127.0.0.1:{port}: address already in use" in done.stderr
    )
    assert done.stderr.count("\n") == 1


def test_applications_own_error_keeps_its_traceback() -> None:
    done = command("tests.apps.raises_at_import:app")
    assert done.returncode == 1
    assert 'raise ValueError("no settings")' in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.endswith("'tests.apps.raises_at_import:app' raised ValueError: no settings")


def test_help_is_short() -> None:
    done = command("--help", COLUMNS="100")
    assert done.returncode == 0
    assert done.stdout.count("\n") < 50
    flags = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9_-]*[a-z]", done.stdout))
    assert flags == {*EVERYDAY, "--help-all", "--version"}
    assert len(EVERYDAY) == 12
    examples = re.findall(r"^  cdaphne (.*mysite.asgi:application)$", done.stdout, re.M)
    assert len(examples) == 2
    for example in examples:
        CommandLineInterface().parser.parse_args(example.split())
    assert done.stdout.splitlines()[-1].startswith("cdaphne --help-all shows all ")


def test_help_all_and_version() -> None:
    done = command("--help-all")
    assert done.returncode == 0
    for heading in ("where to listen:", "behind a proxy:", "logging:", "WebSocket sizes:"):
        assert heading in done.stdout
    flags = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9_-]*[a-z0-9]", done.stdout))
    parser = CommandLineInterface().parser
    assert {
        flag for action in parser.actions() for flag in action.option_strings if flag[:2] == "--"
    } <= flags
    shown = " ".join(command("--version").stdout.split())
    assert shown.startswith(f"cdaphne {__version__} (CPython ")
    assert all(f"{name} {number}" in shown for name, number in _core.versions().items())


# ---- a server that runs ----


def test_start_up_lines(server: Servers) -> None:
    handle = server.start(APP)
    handle.wait_for_log("Ready at")
    lines = [re.sub(r"^\S+ \S+ +", "", line) for line in handle.stderr().splitlines()]
    assert lines == [
        "INFO     Starting server at tcp:port=0:interface=127.0.0.1",
        "INFO     HTTP/2 support enabled",
        "INFO     Configuring endpoint tcp:port=0:interface=127.0.0.1",
        f"INFO     Listening on TCP address 127.0.0.1:{handle.port}",
        f"INFO     Ready at http://127.0.0.1:{handle.port}/ (pid {handle.process.pid})",
    ]
    assert handle.get("/").body == b"hello"


@pytest.mark.parametrize(
    ("bind", "place"),
    [
        (("-b", "0.0.0.0", "-p", "0"), r"http://127\.0\.0\.1:\d+/"),
        (("-e", "tcp:0", "-e", "tcp:0:interface=127.0.0.2"), r"http://127.*/, http://127\..*/"),
        (("-e", "tcp:0:proxy=required"), r"127\.0\.0\.1:\d+, for a proxy that sends PROXY headers"),
        pytest.param(("-b", "::", "-p", "0"), r"http://\[::1\]:\d+/", marks=needs_ipv6),
    ],
)
def test_ready_line_is_for_a_browser(server: Servers, bind: tuple[str, ...], place: str) -> None:
    handle = server.start(APP, bind=bind)
    handle.wait_for_log(rf"Ready at {place} \(pid {handle.process.pid}\)")


def test_ready_line_of_a_unix_socket_is_a_command(server: Servers, tmp_path: Path) -> None:
    path = tmp_path / "a socket"
    handle = server.start(APP, unix=path)
    found = handle.wait_for_log(r"Ready at unix socket \S+ socket \((curl .*)\) \(pid \d+\)")
    command = [*shlex.split(found.group(1)), "--silent"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=FOREIGN)
    assert done.stdout == "hello"


def test_ready_comes_after_lifespan(server: Servers) -> None:
    handle = server.spawn("tests.apps.lifespans:slow")
    handle.wait_for_log("(?s)lifespan: starting.*Listening on.*Ready at")
    handle = server.spawn("tests.apps.lifespans:failing")
    handle.expect_errors(1)
    assert handle.wait() == 1
    assert "Ready at" not in handle.stderr()


@pytest.mark.parametrize("flags", [["--version"], ["--help"], ["--help-all"], ["--check", APP]])
def test_output_that_cannot_be_written(flags: list[str]) -> None:
    def run(redirection: str) -> tuple[int, str]:
        script = f'"$@" {redirection}'
        program = ["bash", "-o", "pipefail", "-c", script, "bash", sys.executable, "-m", "pyasgi"]
        done = subprocess.run(
            [*program, *flags], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
        return done.returncode, done.stderr

    assert run("| true") == (0, "")
    assert run(">&-") == (0, "")
    reason = "cdaphne: error: cannot write to stdout: No space left on device\n"
    assert run(">/dev/full") == (1, reason)


def test_quiet(server: Servers, tmp_path: Path) -> None:
    handle = server.start(APP, "-v", "0", unix=tmp_path / "s")
    assert handle.get("/").body == b"hello"
    assert handle.stop() == 0
    assert handle.stdout() == ""
    log = [line for line in handle.stderr().splitlines() if not line.startswith(("fds:", "live:"))]
    assert log == []


def test_log_format(server: Servers) -> None:
    handle = server.start(APP, "--log-fmt", "<%(name)s> %(message)s")
    assert "<daphne.cli> Starting server at" in handle.stderr()
    assert "<daphne.server> Listening on TCP address" in handle.stderr()


def test_verbosity_2_tells_every_step(server: Servers) -> None:
    handle = server.start(APP, "-v", "2", "--log-fmt", "%(name)s %(message)s")
    with handle.connect() as http:
        client = list(http.sock.getsockname())
        assert http.request(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").body == b"hello"
    with connect(handle.ws_url) as websocket:
        peer = list(websocket.local_address)
        websocket.send("x")
        assert websocket.recv() == "x"
    assert handle.stop() == 0
    steps = [line[7:] for line in handle.stderr().splitlines() if "_protocol " in line]
    assert steps == [
        f"http_protocol HTTP GET request for {client}",
        f"http_protocol HTTP 200 response started for {client}",
        f"http_protocol HTTP close for {client}",
        f"http_protocol HTTP response complete for {client}",
        f"http_protocol Upgraded connection {peer} to WebSocket",
        f"ws_protocol WebSocket {peer} open and established",
        f"ws_protocol WebSocket {peer} accepted by application",
        f"ws_protocol WebSocket incoming frame on {peer}",
        f"ws_protocol Sent WebSocket packet to client for {peer}",
        f"ws_protocol WebSocket closed for {peer}",
    ]


def test_verbosity_3_is_asyncio_debug(server: Servers) -> None:
    for verbosity, debug in (("2", False), ("3", True)):
        handle = server.start(
            "tests.apps.process:app", "-v", verbosity, env={"PYTHONASYNCIODEBUG": None}
        )
        assert json.loads(handle.get("/").body)["debug"] is debug


def test_garbage_collections_leave_out_what_was_there(server: Servers) -> None:
    kept, free = (
        server.start("tests.apps.process:app", *flags).get("/").body
        for flags in ((), ("--no-gc-freeze",))
    )
    # Python 3.12 freezes some objects by itself.
    assert json.loads(kept)["frozen"] > json.loads(free)["frozen"] + 1000


def test_asgi_threads(server: Servers) -> None:
    handle = server.start("tests.apps.process:app", env={"ASGI_THREADS": "3"})
    assert json.loads(handle.get("/").body)["threads"] == 3


@pytest.mark.parametrize(
    "name",
    ["class_of_asgi2", "function_of_asgi2", "object", "plain_function", "partial", "marked"],
)
def test_application_styles(server: Servers, name: str) -> None:
    handle = server.start(f"tests.apps.styles:{name}")
    assert handle.get("/").body == name.encode()


def test_application_from_the_current_directory(server: Servers, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text((ROOT / "tests/apps/basic.py").read_text())
    program = "import sys; sys.path[:] = sys.path[1:]; from pyasgi.cli import main; main()"
    handle = server.start("mine:app", module=("-c", program), cwd=tmp_path)
    assert handle.get("/").body == b"hello"


def test_response_headers(server: Servers) -> None:
    plain = server.start(APP).get("/").headers
    assert plain["server"] == "cdaphne"
    assert "date" in plain
    bare = server.start(APP, "--no-server-name", "--no-date-header").get("/").headers
    assert "server" not in bare
    assert "date" not in bare
    assert server.start(APP, "-s", "Ümlaut").get("/").headers["server"] == "Ümlaut"


def test_root_path_and_proxy_headers(server: Servers) -> None:
    handle = server.start(APP, "--root-path", "/mounted", "--proxy-headers")
    headers = {
        "X-Forwarded-For": "10.0.0.1, 192.0.2.7",
        "X-Forwarded-Port": "4711",
        "X-Forwarded-Proto": "https",
    }
    scope = json.loads(handle.get("/scope", headers=headers).body)
    assert scope["root_path"] == "/mounted"
    assert scope["client"] == ["192.0.2.7", 4711]
    assert scope["scheme"] == "https"
    scope = json.loads(handle.get("/scope").body)
    assert scope["client"][0] == "127.0.0.1"
    assert scope["scheme"] == "http"


def test_proxy_headers_are_off_by_default(server: Servers) -> None:
    headers = {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https"}
    scope = json.loads(server.start(APP).get("/scope", headers=headers).body)
    assert scope["client"][0] == "127.0.0.1"
    assert scope["scheme"] == "http"


def test_limits_reach_the_core(server: Servers) -> None:
    handle = server.start(APP, "--max-target-size", "100", "--max-body-size", "10")
    assert handle.get("/" + "x" * 90).status == 404
    assert handle.get("/" + "x" * 110).status == 414
    assert handle.get("/echo", method="POST", body=b"x" * 11).status == 413
