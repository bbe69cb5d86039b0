"""Who works for the supervisor: the places that there are, what those in them share, and how each begins.

All that they share is made here, before the fork, and outlives who has it. A child closes what is none of its
business: a worker that was taken over has its own packets and nobody else's, and can have nothing run.
"""

from __future__ import annotations

import mmap
import socket
from collections.abc import Iterator
from functools import partial

from gatekeeper.board import SIZE, Board
from gatekeeper.processes.child import LINK, Child, Control, Main
from gatekeeper.processes.guarding import guard
from gatekeeper.processes.hooking import run_hooks
from gatekeeper.processes.keeper import keep
from gatekeeper.processes.link import Wire, pair
from gatekeeper.processes.metering import Metering
from gatekeeper.processes.packets import Seat, answers, work
from gatekeeper.processes.places import Crew, Place, Workplace, bind, numbers
from gatekeeper.processes.plan import Plan
from gatekeeper.processes.recorder import record
from gatekeeper.settings import Rules

_NOTES_WAITING = 1 << 20
"""Bytes of what is to be recorded that wait for the disk; more is lost."""


class Staff:
    """Everybody's place. Who is to be in it, and from when on, is the supervisor's business."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        """By what all work, or begin to."""
        self.guardian, self.keeper = Place("guardian"), Place("keeper")
        self.workers = Crew(plan.rules.workers)
        self._memory = self._boards()
        self._answers = answers(plan.rules)
        self.recorders = [Place("recorder")] if plan.recording is not None else []
        self._notes = Wire() if plan.recording is not None else None  # from the workers, and to the recorder
        if self._notes is not None:
            self._notes.written.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _NOTES_WAITING)
        self.metering = Metering()
        self.hooks = Place("hook-runner")
        self._hook_wire = Wire() if plan.rules.has_hooks else None  # from the keeper, and to who runs them

    def places(self) -> Iterator[Place]:
        """Yield all places: the guardian's before the keeper's, so that it begins whether or not that can."""
        hooks = [self.hooks] if self._hook_wire is not None else []
        yield from (self.guardian, *self.recorders, *hooks, *self.workers, self.keeper)
        yield from self.sides()

    def sides(self) -> tuple[Place, ...]:
        """Return the places that the door does not need."""
        return self.metering.places(self.plan)

    def door(self) -> Iterator[Place]:
        """Yield the places without which there is no door."""
        sides = self.sides()
        return (place for place in self.places() if place not in sides)

    def children(self) -> list[Child]:
        """List who is there."""
        return [place.child for place in self.places() if place.child is not None]

    def follow(self, plan: Plan) -> None:
        """Go over to another plan, while nobody who must know of it works."""
        self.workers.keep(plan.rules.workers)
        self.workers.observe(observes=plan.observes)
        self.workers.has_gone = False
        self._memory = self._boards()
        if _answering(plan.rules) != _answering(self.plan.rules):
            if self._answers is not None:
                self._answers.close()
            self._answers = answers(plan.rules)
        if plan.rules.has_hooks and self._hook_wire is None:  # once there, it stays: what it runs need not end
            self._hook_wire = Wire()
        self.plan = plan

    def begin(self, place: Place) -> None:
        """Fork who works in a place; a worker only when there is a keeper who listens.

        Raises:
            QueueError: another process has one of the worker's queues.
            OSError: there is no memory, or no number, for another process.
        """
        if not isinstance(place, Workplace):
            place.child = self._fork(place, self._main(place))
        elif self.keeper.child is not None and self.keeper.child.is_ready:
            self._begin_worker(place, self.keeper.child)

    def _main(self, place: Place) -> Main:
        """Say what a child does that is no worker."""
        if self._notes is not None and self.plan.recording is not None and place in self.recorders:
            return partial(record, self.plan.recording, end=self._notes.read)
        if (its := self.metering.main(place, self.plan)) is not None:
            return its
        if place is self.guardian:
            return partial(guard, self.plan)
        if place is self.hooks and self._hook_wire is not None:
            return partial(run_hooks, end=self._hook_wire.read)
        return partial(keep, self.plan, hooks=None if self._hook_wire is None else self._hook_wire.written)

    def _begin_worker(self, place: Workplace, keeper: Child) -> None:
        if not place.inlets:
            place.inlets = bind(numbers(self.plan.rules, place.number), observes=self.plan.observes)
        board = None if self._memory is None else Board(self._memory, place.number)
        if board is not None:
            board.post([])  # what the last one had on it is over
        notes = None if self._notes is None else self._notes.written
        seat = Seat(
            inlets=place.inlets,
            left=place.left,
            board=board,
            waits=self.workers.waits,
            answers=self._answers,
            took=partial(self.metering.tallies.note_took, place.number),
            notes=notes,
        )
        ours, its = pair()
        with ours, its:
            place.child = self._fork(place, lambda control: work(self.plan, control, its, seat), not_for_it=ours)
            keeper.send(LINK, ours.fileno())

    def _fork(self, place: Place, main: Main, *, not_for_it: socket.socket | None = None) -> Child:
        others = [child.control for child in self.children()]
        inlets = [inlet for workplace in self.workers if workplace is not place for inlet in workplace.inlets]

        def begin(control: Control) -> None:
            for one in [*others, *([not_for_it] if not_for_it else [])]:
                one.close()  # or a wire would not end with the process at its other end
            for inlet in inlets:
                inlet.abandon()
            if self._answers is not None and not isinstance(place, Workplace):
                self._answers.close()
            if self._notes is not None:
                self._notes.keep(written=isinstance(place, Workplace), read=place in self.recorders)
            if self._hook_wire is not None:  # nobody but the keeper may say what is to be run
                self._hook_wire.keep(written=place is self.keeper, read=place is self.hooks)
            self.metering.keep(place)
            main(control)

        return Child(place.name, begin, log_format=self.plan.log_format)

    def _boards(self) -> mmap.mmap | None:
        """Make the memory of the workers' boards; one worker alone needs none."""
        return mmap.mmap(-1, SIZE) if len(self.workers) > 1 else None


def _answering(rules: Rules) -> tuple[object, ...]:
    """Say what the sockets that answer depend on."""
    return rules.ack, rules.via, rules.knock_ports
