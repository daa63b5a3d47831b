"""``manage.py runserver`` on cdaphne: ASGI, WebSockets, static files, Django's autoreloader.

Made for subclasses as daphne's is: server_cls, protocol, get_application(), inner_run(), log_action(), on_bind().
"""

from __future__ import annotations

import datetime
import importlib
import logging
import os
import re
import sys
import threading
from argparse import ArgumentParser
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError
from django.core.management.commands.runserver import Command as RunserverCommand
from django.db import connections
from django.utils import autoreload

from pyasgi import __version__
from pyasgi.endpoints import build_endpoint_description_strings
from pyasgi.options import LIMITS
from pyasgi.server import Server

logger = logging.getLogger("django.channels.server")

Application = Callable[..., Any]

HTTP_LINE = "HTTP %(method)s %(path)s %(status)s [%(time_taken).2f, %(client)s]"
WEBSOCKET_WORDS = {
    "connecting": "HANDSHAKING",
    "connected": "CONNECT",
    "disconnected": "DISCONNECT",
    "rejected": "REJECT",
}
# First status, level, name of Django's colour; the last one that is not above the status counts.
STYLES = (
    (0, logging.ERROR, "HTTP_SERVER_ERROR"),
    (100, logging.INFO, "HTTP_INFO"),
    (200, logging.INFO, "HTTP_SUCCESS"),
    (300, logging.INFO, "HTTP_REDIRECT"),
    (304, logging.INFO, "HTTP_NOT_MODIFIED"),
    (305, logging.INFO, "HTTP_REDIRECT"),
    (400, logging.WARNING, "HTTP_BAD_REQUEST"),
    (404, logging.WARNING, "HTTP_NOT_FOUND"),
    (405, logging.WARNING, "HTTP_BAD_REQUEST"),
    (500, logging.ERROR, "HTTP_SERVER_ERROR"),
)


def get_default_application() -> Application:
    """The application that the setting ASGI_APPLICATION names. ImproperlyConfigured, with what is wrong."""
    name = getattr(settings, "ASGI_APPLICATION", None)
    if not isinstance(name, str) or "." not in name:
        raise ImproperlyConfigured(
            f"the setting ASGI_APPLICATION is {name!r}; give MODULE.ATTRIBUTE: 'project.asgi.application'"
        )
    module_name, _, attribute = name.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ImproperlyConfigured(
            f"cannot import {module_name!r}, the module of ASGI_APPLICATION: {error}"
        ) from error
    try:
        application: Application = getattr(module, attribute)
    except AttributeError as error:
        raise ImproperlyConfigured(
            f"the module {module_name!r} has no {attribute!r}, which ASGI_APPLICATION names"
        ) from error
    return application


class Command(RunserverCommand):
    """runserver with --noasgi for Django's own one."""

    protocol = "http"
    server_cls: Any = Server
    use_asgi = True

    # ---- options ----

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--noasgi",
            action="store_false",
            dest="use_asgi",
            help="Serve WSGI_APPLICATION with Django's own development server.",
        )
        parser.add_argument(
            "--http_timeout",
            "--http-timeout",
            type=int,
            default=None,
            help="Seconds for the application to answer a request (default: no limit).",
        )
        parser.add_argument(
            "--websocket_handshake_timeout",
            "--websocket-handshake-timeout",
            type=int,
            default=5,
            help="Seconds for the application to accept a WebSocket (default: 5).",
        )
        for kind in ("message", "frame"):
            parser.add_argument(
                f"--websocket-max-{kind}-size",
                type=int,
                default=None,
                help=f"Largest WebSocket {kind} from a client, in bytes, 0 for no limit (default: the"
                f" setting CDAPHNE_WEBSOCKET_MAX_{kind.upper()}_SIZE, else 1 MiB).",
            )
        if apps.is_installed("django.contrib.staticfiles"):
            parser.add_argument(
                "--nostatic",
                action="store_false",
                dest="use_static_handler",
                help="Do not serve static files at STATIC_URL.",
            )
            parser.add_argument(
                "--insecure",
                action="store_true",
                dest="insecure_serving",
                help="Serve static files with DEBUG off too.",
            )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["use_asgi"] and not getattr(settings, "ASGI_APPLICATION", None):
            raise CommandError(
                "You have not set ASGI_APPLICATION, which is needed to run the server."
                " Give --noasgi to serve WSGI_APPLICATION."
            )
        self.http_timeout = options.get("http_timeout")
        self.websocket_handshake_timeout = options.get("websocket_handshake_timeout", 5)
        self.websocket_max_message_size = self._size("websocket_max_message_size", options)
        self.websocket_max_frame_size = self._size("websocket_max_frame_size", options)
        super().handle(*args, **options)

    def _size(self, name: str, options: dict[str, Any]) -> int:
        """A limit: the option, the setting CDAPHNE_<NAME>, the setting DAPHNE_<NAME>, the server's default."""
        sources = [(f"--{name.replace('_', '-')}", options.get(name))]
        for setting in (f"CDAPHNE_{name.upper()}", f"DAPHNE_{name.upper()}"):
            sources.append((f"the setting {setting}", getattr(settings, setting, None)))
        for source, value in sources:
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise CommandError(f"{source} is {value!r}; give a number of bytes, 0 for no limit")
            return value
        return int(LIMITS[name].default)

    # ---- serving ----

    def inner_run(self, *args: Any, **options: Any) -> None:
        """Serves until it is interrupted; under the reloader this is not the main thread."""
        self.use_asgi = options.get("use_asgi", True)
        if not self.use_asgi:
            self.server_cls = RunserverCommand.server_cls
            super().inner_run(*args, **options)
            return
        autoreload.raise_last_exception()
        if not options.get("skip_checks"):
            self.stdout.write("Performing system checks...\n\n")
            self.check(display_num_errors=True)
        self.check_migrations()
        for connection in connections.all(initialized_only=True):
            connection.close()
        server = self._make_server(options)
        try:
            server.run()
        except KeyboardInterrupt:
            if shutdown_message := options.get("shutdown_message", ""):
                self.stdout.write(shutdown_message)
            return
        if getattr(server, "abort_start", False):
            self._exit(getattr(server, "abort_reason", "") or "the server could not start")

    def _make_server(self, options: dict[str, Any]) -> Any:
        server = self.server_cls(
            application=self.get_application(options),
            endpoints=self._endpoints(),
            # In another thread than the main one signals are the reloader's.
            signal_handlers=not options["use_reloader"],
            action_logger=self.log_action,
            http_timeout=self.http_timeout,
            root_path=getattr(settings, "FORCE_SCRIPT_NAME", "") or "",
            websocket_handshake_timeout=self.websocket_handshake_timeout,
            websocket_max_message_size=self.websocket_max_message_size,
            websocket_max_frame_size=self.websocket_max_frame_size,
        )
        # A subclass of the server may have one of its own.
        server.ready_callable = partial(
            self._listens, server, getattr(server, "ready_callable", None)
        )
        return server

    def _endpoints(self) -> list[str]:
        if self.use_ipv6 and not self._raw_ipv6:  # a name, and -6
            return [f"tcp6:port={int(self.port)}:interface={self.addr}"]
        return build_endpoint_description_strings(host=self.addr, port=self.port)

    def _listens(self, server: Any, further: Callable[[], object] | None) -> None:
        addresses = server.listening_addresses
        self.on_bind(addresses[0][1] if addresses else int(self.port))
        if further is not None:
            further()

    def _exit(self, reason: str) -> NoReturn:
        """Ends manage.py with CommandError, which the reloader would only show before it waits for a change."""
        # The remedy speaks of flags of cdaphne's own command.
        error = CommandError(re.sub(r" \((-\w/)?--[\w/-]+\)", "", reason))
        if threading.current_thread() is threading.main_thread():
            raise error
        self.stderr.write(f"{type(error).__name__}: {error}")
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(error.returncode)

    def on_bind(self, server_port: int) -> None:
        """Tells the user where the server listens; Django's own server calls it too."""
        if not self.use_asgi:
            super().on_bind(server_port)
            self.stdout.flush()
            return
        address = f"[{self.addr}]" if self._raw_ipv6 else self.addr
        quit_command = "CTRL-BREAK" if sys.platform == "win32" else "CONTROL-C"
        self.stdout.write(
            f"{datetime.datetime.now().strftime('%B %d, %Y - %X')}\n"
            f"Django version {self.get_version()}, using settings {settings.SETTINGS_MODULE!r}\n"
            f"Starting ASGI/Daphne version cdaphne/{__version__} development server"
            f" at {self.protocol}://{address}:{server_port}/\n"
            f"Quit the server with {quit_command}.\n"
        )
        self.stdout.flush()  # whoever waits for the address reads a pipe

    # ---- applications ----

    def get_application(self, options: dict[str, Any]) -> Application:
        """The project's application, inside the handler of static files where those are served."""
        application = get_default_application()
        if not self._serves_static(options):
            return application
        from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler

        wrapped: Application = ASGIStaticFilesHandler(application)
        return wrapped

    def get_handler(self, *args: Any, **options: Any) -> Application:
        """For --noasgi: the WSGI application, inside the handler of static files where those are served."""
        handler: Application = super().get_handler(*args, **options)
        if self._serves_static(options):
            from django.contrib.staticfiles.handlers import StaticFilesHandler

            handler = StaticFilesHandler(handler)
        return handler

    def _serves_static(self, options: dict[str, Any]) -> bool:
        wanted = options.get("use_static_handler", apps.is_installed("django.contrib.staticfiles"))
        return bool(wanted and (settings.DEBUG or options.get("insecure_serving", False)))

    # ---- log ----

    def log_action(self, protocol: str, action: str, details: dict[str, Any]) -> None:
        """Logs an action of the server (see pyasgi.access) with Django's colours."""
        if protocol == "http" and action == "complete":
            status = details["status"]
            _, level, style = [row for row in STYLES if row[0] <= status][-1]
            if status >= 600:
                _, level, style = STYLES[0]
            logger.log(level, getattr(self.style, style)(HTTP_LINE), details)
        elif protocol == "websocket" and action in WEBSOCKET_WORDS:
            logger.info(f"WebSocket {WEBSOCKET_WORDS[action]} %(path)s [%(client)s]", details)
