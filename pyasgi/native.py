"""The C extension for the other modules; where it cannot be loaded, ImportError says in one line what to install."""

from __future__ import annotations

import re

# What an operator installs on Debian and Ubuntu, for each shared library that the extension may be linked with.
PACKAGES = {
    "libev": "libev4",
    "libssl": "libssl3",
    "libcrypto": "libssl3",
    "libnghttp2": "libnghttp2-14",
    "libz": "zlib1g",
    "libllhttp": "libllhttp9.3",
}


def explain(error: ImportError) -> str:
    """One line for the operator about an extension that cannot be loaded."""
    text = str(error)
    found = re.match(r"((lib\w+)\.so[.\d]*): cannot open shared object file", text)
    if found is not None:
        package = PACKAGES.get(found[2])
        how = f"; install it: apt-get install {package}" if package else ""
        return (
            f"the shared library {found[1]} is missing, which the C extension is linked with{how}"
        )
    if "_core" in text:
        return (
            "the C extension pyasgi._core is missing, or made for another Python;"
            " install it for this one: pip install --force-reinstall cdaphne"
        )
    return f"the C extension pyasgi._core cannot be loaded: {text}"


try:
    from . import _core as _core
except ImportError as error:
    raise ImportError(explain(error)) from None
