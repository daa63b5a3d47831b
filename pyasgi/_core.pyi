"""The C extension: libev's event loop for asyncio, and the ASGI server on it."""

import selectors
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextvars import Context
from typing import Any, Literal

version: str
"""Version of cdaphne."""

def limits() -> tuple[tuple[Any, ...], ...]:
    """Every row of csrc/limits.def, as the fields of pyasgi.options.Limit.

    The unit of a time is "seconds", and 0 switches a timer off. The name is the keyword argument of Server.
    """

def options() -> tuple[tuple[Any, ...], ...]:
    """Every row of csrc/options.def, as the fields of pyasgi.options.Option: keyword arguments of Server, too."""

def versions() -> dict[str, str]:
    """Versions of the libraries inside: libev, llhttp, OpenSSL and zlib."""

def extensions() -> tuple[str, ...]:
    """The extensions that Server offers only when its argument names them, without their "http.response."."""

def check_setting(name: str, value: object) -> None:
    """ValueError, one line, or TypeError, when Server would not take this for a row of limits() or options()."""

def forsake(end: Callable[[BaseException | None], object], /) -> list[LoopBase]:
    """In a forked child: closes the parent's loops and servers, which notice nothing, and returns the loops.

    When application code comes back in the child to the loop that called it, end(what it raised or None) ends the
    process. Loops without a server raise instead.
    """

def debug_live() -> dict[str, int]:
    """Live objects by kind, of the core and of the bridge. Only in a build with CD_DEBUG."""

class ClientDisconnected(OSError):
    """Raised by send() in an application that its cancellation did not end.

    A message to a client that has gone is dropped. An application that runs on for application_close_timeout after
    its client has left is cancelled; when it still runs after as long again, send() raises this.
    """

class Poller(selectors.BaseSelector):
    """asyncio's selector on the core's loop, with the interface of selectors.EpollSelector.

    `select` is where the server does its work. A BaseSelector by registration, not by inheritance.
    """

    def __init__(self, loop: LoopBase | None = None) -> None:
        """RuntimeError: the loop is closed or has a Poller. OSError: no descriptor is left."""
    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey: ...
    def unregister(self, fileobj: Any) -> selectors.SelectorKey: ...
    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey: ...
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]: ...
    def get_map(self) -> Mapping[Any, selectors.SelectorKey]: ...
    def get_key(self, fileobj: Any) -> selectors.SelectorKey: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...
    def wake(self) -> None:
        """Make select() return. From any thread."""

SocketTransport: Any
"""asyncio's _SelectorSocketTransport, with reading and writing in C."""

def set_nodelay(sock: Any, /) -> None:
    """asyncio's _set_nodelay()."""

def ssl_protocol() -> Any:
    """asyncio's SSLProtocol, with reading and writing in C. The first call imports ssl; ImportError without one."""

class LoopBase:
    """The C half of pyasgi.loop.EventLoop, to stand before asyncio.SelectorEventLoop in its bases."""

    _inherited: bool
    """Is it of the process that this one was forked from? Then it is closed."""

    @property
    def replaced(self) -> tuple[str, ...]:
        """Names of asyncio's methods that others had replaced when the loop was made: it calls what they put there."""

Certificate = tuple[bytes, bytes, bytes | None]
"""Paths of PEM files: the certificate (with its chain), its key, and more of the chain."""

class Tls:
    """Certificates and settings of a TLS listener."""

    def __init__(
        self,
        certificates: tuple[Certificate, ...],
        *,
        password: str | None = None,
        verify: Literal["none", "optional", "required", "report"] = "none",
        ca_file: bytes | None = None,
        crl_file: bytes | None = None,
        ocsp_files: tuple[bytes, ...] = (),
        ciphers: str | None = None,
        ciphersuites: str | None = None,
        dh_file: bytes | None = None,
        min_version: int = 0x0303,
    ) -> None:
        """Load the files.

        certificates: the client's SNI chooses one, by subjectAltName; the first is for all other clients.
        password: of keys that are encrypted.
        verify: what becomes of a client's certificate. "report": any passes, client_cert_error tells the application.
        ca_file: PEM file of the clients' authorities; crl_file: PEM file with the revoked certificates of each of them.
        ocsp_files: DER files, each the OCSP response for one of the certificates.
        ciphers: of TLS 1.2; ciphersuites: of TLS 1.3; both in OpenSSL's words, None for our choice.

        ValueError, one line for the operator, when a file or setting is of no use.
        """

    def reload(self, certificates: tuple[Certificate, ...], **settings: Any) -> None:
        """Load anew, for the connections that come from now on. On an exception it has what it had."""

    @property
    def warnings(self) -> list[str]:
        """What the last load warned of, a line each: certificates that have expired."""

class Server:
    """Runs one ASGI 3 application on a loop: an application task for each HTTP request and WebSocket.

    All methods are for the thread that runs the loop.
    """

    def __init__(
        self,
        loop: LoopBase,
        app: Callable[..., Awaitable[None]],
        *,
        on_log: Callable[[int, str], object] | None = None,
        on_access: Callable[[str, str, dict[str, Any]], object] | None = None,
        on_exception: Callable[[BaseException, bool], object] | None = None,
        access_fd: int = -1,
        access_exclude: tuple[str, ...] | None = None,
        access_syslog: str | None = None,
        access_tag: str | None = None,
        server_header: bytes | None = None,
        extensions: Iterable[str] = (),
        root_path: str = "",
        state: dict[str, Any] | None = None,
        context: Context | None = None,
        proxy_headers: tuple[bytes | None, bytes | None, bytes | None] | None = None,
        **settings: Any,
    ) -> None:
        """Create a server that listens nowhere yet.

        on_log(level, line): a line for the log, with a level of `logging`. None: lines are dropped.
        on_access(protocol, action, details): as daphne's action_logger; it replaces the built-in access log.
            protocol is "http" or "websocket"; action "complete" (http), "connecting", "connected", "rejected" or
            "disconnected" (websocket). details has path and client ("host:port" or None); of http also method, status,
            time_taken (seconds) and size (bytes).
        on_exception(exc, gone): an application ended with this exception; gone: its client had left, or it was told
            so. None: loop.call_exception_handler.
            on_access and on_exception are called in the contextvars.Context of their request's application, and so
            is on_log for the line of a cancellation.
        access_fd: descriptor for the built-in access log, -1 for none. Stays the caller's.
        access_exclude: path prefixes that have no line and no call of on_access.
        access_syslog: "<134>": access_fd is a connected, non-blocking datagram socket, every line a datagram.
        access_tag: what stands between the date and the line of such a datagram.
        server_header: value of the Server header, None or empty for none.
        extensions: those of extensions() that scopes may offer; what comes as http.response.debug goes to on_log.
        root_path: the scope's root_path.
        state: lifespan state, copied shallowly into each scope; None: scopes have no state.
        context: copied for each application run; None: the current context of this call.
        proxy_headers: names of the headers that carry client address, port and scheme; None: peers are not asked.
            b"forwarded" as the first is RFC 7239.
        settings: any name of limits() or options(), which describe them. Seconds for times, whole numbers for sizes.
            None for an option is its default.

        TypeError or ValueError name the argument that is wrong.
        """

    def listen(self, fd: int, /, *, tls: Tls | None = None, proxy: str = "off") -> None:
        """Accept on this bound, listening, non-blocking stream socket, and own it. OSError.

        tls: speak TLS on it; shared by as many listeners as you like, on one thread.
        proxy: "optional" or "required" where connections may or must begin with a PROXY header.
        """

    def drain(self) -> None:
        """Stop accepting, close idle connections and WebSockets (1001), let running requests finish."""

    def cancel(self) -> None:
        """Cancel every running application."""

    def close(self) -> None:
        """Cut what is left. Applications that still run are cancelled and lose their client. May be repeated."""

    def set_access_fd(self, fd: int) -> None:
        """Write the access log to this descriptor from now on (-1: nowhere)."""

    @property
    def connections(self) -> int:
        """Open connections."""

    @property
    def streams(self) -> int:
        """Requests and WebSockets that are not over yet, on the wire or in the application."""

    @property
    def tasks(self) -> int:
        """Applications that are running."""
