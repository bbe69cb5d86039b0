"""Addresses and networks, IPv4 and IPv6 alike. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import NamedTuple

Address = IPv4Address | IPv6Address
Source = IPv4Network | IPv6Network
"""Who a grant is for: a network; a single address is a /32 or a /128."""


class Connection(NamedTuple):
    """A connection of this machine's: its address and port here, and the peer's."""

    local: Address
    port: int
    peer: Address
    peer_port: int


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


def is_unicast(address: Address) -> bool:
    """Whether an address can be somebody's, anywhere but on one link or on one machine."""
    return not (
        address.is_multicast
        or address.is_unspecified
        or address.is_loopback
        or address.is_link_local
        or (isinstance(address, IPv6Address) and address.ipv4_mapped is not None)
        or int(address) == 0xFFFF_FFFF
    )


def unmapped(source: Source) -> Source:
    """Return the IPv4 network that an IPv6 one stands for (::ffff:a.b.c.d), or what it was given."""
    mapped = source.network_address.ipv4_mapped if isinstance(source, IPv6Network) else None
    return source if mapped is None or source.prefixlen < 96 else ip_network((int(mapped), source.prefixlen - 96))


class Networks:
    """Many networks, in which an address is found as fast as in one: a look for each prefix length in use."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self._known: dict[tuple[int, int], set[int]] = {}
        for source in sources:
            shift = source.max_prefixlen - source.prefixlen
            self._known.setdefault((source.version, shift), set()).add(int(source.network_address) >> shift)

    def __bool__(self) -> bool:
        return bool(self._known)

    def holds(self, source: Source) -> bool:
        """Whether a network lies in one of them."""
        length, number = source.max_prefixlen - source.prefixlen, int(source.network_address)
        return any(
            version == source.version and shift >= length and number >> shift in known
            for (version, shift), known in self._known.items()
        )

    def has(self, packed: bytes) -> bool:
        """Whether an address (4 or 16 bytes) lies in one of them."""
        version, number = 4 if len(packed) == 4 else 6, int.from_bytes(packed)
        return any(of == version and number >> shift in known for (of, shift), known in self._known.items())
