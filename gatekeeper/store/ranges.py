"""How a source stands in a table: by its first and its last address, packed, so that they sort as numbers. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network

from gatekeeper.networks import Source

WITHIN = "version = :version AND first >= :first AND first <= :last AND last <= :last"
"""The condition that a row's source lies in one whose ``bounds`` are the values."""


def of(source: Source) -> tuple[int, bytes, bytes]:
    """Return what stands for a source: IP version, first and last address."""
    return source.version, source.network_address.packed, source.broadcast_address.packed


def bounds(source: Source) -> dict[str, object]:
    """Return the same by the names that ``WITHIN`` has for it."""
    return dict(zip(("version", "first", "last"), of(source), strict=True))


def network(first: bytes, last: bytes) -> Source:
    """Return the network from a first to a last address."""
    length = len(first) * 8 - (int.from_bytes(first) ^ int.from_bytes(last)).bit_length()
    return IPv4Network((first, length)) if len(first) == 4 else IPv6Network((first, length))


def around(source: Source) -> Iterator[tuple[bytes, bytes]]:
    """Yield, as first and last addresses, the networks that are wider than ``source`` and hold all of it."""
    bits, number = source.max_prefixlen, int(source.network_address)
    for length in range(source.prefixlen):
        mask = (1 << bits - length) - 1
        low = number & ~mask
        yield low.to_bytes(bits // 8), (low | mask).to_bytes(bits // 8)
