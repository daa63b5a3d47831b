"""What proxies say in headers: whom the server believes, and what the application sees of it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.support.client import RawClient
from tests.support.handle import Handle
from tests.support.nginx import Nginx
from tests.support.servers import Servers
from tests.support.wait import wait_for

APP = "tests.apps.basic:app"
FOR = {"X-Forwarded-For": "192.0.2.7"}


def scope_of(handle: Handle, headers: dict[str, str], path: str = "/scope") -> dict[str, Any]:
    scope = json.loads(handle.get(path, headers=headers).body)
    assert isinstance(scope, dict)
    return scope


@pytest.fixture
def behind(server: Servers) -> Handle:
    return server.start(APP, "--proxy-headers")


# ---- what the application sees ----


def test_everything_that_a_proxy_may_say(behind: Handle) -> None:
    headers = {
        "X-Forwarded-For": "10.1.1.1, 192.0.2.7, 127.0.0.1",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "www.example:8443",
        "X-Forwarded-Port": "4711",
        "X-Forwarded-Prefix": "/app%20a/",
    }
    scope = scope_of(behind, headers)
    assert scope["client"] == ["192.0.2.7", 4711]
    assert scope["scheme"] == "https"
    assert scope["server"] == ["www.example", 8443]
    assert scope["root_path"] == "/app a"
    seen = dict(map(tuple, scope["headers"]))
    assert seen["host"] == f"127.0.0.1:{behind.port}"
    assert {name.lower(): value for name, value in headers.items()}.items() <= seen.items()


def test_rfc7239(behind: Handle) -> None:
    value = 'for="[2001:db8::1]:4711";proto=https;host="www.example";by=10.0.0.1, for=127.0.0.1'
    scope = scope_of(behind, {"Forwarded": value})
    assert scope["client"] == ["2001:db8::1", 4711]
    assert scope["scheme"] == "https"
    assert scope["server"] == ["www.example", 443]


def test_x_forwarded_for_counts_before_forwarded(server: Servers) -> None:
    """A client can send the one that its proxy does not write."""
    both = {**FOR, "Forwarded": "for=198.51.100.9", "X-Forwarded-Prefix": "/made-up"}
    assert scope_of(server.start(APP, "--proxy-headers"), both)["client"] == ["192.0.2.7", 0]
    strict = server.start(APP, "--proxy-headers", "--proxy-headers-host", "Forwarded")
    scope = scope_of(strict, both)
    assert (scope["client"], scope["root_path"]) == (["198.51.100.9", 0], "")
    assert scope_of(strict, FOR)["client"][0] == "127.0.0.1"


@pytest.mark.parametrize(
    ("proto", "scheme"), [("https", "wss"), ("WSS", "wss"), ("http", "ws"), ("gopher", "ws")]
)
def test_scheme_of_a_websocket(behind: Handle, proto: str, scheme: str) -> None:
    headers = {**FOR, "X-Forwarded-Proto": proto}
    with connect(f"{behind.ws_url}/chat", additional_headers=headers) as client:
        client.send("scope")
        scope = json.loads(client.recv(timeout=10))
    assert (scope["client"], scope["scheme"]) == (["192.0.2.7", 0], scheme)


def test_client_that_nobody_knows(behind: Handle) -> None:
    """It must not become the proxy, which an application may trust more than strangers."""
    for headers in (
        {"X-Forwarded-For": "unknown"},
        {"X-Forwarded-For": "192.0.2.7, _hidden"},
        {"Forwarded": "for=_hidden"},
        {"Forwarded": 'for="192.0.2.7'},
        {"Forwarded": "proto=https"},
    ):
        assert scope_of(behind, headers)["client"] is None
    wait_for(lambda: behind.stdout().count("\n") == 5)
    assert all(line.startswith("None - - [") for line in behind.stdout().splitlines())


def test_root_path_header_beats_the_prefix(behind: Handle) -> None:
    headers = {**FOR, "X-Forwarded-Prefix": "/prefix", "Daphne-Root-Path": "/daphne"}
    assert scope_of(behind, headers)["root_path"] == "/daphne"


@pytest.mark.parametrize("prefix", ["//evil.example", "/%2Fevil.example", "/\\evil", "x", "/"])
def test_prefix_that_is_none(behind: Handle, prefix: str) -> None:
    assert scope_of(behind, {**FOR, "X-Forwarded-Prefix": prefix})["root_path"] == ""


# ---- whom ----


def test_untrusted_peer(server: Servers) -> None:
    handle = server.start(APP, "--proxy-headers", "--forwarded-allow-ips", "10.0.0.0/8,unix:")
    headers = {
        **FOR,
        "Forwarded": "for=192.0.2.8",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Prefix": "/evil",
        "Daphne-Root-Path": "/evil",
    }
    scope = scope_of(handle, headers)
    assert scope["client"][0] == "127.0.0.1"
    assert scope["client"][1] > 0
    assert scope["scheme"] == "http"
    assert scope["server"] == ["127.0.0.1", handle.port]
    assert scope["root_path"] == ""
    names = [name for name, _ in scope["headers"]]
    assert "x-forwarded-for" in names
    assert "forwarded" in names
    assert "daphne-root-path" not in names
    assert "192.0.2." not in handle.stdout()
    line = r"WARNING +Proxy headers from 127.0.0.1 dropped: .*\(--forwarded-allow-ips\)\n"
    handle.wait_for_log(line)
    scope_of(handle, headers)
    assert handle.stderr().count(" dropped: ") == 1, "once for an address"


def test_each_stranger_is_named_once_and_not_for_ever(server: Servers) -> None:
    handle = server.start(APP, "--proxy-headers", "--forwarded-allow-ips", "10.0.0.0/8")
    for last in range(1, 21):
        for _ in range(2):
            source = (f"127.0.1.{last}", 0)
            address = (handle.host, handle.port)
            with RawClient(socket.create_connection(address, 10, source)) as client:
                data = b"GET /scope HTTP/1.1\r\nHost: a\r\nForwarded: for=192.0.2.7\r\n\r\n"
                assert client.request(data).status == 200
    handle.wait_for_log(r"Proxy headers from 127.0.1.16 dropped: .* no further ones")
    assert handle.stderr().count(" dropped: ") == 16


def test_headers_while_they_are_switched_off(server: Servers) -> None:
    handle = server.start(APP, "-v", "2")
    for _ in range(3):
        assert scope_of(handle, FOR)["client"][0] == "127.0.0.1"
    handle.wait_for_log(r"DEBUG +Proxy headers from 127.0.0.1 dropped: .*\(--proxy-headers\)")
    assert handle.stderr().count(" dropped: ") == 1


def test_unix_socket(server: Servers, tmp_path: Path) -> None:
    trusting = server.start(APP, "--proxy-headers", unix=tmp_path / "a")
    assert scope_of(trusting, FOR)["client"] == ["192.0.2.7", 0]
    wary = server.start(
        APP, "--proxy-headers", "--forwarded-allow-ips", "127.0.0.1", unix=tmp_path / "b"
    )
    scope = scope_of(wary, {**FOR, "Daphne-Root-Path": "/evil"})
    assert (scope["client"], scope["root_path"]) == (None, "")


def test_list_without_proxy_headers_is_for_the_root_path(server: Servers) -> None:
    headers = {**FOR, "Daphne-Root-Path": "/r"}
    scope = scope_of(server.start(APP, "--forwarded-allow-ips", "127.0.0.0/8"), headers)
    assert (scope["client"][0], scope["root_path"]) == ("127.0.0.1", "/r")
    wary = server.start(APP, "--forwarded-allow-ips", "::1")
    assert scope_of(wary, headers)["root_path"] == ""
    wary.wait_for_log("Daphne-Root-Path from 127.0.0.1 dropped: .*--forwarded-allow-ips")


def test_dual_stack_socket(server: Servers) -> None:
    """An IPv4 peer has a mapped address there."""
    handle = server.start(
        APP, "--proxy-headers", "-e", "tcp6:0", "--forwarded-allow-ips", "127.0.0.1", bind=()
    )
    handle.host = "127.0.0.1"
    assert scope_of(handle, FOR)["client"] == ["192.0.2.7", 0]


def test_environment(server: Servers) -> None:
    handle = server.start(
        APP, "--proxy-headers", env={"CDAPHNE_FORWARDED_ALLOW_IPS": "10.0.0.0/8, ::1"}
    )
    assert scope_of(handle, FOR)["client"][0] == "127.0.0.1"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("localhost", "'localhost' is neither an address nor a network; give for example 10.0.0.1"),
        ("10.0.0.0/40", "'10.0.0.0/40' has no prefix length from 0 to 32 behind the /"),
        ("::1,10.1.2.3/8", "'10.1.2.3/8' has bits behind its prefix; give 10.0.0.0/8"),
    ],
)
def test_bad_list(server: Servers, value: str, says: str) -> None:
    handle = server.spawn(APP, "--forwarded-allow-ips", value)
    handle.expect_errors()
    assert handle.wait() == 2
    (line,) = handle.stderr().splitlines()
    assert f"argument --forwarded-allow-ips: {says}" in line


# ---- attacks ----


def test_64_hops(server: Servers) -> None:
    handle = server.start(APP, "--proxy-headers", "--forwarded-allow-ips", "10.0.0.0/8,127.0.0.1")
    chain = ", ".join(f"10.0.0.{number}" for number in range(64, 0, -1))
    assert scope_of(handle, {"X-Forwarded-For": chain})["client"] == ["10.0.0.32", 0]
    assert scope_of(handle, {"X-Forwarded-For": f"192.0.2.1, {chain}"})["client"] == [
        "10.0.0.32",
        0,
    ]
    more = server.start(APP, "--proxy-headers", "--proxy-max-hops", "100")
    assert scope_of(more, {"X-Forwarded-For": f"192.0.2.1{', 127.0.0.1' * 70}"})["client"] == [
        "192.0.2.1",
        0,
    ]


def test_100_kb(behind: Handle) -> None:
    long = "1.1.1.1," * 12_500
    request = f"GET /scope HTTP/1.1\r\nHost: t\r\nX-Forwarded-For: {long}\r\n\r\n"
    assert behind.raw(request.encode()).startswith(b"HTTP/1.1 431 ")
    longest = "x," * 10_000 + "192.0.2.7"
    assert scope_of(behind, {"X-Forwarded-For": longest})["client"] == ["192.0.2.7", 0]
    longest = 'for="x", ' * 2_500 + "for=192.0.2.7"
    assert scope_of(behind, {"Forwarded": longest})["client"] == ["192.0.2.7", 0]


@pytest.mark.parametrize("name", ["X_Forwarded_For", "X-Forwarded_For"])
def test_underscores_are_no_dashes(behind: Handle, name: str) -> None:
    assert scope_of(behind, {name: "192.0.2.7"})["client"][0] == "127.0.0.1"


def test_connection_of_several_clients(behind: Handle) -> None:
    """What is kept of a connection between requests is the peer's, not the client's."""
    with behind.connect() as client:
        for header, want in (
            ("X-Forwarded-For: 192.0.2.1", "192.0.2.1"),
            ("X-Forwarded-For: 192.0.2.2", "192.0.2.2"),
            ("A: b", "127.0.0.1"),
        ):
            answer = client.request(f"GET /scope HTTP/1.1\r\nHost: t\r\n{header}\r\n\r\n".encode())
            assert json.loads(answer.body)["client"][0] == want


# ---- behind nginx ----


@pytest.fixture
def nginx_front(server: Servers, tmp_path: Path, free_port: int) -> Iterator[tuple[Handle, Handle]]:
    handle = server.start(APP, "--proxy-headers")
    nginx = Nginx(tmp_path, free_port, f"127.0.0.1:{handle.port}")
    through = object.__new__(Handle)
    through.host, through.port, through.unix = "127.0.0.1", free_port, None
    try:
        yield handle, through
    finally:
        nginx.close()


def test_nginx_appends_its_peer(nginx_front: tuple[Handle, Handle]) -> None:
    """What a client claims stands left of nginx's word; here all of it is loopback."""
    _, through = nginx_front
    assert scope_of(through, {})["client"] == ["127.0.0.1", 0]
    scope = scope_of(through, {"X-Forwarded-For": "127.0.0.1, 203.0.113.5"})
    assert scope["client"] == ["203.0.113.5", 0]
    assert scope["scheme"] == "https"


def test_socket_of_this_machine_is_no_loopback(server: Servers) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
        try:
            route.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no address but loopback")
        own = route.getsockname()[0]
    handle = server.start(APP, "--proxy-headers", "-e", "tcp:0:interface=0.0.0.0", bind=())
    handle.host = own
    scope = scope_of(handle, {**FOR, "Daphne-Root-Path": "/r", "X-Forwarded-Proto": "https"})
    assert (scope["client"][0], scope["scheme"], scope["root_path"]) == (own, "http", "")
