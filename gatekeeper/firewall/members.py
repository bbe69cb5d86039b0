"""The two ways to write, in iptables' language, that a source is granted: members of sets, or a rule for each. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gatekeeper.firewall.names import (
    PASS,
    begun_set,
    busy_set,
    from_chain,
    in_chain,
    knocked_set,
    out_chain,
    set_name,
    to_chain,
)
from gatekeeper.networks import Source

RETURN = "RETURN"
KNOCKED_FOR = 2
"""Seconds for which who has sent a tag is exempt from what bounds strangers: their first packet comes right behind."""
_MANY = 4000
"""Datagrams with a tag that one sender may send within ``sets.BUSY_WITHIN`` seconds; more are dropped, its good knocks
among them. A few percent of a processor, and half of what a queue holds."""
_FLAG = {"src": "-s", "dst": "-d"}


class Members(Protocol):
    """One of the two ways."""

    def within(self, networks: Sequence[Source], name: str, side: str) -> Iterator[str]:
        """Match what comes from (``src``) or goes to (``dst``) any of some networks; ``name`` is that of their set."""

    def chains(self, service: str) -> list[str]:
        """Name the chains that it needs for a service, besides the service's own."""

    def arriving(self, service: str, version: int, end: Sequence[str]) -> Iterator[str]:
        """Write the end of a service's chain for what arrives: granted sources pass; ``end`` is for all others."""

    def leaving(self, service: str, version: int, end: Sequence[str]) -> Iterator[str]:
        """Write the end of a service's chain for what it sends."""

    def note_sender(self, version: int) -> Iterator[str]:
        """Note who has sent a datagram that bears a tag; drop it, if its sender sends too many of them."""

    def who_knocked(self, version: int) -> Iterator[str]:
        """Match what comes from those who were noted in the last seconds."""

    def note_beginner(self, version: int, seconds: int, most: str) -> Iterator[str]:
        """Note for so many seconds who begins a port sequence; ``most`` matches as many as there is room for."""

    def who_began(self, version: int) -> Iterator[str]:
        """Match what comes from those who were noted so."""


class SetMembers:
    """Backend ``ipset``: one look, whatever the number of grants."""

    def within(self, networks: Sequence[Source], name: str, side: str) -> Iterator[str]:
        """Match a set, if there is anything in it."""
        if networks:
            yield _member(name, side)

    def chains(self, service: str) -> list[str]:  # noqa: ARG002
        """Need none."""
        return []

    def arriving(self, service: str, version: int, end: Sequence[str]) -> Iterator[str]:
        """Match the service's set."""
        yield f"-A {in_chain(service)} {_member(set_name(service, version), 'src')} -g {PASS}"
        yield from (f"-A {in_chain(service)} {rule}" for rule in end)

    def leaving(self, service: str, version: int, end: Sequence[str]) -> Iterator[str]:
        """Match the service's set."""
        yield f"-A {out_chain(service)} {_member(set_name(service, version), 'dst')} -j RETURN"
        yield from (f"-A {out_chain(service)} {rule}" for rule in end)

    def note_sender(self, version: int) -> Iterator[str]:
        """Put it into two sets: one that counts from the first datagram on, one that knows the last."""
        yield f"-j SET --add-set {busy_set(version)} src"
        yield f"-m set --match-set {busy_set(version)} src --packets-gt {_MANY} -j DROP"
        yield f"-j SET --add-set {knocked_set(version)} src --exist --timeout {KNOCKED_FOR}"

    def who_knocked(self, version: int) -> Iterator[str]:
        """Match the set."""
        yield _member(knocked_set(version), "src")

    def note_beginner(self, version: int, seconds: int, most: str) -> Iterator[str]:
        """Put it into a set; who is in it already has all the time again, and needs no room."""
        note = f"-j SET --add-set {begun_set(version)} src --exist --timeout {seconds}"
        yield f"{_member(begun_set(version), 'src')} {note}"
        yield f"{_member(begun_set(version), 'src', negated=True)} {most} {note}"

    def who_began(self, version: int) -> Iterator[str]:
        """Match the set."""
        yield _member(begun_set(version), "src")


@dataclass(frozen=True, slots=True)
class RuleMembers:
    """Backend ``rules``: a rule for each grant and direction, in chains that end as the service's own would."""

    granted: Mapping[str, Sequence[Source]] = field(default_factory=dict)
    """Sources by service."""

    def within(self, networks: Sequence[Source], name: str, side: str) -> Iterator[str]:  # noqa: ARG002
        """Match each of them."""
        yield from (f"{_FLAG[side]} {source}" for source in networks)

    def chains(self, service: str) -> list[str]:
        """Need one for each direction."""
        return [from_chain(service), to_chain(service)]

    def arriving(self, service: str, version: int, end: Sequence[str]) -> Iterator[str]:
        """Go to the chain of granted sources."""
        yield f"-A {in_chain(service)} -g {from_chain(service)}"
        yield from (f"-A {rule}" for rule in self._each(service, version, arriving_rule))
        yield from (f"-A {from_chain(service)} {rule}" for rule in end)

    def leaving(self, service: str, version: int, end: Sequence[str]) -> Iterator[str]:
        """Go to the chain of granted destinations."""
        yield f"-A {out_chain(service)} -g {to_chain(service)}"
        yield from (f"-A {rule}" for rule in self._each(service, version, leaving_rule))
        yield from (f"-A {to_chain(service)} {rule}" for rule in end)

    def note_sender(self, version: int) -> Iterator[str]:  # noqa: ARG002
        """Note nobody: that takes sets."""
        yield from ()

    def who_knocked(self, version: int) -> Iterator[str]:  # noqa: ARG002
        """Match nobody: so who knocks is bounded like strangers are."""
        yield from ()

    def note_beginner(self, version: int, seconds: int, most: str) -> Iterator[str]:  # noqa: ARG002
        """Note nobody."""
        yield from ()

    def who_began(self, version: int) -> Iterator[str]:  # noqa: ARG002
        """Match nobody."""
        yield from ()

    def _each(self, service: str, version: int, rule: Rule) -> Iterator[str]:
        sources = self.granted.get(service, ())
        return (rule(service, source) for source in sources if source.version == version)


Rule = Callable[[str, Source], str]


def arriving_rule(service: str, source: Source) -> str:
    """Write the rule (chain and what it says) that lets a source in."""
    return f"{from_chain(service)} -s {source} -g {PASS}"


def leaving_rule(service: str, source: Source) -> str:
    """Write the rule that lets a service send to a source."""
    return f"{to_chain(service)} -d {source} -j {RETURN}"


def _member(name: str, side: str, *, negated: bool = False) -> str:
    return f"-m set {'! ' if negated else ''}--match-set {name} {side}"
