"""First packets that were let go on, because gatekeeper only observes: would they have got in? Pure.

A knock may come right behind its packet. So each is judged when it would have been given up at the latest.
"""

from __future__ import annotations

from collections import deque

from gatekeeper.holds import GIVE_BACK_AFTER

MAX_SHADOWS = 4096
"""Packets that are remembered at once; beyond it, the oldest is judged early."""


class Shadows:
    """The first packets of the last tenth of a second."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[float, bytes]] = deque()

    def add(self, raw: bytes, *, now: float) -> list[bytes]:
        """Remember a packet; return those that must be judged for it now."""
        self._waiting.append((now + GIVE_BACK_AFTER[-1], raw))
        return [self._waiting.popleft()[1]] if len(self._waiting) > MAX_SHADOWS else []

    def due(self, *, now: float) -> list[bytes]:
        """Take out the packets whose time has come."""
        ready: list[bytes] = []
        while self._waiting and self._waiting[0][0] <= now:
            ready.append(self._waiting.popleft()[1])
        return ready

    def next_due(self) -> float | None:
        """When ``due`` should be asked next; ``None`` while there is nothing."""
        return self._waiting[0][0] if self._waiting else None
