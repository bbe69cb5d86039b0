"""What a capture has of a packet, as the gate sees packets: the link's header is taken off. Pure.

The link types are those of tcpdump (pcap-linktype(7)): Ethernet, Linux cooked (``-i any``), raw IP and loopback.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import NamedTuple

_U16 = Struct("!H").unpack_from
_IPV4, _IPV6 = 0x0800, 0x86DD
_TAGS = frozenset({0x8100, 0x88A8, 0x9100})
"""VLANs: 802.1Q, 802.1ad, and what was used before that."""
_MOST_TAGS = 4
_OUTGOING = 4
_LOOPBACK = 772  # linux/if_arp.h
_FAMILIES = frozenset({2, 10, 24, 28, 30})
"""AF_INET, and what AF_INET6 is on Linux, the BSDs and macOS."""


@dataclass(frozen=True, slots=True)
class Captured:
    """One packet of a capture."""

    number: int
    """Counts from 1."""
    time: float | None
    """Unix seconds; ``None``: the capture does not say."""
    link: int
    data: bytes
    length: int
    """Bytes that it had; ``data`` may be the first of them only."""
    comment: bytes = b""


class Frame(NamedTuple):
    """A packet without its link's header; ``None``: it is no IP packet."""

    packet: bytes | None
    is_ours: bool = False
    """Whether the machine where it was captured sent it, as far as the link's header says."""
    is_local: bool = False
    """Whether it went by the loopback interface, which gatekeeper leaves alone."""


_NOT_IP = Frame(None)


def unwrap(link: int, data: bytes) -> Frame:
    """Take off the header of a link type. Never raises for what the data are.

    Raises:
        ValueError: the link type is not known.
    """
    reader = _READERS.get(link)
    if reader is None:
        raise ValueError(f"link type {link} (known are Ethernet, Linux cooked, raw IP and loopback)")
    return reader(data)


def _ethernet(data: bytes) -> Frame:
    if len(data) < 14:
        return _NOT_IP
    return Frame(_behind(data, 12), is_local=not any(data[:12]))


def _cooked(data: bytes) -> Frame:
    if len(data) < 16:
        return _NOT_IP
    kind, hardware = _U16(data)[0], _U16(data, 2)[0]
    return Frame(_behind(data, 14), is_ours=kind == _OUTGOING, is_local=hardware == _LOOPBACK)


def _cooked_2(data: bytes) -> Frame:
    if len(data) < 20:
        return _NOT_IP
    packet = _behind(data[:2] + data[20:], 0)
    return Frame(packet, is_ours=data[10] == _OUTGOING, is_local=_U16(data, 8)[0] == _LOOPBACK)


def _behind(data: bytes, at: int) -> bytes | None:
    """Return what follows a protocol number, and VLAN tags, if that is an IP packet."""
    for _ in range(_MOST_TAGS + 1):
        if at + 2 > len(data):
            return None
        protocol = _U16(data, at)[0]
        if protocol in {_IPV4, _IPV6}:
            return data[at + 2 :]
        if protocol not in _TAGS:
            return None
        at += 4
    return None


def _null(data: bytes) -> Frame:
    """Read what begins with an address family, in the byte order of whoever captured it, or (OpenBSD's) in ours."""
    families = {int.from_bytes(data[:4], "little"), int.from_bytes(data[:4], "big")}
    return Frame(data[4:]) if len(data) > 4 and families & _FAMILIES else _NOT_IP


def _raw(data: bytes) -> Frame:
    return Frame(data) if data else _NOT_IP


_READERS: dict[int, Callable[[bytes], Frame]] = {
    0: _null,
    1: _ethernet,
    12: _raw,
    14: _raw,
    101: _raw,
    108: _null,
    113: _cooked,
    228: _raw,
    229: _raw,
    276: _cooked_2,
}
