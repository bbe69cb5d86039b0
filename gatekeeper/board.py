"""A board that all workers can read: for which sources each of them is having a knock carried out. Pure.

A first packet can meet another worker than its knock. While that knock waits for the disk, whoever has the packet must
know that it is worth waiting. Nobody is asked, and nobody waits: each worker writes its own part of one piece of
memory, and a reader that comes in the middle of that sees too little or too much for one look.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from typing import Protocol

from gatekeeper.firewall.lanes import MAX_WORKERS
from gatekeeper.networks import Address, Source, covers

MOST = 16
"""Sources that are told one by one. Beyond, a worker says that it may be anybody."""
_ENTRY = 18
"""Length of the address, length of the prefix, the address."""
_PART = MOST * _ENTRY
SIZE = MAX_WORKERS + MAX_WORKERS * _PART


class Memory(Protocol):
    """Bytes that can be changed in place, such as ``mmap`` or ``bytearray``."""

    def __getitem__(self, key: slice, /) -> bytes | bytearray:
        """Return bytes."""

    def __setitem__(self, key: slice, value: bytes, /) -> None:
        """Change as many bytes."""


class Board:
    """One worker's view of it."""

    def __init__(self, memory: Memory, worker: int) -> None:
        """``memory`` has ``SIZE`` bytes, zero at first, and all workers have the same."""
        self._memory = memory
        self._worker = worker

    def post(self, sources: Sequence[Source]) -> None:
        """Say for which sources this worker is having knocks carried out, and for no others."""
        count = min(len(sources), MOST + 1)
        if count <= MOST:
            start = MAX_WORKERS + self._worker * _PART
            text = b"".join(map(_write, sources))
            self._memory[start : start + len(text)] = text
        self._memory[self._worker : self._worker + 1] = bytes([count])

    def is_empty(self) -> bool:
        """Whether nobody says anything."""
        return not any(self._memory[:MAX_WORKERS])

    def has(self, address: Address) -> bool:
        """Whether a worker is having a knock carried out for an address, or may be."""
        counts = bytes(self._memory[:MAX_WORKERS])
        for worker, count in enumerate(counts):
            if count > MOST:
                return True
            start = MAX_WORKERS + worker * _PART
            part = bytes(self._memory[start : start + count * _ENTRY])
            if any(covers([one], address) for one in _read(part)):
                return True
        return False


def _write(source: Source) -> bytes:
    packed = source.network_address.packed
    return bytes([len(packed), source.prefixlen]) + packed.ljust(16, b"\0")


def _read(part: bytes) -> list[Source]:
    found: list[Source] = []
    for start in range(0, len(part), _ENTRY):
        size, prefix = part[start], part[start + 1]
        try:
            address = ip_address(part[start + 2 : start + 2 + size])
            found.append(ip_network((address, prefix), strict=False))
        except ValueError:  # somebody is writing
            continue
    return found
