"""``daphne.*`` for code that imports it, served from ours where the real daphne is not installed.

    import pyasgi.compat
    pyasgi.compat.install()

pyasgi.testing and the Django app "pyasgi" do so themselves: channels.testing imports daphne.testing whatever it is used
for. A module of daphne's name *is* the module of ours (``daphne.cli is pyasgi.cli``), so that a patched attribute is
patched for both. daphne's Twisted protocols (daphne.http_protocol, daphne.ws_protocol) have no counterpart.

The distribution cdaphne-as-daphne (scripts/as_daphne) makes the name importable without any call.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from .. import __version__ as own_version

DAPHNE_VERSION = "4.2.3"  # the daphne whose interface this is

ALIASES = {
    "daphne.access": "pyasgi.access",
    "daphne.apps": "pyasgi.compat.apps",
    "daphne.checks": "pyasgi.checks",
    "daphne.cli": "pyasgi.cli",
    "daphne.endpoints": "pyasgi.endpoints",
    "daphne.management": "pyasgi.management",
    "daphne.management.commands": "pyasgi.management.commands",
    "daphne.management.commands.runserver": "pyasgi.management.commands.runserver",
    "daphne.server": "pyasgi.server",
    "daphne.testing": "pyasgi.testing",
    "daphne.utils": "pyasgi.utils",
}


class AliasLoader(Loader):
    """Loads another module under a further name."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self._target)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec  # the import system has set the alias's spec


class PackageLoader(Loader):
    """Loads the package ``daphne`` itself."""

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        become_daphne(module)


class DaphneFinder(MetaPathFinder):
    """Stands first in sys.meta_path, since the aliases of packages have paths of their own to be found on."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "daphne":
            if self.found_by_others(target) is not None:
                return None
            return ModuleSpec(fullname, PackageLoader(), is_package=True)
        if fullname in ALIASES and hasattr(sys.modules.get("daphne"), "__cdaphne__"):
            return ModuleSpec(fullname, AliasLoader(ALIASES[fullname]))
        return None

    @staticmethod
    def found_by_others(target: ModuleType | None = None) -> ModuleSpec | None:
        """A folder without __init__.py, as an uninstalled daphne may leave one, is no daphne."""
        finders = [finder for finder in sys.meta_path if not isinstance(finder, DaphneFinder)]
        specs = [finder.find_spec("daphne", None, target) for finder in finders]
        return next((spec for spec in specs if spec is not None and spec.loader is not None), None)


def install() -> None:
    """Makes daphne.* importable; a daphne that is installed stays what it is. May be repeated."""
    if not any(isinstance(finder, DaphneFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, DaphneFinder())


def become_daphne(package: ModuleType) -> None:
    """Makes a module named daphne the package whose submodules are ours."""
    package.__doc__ = "cdaphne under daphne's name."
    package.__version__ = DAPHNE_VERSION  # type: ignore[attr-defined]
    package.__cdaphne__ = own_version  # type: ignore[attr-defined]
    install()
