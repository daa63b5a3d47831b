"""Dockerfile and compose.yaml, as far as they can be tested where no engine runs.

hadolint reads the Dockerfile; its steps are done in a plain folder that stands for the image's root. What only an
image can do, apt-get, is compared with scripts/packages.txt.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.programs import ROOT
from tests.support.wait import wait_for

DOCKERFILE = ROOT / "Dockerfile"
NGINX = ROOT / "examples" / "deploy" / "nginx-tcp.conf"
PORT = "8000"


def instructions() -> list[tuple[str, str]]:
    """(instruction, its arguments), continued lines joined, comments left out."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line]  # type: ignore[misc]


def values(instruction: str) -> list[str]:
    return [arguments for name, arguments in instructions() if name == instruction]


def value(instruction: str) -> str:
    (found,) = values(instruction)
    return found


def health_check() -> list[str]:
    found = re.search(r"CMD (\[.*\])", value("HEALTHCHECK"))
    assert found, "in the exec form"
    command: list[str] = json.loads(found[1])
    return command


# ---- the Dockerfile ----


def test_hadolint_has_no_complaint() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_what_an_operator_expects_of_the_image() -> None:
    user = value("USER").split(":")
    assert all(int(part) > 0 for part in user), "a number, so that Kubernetes knows it is not root"
    assert value("STOPSIGNAL") == "SIGTERM"
    assert value("EXPOSE") == PORT
    assert json.loads(value("CMD"))[0] == "cdaphne", "the exec form: no shell keeps the signal"
    assert all("slim" in base for base in values("FROM")) and len(set(values("FROM"))) == 2


def packages(section: str) -> set[str]:
    text = (ROOT / "scripts" / "packages.txt").read_text()
    return set(text.split(f"[{section}]\n")[1].split("\n\n")[0].split())


def installed() -> Iterator[set[str]]:
    for command in values("RUN"):
        if found := re.search(r"--no-install-recommends (.*?) &&", command):
            yield set(found[1].split())


def test_the_packages_are_those_of_a_build_and_their_libraries() -> None:
    build, run = installed()
    # The base image has a Python of its own.
    assert build == packages("build") - {"python3-dev", "python3-venv"}
    needed = {re.sub(r"-dev$|1g-dev$", "", name) for name in build if name.endswith("-dev")}
    assert {re.sub(r"(1g|\d|-\d+)$", "", name) for name in run} == {
        re.sub(r"1g$", "", name) for name in needed
    }


def test_what_is_copied_is_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert ignored[0] == "*"
    allowed = [line[1:] for line in ignored if line.startswith("!")]
    for copied in values("COPY"):
        if copied.startswith("--from"):
            continue
        for name in shlex.split(copied)[:-1]:
            assert (ROOT / name).exists(), name
            assert any(name == top or name.startswith(f"{top}/") for top in allowed), name


class Image:
    """A folder that stands for the root of both stages."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root
        self.environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "CD_DEBUG": "1",  # faster to compile
            "HOME": str(root),
        }

    def mapped(self, text: str) -> str:
        return text.replace("/srv/", f"{self.root}/srv/")

    def build(self) -> None:
        (self.root / "srv" / "data").mkdir(parents=True)
        for name, arguments in instructions():
            step = getattr(self, f"do_{name.lower()}", None)
            if step is not None:
                step(arguments)

    def do_workdir(self, arguments: str) -> None:
        self.folder = Path(self.mapped(arguments))
        self.folder.mkdir(parents=True, exist_ok=True)

    def do_env(self, arguments: str) -> None:
        for setting in shlex.split(arguments):
            name, _, text = setting.partition("=")
            self.environment[name] = self.mapped(text).replace("$PATH", self.environment["PATH"])

    def do_copy(self, arguments: str) -> None:
        *sources, target = shlex.split(arguments)
        if sources[0] == "--from=build":
            assert sources[1:] == [target], "a virtual environment cannot be moved"
            return
        for source in sources:
            copy(ROOT / source, self.folder / self.mapped(target), target.endswith("/"))
        if "scripts" in sources and (ROOT / "build" / "llhttp").is_dir():
            # The one at hand, as in test_packaging.
            shutil.copytree(ROOT / "build" / "llhttp", self.folder / "build" / "llhttp")

    def do_run(self, arguments: str) -> None:
        if "apt-get" in arguments:
            return
        done = self.command(["sh", "-ec", self.mapped(arguments)])
        assert done.returncode == 0, f"{arguments}\n{done.stdout}{done.stderr}"

    def command(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True
        )


def copy(source: Path, target: Path, into: bool) -> None:
    ignore = shutil.ignore_patterns("__pycache__", "*.so", "*.sqlite3*")
    if source.is_dir():
        shutil.copytree(source, target, ignore=ignore)
        return
    target = target / source.name if into else target
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)


@pytest.mark.timeout(600)
def test_the_steps_in_a_plain_folder(tmp_path: Path, free_port: int) -> None:
    image = Image(tmp_path)
    image.build()
    path = image.command(["sh", "-c", "command -v cdaphne"]).stdout.strip()
    assert path == f"{tmp_path}/srv/venv/bin/cdaphne"
    ours = {"0.0.0.0": "127.0.0.1", PORT: str(free_port)}
    command = [ours.get(word, word) for word in json.loads(value("CMD"))]
    probe = [word.replace(f":{PORT}/", f":{free_port}/") for word in health_check()]
    assert probe != health_check()
    assert image.command(probe).returncode != 0, "nobody listens"
    # Without the shell's and the test's environment, as in a container.
    server = subprocess.Popen(
        [path, *command[1:]],
        cwd=image.folder,
        env=image.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(lambda: image.command(probe).returncode == 0, 60, "health")
    finally:
        server.send_signal(signal.Signals[value("STOPSIGNAL")])
        _, log = server.communicate(timeout=60)
    assert server.returncode == 0, log


# ---- compose.yaml ----


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    return found


def test_the_services_know_each_other(services: dict[str, Any]) -> None:
    assert set(services) == {"web", "nginx", "redis"}
    for name, service in services.items():
        assert ("image" in service) != ("build" in service), name
        assert "build" in service or re.search(r":\d", service["image"]), "a version"
        for other, condition in service.get("depends_on", {}).items():
            assert condition == {"condition": "service_healthy"}
            has = "healthcheck" in services[other] or "build" in services[other]
            assert has, f"{other} has no health check"
    assert services["nginx"]["network_mode"] == "service:web"
    assert re.match(r"redis://redis:6379/", services["web"]["environment"]["REDIS_URL"])


def test_files_and_ports_agree(services: dict[str, Any]) -> None:
    web, nginx = services["web"], services["nginx"]
    assert (ROOT / web["build"] / "Dockerfile").is_file()
    (mount,) = nginx["volumes"]
    source, target, mode = mount.split(":")
    assert (ROOT / source).resolve() == NGINX, "the file that test_deploy runs nginx with"
    # The one that the image of nginx brings listens there, too, and would come first.
    assert (target, mode) == ("/etc/nginx/conf.d/default.conf", "ro")
    (published,) = web["ports"]
    listens = re.search(r"listen (\d+);", NGINX.read_text())
    assert listens and published.split(":")[-1] == listens[1]
    command = web["command"]
    bound = f"{command[command.index('-b') + 1]}:{command[command.index('-p') + 1]}"
    assert f"server {bound};" in NGINX.read_text()
    assert "--proxy-headers" in command
    assert f":{command[command.index('-p') + 1]}/" in " ".join(health_check())
    assert command[-1] == json.loads(value("CMD"))[-1]


def test_cdaphne_takes_the_commands(services: dict[str, Any], free_port: int) -> None:
    for command in (services["web"]["command"], json.loads(value("CMD"))):
        ours = [str(free_port) if word == PORT else word for word in command[1:]]
        done = subprocess.run(
            [sys.executable, "-m", "pyasgi", "--check", *ours],
            cwd=ROOT / "examples" / "devops",
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr


def test_compose_reads_it() -> None:
    compose = ["docker", "compose"]
    if (
        not shutil.which("docker")
        or subprocess.run([*compose, "version"], capture_output=True).returncode
    ):
        pytest.skip("docker compose is not installed")
    done = subprocess.run([*compose, "config", "--quiet"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
