"""The places of a supervisor's children, and the queues that belong to a worker's place."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from gatekeeper import observe
from gatekeeper.errors import QueueError
from gatekeeper.firewall import lanes
from gatekeeper.firewall.nfqueue import Left
from gatekeeper.inlet import Inlet
from gatekeeper.processes.child import GO, Child
from gatekeeper.settings import Mode, Rules

_LAST_PATIENCE = 0.5
"""Seconds after which a process that was killed is let go of: the kernel ends it when the disk answers."""


@dataclass(slots=True)
class Place:
    """A child, and how often in a row there was none that lasted."""

    name: str
    child: Child | None = None
    failures: int = 0
    next_try: float = 0.0


@dataclass(slots=True)
class Workplace(Place):
    """A worker's place, with its queues (none bound, if nobody has been there for long)."""

    number: int = 0
    inlets: list[Inlet] = field(default_factory=list)
    left: Left = Left.DROP
    """What becomes of packets that the last worker had in hand."""
    let_go_at: float = 0.0


class Crew(list[Workplace]):
    """The workers' places. With other rules there may be more, or fewer."""

    def __init__(self, number: int) -> None:
        """Make so many, with no queues."""
        super().__init__(Workplace("worker", number=one) for one in range(number))
        self.has_gone = False
        """Whether they were told to begin together. Who begins later waits for nobody."""

    @property
    def waits(self) -> bool:
        """Whether who begins now has to wait for the others (``Seat.waits``)."""
        return not self.has_gone and len(self) > 1

    def go(self) -> None:
        """Have them begin at the same moment, when all of them can."""
        if self.waits and all(place.child is not None and place.child.is_ready for place in self):
            self.has_gone = True
            for place in self:
                if place.child is not None:
                    place.child.send(GO)

    def bind_more(self, rules: Rules) -> None:
        """Bind the queues that these rules need besides, before any rule of iptables leads there.

        Raises:
            QueueError: somebody else has one of them; none was bound.
        """
        before = len(self)
        try:
            for number in range(before, rules.workers):
                inlets = bind(numbers(rules, number), observes=rules.mode is Mode.OBSERVE)
                self.append(Workplace("worker", number=number, inlets=inlets))
        except QueueError:
            self.keep(before)
            raise

    def observe(self, *, observes: bool) -> None:
        """Have packets go on where a queue is full, or no longer."""
        for inlet in (inlet for place in self for inlet in place.inlets):
            inlet.observe(observes)

    def keep(self, number: int) -> None:
        """Give back the queues of places that are no longer needed, and that no rule leads to."""
        gone = self[number:]
        del self[number:]
        for inlet in (inlet for place in gone for inlet in place.inlets):
            inlet.hand_back()


def bind(numbers: Iterable[int], *, observes: bool) -> list[Inlet]:
    """Bind queues: all, or none, or those that can be had would be in our own way at the next try.

    Raises:
        QueueError: another process has one of them.
    """
    inlets: list[Inlet] = []
    with contextlib.ExitStack() as taken:
        for number in numbers:
            inlets.append(Inlet(number, observes=observes))
            taken.callback(inlets[-1].close)
        taken.pop_all()
    return inlets


def numbers(rules: Rules, worker: int) -> list[int]:
    """Name a worker's queues."""
    return [lanes.number(rules, lane, worker) for lane in lanes.Lane]


def let_go(place: Workplace) -> None:
    """Unbind the queues of a place where nobody is."""
    for inlet in place.inlets:
        inlet.close()
    place.inlets = []


def reap(child: Child, *, seconds: float) -> None:
    """Wait for its end; kill it when it takes too long, and let go of what not even that ends."""
    deadline = time.monotonic() + seconds
    while child.ended() is None:
        if time.monotonic() > deadline + _LAST_PATIENCE:
            words = f"the {child.name} (process {child.pid}) waits for a disk, and ends with that"
            observe.message(words, level=logging.ERROR)
            return
        if time.monotonic() > deadline:
            child.kill()
        time.sleep(0.002)
