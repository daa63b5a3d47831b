"""The command ``cdaphne``: what its flags (flags.py) and settings (config.py) mean, and one run of the server."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
from argparse import ArgumentError, Namespace
from collections.abc import Sequence
from typing import Any, NoReturn

try:
    from . import native as native
except ImportError as problem:  # a missing library; a traceback would only show our own imports
    raise SystemExit(f"cdaphne: {problem}") from None

from . import advice, completion, config, flags, logs
from .access import AccessLogError, AccessLogGenerator, access_stream, check_target
from .config import ConfigError
from .endpoints import build_endpoint_description_strings
from .flags import DEFAULT_HOST, DEFAULT_PORT
from .importer import ApplicationError, import_by_path, load
from .leaving import leave
from .options import LIMITS, OPTIONS
from .process import hold_standard_descriptors
from .server import Server
from .signals import before_a_server
from .tls import Pair, Settings

logger = logging.getLogger("daphne.cli")

EXIT_SECONDS = 60.0  # of a process whose flags could not be read

# Limits that Server() takes by daphne's names; the others are passed on when a setting changed them.
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
# Flags that say something about TLS, and mean nothing where nobody speaks it.
TLS_FLAGS = (
    "keyfile",
    "keyfile_password",
    "cert_reqs",
    "ca_certs",
    "crlfile",
    "ocsp_file",
    "ciphers",
    "ssl_min_version",
)
UNIX_SOCKET_FLAGS = ("unix_socket_mode", "unix_socket_user", "unix_socket_group")


class CommandLineInterface:
    """The command line. Subclasses may set description and server_class and override load_asgi_app."""

    description = "HTTP and WebSocket server for ASGI applications (Django, Channels and others)"
    server_class: Any = Server

    def __init__(self) -> None:
        self.parser = flags.Parser(
            prog="cdaphne",
            description=self.description,
            usage="%(prog)s [options] application",
        )
        self.server: Any = None
        self.exit_timeout = EXIT_SECONDS
        flags.add_endpoints(self.parser)
        flags.add_tls(self.parser)
        flags.add_application(self.parser)
        flags.add_stop(self.parser)
        flags.add_command(self.parser)
        self.arg_proxy_host, self.arg_proxy_port = flags.add_proxy(self.parser)
        flags.add_logging(self.parser)
        flags.add_response(self.parser)
        flags.add_deflate(self.parser)
        flags.add_limits(self.parser)

    @classmethod
    def entrypoint(cls) -> None:
        """The console script: runs sys.argv and leaves the process with daphne's exit status."""
        before_a_server()
        interface = cls()
        status: Any = 0
        try:
            interface.run(sys.argv[1:])
        except ArgumentError as error:
            status = 1
            interface.parser.exit(status, f"{interface.parser.prog}: error: {error}\n")
        except KeyboardInterrupt:
            # A KeyboardInterrupt of the application's ends the server gracefully, with status 0 as always.
            if not getattr(interface.server, "served", False):
                status = 128 + signal.SIGINT
                raise SystemExit(status) from None
        except SystemExit as error:
            status = error.code
            raise
        finally:
            views_end = getattr(interface.server, "requests_end", 0)
            leave(status if isinstance(status, int) else 1, interface.exit_timeout, views_end)

    def load_asgi_app(self, asgi_app_path: str) -> Any:
        """The application for MODULE:ATTRIBUTE; frozen programs override this."""
        return import_by_path(asgi_app_path)

    def run(self, args: Sequence[str]) -> None:
        """Serves as the arguments say, and returns after the graceful shutdown.

        SystemExit when it could not serve: 2 for bad usage, else 1. ArgumentError for a flag that needs another.
        """
        hold_standard_descriptors()
        options = self._options(args)
        if options.completion:
            self.parser.say(completion.script(options.completion, self.parser))
            return
        self.exit_timeout = options.exit_timeout
        self._set_up_logging(options)
        endpoints = self._endpoints(options)
        self.server = self._server(options, endpoints)
        self.server.owns_descriptors = True
        if options.check:
            self._check(options, endpoints)
            return
        logger.info("Starting server at %s", ", ".join(endpoints))
        for line in advice.lines():
            logger.warning("%s", line)
        self._run(options.gc_freeze)
        if getattr(self.server, "abort_start", False):
            raise SystemExit(1)

    def _run(self, gc_freeze: bool) -> None:
        # A full collection walks every object of Django and the project, and all requests wait.
        if gc_freeze:
            gc.freeze()
        try:
            self.server.run()
        finally:
            gc.unfreeze()

    def _server(self, options: Namespace, endpoints: Sequence[str]) -> Any:
        forwarded = self._forwarded_headers(options)
        stream = self._access_stream(options)
        return self.server_class(
            application=self._application(options.application),
            endpoints=endpoints,
            action_logger=AccessLogGenerator(stream) if stream is not None else None,
            root_path=options.root_path,
            verbosity=options.verbosity,
            websocket_handshake_timeout=options.websocket_connect_timeout,
            server_name=options.server_name,
            **forwarded,
            **self._tls(options),
            **{name: getattr(options, name) for name in DAPHNE_LIMITS},
            **self._further(options),
        )

    # ---- settings ----

    def _options(self, args: Sequence[str]) -> Namespace:
        """Merges the settings: flags override environment, file and defaults, in this order."""
        given: Namespace = self.parser.parse_args(args)
        if given.completion:
            return given
        try:
            settings = config.load(self.parser, given.config, os.environ)
        except ConfigError as error:
            self.parser.exit(2, f"{self.parser.prog}: error: {error}\n")
        # argparse would append to a list that is there already.
        lists = {name for name, value in settings.items() if isinstance(value, list)}
        known = {name: value for name, value in settings.items() if name not in lists}
        options: Namespace = self.parser.parse_args(args, Namespace(**known))
        for name in lists:
            if not getattr(options, name):
                setattr(options, name, settings[name])
        self._require(options)
        return options

    def _require(self, options: Namespace) -> None:
        if not hasattr(options, "application"):
            self.parser.error("the following arguments are required: application")
        for name in UNIX_SOCKET_FLAGS:
            if getattr(options, name) is not None and not options.unix_socket:
                flag = f"--{name.replace('_', '-')}"
                self.parser.error(
                    f"{flag} needs --unix-socket; in an endpoint write unix:PATH:mode=660"
                )
        for option in OPTIONS.values():
            if (
                option.needs
                and getattr(options, option.name)
                and not getattr(options, option.needs)
            ):
                needed = OPTIONS[option.needs].option_string()
                self.parser.error(
                    f"{option.option_string()} needs {needed}; leave --no-{needed[2:]} out"
                )
        self._require_tls(options)
        self._require_plain(options)

    def _require_tls(self, options: Namespace) -> None:
        """Flags of TLS that need another one."""
        given = [name for name in TLS_FLAGS if self._changed(options, name)]
        by_endpoint = any(
            text.startswith(("ssl:", "tls:")) or ":certfile=" in text
            for text in options.socket_strings
        )
        if given and not options.certfile and not (by_endpoint and given[0] != "keyfile"):
            self.parser.error(f"--{given[0].replace('_', '-')} needs --certfile")
        if len(options.keyfile) > len(options.certfile):
            self.parser.error(
                f"there are {len(options.keyfile)} --keyfile for {len(options.certfile)} --certfile;"
                " give at most one for each"
            )
        if options.cert_reqs in ("optional", "required") and not options.ca_certs:
            self.parser.error(f"--cert-reqs {options.cert_reqs} needs --ca-certs")
        if options.ca_certs and options.cert_reqs == "none":
            self.parser.error(
                "--ca-certs needs --cert-reqs optional, required or report; without it no client is asked"
                " for a certificate"
            )
        if options.crlfile and not options.ca_certs:
            self.parser.error("--crlfile needs --ca-certs")

    def _changed(self, options: Namespace, name: str) -> bool:
        return bool(getattr(options, name) != self.parser.get_default(name))

    def _require_plain(self, options: Namespace) -> None:
        """--proxy-protocol is about the listeners of these flags only."""
        plain = (options.host, options.port, options.unix_socket, options.file_descriptor)
        if (
            options.proxy_protocol != "off"
            and options.socket_strings
            and not any(map(given, plain))
        ):
            self.parser.error(
                "--proxy-protocol is for -b, -p, -u and --fd; in an endpoint write"
                f" tcp:8000:proxy={options.proxy_protocol}"
            )

    def _check(self, options: Namespace, endpoints: Sequence[str]) -> None:
        """--check: reports what a start would complain of, without starting."""
        problems = self.server.check()
        if problems:
            self.parser.exit(
                1, "".join(f"{self.parser.prog}: error: {line}\n" for line in problems)
            )
        from .preflight import look

        for line in advice.lines():
            print(f"{self.parser.prog}: warning: {line}", file=sys.stderr)
        for line in (note for text in endpoints for note in look(text)):
            print(f"{self.parser.prog}: note: {line}", file=sys.stderr)
        self.parser.say(f"{options.application}: ready to listen at {', '.join(endpoints)}")

    # ---- what the flags mean ----

    def _fail(self, message: str) -> NoReturn:
        """Ends with one line and status 1, where daphne ends with a traceback and status 1."""
        self.parser.exit(1, f"{self.parser.prog}: error: {message}\n")

    def _set_up_logging(self, options: Namespace) -> None:
        try:
            if options.log_config:
                logs.configure(options.log_config)
            else:
                logs.setup(options.verbosity, options.log_fmt)
        except logs.LogError as error:
            self._fail(str(error))

    def _access_stream(self, options: Namespace) -> Any:
        try:
            if options.check:
                check_target(options.access_log)
                return None
            return access_stream(options.access_log, options.verbosity)
        except AccessLogError as error:
            self._fail(str(error))

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
            unix_socket_mode=options.unix_socket_mode,
            unix_socket_user=options.unix_socket_user,
            unix_socket_group=options.unix_socket_group,
            tls=bool(options.certfile),
            proxy_protocol=options.proxy_protocol,
        )
        return sorted(options.socket_strings + strings)

    def _tls(self, options: Namespace) -> dict[str, Settings]:
        """The argument tls of Server, when a flag is about TLS."""
        if not options.certfile and not any(self._changed(options, name) for name in TLS_FLAGS):
            return {}
        keys = options.keyfile + options.certfile[len(options.keyfile) :]
        places = list(zip(options.certfile, keys, strict=True))
        settings = Settings(
            certificates=tuple(Pair(*place) for place in places if not os.path.isdir(place[0])),
            directories=tuple(path for path, _ in places if os.path.isdir(path)),
            password=options.keyfile_password,
            verify=options.cert_reqs,
            ca_certs=options.ca_certs,
            crlfile=options.crlfile,
            ocsp_files=tuple(options.ocsp_file),
            ciphers=options.ciphers,
            min_version=options.ssl_min_version,
        )
        return {"tls": settings}

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
        names = [*OPTIONS, *(name for name in LIMITS if name not in DAPHNE_LIMITS)]
        return {name: getattr(options, name) for name in names if self._changed(options, name)}


def given(value: object) -> bool:
    return value is not None and value != ""


def main() -> None:
    """Entry point of the console script."""
    CommandLineInterface.entrypoint()
