"""Leads each packet to the chains of the service that it belongs to, from where that is guarded. Pure.

A published port is guarded before its address is translated, at our own addresses, which is where flows are marked; and
again behind the translation, where what it took from any other address is known by having no mark.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from gatekeeper.firewall import bounds
from gatekeeper.firewall.names import FWD, IN, OUT, POST, PRE, SENT, in_chain, out_chain
from gatekeeper.settings import Guard, Mode, Ports, Refuse, Rules, Service, Transport

RESET = "--tcp-flags RST RST"


def to_chains(rules: Rules, version: int) -> Iterator[str]:
    """Lead what belongs to a service to its chains, from where it is guarded."""
    guards = rules.mode is Mode.GUARD
    if any(service.guard is Guard.PUBLISHED for service in rules.services.values()):
        yield f"-A {PRE} -i lo -j RETURN"
        if guards:
            yield f"-A {POST} -o lo -j RETURN"
    for service in rules.services.values():
        yield from own_sockets(rules, service, version, Transport.UDP)
        goes_in, goes_out = f"-g {in_chain(service.name)}", f"-g {out_chain(service.name)}"
        arriving, leaving = _by_address(service, version, "d", "i"), _by_address(service, version, "s", "o")
        if service.guard is Guard.PUBLISHED:
            yield from (f"-A {PRE} {place} {goes_in}" for place in arriving)
            yield from (f"-A {IN} {place} {goes_in}" for place in _to_many(service, version))
            if guards:
                replies = _by_flow(service, version)
                yield from (f"-A {POST} {place} {goes_out}" for place in (*leaving, *replies))
    yield from _passing(rules, version)
    if guards:
        yield from _from_elsewhere(rules, version)


def own_sockets(rules: Rules, service: Service, version: int, transport: Transport) -> Iterator[str]:
    """Lead there what belongs to this machine's own sockets, of one transport."""
    if service.guard is not Guard.INPUT:
        return
    ours = f"-p {transport} "
    for place in _by_address(service, version, "d", "i"):
        if place.startswith(ours):
            yield f"-A {IN} {place} -g {in_chain(service.name)}"
    for place in _by_address(service, version, "s", "o") if rules.mode is Mode.GUARD else ():
        if place.startswith(ours):
            yield f"-A {OUT} {place} -g {out_chain(service.name)}"


def _from_elsewhere(rules: Rules, version: int) -> Iterator[str]:
    """Drop what was translated from a published port of an address that is none of ours.

    A translation that names no address takes what anybody sends through this machine, to whatever address. What was
    for our own was let in before the translation, and is marked since. This comes behind all services' rules: what
    such a packet is sent to may be guarded there, and it is for that service to say.
    """
    mark = bounds.mark(rules)
    for service in without_address(rules):
        for ports, _, link in _each(service, version, "i"):
            was = f"-m conntrack --ctstate DNAT --ctdir ORIGINAL --ctorigdstport {_numbers(ports)}"
            for chain in (IN, FWD):
                yield f"-A {chain} -p {ports.transport} {was} -m connmark ! --mark {mark}{link} -j DROP"


def without_address(rules: Rules) -> list[Service]:
    """Name the services whose ports are published at all addresses of this machine."""
    services = rules.services.values()
    return [service for service in services if service.guard is Guard.PUBLISHED and not service.addresses]


def _passing(rules: Rules, version: int) -> Iterator[str]:
    """Do so for what passes through, to hosts behind this machine and back.

    What comes back goes first, and by a jump, which returns: a packet can be both, from one such host to another.
    """
    services = [service for service in rules.services.values() if service.guard is Guard.FORWARD]
    for service in services if rules.mode is Mode.GUARD else ():
        for place in _by_address(service, version, "s", "o"):
            yield f"-A {FWD} {place} -j {out_chain(service.name)}"
            if rules.refuse is Refuse.RESET and place.startswith("-p tcp"):  # our own, in that host's name
                yield f"-A {OUT} {place} {RESET} -m mark --mark {bounds.mark(rules)} -g {SENT}"
    for service in services:
        for place in _by_address(service, version, "d", "i"):
            yield f"-A {FWD} {place} -g {in_chain(service.name)}"
        for ports, _, link in _each(service, version, "i") if rules.mode is Mode.GUARD and version == 4 else ():
            # With source routing, what is forwarded still names this machine; where it goes is written in later.
            where = f"--dport {_numbers(ports)} -m addrtype --dst-type LOCAL{link}"
            yield f"-A {FWD} -p {ports.transport} -m {ports.transport} {where} -j DROP"


def _by_address(service: Service, version: int, side: str, interface: str) -> list[str]:
    """Match what belongs to a service: by its ports, addresses and interfaces, on its side of a packet."""
    ours = f" -m addrtype --{'dst' if side == 'd' else 'src'}-type LOCAL" if service.guard is Guard.PUBLISHED else ""
    return [
        f"-p {ports.transport} -m {ports.transport} --{side}port {_numbers(ports)}"
        f"{f' -{side} {address}' if address else ours}{link}"
        for ports, address, link in _each(service, version, interface)
    ]


def _to_many(service: Service, version: int) -> list[str]:
    """Match what is broadcast (or multicast) to a published port: a program of this machine may hear it."""
    return [
        f"-p udp -m udp --dport {_numbers(ports)} -m addrtype ! --dst-type LOCAL{link}"
        for ports, _, link in _each(service, version, "i")
        if ports.transport is Transport.UDP and not service.addresses
    ]


def _by_flow(service: Service, version: int) -> list[str]:
    """Match what is sent back on translated flows to a published port, whoever sends it.

    Its own address and port may be anything: the translation is undone last of all. The target of those who ask
    somebody elsewhere for a port of the same number is not translated. Our mark is not asked for: what was open when
    the port was guarded for the first time may have none.
    """
    return [
        f"-p {ports.transport} -m conntrack --ctstate DNAT --ctdir REPLY"
        f"{f' --ctorigdst {address}' if address else ''} --ctorigdstport {_numbers(ports)}{link}"
        for ports, address, link in _each(service, version, "o")
    ]


def _each(service: Service, version: int, interface: str) -> Iterator[tuple[Ports, str, str]]:
    """Combine a service's ports, its addresses of an IP version and its interfaces; "" stands for all of them."""
    addresses = [str(one) for one in service.addresses if one.version == version]
    if service.addresses and not addresses:
        return
    interfaces = [f" -{interface} {name}" for name in service.interfaces]
    yield from product(service.ports, addresses or [""], interfaces or [""])


def _numbers(ports: Ports) -> str:
    return str(ports.first) if ports.first == ports.last else f"{ports.first}:{ports.last}"
