"""What of an old configuration has no equal here: where it stands, and what to do about it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

MAX_NOTES = 1000
"""More are counted, and not kept: a file that has them is not what it is taken for."""


class Note(NamedTuple):
    """One thing that the user must know of, with its line (0: the file as a whole)."""

    file: str
    line: int
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{printable(where)}: {printable(self.message)}"


@dataclass(slots=True)
class Notes:
    """All notes, in the order in which they were made."""

    kept: list[Note] = field(default_factory=list)
    count: int = 0

    def add(self, where: tuple[str, int], message: str, hint: str | None = None) -> None:
        """Note something at a file and line."""
        self.count += 1
        if len(self.kept) < MAX_NOTES:
            self.kept.append(Note(*where, message, hint))


def printable(text: str) -> str:
    """Escape what a terminal, or a comment in YAML, should not be given."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
