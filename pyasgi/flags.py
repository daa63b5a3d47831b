"""The flags of the command ``cdaphne``: daphne's, one for every limit of the server, and a few of ours.

Only what they are called, what they take and what --help says of them. config.py reads the same names from
the environment and from files, completion.py tells them to shells, cli.py acts on them.
"""

from __future__ import annotations

import argparse
import functools
import math
import os
import re
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from . import __version__, logs
from .endpoints import PROXY_MODES
from .native import _core
from .options import LIMITS, NO_MOST, OPTIONS, Limit, Option
from .tls import VERIFY, VERSIONS

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8000
CERT_NUMBERS = {"0": "none", "1": "optional", "2": "required"}  # of ssl.CERT_*, which uvicorn takes
SHELLS = ("bash", "zsh", "fish")

# daphne's long flags. Their abbreviations stay what they are, whatever flags are added to these.
DAPHNE_FLAGS = (
    "--help --port --bind --websocket_timeout --websocket_connect_timeout --unix-socket --fd --endpoint"
    " --verbosity --http-timeout --access-log --log-fmt --ping-interval --ping-timeout"
    " --websocket-max-message-size --websocket-max-frame-size --application-close-timeout --root-path"
    " --proxy-headers --proxy-headers-host --proxy-headers-port --server-name --no-server-name"
)

# The flags that the short help shows, some with less to read; --help-all shows all.
EVERYDAY = {
    "--bind": "address or name to listen on (default 127.0.0.1)",
    "--port": "TCP port (default 8000)",
    "--unix-socket": "listen on a unix socket",
    "--fd": "listen on an inherited socket",
    "--endpoint": "listen on an endpoint string, repeatable: tcp:8000:interface=HOST, unix:PATH:mode=660,"
    " systemd:name=NAME and others",
    "--certfile": "certificate and its chain, for TLS",
    "--keyfile": "its key, unless it is in the same file",
    "--proxy-headers": "take the client from X-Forwarded-For and the like",
    "--access-log": "file for the access log (default: stdout)",
    "--verbosity": None,
    "--config": "TOML file with the names of the flags (default: [tool.cdaphne] of pyproject.toml)",
    "--check": "look at the application and all settings, start nothing, and exit",
}
EXAMPLES = (
    "mysite.asgi:application",
    "-b 0.0.0.0 -p 443 --certfile fullchain.pem --keyfile privkey.pem mysite.asgi:application",
)

# Limits that daphne switches off by a negative number.
NEGATIVE_IS_NONE = {"websocket_timeout", "websocket_connect_timeout"}
# Limits whose flag in daphne is not the name with dashes.
FLAG_NAMES = {
    "http_timeout": ("-t", "--http-timeout"),
    "websocket_timeout": ("--websocket_timeout", "--websocket-timeout"),
    "websocket_connect_timeout": ("--websocket_connect_timeout", "--websocket-connect-timeout"),
}
# For defaults that are not daphne's: what daphne does.
DAPHNE_DEFAULTS = {
    "date_header": "no",
    "forwarded_allow_ips": "*",
    "graceful_timeout": "0",
    "request_buffer_size": "8192",
    "max_head_size": "16384",
    "keep_alive_timeout": "60",
}
DEFLATE = "websocket_deflate"
LIMIT_GROUPS = (
    ("HTTP timers (seconds, 0 switches one off)", "time", "http"),
    ("TLS timers (seconds, 0 switches one off)", "time", "tls"),
    ("WebSocket timers (seconds, 0 switches one off)", "time", "websocket"),
    ("HTTP sizes", "size", "http"),
    ("WebSocket sizes", "size", "websocket"),
)


class ShowVersion(argparse.Action):
    """Shows the version; argparse's own action needs the text beforehand, and that takes a module."""

    def __call__(self, parser: Any, *_: Any) -> NoReturn:
        parser.say(version())
        sys.exit(0)


class ShowHelpAll(argparse.Action):
    """Shows every flag; --help is short."""

    def __call__(self, parser: Any, *_: Any) -> NoReturn:
        parser.say(parser.format_help_all())
        sys.exit(0)


class Parser(argparse.ArgumentParser):
    """argparse with one line per error, daphne's abbreviations and a suggestion for an unknown flag."""

    _width: int | None = 80  # of the terminal is asked for --help only: that takes shutil

    def _get_formatter(self) -> argparse.HelpFormatter:
        return argparse.HelpFormatter(self.prog, max_help_position=32, width=self._width)

    def format_help(self) -> str:
        """The short help: examples and the flags of EVERYDAY."""
        self._width = None
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, self._actions, self._mutually_exclusive_groups)
        formatter.add_text(self.description)
        formatter.start_section("flags for every day")
        for flag, text in EVERYDAY.items():
            if (action := self._option_string_actions.get(flag)) is not None:
                formatter.add_argument(_with_help(action, text))
        formatter.end_section()
        head, _, tail = formatter.format_help().partition("flags for every day:")
        examples = "".join(f"  {self.prog} {example}\n" for example in EXAMPLES)
        number = len([action for action in self._actions if action.option_strings])
        return (
            f"{head}examples:\n{examples}\nflags for every day:{tail}\n"
            f"{self.prog} --help-all shows all {number} flags, {self.prog} --version the versions.\n"
        )

    def format_help_all(self) -> str:
        """The help of every flag, in groups."""
        self._width = None
        return super().format_help()

    def print_help(self, file: Any = None) -> None:
        self.say(self.format_help(), file)

    def say(self, text: str, file: Any = None) -> None:
        """Prints what was asked for. A reader that has left, as head does, is no error; a full disk is one."""
        try:
            print(text.rstrip("\n"), file=file, flush=True)
        except OSError as error:
            with open(os.devnull, "w") as null:
                os.dup2(null.fileno(), sys.stdout.fileno())  # for what Python flushes at exit
            if not isinstance(error, BrokenPipeError):
                self.exit(1, f"{self.prog}: error: cannot write to stdout: {error.strerror}\n")

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        words = sys.argv[1:] if args is None else list(args)
        flags = _before_dashes(words)
        spelled = [self._flag(*pair) for pair in zip(flags, [*flags, ""][1:], strict=True)]
        return super().parse_args(spelled + _rest(words), namespace)

    def actions(self) -> list[argparse.Action]:
        """Every flag and the positional argument, in the order of --help-all."""
        return list(self._actions)

    def groups(self) -> list[tuple[str, str, list[argparse.Action]]]:
        """(title, description, flags) of every group that has flags."""
        return [
            (group.title or "", group.description or "", list(group._group_actions))
            for group in self._action_groups
            if group._group_actions
        ]

    def _flag(self, word: str, following: str) -> str:
        """A word of the command line with daphne's abbreviation written out."""
        name, equals, value = word.partition("=")
        if not name.startswith("--"):
            self._letter(word)
            return word
        if name in self._option_string_actions:
            return word
        from . import foreign

        known = [flag for flag in DAPHNE_FLAGS.split() if flag.startswith(name)]
        if len(known) == 1:
            # uvicorn's --http=h11 is an abbreviation of --http-timeout, with a value that cannot be meant.
            if (
                name in foreign.OTHERWISE
                and (value or following).isalnum()
                and not (value or following).isdigit()
            ):
                self._unknown(name)
            return f"{known[0]}{equals}{value}"
        if name in foreign.RENAMED or name in foreign.OTHERWISE:
            self._unknown(name)
        if not any(flag.startswith(name) for flag in self._option_string_actions):
            self._unknown(name)
        return word

    def _letter(self, word: str) -> None:
        """Ends with an error at an unknown flag of one letter: its value would be taken for the application."""
        letter = re.match(r"-[A-Za-z](?!.* )", word)
        if letter and letter.group() not in self._option_string_actions:
            self._unknown(letter.group())

    def _unknown(self, name: str) -> NoReturn:
        flags = [flag for flag in self._option_string_actions if flag.startswith("--")]
        self.error(f"unknown flag {name}{suggestion(name, flags)}")


def suggestion(name: str, flags: Sequence[str]) -> str:
    """Text, after a semicolon, that says what to give in place of an unknown flag; "" when nothing is known."""
    from . import foreign

    if (text := foreign.hint(name)) is not None:
        return f"; {text}"
    near = nearest(name, flags) if name.startswith("--") else None
    return f"; did you mean {near}?" if near else ""


def _with_help(action: argparse.Action, text: str | None) -> argparse.Action:
    """The flag with another text, and without its --no- form."""
    import copy  # for --help only

    shown = copy.copy(action)
    shown.help = text or action.help
    shown.option_strings = [flag for flag in action.option_strings if not flag.startswith("--no-")]
    return shown


# A misspelling has most letters in common; "--timeout" and "--ping-timeout", which are two things, have 0.78.
MISSPELLING = 0.85


def nearest(name: str, names: Sequence[str]) -> str | None:
    """Returns the one of names of which name is a misspelling."""
    import difflib

    return next(iter(difflib.get_close_matches(name, names, n=1, cutoff=MISSPELLING)), None)


def _before_dashes(words: Sequence[str]) -> Sequence[str]:
    return words[: words.index("--")] if "--" in words else words


def _rest(words: Sequence[str]) -> list[str]:
    return list(words[len(_before_dashes(words)) :])


# ---- what flags take ----


def seconds(text: str) -> float:
    """A number of seconds of the command line; negative ones too, an int where it is whole."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ArgumentTypeError(f"{text!r} is not a number of seconds; give for example 10 or 0.5")
    return int(number) if number.is_integer() else number


def positive_seconds(text: str) -> float:
    number = seconds(text)
    if number < 0:
        raise ArgumentTypeError(f"{text!r} is negative; give 0 to switch it off")
    return number


def size(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ArgumentTypeError(f"{text!r} is not a size; give a whole number from 0 on")
    if int(text) > sys.maxsize:
        raise ArgumentTypeError(f"{text!r} is too large; give at most {sys.maxsize}")
    return int(text)


def whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a whole number") from None


def file_mode(text: str) -> str:
    if not re.fullmatch(r"0?[0-7]{3}", text):
        raise ArgumentTypeError(f"{text!r} is not a file mode; give three octal digits, as 660")
    return text


def header_value(text: str) -> str:
    if not text.isprintable() or not all(ord(character) < 256 for character in text):
        raise ArgumentTypeError(f"{text!r} cannot stand in a header; give printable Latin-1 text")
    return text


def checked(name: str, value: Any) -> Any:
    """The value, if the extension takes it for this limit or option."""
    try:
        _core.check_setting(name, value)
    except ValueError as error:
        raise ArgumentTypeError(str(error).removeprefix(f"{name} ")) from None
    return value


def extension(text: str) -> str:
    name = text.removeprefix("http.response.").replace("-", "_")
    if name not in _core.extensions():
        raise ArgumentTypeError(f"{text!r} is none of {', '.join(_core.extensions())}")
    return name


def path_prefix(text: str) -> str:
    if not text.startswith("/"):
        raise ArgumentTypeError(f"{text!r} is not a path prefix; give one that begins with /")
    return text


def cert_reqs(text: str) -> str:
    word = CERT_NUMBERS.get(text, text)
    if word not in VERIFY:
        raise ArgumentTypeError(f"{text!r} is none of {', '.join(VERIFY)}")
    return word


def tls_version(text: str) -> str:
    number = re.sub(r"(?i)^tls_?v?", "", text).replace("_", ".")
    if number not in VERSIONS:
        raise ArgumentTypeError(
            f"{text!r} is not a version of TLS that is spoken here; give 1.2 or 1.3"
        )
    return number


# How an entry of a list is read.
ENTRIES: dict[str, Callable[[str], str]] = {
    "extensions": extension,
    "access_log_exclude": path_prefix,
}


# ---- the flags ----


def add_endpoints(parser: Parser) -> None:
    group = parser.add_argument_group(
        "where to listen",
        f"any combination listens on all; without one {DEFAULT_HOST}:{DEFAULT_PORT}",
    )
    group.add_argument(
        "-b",
        "--bind",
        dest="host",
        metavar="HOST",
        help="address or name to listen on; all addresses of a name are bound (daphne: one)",
    )
    group.add_argument("-p", "--port", type=whole_number, help="TCP port, 0 for a free one")
    group.add_argument(
        "-u", "--unix-socket", metavar="PATH", help="path of a unix socket to listen on"
    )
    group.add_argument(
        "--unix-socket-mode",
        type=file_mode,
        metavar="OCTAL",
        help="who may connect to the unix socket (default 666, as daphne's)",
    )
    group.add_argument(
        "--unix-socket-user", metavar="USER", help="owner of the unix socket; needs root"
    )
    group.add_argument("--unix-socket-group", metavar="GROUP", help="group of the unix socket")
    group.add_argument(
        "--fd",
        dest="file_descriptor",
        type=whole_number,
        metavar="N",
        help="number of an inherited listening socket",
    )
    group.add_argument(
        "-e",
        "--endpoint",
        dest="socket_strings",
        action="append",
        default=[],
        metavar="ENDPOINT",
        help="endpoint string, repeatable: tcp:PORT:interface=HOST, tcp6:PORT, unix:PATH:mode=660,"
        " fd:fileno=N, systemd:domain=INET:index=0, ssl:PORT:privateKey=FILE:certKey=FILE, tls:DIRECTORY:port=N;"
        " tcp, unix, fd and systemd speak TLS with tls=yes, each"
        " type takes PROXY headers with proxy=required",
    )


def add_tls(parser: Parser) -> None:
    group = parser.add_argument_group(
        "TLS",
        "for -b, -p, -u, --fd and every endpoint with tls=yes; all files but --ocsp-file are in PEM form,"
        " and loaded anew on SIGHUP and when they change",
    )
    group.add_argument(
        "--certfile",
        action="append",
        default=[],
        metavar="PATH",
        help="file of the certificate and its chain, or a directory of certificates; repeatable: the name that the"
        " client asks for decides, and the first one is for all other clients",
    )
    group.add_argument(
        "--keyfile",
        action="append",
        default=[],
        metavar="FILE",
        help="key of the --certfile at the same place, repeatable (default: it is in the certificate's file)",
    )
    group.add_argument(
        "--keyfile-password",
        metavar="TEXT",
        help="password of encrypted keys; better given in the environment",
    )
    group.add_argument(
        "--cert-reqs",
        type=cert_reqs,
        default="none",
        metavar="WORD",
        help="client certificates: none asks for none (default), optional takes clients without one, required does"
        " not, report takes any and tells the application what is wrong with it",
    )
    group.add_argument(
        "--ca-certs", metavar="FILE", help="authorities whose client certificates are good"
    )
    group.add_argument(
        "--crlfile", metavar="FILE", help="revoked certificates of each of these authorities"
    )
    group.add_argument(
        "--ocsp-file",
        action="append",
        default=[],
        metavar="FILE",
        help="OCSP response of a certificate, in DER form, sent to clients that ask for it; repeatable",
    )
    group.add_argument(
        "--ciphers",
        metavar="NAMES",
        help="cipher suites in OpenSSL's words; names that begin with TLS_ are those of TLS 1.3",
    )
    group.add_argument(
        "--ssl-min-version",
        type=tls_version,
        default="1.2",
        metavar="VERSION",
        help="oldest TLS that is spoken, 1.2 (default) or 1.3",
    )


def add_application(parser: Parser) -> None:
    # SUPPRESS: an application that the environment or a file names stays when none is given here.
    parser.add_argument(
        "application",
        nargs="?",
        default=argparse.SUPPRESS,
        help="MODULE:ATTRIBUTE of the ASGI application",
    )
    group = parser.add_argument_group("application")
    group.add_argument(
        "--root-path",
        default="",
        metavar="PATH",
        help="root_path of the scope: the path that the application is mounted at",
    )
    group.add_argument(
        "--gc-freeze",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="leave the objects that importing the application made out of Python's garbage collections (default)",
    )
    _add_options(group)


def add_stop(parser: Parser) -> None:
    group = parser.add_argument_group(
        "stop",
        "after SIGTERM or SIGINT, each step in its time and one after the other: together less than the 10 seconds"
        " that docker and supervisor give, before atexit's hooks",
    )
    _add_options(group)
    group.add_argument(
        "--exit-timeout",
        type=positive_seconds,
        default=60,
        metavar="SECONDS",
        help="time for threads and atexit's hooks after that (default 60, 0 for no limit)",
    )


def add_command(parser: Parser) -> None:
    group = parser.add_argument_group("configuration")
    group.add_argument(
        "--config",
        metavar="FILE",
        help="TOML file with the names of these flags (default: [tool.cdaphne] of pyproject.toml"
        " in the current directory); a flag beats the environment variable CDAPHNE_NAME,"
        " which beats the file",
    )
    group.add_argument(
        "--check",
        action="store_true",
        help="import the application, look at every setting, listen on nothing, and exit: 0 when all is well",
    )
    group.add_argument(
        "--completion",
        choices=SHELLS,
        help="print a completion script for this shell and exit",
    )
    group.add_argument(
        "--version",
        action=ShowVersion,
        nargs=0,
        help="print the versions of this program and its libraries, and exit",
    )
    group.add_argument(
        "--help-all", action=ShowHelpAll, nargs=0, help="show every flag, not only those of --help"
    )


def add_proxy(parser: Parser) -> tuple[argparse.Action, argparse.Action]:
    """Adds the flags and returns those two that need another."""
    group = parser.add_argument_group("behind a proxy")
    group.add_argument(
        "--proxy-headers",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="take client, scheme, server and root_path from X-Forwarded-For, -Port, -Proto, -Host and -Prefix,"
        " or from Forwarded (docs/deploy/proxies.rst)",
    )
    host = group.add_argument(
        "--proxy-headers-host",
        metavar="NAME",
        default=False,
        help="header with the address in place of X-Forwarded-For; Forwarded for that one alone;"
        " needs --proxy-headers",
    )
    port = group.add_argument(
        "--proxy-headers-port",
        metavar="NAME",
        default=False,
        help="header with the port in place of X-Forwarded-Port; needs --proxy-headers",
    )
    group.add_argument(
        "--proxy-protocol",
        choices=PROXY_MODES,
        default="off",
        help="begin connections to -b, -p, -u and --fd with a PROXY header, version 1 or 2, of a proxy that is"
        " believed; in an endpoint write proxy=required (default off)",
    )
    _add_options(group)
    return host, port


def add_logging(parser: Parser) -> None:
    group = parser.add_argument_group("logging")
    group.add_argument(
        "-v",
        "--verbosity",
        type=whole_number,
        choices=tuple(logs.LEVELS),
        default=1,
        help="0: warnings; 1: start, stop and access log (default); 2: every step; 3: asyncio's debug mode, too",
    )
    group.add_argument(
        "--log-fmt",
        default=logs.DEFAULT_FORMAT,
        metavar="FORMAT",
        help=f"format of Python's logging (default: {logs.DEFAULT_FORMAT})".replace("%", "%%"),
    )
    group.add_argument(
        "--log-config",
        metavar="FILE",
        help="configuration of Python's logging, .ini, .json, .toml or .yaml; --log-fmt no longer counts",
    )
    group.add_argument(
        "--access-log",
        metavar="PATH",
        help="file for the access log, reopened on SIGUSR1; - for stdout (default; none at verbosity 0),"
        " syslog: for the system's log, or syslog:ADDRESS:facility=NAME:tag=NAME",
    )
    group.add_argument(
        "--no-access-log",
        dest="access_log",
        action="store_const",
        const=logs.NO_ACCESS_LOG,
        help="write no access log",
    )
    _add_options(group)


def add_response(parser: Parser) -> None:
    group = parser.add_argument_group("responses")
    group.add_argument(
        "-s",
        "--server-name",
        type=header_value,
        default="cdaphne",
        metavar="NAME",
        help="value of the Server header (default cdaphne; daphne: daphne)",
    )
    group.add_argument(
        "--no-server-name",
        dest="server_name",
        action="store_const",
        const="",
        help="send no Server header",
    )
    _add_options(group)


def add_deflate(parser: Parser) -> None:
    group = parser.add_argument_group(
        "WebSocket compression", "permessage-deflate (RFC 7692); daphne has none"
    )
    _add_options(group)
    for limit in LIMITS.values():
        if limit.name.startswith(DEFLATE):
            _add_limit(group, limit)


def add_limits(parser: Parser) -> None:
    for title, kind, family in LIMIT_GROUPS:
        group = parser.add_argument_group(title)
        for limit in LIMITS.values():
            if limit.kind == kind and _family(limit.name) == family:
                _add_limit(group, limit)


def _family(name: str) -> str:
    """The protocol that a limit is about."""
    if name.startswith(DEFLATE):
        return "deflate"
    if name.startswith(("websocket", "ping_")):
        return "websocket"
    return "tls" if name.startswith("tls_") else "http"


def _add_limit(group: Any, limit: Limit) -> None:
    name = limit.name
    if limit.kind == "size":
        number: Any = functools.partial(_limited_size, name)
        shown = f"default {limit.default} {limit.unit}".strip()
    else:
        number = seconds if name in NEGATIVE_IS_NONE else positive_seconds
        shown = f"default {limit.default:g}"
    if limit.most != NO_MOST:
        shown += f", {limit.least} to {limit.most}"
    group.add_argument(
        *FLAG_NAMES.get(name, (f"--{name.replace('_', '-')}",)),
        dest=name,
        type=number,
        default=None if name == "http_timeout" else limit.default,
        metavar="SECONDS" if limit.kind == "time" else "N",
        help=_described(name, limit.doc, shown),
    )


def _limited_size(name: str, text: str) -> int:
    return int(checked(name, size(text)))


def _add_options(group: Any) -> None:
    """The flags of the options whose row names this group."""
    for option in OPTIONS.values():
        if option.group == group.title:
            _add_option(group, option)


def _add_option(group: Any, option: Option) -> None:
    takes: dict[str, Any] = {"default": option.default}
    shown = f"default {option.default}"
    if option.kind == "flag":
        takes["action"] = argparse.BooleanOptionalAction
        shown = "default" if option.default else "default: no"
    elif option.kind == "time":
        takes |= {"type": positive_seconds, "metavar": "SECONDS"}
    elif option.kind == "choice":
        takes["choices"] = tuple(option.words.split())
    elif option.kind == "text":
        takes |= {"type": functools.partial(checked, option.name), "metavar": option.metavar}
    else:
        takes |= {"type": ENTRIES[option.name], "metavar": option.metavar}
        takes |= {"action": "append", "default": list(option.default)}
        shown = "repeatable"
    if option.needs:
        shown += f"; needs {OPTIONS[option.needs].option_string()}"
    help_text = _described(option.name, option.doc, shown)
    group.add_argument(option.option_string(), dest=option.name, help=help_text, **takes)


def _described(name: str, doc: str, shown: str) -> str:
    """The help of a row's flag."""
    if name in DAPHNE_DEFAULTS:
        shown += f"; daphne: {DAPHNE_DEFAULTS[name]}"
    return f"{_with_flags(doc)} ({shown})".replace("%", "%%")


def _with_flags(doc: str) -> str:
    """The text of a row, with the limits that it mentions"""
    words = doc.split(" ")
    for i, word in enumerate(words):
        name = word.rstrip(",.;:)")
        if name in LIMITS:
            words[i] = f"--{name.replace('_', '-')}{word.removeprefix(name)}"
    return " ".join(words)


def version() -> str:
    """The line of --version: ours, Python's, and those of the libraries in the extension."""
    import platform

    python = f"{platform.python_implementation()} {platform.python_version()}"
    libraries = [f"{name} {number}" for name, number in _core.versions().items()]
    return f"cdaphne {__version__} ({', '.join([python, *libraries])})"
