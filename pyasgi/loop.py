"""EventLoop: asyncio's event loop with libev underneath, the one cdaphne's servers run on.

It is ``asyncio.SelectorEventLoop`` with another selector, and with what runs in every turn written
in C: callbacks, timers, calls from threads, descriptors, ``sock_recv()``, ``sock_sendall()`` and
``sock_connect()``, a server's accept, the reads and writes of transports, with and without TLS.
Subprocesses, signals and whatever else asyncio has is asyncio's own code, and in asyncio's debug mode
all of it is.  It can be used without a server::

    asyncio.run(main(), loop_factory=pyasgi.loop.EventLoop)  # Python 3.12 and newer

    with asyncio.Runner(loop_factory=pyasgi.loop.EventLoop) as runner:  # Python 3.11 and newer
        runner.run(main())

Nothing is made when this module is imported: a loop belongs to the process and thread that make it.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import sys
from asyncio import coroutines, events, selector_events, unix_events
from collections.abc import Callable
from types import FunctionType, SimpleNamespace
from typing import Any

from pyasgi import forked  # noqa: F401 - sees to forked children
from pyasgi.native import _core

__all__ = ["EventLoop"]

CO_COROUTINE = 0x80  # of inspect, whose import is longer than all others here
ASYNCIOS = getattr(coroutines, "_iscoroutinefunction", coroutines.iscoroutinefunction)


def _with_ours(name: str, owner: Any = asyncio.SelectorEventLoop, **ours: Any) -> Any:
    """Copies asyncio's method, with other values for these names of its module."""
    method = getattr(owner, name)
    copy = FunctionType(
        method.__code__,
        method.__globals__ | ours,
        name,
        method.__defaults__,
        method.__closure__,
    )
    copy.__kwdefaults__ = method.__kwdefaults__
    return copy


@functools.cache
def _with_tls(name: str) -> Any:
    """Copies asyncio's method, with our SSLProtocol: that is made when first needed, because it imports ssl."""
    sslproto = SimpleNamespace(SSLProtocol=_core.ssl_protocol())
    return _with_ours(name, sslproto=sslproto, _SelectorSocketTransport=_core.SocketTransport)


def _is_coroutine_function(call: Any) -> bool:
    """Like asyncio's, but without inspect for functions and methods that nobody marked or wrapped."""
    function = getattr(call, "__func__", call)
    if type(function) is FunctionType and not function.__dict__:
        return bool(function.__code__.co_flags & CO_COROUTINE)
    return bool(ASYNCIOS(call))


_make_socket_transport = _with_ours(
    "_make_socket_transport", _SelectorSocketTransport=_core.SocketTransport
)
_add_signal_handler = _with_ours(
    "add_signal_handler",
    coroutines=SimpleNamespace(
        **vars(coroutines)
        | {
            "iscoroutinefunction": _is_coroutine_function,
            "_iscoroutinefunction": _is_coroutine_function,
        }
    ),
)


@functools.cache
def _own_child_watcher() -> Any:
    """Makes the child watcher that asyncio's own policy of this Python would make."""
    can_use_pidfd = getattr(unix_events, "can_use_pidfd", bool)  # 3.12 and newer
    name = "PidfdChildWatcher" if can_use_pidfd() else "ThreadedChildWatcher"
    return getattr(unix_events, name)()


def _child_watcher() -> Any:
    """The policy's child watcher, which programs may set; ours where it has none, like uvloop's policy."""
    try:
        return getattr(events, "get_child_watcher")()  # noqa: B009 (its types know no Python but the newest)
    except NotImplementedError:
        return _own_child_watcher()


_core.SocketTransport.__init__ = _with_ours(
    "__init__",
    _core.SocketTransport.__base__,
    base_events=SimpleNamespace(_set_nodelay=_core.set_nodelay),
)


class _Unnamed(str):
    """The name of a peer without a name. asyncio tests it for truth to know whether there is a peer."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return True


class _DatagramTransport(selector_events._SelectorDatagramTransport):  # type: ignore[name-defined,misc]
    """Fixes asyncio's class, which cannot send to the other end of a socketpair without an address."""

    def __init__(
        self,
        loop: Any,
        sock: Any,
        protocol: Any,
        address: Any = None,
        waiter: Any = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        if sock.family == socket.AF_UNIX and _peer_of(sock) == "":
            extra = {"peername": _Unnamed()} | (extra or {})
        super().__init__(loop, sock, protocol, address, waiter, extra)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        info = super().get_extra_info(name, default)
        return str(info) if type(info) is _Unnamed else info


def _peer_of(sock: Any) -> Any:
    """The name of the peer; None: the socket is not connected."""
    try:
        return sock.getpeername()
    except OSError:
        return None


class EventLoop(_core.LoopBase, asyncio.SelectorEventLoop):
    """An asyncio event loop on libev.

    Any thread of any process may make one and run it; after a fork the child makes its own.
    ``close()`` frees everything and raises ``RuntimeError`` while a server on the loop is open.
    ``OSError`` when the system has no descriptor left. docs/loop.rst says what monitors see of it.
    """

    def __init__(self) -> None:
        super().__init__(_core.Poller(self))

    def _check_closed(self) -> None:
        if self._inherited:
            raise RuntimeError(
                "Event loop is closed: it is the parent's, and a forked child makes its own"
            )
        super()._check_closed()  # type: ignore[misc]

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
        return _with_tls("_make_ssl_transport")(self, rawsock, *args, **kwargs)

    async def start_tls(self, *args: Any, **kwargs: Any) -> Any:
        if self.get_debug():
            return await super().start_tls(*args, **kwargs)
        return await _with_tls("start_tls")(self, *args, **kwargs)

    _make_datagram_transport = _with_ours(
        "_make_datagram_transport", _SelectorDatagramTransport=_DatagramTransport
    )

    if sys.version_info < (3, 14):  # since then asyncio asks no policy
        _make_subprocess_transport = _with_ours(
            "_make_subprocess_transport", events=SimpleNamespace(get_child_watcher=_child_watcher)
        )

    def add_signal_handler(self, sig: int, callback: Callable[..., object], *args: Any) -> None:  # type: ignore[override]
        _add_signal_handler(self, sig, callback, *args)
