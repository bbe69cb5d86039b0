"""IPv4 packets as bytes, for senders that forge: right to the last checksum."""

from __future__ import annotations

import socket
import struct

TCP, UDP = 6, 17


def udp(payload: bytes, *, source: str, target: str, ports: tuple[int, int]) -> bytes:
    """Build a UDP datagram."""
    header = struct.pack("!HHHH", *ports, 8 + len(payload), 0)
    value = _checksum(_pseudo(source, target, UDP, 8 + len(payload)) + header + payload) or 0xFFFF
    return _ip(UDP, source, target, header[:6] + struct.pack("!H", value) + payload)


def syn(*, source: str, target: str, ports: tuple[int, int], sequence: int) -> bytes:
    """Build a TCP SYN."""
    header = struct.pack("!HHIIBBHHH", *ports, sequence, 0, 5 << 4, 2, 64240, 0, 0)
    value = _checksum(_pseudo(source, target, TCP, len(header)) + header)
    return _ip(TCP, source, target, header[:16] + struct.pack("!H", value) + header[18:])


def _ip(protocol: int, source: str, target: str, rest: bytes) -> bytes:
    ends = socket.inet_aton(source) + socket.inet_aton(target)
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(rest), 0, 0, 64, protocol, 0) + ends
    return header[:10] + struct.pack("!H", _checksum(header)) + header[12:] + rest


def _pseudo(source: str, target: str, protocol: int, length: int) -> bytes:
    return socket.inet_aton(source) + socket.inet_aton(target) + struct.pack("!BBH", 0, protocol, length)


def _checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF
