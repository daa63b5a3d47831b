"""Context managers of pyasgi.testing: with an application of the test, and with one that records what it receives."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyasgi.testing import BaseDaphneTestingInstance, DaphneTestingInstance, TestApplication
from tests.apps import served
from tests.support.programs import ROOT
from tests.support.wait import wait_for

# Python 3.12 and newer: the tests' process has threads, as those of other projects have.
pytestmark = [
    pytest.mark.server,
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]


class Instance(BaseDaphneTestingInstance):
    startup_timeout = 60


class Recorder(DaphneTestingInstance):
    startup_timeout = 60


@pytest.fixture(autouse=True)
def _no_files_left() -> Iterator[None]:
    yield
    TestApplication.delete_setup()
    TestApplication.delete_result()


def get(instance: Any, headers: dict[str, str] | None = None) -> bytes:
    request = urllib.request.Request(
        f"http://{instance.host}:{instance.port}/path?query", None, headers or {}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        body: bytes = answer.read()
        return body


def test_serves_the_application_and_ends_with_the_block() -> None:
    with Instance(application=served.hello) as instance:
        assert int(get(instance)) == instance.process.pid
        port = instance.port
    assert not hasattr(instance, "process")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_forwarded_headers_only_with_xff() -> None:
    headers = {"X-Forwarded-For": "10.1.2.3", "X-Forwarded-Port": "99"}
    with Instance(xff=True, application=served.echo_scope) as instance:
        assert get(instance, headers) == b"['10.1.2.3', 99]"
    with Instance(application=served.echo_scope) as instance:
        assert b"127.0.0.1" in get(instance, headers)


def test_http_timeout_reaches_the_server() -> None:
    with (
        Instance(http_timeout=1, application=served.hello) as instance,
        pytest.raises(urllib.error.HTTPError) as caught,
    ):
        urllib.request.urlopen(f"http://127.0.0.1:{instance.port}/hang", timeout=30)
    assert caught.value.code == 503
    caught.value.close()


class Hooked(Instance):
    """Writes down which hook ran in which process."""

    def __init__(self, path: Path) -> None:
        super().__init__(application=None)  # type: ignore[arg-type]
        self.path = path

    def get_application(self) -> Any:
        return served.hello

    def process_setup(self) -> None:
        served.Note(self.path, f"setup {os.getpid()}")()

    def process_teardown(self) -> None:
        served.Note(self.path, f"teardown {os.getpid()}")()


def test_hooks_run_in_the_process(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    with Hooked(notes) as instance:
        pid = instance.process.pid
        urllib.request.urlopen(f"http://127.0.0.1:{instance.port}/stop").close()
        instance.process.join(30)
    assert notes.read_text() == f"setup {pid}\nteardown {pid}\n"


class Broken(Instance):
    def get_application(self) -> Any:
        raise LookupError("no application today")


def test_says_why_it_did_not_start() -> None:
    before = time.monotonic()
    with (
        pytest.raises(RuntimeError, match=r"Daphne did not start up: \n(.*\n)*.*no application"),
        Broken(application=served.hello),
    ):
        pytest.fail("it started")
    assert time.monotonic() - before < 30, "it waited for a process that had ended"


class Slow(Instance):
    startup_timeout = 0.3

    def process_setup(self) -> None:
        time.sleep(60)


def test_says_that_it_took_too_long() -> None:
    with (
        pytest.raises(RuntimeError, match=r"took longer than startup_timeout, 0\.3 s"),
        Slow(application=served.hello),
    ):
        pytest.fail("it started")


def test_records_scope_and_events_and_sends_what_it_is_told() -> None:
    with Recorder() as instance:
        with pytest.raises(ValueError, match="received nothing"):
            instance.get_received()
        start: dict[str, Any] = {"type": "http.response.start", "status": 201}
        instance.add_send_messages([start, {"type": "http.response.body", "body": b"told"}])
        assert get(instance) == b"told"

        def received() -> bool:
            return len(instance.get_received()[1]) == 2

        wait_for(received, 10, "the disconnect after the response")
        scope, messages = instance.get_received()
        assert (scope["path"], scope["query_string"]) == ("/path", b"query")
        assert messages[0] == {"type": "http.request", "body": b"", "more_body": False}
        assert messages[1] == {"type": "http.disconnect"}
        time.sleep(0.3)
        assert len(instance.get_received()[1]) == 2, "one disconnect, and then silence"


def test_raises_here_what_the_application_was_told_wrong() -> None:
    with Recorder() as instance:
        instance.add_send_messages([{"type": "http.response.body", "body": b""}])
        with pytest.raises(urllib.error.HTTPError) as caught:
            get(instance)
        caught.value.close()
        with pytest.raises(ValueError, match="not yet been started"):
            wait_for(instance.get_received, 10, "the exception")


def test_each_test_process_has_files_of_its_own() -> None:
    command = [
        sys.executable,
        "-c",
        "from pyasgi.testing import *; print(TestApplication.result_storage)",
    ]
    other = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert other.strip() != TestApplication.result_storage


def test_a_spawned_application_keeps_the_files_of_the_test() -> None:
    setup, result = TestApplication.setup_storage, TestApplication.result_storage
    application = TestApplication(lock=None)
    dumped = pickle.dumps(application)
    try:
        TestApplication.setup_storage = TestApplication.result_storage = "another process's"
        pickle.loads(dumped)
        assert (TestApplication.setup_storage, TestApplication.result_storage) == (setup, result)
    finally:
        TestApplication.setup_storage, TestApplication.result_storage = setup, result


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_no_file_of_another_user_is_unpickled(tmp_path: Path) -> None:
    path = Path(TestApplication.result_storage)
    path.write_bytes(pickle.dumps({"scope": {}, "messages": []}))
    os.chown(path, 65534, 65534)
    with pytest.raises(PermissionError, match="not a file of this user"):
        TestApplication.load_result()


def test_no_link_is_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(pickle.dumps({"scope": {}, "messages": []}))
    os.symlink(target, TestApplication.result_storage)
    with pytest.raises(OSError, match="symbolic links"):
        TestApplication.load_result()
