"""The extension's OpenSSL: the system's, or one of its own (CD_OPENSSL), with Python's _ssl in the same process."""

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

OWN = os.environ.get("CD_OPENSSL", "") not in ("", "system")


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


@pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm")
def test_no_symbol_of_openssl_leaves_the_extension() -> None:
    """One that did would be what another library in the process finds, or the other way round."""
    command = ["nm", "-D", "--defined-only", str(_core.__file__)]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    names = [line.split()[-1] for line in listed.splitlines()]
    assert "PyInit__core" in names
    mine = re.compile("(SSL|EVP|OPENSSL|OSSL|BIO|X509|CRYPTO|ERR|RAND|ossl|d2i|i2d|PEM)_")
    assert [name for name in names if mine.match(name)] == []


@pytest.mark.skipif(not OWN, reason="the extension has the system's OpenSSL")
def test_an_openssl_of_its_own() -> None:
    script = [sys.executable, "scripts/openssl.py", "--where"]
    where = subprocess.run(script, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert Path(where).name.startswith(f"openssl-{_core.versions()['OpenSSL']}-")
    command = ["nm", "-D", "--undefined-only", str(_core.__file__)]
    wanted = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert re.findall(r"\b(?:SSL|EVP|BIO|X509)_\w+", wanted) == []
    needed = subprocess.run(
        ["readelf", "-d", str(_core.__file__)], check=True, capture_output=True, text=True
    ).stdout
    assert "libssl" not in needed and "libcrypto" not in needed


def build_ext(**environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True
    )


def test_a_folder_without_openssl_is_one_line(tmp_path: Path) -> None:
    done = build_ext(CD_OPENSSL=str(tmp_path))
    assert done.returncode == 1
    line = f"cdaphne: CD_OPENSSL: {tmp_path} has no lib/libssl.a: run python scripts/openssl.py\n"
    assert done.stderr == line


def refused(folder: Path, crate: Path) -> str:
    """What the script, copied into the folder, says of a crate that it does not take."""
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    done = subprocess.run(
        [sys.executable, "scripts/openssl.py"],
        cwd=folder,
        env={**os.environ, "OPENSSL_CRATE": str(crate)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    return done.stderr


def test_an_altered_archive_is_not_built(tmp_path: Path) -> None:
    crate = tmp_path / "openssl.crate"
    crate.write_bytes(b"something else")
    said = refused(tmp_path, crate)
    digest = hashlib.sha256(b"something else").hexdigest()
    assert said.startswith(f"cdaphne: {crate}: its sha256 is {digest} and should be ")
    assert said.count("\n") == 1
    assert list((tmp_path / "build").iterdir()) == []


def test_an_archive_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    missing = tmp_path / "missing.crate"
    said = refused(tmp_path, missing)
    assert said.startswith(f"cdaphne: {missing}: ") and "OPENSSL_CRATE" in said
    assert said.count("\n") == 1
