"""The devops project, end to end: Chromium, the server, Redis and a second process."""

from __future__ import annotations

import re

import pytest

from tests.browser.conftest import PAUSE, Browser, Devops

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

# Written down in the project's pipeline.py; the last line of a deployment comes after all of them.
STEPS = [
    "Check out the source",
    "Install dependencies",
    "Run the tests",
    "Build the image",
    "Push the image",
    "Roll out",
    "Check health",
]
WAITS = 16  # pauses in one deployment: after this many the last line is due

# Notes when each line of the log arrives at the page.
WATCH = """
window.arrivals = [];
new MutationObserver((changes) => {
  for (const change of changes) for (const _ of change.addedNodes) window.arrivals.push(performance.now());
}).observe(document.getElementById("deploy-res"), { childList: true });
"""

# Counts the attempts to connect.
COUNT = """
window.attempts = 0;
const Original = WebSocket;
window.WebSocket = class extends Original {
  constructor(...args) { super(...args); window.attempts += 1; }
};
"""


def address(devops: Devops, service: str) -> str:
    return f"{devops.running.url}/services/{service}/"


def test_deploy_fills_two_tabs_live(devops: Devops, browser: Browser) -> None:
    browser.log_in(devops.running.url)
    tabs = browser.open_tabs(address(devops, "payments"))
    for _ in browser.each(tabs):
        browser.driver.execute_script(WATCH)
        assert browser.texts("#deploy-res li") == []

    browser.find("#deploy-button").click()

    for _ in browser.each(tabs):
        browser.wait_for_text("#deploy-res .ok", "Payments 1.8.1 is live")
        assert browser.texts("#deploy-res .start span") == ["demo deploys Payments 1.8.1"]
        assert browser.texts("#deploy-res .step span") == STEPS
        assert len(browser.texts("#deploy-res .info")) == WAITS - 1
        # Line by line and not in one go at the end.
        arrivals = browser.driver.execute_script("return window.arrivals")
        assert arrivals[-1] - arrivals[0] > 1000 * PAUSE * WAITS / 2
        browser.wait_for_text("#service .version", "1.8.1")
        browser.wait_for_text("#service .label", "Live")
        browser.wait_for_text("#unread", "1")
    browser.screenshot("devops")


def test_badge_counts_up_and_is_cleared(devops: Devops, browser: Browser) -> None:
    browser.log_in(devops.running.url)
    tabs = browser.open_tabs(address(devops, "search"))
    assert not browser.find("#unread").is_displayed()
    for count in ("1", "2"):
        browser.find("#deploy-button").click()
        for _ in browser.each(tabs):
            browser.wait_for_text("#unread", count)
    browser.find("#notifications summary").click()
    assert [text.split("is live")[0] for text in browser.texts("#notification-list li")] == [
        "Search 0.31.9 ",
        "Search 0.31.8 ",
    ]

    browser.find("#clear-unread").click()

    for _ in browser.each(tabs):
        browser.wait(lambda: not browser.find("#unread").is_displayed(), "the badge to go out")
    browser.driver.refresh()
    browser.wait_for_state("open")
    assert not browser.find("#unread").is_displayed()


def test_progress_from_another_process(devops: Devops, browser: Browser) -> None:
    browser.log_in(devops.running.url)
    tabs = browser.open_tabs(address(devops, "web-frontend"))

    printed = devops.manage("deploy_demo", "web-frontend", "--pause", "0.02")

    assert "Web frontend 2.14.4 is live" in printed
    for _ in browser.each(tabs):
        browser.wait_for_text("#deploy-res .ok", "Web frontend 2.14.4 is live")
        assert browser.texts("#deploy-res .start span") == [
            "deploy_demo deploys Web frontend 2.14.4"
        ]
        assert browser.texts("#deploy-res .step span") == STEPS
        browser.wait_for_text("#unread", "1")


def test_another_service_is_not_disturbed(devops: Devops, browser: Browser) -> None:
    browser.log_in(devops.running.url)
    browser.open_tabs(address(devops, "search"), 1)

    devops.manage("deploy_demo", "payments", "--pause", "0")

    browser.wait_for_text("[data-service=payments] .version", "1.8.1")
    browser.wait_for_text("#unread", "1")
    assert browser.texts("#deploy-res li") == []


def test_note_is_seen_by_everybody_and_stays_text(devops: Devops, browser: Browser) -> None:
    browser.log_in(devops.running.url)
    tabs = browser.open_tabs(address(devops, "search"))
    text = 'größer <img src=x onerror="throw 1"> & \N{ROCKET}'

    # Keys beyond the basic plane cannot be typed through the driver.
    browser.driver.execute_script("document.getElementById('note').value = arguments[0]", text)
    browser.find("#note-form button").click()

    for _ in browser.each(tabs):
        browser.wait_for_text("#deploy-res .note", text)
        assert browser.texts("#deploy-res .note b") == ["demo"]
        assert browser.texts("#deploy-res img") == []


def test_page_comes_back_after_the_server_was_killed(devops: Devops, browser: Browser) -> None:
    browser.log_in(devops.running.url)
    tabs = browser.open_tabs(address(devops, "payments"))
    # Chromium itself reports each attempt while nobody listens.
    browser.expect_console(r"WebSocket connection to 'ws://127\.0\.0\.1:\d+/ws/[^']*' failed")

    port = devops.kill()
    for _ in browser.each(tabs):
        browser.wait(
            lambda: browser.find("#connection").get_attribute("data-state") != "open",
            "the loss to be seen",
        )
        browser.wait_for_text("#connection", "Reconnecting")
    devops.start(port)
    assert devops.running.port == port

    for _ in browser.each(tabs):
        browser.wait_for_state("open")
        browser.wait_for_text("#connection", "Live")
        [gap] = browser.texts("#deploy-res .gap span")
        assert re.match(r"connected again after \d+ s", gap)
    # It is the same page, the user is still logged in, and both ways work again.
    devops.manage("deploy_demo", "payments", "--pause", "0.02")
    for _ in browser.each(tabs):
        browser.wait_for_text("#deploy-res .ok", "Payments 1.8.1 is live")
        browser.wait_for_text("#unread", "1")
    browser.find("#deploy-button").click()
    for _ in browser.each(tabs):
        browser.wait_for_text("#deploy-res .ok", "Payments 1.8.2 is live")
        browser.wait_for_text("#unread", "2")


def test_deployment_of_a_busy_service_is_refused_on_the_page(
    devops: Devops, browser: Browser
) -> None:
    browser.log_in(devops.running.url)
    browser.open_tabs(address(devops, "search"), 1)
    browser.expect_console(r"/services/search/deploy/ .* 409")

    browser.find("#deploy-button").click()
    browser.wait_for_text("#deploy-res .step", STEPS[0])
    browser.find("#deploy-button").click()

    browser.wait_for_text(
        "#deploy-res .error", "Could not deploy: Search is already being deployed"
    )
    browser.wait_for_text("#deploy-res .ok", "Search 0.31.8 is live")


def test_signed_out_page_stops_trying(devops: Devops, browser: Browser) -> None:
    browser.log_in(devops.running.url)
    browser.open_tabs(address(devops, "search"), 1)
    browser.driver.execute_script(COUNT)
    browser.driver.delete_all_cookies()
    browser.expect_console(r"WebSocket connection to 'ws://127\.0\.0\.1:\d+/ws/[^']*' failed")

    devops.start(devops.kill())

    browser.wait_for_text("#connection", "Signed out")
    browser.wait_for_state("closed")
    seen = browser.driver.execute_script("return window.attempts")
    assert seen >= 1
    # Longer than the longest wait that so few failures lead to.
    browser.driver.execute_async_script("setTimeout(arguments[0], 4500)")
    assert browser.driver.execute_script("return window.attempts") == seen
