"""What gatekeeper's things in the kernel are called, so that they can be told from everybody else's. Pure.

A chain's name holds 28 characters (XT_EXTENSION_MAXNAMELEN), an ipset's 31 (IPSET_MAXNAMELEN), a service's 16.
"""

from __future__ import annotations

from dataclasses import dataclass

CHAIN_PREFIX = "GKEEPER-"
IN = CHAIN_PREFIX + "IN"
"""mangle INPUT: packets that arrive; what is for a protected port goes on to that service's chain."""
OUT = CHAIN_PREFIX + "OUT"
"""mangle OUTPUT: what protected ports send, likewise."""
PASS = CHAIN_PREFIX + "PASS"
"""mangle: marks the flow of a granted packet, and hands the packet back."""
SENT = CHAIN_PREFIX + "SENT"
"""mangle: lets a reset of our own leave, without the mark that it bore."""
ECHO = CHAIN_PREFIX + "ECHO"
"""mangle INPUT, behind everybody's rules: echo requests that may bear a knock."""
STEPS = CHAIN_PREFIX + "STEPS"
"""mangle INPUT, behind everybody's rules: packets to the ports of sequences, on their way to a process (steps.py)."""
BEGIN = CHAIN_PREFIX + "BEGIN"
"""mangle: those of them with which a sequence begins."""
GO_ON = CHAIN_PREFIX + "GO-ON"
"""mangle: all of them, from who has begun."""
RAW = CHAIN_PREFIX + "RAW"
"""raw PREROUTING: keeps knocks out of connection tracking."""
TAGS = CHAIN_PREFIX + "TAGS"
"""raw: knows the tags that knocks begin with at this time; renewed by the guardian (tags.py)."""
TAGGED = CHAIN_PREFIX + "TAGGED"
"""raw: what bears one is marked, and its sender noted."""
NEW = CHAIN_PREFIX + "NEW"
"""mangle: what nobody was granted, on its way to the queue, as far as there is room for it there."""
FWD = CHAIN_PREFIX + "FWD"
"""mangle FORWARD: what hosts behind this machine send from protected ports, and what arrives for these; and what was
translated from published ports without having been let in."""
PRE = CHAIN_PREFIX + "PRE"
"""mangle PREROUTING: what arrives for published ports, before any address is translated."""
POST = CHAIN_PREFIX + "POST"
"""mangle POSTROUTING: what leaves from published ports, whoever sent it, before the translation is undone."""

TABLES = ("raw", "mangle")


@dataclass(frozen=True, slots=True)
class Hook:
    """A place in the kernel's own chains at which a rule of ours jumps to a chain of ours."""

    table: str
    base: str
    """The kernel's chain."""
    chain: str
    """Ours."""

    @property
    def jump(self) -> str:
        """The rule that stands in the kernel's chain, as iptables-save prints it behind its ``-A``."""
        return f"{self.base} -j {self.chain}"


HOOKS = (
    Hook("raw", "PREROUTING", RAW),
    Hook("mangle", "PREROUTING", PRE),
    Hook("mangle", "INPUT", IN),
    Hook("mangle", "FORWARD", FWD),
    Hook("mangle", "OUTPUT", OUT),
    Hook("mangle", "POSTROUTING", POST),
    Hook("mangle", "INPUT", ECHO),
    Hook("mangle", "INPUT", STEPS),
)
"""All that there can be; ``ruleset.jumps`` says which of them some rules need, and at which end they stand."""

SET_PREFIX = "gatekeeper-"
VERSIONS = (4, 6)
IPSET_FAMILY = {4: "inet", 6: "inet6"}


def in_chain(service: str) -> str:
    """Name the chain for what arrives for a service."""
    return f"{IN}-{service}"


def out_chain(service: str) -> str:
    """Name the chain for what a service sends."""
    return f"{OUT}-{service}"


def from_chain(service: str) -> str:
    """Name the chain that has a rule for each granted source (backend ``rules``)."""
    return f"{CHAIN_PREFIX}SRC-{service}"


def to_chain(service: str) -> str:
    """Name the chain that has a rule for each destination that a service may send to (backend ``rules``)."""
    return f"{CHAIN_PREFIX}DST-{service}"


def set_name(service: str, version: int) -> str:
    """Name the ipset of a service's granted sources, for one IP version."""
    return f"{SET_PREFIX}{version}-{service}"


def always_set(service: str, version: int) -> str:
    """Name the ipset of the networks that need no knock for a service."""
    return f"{SET_PREFIX}a{version}-{service}"


def never_set(service: str, version: int) -> str:
    """Name the ipset of the networks that never get in to a service; without one, of those that may not knock."""
    return f"{SET_PREFIX}n{version}-{service}" if service else f"{SET_PREFIX}n{version}"


def knocked_set(version: int) -> str:
    """Name the ipset of those who have just sent a datagram that bears a tag."""
    return f"{SET_PREFIX}k{version}"


def busy_set(version: int) -> str:
    """Name the ipset that counts how many of these each of them has sent in the last seconds."""
    return f"{SET_PREFIX}b{version}"


def begun_set(version: int) -> str:
    """Name the ipset of those who have begun a port sequence."""
    return f"{SET_PREFIX}s{version}"


def fresh_set(name: str) -> str:
    """Name the set that is filled and then swapped with a real one."""
    return f"{SET_PREFIX}t{name.removeprefix(SET_PREFIX)}"
