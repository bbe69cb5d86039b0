"""The supervisor: replaces who dies among guardian, keeper and workers. It does nothing else, so that it lives.

Who that is, and how each begins, is in staff.py. There is one thread, so a fork takes nothing by surprise; all that
children need was imported and read before. A worker
is replaced alone, and so is a guardian; with a keeper, all workers are replaced. What fails again and again is tried
with pauses, and never given up: the ruleset is in place, closed stays closed, and open ends by the kernel's clock.

The workers' queues are bound in this process. So they outlive a worker, and what arrives meanwhile waits for the next.

For other rules (reloading.py) everybody ends (``rest``), and begins anew by another plan (``go_on``); the queues stay.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import FrameType

from gatekeeper import observe
from gatekeeper.errors import GatekeeperError, QueueError
from gatekeeper.firewall.nfqueue import Left
from gatekeeper.processes.child import NOTED, Child
from gatekeeper.processes.places import Place, Workplace, let_go, reap
from gatekeeper.processes.plan import Plan
from gatekeeper.processes.staff import Staff
from gatekeeper.settings import Mode, Rules

_LOOK_EVERY = 2.0
"""Seconds. Deaths are heard of at once (SIGCHLD); this is for what hangs."""
_STOP_PATIENCE = 0.8
"""Seconds that a stop waits for knocks in hand."""
_START_PATIENCE = 60.0
"""Seconds in which a child gets ready: with a hundred thousand grants, restoring takes some."""
_SILENCE = 20.0
"""Seconds after which a child that shows no life is killed. (The store waits up to 5 s for others.)"""
_LASTED = 1.0
"""Seconds that a child must have lived, for the next to follow without a pause."""
_PAUSES = (0.0, 0.0, 0.05, 0.1, 0.2, 0.4, 0.8)
"""Seconds until the next try, after so many failures in a row. Under one, so that the door is never shut for long."""
_SAY_AGAIN = 60.0
"""Seconds until the same trouble is told again."""
_LONGEST_NOTE = 200
"""Bytes: more than the trail keeps, and less than a child hears at once."""
_LET_GO = 1.0
"""Seconds that packets wait in a queue for a worker that is not there. Then it is unbound: where the rules let packets
pass that no worker looks at (echo requests, and all while we only observe), they pass."""
_LET_GO_AT_A_CHANGE = 10.0
"""The same, while all are replaced for other rules: with a hundred thousand grants the keeper takes a few seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """What the supervisor calls, from its one thread."""

    on_ready: Callable[[Plan, str], None]
    """When all work by a plan that is new, with what the keeper says."""
    on_life: Callable[[], None]
    """Every two seconds or less."""
    on_look: Callable[[Supervisor], bool]
    """The same, and at once when a signal came: it may have us ``rest`` and ``go_on``, and says whether it has."""


class Supervisor:
    """Looks after one guardian, one keeper, and the workers."""

    def __init__(self, plan: Plan, calls: Calls) -> None:
        self._staff = Staff(plan)
        self._calls = calls
        self._was_ready = self._is_settled = False
        self._stopping = False
        self._looked = time.monotonic()
        self._died: float | None = None
        self._said, self._say_again = "", 0.0
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> None:
        """Work until SIGTERM or SIGINT.

        Raises:
            GatekeeperError: a child could not begin, the first time.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        try:
            while not self._stopping:
                self._look()
                self._calls.on_life()
                if not self._calls.on_look(self):
                    self._wait()
        finally:
            self._stop()

    def _on_stop(self, _signal: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _wait(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._woken, selectors.EVENT_READ)
            for child in self._staff.children():  # signs of life can wait until we look around
                if not child.is_ready or child is self._staff.guardian.child:
                    selector.register(child.control, selectors.EVENT_READ)
            selector.select(self._patience())
        with contextlib.suppress(BlockingIOError):
            os.read(self._woken, 4096)
        for place in self._staff.places():
            said = place.child.listen() if place.child is not None else []
            if place is self._staff.guardian and self._staff.keeper.child is not None:
                for words in said:
                    self._staff.keeper.child.send(words)

    def _patience(self) -> float:
        """Return for how many seconds there is nothing to do, unless somebody says or does something."""
        now = time.monotonic()
        moments = [place.next_try for place in self._staff.places() if place.child is None]
        moments += [place.let_go_at for place in self._staff.workers if place.child is None and place.inlets]
        return min([_LOOK_EVERY, *(moment - now for moment in moments if moment > now)])

    # -- who lives, who died

    def _look(self) -> None:
        """Replace what died, and kill what hangs."""
        for place in self._staff.places():
            child = place.child
            if child is not None and (status := child.ended()) is not None:
                self._vacate(place, is_blameless=status == 0)  # a worker whose keeper has died ends by itself
                self._note_end(place, child, status)
                if place is self._staff.keeper:
                    self._end_workers()
        self._kill_what_hangs()
        self._begin_missing()
        if self._staff.plan.rules.metrics is not None:
            self._staff.metering.note_queues(self._staff.workers)
        for workplace in self._staff.workers:
            if workplace.child is None and time.monotonic() > workplace.let_go_at:
                let_go(workplace)
        self._staff.workers.go()
        if all(place.child is not None and place.child.is_ready for place in self._staff.door()):
            self._note_ready()

    def _kill_what_hangs(self) -> None:
        now = time.monotonic()
        was_stopped, self._looked = now - self._looked > _LOOK_EVERY * 2, now
        for child in self._staff.children():
            if was_stopped:  # the whole machine, or all of us: they had no more time than we had
                child.seen = now
            patience = _SILENCE if child.is_ready else _START_PATIENCE
            if now - child.seen > patience and not child.was_killed:
                child.was_killed = True
                words = f"the {child.name} (process {child.pid}) hangs; it is killed"
                observe.message(f"{words} (as soon as the kernel can: it may wait for a disk)", level=logging.ERROR)
                child.kill()

    def _begin_missing(self) -> None:
        for place in self._staff.places():
            if place.child is not None or time.monotonic() < place.next_try:
                continue
            try:
                self._staff.begin(place)
            except QueueError as error:
                if not self._was_ready:
                    raise
                self._fail(place, f"the worker cannot begin: {error.message}")
            except OSError as error:  # no memory
                self._fail(place, f"no new process can be made: {error.strerror}")

    def _vacate(self, place: Place, *, is_blameless: bool) -> None:
        """Note that a child is gone; what it had in hand cannot be why, if it is blameless."""
        child, place.child = place.child, None
        if isinstance(place, Workplace) and child is not None:
            # If it was a packet that ended it, that must not end the next as well, and the next.
            has_lasted = child.is_ready and time.monotonic() - child.begun > _LASTED
            place.left = Left.REPEAT if has_lasted or is_blameless else Left.DROP
            place.let_go_at = time.monotonic() + _LET_GO

    def _note_end(self, place: Place, child: Child, status: int) -> None:
        words = f"the {child.name} (process {child.pid}) "
        words += f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        is_needed = place in self._staff.door()
        if child.error is not None:
            if is_needed and not self._was_ready:
                raise child.error
            words = f"the {child.name} cannot go on: {child.error.message}"
        elif is_needed and not self._was_ready:
            raise GatekeeperError(words, "its log lines above say why")
        self._staff.metering.tallies.count_replaced(place.name)
        if is_needed:
            self._died = self._died or time.monotonic()
        # What was killed from outside (by the kernel, for want of memory) did not fail.
        lasted = time.monotonic() - child.begun > _LASTED or (child.is_ready and status == -signal.SIGKILL)
        self._fail(place, words, lasted=lasted)

    def _fail(self, place: Place, words: str, *, lasted: bool = False) -> None:
        place.failures = 0 if lasted else min(place.failures + 1, len(_PAUSES) - 1)
        place.next_try = time.monotonic() + _PAUSES[place.failures]
        if words != self._said or time.monotonic() > self._say_again:
            self._said, self._say_again = words, time.monotonic() + _SAY_AGAIN
            observe.message(f"{words}; it is replaced", level=logging.ERROR)

    def _note_ready(self) -> None:
        if not self._is_settled and self._staff.keeper.child is not None:
            self._was_ready = self._is_settled = True
            # Let in once: what is revoked later stays revoked.
            self._staff.plan = replace(self._staff.plan, present=None)
            self._calls.on_ready(self._staff.plan, self._staff.keeper.child.note)
        elif self._died is not None:
            observe.event("replaced", {"after": f"{(time.monotonic() - self._died) * 1000:.0f}ms"})
        self._died = None

    # -- other rules

    @property
    def plan(self) -> Plan:
        """By what all work, or begin to."""
        return self._staff.plan

    def note(self, at: float, reason: str, words: str) -> bool:
        """Have the keeper add to the audit trail; return whether there is one that can be told.

        One that is not ready yet may never be, for it cannot use its store.
        """
        keeper = self._staff.keeper.child
        if keeper is None or not keeper.is_ready:
            return False
        return keeper.send(NOTED + f"{at} {reason} {words}".encode(errors="backslashreplace")[:_LONGEST_NOTE])

    def rest(self, rules: Rules) -> None:
        """End everybody, for other rules are about to be loaded, until ``go_on``. No queue is let go of.

        Everybody: the guardian would repair the new ruleset away, the keeper mends networks by the old rules, and
        a worker that observes lets go on what the new ruleset drops. What workers had handed over is carried out; what
        they held, and what comes meanwhile, waits.

        Raises:
            QueueError: somebody else has a queue that more workers need. Nobody was ended.
        """
        self._staff.workers.bind_more(rules)
        self._end([self._staff.guardian, *self._staff.workers])
        self._end([self._staff.keeper])
        if rules.mode is Mode.GUARD:  # from before the moment in which it must not
            self._staff.workers.observe(observes=False)

    def go_on(self, plan: Plan) -> None:
        """Have all begin by this plan: another, whose ruleset is loaded, or the one that there was."""
        before = self._staff.plan
        self._staff.follow(plan)
        self._kill(self._staff.metering.outdated(before, plan))
        self._is_settled, self._died = False, None
        for place in self._staff.places():
            place.failures, place.next_try = 0, 0.0
        for workplace in self._staff.workers:
            workplace.let_go_at = time.monotonic() + _LET_GO_AT_A_CHANGE

    # -- the end

    def _end_workers(self) -> None:
        """End the workers of a keeper that is gone: they know nobody who carries knocks out."""
        self._staff.workers.has_gone = False
        for place in self._staff.workers:
            if place.child is not None:
                place.child.kill()
        for place in self._staff.workers:
            if place.child is not None:
                reap(place.child, seconds=_STOP_PATIENCE)
                self._vacate(place, is_blameless=True)

    def _stop(self) -> None:
        """End all: the workers before the keeper, which then carries out what they had in hand."""
        signal.set_wakeup_fd(-1)
        self._end([self._staff.guardian, *self._staff.workers])
        for workplace in self._staff.workers:
            let_go(workplace)
        self._end([self._staff.keeper, *self._staff.recorders])
        self._end([self._staff.hooks])
        self._kill(self._staff.sides())

    def _kill(self, places: Sequence[Place]) -> None:
        """End those who have nothing in hand."""
        for child in (place.child for place in places if place.child is not None):
            child.kill()
        self._end(places)

    def _end(self, places: Sequence[Place]) -> None:
        """Ask them to end, and wait for it."""
        for child in (place.child for place in places if place.child is not None):
            child.stop()
        for place in places:
            if place.child is not None:
                reap(place.child, seconds=_STOP_PATIENCE)
                self._vacate(place, is_blameless=True)
