"""Install a wheel of dist/ into a Debian that has Python and nothing else, and talk to the server there.

    python scripts/try_wheel.py          as root; called by `make dist-try`
    python scripts/try_wheel.py ROOT     the same in a Debian that is unpacked already

debootstrap makes the Debian once, below build/.  Nothing is installed from a network inside: pip finds
the wheel and asgiref in a folder.  The clients run outside.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import websockets.asyncio.client
from fetch_llhttp import once

ROOT = Path(__file__).resolve().parent.parent
RELEASE = "bookworm"
MIRROR = "http://deb.debian.org/debian"
SECONDS = 60.0  # for the server to listen, under an emulator, too
APPLICATION = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        body = f"HTTP/{scope['http_version']} {scope['scheme']}".encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": event["text"]})
"""


def debian(folder: Path) -> Path:
    def make(scratch: Path) -> Path:
        root = scratch / "root"
        packages = "--include=python3,python3-venv"
        command = ["debootstrap", "--variant=minbase", packages, RELEASE, str(root), MIRROR]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return root

    return once(folder, make)


def inside(root: Path, *command: str) -> str:
    done = subprocess.run(
        ["chroot", str(root), *command], check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


def install(root: Path) -> None:
    tag = inside(
        root, "python3", "-c", "import sys; print('cp%d%d' % sys.version_info[:2])"
    ).strip()
    machine = inside(root, "uname", "-m").strip()
    (wheel,) = (ROOT / "dist").glob(f"cdaphne-[0-9]*-{tag}-{tag}-*_{machine}.whl")
    shutil.rmtree(root / "opt", ignore_errors=True)
    wheels = root / "opt" / "wheels"
    wheels.mkdir(parents=True)
    shutil.copy(wheel, wheels)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(wheels)]
    subprocess.run([*pip, "asgiref>=3.8"], check=True)
    (root / "opt" / "application.py").write_text(APPLICATION)
    inside(root, "python3", "-m", "venv", "/opt/venv")
    pip = ["/opt/venv/bin/pip", "install", "--quiet", "--no-index", "--find-links", "/opt/wheels"]
    inside(root, *pip, "cdaphne")


def certificate(folder: Path) -> None:
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run([*command.split(), *names], cwd=folder, check=True, capture_output=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + SECONDS
    while server.poll() is None and time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise SystemExit("the server does not listen")


def answer(root: Path, port: int, *options: str) -> str:
    command = ["curl", "-sS", "--cacert", str(root / "opt/cert.pem"), *options]
    url = f"https://localhost:{port}/"
    return subprocess.run([*command, url], check=True, stdout=subprocess.PIPE, text=True).stdout


async def echoed(root: Path, port: int) -> str:
    context = ssl.create_default_context(cafile=root / "opt/cert.pem")
    uri = f"wss://localhost:{port}/"
    async with websockets.asyncio.client.connect(uri, ssl=context) as client:  # deflate is offered
        await client.send("echo " * 100)
        return str(await client.recv())


def talk(root: Path, port: int) -> None:
    said = [answer(root, port, "--http1.1"), answer(root, port, "--http2")]
    assert said == ["HTTP/1.1 https", "HTTP/2 https"], said
    assert asyncio.run(echoed(root, port)) == "echo " * 100
    print("answered over TLS: HTTP/1.1, HTTP/2, WebSocket")


def main(arguments: list[str]) -> int:
    root = Path(arguments[0]) if arguments else debian(ROOT / "build" / f"debian-{RELEASE}")
    install(root)
    print(inside(root, "/opt/venv/bin/cdaphne", "--version").strip())
    certificate(root / "opt")
    port = free_port()
    command = [
        "chroot",
        str(root),
        "env",
        "PYTHONPATH=/opt",
        "/opt/venv/bin/cdaphne",
        "--port",
        str(port),
    ]
    command += ["--certfile", "/opt/cert.pem", "--keyfile", "/opt/key.pem", "application:app"]
    with subprocess.Popen(command) as server:
        try:
            wait_for(port, server)
            talk(root, port)
        finally:
            server.terminate()
    return server.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
