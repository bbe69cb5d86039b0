"""Members of ipsets, over netlink: one operation in some 30 us, where a process costs a millisecond.

Source: linux/netfilter/ipset/ip_set.h.
"""

from __future__ import annotations

import errno
import socket

from gatekeeper.errors import FirewallError
from gatekeeper.firewall.netlink import NETFILTER, Netlink, attribute, nested, netfilter_header
from gatekeeper.networks import Source

_SUBSYSTEM = 6 << 8
_ADD, _DELETE = _SUBSYSTEM | 9, _SUBSYSTEM | 10
_PROTOCOL, _SETNAME, _DATA = 1, 2, 7
_IP, _CIDR, _TIMEOUT = 1, 3, 6  # inside _DATA
_IPV4, _IPV6 = 1, 2  # inside _IP
_PROTOCOL_VERSION = b"\6"


class Ipset:
    """Adds and deletes members. Doing what is done already is no error (as ``ipset -exist``)."""

    def __init__(self) -> None:
        self._netlink = Netlink(NETFILTER)

    def close(self) -> None:
        """Close the socket."""
        self._netlink.close()

    def add(self, name: str, source: Source, timeout: int) -> None:
        """Make ``source`` a member for ``timeout`` seconds (0: no limit), replacing the timeout it had."""
        self._change(_ADD, name, source, attribute(_TIMEOUT, timeout.to_bytes(4), network_order=True))

    def delete(self, name: str, source: Source) -> None:
        """Take a member out."""
        self._change(_DELETE, name, source, b"")

    def _change(self, command: int, name: str, source: Source, more: bytes) -> None:
        family, kind = (socket.AF_INET, _IPV4) if source.version == 4 else (socket.AF_INET6, _IPV6)
        body = (
            netfilter_header(family)
            + attribute(_PROTOCOL, _PROTOCOL_VERSION)
            + attribute(_SETNAME, name.encode() + b"\0")
            + nested(
                _DATA,
                nested(_IP, attribute(kind, source.network_address.packed, network_order=True)),
                attribute(_CIDR, bytes([source.prefixlen])),
                more,
            )
        )
        try:
            self._netlink.request(command, body)
        except FirewallError as error:
            if error.errno == errno.ENOENT:
                if command == _DELETE:  # without its set, nobody is a member
                    return
                raise FirewallError(f"there is no set {name} in the kernel", errno=error.errno) from error
            verb = "add to" if command == _ADD else "delete from"
            raise FirewallError(f"cannot {verb} the set {name}: {error.message}", errno=error.errno) from error
