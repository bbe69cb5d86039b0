"""Ends open connections: sockets first, whose resets need the flow's mark to leave, then tracked flows.

What a host behind this machine serves has no socket here. A flow of UDP to a published port stays in connection
tracking: for as long as it is there, what is still sent back is known by it, and dropped; without it, that would be a
flow of its own, as whatever that host sends by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gatekeeper.firewall.conntrack import flows_to, forget_flows
from gatekeeper.firewall.sockdiag import destroy_sockets
from gatekeeper.networks import Address, Source, covers
from gatekeeper.settings import Guard, Service, Transport


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

    number = destroyed = 0
    is_published = service.guard is Guard.PUBLISHED
    for ports in service.ports:
        if service.guard is not Guard.FORWARD:
            destroyed = destroy_sockets(ports, service.addresses, is_gone, only_count=only_count)
        stays = is_published and ports.transport is Transport.UDP
        flows = flows_to(service, ports)
        forgotten = forget_flows(flows, sources, is_gone, only_count=only_count or stays)
        number += max(destroyed, forgotten)
    return number
