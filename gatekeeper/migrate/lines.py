"""A text file of somebody else's as numbered lines, read without trusting it. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

from gatekeeper.errors import ConversionError

MAX_BYTES = 1024 * 1024
"""Ten thousand clients fit into it."""
_GARBAGE = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")
_ENCODING = "utf-8", "surrogateescape"


class Line(NamedTuple):
    """A line without its end, and its number."""

    number: int
    text: str


def split(content: bytes, file: str) -> list[Line]:
    """Split a file into its lines.

    Bytes that are not UTF-8 are kept (a passphrase may have some): ``as_bytes`` gives them back.

    Raises:
        ConversionError: it is too large, or no text.
    """
    if len(content) > MAX_BYTES:
        raise ConversionError(f"{file} is larger than {MAX_BYTES // 1024} KiB", "is it the right file?")
    if found := _GARBAGE.search(content):
        number = content.count(b"\n", 0, found.start()) + 1
        words = f"{file}:{number}: this is no text: it has the byte 0x{found[0].hex()}"
        raise ConversionError(words, "is it the right file?")
    text = content.removeprefix(b"\xef\xbb\xbf").decode(*_ENCODING)
    return [Line(number, line.rstrip("\r")) for number, line in enumerate(text.split("\n"), 1)]


def as_bytes(text: str) -> bytes:
    """Return the bytes that a text had in its file."""
    return text.encode(*_ENCODING)
