"""What stands in the kernel, whichever variant of iptables put it there: values, and what counts as ours. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gatekeeper.firewall.names import CHAIN_PREFIX

Place = tuple[str, str]
"""A table and a chain in it."""


@dataclass(frozen=True, slots=True)
class Found:
    """A rule in the kernel."""

    content: bytes
    """All that it says, without counters and numbers that move: rules with the same content do the same."""
    leads_to: str = ""
    """The chain that it jumps or goes to, or RETURN, ACCEPT, DROP, by iptables' names; nothing for other targets."""
    is_goto: bool = False
    """Whether it goes to that chain for good (``-g``)."""
    has_match: bool = False
    """Whether it is for some packets only."""

    whole: bytes = field(default=b"", compare=False, repr=False)
    """The bytes that the kernel names it with, for putting it back (nf_tables: its expressions)."""
    handle: bytes = field(default=b"", compare=False, repr=False)
    """What the kernel knows it by (nf_tables)."""

    @property
    def is_plain_jump(self) -> bool:
        """Whether every packet jumps, as ``-j CHAIN`` alone says."""
        return bool(self.leads_to) and not self.has_match and not self.is_goto

    @property
    def is_ours(self) -> bool:
        """Whether it leads to a chain of ours."""
        return self.leads_to.startswith(CHAIN_PREFIX)


Look = Mapping[Place, Sequence[Found]]
"""The rules of some tables, of one IP version."""


@dataclass(frozen=True, slots=True)
class Change:
    """What to put back into one table, in the kernel's own bytes."""

    table: str
    chains: Mapping[str, Sequence[tuple[bytes, int]]]
    """Chains, and all of their rules: expressions, and the protocol's number that they are for (0: any)."""
    gone: Sequence[tuple[str, bytes]]
    """Rules to delete: chain and handle."""
    first: Sequence[tuple[str, bytes]]
    """Rules to put in front: chain and expressions; the last of them will be the very first."""
    last: Sequence[tuple[str, bytes]]
    """Rules to put at the end."""
