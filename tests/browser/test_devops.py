"""The devops project, end to end: Chromium, the server, Redis and a second process."""

from __future__ import annotations

import re

import pytest

from tests.support.chromium import Browser
from tests.support.devops import PAUSE, Devops

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


# --- what the page looks like -----------------------------------------------------------------------------------------

# Widths that matter: [what is shown, what there is room for] of the note's placeholder.
PLACEHOLDER = """
const input = document.getElementById("note"), style = getComputedStyle(input);
const canvas = document.createElement("canvas").getContext("2d");
canvas.font = `${style.fontStyle} ${style.fontWeight} ${style.fontSize} ${style.fontFamily}`;
const padding = parseFloat(style.paddingLeft) + parseFloat(style.paddingRight);
return [canvas.measureText(input.placeholder).width, input.clientWidth - padding];
"""

# Pixels by which the uppermost visible line of the log is cut, and whether there is more than fits.
CUT = """
const pane = document.getElementById("deploy-res"), edge = pane.getBoundingClientRect().top;
const boxes = [...pane.children].map((line) => line.getBoundingClientRect());
const cut = boxes.filter((box) => box.top < edge - 1 && box.bottom > edge + 1);
return [cut.map((box) => edge - box.top), pane.scrollHeight > pane.clientHeight];
"""

# Left edges of what stands beside what changes.
PLACES = """
return [...document.querySelectorAll("#deploy-button, .head dt, .top .user, #notifications")]
  .map((element) => element.getBoundingClientRect()).map((box) => [box.left, box.width]);
"""


def resize(browser: Browser, width: int, height: int) -> None:
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def test_lines_are_still_there_after_a_reload(devops: Devops, browser: Browser) -> None:
    browser.log_in(devops.running.url)
    browser.open_tabs(address(devops, "payments"), 1)
    browser.find("#deploy-button").click()
    browser.wait_for_text("#deploy-res .step", STEPS[2])

    browser.driver.refresh()  # in the middle: what was said, and then what is said

    browser.wait_for_text("#deploy-res .ok", "Payments 1.8.1 is live")
    assert browser.texts("#deploy-res .start span") == ["demo deploys Payments 1.8.1"]
    assert browser.texts("#deploy-res .step span") == STEPS
    before = browser.texts("#deploy-res li")
    browser.driver.refresh()
    browser.wait_for_text("#deploy-res .ok", "Payments 1.8.1 is live")
    assert browser.texts("#deploy-res li") == before
    browser.wait_for_text("#step-text", "Done")


def test_a_service_that_fails(devops: Devops, browser: Browser) -> None:
    browser.log_in(devops.running.url)
    browser.open_tabs(address(devops, "invoices"), 1)
    browser.find("#deploy-button").click()
    browser.wait_for_text("#deploy-res .error", "Deployment failed: step 3, run the tests")
    browser.wait_for_text("#service .label", "Failed")
    browser.wait_for_text("#step-text", "Failed")
    browser.wait_for_text("#deploy-button", "Deploy")
    assert browser.texts("#service .version") == ["0.9.4"]


def test_round_trip_and_protocol(devops: Devops, browser: Browser) -> None:
    browser.log_in(devops.running.url)
    browser.open_tabs(address(devops, "search"), 1)
    browser.wait(
        lambda: re.fullmatch(r"[0-9.]+ ms", browser.texts("#round-trip")[0]), "the round trip"
    )
    browser.wait_for_text(".top .protocols", "HTTP/1.1, ws")


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_nothing_is_cut_and_nothing_jumps(
    devops: Devops, browser: Browser, width: int, height: int
) -> None:
    resize(browser, width, height)
    browser.log_in(devops.running.url)
    browser.open_tabs(address(devops, "payments"), 1)
    browser.wait(lambda: browser.texts("#round-trip")[0], "the round trip")
    overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.driver.execute_script(overflow) <= 0
    needed, room = browser.driver.execute_script(PLACEHOLDER)
    assert needed <= room
    before = browser.driver.execute_script(PLACES)

    browser.find("#deploy-button").click()
    browser.wait_for_text("#deploy-button", "Deploying")

    assert browser.driver.execute_script(PLACES) == before
    browser.wait_for_text("#deploy-res .ok", "Payments 1.8.1 is live")
    browser.wait_for_text("#deploy-button", "Deploy")
    assert browser.driver.execute_script(PLACES) == before
    # The lines arrive by an animation of 0.25 s.
    browser.wait(lambda: browser.driver.execute_script(CUT) == [[], True], "no line to be cut")
    browser.screenshot(f"devops-{width}")


def test_pages_for_strangers(devops: Devops, browser: Browser) -> None:
    browser.driver.get(f"{devops.running.url}/")
    browser.wait_for_text(".about", "A demonstration of cdaphne")
    assert browser.texts(".hint") == ["User demo, password demo"]
    browser.log_in(devops.running.url)
    browser.wait_for_text("aside.about", "open a second tab")
    browser.expect_console(r"/nowhere/ .* 404")
    browser.driver.get(f"{devops.running.url}/nowhere/")
    assert browser.texts("h1") == ["Not found"]
    browser.find("a.button").click()
    browser.wait_for_text("h2", "Live log")
