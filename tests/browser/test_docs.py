"""The pages of the documentation in Chromium: nothing is wider than a desktop or a telephone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.docs.site import build
from tests.support.chromium import Browser

pytestmark = pytest.mark.browser

# What may be wider than the page lies in a box of its own that scrolls.
WIDER = """
const width = document.documentElement.clientWidth;
const scrolls = (e) => ["auto", "scroll", "hidden"].includes(getComputedStyle(e).overflowX);
const boxed = (e) => e && (scrolls(e) || boxed(e.parentElement));
return [...document.querySelectorAll("article *")]
    .filter((e) => e.getBoundingClientRect().right > width + 1 && !boxed(e.parentElement))
    .map((e) => e.tagName + " " + e.textContent.trim().slice(0, 60));
"""


def size(browser: Browser, width: int) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_overflows(browser: Browser, width: int) -> None:
    site = build()
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 25
    size(browser, width)
    wider = {}
    for page in pages:
        browser.driver.get(page.as_uri())
        found = browser.driver.execute_script("return document.scrollingElement.scrollWidth")
        elements = browser.driver.execute_script(WIDER)
        if found > width or elements:
            wider[str(page.relative_to(site))] = (found, elements)
    assert wider == {}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def served() -> Iterator[str]:
    """The address of the site; its search fetches pages, which a browser does not do from files."""
    handler = partial(Quiet, directory=str(build()))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_search_finds_a_page(served: str, browser: Browser) -> None:
    browser.driver.get(f"{served}/search.html?q=zerocopysend")
    browser.wait_for_text("#search-results a", "ASGI extensions")
