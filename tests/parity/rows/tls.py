"""TLS endpoints."""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.parity.client import http
from tests.parity.row import Row
from tests.parity.target import Target, listening
from tests.support.authority import Authority, Issued
from tests.support.client import RawClient
from tests.support.handle import Handle


@contextmanager
def serving(target: Target, endpoint: str) -> Iterator[Handle]:
    bind = ("-e", f"ssl:0:{endpoint}:interface=127.0.0.1")
    with target.private(bind=bind) as handle:
        yield listening(handle)


def with_files(probe: Callable[[Target, Authority, Issued], str]) -> Callable[[Target], str]:
    def run(target: Target) -> str:
        with tempfile.TemporaryDirectory() as folder:
            authority = Authority(Path(folder))
            return probe(target, authority, authority.issue("site"))

    return run


def connected(handle: Handle, context: ssl.SSLContext) -> RawClient:
    return RawClient(context.wrap_socket(handle.connect().sock, server_hostname="localhost"))


def sent_certificates(handle: Handle) -> str:
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{handle.port}", "-showcerts"],
        input=b"",
        capture_output=True,
        timeout=30,
    )
    return str(done.stdout.count(b"BEGIN CERTIFICATE"))


@with_files
def chain_in_one_file(target: Target, authority: Authority, site: Issued) -> str:
    both = authority.folder / "both.pem"
    both.write_text(site.cert.read_text() + authority.cert.read_text())
    with serving(target, f"privateKey={site.key}:certKey={both}") as handle:
        return sent_certificates(handle)


@with_files
def extra_chain(target: Target, authority: Authority, site: Issued) -> str:
    endpoint = f"privateKey={site.key}:certKey={site.cert}:extraCertChain={authority.cert}"
    with serving(target, endpoint) as handle:
        return sent_certificates(handle)


@with_files
def versions(target: Target, authority: Authority, site: Issued) -> str:
    found = []
    with serving(target, f"privateKey={site.key}:certKey={site.cert}") as handle:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = authority.trusting(minimum_version=version, maximum_version=version)
            with connected(handle, context) as client:
                assert isinstance(client.sock, ssl.SSLSocket)
                found.append(client.sock.version() or "none")
    return ", ".join(found)


@with_files
def request(target: Target, authority: Authority, site: Issued) -> str:
    with (
        serving(target, f"privateKey={site.key}:certKey={site.cert}") as handle,
        connected(handle, authority.trusting()) as client,
    ):
        return str(client.request(http()).status)


@with_files
def plain_http(target: Target, authority: Authority, site: Issued) -> str:
    with (
        serving(target, f"privateKey={site.key}:certKey={site.cert}") as handle,
        handle.connect() as client,
    ):
        client.send(http())
        try:
            answer = client.read_all()
        except ConnectionResetError:
            answer = b""
        return answer.split(b"\r\n")[0].decode() if answer.startswith(b"HTTP") else "closed"


@with_files
def renewed(target: Target, authority: Authority, site: Issued) -> str:
    fresh = authority.issue("fresh")
    with serving(target, f"privateKey={site.both}:certKey={site.both}") as handle:
        site.both.write_text(fresh.both.read_text())
        handle.signal(signal.SIGHUP)
        for _ in range(30):
            time.sleep(0.1)
            if handle.process.poll() is not None:
                return f"exit status {handle.process.poll()}"
            try:
                with connected(handle, authority.trusting()) as client:
                    assert isinstance(client.sock, ssl.SSLSocket)
                    if client.sock.getpeercert(True) == ssl.PEM_cert_to_DER_cert(fresh.pem()):
                        return "the new one"
            except OSError:
                continue
    return "the old one"


@with_files
def truncated(target: Target, authority: Authority, site: Issued) -> str:
    """What a client sees at the end of a response that ends with the connection."""
    with (
        serving(target, f"privateKey={site.key}:certKey={site.cert}") as handle,
        handle.connect() as plain,
    ):
        context = authority.trusting()
        client = RawClient(
            context.wrap_socket(plain.sock, server_hostname="localhost", suppress_ragged_eofs=False)
        )
        client.send(http("", "Connection: close"))
        try:
            client.read_all()
        except (ssl.SSLError, OSError):
            return "cut"
        finally:
            client.close()
        return "close_notify"


def missing_key(target: Target) -> str:
    status, _, err = target.run("-e", "ssl:0:privateKey=/nowhere/key.pem:interface=127.0.0.1")
    return f"exit status {status}, {'traceback' if 'Traceback' in err else 'one line'}"


@with_files
def silent(target: Target, authority: Authority, site: Issued) -> str:
    """Somebody who connects and never says hello."""
    with (
        serving(target, f"privateKey={site.key}:certKey={site.cert}") as handle,
        socket.create_connection((handle.host, handle.port), 20) as client,
    ):
        try:
            return "closed" if client.recv(1) == b"" else "answered"
        except TimeoutError:
            return "still there after 20 s"
        except ConnectionResetError:
            return "closed"


ROWS = [
    Row("tls_request", "A request over ``ssl:``", request, "200"),
    Row("tls_versions", "Versions of TLS over ``ssl:``", versions, "TLSv1.2, TLSv1.3"),
    Row("tls_extra_chain", "Certificates sent with ``extraCertChain=``", extra_chain, "2"),
    Row(
        "tls_chain_in_one_file",
        "Certificates sent of two in ``certKey=``",
        chain_in_one_file,
        "1",
        "2",
        "the whole chain of a certbot file works",
    ),
    Row(
        "tls_missing_key",
        "``privateKey=`` of a file that is not there",
        missing_key,
        "exit status 1, traceback",
        "exit status 1, one line",
        "the line names file and remedy",
    ),
    Row(
        "tls_plain_http",
        "Plain HTTP to a TLS port",
        plain_http,
        "closed",
        "HTTP/1.1 400 Bad Request",
        "the page says what the port speaks",
    ),
    Row(
        "tls_renewed",
        "A renewed certificate after SIGHUP",
        renewed,
        "exit status -1",
        "the new one",
        "no restart, no connection is dropped",
        waits=True,
    ),
    Row(
        "tls_silent",
        "A TLS client that never says hello",
        silent,
        "still there after 20 s",
        "closed",
        "``--tls-handshake-timeout``",
        waits=True,
    ),
    Row("tls_close", "End of a response with Connection: close", truncated, "close_notify"),
]
