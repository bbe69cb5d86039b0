"""What listens on the guarded ports; and who can open them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from gatekeeper.doctor.finding import Finding, note, ok, warning
from gatekeeper.doctor.scene import Scene, read
from gatekeeper.networks import Address
from gatekeeper.settings import Guard, Ports, Transport

_LISTENS = {Transport.TCP: "0A", Transport.UDP: "07"}
"""The states LISTEN, and CLOSE, which UDP sockets without a peer have (linux/tcp_states.h)."""


class Listener(NamedTuple):
    """A socket that waits for anybody."""

    transport: Transport
    address: Address
    port: int


def parse(text: str, transport: Transport) -> Iterator[Listener]:
    """Read /proc/net/tcp, tcp6, udp or udp6."""
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) > 3 and words[3] == _LISTENS[transport]:
            packed, _, port = words[1].partition(":")
            yield Listener(transport, _address(packed), int(port, 16))


def listeners(scene: Scene) -> Iterator[Finding]:
    """Look whether something listens on each guarded port, and where strangers could reach it."""
    if scene.rules is None:
        return
    found = [
        one
        for transport in Transport
        for suffix in ("", "6")
        for one in parse(read(f"/proc/net/{transport}{suffix}") or "", transport)
    ]
    for service in scene.rules.services.values():
        if service.guard is Guard.INPUT:
            for ports in service.ports:
                yield _listens(service.name, ports, found)


def _listens(name: str, ports: Ports, found: Iterable[Listener]) -> Finding:
    here = [one for one in found if one.transport is ports.transport and ports.first <= one.port <= ports.last]
    if not here:
        return note(f"nothing listens on {ports} ({name})", "start the service; a knock opens the port all the same")
    if all(one.address.is_loopback for one in here):
        hint = (
            "a knock opens the port, and there is nobody behind it: let the service listen on this machine's addresses"
        )
        return note(f"what listens on {ports} ({name}) does so on the loopback addresses only", hint)
    return ok(f"something listens on {ports} ({name})")


def clients(scene: Scene) -> Iterator[Finding]:
    """Look whether there is anybody who can knock."""
    if scene.rules is None:
        return
    everybody = scene.rules.clients.values()
    can = [one for one in everybody if one.keys or one.open_key or one.fwknop]
    if everybody and not can:
        hint = "`gatekeeper invite NAME --host HOST` begins it; `gatekeeper grant ADDRESS SERVICE` lets in by hand"
        yield warning("no client has a key: nobody can knock", hint)
    for one in everybody:
        if one not in can:
            yield note(f"client {one.name} has no key, so it cannot open", "give it one (key: ...), or take it out")
        if one.not_after is not None and one.not_after <= scene.now:
            yield note(
                f"client {one.name} has expired (not_after)", "take it out of the rules, or give it a later date"
            )
    if can:
        yield ok(f"{len(can)} of {len(scene.rules.clients)} clients can knock")


def _address(packed: str) -> Address:
    """Read an address as the kernel writes it: words of four bytes, in the machine's own order."""
    words = (int(packed[n : n + 8], 16) for n in range(0, len(packed), 8))
    found = ip_address(b"".join(word.to_bytes(4, sys.byteorder) for word in words))
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found
