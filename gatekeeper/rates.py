"""How often things happen, by counters that are read now and then. Pure."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping

WINDOW = 10.0
"""Seconds over which a rate is reckoned: workers tell their counts every two seconds, so a shorter one would jump."""


class Rates:
    """Counts per second, over the last ten seconds or the last two readings, whichever is longer."""

    def __init__(self) -> None:
        self._before: Mapping[str, int] | None = None
        self._more: deque[tuple[float, Counter[str]]] = deque()
        """By when how many had come since the reading before."""

    def note(self, counts: Mapping[str, int], *, now: float) -> None:
        """Take a reading. A counter that is lower than before has begun anew."""
        before = counts if self._before is None else self._before
        more = Counter({name: number - before.get(name, 0) for name, number in counts.items()})
        for name, number in more.items():
            if number < 0:
                more[name] = counts[name]
        self._more.append((now, more))
        self._before = dict(counts)
        while len(self._more) > 2 and self._more[1][0] <= now - WINDOW:
            self._more.popleft()

    def per_second(self) -> dict[str, float]:
        """Return the rates of what has happened at all in that time; nothing before there are two readings."""
        if len(self._more) < 2:
            return {}
        sums: Counter[str] = Counter()
        for _, more in list(self._more)[1:]:
            sums.update(more)
        seconds = self._more[-1][0] - self._more[0][0]
        return {name: number / seconds for name, number in sums.items() if number and seconds > 0}
