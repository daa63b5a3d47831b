"""What pip and an operator see: archives, licences, one version, one line when something is missing."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.support.programs import ROOT

BUILT = ("pyasgi", "csrc", "scripts", "examples")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, so that a build leaves nothing in the tree; llhttp is the one at hand."""
    copy = tmp_path_factory.mktemp("project")
    ignore = shutil.ignore_patterns("__pycache__", "*.so", "*.sqlite3")
    for name in BUILT:
        shutil.copytree(ROOT / name, copy / name, ignore=ignore)
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy2(path, copy)
    (copy / "tests").mkdir()
    if (ROOT / "build" / "llhttp").is_dir():
        shutil.copytree(ROOT / "build" / "llhttp", copy / "build" / "llhttp")
    return copy


def run(*command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = {name: value for name, value in os.environ.items() if not name.startswith("CD_")}
    settings |= {"PYTHONWARNINGS": "ignore", **environment}
    settings.pop("LD_PRELOAD", None)
    return subprocess.run(command, cwd=cwd, env=settings, capture_output=True, text=True)


def no_network() -> list[str]:
    """A prefix that runs a command without any network, where this user may."""
    unshare = shutil.which("unshare")
    if unshare and subprocess.run([unshare, "-rn", "true"], capture_output=True).returncode == 0:
        return [unshare, "-rn"]
    return []


@pytest.fixture(scope="module")
def sdist(project: Path) -> Path:
    made = run(sys.executable, "-m", "build", "--sdist", "--no-isolation", cwd=project)
    assert made.returncode == 0, made.stdout + made.stderr
    (archive,) = (project / "dist").glob("*.tar.gz")
    return archive


def members(archive: Path) -> set[str]:
    with tarfile.open(archive) as tar:
        return {name.partition("/")[2] for name in tar.getnames()}


def test_the_sdist_carries_llhttp_with_its_licence(sdist: Path) -> None:
    names = members(sdist)
    llhttp = {"src/api.c", "src/http.c", "src/llhttp.c", "include/llhttp.h", "LICENSE"}
    assert {f"third_party/llhttp/{name}" for name in llhttp} <= names
    assert {"LICENSE", "LICENSE.llhttp", "setup.py", "scripts/fetch_llhttp.py"} <= names


def test_the_sdist_carries_every_source_and_no_build(sdist: Path) -> None:
    names = members(sdist)
    ours = {
        str(p.relative_to(ROOT))
        for p in (ROOT / "csrc").rglob("*")
        if p.suffix in {".c", ".h", ".def"}
    }
    ours |= {str(p.relative_to(ROOT)) for p in (ROOT / "pyasgi").rglob("*.py")}
    assert ours <= names
    assert not [name for name in names if name.endswith((".so", ".o", ".pyc", ".sqlite3"))]
    assert not [name for name in names if name.startswith(("build/", "dist/"))]


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made from the sdist, without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(["tar", "-xzf", str(sdist), "-C", str(folder)], check=True)
    (source,) = folder.iterdir()
    options = ["--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", str(folder)]
    pip = [sys.executable, "-m", "pip", "wheel", *options, str(source)]
    # An index that cannot be reached as well, for where `unshare` may not be used.
    made = run(*no_network(), *pip, cwd=folder, PIP_INDEX_URL="http://127.0.0.1:9/")
    assert made.returncode == 0, made.stdout + made.stderr
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture
def site(wheel: Path, tmp_path: Path) -> Path:
    """A folder with what is in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    return tmp_path / "site"


def licences(wheel: Path) -> set[str]:
    names = zipfile.ZipFile(wheel).namelist()
    return {Path(name).name for name in names if "/licenses/" in name}


@pytest.mark.timeout(300)
def test_a_wheel_from_the_sdist_needs_no_network(wheel: Path, site: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert [name for name in names if re.fullmatch(r"pyasgi/_core\..*\.so", name)]
    assert "pyasgi/py.typed" in names
    assert licences(wheel) == {"LICENSE", "LICENSE.llhttp"}
    question = "import pyasgi._core as c, pyasgi; print(pyasgi.__version__, hasattr(c, 'debug_live'), c.__file__)"
    said = run(sys.executable, "-c", question, cwd=site, PYTHONPATH=str(site))
    assert said.returncode == 0, said.stderr
    version, debug, where = said.stdout.split()
    assert version == installed_version()
    assert debug == "False", "the wheel is a debug build"
    assert where.startswith(str(site))


@pytest.mark.timeout(300)
def test_a_wheel_from_the_tree_has_every_licence(project: Path, tmp_path: Path) -> None:
    """As pip makes one of a git checkout, without an sdist in between."""
    made = run(
        sys.executable, "setup.py", "-q", "bdist_wheel", "--dist-dir", str(tmp_path), cwd=project
    )
    assert made.returncode == 0, made.stdout + made.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert licences(wheel) == {"LICENSE", "LICENSE.llhttp"}


def extension(site: Path) -> Path:
    (found,) = (site / "pyasgi").glob("_core.*.so")
    return found


@pytest.mark.timeout(300)
def test_a_release_is_stripped(site: Path) -> None:
    told = run("readelf", "--sections", "--wide", str(extension(site)), cwd=site)
    assert ".text" in told.stdout
    assert ".symtab" not in told.stdout and ".debug_info" not in told.stdout


@pytest.mark.timeout(300)
def test_a_missing_library_of_a_wheel_is_one_line(site: Path) -> None:
    """As on a machine without libev4: the loader looks for a file that is not there."""
    binary = extension(site)
    binary.write_bytes(binary.read_bytes().replace(b"libev.so.4", b"libev.so.9"))
    line = (
        "the shared library libev.so.9 is missing, which the C extension is linked with;"
        " install it: apt-get install libev4\n"
    )
    for argument in ("--version", "--help", "module:app"):
        done = run(sys.executable, "-m", "pyasgi", argument, cwd=site.parent, PYTHONPATH=str(site))
        assert (done.returncode, done.stdout, done.stderr) == (1, "", f"cdaphne: {line}")
    for module in ("server", "loop", "tls"):
        command = ("-c", f"import pyasgi.{module}")
        done = run(sys.executable, *command, cwd=site.parent, PYTHONPATH=str(site))
        assert done.stderr.endswith(f"\nImportError: {line}")
    binary.unlink()
    command = ("-S", "-m", "pyasgi")  # -S: the environment of the tests has an extension, too
    done = run(sys.executable, *command, cwd=site.parent, PYTHONPATH=str(site))
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("cdaphne: the C extension pyasgi._core is missing, or made for")


def installed_version() -> str:
    import pyasgi

    version: str = pyasgi.__version__
    return version


def test_the_version_stands_in_one_place() -> None:
    version = installed_version()
    assert importlib.metadata.version("cdaphne") == version
    others = [ROOT / name for name in ("setup.py", "pyproject.toml")]
    others += [p for p in (ROOT / "csrc").rglob("*") if p.suffix in {".c", ".h", ".def"}]
    assert [str(p) for p in others if f'"{version}"' in p.read_text()] == []


def test_asgiref_is_the_only_dependency() -> None:
    wanted = importlib.metadata.requires("cdaphne") or []
    assert [r for r in wanted if "extra ==" not in r] == ["asgiref>=3.8"]


def test_the_console_script_and_the_module_are_one_program() -> None:
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="cdaphne")
    assert script.value == "pyasgi.cli:main"
    told = run(sys.executable, "-m", "pyasgi", "--version", cwd=ROOT)
    assert told.returncode == 0, told.stderr
    assert installed_version() in told.stdout


def build_ext(project: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return run(
        sys.executable, "setup.py", "-q", "build_ext", "--inplace", cwd=project, **environment
    )


@pytest.mark.timeout(300)  # builds the extension twice
def test_a_profile_is_counted_and_used(project: Path) -> None:
    """The two halves of `make pgo`, with no more training than an import."""
    counted = build_ext(project, CD_PROFILE="generate")
    assert counted.returncode == 0, counted.stderr
    command = [sys.executable, "-c", "import pyasgi._core as c; print(c.__file__)"]
    done = run(*command, cwd=project)
    assert done.returncode == 0 and str(project) in done.stdout, done.stdout + done.stderr
    profile = project / "build" / "instrumented"
    assert list(profile.rglob("loop.gcda")), "the extension leaves its counters when Python ends"
    used = build_ext(project, CD_PROFILE=str(profile))
    assert used.returncode == 0, used.stderr
    done = run(*command, cwd=project)
    assert done.returncode == 0, done.stderr


def test_a_missing_profile_is_one_line(project: Path, tmp_path: Path) -> None:
    done = build_ext(project, CD_PROFILE=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("cdaphne: CD_PROFILE: no counters (*.gcda) below ")
    assert done.stderr.endswith(": run `make pgo`\n") and done.stderr.count("\n") == 1


def hidden(header: str, folder: Path) -> str:
    """A compiler for which the header is not there: its own folder is searched first."""
    (folder / header).parent.mkdir(exist_ok=True)
    (folder / header).write_text("#error hidden by the test\n")
    compiler = folder / "cc"
    compiler.write_text(f'#!/bin/sh\nexec gcc -I{folder} "$@"\n')
    compiler.chmod(0o755)
    return str(compiler)


@pytest.mark.parametrize(
    ("header", "what", "package"),
    [
        ("ev.h", "libev >= 4.33 (ev.h)", "libev-dev"),
        ("openssl/ssl.h", "OpenSSL >= 3.0 (openssl/ssl.h)", "libssl-dev"),
        ("nghttp2/nghttp2.h", "nghttp2 >= 1.52 (nghttp2/nghttp2.h)", "libnghttp2-dev"),
        ("zlib.h", "zlib >= 1.2.11 (zlib.h)", "zlib1g-dev"),
        ("Python.h", "Python's headers (Python.h)", "python3-dev"),
    ],
)
def test_a_missing_library_is_one_line(
    project: Path, tmp_path: Path, header: str, what: str, package: str
) -> None:
    done = build_ext(project, CC=hidden(header, tmp_path))
    assert done.returncode == 1
    line = f"cdaphne: not found: {what}. Install it with: apt-get install {package}\n"
    assert done.stderr == line


def test_an_old_library_is_one_line(project: Path, tmp_path: Path) -> None:
    compiler = hidden("ev.h", tmp_path)
    (tmp_path / "ev.h").write_text("#define EV_VERSION_MAJOR 4\n#define EV_VERSION_MINOR 11\n")
    done = build_ext(project, CC=compiler)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "libev >= 4.33" in done.stderr


def test_a_missing_compiler_is_one_line(project: Path) -> None:
    done = build_ext(project, CC="/nonexistent/cc")
    assert done.returncode == 1
    assert done.stderr == (
        "cdaphne: not found: a working C compiler (/nonexistent/cc). "
        "Install it with: apt-get install build-essential\n"
    )


def test_llhttp_dir_is_checked(project: Path, tmp_path: Path) -> None:
    done = build_ext(project, LLHTTP_DIR=str(tmp_path))
    assert done.returncode == 1
    assert (
        done.stderr
        == f"cdaphne: LLHTTP_DIR: {tmp_path} is no llhttp release: it has no src/api.c\n"
    )


def test_an_old_llhttp_is_refused(project: Path, tmp_path: Path) -> None:
    shutil.copytree(bundled_llhttp(project), tmp_path / "llhttp")
    header = tmp_path / "llhttp" / "include" / "llhttp.h"
    header.write_text(re.sub(r"(VERSION_MAJOR) \d+", r"\1 8", header.read_text()))
    done = build_ext(project, LLHTTP_DIR=str(tmp_path / "llhttp"))
    assert done.returncode == 1
    assert done.stderr.endswith("9.3 or newer is needed\n")
    assert done.stderr.count("\n") == 1


def bundled_llhttp(project: Path) -> Path:
    sys.path.insert(0, str(project / "scripts"))
    try:
        import fetch_llhttp
    finally:
        sys.path.pop(0)
    directory: Path = fetch_llhttp.bundled(project)
    return directory


def test_an_altered_archive_is_not_used(project: Path, tmp_path: Path) -> None:
    """pip offers an archive of the right name and the wrong content: nothing is unpacked."""
    offered = tmp_path / "offered"
    offered.mkdir()
    with tarfile.open(offered / "httptools-0.9.0.tar.gz", "w:gz") as tar:
        tar.add(project / "LICENSE", "httptools-0.9.0/vendor/llhttp/LICENSE")
    root = tmp_path / "root"
    (root / "scripts").mkdir(parents=True)
    shutil.copy(project / "scripts" / "fetch_llhttp.py", root / "scripts")
    settings = {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(offered),
        "PIP_NO_CACHE_DIR": "1",
        "LLHTTP_DIR": "",
    }
    script = "import fetch_llhttp, pathlib; fetch_llhttp.bundled(pathlib.Path('..'))"
    done = run(sys.executable, "-c", script, cwd=root / "scripts", **settings)
    assert done.returncode != 0
    assert "LlhttpError: llhttp: pip could not download httptools==0.9.0" in done.stderr
    assert not (root / "build" / "llhttp").exists()


def test_setup_system_does_nothing_when_all_is_there(tmp_path: Path) -> None:
    """Without network and with an apt-get that must not be called."""
    (tmp_path / "apt-get").write_text("#!/bin/sh\necho called >&2\nexit 9\n")
    (tmp_path / "apt-get").chmod(0o755)
    (tmp_path / "dpkg-query").write_text("#!/bin/sh\nprintf installed\n")
    (tmp_path / "dpkg-query").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = run("scripts/setup-system.sh", "build", "test", "browser", cwd=ROOT, PATH=path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_setup_system_installs_the_first_alternative_there_is(tmp_path: Path) -> None:
    tools = {
        "apt-get": 'case "$*" in *install*) echo "$*" >>"$LOG";; esac',
        "apt-cache": 'if [ "$2" = bbb ]; then echo "Filename: x"; fi',
        "dpkg-query": 'case "$*" in *ccc*) printf installed;; *) exit 1;; esac',
        "id": "echo 0",
        "tee": "cat >/dev/null",
        "chmod": ":",
    }
    for name, text in tools.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    shutil.copy(ROOT / "scripts" / "setup-system.sh", tmp_path)
    (tmp_path / "packages.txt").write_text("[one]\naaa | bbb\nccc\n\n[two]\nddd\n")
    log = tmp_path / "log"
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = run(str(tmp_path / "setup-system.sh"), "one", cwd=tmp_path, PATH=path, LOG=str(log))
    assert done.returncode == 0, done.stderr
    assert log.read_text().rstrip().endswith("install bbb")


def test_setup_system_names_an_unknown_section() -> None:
    done = run("scripts/setup-system.sh", "nosuch", cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr == "setup-system.sh: packages.txt has no section [nosuch]\n"


def test_make_lists_its_verbs() -> None:
    listed = run("make", cwd=ROOT).stdout
    verbs = set(re.findall(r"^make ([a-z-]+) +\S", listed, re.MULTILINE))
    wanted = "help run test test-c test-py test-browser test-pythons lint fmt debug asan fuzz bench build clean dist"
    assert set(wanted.split()) <= verbs
