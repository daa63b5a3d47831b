"""The Autobahn cases, run by kosoku against the real command line.

12.* and 13.* (permessage-deflate) are left out: the server offers no compression. 9.* (messages of
up to 16 MiB) need the message limits raised. A case passes when kosoku says OK for the messages and
for the close; what it says less of must be in ALLOWED.
"""

from __future__ import annotations

import asyncio

import pytest
from kosoku import FailureError, run_fuzzingclient

from tests.conftest import Servers

pytestmark = pytest.mark.server

# Case: the verdict that it may have, and why.
ALLOWED = {
    "7.1.6": "INFORMATIONAL",  # 256 KiB, then close at once: whether both are answered is left open
    "7.13.1": "INFORMATIONAL",  # close code 5000: the RFC does not say what a peer does with it
    "7.13.2": "INFORMATIONAL",  # the same for 65535
}

# How many cases there are, so that none goes missing in silence.
GROUPS = {"1": 16, "2": 11, "3": 7, "4": 10, "5": 20, "6": 145, "7": 37, "9": 54, "10": 1}

LARGE = ("--websocket-max-message-size", "20000000", "--websocket-max-frame-size", "20000000")


async def run_cases(url: str, group: str) -> list[object]:
    try:
        return list(await run_fuzzingclient(url, [f"{group}.*"], None, concurrency=4))
    except FailureError as failure:
        return list(failure.results)


@pytest.mark.parametrize("group", GROUPS)
def test_cases(server: Servers, group: str) -> None:
    handle = server.start("tests.apps.basic:app", *(LARGE if group == "9" else ()))
    results = asyncio.run(run_cases(f"{handle.ws_url}/", group))
    verdicts = {r.case_id: {r.behavior.value, r.behavior_close.value} for r in results}
    wrong = {
        case: sorted(verdict)
        for case, verdict in verdicts.items()
        if verdict != {"OK"} and verdict != {ALLOWED.get(case)}
    }
    assert wrong == {}
    assert len(verdicts) == GROUPS[group]
