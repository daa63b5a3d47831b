"""What a server process has to know of the Django tests that started it.

A forked process inherits all of it but open database connections; a spawned one has nothing but the settings
module, which names the production databases.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any


@dataclass
class DjangoState:
    """The settings of the process that runs the tests."""

    databases: dict[str, Any] = field(default_factory=dict)
    """Alias to NAME: of the test database, in a parallel run of this worker's clone."""
    settings: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of_tests(cls) -> DjangoState | None:
        """The state of this process; None where no Django tests run."""
        if "django.test.utils" not in sys.modules:
            return None
        from django.apps import apps
        from django.conf import settings
        from django.db import connections
        from django.test.utils import _TestState

        if not apps.ready or not hasattr(_TestState, "saved_data"):
            return None
        return cls(
            {alias: connections[alias].settings_dict["NAME"] for alias in connections},
            {name: getattr(settings, name) for name in ("ALLOWED_HOSTS", "DEBUG")},
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        """In a spawned process: sets up Django, which what is unpickled next may need."""
        vars(self).update(state)
        import django

        django.setup()

    def apply(self) -> None:
        """Uses the same databases over connections of this process."""
        from django.conf import settings
        from django.db import connections

        for name, value in self.settings.items():
            setattr(settings, name, value)
        # Inherited connections are the parent's: closing one, as its finalizer does, says goodbye to the database.
        _inherited.extend(connections.all(initialized_only=True))
        for alias, name in self.databases.items():
            connections.settings[alias]["NAME"] = name
            if hasattr(connections._connections, alias):
                delattr(connections._connections, alias)


_inherited: list[Any] = []
