"""Where the server listens: endpoint strings in Twisted's grammar, and the opening of their sockets.

    tcp:PORT[:interface=ADDRESS-OR-NAME][:backlog=N]       tcp6:PORT[:interface=ADDRESS][:backlog=N]
    unix:PATH[:mode=OCTAL][:user=U][:group=G][:backlog=N]  fd:fileno=N
    systemd:domain=INET|INET6|UNIX:index=N|name=NAME
    ssl:PORT:privateKey=FILE[:certKey=FILE][:extraCertChain=FILE][:dhParameters=FILE][:interface=...]
    tls:DIRECTORY[:port=443][:interface=ADDRESS]           tls:PORT:... is ssl:PORT:...

The others speak TLS with tls=yes, or with certfile=FILE[:keyfile=FILE]. Each takes proxy=required or proxy=optional
for connections that begin with a PROXY header; haproxy:tcp:PORT is Twisted's way of saying proxy=required.
Fields are separated by ``:``; NAME=VALUE is a keyword, anything else is positional; a backslash
takes the next character as it is. Sockets are opened listening and non-blocking.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import grp
import os
import pwd
import socket
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .tls import Settings
from .words import count

# The kernel cuts it to net.core.somaxconn. daphne's 50 drops the SYNs of a burst.
DEFAULT_BACKLOG = 2048
PORT_ATTEMPTS = 10  # for port 0 on a name with several addresses
EVERYWHERE = ("proxy",)  # parameters of every type of endpoint
PROXY_MODES = ("off", "optional", "required")
V4_WILDCARDS = ("", "0", "0.0.0.0")
LOOPBACKS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # that a client here connects to
PORTS = {"http": 80, "https": 443}

Address = tuple[int, tuple[Any, ...]]  # the family, and the address that bind() takes


class EndpointError(Exception):
    """The endpoint cannot be used; the message is one line for the operator."""


def build_endpoint_description_strings(
    host: str | None = None,
    port: int | None = None,
    unix_socket: str | None = None,
    file_descriptor: int | None = None,
    *,
    unix_socket_mode: str | None = None,
    unix_socket_user: str | None = None,
    unix_socket_group: str | None = None,
    tls: bool = False,
    proxy_protocol: str = "off",
) -> list[str]:
    """The endpoint strings for a TCP address, a unix socket and a descriptor, those that are given.

    The keyword arguments are ours: mode ("660"), owner and group of the unix socket; TLS and PROXY headers for all.

    ValueError for a host without a port or a port without a host.
    """
    strings = []
    if host and port is not None:
        address = _escape(host.strip("[]"))
        strings.append(f"tcp:port={int(port)}:interface={address}")
    elif host or port is not None:
        raise ValueError("a TCP endpoint needs both host and port")
    if unix_socket:
        name = "address=" if "=" in unix_socket else ""
        owner = {"mode": unix_socket_mode, "user": unix_socket_user, "group": unix_socket_group}
        options = [f":{key}={_escape(value)}" for key, value in owner.items() if value]
        strings.append(f"unix:{name}{_escape(unix_socket)}{''.join(options)}")
    if file_descriptor is not None:
        strings.append(f"fd:fileno={int(file_descriptor)}")
    suffix = ":tls=yes" if tls else ""
    if proxy_protocol != "off":
        suffix += f":proxy={proxy_protocol}"
    return [string + suffix for string in strings]


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace(":", "\\:")


# ---- grammar ----


def split_fields(text: str) -> tuple[list[str], dict[str, str]]:
    """Positional and keyword fields of an endpoint string.

    EndpointError for a trailing backslash or a keyword given twice.
    """
    positional: list[str] = []
    keywords: dict[str, str] = {}
    name: str | None = None
    current = ""
    characters = iter(text)
    for character in characters:
        if character == "\\":
            escaped = next(characters, None)
            if escaped is None:
                raise EndpointError(
                    f"bad endpoint {text!r}: the backslash at its end escapes nothing"
                )
            current += escaped
        elif character == "=" and name is None:
            name, current = current, ""
        elif character == ":":
            _add_field(text, positional, keywords, name, current)
            name, current = None, ""
        else:
            current += character
    _add_field(text, positional, keywords, name, current)
    return positional, keywords


def _add_field(
    text: str, positional: list[str], keywords: dict[str, str], name: str | None, value: str
) -> None:
    if name is None:
        positional.append(value)
    elif name in keywords:
        raise EndpointError(f"bad endpoint {text!r}: {name!r} is given twice; give it once")
    else:
        keywords[name] = value


class Kind:
    """One type of endpoint: its parameters in positional order, what looks at them and what opens it.

    keywords: parameters that have no position.
    """

    def __init__(
        self,
        parameters: tuple[str, ...],
        open: Callable[[str, Mapping[str, str]], list[Listener]],
        check: Callable[[str, Mapping[str, str]], object],
        required: tuple[str, ...] = (),
        keywords: tuple[str, ...] = ("tls", "certfile", "keyfile"),
    ) -> None:
        self.parameters = parameters
        self.open = open
        self.check = check
        self.required = required
        self.keywords = keywords


def parse(text: str) -> tuple[str, dict[str, str]]:
    """Type and named parameters of an endpoint string; EndpointError says what is wrong with it."""
    positional, keywords = split_fields(text)
    if not positional or not positional[0]:
        raise EndpointError(f"bad endpoint {text!r}: it has no type; give for example tcp:8000")
    if positional[0] == "haproxy":
        positional, keywords["proxy"] = _wrapped(text, positional, keywords), "required"
    name, *values = positional
    if (
        name == "tls"
        and "path" not in keywords
        and [*values, keywords.get("port", "")][0].isdigit()
    ):
        name = "ssl"
    if name not in KINDS:
        known = ", ".join(sorted(KINDS))
        raise EndpointError(f"bad endpoint {text!r}: no type {name!r}; there are {known}")
    kind = KINDS[name]
    if len(values) > len(kind.parameters):
        expected = ":".join(kind.parameters)
        raise EndpointError(
            f"bad endpoint {text!r}: too many fields, {name} takes {expected};"
            " write a ':' within a value as '\\:'"
        )
    parameters = dict(zip(kind.parameters, values, strict=False))
    for key, value in keywords.items():
        names = (*kind.parameters, *kind.keywords, *EVERYWHERE)
        if key not in names:
            raise EndpointError(
                f"bad endpoint {text!r}: {name} takes no {key!r}; it takes {', '.join(names)}"
            )
        if key in parameters:
            raise EndpointError(f"bad endpoint {text!r}: {key!r} is given twice; give it once")
        parameters[key] = value
    if parameters.get("proxy", "off") not in PROXY_MODES:
        raise EndpointError(
            f"bad endpoint {text!r}: proxy is {parameters['proxy']!r}; give required, optional or off"
        )
    for key in kind.required:
        if not parameters.get(key):
            raise EndpointError(f"bad endpoint {text!r}: {name} needs {key!r}")
    return name, parameters


def _wrapped(text: str, positional: list[str], keywords: Mapping[str, str]) -> list[str]:
    """What stands behind haproxy: in the same string."""
    if len(positional) < 2:
        raise EndpointError(
            f"bad endpoint {text!r}: haproxy stands before another type; give for example haproxy:tcp:8000"
        )
    if keywords.get("proxy", "required") != "required":
        raise EndpointError(
            f"bad endpoint {text!r}: haproxy says proxy=required; leave one of them out"
        )
    return positional[1:]


def _number(
    text: str,
    parameters: Mapping[str, str],
    key: str,
    default: int,
    low: int,
    high: int,
    base: int = 10,
) -> int:
    value = parameters.get(key)
    if value is None:
        return default
    try:
        number = int(value, base)
    except ValueError:
        number = -1
    if not value.isascii() or not value.isdigit() or not low <= number <= high:
        span = f"{low:o} to {high:o} in octal" if base == 8 else f"{low} to {high}"
        raise EndpointError(f"bad endpoint {text!r}: {key} is {value!r}; give {span}")
    return number


# ---- listeners ----


class Listener:
    """An open listening socket and what has to be cleaned up after it."""

    def __init__(
        self,
        endpoint: str,
        sock: socket.socket,
        path: str | None = None,
        identity: tuple[int, int] = (0, 0),
    ) -> None:
        """path, identity: of a unix socket that we made, and its device and inode."""
        self.endpoint = endpoint
        self.sock = sock
        self.path = path
        self.identity = identity
        self.tls: Settings | None = None  # None: plain text
        self.proxy = "off"  # of PROXY_MODES
        self._process = os.getpid()

    @property
    def family(self) -> int:
        return self.sock.family

    def address(self) -> tuple[str, int] | None:
        """The address (host, port) of a TCP listener, else None."""
        if self.sock.family not in (socket.AF_INET, socket.AF_INET6):
            return None
        name = self.sock.getsockname()
        return name[0], name[1]

    def place(self) -> str:
        """The place where a client finds it: a URL, or the path of a unix socket with a command that asks there."""
        scheme = "http" if self.tls is None else "https"
        name = self.sock.getsockname()
        if self.sock.family == socket.AF_UNIX:
            import shlex

            path = os.fsdecode(name) or "without a name"
            if self.proxy == "required" or not path.startswith("/"):
                return f"unix socket {path}"
            return (
                f"unix socket {path} (curl --unix-socket {shlex.quote(path)} {scheme}://localhost/)"
            )
        host, port = LOOPBACKS.get(name[0], name[0]), name[1]
        if self.proxy == "required":
            return f"{_pretty(host, port)}, for a proxy that sends PROXY headers"
        host = f"[{host.replace('%', '%25')}]" if ":" in host else host
        return f"{scheme}://{host}/" if port == PORTS[scheme] else f"{scheme}://{host}:{port}/"

    def close(self) -> None:
        """Closes the socket if it was not detached, and removes the unix socket that we made."""
        self.sock.close()
        self.unlink()

    def unlink(self) -> None:
        """Removes the path if it is still our socket: a successor may have bound its own there."""
        if self.path is None or os.getpid() != self._process:  # a forked child has made no socket
            return
        path, self.path = self.path, None
        with contextlib.suppress(FileNotFoundError):
            status = os.lstat(path)
            if (status.st_dev, status.st_ino) == self.identity:
                os.unlink(path)


def open_endpoint(
    text: str, taken: Iterable[str] = (), tls: Settings | None = None, owned: bool = False
) -> list[Listener]:
    """Opens one endpoint string: a listener for each address of its name. EndpointError, one line.

    taken: all endpoint strings of this server; IPv6's :: leaves IPv4 to a 0.0.0.0 among them.
    tls: the server's settings, for endpoints that speak TLS; what such a one says itself counts more.
    owned: the descriptor of fd: was given to this process for the server, which closes it; else it stays its owner's.
    """
    name, parameters = parse(text)
    settings = _tls_settings(text, name, parameters, tls)
    if name in V6_KINDS and _v4_wildcard_ports(taken) & {parameters.get("port", TLS_PORT)}:
        parameters["v6only"] = "1"
    try:
        listeners = KINDS[name].open(text, parameters)
    except OSError as error:
        raise EndpointError(f"cannot listen on {text!r}: {error.strerror or error}") from error
    if name == "fd" and owned:
        _let_go(_fd(text, parameters))
    for listener in listeners:
        listener.tls = settings
        listener.proxy = parameters.get("proxy", "off")
    return listeners


def check_endpoint(text: str, tls: Settings | None = None) -> Settings | None:
    """Raises EndpointError for mistakes in an endpoint string that can be found without opening it.

    Returns the settings of TLS on it, None for plain text.
    """
    name, parameters = parse(text)
    settings = _tls_settings(text, name, parameters, tls)
    KINDS[name].check(text, parameters)
    return settings


def _v4_wildcard_ports(texts: Iterable[str]) -> set[str]:
    """The ports for which some endpoint asks for 0.0.0.0."""
    ports = set()
    for text in texts:
        try:
            name, parameters = parse(text)
        except EndpointError:
            continue  # reported when that endpoint is opened
        if name in ("tcp", "ssl") and parameters.get("interface", "") in V4_WILDCARDS:
            ports.add(parameters["port"])
    return ports - {"0"}


# ---- TLS ----

TLS_PORT = "443"  # of an endpoint tls:DIRECTORY
TWISTED_KEY = "server.pem"  # of an endpoint ssl:PORT
# Twisted's name for the one method that is left.
SSL_METHODS = ("", "SSLv23_METHOD", "TLS_METHOD", "TLS_SERVER_METHOD")
ANSWERS = {"yes": True, "no": False}


def _tls_settings(
    text: str, name: str, parameters: Mapping[str, str], default: Settings | None
) -> Settings | None:
    """The TLS settings of an endpoint, on top of the server's; None: plain text."""
    given = default or Settings()
    if name == "tls":
        return given.with_directory(parameters["path"])
    if name == "ssl":
        return _ssl_settings(text, parameters, given)
    if parameters.get("certfile") == "":  # a variable that was not set must not mean plain text
        raise EndpointError(
            f"bad endpoint {text!r}: certfile is empty; give the certificate's file"
        )
    answer = parameters.get("tls", "yes" if "certfile" in parameters else "no")
    if answer not in ANSWERS:
        raise EndpointError(f"bad endpoint {text!r}: tls is {answer!r}; give yes or no")
    certfile, keyfile = parameters.get("certfile"), parameters.get("keyfile")
    if keyfile and not certfile:
        raise EndpointError(f"bad endpoint {text!r}: keyfile needs certfile")
    if not ANSWERS[answer]:
        return None
    if certfile:
        return given.with_certificate(certfile, keyfile)
    if not given.certificates and not given.directories:
        raise EndpointError(
            f"bad endpoint {text!r}: tls=yes needs a certificate; give certfile= or --certfile"
        )
    return given


def _ssl_settings(text: str, parameters: Mapping[str, str], given: Settings) -> Settings:
    method = parameters.get("sslmethod", "")
    if method not in SSL_METHODS:
        raise EndpointError(
            f"bad endpoint {text!r}: sslmethod is {method!r}, which is one old version of TLS;"
            " leave it out, and --ssl-min-version sets the oldest one"
        )
    certificate, key = parameters.get("certKey"), parameters.get("privateKey")
    others = {
        name: parameters[key]
        for name, key in (("chainfile", "extraCertChain"), ("dhfile", "dhParameters"))
        if parameters.get(key)
    }
    named = certificate or key
    if named is None and (given.certificates or given.directories) and not others:
        return given
    named = named or TWISTED_KEY
    return given.with_certificate(certificate or named, key or named, **others)


# ---- TCP ----


class Inet:
    """The address on which a tcp or tcp6 endpoint listens."""

    def __init__(self, host: str, port: int, backlog: int, addresses: list[Address]) -> None:
        self.host = host
        self.port = port
        self.backlog = backlog
        self.addresses = addresses


def inet(text: str, parameters: Mapping[str, str]) -> Inet:
    """Returns the address for an endpoint of one of the TCP types. EndpointError."""
    found = KINDS[parse(text)[0]].check(text, parameters)
    assert isinstance(found, Inet)
    return found


def inet_error(where: Inet, error: OSError) -> EndpointError:
    return EndpointError(
        f"cannot listen on {_pretty(where.host, where.port)}: {_why(error, where.host, where.port)}"
    )


def _tcp(text: str, parameters: Mapping[str, str]) -> Inet:
    interface = parameters.get("interface", "")
    host = "0.0.0.0" if interface in V4_WILDCARDS else interface
    return _inet(text, parameters, host, socket.AF_UNSPEC)


def _tcp6(text: str, parameters: Mapping[str, str]) -> Inet:
    return _inet(text, parameters, parameters.get("interface") or "::", socket.AF_INET6)


def _inet(text: str, parameters: Mapping[str, str], host: str, family: int) -> Inet:
    port = _number(text, parameters, "port", 0, 0, 65535)
    backlog = _number(text, parameters, "backlog", DEFAULT_BACKLOG, 1, 65535)
    return Inet(host, port, backlog, _resolve(text, host.strip("[]"), port, family))


def _tls(text: str, parameters: Mapping[str, str]) -> Inet:
    where = {"port": TLS_PORT, **parameters}
    return _tcp(text, where) if parameters.get("interface") else _tcp6(text, where)


def _open_tls(text: str, parameters: Mapping[str, str]) -> list[Listener]:
    return _open_inet(text, parameters, _tls(text, parameters))


def _open_tcp(text: str, parameters: Mapping[str, str]) -> list[Listener]:
    return _open_inet(text, parameters, _tcp(text, parameters))


def _open_tcp6(text: str, parameters: Mapping[str, str]) -> list[Listener]:
    return _open_inet(text, parameters, _tcp6(text, parameters))


def _open_inet(text: str, parameters: Mapping[str, str], where: Inet) -> list[Listener]:
    port, backlog, addresses = where.port, where.backlog, where.addresses
    v6only = "v6only" in parameters
    for attempt in range(PORT_ATTEMPTS):
        try:
            sockets = _bind_all(text, addresses, backlog, v6only)
        except OSError as error:
            # The port that the first address got for 0 may be in use on the second one.
            if error.errno == errno.EADDRINUSE and port == 0 and attempt < PORT_ATTEMPTS - 1:
                continue
            raise inet_error(where, error) from error
        return [Listener(text, sock) for sock in sockets]
    raise AssertionError("unreachable")


def _resolve(text: str, host: str, port: int, family: int) -> list[Address]:
    """(family, socket address) of every address of host, in the resolver's order."""
    try:
        # Python encodes a str as IDNA, and importing that codec takes 1 ms of a start's 50.
        name = host.encode() if host.isascii() else host
        found = socket.getaddrinfo(name, port, family, socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise EndpointError(
            f"cannot listen on {_pretty(host, port)}: {host!r} does not resolve ({reason});"
            " give an address of this machine or a name that has one (-b/--bind, interface=)"
        ) from error
    return list(dict.fromkeys((entry[0], entry[4]) for entry in found))


def _bind_all(
    text: str, addresses: Sequence[Address], backlog: int, v6only: bool
) -> list[socket.socket]:
    """A listening socket for every address, all on the port that the first one got.

    An address that this machine lacks (::1 for localhost in a container) is left out if another
    one is bound.
    """
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, address in addresses:
            host, port, *rest = address
            if port == 0 and sockets:
                port = sockets[0].getsockname()[1]
            try:
                sockets.append(_bind(family, (host, port, *rest), backlog, v6only))
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                missing = error
        if missing is not None and not sockets:
            raise missing
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _bind(family: int, address: tuple[Any, ...], backlog: int, v6only: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
        sock.setblocking(False)
        sock.bind(address)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def _why(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return "address already in use; stop what uses it or give another port (-p/--port)"
    if error.errno == errno.EACCES:
        return f"permission denied; port {port} needs root or CAP_NET_BIND_SERVICE (-p/--port)"
    if error.errno == errno.EADDRNOTAVAIL:
        return (
            f"{host!r} is not an address of this machine; give one, or 0.0.0.0 for all (-b/--bind)"
        )
    return error.strerror or str(error)


def _pretty(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# ---- unix ----


UNIX_PATH_MOST = 107  # in bytes; sockaddr_un has 108


class Unix:
    """Mode, owner (-1: stays), group (-1: stays) and backlog of a unix endpoint."""

    def __init__(self, mode: int, user: int, group: int, backlog: int) -> None:
        self.mode = mode
        self.user = user
        self.group = group
        self.backlog = backlog


def _unix(text: str, parameters: Mapping[str, str]) -> Unix:
    _number(text, parameters, "lockfile", 1, 0, 1)  # Twisted's; there is no lock file here
    return Unix(
        _number(text, parameters, "mode", 0o666, 0, 0o777, base=8),
        _identity(text, parameters, "user", lambda name: pwd.getpwnam(name).pw_uid),
        _identity(text, parameters, "group", lambda name: grp.getgrnam(name).gr_gid),
        _number(text, parameters, "backlog", DEFAULT_BACKLOG, 1, 65535),
    )


def _identity(
    text: str, parameters: Mapping[str, str], key: str, find: Callable[[str], int]
) -> int:
    """The number of a user or group, given as its name or number."""
    value = parameters.get(key)
    if not value:
        return -1
    if value.isascii() and value.isdigit():
        return _number(text, parameters, key, -1, 0, 2**32 - 2)
    try:
        return find(value)
    except KeyError:
        raise EndpointError(
            f"bad endpoint {text!r}: this machine has no {key} {value!r};"
            f" give one that it has (--unix-socket-{key})"
        ) from None


def _open_unix(text: str, parameters: Mapping[str, str]) -> list[Listener]:
    path = parameters["address"]
    wanted = _unix(text, parameters)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        sock.setblocking(False)
        os.fchmod(sock.fileno(), wanted.mode)  # bind() creates the path with it
        sock.bind(path)
        status = os.lstat(path)
        listener = Listener(text, sock, path, (status.st_dev, status.st_ino))
        try:
            _give(path, wanted)
            os.chmod(path, wanted.mode)  # after chown, which may take bits away
            sock.listen(wanted.backlog)
        except BaseException:
            listener.unlink()
            raise
    except OSError as error:
        sock.close()
        raise unix_error(path, error) from error
    except BaseException:
        sock.close()
        raise
    return [listener]


def _give(path: str, wanted: Unix) -> None:
    if wanted.user == wanted.group == -1:
        return
    try:
        os.chown(path, wanted.user, wanted.group, follow_symlinks=False)
    except PermissionError as error:
        raise EndpointError(
            f"cannot listen on unix socket {path!r}: this user may not give it to another;"
            " leave user= out (--unix-socket-user), or give a group that this user is in"
            " (--unix-socket-group)"
        ) from error


def unix_error(path: str, error: OSError) -> EndpointError:
    return EndpointError(f"cannot listen on unix socket {path!r}: {_why_unix(error, path)}")


def check_unix_path(path: str) -> bool:
    """Is there a socket? EndpointError for anything else that has the path."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return False
    if not stat.S_ISSOCK(status.st_mode):
        raise EndpointError(
            f"cannot listen on unix socket {path!r}: the path exists and is not a socket;"
            " remove it or give another (-u/--unix-socket)"
        )
    return True


def _remove_stale(path: str) -> None:
    """Removes a socket on which nobody listens any more; EndpointError for anything else."""
    if not check_unix_path(path):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # EAGAIN: the backlog is full, so somebody listens
        code = probe.connect_ex(path)
    if code == errno.ECONNREFUSED:
        os.unlink(path)
    elif code in (0, errno.EAGAIN, errno.EINPROGRESS):
        raise EndpointError(
            f"cannot listen on unix socket {path!r}: another server is listening on it;"
            " stop that one or give another path (-u/--unix-socket)"
        )
    elif code != errno.ENOENT:
        raise OSError(code, os.strerror(code))


def _why_unix(error: OSError, path: str) -> str:
    folder = os.path.dirname(path) or "."
    if error.errno == errno.ENOENT:
        return (
            f"there is no directory {folder!r}; create it or give another path (-u/--unix-socket)"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return (
            f"{error.strerror} in the directory {folder!r}; give this user the right to write there"
        )
    if error.errno is None:  # Python's own check of the length
        size = len(os.fsencode(path))
        return (
            f"the path has {size} bytes, {UNIX_PATH_MOST} are allowed;"
            " give a shorter one (-u/--unix-socket)"
        )
    return error.strerror or str(error)


# ---- descriptors of others ----


def of_socket(sock: socket.socket, tls: bool) -> str:
    """The endpoint string of a socket that the caller has made. EndpointError."""
    if sock.fileno() < 0:
        raise EndpointError("cannot listen on a socket of sockets=: it is closed")
    return f"fd:fileno={sock.fileno()}" + (":tls=yes" if tls else "")


def let_listen(sock: socket.socket) -> None:
    """Makes a bound stream socket listen; others are refused when they are opened. EndpointError."""
    bound = sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.getsockname()[1] != 0
    if sock.type != socket.SOCK_STREAM or not bound:
        return
    try:
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            sock.listen(DEFAULT_BACKLOG)
    except OSError as error:
        raise EndpointError(
            f"cannot listen on {sock}: {error.strerror or error}; give one that is bound"
        ) from error


def _fd(text: str, parameters: Mapping[str, str]) -> int:
    return _number(text, parameters, "fileno", -1, 0, 2**31 - 1)


def check_descriptor(text: str, parameters: Mapping[str, str]) -> tuple[int, str]:
    """Number and name of the descriptor of an fd endpoint. EndpointError when it is not a listening socket."""
    number = _fd(text, parameters)
    name = f"descriptor {number} (--fd)"
    _check_socket(number, name)
    return number, name


def _open_fd(text: str, parameters: Mapping[str, str]) -> list[Listener]:
    number, _ = check_descriptor(text, parameters)
    return [Listener(text, _share(number))]


def _share(number: int) -> socket.socket:
    """Duplicates the descriptor of a listening stream socket, of any family, that was opened before us."""
    sock = socket.socket(fileno=fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 3))
    sock.setblocking(False)
    return sock


def _let_go(number: int) -> None:
    """Closes a descriptor after it was duplicated."""
    if number > 2:
        os.close(number)
    else:  # the next file that is opened would get the number of a closed standard descriptor
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, number)
        os.close(null)


def _check_socket(number: int, name: str) -> int:
    """The family of a descriptor that is a listening stream socket. EndpointError for any other."""
    remedy = "give one that the process manager opened with listen()"
    try:
        status = os.fstat(number)
    except OSError as error:
        raise EndpointError(f"cannot listen on {name}: it is not open; {remedy}") from error
    if not stat.S_ISSOCK(status.st_mode):
        raise EndpointError(f"cannot listen on {name}: it is not a socket; {remedy}")
    probe = socket.socket(fileno=os.dup(number))
    with probe:
        if probe.type != socket.SOCK_STREAM:
            raise EndpointError(f"cannot listen on {name}: it is not a stream socket; {remedy}")
        if not probe.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise EndpointError(f"cannot listen on {name}: it does not listen; {remedy}")
        if probe.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
            raise EndpointError(f"cannot listen on {name}: its family is not served; {remedy}")
        return probe.family


SYSTEMD_FIRST = 3
DOMAINS = {"INET": socket.AF_INET, "INET6": socket.AF_INET6, "UNIX": socket.AF_UNIX}


def _systemd(text: str, parameters: Mapping[str, str]) -> str | None:
    """Checks the parameters; returns the domain, None when any will do."""
    domain = parameters.get("domain") or None
    if domain is not None and domain.upper() not in DOMAINS:
        raise EndpointError(
            f"bad endpoint {text!r}: domain is {domain!r}; give INET, INET6 or UNIX"
        )
    if ("index" in parameters) == ("name" in parameters):
        raise EndpointError(f"bad endpoint {text!r}: give either index=N or name=NAME")
    _number(text, parameters, "index", 0, 0, 2**20)
    return domain.upper() if domain else None


def check_systemd(text: str, parameters: Mapping[str, str]) -> tuple[int, str]:
    """Number and name of the descriptor of a systemd endpoint. EndpointError when it is not what is asked for."""
    domain = _systemd(text, parameters)
    passed = _systemd_count(text)
    if "index" in parameters:
        index = _number(text, parameters, "index", 0, 0, 2**20)
        if index >= passed:
            raise EndpointError(
                f"cannot listen on {text!r}: systemd passed {count(passed, 'socket')},"
                " the first has index 0"
            )
    else:
        index = _systemd_index(text, parameters["name"], passed)
    number, name = SYSTEMD_FIRST + index, f"the systemd socket of {text!r}"
    family = _check_socket(number, name)
    if domain is not None and family != DOMAINS[domain]:
        raise EndpointError(
            f"cannot listen on {text!r}: the socket's family is not {domain}; leave domain= out"
        )
    return number, name


def _open_systemd(text: str, parameters: Mapping[str, str]) -> list[Listener]:
    number, _ = check_systemd(text, parameters)
    sock = _share(number)
    _let_go(number)
    return [Listener(text, sock)]


def _systemd_count(text: str) -> int:
    """The number of sockets that systemd passed to this process."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        raise EndpointError(
            f"cannot listen on {text!r}: systemd passed no sockets to this process (LISTEN_PID);"
            " start it from a service unit that has a socket unit"
        )
    count = os.environ.get("LISTEN_FDS", "")
    if not (count.isascii() and count.isdigit()):
        raise EndpointError(f"cannot listen on {text!r}: LISTEN_FDS is {count!r}, not a number")
    return int(count)


def _systemd_index(text: str, name: str, count: int) -> int:
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")[:count]
    if name not in names:
        passed = ", ".join(repr(entry) for entry in names if entry) or "none"
        raise EndpointError(
            f"cannot listen on {text!r}: no socket has that name (FileDescriptorName=);"
            f" systemd passed {passed}"
        )
    return names.index(name)


KINDS = {
    "tcp": Kind(("port", "interface", "backlog"), _open_tcp, _tcp, ("port",)),
    "tcp6": Kind(("port", "backlog", "interface"), _open_tcp6, _tcp6, ("port",)),
    "unix": Kind(
        ("address", "mode", "backlog", "lockfile", "user", "group"),
        _open_unix,
        _unix,
        ("address",),
    ),
    "fd": Kind(("fileno", "domain"), _open_fd, _fd, ("fileno",)),
    "systemd": Kind(("domain", "index", "name"), _open_systemd, _systemd),
    "ssl": Kind(
        (
            "port",
            "privateKey",
            "certKey",
            "sslmethod",
            "interface",
            "backlog",
            "extraCertChain",
            "dhParameters",
        ),
        _open_tcp,
        _tcp,
        ("port",),
        (),
    ),
    "tls": Kind(("path", "port", "backlog", "interface"), _open_tls, _tls, ("path",), ()),
}
V6_KINDS = ("tcp", "tcp6", "ssl", "tls")
