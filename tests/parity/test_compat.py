"""daphne.* served from pyasgi, with and without the distribution cdaphne-as-daphne.

What an import does is seen in fresh processes: this one has aliases of its own by now.
"""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

import pytest

import pyasgi
from pyasgi.compat import ALIASES, DAPHNE_VERSION
from pyasgi.options import LIMITS
from tests.support.programs import ROOT, python
from tests.support.servers import Servers

INSTALL = "import pyasgi.compat; pyasgi.compat.install()\n"


@pytest.mark.parametrize(("alias", "target"), sorted(ALIASES.items()))
def test_an_alias_is_the_module_itself(alias: str, target: str) -> None:
    code = (
        f"import {target}; before = {target}.__spec__; import {alias}, sys; "
        f"print({alias} is {target} is sys.modules[{alias!r}], {target}.__spec__ is before, {target}.__name__)"
    )
    assert python(INSTALL + code) == f"True True {target}"


def test_the_alias_may_come_first() -> None:
    code = "import daphne.cli; import pyasgi.cli; print(daphne.cli is pyasgi.cli, pyasgi.cli.__spec__.name)"
    assert python(INSTALL + code) == "True pyasgi.cli"


def test_nothing_without_install() -> None:
    code = "import importlib.util, pyasgi; print(importlib.util.find_spec('daphne'))"
    assert python(code) == "None"


@pytest.mark.parametrize("module", ["pyasgi.testing", "pyasgi.apps"])
def test_what_installs_it(module: str) -> None:
    assert python(
        f"import {module}; import daphne.testing as t; print(t.DaphneProcess.__module__)"
    ) == ("pyasgi.testing")


def test_channels_testing_needs_no_daphne() -> None:
    code = (
        "from django.conf import settings; settings.configure()\n"
        "import pyasgi.apps\n"
        "from channels.testing import ChannelsLiveServerTestCase as Case, WebsocketCommunicator\n"
        "print(Case.ProtocolServerProcess.__module__)"
    )
    assert python(code) == "pyasgi.testing"


def test_version_and_mark() -> None:
    code = "import daphne; print(daphne.__version__, daphne.__cdaphne__)"
    assert python(INSTALL + code) == f"{DAPHNE_VERSION} {pyasgi.__version__}"


def test_twisted_protocols_are_not_there() -> None:
    code = (
        "import importlib.util\nprint(importlib.util.find_spec('daphne.http_protocol'))\n"
        "try: import daphne.ws_protocol\nexcept ModuleNotFoundError as error: print(error)"
    )
    assert python(INSTALL + code) == "None\nNo module named 'daphne.ws_protocol'"


def test_the_real_daphne_wins(tmp_path: Path) -> None:
    package = tmp_path / "daphne"
    package.mkdir()
    (package / "__init__.py").write_text("__version__ = 'real'\n")
    (package / "server.py").write_text("mine = True\n")
    code = (
        "import daphne, daphne.server; print(daphne.__version__, daphne.server.mine)\n"
        "try: import daphne.testing\nexcept ModuleNotFoundError: print('none')"
    )
    assert python(INSTALL + code, tmp_path) == "real True\nnone"


def test_a_folder_of_that_name_is_no_daphne(tmp_path: Path) -> None:
    (tmp_path / "daphne").mkdir()
    (tmp_path / "daphne" / "supervisor.conf").touch()
    code = "import daphne, daphne.testing; print(hasattr(daphne, '__cdaphne__'))"
    assert python(INSTALL + code, tmp_path) == "True"


def test_a_patched_attribute_is_patched_for_both() -> None:
    """Wrappers in the wild replace daphne.cli.AccessLogGenerator before they call the command."""
    code = (
        "import daphne.cli\n"
        "class Loud(daphne.cli.AccessLogGenerator): pass\n"
        "class Server:\n"
        "    abort_start = False\n"
        "    def __init__(self, **arguments): print(type(arguments['action_logger']).__name__)\n"
        "    def run(self): pass\n"
        "daphne.cli.AccessLogGenerator = Loud\n"
        "interface = daphne.cli.CommandLineInterface()\n"
        "interface.server_class = Server\n"
        "interface.run(['tests.apps.basic:app'])\n"
    )
    assert python(INSTALL + code) == "Loud"


# ---- what the interface is ----

# Positional order is part of it.
SERVER_ARGUMENTS = (
    "application endpoints signal_handlers action_logger http_timeout request_buffer_size websocket_timeout"
    " websocket_connect_timeout ping_interval ping_timeout root_path proxy_forwarded_address_header"
    " proxy_forwarded_port_header proxy_forwarded_proto_header verbosity websocket_handshake_timeout"
    " websocket_max_message_size websocket_max_frame_size application_close_timeout ready_callable server_name"
).split()
SERVER_DEFAULTS = {
    "signal_handlers": True,
    "request_buffer_size": LIMITS["request_buffer_size"].default,  # ours is larger
    "websocket_timeout": 86400,
    "websocket_connect_timeout": 20,
    "ping_interval": 20,
    "ping_timeout": 30,
    "root_path": "",
    "verbosity": 1,
    "websocket_handshake_timeout": 5,
    "websocket_max_message_size": 1024 * 1024,
    "websocket_max_frame_size": 1024 * 1024,
    "application_close_timeout": 10,
    "server_name": "cdaphne",
}


def test_arguments_of_server() -> None:
    from pyasgi.server import Server

    parameters = inspect.signature(Server).parameters
    positional = [
        name
        for name, parameter in parameters.items()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    assert positional == SERVER_ARGUMENTS
    for name in SERVER_ARGUMENTS[1:]:
        assert parameters[name].default == SERVER_DEFAULTS.get(name), name


def test_attributes_of_server() -> None:
    from pyasgi.server import Server

    values = {name: f"<{name}>" for name in SERVER_ARGUMENTS if name != "endpoints"}
    server = Server(**values, endpoints=("tcp:0",))  # type: ignore[arg-type]
    assert {name: getattr(server, name) for name in values} == values
    assert list(server.endpoints) == ["tcp:0"]
    assert not server.connections
    assert server.listeners == server.listening_addresses == []
    assert server.abort_start is False


def test_arguments_of_the_testing_classes() -> None:
    from pyasgi import testing

    names = [*inspect.signature(testing.DaphneProcess).parameters]
    assert names == ["host", "get_application", "kwargs", "setup", "teardown", "port"]
    names = [*inspect.signature(testing.BaseDaphneTestingInstance).parameters]
    assert names == [
        "xff",
        "http_timeout",
        "request_buffer_size",
        "websocket_max_message_size",
        "websocket_max_frame_size",
        "application",
    ]


# ---- the distribution ----


def pip(program: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--python", str(program), *arguments, "--quiet"]
    subprocess.run(command, check=True, timeout=120)


def real_daphne(folder: Path) -> Path:
    """A wheel with the name, the files and the command of daphne."""
    path = folder / f"daphne-{DAPHNE_VERSION}-py3-none-any.whl"
    info = f"daphne-{DAPHNE_VERSION}.dist-info"
    files = {
        "daphne/__init__.py": f"__version__ = {DAPHNE_VERSION!r}\n",
        "daphne/__main__.py": "",
        "daphne/server.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: daphne\nVersion: {DAPHNE_VERSION}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\ndaphne = daphne.cli:main\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in {**files, f"{info}/RECORD": record}.items():
            wheel.writestr(name, text)
    return path


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with cdaphne-as-daphne from its wheel, on top of this one; its bin folder."""
    folder = tmp_path_factory.mktemp("as_daphne")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    source = folder / "source"
    (source / "daphne").mkdir(parents=True)
    for path in (ROOT / "scripts" / "as_daphne").rglob("*"):  # setuptools builds beside the source
        if path.is_file() and path.suffix in (".py", ".toml", ".rst"):
            (source / path.relative_to(ROOT / "scripts" / "as_daphne")).write_text(path.read_text())
    subprocess.run([*build, "--wheel-dir", str(folder), str(source)], check=True, timeout=120)
    venv.create(folder / "venv", symlinks=True)
    program = str(folder / "venv" / "bin" / "python")
    site = subprocess.run(
        [program, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "--python",
            program,
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
        ]
        + [str(path) for path in folder.glob("*.whl")],
        check=True,
        timeout=120,
    )
    # What this environment has, after what that one has.
    Path(site, "below.pth").write_text("\n".join([*filter(None, sys.path), ""]))
    return folder / "venv" / "bin"


def test_the_distribution_is_the_version_of_this_one() -> None:
    text = (ROOT / "scripts" / "as_daphne" / "pyproject.toml").read_text()
    assert f'version = "{pyasgi.__version__}"' in text
    assert f'"cdaphne=={pyasgi.__version__}"' in text


def test_installed_package(installed: Path) -> None:
    code = (
        "import daphne, daphne.server, pyasgi.server, importlib.metadata as m\n"
        "print(daphne.__version__, daphne.server is pyasgi.server, m.version('cdaphne-as-daphne'))"
    )
    answer = python(code, program=str(installed / "python"))
    assert answer == f"{DAPHNE_VERSION} True {pyasgi.__version__}"


@pytest.mark.parametrize("command", [["daphne"], ["python", "-m", "daphne"]])
def test_installed_command(installed: Path, command: list[str]) -> None:
    done = subprocess.run(
        [str(installed / command[0]), *command[1:], "--version"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.startswith(f"cdaphne {pyasgi.__version__}")


def test_installed_django_application(installed: Path) -> None:
    code = (
        "import django\nfrom django.conf import settings\n"
        "settings.configure(INSTALLED_APPS=['daphne', 'django.contrib.staticfiles'], STATIC_URL='/s/')\n"
        "django.setup()\n"
        "from django.apps import apps\nfrom django.core.management import get_commands, load_command_class\n"
        "config = apps.get_app_config('daphne')\n"
        "command = load_command_class(get_commands()['runserver'], 'runserver')\n"
        "print(type(config).__name__, config.name, get_commands()['runserver'], type(command).__module__)"
    )
    answer = python(code, program=str(installed / "python"))
    assert answer == "DaphneConfig daphne daphne pyasgi.management.commands.runserver"


CONFLICT = (
    "import json\nfrom pyasgi.conflict import weaknesses\n"
    "print(json.dumps([what for what, _ in weaknesses()]))"
)


def test_the_real_daphne_beside_it(installed: Path, tmp_path: Path) -> None:
    """Whichever is installed last has the name, and to uninstall one takes the files from both."""
    program = installed / "python"
    (ours,) = installed.parent.parent.glob("cdaphne_as_daphne-*.whl")

    def said() -> list[str]:
        found: list[str] = json.loads(python(CONFLICT, program=str(program)))
        return found

    assert said() == []
    both = f"daphne {DAPHNE_VERSION} and cdaphne-as-daphne are both installed"
    pip(program, "install", "--no-deps", "--no-index", str(real_daphne(tmp_path)))
    (line,) = said()
    assert line.startswith(both) and "are the real daphne's now" in line
    reinstall = ("install", "--no-deps", "--no-index", "--force-reinstall", str(ours))
    pip(program, *reinstall)
    (line,) = said()
    assert line.startswith(both) and "are cdaphne's now" in line
    pip(program, "uninstall", "--yes", "daphne")
    (line,) = said()
    assert line.startswith("cdaphne-as-daphne is installed but its files are gone")
    assert not (installed / "daphne").exists()
    # What the lines say to do is right.
    pip(program, *reinstall)
    assert said() == []
    assert (installed / "daphne").exists()


def test_a_conflict_is_told_at_the_start(tmp_path: Path, server: Servers) -> None:
    for name in ("daphne-4.2.3", "cdaphne_as_daphne-0.1.0"):
        (tmp_path / f"{name}.dist-info").mkdir()
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    handle = server.start(env={"PYTHONPATH": path})
    line = handle.wait_for_log(r"WARNING +(daphne 4\.2\.3 and .*)").group(1)
    assert "run: pip uninstall daphne && pip install --force-reinstall" in line


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_folder_that_cannot_be_listed_is_passed_over() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o711)
        code = f"import os, sys\nsys.path.append({folder!r})\nfrom pyasgi import conflict\n"
        said = python(
            f"{code}os.setuid(65534)\nsys.path = [{folder!r}]\nprint(conflict.weaknesses())"
        )
    assert said == "[]"


def test_the_real_daphne_alone_is_no_conflict(tmp_path: Path) -> None:
    (tmp_path / "daphne-4.2.3.dist-info").mkdir()
    assert python(CONFLICT, tmp_path) == "[]"
