"""Cuts what is open: what revokes owe, and what must not outlive its grant. Knows the store's debts, not its grants."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from gatekeeper.allowlist import Allowlist
from gatekeeper.errors import GatekeeperError
from gatekeeper.model import Grant, Revoke
from gatekeeper.networks import Address, Networks, Source
from gatekeeper.protocols import Backend, Store
from gatekeeper.settings import Rules


class _Networks(NamedTuple):
    """Whom a service lets in without a grant, and whom it never does."""

    always: Networks
    never: Networks


class Cuts:
    """Makes cuts, and sees to those that are owed."""

    def __init__(self, rules: Rules, store: Store, backend: Backend, allowlist: Allowlist) -> None:
        self._rules = rules
        self._store = store
        self._backend = backend
        self._allowlist = allowlist
        self._networks = {
            name: _Networks(Networks(one.always), Networks(one.never)) for name, one in rules.services.items()
        }
        self._counted: set[Revoke] = set()

    def settle(self, now: float, errors: list[str]) -> int:
        """Cut what the store says is owed: by these revokes, or by those of a process that died in between."""
        try:
            owed = [one for one in self._store.owed_cuts() if one not in self._counted]
            if not owed:
                return 0
            cut = self.make([one for effect in owed for one in self.whom(effect)], now)
            if self._backend.really_cuts:
                self._store.settle_cuts(owed)
            else:  # they stay owed, and are made when it guards again
                self._counted.update(owed)
        except GatekeeperError as error:
            errors.append(error.message)
            return 0
        return cut

    def whom(self, effect: Revoke) -> list[Grant]:
        """Return stand-ins for all that a revoke may cut: also what was kept when its grant ended by time."""
        services = self._rules.services if effect.services is None else effect.services
        return [Grant(effect.source, name, "", None) for name in services]

    def attempt(self, ended: Iterable[Grant], now: float, errors: list[str], *, by_time: bool = False) -> int:
        """Cut as ``make`` does; note what was refused."""
        try:
            return self.make(ended, now, by_time=by_time)
        except GatekeeperError as error:
            errors.append(error.message)
            return 0

    def make(self, ended: Iterable[Grant], now: float, *, by_time: bool = False) -> int:
        """Cut what these grants had open; of those that ended by time, only what does not outlive them."""
        sources: dict[str, list[Source]] = {}
        for grant in ended:
            sources.setdefault(grant.service, []).append(grant.source)
        number = 0
        for name, gone in sources.items():
            service = self._rules.services.get(name)
            cuttable = service.fleeting() if service is not None and by_time else service
            if cuttable is not None:
                number += self._backend.cut(cuttable, gone, spare=self._still_granted(name, now))
        return number

    def _still_granted(self, service: str, now: float) -> Callable[[Address], bool]:
        always, never = self._networks[service]

        def is_let_in(address: Address) -> bool:
            needs_no_grant = always.has(address.packed) and not never.has(address.packed)
            return needs_no_grant or self._allowlist.covers(address.packed, service, now=now)

        return is_let_in
