"""Builds what carries a knock where no UDP datagram does: an ICMP echo request, or a TCP SYN with data. Pure."""

from __future__ import annotations

import struct

ICMP, TCP, ICMPV6 = 1, 6, 58
_ECHO_REQUEST, _ECHO_REQUEST_6 = 8, 128
_SYN = 0x02
_NO_OPTIONS = 5 << 4
"""A header of five words. An MSS would be for data that nobody is going to send on this connection."""
_WINDOW = 64240
"""What Linux announces in its own SYN."""


def echo(identifier: int, knock: bytes) -> bytes:
    """Build an ICMP echo request (RFC 792)."""
    return _summed(struct.pack("!BBHHH", _ECHO_REQUEST, 0, 0, identifier, 1) + knock, 2, b"")


def echo6(identifier: int, knock: bytes) -> bytes:
    """Build an ICMPv6 echo request (RFC 4443), without its checksum: that is the kernel's, always (RFC 3542, 3.1)."""
    return struct.pack("!BBHHH", _ECHO_REQUEST_6, 0, 0, identifier, 1) + knock


def syn(source: tuple[bytes, int], target: tuple[bytes, int], sequence: int, knock: bytes) -> bytes:
    """Build a TCP SYN (RFC 9293) that has data, from one packed address and port to another."""
    ports_and_numbers = struct.pack("!HHII", source[1], target[1], sequence, 0)
    segment = ports_and_numbers + struct.pack("!BBHHH", _NO_OPTIONS, _SYN, _WINDOW, 0, 0) + knock
    # IPv4's own pseudo header is shorter, but adds up to the same
    return _summed(segment, 16, source[0] + target[0] + struct.pack("!II", len(segment), TCP))


def _summed(segment: bytes, at: int, pseudo: bytes) -> bytes:
    """Put the checksum in its place (RFC 1071)."""
    number = int.from_bytes(pseudo + segment + bytes(len(segment) % 2), "big")
    # modulo 0xffff, 2 to the 16 is 1: a number's remainder is the sum of its 16-bit words, carried around
    return segment[:at] + struct.pack("!H", -number % 0xFFFF) + segment[at + 2 :]
