"""``python -m pyasgi`` is the command ``cdaphne``."""

from .cli import main

main()
