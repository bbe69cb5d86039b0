"""What stands in the kernel, whichever variant of iptables put it there: values, and what counts as ours. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
