"""Tracked flows, over netlink: finds those to protected ports, deletes them, and marks those of open connections.

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
    CREATE_NEW,
    NETFILTER,
    NETFILTER_HEADER_SIZE,
    Netlink,
    attribute,
    attributes,
    nested,
    netfilter_header,
)
from gatekeeper.networks import Address, Connection, Source
from gatekeeper.settings import Guard, Ports, Service, Transport

_SUBSYSTEM = 1 << 8
_NEW, _GET, _DELETE = _SUBSYSTEM, _SUBSYSTEM | 1, _SUBSYSTEM | 2
_TUPLE_ORIG, _TUPLE_REPLY, _STATUS, _PROTOCOL, _TIMEOUT = 1, 2, 3, 4, 7
_MARK, _ID, _ZONE, _MARK_MASK, _FILTER = 8, 12, 18, 21, 25
_SOURCE_NAT, _DESTINATION_NAT = 1 << 4, 1 << 5  # in _STATUS (linux/netfilter/nf_conntrack_common.h)
_TUPLE_IP, _TUPLE_PROTO = 1, 2  # inside _TUPLE_ORIG
_SOURCE, _DESTINATION = {4: 1, 6: 3}, {4: 2, 6: 4}  # inside _TUPLE_IP
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3  # inside _TUPLE_PROTO
_ORIG_FLAGS = 1  # inside _FILTER
_BY_SOURCE, _BY_NUMBER, _BY_DESTINATION_PORT = 1 << 0, 1 << 3, 1 << 5
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
_IS_OPEN = 1 << 1 | 1 << 2 | 1 << 3
"""In _STATUS: both sides have been heard, it is worth keeping, and it is in the table (IPS_SEEN_REPLY and so on)."""
_TCP, _TCP_STATE, _TCP_FLAGS, _TCP_REPLY_FLAGS = 1, 1, 4, 5  # inside _PROTOCOL, and inside that
_ESTABLISHED, _CLOSE_WAIT, _LIBERAL = 3, 5, 1 << 3
_IDLE = 432_000
"""Seconds after which the kernel forgets a silent connection: its own default; the next packet sets it anew."""
_MARK_TRIES = 5


@dataclass(frozen=True, slots=True)
class Flows:
    """The flows to some ports, as their first packet named them, before any translation."""

    ports: Ports
    at: tuple[Address, ...] = ()
    """Of these addresses; none named: of all."""
    spares_passing: bool = False
    """Whether those are spared of which only the source is translated: to the same port of somebody elsewhere."""


def flows_to(service: Service, ports: Ports) -> Flows:
    """Name the flows to some ports of a service."""
    return Flows(ports, service.addresses, spares_passing=service.guard is Guard.PUBLISHED)


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


def open_flows(which: Flows) -> list[Connection]:
    """List the open TCP connections among some flows, as their first packets named them.

    For what is served elsewhere, and has no socket here.

    Raises:
        FirewallError: the kernel refused.
    """
    found: list[Connection] = []
    with Netlink(NETFILTER) as netlink:
        for version, family in _FAMILY.items():
            for answer in netlink.dump(_GET, netfilter_header(family) + _filter(which.ports, version, None)):
                flow = attributes(answer[NETFILTER_HEADER_SIZE:])
                if _matches(flow, which, version, lambda _: True) and _is_open(flow):
                    source, destination, numbers = _ends(flow[_TUPLE_ORIG], version)
                    ends = ip_address(destination or b""), int.from_bytes(numbers[2:]), ip_address(source or b"")
                    found.append(Connection(*ends, int.from_bytes(numbers[:2])))
    return found


def _is_open(flow: dict[int, bytes]) -> bool:
    """Whether both sides have been heard, and one at least may still send."""
    tcp = attributes(attributes(flow.get(_PROTOCOL, b"")).get(_TCP, b""))
    state = int.from_bytes(tcp.get(_TCP_STATE, b""))
    return int.from_bytes(flow.get(_STATUS, b"")) & _IS_OPEN == _IS_OPEN and _ESTABLISHED <= state <= _CLOSE_WAIT


class MarkedFlows:
    """Whether a packet's addresses and ports are those of a TCP flow that bears our mark."""

    def __init__(self, mark: int) -> None:
        self._mark = mark
        self._netlink = Netlink(NETFILTER)

    def has(self, source: bytes, destination: bytes, ports: bytes) -> bool:
        """Look one up, in some 10 us: packed addresses, and both ports as TCP's header has them."""
        header = netfilter_header(_FAMILY[4 if len(source) == 4 else 6])
        answer = self._netlink.get(_GET, header + _tcp_tuple(_TUPLE_ORIG, source, destination, ports))
        flow = attributes(answer[NETFILTER_HEADER_SIZE:]) if answer is not None else {}
        return bool(int.from_bytes(flow.get(_MARK, b"")) & self._mark)


class FlowMarker:
    """Puts our mark on the flows of open TCP connections, and makes a flow where the kernel has none."""

    def __init__(self, mark: int) -> None:
        self._mark = mark
        self._netlink = Netlink(NETFILTER)

    def close(self) -> None:
        """Close the socket."""
        self._netlink.close()

    def put(self, one: Connection) -> None:
        """Mark the flow of one connection. Its other mark bits stay.

        A flow that the kernel picked up by a packet of ours has the peer as its target, and a later close would not
        find it: it is made anew, the right way round.

        Raises:
            FirewallError: the kernel refused.
        """
        mark = self._mark
        for _ in range(_MARK_TRIES):
            try:
                flow = self._mark_or_make(one, mark)
                if flow is None:
                    return
                mark |= int.from_bytes(flow.get(_MARK, b""))
            except FirewallError as error:
                if error.errno not in {errno.EEXIST, errno.ENOENT}:  # a packet made the flow in between, or ended it
                    raise FirewallError(f"a connection could not be marked: {error.message}") from error
        raise FirewallError("a connection could not be marked: its flow keeps changing")

    def _mark_or_make(self, one: Connection, mark: int) -> dict[int, bytes] | None:
        """Try once; return a flow that was the wrong way round, and is gone now."""
        header = netfilter_header(_FAMILY[one.local.version])
        # Looked for by what we send: that finds it as well where its target was translated on the way in.
        sent = one.local.packed, one.peer.packed, one.port.to_bytes(2) + one.peer_port.to_bytes(2)
        answer = self._netlink.get(_GET, header + _tcp_tuple(_TUPLE_ORIG, *sent))
        if answer is None:
            self._netlink.request(_NEW, header + _new_flow(one, mark), flags=CREATE_NEW)
            return None
        flow = attributes(answer[NETFILTER_HEADER_SIZE:])
        if _ends(flow[_TUPLE_ORIG], one.local.version) == sent:
            _delete(self._netlink, header, flow)
            return flow
        self._set(header, flow)
        return None

    def put_tracked(self, one: Connection) -> bool:
        """Mark the flow of a connection that goes on elsewhere, as ``open_flows`` names it; return whether it is there.

        Raises:
            FirewallError: the kernel refused.
        """
        header = netfilter_header(_FAMILY[one.local.version])
        ports = one.peer_port.to_bytes(2) + one.port.to_bytes(2)
        answer = self._netlink.get(_GET, header + _tcp_tuple(_TUPLE_ORIG, one.peer.packed, one.local.packed, ports))
        if answer is not None:
            self._set(header, attributes(answer[NETFILTER_HEADER_SIZE:]))
        return answer is not None

    def _set(self, header: bytes, flow: dict[int, bytes]) -> None:
        status, mark = (int.from_bytes(flow.get(kind, b"")) for kind in (_STATUS, _MARK))
        if not (mark & self._mark and status & _IS_OPEN == _IS_OPEN):
            self._netlink.request(_NEW, header + _marked(flow, self._mark))


def _new_flow(one: Connection, mark: int) -> bytes:
    ports, peer_port = one.port.to_bytes(2), one.peer_port.to_bytes(2)
    any_window = bytes([_LIBERAL, _LIBERAL])  # nobody knows the windows of a connection that nobody has watched
    tcp = nested(
        _TCP,
        attribute(_TCP_STATE, bytes([_ESTABLISHED])),
        attribute(_TCP_FLAGS, any_window),
        attribute(_TCP_REPLY_FLAGS, any_window),
    )
    return (
        _tcp_tuple(_TUPLE_ORIG, one.peer.packed, one.local.packed, peer_port + ports)
        + _tcp_tuple(_TUPLE_REPLY, one.local.packed, one.peer.packed, ports + peer_port)
        + attribute(_STATUS, _IS_OPEN.to_bytes(4))
        + attribute(_TIMEOUT, _IDLE.to_bytes(4))
        + attribute(_MARK, mark.to_bytes(4))
        + nested(_PROTOCOL, tcp)
    )


def _marked(flow: dict[int, bytes], mark: int) -> bytes:
    # Until the kernel has heard both sides it calls what the peer sends NEW, which our rules do not let pass.
    status = int.from_bytes(flow.get(_STATUS, b"")) | _IS_OPEN
    body = nested(_TUPLE_ORIG, flow[_TUPLE_ORIG]) + attribute(_STATUS, status.to_bytes(4))
    body += attribute(_MARK, mark.to_bytes(4)) + attribute(_MARK_MASK, mark.to_bytes(4))
    return body + (attribute(_ZONE, flow[_ZONE]) if _ZONE in flow else b"")


def _tcp_tuple(kind: int, source: bytes, destination: bytes, ports: bytes) -> bytes:
    """Write one direction of a TCP flow: packed addresses, and both ports as TCP's header has them."""
    version = 4 if len(source) == 4 else 6
    return nested(
        kind,
        nested(_TUPLE_IP, attribute(_SOURCE[version], source), attribute(_DESTINATION[version], destination)),
        nested(
            _TUPLE_PROTO,
            attribute(_NUMBER, bytes([Transport.TCP.number])),
            attribute(_SOURCE_PORT, ports[:2]),
            attribute(_DESTINATION_PORT, ports[2:4]),
        ),
    )


def _ends(direction: bytes, version: int) -> tuple[bytes | None, bytes | None, bytes]:
    """Read one direction of a flow: source, destination, both ports."""
    found = attributes(direction)
    ip, numbers = attributes(found.get(_TUPLE_IP, b"")), attributes(found.get(_TUPLE_PROTO, b""))
    ports = numbers.get(_SOURCE_PORT, b"") + numbers.get(_DESTINATION_PORT, b"")
    return ip.get(_SOURCE[version]), ip.get(_DESTINATION[version]), ports


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
