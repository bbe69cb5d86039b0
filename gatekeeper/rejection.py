"""What a machine without a firewall answers to a packet for a closed port: a TCP reset, or ICMP port unreachable.

Pure. RFC 9293, 3.10.7.1 (state CLOSED); RFC 792 and RFC 4443 (port unreachable); RFC 1122, 3.2.2 (when to keep
silent). ``rejection`` never raises, whatever the bytes, and what it says is what Linux would have sent, seen side
by side on 6.18: the same bytes, the same type of service, the same length of the quoted packet. Two differences
remain: Linux sends record route and timestamp options back (IPv4); and where it does not take an IPv6 extension
header, it may say so (parameter problem), which this does not.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from gatekeeper.model import Reason
from gatekeeper.packet import ICMP, ICMPV6, TCP, UDP, Header, triage

_FIN, _SYN, _RST, _ACK = 0x01, 0x02, 0x04, 0x10
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION = 0, 43, 44, 60
_PAD1, _PADN = 0, 1
_ROUTES = frozenset({3, 4})  # types of routing headers that Linux drops unless it is told to take part: RPL, segments
_TCP = Struct("!HHIIBBHHH")  # ports, sequence, acknowledgement, offset, flags, window, checksum, urgent
_U16 = Struct("!H")
_PSEUDO = Struct("!II")  # length and protocol; IPv4's is shorter, but adds up to the same
_UNREACHABLE = {4: b"\x03\x03", 6: b"\x01\x04"}
"""By IP version: the type and the code of "port unreachable"."""
_QUOTED = {4: 576 - 20 - 8, 6: 1280 - 40 - 8}
"""By IP version: how much of the packet is quoted, for 576 and 1280 bytes in all."""
_NO_HOSTS = frozenset({0, 127, *range(224, 240)})
"""First bytes of IPv4 addresses: of this network, loopback, multicast."""
_BROADCAST = b"\xff" * 4


class Rejection(NamedTuple):
    """What to send. Addresses are packed (4 or 16 bytes); the message lacks only its IP header."""

    protocol: int
    source: bytes
    destination: bytes
    traffic_class: int
    """IPv4 calls it type of service."""
    message: bytes


def rejection(raw: bytes) -> Rejection | None:
    """Answer an IP packet that was dropped; ``None`` where a machine must not, or would not."""
    header = triage(raw)
    if isinstance(header, Reason) or header.protocol not in {TCP, UDP}:
        return None
    if not (_is_one_host(header.source) and _is_one_host(header.destination)):
        return None
    if len(header.source) == 4:
        size, traffic_class = _U16.unpack_from(raw, 2)[0], raw[1]
    else:
        size, traffic_class = 40 + _U16.unpack_from(raw, 4)[0], (raw[0] & 0x0F) << 4 | raw[1] >> 4
        if not _passes_extensions(raw, header.segment):
            return None
    segment = raw[header.segment : header.end]
    if size > len(raw) or not _is_intact(segment, header):
        return None
    if header.protocol == TCP:
        return _reset(segment, header, traffic_class)
    return _unreachable(raw[: header.end], header, traffic_class)


def _reset(segment: bytes, header: Header, traffic_class: int) -> Rejection | None:
    _, _, sequence, acknowledged, offset, flags, _, _, _ = _TCP.unpack_from(segment)
    length = len(segment) - (offset >> 4) * 4
    if flags & _RST or length < 0:
        return None
    if flags & _ACK:
        sequence, acknowledges, answer = acknowledged, 0, _RST
    else:
        length += bool(flags & _SYN) + (flags & _FIN)
        sequence, acknowledges, answer = 0, (sequence + length) & 0xFFFF_FFFF, _RST | _ACK
    ports = header.destination_port, header.source_port
    message = _TCP.pack(*ports, sequence, acknowledges, 0x50, answer, 0, 0, 0)
    pseudo = header.destination + header.source + _PSEUDO.pack(len(message), TCP)
    message = message[:16] + _checksum(pseudo + message) + message[18:]
    # congestion marks are not sent back (RFC 3168, 6.1.1)
    return Rejection(TCP, header.destination, header.source, traffic_class & 0xFC, message)


def _unreachable(packet: bytes, header: Header, traffic_class: int) -> Rejection:
    version = 4 if len(header.source) == 4 else 6
    kind, rest = _UNREACHABLE[version], bytes(4) + packet[: _QUOTED[version]]
    if version == 4:
        protocol, pseudo = ICMP, b""
        traffic_class = 0xC0 | traffic_class & 0x1E  # errors have precedence (RFC 1812, 4.3.2.5)
    else:
        protocol, pseudo = ICMPV6, header.destination + header.source + _PSEUDO.pack(4 + len(rest), ICMPV6)
        traffic_class = 0
    message = kind + _checksum(pseudo + kind + rest) + rest
    return Rejection(protocol, header.destination, header.source, traffic_class, message)


def _is_intact(segment: bytes, header: Header) -> bool:
    """Tell whether the checksum is right: the kernel would have looked at it before it looked for a socket."""
    if header.protocol == UDP and segment[6:8] == b"\0\0":
        return len(header.source) == 4  # RFC 768: none was made; RFC 8200, 8.1: not over IPv6
    return _sum(header.source + header.destination + _PSEUDO.pack(len(segment), header.protocol) + segment) == 0


def _is_one_host(address: bytes) -> bool:
    """Tell whether an address names one host out there, and not many, nobody or ourselves."""
    if len(address) == 4:
        return address[0] not in _NO_HOSTS and address != _BROADCAST
    return address[0] != 0xFF and not address.startswith(bytes(10))  # unspecified, loopback, IPv4 in disguise


def _passes_extensions(raw: bytes, segment: int) -> bool:
    """Tell whether Linux would get past the IPv6 extension headers, which triage has read, to the transport's."""
    protocol, start = raw[6], 40
    while start < segment:
        length = (raw[start + 1] + 1) * 8
        if protocol == _FRAGMENT:  # the only fragment there is: triage has seen to that
            length = 8
        elif protocol == _ROUTING:
            if raw[start + 3] or raw[start + 2] in _ROUTES:  # on its way elsewhere, or dropped
                return False
        elif protocol == _DESTINATION or (protocol == _HOP_BY_HOP and start == 40):
            if not _may_be_skipped(raw[start + 2 : start + length]):
                return False
        else:
            return False
        protocol = raw[start]
        start += length
    return True


def _may_be_skipped(options: bytes) -> bool:
    """Tell whether whoever knows none of these options is to go on (RFC 8200, 4.2: their first two bits).

    And whether they are sound: Linux takes padding only for what it is (RFC 4942, 2.1.9.5).
    """
    at = padding = 0
    while at < len(options):
        kind = options[at]
        if kind == _PAD1:
            length = 1
        elif kind & 0xC0 or at + 1 == len(options):
            return False
        else:
            length = 2 + options[at + 1]
        padding = padding + length if kind in {_PAD1, _PADN} else 0
        if padding > 7 or (kind == _PADN and any(options[at + 2 : at + length])):
            return False
        at += length
    return at == len(options)


def _sum(data: bytes) -> int:
    """Add 16-bit words in one's complement (RFC 1071): the remainder of one long number, in a microsecond or two.

    0 of what has its right checksum in it.
    """
    return int.from_bytes(data + bytes(len(data) % 2), "big") % 0xFFFF


def _checksum(data: bytes) -> bytes:
    """Write the checksum of data whose own checksum is 0, or left out, on an even place."""
    return _U16.pack(-_sum(data) % 0xFFFF)
