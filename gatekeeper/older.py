"""Names that were called otherwise once, and are understood all the same: in rules.yaml, profiles, invites, options."""

from __future__ import annotations

NAMES = {"acknowledge": "ack"}
"""The older name, and what it is called now."""


def renamed(name: str) -> str:
    """Return what something is called now."""
    return NAMES.get(name, name)


def words(name: str) -> str:
    """Tell somebody who writes the older name (with the dashes of an option, where it has them)."""
    plain = name.lstrip("-")
    return f"{name} is called {name.removesuffix(plain)}{renamed(plain)} now"
