"""Addresses and networks, IPv4 and IPv6 alike. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

Address = IPv4Address | IPv6Address
Source = IPv4Network | IPv6Network
"""Who a grant is for: a network; a single address is a /32 or a /128."""


def host(address: Address) -> Source:
    """Return the source that is this one address."""
    return ip_network(address)


def show_source(source: Source) -> str:
    """Write a source as people do: a single address without its prefix length."""
    return str(source.network_address) if source.num_addresses == 1 else str(source)


def lies_in(inner: Source, outer: Source) -> bool:
    """Whether every address of ``inner`` is one of ``outer``."""
    return covers([outer], inner.network_address) and covers([outer], inner.broadcast_address)


def covers(sources: Iterable[Source], address: Address) -> bool:
    """Whether an address lies in one of the sources."""
    return any(address.version == source.version and address in source for source in sources)


def unmapped(source: Source) -> Source:
    """Return the IPv4 network that an IPv6 one stands for (::ffff:a.b.c.d), or what it was given."""
    mapped = source.network_address.ipv4_mapped if isinstance(source, IPv6Network) else None
    return source if mapped is None or source.prefixlen < 96 else ip_network((int(mapped), source.prefixlen - 96))
