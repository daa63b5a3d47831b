"""Fetch the libraries that wheels and benchmarks carry in the extension, and build the one that builds itself.

A source build takes the system's libraries, which the distribution looks after.  A wheel cannot know
what a system has, so it carries what TABLE lists: libev, nghttp2 and zlib are compiled with the
extension's own flags (setup.py), so that link-time optimisation and the profile reach them;
OpenSSL has a build system of its own and becomes two static archives.  No symbol of any leaves the
extension.  Every archive is pinned by its hash, and nothing of them is committed.

OpenSSL 3.5 is the branch with long-term support, until April 2030.  Debian 12 has 3.0, which is slow:
a full handshake takes a fifth less time with 3.5 (server's side, 254 -> 207 us, P-256 certificate,
X25519), AES-128-GCM by records of 16 KB goes from 4.7 to 11.7 GB/s on a processor with VAES and
AVX-512.  What is built reads no openssl.cnf, since one is written for the library of its system, and
loads no provider or engine.

    python scripts/libraries.py           fetch and build what is missing, print the folder, for CD_LIBRARIES
    python scripts/libraries.py --where   print the folder, whether it is there or not

CD_SOURCES=DIR takes the archives from a folder, for builds without a network; their hashes are checked
all the same.  CC is the compiler, which may be a cross compiler (aarch64-linux-gnu-gcc).
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import fetch_llhttp
from fetch_llhttp import once

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 120  # for the download to go on at all
EPOCH = "315532800"  # 1980, the first year of zip: the same sources make the same files
CRATES = "https://static.crates.io/crates"


class LibraryError(Exception):
    """A library is not to be had; the text says in one line what to do."""


@dataclass(frozen=True)
class Library:
    """One row: where the archive is, what of it is the library, and how that is compiled."""

    name: str
    version: str
    licence: str  # an SPDX expression
    url: str
    sha256: str
    purl: str
    inside: str  # the folder of the archive that holds the library
    licence_file: str
    include: str
    sources: tuple[str, ...] = ()  # patterns of C files for setup.py; none: Configure builds it
    defines: tuple[str, ...] = ()  # for those C files
    options: tuple[str, ...] = ()  # for Configure
    archives: tuple[str, ...] = ()

    def folder(self, root: Path) -> Path:
        """Where it belongs: another archive or other options have another folder."""
        row = hashlib.sha256(" ".join((self.sha256, *self.options)).encode()).hexdigest()[:8]
        return root / f"{self.name.lower()}-{self.version}-{row}"

    def files(self, root: Path) -> list[str]:
        """The C files that setup.py compiles."""
        folder = self.folder(root)
        return sorted(str(path) for pattern in self.sources for path in folder.glob(pattern))


# Nothing that a server of TLS 1.2 and 1.3 does not need; no-apps and the like save most of the time.
LEFT_OUT = "shared tests apps docs legacy engine comp ssl3 dtls srp module autoload-config".split()
# What a static library is asked for by name only: no file of a system is below it, and no folder of the build in it.
OPENSSL = [*(f"no-{name}" for name in LEFT_OUT), "enable-ktls", "-fPIC"]
OPENSSL += ["--prefix=/usr", "--libdir=lib", "--openssldir=/etc/ssl"]
ZLIB = "adler32 crc32 deflate inffast inflate inftrees trees zutil".split()

TABLE = (
    Library(
        name="libev",
        version="4.33",
        licence="BSD-2-Clause OR GPL-2.0-or-later",
        url="http://deb.debian.org/debian/pool/main/libe/libev/libev_4.33.orig.tar.gz",
        sha256="507eb7b8d1015fbec5b935f34ebed15bf346bed04a11ab82b8eee848c4205aea",
        purl="pkg:generic/libev@4.33",
        inside="libev-4.33",
        licence_file="LICENSE",
        include=".",
        sources=("ev.c",),
        # What its configure finds on Linux. Times come from the vDSO, not from system calls.
        defines=(
            "EV_STANDALONE=1",
            "EV_USE_CLOCK_SYSCALL=0",
            "EV_USE_MONOTONIC=1",
            "EV_USE_REALTIME=1",
            "EV_USE_NANOSLEEP=1",
            "EV_USE_LINUXAIO=0",
            "EV_USE_IOURING=0",
            "EV_USE_SELECT=0",
        ),
    ),
    Library(
        name="nghttp2",
        version="1.68.1",
        licence="MIT",
        url=f"{CRATES}/libnghttp2-sys/libnghttp2-sys-0.1.13+1.68.1.crate",
        sha256="492e00167f1418c15648144f42bbfc63099806ecee9bf8d09a6353d6b4856b3c",
        purl="pkg:github/nghttp2/nghttp2@v1.68.1",
        inside="libnghttp2-sys-0.1.13+1.68.1/nghttp2",
        licence_file="COPYING",
        include="lib/includes",
        sources=("lib/*.c",),
        defines=(
            "NGHTTP2_STATICLIB",
            "HAVE_ARPA_INET_H",
            "HAVE_NETINET_IN_H",
            "HAVE_TIME_H",
            "HAVE_CLOCK_GETTIME=1",
            "HAVE_DECL_CLOCK_MONOTONIC=1",
        ),
    ),
    Library(
        name="OpenSSL",
        version="3.5.5",
        licence="Apache-2.0",
        url=f"{CRATES}/openssl-src/openssl-src-300.5.5+3.5.5.crate",
        sha256="3f1787d533e03597a7934fd0a765f0d28e94ecc5fb7789f8053b1e699a56f709",
        purl="pkg:github/openssl/openssl@openssl-3.5.5",
        inside="openssl-src-300.5.5+3.5.5/openssl",
        licence_file="LICENSE.txt",
        include="include",
        options=tuple(OPENSSL),
        archives=("lib/libssl.a", "lib/libcrypto.a"),
    ),
    Library(
        name="zlib",
        version="1.3.2",
        licence="Zlib",
        url=f"{CRATES}/libz-sys/libz-sys-1.1.30.crate",
        sha256="f710a23e6dbf193214fd46ca56a9d6864e550abe86202184532ae7275e46de19",
        purl="pkg:github/madler/zlib@v1.3.2",
        inside="libz-sys-1.1.30/src/zlib",
        licence_file="LICENSE",
        include=".",
        sources=tuple(f"{name}.c" for name in ZLIB),
    ),
)

# The processors that wheels are for, as OpenSSL calls them; another one it finds out for itself.
CONFIGURED = {"x86_64": "linux-x86_64", "aarch64": "linux-aarch64"}


def compiler() -> list[str]:
    return shlex.split(os.environ.get("CC", "")) or ["cc"]


def machine() -> str:
    """What the compiler builds for: x86_64-linux-gnu, aarch64-linux-gnu."""
    command = [*compiler(), "-dumpmachine"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        raise LibraryError(f"no working C compiler: {error}") from None


def home(root: Path) -> Path:
    return root / "build" / "libraries" / machine()


def locate(root: Path) -> Path:
    """Return the folder with all of TABLE, made on the first call."""
    target = home(root)
    for library in TABLE:
        make(library, library.folder(target))
    return target


def missing(folder: Path) -> str:
    """The first thing that the folder lacks, empty when it is complete."""
    wanted = [
        library.folder(folder) / name
        for library in TABLE
        for name in (*library.archives, library.licence_file)
    ]
    return next((str(path.relative_to(folder)) for path in wanted if not path.is_file()), "")


def make(library: Library, target: Path) -> None:
    def build(scratch: Path) -> Path:
        run(library, ["tar", "-xzf", str(archive(library, scratch)), library.inside], scratch)
        source = scratch / library.inside
        if library.options:
            return configured(library, source, scratch)
        fill_in(library, source)
        return source

    once(target, build)


def archive(library: Library, scratch: Path) -> Path:
    name = library.url.rpartition("/")[2]
    given = os.environ.get("CD_SOURCES")
    path = Path(given or scratch, name)
    try:
        if not given:
            with urlopen(library.url, timeout=SECONDS) as answer, path.open("wb") as file:
                shutil.copyfileobj(answer, file)
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise LibraryError(
            f"{path if given else library.url}: {error}; set CD_SOURCES to a folder that holds {name}"
        ) from None
    if found != library.sha256:
        where = path if given else library.url
        raise LibraryError(f"{where}: its sha256 is {found} and should be {library.sha256}")
    return path


def fill_in(library: Library, source: Path) -> None:
    """The header with the version, which the library's own configure would write."""
    major, minor, patch = (int(part) for part in f"{library.version}.0".split(".")[:3])
    for template in (source / library.include).rglob("*ver.h.in"):
        text = template.read_text().replace("@PACKAGE_VERSION@", library.version)
        number = f"0x{major:02x}{minor:02x}{patch:02x}"
        template.with_suffix("").write_text(text.replace("@PACKAGE_VERSION_NUM@", number))


def configured(library: Library, source: Path, scratch: Path) -> Path:
    """Build beside the sources; the prefix is a name only, the installation goes elsewhere."""
    objects, staged = scratch / "objects", scratch / "staged"
    objects.mkdir()
    kind = machine()
    options = [*CONFIGURED.get(kind.partition("-")[0], "").split(), *library.options]
    if compiler()[0].endswith(f"{kind}-gcc"):  # a cross compiler, which has an ar of its own
        options.append(f"--cross-compile-prefix={compiler()[0].removesuffix('gcc')}")
    steps = ["make", f"DESTDIR={staged}"]
    run(library, [str(source / "Configure"), *options], objects)
    run(library, [*steps, f"-j{os.cpu_count() or 1}", "build_libs"], objects)
    run(library, [*steps, "install_dev"], objects)
    made = staged / "usr"
    shutil.copy(source / library.licence_file, made)
    return made


def run(library: Library, command: list[str], folder: Path) -> None:
    """Silent, unless it fails. A make above must not hand its flags down."""
    environment = {key: value for key, value in os.environ.items() if "MAKE" not in key}
    environment["SOURCE_DATE_EPOCH"] = EPOCH
    if any(word.startswith("--cross-compile-prefix") for word in command):
        environment.pop("CC", None)  # Configure would put the prefix before this one, too
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
        name = f"{library.name} {library.version}"
        raise LibraryError(f"{name} does not build: {' '.join(command)}\n{reason}")


def sbom(version: str, own: bool, llhttp: fetch_llhttp.Llhttp) -> str:
    """What a wheel carries, as CycloneDX for its dist-info/sboms (PEP 770)."""
    components = [component(library) for library in TABLE] if own else []
    if llhttp.directory:
        components.append(llhttp_component(llhttp.directory))
    purl = f"pkg:pypi/cdaphne@{version}"
    names = [str(part["bom-ref"]) for part in components]
    return json.dumps(
        {
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "version": 1,
            "metadata": {
                "component": {
                    "type": "library",
                    "bom-ref": purl,
                    "name": "cdaphne",
                    "version": version,
                    "purl": purl,
                }
            },
            "components": components,
            "dependencies": [
                {"ref": purl, "dependsOn": names},
                *({"ref": name} for name in names),
            ],
        },
        indent=1,
    )


def component(library: Library) -> dict[str, object]:
    archive = {
        "type": "source-distribution",
        "url": library.url,
        "hashes": [{"alg": "SHA-256", "content": library.sha256}],
    }
    return described(library.name, library.version, library.licence, library.purl, archive)


def llhttp_component(folder: Path) -> dict[str, object]:
    text = (folder / "include" / "llhttp.h").read_text()
    version = fetch_llhttp.dotted(fetch_llhttp.header_version(text))
    name, _, release = fetch_llhttp.SDIST.partition("==")
    archive = {
        "type": "source-distribution",
        "url": f"https://pypi.org/project/{name}/{release}/",
        "hashes": [{"alg": "SHA-256", "content": fetch_llhttp.SHA256}],
    }
    return described("llhttp", version, "MIT", f"pkg:github/nodejs/llhttp@v{version}", archive)


def described(
    name: str, version: str, licence: str, purl: str, archive: dict[str, object]
) -> dict[str, object]:
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "licenses": [{"expression": licence}],
        "purl": purl,
        "externalReferences": [archive],
    }


def main(arguments: list[str]) -> int:
    try:
        print(home(ROOT) if "--where" in arguments else locate(ROOT))
    except LibraryError as error:
        print(f"cdaphne: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
