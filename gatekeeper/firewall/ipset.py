"""Ipsets and their members, over netlink: one operation in some 30 us, where a process costs a millisecond.

Source: linux/netfilter/ipset/ip_set.h.
"""

from __future__ import annotations

import errno
import socket
from ipaddress import IPv4Network, IPv6Network

from gatekeeper.errors import FirewallError
from gatekeeper.firewall.netlink import (
    NETFILTER,
    NETFILTER_HEADER_SIZE,
    Netlink,
    attribute,
    attributes,
    each_attribute,
    nested,
    netfilter_header,
)
from gatekeeper.networks import Source

_SUBSYSTEM = 6 << 8
_ADD, _DELETE = _SUBSYSTEM | 9, _SUBSYSTEM | 10
_LIST = _SUBSYSTEM | 7
_PROTOCOL, _SETNAME, _FLAGS, _DATA, _MEMBERS, _INDEX = 1, 2, 6, 7, 8, 11
_IP, _CIDR, _TIMEOUT = 1, 3, 6  # inside _DATA
_SIZE = 24  # inside _DATA of a header
_ONLY_HEADERS = (1 << 2).to_bytes(4)  # IPSET_FLAG_LIST_HEADER
_IPV4, _IPV6 = 1, 2  # inside _IP
_PROTOCOL_VERSION, _TELLS_INDICES = b"\6", b"\7"


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

    def sizes(self) -> dict[str, int]:
        """Count the members of every set in this network namespace. None where there is no ipset in this kernel."""
        return {name: size for name, (size, _) in self._headers().items()}

    def indices(self) -> dict[str, int]:
        """Return the numbers by which rules know the sets. Kernels before 4.20 do not tell."""
        return {name: index for name, (_, index) in self._headers().items() if index is not None}

    def _headers(self) -> dict[str, tuple[int, int | None]]:
        family, flags = netfilter_header(socket.AF_UNSPEC), attribute(_FLAGS, _ONLY_HEADERS, network_order=True)
        found: dict[str, tuple[int, int | None]] = {}
        try:
            headers = self._list(family + attribute(_PROTOCOL, _TELLS_INDICES) + flags)
        except FirewallError:  # an older kernel
            headers = self._list(family + attribute(_PROTOCOL, _PROTOCOL_VERSION) + flags)
        for header in headers:
            size = int.from_bytes(attributes(header.get(_DATA, b"")).get(_SIZE, b""))
            index = int.from_bytes(header[_INDEX]) if _INDEX in header else None
            found[header[_SETNAME].rstrip(b"\0").decode(errors="replace")] = (size, index)
        return found

    def members(self, name: str) -> dict[Source, int | None]:
        """List the members of a set of networks, with the seconds that each has left (``None``: no limit).

        Nobody, if there is no such set.
        """
        body = netfilter_header(socket.AF_UNSPEC) + attribute(_PROTOCOL, _PROTOCOL_VERSION)
        body += attribute(_SETNAME, name.encode() + b"\0")
        found: dict[Source, int | None] = {}
        for part in self._list(body):
            for _, member in each_attribute(part.get(_MEMBERS, b"")):
                said = attributes(member)
                address = next(iter(attributes(said.get(_IP, b"")).values()), b"")
                length = said.get(_CIDR, b"")[:1] or bytes([len(address) * 8])
                seconds = int.from_bytes(said.get(_TIMEOUT, b""))
                kind = IPv4Network if len(address) == 4 else IPv6Network
                found[kind((address, length[0]))] = seconds or None
        return found

    def _list(self, body: bytes) -> list[dict[int, bytes]]:
        try:
            return [attributes(answer[NETFILTER_HEADER_SIZE:]) for answer in self._netlink.dump(_LIST, body)]
        except FirewallError as error:
            if error.errno in {errno.ENOENT, errno.EINVAL}:
                return []
            raise FirewallError(f"cannot list sets: {error.message}", errno=error.errno) from error

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
