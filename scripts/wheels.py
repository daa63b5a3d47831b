"""Make the wheels that install anywhere: one for each Python of this machine, from the sdist in dist/.

    python scripts/wheels.py        called by `make dist`
    CC=aarch64-linux-gnu-gcc ...    the same for another processor, by a cross compiler

Which Pythons and which glibc is said once, in [tool.cibuildwheel] of pyproject.toml, so that what this
makes and what cibuildwheel makes are the same.  CD_PROFILE and CD_LIBRARIES are for setup.py, which see.
A wheel ends in dist/ when auditwheel has found that it loads wherever its name says.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import glibc
import libraries

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
TABLE = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["cibuildwheel"]


@dataclass(frozen=True)
class Target:
    """What the wheels are for."""

    machine: str  # x86_64

    @property
    def image(self) -> str:
        """manylinux_2_28"""
        return str(TABLE["linux"][f"manylinux-{self.machine}-image"])

    @property
    def tag(self) -> str:
        return f"{self.image}_{self.machine}"

    @property
    def glibc(self) -> str:
        return ".".join(self.image.split("_")[1:])

    @property
    def foreign(self) -> bool:
        return self.machine != platform.machine()


def versions() -> list[str]:
    """3.11 and so on, of those that cibuildwheel builds for."""
    return [f"3.{minor}" for minor in re.findall(r"cp3(\d+)-", TABLE["build"])]


def interpreters() -> Iterator[tuple[str, str]]:
    """(version, path) of each that answers; pyenv's shims only do for the chosen ones."""
    for version in versions():
        candidates = [shutil.which(f"python{version}")]
        home = Path.home() / ".pyenv" / "versions"
        candidates += sorted(map(str, home.glob(f"{version}.*/bin/python")), reverse=True)
        if ".".join(map(str, sys.version_info[:2])) == version:
            candidates.insert(0, sys.executable)
        for path in filter(None, candidates):
            if answers(path, version):
                yield version, path
                break


def answers(interpreter: str, version: str) -> bool:
    """Python with pip and its headers; a distribution's may have neither."""
    question = (
        "import os, pip, sys, sysconfig; print('%d.%d' % sys.version_info[:2],"
        " os.path.exists(sysconfig.get_path('include') + '/Python.h'))"
    )
    done = subprocess.run([interpreter, "-c", question], capture_output=True, text=True)
    return done.stdout.split() == [version, "True"]


def build(interpreter: str, version: str, sdist: Path, target: Target, into: Path) -> Path:
    environment = {**os.environ, "CD_GLIBC": target.glibc, "SOURCE_DATE_EPOCH": libraries.EPOCH}
    if target.foreign:
        tag = f"cpython-{version.replace('.', '')}-{target.machine}-linux-gnu"
        environment["_PYTHON_HOST_PLATFORM"] = f"linux-{target.machine}"
        environment["SETUPTOOLS_EXT_SUFFIX"] = f".{tag}.so"
    into.mkdir(parents=True)
    pip = [interpreter, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-cache-dir"]
    subprocess.run([*pip, "--wheel-dir", str(into), str(sdist)], check=True, env=environment)
    (made,) = into.glob("*.whl")
    return made


def undefined(wheel: Path) -> list[str]:
    """Functions of glibc that the linker has not found: they have no version, and nobody else has them."""
    with tempfile.TemporaryDirectory() as scratch:
        shutil.unpack_archive(wheel, scratch, "zip")
        (extension,) = Path(scratch, "pyasgi").glob("_core.*.so")
        return undefined_names(extension)


def undefined_names(library: Path) -> list[str]:
    listed = glibc.output("readelf", "--dyn-syms", "--wide", str(library))
    names = re.findall(r" GLOBAL +DEFAULT +UND (\S+)(?: \(\d+\))?$", listed, re.MULTILINE)
    return [name for name in names if "@" not in name and not re.match("_?Py", name)]


def repair(wheel: Path, target: Target) -> None:
    """auditwheel fails when a symbol is too new; there is nothing to graft, so it only gives the name."""
    if newer := undefined(wheel):
        raise SystemExit(f"{wheel.name}: glibc {target.glibc} has no {', '.join(newer)}")
    # Of another processor auditwheel knows the names only when it may choose: the oldest that does.
    plat = "auto" if target.foreign else target.tag
    command = [sys.executable, "-m", "auditwheel", "repair", "--plat", plat, "--only-plat"]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": libraries.EPOCH}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run([*command, "--wheel-dir", str(DIST), str(wheel)], check=True, env=environment)
    stem = wheel.name.rpartition("-")[0]
    if not list(DIST.glob(f"{stem}-*{target.tag}.whl")):
        raise SystemExit(f"{wheel.name}: auditwheel does not name it {target.tag}")


def main() -> int:
    os.environ.setdefault("CD_LIBRARIES", str(libraries.locate(ROOT)))
    target = Target(libraries.machine().partition("-")[0])
    (sdist,) = DIST.glob("cdaphne-[0-9]*.tar.gz")
    scratch = ROOT / "build" / "wheels" / target.machine
    shutil.rmtree(scratch, ignore_errors=True)
    for version, interpreter in interpreters():
        print(f"-- wheel for Python {version}, {target.tag}", flush=True)
        repair(build(interpreter, version, sdist, target, scratch / version), target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
