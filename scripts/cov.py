"""Measure which lines of the C and Python code the tests run: `make cov`.

    python scripts/cov.py                    the C programs and the tests that start the server
    python scripts/cov.py tests/ws           the C programs and these tests

The C core is counted twice: in the programs of tests/c, and inside the extension while the server serves. The pages
with every line are build/cov/c/index.html and build/cov/python/index.html; the sums are printed. A process that ends
by os._exit() writes no counters, so a few lines of the end of a process count as not run although they are.
"""

from __future__ import annotations

import os
import shutil
import sys

from tests import BUILD, ROOT, SERVER, built_tree, captured, run

TREE = BUILD / "coverage" / "tree"
REPORT = BUILD / "cov"
SETTINGS = """\
[run]
source = pyasgi
parallel = true
patch = subprocess
data_file = {report}/data

[report]
omit = */_core.pyi
"""


def c_programs() -> bool:
    """The programs of tests/c with counters, each run once."""
    make = ["make", "--no-print-directory", "-f", "scripts/ctests.mk", f"PYTHON={sys.executable}"]
    if run([*make, "VARIANT=ccov", f"-j{os.cpu_count() or 1}", "programs"]) != 0:
        return False
    programs = sorted((BUILD / "ccov" / "bin").glob("test_*"))
    failed = [program.name for program in programs if captured([str(program)])[0] != 0]
    if failed:
        print(f"failed: {', '.join(failed)}")
    return not failed


def server_tests(selection: list[str]) -> bool:
    """The Python tests with an extension that counts, in a copy of the tree."""
    if not built_tree(TREE, CD_COVERAGE="1"):
        return False
    settings = REPORT / "settings"
    settings.write_text(SETTINGS.format(report=REPORT))
    coverage = [sys.executable, "-m", "coverage"]
    options = ["--rcfile", str(settings)]
    tests = ["-m", "pytest", "-q", "-p", "no:cacheprovider", *selection]
    environment = {"PYTHONPATH": str(TREE), "CD_COVERAGE": "1"}
    passed = run([*coverage, "run", *options, *tests], cwd=TREE, **environment) == 0
    steps = (["combine", "-q"], ["report", "--skip-covered"], ["html", "-q", f"-d{REPORT}/python"])
    for step in steps:
        passed = run([*coverage, step[0], *options, *step[1:]], cwd=TREE) == 0 and passed
    return passed


def c_report() -> bool:
    """One report of the counters of both runs."""
    (REPORT / "c").mkdir()
    command = [sys.executable, "-m", "gcovr", "--root", str(ROOT), "--filter", "csrc/"]
    command += ["--print-summary", f"--html-details={REPORT}/c/index.html"]
    return run([*command, str(BUILD / "ccov"), str(BUILD / "coverage")]) == 0


def main(arguments: list[str]) -> int:
    shutil.rmtree(REPORT, ignore_errors=True)
    REPORT.mkdir(parents=True)
    good = [c_programs(), server_tests(arguments or SERVER), c_report()]
    print(f"see {REPORT}/c/index.html and {REPORT}/python/index.html")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
