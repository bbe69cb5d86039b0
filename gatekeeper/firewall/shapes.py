"""What the kernel looks for in a knock that bears no tag: its length, and how it begins, in classic BPF. Pure.

So junk costs no process anything. Whoever knows a format can forge its looks: the rest is bounded (``bounds.py``).
"""

from __future__ import annotations

from gatekeeper.settings import Shape

_UDP = 8
_HEADERS = {4: (20, 60), 6: (40, 104)}
"""Bytes that an IP header has, and may have with its options (or extensions, within reason)."""
_HIGH_BITS = 0x8080_8080
_TO_HEADER = {4: ("177 0 0 0",), 6: ()}
"""Puts the length of the IP header into the index register (linux/filter.h); of IPv6 it is known: no extensions."""
_BYTE, _WORD = {4: 80, 6: 48}, {4: 64, 6: 32}
"""Codes that load, from an offset behind the index (IPv4) or from the beginning (IPv6)."""
_IS, _HAS_BITS, _ANSWER = 21, 69, 6
_FOUND, _NOT_FOUND = f"{_ANSWER} 0 0 65535", f"{_ANSWER} 0 0 0"


def matches(shape: Shape, version: int) -> str:
    """Write the matches of a rule for a datagram of this shape."""
    least, most = _HEADERS[version]
    length = f"-m length --length {least + _UDP + shape.shortest}:{most + _UDP + shape.longest}"
    return f'{length} -m bpf --bytecode "{program(shape, version)}"' if filters(shape) else length


def filters(shape: Shape) -> bool:
    """Whether more than its length is known."""
    return bool(shape.begins_with or shape.ascii)


def program(shape: Shape, version: int) -> str:
    """Write the filter: instructions as code, jump if true, jump if false, operand. A short packet fails."""
    payload = _UDP + (0 if version == 4 else _HEADERS[6][0])
    lines = [*_TO_HEADER[version]]
    if shape.begins_with:
        lines.append(f"{_BYTE[version]} 0 0 {payload}")
        left = range(len(shape.begins_with) - 1, -1, -1)  # how many tests are behind each, and the answer to skip
        lines += [f"{_IS} {behind + 1} 0 {first}" for first, behind in zip(shape.begins_with, left, strict=True)]
        lines.append(_NOT_FOUND)
    words = range(payload, payload + shape.ascii, 4)
    for behind, offset in zip(range(2 * len(words) - 2, -1, -2), words, strict=True):
        lines += [f"{_WORD[version]} 0 0 {offset}", f"{_HAS_BITS} {behind + 1} 0 {_HIGH_BITS}"]
    lines += [_FOUND, *([_NOT_FOUND] if shape.ascii else [])]
    return ",".join([str(len(lines)), *lines])
