"""Sends the answers to knocks, where the rules ask for them: from the port that was knocked at, and its address.

The sockets are bound to the knock ports, but nothing ever arrives there: the ruleset sees to that.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from itertools import product

from gatekeeper import observe
from gatekeeper.errors import QueueError
from gatekeeper.model import Answer
from gatekeeper.sealed import keys

_IP_PKTINFO = 8  # linux/in.h; Python has no name for it


class Answers:
    """One socket for each knock port, and each IP version that this machine has."""

    def __init__(self, ports: Sequence[int]) -> None:
        """Bind the knock ports.

        Raises:
            QueueError: another program has one.
        """
        self._sockets: dict[tuple[int, int], socket.socket] = {}
        for port, (version, family) in product(ports, ((4, socket.AF_INET), (6, socket.AF_INET6))):
            try:
                self._sockets[version, port] = _bound(family, port)
            except OSError as error:
                if version == 6 and not socket.has_dualstack_ipv6():
                    continue
                self.close()
                hint = "stop what listens there, choose another knock port, or take out ack: true"
                raise QueueError(f"cannot send answers from udp/{port}: {error.strerror}", hint) from error

    def send(self, answer: Answer) -> None:
        """Send one; what cannot be sent is only logged, for the knock has done its work."""
        to = answer.datagram
        version = to.source.version
        try:
            if version == 4:
                level, kind, info = socket.IPPROTO_IP, _IP_PKTINFO, struct.pack("=i4s4s", 0, to.destination.packed, b"")
            else:
                level, kind, info = socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, to.destination.packed + bytes(4)
            payload = answer.write(keys.generate())
            peer = (str(to.source), to.source_port)
            one = self._sockets[version, to.destination_port]
            one.sendmsg([payload], [(level, kind, info)], socket.MSG_DONTWAIT, peer)
        except (OSError, KeyError, ValueError, struct.error) as error:  # no answer is worth a failure
            observe.event("not-answered", {"source": str(to.source), "error": str(error)})

    def close(self) -> None:
        """Close the sockets."""
        for one in self._sockets.values():
            one.close()


def _bound(family: socket.AddressFamily, port: int) -> socket.socket:
    one = socket.socket(family, socket.SOCK_DGRAM)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the kernel's least: nobody reads
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind(("", port))
    except OSError:
        one.close()
        raise
    return one
