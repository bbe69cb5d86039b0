"""Carries knocks out, and does what time brings: the work of the keeper, apart from how it is told.

It takes all knocks that have come meanwhile into one transaction (group commit), ends grants on time, learns what
other processes did to the store, keeps the counters there, and follows the wall clock when that is set.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from gatekeeper import observe
from gatekeeper.clock import Clock
from gatekeeper.enforce import Enforcer
from gatekeeper.errors import GatekeeperError
from gatekeeper.firewall.pressure import Pressure
from gatekeeper.model import Admit, Decision, Effect, Outcome, Revoke
from gatekeeper.networks import show_source
from gatekeeper.protocols import Store

_AT_ONCE = 256
"""Knocks in one transaction."""
_TICK = 1.0
"""Seconds between looks at the store for changes by others, and at the counters."""
_TIDIED_EVERY = 3600.0
"""Seconds after which the audit trail is looked through for what is too old, also if nothing happens."""


@dataclass(frozen=True, slots=True)
class Task:
    """A knock to be carried out; ``done`` is told whether that went well, as soon as the kernel knows."""

    effect: Effect
    decision: Decision
    done: Callable[[bool], None]


class Commits:
    """Carries effects out, in the order in which they came."""

    def __init__(self, enforcer: Enforcer, store: Store, observer: observe.Observer, clock: Clock) -> None:
        self._enforcer = enforcer
        self._store = store
        self._observer = observer
        self._clock = clock
        self._pressure = Pressure()
        self._looked = time.monotonic()
        self._expire_after = 0.0
        self._must_refill = False
        self._tidied = time.monotonic()
        self.on_clock_step: Callable[[], None] = lambda: None
        """Called when the wall clock was set, and the grants follow it."""

    def work(self, tasks: Sequence[Task]) -> None:
        """Carry out what has come, and do what is due."""
        self._follow_clock()
        for start in range(0, len(tasks), _AT_ONCE):
            for batch in _batches(tasks[start : start + _AT_ONCE]):
                self._carry_out(batch)
        self._end_grants()
        self._look_around()

    def patience(self) -> float:
        """Return for how many seconds there is nothing to do, unless something comes."""
        expiry = self._enforcer.allowlist.next_expiry()
        tick = max(0.0, self._looked + _TICK - time.monotonic())
        if expiry is None or time.monotonic() < self._expire_after:
            return tick
        return min(tick, max(0.0, expiry - self._clock.now()))

    def finish(self) -> None:
        """Bring everything to the disk, or say what could not be brought there."""
        self._look_around(at_once=True)
        for effect in self._enforcer.unsaved:
            source = show_source(effect.source)
            words = "closed in the kernel, but the store could not be told: a restart opens it again"
            observe.event("not-stored", {"source": source, "note": words}, level=logging.ERROR)

    def refill(self) -> None:
        """Have all grants put into the kernel anew, at the next turn and until it works: it may have lost some."""
        self._must_refill = True
        self._looked = 0.0

    def _follow_clock(self) -> None:
        step = self._clock.step()
        if not step:
            return
        observe.event("clock-stepped", {"by": f"{step:+.0f}s"}, level=logging.WARNING)
        try:
            outcome = self._enforcer.follow_clock(self._clock.reading(), now=self._clock.now())
        except GatekeeperError as error:
            self._clock.forget()  # and try again
            outcome = Outcome(error=error.message)
        self._observer.changed("ended", replace(outcome, admitted=()), now=self._clock.now())
        self.on_clock_step()

    def _carry_out(self, tasks: Sequence[Task]) -> None:
        now = self._clock.now()
        try:
            outcomes = self._enforcer.carry_out([task.effect for task in tasks], now=now)
        except GatekeeperError as error:  # nothing was committed
            outcomes = [self._without_store(task.effect, error, now) for task in tasks]
        for task, outcome in zip(tasks, outcomes, strict=True):
            task.done(outcome.error is None and outcome.refused is None)
        for task, outcome in zip(tasks, outcomes, strict=True):
            self._observer.carried_out(task.decision, outcome, now=now)

    def _without_store(self, effect: Effect, error: GatekeeperError, now: float) -> Outcome:
        """Open nothing, but close: in the kernel at once, and in the store as soon as it can be written."""
        if isinstance(effect, Admit):
            return Outcome(error=error.message)
        outcome = self._enforcer.close_unsaved(effect, now=now)
        errors = [words for words in (outcome.error, f"closed, but not stored yet: {error.message}") if words]
        return replace(outcome, error="; ".join(errors))

    def _end_grants(self) -> None:
        now = self._clock.now()
        expiry = self._enforcer.allowlist.next_expiry()
        if expiry is None or expiry > now or time.monotonic() < self._expire_after:
            return
        try:
            outcome = self._enforcer.expire(now=now)
        except GatekeeperError as error:
            outcome = Outcome(error=error.message)
            self._expire_after = time.monotonic() + _TICK
        self._observer.changed("expired", outcome, now=now)

    def _look_around(self, *, at_once: bool = False) -> None:
        if time.monotonic() - self._looked < _TICK and not at_once:
            return
        self._looked = time.monotonic()
        self._observer.sum_up()
        if (words := self._pressure.change()) is not None:
            observe.message(words, level=logging.ERROR)
        try:
            now = self._clock.now()
            elsewhere = self._enforcer.catch_up(now=now)
            self._observer.changed("granted-elsewhere", Outcome(admitted=elsewhere.admitted), now=now)
            self._observer.changed("revoked-elsewhere", replace(elsewhere, admitted=()), now=now)
            if self._must_refill:
                ended = self._enforcer.restore(now=now).ended
                self._observer.changed("ended", Outcome(ended=ended), now=now)
                self._must_refill = False
            self._observer.mended(self._enforcer.mend(now=now))
            self._keep_counts()
        except GatekeeperError as error:
            self._observer.changed("store", Outcome(error=error.message), now=self._clock.now())

    def _keep_counts(self) -> None:
        counts, noted = self._observer.take_counts(), self._observer.take_noted()
        try:
            if counts or noted or time.monotonic() - self._tidied > _TIDIED_EVERY:
                self._store.add_counts(counts, noted, now=self._clock.now())
                self._tidied = time.monotonic()
        except GatekeeperError:
            self._observer.note(noted)
            for name, number in counts.items():  # for the next time
                self._observer.count(name, number)
            raise


def _batches(tasks: Sequence[Task]) -> list[list[Task]]:
    """Begin a new batch where an opening follows a closing: it must not spare what that one cuts."""
    batches: list[list[Task]] = []
    for task in tasks:
        if not batches or (isinstance(task.effect, Admit) and isinstance(batches[-1][-1].effect, Revoke)):
            batches.append([])
        batches[-1].append(task)
    return batches
