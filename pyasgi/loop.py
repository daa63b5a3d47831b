"""EventLoop: asyncio's event loop with libev underneath, the one cdaphne's servers run on.

It is ``asyncio.SelectorEventLoop`` with another selector, and with what runs in every turn written
in C: callbacks, timers, calls from threads, descriptors, ``sock_recv()`` and ``sock_sendall()``, the
reads and writes of transports, with and without TLS.  Subprocesses, signals, TLS handshakes and
whatever else asyncio has is asyncio's own code, and in asyncio's debug mode all of it is.  It can be
used without a server::

    asyncio.run(main(), loop_factory=pyasgi.loop.EventLoop)  # Python 3.12 and newer

    with asyncio.Runner(loop_factory=pyasgi.loop.EventLoop) as runner:  # Python 3.11 and newer
        runner.run(main())

Nothing is made when this module is imported: a loop belongs to the process and thread that make it.
"""

from __future__ import annotations

import asyncio
from types import FunctionType, SimpleNamespace
from typing import Any

from pyasgi import _core

__all__ = ["EventLoop"]


_OURS = {
    "sslproto": SimpleNamespace(SSLProtocol=_core.SSLProtocol),
    "_SelectorSocketTransport": _core.SocketTransport,
}


def _with_ours(name: str) -> Any:
    """asyncio's method as it is, but for what it makes: our transport and our SSLProtocol."""
    method = getattr(asyncio.SelectorEventLoop, name)
    copy = FunctionType(
        method.__code__,
        method.__globals__ | _OURS,
        name,
        method.__defaults__,
        method.__closure__,
    )
    copy.__kwdefaults__ = method.__kwdefaults__
    return copy


_make_socket_transport = _with_ours("_make_socket_transport")
_make_ssl_transport = _with_ours("_make_ssl_transport")
_start_tls = _with_ours("start_tls")


class EventLoop(_core.LoopBase, asyncio.SelectorEventLoop):
    """An asyncio event loop on libev.

    Any thread of any process may make one and run it; after a fork the child makes its own.
    ``close()`` frees everything and raises ``RuntimeError`` while a server on the loop is open.
    ``OSError`` when the system has no descriptor left.
    """

    def __init__(self) -> None:
        super().__init__(_core.Poller(self))

    def _make_socket_transport(self, sock: Any, *args: Any, **kwargs: Any) -> Any:
        base: Any = super()
        if self.get_debug():
            return base._make_socket_transport(sock, *args, **kwargs)
        base._ensure_fd_no_transport(sock)
        return _make_socket_transport(self, sock, *args, **kwargs)

    def _make_ssl_transport(self, rawsock: Any, *args: Any, **kwargs: Any) -> Any:
        base: Any = super()
        if self.get_debug():
            return base._make_ssl_transport(rawsock, *args, **kwargs)
        base._ensure_fd_no_transport(rawsock)
        return _make_ssl_transport(self, rawsock, *args, **kwargs)

    async def start_tls(self, *args: Any, **kwargs: Any) -> Any:
        if self.get_debug():
            return await super().start_tls(*args, **kwargs)
        return await _start_tls(self, *args, **kwargs)
