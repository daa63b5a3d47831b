"""Chromium speaks HTTP/2 with the server, and WebSocket inside of it (RFC 8441)."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

from tests.support.authority import Authority
from tests.support.chromium import FLAGS, program
from tests.support.servers import Servers

pytestmark = [pytest.mark.browser, pytest.mark.server]

ECHO = """
const done = arguments[arguments.length - 1];
const socket = new WebSocket(`wss://${location.host}/chat`);
socket.onopen = () => socket.send('hello');
socket.onmessage = event => { socket.close(); done(event.data); };
socket.onerror = () => done('error');
"""


@pytest.fixture
def chromium() -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = program(("chromium", "chromium-browser"), "chromium")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    with tempfile.TemporaryDirectory() as profile:
        for flag in (*FLAGS, "--ignore-certificate-errors", f"--user-data-dir={profile}"):
            options.add_argument(flag)
        service = Service(program(("chromedriver",), "chromium-driver"))
        driver = Chrome(options=options, service=service)
        driver.set_script_timeout(20)
        yield driver
        driver.quit()


def heard(driver: Chrome) -> list[dict[str, Any]]:
    """What the devtools protocol told, as far as it is about the network."""
    return [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]


def test_page_and_websocket(server: Servers, chromium: Chrome, tmp_path: Path) -> None:
    issued = Authority(tmp_path).issue("site")
    flags = ["--certfile", str(issued.cert), "--keyfile", str(issued.key)]
    handle = server.start("tests.apps.basic:app", *flags)
    chromium.get(f"https://localhost:{handle.port}/scope")
    assert '"http_version": "2"' in chromium.page_source
    assert chromium.execute_async_script(ECHO) == "hello"  # type: ignore[no-untyped-call]
    messages = heard(chromium)
    pages = [m["params"]["response"] for m in messages if m["method"] == "Network.responseReceived"]
    assert {page["protocol"] for page in pages if page["url"].endswith("/scope")} == {"h2"}
    handshakes = [
        message["params"]["response"]
        for message in messages
        if message["method"] == "Network.webSocketHandshakeResponseReceived"
    ]
    # HTTP/1.1 would have 101 Switching Protocols.
    assert [handshake["status"] for handshake in handshakes] == [200], handshakes
