"""The Django application: ``INSTALLED_APPS = ["pyasgi", ...]`` gives ``runserver`` ASGI and WebSockets.

It stands before django.contrib.staticfiles, which has a runserver of its own.
"""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks

from . import compat, reactor
from .checks import check_daphne_installed, check_surroundings

compat.install()
reactor.prepare()


class PyasgiConfig(AppConfig):
    """cdaphne as the application "pyasgi"."""

    name = "pyasgi"
    verbose_name = "cdaphne"

    def ready(self) -> None:
        checks.register(check_daphne_installed, checks.Tags.staticfiles)
        checks.register(check_surroundings)
