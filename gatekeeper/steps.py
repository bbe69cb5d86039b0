"""Which ports the sequences of a rules file have, and how many sources may be at one. Pure.

The kernel's rules and the knock format both read it here, so they speak of the same ports.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from gatekeeper.settings import Flags, Ports, Rules, Sequences, Transport

MOST = 16_384
"""Sources that may be at a sequence at once."""
IN_KERNEL = 8_192
"""The same, of one IP version."""
_AT_ONCE = 100
_PER_SECOND = 1_000
"""What is looked at without effort, however short the time is that sequences have."""


class Listened(NamedTuple):
    """Ports whose packets count, if they are TCP and have the flags, or if they are UDP (``flags`` is ``None``)."""

    flags: Flags | None
    ports: tuple[Ports, ...]


class Bound(NamedTuple):
    """How many sources may begin: so many a second, and so many at once."""

    per_second: int
    at_once: int


def sequences(rules: Rules) -> Iterator[Sequences]:
    """Yield those of each client that has some."""
    return (one.sequences for one in rules.clients.values() if one.sequences is not None)


def beginnings(rules: Rules) -> list[Listened]:
    """List the ports with which sequences begin."""
    firsts: dict[Flags | None, list[Ports]] = {None: []}
    for one in sequences(rules):
        for steps in (*one.opens, one.closes):
            if steps:
                its = None if steps[0].transport is Transport.UDP else one.flags
                firsts.setdefault(its, []).append(steps[0])
    return _listened(firsts)


def every(rules: Rules) -> list[Listened]:
    """List the ports that any sequence has: to one that listens, a step of another's is a wrong one."""
    ports = [port for one in sequences(rules) for steps in (*one.opens, one.closes) for port in steps]
    tcp = [port for port in ports if port.transport is Transport.TCP]
    found: dict[Flags | None, list[Ports]] = {one.flags: tcp for one in sequences(rules)}
    return _listened({**found, None: [port for port in ports if port.transport is Transport.UDP]})


def _listened(found: dict[Flags | None, list[Ports]]) -> list[Listened]:
    return [Listened(flags, _sorted(ports)) for flags, ports in found.items() if ports]


def _sorted(ports: Iterable[Ports]) -> tuple[Ports, ...]:
    return tuple(sorted(set(ports), key=lambda one: (one.transport, one.first)))


def longest(rules: Rules) -> int:
    """Return for how many seconds somebody may be at a sequence."""
    return max((one.within for one in sequences(rules)), default=1)


def bound(rules: Rules) -> Bound:
    """Say how many may begin, for each IP version: as many as there is room for until they have had their time."""
    return Bound(min(_PER_SECOND, (IN_KERNEL - _AT_ONCE) // longest(rules)), _AT_ONCE)
