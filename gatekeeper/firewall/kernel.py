"""The ipset backend: grants as members of kernel sets with kernel timeouts.

A grant is one set operation, whatever the number of grants; its end needs nobody, for the kernel
keeps the time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gatekeeper.firewall import apply, ruleset, tools
from gatekeeper.firewall.conntrack import forget_flows
from gatekeeper.firewall.ipset import Ipset
from gatekeeper.firewall.names import set_name
from gatekeeper.firewall.sockdiag import destroy_sockets
from gatekeeper.model import Rules, Service
from gatekeeper.networks import Address, Source, covers


class IpsetBackend:
    """The real kernel of this network namespace."""

    def __init__(self) -> None:
        self._sets = Ipset()

    def close(self) -> None:
        """Let go of the netlink socket."""
        self._sets.close()

    def load(self, rules: Rules) -> str:
        """Put chains and sets in place; return the iptables variant."""
        return apply.load(rules)

    def replace(self, members: Mapping[str, Mapping[Source, int | None]]) -> None:
        """Make these, and no others, the members of each service."""
        tools.run(["ipset", "restore"], ruleset.replace_members_text(members))

    def put(self, service: str, source: Source, *, timeout: int | None) -> None:
        """Let ``source`` in for ``timeout`` seconds, whatever was there before."""
        self._sets.add(set_name(service, source.version), source, ruleset.kernel_timeout(timeout))

    def remove(self, service: str, source: Source) -> None:
        """Let ``source`` in no longer. Without its set, nobody is let in."""
        self._sets.delete(set_name(service, source.version), source)

    def cut(self, service: Service, sources: Sequence[Source], *, spare: Callable[[Address], bool]) -> int:
        """End the open connections of ``sources``: sockets first, whose resets need the flow's mark to leave."""
        addresses = {source.network_address for source in sources if source.num_addresses == 1}
        networks = [source for source in sources if source.num_addresses > 1]

        def is_gone(address: Address) -> bool:
            return (address in addresses or covers(networks, address)) and not spare(address)

        destroyed = destroy_sockets(service, is_gone)
        forgotten = forget_flows(service, sources, is_gone)
        return max(destroyed, forgotten)
