"""The rules of the house that a program can check, each a function from a tree to its violations.

A tree is a folder with csrc/ below it, so that test_rules.py can give every rule a tree that breaks
it. A violation is one line, "file:line: what". `python tests/lint/rules.py` prints the figures that
the rules of size are about.
"""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LONGEST = 80
MEDIAN = 8
P90 = 20
LONGEST_PYTHON = 60
# What a rule must have looked at before its silence means anything: C files of a layer, modules.
LEAST_FILES = {"core": 50, "bridge": 25}
LEAST_MODULES = 25
LEAST_TESTS = 60
# The folders of tests/ that have test modules of Python.
ROOMS = "asgi http ws tls loop proxy cli process django parity browser docs project lint".split()
# The floors of the core: a folder includes and calls itself and the folders that stand before it.
FLOORS = "base loop net tls proxy log http ws http2 http1 server".split()
# What only the tests call.
FOR_TESTS = {"cd_alloc_fail_at", "cd_alloc_live", "cd_ws_code_on_wire"}
# Files that speak a protocol, and how many functions each may export.
PROTOCOL_EXPORTS = {"http1.c": 6, "http2.c": 6, "ws.c": 6}
OPENING_LINES = range(8, 26)
BANNED = (
    "strcpy strcat sprintf vsprintf gets strtok strtok_r atoi atol atoll atof alloca strncpy strncat scanf sscanf "
    "tmpnam mktemp rand srand system popen"
).split()
# What the bridge must not know of: sockets, the event library, the protocols' libraries. It may poll
# descriptors of asyncio's, which are none of the core's business.
BRIDGE_FOREIGN = re.compile(
    r"sys/(socket|un|uio|sendfile)\.h|netinet/|arpa/|netdb\.h|ev\.h|llhttp\.h|openssl/|nghttp2/|zlib\.h"
)
SEAM = {"cdaphne.h", "limits.def", "options.def"}
SUBJECT = re.compile(r"[a-z0-9][\w./+-]*(, [a-z0-9][\w./+-]*)*: \S.*")
SUBJECT_LENGTH = 60
# The last commit whose words nobody looked at: what comes after it has imperatives and narrow bodies.
WORDS_SINCE = "8fdcce78111a3e724dc7e42bfe14dd0a88d4b571"
BODY_WIDTH = 72
NO_IMPERATIVE = set(
    "a an the no this that these those it its all every each some any one two who whose what which when where how why "
    "if in on at of for from with without by to as they and or but not is are was were will can must should more less "
    "fewer nothing nobody everything new made wrote did gave took went came said told kept left had been got".split()
)
# Imperatives that end like a past, a gerund or a third person.
IMPERATIVE = set(
    "add embed feed need seed shed shred speed exceed proceed succeed bring ping ring sing string swing bias alias "
    "canvas focus".split()
)
# Names that third-party code comes under, and notices it comes with.
FOREIGN_PATH = re.compile(
    r"(^|/)(third_party|vendor|vendored|node_modules|llhttp|nghttp2|libev)(/|$)|\.min\.(js|css)$"
)
FOREIGN_NOTICE = re.compile(r"copyright\s+(\(c\)|©|\d{4})", re.IGNORECASE)
CODE_SUFFIXES = {".c", ".h", ".py", ".js", ".css", ".def", ".sh", ".html"}


@dataclass(frozen=True)
class Function:
    """A function of a C file: `length` counts the lines between its braces, `comment` is what stands before it."""

    path: Path
    line: int
    name: str
    static: bool
    length: int
    comment: str


def c_files(tree: Path, *layers: str) -> list[Path]:
    return [path for layer in layers for path in sources(tree, layer) if path.suffix == ".c"]


def sources(tree: Path, layer: str) -> list[Path]:
    """C files and headers of a layer, however deep; of "." only what lies in csrc itself."""
    folder = tree / "csrc" / layer
    found = folder.glob("*") if layer == "." else folder.rglob("*")
    return sorted(path for path in found if path.suffix in (".c", ".h", ".def"))


def modules(tree: Path) -> list[Path]:
    """Modules of the package."""
    return sorted((tree / "pyasgi").rglob("*.py"))


def test_modules(tree: Path) -> list[Path]:
    return sorted((tree / "tests").rglob("test_*.py"))


def complete(tree: Path) -> list[str]:
    """Every file lies where the build and the rules look for it, and there are as many as there should be."""
    wrong = [
        at(tree, path, 1, f"lies on no floor; the folders of csrc/core are {' '.join(FLOORS)}")
        for path in sources(tree, "core")
        if path.parent.parent != tree / "csrc" / "core" or path.parent.name not in FLOORS
    ]
    for layer, least in LEAST_FILES.items():
        count = len(c_files(tree, layer))
        if count < least:
            wrong.append(f"csrc/{layer}: the rules see {count} C files; there are {least} or more")
    if len(modules(tree)) < LEAST_MODULES:
        wrong.append(f"pyasgi: the rules see {len(modules(tree))} modules")
    if len(test_modules(tree)) < LEAST_TESTS:
        wrong.append(f"tests: the rules see {len(test_modules(tree))} test modules")
    return wrong


def blank(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match[0])


def code_only(text: str) -> str:
    """The text with comments and the inside of literals made blank; lines and columns stay."""
    return re.sub(
        r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'',
        blank,
        text,
        flags=re.DOTALL,
    )


def functions(path: Path) -> Iterator[Function]:
    """Functions by the layout that clang-format gives them: braces alone in the first column."""
    text = path.read_text()
    lines, code = text.split("\n"), code_only(text).split("\n")
    opened = 0
    for number, line in enumerate(code):
        if line.rstrip() == "{":
            opened = number
        elif line.rstrip() == "}" and opened:
            first = signature_start(code, opened)
            signature = " ".join(code[first:opened])
            yield Function(
                path,
                first + 1,
                function_name(signature),
                re.search(r"\bstatic\b", signature) is not None,
                number - opened - 1,
                comment_before(lines, first),
            )
            opened = 0


def signature_start(code: list[str], brace: int) -> int:
    first = brace
    while (
        first > 0
        and re.match(r"[^\s#}]|\s+\S", code[first - 1])
        and not code[first - 1].rstrip().endswith((";", "}"))
    ):
        first -= 1
    return first


def function_name(signature: str) -> str:
    bare = re.sub(
        r"__attribute__\s*\(\(.*?\)\)|\b[A-Z][A-Z0-9_]*\([^()]*\)(?=\s+\w)", " ", signature
    )
    found = re.search(r"(\w+)\s*\(", bare)
    return found[1] if found else "?"


def comment_before(lines: list[str], first: int) -> str:
    start = first
    while start > 0 and lines[start - 1].lstrip().startswith(("/*", "*", "//")):
        start -= 1
    return "\n".join(lines[start:first])


def at(tree: Path, path: Path, line: int, what: str) -> str:
    return f"{path.relative_to(tree)}:{line}: {what}"


def includes(path: Path) -> Iterator[tuple[int, str, str]]:
    """(line, '<' or '"', name) of every #include."""
    for number, line in enumerate(path.read_text().split("\n"), 1):
        found = re.match(r'\s*#\s*include\s+([<"])([^>"]+)[>"]', line)
        if found:
            yield number, found[1], found[2]


def core_without_python(tree: Path) -> list[str]:
    files = [*sources(tree, "core"), *sources(tree, ".")]
    return [
        at(tree, path, line, f"{name} in a file that must build without Python")
        for path in files
        for line, _, name in includes(path)
        if name == "Python.h" or name.startswith("bridge/")
    ]


def bridge_without_sockets(tree: Path) -> list[str]:
    return [
        at(tree, path, line, f"{name} is the core's business")
        for path in sources(tree, "bridge")
        for line, _, name in includes(path)
        if BRIDGE_FOREIGN.match(name)
    ]


def one_seam(tree: Path) -> list[str]:
    """The bridge includes its own headers and the seam."""
    own = {str(path.relative_to(tree / "csrc")) for path in sources(tree, "bridge")} | SEAM
    return [
        at(
            tree,
            path,
            line,
            f"{name} is no header of the bridge; only {' and '.join(sorted(SEAM))} are shared",
        )
        for path in sources(tree, "bridge")
        for line, kind, name in includes(path)
        if kind == '"' and name not in own
    ]


def function_length(tree: Path) -> list[str]:
    """80 lines, unless the comment before the function says why it is exempt."""
    return [
        at(tree, f.path, f.line, f"{f.name} has {f.length} lines; {LONGEST} at most")
        for path in c_files(tree, "core", "bridge")
        for f in functions(path)
        if f.length > LONGEST and not re.search(r"exempt: \S.{19,}", f.comment.replace("\n", " "))
    ]


def lengths(tree: Path) -> list[int]:
    return sorted(f.length for path in c_files(tree, "core", "bridge") for f in functions(path))


def percentile(ordered: list[int], share: float) -> int:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def function_sizes(tree: Path) -> list[str]:
    ordered = lengths(tree)
    if not ordered:
        return []
    median, p90 = statistics.median(ordered), percentile(ordered, 0.9)
    wrong = []
    if median > MEDIAN:
        wrong.append(f"csrc: the median function has {median:g} lines; {MEDIAN} at most")
    if p90 > P90:
        wrong.append(f"csrc: one function in ten has {p90} lines or more; {P90} at most")
    return wrong


def banned_calls(tree: Path) -> list[str]:
    pattern = re.compile(rf"(?<![\w.>])({'|'.join(BANNED)})\s*\(")
    return [
        at(tree, path, number, f"{found[1]}() is banned")
        for layer in ("core", "bridge", ".")
        for path in sources(tree, layer)
        for number, line in enumerate(code_only(path.read_text()).split("\n"), 1)
        for found in pattern.finditer(line)
    ]


def exported(path: Path) -> list[Function]:
    return [f for f in functions(path) if not f.static]


def declared(tree: Path, layer: str) -> str:
    headers = [
        path for where in (layer, ".") for path in sources(tree, where) if path.suffix != ".c"
    ]
    return "\n".join(code_only(path.read_text()) for path in headers)


def exports_named(tree: Path) -> list[str]:
    """What crosses a file says whose it is, and stands in a header."""
    wrong = []
    for layer, prefix in (("core", r"cd_"), ("bridge", r"cdpy_|PyInit__core$")):
        headers = declared(tree, layer)
        for f in (f for path in c_files(tree, layer) for f in exported(path)):
            if not re.match(prefix, f.name):
                wrong.append(
                    at(tree, f.path, f.line, f"{f.name} is exported but not named {prefix}x")
                )
            elif not f.name.startswith("PyInit") and not re.search(rf"\b{f.name}\s*\(", headers):
                wrong.append(at(tree, f.path, f.line, f"{f.name} is exported but in no header"))
    return wrong


def protocol_exports(tree: Path) -> list[str]:
    wrong = []
    for name, most in PROTOCOL_EXPORTS.items():
        for path in (path for path in c_files(tree, "core") if path.name == name):
            names = [f.name for f in exported(path)]
            if len(names) > most:
                what = f"exports {len(names)} functions, {most} at most: {', '.join(names)}"
                wrong.append(at(tree, path, 1, what))
    return wrong


def layers(tree: Path) -> list[str]:
    """A folder of the core includes and calls only itself and the folders before it in FLOORS."""
    owners = {f.name: f.path for path in c_files(tree, "core") for f in exported(path)}
    wrong = []
    for path in sources(tree, "core"):
        for line, kind, name in includes(path):
            if kind == '"' and above(path.parent.name, name.split("/")[0]):
                wrong.append(at(tree, path, line, f"{name} is of a floor above {path.parent.name}"))
        for number, line in enumerate(code_only(path.read_text()).split("\n"), 1):
            for name in re.findall(r"\bcd_\w+", line):
                if name in owners and above(path.parent.name, owners[name].parent.name):
                    floor = owners[name].parent.name
                    wrong.append(at(tree, path, number, f"{name} is of {floor}, a floor above"))
    return wrong


def halves(tree: Path) -> list[str]:
    """The bridge's event loop knows nothing of its ASGI server; module.c alone knows both."""
    bridge = tree / "csrc" / "bridge"
    asgi = {f.name for path in c_files(tree, "bridge/asgi") for f in exported(path)}
    wrong = []
    for path in sources(tree, "bridge"):
        if path.is_relative_to(bridge / "asgi") or path.name == "module.c":
            continue
        for line, _, name in includes(path):
            if name.startswith("bridge/asgi/"):
                wrong.append(at(tree, path, line, f"{name} is of the ASGI server"))
        if path.suffix == ".c":
            wrong += [
                at(tree, path, number, f"{name} is of the ASGI server")
                for number, line in enumerate(code_only(path.read_text()).split("\n"), 1)
                for name in re.findall(r"\bcdpy_\w+", line)
                if name in asgi
            ]
    return wrong


# A declaration at the head of a block: a type, a name, and its end or its value.
DECLARATION = re.compile(
    r"\s+(?:static |const |unsigned |struct |enum )*[A-Za-z_]\w*(?: const)?"
    r"(?: \*+(?:const )?| )\**\w+(?:\[[^\]]*\])*(?:(?: =|,|;).*|)"
)
STATEMENT = re.compile(r"\s*(?:return|goto|if|else|for|while|do|switch|case|default)\b")


def one_dialect(tree: Path) -> list[str]:
    """No blank line stands behind the declarations of a block."""
    return [
        at(tree, path, number, "a blank line behind declarations")
        for path in c_files(tree, "core", "bridge")
        for number in blanks_behind_declarations(path.read_text())
    ]


def blanks_behind_declarations(text: str) -> Iterator[int]:
    heading = False
    lines = code_only(text).split("\n")
    blanks = [not line.strip() for line in text.split("\n")]
    for number, line in enumerate(lines, 1):
        if line.rstrip().endswith("{"):
            heading = True
        elif blanks[number - 1] and heading and lines[number - 2].rstrip().endswith(";"):
            yield number
        elif line.strip() and not declares(line):
            heading = False


def declares(line: str) -> bool:
    """Does the line declare something, or go on with it?"""
    if not line.startswith(" ") or STATEMENT.match(line):
        return False
    return not line.rstrip().endswith(";") or DECLARATION.fullmatch(line.rstrip()) is not None


def above(floor: str, other: str) -> bool:
    """Does the other folder stand after this one?"""
    return other in FLOORS and floor in FLOORS and FLOORS.index(other) > FLOORS.index(floor)


def exports_used(tree: Path) -> list[str]:
    """What no other file names need not be exported."""
    texts = {
        path: code_only(path.read_text())
        for path in [*sources(tree, "."), *sources(tree, "core"), *sources(tree, "bridge")]
        if path.suffix != ".h"
    }
    return [
        at(tree, f.path, f.line, f"{f.name} is exported, and no other file uses it")
        for path in c_files(tree, "core", "bridge")
        for f in exported(path)
        if f.name not in FOR_TESTS
        and not f.name.startswith("PyInit")
        and not any(re.search(rf"\b{f.name}\b", text) for p, text in texts.items() if p != path)
    ]


def python_length(tree: Path) -> list[str]:
    """Functions of the package, without their docstrings."""
    return [
        at(tree, path, line, f"{name} has {length} lines; {LONGEST_PYTHON} at most")
        for path in modules(tree)
        for line, name, length in python_functions(path)
        if length > LONGEST_PYTHON
    ]


def python_functions(path: Path) -> Iterator[tuple[int, str, int]]:
    """(line, name, lines of the body)."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) and node.body[1:] else node.body
            yield node.lineno, node.name, (body[-1].end_lineno or 0) - body[0].lineno + 1


def rooms(tree: Path) -> list[str]:
    """A test module lies in the folder of what it tests."""
    return [
        at(tree, path, 1, f"lies in no room; the folders of tests are {' '.join(ROOMS)}")
        for path in test_modules(tree)
        if path.parent.parent != tree / "tests" or path.parent.name not in ROOMS
    ]


def tests_apart(tree: Path) -> list[str]:
    """Nobody imports a test module or a conftest: what tests share lies in tests/support."""
    return [
        at(tree, path, line, f"imports {name}; what is shared goes to tests/support")
        for path in sorted((tree / "tests").rglob("*.py"))
        for line, name in python_imports(path)
        if name.startswith("tests.") and re.search(r"\.(test_\w+|conftest)(\.|$)", name)
    ]


def python_imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of all that is imported, wherever it stands; a name of a module goes with it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "tests." + (node.module or "") if node.level else node.module or ""
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def opening_comments(tree: Path) -> list[str]:
    wrong = []
    for path in c_files(tree, "core", "bridge"):
        found = re.match(r"/\*.*?\*/|(//[^\n]*\n)+", path.read_text(), re.DOTALL)
        count = len(found[0].strip().split("\n")) if found else 0
        if count not in OPENING_LINES:
            wrong.append(
                at(
                    tree,
                    path,
                    1,
                    f"opens with a comment of {count} lines; 8 to 25 say what it does and does not",
                )
            )
    return wrong


def comment_ends(tree: Path) -> list[str]:
    """A comment that begins with text ends behind text, and one behind code stays on its line."""
    return [
        at(tree, path, number, what)
        for folder in ("csrc", "tests/c", "benchmarks")
        for path in sorted((tree / folder).rglob("*.[ch]"))
        for number, what in ill_set_comments(path.read_text())
    ]


def ill_set_comments(text: str) -> Iterator[tuple[int, str]]:
    for comment in re.finditer(r"/\*.*?\*/", without_literals(text), re.DOTALL):
        first, *others = comment[0].split("\n")
        line_start = text.rfind("\n", 0, comment.start()) + 1
        number = text.count("\n", 0, comment.end()) + 1
        if others and text[line_start : comment.start()].strip():
            yield number, "a comment behind code goes on in the next line; put it before the code"
        elif others and first != "/*" and others[-1].strip() == "*/":
            yield number, "a lone */ ends a comment that began with text"


def without_literals(text: str) -> str:
    """The text with the inside of strings made blank, so that each /* is a comment's."""
    return re.sub(r'"(?:\\.|[^"\\\n])*"|/\*.*?\*/', keep_comment, text, flags=re.DOTALL)


def keep_comment(match: re.Match[str]) -> str:
    return match[0] if match[0].startswith("/*") else blank(match)


def own_header_first(tree: Path) -> list[str]:
    """conn.c includes conn.h first, so that conn.h is known to stand alone.

    Not in the bridge: there Python.h stands before everything.
    """
    wrong = []
    for path in c_files(tree, "core"):
        listed = list(includes(path))
        own = f"{path.parent.name}/{path.stem}.h"
        if path.with_suffix(".h").exists() and (not listed or listed[0][2] != own):
            wrong.append(
                at(
                    tree,
                    path,
                    listed[0][0] if listed else 1,
                    f"{own} is not included first",
                )
            )
    return wrong


def tracked(tree: Path) -> list[str]:
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=tree, check=True, capture_output=True, text=True
    )
    return [name for name in listing.stdout.split("\0") if name]


def nothing_foreign(tree: Path) -> list[str]:
    """Third-party code is fetched, never committed."""
    wrong = []
    for name in tracked(tree):
        path = tree / name
        if FOREIGN_PATH.search(name):
            wrong.append(f"{name}:1: looks like third-party code")
        elif (
            path.suffix in CODE_SUFFIXES
            and path.is_file()
            and FOREIGN_NOTICE.search(path.read_text(errors="replace"))
        ):
            wrong.append(f"{name}:1: carries a copyright notice; ours stands in LICENSE alone")
    return wrong


def commit_subjects(tree: Path) -> list[str]:
    """`area: what`, 60 characters at most, since the root. Merges are written by git."""
    log = subprocess.run(
        ["git", "log", "--no-merges", "--format=%h %s"],
        cwd=tree,
        check=True,
        capture_output=True,
        text=True,
    )
    wrong = []
    for line in log.stdout.splitlines():
        commit, _, subject = line.partition(" ")
        if len(subject) > SUBJECT_LENGTH:
            wrong.append(
                f"{commit}: subject of {len(subject)} characters, {SUBJECT_LENGTH} at most: {subject}"
            )
        elif not SUBJECT.fullmatch(subject):
            wrong.append(f"{commit}: subject is not 'area: what': {subject}")
    return wrong


def imperative(subject: str) -> bool:
    """Whether the first word behind the area may be one: "add", and not "adds", "added", "adding", "the"."""
    first = re.split(r"[\s,;:]", subject.partition(": ")[2], maxsplit=1)[0].lower()
    if first in IMPERATIVE:
        return True
    third = first.endswith(("s", "s'")) and not first.endswith("ss")
    return first not in NO_IMPERATIVE and not third and not first.endswith(("ed", "ing"))


def commit_words(tree: Path, since: str = WORDS_SINCE) -> list[str]:
    """Subjects after `since` are imperatives, and bodies are 72 columns wide; what cannot be broken may be wider.

    A history that has not got that commit is new as a whole.
    """
    known = subprocess.run(
        ["git", "merge-base", "--is-ancestor", since, "HEAD"], cwd=tree, capture_output=True
    )
    span = [f"{since}..HEAD"] if known.returncode == 0 else []
    log = subprocess.run(
        ["git", "log", "--no-merges", "-z", "--format=%h %B", *span],
        cwd=tree,
        check=True,
        capture_output=True,
        text=True,
    )
    return [wrong for text in log.stdout.split("\0") if text for wrong in words_of(text)]


def words_of(text: str) -> Iterator[str]:
    """What is wrong with the message of one commit: "<hash> <subject>", and the body's lines."""
    head, *body = text.split("\n")
    commit, _, subject = head.partition(" ")
    if not imperative(subject):
        yield f"{commit}: subject is not an imperative ('area: add x', not 'adds' or 'the'): {subject}"
    for line in body:
        if len(line) > BODY_WIDTH and " " in line.strip():
            yield f"{commit}: body is wider than {BODY_WIDTH} columns: {line}"


SOURCE_RULES = (
    core_without_python,
    bridge_without_sockets,
    one_seam,
    function_length,
    function_sizes,
    banned_calls,
    exports_named,
    protocol_exports,
    opening_comments,
    comment_ends,
    own_header_first,
    layers,
    halves,
    one_dialect,
    exports_used,
    python_length,
    rooms,
    tests_apart,
)
WHOLE_TREE_RULES = (complete,)
HISTORY_RULES = (nothing_foreign, commit_subjects, commit_words)


def figures(tree: Path) -> str:
    ordered = lengths(tree)
    if not ordered:
        return "no C functions"
    longest = max(
        (f for path in c_files(tree, "core", "bridge") for f in functions(path)),
        key=lambda f: f.length,
    )
    return (
        f"{len(ordered)} C functions: median {statistics.median(ordered):g} lines (<= {MEDIAN}), "
        f"p90 {percentile(ordered, 0.9)} (<= {P90}), longest {longest.length} (<= {LONGEST}): {longest.name}"
    )


if __name__ == "__main__":
    sys.stdout.write(figures(Path(__file__).resolve().parents[2]) + "\n")
