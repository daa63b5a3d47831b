"""A module that cannot be imported through a fault of its own."""

raise ValueError("no settings")
