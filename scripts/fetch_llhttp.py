"""Find the llhttp sources, or fetch them; used by setup.py and by the C tests.

The order is: $LLHTTP_DIR, third_party/llhttp (which only our sdist carries), a system libllhttp known to
pkg-config, and last the sources that the sdist of httptools carries, fetched by pip into build/llhttp and
pinned by their hash.  The release of httptools is pinned rather than llhttp's own because it is the place
on PyPI that holds the generated C.

    python scripts/fetch_llhttp.py          make llhttp available, print where it is
    python scripts/fetch_llhttp.py --make   print it as variables for make
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

MINIMUM = (9, 3)
SDIST = "httptools==0.9.0"
SHA256 = "d484ebb7e3a3f3597b0f645fbd1b85633674ca808c1f5ba11c2caf7c66f5c8b6"
SOURCES = ("src/api.c", "src/http.c", "src/llhttp.c")
# Where each file lies below our own folder, by its place inside the sdist.
MEMBERS = {f"vendor/llhttp/{name}": name for name in (*SOURCES, "include/llhttp.h", "LICENSE")}


class LlhttpError(Exception):
    """llhttp is not to be had; the text says in one line what to do."""


@dataclass(frozen=True)
class Llhttp:
    """How to compile and link llhttp: C files to compile, or a library to link."""

    origin: str
    directory: Path | None = None
    include_dirs: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    link_args: list[str] = field(default_factory=list)


def locate(root: Path) -> Llhttp:
    """Return the llhttp to build with; raise LlhttpError when there is none."""
    named = os.environ.get("LLHTTP_DIR")
    if named:
        return from_directory(Path(named), "LLHTTP_DIR")
    carried = root / "third_party" / "llhttp"
    if carried.is_dir():
        return from_directory(carried, "third_party")
    return from_system() or from_directory(fetch(root), SDIST)


def bundled(root: Path) -> Path:
    """Return a folder with the sources, even where the system has a library: the sdist carries them."""
    named = os.environ.get("LLHTTP_DIR")
    carried = root / "third_party" / "llhttp"
    directory = Path(named) if named else carried if carried.is_dir() else fetch(root)
    found = from_directory(directory, str(directory)).directory
    assert found is not None
    return found


def from_directory(directory: Path, origin: str) -> Llhttp:
    header = directory / "include" / "llhttp.h"
    missing = [name for name in SOURCES if not (directory / name).is_file()]
    if missing or not header.is_file():
        raise LlhttpError(
            f"{origin}: {directory} is no llhttp release: it has no {[*missing, 'include/llhttp.h'][0]}"
        )
    version = header_version(header.read_text())
    if version < MINIMUM:
        raise LlhttpError(
            f"{origin}: {directory} is llhttp {dotted(version)}; {dotted(MINIMUM)} or newer is needed"
        )
    sources = [str(directory / name) for name in SOURCES]
    return Llhttp(origin, directory, [str(header.parent)], sources)


def header_version(text: str) -> tuple[int, ...]:
    numbers = dict(re.findall(r"#define LLHTTP_VERSION_(MAJOR|MINOR|PATCH) (\d+)", text))
    return tuple(int(numbers.get(part, 0)) for part in ("MAJOR", "MINOR", "PATCH"))


def dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def from_system() -> Llhttp | None:
    if shutil.which("pkg-config") is None:
        return None
    wanted = f"libllhttp >= {dotted(MINIMUM)}"
    if subprocess.run(["pkg-config", "--exists", wanted]).returncode != 0:
        return None
    flags = pkg_config("--cflags-only-I", "libllhttp")
    include_dirs = [flag.removeprefix("-I") for flag in flags]
    return Llhttp("pkg-config", None, include_dirs, [], pkg_config("--libs", "libllhttp"))


def pkg_config(option: str, name: str) -> list[str]:
    return subprocess.run(
        ["pkg-config", option, name], check=True, capture_output=True, text=True
    ).stdout.split()


def fetch(root: Path) -> Path:
    """Return build/llhttp, fetched and unpacked on the first call."""

    def make(scratch: Path) -> Path:
        unpacked = scratch / "llhttp"
        unpack(download(scratch), unpacked)
        return unpacked

    return once(root / "build" / "llhttp", make)


def once(target: Path, make: Callable[[Path], Path]) -> Path:
    """Return the folder `target`; when it is not there `make` makes it, in a folder for scratch that it is given."""
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f"{target.name}-") as scratch:
        made = make(Path(scratch))
        try:
            made.rename(target)
        except OSError:  # another build of the same tree was first
            if not target.is_dir():
                raise
    return target


def download(folder: Path) -> Path:
    """Let pip fetch the sdist, so that its own settings (index, proxy, certificates) hold."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{SDIST} --hash=sha256:{SHA256}\n")
    name = SDIST.partition("=")[0]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--no-binary", name, "--dest", str(folder), "--requirement", str(requirements)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    archives = list(folder.glob(f"{name}-*.tar.gz"))
    if done.returncode != 0 or len(archives) != 1:
        reason = (done.stderr.strip().splitlines() or ["no archive came"])[-1]
        raise LlhttpError(
            f"llhttp: pip could not download {SDIST} ({reason}); "
            "unpack an llhttp release and set LLHTTP_DIR to it, or install libllhttp >= 9.3"
        )
    return archives[0]


def unpack(archive: Path, target: Path) -> None:
    """Take the files we know by name and nothing else out of the sdist."""
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            name = MEMBERS.get(member.name.partition("/")[2])
            content = tar.extractfile(member) if name else None
            if name and content:
                path = target / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.read())
    missing = [name for name in MEMBERS.values() if not (target / name).is_file()]
    if missing:
        raise LlhttpError(f"llhttp: {archive.name} does not hold {', '.join(missing)}")


def make_variables(found: Llhttp) -> str:
    return "\n".join(
        [
            f"LLHTTP_INCLUDES := {' '.join(found.include_dirs)}",
            f"LLHTTP_SOURCES := {' '.join(found.sources)}",
            f"LLHTTP_LIBS := {' '.join(found.link_args)}",
        ]
    )


def main(arguments: list[str]) -> int:
    root = Path(__file__).resolve().parent.parent
    try:
        found = locate(root)
    except LlhttpError as error:
        print(f"cdaphne: {error}", file=sys.stderr)
        return 1
    if "--make" in arguments:
        print(make_variables(found))
    else:
        print(f"llhttp: {found.origin} {found.directory or ''}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
