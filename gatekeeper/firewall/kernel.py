"""The ipset backend: grants as members of kernel sets with kernel timeouts.

A grant is one set operation, whatever the number of grants; its end needs nobody, for the kernel
keeps the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from gatekeeper.errors import FirewallError
from gatekeeper.firewall import sets, tools
from gatekeeper.firewall.cut import cut
from gatekeeper.firewall.ipset import Ipset
from gatekeeper.firewall.names import VERSIONS, set_name
from gatekeeper.networks import Address, Source
from gatekeeper.protocols import Member
from gatekeeper.settings import Rules, Service


class IpsetBackend:
    """The real kernel of this network namespace."""

    name = "ipset"
    keeps_time = True

    def __init__(self, *, really_cuts: bool = True) -> None:
        """``really_cuts``: whether connections are cut, or only counted."""
        self._sets = Ipset()
        self.really_cuts = really_cuts
        self._sizes: Mapping[str, int] = {}
        self._network_sizes: Mapping[str, int] | None = None

    def again(self) -> IpsetBackend:
        """Make one like it, with a netlink socket of its own: for another process."""
        return IpsetBackend(really_cuts=self.really_cuts)

    def close(self) -> None:
        """Let go of the netlink socket."""
        self._sets.close()

    def replace(self, members: Mapping[str, Mapping[Source, int | None]]) -> None:
        """Make these, and no others, the members of each service."""
        tools.restore_sets(sets.replace_members_text(members))

    def change(self, put: Mapping[Member, int | None], remove: Iterable[Member]) -> dict[Member, str]:
        """Let members in for so many seconds; let others in no longer. Returns what was refused, and why."""
        refused: dict[Member, str] = {}
        for service, source in remove:
            try:
                self._sets.delete(set_name(service, source.version), source)
            except FirewallError as error:
                refused[service, source] = error.message
        for (service, source), seconds in put.items():
            try:
                self._sets.add(set_name(service, source.version), source, sets.kernel_timeout(seconds))
            except FirewallError as error:
                refused[service, source] = error.message
        return refused

    def members(self, service: str) -> list[Source]:
        """List the members of a service."""
        there = tools.our_sets()
        names = [name for version in VERSIONS if (name := set_name(service, version)) in there]
        return [source for name in names for source in sets.members(tools.run(["ipset", "save", name]))]

    def sizes(self, services: Iterable[str]) -> dict[tuple[str, int], int]:
        """Count the members of each service's sets: one question to the kernel for all."""
        self._sizes = self._sets.sizes()
        return {(name, one): self._sizes.get(set_name(name, one), -1) for name in services for one in VERSIONS}

    def timeouts(self, service: str) -> dict[Source, int | None]:
        """List the members of a service, with the seconds that each has left."""
        return {
            source: left
            for version in VERSIONS
            for source, left in self._sets.members(set_name(service, version)).items()
        }

    def mend_networks(self, rules: Rules) -> list[str]:
        """Fill those sets anew whose size, when ``sizes`` was last asked for, was wrong."""
        if self._network_sizes is None:
            self._network_sizes = sets.network_sizes(rules)
        wrong = [name for name, size in self._network_sizes.items() if self._sizes.get(name) != size]
        if wrong:
            tools.restore_sets(sets.networks_text(rules, wrong))
        return wrong

    def cut(self, service: Service, sources: Sequence[Source], *, spare: Callable[[Address], bool]) -> int:
        """End the open connections of ``sources``, but for addresses to ``spare``; return how many."""
        return cut(service, sources, spare=spare, only_count=not self.really_cuts)

    def count(self, service: str) -> int:
        """Count the members of a service."""
        names = [set_name(service, version) for version in VERSIONS]
        there = tools.our_sets()
        return sum(tools.set_size(name) for name in names if name in there)
