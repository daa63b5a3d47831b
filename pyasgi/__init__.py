"""cdaphne: an ASGI server in C, a drop-in for daphne.

Importing this package loads neither the C extension nor an event loop: pyasgi.server does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__version__ = "0.1.0"

__all__ = ["__version__", "run", "serve"]


def run(app: Callable[..., Any], host: str = "127.0.0.1", port: int = 8000, **options: Any) -> None:
    """Serves an ASGI application on one TCP address until SIGTERM, SIGINT or Server.stop().

    options: the keyword arguments of pyasgi.server.Server; ``endpoints`` replaces host and port.
    SystemExit with status 1 when the server could not start; the reason has been logged.
    """
    from .endpoints import build_endpoint_description_strings
    from .server import Server

    options.setdefault("endpoints", build_endpoint_description_strings(host=host, port=port))
    server = Server(app, **options)
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
    from .endpoints import build_endpoint_description_strings
    from .server import Server

    options.setdefault("endpoints", build_endpoint_description_strings(host=host, port=port))
    options.setdefault("signal_handlers", False)
    await Server(app, **options).serve()
