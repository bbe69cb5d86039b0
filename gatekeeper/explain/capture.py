"""Reads captures (pcap and pcapng, also gzipped), one packet after the other, by Scapy's readers.

A capture comes from anywhere. So no read is longer than any packet, whatever a length field says; and where Scapy
takes a file that was cut off, or makes no sense, for one that has ended, this says so, and behind which packet.
"""

from __future__ import annotations

import contextlib
import gzip
import logging
import os
import stat
import sys
import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

from gatekeeper.errors import CaptureError
from gatekeeper.explain.frames import Captured

_LONGEST_READ = 1 << 20
_GZIP = b"\x1f\x8b"
_PCAPNG = b"\x0a\x0d\x0d\x0a"
_PCAP = ("a1b2c3d4", "d4c3b2a1", "a1b23c4d", "4d3cb2a1")
_MAGIC = frozenset({_PCAPNG, *map(bytes.fromhex, _PCAP)})
_LINK = 0xFFFF
"""A link type has 16 bits; what stands above them says something else."""
_MOST_INTERFACES = 10_000
_LATEST = 253_370_678_400
"""The last day of the year 9998: what is later cannot be shown."""
STANDARD_INPUT = "-"


class _BrokenError(Exception):
    """What is read makes no sense."""


class _Stream:
    """A file that reads no more at once than any packet has, and remembers how it ended."""

    name = "capture"

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.at_border = True
        """Whether the next read begins a record: there, and only there, the file may end."""
        self.has_ended = False
        self.trouble: str | None = None

    def read(self, size: int) -> bytes:
        is_first, self.at_border = self.at_border, False
        if not 0 <= size <= _LONGEST_READ:
            self.trouble = f"makes no sense: its length would be {size} bytes"
            raise _BrokenError
        try:
            data = self._file.read(size)
        except (OSError, EOFError, zlib.error) as error:
            self.trouble = f"cannot be read: {_words(error)}"
            raise _BrokenError from error
        if is_first and not data:
            self.has_ended = True
        elif len(data) < size:
            self.trouble = "is not whole: the capture was cut off there"
        return data


@contextlib.contextmanager
def opened(path: str) -> Iterator[Capture]:
    """Open a capture; ``-`` is standard input.

    Raises:
        CaptureError: it cannot be read, or is no capture.
    """
    what = "standard input" if path == STANDARD_INPUT else path
    with contextlib.ExitStack() as stack:
        try:
            raw = _standard_input() if path == STANDARD_INPUT else stack.enter_context(Path(path).open("rb"))
            file: Any = raw
            if (begins := _peek(raw)).startswith(_GZIP):
                file = stack.enter_context(gzip.GzipFile(fileobj=raw))
                begins = _peek(file)
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise CaptureError(f"cannot read {what}: {_words(error)}") from error
        if begins not in _MAGIC:
            words = "is not a capture" if begins else "is empty"
            hint = "pcap and pcapng are captures, as `tcpdump -w FILE` and Wireshark write them"
            raise CaptureError(f"{what} {words}", hint)
        yield Capture(what, raw, file)


class Capture:
    """An open capture. Go through it once."""

    def __init__(self, what: str, raw: IO[bytes], file: Any) -> None:  # noqa: ANN401  (GzipFile is no IO to the types)
        """``raw``: the file itself, ``file``: what is read, which is something else if it is gzipped."""
        self._what, self._raw, self._file = what, raw, file
        found = os.fstat(raw.fileno())
        self._size = found.st_size if stat.S_ISREG(found.st_mode) else 0

    def progress(self) -> float:
        """Tell how much of it was read, from 0.0 to 1.0; 0.0 where that cannot be known."""
        return min(1.0, self._raw.tell() / self._size) if self._size else 0.0

    def __iter__(self) -> Iterator[Captured]:
        """Read it to its end.

        Raises:
            CaptureError: it ends, or makes no sense, where a packet should be.
        """
        stream = _Stream(self._file)
        reader, number = None, 0
        while True:
            try:
                reader = reader or _reader(stream)
                found = _next(reader, stream)
            except Exception as error:
                if stream.has_ended and reader is not None:
                    return
                raise self._trouble(stream, number) from error
            if stream.trouble is not None:
                raise self._trouble(stream, number)
            number += 1
            yield _captured(number, reader, *found)

    def _trouble(self, stream: _Stream, number: int) -> CaptureError:
        words = stream.trouble or "makes no sense"
        hint = "what stands before it was read" if number else None
        return CaptureError(f"{self._what}: packet {number + 1} {words}", hint)


def _standard_input() -> IO[bytes]:
    if sys.stdin is None:
        raise ValueError("it is closed")
    return sys.stdin.buffer


def _peek(file: Any) -> bytes:  # noqa: ANN401  (the same)
    """Return how a file begins, without taking it."""
    return bytes(file.peek(4)[:4])


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _reader(stream: _Stream) -> Any:  # noqa: ANN401  (Scapy's types are not followed)
    """Read the file's header; return Scapy's reader of the rest."""
    # Imported here, because no other command reads captures, and it takes a moment.
    from scapy.utils import RawPcapReader  # noqa: PLC0415

    logging.getLogger("scapy").setLevel(logging.CRITICAL)  # what is wrong is said here, once
    logging.getLogger("scapy.runtime").setLevel(logging.CRITICAL)
    stream.at_border = False  # a file ends behind its header at the earliest
    return RawPcapReader(stream)


def _next(reader: Any, stream: _Stream) -> tuple[bytes, Any]:  # noqa: ANN401  (the same)
    """Read the next packet, block by block where the file has blocks: it may end behind any of them.

    Raises:
        Exception: of many kinds. Where there is none, the stream has ended.
    """
    if not hasattr(reader, "interfaces"):
        stream.at_border = True
        found: tuple[bytes, Any] = reader._read_packet()  # noqa: SLF001  (next() takes any trouble for the end)
        return found
    while True:
        stream.at_border = True
        block: tuple[bytes, Any] | None = reader._read_block()  # noqa: SLF001  (the same)
        if block is not None:
            return block
        if len(reader.interfaces) > _MOST_INTERFACES or len(reader.process_information) > _MOST_INTERFACES:
            stream.trouble = "makes no sense: there are too many interfaces"
            raise _BrokenError


def _captured(number: int, reader: Any, data: bytes, about: Any) -> Captured:  # noqa: ANN401  (the same)
    length = max(about.wirelen, len(data))
    if not hasattr(reader, "interfaces"):
        time = about.sec + about.usec / (1e9 if reader.nano else 1e6)
        return Captured(number, time, reader.linktype & _LINK, data, length)
    ticks = None if about.tshigh is None else (about.tshigh << 32) + about.tslow
    time = None if ticks is None else float(Fraction(ticks, about.tsresol))
    comments = getattr(about, "comments", None) or getattr(about, "comment", None) or b""  # of Scapy 2.6: one
    comment = comments if isinstance(comments, bytes) else b"; ".join(comments)
    is_moment = time is not None and time < _LATEST
    return Captured(number, time if is_moment else None, about.linktype, data, length, comment)
