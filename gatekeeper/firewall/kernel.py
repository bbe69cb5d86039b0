"""The ipset backend: grants as members of kernel sets with kernel timeouts.

A grant is one set operation, whatever the number of grants; its end needs nobody, for the kernel
keeps the time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gatekeeper.firewall import sets, tools
from gatekeeper.firewall.cut import cut
from gatekeeper.firewall.ipset import Ipset
from gatekeeper.firewall.names import VERSIONS, set_name
from gatekeeper.networks import Address, Source
from gatekeeper.settings import Service


class IpsetBackend:
    """The real kernel of this network namespace."""

    name = "ipset"

    def __init__(self, *, cuts: bool = True) -> None:
        """``cuts``: whether connections are cut, or only counted."""
        self._sets = Ipset()
        self._cuts = cuts

    def close(self) -> None:
        """Let go of the netlink socket."""
        self._sets.close()

    def replace(self, members: Mapping[str, Mapping[Source, int | None]]) -> None:
        """Make these, and no others, the members of each service."""
        tools.run(["ipset", "restore"], sets.replace_members_text(members))

    def put(self, service: str, source: Source, *, timeout: int | None) -> None:
        """Let ``source`` in for ``timeout`` seconds, whatever was there before."""
        self._sets.add(set_name(service, source.version), source, sets.kernel_timeout(timeout))

    def remove(self, service: str, source: Source) -> None:
        """Let ``source`` in no longer. Without its set, nobody is let in."""
        self._sets.delete(set_name(service, source.version), source)

    def cut(self, service: Service, sources: Sequence[Source], *, spare: Callable[[Address], bool]) -> int:
        """End the open connections of ``sources``, but for addresses to ``spare``; return how many."""
        return cut(service, sources, spare=spare, only_count=not self._cuts)

    def count(self, service: str) -> int:
        """Count the members of a service."""
        names = [set_name(service, version) for version in VERSIONS]
        there = tools.our_sets()
        return sum(tools.set_size(name) for name in names if name in there)
