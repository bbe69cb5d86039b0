"""Which service guards a port, at an address of this machine. Pure.

One dictionary access, whatever the number of services and ports.
"""

from __future__ import annotations

from collections.abc import Iterable

from gatekeeper.settings import Service

_Place = tuple[frozenset[bytes], Service]


class Guarded:
    """The protected ports of a rules file. No two services guard the same port of the same address."""

    def __init__(self, services: Iterable[Service]) -> None:
        self._everywhere: dict[tuple[int, int], Service] = {}
        self._at: dict[tuple[int, int], list[_Place]] = {}
        for service in services:
            addresses = frozenset(address.packed for address in service.addresses)
            for ports in service.ports:
                for port in range(ports.first, ports.last + 1):
                    if addresses:
                        self._at.setdefault((ports.transport.number, port), []).append((addresses, service))
                    else:
                        self._everywhere[ports.transport.number, port] = service

    def by(self, protocol: int, port: int, address: bytes) -> Service | None:
        """Find the service that guards a port of an address (4 or 16 bytes); ``None`` if none does."""
        service = self._everywhere.get((protocol, port))
        if service is not None or not self._at:
            return service
        return next((one for addresses, one in self._at.get((protocol, port), ()) if address in addresses), None)
