"""A Chromium that is driven through chromedriver, and waits for everything that it looks for."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from tests.support.programs import ROOT
from tests.support.wait import wait_for

ARTIFACTS = ROOT / "build" / "artifacts"
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
