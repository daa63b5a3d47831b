"""The command ``cdaphne``: daphne's flags, one flag for every limit of the server, and a few of ours."""

from __future__ import annotations

import argparse
import difflib
import logging
import math
import os
import platform
import re
import sys
import threading
from argparse import ArgumentError, Namespace
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from . import __version__, _core, logs
from .access import AccessLogGenerator
from .endpoints import build_endpoint_description_strings
from .importer import ApplicationError, import_by_path, load
from .lifespan import MODES
from .server import Server

logger = logging.getLogger("daphne.cli")

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8000
EXIT_SECONDS = 5.0  # for worker threads to come back after the server has ended

# daphne's long flags. Their abbreviations stay what they are, whatever flags are added to these.
DAPHNE_FLAGS = (
    "--help --port --bind --websocket_timeout --websocket_connect_timeout --unix-socket --fd --endpoint"
    " --verbosity --http-timeout --access-log --log-fmt --ping-interval --ping-timeout"
    " --websocket-max-message-size --websocket-max-frame-size --application-close-timeout --root-path"
    " --proxy-headers --proxy-headers-host --proxy-headers-port --server-name --no-server-name"
)

# What other servers call it.
FOREIGN_FLAGS = {
    "--host": "--bind",
    "--uds": "--unix-socket",
    "--log-level": "--verbosity",
    "--loglevel": "--verbosity",
    "--access-logfile": "--access-log",
    "--timeout-keep-alive": "--keep-alive-timeout",
    "--keep-alive": "--keep-alive-timeout",
    "--timeout-graceful-shutdown": "--graceful-timeout",
    "--limit-concurrency": "--max-connections",
    "--ws-max-size": "--websocket-max-message-size",
    "--ws-ping-interval": "--ping-interval",
    "--ws-ping-timeout": "--ping-timeout",
    "--no-server-header": "--no-server-name",
    "--h11-max-incomplete-event-size": "--max-head-size",
}

# Limits for which a negative number is daphne's word for "none".
NEGATIVE_IS_NONE = {"websocket_timeout", "websocket_connect_timeout"}
# Limits whose flag daphne writes another way than the name with dashes.
FLAG_NAMES = {
    "http_timeout": ("-t", "--http-timeout"),
    "websocket_timeout": ("--websocket_timeout", "--websocket-timeout"),
    "websocket_connect_timeout": ("--websocket_connect_timeout", "--websocket-connect-timeout"),
}
LIMIT_GROUPS = (
    ("HTTP timers (seconds, 0 switches one off)", "time", False),
    ("WebSocket timers (seconds, 0 switches one off)", "time", True),
    ("HTTP sizes", "size", False),
    ("WebSocket sizes", "size", True),
)
# Limits that Server() takes by daphne's names; the others are passed on when a flag was given.
DAPHNE_LIMITS = (
    "http_timeout",
    "ping_interval",
    "ping_timeout",
    "websocket_timeout",
    "websocket_connect_timeout",
    "websocket_max_message_size",
    "websocket_max_frame_size",
    "application_close_timeout",
)
OWN_OPTIONS = (
    "graceful_timeout",
    "lifespan",
    "lifespan_startup_timeout",
    "lifespan_shutdown_timeout",
    "date_header",
)


class Parser(argparse.ArgumentParser):
    """argparse with one line per error, daphne's abbreviations and a suggestion for an unknown flag."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        words = sys.argv[1:] if args is None else list(args)
        return super().parse_args(
            [self._flag(word) for word in _before_dashes(words)] + _rest(words), namespace
        )

    def _flag(self, word: str) -> str:
        """A word of the command line with daphne's abbreviation written out."""
        name, equals, value = word.partition("=")
        if not name.startswith("--") or name in self._option_string_actions:
            return word
        known = [flag for flag in DAPHNE_FLAGS.split() if flag.startswith(name)]
        if len(known) == 1:
            return f"{known[0]}{equals}{value}"
        if not any(flag.startswith(name) for flag in self._option_string_actions):
            self._unknown(name)
        return word

    def _unknown(self, name: str) -> NoReturn:
        near = FOREIGN_FLAGS.get(name)
        if near is None:
            flags = [flag for flag in self._option_string_actions if flag.startswith("--")]
            near = next(iter(difflib.get_close_matches(name, flags, n=1, cutoff=0.6)), None)
        self.error(f"unknown flag {name}" + (f"; did you mean {near}?" if near else ""))


def _before_dashes(words: Sequence[str]) -> Sequence[str]:
    return words[: words.index("--")] if "--" in words else words


def _with_flags(doc: str) -> str:
    """A row's text with the limits that it mentions spelled as flags."""
    names = "|".join(row[0] for row in _core.limits())
    return re.sub(rf"\b({names})\b", lambda found: f"--{found[1].replace('_', '-')}", doc)


def _rest(words: Sequence[str]) -> list[str]:
    return list(words[len(_before_dashes(words)) :])


def seconds(text: str) -> float:
    """A number of seconds of the command line; negative ones too, an int where it is whole."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of seconds; give for example 10 or 0.5"
        )
    return int(number) if number.is_integer() else number


def positive_seconds(text: str) -> float:
    number = seconds(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is negative; give 0 to switch it off")
    return number


def size(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; give a whole number from 0 on")
    if int(text) > sys.maxsize:
        raise argparse.ArgumentTypeError(f"{text!r} is too large; give at most {sys.maxsize}")
    return int(text)


def whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None


def header_value(text: str) -> str:
    if not text.isprintable() or not all(ord(character) < 256 for character in text):
        raise argparse.ArgumentTypeError(
            f"{text!r} cannot stand in a header; give printable Latin-1 text"
        )
    return text


class CommandLineInterface:
    """The command line. Subclasses may set description and server_class and override load_asgi_app."""

    description = "HTTP and WebSocket server for ASGI applications (Django, Channels and others)"
    server_class: Any = Server

    def __init__(self) -> None:
        self.parser = Parser(
            prog="cdaphne",
            description=self.description,
            formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=32),
            usage="%(prog)s [options] application",
        )
        self.server: Any = None
        self._add_endpoints()
        self._add_application()
        self._add_proxy()
        self._add_logging()
        self._add_response()
        self._add_limits()

    @classmethod
    def entrypoint(cls) -> None:
        """The console script: runs sys.argv and leaves the process with daphne's exit status."""
        interface = cls()
        status: Any = 0
        try:
            interface.run(sys.argv[1:])
        except ArgumentError as error:
            status = 1
            interface.parser.exit(status, f"{interface.parser.prog}: error: {error}\n")
        except KeyboardInterrupt:
            pass  # an application's, which has ended the server
        except SystemExit as error:
            status = error.code
            raise
        finally:
            leave_soon(status if isinstance(status, int) else 1)

    def load_asgi_app(self, asgi_app_path: str) -> Any:
        """The application for MODULE:ATTRIBUTE; frozen programs override this."""
        return import_by_path(asgi_app_path)

    def run(self, args: Sequence[str]) -> None:
        """Serves as the arguments say, and returns after the graceful shutdown.

        SystemExit when it could not serve: 2 for bad usage, else 1. ArgumentError for a flag that needs another.
        """
        options = self.parser.parse_args(args)
        self._set_up_logging(options)
        forwarded = self._forwarded_headers(options)
        stream = self._access_stream(options)
        application = self._application(options.application)
        endpoints = self._endpoints(options)
        logger.info("Starting server at %s", ", ".join(endpoints))
        self.server = self.server_class(
            application=application,
            endpoints=endpoints,
            action_logger=AccessLogGenerator(stream) if stream is not None else None,
            root_path=options.root_path,
            verbosity=options.verbosity,
            websocket_handshake_timeout=options.websocket_connect_timeout,
            server_name=options.server_name,
            **forwarded,
            **{name: getattr(options, name) for name in DAPHNE_LIMITS},
            **self._further(options),
        )
        self.server.run()
        if getattr(self.server, "abort_start", False):
            raise SystemExit(1)

    # ---- flags ----

    def _add_endpoints(self) -> None:
        group = self.parser.add_argument_group(
            "where to listen",
            f"any combination listens on all; without one {DEFAULT_HOST}:{DEFAULT_PORT}",
        )
        group.add_argument(
            "-b",
            "--bind",
            dest="host",
            metavar="HOST",
            help="address or name, all of whose addresses are bound",
        )
        group.add_argument("-p", "--port", type=whole_number, help="TCP port, 0 for a free one")
        group.add_argument("-u", "--unix-socket", metavar="PATH", help="unix socket")
        group.add_argument(
            "--fd",
            dest="file_descriptor",
            type=whole_number,
            metavar="N",
            help="inherited listening socket",
        )
        group.add_argument(
            "-e",
            "--endpoint",
            dest="socket_strings",
            action="append",
            default=[],
            metavar="ENDPOINT",
            help="endpoint string, repeatable: tcp:PORT:interface=HOST, tcp6:PORT, unix:PATH:mode=660,"
            " fd:fileno=N, systemd:domain=INET:index=0",
        )

    def _add_application(self) -> None:
        self.parser.add_argument("application", help="MODULE:ATTRIBUTE of the ASGI application")
        self.parser.add_argument("--version", action="version", version=version())
        group = self.parser.add_argument_group("application")
        group.add_argument("--root-path", default="", metavar="PATH", help="root_path of the scope")
        group.add_argument(
            "--lifespan",
            choices=MODES,
            default="auto",
            help="run startup and shutdown of the application; auto tolerates one that has none (default)",
        )
        for name, default, text in (
            ("--lifespan-startup-timeout", 300, "time for the application to start"),
            ("--lifespan-shutdown-timeout", 30, "time for the application to shut down"),
            ("--graceful-timeout", 10, "time for running requests to end after SIGTERM or SIGINT"),
        ):
            group.add_argument(
                name,
                type=positive_seconds,
                default=default,
                metavar="SECONDS",
                help=f"{text} (default {default})",
            )

    def _add_proxy(self) -> None:
        group = self.parser.add_argument_group("behind a proxy")
        group.add_argument(
            "--proxy-headers",
            action="store_true",
            help="take client address, port and scheme from X-Forwarded-For, -Port and -Proto",
        )
        self.arg_proxy_host = group.add_argument(
            "--proxy-headers-host",
            metavar="NAME",
            default=False,
            help="header with the address in place of X-Forwarded-For; needs --proxy-headers",
        )
        self.arg_proxy_port = group.add_argument(
            "--proxy-headers-port",
            metavar="NAME",
            default=False,
            help="header with the port in place of X-Forwarded-Port; needs --proxy-headers",
        )

    def _add_logging(self) -> None:
        group = self.parser.add_argument_group("logging")
        group.add_argument(
            "-v",
            "--verbosity",
            type=whole_number,
            choices=tuple(logs.LEVELS),
            default=1,
            help="0 warnings, 1 start, stop and access log (default), 2 every step, 3 also asyncio's debug mode",
        )
        group.add_argument(
            "--access-log",
            metavar="PATH",
            help="file for the access log, - for stdout (default; none at verbosity 0)",
        )
        group.add_argument(
            "--log-fmt",
            default=logs.DEFAULT_FORMAT,
            metavar="FORMAT",
            help=f"format of Python's logging (default: {logs.DEFAULT_FORMAT})".replace("%", "%%"),
        )

    def _add_response(self) -> None:
        group = self.parser.add_argument_group("responses")
        group.add_argument(
            "-s",
            "--server-name",
            type=header_value,
            default="cdaphne",
            metavar="NAME",
            help="value of the Server header (default cdaphne)",
        )
        group.add_argument(
            "--no-server-name",
            dest="server_name",
            action="store_const",
            const="",
            help="send no Server header",
        )
        group.add_argument(
            "--no-date-header", dest="date_header", action="store_false", help="send no Date header"
        )

    def _add_limits(self) -> None:
        for title, kind, websocket in LIMIT_GROUPS:
            group = self.parser.add_argument_group(title)
            for row in _core.limits():
                name = row[0]
                if row[1] == kind and name.startswith(("websocket", "ping_")) == websocket:
                    self._add_limit(group, *row)

    def _add_limit(
        self, group: Any, name: str, kind: str, default: float, unit: str, doc: str
    ) -> None:
        if kind == "size":
            number: Any = size
        else:
            number = seconds if name in NEGATIVE_IS_NONE else positive_seconds
        shown = f"{default:g}" if kind == "time" else f"{default} {unit}"
        group.add_argument(
            *FLAG_NAMES.get(name, (f"--{name.replace('_', '-')}",)),
            dest=name,
            type=number,
            default=None if name == "http_timeout" else default,
            metavar="SECONDS" if kind == "time" else "N",
            help=f"{_with_flags(doc)} (default {shown})".replace("%", "%%"),
        )

    # ---- what the flags mean ----

    def _fail(self, message: str) -> NoReturn:
        """What daphne ends with a traceback and status 1: one line and status 1."""
        self.parser.exit(1, f"{self.parser.prog}: error: {message}\n")

    def _set_up_logging(self, options: Namespace) -> None:
        try:
            logs.setup(options.verbosity, options.log_fmt)
        except ValueError as error:
            self._fail(f"--log-fmt {options.log_fmt!r} is no format of Python's logging: {error}")

    def _access_stream(self, options: Namespace) -> Any:
        try:
            return logs.access_stream(options.access_log, options.verbosity)
        except OSError as error:
            self._fail(
                f"--access-log {options.access_log!r} cannot be opened: {error.strerror};"
                " give a file that this user may write, or - for stdout"
            )

    def _application(self, path: str) -> Any:
        sys.path.insert(0, ".")
        try:
            return load(path, self.load_asgi_app)
        except ApplicationError as error:
            self._fail(str(error))
        except Exception as error:
            logger.critical("Exception while importing the application %r", path, exc_info=True)
            self._fail(f"importing the application {path!r} raised {type(error).__name__}: {error}")

    def _endpoints(self, options: Namespace) -> list[str]:
        """The endpoint strings, with daphne's defaults for what is missing."""
        given = (options.unix_socket, options.file_descriptor, options.socket_strings or None)
        host, port = options.host or None, options.port
        if host is None and port is None and all(value is None for value in given):
            host, port = DEFAULT_HOST, DEFAULT_PORT
        elif host is not None and port is None:
            port = DEFAULT_PORT
        elif port is not None and host is None:
            host = DEFAULT_HOST
        strings = build_endpoint_description_strings(
            host=host,
            port=port,
            unix_socket=options.unix_socket,
            file_descriptor=options.file_descriptor,
        )
        return sorted(options.socket_strings + strings)

    def _forwarded_headers(self, options: Namespace) -> dict[str, str | None]:
        for value, argument in (
            (options.proxy_headers_host, self.arg_proxy_host),
            (options.proxy_headers_port, self.arg_proxy_port),
        ):
            if value and not options.proxy_headers:
                raise ArgumentError(
                    argument, "--proxy-headers has to be passed for this parameter."
                )
        on = options.proxy_headers
        return {
            "proxy_forwarded_address_header": (options.proxy_headers_host or "X-Forwarded-For")
            if on
            else None,
            "proxy_forwarded_port_header": (options.proxy_headers_port or "X-Forwarded-Port")
            if on
            else None,
            "proxy_forwarded_proto_header": "X-Forwarded-Proto" if on else None,
        }

    def _further(self, options: Namespace) -> dict[str, Any]:
        """The arguments that daphne's Server does not know; only those that a flag changed."""
        limits: Iterable[str] = (row[0] for row in _core.limits() if row[0] not in DAPHNE_LIMITS)
        names = [*OWN_OPTIONS, *limits]
        return {
            name: getattr(options, name)
            for name in names
            if getattr(options, name) != self.parser.get_default(name)
        }


def version() -> str:
    """The line of --version: ours, Python's, and those of the libraries in the extension."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    libraries = [f"{name} {number}" for name, number in _core.versions().items()]
    return f"cdaphne {__version__} ({', '.join([python, *libraries])})"


def leave_soon(status: int) -> None:
    """Python waits at exit for worker threads; one that is stuck in the application must not keep the process."""

    def give_up() -> None:
        logger.warning(
            "Worker threads still run %g s after the end: exiting without them", EXIT_SECONDS
        )
        logging.shutdown()
        os._exit(status)

    timer = threading.Timer(EXIT_SECONDS, give_up)
    timer.daemon = True
    timer.start()


def main() -> None:
    """Entry point of the console script."""
    CommandLineInterface.entrypoint()
