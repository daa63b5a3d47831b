"""The system check of the Django application."""

from __future__ import annotations

from typing import Any

from django.core.checks import Error


def check_daphne_installed(app_configs: Any, **kwargs: Any) -> list[Error]:
    """Ours stands before django.contrib.staticfiles, whose runserver would win: else daphne.E001.

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
