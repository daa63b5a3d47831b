"""Run the parts of `make test` and add up what they counted.

    python scripts/tests.py             all parts
    python scripts/tests.py c py        only these

Every part runs even when an earlier one failed. The last line is "N passed, N failed", summed over
the parts (", N skipped" follows if there are any); the exit status is 1 when a test failed, when a
part broke off, and when a part ran no test at all.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
SUPPORTED = ("3.11", "3.12", "3.13", "3.14")
REQUIREMENTS = "examples/devops/requirements.txt"
ASAN_TREE = BUILD / "asan" / "tree"
LIBRARIES_TREE = BUILD / "own" / "tree"
# One C test program: seconds before it counts as hanging.
PROGRAM_SECONDS = 600
# A whole part; pytest has a time limit for each test of its own.
PART_SECONDS = 1800
# Tests wait more than they compute, so there is one more at a time than there are cores.
SPREAD = ["-n", str((os.cpu_count() or 1) + 1), "--dist", "worksteal"]
NO_BROWSER = [*SPREAD, "-m", "not browser and not docs", "--ignore=tests/lint", "tests"]
# What depends on the version of Python: its C API, its event loop, its processes, argparse and Django. What is on the
# wire comes from the core, which has never heard of Python, and is the same under all of them.
OF_PYTHON = [*SPREAD, *(f"tests/{room}" for room in "asgi cli django loop process".split())]
SERVER = [*SPREAD, "-m", "server and not browser", "--ignore=tests/lint", "tests"]
# Whatever reaches one of the libraries that a wheel carries.
LIBRARIES_FILES = [
    f"tests/{name}.py"
    for name in (
        "project/test_libraries project/test_wheels tls/test_tls tls/test_tls_settings http/test_http2 "
        "ws/test_ws_deflate loop/test_loop_tls proxy/test_proxy_protocol asgi/test_asgi_extensions"
    ).split()
]
# The C of pyasgi.loop, which no server has to run for.
LOOP_FILES = [f"tests/loop/test_loop_{name}.py" for name in "connect same tls".split()]
ASAN_OPTIONS = "abort_on_error=1:detect_stack_use_after_return=1:strict_string_checks=1"
UBSAN_OPTIONS = "print_stacktrace=1:halt_on_error=1"


@dataclass
class Tally:
    """What a part counted; `broken` says in words why it is no success although no test failed."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    broken: str = ""

    def add(self, other: Tally) -> None:
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.broken = self.broken or other.broken

    @property
    def good(self) -> bool:
        return not self.failed and not self.broken


def run(command: list[str], seconds: int = PART_SECONDS, cwd: Path = ROOT, **extra: str) -> int:
    """Run to the end with our stdout; return the exit status, 124 when the time was up."""
    print(f"$ {' '.join(command)}", flush=True)
    environment = {**os.environ, **extra}
    with subprocess.Popen(command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL) as process:
        return wait(process, seconds)


def wait(process: subprocess.Popen[bytes], seconds: int) -> int:
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        print(f"time is up after {seconds} s", flush=True)
        process.kill()
        process.wait()
        return 124


def part_lint() -> Tally:
    """Each tool counts as one test, each rule of the house as one more."""
    tally = Tally()
    for target in ("lint-c", "lint-python", "lint-types", "lint-words"):
        if run(["make", "--no-print-directory", target]) == 0:
            tally.passed += 1
        else:
            tally.failed += 1
    tally.add(pytest("lint", ["--confcutdir=tests/lint", "tests/lint"]))
    return tally


def part_c() -> Tally:
    """The C test programs under ASan and UBSan, then the fuzz targets on their stored inputs."""
    make = ["make", "--no-print-directory", "-f", "scripts/ctests.mk", f"PYTHON={sys.executable}"]
    built = run([*make, f"-j{os.cpu_count() or 1}", "-k", "programs"]) == 0
    listing = subprocess.run([*make, "list"], cwd=ROOT, check=True, capture_output=True, text=True)
    tally = Tally()
    for name in listing.stdout.split():
        # After a failed build a program may be an old one: make -q knows.
        current = built or subprocess.run([*make, "-q", name], cwd=ROOT).returncode == 0
        tally.add(
            c_program(ROOT / name) if current else Tally(failed=1, broken=f"{name}: no build")
        )
    return tally


def part_tsan() -> Tally:
    """What several threads call of the core, under ThreadSanitizer."""
    make = ["make", "--no-print-directory", "-f", "scripts/ctests.mk", f"PYTHON={sys.executable}"]
    programs = [f"build/tsan/bin/test_{name}" for name in ("threads", "loop")]
    if run([*make, f"-j{os.cpu_count() or 1}", "VARIANT=tsan", *programs]) != 0:
        return Tally(failed=1, broken="no build under ThreadSanitizer")
    tally = Tally()
    for name in programs:
        # The sanitizer cannot live with an address space that is as random as newer kernels make it.
        tally.add(unit_test(ROOT / name, "setarch", "-R"))
    return tally


def c_program(program: Path) -> Tally:
    target = program.name.removeprefix("fuzz_")
    return unit_test(program) if target == program.name else replay(program, target)


def unit_test(program: Path, *prefix: str) -> Tally:
    """Run one; its last line is its own count."""
    status, text = captured([*prefix, str(program)])
    tally = counted(text)
    if tally is None or (status != 0 and tally.failed == 0):
        tally = Tally(failed=1, broken=f"{program.name} broke off with status {status}")
    elif tally.passed + tally.failed == 0:
        tally.broken = f"{program.name} ran no test"
    if tally.good:
        print(f"{program.name}: {tally.passed} passed")
    else:
        print(f"{program.name}:\n{text}")
    return tally


def counted(text: str) -> Tally | None:
    lines = text.strip().splitlines()
    found = (
        re.fullmatch(r"(?:\w+: )?(\d+) passed, (\d+) failed", lines[-1].strip()) if lines else None
    )
    return Tally(int(found[1]), int(found[2])) if found else None


def replay(program: Path, target: str) -> Tally:
    """Feed a fuzz target its corpus and every input that once broke it: one test."""
    folders = [ROOT / "tests" / "fuzz" / kind / target for kind in ("corpus", "regression")]
    inputs = [
        str(path) for folder in folders for path in sorted(folder.glob("*")) if path.is_file()
    ]
    if not inputs:
        return Tally(failed=1, broken=f"tests/fuzz/corpus/{target} is empty")
    status, text = captured([str(program), *inputs], FUZZ_VERBOSE="1")
    print(f"fuzz target {target}: {len(inputs)} inputs, exit status {status}", flush=True)
    if status == 0:
        return Tally(passed=1)
    print(text[-8000:])
    return Tally(failed=1)


def captured(command: list[str], **extra: str) -> tuple[int, str]:
    """(exit status, output) of a program under the sanitizers; status 124 when the time was up."""
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=sanitized(**extra),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        try:
            output, _ = process.communicate(timeout=PROGRAM_SECONDS)
            status = process.returncode
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
            status = 124
    return status, output.decode(errors="replace")


def sanitized(**extra: str) -> dict[str, str]:
    return {**os.environ, "ASAN_OPTIONS": ASAN_OPTIONS, "UBSAN_OPTIONS": UBSAN_OPTIONS, **extra}


def part_py() -> Tally:
    return pytest("py", NO_BROWSER)


def part_example() -> Tally:
    """Django's own tests of examples/devops."""
    command = [sys.executable, "manage.py", "test", "--no-color"]
    done = subprocess.run(
        command,
        cwd=ROOT / "examples" / "devops",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=PROGRAM_SECONDS,
        text=True,
    )
    print(done.stdout, flush=True)
    return from_unittest(done.stdout, done.returncode)


def from_unittest(text: str, status: int) -> Tally:
    ran = re.search(r"^Ran (\d+) tests? in", text, re.MULTILINE)
    if ran is None:
        return Tally(failed=1, broken=f"manage.py test broke off with status {status}")
    outcome = dict(re.findall(r"(failures|errors|skipped)=(\d+)", text[ran.end() :]))
    failed = int(outcome.get("failures", 0)) + int(outcome.get("errors", 0))
    skipped = int(outcome.get("skipped", 0))
    tally = Tally(int(ran[1]) - failed - skipped, failed, skipped)
    if status != 0 and not failed:
        tally.broken = f"manage.py test ended with status {status}"
    return tally


def part_asyncio() -> Tally:
    """Everything that starts the server, with asyncio's own checks switched on in it."""
    return pytest("asyncio", SERVER, PYTHONASYNCIODEBUG="1")


def part_asan() -> Tally:
    """The same with the extension under ASan, from a copy of the tree that holds that extension."""
    if not built_tree(ASAN_TREE, CD_SANITIZE="1"):
        return Tally(failed=1, broken="the extension does not build under ASan")
    library = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], check=True, capture_output=True, text=True
    ).stdout.strip()
    environment = sanitized(LD_PRELOAD=library, PYTHONMALLOC="malloc")
    environment["ASAN_OPTIONS"] += ":detect_leaks=0"
    tally = Tally()
    for name, selection in (("asan", SERVER), ("asan-loop", [*SPREAD, *LOOP_FILES])):
        arguments = ["-o", "timeout=180", *selection]
        tally.add(from_tree(name, ASAN_TREE, arguments, **environment))
    return tally


def part_libraries() -> Tally:
    """What the libraries have to do with once more, with those of wheels in the extension."""
    made = subprocess.run(
        [sys.executable, "scripts/libraries.py"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    own = made.stdout.strip()
    if made.returncode != 0 or not built_tree(LIBRARIES_TREE, CD_DEBUG="1", CD_LIBRARIES=own):
        return Tally(failed=1, broken="no extension with libraries of its own")
    return from_tree("libraries", LIBRARIES_TREE, [*SPREAD, *LIBRARIES_FILES], CD_LIBRARIES=own)


def from_tree(name: str, tree: Path, arguments: list[str], **extra: str) -> Tally:
    """pytest in a copy of the tree, after a look whether its extension is the one that is used."""
    environment = {**os.environ, **extra, "PYTHONPATH": str(tree)}
    proof = "import pyasgi._core as core; print(core.__file__)"
    where = subprocess.run(
        [sys.executable, "-c", proof],
        cwd=tree,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    if not where.stdout.startswith(str(tree)):
        return Tally(failed=1, broken=f"the {name} run would use {where.stdout.strip()}")
    return pytest(name, arguments, tree, **environment)


def built_tree(tree: Path, **switches: str) -> bool:
    """Copy what the tests need, with the extension built in place there; False when it does not build."""
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    ignore = shutil.ignore_patterns("__pycache__", "*.so", "node_modules")
    for name in ("pyasgi", "tests", "examples", "csrc", "scripts", "benchmarks"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=ignore)
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy2(path, tree)
    build = [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", str(tree)]
    return run(build, **switches) == 0


def part_docs() -> Tally:
    """The documentation builds without a warning; what was built is looked at."""
    return pytest("docs", ["-m", "docs", "tests/docs"])


def part_browser() -> Tally:
    return pytest("browser", ["-m", "browser", "-o", "timeout=300", "tests"])


def pytest(
    name: str, arguments: list[str], cwd: Path = ROOT, python: str = sys.executable, **extra: str
) -> Tally:
    report = BUILD / "reports" / f"{name}.xml"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    command = [
        python,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"--junitxml={report}",
        *arguments,
    ]
    print(f"$ {' '.join(command)}", flush=True)
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **extra}
    with subprocess.Popen(command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL) as process:
        status = wait(process, PART_SECONDS)
    if not report.exists():
        return Tally(failed=1, broken=f"pytest broke off with status {status}")
    tally = from_junit(report)
    if status not in (0, 1) and tally.good:
        tally.broken = f"pytest ended with status {status}"
    return tally


def from_junit(report: Path) -> Tally:
    tally = Tally()
    for suite in ElementTree.parse(report).getroot().iter("testsuite"):
        count = {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")}
        failed = count["failures"] + count["errors"]
        tally.add(
            Tally(max(count["tests"] - failed - count["skipped"], 0), failed, count["skipped"])
        )
    return tally


def part_pythons() -> Tally:
    """What depends on the version of Python, on every other one of this machine, each in an environment of its own."""
    tally = Tally()
    for version, interpreter in other_pythons().items():
        venv = ROOT / f".venv-{version}"
        python = str(venv / "bin" / "python")
        commands = [
            [interpreter, "-m", "venv", str(venv)],
            [
                python,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--editable",
                ".[test]",
                "-r",
                REQUIREMENTS,
            ],
            [python, "setup.py", "-q", "build_ext", "--inplace"],
        ]
        if any(run(command, CD_DEBUG="1") != 0 for command in commands):
            tally.add(Tally(failed=1, broken=f"no environment for Python {version}"))
            continue
        tally.add(pytest(f"py-{version}", OF_PYTHON, python=python))
    return tally


def other_pythons() -> dict[str, str]:
    """version: path, for each supported Python that answers; pyenv's shims only do for the chosen ones."""
    found: dict[str, str] = {}
    for version in SUPPORTED:
        candidates = [Path(shutil.which(f"python{version}") or "/nonexistent")]
        candidates += sorted(
            Path.home().glob(f".pyenv/versions/{version}.*/bin/python"), reverse=True
        )
        answering = [
            str(path) for path in candidates if path.exists() and answers(str(path), version)
        ]
        if answering and version != ".".join(map(str, sys.version_info[:2])):
            found[version] = answering[0]
    return found


def answers(interpreter: str, version: str) -> bool:
    question = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([interpreter, "-c", question], capture_output=True, text=True)
    return done.stdout.strip() == version


PARTS: dict[str, Callable[[], Tally]] = {
    "lint": part_lint,
    "c": part_c,
    "tsan": part_tsan,
    "py": part_py,
    "example": part_example,
    "asyncio": part_asyncio,
    "asan": part_asan,
    "libraries": part_libraries,
    "docs": part_docs,
    "browser": part_browser,
    "pythons": part_pythons,
}


def default_parts() -> list[str]:
    """All of them; a machine with one Python has no others to test with."""
    return [name for name in PARTS if name != "pythons" or other_pythons()]


def run_part(name: str) -> tuple[Tally, float]:
    print(f"\n==== {name}", flush=True)
    started = time.monotonic()
    tally = PARTS[name]()
    if not tally.broken and tally.passed + tally.failed == 0:
        tally.broken = "ran no test"
    return tally, time.monotonic() - started


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        print(f"tests.py: no part {unknown[0]!r}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    total = Tally()
    lines = []
    for name in names or default_parts():
        tally, seconds = run_part(name)
        total.add(tally)
        total.failed += bool(tally.broken and not tally.failed)
        text = f"{tally.passed} passed, {tally.failed} failed, {tally.skipped} skipped"
        lines.append(f"{name:8} {text}, {seconds:.0f} s {tally.broken}".rstrip())
    print("\n====", *lines, sep="\n")
    skipped = f", {total.skipped} skipped" if total.skipped else ""
    print(f"{total.passed} passed, {total.failed} failed{skipped}")
    return 0 if total.good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
