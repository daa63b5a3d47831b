"""The server fixture: the real command line in a subprocess, spoken to over real sockets.

``server.start("tests.apps.basic:app", "--http-timeout", "1")`` gives a :class:`Handle`. At teardown every server that
still runs is stopped with SIGTERM and inspected: exit status 0, no traceback and no ERROR line on stderr (unless the
test called ``handle.expect_errors()``), no descriptor leaked, and with a CD_DEBUG extension no live object left.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator

import pytest

from tests.support.authority import Authority, Issued
from tests.support.servers import Servers


def pytest_configure() -> None:
    """A shell that runs us in the background has SIGINT ignored, nohup SIGHUP, and our servers would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts the server is marked so: `make test` runs it again in other surroundings."""
    for item in items:
        if "server" in getattr(item, "fixturenames", ()):
            item.add_marker("server")


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority for the tests of one file."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def site(ca: Authority) -> Issued:
    """The server's certificate."""
    return ca.issue("site")


@pytest.fixture
def server() -> Iterator[Servers]:
    """Factory of servers; see the module's docstring."""
    servers = Servers()
    yield servers
    servers.finish()


@pytest.fixture
def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
