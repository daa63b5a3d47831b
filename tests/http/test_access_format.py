"""Formats of the access log, what is left out of it, syslog, and files that are rotated away."""

from __future__ import annotations

import datetime
import json
import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.sync.client import connect

from pyasgi import _core
from pyasgi.access import AccessLogError, access_stream, check_target
from pyasgi.syslog import Syslog, SyslogError
from tests.support.handle import Handle
from tests.support.servers import Servers
from tests.support.wait import wait_for

APP = "tests.apps.basic:app"
COMBINED = re.compile(
    r'(\S+) - - \[(\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\] "(.*?)" (\S+) (\S+) "(.*?)" "(.*?)"'
)
HEADERS = {"User-Agent": "tests/1", "Referer": "http://there/"}


def logged(handle: Handle, count: int) -> list[str]:
    wait_for(lambda: handle.stdout().count("\n") >= count, what=f"{count} access-log lines")
    return handle.stdout().splitlines()


def test_combined(server: Servers) -> None:
    handle = server.start(APP, "--access-log-format", "combined")
    handle.get("/?a=b", headers=HEADERS)
    handle.get("/status/204")
    with connect(f"{handle.ws_url}/chat?token=secret", user_agent_header=None):
        pass
    lines = [COMBINED.fullmatch(line) for line in logged(handle, 5)]
    found = [line and (line[1], *line.groups()[2:]) for line in lines]
    assert found[0] == ("127.0.0.1", "GET /?a=b HTTP/1.1", "200", "5", "http://there/", "tests/1")
    assert found[1] == ("127.0.0.1", "GET /status/204 HTTP/1.1", "204", "-", "-", "-")
    assert [line and line[1] for line in found[2:]] == [
        "WSCONNECTING /chat HTTP/1.1",
        "WSCONNECT /chat HTTP/1.1",
        "WSDISCONNECT /chat HTTP/1.1",
    ]
    assert lines[0] is not None
    when = datetime.datetime.strptime(lines[0][2], "%d/%b/%Y:%H:%M:%S %z")
    assert abs((datetime.datetime.now(datetime.UTC) - when).total_seconds()) < 60


def test_json(server: Servers) -> None:
    handle = server.start(APP, "--access-log-format", "json")
    with handle.connect() as client:
        host, port = client.sock.getsockname()
        client.request(b"GET /sleep/0.1?q=1 HTTP/1.1\r\nHost: t\r\nUser-Agent: x\r\n\r\n")
    with connect(f"{handle.ws_url}/chat?token=secret"):
        pass
    http, *websocket = (json.loads(line) for line in logged(handle, 4))
    when = datetime.datetime.fromisoformat(http.pop("time"))
    assert abs((datetime.datetime.now(datetime.UTC) - when).total_seconds()) < 60
    assert 0.09 < http.pop("duration") < 10
    assert http == {
        "type": "http",
        "event": "complete",
        "client": host,
        "port": port,
        "method": "GET",
        "path": "/sleep/0.1",
        "query": "q=1",
        "protocol": "HTTP/1.1",
        "host": "t",
        "status": 200,
        "size": 5,
        "referer": None,
        "user_agent": "x",
    }
    assert [entry["event"] for entry in websocket] == ["connecting", "connected", "disconnected"]
    for entry in websocket:
        assert (entry["type"], entry["path"], entry["query"]) == ("websocket", "/chat", "")
        assert (entry["status"], entry["size"]) == (None, None)
    assert "secret" not in handle.stdout()


NASTY = [
    b'"',
    b"\\",
    b'","status":999,"x":"',
    b"caf\xc3\xa9",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\t\x80\x9f",
    b"</script>",
    b"%(h)s %n",
    b"'\\x22\\n",
    bytes(range(0x80, 0x100)),
    b"x" * 4000,
    b"",
]


@pytest.mark.parametrize("form", ["daphne", "combined", "json", "%(a)s|%(f)s|%({x}i)s"])
def test_a_line_is_a_line_whatever_a_peer_sends(server: Servers, form: str) -> None:
    handle = server.start(APP, "--access-log-format", form)
    for value in NASTY:
        with handle.connect() as client:
            target = b"/" + bytes(byte for byte in value if 0x20 < byte < 0x7F)
            fields = b"".join(b"%s: %s\r\n" % (n, value) for n in (b"User-Agent", b"Referer", b"X"))
            client.request(b"GET " + target + b" HTTP/1.1\r\nHost: t\r\n" + fields + b"\r\n")
    lines = logged(handle, len(NASTY))
    assert len(lines) == len(NASTY)
    assert all(" " <= character <= "~" for line in lines for character in line)
    for line, value in zip(lines, NASTY, strict=True):
        if form == "json":
            assert json.loads(line)["user_agent"] == value.strip(b"\t").decode("latin-1")
            assert json.loads(line)["status"] in (200, 404)
        elif form == "combined":
            assert COMBINED.fullmatch(line)
            assert line.count('"') == 6
        elif form != "daphne":
            assert '"' not in line
            fields_shown = line.split("|")
            assert len(set(fields_shown)) == 1 or b"|" in value


def test_custom_atoms(server: Servers) -> None:
    atoms = "h l u m U q H s B b f a {X-Id}i S k e".split()
    form = ",".join(f"%({atom})s" for atom in atoms) + ",%%,%(r)s"
    handle = server.start(APP, "--access-log-format", form)
    handle.get("/status/204?a=b", headers={**HEADERS, "X-ID": "7"})
    assert logged(handle, 1) == [
        "127.0.0.1,-,-,GET,/status/204,a=b,HTTP/1.1,204,0,-,http://there/,tests/1,7,http,http,complete,%,"
        "GET /status/204?a=b HTTP/1.1"
    ]


def test_custom_times_and_process(server: Servers) -> None:
    handle = server.start(
        APP, "--access-log-format", "%(p)s %(T)s %(M)s %(D)s %(L)s %(P)s %(c)s %(I)s %(t)s %(d)s"
    )
    handle.get("/sleep/0.2")
    pid, seconds, milli, micro, decimal, port, client, *dates = logged(handle, 1)[0].split(" ")
    assert int(pid) == handle.process.pid
    assert int(seconds) == int(int(milli) / 1000) == int(int(micro) / 1e6) == int(float(decimal))
    assert 200 <= int(milli) < 10_000
    assert client == f"127.0.0.1:{port}"
    assert datetime.datetime.fromisoformat(dates[0]).tzinfo is not None
    assert re.fullmatch(r"\[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d", dates[1])


def test_unix_socket_client(server: Servers, tmp_path: Path) -> None:
    for form, shown in (("combined", "- - -"), ("json", '"client":null,"port":null')):
        handle = server.start(APP, "--access-log-format", form, unix=tmp_path / form)
        handle.get("/")
        assert shown in logged(handle, 1)[0]


@pytest.mark.parametrize("form", ["daphne", "json"])
def test_client_behind_a_proxy(server: Servers, form: str) -> None:
    handle = server.start(APP, "--proxy-headers", "--access-log-format", form)
    for forwarded, port, shown in (
        ("10.0.0.1, 192.0.2.7, 127.0.0.1", "4711", ("192.0.2.7", 4711)),
        ("2001:db8::1", "x", ("2001:db8::1", 0)),
        ("a\\b", "99999999999", (None, None)),
    ):
        before = handle.stdout().count("\n")
        with handle.connect() as client:
            head = f"GET / HTTP/1.1\r\nHost: t\r\nX-Forwarded-For: {forwarded}\r\nX-Forwarded-Port: {port}\r\n\r\n"
            client.request(head.encode())
        line = logged(handle, before + 1)[-1]
        if form == "json":
            entry = json.loads(line)
            assert (entry["client"], entry["port"]) == shown
        else:
            client = "None" if shown[0] is None else f"{shown[0]}:{shown[1]}"
            assert line.startswith(f"{client} - - [")


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ("", "'' is not a format of an access log; give daphne, combined, json or a line of atoms"),
        ("jsno", "'jsno' is not a format of an access log"),
        ("%(z)s", "'%(z)s' is not an atom of an access log; write one of %(X)s with X of abB"),
        ("%(h)d", "'%(h)d' is not an atom"),
        ("%(h)s %", "'%' is not an atom"),
        ("%(h", "'%(h' is not an atom"),
        ("%({a b}i)s", "is not an atom"),
        ("%({a}o)s", "is not an atom"),
        ("%({}i)s", "is not an atom"),
        ("%({x", "is not an atom"),
        ("a\n%(h)s", "has a control character"),
    ],
)
def test_bad_formats(form: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)) as caught:
        _core.check_setting("access_log_format", form)
    assert "\n" not in str(caught.value)


# ---- exclusion ----


@pytest.mark.parametrize("form", ["daphne", "json"])
def test_exclude(server: Servers, form: str) -> None:
    flags = ("--access-log-exclude", "/status/", "--access-log-exclude", "/chat")
    handle = server.start(APP, *flags, "--access-log-format", form)
    for path in ("/status/200", "/statu", "/status/204", "/"):
        handle.get(path)
    with connect(f"{handle.ws_url}/chat/room"):
        pass
    assert handle.stop() == 0
    first, second = handle.stdout().splitlines()
    assert '/statu"' in first
    assert '/"' in second


SUBCLASS = """
from pyasgi import access, cli

class Own(access.AccessLogGenerator):
    def write_entry(self, host, date, request, status=None, length=None, ident=None, user=None):
        self.stream.write(f"own {host} {request}\\n")
        self.stream.flush()

cli.AccessLogGenerator = Own
cli.main()
"""


def test_exclude_and_forwarded_client_in_python(server: Servers) -> None:
    handle = server.start(
        APP, "--access-log-exclude", "/status", "--proxy-headers", module=("-c", SUBCLASS)
    )
    handle.get("/status/200")
    handle.get("/", headers={"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Port": "8"})
    assert handle.stop() == 0
    assert handle.stdout() == "own 192.0.2.7:8 GET /\n"


# ---- where it goes ----


def test_no_access_log(server: Servers) -> None:
    handle = server.start(APP, "--no-access-log")
    handle.get("/")
    assert handle.stop() == 0
    assert handle.stdout() == ""


def test_file_is_reopened_on_sigusr1(server: Servers, tmp_path: Path) -> None:
    path, old = tmp_path / "access.log", tmp_path / "access.log.1"
    handle = server.start(APP, "--access-log", str(path))
    handle.get("/?before")
    wait_for(lambda: "before" in path.read_text(), what="the first line")
    path.rename(old)
    handle.get("/?renamed")
    handle.signal(signal.SIGUSR1)
    handle.wait_for_log("Log files were opened anew")
    handle.get("/?after")
    wait_for(lambda: path.exists() and "after" in path.read_text(), what="the line in the new file")
    assert "renamed" in old.read_text()
    assert "after" not in old.read_text()
    assert path.read_text().count("\n") == 1


def test_reopening_that_fails_keeps_the_old_file(server: Servers, tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    handle = server.start(APP, "--access-log", str(folder / "access.log"))
    handle.expect_errors()
    folder.rename(tmp_path / "gone")
    handle.signal(signal.SIGUSR1)
    handle.wait_for_log("Cannot reopen access log .*: No such file or directory; the old file")
    handle.get("/?still")
    wait_for(lambda: "still" in (tmp_path / "gone" / "access.log").read_text(), what="the line")


def test_sigusr1_of_the_application_stays(server: Servers) -> None:
    program = "import signal; signal.signal(signal.SIGUSR1, signal.SIG_IGN); from pyasgi.cli import main; main()"
    handle = server.start(APP, module=("-c", program))
    handle.signal(signal.SIGUSR1)
    assert handle.get("/").status == 200
    assert "anew" not in handle.stderr()


# ---- syslog ----


class Collecting:
    """A system log: a datagram socket at a path."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.settimeout(20)
        self.sock.bind(str(path))

    def receive(self) -> str:
        return self.sock.recv(65536).decode()


@pytest.fixture
def syslog(tmp_path: Path) -> Iterator[Collecting]:
    made = Collecting(tmp_path / "log")
    yield made
    made.sock.close()


LINE = re.compile(r"<(\d+)>\w{3} [ \d]\d \d\d:\d\d:\d\d (\S+)\[(\d+)\]: (.*)")


def test_syslog(server: Servers, tmp_path: Path, syslog: Collecting) -> None:
    handle = server.start(APP, "--access-log", f"syslog:{tmp_path}/log:facility=local3:tag=web")
    for number in range(3):
        handle.get(f"/?{number}")
        found = LINE.fullmatch(syslog.receive())
        assert found
        assert found.groups()[:3] == (str(19 * 8 + 6), "web", str(handle.process.pid))
        assert f'"GET /?{number}" 200 5' in found[4]
    # A system log that is restarted is found again.
    syslog.sock.close()
    (tmp_path / "log").unlink()
    # Lines are written behind the response: by the second response, the first line is lost.
    for _ in range(2):
        handle.get("/?nobody-listens")
    again = Collecting(tmp_path / "log")
    texts: list[str] = []
    with again.sock:
        handle.get("/?again")
        while not any("/?again" in text for text in texts) or not any(
            re.search("# access log lines lost: [12]", text) for text in texts
        ):
            texts.append(again.receive())
    assert handle.stdout() == ""


def test_syslog_over_udp_with_json(server: Servers) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(20)
        sock.bind(("127.0.0.1", 0))
        target = f"syslog:host=127.0.0.1:port={sock.getsockname()[1]}"
        handle = server.start(APP, "--access-log", target, "--access-log-format", "json")
        handle.get("/")
        text = sock.recv(65536).decode()
    head, _, line = text.partition(" cdaphne[")
    assert head.startswith("<30>") and head.endswith(f" {socket.gethostname()}")
    assert json.loads(line.partition("]: ")[2])["path"] == "/"


def test_syslog_that_nobody_reads_does_not_stop_the_server(
    server: Servers, tmp_path: Path, syslog: Collecting
) -> None:
    handle = server.start(APP, "--access-log", f"syslog:{tmp_path}/log")
    with handle.connect() as client:
        for _ in range(2000):
            assert client.request(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").status == 200
    assert handle.stop() == 0


def test_syslog_of_a_subclass(server: Servers, tmp_path: Path, syslog: Collecting) -> None:
    handle = server.start(APP, "--access-log", f"syslog:{tmp_path}/log", module=("-c", SUBCLASS))
    handle.get("/")
    assert re.search(r"cdaphne\[\d+\]: own 127.0.0.1:\d+ GET /$", syslog.receive())


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("syslog:/nowhere/log", "cannot be reached: No such file or directory; is a system log"),
        ("syslog:facility=x", "no facility 'x'; there are auth, authpriv"),
        ("syslog:level=x", "syslog takes no 'level'; it takes address, facility, tag, host, port"),
        ("syslog:/a:/b", "too many fields"),
        ("syslog:host=h:port=0", "port is '0'; give 1 to 65535"),
        ("syslog:host=no.such.host.invalid", "cannot be reached"),
        ("syslog:\\", "the backslash at its end escapes nothing"),
    ],
)
def test_bad_syslog_targets(target: str, says: str) -> None:
    with pytest.raises(SyslogError, match=re.escape(says)):
        Syslog(target)
    for look in (check_target, lambda target: access_stream(target, 1)):
        with pytest.raises(AccessLogError, match=re.escape(says)):
            look(target)


def test_check_of_a_file_leaves_no_file(tmp_path: Path) -> None:
    check_target(str(tmp_path / "log"))
    assert os.listdir(tmp_path) == []
    (tmp_path / "there").touch()
    check_target(str(tmp_path / "there"))
    with pytest.raises(AccessLogError, match="cannot be opened: Is a directory"):
        check_target(str(tmp_path))
