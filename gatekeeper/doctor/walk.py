"""Follows a packet through somebody's rules, as far as can be told without sending one. Pure.

Whoever writes the rules (iptables, nft), they become ``Chain``s of ``Rule``s here. The packet is a stranger's: where
it comes from is not known, so a rule that asks for that may match.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from gatekeeper.firewall.names import CHAIN_PREFIX, RAW
from gatekeeper.settings import Transport

MAX_STEPS = 200_000
"""Rules that are looked at before it is given up: chains that jump to each other can make very many paths."""


class Kind(enum.Enum):
    """What a condition asks about."""

    FAMILY = enum.auto()
    PROTOCOL = enum.auto()
    TO_PORT = enum.auto()
    FROM_PORT = enum.auto()
    STATE = enum.auto()
    INTERFACE = enum.auto()
    FLAGS = enum.auto()
    TO_LOCAL = enum.auto()
    """Whether it is for this machine."""
    NEVER = enum.auto()
    """Something that no such packet is: from loopback, to a multicast group."""
    OTHER = enum.auto()


class Truth(enum.IntEnum):
    """Whether a condition holds."""

    NO = 0
    MAYBE = 1
    YES = 2


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that a rule asks for."""

    kind: Kind
    values: frozenset[str] = frozenset()
    ports: tuple[tuple[int, int], ...] = ()
    is_negated: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: all conditions hold, so ``target`` happens. ``text`` is for people."""

    text: str
    conditions: tuple[Condition, ...] = ()
    target: str = ""
    is_goto: bool = False
    options: tuple[str, ...] = ()
    """What is said behind the target."""


@dataclass(frozen=True, slots=True)
class Chain:
    """Rules in their order; ``policy`` of a chain that the kernel itself calls."""

    rules: tuple[Rule, ...] = ()
    policy: str = ""


Chains = Mapping[str, Chain]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A packet: the first of a connection, or one in its midst; arriving at a port, or sent by it."""

    version: int
    transport: Transport
    port: int
    is_new: bool = True
    leaves: bool = False
    is_forwarded: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """What a packet meets. No rule: the policy of the chain."""

    target: str
    is_certain: bool
    rule: Rule | None = None


class TooLongError(Exception):
    """There are too many paths through these chains."""


_TERMINAL = frozenset(
    {"ACCEPT", "DROP", "REJECT", "QUEUE", "NFQUEUE", "DNAT", "SNAT", "REDIRECT", "MASQUERADE", "NETMAP", "TPROXY"}
)

_BRIDGES = ("docker", "br-", "podman", "cni", "virbr", "lxc", "lxd")


@dataclass(slots=True)
class _Walk:
    chains: Chains
    probe: Probe
    steps: list[Step] = field(default_factory=list)
    looked_at: int = 0

    def through(self, name: str, *, is_certain: bool) -> bool:
        """Go through a chain; return whether whoever comes in surely ends there."""
        for rule in self.chains[name].rules:
            self.looked_at += 1
            if self.looked_at > MAX_STEPS:
                raise TooLongError
            truth = matches(rule, self.probe)
            surely = truth is Truth.YES
            if truth is Truth.NO or rule.target == RAW:
                continue
            if rule.target == "RETURN":
                if surely:
                    return False
            elif rule.target in self.chains and not rule.target.startswith(CHAIN_PREFIX):
                ends = self.through(rule.target, is_certain=is_certain and surely)
                if surely and (ends or rule.is_goto):
                    return ends
            else:
                self.steps.append(Step(rule.target, is_certain and surely, rule))
                if surely and (rule.target in _TERMINAL or rule.target.startswith(CHAIN_PREFIX)):
                    return True
        return False


def walk(chains: Chains, start: str, probe: Probe) -> list[Step]:
    """List what a packet meets, or may meet, from a chain on; the last step is certain.

    Chains of ours are not gone into: whoever reaches one is in our hands. (But for that in the raw table: what may
    count comes back from it, and meets others' rules behind it.)

    Raises:
        TooLongError: there are too many paths.
    """
    one = _Walk(chains, probe)
    if start not in chains:
        return [Step("ACCEPT", is_certain=True)]
    if not one.through(start, is_certain=True):
        one.steps.append(Step(chains[start].policy.upper() or "ACCEPT", is_certain=True))
    return one.steps


def matches(rule: Rule, probe: Probe) -> Truth:
    """Say whether a rule matches a packet."""
    return min((_holds(one, probe) for one in rule.conditions), default=Truth.YES)


def _holds(condition: Condition, probe: Probe) -> Truth:
    truth = _asked(condition, probe)
    if condition.is_negated and condition.kind is Kind.INTERFACE and truth is Truth.MAYBE:
        inner = any(name.startswith(_BRIDGES) for name in condition.values)
        return Truth.YES if inner else truth  # strangers do not come by a bridge of containers
    return Truth(2 - truth) if condition.is_negated else truth


def _asked(condition: Condition, probe: Probe) -> Truth:
    kind, values = condition.kind, condition.values
    known: bool | None = None
    if kind is Kind.FAMILY:
        known = str(probe.version) in values
    elif kind is Kind.PROTOCOL:
        known = probe.transport.value in values or str(probe.transport.number) in values
    elif kind in (Kind.TO_PORT, Kind.FROM_PORT):
        if (kind is Kind.FROM_PORT) == probe.leaves:
            known = any(first <= probe.port <= last for first, last in condition.ports)
    elif kind is Kind.STATE:
        known = ("new" if probe.is_new else "established") in values
    elif kind is Kind.INTERFACE:
        known = {frozenset({"lo"}): False, frozenset({"+"}): True}.get(values)
    elif kind is Kind.FLAGS:
        known = ("syn" if probe.is_new else "ack") in values if probe.transport is Transport.TCP else False
    elif kind is Kind.TO_LOCAL:
        known = not probe.is_forwarded
    elif kind is Kind.NEVER:
        known = False
    return Truth.MAYBE if known is None else Truth.YES if known else Truth.NO
