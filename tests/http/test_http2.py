"""HTTP/2 with clients of others: h2, httpx, curl, h2load, and h2spec; in clear text and over TLS."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import httpx
import pytest

from tests.support.authority import Authority, Issued
from tests.support.h2_client import ASKING, Client
from tests.support.handle import Handle
from tests.support.programs import FOREIGN, ROOT, run_go
from tests.support.servers import Servers
from tests.support.wait import wait_for

pytestmark = pytest.mark.server

H2SPEC = "github.com/summerwind/h2spec/cmd/h2spec@latest"
# What it wants and RFC 9113 does not.
ALLOWED = {
    ("3.5", 2): "without TLS what is no preface is HTTP/1, and is answered as such",
    ("5.3.1", 2): "priorities of RFC 7540 are off (SETTINGS_NO_RFC7540_PRIORITIES, RFC 9218)",
    (
        "6.9.1",
        3,
    ): "nghttp2 1.68 ends the connection for a stream's window above 2^31-1 (5.4.2 allows it)",
}


@pytest.fixture(scope="module")
def certificate(ca: Authority) -> list[str]:
    """The flags that switch TLS on."""
    issued: Issued = ca.issue("site")
    return ["--certfile", str(issued.cert), "--keyfile", str(issued.key)]


def test_scope(server: Servers) -> None:
    with Client(server.start()) as client:
        stream = client.request("/scope?a=b", ("cookie", "a=1"), ("x-y", "z"), ("cookie", "b=2"))
        text = client.body(stream).decode()
    assert '"http_version": "2"' in text
    assert '["host", "test"], ["cookie", "a=1; b=2"], ["x-y", "z"]' in text


def test_upload_is_echoed(server: Servers) -> None:
    handle = server.start()
    with httpx.Client(http1=False, http2=True, timeout=30) as client:
        body = os.urandom(1_000_000)
        answer = client.post(f"http://127.0.0.1:{handle.port}/echo", content=body)
    assert answer.http_version == "HTTP/2"
    assert answer.content == body


def test_curl(server: Servers, tmp_path: Path) -> None:
    handle = server.start()
    url = f"http://127.0.0.1:{handle.port}"
    command = ["curl", "-sS", "--http2-prior-knowledge", "-w", "%{http_version} "]
    # One URL each: curl 7.88 cannot use such a connection twice.
    for path, answer in (("/", b"hello"), ("/echo", b"x" * 100_000)):
        upload = [*command, "--data-binary", "x" * 100_000, url + path]
        done = subprocess.run(upload, capture_output=True, timeout=30, env=FOREIGN)
        assert (done.stdout, done.stderr) == (answer + b"2 ", b"")


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("upload", [["--data-binary", "@body"], ["-T", "body"], ["-T", "-"]])
def test_early_answer_reaches_curl(
    server: Servers, secure: bool, upload: list[str], certificate: list[str], tmp_path: Path
) -> None:
    """It takes a RST_STREAM behind the answer to an upload for a failure of the whole."""
    (tmp_path / "body").write_bytes(bytes(2_000_000))
    flags = certificate if secure else []
    handle = server.start("tests.apps.wire:app", "--max-body-size", "300000", *flags)
    url = f"http{'s' if secure else ''}://127.0.0.1:{handle.port}/upload"
    command = ["curl", "-sSk", "--http2-prior-knowledge", "-w", "%{http_code}", "-H", "Expect:"]
    with (tmp_path / "body").open("rb") as body:
        done = subprocess.run(
            [*command, *upload, url],
            stdin=body,
            cwd=tmp_path,
            capture_output=True,
            timeout=60,
            env=FOREIGN,
        )
    assert (done.stdout, done.stderr) == (b"413 Content Too Large\n413", b"")


def test_half_close(server: Servers) -> None:
    """What came whole is answered, behind a FIN too; then the connection closes."""
    with Client(server.start("tests.apps.wire:app")) as client:
        streams = [client.request(f"/sleep/{ms}") for ms in (400, 0, 200)]
        client.request("/upload", method="POST", end=False)
        client.sock.shutdown(socket.SHUT_WR)
        heard: dict[int, bytes] = {}
        while data := client.sock.recv(65536):
            for event in client.h2.receive_data(data):
                if isinstance(event, h2.events.DataReceived):
                    heard[event.stream_id or 0] = event.data or b""
        assert [heard[stream] for stream in streams] == [b"400", b"0", b"200"]


def test_early_answer_leaves_the_window_open(server: Servers) -> None:
    """The rest of a long body is dropped, and the stream ends without a reset."""
    with Client(server.start("tests.apps.wire:app")) as client:
        client.until(h2.events.RemoteSettingsChanged)
        stream = client.request("/early", method="POST", end=False)
        assert client.body(stream) == b"early"
        left = 1_000_000
        while left > 0:
            room = client.h2.local_flow_control_window(stream)
            size = min(left, room, client.h2.max_outbound_frame_size)
            left -= size
            client.h2.send_data(stream, bytes(size), end_stream=left == 0)
            client.flush()
            if left > 0 and client.h2.local_flow_control_window(stream) == 0:
                client.hear()
        assert client.status(client.request("/upload")) == 200
    assert not [e for e in client.events if isinstance(e, h2.events.StreamReset)]


@pytest.mark.parametrize("secure", [False, True])
def test_h2load(server: Servers, secure: bool, certificate: list[str]) -> None:
    handle = server.start("tests.apps.basic:app", *(certificate if secure else []))
    scheme = "https" if secure else "http"
    done = subprocess.run(
        ["h2load", "-n10000", "-c20", "-m100", f"{scheme}://127.0.0.1:{handle.port}/"],
        capture_output=True,
        text=True,
        timeout=120,
        env=FOREIGN,
    )
    assert "10000 succeeded, 0 failed, 0 errored" in done.stdout


def test_switched_off(server: Servers) -> None:
    handle = server.start("tests.apps.basic:app", "--no-http2")
    assert b"505" in handle.raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert "HTTP/2 support not enabled (--no-http2)" in handle.stderr()


def test_preface_behind_a_request(server: Servers) -> None:
    get = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
    answer = server.start().raw(get + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"505"]


def test_alpn(server: Servers, ca: Authority, certificate: list[str]) -> None:
    handle = server.start("tests.apps.basic:app", *certificate)
    context = ca.trusting()
    for offer, chosen in ((["http/1.1", "h2"], "h2"), (["http/1.1"], "http/1.1")):
        context.set_alpn_protocols(offer)
        plain = socket.create_connection(("127.0.0.1", handle.port), 10)
        with context.wrap_socket(plain, server_hostname="localhost") as sock:
            assert sock.selected_alpn_protocol() == chosen
            if chosen == "h2":  # anything but the preface is an error of HTTP/2's: GOAWAY
                sock.sendall(b"GET / HTTP/1.1\r\n\r\n" * 2)
                answer = b""
                while data := sock.recv(65536):
                    answer += data
                assert answer[-17 + 3] == 7
            else:
                sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
                assert sock.recv(65536).startswith(b"HTTP/1.1 505")
    context.set_alpn_protocols(["h2", "http/1.1"])
    with httpx.Client(http2=True, verify=context) as client:
        assert client.get(f"https://localhost:{handle.port}/").http_version == "HTTP/2"


def upgrading(server: Servers) -> Handle:
    return server.start("tests.apps.basic:app", "--http2-upgrade")


def test_upgrade_of_curl(server: Servers) -> None:
    handle = upgrading(server)
    command = ["curl", "-sS", "--http2", "-w", " %{http_version}\n"]
    for upload, path, answer in (
        ([], "/", "hello 2"),
        (["--data-binary", "xyz"], "/echo", "xyz 1.1"),  # a body: the server may ignore it
    ):
        done = subprocess.run(
            [*command, *upload, f"http://127.0.0.1:{handle.port}{path}"],
            capture_output=True,
            text=True,
            timeout=30,
            env=FOREIGN,
        )
        assert (done.stdout, done.stderr) == (f"{answer}\n", "")


def test_upgrade_of_h2(server: Servers) -> None:
    with Client(upgrading(server), upgrade=b"/scope?a=b") as client:
        text = client.body(1).decode()
        assert '"http_version": "2"' in text
        assert '"headers": [["host", "test"]]' in text
        assert client.status(client.request("/")) == 200


@pytest.mark.parametrize(
    ("request_line", "settings", "rest"),
    [
        (b"GET /", b"AAMAAABkAAQAAP__", b"\r\n"),
        (b"GET /", b"AAMAAAB", b"\r\n"),
        (b"GET /", b"AASAAAAA", b"\r\n"),
        (b"POST /echo", b"AAMAAABk", b"Content-Length: 5\r\n\r\nhello"),
    ],
    ids=["switched off", "malformed", "out of range", "body"],
)
def test_no_upgrade(
    server: Servers,
    request: pytest.FixtureRequest,
    request_line: bytes,
    settings: bytes,
    rest: bytes,
) -> None:
    off = "switched off" in request.node.name
    handle = server.start() if off else upgrading(server)
    with handle.connect() as client:
        for _ in range(2):  # and the connection goes on
            client.send(request_line + b" HTTP/1.1\r\n" + ASKING % settings + rest)
            answer = client.response(request_line.split()[0].decode())
            assert (answer.status, answer.body) == (200, b"hello")


def test_no_upgrade_with_tls(server: Servers, ca: Authority, certificate: list[str]) -> None:
    handle = server.start("tests.apps.basic:app", "--http2-upgrade", *certificate)
    plain = socket.create_connection(("127.0.0.1", handle.port), 10)
    with ca.trusting().wrap_socket(plain, server_hostname="localhost") as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n" + ASKING % b"AAMAAABk" + b"\r\n")
        assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_rapid_reset(server: Servers) -> None:
    handle = server.start("tests.apps.basic:app", "--http2-reset-burst", "100")
    with Client(handle) as client:
        for _ in range(400):
            if client.closed:
                break
            try:
                stream = client.request("/sleep/1")
                client.h2.reset_stream(stream, 8)
            except h2.exceptions.ProtocolError:
                break
            client.flush()
        event = client.until(h2.events.ConnectionTerminated)
        assert event.error_code == 11  # type: ignore[attr-defined]
    assert handle.get("/").body == b"hello"
    wait_for(lambda: "http2_reset_burst" in handle.stderr())


def test_streams_beyond_the_limit_are_refused(server: Servers) -> None:
    handle = server.start(
        "tests.apps.basic:app", "--http2-max-streams", "2", "--application-close-timeout", "1"
    )
    with Client(handle) as client:
        for _ in range(2):
            client.h2.reset_stream(client.request("/sleep/3"), 8)
        client.flush()
        event = client.until(h2.events.StreamReset, client.request("/"))
        assert event.error_code == 7  # type: ignore[attr-defined]


def frame(opcode: int, payload: bytes) -> bytes:
    return bytes([0x80 | opcode, 0x80 | len(payload), 0, 0, 0, 0]) + payload


def test_websocket(server: Servers) -> None:
    with Client(server.start()) as client:
        client.until(h2.events.RemoteSettingsChanged)
        assert client.h2.remote_settings.enable_connect_protocol == 1
        stream = client.h2.get_next_available_stream_id()
        pseudo = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http")]
        pseudo += [(":path", "/chat"), (":authority", "test"), ("sec-websocket-version", "13")]
        client.h2.send_headers(stream, pseudo)
        client.flush()
        assert client.status(stream) == 200
        client.h2.send_data(stream, frame(1, b"hello"))
        client.h2.send_data(stream, frame(8, b"\x03\xe8"), end_stream=True)
        client.flush()
        assert client.body(stream) == b"\x81\x05hello\x88\x02\x03\xe8"
        assert client.status(client.request("/")) == 200


def test_graceful_shutdown(server: Servers) -> None:
    handle = server.start()
    command = ["curl", "-sS", "--http2-prior-knowledge", "-w", "%{http_code}"]
    with subprocess.Popen(
        [*command, f"http://127.0.0.1:{handle.port}/sleep/1"], stdout=subprocess.PIPE, env=FOREIGN
    ) as curl:
        time.sleep(0.5)
        handle.process.terminate()
        answer = curl.communicate(timeout=30)[0]
    assert answer.endswith(b"200")
    assert handle.wait() == 0


@pytest.fixture(scope="session")
def h2spec() -> Path:
    """Built once, from the Go module proxy."""
    program = ROOT / "build" / "go" / "h2spec"
    if not program.exists():
        run_go(["install", H2SPEC], GOBIN=str(program.parent))
    return program


def failures(report: str) -> set[tuple[str, int]]:
    """(section, number) of what stands in the last part of h2spec's report."""
    section, found = "", set()
    for line in report.partition("Failures:")[2].splitlines():
        if match := re.match(r"\s+(\d[\d.]*)\. \w", line):
            section = match[1]
        elif match := re.match(r"\s+. (\d+): ", line):
            found.add((section, int(match[1])))
    return found


@pytest.mark.timeout(600)  # the first one builds it
@pytest.mark.parametrize("secure", [False, True])
def test_h2spec(server: Servers, h2spec: Path, secure: bool, certificate: list[str]) -> None:
    options = ["-P", "/sleep/0.2", "-o", "4", *(["-t", "-k"] if secure else [])]
    handle = server.start("tests.apps.basic:app", *(certificate if secure else []))
    done = subprocess.run(
        [h2spec, "-p", str(handle.port), *options],
        capture_output=True,
        text=True,
        timeout=200,
        env=FOREIGN,
    )
    assert re.search(r"14\d tests, 14\d passed", done.stdout), done.stdout[-2000:]
    assert failures(done.stdout) <= set(ALLOWED), done.stdout.partition("Failures:")[2]
