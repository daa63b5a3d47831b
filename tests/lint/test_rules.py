"""The tree keeps the rules of the house; and every rule can be broken, so that keeping it means something."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load_rules() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "lint_rules", Path(__file__).with_name("rules.py")
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


rules = load_rules()
Rule = Callable[[Path], list[str]]
OPENING = "/*\n" + " * why\n" * 8 + " */\n"


@pytest.mark.parametrize("rule", rules.SOURCE_RULES, ids=lambda rule: rule.__name__)
def test_the_source_keeps(rule: Rule) -> None:
    assert not rules.complete(ROOT), "\n".join(rules.complete(ROOT))
    wrong = rule(ROOT)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("rule", rules.HISTORY_RULES, ids=lambda rule: rule.__name__)
def test_the_history_keeps(rule: Rule) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    wrong = rule(ROOT)
    assert not wrong, "\n".join(wrong)


def body(lines: int) -> str:
    return "{\n" + "    work();\n" * lines + "}\n"


def function(name: str, lines: int = 1, before: str = "") -> str:
    return f"{before}static int {name}(void)\n{body(lines)}\n"


# rule: files that keep it, files that break it
EXAMPLES: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "core_without_python": (
        {"core/net/a.c": "#include <stdio.h>\n"},
        {"core/net/a.c": "#include <Python.h>\n"},
    ),
    "bridge_without_sockets": (
        {"bridge/a.c": "#include <Python.h>\n"},
        {"bridge/a.c": "#include <Python.h>\n#include <sys/socket.h>\n"},
    ),
    "one_seam": (
        {"bridge/a.h": "", "bridge/a.c": '#include "bridge/a.h"\n#include "cdaphne.h"\n'},
        {"bridge/a.c": '#include "net/conn.h"\n', "core/net/conn.h": ""},
    ),
    "function_length": (
        {"core/net/a.c": function("f", 80)},
        {"core/net/a.c": function("f", 81)},
    ),
    "function_sizes": (
        {"core/net/a.c": function("f", 8) + function("g", 8) + function("h", 20)},
        {"core/net/a.c": function("f", 9) + function("g", 9) + function("h", 1)},
    ),
    "banned_calls": (
        {"core/net/a.c": '/* sprintf( */\nchar *s = "strcpy(";\nint x = cd_gets(1);\n'},
        {"core/net/a.c": function("f").replace("work()", "strcpy (a, b)")},
    ),
    "exports_named": (
        {"core/net/a.h": "int cd_a(void);\n", "core/net/a.c": f"int cd_a(void)\n{body(1)}"},
        {"core/net/a.h": "int other(void);\n", "core/net/a.c": f"int other(void)\n{body(1)}"},
    ),
    "protocol_exports": (
        {"core/ws/ws.c": "\n".join(f"int cd_{n}(void)\n{body(1)}" for n in range(6))},
        {"core/ws/ws.c": "\n".join(f"int cd_{n}(void)\n{body(1)}" for n in range(7))},
    ),
    "opening_comments": (
        {"core/net/a.c": OPENING + function("f")},
        {"core/net/a.c": "/* too short */\n" + function("f")},
    ),
    "comment_ends": (
        {
            "core/net/a.c": "/*\n * why\n */\n/* why\n * so */\nint a; /* b */\n",
            "core/net/b.c": 'char *s = "/* why";\n/* so */\n',
        },
        {"core/net/a.c": "/* why so\n */\n"},
    ),
    "own_header_first": (
        {"core/net/a.h": "", "core/net/a.c": '#include "net/a.h"\n#include <stdio.h>\n'},
        {"core/net/a.h": "", "core/net/a.c": '#include <stdio.h>\n#include "net/a.h"\n'},
    ),
    "layers": (
        {"core/base/a.h": "", "core/net/a.c": '#include "base/a.h"\n'},
        {"core/net/a.h": "", "core/base/a.c": '#include "net/a.h"\n'},
    ),
    "halves": (
        {
            "bridge/asgi/a.c": f"int cdpy_a(void)\n{body(1)}",
            "bridge/loop/b.c": "/* cdpy_a */\n",
        },
        {
            "bridge/asgi/a.c": f"int cdpy_a(void)\n{body(1)}",
            "bridge/loop/b.c": "int b = cdpy_a();\n",
        },
    ),
    "one_dialect": (
        {"core/net/a.c": "int f(void)\n{\n    int a = 1;\n    g(a);\n\n    h(a);\n}\n"},
        {"core/net/a.c": "int f(void)\n{\n    int a = 1;\n\n    g(a);\n    h(a);\n}\n"},
    ),
    "exports_used": (
        {"core/net/a.c": f"int cd_a(void)\n{body(1)}", "core/ws/b.c": "int b = cd_a();\n"},
        {"core/net/a.c": f"int cd_a(void)\n{body(1)}", "core/ws/b.c": "/* cd_a */\n"},
    ),
    "python_length": (
        {"pyasgi/a.py": "def f():\n" + "    work()\n" * rules.LONGEST_PYTHON},
        {"pyasgi/a.py": "def f():\n" + "    work()\n" * (rules.LONGEST_PYTHON + 1)},
    ),
    "rooms": (
        {"tests/http/test_a.py": "", "tests/support/a.py": ""},
        {"tests/test_a.py": "", "tests/http/test_a.py": ""},
    ),
    "tests_apart": (
        {"tests/http/test_a.py": "from tests.support.a import f\nfrom tests import support\n"},
        {"tests/http/test_a.py": "def f():\n    from tests.ws.test_b import g\n"},
    ),
}


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name if name.startswith(("pyasgi/", "tests/")) else root / "csrc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_every_rule_has_an_example() -> None:
    assert set(EXAMPLES) == {rule.__name__ for rule in rules.SOURCE_RULES}


@pytest.mark.parametrize("rule", rules.SOURCE_RULES, ids=lambda rule: rule.__name__)
def test_a_rule_can_be_kept_and_broken(rule: Rule, tmp_path: Path) -> None:
    good, bad = EXAMPLES[rule.__name__]
    assert rule(tree(tmp_path / "good", good)) == []
    assert len(rule(tree(tmp_path / "bad", bad))) == 1


def test_a_call_upwards_is_seen(tmp_path: Path) -> None:
    files = {
        "core/server/a.c": f"int cd_a(void)\n{body(1)}",
        "core/loop/b.c": "\nint b = cd_a();\n",
    }
    (wrong,) = rules.layers(tree(tmp_path, files))
    assert wrong == "csrc/core/loop/b.c:2: cd_a is of server, a floor above"


@pytest.mark.parametrize("place", ["core/a.c", "core/nowhere/a.c", "core/net/deep/a.c"])
def test_a_file_on_no_floor_is_seen(place: str, tmp_path: Path) -> None:
    wrong = rules.complete(tree(tmp_path, {place: "int a;\n"}))
    assert f"csrc/{place}:1: lies on no floor" in wrong[0]


def test_a_rule_that_sees_too_little_is_seen(tmp_path: Path) -> None:
    wrong = rules.complete(tree(tmp_path, {"core/net/a.c": "int a;\n"}))
    assert [line.split(":")[0] for line in wrong] == ["csrc/core", "csrc/bridge", "pyasgi", "tests"]


@pytest.mark.parametrize("place", ["test_a.py", "nowhere/test_a.py", "http/deep/test_a.py"])
def test_a_test_module_in_no_room_is_seen(place: str, tmp_path: Path) -> None:
    (wrong,) = rules.rooms(tree(tmp_path, {f"tests/{place}": ""}))
    assert wrong.startswith(f"tests/{place}:1: lies in no room")


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("import tests.ws.test_b", "tests.ws.test_b"),
        ("from tests.ws import test_b", "tests.ws.test_b"),
        ("from .test_b import f", "tests.test_b.f"),
        ("from tests.conftest import ROOT", "tests.conftest.ROOT"),
        ("from tests.browser import conftest", "tests.browser.conftest"),
    ],
)
def test_an_import_of_a_test_module_is_seen(line: str, name: str, tmp_path: Path) -> None:
    wrong = rules.tests_apart(tree(tmp_path, {"tests/apps/a.py": f"\n{line}\n"}))
    assert wrong == [f"tests/apps/a.py:2: imports {name}; what is shared goes to tests/support"]


def test_an_export_without_a_header(tmp_path: Path) -> None:
    (wrong,) = rules.exports_named(tree(tmp_path, {"core/net/a.c": f"int cd_a(void)\n{body(1)}"}))
    assert wrong == "csrc/core/net/a.c:1: cd_a is exported but in no header"


def test_a_long_function_may_say_why(tmp_path: Path) -> None:
    text = function("f", 99, "/* exempt: one switch over the states of RFC 9112 */\n")
    assert rules.function_length(tree(tmp_path, {"core/net/a.c": text})) == []


def test_functions_are_found(tmp_path: Path) -> None:
    path = tmp_path / "a.c"
    path.write_text(
        "struct s {\n    int x;\n};\n\n"
        "static const int t[] = {1,\n 2};\n\n"
        "/* why\n * so */\n"
        f"static int first(int a,\n                 int b)\n{body(3)}\n"
        f"__attribute__((format(printf, 1, 2))) void cd_second(const char *f, ...)\n{body(2)}\n"
        f"#ifdef X\nint cd_third(void)\n{body(1)}#endif\n"
    )
    found = [(f.name, f.static, f.length, f.line) for f in rules.functions(path)]
    assert found == [
        ("first", True, 3, 10),
        ("cd_second", False, 2, 18),
        ("cd_third", False, 1, 25),
    ]
    assert "why" in next(iter(rules.functions(path))).comment


def git(root: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=n", "-c", "user.email=n@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "text", "count"),
    [
        ("csrc/core/net/a.c", "int x;\n", 0),
        ("third_party/a.c", "int x;\n", 1),
        ("static/page.min.js", "x()\n", 1),
        ("csrc/core/net/a.c", "/* Copy" + "right (c) Somebody Else */\n", 1),
    ],
)
def test_foreign_code_is_seen(repository: Path, name: str, text: str, count: int) -> None:
    path = repository / name
    path.parent.mkdir(parents=True)
    path.write_text(text)
    git(repository, "add", ".")
    assert len(rules.nothing_foreign(repository)) == count


@pytest.mark.parametrize(
    ("subject", "count"),
    [
        ("core: parse the head", 0),
        ("core, bridge: hand the head over", 0),
        ("parse the head", 1),
        ("core: " + "x" * 55, 1),
    ],
)
def test_subjects_are_checked(repository: Path, subject: str, count: int) -> None:
    git(repository, "commit", "-q", "--allow-empty", "-m", "root: start")
    git(repository, "commit", "-q", "--allow-empty", "-m", subject)
    assert len(rules.commit_subjects(repository)) == count


@pytest.mark.parametrize(
    ("subject", "body", "count"),
    [
        ("core: parse the head", "x" * 72, 0),
        ("core: embed the head", "https://example.org/" + "x" * 72, 0),
        ("core: bring the head", "", 0),
        ("core: process the head", "", 0),
        ("core: adds the head", "", 1),
        ("core: added the head", "", 1),
        ("core: adding the head", "", 1),
        ("core: the head is parsed", "", 1),
        ("core: a head", "", 1),
        ("tests: extensions' events", "", 1),
        ("core: parse the head", "word " * 15, 1),
        ("core: heads", "word " * 15 + "\nshort\n" + "word " * 15, 3),
    ],
)
def test_words_of_commits_are_checked(
    repository: Path, subject: str, body: str, count: int
) -> None:
    git(repository, "commit", "-q", "--allow-empty", "-m", "root: the start, nobody looks")
    git(repository, "tag", "base")
    git(repository, "commit", "-q", "--allow-empty", "-m", subject, "-m", body)
    assert len(rules.commit_words(repository, "base")) == count
    assert len(rules.commit_words(repository, "0" * 40)) == count + 1
