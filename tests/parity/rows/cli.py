"""The command line: where it listens, how it ends, what it says."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.parity.client import PATIENCE, http, new_id, notes, response_to, status_of
from tests.parity.row import Row
from tests.parity.target import Target
from tests.support.handle import Handle
from tests.support.servers import LISTENING, TCP
from tests.support.wait import wait_for


def endpoints(*flags: str) -> Callable[[Target], str]:
    """The line that says where it is going to listen; whether it can does not matter."""

    def probe(target: Target) -> str:
        with target.private(*flags, bind=()) as handle:
            line = handle.wait_for_log(r"Starting server at (.*)", 60)
        return line.group(1)

    return probe


def ends(*args: str, app: str = "tests.parity.apps:app") -> Callable[[Target], str]:
    """Exit status and what is said on stderr: a traceback, or the last line."""

    def probe(target: Target) -> str:
        status, _, err = target.run(*args, app=app)
        last = (err.strip().splitlines() or ["nothing"])[-1]
        said = "traceback" if "Traceback" in err else "one line" if last else "nothing"
        return f"exit status {status}, {said}"

    return probe


def not_callable(target: Target) -> str:
    """An application that is a string: does the server start?"""
    process = target.spawn(*TCP, app="tests.parity.apps:not_callable")
    handle = Handle(process, "")
    wait_for(lambda: LISTENING.search(handle.stderr()) or process.poll() is not None, 60)
    if process.poll() is None:
        process.kill()
        handle.wait()
        return "listens"
    return f"exit status {handle.wait()}"


def help_text(target: Target) -> str:
    status, out, _ = target.run("-h", app="")
    assert "--access-log" in out
    return f"exit status {status}"


def taken(target: Target) -> str:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        status, _, err = target.run("-b", "127.0.0.1", "-p", str(sock.getsockname()[1]))
    line = next(line for line in err.splitlines() if "CRITICAL" in line)
    return f"exit status {status}, {re.sub(r'.*CRITICAL +', '', line).partition(':')[0]}"


def signalled(sig: int) -> Callable[[Target], str]:
    def probe(target: Target) -> str:
        with target.private() as handle:
            handle.get("/")  # daphne tells that it listens before it minds signals
            handle.signal(sig)
            try:
                return f"exit status {handle.process.wait(PATIENCE)}"
            except subprocess.TimeoutExpired:
                return "goes on"

    return probe


def in_flight(target: Target) -> str:
    """SIGTERM while a request is being worked on."""
    key = new_id()
    with target.private() as handle, handle.connect() as client:
        client.send(http("slow", f"X-Id: {key}"))
        notes(handle, key)
        handle.signal(signal.SIGTERM)
        try:
            return f"finished, {client.response().status}"
        except (EOFError, ConnectionResetError):
            return "cut"


def unix_socket(target: Target) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s"
        with target.private(bind=("-u", str(path))) as handle:
            wait_for(path.exists, 60)
            wait_for(lambda: connects(path))
            mode = stat.S_IMODE(path.stat().st_mode)
            files = sorted(os.listdir(folder))
            handle.stop()
        return f"mode {mode:o}, files {' '.join(files)}, at exit {os.listdir(folder)}"


def connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(str(path)) == 0


def without(redirection: str) -> Callable[[Target], str]:
    """Started without a standard stream: does it serve?"""

    def probe(target: Target) -> str:
        script = f'exec "$@" {redirection}'
        inside = Target(target.name, ["sh", "-c", script, "sh", *target.command])
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "s"
            with inside.private(bind=("-u", str(path))) as handle:
                wait_for(lambda: connects(path) or handle.process.poll() is not None, 60)
                if handle.process.poll() is not None:
                    return f"exit status {handle.process.returncode}"
                taken = os.readlink(f"/proc/{handle.process.pid}/fd/{'012'.index(redirection[0])}")
        return f"its number is {'/dev/null' if taken == '/dev/null' else 'reused'}"

    return probe


def stale_lock(target: Target) -> str:
    """A socket left behind by a server of the same pid, as in a container, where it is always 1."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s"
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(path))
        os.symlink(str(os.getpid()), f"{path}.lock")  # a pid that lives
        with target.private(bind=("-u", str(path))) as handle:
            wait_for(lambda: connects(path) or handle.process.poll() is not None, 60)
            return "listens" if connects(path) else f"exit status {handle.wait()}"


def fd_of_unix_socket(target: Target) -> str:
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as sock:
        path = Path(folder) / "s"
        sock.bind(str(path))
        sock.listen()
        flags = ("--fd", str(sock.fileno()))
        with target.private(bind=flags, pass_fds=(sock.fileno(),)) as handle:
            handle.unix = str(path)
            status = status_of(handle, http("hello"), 30)
            return status if status.isdigit() else "not served"


def fd_of_tcp_socket(target: Target) -> str:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        with target.private(bind=("--fd", str(sock.fileno())), pass_fds=(sock.fileno(),)) as handle:
            handle.host, handle.port = sock.getsockname()
            return str(response_to(handle, http("hello")).status)


def several_addresses(target: Target) -> str:
    """A name with two addresses, in a mount namespace with an /etc/hosts of its own."""
    with tempfile.TemporaryDirectory() as folder:
        hosts = Path(folder) / "hosts"
        hosts.write_text("127.0.0.1 localhost two.test\n127.0.0.2 two.test\n")
        script = f'mount --bind {hosts} /etc/hosts && exec "$@"'
        command = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
        if subprocess.run([*command, "true"], capture_output=True).returncode:
            pytest.skip("this machine has no unprivileged mount namespaces")
        inside = Target(target.name, [*command, *target.command])
        with inside.private(bind=("-b", "two.test", "-p", "0")) as handle:
            handle.wait_for_log("Listening on TCP address", 60)
            time.sleep(0.5)  # for the line of the second
            bound = handle.stderr().count("Listening on TCP address")
    return f"{bound} of 2"


def abbreviated(target: Target) -> str:
    """argparse lets a long option be cut short."""
    with target.private("--access", "-") as handle:
        response_to(handle, http("hello"))
        return "understood"


def lifespan(target: Target) -> str:
    with target.private() as handle:
        handle.stop()
        found = re.findall(r"application: lifespan (\w+)", handle.stderr())
    return " and ".join(found) or "not called"


def handler_of_import(target: Target) -> str:
    """Of an application that sets a handler of SIGTERM while it is imported."""
    with target.private(app="tests.apps.handlers:of_import") as handle:
        handle.get("/")
        handle.signal(signal.SIGTERM)
        status = handle.wait(PATIENCE)
        called = "called" if "handler of the import" in handle.stderr() else "not called"
    return f"{called}, exit status {status}"


def terminated_child(target: Target) -> str:
    with target.private() as handle:
        status = handle.get("/", {"X-Do": "terminates_child"}).body.decode()
    return "goes on to its end" if status == "0" else f"ends, exit status {status}"


def outlived_by_thread(target: Target) -> str:
    environment = {**os.environ, "LEAVE": "thread 6"}
    with target.private(
        *([] if target.name == "daphne" else ["--lifespan", "off"]),
        app="tests.apps.leaving:app",
        env=environment,
    ) as handle:
        handle.signal(signal.SIGTERM)
        status = handle.wait(60)
        ended = "finished" if "mail: sent" in handle.stderr() else "cut"
    return f"{ended}, exit status {status}"


def websocket_loop(target: Target) -> str:
    with target.private(app="tests.apps.lifespans:loop_of_messages") as handle:
        return f"served, {handle.get('/').status}"


ROWS = [
    Row(
        "bind_default", "Endpoints without a flag", endpoints(), "tcp:port=8000:interface=127.0.0.1"
    ),
    Row(
        "bind_host",
        "Endpoints of ``-b 127.0.0.2``",
        endpoints("-b", "127.0.0.2"),
        "tcp:port=8000:interface=127.0.0.2",
    ),
    Row(
        "bind_port", "Endpoints of ``-p 0``", endpoints("-p", "0"), "tcp:port=0:interface=127.0.0.1"
    ),
    Row(
        "bind_ipv6",
        "Endpoints of ``-b [::1] -p 0``",
        endpoints("-b", "[::1]", "-p", "0"),
        "tcp:port=0:interface=\\:\\:1",
    ),
    Row(
        "bind_unix_alone",
        "Endpoints of ``-u /nowhere/s``",
        endpoints("-u", "/nowhere/s"),
        "unix:/nowhere/s",
    ),
    Row(
        "bind_several",
        "Endpoints of ``-p 0 -u /nowhere/s -e tcp:0``",
        endpoints("-p", "0", "-u", "/nowhere/s", "-e", "tcp:0"),
        "tcp:0, tcp:port=0:interface=127.0.0.1, unix:/nowhere/s",
    ),
    Row(
        "bind_name",
        "``-b`` of a name with two addresses: bound",
        several_addresses,
        "1 of 2",
        "2 of 2",
        "a name means all its addresses",
    ),
    Row("bind_taken", "A port that is taken", taken, "exit status 1, Listen failure"),
    Row(
        "bind_no_folder",
        "``-u`` in a folder that is not there",
        ends("-u", "/nowhere/s"),
        "exit status 1, one line",
    ),
    Row("bind_bad_fd", "``--fd 999``", ends("--fd", "999"), "exit status 1, one line"),
    Row("bind_bad_port", "``-p 70000``", ends("-p", "70000"), "exit status 1, one line"),
    Row("bind_fd_tcp", "``--fd`` of a TCP socket", fd_of_tcp_socket, "200"),
    Row(
        "bind_fd_unix",
        "``--fd`` of a unix socket",
        fd_of_unix_socket,
        "not served",
        "200",
        "the kernel is asked for the family of the socket",
    ),
    Row(
        "unix_socket",
        "``-u``: mode of the socket, files beside it",
        unix_socket,
        "mode 666, files s s.lock, at exit []",
        "mode 666, files s, at exit []",
        "no lock file",
    ),
    Row(
        "unix_stale",
        "``-u`` with a stale socket and lock",
        stale_lock,
        "exit status 1",
        "listens",
        "liveness is tried by connecting: in a container the pid of the lock is always alive",
    ),
    Row(
        "no_stdin",
        "Started without stdin (``0<&-``)",
        without("0<&-"),
        "its number is reused",
        "its number is /dev/null",
        "what is meant for a standard stream never reaches a socket",
    ),
    Row(
        "no_stderr",
        "Started without stderr (``2>&-``)",
        without("2>&-"),
        "its number is reused",
        "its number is /dev/null",
        "what is meant for a standard stream never reaches a socket",
    ),
    Row("exit_usage", "A flag nobody knows", ends("--nonsense"), "exit status 2, one line"),
    Row("exit_help", "``-h``", help_text, "exit status 0"),
    Row(
        "exit_no_module",
        "A module that is not there",
        ends(app="nowhere.asgi:app"),
        "exit status 1, traceback",
        "exit status 1, one line",
        "the line names the module and what to do",
    ),
    Row(
        "exit_no_attribute",
        "An attribute that is not there",
        ends(app="tests.parity.apps:nothing"),
        "exit status 1, traceback",
        "exit status 1, one line",
        "the line names the attribute",
    ),
    Row(
        "exit_no_colon",
        "An application without a colon",
        ends(app="tests.parity.apps"),
        "exit status 1, traceback",
        "exit status 1, one line",
        "the line says how it must look",
    ),
    Row(
        "exit_not_callable",
        "An application that is no callable",
        not_callable,
        "listens",
        "exit status 1",
        "no request could ever be answered; the line says what it is",
    ),
    Row(
        "exit_bad_endpoint",
        "``-e nonsense:1``",
        ends("-e", "nonsense:1"),
        "exit status 1, traceback",
        "exit status 1, one line",
        "the line names the endpoint and the known types",
    ),
    Row(
        "exit_verbosity",
        "``-v 7``",
        ends("-v", "7"),
        "exit status 1, traceback",
        "exit status 2, one line",
        "a usage error like the others",
    ),
    Row(
        "exit_proxy_flags",
        "``--proxy-headers-host X`` without ``--proxy-headers``",
        ends("--proxy-headers-host", "X"),
        "exit status 1, traceback",
        "exit status 1, one line",
        "the line says which flag is missing",
    ),
    Row("abbreviations", "``--access -`` for ``--access-log -``", abbreviated, "understood"),
    Row("sigterm", "SIGTERM to an idle server", signalled(signal.SIGTERM), "exit status 0"),
    Row("sigint", "SIGINT to an idle server", signalled(signal.SIGINT), "exit status 0"),
    Row(
        "sighup", "SIGHUP to an idle server", signalled(signal.SIGHUP), "exit status -1", waits=True
    ),
    Row(
        "sigterm_in_flight",
        "SIGTERM while a request is worked on",
        in_flight,
        "cut",
        "finished, 200",
        "a stop finishes what is running, up to --graceful-timeout",
        waits=True,
    ),
    Row(
        "sigterm_child",
        "``terminate()`` of a child that a view forked",
        terminated_child,
        "goes on to its end",
        "ends, exit status -15",
        "a child's signals are not the server's",
        waits=True,
    ),
    Row(
        "sigterm_at_import",
        "Handler of SIGTERM set by the application's import",
        handler_of_import,
        "not called, exit status 0",
        "called, exit status 0",
        "when the shutdown is over, as uvicorn does",
    ),
    Row(
        "sigterm_thread",
        "SIGTERM while a thread works that is no daemon",
        outlived_by_thread,
        "finished, exit status 0",
        waits=True,
    ),
    Row(
        "lifespan_as_ws",
        "Application to which all but ``http`` is a WebSocket",
        websocket_loop,
        "served, 200",
    ),
    Row(
        "lifespan",
        "Lifespan",
        lifespan,
        "not called",
        "startup and shutdown",
        "ASGI's lifespan protocol, with state; --lifespan off",
    ),
]
