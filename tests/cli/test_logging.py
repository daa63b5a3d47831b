"""Python's logging: --log-config in its three formats, colours on a terminal, rotation of its files."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.handle import Handle
from tests.support.programs import ROOT
from tests.support.servers import Servers
from tests.support.wait import wait_for

APP = "tests.apps.basic:app"

INI = """
[loggers]
keys = root, server
[handlers]
keys = file
[formatters]
keys = short
[logger_root]
level = WARNING
handlers = file
[logger_server]
level = INFO
qualname = daphne.server
handlers = file
propagate = 0
[handler_file]
class = FileHandler
formatter = short
args = ({path!r}, "a")
[formatter_short]
format = <%(name)s> %(message)s
"""
TABLE = {
    "formatters": {"short": {"format": "<%(name)s> %(message)s"}},
    "handlers": {"file": {"class": "logging.FileHandler", "formatter": "short", "filename": ""}},
    "loggers": {"daphne.server": {"level": "INFO", "handlers": ["file"]}},
}
TOML = """
[formatters.short]
format = "<%(name)s> %(message)s"
[handlers.file]
class = "logging.FileHandler"
formatter = "short"
filename = "{path}"
[loggers."daphne.server"]
level = "INFO"
handlers = ["file"]
"""


YAML = """
formatters: {{short: {{format: "<%(name)s> %(message)s"}}}}
handlers:
  file: {{class: logging.FileHandler, formatter: short, filename: {path}}}
loggers:
  daphne.server: {{level: INFO, handlers: [file]}}
"""


def write_config(folder: Path, kind: str) -> Path:
    path, config = str(folder / "server.log"), folder / f"logging.{kind}"
    if kind == "json":
        table = {**TABLE, "handlers": {"file": {**TABLE["handlers"]["file"], "filename": path}}}
        config.write_text(json.dumps(table))
    else:
        texts = {"ini": INI, "toml": TOML, "yaml": YAML, "yml": YAML}
        config.write_text(texts[kind].format(path=path))
    return config


@pytest.mark.parametrize("kind", ["ini", "json", "toml", "yaml", "yml"])
def test_log_config(server: Servers, tmp_path: Path, kind: str) -> None:
    config = write_config(tmp_path, kind)
    log = tmp_path / "server.log"
    handle = server.start(APP, "--log-config", str(config), unix=tmp_path / "s")
    handle.get("/")
    wait_for(lambda: "Configuring endpoint" in log.read_text(), what="a line in the file")
    assert "<daphne.server> Configuring endpoint unix:" in log.read_text()
    assert "daphne.cli" not in log.read_text()

    # A rotated file is left on SIGUSR1.
    log.rename(tmp_path / "server.log.1")
    handle.signal(signal.SIGUSR1)
    wait_for(log.exists, what="the new file")
    wait_for(lambda: "Log files were opened anew" in log.read_text(), what="a line in the new file")
    assert handle.stop() == 0
    assert "Received SIGTERM" in log.read_text()
    assert "SIGTERM" not in (tmp_path / "server.log.1").read_text()
    assert "INFO" not in handle.stderr()


def test_file_that_cannot_be_reopened_is_written_on(server: Servers, tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    handle = server.start(
        APP, "--log-config", str(write_config(folder, "toml")), unix=tmp_path / "s"
    )
    handle.expect_errors()
    folder.rename(tmp_path / "gone")
    handle.signal(signal.SIGUSR1)
    log = tmp_path / "gone" / "server.log"
    wait_for(lambda: "Cannot reopen log file" in log.read_text(), what="the complaint")
    assert handle.stop() == 0
    assert "Received SIGTERM" in log.read_text()


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.ini", None, "cannot be read: No such file or directory; give"),
        ("a.txt", "x", "the name must end with one of .ini, .conf, .json, .toml, .yaml, .yml"),
        ("a.yaml", None, "cannot be read: No such file or directory; give"),
        ("a.yaml", "x", "its top level is not a table"),
        ("a.yaml", "x: [", "line 1, column 5; correct that place"),
        ("a.yaml", "root: !!python/name:os.system", "could not determine a constructor"),
        ("a.yaml", "root: {level: LOUD}", "root logger (Unknown level: 'LOUD'); correct that"),
        ("a.ini", "", "'formatters' is missing in it; add that section or key"),
        (
            "a.ini",
            INI.replace("{path!r}", "'/nowhere/x'"),
            "a handler cannot open '/nowhere/x': No",
        ),
        ("a.json", '{"handlers": {', "line 1 column 15 (char 14); correct that place"),
        ("a.ini", "[loggers", "File contains no section headers"),
        ("a.json", "{", "is not a configuration of Python's logging: Expecting property name"),
        ("a.json", "[]", "its top level is not a table"),
        ("a.toml", "= 1", "is not a configuration of Python's logging: Invalid"),
        (
            "a.toml",
            "[handlers.x]\nclass = 'no.Such'\n[root]\nhandlers = ['x']",
            "Unable to configure handler 'x'",
        ),
        (
            "a.toml",
            "[root]\nlevel = 'LOUD'",
            "Unable to configure root logger (Unknown level: 'LOUD')",
        ),
    ],
)
def test_bad_log_config(tmp_path: Path, name: str, text: str | None, says: str) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "pyasgi", "--log-config", str(path), APP],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert says in done.stderr
    assert f"--log-config {str(path)!r}" in done.stderr
    assert done.stderr.count("\n") == 1


def test_yaml_without_pyyaml(tmp_path: Path) -> None:
    (tmp_path / "yaml.py").write_text("raise ModuleNotFoundError('no yaml', name='yaml')")
    config = write_config(tmp_path, "yaml")
    done = subprocess.run(
        [sys.executable, "-m", "pyasgi", "--log-config", str(config), APP],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "needs PyYAML; run 'pip install pyyaml', or write it as .json or .toml" in done.stderr
    assert done.stderr.count("\n") == 1


# ---- colours ----


def on_terminal(*flags: str, **env: str) -> str:
    """What the command writes to a stderr that is a terminal."""
    ours, theirs = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
    process = subprocess.Popen(
        [sys.executable, "-m", "pyasgi", "-e", "tcp:x", *flags, APP],
        cwd=ROOT,
        env={**environment, "TERM": "xterm", **env},
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    text = b""
    try:
        while data := os.read(ours, 65536):
            text += data
    except OSError:  # EIO: the last writer has gone
        pass
    finally:
        os.close(ours)
    assert process.wait(60) == 1
    return text.decode()


def test_colours_on_a_terminal() -> None:
    text = on_terminal()
    assert "\x1b[32mINFO\x1b[0m" in text
    assert "\x1b[1;31mCRITICAL\x1b[0m" in text
    plain = re.sub(r"\x1b\[[\d;]*m", "", text)
    assert re.search(r"^\S+ \S+ INFO     Starting server at", plain, re.MULTILINE)
    assert re.search(r"^\S+ \S+ CRITICAL Listen failure", plain, re.MULTILINE)
    assert text.count("\x1b[") == 2 * len(text.splitlines()), "only the level's name"


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colours_when_nobody_wants_them(env: dict[str, str]) -> None:
    text = on_terminal(**env)
    assert "CRITICAL Listen failure" in text
    assert "\x1b" not in text


def test_no_colours_in_a_pipe(server: Servers) -> None:
    handle = server.start(APP)
    assert "INFO     Listening on TCP address" in handle.stderr()
    assert "\x1b" not in handle.stderr()


# ---- standard descriptors that are closed, full or broken ----


def open_files(pid: int) -> list[str]:
    return [os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)]


@pytest.mark.parametrize(
    ("redirection", "null", "access_log"),
    [
        ("0<&-", {0}, "file"),
        (">&-", {1}, "-"),
        (">&-", {1}, "file"),
        ("2>&-", {2}, "file"),
        ("0<&- >&- 2>&-", {0, 1, 2}, "-"),
        ("0<&- >&- 2>&-", {0, 1, 2}, "file"),
        (">/dev/full", set(), "-"),
        ("2>/dev/full", set(), "file"),
        ("> >(true)", set(), "-"),
        ("2> >(true)", set(), "file"),
    ],
)
def test_serves_and_logs_without_standard_descriptors(
    redirection: str, null: set[int], access_log: str, tmp_path: Path, free_port: int
) -> None:
    config, access = write_config(tmp_path, "json"), tmp_path / "access.log"
    flags = ["--log-config", str(config), "--access-log", access_log.replace("file", str(access))]
    command = [sys.executable, "-m", "pyasgi", "-p", str(free_port), *flags, APP]
    process = subprocess.Popen(
        ["bash", "-c", f'exec "$@" {redirection}', "bash", *command],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        handle = object.__new__(Handle)
        handle.process, handle.host, handle.port, handle.unix = (
            process,
            "127.0.0.1",
            free_port,
            None,
        )
        wait_for(lambda: answers(handle), 60, "an answer")
        files = open_files(process.pid)
        assert all(files[number] == "/dev/null" for number in null), files
        assert not any(name.startswith(("socket:", "anon_inode:")) for name in files), files
        assert handle.get("/").body == b"hello"
    finally:
        process.terminate()
        assert process.wait(30) == 0
    assert "Ready at http" in (tmp_path / "server.log").read_text()
    assert access.exists() == (access_log == "file")
    if access_log == "file":
        assert '"GET /"' in access.read_text()


def answers(handle: Handle) -> bool:
    assert handle.process.poll() is None, f"it ended with {handle.process.poll()}"
    try:
        handle.connect().close()
    except ConnectionRefusedError:
        return False
    return True
