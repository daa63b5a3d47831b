"""What a start imports: most of the time to the first answer. How long it takes is a row of the benchmarks."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.programs import ROOT, python
from tests.support.servers import Servers

# Each is some milliseconds, alone or with what it takes along, and none is needed for plain HTTP.
LATER = set(
    "asgiref asyncio.sslproto ast concurrent.futures.thread configparser dataclasses datetime difflib encodings.idna"
    " json logging.config platform shutil ssl tomllib _ssl".split()
)
if sys.version_info < (3, 12):  # inspect has the mark of coroutine functions from then on
    LATER |= {"inspect", "dis"}
else:
    LATER -= {"ast"}


def test_a_plain_start_takes_nothing_along(server: Servers, tmp_path: Path) -> None:
    # Where no pyproject.toml is read; asyncio's debug mode takes inspect.
    env = {"PYTHONPATH": str(ROOT), "PYTHONASYNCIODEBUG": ""}
    handle = server.start("tests.apps.imports:app", cwd=tmp_path, env=env)
    loaded = set(handle.get("/").body.decode().split())
    assert "asyncio.selector_events" in loaded
    assert sorted(loaded & LATER) == []


START = "import sys, pyasgi._core, asyncio, asyncio.base_events as events; "


@pytest.mark.parametrize(
    ("code", "printed"),
    [
        # Nobody sees a stand-in for what he imports himself.
        ("import ssl; print(type(ssl).__name__, ssl.SSLContext.__name__)", "module SSLContext"),
        (
            "from asyncio import sslproto; print(sslproto.SSLProtocol.__module__)",
            "asyncio.sslproto",
        ),
        ("import asyncio.sslproto as s; print(type(s).__name__)", "module"),
        # asyncio's own are as they were, and the modules themselves after the first look.
        ("print(asyncio.sslproto.SSLProtocol.__name__)", "SSLProtocol"),
        ("print(events.ssl.SSLContext is sys.modules['ssl'].SSLContext)", "True"),
        (
            "events.ssl.SSLError; print(events.ssl is asyncio.selector_events.ssl is sys.modules['ssl'])",
            "True",
        ),
        (
            "later = events.ssl; later.added = 1; import ssl; print(ssl.added, events.ssl is ssl)",
            "1 True",
        ),
        (
            "print(asyncio.iscoroutinefunction(asyncio.sleep), 'inspect' in sys.modules)",
            "True True",
        ),
        ("print(hasattr(events.ssl, 'nothing'))", "False"),
    ],
)
def test_stand_ins(code: str, printed: str) -> None:
    assert python(START + code) == printed


def test_modules_that_were_there_stay() -> None:
    code = (
        "import ssl, inspect, pyasgi._core, asyncio.base_events as events; print(events.ssl is ssl)"
    )
    assert python(code) == "True"


def test_the_first_look_may_be_many_threads() -> None:
    code = (
        "import threading; seen = []; gate = threading.Barrier(8)\n"
        "def look():\n"
        "    gate.wait()\n"
        "    seen.append(events.ssl.create_default_context().verify_mode.name)\n"
        "threads = [threading.Thread(target=look) for _ in range(8)]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()\n"
        "print(seen == ['CERT_REQUIRED'] * 8)"
    )
    assert python(START + code) == "True"


def test_coroutine_functions_are_no_signal_handlers() -> None:
    code = (
        "import functools, signal\n"
        "from pyasgi.loop import EventLoop\n"
        "async def wrong(): pass\n"
        "class Wrong:\n"
        "    async def method(self): pass\n"
        "loop = EventLoop()\n"
        "for handler in (wrong, Wrong().method, functools.partial(wrong)):\n"
        "    try: loop.add_signal_handler(signal.SIGUSR2, handler)\n"
        "    except TypeError as error: print(error)\n"
        "loop.add_signal_handler(signal.SIGUSR2, functools.partial(print, 'called'))\n"
        "signal.raise_signal(signal.SIGUSR2)\n"
        "loop.call_later(0.05, loop.stop)\n"
        "loop.run_forever()\n"
        "loop.close()"
    )
    refused = "coroutines cannot be used with add_signal_handler()"
    assert python(START + code).splitlines() == [refused] * 3 + ["called"]
