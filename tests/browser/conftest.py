"""What the browser tests need, all of it real: redis-server, the devops project, Chromium.

A program that is missing fails the test with the name of its Debian package; nothing is skipped and nothing is
downloaded. The server is cdaphne, unless ``CDAPHNE_SERVER_CMD`` names another command to hold the tests against
(``python -m daphne devops.asgi:application -b 127.0.0.1``); ``-p PORT`` is appended to it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from selenium.common.exceptions import WebDriverException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from tests import redis_server
from tests.conftest import ROOT, TROUBLE, Handle, Servers, wait_for

redis_url = redis_server.redis_url
DEVOPS = ROOT / "examples" / "devops"
ARTIFACTS = ROOT / "build" / "artifacts"
PAUSE = 0.12  # seconds between two lines of a deployment
PATIENCE = 30.0  # seconds for anything that the page should show
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
)


def program(names: tuple[str, ...], package: str) -> str:
    """Path of the first of these programs that is installed."""
    for name in names:
        if path := shutil.which(name):
            return path
    pytest.fail(f"{names[0]} is not installed: apt-get install {package}")


# --- the project ------------------------------------------------------------------------------------------------------


class Devops:
    """The devops project with a database of its own, and the server it runs on."""

    def __init__(self, servers: Servers, redis_url: str, folder: Path) -> None:
        self.servers = servers
        self.env = {
            "DJANGO_SETTINGS_MODULE": "devops.settings",
            "DEVOPS_DB": str(folder / "db.sqlite3"),
            "DEVOPS_PAUSE": str(PAUSE),
            "REDIS_URL": redis_url,
        }
        self.foreign: list[Handle] = []
        self.handle: Handle | None = None

    def manage(self, *args: str) -> str:
        """Runs manage.py in a process of its own and returns what it printed."""
        done = subprocess.run(
            [sys.executable, "manage.py", *args],
            cwd=DEVOPS,
            env={**os.environ, **self.env},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (
            f"manage.py {' '.join(args)}: status {done.returncode}\n{done.stderr}"
        )
        return done.stdout

    def start(self, port: int = 0) -> None:
        """Starts the server on this port, 0 for a free one."""
        if command := os.environ.get("CDAPHNE_SERVER_CMD"):
            self.handle = self._start_foreign([*shlex.split(command), "-p", str(port)])
        else:
            bind = ("-b", "127.0.0.1", "-p", str(port))
            self.handle = self.servers.start(
                "devops.asgi:application", bind=bind, cwd=DEVOPS, env={**self.env}
            )

    def _start_foreign(self, command: list[str]) -> Handle:
        process = subprocess.Popen(
            command,
            cwd=DEVOPS,
            env={**os.environ, **self.env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        handle = Handle(process, "127.0.0.1")
        self.foreign.append(handle)
        handle.port = int(
            handle.wait_for_log(r"Listening on TCP address \S+:(\d+)", PATIENCE).group(1)
        )
        return handle

    @property
    def running(self) -> Handle:
        assert self.handle is not None, "start() comes first"
        return self.handle

    def kill(self) -> int:
        """SIGKILL, as the kernel does it when memory runs out; returns the port."""
        handle = self.running
        handle.expect_errors()  # of the exit status; the log is looked at here
        handle.process.kill()
        handle.wait()
        trouble = TROUBLE.search(handle.stderr())
        assert trouble is None, f"before it was killed, the server logged:\n{handle.stderr()}"
        return handle.port

    def stop_foreign(self) -> None:
        for handle in self.foreign:
            handle.stop()


@pytest.fixture
def devops(redis_url: str, server: Servers, tmp_path: Path) -> Iterator[Devops]:
    """The project, migrated, with its demonstration data, and its server started."""
    # Redis comes first, and so goes last: a server that outlives it has reason to complain.
    project = Devops(server, redis_url, tmp_path)
    project.manage("migrate", "--verbosity", "0")
    assert "password: demo" in project.manage("demo_data")
    try:
        project.start()
        yield project
    finally:
        project.stop_foreign()


# --- the browser ------------------------------------------------------------------------------------------------------


class Browser:
    """One Chromium with one user; everything that is looked for is waited for."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver
        self._expected: list[str] = []

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        """Texts of all matching elements, read in one step: the page changes meanwhile."""
        script = (
            "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent.trim())"
        )
        found: list[str] = self.driver.execute_script(script, selector)
        return found

    def wait(self, condition: Callable[[], object], what: str) -> object:
        return wait_for(condition, PATIENCE, what)

    def wait_for_text(self, selector: str, text: str) -> None:
        """Until an element that is shown and matches contains the text."""
        self.wait(
            lambda: any(text in found for found in self.texts(f"{selector}:not([hidden])")),
            f"{text!r} in {selector}",
        )

    def wait_for_state(self, state: str) -> None:
        self.wait(
            lambda: self.find("#connection").get_attribute("data-state") == state, f"state {state}"
        )

    def log_in(self, url: str, user: str = "demo", password: str = "demo") -> None:
        self.driver.get(f"{url}/")
        self.find("input[name=username]").send_keys(user)
        self.find("input[name=password]").send_keys(password)
        self.find("form button").click()
        self.wait(
            lambda: self.driver.find_elements(By.ID, "deploy-res"), "the page after the login"
        )

    def open_tabs(self, address: str, count: int = 2) -> list[str]:
        """This address in as many tabs, all their sockets open; returns the tabs."""
        for number in range(count):
            if number:
                self.driver.switch_to.new_window("tab")
            self.driver.get(address)
        tabs = self.driver.window_handles
        for _ in self.each(tabs):
            self.wait_for_state("open")
        return tabs

    def each(self, tabs: list[str]) -> Iterator[str]:
        """Makes one tab after the other the current one."""
        for tab in tabs:
            self.driver.switch_to.window(tab)
            yield tab

    def expect_console(self, pattern: str) -> None:
        """From now on a console message that matches is no complaint."""
        self._expected.append(pattern)

    def complaints(self) -> list[str]:
        """Warnings and errors on the console, uncaught exceptions included, that nobody expected."""
        messages = [
            entry["message"]
            for entry in self.driver.get_log("browser")  # type: ignore[no-untyped-call]
            if entry["level"] in ("WARNING", "SEVERE")
        ]
        return [
            text
            for text in messages
            if not any(re.search(expected, text) for expected in self._expected)
        ]

    def screenshot(self, name: str) -> Path:
        ARTIFACTS.mkdir(parents=True, exist_ok=True)
        path = ARTIFACTS / f"{name}.png"
        self.driver.save_screenshot(str(path))
        return path


def start_chromium(profile: str) -> Chrome:
    options = ChromeOptions()
    # Both are given, so that selenium has no reason to look for, or to load down, anything.
    options.binary_location = program(("chromium", "chromium-browser"), "chromium")
    service = Service(program(("chromedriver",), "chromium-driver"))
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return Chrome(options=options, service=service)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keeps a picture of the page on which a test failed."""
    report = yield
    chromium = getattr(item, "funcargs", {}).get("browser")
    if report.when == "call" and report.failed and isinstance(chromium, Browser):
        try:
            path = chromium.screenshot(f"failed-{item.name}")
        except WebDriverException as error:
            report.sections.append(("screenshot", f"none: {error.msg}"))
        else:
            report.sections.append(("screenshot", str(path)))
    return report


@pytest.fixture
def browser() -> Iterator[Browser]:
    """A fresh Chromium. What its console complains about fails the test."""
    with tempfile.TemporaryDirectory(
        prefix="cdaphne-chromium-", ignore_cleanup_errors=True
    ) as profile:
        driver = start_chromium(profile)
        try:
            chromium = Browser(driver)
            yield chromium
            # The console is written by another process: give the last message a moment.
            time.sleep(0.2)
            complaints = chromium.complaints()
        finally:
            driver.quit()
    assert not complaints, "on the browser's console:\n" + "\n".join(complaints)
