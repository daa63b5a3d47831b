"""The HTTP scope."""

from __future__ import annotations

import ast
import socket
import tempfile
from pathlib import Path

import pytest

from tests.parity.client import (
    Probe,
    completeness,
    header_pairs,
    http,
    response_to,
    scope_field,
    scope_of,
    sends,
    unix_client,
)
from tests.parity.row import Row
from tests.parity.target import Target
from tests.support.servers import LISTENING
from tests.support.wait import wait_for

ROOT_PATH = ("--root-path", "/flag%20a")
PROXY = ("--proxy-headers",)


def header_types(target: Target) -> str:
    return str(scope_of(target, http())["header_types"])


def header_names(target: Target) -> str:
    headers = scope_of(target, http("", "Connection: close"))["headers"]
    return " ".join(name.decode() for name, _ in headers)


def address(target: Target) -> str:
    scope = scope_of(target, http())
    types = [type(scope[key]).__name__ for key in ("client", "server")]
    hosts = [scope[key][0] for key in ("client", "server")]
    return f"client {types[0]} {hosts[0]}, server {types[1]} {hosts[1]}"


def unix_address(target: Target) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "s")
        with target.private(bind=("-u", path)):
            wait_for(lambda: Path(path).exists(), 60)
            with unix_client(Path(path)) as client:
                scope = ast.literal_eval(client.request(http()).text)
    return f"client {scope['client']}, server {scope['server']}"


def from_elsewhere(target: Target, header: str, *flags: str) -> str:
    """The scope of a request that this machine sends under its own address: no loopback client."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
        try:
            route.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no address but loopback")
        address = route.getsockname()[0]
    with target.private(*flags, bind=("-b", "0.0.0.0", "-p", "0")) as handle:
        handle.port = int(handle.wait_for_log(LISTENING.pattern, 60).group(2))
        handle.host = address
        return response_to(handle, http("", header)).text


def root_path_stranger(target: Target) -> str:
    return repr(ast.literal_eval(from_elsewhere(target, "Daphne-Root-Path: /h"))["root_path"])


def proxy_stranger(target: Target) -> str:
    scope = ast.literal_eval(from_elsewhere(target, "X-Forwarded-For: 1.2.3.4", *PROXY))
    return str(scope["client"]) if scope["client"][0] == "1.2.3.4" else "the peer"


def proxied(*headers: str, flags: tuple[str, ...] = PROXY) -> Probe:
    def probe(target: Target) -> str:
        scope = scope_of(target, http("", *headers), *flags)
        peer = scope["client"] and scope["client"][0] == "127.0.0.1"
        return f"client {'the peer' if peer else scope['client']}, scheme {scope['scheme']}"

    return probe


def proxied_by_all(target: Target) -> str:
    """daphne believes everybody and has no flag for it."""
    everybody = () if target.name == "daphne" else ("--forwarded-allow-ips", "*")
    return proxied("X-Forwarded-For: 1.2.3.4, 5.6.7.8", flags=(*PROXY, *everybody))(target)


ROWS = [
    Row(
        "scope_keys",
        "Keys of the HTTP scope",
        lambda target: completeness(scope_of(target, http())["keys"]),
        "lacks extensions state",
        "complete",
        "the whole scope of ASGI 3; state comes from the lifespan",
    ),
    Row(
        "scope_asgi",
        "``asgi`` in the scope",
        scope_field("asgi", http()),
        "version '3.0'",
        "version '3.0', spec_version '2.3'",
        "from 2.4 on frameworks rely on an exception of send() and no longer listen for the disconnect",
    ),
    Row(
        "http_version_10",
        "``http_version`` of an HTTP/1.0 request",
        scope_field("http_version", http(version="1.0")),
        "'1.0'",
    ),
    Row(
        "method_case",
        "A method in lower case",
        scope_field("method", http(method="get")),
        "'get'",
        "501",
        "methods are case-sensitive (RFC 9110, 9.1); none is written so",
    ),
    Row(
        "method_unknown",
        "A method nobody knows",
        scope_field("method", http(method="FOO")),
        "'FOO'",
        "501",
        "501 for what the server does not implement (RFC 9110, 9.1)",
    ),
    Row(
        "method_connect",
        "``CONNECT h:443``",
        scope_field("path", http(method="CONNECT", target="h:443")),
        "'h:443'",
        "501",
        "a tunnel is a proxy's work (RFC 9110, 9.3.6)",
    ),
    Row(
        "method_trace",
        "``TRACE`` with a body",
        sends(http("hello", method="TRACE", body=b"abc")),
        "200, kept open",
    ),
    Row(
        "path_decoded",
        "``path`` of ``/%C3%A9%20x``",
        scope_field("path", http(target="/%C3%A9%20x")),
        "'/é x'",
    ),
    Row(
        "path_not_utf8",
        "``path`` of ``/a%FFb``",
        scope_field("path", http(target="/a%FFb")),
        "'/a�b'",
    ),
    Row(
        "raw_path",
        "``raw_path`` of ``/a%20b?x=1``",
        scope_field("raw_path", http(target="/a%20b?x=1")),
        "b'/a%20b'",
    ),
    Row(
        "query_string",
        "``query_string`` of ``/a?x=%20&y``",
        scope_field("query_string", http(target="/a?x=%20&y")),
        "b'x=%20&y'",
    ),
    Row(
        "fragment",
        "``query_string`` of ``/a?x#f``",
        scope_field("query_string", http(target="/a?x#f")),
        "b'x#f'",
        "400",
        "a target has no fragment (RFC 9112, 3.2)",
    ),
    Row(
        "absolute_form",
        "``path`` of ``http://test/plain``",
        scope_field("path", http(target="http://test/plain")),
        "'http://test/plain'",
        "'/plain'",
        "the authority is no part of the path (RFC 9112, 3.2.2)",
    ),
    Row(
        "asterisk_form",
        "``path`` of ``OPTIONS *``",
        scope_field("path", http(method="OPTIONS", target="*")),
        "'*'",
    ),
    Row(
        "dot_segments",
        "``path`` of ``//a/../b``",
        scope_field("path", http(target="//a/../b")),
        "'//a/../b'",
    ),
    Row("header_types", "Type of ``headers``", header_types, "list of tuple"),
    Row("header_names", "No header is invented", header_names, "host connection"),
    Row(
        "header_blanks",
        "Blanks around a value",
        header_pairs(http("", "X-Y: \t a b \t ")),
        "x-y=b'a b'",
    ),
    Row(
        "header_latin1",
        "A value that is not ASCII",
        header_pairs(http("", "X-Y: \xe9")),
        "x-y=b'\\xe9'",
    ),
    Row(
        "header_folded",
        "A folded header line",
        header_pairs(http("", "X-Y: a", "  b")),
        "x-y=b'a b'",
        "400",
        "folding is obsolete (RFC 9112, 5.2) and a way to smuggle",
    ),
    Row(
        "header_underscore",
        "A name with an underscore",
        header_pairs(http("", "X_Y: a"), b"x_"),
        "dropped",
    ),
    Row(
        "header_order",
        "Same-named headers",
        header_pairs(http("", "X-A: 1", "X-B: 2", "X-A: 3")),
        "x-a=b'1', x-a=b'3', x-b=b'2'",
        "x-a=b'1', x-b=b'2', x-a=b'3'",
        "the order of the wire is kept",
    ),
    Row("scheme", "``scheme`` of HTTP", scope_field("scheme", http()), "'http'"),
    Row(
        "addresses",
        "``client`` and ``server``",
        address,
        "client list 127.0.0.1, server list 127.0.0.1",
    ),
    Row(
        "addresses_unix",
        "``client`` and ``server`` on a unix socket",
        unix_address,
        "client None, server None",
    ),
    Row(
        "root_path_flag",
        "``--root-path /flag%20a``",
        scope_field("root_path", http(), *ROOT_PATH),
        "'/flag%20a'",
    ),
    Row(
        "root_path_header",
        "``Daphne-Root-Path: /h%20a`` from loopback",
        scope_field("root_path", http("", "Daphne-Root-Path: /h%20a"), *ROOT_PATH),
        "'/h a'",
    ),
    Row(
        "root_path_not_ascii",
        "``Daphne-Root-Path: /%C3%A9``",
        scope_field("root_path", http("", "Daphne-Root-Path: /%C3%A9")),
        "'/é'",
    ),
    Row(
        "root_path_raw",
        "``Daphne-Root-Path: /é``, not encoded",
        scope_field("root_path", http("", "Daphne-Root-Path: /\xe9")),
        "500",
        "'/�'",
        "no error page for a header's bytes",
    ),
    Row(
        "root_path_stranger",
        "``Daphne-Root-Path: /h`` from another machine",
        root_path_stranger,
        "'/h'",
        "''",
        "taken from loopback and unix sockets only: a stranger could set it",
    ),
    Row(
        "root_path_hidden",
        "``Daphne-Root-Path`` among the scope's headers",
        header_pairs(http("", "Daphne-Root-Path: /h"), b"daphne"),
        "dropped",
    ),
    Row(
        "proxy_off",
        "``X-Forwarded-For`` without ``--proxy-headers``",
        lambda target: str(scope_of(target, http("", "X-Forwarded-For: 1.2.3.4"))["client"][0]),
        "127.0.0.1",
    ),
    Row(
        "proxy_client",
        "``X-Forwarded-For: 1.2.3.4``",
        proxied("X-Forwarded-For: 1.2.3.4"),
        "client ['1.2.3.4', 0], scheme http",
    ),
    Row(
        "proxy_chain",
        "``X-Forwarded-For: 1.2.3.4, 5.6.7.8``",
        proxied("X-Forwarded-For: 1.2.3.4, 5.6.7.8"),
        "client ['1.2.3.4', 0], scheme http",
        "client ['5.6.7.8', 0], scheme http",
        "the rightmost address that is no trusted proxy's: what stands left of it a client can make up",
    ),
    Row(
        "proxy_chain_all",
        "the same with ``--forwarded-allow-ips '*'``",
        proxied_by_all,
        "client ['1.2.3.4', 0], scheme http",
    ),
    Row(
        "proxy_stranger",
        "``X-Forwarded-For`` from another machine",
        proxy_stranger,
        "['1.2.3.4', 0]",
        "the peer",
        "believed from loopback and unix sockets only (--forwarded-allow-ips)",
    ),
    Row(
        "proxy_no_address",
        "``X-Forwarded-For: unknown``",
        proxied("X-Forwarded-For: unknown"),
        "client ['unknown', 0], scheme http",
        "client None, scheme http",
        "an address or none",
    ),
    Row(
        "proxy_prefix",
        "``X-Forwarded-For`` with ``X-Forwarded-Prefix: /app``",
        scope_field(
            "root_path", http("", "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Prefix: /app"), *PROXY
        ),
        "''",
        "'/app'",
        "the proxy says where the application is mounted",
    ),
    Row(
        "proxy_rfc7239",
        "``Forwarded: for=1.2.3.4;proto=https``",
        proxied("Forwarded: for=1.2.3.4;proto=https"),
        "client the peer, scheme http",
        "client ['1.2.3.4', 0], scheme https",
        "RFC 7239",
    ),
    Row(
        "proxy_port",
        "``X-Forwarded-For`` with ``X-Forwarded-Port: 99``",
        proxied("X-Forwarded-For: 1.2.3.4", "X-Forwarded-Port: 99"),
        "client ['1.2.3.4', 99], scheme http",
    ),
    Row(
        "proxy_proto",
        "``X-Forwarded-For`` with ``X-Forwarded-Proto: https``",
        proxied("X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: https"),
        "client ['1.2.3.4', 0], scheme https",
    ),
    Row(
        "proxy_proto_alone",
        "``X-Forwarded-Proto: https`` without ``X-Forwarded-For``",
        proxied("X-Forwarded-Proto: https"),
        "client the peer, scheme http",
    ),
    Row(
        "proxy_header_names",
        "``--proxy-headers-host X-Real-IP``",
        proxied("X-Real-IP: 1.2.3.4", flags=(*PROXY, "--proxy-headers-host", "X-Real-IP")),
        "client ['1.2.3.4', 0], scheme http",
    ),
    Row(
        "proxy_proto_verbatim",
        "``X-Forwarded-Proto: gopher``",
        proxied("X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: gopher"),
        "client ['1.2.3.4', 0], scheme gopher",
        "client ['1.2.3.4', 0], scheme http",
        "http, https, ws and wss are schemes, no other word",
    ),
]
