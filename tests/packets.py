"""Packets for tests, built by hand so that they owe nothing to the code under test."""

from __future__ import annotations

import struct
from ipaddress import ip_address

CLIENT = {4: "198.51.100.2", 6: "2001:db8:c::2"}
SERVER = {4: "192.0.2.1", 6: "2001:db8::1"}


def ip(version: int, protocol: int, body: bytes, *, source: str | None = None, extensions: bytes = b"") -> bytes:
    """Put an IP header in front of a transport segment."""
    src, dst = ip_address(source or CLIENT[version]).packed, ip_address(SERVER[version]).packed
    if version == 4:
        return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 7, 0, 64, protocol, 0) + src + dst + body
    return struct.pack("!IHBB", 0x6000_0000, len(extensions) + len(body), protocol, 64) + src + dst + extensions + body


def udp(payload: bytes, *, version: int = 4, port: int = 62201, source: str | None = None, good: bool = True) -> bytes:
    """Build a whole UDP packet with its checksum, right or wrong."""
    src, dst = ip_address(source or CLIENT[version]).packed, ip_address(SERVER[version]).packed
    length = 8 + len(payload)
    pseudo = src + dst + struct.pack("!II", length, 17)
    checksum = _sum(pseudo + struct.pack("!HHHH", 40000, port, length, 0) + payload)
    checksum = (checksum or 0xFFFF) if good else checksum ^ 0x1234 or 1
    return ip(version, 17, struct.pack("!HHHH", 40000, port, length, checksum) + payload, source=source)


def tcp(flags: int, *, version: int = 4, port: int = 22, source: str | None = None, payload: bytes = b"") -> bytes:
    """Build a whole TCP packet with its checksum."""
    src, dst = ip_address(source or CLIENT[version]).packed, ip_address(SERVER[version]).packed
    fields = (40000, port, 1, 0, 0x50, flags, 64000)
    segment = struct.pack("!HHIIBBHHH", *fields, 0, 0) + payload
    checksum = _sum(src + dst + struct.pack("!II", len(segment), 6) + segment)
    return ip(version, 6, struct.pack("!HHIIBBHHH", *fields, checksum, 0) + payload, source=source)


def echo(data: bytes, *, version: int = 4, source: str | None = None, good: bool = True) -> bytes:
    """Build an echo request with its checksum, right or wrong."""
    src, dst = ip_address(source or CLIENT[version]).packed, ip_address(SERVER[version]).packed
    kind, protocol = (8, 1) if version == 4 else (128, 58)
    message = struct.pack("!BBHHH", kind, 0, 0, 7, 1) + data
    pseudo = b"" if version == 4 else src + dst + struct.pack("!II", len(message), protocol)
    checksum = _sum(pseudo + message)
    return ip(version, protocol, message[:2] + struct.pack("!H", checksum ^ (not good)) + message[4:], source=source)


SYN, ACK, RST, FIN = 0x02, 0x10, 0x04, 0x01


def _sum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total = sum(int(word) for word in struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
