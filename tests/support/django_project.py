"""A project of django-admin startproject in a folder of its own, with cdaphne in it, and its runserver."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

from tests.support.client import RawClient
from tests.support.handle import Handle
from tests.support.programs import ROOT
from tests.support.wait import wait_for

BANNER = re.compile(r"Starting ASGI/Daphne version (\S+) development server at http://(\S+):(\d+)/")
WSGI_BANNER = re.compile(r"Starting (?:WSGI )?development server at http://(\S+):(\d+)/")
START = 60.0  # seconds, on a busy machine

SETTINGS = """
INSTALLED_APPS.insert(0, "pyasgi")
ASGI_APPLICATION = "mysite.asgi.application"
ALLOWED_HOSTS = ["*"]
"""

ASGI = """
import os
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
django_application = get_asgi_application()


async def application(scope, receive, send):
    if scope["type"] == "http":
        await django_application(scope, receive, send)
    elif scope["type"] == "websocket":
        await websocket(scope, receive, send)
    else:
        raise ValueError(scope["type"])


async def websocket(scope, receive, send):
    await receive()
    if scope["path"] == "/no":
        await send({"type": "websocket.close"})
        return
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event["text"]})
"""

URLS = """
import asyncio
import threading

from django.http import HttpResponse
from django.urls import path

VERSION = "first"


def version(request):
    return HttpResponse(VERSION)


async def thread(request):
    return HttpResponse(threading.current_thread().name)


def status(request, code):
    return HttpResponse(status=code)


def root(request):
    return HttpResponse(request.META["SCRIPT_NAME"])


async def slow(request):
    await asyncio.sleep(30)


urlpatterns = [
    path("version", version),
    path("thread", thread),
    path("status/<int:code>", status),
    path("root", root),
    path("slow", slow),
]
"""


class Runserver(Handle):
    """A running ``manage.py runserver``: in a session of its own, so that its signals reach the reloader's child."""

    def find(self, pattern: re.Pattern[str]) -> re.Match[str]:
        """Waits for the pattern in what it printed."""
        found = wait_for(
            lambda: pattern.search(self.stdout()) or self.process.poll() is not None,
            START,
            f"{pattern.pattern!r} in:\n{self.stdout()}\n{self.stderr()}",
        )
        assert isinstance(found, re.Match), f"it ended:\n{self.stdout()}\n{self.stderr()}"
        return found

    def interrupt(self) -> int:
        """CONTROL-C, and the exit status."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.wait()

    def end(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)

    def open_websocket(self, path: str, header: str = "X-Nothing: 1") -> RawClient:
        """A connection after its handshake; AssertionError when it was refused."""
        client = self.connect()
        client.send(
            f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{header}\r\n\r\n".encode()
        )
        head = client.read_until(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101 "):
            client.close()
            raise AssertionError(f"the handshake was refused: {head!r}")
        return client

    def body(self, path: str) -> str:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=30) as answer:
            text: str = answer.read().decode()
            return text


class Project:
    """settings, asgi, urls: appended to, or put in place of, the project's."""

    def __init__(self, folder: Path) -> None:
        self.take(folder, DJANGO_SETTINGS_MODULE="mysite.settings")
        self.package = folder / "mysite"
        subprocess.run(
            [sys.executable, "-m", "django", "startproject", "mysite", str(folder)], check=True
        )
        self.settings(SETTINGS)
        (self.package / "asgi.py").write_text(ASGI)
        (self.package / "urls.py").write_text(URLS)

    @classmethod
    def existing(cls, folder: Path, **variables: str) -> Project:
        """A project that is there already."""
        project = cls.__new__(cls)
        project.take(folder, **variables)
        return project

    def take(self, folder: Path, **variables: str) -> None:
        self.folder = folder
        self.variables = variables
        self.servers: list[Runserver] = []

    def settings(self, text: str) -> None:
        """Adds to the settings."""
        with (self.package / "settings.py").open("a") as file:
            file.write(text + "\n")

    def command(self, *args: str) -> list[str]:
        return [sys.executable, str(self.folder / "manage.py"), *args]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT), **self.variables}

    def manage(self, *args: str) -> subprocess.CompletedProcess[str]:
        """Runs manage.py to its end."""
        return subprocess.run(
            self.command(*args),
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def runserver(
        self, *args: str, address: str = "127.0.0.1:0", banner: re.Pattern[str] = BANNER
    ) -> Runserver:
        """Starts runserver and waits for its banner."""
        process = subprocess.Popen(
            self.command("runserver", address, *args),
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        server = Runserver(process, "127.0.0.1")
        self.servers.append(server)
        found = server.find(banner)
        server.port = int(found.groups()[-1])
        return server

    def end(self) -> None:
        for server in self.servers:
            server.end()
