"""TLS on the wire: handshakes, certificates, resumption, and connections that end well or badly.

Real clients: Python's ssl, curl, openssl s_client, websockets. Certificates are made by tests/support/authority.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import select
import socket
import ssl
import struct
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import websockets

from tests.support.authority import Authority, Issued
from tests.support.client import RawClient
from tests.support.handle import Handle
from tests.support.programs import FOREIGN
from tests.support.servers import Servers
from tests.support.wait import wait_for

pytestmark = pytest.mark.server

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
SCOPE = b"GET /scope HTTP/1.1\r\nHost: localhost\r\n\r\n"
TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
# What 200 handshakes under way may cost, all in all; ASan keeps up to 256 MiB more.
FLOOD_ROOM = (16 + ("libasan" in os.environ.get("LD_PRELOAD", "")) * 400) * 1024 * 1024


@pytest.fixture(scope="module")
def client_ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("clients"), "Client Authority")


@pytest.fixture(scope="module")
def alice(client_ca: Authority) -> Issued:
    return client_ca.issue("alice", "", subject="/C=DE/O=Bücher, Inc/CN=alice")


def start(
    server: Servers, site: Issued, *args: str, app: str = "tests.apps.basic:app", **more: Any
) -> Handle:
    return server.start(
        app, "--certfile", str(site.cert), "--keyfile", str(site.key), *args, **more
    )


def connect(
    handle: Handle,
    context: ssl.SSLContext,
    name: str = "localhost",
    session: ssl.SSLSession | None = None,
    suppress: bool = False,
) -> RawClient:
    plain = handle.connect().sock
    try:
        sock = context.wrap_socket(
            plain, server_hostname=name, session=session, suppress_ragged_eofs=suppress
        )
    except BaseException:
        plain.close()
        raise
    return RawClient(sock)


def tls_of(client: RawClient) -> ssl.SSLSocket:
    assert isinstance(client.sock, ssl.SSLSocket)
    return client.sock


def scope_of(client: RawClient) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(client.request(SCOPE).body)
    return found


def extension(client: RawClient) -> dict[str, Any]:
    found: dict[str, Any] = scope_of(client)["extensions"]["tls"]
    return found


# ---- handshakes ----


@pytest.mark.parametrize("version", [TLS12, TLS13])
def test_versions(server: Servers, ca: Authority, site: Issued, version: ssl.TLSVersion) -> None:
    handle = start(server, site)
    context = ca.trusting(minimum_version=version, maximum_version=version)
    with connect(handle, context).sock as sock:
        client = RawClient(sock)
        for _ in range(3):
            assert client.request(GET).body == b"hello"
        scope = scope_of(client)
        assert scope["scheme"] == "https"
        assert scope["extensions"]["tls"] == {
            "server_cert": site.pem(),
            "client_cert_chain": [],
            "client_cert_name": None,
            "client_cert_error": None,
            "tls_version": int(version),
            "cipher_suite": cipher_number(tls_of(client)),
        }


def cipher_number(sock: ssl.SSLSocket) -> int:
    """IANA's number of the cipher that was negotiated."""
    name = (sock.cipher() or ("",))[0]
    (found,) = [each for each in sock.context.get_ciphers() if each["name"] == name]
    return int(found["id"]) & 0xFFFF


def test_old_versions_are_refused(server: Servers, ca: Authority, site: Issued) -> None:
    handle = start(server, site, "--ssl-min-version", "TLSv1_3")
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
        connect(handle, ca.trusting(maximum_version=TLS12))
    with connect(handle, ca.trusting()).sock as sock:
        assert sock.version() == "TLSv1.3"  # type: ignore[attr-defined]


def test_ciphers(server: Servers, ca: Authority, site: Issued) -> None:
    handle = start(
        server, site, "--ciphers", "ECDHE-ECDSA-CHACHA20-POLY1305:TLS_AES_256_GCM_SHA384"
    )
    for version, name in (
        (TLS12, "ECDHE-ECDSA-CHACHA20-POLY1305"),
        (TLS13, "TLS_AES_256_GCM_SHA384"),
    ):
        with connect(handle, ca.trusting(maximum_version=version)).sock as sock:
            assert tls_of(RawClient(sock)).cipher()[0] == name  # type: ignore[index]


def test_the_whole_chain_is_sent(server: Servers, ca: Authority, tmp_path: Path) -> None:
    middle = ca.issue("middle", "", authority=True)
    below = Authority.__new__(Authority)
    below.__dict__.update(vars(Authority(tmp_path / "below", "unused")))
    (tmp_path / "below" / "ca.pem").write_text(middle.cert.read_text())
    (tmp_path / "below" / "ca.key").write_text(middle.key.read_text())
    leaf = below.issue("leaf")
    chain = tmp_path / "chain.pem"
    chain.write_text(leaf.cert.read_text() + middle.cert.read_text())
    ours = server.start(
        "tests.apps.basic:app", "--certfile", str(chain), "--keyfile", str(leaf.key)
    )
    with connect(ours, ca.trusting()).sock as sock:
        assert RawClient(sock).request(GET).body == b"hello"
    twisted = server.start(
        "tests.apps.basic:app",
        "-e",
        f"ssl:0:privateKey={leaf.key}:certKey={leaf.cert}:extraCertChain={middle.cert}:interface=127.0.0.1",
        bind=(),
    )
    with connect(twisted, ca.trusting()).sock as sock:
        assert RawClient(sock).request(GET).body == b"hello"


def test_alpn(server: Servers, ca: Authority, site: Issued) -> None:
    handle = start(server, site)
    context = ca.trusting()
    context.set_alpn_protocols(["nonsense", "http/1.1"])
    with connect(handle, context).sock as sock:
        assert sock.selected_alpn_protocol() == "http/1.1"  # type: ignore[attr-defined]
        assert RawClient(sock).request(GET).body == b"hello"
    context.set_alpn_protocols(["nonsense"])
    with pytest.raises(ssl.SSLError, match=r"(?i)application.protocol"):
        connect(handle, context)


def test_renegotiation_is_refused(server: Servers, site: Issued) -> None:
    handle = start(server, site)
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{handle.port}", "-tls1_2"],
        input=b"R\n",
        capture_output=True,
        timeout=30,
    )
    assert b"no renegotiation" in done.stderr


def test_curl(server: Servers, ca: Authority, site: Issued) -> None:
    handle = start(server, site)
    done = subprocess.run(
        [
            *("curl", "-sS", "--cacert", str(ca.cert), "--data-binary", "x" * 100_000),
            *(f"https://localhost:{handle.port}/echo", f"https://localhost:{handle.port}/"),
        ],
        capture_output=True,
        timeout=30,
        env=FOREIGN,
    )
    assert done.stderr == b""
    assert done.stdout == b"x" * 100_000 + b"hello"


def test_plain_http_is_told(server: Servers, site: Issued) -> None:
    handle = start(server, site)
    answer = handle.get("/")
    assert answer.status == 400
    assert "HTTPS" in answer.text
    wait_for(lambda: "it speaks plain HTTP" in handle.stderr())


def test_plain_and_tls_together(server: Servers, ca: Authority, site: Issued) -> None:
    handle = server.start(
        "tests.apps.basic:app",
        *("-e", f"ssl:0:{site.key}:{site.cert}:interface=127.0.0.1"),
        *("-e", "tcp:0:interface=127.0.0.1"),
        bind=(),
    )
    ports = wait_for(
        lambda: (
            len(found := re.findall(r"TCP address 127.0.0.1:(\d+)", handle.stderr())) == 2 and found
        )
    )
    assert isinstance(ports, list)
    handle.port = int(ports[0])
    with connect(handle, ca.trusting()).sock as sock:
        assert scope_of(RawClient(sock))["scheme"] == "https"
    handle.port = int(ports[1])
    scope = json.loads(handle.get("/scope").body)
    assert scope["scheme"] == "http"
    assert "tls" not in scope["extensions"]


def test_unix_socket(server: Servers, ca: Authority, site: Issued, tmp_path: Path) -> None:
    handle = start(server, site, unix=tmp_path / "socket")
    with connect(handle, ca.trusting()).sock as sock:
        scope = scope_of(RawClient(sock))
        assert scope["scheme"] == "https"
        assert scope["client"] is None


def test_inherited_descriptor(server: Servers, ca: Authority, site: Issued) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        handle = start(
            server, site, "--fd", str(listening.fileno()), bind=(), pass_fds=[listening.fileno()]
        )
        with connect(handle, ca.trusting()).sock as sock:
            assert RawClient(sock).request(GET).body == b"hello"


# ---- SNI ----


@pytest.fixture(scope="module")
def sites(ca: Authority) -> dict[str, Issued]:
    return {
        "one": ca.issue("one", "DNS:one.test,DNS:uno.test"),
        "wild": ca.issue("wild", "DNS:*.wild.test"),
        "exact": ca.issue("exact", "DNS:exact.wild.test", kind="rsa"),
    }


NAMES = [
    ("one.test", "one"),
    ("uno.test", "one"),
    ("UNO.TEST", "one"),
    ("a.wild.test", "wild"),
    ("exact.wild.test", "exact"),
    ("a.b.wild.test", "one"),
    ("stranger.test", "one"),
]


def shown(handle: Handle, ca: Authority, name: str | None) -> tuple[str, str]:
    """The certificate that the client got, and the one of the scope."""
    context = ca.trusting()
    context.check_hostname = False
    with connect(handle, context, name) as client:  # type: ignore[arg-type]
        der = tls_of(client).getpeercert(binary_form=True)
        assert der is not None
        return ssl.DER_cert_to_PEM_cert(der), extension(client)["server_cert"]


def test_server_names(server: Servers, ca: Authority, sites: dict[str, Issued]) -> None:
    flags = [word for each in sites.values() for word in ("--certfile", str(each.both))]
    handle = server.start("tests.apps.basic:app", *flags)
    for name, expected in [*NAMES, (None, "one")]:
        assert shown(handle, ca, name) == (sites[expected].pem(),) * 2, name


@pytest.mark.parametrize("how", ["endpoint", "flag"])
def test_directory(
    server: Servers, ca: Authority, sites: dict[str, Issued], tmp_path: Path, how: str
) -> None:
    (tmp_path / "a.pem").write_text(sites["one"].both.read_text())
    (tmp_path / "b.crt").write_text(sites["wild"].cert.read_text())
    (tmp_path / "b.key").write_text(sites["wild"].key.read_text())
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "fullchain.pem").write_text(sites["exact"].cert.read_text())
    (tmp_path / "c" / "privkey.pem").write_text(sites["exact"].key.read_text())
    (tmp_path / "README").write_text("not a certificate")
    if how == "flag":
        handle = server.start("tests.apps.basic:app", "--certfile", str(tmp_path))
    else:
        handle = server.start(
            "tests.apps.basic:app", "-e", f"tls:{tmp_path}:port=0:interface=127.0.0.1", bind=()
        )
    for name, expected in NAMES:
        assert shown(handle, ca, name)[0] == sites[expected].pem(), name


def test_two_kinds_of_keys_for_one_name(server: Servers, ca: Authority) -> None:
    both = [ca.issue(f"kind-{kind}", kind=kind, subject="/CN=both") for kind in ("rsa", "ec")]
    flags = [word for each in both for word in ("--certfile", str(each.both))]
    handle = server.start("tests.apps.basic:app", *flags)
    for signature, issued in zip(("RSA", "ECDSA"), both, strict=True):
        context = ca.trusting(maximum_version=TLS12)
        context.set_ciphers(f"ECDHE+a{signature}")
        with connect(handle, context) as client:
            assert extension(client)["server_cert"] == issued.pem()


# ---- resumption ----


def session_of(handle: Handle, context: ssl.SSLContext) -> ssl.SSLSession:
    with connect(handle, context) as client:
        client.request(GET)  # TLS 1.3 sends tickets with the first answer
        session = tls_of(client).session
        assert session is not None
        return session


def resumes(handle: Handle, context: ssl.SSLContext, session: ssl.SSLSession) -> bool:
    with connect(handle, context, session=session) as client:
        assert client.request(GET).body == b"hello"
        return bool(tls_of(client).session_reused)


@pytest.mark.parametrize("version", [TLS12, TLS13])
def test_tickets(server: Servers, ca: Authority, site: Issued, version: ssl.TLSVersion) -> None:
    handle = start(server, site)
    context = ca.trusting(minimum_version=version, maximum_version=version)
    session = session_of(handle, context)
    assert session.has_ticket
    assert resumes(handle, context, session)


def test_resumed_session_gets_a_ticket_too(server: Servers, ca: Authority, site: Issued) -> None:
    """Browsers use a ticket of TLS 1.3 once: without a new one every other handshake is a full one."""
    handle = start(server, site)
    context = ca.trusting(minimum_version=TLS13)
    session = session_of(handle, context)
    with connect(handle, context, session=session) as client:
        client.request(GET)
        newer = tls_of(client).session
    assert newer is not None and newer.id != session.id
    assert resumes(handle, context, newer)


def test_ticket_keys_rotate(server: Servers, ca: Authority, site: Issued) -> None:
    handle = start(server, site, "--tls-ticket-lifetime", "2")
    context = ca.trusting(maximum_version=TLS12)  # a ticket of 1.3 says itself when it is too old
    session = session_of(handle, context)
    assert resumes(handle, context, session)
    time.sleep(4.2)
    assert not resumes(handle, context, session)
    assert resumes(handle, context, session_of(handle, context))


def test_no_tickets(server: Servers, ca: Authority, site: Issued) -> None:
    handle = start(server, site, "--tls-ticket-lifetime", "0")
    for version in (TLS12, TLS13):
        context = ca.trusting(maximum_version=version)
        with connect(handle, context) as client:
            client.request(GET)
            session = tls_of(client).session
            assert session is None or not session.has_ticket


def test_resumption_shows_the_right_certificate(
    server: Servers, ca: Authority, sites: dict[str, Issued]
) -> None:
    flags = [word for each in sites.values() for word in ("--certfile", str(each.both))]
    handle = server.start("tests.apps.basic:app", *flags)
    context = ca.trusting()
    with connect(handle, context, "a.wild.test") as client:
        client.request(GET)
        session = tls_of(client).session
    with connect(handle, context, "a.wild.test", session) as client:
        assert extension(client)["server_cert"] == sites["wild"].pem()
        assert tls_of(client).session_reused


# ---- client certificates ----


def with_clients(server: Servers, site: Issued, ca: Authority, verify: str, *args: str) -> Handle:
    return start(server, site, "--cert-reqs", verify, "--ca-certs", str(ca.cert), *args)


def refused(handle: Handle, context: ssl.SSLContext, says: str) -> None:
    """TLS 1.3's client learns of it only when it reads."""
    with pytest.raises(ssl.SSLError, match=says), connect(handle, context) as client:
        client.request(GET)


@pytest.mark.parametrize("verify", ["optional", "required", "report"])
def test_client_certificate(
    server: Servers,
    ca: Authority,
    site: Issued,
    client_ca: Authority,
    alice: Issued,
    verify: str,
) -> None:
    handle = with_clients(server, site, client_ca, verify)
    with connect(handle, ca.trusting(alice)) as client:
        found = extension(client)
        assert found["client_cert_chain"] == [alice.pem()]
        assert found["client_cert_name"] == "CN=alice,O=Bücher\\, Inc,C=DE"
        assert found["client_cert_error"] is None
        again = extension(client)
        assert again == found


def test_client_chain(
    server: Servers,
    ca: Authority,
    site: Issued,
    client_ca: Authority,
    alice: Issued,
    tmp_path: Path,
) -> None:
    handle = with_clients(server, site, client_ca, "required")
    chain = tmp_path / "chain.pem"
    chain.write_text(alice.cert.read_text() + client_ca.cert.read_text())
    with connect(handle, ca.trusting(Issued(chain, alice.key, chain))) as client:
        authority = ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(client_ca.cert.read_text()))
        assert extension(client)["client_cert_chain"] == [alice.pem(), authority]


def test_no_client_certificate(
    server: Servers, ca: Authority, site: Issued, client_ca: Authority
) -> None:
    for verify in ("optional", "report"):
        with connect(with_clients(server, site, client_ca, verify), ca.trusting()) as client:
            found = extension(client)
            assert found["client_cert_chain"] == []
            assert found["client_cert_name"] is None
            assert found["client_cert_error"] is None
    handle = with_clients(server, site, client_ca, "required")
    refused(handle, ca.trusting(), r"(?i)certificate.required")
    refused(handle, ca.trusting(maximum_version=TLS12), r"(?i)handshake.failure")
    wait_for(lambda: "peer did not return a certificate" in handle.stderr())


def test_strangers_certificate(
    server: Servers, ca: Authority, site: Issued, client_ca: Authority
) -> None:
    stranger = ca.issue("stranger")
    for verify in ("optional", "required"):
        handle = with_clients(server, site, client_ca, verify)
        refused(handle, ca.trusting(stranger), r"(?i)unknown.ca")
    with connect(with_clients(server, site, client_ca, "report"), ca.trusting(stranger)) as client:
        found = extension(client)
        assert found["client_cert_chain"][0] == stranger.pem()
        assert found["client_cert_name"] == "CN=stranger"
        assert "self-signed certificate" in found["client_cert_error"]


def test_clients_are_not_asked_by_default(
    server: Servers, ca: Authority, site: Issued, alice: Issued
) -> None:
    with connect(start(server, site), ca.trusting(alice)) as client:
        assert extension(client)["client_cert_chain"] == []


def test_revoked(server: Servers, ca: Authority, site: Issued, tmp_path: Path) -> None:
    clients = Authority(tmp_path / "clients")
    good, bad = clients.issue("good", ""), clients.issue("bad", "")
    crl = clients.revoked(bad)
    handle = with_clients(server, site, clients, "required", "--crlfile", str(crl))
    with connect(handle, ca.trusting(good)) as client:
        assert extension(client)["client_cert_name"] == "CN=good"
    refused(handle, ca.trusting(bad), r"(?i)certificate.revoked")
    # The list is a file like the others: a new one counts from its reload on.
    crl.write_text(clients.revoked(good, name="again").read_text())
    handle.signal(1)
    wait_for(lambda: "loaded anew" in handle.stderr())
    refused(handle, ca.trusting(good), r"(?i)certificate.revoked")


def test_client_sessions_are_not_resumed(
    server: Servers, ca: Authority, site: Issued, client_ca: Authority, alice: Issued
) -> None:
    handle = with_clients(server, site, client_ca, "required")
    with connect(handle, ca.trusting(alice)) as client:
        client.request(GET)
        session = tls_of(client).session
        assert session is None or not session.has_ticket


def test_ocsp(server: Servers, ca: Authority, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ocsp")
    stapled = authority.issue("stapled")
    handle = start(server, stapled, "--ocsp-file", str(authority.status(stapled)))
    done = subprocess.run(
        [
            *("openssl", "s_client", "-connect", f"127.0.0.1:{handle.port}", "-status"),
            *("-CAfile", str(authority.cert), "-servername", "localhost"),
        ],
        input=b"",
        capture_output=True,
        timeout=30,
    )
    assert b"OCSP Response Status: successful" in done.stdout
    assert b"Cert Status: good" in done.stdout


# ---- ends ----


def test_orderly_end_is_announced(server: Servers, ca: Authority, site: Issued) -> None:
    handle = start(server, site)
    for head in (
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
    ):
        with connect(handle, ca.trusting()) as client:  # a ragged end would raise
            client.send(head)
            assert client.read_all().endswith(b"hello")


def test_response_that_breaks_off_looks_cut(server: Servers, ca: Authority, site: Issued) -> None:
    handle = start(server, site, app="tests.tls.test_tls:breaking")
    handle.expect_errors()
    with (
        pytest.raises((ssl.SSLEOFError, ConnectionResetError)),
        connect(handle, ca.trusting()) as client,
    ):
        client.send(GET)
        client.read_all()


async def large(scope: dict[str, Any], receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": bytes(1 << 20)})


def test_slow_reader_is_seen_to_read(server: Servers, ca: Authority, site: Issued) -> None:
    """Several records wait together; each of them that is read counts against --write-timeout."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        fd = listening.fileno()
        start(
            server, site, "--fd", str(fd), "--write-timeout", "1.5",
            app="tests.tls.test_tls:large", bind=(), pass_fds=[fd],
        )  # fmt: skip
        with socket.socket() as plain:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            plain.connect(listening.getsockname())
            with ca.trusting().wrap_socket(plain, server_hostname="localhost") as sock:
                sock.sendall(GET)
                for _ in range(6):
                    assert sock.recv(16384)
                    time.sleep(0.7)
                assert sock.recv(16384)


async def breaking(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        raise NotImplementedError
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]}
    )
    await send({"type": "http.response.body", "body": b"some", "more_body": True})
    await asyncio.sleep(0.1)
    raise RuntimeError("in the middle")


def test_client_that_says_goodbye_still_gets_its_answer(
    server: Servers, ca: Authority, site: Issued
) -> None:
    handle = start(server, site)
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{handle.port}", "-quiet", "-no_ign_eof"],
        input=b"GET /sleep/0.3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        capture_output=True,
        timeout=30,
    )
    assert b"HTTP/1.1 200" in done.stdout or done.stdout == b""  # it may leave before the answer
    assert handle.process.poll() is None


def raw_hello(ca: Authority) -> tuple[bytes, ssl.SSLObject, ssl.MemoryBIO, ssl.MemoryBIO]:
    """A ClientHello, and the client that waits for what comes of it."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ca.trusting().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read(), client, incoming, outgoing


def test_half_a_hello_meets_the_deadline(server: Servers, ca: Authority, site: Issued) -> None:
    handle = start(server, site, "--tls-handshake-timeout", "0.5")
    hello = raw_hello(ca)[0]
    with handle.connect() as silent, handle.connect() as half, handle.connect() as trickle:
        half.send(hello[: len(hello) // 2])
        for byte in hello[:20]:
            if select.select([trickle.sock], [], [], 0.1)[0]:
                break
            trickle.send(bytes([byte]))
        for client in (silent, half, trickle):
            assert client.closed()
    wait_for(lambda: handle.stderr().count("no TLS handshake in 0.5 s") == 3)
    with connect(handle, ca.trusting()) as client:
        assert client.request(GET).body == b"hello"


def test_flood_of_handshakes(server: Servers, ca: Authority, site: Issued) -> None:
    """A thousand that leave once they have heard the server's part, and two hundred that stay."""
    handle = start(server, site)
    with connect(handle, ca.trusting()) as client:
        assert client.request(GET).body == b"hello"
    hello = raw_hello(ca)[0]
    before, descriptors = handle.rss(), handle.fds()
    staying = [handle.connect() for _ in range(200)]
    for client in staying:
        client.send(hello)
    for number in range(1000):
        with handle.connect() as leaving:
            leaving.send(hello)
            assert leaving.recv()
        if number % 250 == 0:
            with connect(handle, ca.trusting()) as client:
                assert client.request(GET).body == b"hello"
    assert handle.rss() - before < FLOOD_ROOM
    for client in staying:
        client.close()
    wait_for(lambda: handle.fds() <= descriptors, what="all descriptors are closed")


@pytest.mark.parametrize("size", [1, 7])
def test_handshake_in_pieces(server: Servers, ca: Authority, site: Issued, size: int) -> None:
    handle = start(server, site)
    hello, client, incoming, outgoing = raw_hello(ca)
    with handle.connect() as raw:
        raw.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        answer = pump(raw, hello, client, incoming, outgoing, size)
        assert answer.endswith(b"hello")


def pump(
    raw: RawClient,
    first: bytes,
    client: ssl.SSLObject,
    incoming: ssl.MemoryBIO,
    outgoing: ssl.MemoryBIO,
    size: int,
) -> bytes:
    """Handshake and one request, both sent in pieces of `size` bytes."""

    def send(data: bytes) -> None:
        for at in range(0, len(data), size):
            raw.send(data[at : at + size])

    send(first)
    while True:
        incoming.write(raw.recv())
        try:
            client.do_handshake()
            break
        except ssl.SSLWantReadError:
            send(outgoing.read())
    client.write(GET)
    send(outgoing.read())
    answer = b""
    while not answer.endswith(b"hello"):
        try:
            answer += client.read(65536)
        except ssl.SSLWantReadError:
            incoming.write(raw.recv())
    return answer


def test_half_a_record_meets_the_head_timeout(server: Servers, ca: Authority, site: Issued) -> None:
    handle = start(server, site, "--head-timeout", "0.5")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ca.trusting().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with handle.connect() as raw:
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                raw.send(outgoing.read())
                incoming.write(raw.recv())
        client.write(GET)
        raw.send(outgoing.read()[:-5])
        incoming.write(raw.read_all())
        answer = b""
        while data := client.read(65536):  # b"" is a close_notify; anything else would raise
            answer += data
        assert answer == b"" or answer.startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x40\x01" + bytes(100),
        b"\x80\x2e\x01" + bytes(50),
        os.urandom(300),
        b"\n" * 50,
    ],
)
def test_garbage(server: Servers, ca: Authority, site: Issued, garbage: bytes) -> None:
    handle = start(server, site)
    with handle.connect() as client:
        client.send(garbage)
        client.sock.shutdown(socket.SHUT_WR)
        assert len(client.read_all()) < 100
    with connect(handle, ca.trusting()) as client:
        assert client.request(GET).body == b"hello"


def test_record_that_was_tampered_with(server: Servers, ca: Authority, site: Issued) -> None:
    handle = start(server, site)
    hello, client, incoming, outgoing = raw_hello(ca)
    with handle.connect() as raw:
        raw.send(hello)
        while True:
            incoming.write(raw.recv())
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                continue
        raw.send(outgoing.read())
        client.write(GET)
        record = bytearray(outgoing.read())
        record[-1] ^= 1
        raw.send(bytes(record))
        with contextlib.suppress(ConnectionResetError):
            incoming.write(raw.read_all())
        with pytest.raises(ssl.SSLError):
            while client.read(65536):
                pass


# ---- volume ----


def test_large_upload_and_download(server: Servers, ca: Authority, site: Issued) -> None:
    handle = start(server, site)
    body = os.urandom(5_000_000)
    head = f"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with connect(handle, ca.trusting()) as client:
        for _ in range(2):
            assert client.request(head + body).body == body


def test_file(server: Servers, ca: Authority, site: Issued, tmp_path: Path) -> None:
    """Without kTLS a file is read and encrypted like other bytes."""
    file = tmp_path / "file"
    file.write_bytes(os.urandom(3_000_001))
    handle = start(
        server,
        site,
        "--extension=pathsend",
        app="tests.tls.test_tls:sending",
        env={"FILE": str(file)},
    )
    with connect(handle, ca.trusting()) as client:
        for _ in range(2):
            assert client.request(GET).body == file.read_bytes()


async def sending(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        raise NotImplementedError
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.pathsend", "path": os.environ["FILE"]})


def test_pipelined_requests_in_one_record(server: Servers, ca: Authority, site: Issued) -> None:
    handle = start(server, site)
    with connect(handle, ca.trusting()) as client:
        client.send(GET * 60)  # more than are served in a row
        for _ in range(60):
            assert client.response().body == b"hello"


def test_back_pressure(server: Servers, ca: Authority, site: Issued) -> None:
    """An application that does not read stops its peer; one that is not read is stopped by it."""
    handle = start(server, site, app="tests.apps.wire:app")
    with connect(handle, ca.trusting()) as client, connect(handle, ca.trusting()) as other:
        client.send(b"POST /never HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n")
        client.sock.settimeout(1)
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < 100_000_000:
                sent += client.sock.send(bytes(65536))
        assert sent < 20_000_000
        client.sock.settimeout(30)
        assert other.request(b"GET /release HTTP/1.1\r\nHost: a\r\n\r\n").status == 200


def test_slow_reader(server: Servers, ca: Authority, site: Issued) -> None:
    handle = start(server, site, app="tests.apps.wire:app")
    with connect(handle, ca.trusting()) as client:
        client.send(b"GET /stream/400 HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(0.5)
        with connect(handle, ca.trusting()) as other:
            (seen,) = json.loads(other.request(b"GET /seen HTTP/1.1\r\nHost: a\r\n\r\n").body)
        assert seen[0] == "running"
        assert seen[1] < 390
        assert len(client.response().body) == 400 * 65536


def test_reader_that_stalls_is_dropped(server: Servers, ca: Authority, site: Issued) -> None:
    handle = start(server, site, "--write-timeout", "0.5", app="tests.apps.wire:app")
    with connect(handle, ca.trusting()) as client:
        client.send(b"GET /stream/400 HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for(lambda: "--write-timeout" in handle.stderr())


def test_many_at_once(server: Servers, ca: Authority, site: Issued) -> None:
    handle = start(server, site)
    context = ca.trusting()

    async def one(number: int) -> int:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", handle.port, ssl=context, server_hostname="localhost"
        )
        body = bytes([number % 256]) * (number * 700)
        head = f"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        writer.write(head + body)
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(len(body)) == body
        writer.close()
        await writer.wait_closed()
        return number

    async def main() -> list[int]:
        return await asyncio.gather(*map(one, range(100)))

    assert asyncio.run(main()) == list(range(100))


def test_shutdown_says_goodbye(server: Servers, ca: Authority, site: Issued) -> None:
    handle = start(server, site)
    with connect(handle, ca.trusting()) as idle, connect(handle, ca.trusting()) as busy:
        assert idle.request(GET).body == b"hello"
        busy.send(b"GET /sleep/0.5 HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(0.1)
        handle.signal(15)
        assert idle.read_all() == b""
        assert busy.read_all().endswith(b"slept")
        assert handle.wait() == 0


# ---- WebSocket ----


def test_wss(server: Servers, ca: Authority, site: Issued) -> None:
    handle = start(server, site)

    async def main() -> None:
        url = f"wss://localhost:{handle.port}/"
        async with websockets.connect(url, ssl=ca.trusting(), host="127.0.0.1") as ws:
            await ws.send("scope")
            scope = json.loads(await ws.recv())
            assert scope["scheme"] == "wss"
            assert scope["extensions"]["tls"]["server_cert"] == site.pem()
            assert scope["extensions"]["websocket.http.response"] == {}
            for size in (1, 125, 126, 16384, 65536, 900_000):
                payload = os.urandom(size)
                await ws.send(payload)
                assert await ws.recv() == payload
            await ws.send("close")
            with pytest.raises(websockets.ConnectionClosed) as caught:
                await ws.recv()
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 3001

    asyncio.run(main())


def test_every_scope_has_an_extension_of_its_own(
    server: Servers, ca: Authority, site: Issued
) -> None:
    handle = start(server, site, app="tests.tls.test_tls:spoiling")
    with connect(handle, ca.trusting()) as client:
        for _ in range(3):
            assert client.request(GET).body == b"0"


async def spoiling(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        raise NotImplementedError
    tls = scope["extensions"]["tls"]
    found = len(tls["client_cert_chain"]) + ("spoilt" in tls)
    tls["client_cert_chain"].append("spoilt")
    tls["spoilt"] = True
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]}
    )
    await send({"type": "http.response.body", "body": str(found).encode()})


# ---- reloading ----


@pytest.fixture
def files(tmp_path: Path, site: Issued) -> Issued:
    """Copies of the server's certificate that a test may change."""
    copied = Issued(tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "both.pem")
    replace(copied, site)
    return copied


def replace(files: Issued, by: Issued) -> None:
    for name in ("key", "cert", "both"):
        target: Path = getattr(files, name)
        target.with_suffix(".new").write_text(getattr(by, name).read_text())
        target.with_suffix(".new").rename(target)


@pytest.fixture(scope="module")
def renewed(ca: Authority) -> Issued:
    return ca.issue("renewed")


@pytest.mark.parametrize("how", ["signal", "files"])
def test_reload(
    server: Servers, ca: Authority, site: Issued, files: Issued, renewed: Issued, how: str
) -> None:
    interval = "0" if how == "signal" else "0.1"
    handle = start(server, files, "--tls-reload-interval", interval)
    if how == "files":
        handle.expect_errors()  # it may look between the renaming of the two files
    context = ca.trusting()
    with connect(handle, context) as old:
        assert extension(old)["server_cert"] == site.pem()
        session = tls_of(old).session
        old.send(b"GET /sleep/1 HTTP/1.1\r\nHost: a\r\n\r\n")
        replace(files, renewed)
        if how == "signal":
            handle.signal(1)
        wait_for(lambda: "Certificates were loaded anew" in handle.stderr())
        wait_for(lambda: shown(handle, ca, "localhost")[0] == renewed.pem())
        assert old.response().body == b"slept"  # nobody was dropped
        assert extension(old)["server_cert"] == site.pem()
        assert resumes(handle, context, session)  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["signal", "files"])
def test_broken_reload_changes_nothing(
    server: Servers, ca: Authority, site: Issued, files: Issued, renewed: Issued, how: str
) -> None:
    interval = "0" if how == "signal" else "0.1"
    handle = start(server, files, "--tls-reload-interval", interval)
    handle.expect_errors()
    files.cert.write_text("rubbish")
    if how == "signal":
        handle.signal(1)
    wait_for(lambda: "Cannot load certificates anew, the old ones stay" in handle.stderr())
    assert str(files.cert) in handle.stderr()
    assert shown(handle, ca, "localhost")[0] == site.pem()
    time.sleep(0.5)
    assert handle.stderr().count("Cannot load certificates anew") == 1
    replace(files, renewed)
    if how == "signal":
        handle.signal(1)
    wait_for(lambda: shown(handle, ca, "localhost")[0] == renewed.pem())
    assert handle.stop() == 0


def test_new_certificate_in_a_directory(
    server: Servers, ca: Authority, sites: dict[str, Issued], tmp_path: Path
) -> None:
    (tmp_path / "a.pem").write_text(sites["one"].both.read_text())
    handle = server.start(
        "tests.apps.basic:app", "--certfile", str(tmp_path), "--tls-reload-interval", "0.1"
    )
    assert shown(handle, ca, "a.wild.test")[0] == sites["one"].pem()
    (tmp_path / "b.pem").write_text(sites["wild"].both.read_text())
    wait_for(lambda: shown(handle, ca, "a.wild.test")[0] == sites["wild"].pem())


def test_reload_under_load(
    server: Servers, ca: Authority, files: Issued, site: Issued, renewed: Issued
) -> None:
    handle = start(server, files, "--tls-reload-interval", "0")
    for turn in range(10):
        replace(files, (renewed, site)[turn % 2])
        half = raw_hello(ca)
        with handle.connect() as raw:
            raw.send(half[0][:50])
            handle.signal(1)
            wait_for(lambda turn=turn: handle.stderr().count("loaded anew") == turn + 1)
            assert pump(raw, half[0][50:], *half[1:], 4096).endswith(b"hello")


# ---- memory ----


def test_idle_connections_hold_no_buffers(server: Servers, ca: Authority, site: Issued) -> None:
    """OpenSSL's two buffers are 17 KB each: an idle connection has neither."""
    handle = start(server, site)
    context = ca.trusting()
    clients: list[RawClient] = []

    def open_some(count: int) -> None:
        for _ in range(count):
            clients.append(connect(handle, context))
            clients[-1].request(GET)

    open_some(50)
    before = handle.rss()
    open_some(200)
    each = (handle.rss() - before) / 200
    for client in clients:
        client.close()
    if "libasan" not in os.environ.get("LD_PRELOAD", ""):
        assert each < 32768


def test_abort_is_a_reset(server: Servers, ca: Authority, site: Issued) -> None:
    """A client that resets in the middle of a download leaves nothing behind."""
    handle = start(server, site, app="tests.apps.wire:app")
    for _ in range(5):
        client = connect(handle, ca.trusting())
        client.send(b"GET /stream/100 HTTP/1.1\r\nHost: a\r\n\r\n")
        client.recv(100)
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    with connect(handle, ca.trusting()) as client:
        assert client.request(b"GET /count HTTP/1.1\r\nHost: a\r\n\r\n").status == 200
