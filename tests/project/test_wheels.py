"""Wheels that install anywhere: an older glibc to link with, and what is in such a wheel."""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.programs import ROOT

OWN = os.environ.get("CD_LIBRARIES", "") not in ("", "system")
CARRIED = {"libev", "llhttp", "nghttp2", "OpenSSL", "zlib"}
USER = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static __thread int calls;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void *count(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&lock);
    calls++;
    pthread_mutex_unlock(&lock);
    return &calls;
}

static void last(void)
{
}

int user(const char *path)
{
    struct stat named, opened;
    double size = 0;
    pthread_t thread;
    if (pthread_create(&thread, NULL, count, NULL) != 0 || pthread_join(thread, NULL) != 0)
        return -1;
    if (stat(path, &named) != 0 || fstat(0, &opened) != 0 || dlopen("/nonexistent", RTLD_NOW))
        return -2;
    if (atexit(last) != 0)
        return -3;
    size = pow(fmax(size, (double)named.st_size), 2); /* pow() changed in 2.29 */
    return errno = 0, (int)size + calls;
}
"""


def script(name: str) -> ModuleType:
    """A module of scripts/, which is no package."""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)


def linked(folder: Path, text: str, *flags: str) -> Path:
    source = folder / "user.c"
    source.write_text(text)
    made = folder / "user.so"
    command = ["cc", "-shared", "-fPIC", "-O2", str(source), "-o", str(made), *flags, "-lm"]
    subprocess.run(command, check=True)
    return made


def versions(library: Path) -> set[tuple[int, ...]]:
    """The versions of glibc that a library asks for."""
    command = ["readelf", "--version-info", "--wide", str(library)]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.findall(r"Name: GLIBC_([0-9.]+) ", listed)
    return {tuple(map(int, version.split("."))) for version in found}


def test_an_older_glibc_is_linked(tmp_path: Path) -> None:
    flags = script("glibc").link_flags(["cc"], "2.28", tmp_path / "glibc")
    library = linked(tmp_path, USER, *flags)
    assert max(versions(library)) <= (2, 28)
    assert script("wheels").undefined_names(library) == []
    (tmp_path / "file").write_text("seven..")
    assert ctypes.CDLL(str(library)).user(str(tmp_path / "file").encode()) == 49


def test_this_glibc_is_linked_as_it_is(tmp_path: Path) -> None:
    """In manylinux's own containers there is nothing to do."""
    assert script("glibc").link_flags(["cc"], "2.999", tmp_path / "glibc") == []
    assert not (tmp_path / "glibc").exists()


def test_what_the_older_glibc_has_not_is_named(tmp_path: Path) -> None:
    text = "int epoll_pwait2(int); int user(void) { return epoll_pwait2(1); }"  # from 2.35
    flags = script("glibc").link_flags(["cc"], "2.28", tmp_path / "glibc")
    library = linked(tmp_path, text, *flags)
    wheel = tmp_path / "cdaphne.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(library, "pyasgi/_core.cpython-311-x86_64-linux-gnu.so")
    assert script("wheels").undefined(wheel) == ["epoll_pwait2"]


def test_cibuildwheel_is_told_what_make_dist_makes() -> None:
    wheels = script("wheels")
    classifiers = (ROOT / "pyproject.toml").read_text()
    supported = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', classifiers)
    assert wheels.versions() == supported
    for machine in ("x86_64", "aarch64"):
        assert wheels.Target(machine).tag == f"manylinux_2_28_{machine}"
        assert wheels.Target(machine).glibc == "2.28"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release as `make dist` makes it, but for the profile, with the name that auditwheel gives."""
    folder = tmp_path_factory.mktemp("wheel")
    wheels = script("wheels")
    environment = {name: value for name, value in os.environ.items() if name != "CD_DEBUG"}
    environment |= {"CD_GLIBC": "2.28", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "setup.py", "-q", "bdist_wheel", "--dist-dir", str(folder)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    (made,) = folder.glob("*.whl")
    target = wheels.Target(os.uname().machine)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wheels, "DIST", folder / "dist")
        wheels.repair(made, target)
    (named,) = (folder / "dist").glob(f"*-{target.tag}.whl")
    return named


needs_libraries = pytest.mark.skipif(not OWN, reason="the extension has the system's libraries")


@needs_libraries
@pytest.mark.timeout(300)
def test_a_wheel_needs_glibc_and_nothing_else(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    (extension,) = (tmp_path / "pyasgi").glob("_core.*.so")
    command = ["readelf", "--dynamic", str(extension)]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    needed = set(re.findall(r"\(NEEDED\).*\[(.+)\]", listed))
    assert not [
        name
        for name in needed
        if not re.match(r"(libc|libm|libpthread|libdl|ld-linux.*)\.so", name)
    ]
    assert max(versions(extension)) <= (2, 28)
    command = ["nm", "-D", "--defined-only", str(extension)]
    defined = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert [line.split()[-1] for line in defined.splitlines()] == ["PyInit__core"]
    said = subprocess.run(
        [sys.executable, "-m", "pyasgi", "--version"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        check=True,
        capture_output=True,
        text=True,
    )
    libraries = script("libraries")
    for library in libraries.TABLE:
        assert f"{library.name} {library.version}" in said.stdout


@needs_libraries
@pytest.mark.timeout(300)
def test_a_wheel_says_what_it_carries(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if re.search("/licenses/.", name)]
        (listed,) = [name for name in archive.namelist() if re.search("/sboms/.", name)]
        bill = json.loads(archive.read(listed))
    wanted = {"LICENSE", *(f"LICENSE.{name.lower()}" for name in CARRIED)}
    assert {Path(name).name for name in names} == wanted
    assert re.search(r"\.dist-info/sboms/cdaphne\.cdx\.json$", listed)
    assert bill["bomFormat"] == "CycloneDX"
    assert {part["name"] for part in bill["components"]} == CARRIED
    for part in bill["components"]:
        assert part["version"] in part["purl"] and part["licenses"][0]["expression"]
        (digest,) = part["externalReferences"][0]["hashes"]
        assert re.fullmatch("[0-9a-f]{64}", digest["content"])
