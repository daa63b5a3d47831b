"""The end of the process: threads and exit hooks of the application, their limit, and how long a whole stop takes."""

from __future__ import annotations

import re
import signal

import pytest

from pyasgi.cli import CommandLineInterface
from tests.support.handle import Handle
from tests.support.servers import Servers

APP = "tests.apps.leaving:app"


@pytest.mark.parametrize(
    ("kind", "holding", "done"),
    [
        ("thread", "thread mailer", "mail: sent"),
        ("hook", r"the exit hook flush_telemetry\(\)", "telemetry: flushed"),
    ],
)
def test_what_ends_is_waited_for(server: Servers, kind: str, holding: str, done: str) -> None:
    """Six seconds: once they had five."""
    handle = server.start(APP, "--lifespan", "off", env={"LEAVE": f"{kind} 6"})
    handle.signal(signal.SIGTERM)
    handle.wait_for_log(f"Waiting up to 60 s for the end of {holding}")
    assert handle.wait() == 0
    assert done in handle.stderr()


@pytest.mark.parametrize(
    ("kind", "holding", "line"),
    [
        ("thread", "thread mailer", "in send_mail"),
        ("hook", r"the exit hook flush_telemetry\(\)", "in flush_telemetry"),
    ],
)
def test_limit(server: Servers, kind: str, holding: str, line: str) -> None:
    flags = ("--lifespan", "off", "--exit-timeout", "0.5")
    handle = server.start(APP, *flags, env={"LEAVE": f"{kind} 60"})
    handle.expect_errors()
    assert handle.stop() == 0
    says = r"ERROR +The server ended 0\.5 s ago \(--exit-timeout\): exiting without the end of "
    handle.wait_for_log(says + holding)
    assert line in handle.stderr(), "the stack"
    assert "time.sleep(seconds)" in handle.stderr()


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("kind", ["thread", "hook"])
def test_signal_while_the_exit_waits(server: Servers, kind: str, sig: signal.Signals) -> None:
    handle = server.start(
        APP, "--lifespan", "off", "--exit-timeout", "0", env={"LEAVE": f"{kind} 60"}
    )
    handle.expect_errors(128 + sig)
    handle.signal(sig)
    handle.wait_for_log("Waiting for the end of ")
    assert handle.stop(sig) == 128 + sig
    assert f"Received {sig.name}: exiting at once, without the end of" in handle.stderr()
    assert "time.sleep(seconds)" in handle.stderr()


def test_limit_when_the_log_is_what_hangs(server: Servers) -> None:
    handle = server.start(APP, "--lifespan", "off", "--exit-timeout", "0.5", env={"LEAVE": "log"})
    handle.expect_errors(1)
    assert handle.stop() == 1
    assert "in flush" in handle.stderr()


# ---- synchronous views ----

VIEWS = "tests.apps.sync_views:"
BRIEFLY = ("--graceful-timeout", "0.3")


def stop_in(handle: Handle, path: str) -> None:
    """SIGTERM while the view works. asyncio may report a task of Django that nobody waits for any more."""
    handle.expect_errors()
    handle.expect_leaks()
    with handle.connect() as client:
        client.send(f"GET {path} HTTP/1.1\r\nHost: t\r\n\r\n".encode())
        handle.wait_for_log("begins")
        assert handle.stop() == 0


@pytest.mark.parametrize("app", ["of_django", "of_starlette"])
def test_view_that_is_cut_does_not_hold_the_hooks(server: Servers, app: str) -> None:
    handle = server.start(VIEWS + app, *BRIEFLY)
    stop_in(handle, "/view")
    log = handle.stderr()
    assert re.search(r"WARNING +Exiting without the end of thread .* was cut", log)
    assert "in work" in log, "the stack"
    assert log.endswith("hook\n")
    assert "view: done" not in log


def test_view_and_a_thread(server: Servers) -> None:
    handle = server.start(VIEWS + "of_django", *BRIEFLY)
    stop_in(handle, "/mails")
    log = handle.stderr()
    assert log.index("mail: sent") < log.index("Exiting without the end of")
    assert log.endswith("hook\n")


def test_view_of_a_client_that_left_has_the_graceful_timeout(server: Servers) -> None:
    handle = server.start(VIEWS + "of_django", env={"VIEW_SECONDS": "2"})
    with handle.connect() as client:
        client.send(b"GET /view HTTP/1.1\r\nHost: t\r\n\r\n")
        handle.wait_for_log("begins")
    assert handle.stop() == 0
    assert "view: done" in handle.stderr()


# ---- a whole stop ----


def test_steps_of_a_stop_that_hangs_everywhere(server: Servers) -> None:
    handle = server.start(APP, env={"LEAVE": "all"})
    handle.expect_errors()
    with handle.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
        client.read_until(b"first\r\n")
        assert handle.stop() == 0
        assert client.closed()
    log = handle.stderr()
    steps = [
        "Received SIGTERM: shutting down",
        "Waiting up to 5 s for 1 request",
        "stream: cancelled",
        "Cancellation was swallowed by 1 application",
        "lifespan: shutdown",
        "Application shutdown took longer than 2 s and was cancelled",
        "lifespan: cancelled",
        "The application's lifespan swallowed its cancellation",
        "task: cancelled",
        "generator: closed",
        "An async generator took longer than 0.5 s to close",
        "\nhook\n",
    ]
    places = [log.index(step) for step in steps]
    assert places == sorted(places)


def test_steps_of_a_stop_take_less_than_docker_gives() -> None:
    default = CommandLineInterface().parser.get_default
    steps = ("graceful_timeout", "lifespan_shutdown_timeout", *["cancel_timeout"] * 4)
    assert sum(map(default, steps)) <= 9


def test_requests_leave_their_time_to_the_lifespan(server: Servers) -> None:
    handle = server.start(APP, "--graceful-timeout", "1", "--lifespan-shutdown-timeout", "0.2")
    handle.expect_errors()
    assert handle.stop() == 0
    handle.wait_for_log(r"Application shutdown took longer than 1\.\d+ s and was cancelled")
