"""The enforcer: carries effects out, in the store first and then in the kernel.

What the kernel is told follows from what the store says *after* the change: a source is a member for
as long as any client's grant for it lives, and is cut when the last one is gone. So one client's close
does not end another's grant for the same address, and telling the kernel twice does no harm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from gatekeeper.allowlist import Allowlist
from gatekeeper.errors import FirewallError
from gatekeeper.model import BY_HAND, Address, Backend, Effect, Grant, Outcome, Rules, Source, Store

_EXPIRE_AT_ONCE = 100
Lock = Callable[[], AbstractContextManager[None]]


class Enforcer:
    """Keeps store, kernel and allowlist together. One thread at a time."""

    def __init__(self, rules: Rules, store: Store, backend: Backend, *, lock: Lock) -> None:
        self._rules = rules
        self._store = store
        self._backend = backend
        self._lock = lock
        self.allowlist = Allowlist()

    def restore(self, *, now: float) -> Outcome:
        """Make the kernel what the store says, in one step a service.

        Grants that ended meanwhile, and those of clients or services that the rules no longer have,
        are ended (and their connections cut, where the service says so).
        """
        with self._lock():
            expired = self._store.expire(now=now)
            live = self._store.live(now=now)
            orphans = [grant for grant in live if not self._is_in_rules(grant)]
            self._store.forget(orphans)
            kept = [grant for grant in live if self._is_in_rules(grant)]
            self._backend.replace(self._members(kept, now))
            self.allowlist.replace(kept)
            cut = self._cut(expired, now, by_time=True) + self._cut(orphans, now, by_time=False)
        return Outcome(admitted=tuple(kept), ended=(*expired, *orphans), cut=cut)

    def carry_out(self, effects: Sequence[Effect], *, now: float) -> list[Outcome]:
        """Commit effects in one transaction, then project each; an outcome's error is the kernel's refusal."""
        with self._lock():
            return [self._project(outcome, now) for outcome in self._store.commit(effects, now=now)]

    def expire(self, *, now: float) -> Outcome:
        """End grants whose time is up, some at a time, so that knocks need not wait for a crowd.

        The kernel has ended them already, to the second; this cuts connections and tidies up.
        """
        with self._lock():
            ended = self._store.expire(now=now, limit=_EXPIRE_AT_ONCE)
            return self._project(Outcome(ended=tuple(ended)), now, by_time=True)

    def catch_up(self, *, now: float) -> None:
        """Learn what another process (``gatekeeper grant``) did to the store; it told the kernel itself."""
        self.allowlist.replace(self._store.live(now=now))

    def _project(self, outcome: Outcome, now: float, *, by_time: bool = False) -> Outcome:
        self._remember(outcome)
        errors: list[str] = []
        for service, source in dict.fromkeys((g.service, g.source) for g in outcome.admitted + outcome.ended):
            try:
                self._put(service, source, now)
            except FirewallError as error:  # go on: what can be closed is closed
                errors.append(error.message)
        cut = 0
        try:
            cut = self._cut(outcome.ended, now, by_time=by_time)
        except FirewallError as error:
            errors.append(error.message)
        return replace(outcome, cut=cut, error="; ".join(errors) or None)

    def _put(self, service: str, source: Source, now: float) -> None:
        if service not in self._rules.services:
            return
        grants = self._store.matching(service, source, now=now)
        if grants:
            self._backend.put(self._rules.services[service], source, timeout=_time_left(grants, now))
        else:
            self._backend.remove(self._rules.services[service], source)

    def _remember(self, outcome: Outcome) -> None:
        for grant in outcome.ended:
            self.allowlist.end(grant)
        for grant in outcome.admitted:
            self.allowlist.admit(grant)

    def _cut(self, ended: Iterable[Grant], now: float, *, by_time: bool) -> int:
        sources: dict[str, list[Source]] = {}
        for grant in ended:
            service = self._rules.services.get(grant.service)
            if service is not None and not (by_time and service.keeps_established):
                sources.setdefault(service.name, []).append(grant.source)
        return sum(
            self._backend.cut(self._rules.services[name], gone, spare=self._still_granted(name, now))
            for name, gone in sources.items()
        )

    def _still_granted(self, service: str, now: float) -> Callable[[Address], bool]:
        def is_granted(address: Address) -> bool:
            return self.allowlist.covers(address.packed, service, now=now)

        return is_granted

    def _members(self, grants: Iterable[Grant], now: float) -> dict[str, dict[Source, int | None]]:
        by_member: dict[str, dict[Source, list[Grant]]] = {name: {} for name in self._rules.services}
        for grant in grants:
            by_member[grant.service].setdefault(grant.source, []).append(grant)
        return {
            name: {source: _time_left(grants, now) for source, grants in sources.items()}
            for name, sources in by_member.items()
        }

    def _is_in_rules(self, grant: Grant) -> bool:
        if grant.service not in self._rules.services:
            return False
        client = self._rules.clients.get(grant.client)
        return grant.client == BY_HAND or (client is not None and grant.service in client.services)


def _time_left(grants: Iterable[Grant], now: float) -> int | None:
    """Seconds until the last of several grants ends, rounded up; ``None``: until closed."""
    ends = [grant.expires_at for grant in grants]
    latest = max((end for end in ends if end is not None), default=now)
    return None if None in ends else math.ceil(latest - now)
