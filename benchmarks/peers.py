"""The virtual environment of the peers: made from peers.txt with the interpreter that runs us."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENV = HERE.parent / "build" / "bench-venv"
PINS = HERE / "peers.txt"


def stamp() -> str:
    return f"{sys.version}\n{PINS.read_text()}"


def ensure() -> None:
    """Make the environment when there is none for this Python and these pins."""
    ready = VENV / "ready"
    if ready.exists() and ready.read_text() == stamp():
        return
    print(f"installing the peers into {VENV}", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)
    pip = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--quiet", "-r", str(PINS)]
    subprocess.run([*pip, "--disable-pip-version-check"], check=True)
    ready.write_text(stamp())


def site_packages() -> Path:
    major, minor = sys.version_info[:2]
    return VENV / "lib" / f"python{major}.{minor}" / "site-packages"


def versions() -> dict[str, str]:
    """{package: version} of the environment."""
    pip = [str(VENV / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    done = subprocess.run(
        [*pip, "list", "--format", "json"], check=True, capture_output=True, text=True
    )
    return {row["name"].lower(): row["version"] for row in json.loads(done.stdout)}
