"""Tracked flows, over netlink: finds those to protected ports, and deletes them.

Source: linux/netfilter/nfnetlink_conntrack.h. The kernel filters by port and IPv4 source from
Linux 5.8 on; what it lets through is looked at again here, so an older one is slower and not wrong.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from gatekeeper.errors import FirewallError
from gatekeeper.firewall.netlink import (
    NETFILTER,
    NETFILTER_HEADER_SIZE,
    Netlink,
    attribute,
    attributes,
    nested,
    netfilter_header,
)
from gatekeeper.networks import Address, Source
from gatekeeper.settings import Ports, Transport

_SUBSYSTEM = 1 << 8
_GET, _DELETE = _SUBSYSTEM | 1, _SUBSYSTEM | 2
_TUPLE_ORIG, _STATUS, _MARK, _ID, _ZONE, _FILTER = 1, 3, 8, 12, 18, 25
_SOURCE_NAT, _DESTINATION_NAT = 1 << 4, 1 << 5  # in _STATUS (linux/netfilter/nf_conntrack_common.h)
_TUPLE_IP, _TUPLE_PROTO = 1, 2  # inside _TUPLE_ORIG
_SOURCE, _DESTINATION = {4: 1, 6: 3}, {4: 2, 6: 4}  # inside _TUPLE_IP
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3  # inside _TUPLE_PROTO
_ORIG_FLAGS = 1  # inside _FILTER
_BY_SOURCE, _BY_NUMBER, _BY_DESTINATION_PORT = 1 << 0, 1 << 3, 1 << 5
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


@dataclass(frozen=True, slots=True)
class Flows:
    """The flows to some ports, as their first packet named them, before any translation."""

    ports: Ports
    at: tuple[Address, ...] = ()
    """Of these addresses; none named: of all."""
    spares_passing: bool = False
    """Whether those are spared of which only the source is translated: to the same port of somebody elsewhere."""


def forget_flows(
    which: Flows, sources: Sequence[Source], is_gone: Callable[[Address], bool], *, only_count: bool = False
) -> int:
    """Delete flows from addresses that are gone; return how many.

    ``sources`` narrows what the kernel is asked for.
    """
    number = 0
    with Netlink(NETFILTER) as netlink:
        for version in sorted({source.version for source in sources}):
            ours = [source for source in sources if source.version == version]
            # By IPv6 source the kernel's filter finds nothing (its comparison is the wrong way round, seen on 6.18).
            only = ours[0] if version == 4 and len(ours) == 1 and ours[0].num_addresses == 1 else None
            header = netfilter_header(_FAMILY[version])
            for answer in netlink.dump(_GET, header + _filter(which.ports, version, only)):
                flow = attributes(answer[NETFILTER_HEADER_SIZE:])
                if _matches(flow, which, version, is_gone):
                    number += 1 if only_count else _delete(netlink, header, flow)
    return number


class MarkedFlows:
    """Whether a packet's addresses and ports are those of a TCP flow that bears our mark."""

    def __init__(self, mark: int) -> None:
        self._mark = mark
        self._netlink = Netlink(NETFILTER)

    def has(self, source: bytes, destination: bytes, ports: bytes) -> bool:
        """Look one up, in some 10 us: packed addresses, and both ports as TCP's header has them."""
        version = 4 if len(source) == 4 else 6
        ip = nested(_TUPLE_IP, attribute(_SOURCE[version], source), attribute(_DESTINATION[version], destination))
        numbers = nested(
            _TUPLE_PROTO,
            attribute(_NUMBER, bytes([Transport.TCP.number])),
            attribute(_SOURCE_PORT, ports[:2]),
            attribute(_DESTINATION_PORT, ports[2:4]),
        )
        answer = self._netlink.get(_GET, netfilter_header(_FAMILY[version]) + nested(_TUPLE_ORIG, ip, numbers))
        flow = attributes(answer[NETFILTER_HEADER_SIZE:]) if answer is not None else {}
        return bool(int.from_bytes(flow.get(_MARK, b"")) & self._mark)


def _filter(ports: Ports, version: int, only: Source | None) -> bytes:
    """Ask for flows by protocol; by port, if it is a single one; and by source."""
    flags = _BY_NUMBER
    ip = b""
    if only is not None:
        flags |= _BY_SOURCE
        ip = nested(_TUPLE_IP, attribute(_SOURCE[version], only.network_address.packed))
    wanted = [attribute(_NUMBER, bytes([ports.transport.number]))]
    if ports.first == ports.last:
        flags |= _BY_DESTINATION_PORT
        wanted.append(attribute(_DESTINATION_PORT, ports.first.to_bytes(2)))
    return nested(_TUPLE_ORIG, ip, nested(_TUPLE_PROTO, *wanted)) + nested(
        _FILTER, attribute(_ORIG_FLAGS, struct.pack("=I", flags))
    )


def _matches(flow: dict[int, bytes], which: Flows, version: int, is_gone: Callable[[Address], bool]) -> bool:
    original = attributes(flow.get(_TUPLE_ORIG, b""))
    numbers = attributes(original.get(_TUPLE_PROTO, b""))
    ip = attributes(original.get(_TUPLE_IP, b""))
    source, destination = ip.get(_SOURCE[version]), ip.get(_DESTINATION[version])
    translated = int.from_bytes(flow.get(_STATUS, b"")) & (_SOURCE_NAT | _DESTINATION_NAT)
    return (
        source is not None
        and destination is not None
        and numbers.get(_NUMBER) == bytes([which.ports.transport.number])
        and which.ports.first <= int.from_bytes(numbers.get(_DESTINATION_PORT, b"")) <= which.ports.last
        and (not which.at or ip_address(destination) in which.at)
        and not (which.spares_passing and translated == _SOURCE_NAT)
        and is_gone(ip_address(source))
    )


def _delete(netlink: Netlink, header: bytes, flow: dict[int, bytes]) -> int:
    body = header + nested(_TUPLE_ORIG, flow[_TUPLE_ORIG])
    body += b"".join(attribute(kind, flow[kind]) for kind in (_ID, _ZONE) if kind in flow)
    try:
        netlink.request(_DELETE, body)
    except FirewallError as error:
        if error.errno == errno.ENOENT:  # it ended by itself
            return 0
        raise FirewallError(f"a tracked connection could not be deleted: {error.message}") from error
    return 1
