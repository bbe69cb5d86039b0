"""Writes pcapng: a header, and a block for each packet, with a comment. Pure.

The format is that of draft-ietf-opsawg-pcapng: blocks that begin and end with their length. So a file that ends in the
middle of a block (a power cut) can be read up to there.
"""

from __future__ import annotations

from struct import Struct

_LINKTYPE_RAW = 101
_COMMENT = 1
_LONGEST_COMMENT = 1000
_SECTION = Struct("=IIIHHqI").pack
_INTERFACE = Struct("=IIHHII").pack
_PACKET = Struct("=IIIIIII").pack
_OPTION = Struct("=HH").pack
_U32 = Struct("=I").pack

MAGIC = b"\x0a\x0d\x0d\x0a"
HEADER = _SECTION(0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28) + _INTERFACE(1, 20, _LINKTYPE_RAW, 0, 0x40000, 20)
"""One section with one interface, whose packets have no link's header; times are microseconds."""


def packet(data: bytes, *, length: int, time: float, comment: str) -> bytes:
    """Write the block of a packet of so many bytes, of which ``data`` are the first; ``time`` in Unix seconds."""
    words = comment.encode(errors="replace")[:_LONGEST_COMMENT]
    options = _OPTION(_COMMENT, len(words)) + _padded(words) + _OPTION(0, 0)
    body = _padded(data)
    size = 32 + len(body) + len(options)
    high, low = divmod(max(0, round(time * 1e6)), 1 << 32)
    return _PACKET(6, size, 0, high, low, len(data), length) + body + options + _U32(size)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
