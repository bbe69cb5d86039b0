"""Raw IP bytes to what the gate needs to know: triage for every packet, Scapy for a candidate knock.

Pure. ``triage`` never raises, whatever the bytes: it answers with a ``Header``, or with the ``Reason``
why there is none. It reads what netfilter reads (RFC 791, RFC 8200, RFC 9293, RFC 768, RFC 792): addresses,
transport (TCP, UDP, and echo requests), ports, and where the payload lies. ``dissect`` is dearer (about
0.2 ms) and is for packets that already look like a knock.
"""

from __future__ import annotations

from ipaddress import ip_address
from struct import Struct
from typing import NamedTuple

from gatekeeper.model import Datagram, Reason
from gatekeeper.settings import Via

TCP, UDP = 6, 17
ICMP, ICMPV6 = 1, 58
ECHOES = frozenset({ICMP, ICMPV6})
"""Protocols of which triage reads echo requests, and nothing else."""

_IPV4_MIN, _IPV6_MIN, _TCP_MIN, _UDP_MIN, _ECHO = 20, 40, 20, 8, 8
_ECHO_REQUEST = {ICMP: 8, ICMPV6: 128}  # RFC 792, RFC 4443
_SYN, _ACK, _RST = 0x02, 0x10, 0x04
_FRAGMENT_HEADER, _AUTHENTICATION_HEADER = 44, 51
# hop-by-hop, routing, destination options, mobility, HIP, shim6: all "next header, length in 8 bytes"
_EXTENSION_HEADERS = frozenset({0, 43, 60, 135, 139, 140})
_PORTS = Struct("!HH").unpack_from
_U16 = Struct("!H").unpack_from
_PSEUDO = Struct("!II").pack  # length and protocol; IPv4's is shorter, but adds up to the same


class Header(NamedTuple):
    """What triage reads. Addresses are packed (4 or 16 bytes); the payload is ``raw[start:end]``."""

    source: bytes
    destination: bytes
    protocol: int
    source_port: int
    destination_port: int
    opens_flow: bool
    """A TCP SYN, or any UDP datagram: a packet that may come right behind its knock."""
    segment: int
    """Where the transport's header begins."""
    start: int
    end: int


def triage(raw: bytes) -> Header | Reason:
    """Read the headers of an IP packet, at a cost of a few microseconds."""
    size = len(raw)
    if size < _IPV4_MIN:
        return Reason.MALFORMED
    version = raw[0] >> 4
    if version == 4:
        return _ipv4(raw, size)
    if version == 6 and size >= _IPV6_MIN:
        return _ipv6(raw, size)
    return Reason.MALFORMED


def sender(raw: bytes) -> bytes:
    """Return from whom a packet claims to be: the IPv4 address, or the first half of the IPv6 address.

    Nothing else is looked at, so a flood can be counted by it. Of a packet that is too short it is too short too.
    """
    if raw[:1] < b"\x60":
        return raw[12:16]
    return raw[8:16] if len(raw) >= 16 else b""


def _ipv4(raw: bytes, size: int) -> Header | Reason:
    start = (raw[0] & 0x0F) * 4
    total = _U16(raw, 2)[0]
    if start < _IPV4_MIN or total < start or size < start:
        return Reason.MALFORMED
    if _U16(raw, 6)[0] & 0x3FFF:  # more fragments, or an offset
        return Reason.FRAGMENT
    if raw[9] == ICMPV6:  # which IPv4 does not have
        return Reason.NOT_GUARDED
    return _transport(raw, raw[12:16], raw[16:20], raw[9], start, min(total, size))


def _ipv6(raw: bytes, size: int) -> Header | Reason:
    protocol, start = raw[6], _IPV6_MIN
    end = min(_IPV6_MIN + _U16(raw, 4)[0], size)
    while protocol != UDP and protocol != TCP and protocol != ICMPV6:  # noqa: PLR1714  (twice as fast as a set here)
        if start + 8 > end:
            return Reason.MALFORMED
        if protocol in _EXTENSION_HEADERS:
            length = (raw[start + 1] + 1) * 8
        elif protocol == _AUTHENTICATION_HEADER:
            length = (raw[start + 1] + 2) * 4
        elif protocol == _FRAGMENT_HEADER:
            if _U16(raw, start + 2)[0] & 0xFFF9:  # an offset, or more fragments (RFC 6946: else atomic)
                return Reason.FRAGMENT
            length = 8
        else:
            return Reason.NOT_GUARDED
        protocol = raw[start]
        start += length
    return _transport(raw, raw[8:24], raw[24:40], protocol, start, end)


def _transport(raw: bytes, source: bytes, target: bytes, protocol: int, start: int, end: int) -> Header | Reason:
    if protocol == UDP:
        if start + _UDP_MIN > end:
            return Reason.MALFORMED
        sport, dport = _PORTS(raw, start)
        length = _U16(raw, start + 4)[0]
        if length < _UDP_MIN or start + length > end:  # as the kernel's own udp_rcv
            return Reason.MALFORMED
        return Header(source, target, UDP, sport, dport, True, start, start + _UDP_MIN, start + length)
    if protocol == TCP:
        if start + _TCP_MIN > end:
            return Reason.MALFORMED
        sport, dport = _PORTS(raw, start)
        offset = (raw[start + 12] >> 4) * 4
        if offset < _TCP_MIN:
            return Reason.MALFORMED
        opens = raw[start + 13] & (_SYN | _ACK | _RST) == _SYN
        return Header(source, target, TCP, sport, dport, opens, start, min(start + offset, end), end)
    if start + _ECHO <= end and raw[start] == _ECHO_REQUEST.get(protocol) and not raw[start + 1]:
        return Header(source, target, protocol, 0, 0, False, start, start + _ECHO, end)
    return Reason.NOT_GUARDED


def tcp_flags(raw: bytes, header: Header) -> int:
    """Return the flags of a TCP packet that triage has read (RFC 9293)."""
    return raw[header.segment + 13]


def dissect(raw: bytes, header: Header) -> Datagram | None:
    """Dissect a packet that triage has read, with Scapy, and check its checksum.

    The kernel has not looked at the checksum yet: it would, in the protocol itself, behind the queue. Over
    IPv6 nothing else protects the source address, which is what a grant is for. ``None`` if Scapy
    reads the headers otherwise than triage: such a packet is nobody's knock.
    """
    # Imported here, because a dry run (and any system without Scapy) never needs it.
    from scapy.layers import inet, inet6  # noqa: PLC0415
    from scapy.utils import checksum  # noqa: PLC0415

    headers = raw[: header.start]  # without the payload, which is none of Scapy's business
    ip = inet.IP(headers) if len(header.source) == 4 else inet6.IPv6(headers)
    layer, via = {
        UDP: (inet.UDP, Via.UDP),
        TCP: (inet.TCP, Via.SYN),
        ICMP: (inet.ICMP, Via.ICMP),
        ICMPV6: (inet6.ICMPv6EchoRequest, Via.ICMP),
    }[header.protocol]
    if layer not in ip:
        return None
    segment = raw[header.segment : header.end]
    if header.protocol == UDP and ip[layer].chksum == 0:
        checksum_ok = ip.version == 4  # RFC 768: none was made; RFC 8200, 8.1: not over IPv6
    else:  # RFC 792: ICMP's is over the message alone
        pseudo = header.source + header.destination + _PSEUDO(len(segment), header.protocol)
        checksum_ok = checksum(segment if header.protocol == ICMP else pseudo + segment) == 0
    return Datagram(
        source=ip_address(header.source),
        destination=ip_address(header.destination),
        source_port=header.source_port,
        destination_port=header.destination_port,
        payload=raw[header.start : header.end],
        checksum_ok=checksum_ok,
        via=via,
    )


_SAMPLES = (
    bytes.fromhex("4500001d000000004011f6cf7f0000017f00000100010001000900002e"),
    bytes.fromhex("600000000009114000000000000000000000000000000001" + "0" * 31 + "100010001000900002e"),
)


def warm_up() -> None:
    """Load and run what ``dissect`` needs, so that the first knock does not wait for it (0.4 s)."""
    from scapy.config import conf  # noqa: PLC0415

    conf.route_autoload = conf.route6_autoload = False  # 0.1 s, to read this machine's routes: we only dissect
    for raw in _SAMPLES:
        header = triage(raw)
        if isinstance(header, Header):
            dissect(raw, header)
