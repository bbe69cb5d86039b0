"""First packets that wait for their knock: which are held, for how long, and when they are given up.

Pure; packets are opaque here. Arrival order proves nothing: with packets spread over two CPUs, a SYN
can reach the worker before the knock that was sent ahead of it. So a first packet that no grant covers
is held and given back to the kernel's rules (verdict REPEAT) some 1, 3, 10, 30 and 100 ms after it came.
If they still send it here, it is held again until the last of these, and then dropped.

A packet that was given back is recognised by its bytes. Memory is bounded: when there are too many held
packets, of one source (for IPv6: one /64) or in all, the oldest gives way, for it has had the most time.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

PacketT = TypeVar("PacketT")

GIVE_BACK_AFTER = (0.001, 0.003, 0.010, 0.030, 0.100)
"""Seconds from a packet's arrival to each time that it is given back."""
GIVE_BACK_BEFORE_REFUSING = GIVE_BACK_AFTER[:-1]
"""The same, where the sender is told in the end: nmap takes 100 ms without an answer for silence."""
MAX_HELD = 512
"""Packets held at once. The kernel searches its list of queued packets at each verdict."""
MAX_PER_SOURCE = 32
_REMEMBER = 2.0
"""Seconds for which a packet that was given back is recognised."""


@dataclass(slots=True)
class _Hold(Generic[PacketT]):
    packet: PacketT
    source: bytes
    group: bytes
    arrived: float
    tries: int
    due: float


@dataclass(slots=True)
class _Tried:
    arrived: float
    tries: int


class Holds(Generic[PacketT]):
    """The held packets of one worker."""

    def __init__(
        self,
        schedule: tuple[float, ...] = GIVE_BACK_AFTER,
        *,
        max_held: int = MAX_HELD,
        max_per_source: int = MAX_PER_SOURCE,
    ) -> None:
        """``schedule``: seconds from a packet's arrival to each time that it is given back."""
        self._give_back_after = schedule
        self._max_held = max_held
        self._max_per_source = max_per_source
        self._held: OrderedDict[bytes, _Hold[PacketT]] = OrderedDict()
        self._tried: OrderedDict[bytes, _Tried] = OrderedDict()
        self._by_source: dict[bytes, dict[bytes, None]] = {}
        self._schedule: list[tuple[float, bytes]] = []

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, packet: PacketT, raw: bytes, source: bytes, *, now: float, at_once: bool = False) -> list[PacketT]:
        """Take a packet in; return the packets to be dropped for it (itself, if it has had its time).

        ``at_once`` gives it back without a wait the first time, and once more when it has had its time: for a source
        that has a grant, which may have landed while the packet was on its way back here.
        """
        before = self._tried.pop(raw, None)
        if before is not None and now - before.arrived > _REMEMBER:
            before = None
        tries, arrived = (before.tries, before.arrived) if before else (0, now)
        is_last = at_once and tries == len(self._give_back_after)
        if (tries >= len(self._give_back_after) and not is_last) or raw in self._held:
            return [packet]
        group = source[:8]  # an IPv4 address, or an IPv6 /64
        due = now if is_last or (at_once and not before) else arrived + self._give_back_after[tries]
        self._held[raw] = _Hold(packet, source, group, arrived, tries + 1, due)
        its = self._by_source.setdefault(group, {})
        its[raw] = None
        heapq.heappush(self._schedule, (due, raw))
        if len(its) > self._max_per_source:
            return [self._take(next(iter(its))).packet]
        if len(self._held) > self._max_held:
            return [self._take(next(iter(self._held))).packet]
        return []

    def due(self, *, now: float) -> list[PacketT]:
        """Take out the packets whose time to be given back has come."""
        ready: list[PacketT] = []
        while self._schedule and self._schedule[0][0] <= now:
            when, raw = heapq.heappop(self._schedule)
            hold = self._held.get(raw)
            if hold is not None and hold.due == when:
                ready.append(self._give_back(raw))
        return ready

    def next_due(self) -> float | None:
        """When ``due`` should be asked next; ``None`` while nothing is held."""
        while self._schedule:
            when, raw = self._schedule[0]
            hold = self._held.get(raw)
            if hold is not None and hold.due == when:
                return when
            heapq.heappop(self._schedule)
        return None

    def release(self, first: bytes, last: bytes) -> list[PacketT]:
        """Take out the packets of sources from ``first`` to ``last`` (packed): a grant has landed for them."""
        size = len(first)
        chosen = [raw for raw, hold in self._held.items() if len(hold.source) == size and first <= hold.source <= last]
        return [self._give_back(raw) for raw in chosen]

    def clear(self) -> list[PacketT]:
        """Take out everything."""
        return [self._take(raw).packet for raw in list(self._held)]

    def _give_back(self, raw: bytes) -> PacketT:
        hold = self._take(raw)
        self._tried[raw] = _Tried(hold.arrived, hold.tries)
        if len(self._tried) > 2 * self._max_held:
            self._tried.popitem(last=False)
        return hold.packet

    def _take(self, raw: bytes) -> _Hold[PacketT]:
        hold = self._held.pop(raw)
        its = self._by_source[hold.group]
        del its[raw]
        if not its:
            del self._by_source[hold.group]
        return hold
