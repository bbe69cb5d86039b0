"""What can be wrong in a rules file, and the error that carries all of it. Pure.

Apart from ``errors.py``, which a client imports too, and which must be light.
"""

from __future__ import annotations

from typing import NamedTuple

from gatekeeper.errors import GatekeeperError


class Problem(NamedTuple):
    """One thing wrong (or unwise) in a rules file, with its place (line and column count from 1)."""

    file: str
    line: int
    column: int
    message: str
    hint: str | None = None
    is_warning: bool = False

    def __str__(self) -> str:
        kind = "warning: " if self.is_warning else ""
        return f"{self.file}:{self.line}:{self.column}: {kind}{self.message}"


class RulesError(GatekeeperError):
    """The rules file cannot be used; ``problems`` holds all of it, in the order of the file."""

    def __init__(self, problems: list[Problem], *, count: int | None = None) -> None:
        errors = [problem for problem in problems if not problem.is_warning]
        super().__init__("\n".join(map(str, errors)))
        self.problems = problems
        self.count = len(errors) if count is None else count
        """How many there are in all; ``problems`` may be the first of them only."""
