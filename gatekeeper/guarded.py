"""Which service guards a port, at an address of this machine. Pure.

One dictionary access for a port, whatever the number of services; wide ranges are looked through, and are few.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from gatekeeper.settings import Ports, Service

_WIDE = 256


class _Place(NamedTuple):
    """A service, and the addresses (packed) at which it is guarded; none: at all."""

    service: Service
    addresses: frozenset[bytes]


class Guarded:
    """The protected ports of a rules file. No two services guard the same port of the same address.

    Where one guards it on hosts behind (which it names) and another at all addresses of this machine, the one that
    names the address is asked first.
    """

    def __init__(self, services: Iterable[Service]) -> None:
        self._places: dict[tuple[int, int], list[_Place]] = {}
        self._wide: list[tuple[Ports, _Place]] = []
        for service in sorted(services, key=lambda one: not one.addresses):
            place = _Place(service, frozenset(address.packed for address in service.addresses))
            for ports in service.ports:
                if ports.last - ports.first >= _WIDE:
                    self._wide.append((ports, place))
                    continue
                for port in range(ports.first, ports.last + 1):
                    self._places.setdefault((ports.transport.number, port), []).append(place)

    def by(self, protocol: int, port: int, address: bytes) -> Service | None:
        """Find the service that guards a port of an address (4 or 16 bytes); ``None`` if none does."""
        for service, addresses in self._places.get((protocol, port), ()):
            if address in addresses:
                return service
            if not addresses:
                return self._by_range(protocol, port, address, is_named=True) or service
        return self._by_range(protocol, port, address)

    def _by_range(self, protocol: int, port: int, address: bytes, *, is_named: bool = False) -> Service | None:
        """Look through the wide ranges; ``is_named``: only those of services that name the address."""
        for ports, (service, addresses) in self._wide:
            is_its_port = ports.first <= port <= ports.last and ports.transport.number == protocol
            if is_its_port and (address in addresses or not (addresses or is_named)):
                return service
        return None
