"""CPython's own tests of asyncio and of selectors, run on our loop and Poller.

tests/support/cpython_asyncio.py runs each module in a process of its own and lists the exceptions with their reasons.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from tests.support.programs import ROOT

SUITES = [
    "test.test_selectors",
    "test.test_asyncgen",
    "test.test_asyncio.test_base_events",
    "test.test_asyncio.test_buffered_proto",
    "test.test_asyncio.test_context",
    "test.test_asyncio.test_events",
    "test.test_asyncio.test_locks",
    "test.test_asyncio.test_queues",
    "test.test_asyncio.test_sendfile",
    "test.test_asyncio.test_server",
    "test.test_asyncio.test_sock_lowlevel",
    "test.test_asyncio.test_ssl",
    "test.test_asyncio.test_sslproto",
    "test.test_asyncio.test_streams",
    "test.test_asyncio.test_subprocess",
    "test.test_asyncio.test_taskgroups",
    "test.test_asyncio.test_tasks",
    "test.test_asyncio.test_threads",
    "test.test_asyncio.test_timeouts",
    "test.test_asyncio.test_unix_events",
    "test.test_asyncio.test_waitfor",
]
if sys.version_info >= (3, 12):
    SUITES.append("test.test_asyncio.test_eager_task_factory")
if sys.version_info >= (3, 13):
    SUITES.append("test.test_asyncio.test_staggered")


def has_suites() -> bool:
    # Debian has them in libpython3-testsuite; test.support alone comes with the interpreter.
    try:
        return importlib.util.find_spec("test.test_asyncio.test_events") is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.skipif(not has_suites(), reason="this interpreter comes without its asyncio tests")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("suite", SUITES)
def test_cpythons_own_tests_pass(suite: str) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONWARNINGS"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.cpython_asyncio", suite],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["run"] > 0 and told["made"] > 0, output
