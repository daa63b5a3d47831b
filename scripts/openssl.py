"""Fetch and build the static OpenSSL of wheels and benchmarks.

A source build takes the system's OpenSSL, which the distribution looks after.  A wheel cannot know
what a system has, and Debian 12 has 3.0, which is slow: a full handshake takes a fifth less time
with 3.5 (server's side, 254 -> 207 us, P-256 certificate, X25519), AES-128-GCM by records of 16 KB
goes from 4.7 to 11.7 GB/s on a processor with VAES and AVX-512.  3.5 is the branch with long-term
support, until April 2030.  The sources are those in a release of the crate openssl-src, pinned by
its hash; they are OpenSSL's own, without its tests.

What is built has no symbol that leaves the extension (setup.py), reads no openssl.cnf, since one is
written for the library of its system, and loads no provider or engine.

    python scripts/openssl.py           build it if need be, print its folder, for CD_OPENSSL
    python scripts/openssl.py --where   print the folder, whether it is there or not

OPENSSL_CRATE=FILE uses a crate that is already there; its hash is checked like the other's.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

from fetch_llhttp import once

ROOT = Path(__file__).resolve().parent.parent
CRATE = "openssl-src-300.5.5+3.5.5"
VERSION = CRATE.partition("+")[2]
URL = f"https://static.crates.io/crates/openssl-src/{CRATE}.crate"
SHA256 = "3f1787d533e03597a7934fd0a765f0d28e94ecc5fb7789f8053b1e699a56f709"
SECONDS = 120  # for the download to go on at all
# Nothing that a server of TLS 1.2 and 1.3 does not need; no-apps and the like save most of the time.
LEFT_OUT = "shared tests apps docs legacy engine comp ssl3 dtls srp module autoload-config".split()
OPTIONS = [*(f"no-{name}" for name in LEFT_OUT), "enable-ktls", "-fPIC"]
# What a static library is asked for by name only: no file of a system is below it.
OPTIONS += ["--libdir=lib", "--openssldir=/etc/ssl"]


class OpensslError(Exception):
    """OpenSSL is not to be had; the text says in one line what to do."""


def folder(root: Path) -> Path:
    """Where it belongs: another version or other options have another folder."""
    options = hashlib.sha256(" ".join(OPTIONS).encode()).hexdigest()[:8]
    return root / "build" / f"openssl-{VERSION}-{options}"


def locate(root: Path) -> Path:
    """Return the folder with include/, lib/ and LICENSE.txt, built on the first call."""
    target = folder(root)
    return once(target, lambda scratch: build(unpack(crate(scratch), scratch), scratch, target))


def crate(scratch: Path) -> Path:
    named = os.environ.get("OPENSSL_CRATE")
    path = Path(named) if named else scratch / "openssl.crate"
    try:
        if not named:
            with urllib.request.urlopen(URL, timeout=SECONDS) as answer, path.open("wb") as file:
                shutil.copyfileobj(answer, file)
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise OpensslError(f"{named or URL}: {error}; set OPENSSL_CRATE to a copy of it") from None
    if found != SHA256:
        raise OpensslError(f"{named or URL}: its sha256 is {found} and should be {SHA256}")
    return path


def unpack(archive: Path, scratch: Path) -> Path:
    run(["tar", "-xzf", str(archive)], scratch)
    return scratch / CRATE / "openssl"


def build(source: Path, scratch: Path, target: Path) -> Path:
    """Build beside the sources; the prefix is where it will be, the installation goes elsewhere."""
    objects, staged = scratch / "objects", scratch / "staged"
    objects.mkdir()
    make = ["make", f"DESTDIR={staged}"]
    run([str(source / "Configure"), f"--prefix={target}", *OPTIONS], objects)
    run([*make, f"-j{os.cpu_count() or 1}", "build_libs"], objects)
    run([*make, "install_dev"], objects)
    made = staged / target.relative_to("/")
    shutil.copy(source / "LICENSE.txt", made)
    return made


def run(command: list[str], folder: Path) -> None:
    """Silent, unless it fails. A make above must not hand its flags down."""
    environment = {key: value for key, value in os.environ.items() if "MAKE" not in key}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        reason = "\n".join((done.stdout + done.stderr).strip().splitlines()[-12:])
        raise OpensslError(f"OpenSSL {VERSION} does not build: {' '.join(command)}\n{reason}")


def main(arguments: list[str]) -> int:
    try:
        print(folder(ROOT) if "--where" in arguments else locate(ROOT))
    except OpensslError as error:
        print(f"cdaphne: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
