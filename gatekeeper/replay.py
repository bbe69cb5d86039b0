"""Replay floors: what makes a knock count once, from whatever address it comes.

Pure. Each knock of a format that can bears a stamp: its client's key, and a time in nanoseconds that this key never
uses twice. A key's floor follows its newest accepted stamp at a distance (``Stamp.grace``), because honest knocks
overtake each other on the way; stamps that were accepted above the floor are remembered one by one, up to a number
that no honest client comes to: then the floor rises.

A close has a mark of its own: openings that were sent before it are refused from then on, or one that was
held back on the way would open again what was closed. Closes are not: of two, for IPv4 and for IPv6,
the one that comes second is as good as the first.

Some keys are good for one knock (``Stamp.once``): then no time is asked for, and that there is a floor says it all.

The rule is here, once; the store applies it in the transaction that also has the grant (the truth), and
``ReplayMemory`` in memory, so that a flood of replays ends before the store.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping

from gatekeeper.model import Action, Floor, Reason, Stamp

_LATELY = 65_536
"""Stamps that are kept in mind though the store may not have taken them (a full disk)."""
MOST = 4096
"""Stamps above the floor that are remembered for each key."""
KEPT = 256
"""Accepted stamps below the floor that the store keeps for each key, in case its floor must be set back."""


def refusal(stamp: Stamp, action: Action, floor: Floor, *, is_spent: bool, latest: int) -> Reason | None:
    """Say why a stamp cannot be spent. ``latest``: the newest time that any clock may honestly say, in ns."""
    if is_spent:
        return Reason.REPLAYED
    if floor.floor > latest:
        return Reason.FLOOR_AHEAD
    if stamp.sent_at <= floor.floor:
        return Reason.REPLAYED
    if action is Action.OPEN and stamp.sent_at <= floor.closed:
        return Reason.BEFORE_CLOSE
    return None


def advanced(floor: Floor, stamp: Stamp, action: Action) -> Floor:
    """Return the floor after a stamp was spent (without the spent stamps)."""
    closed = max(floor.closed, stamp.sent_at) if action is Action.CLOSE else floor.closed
    return Floor(max(floor.floor, stamp.sent_at - stamp.grace), closed)


class _Key:
    """What one key has spent. The heap has what stands above the floor, lowest first."""

    __slots__ = ("floor", "heap", "spent")

    def __init__(self, floor: Floor) -> None:
        self.floor = floor
        self.spent = set(floor.spent)
        self.heap = list(floor.spent)
        heapq.heapify(self.heap)

    def remember(self, sent_at: int) -> None:
        if sent_at > self.floor.floor and sent_at not in self.spent:
            self.spent.add(sent_at)
            heapq.heappush(self.heap, sent_at)

    def spend(self, stamp: Stamp, action: Action) -> None:
        self.remember(stamp.sent_at)
        self.floor = advanced(self.floor, stamp, action)
        if len(self.heap) > MOST:
            self.floor = Floor(max(self.floor.floor, self.heap[0]), self.floor.closed)
        while self.heap and self.heap[0] <= self.floor.floor:
            self.spent.discard(heapq.heappop(self.heap))


class ReplayMemory:
    """The floors in memory. What it lets through, the store may still refuse.

    It keeps as spent what the store could not take (a full disk): no client sends the same stamp twice.
    """

    def __init__(self, *, skew: int = 120) -> None:
        """``skew`` in seconds: how far ahead of our clock a stamp may be."""
        self._skew = skew
        self._born = 0
        self._keys: dict[bytes, _Key] = {}
        self._lately: deque[Stamp] = deque(maxlen=_LATELY)

    def replace(self, born: int, floors: Mapping[bytes, Floor]) -> None:
        """Learn what the store says, and keep in mind what it may not have taken."""
        fresh = {key: _Key(floor) for key, floor in floors.items()}
        for stamp in list(self._lately):
            fresh.setdefault(stamp.key, _Key(Floor(born))).remember(stamp.sent_at)
        self._keys, self._born = fresh, born

    def refusal(self, stamp: Stamp, action: Action, *, now: float) -> Reason | None:
        """Say why a stamp cannot be spent; ``None`` if it can."""
        known = self._keys.get(stamp.key)
        if stamp.once:
            return None if known is None else Reason.REPLAYED
        if known is None:
            return Reason.BEFORE_STORE if stamp.sent_at <= self._born else None
        is_spent = stamp.sent_at in known.spent
        return refusal(stamp, action, known.floor, is_spent=is_spent, latest=latest(now, self._skew))

    def spend(self, stamp: Stamp, action: Action) -> None:
        """Note that a stamp is spent."""
        known = self._keys.get(stamp.key)
        if known is None:
            known = self._keys.setdefault(stamp.key, _Key(Floor(self._born)))
        known.spend(stamp, action)
        self._lately.append(stamp)


def latest(now: float, skew: int) -> int:
    """Return the newest time that a stamp may have, in nanoseconds."""
    return int((now + skew) * 1e9)
