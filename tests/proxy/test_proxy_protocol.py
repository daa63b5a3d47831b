"""PROXY protocol: what the header says reaches the application, and who may not send one is turned away."""

from __future__ import annotations

import json
import re
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.support.authority import Authority
from tests.support.client import RawClient
from tests.support.handle import Handle
from tests.support.programs import FOREIGN, ROOT
from tests.support.proxy_header import INET, SIGNATURE, tls_facts, tlv, v2
from tests.support.servers import Servers
from tests.support.wait import wait_for

APP = "tests.apps.basic:app"
GET = b"GET /scope HTTP/1.1\r\nHost: t\r\n\r\n"
V1 = b"PROXY TCP4 192.0.2.7 203.0.113.9 4711 443\r\n"


def scope_behind(handle: Handle, header: bytes, request: bytes = GET) -> dict[str, Any]:
    with handle.connect() as client:
        answer = client.request(header + request)
        assert answer.status == 200
        scope = json.loads(answer.body)
        again = json.loads(client.request(request).body)
    assert isinstance(scope, dict)
    assert again["client"] == scope["client"], "the header is the connection's, not the request's"
    return scope


def refused(handle: Handle, data: bytes, why: str) -> None:
    with handle.connect() as client:
        client.send(data)
        assert client.closed()
    handle.wait_for_log(rf"INFO +Connection of 127\.0\.0\.1 refused: {why}")
    assert handle.stdout() == "", "no application ran"


@pytest.fixture
def required(server: Servers) -> Handle:
    return server.start(APP, "--proxy-protocol", "required")


# ---- what it says ----


@pytest.mark.parametrize("header", [V1, v2()], ids=["v1", "v2"])
def test_addresses(required: Handle, header: bytes) -> None:
    scope = scope_behind(required, header)
    assert scope["client"] == ["192.0.2.7", 4711]
    assert scope["server"] == ["203.0.113.9", 443]
    assert scope["scheme"] == "http"
    wait_for(lambda: required.stdout().count("192.0.2.7:4711 - - [") == 2)


def test_ipv6(required: Handle) -> None:
    scope = scope_behind(required, b"PROXY TCP6 2001:db8::1 ::1 4711 443\r\n")
    assert scope["client"] == ["2001:db8::1", 4711]
    ends = socket.inet_pton(socket.AF_INET6, "2001:db8::1") + bytes(15) + b"\1"
    scope = scope_behind(required, v2(ends + b"\x12\x67\x01\xbb", family=0x21))
    assert (scope["client"], scope["server"]) == (["2001:db8::1", 4711], ["::1", 443])


def test_unix(required: Handle) -> None:
    ends = b"/tmp/client".ljust(108, b"\0") + b"/tmp/server".ljust(108, b"\0")
    scope = scope_behind(required, v2(ends, family=0x31))
    assert (scope["client"], scope["server"]) == (None, None)


@pytest.mark.parametrize(
    ("trust", "client"), [("127.0.0.1,unix:", None), ("*", ["198.51.100.1", 0])]
)
def test_unix_client_of_the_proxy_is_none_of_ours(
    server: Servers, trust: str, client: list[object] | None
) -> None:
    """Of unix: in the list are our own sockets, not what a header tells of, perhaps on another machine."""
    handle = server.start(
        APP, "--proxy-protocol=required", "--proxy-headers", f"--forwarded-allow-ips={trust}"
    )
    request = GET[:-2] + b"X-Forwarded-For: 198.51.100.1\r\nDaphne-Root-Path: /r\r\n\r\n"
    scope = scope_behind(handle, v2(bytes(216), family=0x31), request)
    assert scope["client"] == client
    assert scope["root_path"] == ("" if client is None else "/r")


@pytest.mark.parametrize(
    "header", [b"PROXY UNKNOWN\r\n", v2(b"", 0x20, 0), v2(INET, 0x20), v2(b"", 0x21, 0)]
)
def test_connection_of_the_proxys_own(required: Handle, header: bytes) -> None:
    scope = scope_behind(required, header)
    assert scope["client"][0] == "127.0.0.1"
    assert scope["server"] == ["127.0.0.1", required.port]


def test_tls_at_the_proxy(required: Handle) -> None:
    facts = tls_facts(version=b"TLSv1.3", cipher=b"TLS_AES_256_GCM_SHA384") + tlv(1, b"http/1.1")
    assert scope_behind(required, v2(INET + facts))["scheme"] == "https"
    assert scope_behind(required, v2(INET + tls_facts(client=0)))["scheme"] == "http"
    sock = socket.create_connection((required.host, required.port), 10)
    sock.sendall(v2(INET + facts))
    with connect(f"{required.ws_url}/chat", sock=sock) as client:
        client.send("scope")
        scope = json.loads(client.recv(timeout=10))
    assert (scope["scheme"], scope["client"]) == ("wss", ["192.0.2.7", 4711])


def test_extension_from_the_proxys_words(required: Handle) -> None:
    """There is no TLS between the two of us; the proxy tells of that between the client and itself."""
    words = tls_facts(
        client=7, version=b"TLSv1.3", cipher=b"TLS_AES_128_GCM_SHA256", name=b"Alice, Inc"
    )
    assert scope_behind(required, v2(INET + words))["extensions"]["tls"] == {
        "server_cert": None,
        "client_cert_chain": [],
        "client_cert_name": "CN=Alice\\, Inc",
        "client_cert_error": None,
        "tls_version": 0x0304,
        "cipher_suite": 0x1301,
    }
    words = tls_facts(client=3, verify=1, version=b"TLSv9", cipher=b"NEW", name=b" #a\0")
    tls = scope_behind(required, v2(INET + words))["extensions"]["tls"]
    assert (tls["tls_version"], tls["cipher_suite"]) == (None, None)
    assert tls["client_cert_name"] == "CN=\\ #a\\00"
    assert tls["client_cert_error"] == "the proxy could not verify it"
    tls = scope_behind(required, v2(INET + tls_facts(name=b"Mallory")))["extensions"]["tls"]
    assert tls["client_cert_name"] is None, "no certificate was shown"
    plain = scope_behind(required, v2(INET + tls_facts(client=0, name=b"x")))
    assert "tls" not in plain["extensions"]


def test_ciphers_have_openssls_numbers() -> None:
    source = (ROOT / "csrc/core/proxy/proxy_facts.c").read_text()
    listed = dict(re.findall(r'\{"([A-Z0-9_-]+)", (0x[0-9a-f]{4})\}', source))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    known = {entry["name"]: entry["id"] & 0xFFFF for entry in context.get_ciphers()}
    checked = {name: int(number, 16) for name, number in listed.items() if name in known}
    assert checked == {name: known[name] for name in checked}
    assert len(checked) > 20


def test_tls_behind_the_header(server: Servers, tmp_path: Path) -> None:
    """Passed on without a look inside: the client's own TLS, and the addresses of the proxy's header."""
    authority = Authority(tmp_path)
    site = authority.issue("site")
    handle = server.start(
        APP,
        "--proxy-protocol=optional",
        f"--certfile={site.cert}",
        f"--keyfile={site.key}",
    )
    context = ssl.create_default_context(cafile=str(authority.cert))
    for header, client in ((V1, "192.0.2.7"), (v2(), "192.0.2.7"), (b"", "127.0.0.1")):
        sock = handle.connect().sock
        sock.sendall(header)
        with RawClient(context.wrap_socket(sock, server_hostname="localhost")) as secure:
            scope = json.loads(secure.request(GET).body)
        assert (scope["client"][0], scope["scheme"]) == (client, "https")
        assert scope["extensions"]["tls"]["server_cert"] is not None
    assert curl("--cacert", str(authority.cert), f"https://localhost:{handle.port}/") == "hello"


def test_headers_come_after_it(server: Servers) -> None:
    """The addresses of the header are those of the peer: it is asked whether that one is trusted."""
    trusting = server.start(
        APP,
        "--proxy-protocol=required",
        "--proxy-headers",
        "--forwarded-allow-ips=127.0.0.1,192.0.2.0/24",
    )
    request = GET[:-2] + b"X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-Proto: https\r\n\r\n"
    scope = scope_behind(trusting, V1, request)
    assert (scope["client"], scope["scheme"]) == (["198.51.100.1", 0], "https")
    wary = server.start(APP, "--proxy-protocol=required", "--proxy-headers")
    scope = scope_behind(wary, V1, request)
    assert (scope["client"], scope["scheme"]) == (["192.0.2.7", 4711], "http")


# ---- how it comes ----


@pytest.mark.parametrize("header", [V1, v2(INET + tls_facts(name=b"Alice"))], ids=["v1", "v2"])
@pytest.mark.parametrize("mode", ["required", "optional"])
def test_byte_by_byte(server: Servers, header: bytes, mode: str) -> None:
    handle = server.start(APP, "--proxy-protocol", mode)
    with handle.connect() as client:
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in header:
            client.send(bytes([byte]))
            time.sleep(0.002)
        assert json.loads(client.request(GET).body)["client"] == ["192.0.2.7", 4711]


def test_optional(server: Servers) -> None:
    handle = server.start(APP, "--proxy-protocol", "optional")
    assert scope_behind(handle, V1)["client"] == ["192.0.2.7", 4711]
    assert scope_behind(handle, b"")["client"][0] == "127.0.0.1"
    with handle.connect() as client:
        client.send(b"PRO")  # may be PROXY and may be PROPFIND
        time.sleep(0.1)
        assert client.request(b"PFIND /scope HTTP/1.1\r\nHost: t\r\n\r\n").status == 200


def test_slow_client_where_it_is_optional(server: Servers) -> None:
    handle = server.start(APP, "--proxy-protocol", "optional", "--proxy-timeout", "0.1")
    with handle.connect() as client:
        time.sleep(0.5)
        assert client.request(GET).status == 200


@pytest.mark.parametrize(
    "endpoint",
    [
        "tcp:0:interface=127.0.0.1:proxy=required",
        "haproxy:tcp:0:interface=127.0.0.1",
        "haproxy:tcp6:0",
        "tcp:port=0:proxy=optional",
    ],
)
def test_endpoints(server: Servers, endpoint: str) -> None:
    handle = server.start(APP, "-e", endpoint, bind=())
    handle.host = "127.0.0.1"
    assert scope_behind(handle, V1)["client"] == ["192.0.2.7", 4711]


def test_other_endpoints_stay_as_they_are(server: Servers, tmp_path: Path, free_port: int) -> None:
    handle = server.start(
        APP, "-e", f"tcp:{free_port}:interface=127.0.0.1:proxy=required", unix=tmp_path / "s"
    )
    assert json.loads(handle.get("/scope").body)["client"] is None
    handle.unix, handle.host, handle.port = None, "127.0.0.1", free_port
    assert scope_behind(handle, v2())["client"] == ["192.0.2.7", 4711]


def test_unix_socket(server: Servers, tmp_path: Path) -> None:
    handle = server.start(APP, "--proxy-protocol", "required", unix=tmp_path / "s")
    assert scope_behind(handle, v2())["client"] == ["192.0.2.7", 4711]


# ---- attacks ----


def test_no_header_where_it_is_required(required: Handle) -> None:
    refused(required, GET, "it does not begin with a PROXY header")


def test_tls_where_it_is_required(required: Handle) -> None:
    context = ssl.create_default_context()
    with (
        required.connect() as client,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        context.wrap_socket(client.sock, server_hostname="t")


@pytest.mark.parametrize("mode", ["required", "optional"])
@pytest.mark.parametrize("header", [V1, v2()], ids=["v1", "v2"])
def test_untrusted_peer(server: Servers, mode: str, header: bytes) -> None:
    handle = server.start(APP, "--proxy-protocol", mode, "--forwarded-allow-ips", "10.0.0.0/8")
    refused(
        handle,
        header + GET,
        r"a PROXY header is believed of trusted peers only \(--forwarded-allow-ips\)",
    )
    if mode == "optional":
        assert scope_behind(handle, b"")["client"][0] == "127.0.0.1"


def test_header_where_none_is_wanted(server: Servers) -> None:
    handle = server.start(APP)
    with handle.connect() as client:
        client.send(V1 + GET)
        assert client.read_all().startswith((b"HTTP/1.1 4", b"HTTP/1.1 5"))


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (SIGNATURE + b"\x21\x11\xff\xff", r"it is too long \(--max-proxy-size\)"),
        (v2(INET + b"\x01\xff\xffx"), "a TLV runs over its end"),
        (v2(INET + b"\x01"), "a TLV runs over its end"),
        (v2(INET + tlv(0x20, b"\x01\0\0\0\0\x21\0\x09x")), "its TLS part runs over its end"),
        (v2(INET + tlv(3, b"\0\0\0\0")), "its checksum is wrong"),
        (v2(INET[:-1]), "its addresses are not of TCP or unix sockets, or are cut short"),
        (v2(command=0x22), "its version or command is unknown"),
        (b"PROXY TCP4 evil 203.0.113.9 1 2\r\n", "an address in it is none"),
        (b"PROXY TCP4 " + b"x" * 200, "its line does not end"),
        (b"PROXY TCP4 192.0.2.7 203.0.113.9 1 2\n", "its line does not end with CR LF"),
    ],
)
def test_bad_header(required: Handle, header: bytes, why: str) -> None:
    refused(required, header + GET, f"its PROXY header is bad: {why}")


def test_longest_header(server: Servers) -> None:
    handle = server.start(APP, "--proxy-protocol", "required")
    padding = tlv(4, bytes(4096 - 16 - 12 - 3))
    assert scope_behind(handle, v2(INET + padding))["client"] == ["192.0.2.7", 4711]
    refused_too = v2(INET + tlv(4, bytes(4096 - 16 - 12 - 2)))
    with handle.connect() as client:
        client.send(refused_too)
        assert client.closed()


@pytest.mark.parametrize("part", [b"", V1[:20], v2()[:20]], ids=["silent", "v1", "v2"])
def test_silence(server: Servers, part: bytes) -> None:
    handle = server.start(APP, "--proxy-protocol", "required", "--proxy-timeout", "0.3")
    before = handle.fds()
    refused(handle, part, r"its PROXY header did not come in time \(--proxy-timeout\)")
    wait_for(lambda: handle.fds() == before)


def test_half_a_header_does_not_spin(server: Servers) -> None:
    """What came of it is off the socket, or epoll would report it for ever."""
    handle = server.start(APP, "--proxy-protocol", "optional")
    clients = [handle.connect() for _ in range(4)]
    for client, part in zip(clients, (V1[:20], v2()[:20], b"PRO", SIGNATURE[:5]), strict=True):
        client.send(part)
    used = cpu_seconds(handle)
    time.sleep(1)
    assert cpu_seconds(handle) - used < 0.5
    for client in clients:
        client.close()


def cpu_seconds(handle: Handle) -> float:
    fields = Path(f"/proc/{handle.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def test_check_of_a_load_balancer_is_no_news(required: Handle) -> None:
    for part in (b"", V1[:20]):
        with required.connect() as client:
            client.send(part)
    assert scope_behind(required, V1)["client"] == ["192.0.2.7", 4711]
    assert "refused" not in required.stderr()


def test_they_count_as_connections(server: Servers) -> None:
    handle = server.start(APP, "--proxy-protocol", "required", "--max-connections", "2")
    waiting = [handle.connect() for _ in range(2)]
    with handle.connect() as client:
        client.send(V1 + GET)
        client.sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv()
        waiting.pop().close()
        client.sock.settimeout(10)
        assert client.response().status == 200
    waiting.pop().close()


def test_stop(required: Handle) -> None:
    silent, half = required.connect(), required.connect()
    half.send(V1[:10])
    assert scope_behind(required, V1)
    begun = time.monotonic()
    required.signal(signal.SIGTERM)
    assert required.wait() == 0
    assert time.monotonic() - begun < 4, "nobody waits for --proxy-timeout"
    assert silent.closed()
    assert half.closed()
    silent.close()
    half.close()


def test_drain_reads_what_has_come(required: Handle) -> None:
    clients: list[RawClient] = []
    required.signal(signal.SIGSTOP)
    for _ in range(3):
        clients.append(required.connect())
        clients[-1].send(V1 + GET)
    required.signal(signal.SIGTERM)
    required.signal(signal.SIGCONT)
    for client in clients:
        assert client.response().status == 200
        client.close()
    assert required.wait() == 0


# ---- real ones ----


def curl(*args: str) -> str:
    """What curl prints; it does not run with ASan's library in front."""
    done = subprocess.run(
        ["curl", "-sS", "--haproxy-protocol", *args],
        capture_output=True,
        text=True,
        timeout=30,
        env=FOREIGN,
    )
    assert done.stderr == ""
    return done.stdout


def test_curl(required: Handle) -> None:
    scope, port = curl("-w", "\n%{local_port}", f"{required.url}/scope").rsplit("\n", 1)
    assert json.loads(scope)["client"] == ["127.0.0.1", int(port)]


@pytest.mark.parametrize("mode", ["required", "optional"])
def test_http2(server: Servers, mode: str) -> None:
    handle = server.start(APP, "--proxy-protocol", mode, "--proxy-headers")
    scope = json.loads(
        curl("--http2-prior-knowledge", "-H", "X-Forwarded-For: 192.0.2.7", f"{handle.url}/scope")
    )
    assert (scope["http_version"], scope["client"]) == ("2", ["192.0.2.7", 0])


# ---- an operator's mistakes ----


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("-e", "tcp:0:proxy=yes"), "proxy is 'yes'; give required, optional or off"),
        (("-e", "haproxy:"), "bad endpoint 'haproxy:': "),
        (("-e", "haproxy"), "haproxy stands before another type; give for example haproxy:tcp:800"),
        (("-e", "haproxy:tcp:0:proxy=off"), "haproxy says proxy=required; leave one of them out"),
        (("-e", "tcp:0:proxy=off:proxy=off"), "'proxy' is given twice; give it once"),
    ],
)
def test_bad_endpoint(server: Servers, args: tuple[str, ...], says: str) -> None:
    handle = server.spawn(APP, *args, bind=())
    handle.expect_errors()
    assert handle.wait() == 1
    assert says in handle.stderr()


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--proxy-protocol", "yes"), "argument --proxy-protocol: invalid choice: 'yes'"),
        (
            ("--proxy-protocol", "required", "-e", "tcp:0"),
            "--proxy-protocol is for -b, -p, -u and --fd; in an endpoint write tcp:8000:proxy=required",
        ),
    ],
)
def test_bad_flag(server: Servers, args: tuple[str, ...], says: str) -> None:
    handle = server.spawn(APP, *args, bind=())
    handle.expect_errors()
    assert handle.wait() == 2
    (line,) = handle.stderr().splitlines()
    assert says in line
