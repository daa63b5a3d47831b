"""EventLoop: asyncio's event loop with libev underneath, the one cdaphne's servers run on.

It is ``asyncio.SelectorEventLoop`` with another selector, and with what runs in every turn written
in C: callbacks, timers, calls from threads, descriptors, a transport's reads and writes.
Subprocesses, signals, TLS and whatever else asyncio has is asyncio's own code, and in asyncio's
debug mode all of it is.  It can be used without a server::

    asyncio.run(main(), loop_factory=pyasgi.loop.EventLoop)  # Python 3.12 and newer

    with asyncio.Runner(loop_factory=pyasgi.loop.EventLoop) as runner:  # Python 3.11 and newer
        runner.run(main())

Nothing is made when this module is imported: a loop belongs to the process and thread that make it.
"""

from __future__ import annotations

import asyncio
from asyncio import selector_events
from typing import Any

from pyasgi import _core

__all__ = ["EventLoop"]


_AsyncioTransport: Any = selector_events._SelectorSocketTransport  # type: ignore[attr-defined]


class _SelectorSocketTransport(_AsyncioTransport):  # type: ignore[misc]
    """asyncio's transport, under its name, with reading and writing in C."""

    _read_ready = _core.transport_read_ready
    _read_ready__data_received = _core.transport_data_received
    write = _core.transport_write


class EventLoop(_core.LoopBase, asyncio.SelectorEventLoop):
    """An asyncio event loop on libev.

    Any thread of any process may make one and run it; after a fork the child makes its own.
    ``close()`` frees everything and raises ``RuntimeError`` while a server on the loop is open.
    ``OSError`` when the system has no descriptor left.
    """

    def __init__(self) -> None:
        super().__init__(_core.Poller(self))

    def _make_socket_transport(self, sock: Any, protocol: Any, *args: Any, **kwargs: Any) -> Any:
        base: Any = super()
        if self.get_debug():
            return base._make_socket_transport(sock, protocol, *args, **kwargs)
        base._ensure_fd_no_transport(sock)
        return _SelectorSocketTransport(self, sock, protocol, *args, **kwargs)
