"""The knock formats. This table is the only place where they are named.

A new format is one file here and one row below; CONTRIBUTING.md has the recipe.
"""

from __future__ import annotations

from collections.abc import Callable

from gatekeeper.knocks import plain
from gatekeeper.model import KnockFormat, Rules

FORMATS: dict[str, Callable[[Rules], KnockFormat]] = {
    "plain": plain.PlainKeys,
}


def enabled(rules: Rules) -> list[KnockFormat]:
    """Build the formats for a rules file."""
    return [make(rules) for make in FORMATS.values()]
