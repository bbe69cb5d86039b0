"""Ends open connections: sockets first, whose resets need the flow's mark to leave, then tracked flows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gatekeeper.firewall.conntrack import forget_flows
from gatekeeper.firewall.sockdiag import destroy_sockets
from gatekeeper.networks import Address, Source, covers
from gatekeeper.settings import Service


def cut(
    service: Service, sources: Sequence[Source], *, spare: Callable[[Address], bool], only_count: bool = False
) -> int:
    """End what ``sources`` have open with a service, but for addresses to ``spare``; return how many it were.

    Raises:
        FirewallError: the kernel refused.
    """
    addresses = {source.network_address for source in sources if source.num_addresses == 1}
    networks = [source for source in sources if source.num_addresses > 1]

    def is_gone(address: Address) -> bool:
        return (address in addresses or covers(networks, address)) and not spare(address)

    number = 0
    for ports in service.ports:
        destroyed = destroy_sockets(ports, service.addresses, is_gone, only_count=only_count)
        forgotten = forget_flows(ports, service.addresses, sources, is_gone, only_count=only_count)
        number += max(destroyed, forgotten)
    return number
