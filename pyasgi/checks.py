"""The system checks of the Django application."""

from __future__ import annotations

from typing import Any

from django.core.checks import Error, Warning


def check_daphne_installed(app_configs: Any, **kwargs: Any) -> list[Error]:
    """Checks that our app is listed before django.contrib.staticfiles, whose runserver would win.

    The id is daphne's under either name of the application, since projects list it in SILENCED_SYSTEM_CHECKS.
    """
    from django.apps import apps
    from django.contrib.staticfiles.apps import StaticFilesConfig

    from .apps import PyasgiConfig

    for app in apps.get_app_configs():
        if isinstance(app, PyasgiConfig):
            return []
        if isinstance(app, StaticFilesConfig):
            return [
                Error(
                    "cdaphne is listed after django.contrib.staticfiles in INSTALLED_APPS,"
                    " or not at all: runserver would serve WSGI.",
                    hint='Put "pyasgi" (or "daphne") before "django.contrib.staticfiles".',
                    id="daphne.E001",
                )
            ]
    return []


def check_surroundings(app_configs: Any, **kwargs: Any) -> list[Warning]:
    """What is known to go wrong later with this project: cdaphne.W001 for channel layers, W002 for daphne's name."""
    from . import channel_layers, conflict

    sources = (("cdaphne.W001", channel_layers), ("cdaphne.W002", conflict))
    return [
        Warning(f"{what}.", hint=f"{remedy[:1].upper()}{remedy[1:]}", id=id)
        for id, source in sources
        for what, remedy in source.weaknesses()
    ]
