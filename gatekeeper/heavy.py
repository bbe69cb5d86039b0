"""Who does something most, among any number: a table of bounded size, and a fraction of a microsecond for each time.

Misra and Gries (Finding repeated elements, 1982): when the table is full and somebody new comes, everybody's count
goes down by one, and who is at zero goes. That is a walk through the table, and each walk is paid for by as many
additions as the table has places. So a flood in which each packet has another forged sender grows nothing, slows
nothing down, and does not push out who really comes often: a count is never too high, and too low by at most the
number of all additions divided by the places. Pure.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
PLACES = 64


class Heavy(Generic[Key]):
    """Counts, for the heaviest of those that were added."""

    def __init__(self, places: int = PLACES) -> None:
        self._places = places
        self._counts: dict[Key, int] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, key: Key) -> None:
        """Count one."""
        counts = self._counts
        if key in counts:
            counts[key] += 1
        elif len(counts) < self._places:
            counts[key] = 1
        else:
            self._lower(1)

    def merge(self, others: Mapping[Key, int]) -> None:
        """Count what another table has counted."""
        for key, number in others.items():
            self._counts[key] = self._counts.get(key, 0) + number
        if len(self._counts) > self._places:
            self._lower(sorted(self._counts.values(), reverse=True)[self._places])

    def take(self) -> dict[Key, int]:
        """Return the counts, and begin anew."""
        taken, self._counts = self._counts, {}
        return taken

    def counts(self) -> dict[Key, int]:
        """Return the counts."""
        return dict(self._counts)

    def _lower(self, by: int) -> None:
        self._counts = {key: number - by for key, number in self._counts.items() if number > by}
