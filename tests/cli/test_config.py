"""Settings from the environment and from TOML files: the names of the flags, their precedence, their mistakes."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from pyasgi import config, foreign
from tests.support.command_line import RecordingInterface
from tests.support.programs import ROOT, python
from tests.support.servers import Servers

APP = "tests.apps.basic:app"
PROGRAM = [sys.executable, "-m", "pyasgi"]


def command(cwd: Path, *flags: str, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **env}
    return subprocess.run(
        [*PROGRAM, *flags], cwd=cwd, env=environment, capture_output=True, text=True, timeout=60
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def arguments(*flags: str) -> dict[str, Any]:
    interface = RecordingInterface()
    interface.run(list(flags))
    found: dict[str, Any] = interface.server.arguments
    return found


FULL = f"""
application = "{APP}"
bind = "10.0.0.1"
port = 81
endpoint = ["tcp:9", "unix:/a b"]
http-timeout = 2.5
ping_interval = 7
websocket_timeout = -1
proxy-headers = true
proxy-headers-host = "X-Real-IP"
date-header = false
no-server-name = true
access-log-exclude = ["/health"]
access-log-format = "json"
extension = ["pathsend", "http.response.early_hint"]
verbosity = 0
max-head-size = 5000
"""
MEANS = {
    "endpoints": ["tcp:9", "tcp:port=81:interface=10.0.0.1", "unix:/a b"],
    "http_timeout": 2.5,
    "ping_interval": 7,
    "websocket_timeout": -1,
    "proxy_forwarded_address_header": "X-Real-IP",
    "date_header": False,
    "server_name": "",
    "access_log_exclude": ["/health"],
    "access_log_format": "json",
    "extensions": ["pathsend", "early_hint"],
    "action_logger": None,
    "verbosity": 0,
    "max_head_size": 5000,
}


@pytest.mark.parametrize("where", ["--config", "CDAPHNE_CONFIG", "pyproject.toml"])
def test_file(folder: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if where == "pyproject.toml":
        (folder / where).write_text(f"[project]\nname = 'x'\n[tool.cdaphne]\n{FULL}")
        found = arguments()
    else:
        (folder / "site.toml").write_text(FULL)
        if where == "--config":
            found = arguments("--config", "site.toml")
        else:
            monkeypatch.setenv(where, "site.toml")
            found = arguments()
    assert {name: found[name] for name in MEANS} == MEANS


def test_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "APPLICATION": APP,
        "BIND": "10.0.0.1",
        "PORT": "81",
        "ENDPOINT": "tcp:9 unix:/s",
        "HTTP_TIMEOUT": "2.5",
        "PROXY_HEADERS": "Yes",
        "NO_DATE_HEADER": "1",
        "SERVER_NAME": "",
        "WEBSOCKET_TIMEOUT": "-1",
        "EXTENSION": "pathsend trailers",
    }.items():
        monkeypatch.setenv(f"CDAPHNE_{name}", value)
    found = arguments()
    assert found["endpoints"] == ["tcp:9", "tcp:port=81:interface=10.0.0.1", "unix:/s"]
    assert found["http_timeout"] == 2.5
    assert found["proxy_forwarded_address_header"] == "X-Forwarded-For"
    assert found["date_header"] is False
    assert found["server_name"] == "cdaphne", "an empty variable counts as not set"
    assert found["websocket_timeout"] == -1
    assert found["extensions"] == ["pathsend", "trailers"]


def test_precedence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "pyproject.toml").write_text(
        "[tool.cdaphne]\nhttp-timeout = 1\nping-timeout = 1\nping-interval = 1\n"
        "endpoint = ['tcp:1']\nproxy-headers = true\n"
    )
    monkeypatch.setenv("CDAPHNE_PING_TIMEOUT", "2")
    monkeypatch.setenv("CDAPHNE_PING_INTERVAL", "2")
    found = arguments("--ping-interval", "3", APP)
    assert [found[f"{name}"] for name in ("http_timeout", "ping_timeout", "ping_interval")] == [
        1,
        2,
        3,
    ]
    assert found["endpoints"] == ["tcp:1"]
    assert arguments("-e", "tcp:2", APP)["endpoints"] == ["tcp:2"], "a flag's list replaces"
    assert arguments("--no-proxy-headers", APP)["proxy_forwarded_address_header"] is None
    monkeypatch.setenv("CDAPHNE_PROXY_HEADERS", "off")
    monkeypatch.setenv("CDAPHNE_APPLICATION", "nowhere:app")
    assert arguments(APP)["proxy_forwarded_address_header"] is None
    # The default itself, given as a flag, beats the file too.
    assert arguments("--ping-interval", "20", APP)["ping_interval"] == 20


def test_every_flag_has_a_name() -> None:
    parser = RecordingInterface().parser
    names = set(config.Names(parser).all())
    flags = {flag for action in parser.actions() for flag in action.option_strings}
    long = {flag[2:].replace("_", "-") for flag in flags if flag.startswith("--")}
    assert names == long - config.COMMAND_ONLY | {"application"}
    assert len(names) > 60


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("http-timout = 3", "site.toml: unknown key 'http-timout'; did you mean http-timeout?"),
        ("xyzzy = 3", "site.toml: unknown key 'xyzzy'; the names are those of the flags"),
        ("config = 'x'", "site.toml: unknown key 'config'; this is for the command line only"),
        (
            "http-timeout = 'soon'",
            "site.toml: http-timeout: 'soon' is not a number of seconds; give",
        ),
        ("http_timeout = true", "site.toml: http_timeout: True is neither text nor a number"),
        ("port = 1.5", "site.toml: port: '1.5' is not a whole number"),
        ("max-head-size = -1", "site.toml: max-head-size: '-1' is not a size; give"),
        ("lifespan = 'yes'", "site.toml: lifespan: 'yes' is none of on, off, auto"),
        ("verbosity = 9", "site.toml: verbosity: '9' is none of 0, 1, 2, 3"),
        ("proxy-headers = 'perhaps'", "proxy-headers: 'perhaps' is neither true nor false"),
        ("endpoint = 3", "site.toml: endpoint: 3 is not a list of texts"),
        ("endpoint = [['tcp:1']]", "site.toml: endpoint: ['tcp:1'] is neither text nor a number"),
        (
            "access-log-format = '%(z)s'",
            "access-log-format: '%(z)s' is not an atom of an access log",
        ),
        ("access-log-exclude = ['x']", "'x' is not a path prefix; give one that begins with /"),
        ("extension = ['push']", "'push' is none of pathsend, zerocopysend, trailers, early_hint"),
        ("[http-timeout]\nx = 1", "http-timeout: {'x': 1} is neither text nor a number"),
        ("= 3", "site.toml: is not TOML: "),
    ],
)
def test_mistakes_in_a_file(folder: Path, text: str, says: str) -> None:
    (folder / "site.toml").write_text(text)
    done = command(folder, "--config", "site.toml", APP)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_mistakes_about_files(folder: Path) -> None:
    done = command(folder, "--config", "nowhere.toml", APP)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "nowhere.toml: cannot be read: No such file or directory; give" in done.stderr
    (folder / "pyproject.toml").write_text("[tool]\ncdaphne = 3\n")
    assert "tool.cdaphne is not a table; write [tool.cdaphne]" in command(folder, APP).stderr
    (folder / "pyproject.toml").write_bytes(b"[tool.cdaphne]\nbind = '\xff'\n")
    assert "pyproject.toml: is not TOML" in command(folder, APP).stderr


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        (
            "HTP_TIMEOUT",
            "1",
            "unknown key 'CDAPHNE_HTP_TIMEOUT'; did you mean CDAPHNE_HTTP_TIMEOUT?",
        ),
        (
            "HTTP_TIMEOUT",
            "soon",
            "environment: CDAPHNE_HTTP_TIMEOUT: 'soon' is not a number of seconds",
        ),
        ("PROXY_HEADERS", "2", "CDAPHNE_PROXY_HEADERS: '2' is neither true nor false"),
        ("PORT", "http", "environment: CDAPHNE_PORT: 'http' is not a whole number"),
    ],
)
def test_mistakes_in_the_environment(folder: Path, name: str, value: str, says: str) -> None:
    done = command(folder, APP, **{f"CDAPHNE_{name}": value})
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert says in done.stderr


def test_variables_of_kubernetes_are_not_ours(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "SERVICE_HOST": "10.0.0.1",
        "SERVICE_PORT": "80",
        "SERVICE_PORT_HTTP": "80",
        "PORT": "tcp://10.0.0.1:80",
        "PORT_80_TCP": "tcp://10.0.0.1:80",
        "PORT_80_TCP_ADDR": "10.0.0.1",
    }.items():
        monkeypatch.setenv(f"CDAPHNE_{name}", value)
    assert arguments(APP)["endpoints"] == ["tcp:port=8000:interface=127.0.0.1"]


def test_a_server_from_a_file_alone(server: Servers, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        f"[tool.cdaphne]\napplication = '{APP}'\nport = 0\nroot-path = '/from-file'\n"
    )
    # The fixture always names an application: here the program takes it away again.
    program = "import sys; del sys.argv[1:]; from pyasgi.cli import main; main()"
    handle = server.start(APP, module=("-c", program), bind=(), cwd=tmp_path)
    assert '"/from-file"' in handle.get("/scope").text


# ---- --check ----


def test_check(tmp_path: Path, free_port: int) -> None:
    log = tmp_path / "log"
    done = command(
        ROOT,
        "--check",
        "-p",
        str(free_port),
        "--access-log",
        str(log),
        "-u",
        str(tmp_path / "s"),
        APP,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"{APP}: ready to listen at tcp:port={free_port}:interface=127.0.0.1, unix:{tmp_path}/s\n"
    )
    assert list(tmp_path.iterdir()) == [], "nothing stays"


def test_check_beside_a_running_server(server: Servers) -> None:
    handle = server.start(APP)
    assert command(ROOT, "--check", "-p", str(handle.port), APP).returncode == 0
    assert handle.get("/").status == 200


@pytest.mark.parametrize(
    ("flags", "status", "says"),
    [
        (["nowhere:app"], 1, "no module named 'nowhere'"),
        (["tests.apps.basic:os.sep"], 1, "the application is a str ('/'), which is not callable"),
        ([APP, "-e", "tcp:http"], 1, "bad endpoint 'tcp:http': port is 'http'; give 0 to 65535"),
        ([APP, "-e", "unix:/x:mode=9"], 1, "mode is '9'; give 0 to 777 in octal"),
        ([APP, "-e", "unix:/x:user=nobody-has-it"], 1, "this machine has no user 'nobody-has-it'"),
        ([APP, "-e", "systemd:INET"], 1, "give either index=N or name=NAME"),
        ([APP, "-e", "fd:fileno=x"], 1, "fileno is 'x'"),
        ([APP, "-b", "no.such.host.invalid"], 1, "does not resolve"),
        ([APP, "-b", "192.0.2.1"], 1, "'192.0.2.1' is not an address of this machine"),
        ([APP, "--fd", "99"], 1, "descriptor 99 (--fd): it is not open"),
        ([APP, "--fd", "0"], 1, "descriptor 0 (--fd): it is not a socket"),
        ([APP, "-u", "/nowhere/s"], 1, "there is no directory '/nowhere'"),
        ([APP, "-u", "/etc/passwd"], 1, "the path exists and is not a socket"),
        ([APP, "-u", f"/tmp/{'x' * 120}"], 1, "the path has 125 bytes, 107 are allowed"),
        ([APP, "--max-head-size", "0"], 2, "--max-head-size: must be at least 1, not 0"),
        (
            [APP, "--websocket-deflate-window-bits", "16"],
            2,
            "--websocket-deflate-window-bits: must be 8 to 15, not 16",
        ),
        ([APP, "--websocket-deflate-level", "0"], 2, "must be 1 to 9, not 0"),
        ([APP, "--websocket-deflate-mem-level", "10"], 2, "must be 1 to 9, not 10"),
        ([APP, "--access-log", "/nowhere/log"], 1, "--access-log '/nowhere/log' cannot be opened"),
        ([APP, "--log-config", "/nowhere.ini"], 1, "--log-config '/nowhere.ini' cannot be read"),
        ([APP, "--http-timeout", "x"], 2, "'x' is not a number of seconds"),
        ([APP, "--unix-socket-mode", "660"], 2, "--unix-socket-mode needs --unix-socket"),
        (
            [APP, "--http2-upgrade", "--no-http2"],
            2,
            "--http2-upgrade needs --http2; leave --no-http2 out",
        ),
    ],
)
def test_check_finds(flags: list[str], status: int, says: str) -> None:
    done = command(ROOT, "--check", *flags)
    assert done.returncode == status, done.stderr
    assert says in done.stderr
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)


def check(*flags: str, **popen: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, "--check", *flags, APP],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        **popen,
    )


@pytest.mark.parametrize(
    ("kind", "listens", "says"),
    [
        (socket.SOCK_STREAM, True, None),
        (socket.SOCK_STREAM, False, "it does not listen"),
        (socket.SOCK_DGRAM, False, "it is not a stream socket"),
    ],
)
def test_check_looks_at_descriptors(kind: int, listens: bool, says: str | None) -> None:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        if listens:
            sock.listen()
        number = sock.fileno()
        done = check("--fd", str(number), pass_fds=(number,))
        assert sock.fileno() == number and os.fstat(number)
    assert done.returncode == (0 if says is None else 1)
    assert says is None or says in done.stderr


AS_SYSTEMD = 'LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web exec "$@" 3<&0'


@pytest.mark.parametrize(
    ("endpoint", "status", "says"),
    [
        ("systemd:name=web", 0, ""),
        ("systemd:index=0:domain=INET", 0, ""),
        (
            "systemd:name=other",
            1,
            "no socket has that name (FileDescriptorName=); systemd passed 'web'",
        ),
        ("systemd:index=1", 1, "systemd passed 1 socket, the first has index 0"),
        ("systemd:index=0:domain=UNIX", 1, "the socket's family is not UNIX"),
    ],
)
def test_check_looks_at_sockets_of_systemd(endpoint: str, status: int, says: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        done = subprocess.run(
            ["sh", "-c", AS_SYSTEMD, "sh", *PROGRAM, "--check", "-e", endpoint, APP],
            cwd=ROOT,
            stdin=sock,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == status, done.stderr
    assert says in done.stderr


def test_check_without_systemds_sockets_is_a_note() -> None:
    """examples/deploy/cdaphne.service checks in ExecStartPre=, which gets none."""
    done = check("-e", "systemd:name=web", stdin=subprocess.DEVNULL)
    assert done.returncode == 0
    assert done.stderr.startswith("cdaphne: note: systemd:name=web: systemd has passed no sockets")


AS_NOBODY = """
import os
from pyasgi.endpoints import EndpointError
from pyasgi.preflight import look
os.setgroups([])
os.setuid(65534)
for text in {endpoints!r}:
    try:
        print(look(text))
    except EndpointError as error:
        print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_check_as_a_user_who_may_not() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        endpoints = [f"unix:{folder}/s", f"unix:{folder}/none/s", "tcp:80:interface=127.0.0.1"]
        said = python(AS_NOBODY.format(endpoints=endpoints))
    path, missing, port = said.splitlines()
    assert f"Permission denied in the directory {folder!r}; give this user" in path
    assert f"there is no directory '{folder}/none'" in missing
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) > 80:
        assert "port 80 needs root or CAP_NET_BIND_SERVICE" in port


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_check_notes_a_port_that_is_in_use(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = check("-b", host, "-p", str(port))
        taken.setblocking(False)
        with pytest.raises(BlockingIOError):  # nobody has connected
            taken.accept()
    assert done.returncode == 0
    assert f"a server is listening on port {port} now; a start fails while it does" in done.stderr
    assert check("-b", "127.0.0.2", "-p", str(port)).stderr == ""


def test_check_notes_a_unix_socket_that_is_in_use(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()
        assert "a server is listening there now" in check("-u", str(path)).stderr
    assert check("-u", str(path)).stderr == "", "a stale one is replaced"
    assert path.exists()


def test_check_tells_all_endpoints_that_are_wrong() -> None:
    done = command(ROOT, "--check", "-e", "tcp:x", "-e", "http:1", APP)
    assert done.returncode == 1
    assert "'tcp:x'" in done.stderr and "'http:1'" in done.stderr
    assert done.stderr.count("\n") == 2


# ---- what other servers call it ----


def known_flags() -> set[str]:
    parser = RecordingInterface().parser
    return {flag for action in parser.actions() for flag in action.option_strings}


def test_names_of_other_servers_lead_to_flags_that_exist() -> None:
    flags = known_flags()
    tables: list[dict[str, str]] = [foreign.RENAMED, foreign.OTHERWISE, foreign.LETTERS]
    assert set(foreign.RENAMED.values()) <= flags
    assert not set().union(*tables) & flags
    for table in (*tables, foreign.FAMILIES):
        for text in table.values():
            # Settings of other programs are written with a sign: ASGI_THREADS, WatchdogSec=.
            named = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", text)) - {"--noreload"}
            assert named <= flags, text


# From the --help of uvicorn 0.54, gunicorn 27.0, hypercorn 0.18 and granian 2.8.
UVICORN = """
    --host --port --uds --fd --reload --reload-dir --reload-include --reload-exclude --reload-delay
    --workers --loop --http --ws --ws-max-size --ws-max-queue --ws-ping-interval --ws-ping-timeout
    --ws-per-message-deflate --lifespan --interface --env-file --log-config --log-level --use-colors
    --no-use-colors --proxy-headers --server-header --no-server-header --date-header
    --forwarded-allow-ips --root-path --limit-concurrency --backlog --limit-max-requests
    --limit-max-requests-jitter --timeout-keep-alive --timeout-graceful-shutdown
    --timeout-worker-healthcheck --ssl-keyfile --ssl-certfile --ssl-keyfile-password --ssl-version
    --ssl-cert-reqs --ssl-ca-certs --ssl-ciphers --header --app-dir --h11-max-incomplete-event-size
    --reset-contextvars --factory
"""
GUNICORN = """
    -c --config -b --bind --backlog -w --workers -k --worker-class --threads --worker-connections
    --max-requests --max-requests-jitter --timeout --graceful-timeout --keep-alive
    --limit-request-line --limit-request-fields --limit-request-field_size --reload --reload-engine
    --reload-extra-file --check-config --print-config --preload --reuse-port --chdir -D --daemon
    --env --pid --worker-tmp-dir --user -g --group -m --umask --forwarded-allow-ips --access-logfile
    --access-logformat --error-logfile --log-file --log-level --capture-output --logger-class
    --log-config --log-config-json --log-syslog-to --log-syslog --log-syslog-prefix
    --log-syslog-facility -R --statsd-host --dogstatsd-tags --statsd-prefix -n --name --pythonpath
    --paste --proxy-protocol --proxy-allow-from --protocol --keyfile --certfile --ssl-version
    --cert-reqs --ca-certs --ciphers --http-protocols --http2-cleartext
    --http2-max-concurrent-streams --http2-initial-window-size --http2-max-frame-size
    --http2-max-header-list-size --permit-obsolete-folding --strip-header-spaces
    --permit-unconventional-http-method --casefold-http-method --header-map --asgi-loop
    --asgi-lifespan --asgi-disconnect-grace-period --http-parser --root-path --dirty-app
    --dirty-workers --dirty-timeout --control-socket --control-socket-mode --no-control-socket
"""
HYPERCORN = """
    --access-logfile --access-logformat --backlog --debug --error-log --error-logfile --log-file
    --read-timeout --max-requests --insecure-bind --log-config --log-level --pid --quic-bind
    --reload --statsd-host --verify-mode --websocket-ping-interval --workers --worker-class --umask
"""
GRANIAN = """
    --host --uds --uds-permissions --interface --ws --no-ws --blocking-threads
    --blocking-threads-idle-timeout --runtime-threads --runtime-blocking-threads --runtime-mode
    --task-impl --backpressure --http1-buffer-size --http1-header-read-timeout --http1-keep-alive
    --no-http1-keep-alive --http1-pipeline-flush --http2-adaptive-window
    --http2-initial-connection-window-size --http2-initial-stream-window-size
    --http2-keep-alive-interval --http2-keep-alive-timeout --http2-max-headers-size
    --http2-max-send-buffer-size --log --no-log --access-log-fmt --ssl-certificate
    --ssl-protocol-min --ssl-ca --ssl-crl --ssl-client-verify --no-ssl-client-verify
    --url-path-prefix --respawn-failed-workers --respawn-interval --rss-sample-interval
    --rss-samples --workers-lifetime --workers-max-rss --workers-kill-timeout --no-factory
    --working-dir --env-files --static-path-route --static-path-mount --static-path-expires
    --metrics --no-metrics --metrics-port --no-reload --reload-paths --reload-ignore-dirs
    --reload-tick --process-name --pid-file
"""


@pytest.mark.parametrize("flags", [UVICORN, GUNICORN, HYPERCORN, GRANIAN])
def test_every_flag_of_other_servers_is_known_or_explained(
    flags: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = known_flags()
    for flag in flags.split():
        # An abbreviation of ours means the same: gunicorn's --keep-alive.
        if flag in ours or flag == "--keep-alive":
            continue
        with pytest.raises(SystemExit):
            RecordingInterface().run([flag, "auto", APP])
        error = capsys.readouterr().err
        assert f"unknown flag {flag}; " in error and "did you mean" not in error, error


@pytest.mark.parametrize("flag", ["--xyzzy", "--timings", "--back", "--acces"])
def test_no_hint_is_better_than_one_that_misleads(
    flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        RecordingInterface().run([flag, APP])
    assert "did you mean" not in capsys.readouterr().err


def test_a_number_behind_daphnes_abbreviation_is_what_it_was() -> None:
    assert arguments("--http", "3", APP)["http_timeout"] == 3


@pytest.mark.parametrize("flags", [["-w", "3"], ["-w3"], ["-w=3"]])
def test_the_value_of_an_unknown_flag_is_not_taken_for_the_application(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        RecordingInterface().run([*flags, APP])
    error = capsys.readouterr().err
    assert "unknown flag -w; one process runs one event loop" in error
    assert "application" not in error


def test_keys_of_other_servers(folder: Path) -> None:
    (folder / "site.toml").write_text("workers = 3")
    done = command(folder, "--config", "site.toml", APP)
    assert "site.toml: unknown key 'workers'; one process runs one event loop" in done.stderr
    done = command(folder, APP, CDAPHNE_HOST="x")
    assert "unknown key 'CDAPHNE_HOST'; here it is CDAPHNE_BIND" in done.stderr


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("--host", "here it is --bind"),
        ("--timeout-keep-alive", "here it is --keep-alive-timeout"),
        ("--workers", "supervisor's fcgi-program with numprocs=N and --fd 0"),
        ("--reload", "manage.py runserver"),
        ("--ssl-keyfile", "here it is --keyfile"),
        ("--factory", "name what the factory returns"),
        ("--timeout", "give --http-timeout for the time that a request may take"),
        ("--backlog", "-e tcp:8000:backlog=4096"),
        ("--log-level", "give --verbosity: 0 for warnings"),
    ],
)
@pytest.mark.parametrize("form", ["{}=4", "{}"])
def test_flags_of_other_servers(
    flag: str, says: str, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        RecordingInterface().run([form.format(flag), APP])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert flag in error and says in error
    assert error.count("\n") == 1
