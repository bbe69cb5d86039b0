"""The data of an echo request, as what its sender meant to say. Pure.

``ping -p HEX`` repeats a pattern of up to 16 bytes over the data, as often as it fits whole, and writes a timestamp
over the beginning: of 16 bytes (iputils on 64 bits), 8 (BSD, macOS, 32 bits) or 4 (busybox). BSD's pattern begins
behind the timestamp, that of iputils under it. Other tools (hping3, nping, our own client) send the data as it is.
"""

from __future__ import annotations

from collections.abc import Iterator

_TIMESTAMPS = (0, 4, 8, 16)
_LONGEST_PATTERN = 16
MAX_DATA = 3900
"""Bytes of an echo request that is looked at. (Of longer packets the queue has the beginning only.)"""
_LOOKED_AT = 4 * _LONGEST_PATTERN


def readings(data: bytes) -> Iterator[bytes]:
    """Yield what the data may say: all of it; and if it repeats itself behind a timestamp, what it repeats."""
    yield data
    clear = max(_TIMESTAMPS)
    shown = data[clear : clear + _LOOKED_AT]
    seen: set[bytes] = set()
    for length in range(1, min(_LONGEST_PATTERN, len(shown)) + 1):
        sure = len(shown) - length + 1  # behind it, a piece that was too short for a whole pattern
        if shown[length:sure] != shown[: max(0, sure - length)]:
            continue
        for begin in _TIMESTAMPS:
            first = (begin - clear) % length
            pattern = shown[first : first + length]
            if len(pattern) == length and pattern not in seen:
                seen.add(pattern)
                yield pattern
