"""Build pyasgi._core: csrc/core, csrc/bridge and llhttp in one extension.

Everything else about the package is in pyproject.toml.  Switches, read from the environment:

    CD_DEBUG=1      -DCD_DEBUG -O1 -g: assertions and the live-object counters
    CD_SANITIZE=1   AddressSanitizer and UndefinedBehaviorSanitizer (implies CD_DEBUG)
    CD_COVERAGE=1   gcov counters (implies CD_DEBUG)
    CD_WERROR=1     warnings are errors (CI=true means the same)
    CD_PROFILE=generate  count which branches are taken: first half of `make pgo`
    CD_PROFILE=DIR  optimise for what was counted below DIR: its second half, and for wheels
    CD_LIBRARIES=DIR  put the libraries below DIR (scripts/libraries.py) into the extension; "system", the default:
                    link the system's
    CD_GLIBC=2.28   link against that glibc where this machine's is newer (scripts/glibc.py)
    LLHTTP_DIR=DIR  an unpacked llhttp release, see scripts/fetch_llhttp.py

Each flavour has its own folder below build/, and each set of libraries one in it, so objects of two
flavours never meet in one link.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "scripts"))

import fetch_llhttp  # noqa: E402  (found through the line above)
import glibc  # noqa: E402
import libraries  # noqa: E402
import pypi_readme  # noqa: E402


@dataclass(frozen=True)
class Library:
    """A system library: what finds it, and what an operator installs when it is not there."""

    name: str
    pkg_config: (
        str | None
    )  # None: the distribution ships no .pc file, so only the trial link finds it
    debian: str
    minimum: str
    header: str
    check: str  # a C expression of the preprocessor that is true from the minimum version on
    link: tuple[str, ...]


LIBRARIES = (
    Library(
        "libev",
        None,
        "libev-dev",
        "4.33",
        "ev.h",
        "EV_VERSION_MAJOR * 100 + EV_VERSION_MINOR >= 433",
        ("-lev",),
    ),
    Library(
        "OpenSSL",
        "openssl",
        "libssl-dev",
        "3.0",
        "openssl/ssl.h",
        "OPENSSL_VERSION_MAJOR >= 3",
        ("-lssl", "-lcrypto"),
    ),
    Library(
        "nghttp2",
        "libnghttp2",
        "libnghttp2-dev",
        "1.52",
        "nghttp2/nghttp2.h",
        "NGHTTP2_VERSION_NUM >= 0x013400",
        ("-lnghttp2",),
    ),
    Library("zlib", "zlib", "zlib1g-dev", "1.2.11", "zlib.h", "ZLIB_VERNUM >= 0x12b0", ("-lz",)),
)

WARNINGS = (
    "-Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2".split()
)
LANGUAGE = ["-std=c11", "-D_GNU_SOURCE", "-fvisibility=hidden", "-fstack-protector-strong"]
# What 3.5 deprecates has no replacement in 3.0.
LANGUAGE += ["-DOPENSSL_API_COMPAT=30000"]
FORTIFY = ["-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"]
RELEASE = ["-O2"]
# Symbols and line numbers are five sixths of an extension, and of use in a debugger only: that is CD_DEBUG's.
STRIPPED = ["-Wl,-s"] if sys.platform.startswith("linux") else []
# What the training never reached is compiled as without a profile, not for size.
PROFILED = (
    "-fprofile-use -fprofile-partial-training -Wno-missing-profile -Wno-coverage-mismatch".split()
)
# Instructions outside the kernel per keep-alive plaintext request (callgrind, gcc 12, Python 3.11), most of which are
# CPython's: -O2 29,230, -O2 -flto 28,540, -O3 29,230, with a profile 28,800, with profile and -flto 27,890. Of our own
# 6,260 -flto saves 11 %, both save 21 %.
LTO = ["-flto"]
LINK_TIME_OPTIMISED = ("release", "profiled")
DEBUG = ["-O1", "-g", "-fno-omit-frame-pointer", "-DCD_DEBUG", "-UNDEBUG"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
# flavour: compiler flags, linker flags
FLAVOURS = {
    "release": ([*RELEASE, *FORTIFY], STRIPPED),
    "instrumented": (
        [*RELEASE, *FORTIFY, "-fprofile-generate", "-fprofile-update=prefer-atomic"],
        ["-fprofile-generate"],
    ),
    "profiled": ([*RELEASE, *FORTIFY, *PROFILED], STRIPPED),
    "debug": ([*DEBUG, *FORTIFY], []),
    "asan": ([*DEBUG, *SANITIZERS], SANITIZERS),
    "coverage": ([*DEBUG, "-O0", "--coverage"], ["--coverage"]),
}


def switch(name: str) -> bool:
    return os.environ.get(name, "") not in ("", "0", "false", "no")


def flavour() -> str:
    if switch("CD_SANITIZE"):
        return "asan"
    if switch("CD_COVERAGE"):
        return "coverage"
    if switch("CD_DEBUG"):
        return "debug"
    profile = os.environ.get("CD_PROFILE", "")
    if profile and profile != "generate":
        return "profiled"
    return "instrumented" if profile else "release"


def counted(objects: str) -> dict[str, Path]:
    """{last three parts of an object's path: its counters} below CD_PROFILE, for the same platform and libraries.

    Three parts, because llhttp lies elsewhere in an sdist than in the tree.
    """
    if flavour() != "profiled":
        return {}
    folder = trained(Path(os.environ["CD_PROFILE"]), os.path.basename(objects))
    found = {profile_key(path): path for path in sorted(folder.rglob("*.gcda"))}
    if not found:
        raise SystemExit(
            f"cdaphne: CD_PROFILE: no counters (*.gcda) below {folder}: run `make pgo`"
        )
    return found


def trained(profile: Path, name: str) -> Path:
    """The folder of counters for those objects; another Python's where this one was not trained.

    gcc leaves out the functions that Python's headers make differ, and csrc/core has none of those.
    """
    if not (profile / name).is_dir():
        for other in sorted(profile.glob(re.sub(r"-cpython-\d+\w*", "-cpython-*", name))):
            return other
    return profile / name


def profile_key(path: str | Path) -> tuple[str, ...]:
    return Path(path).with_suffix("").parts[-3:]


def version() -> str:
    text = (ROOT / "pyasgi" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__(?:: \w+)? = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        raise SystemExit('cdaphne: pyasgi/__init__.py has no line __version__ = "..."')
    return found[1]


EMPTY = "int main(void) { return 0; }"


class Probe:
    """Ask the compiler, before it is let loose on our files, whether what they need is there."""

    def __init__(self, compiler: list[str], python_includes: list[str]) -> None:
        self.compiler = compiler
        self.python_includes = [f"-I{path}" for path in python_includes]

    def missing(self, libraries: tuple[Library, ...]) -> list[tuple[str, str]]:
        """Return (what, Debian package) for each thing that is not there."""
        if not self.links(EMPTY, []):
            return [(f"a working C compiler ({self.compiler[0]})", "build-essential")]
        absent = [
            (f"{lib.name} >= {lib.minimum} ({lib.header})", lib.debian)
            for lib in libraries
            if not self.has(lib)
        ]
        if not self.links(
            "#include <Python.h>\nint main(void) { return 0; }", self.python_includes
        ):
            absent.append(("Python's headers (Python.h)", "python3-dev"))
        return absent

    def has(self, library: Library) -> bool:
        condition = f"#if !({library.check})\n#error too old\n#endif"
        program = f"#include <{library.header}>\n{condition}\nint main(void) {{ return 0; }}"
        return self.links(program, library_flags(library))

    def links(self, program: str, flags: list[str]) -> bool:
        with tempfile.TemporaryDirectory() as scratch:
            source = Path(scratch, "probe.c")
            source.write_text(program)
            command = [*self.compiler, str(source), "-o", str(source.with_suffix("")), *flags]
            try:
                return subprocess.run(command, capture_output=True).returncode == 0
            except OSError:
                return False


def own_libraries() -> Path | None:
    """The folder that CD_LIBRARIES names; None: the system's libraries are meant."""
    named = os.environ.get("CD_LIBRARIES", "system")
    if named in ("", "system"):
        return None
    folder = Path(named).resolve()
    if lacking := libraries.missing(folder):
        raise SystemExit(
            f"cdaphne: CD_LIBRARIES: {folder} has no {lacking}: run python scripts/libraries.py"
        )
    return folder


def own_flags(folder: Path) -> tuple[list[str], list[str]]:
    """Python's modules have libraries of the same names in the process: no symbol of ours may leave the extension."""
    table = libraries.TABLE
    compiling = [f"-isystem{library.folder(folder) / library.include}" for library in table]
    archives = [
        str(library.folder(folder) / name) for library in table for name in library.archives
    ]
    return compiling, [*archives, "-Wl,--exclude-libs,ALL", "-ldl", "-pthread"]


def library_flags(library: Library) -> list[str]:
    if library.pkg_config and shutil.which("pkg-config"):
        wanted = f"{library.pkg_config} >= {library.minimum}"
        command = ["pkg-config", "--cflags", "--libs", wanted]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            return done.stdout.split()
    return list(library.link)


def all_flags() -> tuple[list[str], list[str]]:
    """Return (compiler flags, linker flags) of the libraries together."""
    if folder := own_libraries():
        return own_flags(folder)
    flags = [flag for library in LIBRARIES for flag in library_flags(library)]
    compiling = [flag for flag in flags if flag.startswith(("-I", "-D"))]
    return compiling, [flag for flag in flags if flag not in compiling]


class BuildCore(build_ext):
    """build_ext that probes first, gives llhttp flags of its own and compiles on all cores."""

    def finalize_options(self) -> None:
        super().finalize_options()
        # An editable install would compile into a throw-away folder; objects are worth keeping.
        tag = f"{sysconfig.get_platform()}-{sys.implementation.cache_tag}{sys.abiflags}"
        if own_libraries():
            tag += f"-own-{hashlib.sha256(repr(libraries.TABLE).encode()).hexdigest()[:8]}"
        self.build_temp = os.path.join("build", flavour(), f"temp.{tag}")

    def build_extension(self, ext: Extension) -> None:
        self.stop_unless_complete()
        try:
            llhttp = fetch_llhttp.locate(ROOT)
        except fetch_llhttp.LlhttpError as error:
            raise SystemExit(f"cdaphne: {error}") from None
        library_compile, library_link = all_flags()
        compile_flags, link_flags = FLAVOURS[flavour()]
        if flavour() in LINK_TIME_OPTIMISED and self.probe().links(EMPTY, LTO):
            compile_flags, link_flags = [*compile_flags, *LTO], [*link_flags, "-O2", "-flto=auto"]
        common = [*LANGUAGE, *compile_flags, *library_compile]
        python = [f"-isystem{path}" for path in python_includes()]
        system = python + [f"-isystem{path}" for path in llhttp.include_dirs]
        ours = [*common, *WARNINGS, *system]
        # With a profile gcc warns of functions that the training never called.
        if (switch("CD_WERROR") or switch("CI")) and flavour() != "profiled":
            ours.append("-Werror")
        sources = list(ext.sources)
        theirs = [*common, "-w", *system]
        ext.extra_objects = self.compile_all(ext, sources, ours)
        ext.extra_objects += self.compile_all(ext, llhttp.sources, theirs)
        ext.extra_objects += self.compile_libraries(ext, theirs)
        ext.extra_link_args = [*link_flags, *hardening(), *library_link, *llhttp.link_args]
        ext.extra_link_args += ["-lm", *self.old_glibc()]
        ext.sources = []  # all compiled: what is left is the link
        self.force = True  # the file in place may be newer and yet of another flavour
        super().build_extension(ext)
        ext.sources = sources

    def stop_unless_complete(self) -> None:
        absent = self.probe().missing(() if own_libraries() else LIBRARIES)
        if absent:
            names = ", ".join(what for what, _ in absent)
            packages = " ".join(package for _, package in absent)
            raise SystemExit(
                f"cdaphne: not found: {names}. Install it with: apt-get install {packages}"
            )

    def probe(self) -> Probe:
        compiler = list(self.compiler.compiler)  # e.g. ["gcc", "-pthread", ...]
        return Probe(compiler, python_includes())

    def compile_libraries(self, ext: Extension, flags: list[str]) -> list[str]:
        folder = own_libraries()
        return [
            made
            for library in libraries.TABLE
            if folder
            for made in self.compile_all(
                ext, library.files(folder), [*flags, *(f"-D{name}" for name in library.defines)]
            )
        ]

    def old_glibc(self) -> list[str]:
        wanted = os.environ.get("CD_GLIBC", "")
        if not wanted:
            return []
        compiler = [self.compiler.compiler[0]]
        return glibc.link_flags(
            compiler, wanted, Path(self.build_temp, f"glibc-{wanted}").resolve()
        )

    def compile_all(self, ext: Extension, sources: list[str], flags: list[str]) -> list[str]:
        profile = counted(self.build_temp)

        def compile_one(source: str) -> str:
            (made,) = self.compiler.object_filenames([inside(source)], output_dir=self.build_temp)
            if counters := profile.get(profile_key(made)):
                # gcc looks for them beside the object and nowhere else.
                os.makedirs(os.path.dirname(made), exist_ok=True)
                shutil.copy(counters, Path(made).with_suffix(".gcda"))
            if self.force or stale(made, [source, *ext.depends]):
                self.compiler.compile(
                    [inside(source)],
                    self.build_temp,
                    ext.define_macros,
                    ext.include_dirs,
                    extra_postargs=flags,
                )
            return str(made)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(compile_one, sources))


def python_includes() -> list[str]:
    paths = (sysconfig.get_path("include"), sysconfig.get_path("platinclude"))
    return list(dict.fromkeys(paths))


def hardening() -> list[str]:
    return ["-Wl,-z,relro", "-Wl,-z,now"] if sys.platform.startswith("linux") else []


def inside(path: str) -> str:
    """Relative to the project where it can be: the object's path is made from it."""
    return os.path.relpath(path, ROOT) if Path(path).resolve().is_relative_to(ROOT) else path


def stale(made: str, sources: list[str]) -> bool:
    if not os.path.exists(made):
        return True
    return any(os.path.getmtime(source) > os.path.getmtime(made) for source in sources)


class Build(build):
    """build below build/<flavour>, from a clean copy: a module removed here must leave the wheel too."""

    def initialize_options(self) -> None:
        super().initialize_options()
        self.build_base = os.path.join("build", flavour())

    def run(self) -> None:
        if os.path.isdir(self.build_lib):
            shutil.rmtree(self.build_lib)
        super().run()


class Wheel(bdist_wheel):
    """bdist_wheel that adds the licence of everything in the extension, and a list of it (PEP 770)."""

    def write_wheelfile(self, wheelfile_base: str, *args: str, **kwargs: str) -> None:
        super().write_wheelfile(wheelfile_base, *args, **kwargs)
        licences = Path(wheelfile_base, "licenses")
        licences.mkdir(exist_ok=True)
        llhttp = fetch_llhttp.locate(ROOT)
        if folder := llhttp.directory:  # None: the system's library
            if not (folder / "LICENSE").is_file():
                raise SystemExit(f"cdaphne: {folder} has no LICENSE, which a wheel has to carry")
            shutil.copy(folder / "LICENSE", licences / "LICENSE.llhttp")
        own = own_libraries()
        for library in libraries.TABLE if own else ():
            licence = library.folder(own) / library.licence_file
            shutil.copy(licence, licences / f"LICENSE.{library.name.lower()}")
        sboms = Path(wheelfile_base, "sboms")
        sboms.mkdir(exist_ok=True)
        text = libraries.sbom(version(), own=own is not None, llhttp=llhttp)
        (sboms / "cdaphne.cdx.json").write_text(text)


class Sdist(sdist):
    """sdist that carries llhttp with its licence, so that building from it needs no network."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        super().make_release_tree(base_dir, files)
        carried = Path(base_dir, "third_party", "llhttp")
        shutil.copytree(fetch_llhttp.bundled(ROOT), carried, dirs_exist_ok=True)
        # At the top as well, where people look for licences.
        shutil.copy(carried / "LICENSE", Path(base_dir, "LICENSE.llhttp"))


def core() -> Extension:
    def paths(pattern: str) -> list[str]:
        return sorted(str(path.relative_to(ROOT)) for path in (ROOT / "csrc").glob(pattern))

    return Extension(
        "pyasgi._core",
        sources=paths("core/*/*.c") + paths("bridge/*.c") + paths("bridge/*/*.c"),
        depends=[*paths("**/*.h"), *paths("**/*.def"), "pyasgi/__init__.py", "setup.py"],
        include_dirs=["csrc", "csrc/core"],
        define_macros=[("CD_VERSION", f'"{version()}"')],
    )


if __name__ == "__main__":
    os.chdir(ROOT)
    setup(
        version=version(),
        long_description=pypi_readme.text(ROOT),
        long_description_content_type="text/x-rst",
        ext_modules=[core()],
        cmdclass={
            "bdist_wheel": Wheel,
            "build": Build,
            "build_ext": BuildCore,
            "sdist": Sdist,
        },
    )
