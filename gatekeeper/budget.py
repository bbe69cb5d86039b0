"""How many lines of a kind may be logged: some at once, then a few a second. A flood fills no disk."""

from __future__ import annotations

import time

_EACH_SECOND = 2.0
_AT_ONCE = 20.0


class Budget:
    """What is left, and how many lines were not shown since the last one that was."""

    def __init__(self, at_once: float = _AT_ONCE, each_second: float = _EACH_SECOND) -> None:
        self._at_once, self._each_second = at_once, each_second
        self._lines = at_once
        self._refilled = time.monotonic()
        self.unshown = 0

    def take(self) -> bool:
        """Take a line, if one is left."""
        now = time.monotonic()
        self._lines = min(self._at_once, self._lines + (now - self._refilled) * self._each_second)
        self._refilled = now
        if self._lines < 1:
            self.unshown += 1
            return False
        self._lines -= 1
        return True

    def take_rest(self) -> int:
        """Take a line for those that were not shown, if there are any, and one is left; return how many they are."""
        number = self.unshown
        self.unshown = 0
        if not number or self.take():
            return number
        self.unshown = number
        return 0
