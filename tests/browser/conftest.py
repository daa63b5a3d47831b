"""What the browser tests need, all of it real: redis-server, the devops project, Chromium.

A program that is missing fails the test with the name of its Debian package; nothing is skipped and nothing is
downloaded. The server is cdaphne, unless ``CDAPHNE_SERVER_CMD`` names another command to hold the tests against
(``python -m daphne devops.asgi:application -b 127.0.0.1``); ``-p PORT`` is appended to it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from selenium.common.exceptions import WebDriverException

from tests.support import redis_server
from tests.support.chromium import Browser, start_chromium
from tests.support.devops import Devops
from tests.support.servers import Servers

redis_url = redis_server.redis_url


# --- the project ------------------------------------------------------------------------------------------------------


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
