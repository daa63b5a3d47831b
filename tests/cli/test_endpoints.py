"""Endpoint strings and the sockets that they open."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pyasgi.endpoints import (
    EndpointError,
    Listener,
    build_endpoint_description_strings,
    open_endpoint,
    parse,
    split_fields,
)
from tests.support.ipv6 import needs_ipv6
from tests.support.programs import ROOT
from tests.support.servers import Servers

# ---- strings ----


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, []),
        ({"host": "h", "port": 1}, ["tcp:port=1:interface=h"]),
        ({"host": "h", "port": 0}, ["tcp:port=0:interface=h"]),
        ({"host": "::1", "port": 1}, [r"tcp:port=1:interface=\:\:1"]),
        ({"host": "[::1]", "port": 1}, [r"tcp:port=1:interface=\:\:1"]),
        ({"unix_socket": "/tmp/a"}, ["unix:/tmp/a"]),
        ({"unix_socket": "/tmp/a:b"}, [r"unix:/tmp/a\:b"]),
        ({"unix_socket": "/tmp/a=b"}, ["unix:address=/tmp/a=b"]),
        ({"file_descriptor": 0}, ["fd:fileno=0"]),
        (
            {"unix_socket": "/a", "unix_socket_mode": "660", "unix_socket_group": "g:h"},
            [r"unix:/a:mode=660:group=g\:h"],
        ),
        (
            {"host": "h", "port": 1, "unix_socket": "/s", "file_descriptor": 5},
            ["tcp:port=1:interface=h", "unix:/s", "fd:fileno=5"],
        ),
    ],
)
def test_build(arguments: dict[str, object], expected: list[str]) -> None:
    assert build_endpoint_description_strings(**arguments) == expected  # type: ignore[arg-type]


def test_build_with_tls() -> None:
    built = build_endpoint_description_strings("h", 1, "/s", 5, tls=True)
    assert built == ["tcp:port=1:interface=h:tls=yes", "unix:/s:tls=yes", "fd:fileno=5:tls=yes"]


def test_tls_with_a_port_is_ssl() -> None:
    parameters = {"port": "443", "privateKey": "k"}
    assert parse("tls:443:k") == parse("tls:port=443:privateKey=k") == ("ssl", parameters)


@pytest.mark.parametrize("arguments", [{"host": "h"}, {"port": 1}, {"port": 0}])
def test_build_needs_host_and_port(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="both host and port"):
        build_endpoint_description_strings(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ["/a:b", "/a=b", "/a\\b", "/a b", "/ä", "x=:y"])
def test_build_and_parse_are_inverse(path: str) -> None:
    (text,) = build_endpoint_description_strings(unix_socket=path)
    assert parse(text) == ("unix", {"address": path})


@pytest.mark.parametrize(
    ("text", "positional", "keywords"),
    [
        ("tcp:80", ["tcp", "80"], {}),
        (r"tcp:80:interface=\:\:1", ["tcp", "80"], {"interface": "::1"}),
        ("a:b=c=d", ["a"], {"b": "c=d"}),
        (r"a:b\=c", ["a", "b=c"], {}),
        (r"a\\:b", ["a\\", "b"], {}),
        ("a::b", ["a", "", "b"], {}),
        ("a:", ["a", ""], {}),
        ("a:k=", ["a"], {"k": ""}),
    ],
)
def test_split(text: str, positional: list[str], keywords: dict[str, str]) -> None:
    assert split_fields(text) == (positional, keywords)


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("tcp:8000:127.0.0.1:5", {"port": "8000", "interface": "127.0.0.1", "backlog": "5"}),
        ("tcp:interface=h:port=1", {"interface": "h", "port": "1"}),
        ("tcp6:1:2:x", {"port": "1", "backlog": "2", "interface": "x"}),
        ("unix:/a:user=u:group=g", {"address": "/a", "user": "u", "group": "g"}),
        ("unix:/a:660:7:0", {"address": "/a", "mode": "660", "backlog": "7", "lockfile": "0"}),
        ("fd:3:INET", {"fileno": "3", "domain": "INET"}),
        ("systemd:INET:0", {"domain": "INET", "index": "0"}),
        ("unix:/a:certfile=c:keyfile=k", {"address": "/a", "certfile": "c", "keyfile": "k"}),
        ("ssl:443:k:c", {"port": "443", "privateKey": "k", "certKey": "c"}),
        ("tls:/certs:8443", {"path": "/certs", "port": "8443"}),
        ("systemd:domain=UNIX:name=web", {"domain": "UNIX", "name": "web"}),
    ],
)
def test_parse(text: str, parameters: dict[str, str]) -> None:
    assert parse(text) == (text.split(":")[0], parameters)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no type"),
        (":80", "no type"),
        ("http:80", "no type 'http'; there are fd, ssl, systemd, tcp, tcp6, tls, unix"),
        ("tcp", "needs 'port'"),
        ("tcp:", "needs 'port'"),
        ("tcp:80:h:5:x", "too many fields"),
        ("tcp:::1", "needs 'port'"),
        ("tcp:80:port=80", "given twice"),
        ("tcp:interface=a:interface=b:port=1", "given twice"),
        ("tcp:80:host=h", "takes no 'host'; it takes port, interface, backlog"),
        ("tcp:80\\", "backslash"),
        ("unix:", "needs 'address'"),
        ("fd:", "needs 'fileno'"),
        ("ssl:", "ssl needs 'port'"),
        ("ssl:443:privateKey=k:sslmethod=TLSv1_METHOD", "sslmethod is 'TLSv1_METHOD'"),
        ("ssl:443:certfile=k", "ssl takes no 'certfile'"),
        ("tls:", "tls needs 'path'"),
        ("tls:/etc/certs:port=x", "port is 'x'; give 0 to 65535"),
        ("tls:443:sslmethod=x", "sslmethod is 'x'"),
        ("tcp:0:tls=maybe", "tls is 'maybe'; give yes or no"),
        ("tcp:0:tls=yes", "tls=yes needs a certificate; give certfile= or --certfile"),
        ("fd:0:keyfile=k", "keyfile needs certfile"),
        ("tcp:0:certfile=:keyfile=k", "certfile is empty; give the certificate's file"),
        ("tcp:http", "port is 'http'; give 0 to 65535"),
        ("tcp:65536", "port is '65536'; give 0 to 65535"),
        ("tcp:-1", "port is '-1'; give 0 to 65535"),
        ("tcp:0:backlog=0", "backlog is '0'; give 1 to 65535"),
        ("unix:/nowhere/x:mode=999", "mode is '999'; give 0 to 777 in octal"),
        ("unix:/nowhere/x:user=nobody-has-it", "no user 'nobody-has-it'; give one that it has"),
        ("unix:/nowhere/x:group=nobody-has-it", "no group 'nobody-has-it'; give one that it has"),
        ("unix:/nowhere/x:user=99999999999", "user is '99999999999'; give 0 to 4294967294"),
        ("unix:/nowhere/x:mode=1777", "mode is '1777'; give 0 to 777 in octal"),
        ("fd:fileno=x", "fileno is 'x'"),
        ("fd:fileno=-3", "fileno is '-3'"),
        ("systemd:domain=IPX:index=0", "domain is 'IPX'; give INET, INET6 or UNIX"),
        ("tcp:0:interface=no.such.host.invalid", "does not resolve"),
        ("tcp:0:interface=192.0.2.1", "not an address of this machine"),
    ],
)
def test_bad_strings(text: str, says: str) -> None:
    with pytest.raises(EndpointError) as caught:
        open_endpoint(text)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


# ---- TCP ----


def accepts(family: int, address: object) -> bool:
    with socket.socket(family) as client:
        client.settimeout(5)
        return client.connect_ex(address) == 0  # type: ignore[arg-type]


@pytest.mark.parametrize("interface", ["", ":interface=", ":interface=0", ":interface=0.0.0.0"])
def test_tcp_wildcards(interface: str) -> None:
    (listener,) = open_endpoint(f"tcp:0{interface}")
    with listener.sock:
        host, port = listener.address() or ("", 0)
        assert host == "0.0.0.0"
        assert not listener.sock.getblocking()
        assert not listener.sock.get_inheritable()
        assert accepts(socket.AF_INET, ("127.0.0.1", port))


@needs_ipv6
def test_ipv6_address() -> None:
    for text in (r"tcp:0:interface=\:\:1", r"tcp:0:interface=[\:\:1]", r"tcp6:0:interface=\:\:1"):
        (listener,) = open_endpoint(text)
        with listener.sock:
            host, port = listener.address() or ("", 0)
            assert host == "::1"
            assert accepts(socket.AF_INET6, ("::1", port))


@needs_ipv6
def test_ipv6_wildcard_serves_ipv4_too() -> None:
    (listener,) = open_endpoint("tcp6:0")
    with listener.sock:
        port = (listener.address() or ("", 0))[1]
        assert accepts(socket.AF_INET6, ("::1", port))
        assert accepts(socket.AF_INET, ("127.0.0.1", port))


@needs_ipv6
def test_both_wildcards_on_one_port(free_port: int) -> None:
    texts = [rf"tcp6:{free_port}:interface=\:\:", f"tcp:{free_port}:interface=0.0.0.0"]
    for order in (texts, texts[::-1]):
        listeners = [listener for text in order for listener in open_endpoint(text, order)]
        assert sorted(listener.family for listener in listeners) == [
            socket.AF_INET,
            socket.AF_INET6,
        ]
        for listener in listeners:
            listener.close()


@needs_ipv6
def test_a_name_binds_all_its_addresses_on_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    def addresses(host: str, port: int, *args: object, **kwargs: object) -> list[object]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", addresses)
    listeners = open_endpoint("tcp:0:interface=both.test")
    found = [listener.address() for listener in listeners]
    assert [address and address[0] for address in found] == ["::1", "127.0.0.1"]
    assert len({address and address[1] for address in found}) == 1
    for listener in listeners:
        listener.close()


def test_an_address_that_the_machine_lacks_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def addresses(host: str, port: int, *args: object, **kwargs: object) -> list[object]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", port, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", addresses)
    (listener,) = open_endpoint("tcp:0:interface=half.test")
    assert (listener.address() or ("", 0))[0] == "127.0.0.1"
    listener.close()


def test_port_in_use() -> None:
    (first,) = open_endpoint("tcp:0:interface=127.0.0.1")
    port = (first.address() or ("", 0))[1]
    with pytest.raises(EndpointError, match=rf"127\.0\.0\.1:{port}: address already in use; .*-p"):
        open_endpoint(f"tcp:{port}:interface=127.0.0.1")
    first.close()
    (second,) = open_endpoint(f"tcp:{port}:interface=127.0.0.1")  # SO_REUSEADDR
    second.close()


# ---- unix ----


def open_unix(path: Path, options: str = "") -> Listener:
    (listener,) = open_endpoint(f"unix:{path}{options}")
    return listener


def test_unix_mode_and_removal(tmp_path: Path) -> None:
    path = tmp_path / "s"
    umask = os.umask(0o077)
    try:
        for options, mode in (
            ("", 0o666),
            (":mode=600", 0o600),
            (":mode=777", 0o777),
            (":660", 0o660),
        ):
            listener = open_unix(path, options)
            assert stat.S_IMODE(path.stat().st_mode) == mode
            assert accepts(socket.AF_UNIX, str(path))
            assert sorted(entry.name for entry in tmp_path.iterdir()) == ["s"]  # no lock file
            listener.close()
            assert not path.exists()
    finally:
        os.umask(umask)


def test_unix_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    assert path.exists()
    listener = open_unix(path)
    assert accepts(socket.AF_UNIX, str(path))
    listener.close()


def test_unix_live_socket_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "s"
    first = open_unix(path, ":backlog=1")
    fillers = [socket.socket(socket.AF_UNIX) for _ in range(4)]
    for filler in fillers:  # a full backlog is alive too
        filler.setblocking(False)
        filler.connect_ex(str(path))
        with pytest.raises(EndpointError, match="another server is listening"):
            open_unix(path)
    for filler in fillers:
        filler.close()
    first.close()


def test_unix_successor_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    first = open_unix(path)
    path.unlink()
    second = open_unix(path)
    first.close()
    assert path.exists()
    second.close()
    assert not path.exists()


def test_unix_removal_by_others_is_no_error(tmp_path: Path) -> None:
    listener = open_unix(tmp_path / "s")
    (tmp_path / "s").unlink()
    listener.close()


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("nowhere/s", "there is no directory"),
        ("file", "exists and is not a socket"),
        ("x" * 120, "bytes, 107 are allowed"),
        ("dir", "exists and is not a socket"),
    ],
)
def test_unix_bad_paths(tmp_path: Path, path: str, says: str) -> None:
    (tmp_path / "file").write_text("keep me")
    (tmp_path / "dir").mkdir()
    with pytest.raises(EndpointError, match=says):
        open_unix(tmp_path / path)
    assert (tmp_path / "file").read_text() == "keep me"


# ---- inherited descriptors ----


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_fd_of_any_family(family: int, tmp_path: Path) -> None:
    original = socket.socket(family)
    original.bind(str(tmp_path / "s") if family == socket.AF_UNIX else ("127.0.0.1", 0))
    original.listen()
    name = original.getsockname()
    number = original.detach()
    (listener,) = open_endpoint(f"fd:fileno={number}", owned=True)
    assert listener.family == family
    assert not listener.sock.get_inheritable()
    assert accepts(family, name)
    listener.close()
    assert not accepts(family, name), "the original descriptor was left open"
    assert (tmp_path / "s").exists() == (family == socket.AF_UNIX), "the path belongs to its maker"


def test_fd_faults(tmp_path: Path) -> None:
    def refused(number: int, says: str) -> None:
        with pytest.raises(EndpointError, match=rf"descriptor {number} \(--fd\): {says}"):
            open_endpoint(f"fd:fileno={number}")

    refused(999_999, "it is not open")
    with (tmp_path / "f").open("w") as file:
        refused(file.fileno(), "it is not a socket")
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        refused(sock.fileno(), "it is not a stream socket")
    with socket.socket() as sock:
        refused(sock.fileno(), "it does not listen")
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)  # still open: it was not adopted


def systemd(monkeypatch: pytest.MonkeyPatch, names: str = "", count: int = 1, pid: int = 0) -> None:
    monkeypatch.setenv("LISTEN_PID", str(pid or os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", str(count))
    monkeypatch.setenv("LISTEN_FDNAMES", names)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("systemd:domain=INET", "give either index=N or name=NAME"),
        ("systemd:domain=INET:index=0:name=a", "give either index=N or name=NAME"),
        ("systemd:domain=INET:index=2", "systemd passed 2 sockets, the first has index 0"),
        ("systemd:domain=INET:name=c", "systemd passed 'a', 'b'"),
    ],
)
def test_systemd_faults(monkeypatch: pytest.MonkeyPatch, text: str, says: str) -> None:
    systemd(monkeypatch, "a:b", 2)
    with pytest.raises(EndpointError, match=says):
        open_endpoint(text)


def test_systemd_for_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    systemd(monkeypatch, pid=1)
    with pytest.raises(EndpointError, match="passed no sockets to this process"):
        open_endpoint("systemd:domain=INET:index=0")
    monkeypatch.delenv("LISTEN_PID")
    with pytest.raises(EndpointError, match="passed no sockets to this process"):
        open_endpoint("systemd:domain=INET:index=0")


@pytest.mark.parametrize("count", ["", "two", "²", "-1"])
def test_systemd_without_a_number(monkeypatch: pytest.MonkeyPatch, count: str) -> None:
    systemd(monkeypatch)
    monkeypatch.setenv("LISTEN_FDS", count)
    with pytest.raises(EndpointError, match=f"LISTEN_FDS is '{count}', not a number"):
        open_endpoint("systemd:domain=INET:index=0")


SYSTEMD_CHILD = """
import os, socket, sys
from pyasgi.endpoints import EndpointError, open_endpoint
os.environ["LISTEN_PID"] = str(os.getpid())
try:
    (listener,) = open_endpoint(sys.argv[1])
except EndpointError as error:
    sys.exit(str(error))
print(listener.family.name, listener.sock.getsockname())
"""


@pytest.mark.parametrize(
    ("text", "status", "says"),
    [
        ("systemd:domain=INET:index=0", 0, "AF_INET ("),
        ("systemd:domain=UNIX:index=1", 0, "AF_UNIX"),
        ("systemd:name=path:domain=UNIX", 0, "AF_UNIX"),
        ("systemd:name=web", 0, "AF_INET ("),
        ("systemd:domain=INET6:name=web", 1, "family is not INET6"),
    ],
)
def test_systemd_sockets(tmp_path: Path, text: str, status: int, says: str) -> None:
    with socket.socket() as web, socket.socket(socket.AF_UNIX) as path:
        web.bind(("127.0.0.1", 0))
        path.bind(str(tmp_path / "s"))
        for sock in (web, path):
            sock.listen()
        env = {**os.environ, "LISTEN_FDS": "2", "LISTEN_FDNAMES": "web:path"}
        # The shell puts them at 3 and 4, where systemd passes its sockets.
        shell = f'exec 10<&{web.fileno()} 11<&{path.fileno()} 3<&10 4<&11; exec "$@"'
        child = subprocess.run(
            ["bash", "-c", shell, "bash", sys.executable, "-c", SYSTEMD_CHILD, text],
            env=env,
            cwd=ROOT,
            pass_fds=(web.fileno(), path.fileno()),
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert child.returncode == status, child.stderr
    assert says in (child.stdout if status == 0 else child.stderr)


# ---- through the command line ----


def test_every_kind_at_once(server: Servers, tmp_path: Path) -> None:
    inherited = socket.socket()
    inherited.bind(("127.0.0.1", 0))
    inherited.listen()
    number = inherited.fileno()
    path = tmp_path / "s"
    handle = server.start(
        "tests.apps.basic:app",
        "--fd",
        str(number),
        "-e",
        f"unix:{path}:mode=600",
        "-e",
        "tcp:0:interface=127.0.0.1",
        pass_fds=(number,),
    )
    handle.wait_for_log(r"(?s)(Listening on TCP address.*){3}")
    port = inherited.getsockname()[1]
    inherited.close()
    assert f"Listening on TCP address 127.0.0.1:{port}" in handle.stderr()
    assert handle.get("/").body == b"hello"
    handle.port = port
    assert handle.get("/").body == b"hello"
    handle.unix = str(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert handle.get("/").body == b"hello"
    assert handle.stop() == 0
    assert not path.exists()


def test_all_endpoints_are_attempted(server: Servers, tmp_path: Path) -> None:
    bind = (
        "-u",
        f"{tmp_path}/nowhere/s",
        "-e",
        "tcp:0:interface=192.0.2.1",
        "-e",
        "ssl:443",
        "-p",
        "0",
    )
    handle = server.spawn("tests.apps.basic:app", bind=bind)
    handle.expect_errors(1)
    assert handle.wait() == 1
    log = handle.stderr()
    assert log.count("CRITICAL Listen failure: ") == 3
    assert "Traceback" not in log
    assert "Listening on" not in log


def test_socket_path_without_server_is_taken_over_after_a_kill(
    server: Servers, tmp_path: Path
) -> None:
    path = tmp_path / "s"
    first = server.start(unix=path)
    first.process.kill()
    first.expect_errors(-9)
    first.wait()
    assert path.exists()
    second = server.start(unix=path)
    assert second.get("/").body == b"hello"


# ---- owners of unix sockets ----


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give files away")
@pytest.mark.parametrize(
    ("owner", "user", "group"),
    [
        ("user=nobody", "nobody", "root"),
        ("group=www-data", "root", "www-data"),
        ("user=65534:group=33", "nobody", "www-data"),
    ],
)
def test_owner_of_a_unix_socket(tmp_path: Path, owner: str, user: str, group: str) -> None:
    path = tmp_path / "s"
    (listener,) = open_endpoint(f"unix:{path}:mode=660:{owner}")
    with contextlib.closing(listener):
        assert (path.owner(), path.group()) == (user, group)
        assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_owner_that_this_user_may_not_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    path = tmp_path / "s"
    with pytest.raises(
        EndpointError, match="this user may not give it to another; leave user= out"
    ):
        open_endpoint(f"unix:{path}:user=nobody")
    assert not path.exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give files away")
def test_owner_flags(server: Servers, tmp_path: Path) -> None:
    path = tmp_path / "s"
    flags = (
        "--unix-socket-mode",
        "600",
        "--unix-socket-user",
        "nobody",
        "--unix-socket-group",
        "33",
    )
    handle = server.start("tests.apps.basic:app", *flags, unix=path)
    assert (path.owner(), path.group()) == ("nobody", "www-data")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert handle.get("/").status == 200
    assert handle.stop() == 0
    assert not path.exists()
