"""The Autobahn cases, run by kosoku against the real command line.

9.* (messages of up to 16 MiB) need the message limits raised. 12.* and 13.* (permessage-deflate) run as the server
comes, and with all that it can do: context takeover, the largest windows, no message too small; of their thousand
messages for each case the first twenty are sent. A case passes
when kosoku says OK for the messages and for the close; what it says less of must be in ALLOWED.
"""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

import pytest
from kosoku import FailureError, _caseindex, run_fuzzingclient

from tests.support.servers import Servers

pytestmark = pytest.mark.server

# Case: the verdict that it may have, and why.
ALLOWED = {
    "7.1.6": "INFORMATIONAL",  # 256 KiB, then close at once: whether both are answered is left open
    "7.13.1": "INFORMATIONAL",  # close code 5000: the RFC does not say what a peer does with it
    "7.13.2": "INFORMATIONAL",  # the same for 65535
}

# How many cases there are, so that none goes missing in silence.
GROUPS = {"1": 16, "2": 11, "3": 7, "4": 10, "5": 20, "6": 145, "7": 37, "9": 54, "10": 1}
DEFLATE_GROUPS = {"12": 90, "13": 126}
DEFLATE_MESSAGES = 20

LARGE = ("--websocket-max-message-size", "20000000", "--websocket-max-frame-size", "20000000")
LAVISH = (
    "--websocket-deflate-context-takeover",
    *("--websocket-deflate-window-bits", "15"),
    *("--websocket-deflate-min-size", "0"),
    *("--websocket-deflate-level", "6"),
)


async def run_cases(url: str, group: str) -> list[Any]:
    try:
        return list(await run_fuzzingclient(url, [f"{group}.*"], None, concurrency=4))
    except FailureError as failure:
        return list(failure.results)


def check(results: list[Any], number: int) -> None:
    verdicts = {r.case_id: {r.behavior.value, r.behavior_close.value} for r in results}
    wrong = {
        case: sorted(verdict)
        for case, verdict in verdicts.items()
        if verdict != {"OK"} and verdict != {ALLOWED.get(case)}
    }
    assert wrong == {}
    assert len(verdicts) == number


@pytest.mark.parametrize("group", GROUPS)
def test_cases(server: Servers, group: str) -> None:
    handle = server.start("tests.apps.basic:app", *(LARGE if group == "9" else ()))
    check(asyncio.run(run_cases(f"{handle.ws_url}/", group)), GROUPS[group])


@pytest.fixture
def deflate_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    """kosoku's own cases, with fewer messages, and mended.

    A message that came uncompressed, which RFC 7692 allows at any time, reaches them as str, and they fail on it:
    they were written for Python 2.
    """
    _caseindex.initialize_shims()
    module = importlib.import_module("case12_x_x")
    on_message = module.onMessage

    def mended(case: Any, message: str | bytes, binary: bool) -> None:
        if isinstance(message, str):
            message = message.encode("latin-1" if binary else "utf-8")
        on_message(case, message, binary)

    for case in module.Case12_X_X + module.Case13_X_X:
        monkeypatch.setattr(case, "onMessage", mended)
        monkeypatch.setattr(case, "COUNT", DEFLATE_MESSAGES)


@pytest.mark.usefixtures("deflate_cases")
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # kosoku's test data
@pytest.mark.parametrize("flags", [(), LAVISH], ids=["lean", "lavish"])
@pytest.mark.parametrize("group", DEFLATE_GROUPS)
def test_deflate_cases(server: Servers, group: str, flags: tuple[str, ...]) -> None:
    handle = server.start("tests.apps.basic:app", *flags)
    check(asyncio.run(run_cases(f"{handle.ws_url}/", group)), DEFLATE_GROUPS[group])
