"""Checksums that a machine leaves to its network card: a capture has them unfinished. Pure.

A capture on the sender, or between virtual machines and containers (veth, virtio), has in the place of the checksum
that of addresses, length and protocol alone. The gate, behind the receiving kernel, meets them finished.
"""

from __future__ import annotations

from struct import Struct, iter_unpack

from gatekeeper.packet import TCP, UDP, Header

_FIELD = {TCP: 16, UDP: 6}
_PSEUDO = Struct("!II").pack


def finished(raw: bytes, header: Header) -> bytes | None:
    """Return the packet with its checksum, if that was left to a network card; ``None`` if it was not."""
    offset = _FIELD.get(header.protocol)
    if offset is None:
        return None
    field, segment = header.segment + offset, raw[header.segment : header.end]
    begun = _sum(header.source + header.destination + _PSEUDO(len(segment), header.protocol))
    if int.from_bytes(raw[field : field + 2]) != begun:
        return None
    checksum = ~_sum(segment) & 0xFFFF or 0xFFFF  # what was begun is in it
    return raw[:field] + checksum.to_bytes(2) + raw[field + 2 :]


def _sum(data: bytes) -> int:
    total: int = sum(word for (word,) in iter_unpack("!H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total
