"""The supervisor's part in metrics: two processes that the door does not need, and the numbers that all share.

Whether they live or not, nothing waits for them. They begin where the rules have ``metrics:``, and are replaced like
the others when they die.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import time
from collections.abc import Sequence
from functools import partial

from gatekeeper.firewall.lanes import Lane
from gatekeeper.metrics.gather import Subject
from gatekeeper.processes.child import Main
from gatekeeper.processes.exporter import export
from gatekeeper.processes.link import Wire
from gatekeeper.processes.meter import measure
from gatekeeper.processes.places import Place, Workplace
from gatekeeper.processes.plan import Plan
from gatekeeper.tallies import SIZE, Tallies, Waiting


class Metering:
    """Meter and exporter, as the supervisor sees them."""

    def __init__(self) -> None:
        self.tallies = Tallies(memoryview(mmap.mmap(-1, SIZE)))
        """Kept from the start on, so that nothing is missing if metrics are asked for later."""
        self._started = time.time()
        self._meter, self._exporter = Place("meter"), Place("exporter")
        self._wire: Wire | None = None  # from the exporter, and to the meter

    def places(self, plan: Plan) -> tuple[Place, ...]:
        """Return whose places there are by this plan."""
        return (self._meter, self._exporter) if plan.rules.metrics is not None else ()

    def main(self, place: Place, plan: Plan) -> Main | None:
        """Say what a child does, if it is one of ours."""
        if place not in self.places(plan):
            return None
        if self._wire is None:
            self._wire = Wire()
        if place is self._exporter and plan.rules.metrics is not None:
            return partial(export, plan.rules.metrics, end=self._wire.written)
        subject = Subject(
            rules=plan.rules,
            since=plan.since,
            started=self._started,
            state_dir=plan.state_dir,
            supervisor=os.getpid(),
            tallies=self.tallies,
        )
        return partial(measure, subject, plan.backend, end=self._wire.read)

    def keep(self, place: Place) -> None:
        """Close, in a child that was just forked, what is not its business."""
        if self._wire is not None:
            self._wire.keep(written=place is self._exporter, read=place is self._meter)

    def outdated(self, before: Plan, after: Plan) -> list[Place]:
        """Return who has to begin anew by another plan. The exporter knows nothing but its address."""
        return [self._meter, *([self._exporter] if before.rules.metrics != after.rules.metrics else [])]

    def note_queues(self, workers: Sequence[Workplace]) -> None:
        """Note what waits for each worker."""
        for place in workers:
            for lane, inlet in zip(Lane, place.inlets, strict=False):
                with contextlib.suppress(OSError):
                    self.tallies.note_waiting(lane, place.number, Waiting(*inlet.waiting()))
