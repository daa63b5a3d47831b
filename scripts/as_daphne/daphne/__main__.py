"""``python -m daphne`` is the command ``cdaphne``."""

from daphne.cli import main

main()
