"""This machine's own sockets, over netlink: finds the connected ones of protected ports, lists or destroys them.

What ``ss -K`` does. A TCP peer is sent a reset. Needs CONFIG_INET_DIAG_DESTROY, which Debian's and
Ubuntu's kernels have. Source: linux/inet_diag.h, linux/sock_diag.h.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from gatekeeper.errors import FirewallError
from gatekeeper.firewall.netlink import SOCK_DIAG, Netlink
from gatekeeper.networks import Address, Connection
from gatekeeper.settings import Ports, Transport

_BY_FAMILY, _DESTROY = 20, 21
_REQUEST = struct.Struct("=BBBxI")  # family, protocol, extensions, states; then a socket's id
_ID = slice(4, 52)  # inet_diag_sockid in inet_diag_msg: ports, addresses, interface, cookie
# in inet_diag_msg: our port and the peer's, our address and the peer's, the inode
_PORT, _PEER_PORT, _LOCAL, _PEER, _INODE = slice(4, 6), slice(6, 8), slice(8, 24), slice(24, 40), slice(68, 72)
_STATE = 1
_ALL_STATES = 0xFFFF_FFFF
_ESTABLISHED, _FIN_WAIT1, _FIN_WAIT2, _TIME_WAIT, _CLOSE, _CLOSE_WAIT, _LISTEN = 1, 4, 5, 6, 7, 8, 10
_RUNNING = sum(1 << state for state in (_ESTABLISHED, _FIN_WAIT1, _FIN_WAIT2, _CLOSE_WAIT))
"""The handshake is done (a half-open one proves nothing), and one side at least may still send."""
_WANTED = {
    # a socket that waits for its port to cool down carries nothing; a listener is the service itself
    Transport.TCP: _ALL_STATES & ~(1 << _TIME_WAIT) & ~(1 << _LISTEN),
    # an unconnected UDP socket (state CLOSE) is the service itself
    Transport.UDP: _ALL_STATES & ~(1 << _CLOSE),
}


class Running(NamedTuple):
    """A TCP connection with a socket of this machine's."""

    connection: Connection
    inode: int
    """The socket's, as ``/proc/PID/fd`` names it; 0: no program has it any more."""
    is_established: bool
    """Whether both sides may still send."""


def running(ports: Ports, at: Sequence[Address]) -> list[Running]:
    """List the TCP connections to some ports (of the addresses ``at``, if any) that are past their handshake.

    Raises:
        FirewallError: this kernel cannot, or we may not.
    """
    with Netlink(SOCK_DIAG) as netlink:
        return [
            Running(
                Connection(
                    _address(found, _LOCAL),
                    int.from_bytes(found[_PORT]),
                    _address(found, _PEER),
                    int.from_bytes(found[_PEER_PORT]),
                ),
                int.from_bytes(found[_INODE], sys.byteorder),
                found[_STATE] == _ESTABLISHED,
            )
            for _, found in _sockets(netlink, ports, at, _RUNNING)
        ]


def destroy_sockets(
    ports: Ports, at: Sequence[Address], is_gone: Callable[[Address], bool], *, only_count: bool = False
) -> int:
    """Destroy the connected sockets on some ports (of the addresses ``at``, if any) whose peers are gone.

    Returns how many.

    Raises:
        FirewallError: this kernel cannot, or we may not.
    """
    number = 0
    with Netlink(SOCK_DIAG) as netlink:
        for header, found in _sockets(netlink, ports, at, _WANTED[ports.transport]):
            if is_gone(_address(found, _PEER)):
                number += 1 if only_count else _destroy(netlink, header, found)
    return number


def _sockets(netlink: Netlink, ports: Ports, at: Sequence[Address], states: int) -> Iterator[tuple[bytes, bytes]]:
    """List the sockets of some ports: for each the request that it answers, without an id, and the answer."""
    only_port = ports.first.to_bytes(2) if ports.first == ports.last else bytes(2)
    # An IPv4 peer may have an IPv6 socket (::ffff:a.b.c.d), so both families are always looked at.
    for family in (socket.AF_INET, socket.AF_INET6):
        header = _REQUEST.pack(family, ports.transport.number, 0, states)
        for found in _list(netlink, ports.transport, header + only_port + bytes(46)):
            is_ours = ports.first <= int.from_bytes(found[_PORT]) <= ports.last
            if is_ours and (not at or _address(found, _LOCAL) in at):
                yield header, found


def _list(netlink: Netlink, transport: Transport, request: bytes) -> list[bytes]:
    try:
        return netlink.dump(_BY_FAMILY, request)
    except FirewallError as error:
        if error.errno == errno.ENOENT and transport is Transport.UDP:
            return []  # a kernel without udp_diag: nothing is sent to those that are gone all the same
        hint = "modprobe tcp_diag" if error.errno == errno.ENOENT else None
        raise FirewallError(f"open connections could not be listed: {error.message}", hint) from error


def _address(found: bytes, place: slice) -> Address:
    packed = found[place]
    address = ip_address(packed[:4] if found[0] == socket.AF_INET else packed)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _destroy(netlink: Netlink, header: bytes, found: bytes) -> int:
    try:
        netlink.request(_DESTROY, header + found[_ID])
    except FirewallError as error:
        if error.errno == errno.ENOENT:  # it ended by itself
            return 0
        hint = "this kernel lacks CONFIG_INET_DIAG_DESTROY" if error.errno == errno.EOPNOTSUPP else None
        raise FirewallError(f"an open connection could not be cut: {error.message}", hint) from error
    return 1
