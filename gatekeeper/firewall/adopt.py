"""Lets running connections live on when a port is guarded for the first time.

The flow of each open TCP connection of a service that keeps them gets our mark; where the kernel has not tracked
connections until now, the flow is made. Before the ruleset is loaded, so that no packet is lost; and after it once
more, for those that came in between: since then nobody has got in who is not let in.

The first time is when the kernel does not guard a service of that name yet: nothing of ours is there, or it only
observes, or the service is new in the rules. Where the rules before are known, ports that none of them had count too.

What goes wrong here is a warning and no error: a port that should be closed is closed.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from gatekeeper.errors import FirewallError
from gatekeeper.firewall import apply, sockdiag
from gatekeeper.firewall.conntrack import FlowMarker, flows_to, open_flows
from gatekeeper.networks import Address, Connection, Networks, host
from gatekeeper.settings import Guard, Mode, Rules, Service, Transport

_MAY_END = "open connections may end: "


class Peer(NamedTuple):
    """Who has a connection to a service."""

    service: Service
    address: Address


class Adoption:
    """What was open when the ports were closed."""

    def __init__(self, rules: Rules, before: Rules | None = None) -> None:
        self._mark = rules.firewall.mark
        self._services: list[Service] = []
        self.kept = 0
        """Connections that live on by their mark."""
        self.warnings: list[str] = []
        try:
            self._services = _new_services(rules, before)
        except FirewallError as error:
            self.warnings = [_MAY_END + error.message]

    @property
    def has_work(self) -> bool:
        """Whether a service is about to be guarded that was not."""
        return bool(self._services)

    def sweep(self) -> None:
        """Take over what is open now, where the service keeps it."""
        self.kept = 0
        failed: Counter[str] = Counter()
        try:
            with contextlib.closing(FlowMarker(self._mark)) as marker:
                for _, one, is_here in self._running(keeps=True):
                    try:
                        (marker.put if is_here else marker.put_tracked)(one)
                        self.kept += 1
                    except FirewallError as error:
                        failed[error.message] += 1
        except FirewallError as error:
            self.warnings[:] = [_MAY_END + error.message]
        else:
            self.warnings[:] = [f"open connections that will end: {number} ({why})" for why, number in failed.items()]

    def fleeting(self) -> list[Peer]:
        """List who is connected, and needs a grant to stay so.

        To be asked when what the store says has been done: whoever it has cut is not among them.

        Raises:
            FirewallError: this kernel cannot, or we may not.
        """
        return list(dict.fromkeys(Peer(service, one.peer) for service, one, _ in self._running(keeps=False)))

    def _running(self, *, keeps: bool) -> Iterator[tuple[Service, Connection, bool]]:
        """List what is open, and whether it ends on this machine."""
        for service in self._services:
            if service.keeps(Transport.TCP) is keeps:
                never = Networks(service.never)
                found: list[tuple[Connection, bool]] = []
                if service.guard is not Guard.FORWARD:
                    # One that is half shut needs its flow, but nobody needs a grant for what is ending.
                    found += [(one.connection, True) for one in connections(service) if keeps or one.is_established]
                if service.guard is not Guard.INPUT:
                    found += [(one, False) for one in tracked(service)]
                yield from ((service, one, is_here) for one, is_here in found if not never.holds(host(one.peer)))


@contextlib.contextmanager
def adopting(rules: Rules, before: Rules | None = None) -> Iterator[Adoption]:
    """Take over, around the load of the ruleset, what is running where it was not guarded ``before``."""
    adoption = Adoption(rules, before)
    if adoption.has_work:
        adoption.sweep()
    yield adoption
    if adoption.has_work:
        adoption.sweep()


def _new_services(rules: Rules, before: Rules | None) -> list[Service]:
    """List the services that are about to be guarded, and are not yet; of those that are, the ports that are new."""
    if rules.mode is Mode.OBSERVE:
        return []
    there = apply.loaded()
    guarded = frozenset[str]() if there is None or there.observes else there.services
    new = [one for one in rules.services.values() if one.name not in guarded]
    return new + ([] if before is None else [one for one in _moved(rules, before) if one.name in guarded])


def _moved(rules: Rules, before: Rules) -> Iterator[Service]:
    """Name the services that are guarded elsewhere than before, with the ports that nobody guarded there."""
    old = [ports for service in before.services.values() for ports in service.ports]
    for service in rules.services.values():
        was = before.services.get(service.name)
        is_there = was is not None and _where(was) == _where(service)
        ports = [one for one in service.ports if not is_there or not any(one.lies_in(its) for its in old)]
        if ports:
            yield replace(service, ports=tuple(ports))


def _where(service: Service) -> tuple[object, ...]:
    return service.guard, service.addresses, service.interfaces


def tracked(service: Service) -> Iterator[Connection]:
    """List the TCP connections through this machine to a service behind it, as far as the kernel tracks them.

    Raises:
        FirewallError: this kernel cannot, or we may not.
    """
    for ports in service.ports:
        if ports.transport is Transport.TCP:
            yield from open_flows(flows_to(service, ports))


def connections(service: Service) -> Iterator[sockdiag.Running]:
    """List the TCP connections that peers, elsewhere, have to a service of this machine's.

    Raises:
        FirewallError: this kernel cannot, or we may not.
    """
    for ports in service.ports:
        if ports.transport is Transport.TCP:
            for one in sockdiag.running(ports, service.addresses):
                if not one.connection.peer.is_loopback and one.connection.peer != one.connection.local:
                    yield one
