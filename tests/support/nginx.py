"""The real nginx in front of a server."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.programs import FOREIGN
from tests.support.wait import wait_for

CONFIG = """
{user}
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log error;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 64m;
    upstream cdaphne {{ server {upstream}; keepalive 4; }}
    map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://cdaphne;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            {forwarded}
        }}
        location /old/ {{
            proxy_pass http://cdaphne/;
            proxy_http_version 1.0;
            proxy_set_header Connection close;
            {forwarded}
        }}
        location /unbuffered/ {{
            proxy_pass http://cdaphne/;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            {forwarded}
            proxy_request_buffering off;
            proxy_buffering off;
        }}
    }}
}}
"""
# A location that sets one header inherits none.
FORWARDED = """
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto https;
"""


def nginx_program() -> str:
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        pytest.fail("nginx is not installed: apt-get install nginx (scripts/packages.txt)")
    return found


class Nginx:
    """An nginx of our own in front of a server."""

    def __init__(self, folder: Path, port: int, upstream: str) -> None:
        self.folder = folder
        # As root its workers become another user, who may not enter pytest's folder.
        user = "user root;" if os.getuid() == 0 else ""
        config = folder / "nginx.conf"
        config.write_text(
            CONFIG.format(
                folder=folder, port=port, upstream=upstream, user=user, forwarded=FORWARDED
            )
        )
        self.process = subprocess.Popen(
            [nginx_program(), "-p", str(folder), "-e", f"{folder}/error.log", "-c", str(config)],
            env=FOREIGN,
        )
        wait_for(lambda: self._listens(port), 20, "nginx listens")

    def _listens(self, port: int) -> bool:
        assert self.process.poll() is None, self.errors()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    def errors(self) -> str:
        return (self.folder / "error.log").read_text()

    def close(self) -> None:
        self.process.send_signal(signal.SIGQUIT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
