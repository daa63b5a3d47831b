"""Imports asyncio without what only few of its users need: ssl, with asyncio.sslproto, and inspect.

asyncio's modules import the three at their top and look into them in a function, if ever. They are a quarter of its
import, which is most of the time to a server's first answer. In their place asyncio gets stand-ins, which take the real
modules when somebody looks into them, and are gone then. Nobody else sees a stand-in: when asyncio is there, an
``import ssl`` loads ssl, in any thread. Does nothing where asyncio or the module was imported before.

The extension imports this module in place of asyncio.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

PARENT = "asyncio"


class Later(ModuleType):
    """Takes the place of a module that asyncio imports, until its first attribute is asked for."""

    def __getattr__(self, name: str) -> Any:
        return getattr(_replaced(self), name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(_replaced(self), name, value)


def _replaced(later: Later) -> ModuleType:
    """Imports the module, which replaces this stand-in from now on."""
    name = later.__name__
    if sys.modules.get(name) is later:
        del sys.modules[name]
    real = import_module(name)
    short = name.rpartition(".")[2]
    for holder in list(sys.modules.values()):
        if isinstance(holder, ModuleType) and vars(holder).get(short) is later:
            setattr(holder, short, real)
    return real


def _import_asyncio() -> None:
    names = ["inspect"]
    if find_spec("_ssl") is not None:  # where there is none, asyncio looks whether its import fails
        names += ["ssl", "asyncio.sslproto"]
    stand_ins = {name: Later(name) for name in names if name not in sys.modules}
    sys.modules.update(stand_ins)
    try:
        asyncio = import_module(PARENT)
    finally:
        for name, later in stand_ins.items():
            if sys.modules.get(name) is later:
                del sys.modules[name]
    if "asyncio.sslproto" in stand_ins:  # an attribute of the package, as after any import of it
        vars(asyncio).setdefault("sslproto", stand_ins["asyncio.sslproto"])


if PARENT not in sys.modules:
    _import_asyncio()
