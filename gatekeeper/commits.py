"""The thread that carries effects out, so that the packet loop never waits for the disk.

It takes all knocks that have come meanwhile into one transaction (group commit), ends grants on time,
learns what other processes did to the store, keeps the counters there, and has the formats make ready
what the next minutes need.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from gatekeeper import observe
from gatekeeper.answers import Answers
from gatekeeper.enforce import Enforcer
from gatekeeper.errors import GatekeeperError
from gatekeeper.model import Admit, Effect, Outcome, Revoke
from gatekeeper.networks import show_source
from gatekeeper.protocols import KnockFormat, Store
from gatekeeper.worker import MAX_JOBS, Job

_TICK = 1.0
"""Seconds between looks at the store for changes by others, and at the counters."""
_WAKE = object()
_REBUILD = 86_400.0
"""Seconds after which the kernel's sets are rebuilt: their longest timeout is 24 days (ruleset.MAX_TIMEOUT)."""


class Commits(threading.Thread):
    """Carries effects out, in the order in which they came."""

    def __init__(
        self,
        enforcer: Enforcer,
        store: Store,
        observer: observe.Observer,
        *,
        formats: Sequence[KnockFormat] = (),
        answers: Answers | None = None,
    ) -> None:
        super().__init__(name="commits", daemon=True)
        self._formats = formats
        self._answers = answers
        self._enforcer = enforcer
        self._store = store
        self._observer = observer
        self._jobs: queue.SimpleQueue[Job | object | None] = queue.SimpleQueue()
        self._must_refill = threading.Event()
        self._looked = self._rebuilt = time.monotonic()
        self._expire_after = 0.0
        self.on_finished: Callable[[list[Job]], None] = _ignore
        self.on_failure: Callable[[BaseException], None] = _ignore

    def submit(self, job: Job) -> None:
        """Hand a job over; ``on_finished`` will get it back with its outcome."""
        self._jobs.put(job)

    def refill(self) -> None:
        """Have the members restored, soon: the kernel may have lost them. For any thread."""
        self._must_refill.set()
        self._jobs.put(_WAKE)

    def stop(self, *, patience: float) -> None:
        """Finish what was handed over, and end; wait at most ``patience`` seconds."""
        self._jobs.put(None)
        self.join(patience)

    def run(self) -> None:
        """Work until ``stop``."""
        try:
            while self._work():
                pass
            self._look_around(at_once=True)
            for effect in self._enforcer.unsaved:
                source = show_source(effect.source)
                words = "closed in the kernel, but the store could not be told: a restart opens it again"
                observe.event("not-stored", {"source": source, "note": words}, level=logging.ERROR)
        except BaseException as error:
            self.on_failure(error)
            raise

    def _work(self) -> bool:
        jobs: list[Job | object | None] = []
        try:
            jobs.append(self._jobs.get(timeout=self._patience()))
            while len(jobs) < MAX_JOBS:
                jobs.append(self._jobs.get_nowait())
        except queue.Empty:
            pass
        for batch in _batches([job for job in jobs if isinstance(job, Job)]):
            self._carry_out(batch)
        self._end_grants()
        self._look_around(at_once=_WAKE in jobs)
        return None not in jobs

    def _patience(self) -> float:
        expiry = self._enforcer.allowlist.next_expiry()
        if expiry is None or time.monotonic() < self._expire_after:
            return _TICK
        return min(_TICK, max(0.0, expiry - time.time()))

    def _carry_out(self, jobs: list[Job]) -> None:
        now = time.time()
        try:
            outcomes = self._enforcer.carry_out([job.effect for job in jobs], now=now)
        except GatekeeperError as error:  # nothing was committed
            outcomes = [self._without_store(job.effect, error, now) for job in jobs]
        for job, outcome in zip(jobs, outcomes, strict=True):
            job.outcome = outcome
        self.on_finished(jobs)
        for job, outcome in zip(jobs, outcomes, strict=True):
            if self._answers is not None and job.decision.answer is not None and _went_well(outcome):
                self._answers.send(job.decision.answer)
            self._observer.carried_out(job.decision, outcome, now=now)

    def _without_store(self, effect: Effect, error: GatekeeperError, now: float) -> Outcome:
        """Open nothing, but close: in the kernel at once, and in the store as soon as it can be written."""
        if isinstance(effect, Admit):
            return Outcome(error=error.message)
        outcome = self._enforcer.close_unsaved(effect, now=now)
        errors = [words for words in (outcome.error, f"closed, but not stored yet: {error.message}") if words]
        return replace(outcome, error="; ".join(errors))

    def _end_grants(self) -> None:
        now = time.time()
        expiry = self._enforcer.allowlist.next_expiry()
        if expiry is None or expiry > now or time.monotonic() < self._expire_after:
            return
        try:
            outcome = self._enforcer.expire(now=now)
        except GatekeeperError as error:
            outcome = Outcome(error=error.message)
            self._expire_after = time.monotonic() + _TICK
        self._observer.changed("expired", outcome, now=now)

    def _refill(self, now: float) -> None:
        if self._must_refill.is_set():
            self._must_refill.clear()
            try:
                self._enforcer.restore(now=now)
            except GatekeeperError:
                self._must_refill.set()
                raise

    def _look_around(self, *, at_once: bool = False) -> None:
        if time.monotonic() - self._looked < _TICK and not at_once:
            return
        self._looked = time.monotonic()
        for form in self._formats:
            form.renew(now=time.time())
        try:
            now = time.time()
            elsewhere = self._enforcer.catch_up(now=now)
            self._observer.changed("granted-elsewhere", Outcome(admitted=elsewhere.admitted), now=now)
            self._observer.changed("revoked-elsewhere", replace(elsewhere, admitted=()), now=now)
            self._refill(now)
            self._observer.mended(self._enforcer.mend(now=now))
            if self._looked - self._rebuilt > _REBUILD:
                self._rebuilt = self._looked
                self._enforcer.restore(now=time.time())
            self._keep_counts()
        except GatekeeperError as error:
            self._observer.changed("store", Outcome(error=error.message), now=time.time())

    def _keep_counts(self) -> None:
        counts = self._observer.take_counts()
        try:
            if counts:
                self._store.add_counts(counts)
        except GatekeeperError:
            for name, number in counts.items():  # for the next time
                self._observer.count(name, number)
            raise


def _batches(jobs: list[Job]) -> list[list[Job]]:
    """Begin a new batch where an opening follows a closing: it must not spare what that one cuts."""
    batches: list[list[Job]] = []
    for job in jobs:
        if not batches or (isinstance(job.effect, Admit) and isinstance(batches[-1][-1].effect, Revoke)):
            batches.append([])
        batches[-1].append(job)
    return batches


def _went_well(outcome: Outcome) -> bool:
    return outcome.error is None and outcome.refused is None


def _ignore(_: object) -> None:
    pass
