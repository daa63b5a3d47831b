"""cdaphne: an ASGI server in C, a drop-in for daphne.

Importing this package loads neither the C extension nor an event loop: pyasgi.server does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .ending import stopping, until_stopping

__version__ = "0.1.0"

__all__ = ["__version__", "run", "serve", "stopping", "until_stopping"]


def run(app: Callable[..., Any], host: str = "127.0.0.1", port: int = 8000, **options: Any) -> None:
    """Serves an ASGI application on one TCP address until SIGTERM, SIGINT or Server.stop().

    options: the keyword arguments of pyasgi.server.Server; ``endpoints`` or ``sockets`` replace host and port. In a
    program that has not set up logging, the server's messages go to stderr and its access log to stdout, as those of
    the command line do; ``verbosity=0`` leaves warnings and errors, ``action_logger=None`` no access log.
    SystemExit with status 1 when the server could not start; the reason has been logged.
    """
    server = _server(app, host, port, options)
    server.run()
    if server.abort_start:
        raise SystemExit(1)


async def serve(
    app: Callable[..., Any], host: str = "127.0.0.1", port: int = 8000, **options: Any
) -> None:
    """Serves an ASGI application beside the other tasks of a running pyasgi.loop.EventLoop, until it is cancelled.

    Cancelling is a graceful shutdown. Signals are left to the program; the arguments are those of run(), and
    ``signal_handlers=True`` takes SIGTERM. RuntimeError on another event loop or when the server could not start.
    """
    options.setdefault("signal_handlers", False)
    await _server(app, host, port, options).serve()


def _server(app: Callable[..., Any], host: str, port: int, options: dict[str, Any]) -> Any:
    """Makes the server, and logs what the command line would, unless the program has set up logging."""
    import sys

    from . import advice, logs
    from .access import AccessLogGenerator
    from .endpoints import build_endpoint_description_strings
    from .process import hold_standard_descriptors
    from .server import Server, logger

    hold_standard_descriptors()
    verbosity = options.get("verbosity", 1)
    if logs.setup_if_nobody_did(verbosity) and verbosity > 0:
        options.setdefault("action_logger", AccessLogGenerator(sys.stdout))
    if not options.get("sockets"):
        options.setdefault("endpoints", build_endpoint_description_strings(host=host, port=port))
    for line in advice.lines():
        logger.warning("%s", line)
    return Server(app, **options)
