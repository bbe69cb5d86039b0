"""The live grants in memory: who is let in, and who is next to end.

Pure; knows neither packets nor the kernel. Lookups cost the same for one grant and for a hundred
thousand: one dictionary access for each prefix length in use.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from math import inf

from gatekeeper.model import Grant, Revoke
from gatekeeper.networks import Source, lies_in

_Key = tuple[str, Source, str]


class Allowlist:
    """Live grants, keyed by service, source and client."""

    def __init__(self, grants: Iterable[Grant] = ()) -> None:
        self._grants: dict[_Key, Grant] = {}
        self._deadlines: dict[tuple[str, int, int, int], dict[str, float]] = {}
        self._lengths: dict[tuple[str, int], tuple[int, ...]] = {}
        self._sizes: Counter[tuple[str, int]] = Counter()
        self._expiries: list[tuple[float, int, _Key]] = []
        self._serial = 0  # breaks ties in the heap: sources of two IP versions do not compare
        for grant in grants:
            self.admit(grant)

    def __len__(self) -> int:
        return len(self._grants)

    def __iter__(self) -> Iterator[Grant]:
        return iter(self._grants.values())

    def get(self, service: str, source: Source, client: str) -> Grant | None:
        """The grant of this client for this service and source, if there is one."""
        return self._grants.get((service, source, client))

    def within(self, effect: Revoke) -> list[Grant]:
        """The grants that a revoke is for. One address is looked up; of a network, all grants are asked."""
        grants: Iterable[Grant] = self._grants.values()
        if effect.source.prefixlen == effect.source.max_prefixlen:
            services = [name for name, _ in self._lengths] if effect.services is None else effect.services
            grants = [grant for name in dict.fromkeys(services) for grant in self._of(name, effect.source)]
        return [
            grant
            for grant in grants
            if (effect.client is None or grant.client == effect.client)
            and (effect.services is None or grant.service in effect.services)
            and lies_in(grant.source, effect.source)
        ]

    def matching(self, service: str, source: Source, *, now: float) -> list[Grant]:
        """The live grants, of any client, for exactly this service and source."""
        return [grant for grant in self._of(service, source) if grant.is_live(now)]

    def _of(self, service: str, source: Source) -> list[Grant]:
        clients = self._deadlines.get(_network_key(service, source), ())
        return [self._grants[service, source, client] for client in clients]

    def admit(self, grant: Grant) -> None:
        """Put a grant in place; one of the same client for the same source and service gives way."""
        key = _key(grant)
        self._grants[key] = grant
        deadline = inf if grant.expires_at is None else grant.expires_at
        family = (grant.service, grant.source.version)
        clients = self._deadlines.setdefault(_network_key(grant.service, grant.source), {})
        self._sizes[family] += not clients
        clients[grant.client] = deadline
        lengths = self._lengths.get(family, ())
        if grant.source.prefixlen not in lengths:
            self._lengths[family] = (*lengths, grant.source.prefixlen)
        if grant.expires_at is not None:
            self._serial += 1
            heapq.heappush(self._expiries, (grant.expires_at, self._serial, key))

    def end(self, grant: Grant) -> None:
        """Take out the grant of this client for this source and service, if there is one."""
        if self._grants.pop(_key(grant), None) is None:
            return
        network = _network_key(grant.service, grant.source)
        clients = self._deadlines[network]
        del clients[grant.client]
        if not clients:
            del self._deadlines[network]
            self._sizes[grant.service, grant.source.version] -= 1

    def end_due(self, now: float) -> None:
        """Take out the grants whose time is up."""
        while (expiry := self.next_expiry()) is not None and expiry <= now:
            self.end(self._grants[self._expiries[0][2]])

    def replace(self, grants: Iterable[Grant]) -> None:
        """Hold these grants and no others."""
        fresh = Allowlist(grants)
        self._grants, self._deadlines = fresh._grants, fresh._deadlines
        self._sizes = fresh._sizes
        self._lengths, self._expiries, self._serial = fresh._lengths, fresh._expiries, fresh._serial

    def sizes(self) -> Mapping[tuple[str, int], int]:
        """Count the sources that have a grant, by service and IP version; those whose end is due are among them."""
        return self._sizes

    def covers(self, packed: bytes, service: str, *, now: float) -> bool:
        """Whether an address (4 or 16 bytes) has a live grant for a service."""
        bits = len(packed) * 8
        version = 4 if bits == 32 else 6
        lengths = self._lengths.get((service, version))
        if not lengths:
            return False
        address = int.from_bytes(packed)
        for length in lengths:
            shift = bits - length
            clients = self._deadlines.get((service, version, address >> shift << shift, length))
            if clients and max(clients.values(), default=0.0) > now:
                return True
        return False

    def next_expiry(self) -> float | None:
        """When the next grant ends (Unix seconds); ``None`` if none ends by itself."""
        while self._expiries:
            deadline, _, key = self._expiries[0]
            grant = self._grants.get(key)
            if grant is not None and grant.expires_at == deadline:
                return deadline
            heapq.heappop(self._expiries)  # it was replaced or ended since
        return None


def _key(grant: Grant) -> _Key:
    return (grant.service, grant.source, grant.client)


def _network_key(service: str, source: Source) -> tuple[str, int, int, int]:
    return (service, source.version, int(source.network_address), source.prefixlen)
