"""One row of a .def file, or of pyasgi/options.py, is the whole option: it shows up wherever an option can be given."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from pyasgi import _core, config, options
from pyasgi.cli import CommandLineInterface
from pyasgi.completion import script
from pyasgi.loop import EventLoop
from pyasgi.server import Server
from tests.support.programs import ROOT

APP = "tests.apps.basic:application"


def rows(file: str) -> list[str]:
    """The names of the rows, as they stand in the file."""
    return re.findall(r"^CD_[A-Z]+\((\w+),", (ROOT / "csrc" / file).read_text(), re.MULTILINE)


LIMITS = rows("limits.def")
NATIVE = rows("options.def")
OPTIONS = [*NATIVE, *(option.name for option in options.OWN)]
PARSER = CommandLineInterface().parser


def other(name: str) -> str:
    """A value that is not the default, as the environment has it."""
    if name in LIMITS:
        limit = options.LIMITS[name]
        return str(int(limit.default) + 1 if limit.default < limit.most else limit.least)
    option = options.OPTIONS[name]
    if option.kind == "flag":
        return str(not option.default).lower()
    if option.kind == "time":
        return "7.5"
    words = [word for word in option.words.split() if word != option.default]
    return {"extensions": "trailers", "access_log_exclude": "/x"}.get(name, (*words, "*")[0])


def read(name: str) -> tuple[str, Any]:
    """The dest and the value that this variable of the environment gives."""
    (found,) = [action for action in PARSER.actions() if action.dest == name]
    long = next(flag[2:] for flag in found.option_strings if flag.startswith("--"))
    variable = config.variable(long)
    return config.Names(PARSER).setting("environment", variable, long, other(name))


def test_there_are_rows() -> None:
    assert len(LIMITS) > 40
    assert len(NATIVE) >= 7
    assert list(options.LIMITS) == LIMITS
    assert list(options.OPTIONS) == OPTIONS


@pytest.mark.parametrize("name", [*LIMITS, *OPTIONS])
def test_a_row_is_a_flag_with_a_text(name: str) -> None:
    (action,) = [action for action in PARSER.actions() if action.dest == name]
    long = next(flag for flag in action.option_strings if flag.startswith("--"))
    documented = (ROOT / "docs" / "flags.rst").read_text()
    assert action.help
    assert long in PARSER.format_help_all()
    assert long in script("bash", PARSER)
    assert f"``{long}" in documented
    assert f"[``{config.variable(long[2:])}``]" in documented


@pytest.mark.parametrize("name", [*LIMITS, *OPTIONS])
def test_a_row_goes_from_the_environment_to_server(name: str) -> None:
    dest, value = read(name)
    assert dest == name
    assert value != PARSER.get_default(name)
    server = Server(None, ["tcp:0"], **{name: value})
    assert getattr(server, name) == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize("name", [name for name in LIMITS if options.LIMITS[name].kind == "size"])
def test_a_size_has_a_least_and_a_greatest_value(name: str) -> None:
    limit = options.LIMITS[name]
    for good in (limit.least, limit.default, limit.most):
        _core.check_setting(name, good)
    for bad in (limit.least - 1, *([limit.most + 1] if limit.most < options.NO_MOST else [])):
        with pytest.raises(ValueError, match=f"{name} must be"):
            _core.check_setting(name, bad)


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_has_a_default_and_a_description(name: str) -> None:
    option = options.OPTIONS[name]
    assert getattr(Server(None, ["tcp:0"]), name) == option.default
    assert inspect.signature(Server).parameters[name].default == option.default
    assert f"    {name}: {option.doc[:40]}" in (Server.__doc__ or "")


@pytest.mark.parametrize("name", NATIVE)
def test_the_extension_takes_an_option(name: str) -> None:
    _, value = read(name)
    loop = EventLoop()
    try:
        for given in (None, options.OPTIONS[name].default, value):
            _core.Server(loop, print, **{name: given}).close()
    finally:
        loop.close()


def test_a_flag_that_needs_another(capsys: pytest.CaptureFixture[str]) -> None:
    for option in options.OPTIONS.values():
        if option.needs:
            with pytest.raises(SystemExit):
                CommandLineInterface()._options(
                    [option.option_string(), f"--no-{option.needs.replace('_', '-')}", APP]
                )
            assert f"{option.option_string()} needs --{option.needs}" in capsys.readouterr().err


def test_the_name_of_no_setting() -> None:
    with pytest.raises(ValueError, match="there is no setting 'nothing'"):
        _core.check_setting("nothing", 1)
