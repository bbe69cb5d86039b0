"""The ways of a knock besides UDP: as the data of an ICMP echo request, or of a TCP SYN to a protected port.

The kernel gives the sockets for them to root, or to whom it was told to. Nothing is waited for: what comes back,
if anything does, is the kernel's business. It resets the connection that the answer to our SYN would begin.
"""

from __future__ import annotations

import errno
import os
import socket

from gatekeeper.client import addresses, packets
from gatekeeper.client.knocker import Way
from gatekeeper.errors import ClientError

_ROOT = "run it as root (sudo), or with CAP_NET_RAW"
_ANY_PORT = 9
"""For a socket that sends nothing: some systems look for a way to a port only, and 0 is none."""


class _Raw(Way):
    """What both have in common: a socket that takes the packet from its ICMP or TCP header on."""

    def aim(self, one: socket.socket, address: str) -> str:
        """Bind it to the address of ours that UDP would leave from, and connect it.

        Not every system would tell by the socket itself.
        """
        with socket.socket(one.family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, _ANY_PORT))
            local: str = probe.getsockname()[0]
        one.bind((local, 0))
        one.connect((address, 0))
        return local


class Icmp(_Raw):
    """An echo request."""

    def __str__(self) -> str:
        return "icmp echo"

    def open(self, family: int) -> socket.socket:
        """Make a ping socket, which some systems give to everybody; or a raw one.

        Raises:
            ClientError: neither is to be had.
        """
        protocol = packets.ICMPV6 if family == socket.AF_INET6 else packets.ICMP
        try:
            return socket.socket(family, socket.SOCK_DGRAM, protocol)
        except OSError:
            pass
        hint = f'{_ROOT}; or let users do it, on Linux: sudo sysctl -w net.ipv4.ping_group_range="0 2147483647"'
        return _raw(family, protocol, "an echo request", hint)

    def send(self, one: socket.socket, datagram: bytes, local: str, server: str) -> None:  # noqa: ARG002
        """Send it; a ping socket puts an identifier and a checksum of the kernel's in the place of ours."""
        build = packets.echo6 if one.family == socket.AF_INET6 else packets.echo
        one.send(build(int.from_bytes(os.urandom(2), "big"), datagram))


class Syn(_Raw):
    """A SYN to a protected port. Linux's own TCP sends no data in it, so we build it."""

    def __init__(self, port: int) -> None:
        self.port = port

    def __str__(self) -> str:
        return f"a SYN to tcp/{self.port}"

    def open(self, family: int) -> socket.socket:
        """Make a raw socket.

        Raises:
            ClientError: we may not.
        """
        return _raw(family, packets.TCP, "a SYN with a knock in it", _ROOT)

    def send(self, one: socket.socket, datagram: bytes, local: str, server: str) -> None:
        """Send it, from a port that nobody else has: a TCP socket is bound to it meanwhile."""
        with socket.socket(one.family, socket.SOCK_STREAM) as holder:
            holder.bind((local, 0))
            source = addresses.packed(local), holder.getsockname()[1]
            target = addresses.packed(server), self.port
            one.send(packets.syn(source, target, int.from_bytes(os.urandom(4), "big"), datagram))


def _raw(family: int, protocol: int, what: str, hint: str) -> socket.socket:
    """Make a raw socket.

    Raises:
        ClientError: we may not, or the system has none.
        OSError: the system has nothing of that family.
    """
    try:
        return socket.socket(family, socket.SOCK_RAW, protocol)
    except PermissionError:
        raise ClientError(f"sending {what} needs root here", hint) from None
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:
            raise
        words = error.strerror or str(error)
        raise ClientError(f"this system cannot send {what}: {words}", "knock by UDP: --via udp") from error
