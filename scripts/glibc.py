"""Link against an older glibc than the one of this machine, with this machine's compiler.

A symbol of glibc carries the version in which it last changed, and the linker takes the newest there
is: an extension that is linked on Debian 12 asks for fstat64 of glibc 2.33 and does not load with 2.28.
The newer library has all older versions still, so what an old one offers can be read from it: for every
symbol the newest version that is not newer than the one aimed at.  From that list this makes shared
libraries without any code, which nothing but the linker sees.  The compiler, link-time optimisation and
the profile stay what they are.

What an old glibc does not have at all stays undefined, which auditwheel and the tests find, but for
SUPPLIED: before 2.33 stat() and its kin were functions in a static part of glibc, over one entry point
that is there to this day.

setup.py calls this where CD_GLIBC is set and this machine's glibc is newer.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

# The soname that a symbol had in old releases, by how its name begins; the new libraries have those
# names and versions too, with nothing in them.
OLD_HOMES = (
    ("libpthread.so.0", re.compile(r"pthread_|sem_")),
    ("libdl.so.2", re.compile(r"dl(open|sym|vsym|close|error|addr|info|mopen)")),
)
LIBC = "libc.so.6"
LIBM = "libm.so.6"
# The first argument of __xstat and its kin: the layout of the kernel's struct.
STAT_VERSIONS = {"x86_64": 1, "aarch64": 0}
SUPPLIED = """
struct {tag};
int {entry}(int version, {type} file, struct {tag} *into);
__attribute__((visibility("hidden"))) int {name}({type} file, struct {tag} *into)
{{
    return {entry}({version}, file, into);
}}
"""
SUPPLIED_NAMES = [
    (name + bits, entry + bits, f"stat{bits}", kind)
    for bits in ("", "64")
    for name, entry, kind in (
        ("stat", "__xstat", "const char *"),
        ("fstat", "__fxstat", "int"),
        ("lstat", "__lxstat", "const char *"),
    )
]
SYMBOL = re.compile(
    r"^ *\d+: [0-9a-f]+ +(?P<size>\w+) (?P<type>FUNC|IFUNC|OBJECT|TLS) +(?:GLOBAL|WEAK|UNIQUE) +DEFAULT +"
    r"(?!UND)\w+ (?P<name>[^@\s]+)@@?(?P<version>GLIBC_(?P<number>[0-9.]+))$",
    re.MULTILINE,
)


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def found(compiler: list[str], name: str) -> Path:
    """The shared library that the compiler links with, which is another machine's when it is a cross compiler."""
    return Path(output(*compiler, f"-print-file-name={name}").strip())


def symbols(library: Path) -> list[dict[str, str]]:
    listed = output("readelf", "--dyn-syms", "--wide", str(library))
    return [match.groupdict() for match in SYMBOL.finditer(listed)]


def newest(listed: Iterable[dict[str, str]], target: str) -> list[dict[str, str]]:
    """Of each symbol the version that glibc `target` has for those who link with it."""
    best: dict[str, dict[str, str]] = {}
    for symbol in listed:
        number = numbers(symbol["number"])
        before = best.get(symbol["name"])
        if number <= numbers(target) and (not before or numbers(before["number"]) < number):
            best[symbol["name"]] = symbol
    return list(best.values())


def is_newer(compiler: list[str], target: str) -> bool:
    return any(
        numbers(symbol["number"]) > numbers(target) for symbol in symbols(found(compiler, LIBC))
    )


def link_flags(compiler: list[str], target: str, folder: Path) -> list[str]:
    """What makes the linker take glibc `target`; empty where this machine's is no newer."""
    if not is_newer(compiler, target):
        return []
    folder.mkdir(parents=True, exist_ok=True)
    machine = output(*compiler, "-dumpmachine").partition("-")[0]
    loader = f"ld-linux-{machine.replace('_', '-')}.so.{1 if machine == 'aarch64' else 2}"
    homes: dict[str, list[dict[str, str]]] = {}
    for library in (LIBC, LIBM, loader):
        for symbol in newest(symbols(found(compiler, library)), target):
            homes.setdefault(home(symbol["name"], library), []).append(symbol)
    for soname, listed in homes.items():
        stub(compiler, folder, soname, listed)
    supplied = supply(compiler, folder, STAT_VERSIONS[machine])
    # atexit() and pthread_atfork() are in a static part of every release.
    static = found(compiler, "libc_nonshared.a")
    others = " ".join(soname for soname in homes if soname not in (LIBC, LIBM))
    script(folder, "c", f"GROUP({supplied} {LIBC} {static} AS_NEEDED({others}))")
    for name in ("m", "pthread", "dl"):
        (soname,) = (soname for soname in homes if soname.startswith(f"lib{name}."))
        script(folder, name, f"INPUT(AS_NEEDED({soname}))")
    return [f"-L{folder}"]


def home(name: str, library: str) -> str:
    """The old library that a symbol of a new one was in."""
    moved = (old for old, names in OLD_HOMES if library == LIBC and names.match(name))
    return next(moved, library)


def script(folder: Path, name: str, text: str) -> None:
    """What -lNAME finds."""
    (folder / f"lib{name}.so").write_text(f"{text}\n")


def stub(compiler: list[str], folder: Path, soname: str, listed: list[dict[str, str]]) -> None:
    """A shared library with these names and versions, all at address zero of an empty section."""
    lines = [".text"]
    for index, symbol in enumerate(listed):
        local, kind = f"symbol{index}", "function"
        if symbol["type"] in ("OBJECT", "TLS"):
            kind = "object" if symbol["type"] == "OBJECT" else "tls_object"
        lines += [
            f".globl {local}",
            f".type {local}, %{kind}",
            f".size {local}, {int(symbol['size'], 0)}",
        ]
        lines += [f"{local}:", f".symver {local}, {symbol['name']}@@{symbol['version']}"]
    source = folder / f"{soname}.s"
    source.write_text("\n".join([*lines, ""]))
    versions = sorted({symbol["version"] for symbol in listed}, key=lambda name: numbers(name[6:]))
    script = folder / f"{soname}.map"
    script.write_text(
        "".join(f"{version} {{ }};\n" for version in versions) + "HIDDEN { local: symbol*; };\n"
    )
    options = ["-shared", "-nostdlib", f"-Wl,-soname,{soname}", f"-Wl,--version-script,{script}"]
    output(*compiler, *options, str(source), "-o", str(folder / soname))


def supply(compiler: list[str], folder: Path, version: int) -> str:
    text = "".join(
        SUPPLIED.format(name=name, entry=entry, tag=tag, type=kind, version=version)
        for name, entry, tag, kind in SUPPLIED_NAMES
    )
    source = folder / "supplied.c"
    source.write_text(text)
    output(
        *compiler,
        "-O2",
        "-fPIC",
        "-fno-builtin",
        "-c",
        str(source),
        "-o",
        str(folder / "supplied.o"),
    )
    return "supplied.o"
