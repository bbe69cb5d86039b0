"""Tracked flows, over netlink: finds those of a service, and deletes them.

Source: linux/netfilter/nfnetlink_conntrack.h. The kernel filters by port and IPv4 source from
Linux 5.8 on; what it lets through is looked at again here, so an older one is slower and not wrong.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable, Sequence
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
from gatekeeper.model import Service
from gatekeeper.networks import Address, Source

_SUBSYSTEM = 1 << 8
_GET, _DELETE = _SUBSYSTEM | 1, _SUBSYSTEM | 2
_TUPLE_ORIG, _ID, _ZONE, _FILTER = 1, 12, 18, 25
_TUPLE_IP, _TUPLE_PROTO = 1, 2  # inside _TUPLE_ORIG
_SOURCE = {4: 1, 6: 3}  # inside _TUPLE_IP
_NUMBER, _DESTINATION_PORT = 1, 3  # inside _TUPLE_PROTO
_ORIG_FLAGS = 1  # inside _FILTER
_BY_SOURCE, _BY_NUMBER, _BY_DESTINATION_PORT = 1 << 0, 1 << 3, 1 << 5
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


def forget_flows(service: Service, sources: Sequence[Source], is_gone: Callable[[Address], bool]) -> int:
    """Delete the flows to a service from addresses that are gone; return how many.

    ``sources`` narrows what the kernel is asked for.
    """
    number = 0
    with Netlink(NETFILTER) as netlink:
        for version in sorted({source.version for source in sources}):
            ours = [source for source in sources if source.version == version]
            # By IPv6 source the kernel's filter finds nothing (its comparison is the wrong way round, seen on 6.18).
            only = ours[0] if version == 4 and len(ours) == 1 and ours[0].num_addresses == 1 else None
            header = netfilter_header(_FAMILY[version])
            for answer in netlink.dump(_GET, header + _filter(service, version, only)):
                flow = attributes(answer[NETFILTER_HEADER_SIZE:])
                if _matches(flow, service, version, is_gone):
                    number += _delete(netlink, header, flow)
    return number


def _filter(service: Service, version: int, only: Source | None) -> bytes:
    flags = _BY_NUMBER | _BY_DESTINATION_PORT
    ip = b""
    if only is not None:
        flags |= _BY_SOURCE
        ip = nested(_TUPLE_IP, attribute(_SOURCE[version], only.network_address.packed))
    ports = nested(
        _TUPLE_PROTO,
        attribute(_NUMBER, bytes([service.transport.number])),
        attribute(_DESTINATION_PORT, service.port.to_bytes(2)),
    )
    return nested(_TUPLE_ORIG, ip, ports) + nested(_FILTER, attribute(_ORIG_FLAGS, struct.pack("=I", flags)))


def _matches(flow: dict[int, bytes], service: Service, version: int, is_gone: Callable[[Address], bool]) -> bool:
    original = attributes(flow.get(_TUPLE_ORIG, b""))
    ports = attributes(original.get(_TUPLE_PROTO, b""))
    source = attributes(original.get(_TUPLE_IP, b"")).get(_SOURCE[version])
    return (
        source is not None
        and ports.get(_NUMBER) == bytes([service.transport.number])
        and ports.get(_DESTINATION_PORT) == service.port.to_bytes(2)
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
