"""How much time there is: a part that runs out of it leaves the rest out, and says so."""

from __future__ import annotations

import time

_GRACE = 8.0
"""Seconds behind its end in which a part may bring to an end what it has begun."""


class Clock:
    """A part's time."""

    def __init__(self, seconds: float) -> None:
        self.begin = time.monotonic()
        self.seconds = seconds
        self.left_out: list[str] = []

    def left(self) -> float:
        """Return the seconds that are left."""
        return self.begin + self.seconds - time.monotonic()

    def spent(self) -> float:
        """Return the seconds that have passed."""
        return time.monotonic() - self.begin

    def grace(self) -> float:
        """Return the seconds until what has been begun must be given up."""
        return self.left() + _GRACE

    def allows(self, what: str, seconds: float = 0.0) -> bool:
        """Say whether there is time for something; if not, remember that it was left out."""
        if self.left() > seconds:
            return True
        self.left_out.append(what)
        return False
