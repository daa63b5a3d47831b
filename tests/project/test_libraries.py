"""The extension's libraries: the system's, or its own (CD_LIBRARIES), with Python's modules in the same process."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from pyasgi import _core
from tests.apps.two_libraries import SIZE
from tests.support.authority import Authority
from tests.support.programs import ROOT
from tests.support.servers import Servers

OWN = os.environ.get("CD_LIBRARIES", "") not in ("", "system")


@pytest.mark.server
def test_two_libraries_in_one_process(server: Servers, tmp_path: Path) -> None:
    """A TLS server whose application talks TLS by Python's contexts, both ends on its loop."""
    ca = Authority(tmp_path)
    site = ca.issue("site")
    handle = server.start(
        "tests.apps.two_libraries:app",
        *("--certfile", str(site.cert), "--keyfile", str(site.key)),
        env={"TEST_CERT": str(site.cert), "TEST_KEY": str(site.key), "TEST_CA": str(ca.cert)},
    )
    with ca.trusting().wrap_socket(handle.connect().sock, server_hostname="localhost") as sock:
        for _ in range(3):
            sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = b""
            while b"\r\n\r\n" not in answer or len(answer.partition(b"\r\n\r\n")[2]) < 64:
                answer += sock.recv(65536)
            digest, python, ours = answer.partition(b"\r\n\r\n")[2].decode().split()[:3]
            assert digest == hashlib.sha256(b"x" * SIZE).hexdigest()
            assert python == ssl.OPENSSL_VERSION.split()[1]
            assert ours == _core.versions()["OpenSSL"]


def exported(extension: Path) -> set[str]:
    command = ["nm", "-D", "--defined-only", str(extension)]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {line.split()[-1] for line in listed.splitlines()}


def needed(extension: Path) -> set[str]:
    command = ["readelf", "--dynamic", str(extension)]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return set(re.findall(r"\(NEEDED\).*\[(.+)\]", listed))


@pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm")
def test_no_symbol_of_a_library_leaves_the_extension() -> None:
    """One that did would be what another library in the process finds, or the other way round."""
    names = exported(Path(_core.__file__))
    assert "PyInit__core" in names
    mine = re.compile(
        "(SSL|EVP|OPENSSL|OSSL|BIO|X509|CRYPTO|ERR|RAND|ossl|d2i|i2d|PEM|ev|nghttp2|llhttp|deflate|inflate)_?"
    )
    assert [name for name in names if mine.match(name)] == []


@pytest.mark.skipif(not OWN, reason="the extension has the system's libraries")
def test_libraries_of_its_own() -> None:
    script = [sys.executable, "scripts/libraries.py", "--where"]
    where = subprocess.run(script, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert Path(os.environ["CD_LIBRARIES"]).name == Path(where.strip()).name
    versions = _core.versions()
    for name in ("libev", "nghttp2", "OpenSSL", "zlib"):
        assert list(Path(os.environ["CD_LIBRARIES"]).glob(f"{name.lower()}-{versions[name]}-*"))
    assert not [
        name
        for name in needed(Path(_core.__file__))
        if re.match("lib(ev|nghttp2|ssl|crypto|z)\\b", name)
    ]


def build_ext(**environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True
    )


def test_a_folder_without_libraries_is_one_line(tmp_path: Path) -> None:
    done = build_ext(CD_LIBRARIES=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith(f"cdaphne: CD_LIBRARIES: {tmp_path} has no libev-4.33-")
    assert done.stderr.endswith("/LICENSE: run python scripts/libraries.py\n")
    assert done.stderr.count("\n") == 1


def refused(folder: Path, archives: Path) -> str:
    """What the script, copied into the folder, says of archives that it does not take."""
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    done = subprocess.run(
        [sys.executable, "scripts/libraries.py"],
        cwd=folder,
        env={**os.environ, "CD_SOURCES": str(archives)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_an_altered_archive_is_not_built(tmp_path: Path) -> None:
    archive = tmp_path / "libev_4.33.orig.tar.gz"
    archive.write_bytes(b"something else")
    said = refused(tmp_path, tmp_path)
    digest = hashlib.sha256(b"something else").hexdigest()
    assert said.startswith(f"cdaphne: {archive}: its sha256 is {digest} and should be ")
    assert list((tmp_path / "build" / "libraries").glob("*/*")) == []


def test_an_archive_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    said = refused(tmp_path, tmp_path)
    assert said.startswith(f"cdaphne: {tmp_path / 'libev_4.33.orig.tar.gz'}: ")
    assert "CD_SOURCES" in said
