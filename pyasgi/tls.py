"""TLS as the operator sees it: which files and settings, whether they are any good, and when they change.

Settings is what flags and endpoint strings say; it is a value, and opens nothing. Context is what a server
makes of it: the C extension's certificates, and a look at the files every now and then. Whatever is wrong is
a TlsError of one line.
"""

# Annotations are evaluated here: NamedTuple compiles those that are text, 1.5 ms of a start's 50.

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from .native import _core

if TYPE_CHECKING:
    from pathlib import Path

Verify = Literal["none", "optional", "required", "report"]
VERIFY: tuple[Verify, ...] = ("none", "optional", "required", "report")
VERSIONS = {"1.2": 0x0303, "1.3": 0x0304}
CERTBOT = ("fullchain.pem", "privkey.pem")
KEY_MARK, CERTIFICATE_MARK = b"PRIVATE KEY-----", b"BEGIN CERTIFICATE-----"


class TlsError(Exception):
    """TLS is impossible with these settings; the message is one line for the operator."""


class Pair(NamedTuple):
    """The files of one certificate, in PEM form."""

    certfile: str
    keyfile: str
    chainfile: str | None = None


class Settings(NamedTuple):
    """Everything about TLS on an endpoint. Files are read when the server starts and when they change.

    certificates: the first is for clients that name no host, or none of ours
    directories: of certificates, see pairs_in(); they come after the others
    password: of the keys that are encrypted
    verify: client certificates: "none" asks for none; "optional" takes who has none, "required" does not, and
        both refuse one that does not verify; "report" takes all, and tells the application
    ca_certs: file with the authorities of clients; crlfile: with the revoked certificates of each of them
    ocsp_files: OCSP responses to staple, each for one of the certificates, in DER form
    ciphers: OpenSSL's names of TLS 1.2's cipher suites and, with their ``TLS_`` names, of TLS 1.3's
    min_version: "1.2" or "1.3"
    dhfile: parameters for DHE, in PEM form
    """

    certificates: tuple[Pair, ...] = ()
    directories: tuple[str, ...] = ()
    password: str | None = None
    verify: Verify = "none"
    ca_certs: str | None = None
    crlfile: str | None = None
    ocsp_files: tuple[str, ...] = ()
    ciphers: str | None = None
    min_version: str = "1.2"
    dhfile: str | None = None

    def with_certificate(self, certfile: str, keyfile: str | None, **others: Any) -> "Settings":
        """Returns the same settings with one certificate in place of the present ones."""
        pair = Pair(certfile, keyfile or certfile, others.pop("chainfile", None))
        return self._replace(certificates=(pair,), directories=(), ocsp_files=(), **others)

    def with_directory(self, path: str) -> "Settings":
        """Returns the same settings with the certificates of a directory in place of the present ones."""
        return self._replace(certificates=(), directories=(path,), ocsp_files=())

    def pairs(self) -> tuple[Pair, ...]:
        """The certificates, those in directories too. TlsError."""
        found = [*self.certificates]
        for directory in self.directories:
            found += pairs_in(directory)
        return tuple(found)

    def arguments(self, pairs: tuple[Pair, ...]) -> dict[str, Any]:
        """Arguments of _core.Tls."""
        old, new = split_ciphers(self.ciphers)
        return {
            "certificates": tuple(
                (os.fsencode(pair.certfile), os.fsencode(pair.keyfile), _encoded(pair.chainfile))
                for pair in pairs
            ),
            "password": self.password or None,
            "verify": self.verify,
            "ca_file": _encoded(self.ca_certs),
            "crl_file": _encoded(self.crlfile),
            "ocsp_files": tuple(map(os.fsencode, self.ocsp_files)),
            "ciphers": old,
            "ciphersuites": new,
            "dh_file": _encoded(self.dhfile),
            "min_version": VERSIONS[self.min_version],
        }

    def files(self, pairs: tuple[Pair, ...]) -> Iterator[str]:
        """Every file that these settings name."""
        for pair in pairs:
            yield from filter(None, (pair.certfile, pair.keyfile, pair.chainfile))
        yield from filter(None, (self.ca_certs, self.crlfile, self.dhfile, *self.ocsp_files))


def _encoded(path: str | None) -> bytes | None:
    return None if path is None else os.fsencode(path)


def split_ciphers(text: str | None) -> tuple[str | None, str | None]:
    """Cipher names of TLS 1.2 and of TLS 1.3; None where none are given."""
    names = text.split(":") if text else []
    new = [name for name in names if name.startswith("TLS_")]
    old = [name for name in names if not name.startswith("TLS_")]
    return ":".join(old) or None, ":".join(new) or None


# ---- directories ----


def pairs_in(directory: str) -> list[Pair]:
    """The certificates of a directory, in the order of their names. TlsError when there are none.

    NAME.pem with certificate and key; NAME.pem, .crt or .cert beside NAME.key; a directory with certbot's
    fullchain.pem and privkey.pem, which may be this one itself.
    """
    from pathlib import Path  # only servers with TLS need it, and it imports urllib

    root = Path(directory)
    try:
        pairs = [*_certbot(root)]
        for path in sorted(root.iterdir()):
            pairs += _certbot(path) if path.is_dir() else _single(path)
    except OSError as error:
        raise TlsError(
            f"{directory}: the directory of certificates cannot be read: {error.strerror};"
            " give one that this user may read"
        ) from None
    if not pairs:
        raise TlsError(
            f"{directory}: no certificate with its key is there; put NAME.pem with both,"
            " or NAME.crt and NAME.key, or NAME/fullchain.pem and NAME/privkey.pem"
        )
    return pairs


def _certbot(directory: "Path") -> Iterator[Pair]:
    certificate, key = (directory / name for name in CERTBOT)
    if certificate.is_file() and key.is_file():
        yield Pair(str(certificate), str(key))


def _single(path: "Path") -> Iterator[Pair]:
    if path.suffix not in (".pem", ".crt", ".cert") or path.name in CERTBOT:
        return
    if not path.is_file():
        raise TlsError(
            f"{path}: is not a regular file; a directory of certificates takes no others"
        )
    key = path.with_suffix(".key")
    text = path.read_bytes()
    if CERTIFICATE_MARK not in text:
        return
    if KEY_MARK in text:
        yield Pair(str(path), str(path))
    elif key.is_file():
        yield Pair(str(path), str(key))


# ---- at run time ----

Identity = tuple[int, int, int] | None  # of a file that was loaded; None: unreadable


class Context:
    """Settings that were loaded. Raises TlsError when they cannot be used."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        pairs = settings.pairs()
        self._seen = self._look(pairs)
        try:
            self.core = _core.Tls(**settings.arguments(pairs))
        except ValueError as error:
            raise TlsError(str(error)) from None

    @property
    def warnings(self) -> list[str]:
        return self.core.warnings

    def reload(self) -> None:
        """Loads everything again for later connections. TlsError: what was loaded before stays."""
        pairs = self.settings.pairs()
        self._seen = self._look(pairs)
        try:
            self.core.reload(**self.settings.arguments(pairs))
        except ValueError as error:
            raise TlsError(str(error)) from None

    def changed(self) -> bool:
        """Has a file changed since it was loaded, or since the last call that said so?"""
        try:
            now = self._look(self.settings.pairs())
        except TlsError:
            now = {}
        if now == self._seen:
            return False
        self._seen = now
        return True

    def _look(self, pairs: tuple[Pair, ...]) -> dict[str, Identity]:
        return {path: _identity(path) for path in self.settings.files(pairs)}


def _identity(path: str) -> Identity:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
