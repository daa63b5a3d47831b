"""daphne.apps: for ``INSTALLED_APPS = ["daphne", ...]`` left as it is."""

from __future__ import annotations

from pathlib import Path

from pyasgi import apps


class DaphneConfig(apps.PyasgiConfig):
    """cdaphne as the application "daphne"."""

    name = "daphne"
    verbose_name = "Daphne"
    path = str(Path(apps.__file__).parent)  # Django looks for management commands on the disk
