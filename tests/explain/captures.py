"""Captures for tests: packets in frames, in files; and what gatekeeper explain says of them."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from gatekeeper import cli

Packet = tuple[bytes, float]
"""A raw IP packet, and when it was captured."""
ETHERNET = bytes.fromhex("020000000001 020000000002")
RAW_IP, NULL, EN10MB, COOKED, COOKED_2 = 101, 0, 1, 113, 276


def framed(link: int, raw: bytes, *, vlans: int = 0, outgoing: bool = False) -> bytes:
    """Put a link's header in front of a packet."""
    kind = (0x0800 if raw[0] >> 4 == 4 else 0x86DD).to_bytes(2)
    kind = b"\x81\x00\x00\x07" * vlans + kind
    direction = 4 if outgoing else 0
    return {
        RAW_IP: b"",
        NULL: (2 if raw[0] >> 4 == 4 else 30).to_bytes(4, "little"),
        EN10MB: ETHERNET + kind,
        COOKED: direction.to_bytes(2) + b"\0\x01\0\x06" + bytes(8) + kind,
        COOKED_2: kind[:2] + bytes(6) + b"\0\x01" + bytes([direction]) + bytes(9) + kind[2:],
    }[link] + raw


SECTION = struct.pack("=IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28)


def interface(link: int) -> bytes:
    """Write a pcapng block that describes an interface."""
    return struct.pack("=IIHHII", 1, 20, link, 0, 0xFFFF, 20)


def enhanced(data: bytes, time: float, *, options: bytes = b"") -> bytes:
    """Write a pcapng block with a packet."""
    high, low = divmod(round(time * 1e6), 1 << 32)
    padded = data + bytes(-len(data) % 4)
    size = 32 + len(padded) + len(options)
    head = struct.pack("=IIIIIII", 6, size, 0, high, low, len(data), len(data))
    return head + padded + options + struct.pack("=I", size)


def pcap_header(link: int) -> bytes:
    return struct.pack("=IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 0xFFFF, link)


def record(data: bytes, time: float) -> bytes:
    """Write a packet of a pcap file."""
    sec, usec = divmod(round(time * 1e6), 1_000_000)
    return struct.pack("=IIII", sec, usec, len(data), len(data)) + data


def write(path: Path, packets: Iterable[Packet], *, link: int = RAW_IP, **how: Any) -> Path:
    """Write a capture by hand: pcapng or pcap, gzipped or not, as the name says."""
    frames = [(framed(link, raw, **how), time) for raw, time in packets]
    if ".pcapng" in path.name:
        data = SECTION + interface(link) + b"".join(enhanced(*one) for one in frames)
    else:
        data = pcap_header(link) + b"".join(record(*one) for one in frames)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def explained(capsys: pytest.CaptureFixture[str], *words: str | Path) -> list[dict[str, Any]]:
    """Run ``gatekeeper explain --json``; return its answers."""
    assert cli.main(["explain", "--json", *map(str, words)]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def reasons_of(answers: Sequence[dict[str, Any]]) -> list[str]:
    return [answer["reason"] for answer in answers]
