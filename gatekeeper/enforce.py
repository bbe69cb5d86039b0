"""The enforcer: carries effects out, in the store first and then in the kernel.

What the kernel is told follows from what the store says *after* the change: a source is a member for
as long as any client's grant for it lives, and is cut when the last one is gone. So one client's close
does not end another's grant for the same address, and telling the kernel twice does no harm.

Opening needs the store: what is not on the disk is not opened. Closing does not: when the store fails,
the kernel is closed all the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import NamedTuple, Protocol

from gatekeeper import entitled
from gatekeeper.allowlist import Allowlist
from gatekeeper.cuts import Cuts
from gatekeeper.errors import FirewallError, GatekeeperError, StoreError
from gatekeeper.garbage import unsearched
from gatekeeper.mending import Mender, seconds_left
from gatekeeper.model import Effect, Grant, Mended, Outcome, Reading, Revoke
from gatekeeper.networks import Source, lies_in
from gatekeeper.protocols import Backend, Member, Store
from gatekeeper.replay import ReplayMemory
from gatekeeper.settings import Rules

_EXPIRE_AT_ONCE = {True: 32, False: 100}
"""Grants that are ended in one go, while knocks wait: few where the kernel has ended them already, by its own clock;
where it keeps no time, each go costs processes."""
_EVER = -math.inf
"""At this time, all grants that are there were live."""
_SWEPT_AT_ONCE = 500
"""Members that are compared with the store in one go, while knocks wait."""

Lock = Callable[[], AbstractContextManager[None]]


class Matching(Protocol):
    """Finds the live grants, of any client, for exactly a service and a source."""

    def __call__(self, service: str, source: Source, *, now: float) -> Sequence[Grant]:
        """Find them."""


class Memory(NamedTuple):
    """Who is let in, and what is spent, in memory."""

    allowlist: Allowlist
    replays: ReplayMemory


class Enforcer:
    """Keeps store, kernel and allowlist together. One thread at a time."""

    def __init__(
        self, rules: Rules, store: Store, backend: Backend, *, lock: Lock, memory: Memory | None = None
    ) -> None:
        """``memory``: what learns of each change, besides the store and the kernel."""
        self._rules = rules
        self._store = store
        self._backend = backend
        self._lock = lock
        self._is_behind = False
        self._has_missed = self._floors_moved = False
        """Whether all grants must be compared; and whether the floors must be read again."""
        self._focus: Source | None = None
        """Where a command by hand is at work: of others it knows no grants."""
        self._unsaved: list[Revoke] = []
        self._undone: dict[Member, str] = {}
        """What the kernel refused, and why: it is told again with each change, and whenever we catch up."""
        self.allowlist, self.replays = memory or (Allowlist(), ReplayMemory(skew=rules.skew))
        self._cuts = Cuts(rules, store, backend, self.allowlist)
        self._mender = Mender(rules, backend, self.allowlist)

    def restore(self, *, now: float) -> Outcome:
        """Make the kernel what the store says, in one step a service.

        Grants that ended meanwhile, and those of clients or services that the rules no longer have,
        are ended (and their connections cut, where the service says so).
        """
        with self._lock(), unsearched():
            expired = self._store.expire(now=now)
            kept, shortened, orphans = entitled.sort(self._store.live(now=now), self._rules, now=now)
            self._store.forget(orphans, now=now)
            if shortened:  # or they would come back when the rules allow it again
                self._store.shorten(shortened, now=now)
            self._backend.replace(self._members(kept, now))
            self._undone.clear()
            self.allowlist.replace(kept)
            self.replays.replace(self._store.born, self._store.floors())
            cut = self._cuts.make(expired, now, by_time=True) + self._cuts.make(orphans, now)
            errors: list[str] = []
            cut += self._cuts.settle(now, errors)
        return Outcome(admitted=tuple(kept), ended=(*expired, *orphans), cut=cut, error="; ".join(errors) or None)

    def follow_clock(self, reading: Reading, *, now: float) -> Outcome:
        """Move deadlines with the wall clock, which was set: a grant is for a time, and not until a reading."""
        with self._lock():
            self._store.rebase(reading)
        return self.restore(now=now)

    def load(self, source: Source, *, now: float) -> None:
        """Learn the live grants that touch a source, and no others: all that a command by hand needs to know."""
        self._focus = source
        sources = [source, *(cut.source for cut in self._store.owed_cuts())]  # those are cut too
        self.allowlist.replace({grant for one in sources for grant in self._store.touching(one, now=now)})

    def carry_out(self, effects: Sequence[Effect], *, now: float) -> list[Outcome]:
        """Commit effects in one transaction, then project them; an outcome's error is the kernel's refusal.

        Raises:
            StoreError: the store refused. Nothing was stored, opened or closed.
        """
        with self._lock():
            self._catch_up(now)
            earlier = len(self._unsaved)
            outcomes = self._store.commit([*self._unsaved, *effects], now=now)
            if self._unsaved:
                self._unsaved.clear()
                self._catch_up(now)  # it had to wait for them
            return self._finish(outcomes, now)[earlier:]

    def close_unsaved(self, effect: Revoke, *, now: float) -> Outcome:
        """Close in the kernel what the store cannot take note of now; it is told as soon as it listens.

        Without the lock, for it may be the lock that is not to be had, and closing cannot wait.
        """
        same = (effect.source, effect.client, effect.services)
        self._unsaved = [one for one in self._unsaved if (one.source, one.client, one.services) != same]
        self._unsaved.append(effect)
        outcome = Outcome(ended=tuple(self.allowlist.within(effect)))
        errors = self._project(outcome, now, matching=self.allowlist.matching)
        gone = self._cuts.whom(effect) if effect.client is None else outcome.ended
        cut = self._cuts.attempt(gone, now, errors)
        return replace(outcome, cut=cut, error="; ".join(errors) or None)

    @property
    def unsaved(self) -> Sequence[Revoke]:
        """The closes that the store has not taken yet."""
        return self._unsaved

    @property
    def ends_by_itself(self) -> bool:
        """Whether a grant ends in the kernel when its time is up, also if nobody is there to end it."""
        return self._backend.keeps_time

    def expire(self, *, now: float) -> Outcome:
        """End grants whose time is up, some at a time, so that knocks need not wait for a crowd.

        The kernel has ended them already, to the second; this cuts connections and tidies up.
        """
        try:
            return self._expire(now)
        except StoreError:
            self._close_expired(now)
            raise

    def _expire(self, now: float) -> Outcome:
        with self._lock():
            outcome = Outcome(ended=tuple(self._store.expire(now=now, limit=_EXPIRE_AT_ONCE[self._backend.keeps_time])))
            if not outcome.ended:  # whatever has expired here is not in the store any more
                self.allowlist.end_due(now)
            self._mender.note_ended(outcome.ended, now)
            errors = self._project(outcome, now)
            cut = self._cuts.attempt(outcome.ended, now, errors, by_time=True)
            return replace(outcome, cut=cut, error="; ".join(errors) or None)

    def _close_expired(self, now: float) -> None:
        """Close in the kernel what has ended by time, where it does not by itself: that needs no store."""
        if self._backend.keeps_time:
            return
        live = {(one.service, one.source) for one in self.allowlist if one.is_live(now)}
        ended = {(one.service, one.source): None for one in self.allowlist if not one.is_live(now)}
        self._backend.change({}, [one for one in ended if one not in live])

    def sweep(self, effect: Revoke, *, now: float) -> str | None:
        """Take out of the kernel what lies in a revoked source and nobody has been granted: what failed before."""
        try:
            there = [
                (name, source)
                for name in self._rules.services
                if effect.services is None or name in effect.services
                for source in self._who_may_be_in(name, effect.source)
                if lies_in(source, effect.source)
            ]
        except FirewallError as error:  # what was granted can be taken back all the same
            return error.message
        refused: list[str] = []
        for part in (there[at : at + _SWEPT_AT_ONCE] for at in range(0, len(there), _SWEPT_AT_ONCE)):
            with self._lock():
                strays = [member for member in part if not self._store.matching(*member, now=now)]
                refused += self._backend.change({}, strays).values()
        return "; ".join(dict.fromkeys(refused)) or None

    def _who_may_be_in(self, service: str, source: Source) -> Sequence[Source]:
        """Return what can lie in a source: of one address that is known without a look, however many there are."""
        return [source] if source.prefixlen == source.max_prefixlen else self._backend.members(service)

    def catch_up(self, *, now: float) -> Outcome:
        """Carry out what another process did to the store, and tell the store what it could not take before.

        ``gatekeeper grant`` tells the kernel itself; but it may have died between the two.
        """
        if self._unsaved:
            self.carry_out([], now=now)
        with self._lock():
            return self._catch_up(now)

    def mend(self, *, now: float) -> Mended:
        """Make the kernel let in whom the live grants say, if somebody else has changed that."""
        suspects = self._mender.suspects(now=now)
        networks = self._mender.mend_networks()
        if not suspects and not self._mender.must_renew(now=now):
            return networks
        with self._lock():  # nobody else is between store and kernel now
            self._is_behind = self._store.changed_by_others() or self._is_behind
            if self._is_behind:  # another process has changed both
                return networks
            self._mender.renew(now=now)
            mended = self._mender.mend(self._mender.suspects(now=now), now=now) if suspects else Mended()
        return replace(mended, networks=networks.networks, error=mended.error or networks.error)

    def _catch_up(self, now: float) -> Outcome:
        self._is_behind = self._store.changed_by_others() or self._is_behind
        if self._unsaved or not self._is_behind:  # with closes unsaved, the store would open what is closed
            return self._try_again(now) if self._undone else Outcome()
        if self._focus is not None:
            self._learn_in_focus(self._focus, now)
            self._is_behind = False
            return Outcome()
        found = self._learn_changes(now)
        if self._floors_moved:
            self._has_missed = True  # should this fail: what was found is not carried out yet
            self.replays.replace(self._store.born, self._store.floors())
            self._has_missed = self._floors_moved = False
        self._is_behind = False
        (outcome,) = self._finish([found], now)
        return outcome

    def _learn_changes(self, now: float) -> Outcome:
        """Find what others have changed: by the store's journal, or, if we missed some of that, by comparing all."""
        changes = self._store.changes()
        self._has_missed = self._has_missed or changes is None
        self._floors_moved = self._floors_moved or changes is None or changes.floors
        if self._has_missed or changes is None:
            with unsearched():
                before, after = set(self.allowlist), set(self._store.live(now=_EVER))
            self._has_missed = False
            still = {_key(one) for one in after}
            gone = [one for one in before - after if one.is_live(now) and _key(one) not in still]
            return Outcome(admitted=tuple(after - before), ended=tuple(gone))
        ended = [one for key in changes.gone if (one := self.allowlist.get(*key)) is not None and one.is_live(now)]
        admitted = [one for one in changes.there if self.allowlist.get(*_key(one)) != one]
        return Outcome(admitted=tuple(admitted), ended=tuple(ended))

    def _learn_in_focus(self, focus: Source, now: float) -> None:
        """Learn what others have changed where a command by hand is at work; they tell the kernel themselves."""
        changes = self._store.changes()
        if changes is None:
            self.load(focus, now=now)
            return
        for key in changes.gone:
            if (one := self.allowlist.get(*key)) is not None:
                self.allowlist.end(one)
        live = [one for one in changes.there if lies_in(one.source, focus) or lies_in(focus, one.source)]
        owed = [cut.source for cut in self._store.owed_cuts() if not lies_in(cut.source, focus)]  # these are cut too
        for one in (*live, *(one for source in owed for one in self._store.touching(source, now=now))):
            self.allowlist.admit(one)

    def _try_again(self, now: float) -> Outcome:
        """Tell the kernel once more what it refused; it was said when it refused it first."""
        self._project(Outcome(), now)
        return Outcome()

    def _finish(self, outcomes: Sequence[Outcome], now: float) -> list[Outcome]:
        """Project each outcome, then cut for all of them together: it costs the same for one and for many."""
        finished: list[Outcome] = []
        for outcome in outcomes:
            errors = self._project(outcome, now)
            finished.append(replace(outcome, error="; ".join(errors) or None))
        if finished:
            errors = []
            cut = self._cuts.settle(now, errors)
            words = "; ".join([*([finished[-1].error] if finished[-1].error else []), *errors])
            finished[-1] = replace(finished[-1], cut=cut, error=words or None)
        return finished

    def _project(self, outcome: Outcome, now: float, *, matching: Matching | None = None) -> list[str]:
        """Tell the allowlist and the kernel of changes; return what was refused, having done the rest."""
        for grant in outcome.ended:
            self.allowlist.end(grant)
        for grant in outcome.admitted:
            self.allowlist.admit(grant)
        if self._unsaved:  # the store would open what is closed
            matching = self.allowlist.matching
        errors: list[str] = []
        put: dict[Member, int | None] = {}
        remove: list[Member] = []
        ended = {(one.service, one.source) for one in outcome.ended}
        changed = [(one.service, one.source) for one in outcome.admitted + outcome.ended]
        for service, source in dict.fromkeys([*self._undone, *changed]):
            try:
                grants = (
                    self._matching(service, source, now) if matching is None else matching(service, source, now=now)
                )
            except GatekeeperError as error:  # go on: what can be closed is closed
                errors.append(error.message)
                continue
            if grants and service in self._rules.services:
                put[service, source] = _time_left(grants, now)
            elif not grants:
                remove.append((service, source))
            if (service, source) in ended and service not in self._rules.services:
                errors.append(f"these rules have no service {service}: what is open there was not cut")
        self._undone = self._backend.change(put, remove)
        return errors + list(dict.fromkeys(self._undone[one] for one in changed if one in self._undone))

    def _matching(self, service: str, source: Source, now: float) -> Sequence[Grant]:
        try:
            return self._store.matching(service, source, now=now)
        except StoreError:  # committed, and now unreadable: the allowlist has been told already
            return self.allowlist.matching(service, source, now=now)

    # -- restoring

    def _members(self, grants: Iterable[Grant], now: float) -> dict[str, dict[Source, int | None]]:
        by_service: dict[str, list[Grant]] = {name: [] for name in self._rules.services}
        for grant in grants:
            by_service[grant.service].append(grant)
        return {name: seconds_left(its, now=now) for name, its in by_service.items()}


def _key(grant: Grant) -> tuple[str, Source, str]:
    return grant.service, grant.source, grant.client


def _time_left(grants: Iterable[Grant], now: float) -> int | None:
    """Seconds until the last of several grants ends, rounded up; ``None``: until closed."""
    ends = [grant.expires_at for grant in grants]
    latest = max((end for end in ends if end is not None), default=now)
    return None if None in ends else math.ceil(latest - now)
